"""Recovery, by the examples of RFC 3042, 5681, 5682, 6582, 6675 and 9937, and what Linux does beyond them."""

from __future__ import annotations

import random

import pytest

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 2500
MSS = 1000
MS = 1_000_000
RTT = 100 * MS
INFINITE = 0x7FFFFFFF


def at(segment: float) -> int:
    """Where a segment begins; the first is 0."""
    return (ISN + int(segment * MSS)) & 0xFFFFFFFF


class Conversation:
    """An end that sends whatever it may, to a peer at 100 ms; all at the start leaves at 0 ms."""

    def __init__(self, segments: int, *, sack: bool = True, cut: int | None = None) -> None:
        self.sender = probe.Sender(ISN, MSS, probe.Records(1000), sack)
        self.sender.min_rtt_ns = self.sender.srtt_ns = RTT
        self.sender.cwnd, self.sender.cut = segments, cut or segments // 2
        self.next = 0
        self.ms = 0.0
        self.room = 10_000
        """What may be sent that is new."""
        self.fill()
        self.ms = 100

    @property
    def now(self) -> int:
        return 1000 * MS + round(self.ms * MS)

    def fill(self, *, again: bool = True) -> str:
        """Send while there is room in cwnd: N what is new, R what was lost."""
        sent = ""
        while self.sender.in_flight < self.sender.cwnd:
            if again and self.sender.resend(self.now) is not None:
                sent += "R"
            elif self.next < self.room:
                self.next += 1
                assert self.sender.send(at(self.next), self.now)
                sent += "N"
            else:
                break
        return sent

    def hear(
        self, number: float, *blocks: tuple[float, float], fill: bool = True, **more: object
    ) -> tuple[set[str], str]:
        """An ACK; what recovery advises, and what is sent upon it. A millisecond passes."""
        self.ms += 1
        told = self.sender.hear(
            at(number), self.now, [(at(a), at(b)) for a, b in blocks], more=self.next < self.room, **more
        )
        self.told = told
        return told["flags"], self.fill(again="new_only" not in told["flags"]) if fill else ""

    def expire(self, ms: float = 1000, *, again: bool = False) -> bool:
        self.ms += ms
        return self.sender.expire(self.now, again)

    @property
    def state(self) -> str:
        return self.sender.state

    @property
    def window(self) -> tuple[int, int]:
        return self.sender.cwnd, self.sender.ssthresh


# RFC 9937: the examples of its section 7, in which cwnd is halved


def test_one_loss_in_twenty() -> None:
    """One segment leaves for each two that arrive, until in flight is ssthresh."""
    talk = Conversation(20)
    seen = []
    for arrived in range(1, 22):
        _, sent = talk.hear(0, (1, arrived + 1))
        seen.append((talk.sender.cwnd, sent))
    assert [cwnd for cwnd, _ in seen] == [
        20, 20, 19, 18, 18, 17, 17, 16, 16, 15, 15, 14, 14, 13, 13, 12, 12, 11, 10, 10, 10,
    ]  # fmt: skip
    assert "".join(sent or "." for _, sent in seen) == "NNR.N.N.N.N.N.N.N..NN"
    flags, _ = talk.hear(22, (22, 23))
    assert "ended" in flags
    assert talk.window == (10, 10)


def test_fifteen_losses_in_twenty() -> None:
    """Below ssthresh as much leaves as arrives, and one more when an ACK tells that all is going well."""
    talk = Conversation(20)
    seen = [(talk.hear(0, (15, 16 + i))[1], talk.sender.cwnd) for i in range(5)]
    assert seen == [("N", 20), ("N", 20), ("R", 5), ("R", 5), ("R", 5)]
    talk.ms = 200
    seen = [(talk.hear(1 + i, (15, 20))[1], talk.sender.cwnd) for i in range(3)]
    assert seen == [("RR", 6), ("RR", 7), ("RR", 8)]


def test_no_more_leaves_than_ssthresh_allows() -> None:
    talk = Conversation(20)
    talk.sender.cut = 4
    for i in range(3):
        talk.hear(0, (15, 16 + i))
    assert (talk.sender.in_flight, talk.window) == (5, (5, 4))
    talk.ms = 200
    talk.hear(1, (15, 18))
    assert talk.sender.cwnd == 4


