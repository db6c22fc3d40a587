"""What is in flight at the bounds: of blocks, of numbers, of segments, of the pool, and against hostile receivers."""

from __future__ import annotations

import random

import pytest

probe = pytest.importorskip("tests.native._probe_scoreboard", reason="needs the native test probes")

ISN = (1 << 32) - 2500
MSS = 1000
MS = 1_000_000


def at(offset: int) -> int:
    """The sequence number so many bytes behind the first."""
    return (ISN + offset) & 0xFFFFFFFF


def span(start: int, stop: int) -> tuple[int, int]:
    return at(start), at(stop)


class Flight:
    """A board with so many segments in flight, each sent by itself a millisecond after the one before."""

    def __init__(self, segments: int, mss: int = MSS, room: int = 1000) -> None:
        self.records = probe.Records(room)
        self.board = probe.Board(ISN, mss, self.records)
        self.now = 1000 * MS
        for i in range(segments):
            assert self.board.sent(at((i + 1) * mss), self.now + i * MS)
        self.now += 50 * MS

    def ack(self, offset: int, *blocks: tuple[int, int], **more: int) -> dict:
        return self.board.ack(at(offset), self.now, [span(*block) for block in blocks], **more)

    @property
    def letters(self) -> list[str]:
        return [letters for _, _, _, letters, _ in self.board.listed]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """packets_out, sacked_out, lost_out, retrans_out."""
        counters = self.board.counters
        return tuple(counters[name] for name in ("packets_out", "sacked_out", "lost_out", "retrans_out"))


def test_an_end_pays_little() -> None:
    board, record = probe.SIZES
    assert board <= 128
    assert record <= 72


@pytest.mark.parametrize(
    ("length", "flags", "segments"),
    [
        (1, 0, 1),
        (MSS, 0, 1),
        (MSS + 1, 0, 2),
        (44 * MSS, 0, 44),
        (1, probe.SYN, 1),
        (1, probe.FIN, 1),
        (MSS + 1, probe.FIN, 1),
        (MSS + 2, probe.SYN | probe.FIN, 1),
        (MSS + 3, probe.SYN | probe.FIN, 2),
    ],
)
def test_syn_and_fin_ride_on_a_segment(length: int, flags: int, segments: int) -> None:
    flight = Flight(0)
    assert flight.board.sent(at(length), flight.now, flags)
    assert flight.counts == (segments, 0, 0, 0)
    assert flight.ack(length)["delivered"] == segments
    assert flight.records.in_use == 0


def test_what_cannot_be_remembered_is_not_sent() -> None:
    flight = Flight(2, room=2)
    assert not flight.board.sent(at(3 * MSS), flight.now)
    flight.ack(MSS)
    assert flight.board.sent(at(3 * MSS), flight.now)
    assert flight.counts == (2, 0, 0, 0)


@pytest.mark.parametrize(("more", "sent"), [(0, True), (1, False)])
def test_no_more_than_any_window_is_in_flight(more: int, sent: bool) -> None:
    flight = Flight(0)
    assert flight.board.sent(at(probe.MOST_IN_FLIGHT + more), flight.now) is sent


@pytest.mark.parametrize("end", [0, -1, 1 << 31])
def test_nothing_is_sent_backwards(end: int) -> None:
    flight = Flight(0)
    assert not flight.board.sent(at(end), flight.now)
    assert flight.board.listed == []


def test_ends_that_share_a_pool_give_back_what_is_theirs() -> None:
    records = probe.Records(10)
    boards = [probe.Board(ISN, MSS, records) for _ in range(2)]
    for i in range(1, 6):
        for board in boards:
            assert board.sent(at(i * MSS), i * MS)
    assert not boards[0].sent(at(6 * MSS), 6 * MS)
    boards[0].close()
    assert (records.in_use, boards[0].listed) == (5, [])
    assert len(boards[1].listed) == 5
    boards[1].ack(at(5 * MSS), 50 * MS)
    assert records.in_use == 0


# Cumulative acknowledgement


def test_a_super_segment_shrinks_as_it_is_acknowledged() -> None:
    flight = Flight(0)
    assert flight.board.sent(at(5 * MSS), flight.now)
    said = [(MSS - 1, 0), (MSS, 1), (MSS + 1, 0), (4 * MSS, 3), (5 * MSS, 1)]
    assert [(offset, flight.ack(offset)["acked"]) for offset, _ in said] == said
    assert flight.records.in_use == 0


