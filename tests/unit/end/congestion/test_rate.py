"""The delivery rate, and the rate that Linux would pace at."""

import pytest

probe = pytest.importorskip("tests.native._probe_congestion", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000


def test_nothing_is_known_at_first() -> None:
    assert probe.Rates().bytes_a_second(1448) == 0


@pytest.mark.parametrize(
    ("sending_ms", "arriving_ms", "expected"),
    [(100, 50, 14_480), (50, 100, 14_480), (100, 100, 14_480), (1, 200, 7_240), (200, -5, 7_240)],
)
def test_the_slower_of_sending_and_arriving(sending_ms: int, arriving_ms: int, expected: int) -> None:
    rates = probe.Rates()
    now = 2**60
    sent = now - 5 * SECOND
    assert rates.add(
        3, 2**32 - 7, now - arriving_ms * MILLISECOND, sent - sending_ms * MILLISECOND, sent, now
    )
    assert rates.bytes_a_second(1448) == expected * 10
    assert rates.bytes_a_second(1) == expected * 10 // 1448


def test_an_interval_below_the_least_rtt_says_nothing() -> None:
    rates = probe.Rates()
    assert not rates.add(10, 0, 0, 0, 0, 9 * MILLISECOND - 1, min_rtt_ns=9 * MILLISECOND)
    assert rates.bytes_a_second(1) == 0
    assert rates.add(10, 0, 0, 0, 0, 9 * MILLISECOND, min_rtt_ns=9 * MILLISECOND)
    assert not rates.add(10, 0, 0, 0, 0, 0)
    assert not rates.add(10, 0, 5, 5, 0, 0)
    assert rates.bytes_a_second(9) == 10_000


def test_a_slow_application_lowers_nothing() -> None:
    rates = probe.Rates()
    assert rates.add(10, 0, 0, 0, 0, SECOND)
    assert rates.add(9, 0, 0, 0, 0, SECOND, app_limited=True)
    assert (rates.bytes_a_second(1), rates.app_limited) == (10, False)
    assert rates.add(10, 0, 0, 0, 0, SECOND, app_limited=True)
    assert (rates.bytes_a_second(1), rates.app_limited) == (10, True)
    assert rates.add(50, 0, 0, 0, 0, SECOND, app_limited=True)
    assert (rates.bytes_a_second(1), rates.app_limited) == (50, True)
    assert rates.add(5, 0, 0, 0, 0, SECOND)
    assert (rates.bytes_a_second(1), rates.app_limited) == (5, False)


def test_a_rate_that_is_a_little_lower_is_lower() -> None:
    for longer, taken in ((0, True), (500_000, False)):
        rates = probe.Rates()
        assert rates.add(10, 0, 0, 0, 0, SECOND)
        assert rates.add(10, 0, 0, 0, 0, SECOND + longer, app_limited=True)
        assert rates.app_limited == taken


def test_the_first_rate_is_taken_though_the_application_was_slow() -> None:
    rates = probe.Rates()
    assert rates.add(1, 0, 0, 0, 0, SECOND, app_limited=True)
    assert (rates.bytes_a_second(100), rates.app_limited) == (100, True)


def test_the_largest_numbers() -> None:
    rates = probe.Rates()
    assert rates.add(2**32 - 1, 0, 0, 0, 0, SECOND)
    assert rates.bytes_a_second(65_535) == 2**32  # in one interval no more is believed
    assert rates.add(2**32 - 1, 0, 0, 0, 0, 2**62, app_limited=True)
    assert not rates.app_limited


@pytest.mark.parametrize(
    ("cwnd", "ssthresh", "percent"),
    [(10, 2**31 - 1, 200), (49, 100, 200), (50, 100, 120), (50, 101, 120), (100, 100, 120), (100, 2, 120)],
)
def test_pacing(cwnd: int, ssthresh: int, percent: int) -> None:
    assert probe.pace(cwnd, ssthresh, 0, 1000, 100 * MILLISECOND) == cwnd * 1000 * 10 * percent // 100


def test_pacing_by_what_is_in_flight() -> None:
    assert probe.pace(10, 2, 20, 1000, SECOND) == 24_000
    assert probe.pace(10, 2, 10, 1000, SECOND) == 12_000


def test_pacing_without_an_rtt_and_with_the_largest_numbers() -> None:
    assert probe.pace(10, 2, 0, 1000, 0) == probe.UNLIMITED
    assert probe.pace(2**21, 2, 2**21, 65_535, 1) == 2**32 * SECOND
