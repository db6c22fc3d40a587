"""What is held behind holes, at the bounds of what may be: pieces of a half, its memory, and that of all."""

from typing import Any

import pytest

probe: Any = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")
memory: Any = pytest.importorskip("tests.native._probe_memory", reason="needs the native test probes")

UNIT = 128
MOST_PIECES = 4095  # one more could be cut in two


def pieces(half: Any, count: int, length: int = 1) -> list[int]:
    """Send so many segments, each behind a hole of its own; tells after each how many are held."""
    held = []
    for number in range(count):
        at = 10 + (length + 1) * number
        half.send(at, bytes(length))
        (mine, mine_bytes), (all_, all_bytes) = half.held
        assert (mine, mine_bytes) == (all_, all_bytes)
        held.append(mine)
    return held


@pytest.mark.parametrize(
    ("length", "taken"),
    [
        (1, UNIT),
        (32, UNIT),
        (33, 2 * UNIT),
        (128, 2 * UNIT),
        (129, 3 * UNIT),
        (256, 3 * UNIT),
        (257, 5 * UNIT),
    ],
)
def test_memory_of_a_piece(length: int, taken: int) -> None:
    """32 bytes have room in the record itself; more are in a block of the next power of two."""
    half = probe.Reassembly()
    half.send(10, bytes(length))
    assert half.held == ((1, taken), (1, taken))
    half.send(0, bytes(10))
    assert half.held == ((0, 0), (0, 0))
    assert half.end_batch() == [bytes(10), bytes(length)]
    assert half.close() == 0


def test_pieces_of_one_half() -> None:
    half = probe.Reassembly(held=8 << 20, held_half=8 << 20)
    held = pieces(half, MOST_PIECES + 2)
    assert held == [*range(1, MOST_PIECES + 1), MOST_PIECES, MOST_PIECES]
    # For each that came then, the oldest was given up with the hole before it.
    assert half.end_batch() == [(0, 10, "budget"), b"\0", (11, 1, "budget"), b"\0"]
    assert half.close() == 0


@pytest.mark.parametrize(("budget", "most"), [(10 * UNIT, 10), (11 * UNIT - 1, 10), (11 * UNIT, 11)])
def test_memory_of_one_half(budget: int, most: int) -> None:
    half = probe.Reassembly(held_half=budget)
    assert pieces(half, most + 1) == [*range(1, most + 1), most]
    assert half.end_batch() == [(0, 10, "budget"), b"\0"]


@pytest.mark.parametrize(("budget", "most"), [(80 * UNIT, 70), (80 * UNIT + 144, 70), (80 * UNIT + 147, 71)])
def test_memory_of_all_is_an_eighth_less(budget: int, most: int) -> None:
    """That eighth is of blocks that wait for delivery."""
    half = probe.Reassembly(held=budget)
    assert pieces(half, most + 1) == [*range(1, most + 1), most]
    assert half.end_batch() == [(0, 10, "budget"), b"\0"]


def test_a_longer_one_needs_room_for_its_block() -> None:
    half = probe.Reassembly(held_half=5 * UNIT)
    assert pieces(half, 1, 257) == [1]
    half = probe.Reassembly(held_half=5 * UNIT - 1)
    assert pieces(half, 1, 257) == [0]
    assert half.end_batch() == [(0, 10, "budget"), bytes(257)]


@pytest.mark.parametrize(
    ("size", "capacity", "opens"),
    [
        (4, 10, True),
        (3, 10, False),
        (0, 10, False),
        (4, 2**32 - 2, True),
        (4, 2**32 - 1, False),
        (2**61, 10, False),
    ],
)
def test_records_of_a_pool(size: int, capacity: int, opens: bool) -> None:
    """A record has room for the index of the next free one; the index of the last is no more than 32 bits."""
    if opens:
        assert memory.Records(size, capacity).take() == 1
    else:
        with pytest.raises(AssertionError):
            memory.Records(size, capacity)


def test_a_pool_gives_out_all_it_has_and_the_last_given_back_first() -> None:
    records = memory.Records(8, 3)
    assert [records.take() for _ in range(4)] == [1, 2, 3, 0]
    records.give(2)
    records.give(3)
    assert [records.take() for _ in range(3)] == [3, 2, 0]
    records.give(1)
    assert [records.take() for _ in range(2)] == [1, 0]