def test_the_reduction_is_of_what_can_still_arrive() -> None:
    """RecoverFS: what was in flight, without what had been SACKed before: RFC 9937 section 6."""
    talk = Conversation(20)
    talk.hear(0, (17, 19))
    assert talk.next == 22
    talk.hear(0, (17, 20))
    assert talk.state == "recovery"
    assert talk.sender.recovery_state["recover_fs"] == 20


# Loss once in a window: RFC 5681, 6675


def test_with_sack_the_third_segment_sacked_tells_of_the_loss() -> None:
    talk = Conversation(10)
    states = [(talk.hear(0, (1, 2 + i))[0], talk.state) for i in range(3)]
    assert states == [(set(), "disorder"), (set(), "disorder"), ({"reduce"}, "recovery")]
    assert talk.sender.recovery_state["high_seq"] == at(12)


def test_three_in_one_ack_are_three() -> None:
    """RFC 6675 section 4, IsLost(): it counts what was SACKed, not ACKs."""
    talk = Conversation(10)
    assert talk.hear(0, (1, 4)) == ({"reduce"}, "RN")


def test_more_losses_in_the_window_reduce_no_more() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 4))
    for i in range(5, 10):
        assert "reduce" not in talk.hear(0, (1, 4), (5, i + 1))[0]
    assert talk.window[1] == 5
    assert talk.sender.counters["lost_out"] == 2


def test_a_loss_in_the_next_window_does() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 4))
    talk.ms += 100
    flags, _ = talk.hear(10)
    assert (talk.state, "ended" in flags) == ("open", True)
    talk.sender.cut = 3
    flags, _ = talk.hear(10, (11, 14))
    assert (flags, talk.state, talk.sender.ssthresh) == ({"reduce"}, "recovery", 3)


def test_loss_that_a_timer_tells_of() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 2), fill=False)
    assert talk.told["wait_ns"] == 25 * MS
    talk.ms += 24.9
    assert talk.sender.reordered(talk.now)["newly_lost"] == 0
    talk.ms += 0.1
    told = talk.sender.reordered(talk.now)
    assert (told["newly_lost"], told["flags"], talk.state) == (1, {"reduce"}, "recovery")
    assert talk.fill() == "R"


def test_ssthresh_is_reached_at_the_end() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 4))
    talk.hear(4)
    assert talk.state == "recovery"
    talk.hear(10)
    assert (talk.state, talk.window) == ("open", (5, 5))


# Without SACK: RFC 3042, 5681, 6582


def test_limited_transmit() -> None:
    """RFC 3042: each of the first two duplicate ACKs lets something new leave, the third what is lost."""
    talk = Conversation(10, sack=False)
    assert [talk.hear(0) for _ in range(3)] == [(set(), "N"), (set(), "N"), ({"reduce"}, "R")]
    assert talk.sender.counters["dupacks"] == 3


@pytest.mark.parametrize("acked", [0, 1])
def test_what_is_no_duplicate_ack(acked: int) -> None:
    talk = Conversation(10, sack=False)
    for i in range(5):
        talk.hear(acked * (i + 1), duplicate=bool(acked))
    assert (talk.state, talk.sender.counters["dupacks"]) == ("open", 0)


def test_a_partial_ack_tells_of_the_next_loss() -> None:
    """RFC 6582 section 3.2 step 3: and does not reduce again. Of ten the first and the fifth are lost."""
    talk = Conversation(10, sack=False)
    for _ in range(8):
        talk.hear(0)
    talk.ms = 200
    flags, sent = talk.hear(4)
    assert ("reduce" in flags, sent[:1], talk.state) == (False, "R", "recovery")
    assert talk.sender.listed[0][3] == "LRE"


