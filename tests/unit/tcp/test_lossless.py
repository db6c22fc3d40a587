"""Halves that an end of ours receives: what is missing is waited for, and is never a gap."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

probe: Any = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

CENTURY_NS = 100 * 365 * 86_400 * 1_000_000_000
SEGMENT = 1000
DATA = bytes(number * 7 % 251 for number in range(64 * SEGMENT))


def half(**how: Any) -> Any:
    return probe.Reassembly(lossless=True, sink=True, keep=False, **how)


def send(reassembly: Any, number: int, **how: Any) -> None:
    """Have the segment of that number come."""
    reassembly.send(number * SEGMENT, DATA[number * SEGMENT :][:SEGMENT], **how)


def test_what_is_missing_is_waited_for() -> None:
    reassembly = half()
    other = probe.Reassembly(sink=True, keep=False)
    for one in (reassembly, other):
        send(one, 1)
    assert (reassembly.deadline, other.deadline) == (None, 30_000_000_000)
    for one in (reassembly, other):
        one.tick(CENTURY_NS)
    assert reassembly.end_batch() == []
    assert other.end_batch() == [(0, SEGMENT, "age"), DATA[SEGMENT : 2 * SEGMENT]]
    send(reassembly, 0, time_ns=CENTURY_NS)
    assert b"".join(reassembly.end_batch()) == DATA[: 2 * SEGMENT]
    assert reassembly.close() == 0


def test_an_acknowledgement_makes_no_gap() -> None:
    """It does of what only passes; an end itself acknowledges nothing that it lacks."""
    reassembly = half()
    send(reassembly, 1)
    reassembly.acknowledge(2 * SEGMENT)
    reassembly.tick(CENTURY_NS)
    assert (reassembly.end_batch(), reassembly.edge) == ([], 0)


def test_the_window_says_how_much_one_half_holds() -> None:
    """Not the budget of a half, at which one that only passes goes on without what it misses."""
    reassembly, other = half(held_half=4096), probe.Reassembly(sink=True, keep=False, held_half=4096)
    for one in (reassembly, other):
        for number in range(1, 40):
            send(one, number)
    assert any(isinstance(item, tuple) and item[2] == "budget" for item in other.end_batch())
    assert (reassembly.end_batch(), reassembly.edge) == ([], 0)
    send(reassembly, 0)
    assert b"".join(reassembly.end_batch()) == DATA[: 40 * SEGMENT]
    assert reassembly.held == ((0, 0), (0, 0))


def test_without_memory_a_segment_has_not_come() -> None:
    reassembly = half(held=8192)
    for number in range(1, 40):
        send(reassembly, number)
    kept = reassembly.ranges()
    assert reassembly.end_batch() == []
    assert kept[0][0] == SEGMENT
    assert kept[-1][1] < 40 * SEGMENT
    assert reassembly.stream_bytes == sum(end - start for start, end in kept)
    for number in range(40):
        send(reassembly, number)
    assert b"".join(reassembly.end_batch()) == DATA[: 40 * SEGMENT]
    assert reassembly.stream_bytes == 40 * SEGMENT


def test_what_is_at_the_edge_is_always_taken() -> None:
    reassembly = half(held=4096)
    reassembly.crowd_out(1, bytes(3900))
    send(reassembly, 0)
    assert reassembly.end_batch() == [DATA[:SEGMENT]]


def test_what_waits_for_longest_goes_when_others_need_room() -> None:
    """Out-of-order data goes, the connection does not: it is as if those segments had not come."""
    reassembly = half(held=16384)
    send(reassembly, 2)
    send(reassembly, 4)
    reassembly.send(10 * SEGMENT, b"", flags="F")
    for number in range(14):
        reassembly.crowd_out(1 + number * SEGMENT, bytes(SEGMENT), time_ns=1)
    assert (reassembly.ranges(), reassembly.stream_bytes, reassembly.edge) == ([], 0, 0)
    assert reassembly.end_batch() == []
    for number in range(10):
        send(reassembly, number)
    assert [item for item in reassembly.end_batch() if item is not None] != []
    assert reassembly.edge == 10 * SEGMENT
    assert reassembly.close() == 0


@pytest.mark.parametrize("acknowledged", [0, 3 * SEGMENT])
def test_a_connection_that_ends_hands_nothing_over_beyond_a_hole(acknowledged: int) -> None:
    reassembly = half()
    send(reassembly, 0)
    send(reassembly, 2)
    if acknowledged:
        reassembly.acknowledge(acknowledged)
    reassembly.end()
    assert reassembly.end_batch() == [DATA[:SEGMENT], None]
    assert (reassembly.stream_bytes, reassembly.close()) == (SEGMENT, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(0, 30), st.integers(1, 5)),
        st.tuples(st.just("crowd"), st.integers(0, 10), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("batch"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([2048, 8192, 1 << 20]))
def test_whatever_comes_bytes_are_in_order_and_whole(steps: list[tuple[str, int, int]], held: int) -> None:
    reassembly = half(held=held, held_half=2048)
    got: list[Any] = []
    now = 0
    for kind, where, size in steps:
        if kind == "come":
            start, length = where * SEGMENT // 2, size * SEGMENT // 2
            reassembly.send(start, DATA[start : start + length], time_ns=now)
        elif kind == "crowd":
            reassembly.crowd_out(1 + where * SEGMENT, bytes(size * SEGMENT), time_ns=now)
        elif kind == "wait":
            now += where * 60_000_000_000
            reassembly.tick(now)
        else:
            got += reassembly.end_batch()
    for start in range(0, len(DATA), SEGMENT):
        reassembly.send(start, DATA[start : start + SEGMENT], time_ns=now)
        got += reassembly.end_batch()
    assert b"".join(got) == DATA
    assert reassembly.stream_bytes == len(DATA)
    assert reassembly.close() == 0
