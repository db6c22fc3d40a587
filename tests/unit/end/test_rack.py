"""Loss by time and the probe for a tail, by the steps and the examples of RFC 8985."""

from __future__ import annotations

import pytest

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 2500
MSS = 1000
MS = 1_000_000
START = 1000 * MS
RTT = 100 * MS


def at(segment: float) -> int:
    """Where a segment begins; the first is 0."""
    return (ISN + int(segment * MSS)) & 0xFFFFFFFF


class Conversation:
    """Segments sent at given milliseconds, over a path of 100 ms."""

    def __init__(self, *sent_ms: float, room: int = 1000) -> None:
        self.sender = probe.Sender(ISN, MSS, probe.Records(room))
        self.sender.min_rtt_ns = self.sender.srtt_ns = RTT
        for i, ms in enumerate(sent_ms):
            assert self.sender.sent(at(i + 1), START + round(ms * MS))

    def ack(self, ms: float, number: float, *blocks: tuple[float, float], **more: int) -> dict:
        """RACK alone hears an ACK."""
        more.setdefault("min_rtt_ns", self.sender.min_rtt_ns)
        told = self.sender.ack(
            at(number), START + round(ms * MS), [(at(a), at(b)) for a, b in blocks], **more
        )
        self.sender.rack_ack()
        return told

    def detect(self, ms: float, window: int = 25 * MS) -> tuple[int, int]:
        return self.sender.rack_detect(window, START + round(ms * MS))

    @property
    def lost(self) -> list[int]:
        return [
            i
            for i in range(50)
            for seq, _, _, letters, _ in self.sender.listed
            if seq == at(i) and "L" in letters
        ]

    @property
    def flags(self) -> set[str]:
        return self.sender.rack_state["flags"]


def test_both_are_small() -> None:
    assert probe.RACK_SIZES <= (32, 48)


# Section 6.2 steps 1 and 2


def test_what_was_sent_last_of_all_that_arrived_is_remembered() -> None:
    talk = Conversation(0, 1, 2)
    talk.ack(101, 0, (1, 2))
    state = talk.sender.rack_state
    assert (state["sent_ns"], state["end"], state["rtt_ns"]) == (START + MS, at(2), 100 * MS)
    talk.ack(130, 1, (1, 2))
    state = talk.sender.rack_state
    assert (state["sent_ns"], state["end"], state["rtt_ns"]) == (START + MS, at(2), 130 * MS)


def test_of_those_sent_in_one_nanosecond_the_one_behind_was_sent_last() -> None:
    talk = Conversation(0, 0, 0, 0)
    talk.ack(100, 0, (1, 2))
    assert talk.detect(126) == (1, 0)
    assert talk.lost == [0]


def test_what_left_again_by_the_same_reading_of_the_clock_left_later() -> None:
    """What is new arrives, and tells of those before it, but nothing of the first, which left behind it."""
    talk = Conversation(0, 1, 2)
    talk.sender.lose(at(0))
    assert talk.sender.sent(at(4), START + 100 * MS)
    talk.sender.retransmitted(at(0), START + 100 * MS)
    talk.ack(200, 0, (3, 4))
    assert talk.detect(200, 0)[0] == 2
    assert talk.sender.next_lost == at(1)
    assert talk.sender.in_order_of_time == [at(0)]


def test_an_early_ack_of_a_retransmission_is_of_the_original() -> None:
    talk = Conversation(0, 1)
    talk.sender.lose(at(0))
    talk.sender.retransmitted(at(0), START + 90 * MS)
    talk.ack(189.9, 1)
    assert talk.flags == set()
    talk.sender.lose(at(1))
    talk.sender.retransmitted(at(1), START + 190 * MS)
    talk.ack(290, 2)
    assert talk.flags == {"knows"}


# Step 4