def test_without_sack_recovery_lasts_until_something_beyond_it_is_acknowledged() -> None:
    """RFC 6582 section 4.1: duplicate ACKs of what was sent for nothing would begin another."""
    talk = Conversation(10, sack=False)
    for _ in range(3):
        talk.hear(0)
    end = talk.next
    talk.ms = 200
    flags, sent = talk.hear(end - 1)
    assert talk.state == "recovery"
    assert "N" in sent
    assert "R" not in talk.hear(end)[1]  # what left behind it is not lost
    assert (talk.state, talk.sender.counters["lost_out"]) == ("recovery", 0)
    talk.ms += 100
    flags, _ = talk.hear(end + 1)
    assert ("ended" in flags, talk.state) == (True, "open")


def test_what_duplicate_acks_told_arrives_once() -> None:
    talk = Conversation(10, sack=False)
    for _ in range(3):
        talk.hear(0)
    assert talk.sender.counters["delivered"] == 3
    talk.ms = 200
    talk.hear(10)
    assert talk.sender.counters["delivered"] == 10


def test_no_more_duplicate_acks_than_segments_count() -> None:
    talk = Conversation(3, sack=False)
    talk.room = 3
    for _ in range(20):
        talk.hear(0)
    assert talk.sender.counters["dupacks"] == 2
    assert talk.sender.in_flight <= 3


# Undo


@pytest.mark.parametrize(("echo_ms", "undone"), [(102.9, True), (103, False)])
def test_an_echo_from_before_the_retransmission_undoes_recovery(echo_ms: float, undone: bool) -> None:
    """The segment sent again left at 103 ms; what is acknowledged left before that: RFC 3522."""
    talk = Conversation(10)
    for i in range(3):
        talk.hear(0, (1, 2 + i))
    assert (talk.ms, talk.window[1]) == (103, 5)
    flags, _ = talk.hear(talk.next, echo_ns=1000 * MS + round(echo_ms * MS))
    assert ("undone" in flags, talk.state) == (undone, "open")
    assert talk.window == ((10, INFINITE) if undone else (5, 5))


def test_ecn_is_not_undone() -> None:
    talk = Conversation(10)
    for i in range(3):
        talk.hear(0, (1, 2 + i), ece=i == 2)
    flags, _ = talk.hear(talk.next, echo_ns=0)
    assert "undone" not in flags
    assert talk.window[1] == 5


def test_a_partial_ack_with_an_old_echo_sends_nothing_again() -> None:
    """While what was sent again for nothing is on its way, only what is new leaves."""
    talk = Conversation(10)
    for i in range(3):
        talk.hear(0, (2, 3 + i))
    assert talk.sender.counters["lost_out"] == 2
    flags, _ = talk.hear(1, (2, 5), echo_ns=1000 * MS)
    assert "undone" in flags
    assert (talk.sender.counters["lost_out"], talk.state, talk.sender.cwnd) == (0, "disorder", 10)


def test_recovery_is_undone_when_all_that_was_sent_again_is_told_to_have_come_twice() -> None:
    talk = Conversation(10)
    for i in range(3):
        talk.hear(0, (2, 3 + i))
    talk.ms = 190
    assert talk.sender.resend(talk.now) == at(1)
    talk.hear(5)
    assert talk.window[1] == 5
    assert "undone" not in talk.hear(5, (0, 1))[0]
    assert "undone" in talk.hear(5, (1, 2))[0]
    assert talk.window == (10, INFINITE)


def test_a_dsack_of_what_was_sent_before_recovery_undoes_nothing() -> None:
    talk = Conversation(10)
    talk.sender.lose(at(0))
    talk.sender.resend(talk.now)
    talk.hear(1)
    for i in range(3):
        talk.hear(1, (2, 3 + i))
    assert talk.state == "recovery"
    assert talk.sender.recovery_state["undo_retrans"] == 1
    talk.hear(1, (0, 1), (2, 5))
    assert talk.sender.recovery_state["undo_retrans"] == 1


def test_an_undo_after_recovery_is_one_too() -> None:
    """The DSACK comes when all is over already."""
    talk = Conversation(10)
    for i in range(3):
        talk.hear(0, (1, 2 + i))
    talk.hear(talk.next)
    assert (talk.state, talk.window) == ("open", (5, 5))
    flags, _ = talk.hear(12, (0, 1))
    assert "undone" in flags
    assert talk.window == (10, INFINITE)


