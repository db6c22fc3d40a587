"""Reference for stream reassembly: one half-stream, a byte at a time, as docs/reference/overlap.md says.

Every byte beyond a hole is a dictionary entry that knows which segment brought it. That is slow, and leaves
nothing to get wrong about ranges, merging or splitting.

The policies by position of the new segment against one held piece (new wins: N; the held byte stays: o):

    new begins       before         with           inside
    new ends       in with aft    in with aft    in with aft
    first           o   o   o      o   o   o      o   o   o
    last            N   N   N      N   N   N      N   N   N
    bsd, windows    N   N   N      o   o   o      o   o   o
    linux           N   N   N      o   o   N      o   o   o
    solaris         o   N   N      o  N(o) N      o   o   N     (o): the first of all held pieces

Sources: Novak and Sturges, "Target-Based TCP Stream Reassembly" (2007); tcp_reass() of 4.4BSD-Lite2;
tcp_data_queue_ofo() of Linux; tcp_reass() and tcp_reass_elim_overlap() of illumos; Suricata
src/stream-tcp-list.c DoHandleDataOverlap(); Snort 3 tcp_overlap_resolver.cc. The page has the details.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Policy = Literal["first", "last", "bsd", "linux", "windows", "solaris"]
Side = Literal["old", "new"]
Compared = dict[int, tuple[int, int, Side]]
"""By stream offset: the held or delivered byte, the new one, and which of them the stream has afterwards."""

POLICIES: tuple[Policy, ...] = ("first", "last", "bsd", "linux", "windows", "solaris")


@dataclass(frozen=True)
class Conflict:
    """A longest run of neighbouring bytes that one segment changed, or tried to."""

    segment: int
    """Which segment did it: its place in the order of arrival, from 0."""
    offset: int
    """Stream offset of the first byte; the first data byte of the stream is 0."""
    old: bytes
    new: bytes
    kept: Side


@dataclass(frozen=True)
class Segment:
    """A segment as it arrived, in stream offsets, without what was delivered before it came."""

    arrival: int
    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


@dataclass(frozen=True)
class Piece:
    """What is left of one held segment: an unbroken range of bytes that are still its own."""

    segment: Segment
    start: int
    end: int


class Reassembler:
    """One half of a connection.

    Args:
        isn: The sender's initial sequence number; the first data byte has the one after it.
        policy: Who wins where held bytes and a new segment overlap.
        remember: How many of the last delivered bytes late copies are compared with. Such a copy never
            changes the stream, so `kept` is always "old".
    """

    def __init__(self, isn: int, policy: Policy, *, remember: int = 0) -> None:
        self.isn = isn
        self.policy = policy
        self.remember = remember
        self.delivered: dict[int, int] = {}
        """Offset to byte; offsets within a skipped hole are absent."""
        self.next_offset = 0
        self.held: dict[int, Segment] = {}
        """Offset to the segment whose byte it is."""
        self.conflicts: list[Conflict] = []
        self._arrived = 0

    @property
    def data(self) -> bytes:
        """All bytes delivered so far, skipped holes left out."""
        return bytes(self.delivered[at] for at in sorted(self.delivered))

    def offset_of(self, seq: int) -> int:
        """Place a sequence number in the stream: the offset nearest to where delivery stands."""
        expected = (self.isn + 1 + self.next_offset) & 0xFFFF_FFFF
        ahead = (seq - expected) & 0xFFFF_FFFF
        return self.next_offset + (ahead if ahead < 1 << 31 else ahead - (1 << 32))

    def push(self, seq: int, payload: bytes) -> bytes:
        """Take one segment; return the bytes that became contiguous."""
        start = self.offset_of(seq)
        arrival, self._arrived = self._arrived, self._arrived + 1
        self._compare_with_delivered(arrival, start, payload)
        late = max(0, self.next_offset - start)
        new = Segment(arrival, start + late, payload[late:])
        winners = self._winners(new)
        compared: Compared = {}
        for at, old in self.held.items():
            if new.start <= at < new.end:
                kept: Side = "new" if at in winners else "old"
                compared[at] = (old.data[at - old.start], new.data[at - new.start], kept)
        self._report(arrival, compared)
        for at in winners:
            self.held[at] = new
        return self._deliver()

    def skip_hole(self) -> tuple[int, int, bytes]:
        """Give up the hole before the first held byte.

        Returns:
            The hole's offset and length, and the bytes that became contiguous; length 0 and no bytes when
            nothing is held.
        """
        hole = self.next_offset
        if not self.held:
            return hole, 0, b""
        self.next_offset = min(self.held)
        return hole, self.next_offset - hole, self._deliver()

    def pieces(self) -> list[Piece]:
        """Return the held pieces, ascending and disjoint; neighbours from different segments stay apart."""
        pieces: list[Piece] = []
        for at in sorted(self.held):
            last = pieces[-1] if pieces else None
            if last and last.end == at and last.segment is self.held[at]:
                pieces[-1] = Piece(last.segment, last.start, at + 1)
            else:
                pieces.append(Piece(self.held[at], at, at + 1))
        return pieces

    def _deliver(self) -> bytes:
        ready = bytearray()
        while (owner := self.held.pop(self.next_offset, None)) is not None:
            byte = owner.data[self.next_offset - owner.start]
            ready.append(byte)
            self.delivered[self.next_offset] = byte
            self.next_offset += 1
        return bytes(ready)

    def _winners(self, new: Segment) -> set[int]:
        """Return the offsets of the new segment's bytes that go into the stream."""
        winners = set(range(new.start, new.end))
        for old in self.pieces():
            shared = range(max(old.start, new.start), min(old.end, new.end))
            if shared and not self._new_wins(old, new):
                winners.difference_update(shared)
        return winners

    def _new_wins(self, old: Piece, new: Segment) -> bool:
        match self.policy:
            case "first":
                return False
            case "last":
                return True
            case "bsd" | "windows":
                return new.start < old.start
            case "linux":
                # Linux queues segments whole: the edges that count are those of the segment as it arrived.
                arrived = old.segment
                return new.start < arrived.start or (new.start == arrived.start and new.end > arrived.end)
            case "solaris":
                if self._leads(old, new):
                    return self._end_after_right_trim(new) > old.end
                return new.end >= old.end

    def _leads(self, old: Piece, new: Segment) -> bool:
        """Tell whether Solaris queues the piece before the new segment."""
        return old.start < new.start or (old.start == new.start and old.start == min(self.held))

    def _end_after_right_trim(self, new: Segment) -> int:
        for old in self.pieces():
            if not self._leads(old, new) and old.start < new.end < old.end:
                return old.start
        return new.end

    def _compare_with_delivered(self, arrival: int, start: int, payload: bytes) -> None:
        compared: Compared = {}
        for at in range(max(0, start, self.next_offset - self.remember), self.next_offset):
            if at in self.delivered and at < start + len(payload):
                compared[at] = (self.delivered[at], payload[at - start], "old")
        self._report(arrival, compared)

    def _report(self, arrival: int, compared: Compared) -> None:
        """Add a conflict for every longest run of bytes that differ and have one winner."""
        runs: list[Conflict] = []
        for at in sorted(compared):
            old, new, kept = compared[at]
            if old == new:
                continue
            before = Conflict(arrival, at, b"", b"", kept)
            if runs and runs[-1].offset + len(runs[-1].old) == at and runs[-1].kept == kept:
                before = runs.pop()
            runs.append(replace(before, old=before.old + bytes([old]), new=before.new + bytes([new])))
        self.conflicts += runs


def reassemble(
    segments: Iterable[tuple[int, bytes]], *, isn: int, policy: Policy, remember: int = 0
) -> tuple[bytes, list[Conflict]]:
    """Reassemble one half-stream from its segments in order of arrival.

    Args:
        segments: Sequence number (32 bits) and payload of each.
        isn: The sender's initial sequence number.
        policy: Who wins where segments overlap beyond a hole.
        remember: See `Reassembler`.

    Returns:
        The bytes up to the first hole that never filled, and the conflicts in order of arrival.
    """
    half = Reassembler(isn, policy, remember=remember)
    for seq, payload in segments:
        half.push(seq, payload)
    return half.data, half.conflicts
