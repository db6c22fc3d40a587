"""Kept bytes, reading what is at hand, and the log of what was given up."""

import random

import pytest

probe = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

SECOND = 1_000_000_000


def test_delivered_bytes_are_kept_across_batches() -> None:
    half = probe.Reassembly()
    for at, data in enumerate([b"ab", b"cd", b"ef"]):
        half.send(2 * at, data)
        half.drop_batch()
    assert half.read(1, 4) == b"bcde"
    assert half.in_one(0, 6)
    assert half.ranges() == [(0, 6)]


def test_reading_goes_on_over_all_places() -> None:
    half = probe.Reassembly()
    half.send(0, b"ab")
    half.drop_batch()
    half.send(2, b"cd")
    half.send(6, b"gh")
    assert half.ranges() == [(0, 4), (6, 8)]
    assert half.read(0, 100) == b"abcd"
    assert half.in_one(0, 2)
    assert not half.in_one(0, 4)
    assert half.read(7, 1) == b"h"
    assert half.read(4, 1) == b""
    assert half.ranges(1) == [(0, 4)]


def test_a_gap_stays_a_hole_between_kept_stretches() -> None:
    half = probe.Reassembly()
    half.send(0, b"ab")
    half.send(4, b"ef", time_ns=1)
    half.tick(40 * SECOND)
    half.drop_batch()
    assert half.ranges() == [(0, 2), (4, 6)]
    assert half.kept_from == 0


def test_what_the_snap_length_cut_off_is_not_there() -> None:
    half = probe.Reassembly()
    half.send(0, b"abcd", captured=2)
    half.send(4, b"ef")
    half.drop_batch()
    assert half.ranges() == [(0, 2), (4, 6)]


def test_keeping_may_begin_late() -> None:
    half = probe.Reassembly(keep=False)
    half.send(0, b"ab")
    half.end_batch()
    half.keep_from_now()
    half.send(2, b"cd")
    half.drop_batch()
    assert half.kept_from == 2
    assert half.ranges() == [(2, 4)]


def test_keeping_twice_keeps_once() -> None:
    half = probe.Reassembly(sink=True)
    half.send(0, b"ab")
    half.send(2, b"cd")
    assert half.end_batch() == [b"ab", b"cd"]
    half.drop_batch()
    assert half.read(0, 9) == b"abcd"


def test_what_is_forgotten_is_gone_and_keeping_goes_on() -> None:
    half = probe.Reassembly()
    half.send(0, b"ab")
    half.drop_batch()
    half.forget()
    assert (half.kept_from, half.kept_memory, half.ranges()) == (2, 0, [])
    half.send(2, b"cd")
    half.drop_batch()
    assert half.ranges() == [(2, 4)]


def test_a_half_alone_makes_room_for_itself_at_the_budget_of_all() -> None:
    half = probe.Reassembly(kept=512)
    for at in range(0, 1200, 100):
        half.send(at, bytes(100))
        half.drop_batch()
    assert (half.kept_dropped, half.kept_from, half.kept_memory) == (2, 992, 512)
    assert half.ranges() == [(992, 1200)]


@pytest.mark.parametrize(
    ("lengths", "budget", "memory"),
    [
        ([2048], 65536, [2048 + 4096]),  # four small blocks, and the fifth is large
        ([2049], 65536, [4096]),
        ([1984], 65536, [2048]),
        ([1984, 1, 4080, 1], 65536, [2048, 2048 + 4096, 2048 + 8192, 2048 + 8192]),
        ([1488, 1, 495, 1], 65536, [1536, 2048, 2048, 2048 + 4096]),
        ([2049], 4096, [4096]),
        ([2049], 4095, [5 * 512]),
        ([1984, 1], 4095, [2048, 5 * 512]),
        ([496, 1], 512, [512, 512]),
        ([1], 511, [0]),
    ],
)
def test_a_half_begins_with_small_blocks_and_goes_on_with_large_ones(
    lengths: list[int], budget: int, memory: list[int]
) -> None:
    half = probe.Reassembly(kept_half=budget)
    at, found = 0, []
    for length in lengths:
        half.send(at, bytes(length))
        at += length
        half.drop_batch()
        found.append(half.kept_memory)
    assert found == memory
    assert half.ranges() == ([] if memory == [0] else [(half.kept_from, at)])


def test_without_memory_for_a_block_nothing_is_kept() -> None:
    half = probe.Reassembly(kept=511)
    half.send(0, b"ab")
    half.drop_batch()
    assert (half.kept_from, half.kept_memory, half.ranges()) == (2, 0, [])


