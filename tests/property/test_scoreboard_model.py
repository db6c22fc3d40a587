"""An end's memory of what is in flight beside a plain list of stretches: the same counters and decisions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.models.scoreboard import NEVER, ScoreboardModel, Stretch

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 700
MS = 1_000_000
SAME = (
    "acked",
    "delivered",
    "newly_sacked",
    "bytes",
    "sacked_bytes",
    "bad_blocks",
    "duplicates",
    "rtt_ns",
    "latest_rtt_ns",
)


def wrapped(number: int) -> int:
    return number & 0xFFFFFFFF


class InFlight(RuleBasedStateMachine):
    """What an end and a peer who may lie can do."""

    def __init__(self) -> None:
        super().__init__()
        self.records = probe.Records(500)
        self.board = probe.Board(wrapped(ISN), 100, self.records)
        self.model = ScoreboardModel(ISN, 100)
        self.now = 1000 * MS

    @initialize(lengths=st.lists(st.sampled_from([50, 100, 100, 250, 400, 1000]), max_size=15))
    def begin(self, lengths: list[int]) -> None:
        for length in lengths:
            self.now += MS
            self.send(length, False, False)

    def pick(self, draw: float, stretches: list[Stretch]) -> int:
        return stretches[int(draw * len(stretches))].seq

    @rule(wait=st.sampled_from([0, 0, 1, MS, 30 * MS, -MS]))
    def time_passes(self, wait: int) -> None:
        self.now += wait

    @rule(
        length=st.sampled_from([1, 50, 99, 100, 101, 200, 300, 301, 1000]),
        syn=st.booleans(),
        fin=st.sampled_from([False, False, True]),
    )
    def send(self, length: int, syn: bool, fin: bool) -> None:
        syn = syn and self.model.nxt == ISN
        end = self.model.nxt + length + fin
        flags = probe.SYN * syn | probe.FIN * fin
        assert self.board.sent(wrapped(end), self.now, flags)
        assert self.model.sent(end, self.now, syn=syn, fin=fin)

    @rule(
        acked=st.sampled_from([-1, 0, 0, 0, 0, 1, 2.5, 1000]),
        blocks=st.lists(
            st.tuples(
                st.integers(-2, 25), st.sampled_from([1, 1, 2, 3, 8, -1]), st.sampled_from([0, 0, 0, 1, 50])
            ),
            max_size=4,
        ),
        echo=st.sampled_from([NEVER, NEVER, 0, 20 * MS]),
        min_rtt=st.sampled_from([0, 1, 20 * MS]),
    )
    def ack(self, acked: float, blocks: list[tuple[int, int, int]], echo: int, min_rtt: int) -> None:
        """Anything, near the edges of segments."""
        una = self.model.una
        number = self.model.nxt if acked == 1000 else una + int(100 * acked)
        starts = [(una + 100 * start + more, length) for start, length, more in blocks]
        self.hear(number, [(start, start + 100 * length) for start, length in starts], echo, min_rtt)

    @precondition(lambda self: self.model.all)
    @rule(
        places=st.lists(st.floats(0, 0.999), min_size=1, max_size=3),
        more=st.integers(1, 3),
        again=st.booleans(),
        acked=st.sampled_from([0, 0, 0, 0.1, 0.5]),
    )
    def ack_records(self, places: list[float], more: int, again: bool, acked: float) -> None:
        """What a receiver says that gets what was sent: whole records, and at times a DSACK of one of them."""
        records = self.model.all
        firsts = [int(place * len(records)) for place in places]
        blocks = [(records[i].seq, records[min(len(records), i + more) - 1].end) for i in firsts]
        number = self.model.all[int(acked * len(records))].seq
        if again:
            blocks.insert(0, (blocks[0][0], records[firsts[0]].end))
        self.hear(number, blocks, NEVER, 0)

    def hear(self, number: int, pairs: list[tuple[int, int]], echo: int, min_rtt: int) -> None:
        echo_ns = NEVER if echo == NEVER else self.now - echo
        told = self.model.ack(number, self.now, pairs, echo_ns, min_rtt)
        out = self.board.ack(
            wrapped(number), self.now, [(wrapped(a), wrapped(b)) for a, b in pairs], echo_ns, min_rtt
        )
        assert out["flags"] == told.flags
        assert {name: out[name] for name in SAME} == {name: getattr(told, name) for name in SAME}
        if latest := told.latest:
            assert (out["latest_sent_ns"], out["latest_end"]) == (latest.sent_ns, wrapped(latest.end))
        if "original" in told.flags:
            least = min(s.end for s, _ in told.arrived if not s.ever_again)
            assert out["original_end"] == wrapped(least)
        if told.arrived:
            rate = max((s for s, _ in told.arrived), key=lambda s: (s.sent_ns, s.end))
            assert (out["rate_delivered"], out["rate_sent_ns"]) == (rate.delivered, rate.sent_ns)
            assert (out["rate_delivered_ns"], out["rate_first_sent_ns"]) == (
                rate.delivered_ns,
                rate.first_sent_ns,
            )

    @precondition(lambda self: self.model.all)
    @rule(place=st.floats(0, 0.999))
    def lose(self, place: float) -> None:
        seq = self.pick(place, self.model.all)
        assert self.board.lose(wrapped(seq)) == self.model.lose(seq)

    @precondition(lambda self: self.model.next_lost is not None)
    @rule(segments=st.integers(0, 3))
    def retransmit(self, segments: int) -> None:
        seq = self.model.next_lost
        assert seq is not None
        assert self.board.split(wrapped(seq), segments)
        self.model.split(seq, segments)
        self.board.retransmitted(wrapped(seq), self.now)
        self.model.retransmitted(seq, self.now)

    @precondition(lambda self: self.model.all)
    @rule(place=st.floats(0, 0.999))
    def probe_by(self, place: float) -> None:
        seq = self.pick(place, self.model.all)
        self.board.retransmitted(wrapped(seq), self.now)
        self.model.retransmitted(seq, self.now)

    @precondition(lambda self: len(self.model.all) > 3)
    @rule(before=st.sampled_from([0, MS, 30 * MS, None]))
    def timeout(self, before: int | None) -> None:
        sent_by = NEVER if before is None else self.now - before
        assert self.board.timeout(sent_by) == self.model.timeout(sent_by)

    @rule()
    def forgive(self) -> None:
        self.board.forgive()
        self.model.forgive()

    @rule(mss=st.sampled_from([1, 60, 100, 100, 140]))
    def resize(self, mss: int) -> None:
        if mss == 1 and self.model.nxt - self.model.una > 400:
            mss = 70
        assert self.board.resize(mss) == self.model.resize(mss)

    @rule()
    def app_limited(self) -> None:
        self.board.app_limited()
        self.model.set_app_limited()

    @invariant()
    def agree(self) -> None:
        expected = [
            (wrapped(s.seq), wrapped(s.end), s.segments, s.letters, s.sent_ns) for s in self.model.all
        ]
        assert self.board.listed == expected
        assert self.board.in_order_of_time == [wrapped(s.seq) for s in self.model.in_order_of_time]
        assert self.board.next_lost == (
            None if self.model.next_lost is None else wrapped(self.model.next_lost)
        )
        assert self.board.in_flight == self.model.in_flight
        assert self.records.in_use == len(self.model.all)
        counters: dict[str, Any] = self.board.counters
        for name in ("una", "nxt", "fack"):
            assert counters[name] == wrapped(getattr(self.model, name)), name
        for name in (
            "delivered",
            "app_limited",
            "resent",
            "duplicates",
            "widest",
            "delivered_ns",
            "first_sent_ns",
        ):
            assert counters[name] == getattr(self.model, name), name

    def teardown(self) -> None:
        self.board.ack(wrapped(self.model.nxt), self.now)
        assert self.records.in_use == 0
        counters = self.board.counters
        assert not any(counters[name] for name in ("packets_out", "sacked_out", "lost_out", "retrans_out"))


InFlight.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestInFlight = InFlight.TestCase
