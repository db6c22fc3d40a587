"""Recovery beside its model: the same state, windows and advice after whatever a peer says and whatever is due."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.models.recovery import SenderModel
from tests.models.scoreboard import NEVER

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 700
MSS = 100
MS = 1_000_000
RACK = {"reordering", "probe"}


def wrapped(number: int) -> int:
    return number & 0xFFFFFFFF


class Recovering(RuleBasedStateMachine):
    """An end, and a peer, network and clock of any kind."""

    @initialize(sack=st.booleans(), cwnd=st.sampled_from([1, 4, 10, 20]), first=st.integers(0, 20))
    def begin(self, sack: bool, cwnd: int, first: int) -> None:
        self.records = probe.Records(500)
        self.sender = probe.Sender(wrapped(ISN), MSS, self.records, sack)
        self.model = SenderModel(ISN, MSS, sack)
        self.sender.srtt_ns = self.sender.min_rtt_ns = self.model.srtt
        self.sender.cwnd = self.model.cwnd = cwnd
        self.now = 1000 * MS
        for _ in range(first):
            self.send(1, 0)

    @rule(wait=st.sampled_from([1, 20 * MS, 60 * MS, 110 * MS, 500 * MS, -50 * MS]))
    def time_passes(self, wait: int) -> None:
        self.now += wait

    @rule(segments=st.sampled_from([1, 1, 1, 5]), rest=st.sampled_from([0, 0, 50]))
    def send(self, segments: int, rest: int) -> None:
        board = self.model.board
        end = board.nxt + segments * MSS + rest
        assert self.sender.send(wrapped(end), self.now)
        board.sent(end, self.now)
        self.model.out += board.all[-1].segments

    @rule(segments=st.integers(1, 3))
    def resend(self, segments: int) -> None:
        seq = self.model.board.next_lost
        assert self.sender.resend(self.now, segments) == (None if seq is None else wrapped(seq))
        if seq is not None:
            self.model.board.split(seq, segments)
            self.model.board.retransmitted(seq, self.now)
            self.model.resent(self.model.board.at(seq).segments, self.now)

    @precondition(lambda self: self.model.board.all and not self.model.board.all[-1].sacked)
    @rule()
    def probe(self) -> None:
        board = self.model.board
        last = board.all[-1]
        board.split(last.seq, last.segments - 1)
        last = board.all[-1]
        assert self.sender.probe(self.now) == wrapped(last.seq)
        board.retransmitted(last.seq, self.now)
        self.model.resent(last.segments, self.now)
        self.model.rack.probe = board.nxt, True

    @rule(cwnd=st.sampled_from([1, 4, 10, 20]), cut=st.sampled_from([2, 5, 10]))
    def grow(self, cwnd: int, cut: int) -> None:
        self.sender.cwnd = self.model.cwnd = cwnd
        self.sender.cut = self.model.cut = cut

    @rule(
        acked=st.sampled_from([0, 0, 0, 1, 2, 5, 20, -1]),
        blocks=st.lists(st.tuples(st.integers(-3, 20), st.sampled_from([1, 1, 2, 3, 10, -1])), max_size=3),
        echo=st.sampled_from([NEVER, NEVER, 0, 50 * MS, 110 * MS, 1000 * MS]),
        duplicate=st.booleans(),
        more=st.booleans(),
        ece=st.sampled_from([False] * 30 + [True]),
    )
    def hear(
        self, acked: int, blocks: list[tuple[int, int]], echo: int, duplicate: bool, more: bool, ece: bool
    ) -> None:
        una = self.model.board.una
        ack = una + acked * MSS if acked < 20 else self.model.board.nxt
        edges = [(una + start * MSS, una + (start + length) * MSS) for start, length in blocks]
        edges = edges if self.model.sack else []
        echo_ns = echo if echo == NEVER else self.now - echo
        wrapped_edges = [(wrapped(a), wrapped(b)) for a, b in edges]
        advised = self.model.hear(ack, self.now, edges, echo_ns, duplicate, more, ece)
        told = self.sender.hear(wrapped(ack), self.now, wrapped_edges, echo_ns, duplicate, more, ece)
        assert told["flags"] == advised.flags
        assert (told["newly_lost"], told["wait_ns"]) == (advised.lost, advised.wait)

    @precondition(lambda self: self.model.sack)
    @rule()
    def reordered(self) -> None:
        told = self.sender.reordered(self.now)
        assert (told["newly_lost"], told["wait_ns"]) == self.model.reordered(self.now)

    @precondition(lambda self: self.model.board.all)
    @rule(again=st.booleans())
    def expire(self, again: bool) -> None:
        assert self.sender.expire(self.now, again) == self.model.expire(self.now, again)

    @precondition(lambda self: self.model.board.all)
    @rule(arrived=st.lists(st.sampled_from([0, 1, 1, 2]), min_size=1, max_size=3), new=st.booleans())
    def time_out_and_go_on(self, arrived: list[int], new: bool) -> None:
        """What F-RTO is about: one segment leaves again, and the next ACKs tell."""
        self.expire(False)
        self.resend(1)
        for acked in arrived:
            self.time_passes(110 * MS)
            self.hear(acked, [(6, 1)] if acked == 2 else [], NEVER, True, new, False)
            if new:
                self.send(1, 0)

    @precondition(lambda self: len(self.model.board.all) > 4)
    @rule(arrived=st.integers(1, 6), echo=st.sampled_from([NEVER, 0, 300 * MS]), again=st.integers(0, 2))
    def lose_the_first(self, arrived: int, echo: int, again: int) -> None:
        """What fast recovery is about: what is behind arrives, the first leaves again, and all is acknowledged."""
        for i in range(arrived):
            self.time_passes(MS)
            self.hear(0, [(1, i + 1)], NEVER, True, True, False)
        for _ in range(again):
            self.resend(1)
        self.time_passes(60 * MS)
        self.hear(arrived, [], echo, True, True, False)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        sender, model = self.sender, self.model
        expected = [
            (wrapped(s.seq), wrapped(s.end), s.segments, s.letters, s.sent_ns) for s in model.board.all
        ]
        assert sender.listed == expected
        assert (sender.state, sender.cwnd, sender.ssthresh) == (model.state, model.cwnd, model.ssthresh)
        assert (sender.in_flight, sender.counters["dupacks"]) == (model.in_flight, model.dupacks)
        assert sender.counters["delivered"] == model.board.delivered
        rack = sender.rack_state
        assert ("reordering" in rack["flags"], "probe" in rack["flags"]) == (
            model.rack.reordering,
            model.rack.probe is not None,
        )
        assert (rack["multiple"], rack["persist"]) == (model.rack.multiple, model.rack.persist)
        assert sender.in_flight <= 2 * sender.counters["packets_out"]


Recovering.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestRecovering = Recovering.TestCase
