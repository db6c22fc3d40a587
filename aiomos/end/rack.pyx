"""Loss by time (RACK) and the probe for the loss of a tail (TLP): RFC 8985.

What arrives tells that what was sent before it by more than the reordering window is lost: section 6. A probe, sent
when two round trips have passed in silence, brings an answer that tells so: section 7.
"""

from libc.stdint cimport INT64_MAX

from aiomos.end.scoreboard cimport (
    ACK_ADVANCED, ACK_DSACK, ACK_HAD_SACK, ACK_LATEST, ACK_REORDERED, board_lose, board_split)
from aiomos.end.sent cimport SENT_SACKED, Sent, sent_after, sent_at
from aiomos.wire.seq cimport seq_leq, seq_lt


cdef void rack_open(Rack* rack) noexcept nogil:
    """Nothing has arrived yet."""
    rack.sent_ns = rack.rtt_ns = 0
    rack.end = rack.dsack_round = rack.probe_end = 0
    rack.flags, rack.multiple, rack.persist = 0, 1, 0


cdef inline bint is_probes(const Rack* rack, const AckResult* out) noexcept nogil:
    """Does this DSACK speak of the probe? RFC 8985 section 7.4.2 case 1."""
    return (rack.flags & (RACK_PROBE | RACK_PROBE_AGAIN)) == (RACK_PROBE | RACK_PROBE_AGAIN) \
        and out.flags & ACK_DSACK and out.dsack_end == rack.probe_end


cdef void rack_ack(Rack* rack, const Scoreboard* board, const Ack* ack, const AckResult* out) noexcept nogil:
    """Steps 2 and 3 of section 6.2, and of step 4 what grows the window: a DSACK, once a round trip.

    A DSACK of the probe tells nothing of reordering. Comes before probe_ack().
    """
    if rack.flags & RACK_KNOWS and ack.now_ns < rack.sent_ns:      # the clock was set back: nothing is known any more
        rack.flags &= ~RACK_KNOWS
    if out.flags & ACK_LATEST:
        rack.rtt_ns = max(<int64_t> 0, ack.now_ns - out.latest_sent_ns)
        if not rack.flags & RACK_KNOWS or sent_after(out.latest_sent_ns, out.latest_end, rack.sent_ns, rack.end):
            rack.sent_ns, rack.end = out.latest_sent_ns, out.latest_end
        rack.flags |= RACK_KNOWS
    if out.flags & ACK_REORDERED:
        rack.flags |= RACK_REORDERING
    if rack.flags & RACK_ROUND and seq_leq(rack.dsack_round, board.una):
        rack.flags &= ~RACK_ROUND
    if out.flags & ACK_DSACK and not rack.flags & RACK_ROUND and not is_probes(rack, out):
        rack.flags |= RACK_ROUND
        rack.dsack_round = board.nxt
        rack.multiple = min(rack.multiple + 1, 255)
        rack.persist = DSACK_FREE_RECOVERIES


cdef void rack_recovered(Rack* rack) noexcept nogil:
    """A recovery, fast or by RTO, is over: after 16 of them without a DSACK the window is small again."""
    if rack.persist:
        rack.persist -= 1
    if not rack.persist:
        rack.multiple = 1


