"""What is kept and at hand of a half, on generated segments, batches and budgets, against a dict of bytes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.reassembly import POLICIES, Policy, Reassembler

probe = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

MILLISECOND = 1_000_000
AGE_NS = 31_000 * MILLISECOND
SEND = st.tuples(st.just("send"), st.integers(-2, 24), st.text("ab", min_size=1, max_size=9).map(str.encode))
OTHER = st.sampled_from([("take",), ("drop",), ("give up",)])
OPERATIONS = st.lists(SEND | SEND | OTHER, max_size=25)
RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=4)
SCALES = st.sampled_from([1, 1, 60, 300, 1000])


class Half:
    """The kernel and a plain account of what it must have at hand, side by side."""

    def __init__(self, isn: int, policy: Policy, *, sink: bool, keep: bool, **budgets: int) -> None:
        self.kernel: Any = probe.Reassembly(isn, policy, sink=sink, keep=keep, **budgets)
        self.model = Reassembler(isn, policy)
        self.sink, self.keep = sink, keep
        self.seen: set[int] = set()
        self.batch: set[int] = set()
        self.past: set[int] = set()
        self.time_ns = 0
        self.conflicts = self.retransmits = self.out_of_order = 0

    @property
    def at_hand(self) -> dict[int, int]:
        """Offset to byte."""
        delivered = self.model.delivered
        told = self.batch if self.sink or self.keep else set[int]()
        kept = (at for at in delivered if self.keep and at >= self.kernel.kept_from and at not in self.batch)
        held = {at: owner.data[at - owner.start] for at, owner in self.model.held.items()}
        return {at: delivered[at] for at in {*kept, *told, *self.past}} | held

    def send(self, at: int, payload: bytes) -> None:
        self.time_ns += MILLISECOND
        before = self.at_hand
        new = {at + i: byte for i, byte in enumerate(payload) if at + i >= 0}
        differing = [offset for offset, byte in new.items() if before.get(offset, byte) != byte]
        kind, conflict, unseen = self.kernel.send(at, payload, time_ns=self.time_ns)
        assert conflict == ((differing[0], differing[-1] + 1 - differing[0]) if differing else None)
        assert unseen == len(new.keys() - self.seen)
        self.conflicts += bool(differing)
        self.retransmits += kind is not None
        known = set(self.model.delivered)
        self.model.push(self.model.isn + 1 + at & 0xFFFF_FFFF, payload)
        self.batch |= self.model.delivered.keys() - known
        self.seen |= new.keys()

    def give_up(self) -> None:
        """So much time goes by that every hole becomes a gap."""
        self.time_ns += AGE_NS
        self.kernel.tick(self.time_ns)
        known = set(self.model.delivered)
        while self.model.held:
            self.model.skip_hole()
        self.batch |= self.model.delivered.keys() - known

    def take(self) -> None:
        items = [item for item in self.kernel.end_batch() if isinstance(item, bytes)]
        told = self.batch if self.sink or self.keep else set[int]()
        assert b"".join(items) == bytes(self.model.delivered[at] for at in sorted(told))
        if self.sink and items:
            self.past = set(sorted(told)[-len(items[-1]) :])
        self.batch = set()

    def drop(self) -> None:
        self.kernel.drop_batch()
        self.batch = set()

    def run(self, operation: tuple[Any, ...], scale: int) -> None:
        match operation:
            case ("send", at, payload):
                self.send(at * scale, b"".join(bytes([byte]) * scale for byte in payload))
            case ("take",):
                self.take()
            case ("drop",):
                self.drop()
            case _:
                self.give_up()

    def check(self, queries: list[tuple[int, int]]) -> None:
        at_hand = self.at_hand
        ranges = self.kernel.ranges()
        assert all(end < start for (_, end), (start, _) in pairwise(ranges))
        assert {at for start, end in ranges for at in range(start, end)} == at_hand.keys()
        for start, end in ranges:
            assert self.kernel.read(start, end - start + 5) == bytes(at_hand[at] for at in range(start, end))
        for start, length in queries:
            data = bytearray()
            while len(data) < length and start + len(data) in at_hand:
                data.append(at_hand[start + len(data)])
            assert self.kernel.read(start, length) == data
            expected = len(set(range(start, start + length)) - self.seen)
            assert self.kernel.unseen(start, start + length) == expected
        assert self.kernel.edge == self.model.next_offset
        assert self.kernel.kept_from <= self.kernel.edge
        assert self.kernel.stream_bytes == len(self.seen)
        assert self.kernel.conflicts == self.conflicts
        assert self.kernel.retransmits == self.retransmits


@settings(max_examples=150)
@pytest.mark.parametrize("keep", [True, False])
@given(
    operations=OPERATIONS,
    isn=st.integers(0xFFFF_FFE8, 0xFFFF_FFFF) | st.integers(0, 0xFFFF_FFFF),
    policy=st.sampled_from(POLICIES),
    sink=st.booleans(),
    scale=SCALES,
    queries=RANGES,
)
def test_all_bytes_at_hand_are_found_and_are_right(
    keep: bool,
    operations: list[tuple[Any, ...]],
    isn: int,
    policy: Policy,
    sink: bool,
    scale: int,
    queries: list[tuple[int, int]],
) -> None:
    half = Half(isn, policy, sink=sink, keep=keep, held=4 << 20, held_half=4 << 20, kept_half=1 << 20)
    for operation in operations:
        half.run(operation, scale)
        half.check([(start * scale, length * scale) for start, length in queries])
        assert half.kernel.kept_from == 0  # within its budgets it keeps all
    assert half.kernel.close() == 0


@settings(max_examples=300)
@given(
    operations=OPERATIONS,
    scale=SCALES,
    kept_half=st.sampled_from([1, 512, 1024, 4096, 8192, 16384]),
    kept=st.sampled_from([1, 512, 2048, 8192, 1 << 20]),
)
def test_at_a_budget_the_oldest_go_and_what_is_left_is_right(
    operations: list[tuple[Any, ...]], scale: int, kept_half: int, kept: int
) -> None:
    half = Half(
        1, "first", sink=False, keep=True, held=4 << 20, held_half=4 << 20, kept_half=kept_half, kept=kept
    )
    kept_from = 0
    for operation in operations:
        half.run(operation, scale)
        half.check([])
        assert kept_from <= half.kernel.kept_from
        kept_from = half.kernel.kept_from
        assert half.kernel.kept_memory <= min(kept_half, kept)
        if half.kernel.kept_dropped:
            assert kept < kept_half
    assert half.kernel.close() == 0


@settings(max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 6000), min_size=1, max_size=60),
    batch_size=st.integers(1, 20),
    kept_half=st.sampled_from([4096, 16384, 65536]),
)
def test_of_a_long_stream_about_the_budget_is_kept(sizes: list[int], batch_size: int, kept_half: int) -> None:
    """All but the oldest block's worth, and a header per block."""
    kernel = probe.Reassembly(kept_half=kept_half)
    at = 0
    for number, size in enumerate(sizes):
        kernel.send(at, bytes(size))
        at += size
        if number % batch_size == batch_size - 1:
            kernel.drop_batch()
    kernel.drop_batch()
    assert kernel.ranges() == [(kernel.kept_from, at)]
    assert at - kernel.kept_from >= min(at, (kept_half - 2 * 4096) * 0.96)
    assert kernel.kept_memory <= kept_half
    assert kernel.kept_dropped == 0
