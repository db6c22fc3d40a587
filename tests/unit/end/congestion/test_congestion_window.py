"""Slow start, reductions, and what becomes of cwnd while it is not used."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_congestion", reason="needs the native test probes")

SECOND, MILLISECOND = 1_000_000_000, 1_000_000
RTO = 200 * MILLISECOND
UNA = 2**32 - 5
NAMES = pytest.mark.parametrize("name", probe.NAMES)


def control(name: str = "reno", cwnd: int | None = None, ssthresh: int | None = None, **fields: Any) -> Any:
    """A control whose cwnd is all used."""
    made = probe.Control(name, **fields)
    made.sent(1, limited=True)
    if cwnd is not None:
        made.cwnd = cwnd
    if ssthresh is not None:
        made.ssthresh = ssthresh
    return made


def seq(number: int) -> int:
    return (UNA + number) % 2**32


# --- the table --------------------------------------------------------------------------------------------


def test_algorithms_are_chosen_by_name() -> None:
    assert probe.NAMES == ["reno", "cubic"]
    assert [probe.named(name.encode()) for name in probe.NAMES] == [0, 1]
    assert [probe.named(name) for name in (b"", b"cubi", b"cubic ", b"CUBIC", b"bbr")] == [None] * 5


def test_one_that_there_is_not_is_cubic() -> None:
    assert control("bbr", 100, 100).reduce() == 70


# --- how it begins ----------------------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize(
    ("mss", "expected"),
    [(0, 10), (1, 10), (536, 10), (1460, 10), (1461, 9), (4866, 3), (4867, 2), (7301, 2), (65_483, 2)],
)
def test_the_initial_window(name: str, mss: int, expected: int) -> None:
    """RFC 6928: ten segments, and 14,600 bytes or two segments."""
    begun = probe.Control(name, mss=mss)
    assert (begun.cwnd, begun.ssthresh) == (expected, probe.INFINITE)


@NAMES
@pytest.mark.parametrize(("losses", "expected"), [(0, 10), (1, 10), (2, 1), (5, 1)])
def test_a_syn_that_was_lost_twice_begins_with_one_segment(name: str, losses: int, expected: int) -> None:
    assert probe.Control(name, syn_losses=losses).cwnd == expected


# --- slow start -------------------------------------------------------------------------------------------


@NAMES
def test_slow_start_grows_by_what_is_acknowledged(name: str) -> None:
    growing = control(name, 10, 100)
    growing.acked(1)
    assert growing.cwnd == 11
    growing.acked(44)  # a super-segment
    assert growing.cwnd == 55
    growing.acked(45)
    assert growing.cwnd == 100
    assert growing.ssthresh == 100


def test_what_is_left_at_ssthresh_counts_for_congestion_avoidance() -> None:
    growing = control("reno", 99, 100)
    growing.acked(100)  # one of slow start, 99 of 100
    assert growing.cwnd == 100
    growing.acked(1)
    assert growing.cwnd == 101


@NAMES
def test_in_the_first_slow_start_an_ack_counts_for_eight_segments(name: str) -> None:
    """RFC 9406 section 4.2, L."""
    for segments, expected in ((7, 17), (8, 18), (9, 18), (1000, 18)):
        growing = control(name)
        growing.acked(segments)
        assert growing.cwnd == expected
        paced = control(name, paced=True)
        paced.acked(segments)
        assert paced.cwnd == 10 + segments


@NAMES
def test_the_first_slow_start_ends_when_round_trips_get_longer(name: str) -> None:
    growing = control(name)
    end = 0
    windows = []
    for round_trip in range(8):
        rtt = (40 if round_trip < 2 else 60) * MILLISECOND
        before, end = growing.cwnd, end + 1000
        for ack in range(10):
            growing.acked(
                8, una=seq(end if ack == 9 else end - 1), nxt=seq(end + 1000), rtt_ns=rtt, now_ns=end
            )
        windows.append(growing.cwnd - before)
    # Of the third round seven ACKs count wholly; the eighth tells, and is still counted so. Then a fourth of them.
    assert windows[:7] == [80, 80, 8 * 8 + 2 * 2, 20, 20, 20, 20]
    assert growing.ssthresh == growing.cwnd - windows[7]
    assert windows[7] <= 1  # congestion avoidance


@NAMES
def test_no_window_is_larger_than_any_receiver_can_tell(name: str) -> None:
    growing = control(name, probe.MOST - 1, probe.INFINITE, paced=True)
    growing.acked(1000)
    assert growing.cwnd == probe.MOST
    growing.ssthresh = 2
    for now in range(10):
        growing.acked(2**31, now_ns=now * 100 * SECOND, srtt_ns=SECOND)
    assert growing.cwnd == probe.MOST


# --- Reno -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cwnd", [1, 2, 3, 10, 1000])
@pytest.mark.parametrize("burst", [1, 2, 44])
def test_reno_grows_by_a_segment_a_window(cwnd: int, burst: int) -> None:
    growing = control("reno", cwnd, 1)
    acknowledged = 0
    while growing.cwnd == cwnd:
        growing.acked(burst)
        acknowledged += burst
    assert cwnd <= acknowledged < cwnd + burst


def test_reno_takes_several_windows_at_once() -> None:
    growing = control("reno", 10, 1)
    growing.acked(29)
    assert growing.cwnd == 12
    growing.acked(2)
    assert growing.cwnd == 12
    growing.acked(1)
    assert growing.cwnd == 13


def test_what_was_gained_with_a_larger_window_is_one_segment_at_most() -> None:
    growing = control("reno", 100, 1)
    growing.acked(99)
    growing.cwnd = 10
    growing.acked(1)
    assert growing.cwnd == 11
    growing.acked(9)
    assert growing.cwnd == 11
    growing.acked(1)
    assert growing.cwnd == 12


# --- reductions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cause", "expected"),
    [
        ("reno", "loss", 50),
        ("reno", "ecn", 80),
        ("reno", "timeout", 50),
        ("cubic", "loss", 70),
        ("cubic", "ecn", 80),
        ("cubic", "timeout", 70),
    ],
)
def test_reductions(name: str, cause: str, expected: int) -> None:
    """Of congestion avoidance; cwnd and ssthresh are recovery's to set."""
    reduced = control(name, 100, 100)
    assert reduced.reduce(cause) == expected
    assert (reduced.cwnd, reduced.ssthresh) == (100, 100)
    assert control(name, 101, 101).reduce(cause) == int(101 * expected / 100)


