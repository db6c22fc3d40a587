"""HyStart++ (RFC 9406) at each of its constants."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_congestion", reason="needs the native test probes")

MILLISECOND = 1_000_000
BASE = 2**32 - 5


class Rounds:
    """Round trips of so many ACKs each."""

    def __init__(self) -> None:
        self.start: Any = probe.Start()
        self.end = BASE + 100
        self.start.acked(BASE, self.end % 2**32)

    def round(self, rtt_ns: int, samples: int = 10) -> bool:
        """True when slow start is over."""
        for _ in range(samples - 1):
            assert not self.start.acked((self.end - 1) % 2**32, (self.end + 50) % 2**32, rtt_ns)
        over = self.start.acked(self.end % 2**32, (self.end + 100) % 2**32, rtt_ns)
        self.end += 100
        return bool(over)


@pytest.mark.parametrize(
    ("before", "longer"),
    [
        (1 * MILLISECOND, 4 * MILLISECOND),
        (32 * MILLISECOND, 4 * MILLISECOND),
        (32 * MILLISECOND + 8, 4 * MILLISECOND + 1),
        (80 * MILLISECOND, 10 * MILLISECOND),
        (128 * MILLISECOND, 16 * MILLISECOND),
        (500 * MILLISECOND, 16 * MILLISECOND),
    ],
)
def test_a_round_is_longer_by_an_eighth_within_4_and_16_ms(before: int, longer: int) -> None:
    for extra, conservative in ((longer - 1, False), (longer, True)):
        rounds = Rounds()
        rounds.round(before)
        rounds.round(before + extra)
        assert rounds.start.conservative == conservative


def test_the_first_round_is_compared_with_none() -> None:
    rounds = Rounds()
    rounds.round(2**61)
    assert not rounds.start.conservative


@pytest.mark.parametrize(("samples", "conservative"), [(7, False), (8, True), (9, True)])
def test_eight_samples_tell(samples: int, conservative: bool) -> None:
    rounds = Rounds()
    rounds.round(10 * MILLISECOND, samples=1)  # of the last round one is enough
    rounds.round(50 * MILLISECOND, samples)
    assert rounds.start.conservative == conservative


def test_acks_without_a_sample_do_not_count() -> None:
    rounds = Rounds()
    rounds.round(10 * MILLISECOND)
    rounds.round(-1, samples=100)
    rounds.round(50 * MILLISECOND)
    assert not rounds.start.conservative  # nothing is known of the round before
    rounds.round(90 * MILLISECOND)
    assert rounds.start.conservative


def test_the_least_of_a_round_tells() -> None:
    rounds = Rounds()
    rounds.round(10 * MILLISECOND)
    rounds.start.acked((rounds.end - 1) % 2**32, 0, 10 * MILLISECOND)
    rounds.round(50 * MILLISECOND, 20)
    assert not rounds.start.conservative


def test_growth_is_a_quarter_then_and_no_part_is_lost() -> None:
    rounds = Rounds()
    assert [rounds.start.growth(n) for n in (0, 1, 7, 8, 9, 100)] == [0, 1, 7, 8, 8, 8]
    assert rounds.start.growth(100, paced=True) == 100
    rounds.round(10 * MILLISECOND)
    rounds.round(50 * MILLISECOND)
    assert [rounds.start.growth(1) for _ in range(9)] == [0, 0, 0, 1] * 2 + [0]
    assert rounds.start.growth(7) == 2
    assert rounds.start.growth(100) == 2
    assert rounds.start.growth(100, paced=True) == 25


def test_slow_start_is_over_after_five_rounds() -> None:
    """That in which it began is one of them."""
    rounds = Rounds()
    rounds.round(10 * MILLISECOND)
    assert not rounds.round(50 * MILLISECOND)
    assert [rounds.round(50 * MILLISECOND) for _ in range(4)] == [False, False, False, True]


def test_a_shorter_round_trip_resumes_slow_start() -> None:
    for rtt, resumed in ((50 * MILLISECOND, False), (50 * MILLISECOND - 1, True)):
        rounds = Rounds()
        rounds.round(10 * MILLISECOND)
        rounds.round(50 * MILLISECOND)
        assert (rounds.start.conservative, rounds.start.rounds) == (True, 1)
        rounds.round(rtt, samples=7)
        assert rounds.start.conservative
        rounds.round(rtt, samples=8)
        assert rounds.start.conservative != resumed
        assert rounds.start.rounds == (0 if resumed else 3)
    assert not rounds.round(90 * MILLISECOND)  # and begins anew
    assert [rounds.round(90 * MILLISECOND) for _ in range(4)] == [False, False, False, True]
