"""A whole transfer over a path that loses, reorders and repeats, in virtual time, to a receiver true to the RFCs."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 30_500
MSS = 1000
MS = 1_000_000
SEGMENTS = 400


def at(segment: int) -> int:
    return (ISN + segment * MSS) & 0xFFFFFFFF


class Receiver:
    """Acknowledges each segment at once, with up to three blocks, the newest first, and a DSACK before them."""

    def __init__(self, sack: bool) -> None:
        self.sack = sack
        self.next = 0
        self.held: set[int] = set()
        self.newest: list[int] = []
        self.duplicates = 0

    def run(self, segment: int) -> tuple[int, int]:
        """The stretch that a held segment is in."""
        start, stop = segment, segment + 1
        while start - 1 in self.held:
            start -= 1
        while stop in self.held:
            stop += 1
        return start, stop

    def take(self, segment: int) -> tuple[int, list[tuple[int, int]]]:
        blocks: list[tuple[int, int]] = []
        if segment < self.next or segment in self.held:
            self.duplicates += 1
            blocks.append((segment, segment + 1))
        else:
            self.held.add(segment)
            self.newest = [segment, *self.newest[:20]]
        while self.next in self.held:
            self.held.remove(self.next)
            self.next += 1
        for one in self.newest:
            if one in self.held and self.run(one) not in blocks and len(blocks) < 3:
                blocks.append(self.run(one))
        return self.next, blocks if self.sack else []


class Transfer:
    """The sender's timers and the path between both."""

    def __init__(self, seed: int, *, sack: bool, loss: float, jitter_ms: float, twice: float) -> None:
        self.chance = random.Random(seed)
        self.loss, self.jitter_ms, self.twice = loss, jitter_ms, twice
        self.records = probe.Records(2000)
        self.sender = probe.Sender(ISN, MSS, self.records, sack)
        self.sender.srtt_ns = self.sender.min_rtt_ns = 20 * MS
        self.receiver = Receiver(sack)
        self.sack = sack
        self.now, self.next, self.sent, self.expired = 0, 0, 0, 0
        self.events: list[tuple[int, int, str, object]] = []
        self.order = itertools.count()
        self.rto_ns, self.timers = 200 * MS, {"rto": 0, "reo": 0, "probe": 0}

    def at(self, wait: int, what: str, data: object) -> None:
        heapq.heappush(self.events, (self.now + wait, next(self.order), what, data))

    def carry(self, what: str, data: object) -> None:
        """Across the path: once, twice, or not at all."""
        for _ in range(2 if self.chance.random() < self.twice else 1):
            if self.chance.random() >= self.loss:
                self.at(10 * MS + int(self.chance.random() * self.jitter_ms * MS), what, data)

    def arm(self, timer: str, wait: int) -> None:
        """Set a timer anew; 0: stop it."""
        self.timers[timer] = self.now + wait if wait else 0
        if wait:
            self.at(wait, timer, self.timers[timer])

    def leave(self, seq: int) -> None:
        self.sent += 1
        self.carry("segment", ((seq - ISN) & 0xFFFFFFFF) // MSS)

    def fill(self, again: bool = True) -> None:
        while self.sender.in_flight < self.sender.cwnd:
            seq = self.sender.resend(self.now) if again else None
            if seq is not None:
                self.leave(seq)
            elif self.next < SEGMENTS:
                self.next += 1
                assert self.sender.send(at(self.next), self.now)
                self.leave(at(self.next - 1))
            else:
                break
        if self.timers["rto"] == 0 and self.sender.counters["packets_out"]:
            self.arm("rto", self.rto_ns)
        wait = 0
        if self.sack and self.sender.state in ("open", "cwr"):
            wait = self.sender.probe_wait_ns(200 * MS, max(0, self.timers["rto"] - self.now))
        self.arm("probe", wait)

    def hear(self, number: int, blocks: list[tuple[int, int]]) -> None:
        edges = [(at(start), at(stop)) for start, stop in blocks]
        before = self.sender.counters["una"]
        told = self.sender.hear(at(number), self.now, edges, more=self.next < SEGMENTS)
        if told["grows"]:
            self.sender.cwnd = min(64, self.sender.cwnd + told["delivered"])
        self.arm("reo", told["wait_ns"])
        if self.sender.counters["una"] != before:
            self.expired, self.rto_ns = 0, 200 * MS
            self.arm("rto", self.rto_ns if self.sender.counters["packets_out"] else 0)
        self.fill("new_only" not in told["flags"])

    def due(self, timer: str) -> None:
        self.timers[timer] = 0
        self.sender.cut = max(2, self.sender.cwnd // 2)
        if timer == "reo":
            self.arm("reo", self.sender.reordered(self.now)["wait_ns"])
        elif timer == "probe" and self.sender.counters["packets_out"]:
            self.leave(self.sender.probe(self.now))
        elif timer == "rto":
            self.sender.expire(self.now, self.expired > 0)
            self.expired += 1
            self.rto_ns = min(2 * self.rto_ns, 5000 * MS)
        self.fill()

    def run(self) -> None:
        self.fill()
        for _ in range(200_000):
            if not self.events or self.sender.counters["una"] == at(SEGMENTS):
                break
            self.now, _, what, data = heapq.heappop(self.events)
            self.sender.cut = max(2, self.sender.cwnd // 2)
            if what == "segment":
                self.carry("ack", self.receiver.take(data))
            elif what == "ack":
                self.hear(*data)
            elif self.timers[what] == data:
                self.due(what)
            assert self.sender.in_flight <= 2 * self.sender.counters["packets_out"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sack", [True, False])
@pytest.mark.parametrize(
    ("loss", "jitter_ms", "twice"),
    [(0, 0, 0), (0.02, 0, 0), (0.2, 0, 0), (0, 15, 0), (0.05, 5, 0.05), (0.4, 20, 0.2)],
)
def test_all_arrives_and_nothing_is_left(
    loss: float, jitter_ms: float, twice: float, sack: bool, seed: int
) -> None:
    transfer = Transfer(seed, sack=sack, loss=loss, jitter_ms=jitter_ms, twice=twice)
    transfer.run()
    assert transfer.receiver.next == SEGMENTS
    assert transfer.sender.counters["una"] == at(SEGMENTS)
    assert transfer.records.in_use == 0
    assert transfer.sender.in_flight == 0
    assert transfer.sender.listed == []
    if not loss and not jitter_ms:
        assert (transfer.sent, transfer.receiver.duplicates) == (SEGMENTS, 0)
    if sack and not loss:
        assert transfer.receiver.duplicates <= SEGMENTS // 10
    if sack and loss == 0.02:
        assert transfer.now < 3000 * MS
        assert transfer.receiver.duplicates == 0
