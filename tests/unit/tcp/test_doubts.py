"""Segments that are not believed: which are held, how many, and which belong to a jump that is believed."""

from typing import Any

import pytest

probe: Any = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

REACH = 1000
PIECE = 128  # memory of a short one
AGE_NS = 30_000_000_000
FAR = 1 << 30


@pytest.mark.parametrize(
    ("at", "length", "held"),
    [
        (-1, 3, 0),
        (0, 3, 1),
        (1, 3, 1),
        (FAR, 3, 1),
        (FAR + 1, 3, 0),
        (-FAR, 3, 0),
        (0, 0, 0),
        (50, 0, 0),
        (50, 1, 1),
    ],
)
def test_what_lies_within_the_largest_window_is_held(at: int, length: int, held: int) -> None:
    half = probe.Reassembly()
    assert half.doubt(at, bytes(length)) == (held, held * PIECE)


def test_the_window_is_counted_from_what_was_delivered() -> None:
    half = probe.Reassembly()
    half.send(0, bytes(10))
    assert half.doubt(9, b"a") == (0, 0)
    assert half.doubt(10, b"a") == (1, PIECE)
    assert half.doubt(FAR + 10, b"a") == (2, 2 * PIECE)
    assert half.doubt(FAR + 11, b"a") == (2, 2 * PIECE)


def test_the_33rd_takes_the_place_of_all_before_it() -> None:
    half = probe.Reassembly()
    for number in range(32):
        assert half.doubt(100 + 2 * number, b"a") == (number + 1, (number + 1) * PIECE)
    assert half.doubt(500, b"b") == (1, PIECE)
    assert half.resume(500, REACH) == 501
    assert half.ranges() == [(500, 501)]


def test_the_same_bytes_are_held_once() -> None:
    half = probe.Reassembly()
    assert half.doubt(100, b"first") == (1, PIECE)
    assert half.doubt(100, b"later") == (1, PIECE)
    assert half.resume(100, REACH) == 105
    assert half.read(100, 5) == b"first"


def test_memory_is_an_eighth_of_that_of_held_bytes() -> None:
    half = probe.Reassembly(held=1 << 20)
    assert half.doubted_budget == 1 << 17
    number, memory = 0, 0
    while (now := half.doubt(60_000 * number, bytes(60_000))[1]) != memory:
        number, memory = number + 1, now
    # The one with which it is reached is held.
    assert (number, memory) == (2, 2 * (65536 + PIECE))
    assert memory - 65536 - PIECE < half.doubted_budget < memory
    assert half.close() == 0


@pytest.mark.parametrize(
    ("at", "taken"),
    [
        (48_997, False),
        (48_999, False),
        (49_000, True),
        (50_000, True),
        (51_000, True),
        (51_001, False),
        (999, True),
        (1000, True),  # near the edge
        (1001, False),
    ],
)
def test_what_is_near_the_new_numbers_or_the_edge_is_part_of_the_jump(at: int, taken: bool) -> None:
    half = probe.Reassembly()
    half.doubt(at, b"a")
    assert half.resume(50_000, REACH) == (at + 1 if taken and at >= 50_000 else 50_000)
    assert half.ranges() == ([(at, at + 1)] if taken else [])
    assert half.doubted == (0, 0)
    assert half.close() == 0


@pytest.mark.parametrize(
    ("later", "taken"), [(0, True), (AGE_NS - 1, True), (AGE_NS, False), (AGE_NS + 1, False)]
)
def test_what_is_too_old_is_no_part_of_it(later: int, taken: bool) -> None:
    half = probe.Reassembly()
    half.doubt(100, b"a", time_ns=5)
    half.resume(100, REACH, time_ns=5 + later)
    assert half.ranges() == ([(100, 101)] if taken else [])
    assert half.doubted == (0, 0)


def test_numbers_go_as_far_as_what_is_taken_in() -> None:
    half = probe.Reassembly()
    half.doubt(100, b"abc")
    half.doubt(90, b"ab")
    assert half.resume(95, REACH) == 103
    assert half.ranges() == [(90, 92), (100, 103)]
    assert (half.read(90, 10), half.read(100, 10)) == (b"ab", b"abc")


def test_a_jump_ends_what_duplicates_asked_for() -> None:
    half = probe.Reassembly()
    half.send(0, bytes(300))
    half.acknowledge(100)
    for _ in range(3):
        half.acknowledge_again(100)
    half.resume(300, REACH)
    assert half.send(100, bytes(100), time_ns=1)[0] == "rto"


def test_no_more_is_held_than_a_half_may_hold() -> None:
    half = probe.Reassembly(held=1 << 20, held_half=1 << 12)
    assert half.doubt(0, bytes(60_000)) == (0, 0)
    assert half.doubt(0, bytes(600)) == (1, PIECE + 1024)
    assert half.close() == 0