@pytest.mark.parametrize(("name", "expected"), [("reno", 50), ("cubic", 70)])
def test_ecn_in_slow_start_is_as_a_loss(name: str, expected: int) -> None:
    """RFC 8511 is about congestion avoidance."""
    assert control(name, 100, 101).reduce("ecn") == expected


@NAMES
@pytest.mark.parametrize("cause", probe.CAUSES)
@pytest.mark.parametrize("cwnd", [0, 1, 2])
def test_never_below_two(name: str, cause: str, cwnd: int) -> None:
    assert control(name, cwnd, 1).reduce(cause) == 2


def test_what_was_gained_is_forgotten_with_a_loss() -> None:
    reno = control("reno", 10, 1)
    reno.acked(9)
    reno.reduce()
    reno.acked(9)
    assert reno.cwnd == 10


# --- a window that is not used ----------------------------------------------------------------------------


@NAMES
def test_a_window_that_is_not_used_does_not_grow(name: str) -> None:
    unused = control(name, 10, 5)
    unused.sent(9, una=seq(10), nxt=seq(20), limited=False)
    assert not unused.limited
    for now in range(100):
        unused.acked(10, now_ns=now * SECOND, srtt_ns=SECOND)
    assert unused.cwnd == 10


@NAMES
def test_slow_start_grows_to_twice_what_was_in_flight(name: str) -> None:
    unused = control(name, 10, 1000)
    unused.sent(5, una=seq(10), nxt=seq(20), limited=False)
    unused.acked(1)
    assert unused.cwnd == 10
    unused.sent(6, una=seq(10), nxt=seq(20), limited=False)
    unused.acked(1)
    assert unused.cwnd == 11
    unused.acked(1)
    assert unused.cwnd == 12
    unused.acked(1)
    assert unused.cwnd == 12


