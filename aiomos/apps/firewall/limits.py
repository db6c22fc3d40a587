"""Rate limits: token buckets, one for a rule or one for each source."""

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from aiomos.apps._tables import Address, text

PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
RATE = re.compile(rf"(\d+)\s*/\s*({'|'.join(PERIODS)})")

MOST_SOURCES = 65_536
"""Sources that one limit remembers; beyond it the one not heard of for longest starts afresh."""


def rate(value: object) -> float:
    """Read a rate such as ``10/second``; returns it per second."""
    found = RATE.fullmatch(text(value))
    if found is None or found[1] == "0":
        raise ValueError(value)
    return int(found[1]) / PERIODS[found[2]]


Limiter = Callable[[Address, float], bool]
"""Tells whether a packet from a source, at a time in seconds, is within a limit; if it is, that takes a token."""


def limiter(rate: float, burst: int, by: Literal["rule", "source"]) -> Limiter:
    """Make a limit of so many tokens a second: one for all, or one for each source."""
    if by == "source":
        return SourceBuckets(rate, burst).take
    bucket = TokenBucket(rate, burst)
    return lambda _source, now: bucket.take(now)


class TokenBucket:
    """A bucket that fills at a rate and is emptied by a token each time.

    Args:
        rate: Tokens a second.
        burst: Tokens it holds, and has at first.
    """

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._tokens = burst
        self._filled = 0.0

    def take(self, now: float) -> bool:
        """Take a token, if there is one; *now* is seconds on the engine's clock."""
        passed = max(now - self._filled, 0.0)
        self._filled = max(now, self._filled)
        self._tokens = min(self._burst, self._tokens + passed * self._rate)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class SourceBuckets:
    """A bucket for each source address.

    Args:
        rate: Tokens a second of each.
        burst: Tokens each holds, and has at first.
        most: Sources to remember.
    """

    def __init__(self, rate: float, burst: float, most: int = MOST_SOURCES) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._buckets: OrderedDict[Address, TokenBucket] = OrderedDict()

    def take(self, source: Address, now: float) -> bool:
        """Take a token of a source, if it has one."""
        bucket = self._buckets.get(source)
        if bucket is None:
            if len(self._buckets) == self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[source] = TokenBucket(self._rate, self._burst)
        else:
            self._buckets.move_to_end(source)
        return bucket.take(now)