@pytest.mark.parametrize(("sacked", "recovering", "window"), [(2, False, 25), (3, False, 0), (2, True, 0)])
def test_without_reordering_three_segments_sacked_are_enough(
    sacked: int, recovering: bool, window: int
) -> None:
    talk = Conversation(*range(6))
    talk.ack(110, 0, (1, 1 + sacked))
    assert talk.sender.rack_window(recovering) == window * MS


def test_with_reordering_the_window_stays_open() -> None:
    talk = Conversation(*range(6))
    talk.ack(110, 0, (3, 4))
    talk.ack(111, 0, (2, 4))
    assert talk.flags == {"knows", "reordering"}
    talk.ack(112, 0, (1, 5))
    assert talk.sender.rack_window() == talk.sender.rack_window(True) == 25 * MS


@pytest.mark.parametrize(("srtt_ms", "window_ms"), [(100, 25), (25, 25), (24, 24), (0, 0)])
def test_the_window_is_no_longer_than_srtt(srtt_ms: int, window_ms: int) -> None:
    talk = Conversation(0)
    talk.sender.srtt_ns = srtt_ms * MS
    assert talk.sender.rack_window() == window_ms * MS


def dsack(talk: Conversation, ms: float, segment: int) -> None:
    """The segment is sent again though it arrived, and the receiver says so."""
    talk.sender.retransmitted(at(segment), START + round(ms * MS))
    talk.ack(ms + 100, segment + 1, (segment, segment + 1))