def test_what_has_limited_counts_for_a_window_of_data() -> None:
    used = probe.Control("reno")
    used.ssthresh = 1
    used.sent(10, una=seq(0), nxt=seq(10), limited=True)
    used.sent(3, una=seq(9), nxt=seq(12), limited=False)
    assert used.limited
    used.sent(3, una=seq(10), nxt=seq(13), limited=False)
    assert not used.limited
    used.sent(2, una=seq(11), nxt=seq(14), limited=True)
    assert used.limited


def unused_for(since: int, **fields: Any) -> Any:
    """A window of 100 of which 20 are used, that time after it was all used."""
    made = control("reno", 100, 50)
    made.sent(100, una=seq(0), nxt=seq(1), limited=True, now_ns=SECOND)
    made.sent(20, una=seq(2), nxt=seq(3), limited=False, rto_ns=RTO, now_ns=SECOND + since, **fields)
    return made


def test_a_window_not_used_for_an_rto_falls_half_the_way() -> None:
    unused = unused_for(RTO - 1)
    assert (unused.cwnd, unused.ssthresh) == (100, 50)
    unused = unused_for(RTO)
    assert (unused.cwnd, unused.ssthresh) == (60, 75)
    unused.sent(1, una=seq(4), nxt=seq(5), limited=False, rto_ns=RTO, now_ns=SECOND + 2 * RTO - 1)
    assert unused.cwnd == 60
    unused.sent(1, una=seq(6), nxt=seq(7), limited=False, rto_ns=RTO, now_ns=SECOND + 2 * RTO)
    assert (unused.cwnd, unused.ssthresh) == (35, 75)  # half the way to the initial window
    unused.sent(50, una=seq(8), nxt=seq(9), limited=False, rto_ns=RTO, now_ns=SECOND + 3 * RTO)
    assert (unused.cwnd, unused.ssthresh) == (35, 75)  # more was in flight


def test_not_while_something_is_amiss() -> None:
    unused = unused_for(RTO, calm=False)
    assert (unused.cwnd, unused.ssthresh) == (100, 50)
    unused.sent(20, una=seq(4), nxt=seq(5), limited=False, rto_ns=RTO, now_ns=SECOND + 2 * RTO - 1)
    assert unused.cwnd == 100  # the time begins anew
    unused.sent(20, una=seq(4), nxt=seq(5), limited=False, rto_ns=RTO, now_ns=SECOND + 2 * RTO)
    assert unused.cwnd == 60


@NAMES
@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        (0, (100, 50)),
        (RTO, (100, 50)),
        (RTO + 1, (50, 75)),
        (2 * RTO, (50, 75)),
        (2 * RTO + 1, (25, 75)),
        (4 * RTO, (12, 75)),
        (4 * RTO + 1, (10, 75)),
        (2**62, (10, 75)),
    ],
)
def test_after_idleness_the_window_halves_for_each_rto(
    name: str, idle: int, expected: tuple[int, int]
) -> None:
    rested = control(name, 100, 50)
    rested.idle(idle, rto_ns=RTO, now_ns=idle)
    assert (rested.cwnd, rested.ssthresh) == expected


@NAMES
def test_idleness_makes_no_window_larger(name: str) -> None:
    rested = control(name, 3, 2)
    rested.idle(100 * RTO, rto_ns=RTO, now_ns=100 * RTO)
    assert (rested.cwnd, rested.ssthresh) == (3, 3 // 2 + 3 // 4 + 1)
    rested = control(name, 100, 50)
    rested.idle(100 * RTO, calm=False, rto_ns=RTO, now_ns=100 * RTO)
    assert (rested.cwnd, rested.ssthresh) == (10, 50)


def test_an_rto_of_nothing_ends_too() -> None:
    rested = control("reno", 1000, 50)
    rested.idle(SECOND, rto_ns=0, now_ns=SECOND)
    assert rested.cwnd == 10
