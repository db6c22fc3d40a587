"""Reassembly on generated segments: the streams of the models, whatever the order, cuts and batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos import Budgets, Gap, Level
from tests.models.reassembly import POLICIES, Policy, Reassembler
from tests.traffic import Seen, Side, Traffic, check_unbroken, follow

ISNS = st.sampled_from([0, 1, 0x7FFF_FFF8, 0xFFFF_FFF8, 0xFFFF_FFFF]) | st.integers(0, 0xFFFF_FFFF)
BATCH_SIZES = st.integers(1, 7) | st.just(1000)
# Two letters, so that overlaps agree about as often as they differ.
PAYLOADS = st.text("ab", min_size=1, max_size=9).map(str.encode)
SEGMENTS = st.lists(st.tuples(st.integers(-2, 24), PAYLOADS), max_size=14)


def client_traffic(segments: Iterable[tuple[int, bytes]], isn: int, *, ack: int | None = 0) -> Traffic:
    """A connection whose client sends these segments, offset and payload, while the server is silent."""
    traffic = Traffic()
    conn = traffic.connection(isn={"client": isn, "server": 0xFFFF_FFFF - isn})
    for at, payload in segments:
        conn.client(payload, at=at, ack=ack)
    return traffic


@settings(max_examples=100)
@pytest.mark.parametrize("policy", POLICIES)
@given(segments=SEGMENTS, isn=ISNS, batch_size=BATCH_SIZES, scale=st.sampled_from([1, 1, 1, 300, 3000]))
def test_streams_are_those_of_the_overlap_page(
    policy: Policy, segments: list[tuple[int, bytes]], isn: int, batch_size: int, scale: int
) -> None:
    model, remembering = Reassembler(isn, policy), Reassembler(isn, policy, remember=1 << 20)
    for half in (model, remembering):
        for at, payload in segments:
            half.push(isn + 1 + at, payload)
        while half.held:
            half.skip_hole()
    # The rule knows no unit: with every byte many times over, pieces lie in small and in large blocks.
    larger = [(at * scale, b"".join(bytes([byte]) * scale for byte in payload)) for at, payload in segments]
    seen = follow(client_traffic(larger, isn).frames, batch_size=batch_size, overlap=policy)
    check_unbroken(seen.client)
    expected = {at * scale + i: byte for at, byte in model.delivered.items() for i in range(scale)}
    assert seen.data == expected
    # Held bytes are always compared; delivered ones as long as they are remembered.
    least, most = (len({conflict.segment for conflict in half.conflicts}) for half in (model, remembering))
    assert least <= seen.flow.client.conflicts == seen.counters["conflicts"] <= most
    assert seen.flow.server.conflicts == 0
    assert seen.server == []


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A stream, and segments that have each of its bytes at least once, in any order."""
    data = draw(st.binary(min_size=1, max_size=60))
    edges = sorted(draw(st.sets(st.integers(1, len(data)), max_size=10)) | {0, len(data)})
    again = draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 20)), max_size=6))
    ranges = [*pairwise(edges), *((at, at + n) for at, n in again)]
    return data, [(start, data[start:end]) for start, end in draw(st.permutations(ranges))]


@settings(max_examples=150)
@given(
    cut=cuts(), isn=ISNS, batch_size=BATCH_SIZES, policy=st.sampled_from(POLICIES), fin_at=st.integers(0, 20)
)
def test_any_cut_order_and_duplication_gives_the_stream(
    cut: tuple[bytes, list[tuple[int, bytes]]], isn: int, batch_size: int, policy: Policy, fin_at: int
) -> None:
    data, segments = cut
    traffic = Traffic()
    conn = traffic.connection(isn={"client": isn, "server": 5})
    fin_at = min(fin_at, len(segments))  # the FIN, too, may come before the data
    for at, payload in segments[:fin_at]:
        conn.client(payload, at=at)
    conn.client(at=len(data), flags="FA")
    for at, payload in segments[fin_at:]:
        conn.client(payload, at=at)
    seen = follow(traffic.frames, batch_size=batch_size, overlap=policy)
    check_unbroken(seen.client)
    assert b"".join(seen.client) == data  # type: ignore[arg-type]  # a Gap would fail here
    assert seen.counters["conflicts"] == 0
    assert seen.flow.client.stream_bytes == len(data)
    assert seen.flow.client.bytes == sum(len(payload) for _, payload in segments)


