"""The hash table at its bounds: when it grows, what is pulled back, where a search ends."""

import pytest

probe = pytest.importorskip("tests.native._probe_table", reason="needs the native test probes")

NOTHING = (0, 0)


def entries(table: object) -> list[int]:
    return [entry for _, entry in table.slots]  # type: ignore[attr-defined]


def test_an_empty_table_finds_nothing() -> None:
    table = probe.Hashed(4)
    assert table.slots == [NOTHING] * 4
    assert table.find(3, "a") == (0, 1)
    assert len(table) == 0


@pytest.mark.parametrize(("slots", "room"), [(4, 1), (8, 3), (64, 31)])
def test_it_grows_before_more_than_half_of_the_slots_are_taken(slots: int, room: int) -> None:
    table = probe.Hashed(slots)
    for key in range(room):
        table.insert(key, key)
        assert len(table.slots) == slots
    table.insert(room, room)
    assert len(table.slots) == 2 * slots
    assert [table.find(key, key)[0] for key in range(room + 1)] == list(range(1, room + 2))


def test_room_for_two_is_made_at_once() -> None:
    """A session has two entries: both fit, or neither is put in."""
    table = probe.Hashed(8)
    table.insert(0, "a")
    assert table.reserve(2)
    assert len(table.slots) == 8
    table.insert(0, "b")
    assert table.reserve(2)
    assert len(table.slots) == 16


def test_the_largest_table_grows_no_more() -> None:
    assert probe.largest_reserves((1 << 31) - 2, 1)
    assert not probe.largest_reserves((1 << 31) - 2, 2)
    assert not probe.largest_reserves((1 << 31) - 1, 1)


def test_a_run_goes_on_from_the_last_slot_at_the_first() -> None:
    table = probe.Hashed(8)
    table.insert(7, "a")
    table.insert(7, "b")
    table.insert(15, "c")
    assert entries(table) == [2, 3, 0, 0, 0, 0, 0, 1]
    assert table.find(7, "b") == (2, 2)
    assert table.find(15, "c") == (3, 3)
    table.remove(7, 1)
    assert entries(table) == [3, 0, 0, 0, 0, 0, 0, 2]
    assert table.find(7, "a") == (0, 3)


def test_equal_hashes_are_told_apart_by_key() -> None:
    table = probe.Hashed(8)
    table.insert(1, "a")
    table.insert(1, "b")
    assert table.find(1, "a")[0] == 1
    assert table.find(1, "b")[0] == 2
    assert table.find(1, "c")[0] == 0


def test_removing_pulls_back_only_what_is_away_from_home() -> None:
    """The last of the run, in its home, stays; the one in its neighbour's does not."""
    table = probe.Hashed(8)
    table.insert(2, "a")
    table.insert(2, "b")
    table.insert(4, "c")
    assert entries(table) == [0, 0, 1, 2, 3, 0, 0, 0]
    table.remove(2, 1)
    assert entries(table) == [0, 0, 2, 0, 3, 0, 0, 0]
    assert table.find(4, "c") == (3, 1)


def test_hashes_that_differ_above_the_mask_come_apart_when_it_grows() -> None:
    table = probe.Hashed(4)
    table.insert(0x1_0003, "a")
    table.insert(0x7, "b")
    assert len(table.slots) == 8
    assert entries(table)[3] == 1
    assert entries(table)[7] == 2