def test_each_round_with_a_dsack_grows_the_window_by_a_quarter_of_min_rtt() -> None:
    talk = Conversation(*range(6))
    windows = []
    for i in range(5):
        dsack(talk, 10 * i, i)
        talk.sender.sent(at(7 + i), START + 200 * MS)
        windows.append(talk.sender.rack_window() // MS)
    assert windows == [50, 50, 50, 50, 50]  # 6 segments were in flight when the first came
    dsack(talk, 300, 5)
    assert talk.sender.rack_window() == 75 * MS
    talk.sender.min_rtt_ns = 40 * MS
    assert talk.sender.rack_window() == 30 * MS


def test_sixteen_recoveries_without_a_dsack_and_the_window_is_small_again() -> None:
    talk = Conversation(0, 1)
    dsack(talk, 1, 0)
    for _ in range(15):
        talk.sender.rack_recovered()
    assert talk.sender.rack_window() == 50 * MS
    talk.sender.rack_recovered()
    assert talk.sender.rack_window() == 25 * MS
    talk.sender.rack_recovered()
    assert talk.sender.rack_window() == 25 * MS


def test_the_window_cannot_overflow() -> None:
    talk = Conversation(0)
    talk.sender.srtt_ns = 1 << 62
    for i in range(300):
        dsack(talk, 10 * i, i)
        talk.sender.sent(at(i + 2), START + 10 * i * MS)
    assert talk.sender.rack_window() == 255 * 25 * MS


# Step 5


@pytest.mark.parametrize(("ms", "lost", "wait_ms"), [(124.9, 0, 3.1), (125, 1, 3), (126, 2, 2), (127, 3, 0)])
def test_what_was_sent_before_is_lost_when_the_window_has_passed(
    ms: float, lost: int, wait_ms: float
) -> None:
    talk = Conversation(0, 1, 2, 3, 4)
    talk.ack(103, 0, (3, 4))
    assert talk.detect(ms) == (lost, round(wait_ms * MS))
    assert talk.lost == list(range(lost))


def test_no_timer_is_shorter_than_two_milliseconds() -> None:
    talk = Conversation(0, 0.5)
    talk.ack(100.5, 0, (1, 2))
    assert talk.detect(124.9) == (0, 2 * MS)


def test_what_was_sent_later_is_not_looked_at() -> None:
    talk = Conversation(0, 1, 2)
    talk.ack(101, 0, (1, 2))
    assert talk.detect(10_000) == (1, 0)
    assert talk.lost == [0]


def test_nothing_is_lost_before_anything_arrived() -> None:
    talk = Conversation(0, 1, 2)
    assert talk.detect(10_000) == (0, 0)


def test_section_3_3_1_reordering_within_the_window() -> None:
    """P0, P1, P2; P1 overtakes P0 and its ACK comes first: the window gives P0 time."""
    talk = Conversation(0, 1, 2)
    talk.ack(101, 0, (1, 2))
    assert talk.detect(101) == (0, 25 * MS)
    talk.ack(104, 2)
    assert talk.detect(104) == (0, 0)
    assert talk.lost == []


def test_section_3_3_2_a_retransmission_that_is_lost_is_found_by_what_was_sent_behind_it() -> None:
    """No three duplicate ACKs could tell of it."""
    talk = Conversation(0, 1, 2, 3)
    talk.ack(103, 0, (1, 4))
    assert talk.detect(103, 0) == (1, 0)
    talk.sender.retransmitted(at(0), START + 104 * MS)
    assert talk.sender.sent(at(5), START + 105 * MS)
    talk.ack(205, 0, (1, 5))
    assert talk.detect(205, 0) == (1, 0)
    assert talk.sender.next_lost == at(0)


def test_a_retransmission_tells_of_what_was_sent_before_it() -> None:
    """A tail of which the last but one and the last are lost: the probe's SACK finds the others."""
    talk = Conversation(*range(6))
    talk.ack(102, 3)
    talk.sender.retransmitted(at(5), START + 300 * MS)
    talk.ack(400, 3, (5, 6))
    assert talk.detect(400) == (2, 0)
    assert talk.lost == [3, 4]


def test_section_6_3_an_rto_spares_what_was_sent_lately() -> None:
    talk = Conversation(0, 1, 250)
    talk.ack(100, 0, (1, 2))
    talk.sender.expire(START + 300 * MS)
    assert talk.lost == [0]
    assert talk.sender.cwnd == 2


@pytest.mark.parametrize(("ms", "lost"), [(374.9, [0]), (375, [0, 2])])
def test_section_6_3_at_both_sides_of_the_bound(ms: float, lost: list[int]) -> None:
    talk = Conversation(0, 1, 250)
    talk.ack(101, 0, (1, 2))
    talk.sender.expire(START + round(ms * MS))
    assert talk.lost == lost


def test_an_rto_before_anything_arrived_loses_all() -> None:
    talk = Conversation(0, 1, 250)
    talk.sender.expire(START + 251 * MS)
    assert talk.lost == [0, 1, 2]
    assert talk.sender.cwnd == 1


def test_a_clock_that_is_set_back_makes_nothing_lost() -> None:
    """What was sent last before that would for ever have been sent after all that is sent since."""
    talk = Conversation(5000)
    talk.ack(5100, 1)
    for i in range(3):
        assert talk.sender.sent(at(2 + i), START + i * MS)
    talk.ack(101, 1, (2, 3))
    assert talk.detect(110) == (0, 16 * MS)
    assert talk.sender.rack_state["sent_ns"] == START + MS


# Section 7.2: when to send a probe


@pytest.mark.parametrize(
    ("segments", "srtt_ms", "rto_left_ms", "wait_ms"),
    [
        (0, 100, 0, 0),
        (1, 100, 0, 400),
        (2, 100, 0, 202),
        (2, 0, 0, 1000),
        (1, 0, 0, 1000),
        (2, 100, 202, 202),
        (2, 100, 201, 201),
        (2, 100, 1, 2),
        (2, 0.001, 0, 2.002),
    ],
)
def test_when_a_probe_is_due(segments: int, srtt_ms: float, rto_left_ms: int, wait_ms: float) -> None:
    talk = Conversation(*[0] * segments)
    talk.sender.srtt_ns = round(srtt_ms * MS)
    assert talk.sender.probe_wait_ns(200 * MS, rto_left_ms * MS) == round(wait_ms * MS)


def test_no_probe_while_one_is_out_or_something_is_sacked() -> None:
    talk = Conversation(0, 1, 2)
    talk.ack(101, 0, (1, 2))
    assert talk.sender.probe_wait_ns() == 0
    talk = Conversation(0, 1, 2)
    talk.sender.probe(START + 300 * MS)
    assert talk.sender.probe_wait_ns() == 0


# Section 7.3: what a probe is


def test_a_probe_is_the_last_segment() -> None:
    talk = Conversation(0, 1)
    assert talk.sender.sent(at(6.5), START + 2 * MS)
    assert talk.sender.probe(START + 300 * MS) == at(6)
    assert (talk.sender.in_flight, talk.sender.counters["retrans_out"]) == (8, 1)


def test_when_the_pool_is_used_up_a_probe_is_the_last_record() -> None:
    talk = Conversation(room=1)
    assert talk.sender.sent(at(3), START)
    assert talk.sender.probe(START + 300 * MS) == at(0)
    assert talk.sender.counters["retrans_out"] == 3


# Section 7.4: what came of it


def probed(*, new: bool = False) -> Conversation:
    talk = Conversation(0, 1, 2)
    talk.sender.hear(at(1), START + 100 * MS)
    talk.sender.probe(START + 300 * MS, at(4) if new else None)
    return talk


def test_a_probe_of_new_data_repairs_nothing() -> None:
    talk = probed(new=True)
    assert talk.sender.hear(at(4), START + 400 * MS)["flags"] == set()
    assert ("probe" in talk.flags, talk.sender.cwnd) == (False, 10)


def test_case_1_a_dsack_of_the_probe_tells_that_nothing_was_lost() -> None:
    talk = probed()
    talk.sender.hear(at(3), START + 310 * MS)
    assert "probe" in talk.flags
    talk.sender.hear(at(3), START + 400 * MS, [(at(2), at(3))])
    assert "probe" not in talk.flags
    assert talk.sender.cwnd == 10
    assert "round" not in talk.flags  # and nothing of reordering


def test_a_dsack_of_something_else_does_not() -> None:
    talk = probed()
    talk.sender.retransmitted(at(1), START + 301 * MS)
    talk.sender.hear(at(3), START + 400 * MS, [(at(1), at(2))])
    assert talk.flags >= {"probe", "round"}


def test_case_2_without_sack_a_duplicate_ack_tells_so() -> None:
    talk = probed()
    talk.sender.hear(at(3), START + 310 * MS)
    assert talk.sender.sent(at(4), START + 320 * MS)
    talk.sender.hear(at(3), START + 400 * MS, duplicate=False)
    assert "probe" in talk.flags
    talk.sender.hear(at(3), START + 400 * MS)
    assert ("probe" in talk.flags, talk.sender.cwnd) == (False, 10)


def test_a_probe_that_repaired_a_loss_is_answered_as_a_loss() -> None:
    """Section 7.4.2: something behind it is acknowledged, and no ACK told that it arrived twice."""
    talk = probed()
    talk.sender.hear(at(3), START + 400 * MS)
    assert "probe" in talk.flags
    assert talk.sender.sent(at(4), START + 401 * MS)
    told = talk.sender.hear(at(4), START + 501 * MS)
    assert "reduce" in told["flags"]
    assert (talk.sender.cwnd, talk.sender.ssthresh, talk.sender.state) == (5, 5, "open")
    assert "probe" not in talk.flags


def test_a_probe_that_arrives_tells_of_the_losses_before_it() -> None:
    """Section 7.4.1: then it is fast recovery that reduces."""
    talk = Conversation(0, 1, 2, 3)
    talk.sender.hear(at(1), START + 100 * MS)
    talk.sender.probe(START + 300 * MS)
    told = talk.sender.hear(at(1), START + 400 * MS, [(at(3), at(4))])
    assert (told["newly_lost"], talk.sender.state, talk.lost) == (2, "recovery", [1, 2])
    assert "probe" not in talk.flags


def test_an_rto_forgets_the_probe() -> None:
    talk = probed()
    talk.sender.expire(START + 700 * MS)
    assert "probe" not in talk.flags