cdef int64_t rack_window(const Rack* rack, const Scoreboard* board, int64_t min_rtt_ns, int64_t srtt_ns,
                         bint recovering) noexcept nogil:
    """How long what was sent earlier may come later: step 4 of section 6.2. Times that are not known are 0."""
    if not rack.flags & RACK_REORDERING and (recovering or board.sacked_out >= DUPTHRESH):
        return 0
    return max(<int64_t> 0, min(rack.multiple * (min_rtt_ns // 4), srtt_ns))


cdef uint32_t rack_detect(const Rack* rack, Scoreboard* board, Pool* pool, int64_t window_ns, int64_t now_ns,
                          int64_t* wait_ns) noexcept nogil:
    """Mark lost what should have arrived by now; gives the segments: step 5 of section 6.2.

    *wait_ns* is when to ask again, if nothing arrives until then; 0: no need. By then all is due that was sent before
    what arrived: the RFC looks for the last of these by a walk, and may ask earlier, by less than the window.
    """
    cdef uint32_t lost = 0
    cdef int64_t due_ns
    cdef Sent* record
    wait_ns[0] = 0
    if not rack.flags & RACK_KNOWS:
        return 0
    while board.oldest:
        record = sent_at(pool, board.oldest)
        if not sent_after(rack.sent_ns, rack.end, record.sent_ns, record.end):
            break
        if record.sent_ns + rack.rtt_ns + window_ns > now_ns:
            due_ns = rack.sent_ns + rack.rtt_ns + window_ns
            wait_ns[0] = max(<int64_t> FLOOR_NS, due_ns - now_ns)
            break
        lost += board_lose(board, pool, board.oldest)
    return lost


cdef int64_t rack_expired_ns(const Rack* rack, int64_t window_ns, int64_t now_ns) noexcept nogil:
    """What was sent by then is lost now that the RTO has expired: section 6.3, for board_timeout()."""
    if not rack.flags & RACK_KNOWS:
        return INT64_MAX
    return now_ns - rack.rtt_ns - window_ns


cdef int64_t probe_wait_ns(const Rack* rack, const Scoreboard* board, int64_t srtt_ns, int64_t rto_min_ns,
                           int64_t rto_left_ns) noexcept nogil:
    """In what time to send a probe, if nothing arrives until then; 0: none is to be sent. Section 7.2, as Linux does.

    For an end whose recovery is in CA_OPEN or CA_CWR, and whose peer knows SACK. A lone segment is given the time of
    the receiver's delayed ACK, for which Linux takes its least RTO. *rto_left_ns*: when the RTO is due; 0: not known.
    """
    cdef int64_t wait_ns
    if not board.packets_out or board.sacked_out or rack.flags & RACK_PROBE:
        return 0
    if srtt_ns <= 0:
        wait_ns = FIRST_PROBE_NS
    else:
        wait_ns = 2 * srtt_ns + (rto_min_ns if board.packets_out == 1 else <int64_t> FLOOR_NS)
    if rto_left_ns > 0:
        wait_ns = min(wait_ns, rto_left_ns)
    return max(<int64_t> FLOOR_NS, wait_ns)


cdef uint32_t probe_record(Scoreboard* board, Pool* pool) noexcept nogil:
    """The last segment in flight, to be sent again as a probe when there is nothing new to send; 0: none.

    When the pool is used up it is all of the last record. Section 7.3.
    """
    cdef uint32_t index = board.last
    cdef Sent* record
    if not index:
        return 0
    record = sent_at(pool, index)
    if record.flags & SENT_SACKED:
        return 0
    if record.segments > 1:
        board_split(board, pool, index, record.segments - 1)
    return board.last


cdef void probe_sent(Rack* rack, const Scoreboard* board, bint again) noexcept nogil:
    """A probe has left, which is in the scoreboard already: something new, or *again*. Section 7.3."""
    rack.flags = (rack.flags & ~RACK_PROBE_AGAIN) | RACK_PROBE | (RACK_PROBE_AGAIN if again else 0)
    rack.probe_end = board.nxt


cdef bint probe_ack(Rack* rack, const Ack* ack, const AckResult* out, bint duplicate) noexcept nogil:
    """Did the probe repair a loss, to which congestion control is to react as to any other? Section 7.4.2.

    *duplicate*: the ACK carried no data and told no other window.
    """
    if not rack.flags & RACK_PROBE or seq_lt(ack.ack, rack.probe_end):
        return False
    if not rack.flags & RACK_PROBE_AGAIN or is_probes(rack, out):
        rack.flags &= ~RACK_PROBE
        return False
    if seq_lt(rack.probe_end, ack.ack):
        rack.flags &= ~RACK_PROBE
        return True
    if duplicate and not out.flags & (ACK_ADVANCED | ACK_HAD_SACK):
        rack.flags &= ~RACK_PROBE
    return False
