"""The retransmission time-out of RFC 6298 with the numbers of Linux, and the least RTT."""

import itertools

import pytest

from tests.models.rto import (
    FALLBACK,
    MICROSECOND,
    MILLISECOND,
    MOST_RTO,
    SECOND,
    WINDOW,
)

probe = pytest.importorskip("tests.native._probe_rto", reason="needs the native test probes")

BASE = 2**32 - 5


def sampled(*samples: int) -> object:
    """A time-out after samples, all of one round trip."""
    rto = probe.Timeout()
    for sample in samples:
        rto.sample(sample, BASE, BASE)
    return rto


def seq(number: int) -> int:
    return (BASE + number) % 2**32


# --- how long ---------------------------------------------------------------------------------------------


def test_a_second_before_anything_is_known() -> None:
    rto = probe.Timeout()
    assert (rto.ns, rto.srtt_ns, rto.backoff, rto.expired) == (SECOND, 0, 0, 0)
    assert probe.SIZE <= 48


@pytest.mark.parametrize(
    ("rtt", "expected"),
    [
        (100 * MILLISECOND, 300 * MILLISECOND),  # three times the RTT
        (100 * MILLISECOND + 2, 300 * MILLISECOND + 6),
        (100 * MILLISECOND - 2, 300 * MILLISECOND - 2),  # or 200 ms more
        (10 * MILLISECOND, 210 * MILLISECOND),
        (MICROSECOND, 200 * MILLISECOND + MICROSECOND),
        (0, 200 * MILLISECOND + MICROSECOND),
        (40 * SECOND, 120 * SECOND),
        (39 * SECOND, 117 * SECOND),
        (2**62, 120 * SECOND),
    ],
)
def test_the_first_sample(rtt: int, expected: int) -> None:
    rto = sampled(rtt)
    assert rto.ns == expected  # type: ignore[attr-defined]


def test_less_than_nothing_is_no_sample() -> None:
    rto = sampled(-1)
    assert rto.ns == SECOND  # type: ignore[attr-defined]
    assert rto.srtt_ns == 0  # type: ignore[attr-defined]


def test_what_follows_counts_an_eighth_and_a_quarter() -> None:
    rto = probe.Timeout()
    rto.sample(800 * MILLISECOND, seq(0), seq(10))
    rto.sample(1600 * MILLISECOND, seq(1), seq(10))
    assert rto.srtt_ns == 900 * MILLISECOND
    assert rto.deviation_ns == (3 * 400 + 800) * MILLISECOND
    assert rto.ns == (900 + 2000) * MILLISECOND


def test_a_falling_rtt_adds_little_to_the_deviation() -> None:
    rto = probe.Timeout()
    rto.sample(800 * MILLISECOND, seq(0), seq(10))
    rto.sample(0, seq(1), seq(10))
    assert rto.deviation_ns == (4 * 400 + 50) * MILLISECOND - 125  # an eighth of 400 ms less a microsecond
    rto = probe.Timeout()
    rto.sample(800 * MILLISECOND, seq(0), seq(10))
    rto.sample(600 * MILLISECOND, seq(1), seq(10))  # within the deviation: it shrinks as ever
    assert rto.deviation_ns == (4 * 400 - 200) * MILLISECOND


def test_the_variance_rises_at_once_and_sinks_by_a_quarter_a_round_trip() -> None:
    rto = probe.Timeout()
    rto.sample(800 * MILLISECOND, seq(0), seq(10))
    assert rto.variance_ns == 1600 * MILLISECOND
    for number in range(1, 11):  # the round trip is not over: what was sent up to 10 is not all acknowledged
        rto.sample(800 * MILLISECOND, seq(number), seq(20))
        assert rto.variance_ns == 1600 * MILLISECOND
    rto.sample(800 * MILLISECOND, seq(11), seq(21))
    assert rto.variance_ns == 1600 * MILLISECOND  # the largest of that round trip was its first
    rto.sample(800 * MILLISECOND, seq(21), seq(30))
    assert rto.variance_ns == 1600 * MILLISECOND
    rto.sample(800 * MILLISECOND, seq(22), seq(31))
    before = 1600 * MILLISECOND - (1600 - 200) * MILLISECOND // 4
    assert rto.variance_ns == before
    rto.sample(4000 * MILLISECOND, seq(23), seq(31))
    assert rto.variance_ns > before


def test_a_steady_path_comes_down_to_200_ms_above_its_rtt() -> None:
    rto = probe.Timeout()
    for number in range(200):
        rto.sample(50 * MILLISECOND, seq(number), seq(number))
    assert rto.srtt_ns == 50 * MILLISECOND
    assert rto.ns == 250 * MILLISECOND


# --- the handshake ----------------------------------------------------------------------------------------


def test_without_a_sample_from_the_handshake_it_falls_back_to_three_seconds() -> None:
    rto = probe.Timeout()
    rto.expire(opening=True)
    rto.established()
    assert (rto.ns, rto.backoff, rto.expired) == (FALLBACK, 0, 0)
    rto.expire()
    assert rto.ns == 2 * FALLBACK
    rto.sample(10 * MILLISECOND)
    assert rto.ns == 210 * MILLISECOND


def test_with_a_sample_it_does_not() -> None:
    rto = probe.Timeout()
    rto.expire(opening=True)
    rto.sample(10 * MILLISECOND)
    rto.established()
    assert rto.ns == 210 * MILLISECOND


