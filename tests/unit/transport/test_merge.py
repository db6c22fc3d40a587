"""Several captures merged by time."""

import heapq
import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.errors import CaptureError
from aiomos.transport.interfaces import Interface
from aiomos.transport.merge import MergedSource
from aiomos.transport.pcap import CaptureReader
from tests.unit.transport.formats import (
    START,
    Memory,
    Row,
    Sample,
    enhanced_packet,
    interface,
    pcap,
    pcap_header,
    pcapng,
    rows,
    samples,
    section,
)


def merged(captures: list[bytes]) -> MergedSource:
    interfaces: list[Interface] = []
    return MergedSource([CaptureReader(Memory(data), interfaces, 4096) for data in captures])


def all_rows(parts: Iterable[list[Sample]]) -> list[Row]:
    return [row for part in parts for row in rows(part)]


def marked(seconds: list[int], mark: int) -> list[Sample]:
    """Make frames whose data tell their capture and place."""
    return [Sample(START + second, 0, b"%d.%d" % (mark, place), 9) for place, second in enumerate(seconds)]


times = st.lists(st.integers(0, 30), max_size=40)


@given(st.lists(times, min_size=1, max_size=6))
def test_merging_equals_sorting_what_the_captures_hold(captures: list[list[int]]) -> None:
    parts = [marked(sorted(seconds), mark) for mark, seconds in enumerate(captures)]
    everything = all_rows(parts)
    assert list(merged([pcap(part) for part in parts])) == sorted(everything, key=lambda row: row[0])


@given(st.lists(times, min_size=1, max_size=6))
def test_order_within_a_capture_is_kept_where_its_times_go_back(captures: list[list[int]]) -> None:
    parts = [marked(seconds, mark) for mark, seconds in enumerate(captures)]
    expected = list(heapq.merge(*(rows(part) for part in parts), key=lambda row: row[0]))
    source = merged([pcap(part) for part in parts])
    assert list(source) == expected
    assert source.unordered == sum(a > b for seconds in captures for a, b in pairwise(seconds))


def test_many_batches_of_many_captures() -> None:
    generator = random.Random(8)
    parts = [
        marked(sorted(generator.choices(range(5000), k=generator.randrange(2000))), mark)
        for mark in range(40)
    ]
    source = merged([pcapng(part) if mark % 2 else pcap(part) for mark, part in enumerate(parts)])
    expected = list(heapq.merge(*(rows(part) for part in parts), key=lambda row: row[0]))
    assert list(source) == expected
    assert source.frames_read == len(expected)
    assert source.first_time == expected[0][0]
    assert source.position() == source.total()


def test_captures_that_follow_each_other() -> None:
    parts = [marked(list(range(1000 * mark, 1000 * (mark + 1))), mark) for mark in (2, 0, 1)]
    assert list(merged([pcap(part) for part in parts])) == all_rows(parts[i] for i in (1, 2, 0))


def test_frames_of_a_batch_stay_whole_until_the_next() -> None:
    """A batch points into the buffers of all captures, none of which may be refilled under it."""
    parts = [marked(list(range(mark, 9000, 3)), mark) for mark in range(3)]
    source = merged([pcap(part) for part in parts])
    got = []
    while source.read_batch():
        once, again = source.batch(), source.batch()
        assert once == again
        got += [frame[:4] for frame in once]
    assert got == sorted(all_rows(parts))


def test_broken_capture_ends_the_merge_with_its_error_after_all_frames() -> None:
    first, second, third = (marked(list(range(mark, 600, 3)), mark) for mark in range(3))
    source = merged([pcap(first), pcap(second)[:-3], pcap(third)])
    got: list[Row] = []
    with pytest.raises(CaptureError) as caught:
        got.extend(source)
    assert got == sorted(rows(first) + rows(second[:-1]) + rows(third))
    assert caught.value.frames == len(second) - 1
    assert not source.read_batch()


def test_several_broken_captures_are_all_told() -> None:
    source = merged([pcap(samples())[:-1], pcap(samples()), pcap(samples(9))[:-1]])
    with pytest.raises(CaptureError) as caught:
        list(source)
    assert len(caught.value.__notes__) == 1
    assert source.frames_read == 4 + 5 + 8


def test_interfaces_are_numbered_over_all_captures() -> None:
    two = section() + interface() + interface(linktype=101) + enhanced_packet(2, b"two", index=1)
    one = pcap_header(linktype=113)
    source = merged([one, two, one])
    assert source.read_batch()
    assert [(frame[1], frame[2], frame[4]) for frame in source.batch()] == [(b"two", 101, 3)]
    assert [entry.linktype for entry in source.interfaces] == [113, 113, 1, 101]


def test_captures_without_frames() -> None:
    source = merged([pcap([]), section(), pcap([])])
    assert not source.read_batch()
    assert (source.first_time, source.frames_read) == (None, 0)


def test_closing_closes_every_capture() -> None:
    files = [Memory(pcap(samples())) for _ in range(3)]
    with MergedSource([CaptureReader(file, []) for file in files]) as source:
        assert source.read_batch()
    source.close()
    assert all(file.closed for file in files)
    assert source.batch() == []
    assert not source.read_batch()


def test_total_is_unknown_where_one_capture_has_no_size() -> None:
    pipe = Memory(pcap(samples()))
    pipe.size = None
    assert MergedSource([CaptureReader(file, []) for file in (Memory(pcap([])), pipe)]).total() is None


def test_nothing_to_merge_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MergedSource([])