# The RTO


def test_after_an_rto_one_segment_leaves_and_nothing_is_in_flight() -> None:
    talk = Conversation(10)
    assert talk.expire()
    assert (talk.window, talk.state, talk.sender.in_flight) == ((1, 5), "loss", 0)
    assert talk.fill() == "R"


def test_ssthresh_is_reduced_once_in_a_window() -> None:
    talk = Conversation(10)
    assert talk.expire()
    talk.fill()
    talk.sender.cut = 2
    assert not talk.expire(again=True)
    assert talk.window == (1, 5)


def test_nor_when_fast_recovery_has_reduced_it() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 4))
    talk.sender.cut = 2
    assert not talk.expire()
    assert (talk.window, talk.state) == ((1, 5), "loss")


def test_slow_start_is_congestion_controls_in_loss() -> None:
    talk = Conversation(10)
    talk.expire()
    talk.fill()
    talk.ms += 100
    talk.hear(1)
    assert talk.told["grows"]


# F-RTO: RFC 5682 section 3.1; without SACK section 2.1


@pytest.mark.parametrize("sack", [True, False])
def test_an_rto_is_spurious_when_what_was_not_sent_again_arrives(sack: bool) -> None:
    talk = Conversation(10, sack=sack)
    talk.expire()
    assert talk.fill() == "R"
    talk.sender.cwnd = 2  # as congestion control lets it grow upon the ACK
    flags, sent = talk.hear(1)
    assert (flags, sent) == ({"new_only"}, "NN")
    flags, _ = talk.hear(2)
    assert flags >= {"undone", "ended"}
    assert (talk.state, talk.window) == ("open", (10, INFINITE))
    assert talk.sender.counters["lost_out"] == 0


@pytest.mark.parametrize("sack", [True, False])
def test_an_rto_is_right_when_what_is_new_arrives_out_of_order(sack: bool) -> None:
    talk = Conversation(10, sack=sack)
    talk.expire()
    talk.fill()
    talk.ms += 100
    talk.sender.cwnd = 2
    flags, sent = talk.hear(1)
    assert (flags, sent) == ({"new_only"}, "NN")
    talk.ms += 100
    talk.sender.cwnd = 3
    flags, sent = talk.hear(1, *[(10, 11)] if sack else [])
    assert "undone" not in flags
    assert (talk.state, sent[:1], talk.window[1]) == ("loss", "R", 5)


def test_with_nothing_new_to_send_frto_is_given_up() -> None:
    talk = Conversation(10)
    talk.room = 10
    talk.expire()
    talk.fill()
    talk.ms += 100
    talk.sender.cwnd = 2
    assert talk.hear(1) == (set(), "RR")
    assert talk.state == "loss"


def test_frto_is_not_tried_when_fast_recovery_was_going_on() -> None:
    talk = Conversation(10)
    talk.hear(0, (1, 4))
    talk.expire()
    talk.fill()
    talk.ms += 100
    assert "new_only" not in talk.hear(1, (1, 4))[0]


def test_a_sack_of_what_was_not_sent_again_is_enough() -> None:
    talk = Conversation(10)
    talk.expire()
    talk.fill()
    flags, _ = talk.hear(0, (3, 4))
    assert flags >= {"undone", "ended"}
    assert (talk.state, talk.sender.counters["lost_out"], talk.sender.cwnd) == ("disorder", 0, 10)


def test_an_echo_from_before_the_rto_tells_so_at_once() -> None:
    talk = Conversation(10)
    talk.expire()
    talk.fill()
    flags, _ = talk.hear(1, echo_ns=1000 * MS)
    assert flags >= {"undone", "ended"}
    assert talk.window == (10, INFINITE)


def test_loss_ends_when_all_of_it_is_acknowledged() -> None:
    talk = Conversation(10)
    talk.room = 10
    talk.expire()
    talk.fill()
    talk.ms += 100
    talk.hear(1)
    talk.ms += 100
    talk.hear(9)
    assert talk.state == "loss"
    talk.hear(10)
    assert (talk.state, talk.window) == ("open", (1, 5))