def test_a_syn_is_repeated_as_by_linux() -> None:
    """At 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s, and given up at 131 s."""
    rto = probe.Timeout()
    waits = []
    for _ in range(11):
        waits.append(rto.ns // SECOND)
        rto.expire(opening=True)
    assert list(itertools.accumulate(waits)) == [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]


def test_a_syn_ack_is_repeated_after_1_2_4_8_and_16_seconds() -> None:
    rto = probe.Timeout()
    waits = []
    for _ in range(5):
        waits.append(rto.ns // SECOND)
        rto.expire()
    assert waits == [1, 2, 4, 8, 16]


# --- back-off ---------------------------------------------------------------------------------------------


def test_back_off_doubles_up_to_two_minutes_and_stays_there() -> None:
    rto = sampled(50 * MILLISECOND)
    expected = 250
    for _ in range(300):
        assert rto.ns == min(expected * MILLISECOND, MOST_RTO)  # type: ignore[attr-defined]
        rto.expire()  # type: ignore[attr-defined]
        expected *= 2
    assert (rto.backoff, rto.expired) == (255, 255)  # type: ignore[attr-defined]
    assert rto.ns == MOST_RTO  # type: ignore[attr-defined]


@pytest.mark.parametrize("rtt", [0, 40 * SECOND, 2**62])
def test_back_off_of_the_shortest_and_the_longest(rtt: int) -> None:
    rto = sampled(rtt)
    before = rto.ns  # type: ignore[attr-defined]
    for _ in range(300):
        rto.expire()  # type: ignore[attr-defined]
        assert before <= rto.ns <= MOST_RTO  # type: ignore[attr-defined]
        before = rto.ns  # type: ignore[attr-defined]


@pytest.mark.parametrize("times", [1, 5, 300])
def test_back_off_ends_with_what_is_acknowledged(times: int) -> None:
    for end in ("progress", "sample"):
        rto = sampled(50 * MILLISECOND)
        for _ in range(times):
            rto.expire()  # type: ignore[attr-defined]
        if end == "progress":
            rto.progress()  # type: ignore[attr-defined]
            assert rto.expired == 0  # type: ignore[attr-defined]
        else:
            rto.sample(50 * MILLISECOND, BASE, BASE)  # type: ignore[attr-defined]
        assert rto.ns == 250 * MILLISECOND  # type: ignore[attr-defined]


# --- least RTT --------------------------------------------------------------------------------------------


def test_the_least_rtt_of_late() -> None:
    least = probe.Least()
    assert least.ns == 0
    assert least.add(50 * MILLISECOND, 0) == 50 * MILLISECOND
    assert least.add(60 * MILLISECOND, 1) == 50 * MILLISECOND
    assert least.add(40 * MILLISECOND, 2) == 40 * MILLISECOND
    assert least.add(0, 3) == MICROSECOND
    assert least.add(-1, 4) == MICROSECOND


def test_a_path_that_got_longer_is_believed_after_300_seconds() -> None:
    for end, expected in ((WINDOW, 10), (WINDOW + 1, 30)):
        least = probe.Least()
        least.add(10 * MILLISECOND, 0)
        for at in range(SECOND, WINDOW, SECOND):
            assert least.add(30 * MILLISECOND, at) == 10 * MILLISECOND
        assert least.add(50 * MILLISECOND, end) == expected * MILLISECOND


@pytest.mark.parametrize(("early", "expected"), [(WINDOW // 4, 40), (WINDOW // 4 + 1, 30)])
def test_the_second_choice_is_of_the_second_quarter(early: int, expected: int) -> None:
    least = probe.Least()
    least.add(10 * MILLISECOND, 0)
    least.add(30 * MILLISECOND, early)
    least.add(40 * MILLISECOND, WINDOW // 3)
    assert least.add(50 * MILLISECOND, WINDOW + 1) == expected * MILLISECOND


@pytest.mark.parametrize(("late", "expected"), [(WINDOW // 2, 50), (WINDOW // 2 + 1, 40)])
def test_the_third_choice_is_of_the_second_half(late: int, expected: int) -> None:
    least = probe.Least()
    least.add(10 * MILLISECOND, 0)
    least.add(20 * MILLISECOND, WINDOW // 4 + 1)
    least.add(40 * MILLISECOND, late)
    least.add(50 * MILLISECOND, WINDOW)
    least.add(60 * MILLISECOND, WINDOW + 1)
    assert least.add(60 * MILLISECOND, WINDOW + WINDOW // 4 + 2) == expected * MILLISECOND


def test_after_a_long_silence_only_the_latest_counts() -> None:
    least = probe.Least()
    least.add(10 * MILLISECOND, 0)
    assert least.add(90 * MILLISECOND, WINDOW) == 10 * MILLISECOND
    assert least.add(80 * MILLISECOND, 3 * WINDOW) == 80 * MILLISECOND


def test_a_delayed_ack_makes_nothing_longer() -> None:
    least = probe.Least()
    assert least.add(10 * MILLISECOND, 0, delayed=True) == 10 * MILLISECOND
    assert least.add(50 * MILLISECOND, 2 * WINDOW, delayed=True) == 10 * MILLISECOND
    assert least.add(10 * MILLISECOND, 2 * WINDOW, delayed=True) == 10 * MILLISECOND
    assert least.add(9 * MILLISECOND, 2 * WINDOW, delayed=True) == 9 * MILLISECOND


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    least = probe.Least()
    assert least.add(10 * MILLISECOND, 5 * WINDOW) == 10 * MILLISECOND
    assert least.add(20 * MILLISECOND, 0) == 10 * MILLISECOND
    assert least.add(5 * MILLISECOND, -WINDOW) == 5 * MILLISECOND
