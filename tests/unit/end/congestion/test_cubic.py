"""CUBIC (RFC 9438) at its bounds; tests/property has it beside its equations."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_congestion", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000


def avoiding(cwnd: int) -> Any:
    """A control in congestion avoidance whose cwnd is all used."""
    made = probe.Control("cubic")
    made.sent(1, limited=True)
    made.cwnd = made.ssthresh = cwnd
    return made


def reduce(made: Any, cause: str = "loss") -> int:
    made.cwnd = made.ssthresh = made.reduce(cause)
    return int(made.cwnd)


@pytest.mark.parametrize("cwnd", [4, 5, 10, 100, 1000, 10_000, 100_000, 1_000_000, probe.MOST])
def test_the_time_to_come_back(cwnd: int) -> None:
    """K of equation 2: where the curve is as high as the window was."""
    made = avoiding(cwnd)
    low = reduce(made)
    made.acked(1, now_ns=5)
    assert made.curve[0] == cwnd
    k = ((cwnd - low) / 0.4) ** (1 / 3)
    rise = 1.2 * k**2  # segments a second, there
    assert made.curve[2] == pytest.approx(k, abs=1 / 1024 / rise + 2e-6)


def test_the_curve_is_flat_where_the_loss_was() -> None:
    """An ACK a millisecond, 50 ms of RTT: at K the window is back, and long after twice K as far above it."""
    made = avoiding(1000)
    low = reduce(made)
    made.acked(1, now_ns=0, srtt_ns=50 * MILLISECOND)
    k = made.curve[2]
    windows = {}
    for now in range(1, round(2 * k * 1000)):
        made.acked(20, now_ns=now * MILLISECOND, srtt_ns=50 * MILLISECOND)
        windows[now] = made.cwnd
    assert windows[round(k * 1000)] == pytest.approx(1000, abs=1)
    assert 998 <= windows[round(k * 900)] <= 1000 <= windows[round(k * 1100)] <= 1002
    assert made.cwnd == pytest.approx(2000 - low, rel=0.02)


def test_a_target_is_half_above_the_window_at_most() -> None:
    made = avoiding(100)
    made.acked(1, now_ns=0, srtt_ns=MILLISECOND)
    made.acked(100, now_ns=1000 * SECOND, srtt_ns=MILLISECOND)  # 100 acknowledged: a round trip's growth
    assert made.cwnd == 150
    made.acked(1, now_ns=1000 * SECOND, srtt_ns=MILLISECOND)
    assert made.cwnd == 150  # and a half of one
    made.acked(1, now_ns=1000 * SECOND, srtt_ns=MILLISECOND)
    assert made.cwnd == 151


def test_where_reno_is_faster_it_is_followed() -> None:
    """0.53 segments a round trip up to where the loss was, then one; RTT 1 ms, where the curve hardly rises."""
    made = avoiding(100)
    reduce(made)
    now = trips = 0
    while made.cwnd < 100:
        now += MILLISECOND
        trips += 1
        made.acked(made.cwnd, now_ns=now, srtt_ns=MILLISECOND)
    assert trips == pytest.approx(30 * 17 / 9, abs=2)
    for _ in range(20):
        now += MILLISECOND
        made.acked(made.cwnd, now_ns=now, srtt_ns=MILLISECOND)
    assert made.cwnd == pytest.approx(120, abs=1)


def test_fast_convergence() -> None:
    made = avoiding(100)
    reduce(made)
    assert made.curve[:2] == (100, 100)
    reduce(made)
    assert made.curve[:2] == (59.5, 70)  # it did not come back to 100: more is left to others
    made.cwnd = 60
    reduce(made)
    assert made.curve[:2] == (60, 60)


def test_after_a_timeout_the_curve_begins_where_slow_start_ends() -> None:
    made = avoiding(100)
    assert made.reduce("timeout") == 70
    made.cwnd, made.ssthresh = 1, 70
    made.acked(69, now_ns=SECOND, srtt_ns=SECOND)
    assert (made.cwnd, made.curve[3]) == (70, False)
    made.acked(1, now_ns=SECOND, srtt_ns=SECOND)
    assert made.curve == (70, 100, 0, True)


def test_a_reduction_that_was_wrong_is_taken_back() -> None:
    made = avoiding(100)
    reduce(made)
    made.acked(1, now_ns=SECOND)
    before = made.curve
    for cause in ("loss", "timeout", "ecn"):
        cwnd, ssthresh = made.cwnd, made.ssthresh
        reduce(made, cause)
        assert made.curve != before
        made.undone()
        made.cwnd, made.ssthresh = cwnd, ssthresh
        assert made.curve == before
    made.undone()  # once is enough
    assert made.curve == before
    reduce(made)
    made.undone()
    made.acked(1, now_ns=2 * SECOND)
    assert made.curve[0] == before[0]


def test_taking_back_what_never_was_does_nothing() -> None:
    made = avoiding(100)
    made.undone()
    made.acked(1)
    assert made.curve == (100, 100, 0, True)


def test_time_without_use_is_not_counted() -> None:
    """Neither idleness, nor ACKs of what the application was slow to write."""
    busy, slow = avoiding(1000), avoiding(1000)
    for made in (busy, slow):
        reduce(made)
        made.acked(1, now_ns=0, srtt_ns=50 * MILLISECOND)
    late = 0
    for now in range(1, 3000):
        if now % 1000 == 0:
            late += 100 * SECOND
            slow.idle(100 * SECOND, rto_ns=200 * SECOND, now_ns=now * MILLISECOND - MILLISECOND + late)
        if now % 1000 == 500:
            slow.sent(1, una=2, limited=False, now_ns=now * MILLISECOND + late, rto_ns=1000 * SECOND)
            for _ in range(10):
                late += SECOND
                slow.acked(1, now_ns=now * MILLISECOND - MILLISECOND + late)
            slow.sent(1, una=2, limited=True, now_ns=now * MILLISECOND + late)
        busy.acked(20, now_ns=now * MILLISECOND, srtt_ns=50 * MILLISECOND)
        slow.acked(20, now_ns=now * MILLISECOND + late, srtt_ns=50 * MILLISECOND)
        assert slow.cwnd == busy.cwnd
    assert busy.cwnd > 800


def test_idleness_before_congestion_avoidance_is_nothing_to_it() -> None:
    made = avoiding(100)
    made.idle(SECOND, rto_ns=2 * SECOND, now_ns=2**60)
    made.acked(1, now_ns=5)
    assert made.curve == (100, 100, 0, True)


def test_a_clock_that_is_set_back_stands_still() -> None:
    made = avoiding(100)
    reduce(made)
    made.acked(1, now_ns=100 * SECOND, srtt_ns=MILLISECOND)
    for now in (50, 0, -100, 99, 100):
        made.acked(1, now_ns=now * SECOND, srtt_ns=MILLISECOND)
        assert made.cwnd == 70
    made.acked(70, now_ns=102 * SECOND, srtt_ns=MILLISECOND)
    assert 90 < made.cwnd < 100


def test_an_unused_window_and_a_clock_that_is_set_back() -> None:
    steady, back = avoiding(100), avoiding(100)
    for made in (steady, back):
        reduce(made)
        made.acked(1, now_ns=100 * SECOND, srtt_ns=MILLISECOND)
    back.sent(1, una=2, limited=False, now_ns=50 * SECOND, rto_ns=1000 * SECOND)
    back.acked(1, now_ns=50 * SECOND)
    back.sent(1, una=2, limited=True, now_ns=50 * SECOND)
    for made in (steady, back):
        made.acked(70, now_ns=101 * SECOND, srtt_ns=MILLISECOND)
    assert 70 < back.cwnd == steady.cwnd


def test_where_the_curve_and_reno_are_level_the_curve_is_followed() -> None:
    """Reno's gain of the first ACKs is less than 1/1024 of a segment."""
    made = avoiding(10_000)
    for _ in range(4):
        made.acked(1, now_ns=0, srtt_ns=100 * SECOND)
    assert made.cwnd == 10_002  # half a segment each


def test_a_window_that_others_lowered_is_not_raised_at_one_stroke() -> None:
    """After a restart Reno's estimate would still be where it was."""
    made = avoiding(100)
    for trip in range(1, 100):
        made.acked(made.cwnd, now_ns=trip * MILLISECOND, srtt_ns=MILLISECOND)
    assert made.cwnd > 190
    made.cwnd = made.ssthresh = 20
    made.acked(1, now_ns=101 * MILLISECOND, srtt_ns=MILLISECOND)
    assert made.cwnd <= 21


@pytest.mark.parametrize("cwnd", [0, 1])
def test_a_window_of_one_segment_or_none_grows(cwnd: int) -> None:
    made = avoiding(1)
    made.cwnd, made.ssthresh = cwnd, 0
    for now in range(100):
        made.acked(1, now_ns=now * SECOND, srtt_ns=SECOND)
    assert made.cwnd > 10
