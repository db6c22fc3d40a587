"""The retransmission time-out by its definition, in exact fractions, and the least RTT by keeping every sample."""

from dataclasses import dataclass, field
from fractions import Fraction

SECOND, MILLISECOND, MICROSECOND = 1_000_000_000, 1_000_000, 1_000
LEAST_RTO, MOST_RTO = 200 * MILLISECOND, 120 * SECOND
FIRST, FALLBACK = SECOND, 3 * SECOND
LINEAR = 4
WINDOW = 300 * SECOND


@dataclass
class RtoModel:
    """RFC 6298, the variance being four times the largest mean deviation of late, of 200 ms at least."""

    srtt: Fraction | None = None
    deviation: Fraction = Fraction(0)
    largest: Fraction = Fraction(0)
    """Four times the largest mean deviation of this round trip."""
    variance: Fraction = Fraction(0)
    round_end: int = 0
    doublings: int = 0
    expirations: int = 0
    first: int = FIRST

    def sample(self, rtt: int, una: int, nxt: int) -> None:
        """*una* and *nxt* count from 0, and do not wrap."""
        value = Fraction(max(rtt, MICROSECOND))
        self.doublings = 0
        if self.srtt is None:
            self.srtt, self.deviation = value, value / 2
            self.largest = self.variance = max(4 * self.deviation, Fraction(LEAST_RTO))
            self.round_end = nxt
            return
        error = value - self.srtt
        self.srtt += error / 8
        excess = abs(error) - self.deviation
        self.deviation += excess / (32 if error < 0 and excess > 0 else 4)
        self.largest = max(self.largest, 4 * self.deviation)
        self.variance = max(self.variance, self.largest)
        if una > self.round_end:
            self.variance -= (self.variance - self.largest) / 4
            self.largest, self.round_end = Fraction(LEAST_RTO), nxt

    def progress(self) -> None:
        self.doublings = self.expirations = 0

    def expire(self, opening: bool) -> None:
        self.expirations += 1
        if not opening or self.expirations > LINEAR:
            self.doublings += 1

    @property
    def ns(self) -> Fraction:
        base = Fraction(self.first) if self.srtt is None else self.srtt + self.variance
        return min(base * 2 ** min(self.doublings, 40), Fraction(MOST_RTO))


@dataclass
class LeastModel:
    """All samples; what a filter of three of them says must be one of these, and not far above the least."""

    samples: list[tuple[int, int]] = field(default_factory=list)

    def add(self, rtt: int, now: int) -> None:
        self.samples.append((now, max(rtt, MICROSECOND)))

    def within(self, now: int, age: int = WINDOW) -> int:
        """The least RTT of the samples that are not older than *age*."""
        return min(rtt for time, rtt in self.samples if now - time <= age)