def test_of_a_batch_beyond_the_budget_only_the_end_is_copied() -> None:
    half = probe.Reassembly(kept_half=8192)
    for at in range(0, 100_000, 1000):
        half.send(at, bytes(1000))
    half.drop_batch()
    ((start, end),) = half.ranges()
    assert (start, end) == (half.kept_from, 100_000)
    assert 4000 <= end - start <= 8192
    assert half.kept_dropped == 0


def test_bytes_that_do_not_outlive_their_packet_are_kept() -> None:
    half = probe.Reassembly()
    half.send(0, b"ab", transient=True)
    assert half.read(0, 9) == b"ab"
    half.drop_batch()
    assert half.read(0, 9) == b"ab"


def test_nothing_is_left_when_a_half_is_lowered_or_closed() -> None:
    half = probe.Reassembly(sink=True)
    half.send(0, b"ab")
    half.end_batch()
    half.send(2, b"cd")
    half.send(6, b"gh")
    half.lower()
    assert half.ranges() == []
    assert half.close() == 0


def test_a_conflict_is_told_from_first_to_last_byte_that_differs() -> None:
    half = probe.Reassembly()
    half.send(0, b"abc")
    half.drop_batch()
    half.send(3, b"def")
    half.send(8, b"ij")
    assert half.send(0, b"aXcdYfghi") == ("rto", (1, 4), 2)
    assert half.conflicts == 1
    assert half.send(0, b"abcdef") == ("rto", None, 0)
    assert half.send(8, b"iZ") == ("rto", (9, 1), 0)
    assert half.read(0, 99) == b"abcdefghij"


def test_incidents_tell_what_was_given_up() -> None:
    half = probe.Reassembly()
    half.send(2, b"cd", time_ns=1)
    half.log_incidents()
    half.tick(40 * SECOND)
    half.send(4, b"efgh", captured=1, time_ns=41 * SECOND)
    assert half.incidents() == [(0, 2, "age", 40 * SECOND), (5, 3, "snaplen", 41 * SECOND)]
    assert half.incidents() == []


def test_bytes_without_a_block_of_their_own_are_an_incident() -> None:
    half = probe.Reassembly()
    half.log_incidents()
    half.send(0, bytes(70_000), transient=True, time_ns=5)
    assert half.incidents() == [(0, 70_000, "budget", 5)]


def test_a_full_log_counts_what_it_misses() -> None:
    half = probe.Reassembly(kept_half=1, keep=False)
    half.log_incidents()
    for at in range(probe.MOST_INCIDENTS + 3):
        half.send(2 * at, b"ab", captured=1)
    assert len(half.incidents()) == probe.MOST_INCIDENTS
    assert half.incidents_missed == 3


def test_any_place_of_a_long_batch_is_found() -> None:
    """Looks come in any order, while the batch grows; what is missing in between is not at hand."""
    choose = random.Random(9)
    half = probe.Reassembly(0xFFFF_FF00, sink=True, keep=False)
    data = choose.randbytes(20_000)
    there: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        length = choose.randrange(1, 20)
        if choose.random() < 0.02:  # a hole, which is given up at once
            missing = choose.randrange(1, 9)
            half.send(at + missing, data[at + missing : at + missing + length])
            half.tick(1 << 50)
            at += missing
        else:
            half.send(at, data[at : at + length])
        end = min(at + length, len(data))
        there = [*there[:-1], (there[-1][0], end)] if there and there[-1][1] == at else [*there, (at, end)]
        at += length
        if choose.random() < 0.3:
            assert half.ranges() == there
        for _ in range(3):
            offset = choose.choice([choose.randrange(end), max(0, end - choose.randrange(1, 300))])
            reach = next((stop for start, stop in there if start <= offset < stop), offset)
            assert half.read(offset, 100) == data[offset : min(offset + 100, reach)]
    assert len(there) > 10
    assert [len(item) for item in half.end_batch() if isinstance(item, bytes)].count(0) == 0
    half.send(at, b"the next batch")
    assert half.read(at, 100) == b"the next batch"


def test_ranges_can_be_asked_for_in_part() -> None:
    half = probe.Reassembly(sink=True, keep=False)
    half.send(0, b"abcd")
    for at in range(6, 60, 2):
        half.send(at, b"x")
    assert half.ranges(start=1, end=9) == [(1, 4), (6, 7), (8, 9)]
    assert half.ranges(start=4, end=6) == []
    assert half.ranges(start=56, end=100) == [(56, 57), (58, 59)]
    assert half.ranges(start=2, end=3) == [(2, 3)]
    assert half.ranges(start=3, end=3) == []
