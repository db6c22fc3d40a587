"""The receive window: its scale, its edge, what is told when, and how its buffer grows."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_window", reason="needs the native test probes")

KIB, MIB, MILLISECOND = 1 << 10, 1 << 20, 1_000_000


def started(mss: int = 1460, buffer: int = 65536, most: int = 32 * MIB, scaled: bool = True) -> Any:
    window = probe.Window(mss, buffer, most)
    window.start(scaled=scaled)
    return window


# --- how it begins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "shift"),
    [
        (1, 0),
        (65535, 0),
        (65536, 1),
        (131071, 1),
        (131072, 2),
        (32 * MIB - 1, 9),
        (32 * MIB, 10),
        (1 << 29, 14),
        (1 << 30, 14),
        (2**32 - 1, 14),
    ],
)
def test_the_scale_is_for_the_largest_buffer(most: int, shift: int) -> None:
    """As in Linux: ilog2 less 15."""
    assert probe.Window(1460, 1, most).shift == shift


@pytest.mark.parametrize(
    ("mss", "buffer", "first"),
    [
        (1460, 65536, 64240),
        (1448, 65536, 65160),
        (1440, 65536, 64800),
        (65483, 65536, 65483),
        (65536, 65536, 65535),
        (0, 65536, 65535),
        (1460, 1460, 1460),
        (1460, 1459, 1459),
        (1460, 3000, 2920),
        (1460, 0, 1),
    ],
)
def test_the_first_window_is_of_whole_segments(mss: int, buffer: int, first: int) -> None:
    window = probe.Window(mss, buffer)
    assert window.first == first
    window.start()
    assert window.room == first


def test_the_first_ack_is_that_of_linux() -> None:
    assert started(1460).tell() == 63  # of 1024 bytes


def test_without_scaling_65535_bytes_are_all() -> None:
    window = started(scaled=False)
    assert (window.shift, window.buffer) == (0, 65536)
    window.arrived(64240)
    window.read(64240)
    assert window.tell() == 65535
    window.read(0, rtt_ns=1)
    window.read(10 * MIB, rtt_ns=1, now_ns=1)
    assert window.buffer == 65536


# --- the edge ---------------------------------------------------------------------------------------------


def test_what_is_read_at_once_keeps_the_window_open() -> None:
    window = started()
    for _ in range(1000):
        window.arrived(1460)
        window.read(1460)
        assert window.tell() in (62, 63, 64)
        assert window.room >= 62 * KIB


def test_what_is_not_read_closes_it_and_the_edge_stays() -> None:
    window = started(buffer=64 * KIB)
    window.tell()
    edge = window.room
    for _ in range(edge // KIB):
        window.arrived(KIB)
        assert window.tell() << 10 == window.room == edge - window.held
    assert window.room == 0
    assert window.tell() == 0


@pytest.mark.parametrize(
    ("mss", "buffer", "step"), [(1460, 65535, 1460), (1000, 1999, 999), (1000, 2000, 1000), (1460, 3, 1)]
)
def test_it_opens_by_a_segment_or_half_the_buffer(mss: int, buffer: int, step: int) -> None:
    window = started(mss, buffer, 65535)
    assert window.shift == 0
    window.arrived(window.room)
    left = buffer - window.held  # of the first window, which was of whole segments
    if left < step:
        assert window.tell() == 0
        window.read(step - 1 - left)
        assert window.tell() == 0
        window.read(1)
    assert window.tell() == max(step, left)


@pytest.mark.parametrize(
    ("mss", "buffer", "step"), [(1460, 65535, 2920), (1000, 3999, 1999), (1000, 4000, 2000), (9, 1, 1)]
)
def test_an_update_is_owed_by_two_segments_or_half_the_buffer(mss: int, buffer: int, step: int) -> None:
    window = started(mss, buffer, 65535)
    window.arrived(window.room)
    assert window.tell() == 0
    window.read(step - 1 - (buffer - window.held))
    assert not window.owes()
    window.read(1)
    assert window.owes()
    window.tell()
    assert not window.owes()


def test_nothing_is_owed_for_what_is_told_already() -> None:
    window = started()
    window.tell()
    assert not window.owes()
    window.arrived(5 * 1460)
    assert not window.owes()
    window.read(5 * 1460)
    assert window.owes()  # the peer believes it is smaller by five segments
    window.tell()
    assert not window.owes()


def test_the_edge_is_rounded_up_not_down() -> None:
    window = started()
    window.tell()
    room = window.room
    window.arrived(1)
    assert window.tell() << 10 == room
    window.arrived(1023)
    assert window.tell() << 10 == room  # it was told already that so much beyond is let in


def test_one_byte_at_a_time_does_not_open_it_for_ever() -> None:
    """Rounding up lets in a byte more for each; two grains more than the buffer are all, and the edge holds."""
    window = started(buffer=64 * KIB)
    window.tell()
    window.arrived(window.room - 2000)
    edge = window.held + window.room
    for _ in range(10_000):
        if not window.room:
            break
        window.arrived(1)
        told = window.tell() << 10
        assert told <= window.room
        assert window.held + window.room >= edge
        edge = window.held + window.room
    assert window.room == 0
    assert 64 * KIB < window.held <= 66 * KIB


def test_a_smaller_buffer_waits_for_the_edge() -> None:
    window = started()
    window.tell()
    room = window.room
    window.resize(10_000)
    assert window.tell() << 10 == room
    window.arrived(room - 5 * KIB)
    window.read(room - 5 * KIB)
    assert window.tell() << 10 == 10 * KIB  # 10,000 and a part of a grain
    window.arrived(10 * KIB)
    assert window.tell() == 0
    window.read(10 * KIB)
    assert window.tell() << 10 == 10 * KIB


@pytest.mark.parametrize(("wanted", "got"), [(0, 1), (1, 1), (2**30, 2**30), (2**32 - 1, 2**30)])
def test_the_bounds_of_a_buffer(wanted: int, got: int) -> None:
    window = started()
    window.resize(wanted)
    assert window.buffer == got
    assert window.tell() <= 65535


def test_a_buffer_that_was_chosen_is_not_tuned() -> None:
    window = started()
    window.resize(10_000)
    window.read(0, rtt_ns=1)
    window.read(10 * MIB, rtt_ns=1, now_ns=1)
    assert window.buffer == 10_000


def test_under_pressure_a_few_segments_are_let_in() -> None:
    window = started()
    window.tell()
    window.arrived(window.room)
    assert window.tell(pressed=True) == 0
    window.read(20_000)  # less than half is free
    assert window.tell(pressed=True) << 10 == 6 * KIB  # four segments, rounded up
    assert not window.owes(pressed=True)
    assert window.owes()
    window.read(20_000)
    assert window.tell(pressed=True) << 10 > 30_000


# --- how the buffer grows ---------------------------------------------------------------------------------


def test_the_buffer_is_twice_what_is_read_in_a_round_trip() -> None:
    window = started()
    rtt = 10 * MILLISECOND
    window.read(0, rtt_ns=rtt, now_ns=0)
    window.read(40_000, rtt_ns=rtt, now_ns=rtt - 1)
    assert window.buffer == 65536
    window.read(10_000, rtt_ns=rtt, now_ns=rtt)
    assert window.buffer == 100_000
    window.read(50_001, rtt_ns=rtt, now_ns=2 * rtt)
    assert window.buffer == 100_002
    window.read(10_000, rtt_ns=rtt, now_ns=3 * rtt)
    assert window.buffer == 100_002  # it does not shrink
    window.read(100 * MIB, rtt_ns=rtt, now_ns=4 * rtt)
    assert window.buffer == 32 * MIB


def test_from_64_kib_it_doubles_with_slow_start() -> None:
    window = started()
    now = 0
    sizes = []
    window.read(0, rtt_ns=1000, now_ns=now)
    for _ in range(12):
        window.tell()
        now += 1000
        n = window.room
        window.arrived(n)
        window.read(n, rtt_ns=1000, now_ns=now)
        sizes.append(window.buffer)
    assert sizes[:3] == [2 * 64 * KIB - KIB * 2, 4 * 64 * KIB - KIB * 4, 8 * 64 * KIB - KIB * 8]
    assert sizes[-1] == 32 * MIB


@pytest.mark.parametrize(("unread", "grows"), [(32 * KIB, True), (32 * KIB + 1, False)])
def test_an_application_that_does_not_keep_up_gets_no_larger_buffer(unread: int, grows: bool) -> None:
    window = started()
    window.tell()
    window.arrived(unread + 100)
    window.read(0, rtt_ns=1000)
    window.read(100, rtt_ns=1000, now_ns=999)
    for _ in range(5):  # what else was read before
        window.arrived(10_000)
        window.read(10_000, rtt_ns=1000, now_ns=999)
        window.tell()
    window.read(0, rtt_ns=1000, now_ns=1000)
    assert (window.buffer > 64 * KIB) == grows


def test_not_under_pressure_nor_without_an_rtt() -> None:
    window = started()
    window.read(10 * MIB, rtt_ns=0, now_ns=0)
    window.read(10 * MIB, rtt_ns=0, now_ns=10**9)
    window.read(0, rtt_ns=1, now_ns=10**9)
    window.read(10 * MIB, rtt_ns=1, now_ns=2 * 10**9, pressed=True)
    assert window.buffer == 64 * KIB
    window.read(0, rtt_ns=1, now_ns=3 * 10**9)
    assert window.buffer == 64 * KIB  # and what was read then is not counted later


def test_a_clock_that_is_set_back_begins_a_round_trip() -> None:
    window = started()
    window.read(0, rtt_ns=1000, now_ns=10**9)
    window.read(50_000, rtt_ns=1000, now_ns=5)
    window.read(0, rtt_ns=1000, now_ns=1004)
    assert window.buffer == 64 * KIB
    window.read(0, rtt_ns=1000, now_ns=1005)
    assert window.buffer == 100_000


def test_more_is_read_than_is_held() -> None:
    window = started()
    window.arrived(5)
    window.read(6)
    assert window.held == 0