def test_an_ack_of_what_was_never_sent_is_not_believed() -> None:
    flight = Flight(3)
    told = flight.ack(3 * MSS + 1, (MSS, 2 * MSS))
    assert told["flags"] == {"beyond"}
    assert flight.counts == (3, 0, 0, 0)
    assert flight.ack(3 * MSS)["acked"] == 3


def test_an_old_ack_tells_by_its_blocks_only() -> None:
    flight = Flight(4)
    flight.ack(2 * MSS)
    told = flight.ack(MSS, (3 * MSS, 4 * MSS))
    assert (told["flags"] & {"advanced", "sacked"}, told["bytes"]) == ({"sacked"}, 0)
    assert flight.counts == (2, 1, 0, 0)


# Karn's rule, and which sample is whose


def test_rtt_is_that_of_the_first_and_of_the_last_that_arrived() -> None:
    told = Flight(3).ack(3 * MSS)
    assert (told["rtt_ns"], told["latest_rtt_ns"]) == (50 * MS, 48 * MS)


def test_what_was_sent_again_gives_no_rtt() -> None:
    flight = Flight(3)
    flight.board.lose(at(0))
    flight.board.retransmitted(at(0), flight.now)
    assert flight.ack(MSS)["rtt_ns"] == -1
    told = flight.ack(3 * MSS)
    assert (told["rtt_ns"], told["latest_rtt_ns"]) == (49 * MS, 48 * MS)


def test_what_is_sacked_gives_the_rtt_that_a_retransmission_cannot() -> None:
    flight = Flight(3)
    flight.board.lose(at(0))
    flight.board.retransmitted(at(0), flight.now)
    told = flight.ack(MSS, (2 * MSS, 3 * MSS))
    assert (told["rtt_ns"], told["latest_rtt_ns"], told["flags"] & {"again"}) == (48 * MS, 48 * MS, {"again"})


def test_a_clock_that_steps_back_gives_no_rtt() -> None:
    flight = Flight(1)
    flight.now = 0
    assert flight.ack(MSS)["rtt_ns"] == -1


def test_the_list_by_time_always_rises() -> None:
    flight = Flight(2)
    assert flight.board.sent(at(3 * MSS), 0)
    assert [sent_ns for *_, sent_ns in flight.board.listed] == [1000 * MS, 1001 * MS, 1001 * MS + 1]


# SACK blocks: RFC 2018, and what is wrong with them


@pytest.mark.parametrize(
    ("block", "bad"),
    [
        ((1000, 2000), 0),
        ((4000, 5000), 0),
        ((4000, 5001), 1),
        ((5000, 6000), 1),
        ((2000, 2000), 1),
        ((3000, 2000), 1),
        ((0, 1000), 1),  # begins at snd_una: that would have been acknowledged
        ((1, 1000), 0),  # no whole segment
        ((1000, 1000 + (1 << 31)), 1),
        ((1000 - (1 << 31), 2000), 1),
    ],
)
def test_blocks_are_within_what_is_in_flight(block: tuple[int, int], bad: int) -> None:
    flight = Flight(5)
    told = flight.ack(0, block)
    assert told["bad_blocks"] == bad
    assert flight.counts[0] == 5
    assert flight.counts[1] == (0 if bad or block[0] == 1 else 1)