# --- counters ---------------------------------------------------------------------------------------

TRUTH = bytes(at * 37 & 0xFF for at in range(200))
PAUSES = st.sampled_from([0.0, 0.0, 0.0, 0.2, 0.6, 1.5, 40.0])
SENT = st.tuples(st.just("client"), st.integers(0, 60), st.integers(2, 15), PAUSES)
ACKED = st.tuples(st.just("server"), st.integers(0, 75), st.just(0), PAUSES)
EVENTS = st.lists(SENT | ACKED, max_size=16)
COUNTERS = ("bytes", "stream_bytes", "lost", "retransmits", "out_of_order")


@dataclass
class Counted:
    """A naive account of the client's half."""

    bytes: int = 0
    stream_bytes: int = 0
    lost: int = 0
    fin: bool = False
    """Whether the last number that was acknowledged is behind all data: it may be a FIN's, and no byte be lost."""

    def check(self, counters: dict[str, Any]) -> None:
        assert (counters["bytes"], counters["stream_bytes"]) == (self.bytes, self.stream_bytes)
        assert self.lost - self.fin <= counters["lost"] <= self.lost


def lossy(
    events: list[tuple[Side, int, int, float]], *, captured: int | None = None
) -> tuple[Traffic, Counted]:
    """A connection of which some segments may be missing, and what there is to count in it."""
    traffic = Traffic()
    conn = traffic.connection()
    counted = Counted()
    seen: set[int] = set()
    acked = 0
    for side, at, length, pause in events:
        traffic.wait(pause)
        if side == "client":
            conn.client(TRUTH[at : at + length], at=at, captured=captured)
            counted.bytes += length
            seen.update(range(at, at + length))
        else:
            conn.server(ack=at)
            acked = max(acked, at)
    counted.stream_bytes = len(seen)
    counted.lost = len(set(range(acked)) - seen)
    counted.fin = acked > max(seen, default=-1) + 1
    return traffic, counted


def counters(seen: Seen) -> dict[str, Any]:
    record = seen.flow.record()
    return {name: record[f"client_{name}"] for name in COUNTERS}


@settings(max_examples=250)
@given(events=EVENTS, batch_size=BATCH_SIZES)
def test_counters_are_the_same_with_and_without_the_bytes(
    events: list[tuple[Side, int, int, float]], batch_size: int
) -> None:
    traffic, naive = lossy(events)
    without = counters(follow(traffic.frames, batch_size=batch_size, level=Level.BYTES))
    seen = follow(traffic.frames, batch_size=batch_size, level=Level.STREAM)
    assert without == counters(seen)
    naive.check(without)
    # Whatever was given up and when: what is told is the sender's stream, each offset once.
    check_unbroken(seen.client)
    assert all(TRUTH[at] == byte for at, byte in seen.data.items())


@settings(max_examples=150)
@given(events=EVENTS, batch_size=BATCH_SIZES, captured=st.integers(0, 10))
def test_counters_are_of_the_wire_however_short_the_capture_is_cut(
    events: list[tuple[Side, int, int, float]], batch_size: int, captured: int
) -> None:
    traffic, naive = lossy(events, captured=captured)
    without = counters(follow(traffic.frames, batch_size=batch_size, level=Level.BYTES))
    naive.check(without)
    seen = follow(traffic.frames, batch_size=batch_size, level=Level.STREAM)
    assert without == counters(seen)
    check_unbroken(seen.client)
    assert all(TRUTH[at] == byte for at, byte in seen.data.items())


@settings(max_examples=150)
@given(cut=cuts(), batch_size=BATCH_SIZES, half_budget=st.integers(1, 8))
def test_a_budget_leaves_gaps_and_never_wrong_bytes(
    cut: tuple[bytes, list[tuple[int, bytes]]], batch_size: int, half_budget: int
) -> None:
    data, segments = cut
    budgets = Budgets(flows=16, held_bytes=8 << 20, held_bytes_half=half_budget * 128)
    seen = follow(client_traffic(segments, 1).frames, batch_size=batch_size, budgets=budgets)
    check_unbroken(seen.client)
    assert all(data[at] == byte for at, byte in seen.data.items())
    missing = sum(item.length for item in seen.client if isinstance(item, Gap))
    assert len(seen.data) + missing == len(data)
    assert missing == seen.counters["gap_bytes.budget"]
    assert seen.flow.client.stream_bytes == len(data)