def test_a_retransmission_lost_after_an_rto_begins_a_recovery() -> None:
    """As Linux, FLAG_LOST_RETRANS."""
    talk = Conversation(10)
    talk.room = 10
    talk.hear(0, fill=False)
    talk.expire()
    talk.sender.cwnd = 3
    assert talk.fill() == "RRR"
    talk.ms += 200
    flags, _ = talk.hear(0, (2, 3))
    assert (flags, talk.state) == ({"reduce"}, "recovery")


# ECN, and paths that shrink


def test_ecn_reduces_once_in_a_window_and_without_retransmission() -> None:
    talk = Conversation(10)
    flags, sent = talk.hear(1, ece=True)
    assert (talk.state, sent, talk.window) == ("cwr", "N", (10, 5))
    talk.hear(2, ece=True)
    talk.hear(9)
    assert talk.state == "cwr"
    talk.hear(10)
    assert talk.state == "cwr"
    flags, _ = talk.hear(11)
    assert (talk.state, talk.window, "ended" in flags) == ("open", (5, 5), True)


def test_a_loss_while_ecn_reduces_does_not_reduce_again() -> None:
    talk = Conversation(10)
    talk.hear(1, ece=True)
    talk.sender.cut = 2
    flags, _ = talk.hear(1, (2, 5))
    assert (flags, talk.state, talk.window[1]) == (set(), "recovery", 5)


def test_a_path_that_shrinks_is_no_congestion() -> None:
    talk = Conversation(10)
    talk.sender.shrink(500)
    assert (talk.state, talk.sender.cwnd, talk.sender.in_flight) == ("loss", 10, 0)
    assert talk.sender.ssthresh == INFINITE
    assert talk.fill() == "R" * 10


def test_what_acknowledges_what_was_never_sent_changes_nothing() -> None:
    talk = Conversation(10)
    assert talk.hear(11, (1, 4)) == (set(), "")
    assert (talk.state, talk.sender.counters["sacked_out"]) == ("open", 0)


# What Linux tells, and hostile peers


def test_states_are_those_of_tcp_info() -> None:
    assert probe.STATES == {0: "open", 1: "disorder", 2: "cwr", 3: "recovery", 4: "loss"}


@pytest.mark.parametrize("sack", [True, False])
def test_ten_thousand_hostile_acks(sack: bool) -> None:
    """Whatever is said, nothing is in flight that was not sent, and what an ACK costs is what it tells."""
    chance = random.Random(2)
    talk = Conversation(500, sack=sack)
    talk.sender.cut = 100
    for _ in range(10_000):
        talk.ms += chance.choice((0, 1, 30))
        una = talk.sender.counters["una"]
        ack = (una + chance.choice((0, 0, 0, 0, -1, 1, 500, 3000, 1 << 31))) & 0xFFFFFFFF
        starts = [(una + chance.randrange(-2000, 600_000)) & 0xFFFFFFFF for _ in range(4)]
        blocks = [
            (start, (start + chance.choice((1, 1000, 2500, 100_000, -7))) & 0xFFFFFFFF) for start in starts
        ]
        echo_ns = talk.now - chance.choice((0, 500)) * MS
        ece = chance.random() < 0.01
        told = talk.sender.hear(ack, talk.now, blocks if sack else [], echo_ns, ece=ece)
        talk.fill(again="new_only" not in told["flags"])
        counters = talk.sender.counters
        assert talk.sender.in_flight <= 2 * counters["packets_out"]
        assert counters["sacked_out"] + counters["lost_out"] <= counters["packets_out"]
        assert counters["retrans_out"] <= counters["packets_out"]
        assert talk.sender.cwnd <= 2000
        if chance.random() < 0.002:
            talk.expire(again=chance.random() < 0.5)
    assert talk.sender.listed
    assert talk.sender.records.in_use <= counters["packets_out"]
    talk.sender.hear(counters["nxt"], talk.now)
    assert talk.sender.records.in_use == 0
