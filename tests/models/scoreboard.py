"""What is in flight, as a plain list of stretches; numbers never wrap here, and nothing is found but by looking at all.

Shares no code with `aiomos.end.scoreboard`; times in nanoseconds, counts in segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

NEVER = (1 << 63) - 1
MOST = 1 << 30


@dataclass
class Stretch:
    """What left together: [seq, end), of which a SYN is the first number and a FIN the last."""

    seq: int
    end: int
    segments: int
    sent_ns: int
    turn: int
    """Which transmission of all it was: those of one nanosecond have an order, too."""
    delivered: int
    delivered_ns: int
    first_sent_ns: int
    syn: bool = False
    fin: bool = False
    sacked: bool = False
    lost: bool = False
    again: bool = False
    ever_again: bool = False
    limited: bool = False

    @property
    def base(self) -> int:
        """Where its data begin."""
        return self.seq + self.syn

    @property
    def flying(self) -> bool:
        return not self.sacked and (self.again or not self.lost)

    @property
    def letters(self) -> str:
        marks = zip(
            "YFSLREA",
            (self.syn, self.fin, self.sacked, self.lost, self.again, self.ever_again, self.limited),
            strict=True,
        )
        return "".join(letter for letter, is_so in marks if is_so)


@dataclass
class Told:
    """What one ACK tells; as `AckResult`, with the flags by name."""

    flags: set[str] = field(default_factory=set)
    acked: int = 0
    delivered: int = 0
    newly_sacked: int = 0
    bytes: int = 0
    sacked_bytes: int = 0
    bad_blocks: int = 0
    duplicates: int = 0
    rtt_ns: int = -1
    latest_rtt_ns: int = -1
    arrived: list[tuple[Stretch, bool]] = field(default_factory=list)
    """What arrived by this ACK, as it was before, and whether it was SACKed by it; in the order looked at."""

    @property
    def latest(self) -> Stretch | None:
        """What was sent last, of what may have arrived by its latest transmission."""
        known = [stretch for stretch, _ in self.arrived if not getattr(stretch, "doubtful", False)]
        return max(known, key=lambda s: (s.sent_ns, s.end), default=None)


class ScoreboardModel:
    """One end's stretches in flight."""

    def __init__(self, seq: int, mss: int) -> None:
        self.una = self.nxt = self.fack = seq
        self.mss = mss
        self.all: list[Stretch] = []
        self.delivered = self.app_limited = self.resent = self.duplicates = self.widest = self.turns = 0
        self.delivered_ns = self.first_sent_ns = 0

    def segments(self, stretch: Stretch) -> int:
        data = stretch.end - stretch.seq - stretch.syn - stretch.fin
        return max(1, -(-data // self.mss))

    def total(self, mark: str) -> int:
        return sum(stretch.segments for stretch in self.all if getattr(stretch, mark))

    @property
    def packets_out(self) -> int:
        return sum(stretch.segments for stretch in self.all)

    @property
    def in_flight(self) -> int:
        return self.packets_out - self.total("sacked") - self.total("lost") + self.total("again")

    @property
    def in_order_of_time(self) -> list[Stretch]:
        return sorted(
            (stretch for stretch in self.all if stretch.flying), key=lambda s: (s.sent_ns, s.turn, s.seq)
        )

    @property
    def next_lost(self) -> int | None:
        return next((s.seq for s in self.all if s.lost and not s.again), None)

    def at(self, seq: int) -> Stretch:
        return next(stretch for stretch in self.all if stretch.seq == seq)

    def stamp(self, stretch: Stretch, now_ns: int) -> None:
        others = [s.sent_ns + 1 for s in self.in_order_of_time if s is not stretch]
        self.turns += 1
        stretch.sent_ns, stretch.turn = max([now_ns, *others]), self.turns
        stretch.delivered, stretch.delivered_ns = self.delivered, self.delivered_ns
        stretch.first_sent_ns, stretch.limited = self.first_sent_ns, bool(self.app_limited)

    def sent(self, end: int, now_ns: int, *, syn: bool = False, fin: bool = False) -> bool:
        if end <= self.nxt or end - self.una > MOST:
            return False
        if not self.all:
            self.first_sent_ns = self.delivered_ns = now_ns
        stretch = Stretch(self.nxt, end, 0, 0, 0, 0, 0, 0, syn=syn, fin=fin)
        stretch.segments = self.segments(stretch)
        self.stamp(stretch, now_ns)
        self.all.append(stretch)
        self.nxt = end
        self.widest = max(self.widest, end - self.una)
        return True

    def split_at(self, stretch: Stretch, seq: int) -> Stretch:
        behind = replace(stretch, seq=seq, syn=False)
        stretch.end, stretch.fin = seq, False
        for piece in (stretch, behind):
            piece.segments = self.segments(piece)
        self.all.insert(self.all.index(stretch) + 1, behind)
        return behind

    def split(self, seq: int, segments: int) -> None:
        stretch = self.at(seq)
        segments = max(1, segments)
        if stretch.segments > segments:
            self.split_at(stretch, stretch.base + segments * self.mss)

    def retransmitted(self, seq: int, now_ns: int) -> None:
        stretch = self.at(seq)
        if not stretch.sacked:
            self.stamp(stretch, now_ns)
            stretch.again = stretch.ever_again = True
            self.resent += stretch.segments

    def lose(self, seq: int) -> int:
        stretch = self.at(seq)
        if not stretch.flying:
            return 0
        stretch.lost, stretch.again = True, False
        return stretch.segments

    def forgive(self) -> None:
        for stretch in reversed(self.all):
            if stretch.lost and not stretch.again:
                oldest = self.in_order_of_time[:1]
                if oldest and oldest[0].sent_ns < stretch.sent_ns:
                    stretch.sent_ns, stretch.ever_again = oldest[0].sent_ns, True
                stretch.turn = min(s.turn for s in self.all) - 1
            stretch.lost = False

    def timeout(self, sent_by_ns: int = NEVER) -> bool:
        reneged = bool(self.all) and self.all[0].sacked
        if reneged:
            sent_by_ns, self.fack = NEVER, self.una
        for stretch in self.all:
            if stretch.sacked and reneged:
                stretch.sacked, stretch.lost = False, True
                stretch.segments = self.segments(stretch)
            elif stretch.flying and (stretch is self.all[0] or stretch.sent_ns <= sent_by_ns):
                stretch.lost, stretch.again = True, False
        return reneged

    def resize(self, mss: int) -> int:
        lost, old, self.mss = 0, self.mss, mss
        for stretch in self.all:
            data = stretch.end - stretch.seq - stretch.syn - stretch.fin
            stretch.segments = self.segments(stretch)
            if min(data, old) > mss and stretch.flying:
                lost += self.lose(stretch.seq)
        return lost

    def set_app_limited(self) -> None:
        self.app_limited = max(1, self.delivered + self.in_flight)

    def dsack(self, block: tuple[int, int], ack: int, told: Told) -> None:
        start, end = block
        segments = max(1, -(-(end - start) // self.mss))
        is_whole = start < end and end <= self.nxt and end - start <= self.widest and not start < ack < end
        if is_whole and self.duplicates + segments <= self.resent:
            self.duplicates += segments
            told.duplicates = segments
            told.flags.add("dsack")
        else:
            told.bad_blocks += 1

    def sack(self, start: int, stop: int, told: Told) -> None:
        """Mark the whole segments within [start, stop)."""
        for stretch in list(self.all):
            if stretch.sacked or stretch.end <= start or stretch.seq >= stop:
                continue
            edges = [
                stretch.seq,
                *range(stretch.base + self.mss, stretch.end - stretch.fin, self.mss),
                stretch.end,
            ]
            inside = [(left, right) for left, right in pairwise(edges) if start <= left and right <= stop]
            if not inside:
                continue
            left, right = inside[0][0], inside[-1][1]
            if right < stretch.end:
                self.split_at(stretch, right)
            if stretch.seq < left:
                stretch = self.split_at(stretch, left)
            told.arrived.append((replace(stretch), True))
            stretch.sacked, stretch.lost, stretch.again = True, False, False

    def merge(self) -> None:
        merged: list[Stretch] = []
        for stretch in self.all:
            if merged and merged[-1].sacked and stretch.sacked:
                before = merged[-1]
                before.end, before.segments = stretch.end, before.segments + stretch.segments
                before.fin |= stretch.fin
                before.ever_again |= stretch.ever_again
            else:
                merged.append(stretch)
        self.all = merged

    def cumulative(self, ack: int, told: Told) -> None:
        while self.all and self.all[0].seq < ack:
            stretch = self.all[0]
            gone = replace(stretch, end=min(ack, stretch.end))
            if stretch.end <= ack:
                self.all.pop(0)
                segments = stretch.segments
            else:
                segments = stretch.segments
                stretch.seq, stretch.syn = ack, False
                stretch.segments = min(segments, self.segments(stretch))
                segments -= stretch.segments
            if segments:
                told.acked += segments
                gone.segments = segments
                if gone.ever_again:
                    told.flags.add("again")
                if not gone.sacked:
                    told.arrived.append((gone, False))
        told.flags.add("advanced")
        told.bytes = ack - self.una
        self.una = ack

    def ack(
        self, ack: int, now_ns: int, blocks: Iterable[tuple[int, int]], echo_ns: int, min_rtt_ns: int
    ) -> Told:
        told = Told()
        blocks = list(blocks)
        fack = self.fack
        if ack > self.nxt:
            told.flags.add("beyond")
            return told
        if blocks:
            told.flags.add("had_sack")
            first, *others = blocks
            if first[0] < ack or (others and others[0][0] <= first[0] and first[1] <= others[0][1]):
                self.dsack(first, ack, told)
                blocks = others
        for start, stop in blocks:
            if self.una < start < stop <= self.nxt:
                self.sack(start, stop, told)
            else:
                told.bad_blocks += 1
        self.merge()
        if ack > self.una:
            self.cumulative(ack, told)
            self.fack = max(self.fack, ack)
        self.judge(told, fack, now_ns, echo_ns, min_rtt_ns)
        return told

    def judge(self, told: Told, fack: int, now_ns: int, echo_ns: int, min_rtt_ns: int) -> None:
        """What follows from what arrived."""
        arrived = [stretch for stretch, _ in told.arrived]
        told.newly_sacked = sum(stretch.segments for stretch, by_sack in told.arrived if by_sack)
        told.sacked_bytes = sum(stretch.end - stretch.seq for stretch, by_sack in told.arrived if by_sack)
        told.delivered = sum(stretch.segments for stretch in arrived)
        for stretch in arrived:
            told.flags |= {"rate"} if stretch.ever_again else {"rate", "original"}
            if not stretch.ever_again and stretch.end < fack:
                told.flags.add("reordered")
            stretch.doubtful = stretch.ever_again and (  # type: ignore[attr-defined]
                stretch.sent_ns > echo_ns or now_ns - stretch.sent_ns < min_rtt_ns
            )
            self.fack = max(self.fack, stretch.end)
        if told.newly_sacked:
            told.flags.add("sacked")
        if latest := told.latest:
            told.flags |= {"latest", "latest_again"} if latest.ever_again else {"latest"}
        if not arrived:
            return
        rate = max(arrived, key=lambda s: (s.sent_ns, s.end))
        told.flags |= {"rate_limited"} if rate.limited else set()
        told.flags |= {"rate_again"} if rate.ever_again else set()
        told.rtt_ns, told.latest_rtt_ns = self.samples(told, now_ns)
        self.delivered += told.delivered
        self.delivered_ns, self.first_sent_ns = now_ns, rate.sent_ns
        if self.app_limited and self.delivered > self.app_limited:
            self.app_limited = 0

    @staticmethod
    def samples(told: Told, now_ns: int) -> tuple[int, int]:
        once = [(stretch.sent_ns, by_sack) for stretch, by_sack in told.arrived if not stretch.ever_again]
        sacked = [sent_ns for sent_ns, by_sack in once if by_sack]
        acked = [] if "again" in told.flags else [sent_ns for sent_ns, by_sack in once if not by_sack]
        first = now_ns - min(acked or sacked or [now_ns + 1])
        last = now_ns - max(sacked or [now_ns + 1])
        if last < 0:
            last = now_ns - max(acked or [now_ns + 1])
        return max(-1, first), max(-1, last)
