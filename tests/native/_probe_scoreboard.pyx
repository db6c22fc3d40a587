"""Shows an end's memory of what is in flight to pytest."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t

from aiomos.end cimport scoreboard as board_h
from aiomos.end.scoreboard cimport (
    Ack, AckResult, Scoreboard, board_ack, board_app_limited, board_close, board_forgive, board_in_flight,
    board_lose, board_next_lost, board_open, board_reneging, board_resize, board_retransmitted, board_sent,
    board_split, board_timeout)
from aiomos.end cimport rack as rack_h, recovery as recovery_h
from aiomos.end.rack cimport (
    Rack, probe_record, probe_sent, probe_wait_ns, rack_ack, rack_detect, rack_open, rack_recovered, rack_window)
from aiomos.end.recovery cimport (
    Advice, Recovery, recovery_ack, recovery_cwnd, recovery_ece, recovery_open, recovery_reduce, recovery_reordered,
    recovery_resent, recovery_resized, recovery_sent, recovery_timed_out, recovery_timeout)
from aiomos.end.sent cimport (
    BY_LOSS, BY_SEQ, NEWER, OLDER, SENT_AGAIN, SENT_EVER_AGAIN, SENT_FIN, SENT_LIMITED, SENT_LOST, SENT_SACKED,
    SENT_SYN, Sent, sent_at)
from aiomos.end.treap cimport treap_find
from aiomos.wire.pool cimport Pool, pool_close, pool_open

SYN, FIN = SENT_SYN, SENT_FIN
NEVER = INT64_MAX
SIZES = sizeof(Scoreboard), sizeof(Sent)
RACK_SIZES = sizeof(Rack), sizeof(Recovery)
MOST_IN_FLIGHT = board_h.MOST_IN_FLIGHT
FLAGS = {
    "advanced": board_h.ACK_ADVANCED, "sacked": board_h.ACK_SACKED, "dsack": board_h.ACK_DSACK,
    "original": board_h.ACK_ORIGINAL, "again": board_h.ACK_AGAIN, "reordered": board_h.ACK_REORDERED,
    "latest": board_h.ACK_LATEST, "latest_again": board_h.ACK_LATEST_AGAIN, "rate": board_h.ACK_RATE,
    "rate_limited": board_h.ACK_RATE_LIMITED, "rate_again": board_h.ACK_RATE_AGAIN,
    "beyond": board_h.ACK_BEYOND, "had_sack": board_h.ACK_HAD_SACK,
}
STATES = {recovery_h.CA_OPEN: "open", recovery_h.CA_DISORDER: "disorder", recovery_h.CA_CWR: "cwr",
          recovery_h.CA_RECOVERY: "recovery", recovery_h.CA_LOSS: "loss"}
ADVICE = {"reduce": recovery_h.RECOVERY_REDUCE, "undone": recovery_h.RECOVERY_UNDONE,
          "ended": recovery_h.RECOVERY_ENDED, "new_only": recovery_h.RECOVERY_NEW_ONLY}
RACK_FLAGS = {"knows": rack_h.RACK_KNOWS, "reordering": rack_h.RACK_REORDERING, "round": rack_h.RACK_ROUND,
              "probe": rack_h.RACK_PROBE, "probe_again": rack_h.RACK_PROBE_AGAIN}
LETTERS = {SENT_SYN: "Y", SENT_FIN: "F", SENT_SACKED: "S", SENT_LOST: "L", SENT_AGAIN: "R", SENT_EVER_AGAIN: "E",
           SENT_LIMITED: "A"}


cdef class Records:
    """A pool that several boards may share.

    Raises:
        MemoryError: it cannot be had.
    """

    cdef Pool pool

    def __cinit__(self, size_t capacity):
        if not pool_open(&self.pool, sizeof(Sent), capacity):
            raise MemoryError

    def __dealloc__(self):
        pool_close(&self.pool)

    @property
    def in_use(self):
        return self.pool.in_use


cdef class Board:
    """The scoreboard of one end. Records are named by the number that they begin with."""

    cdef Scoreboard board
    cdef Ack said              # but for its blocks
    cdef AckResult out
    cdef readonly Records records

    def __cinit__(self, uint32_t seq, uint32_t mss, Records records, bint sack=True):
        self.records = records
        board_open(&self.board, seq, mss)

    def close(self):
        board_close(&self.board, &self.records.pool)

    def sent(self, uint32_t end, int64_t now_ns, uint32_t flags=0):
        return bool(board_sent(&self.board, &self.records.pool, end, flags, now_ns))

    def ack(self, uint32_t ack, int64_t now_ns, blocks=(), int64_t echo_ns=INT64_MAX, int64_t min_rtt_ns=0):
        """What an ACK says, as a dictionary; `flags` is a set of names."""
        cdef uint32_t[8] edges
        cdef Ack said
        for i, (start, stop) in enumerate(blocks):
            edges[2 * i], edges[2 * i + 1] = start, stop
        said.ack, said.blocks, said.block_count = ack, edges, <uint8_t> len(blocks)
        said.now_ns, said.echo_ns, said.min_rtt_ns = now_ns, echo_ns, min_rtt_ns
        board_ack(&self.board, &self.records.pool, &said, &self.out)
        self.said = said
        found = <dict> self.out
        found["flags"] = {name for name, flag in FLAGS.items() if self.out.flags & <uint32_t> flag}
        return found

    cdef uint32_t index(self, uint32_t seq) except 0:
        cdef uint32_t index = treap_find(&self.records.pool, self.board.tree, BY_SEQ, seq)
        if not index or sent_at(&self.records.pool, index).seq != seq:
            raise KeyError(seq)
        return index

    def lose(self, uint32_t seq):
        return board_lose(&self.board, &self.records.pool, self.index(seq))

    def split(self, uint32_t seq, uint32_t segments):
        return bool(board_split(&self.board, &self.records.pool, self.index(seq), segments))

    def retransmitted(self, uint32_t seq, int64_t now_ns):
        board_retransmitted(&self.board, &self.records.pool, self.index(seq), now_ns)

    def timeout(self, int64_t sent_by_ns=INT64_MAX):
        return bool(board_timeout(&self.board, &self.records.pool, sent_by_ns))

    def forgive(self):
        board_forgive(&self.board, &self.records.pool)

    def resize(self, uint32_t mss):
        return board_resize(&self.board, &self.records.pool, mss)

    def app_limited(self):
        board_app_limited(&self.board)

    @property
    def reneging(self):
        return bool(board_reneging(&self.board, &self.records.pool))

    @property
    def in_flight(self):
        return board_in_flight(&self.board)

    @property
    def next_lost(self):
        """Where the record to be sent again begins; None: there is none."""
        cdef uint32_t index = board_next_lost(&self.board, &self.records.pool)
        return sent_at(&self.records.pool, index).seq if index else None

    @property
    def counters(self):
        links = {"first", "last", "oldest", "newest", "tree", "lost_tree"}
        return {name: value for name, value in (<dict> self.board).items() if name not in links}

    cdef list tree(self, uint32_t root, uint32_t which, depth=1):
        """Index and depth of each record of a tree, from left to right."""
        cdef Sent* record
        if not root:
            return []
        record = sent_at(&self.records.pool, root)
        return [*self.tree(record.links[which], which, depth + 1), (root, depth),
                *self.tree(record.links[which + 1], which, depth + 1)]

    @property
    def depth(self):
        return max((depth for _, depth in self.tree(self.board.tree, BY_SEQ)), default=0)

    @property
    def in_order_of_time(self):
        """Where the records in flight begin, the one sent longest ago first; raises where links contradict."""
        cdef uint32_t index = self.board.oldest, previous = 0
        cdef Sent* record
        found = []
        last_ns = -INT64_MAX
        while index:
            record = sent_at(&self.records.pool, index)
            assert record.links[OLDER] == previous, record.seq
            assert record.sent_ns >= last_ns
            assert not record.flags & SENT_SACKED and (record.flags & (SENT_LOST | SENT_AGAIN)) != SENT_LOST
            last_ns = record.sent_ns
            found.append(record.seq)
            previous, index = index, record.links[NEWER]
        assert self.board.newest == previous
        return found

    @property
    def listed(self):
        """(seq, end, segments, letters of flags, sent_ns) of each record; raises where links and counts contradict."""
        cdef uint32_t index = self.board.first, previous = 0, seq = self.board.una
        cdef Sent* record
        found, order, lost, flying = [], [], [], []
        count = dict.fromkeys(["packets_out", "sacked_out", "lost_out", "retrans_out"], 0)
        while index:
            record = sent_at(&self.records.pool, index)
            assert (record.prev, record.seq) == (previous, seq), seq
            flags = record.flags
            letters = "".join(letter for flag, letter in LETTERS.items() if flags & flag)
            found.append((record.seq, record.end, record.segments, letters, record.sent_ns))
            order.append(index)
            count["packets_out"] += record.segments
            count["sacked_out"] += record.segments if flags & SENT_SACKED else 0
            count["lost_out"] += record.segments if flags & SENT_LOST else 0
            count["retrans_out"] += record.segments if flags & SENT_AGAIN else 0
            assert not (flags & SENT_SACKED and flags & (SENT_LOST | SENT_AGAIN))
            if flags & SENT_SACKED:
                assert not previous or not sent_at(&self.records.pool, previous).flags & SENT_SACKED
            elif (flags & (SENT_LOST | SENT_AGAIN)) == SENT_LOST:
                lost.append(index)
            else:
                flying.append(record.seq)
            previous, index, seq = index, record.next, record.end
        assert self.board.last == previous
        assert seq == self.board.nxt or not order
        assert [index for index, _ in self.tree(self.board.tree, BY_SEQ)] == order
        assert [index for index, _ in self.tree(self.board.lost_tree, BY_LOSS)] == lost
        assert sorted(self.in_order_of_time) == sorted(flying)
        assert {name: value for name, value in self.counters.items() if name in count} == count
        return found


cdef class Sender(Board):
    """A board with RACK and recovery, and cwnd that nobody grows; `cut` is the ssthresh that a reduction wants."""

    cdef Rack rack
    cdef Recovery recovery
    cdef public uint32_t cwnd, ssthresh, cut
    cdef public int64_t srtt_ns, min_rtt_ns

    def __cinit__(self, uint32_t seq, uint32_t mss, Records records, bint sack=True):
        rack_open(&self.rack)
        recovery_open(&self.recovery, sack)
        self.cwnd, self.ssthresh, self.cut = 10, 0x7FFFFFFF, 5

    def hear(self, uint32_t ack, int64_t now_ns, blocks=(), int64_t echo_ns=INT64_MAX, bint duplicate=True,
             bint more=True, bint ece=False):
        """An ACK, as an end takes it in; what recovery advises, and whether congestion control may grow cwnd."""
        cdef Advice advice
        cdef const AckResult* out = &self.out
        self.ack(ack, now_ns, blocks, echo_ns, self.min_rtt_ns)
        reduce = ece and recovery_ece(&self.recovery)
        recovery_ack(&self.recovery, &self.board, &self.rack, &self.records.pool, &self.said, &self.out, duplicate,
                     more, self.srtt_ns, &self.cwnd, &self.ssthresh, &advice)
        told = self.advice(&advice)
        if reduce or "reduce" in told["flags"]:
            recovery_reduce(&self.recovery, &self.board, &self.rack, out, self.cut, &self.cwnd, &self.ssthresh)
        told["grows"] = not recovery_cwnd(&self.recovery, &self.board, out, advice.newly_lost, self.ssthresh,
                                          &self.cwnd)
        told["delivered"] = self.out.delivered
        return told

    cdef dict advice(self, Advice* advice):
        told = <dict> advice[0]
        told["flags"] = {name for name, flag in ADVICE.items() if advice.flags & <uint32_t> flag}
        return told

    def reordered(self, int64_t now_ns):
        cdef Advice advice
        recovery_reordered(&self.recovery, &self.board, &self.rack, &self.records.pool, self.min_rtt_ns, self.srtt_ns,
                           now_ns, &advice)
        if advice.flags & recovery_h.RECOVERY_REDUCE:
            recovery_reduce(&self.recovery, &self.board, &self.rack, NULL, self.cut, &self.cwnd, &self.ssthresh)
        return self.advice(&advice)

    def expire(self, int64_t now_ns, bint again=False):
        """The RTO expires; was ssthresh reduced?"""
        reduce = recovery_timeout(&self.recovery, &self.board, &self.rack, &self.records.pool, again, self.min_rtt_ns,
                                  self.srtt_ns, now_ns)
        recovery_timed_out(&self.recovery, &self.board, reduce, self.cut, &self.cwnd, &self.ssthresh)
        return bool(reduce)

    def shrink(self, uint32_t mss):
        board_resize(&self.board, &self.records.pool, mss)
        recovery_resized(&self.recovery, &self.board, self.cwnd, &self.ssthresh)

    def send(self, uint32_t end, int64_t now_ns):
        before = self.board.packets_out
        if not self.sent(end, now_ns):
            return False
        recovery_sent(&self.recovery, self.board.packets_out - before)
        return True

    def resend(self, int64_t now_ns, uint32_t segments=1):
        """Send the first that is lost again; where it begins."""
        cdef uint32_t index = board_next_lost(&self.board, &self.records.pool)
        cdef Sent* record
        if not index:
            return None
        board_split(&self.board, &self.records.pool, index, segments)
        record = sent_at(&self.records.pool, index)
        board_retransmitted(&self.board, &self.records.pool, index, now_ns)
        recovery_resent(&self.recovery, record.segments, now_ns)
        return record.seq

    def probe(self, int64_t now_ns, end=None):
        """Send a probe: something new up to *end*, or what was sent last; where that begins."""
        cdef uint32_t index = 0
        if end is not None:
            self.send(end, now_ns)
        else:
            index = probe_record(&self.board, &self.records.pool)
            if not index:
                return None
            board_retransmitted(&self.board, &self.records.pool, index, now_ns)
            recovery_resent(&self.recovery, sent_at(&self.records.pool, index).segments, now_ns)
        probe_sent(&self.rack, &self.board, end is None)
        return sent_at(&self.records.pool, index).seq if index else None

    def probe_wait_ns(self, int64_t rto_min_ns=200_000_000, int64_t rto_left_ns=0):
        return probe_wait_ns(&self.rack, &self.board, self.srtt_ns, rto_min_ns, rto_left_ns)

    def rack_ack(self):
        """RACK alone, without recovery, takes in the ACK that ack() was told last."""
        rack_ack(&self.rack, &self.board, &self.said, &self.out)

    def rack_window(self, bint recovering=False):
        return rack_window(&self.rack, &self.board, self.min_rtt_ns, self.srtt_ns, recovering)

    def rack_detect(self, int64_t window_ns, int64_t now_ns):
        """Segments lost, and when to ask again."""
        cdef int64_t wait_ns
        lost = rack_detect(&self.rack, &self.board, &self.records.pool, window_ns, now_ns, &wait_ns)
        return lost, wait_ns

    def rack_recovered(self):
        rack_recovered(&self.rack)

    @property
    def rack_state(self):
        found = <dict> self.rack
        found["flags"] = {name for name, flag in RACK_FLAGS.items() if self.rack.flags & <uint8_t> flag}
        return found

    @property
    def state(self):
        return STATES[self.recovery.state]

    @property
    def recovery_state(self):
        return <dict> self.recovery