def test_a_record_is_split_at_the_edges_of_a_block() -> None:
    flight = Flight(0)
    assert flight.board.sent(at(10 * MSS), flight.now)
    told = flight.ack(0, (3 * MSS, 5 * MSS), (7 * MSS, 10 * MSS))
    assert told["newly_sacked"] == 5
    assert [(seq, end, n) for seq, end, n, *_ in flight.board.listed] == [
        (at(start), at(stop), (stop - start) // MSS)
        for start, stop in [(0, 3000), (3000, 5000), (5000, 7000), (7000, 10000)]
    ]
    assert flight.letters == ["", "S", "", "S"]


@pytest.mark.parametrize(
    ("block", "sacked"),
    [
        ((999, 2001), [(1000, 2000)]),
        ((1000, 1999), []),
        ((1001, 2999), []),
        ((1001, 3000), [(2000, 3000)]),
        ((2000, 2500), [(2000, 2500)]),  # to the end
        ((2001, 2500), []),
    ],
)
def test_only_whole_segments_are_sacked(block: tuple[int, int], sacked: list[tuple[int, int]]) -> None:
    flight = Flight(0)
    end = 2500 if block[1] == 2500 else 4000
    assert flight.board.sent(at(end), flight.now)
    flight.ack(0, block)
    assert [(seq, stop) for seq, stop, _, letters, _ in flight.board.listed if "S" in letters] == [
        span(*piece) for piece in sacked
    ]


def test_a_fin_goes_with_the_last_of_the_data() -> None:
    flight = Flight(0)
    assert flight.board.sent(at(2 * MSS + 1), flight.now, probe.FIN)
    assert flight.ack(0, (MSS, 2 * MSS))["newly_sacked"] == 0
    assert flight.ack(0, (2 * MSS, 2 * MSS + 1))["newly_sacked"] == 0
    assert flight.ack(0, (MSS, 2 * MSS + 1))["newly_sacked"] == 1
    assert flight.counts == (2, 1, 0, 0)


def test_neighbours_that_are_sacked_become_one_record() -> None:
    flight = Flight(10)
    for i in (1, 3, 5, 7, 9, 8, 6, 4, 2):
        flight.ack(0, (i * MSS, (i + 1) * MSS))
    assert [(seq, n, letters) for seq, _, n, letters, _ in flight.board.listed] == [
        (at(0), 1, ""),
        (at(MSS), 9, "S"),
    ]
    assert flight.records.in_use == 2
    assert flight.ack(10 * MSS)["delivered"] == 1
    assert flight.records.in_use == 0


def test_a_pool_used_up_leaves_what_cannot_be_split_unsacked() -> None:
    flight = Flight(0, room=1)
    assert flight.board.sent(at(4 * MSS), flight.now)
    told = flight.ack(0, (MSS, 2 * MSS))
    assert (told["unsplit"], told["newly_sacked"], flight.counts) == (1, 0, (4, 0, 0, 0))
    flight.board.lose(at(0))
    assert not flight.board.split(at(0), 1)
    assert flight.counts == (4, 0, 4, 0)


# DSACK: the examples of RFC 2883 section 4, in units of 500 bytes


def resent(flight: Flight, *offsets: int) -> Flight:
    for offset in offsets:
        flight.board.retransmitted(at(offset), flight.now)
    return flight


def test_rfc_2883_4_1_1_a_duplicate_that_was_acknowledged() -> None:
    """3000-3499 and 3500-3999 came, their ACKs were lost, 3000-3499 came again: ACK 4000, SACK 3000-3500."""
    flight = resent(Flight(2, mss=500), 0)
    told = flight.ack(1000, (0, 500))
    assert told["flags"] >= {"dsack", "advanced"}
    assert (told["duplicates"], told["dsack_start"], told["dsack_end"]) == (1, at(0), at(500))
    assert (told["bad_blocks"], told["newly_sacked"]) == (0, 0)


def test_rfc_2883_4_1_2_a_duplicate_beside_a_hole() -> None:
    """ACK 4000, SACK 3000-3500, 4500-5000."""
    flight = resent(Flight(4, mss=500), 0)
    told = flight.ack(1000, (0, 500), (1500, 2000))
    assert (told["duplicates"], told["newly_sacked"], told["delivered"]) == (1, 1, 3)


def test_rfc_2883_4_2_1_a_duplicate_within_a_block() -> None:
    """ACK 4000, SACK 5000-5500, 4500-5500: the first is inside the second."""
    flight = resent(Flight(4, mss=500), 1000)
    told = flight.ack(500, (1500, 2000), (1000, 2000))
    assert (told["duplicates"], told["dsack_start"], told["newly_sacked"]) == (1, at(1500), 2)


def test_rfc_2883_4_3_a_duplicate_of_two_segments_of_which_one_was_acknowledged() -> None:
    """A DSACK is the first block only; one across the ACK is no stretch that was received twice."""
    flight = resent(Flight(4, mss=500), 0, 500)
    told = flight.ack(500, (0, 1000))
    assert (told["bad_blocks"], told["duplicates"], told["acked"]) == (1, 0, 1)


def test_a_dsack_of_the_same_stretch_as_the_block_behind_it() -> None:
    flight = resent(Flight(4), 2000)
    told = flight.ack(1000, (2000, 3000), (2000, 3000))
    assert (told["duplicates"], told["newly_sacked"]) == (1, 1)


@pytest.mark.parametrize(("twice", "duplicates", "bad"), [([], 0, 1), ([0], 1, 0)])
def test_no_more_can_be_duplicates_than_was_sent_again(twice: list[int], duplicates: int, bad: int) -> None:
    flight = resent(Flight(3), *twice)
    told = flight.ack(2000, (0, 1000))
    assert (told["duplicates"], told["bad_blocks"]) == (duplicates, bad)
    told = flight.ack(2000, (0, 1000))
    assert (told["duplicates"], told["bad_blocks"]) == (0, 1)


@pytest.mark.parametrize("block", [(1000, 0), (1000, 1000), (-2001, 1000)])
def test_a_dsack_of_nothing_or_of_more_than_ever_was_in_flight(block: tuple[int, int]) -> None:
    flight = resent(Flight(3), 0, 1000, 2000, 0, 1000, 2000)
    told = flight.ack(2000, block)
    assert (told["duplicates"], told["bad_blocks"]) == (0, 1)


# Reordering (RFC 8985 section 6.2 step 3)


def test_a_hole_that_fills_by_itself_was_reordering() -> None:
    flight = Flight(4)
    assert "reordered" not in flight.ack(0, (2000, 3000))["flags"]
    assert "reordered" in flight.ack(0, (1000, 3000))["flags"]
    assert "reordered" in flight.ack(3000)["flags"]


def test_blocks_of_one_ack_have_no_order() -> None:
    assert "reordered" not in Flight(6).ack(1000, (4000, 5000), (2000, 3000))["flags"]


def test_a_hole_that_a_retransmission_fills_was_a_loss() -> None:
    flight = Flight(3)
    flight.ack(0, (1000, 3000))
    flight.board.lose(at(0))
    flight.board.retransmitted(at(0), flight.now)
    assert "reordered" not in flight.ack(3000)["flags"]


# What arrived latest (RFC 8985 section 6.2 step 2)


@pytest.mark.parametrize(
    ("after_ms", "min_rtt_ms", "echo_ms", "counts"),
    [(20, 20, None, True), (19, 20, None, False), (20, 0, 0, True), (20, 0, -1, False)],
)
def test_an_ack_too_early_for_a_retransmission_is_of_the_original(
    after_ms: int, min_rtt_ms: int, echo_ms: int | None, counts: bool
) -> None:
    flight = resent(Flight(1), 0)
    sent_ns = flight.now
    flight.now += after_ms * MS
    echo_ns = probe.NEVER if echo_ms is None else sent_ns + echo_ms * MS
    told = flight.ack(1000, min_rtt_ns=min_rtt_ms * MS, echo_ns=echo_ns)
    assert ("latest" in told["flags"]) is counts
    if counts:
        assert (told["latest_sent_ns"], told["latest_end"]) == (sent_ns, at(1000))
        assert "latest_again" in told["flags"]


# Lost, and sent again


def test_lost_ones_are_sent_again_in_order_and_once() -> None:
    flight = Flight(5)
    for offset in (3000, 1000, 2000):
        assert flight.board.lose(at(offset)) == 1
        assert flight.board.lose(at(offset)) == 0
    assert flight.board.in_flight == 2
    order = []
    while (seq := flight.board.next_lost) is not None:
        order.append(seq)
        flight.board.retransmitted(seq, flight.now)
    assert order == [at(1000), at(2000), at(3000)]
    assert (flight.counts, flight.board.in_flight) == ((5, 0, 3, 3), 5)
    assert flight.board.in_order_of_time == [at(0), at(4000), *order]
    assert flight.board.lose(at(2000)) == 1
    assert (flight.counts, flight.board.in_flight, flight.board.next_lost) == ((5, 0, 3, 2), 4, at(2000))


def test_a_probe_is_in_flight_twice() -> None:
    flight = resent(Flight(2), 1000)
    assert (flight.counts, flight.board.in_flight) == ((2, 0, 0, 1), 3)
    assert flight.board.lose(at(1000)) == 1
    assert (flight.counts, flight.board.in_flight) == ((2, 0, 1, 0), 1)


def test_part_of_a_super_segment_is_sent_again() -> None:
    flight = Flight(0)
    assert flight.board.sent(at(5 * MSS), flight.now)
    flight.board.lose(at(0))
    assert flight.board.split(at(0), 2)
    flight.board.retransmitted(at(0), flight.now)
    assert (flight.counts, flight.board.next_lost) == ((5, 0, 5, 2), at(2 * MSS))


def test_a_time_out_keeps_what_was_sacked() -> None:
    flight = Flight(5)
    flight.ack(0, (2000, 3000))
    assert not flight.board.timeout()
    assert flight.letters == ["L", "L", "S", "L", "L"]
    assert (flight.board.in_flight, flight.board.in_order_of_time) == (0, [])


def test_a_time_out_spares_what_was_sent_lately() -> None:
    """RFC 8985 section 6.3: but never the first."""
    flight = Flight(4)
    flight.board.lose(at(0))
    flight.board.retransmitted(at(0), flight.now)
    assert not flight.board.timeout(1002 * MS)
    assert flight.letters == ["LE", "L", "L", ""]
    assert flight.counts == (4, 0, 3, 0)


def test_a_receiver_that_reneges_is_believed_nothing() -> None:
    """RFC 2018 section 8: the segment at the left edge of the window has been SACKed, and was thrown away."""
    flight = Flight(5)
    flight.ack(0, (1000, 3000), (4000, 5000))
    assert not flight.board.reneging
    flight.ack(1000)
    assert flight.board.reneging
    assert flight.letters == ["S", "", "S"]
    assert flight.board.timeout()
    assert flight.letters == ["L", "L", "L"]
    assert flight.counts == (4, 0, 4, 0)
    assert flight.board.counters["fack"] == at(1000)


@pytest.mark.parametrize(("mss", "lost", "packets"), [(500, 3, 6), (999, 3, 6), (1000, 0, 3), (2000, 0, 3)])
def test_what_no_longer_fits_the_path_is_lost(mss: int, lost: int, packets: int) -> None:
    flight = Flight(3)
    assert flight.board.resize(mss) == (packets if lost else 0)
    assert flight.counts == (packets, 0, packets if lost else 0, 0)
    assert flight.ack(3000)["acked"] == packets


# The delivery rate (draft-cheng-iccrg-delivery-rate-estimation section 3)


def test_each_record_knows_what_had_arrived_when_it_left() -> None:
    flight = Flight(2)
    told = flight.ack(1000)
    assert (told["rate_delivered"], told["rate_delivered_ns"], told["rate_first_sent_ns"]) == (
        0,
        1000 * MS,
        1000 * MS,
    )
    assert flight.board.sent(at(3000), flight.now)
    flight.board.app_limited()
    flight.now += 10 * MS
    assert flight.board.sent(at(4000), flight.now)
    flight.now += 40 * MS
    told = flight.ack(3000)
    assert (told["rate_delivered"], told["rate_delivered_ns"]) == (1, 1050 * MS)
    assert (told["rate_first_sent_ns"], told["rate_sent_ns"]) == (1000 * MS, 1050 * MS)
    assert "rate_limited" not in told["flags"]
    told = flight.ack(4000)
    assert "rate_limited" in told["flags"]
    assert flight.board.counters["delivered"] == 4
    assert flight.board.counters["app_limited"] == 0


# Hostile receivers


def test_ten_thousand_hostile_acks_cost_what_they_tell() -> None:
    """Each record looked at is one that changes, or one at an edge of a block."""
    chance = random.Random(1)
    flight = Flight(0, room=20_000)
    segments, touched, changed = 5000, 0, 0
    for i in range(100):
        assert flight.board.sent(at((i + 1) * 50 * MSS), flight.now)
    for _ in range(10_000):
        starts = [chance.randrange(segments * MSS + MSS) - 500 for _ in range(4)]
        blocks = [(start, start + chance.choice((1, MSS, 1500, 3 * MSS, 10**6, -5))) for start in starts]
        told = flight.ack(-chance.randrange(2), *blocks)
        assert told["touched"] <= told["newly_sacked"] + 4 * 100
        touched += told["touched"]
        changed += told["newly_sacked"]
    assert flight.board.listed[0][0] == at(0)
    assert changed <= segments
    assert touched <= 3 * changed + 10_000 * 4 * 2 * 2
    assert flight.records.in_use <= segments
    flight.ack(segments * MSS)
    assert flight.records.in_use == 0


def test_the_tree_stays_low_when_every_second_segment_is_sacked() -> None:
    segments = 4000
    flight = Flight(segments, room=2 * segments)
    for i in range(1, segments, 2):
        told = flight.ack(0, (i * MSS, (i + 1) * MSS))
        assert told["touched"] == 1
    assert flight.board.depth <= 40
    told = flight.ack(0, (MSS, segments * MSS))
    assert told["newly_sacked"] == segments // 2 - 1
    assert flight.records.in_use == 2


def test_an_honest_receiver_that_repeats_its_blocks_costs_one_look_each() -> None:
    flight = Flight(1000)
    flight.ack(0, (1000, 500_000), (600_000, 1_000_000))
    told = flight.ack(0, (1000, 500_000), (600_000, 1_000_000))
    assert (told["touched"], told["newly_sacked"]) == (2, 0)
