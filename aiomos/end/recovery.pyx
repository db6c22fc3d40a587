"""Entering and leaving recovery, what leaves meanwhile, and what is taken back when it was for nothing.

Loss once in a window: RFC 5681 section 3.2, RFC 6582 (NewReno) without SACK, RFC 6675 and 8985 with it. How much leaves
meanwhile: proportional rate reduction, RFC 9937. Whether an RTO was spurious: F-RTO, RFC 5682 section 3.1. Undo, by
timestamps (RFC 3522, Eifel) and by DSACK (RFC 3708), and the states, are as in Linux' tcp_fastretrans_alert(). The
first two duplicate ACKs let something new leave (limited transmit, RFC 3042): what they say has arrived is in flight no
more.
"""

from libc.stdint cimport INT64_MAX
from libc.string cimport memset

from aiomos.end.rack cimport (
    DUPTHRESH, RACK_PROBE, RACK_REORDERING, probe_ack, rack_ack, rack_detect, rack_expired_ns, rack_recovered,
    rack_window)
from aiomos.end.scoreboard cimport (
    ACK_ADVANCED, ACK_AGAIN, ACK_BEYOND, ACK_DSACK, ACK_ORIGINAL, ACK_SACKED, board_forgive, board_in_flight,
    board_lose, board_split, board_timeout)
from aiomos.end.sent cimport SENT_EVER_AGAIN, SENT_LOST, sent_at
from aiomos.wire.seq cimport seq_leq, seq_lt

# What a step of recovery_ack() is about.
ctypedef struct Case:
    Recovery* recovery
    Scoreboard* board
    Rack* rack
    Pool* pool
    const Ack* ack
    AckResult* out
    bint duplicate             # RFC 5681 section 2
    bint more                  # there is something new that may be sent
    int64_t srtt_ns
    uint32_t* cwnd
    uint32_t* ssthresh
    Advice* advice


cdef void recovery_open(Recovery* recovery, bint sack) noexcept nogil:
    """All is well. *sack*: both ends know SACK."""
    memset(recovery, 0, sizeof(Recovery))
    recovery.flags = RECOVERY_SACK if sack else 0


cdef inline bint ended(const Case* c) noexcept nogil:
    return seq_leq(c.recovery.high_seq, c.board.una)


cdef inline void become_open(Case* c) noexcept nogil:
    if c.recovery.state >= CA_RECOVERY:
        rack_recovered(c.rack)
    c.recovery.state = CA_OPEN
    c.advice.flags |= RECOVERY_ENDED


# Without SACK: duplicate ACKs stand for what arrived


cdef void add_dupack(Case* c) noexcept nogil:
    """One segment more has arrived, but there is a hole yet."""
    cdef Scoreboard* board = c.board
    cdef uint32_t holes = max(board.lost_out, <uint32_t> 1)
    if board.dupacks + holes >= board.packets_out:
        return
    board.dupacks += 1
    board.delivered += 1
    board.delivered_ns = c.ack.now_ns
    c.out.delivered += 1


cdef void use_dupacks(Case* c) noexcept nogil:
    """Of what is acknowledged now, a segment filled the hole, and the others were counted by duplicate ACKs."""
    cdef Scoreboard* board = c.board
    cdef uint32_t acked = c.out.acked, fresh
    if not acked:
        return
    fresh = acked - board.dupacks if acked > board.dupacks else 1
    board.delivered -= c.out.delivered - fresh
    c.out.delivered = fresh
    board.dupacks -= min(board.dupacks, acked - 1)


cdef void lose_first(Case* c) noexcept nogil:
    """The third duplicate ACK, or a partial ACK in recovery: RFC 5681 section 3.2, RFC 6582 section 3.2 step 3."""
    cdef Scoreboard* board = c.board
    cdef bint partial = c.recovery.state == CA_RECOVERY and c.out.flags & ACK_ADVANCED
    if not partial and (c.recovery.state >= CA_RECOVERY or board.dupacks < DUPTHRESH):
        return
    if board.first and not sent_at(c.pool, board.first).flags & SENT_LOST:
        board_split(board, c.pool, board.first, 1)
        c.advice.newly_lost += board_lose(board, c.pool, board.first)


cdef bint find_losses(Case* c) noexcept nogil:
    """Mark what is lost by now; was a retransmission among it?"""
    cdef uint32_t before = c.board.retrans_out
    cdef int64_t window
    if not c.recovery.flags & RECOVERY_SACK:
        lose_first(c)
    else:
        window = rack_window(c.rack, c.board, c.ack.min_rtt_ns, c.srtt_ns, c.recovery.state >= CA_RECOVERY)
        c.advice.newly_lost += rack_detect(c.rack, c.board, c.pool, window, c.ack.now_ns, &c.advice.wait_ns)
    return c.board.retrans_out < before


# Undo


cdef void begin_undo(Recovery* recovery, const Scoreboard* board) noexcept nogil:
    recovery.flags |= RECOVERY_UNDO
    recovery.undo_marker = board.una
    recovery.undo_retrans = <int32_t> board.retrans_out if board.retrans_out else -1


cdef inline bint is_delayed(const Case* c) noexcept nogil:
    """What arrived had left before anything was sent again: it was not lost. Eifel, RFC 3522 section 3.2."""
    if not c.recovery.flags & RECOVERY_RESENT:
        return True
    return c.ack.echo_ns < c.recovery.first_again_ns


cdef inline bint may_undo(const Case* c) noexcept nogil:
    return c.recovery.flags & RECOVERY_UNDO and (c.recovery.undo_retrans == 0 or is_delayed(c))


cdef void undo(Case* c, bint forgive) noexcept nogil:
    cdef Recovery* recovery = c.recovery
    if forgive:
        board_forgive(c.board, c.pool)
    if recovery.prior_ssthresh:
        c.cwnd[0] = max(c.cwnd[0], recovery.prior_cwnd)
        c.ssthresh[0] = max(c.ssthresh[0], recovery.prior_ssthresh)
        c.advice.flags |= RECOVERY_UNDONE
    recovery.flags &= ~RECOVERY_UNDO


cdef void note_duplicates(Case* c) noexcept nogil:
    """All that was sent again arrived twice, once all of it is told by DSACKs: RFC 3708 section 3."""
    cdef Recovery* recovery = c.recovery
    if recovery.flags & RECOVERY_UNDO and recovery.undo_retrans > 0 and seq_lt(recovery.undo_marker, c.out.dsack_end):
        recovery.undo_retrans = max(<int32_t> 0, recovery.undo_retrans - <int32_t> c.out.duplicates)


cdef bint undo_by_dsack(Case* c) noexcept nogil:
    if not c.recovery.flags & RECOVERY_UNDO or c.recovery.undo_retrans != 0:
        return False
    undo(c, False)
    return True


cdef inline bint is_held(const Case* c) noexcept nogil:
    """Without SACK recovery lasts until something beyond it is acknowledged: RFC 6582 section 4.1."""
    return not c.recovery.flags & RECOVERY_SACK and c.board.una == c.recovery.high_seq


cdef bint undo_recovery(Case* c) noexcept nogil:
    """All that was in flight when it began is acknowledged. True: recovery lasts nevertheless."""
    if may_undo(c):
        undo(c, False)
    if is_held(c):
        return True
    become_open(c)
    return False


cdef bint undo_loss(Case* c, bint frto) noexcept nogil:
    if not frto and not may_undo(c):
        return False
    undo(c, True)
    if not is_held(c) and (frto or c.recovery.flags & RECOVERY_SACK):
        become_open(c)
    return True


# States


cdef void keep_open(Case* c) noexcept nogil:
    """CA_OPEN, or CA_DISORDER when something is missing or was sent again."""
    cdef Scoreboard* board = c.board
    cdef uint8_t state = CA_OPEN
    cdef bint again = board.retrans_out or (board.first and sent_at(c.pool, board.first).flags & SENT_EVER_AGAIN)
    if not again:
        c.recovery.flags &= ~RECOVERY_RESENT
    if again or board.sacked_out or board.lost_out or board.dupacks:
        state = CA_DISORDER
    if c.recovery.state >= CA_RECOVERY:
        become_open(c)
    if c.recovery.state != state:
        c.recovery.state = state
        c.recovery.high_seq = board.nxt


cdef void enter(Case* c) noexcept nogil:
    """Something is lost: reduce, but not twice in a window."""
    cdef Recovery* recovery = c.recovery
    if recovery.state == CA_CWR:
        recovery.prior_ssthresh = 0
        begin_undo(recovery, c.board)
        recovery.state = CA_RECOVERY
    else:
        recovery.wanted = REDUCE_RECOVERY
        c.advice.flags |= RECOVERY_REDUCE


cdef bint leave(Case* c) noexcept nogil:
    """End what has ended, with cwnd at ssthresh (RFC 9937 section 6). True: without SACK it lasts, and that is all."""
    cdef Recovery* recovery = c.recovery
    if recovery.state == CA_OPEN:
        recovery.flags &= ~RECOVERY_RESENT
    elif recovery.state == CA_CWR and seq_lt(recovery.high_seq, c.board.una):
        c.cwnd[0] = c.ssthresh[0]
        become_open(c)
    elif recovery.state == CA_RECOVERY and ended(c):
        if not recovery.flags & RECOVERY_SACK:
            c.board.dupacks = 0
        if undo_recovery(c):
            return True
        if recovery.flags & RECOVERY_UNDO:
            c.cwnd[0] = c.ssthresh[0]
    return False


cdef void step_recovery(Case* c) noexcept nogil:
    cdef Recovery* recovery = c.recovery
    if c.out.flags & ACK_ADVANCED and recovery.flags & RECOVERY_UNDO and is_delayed(c):
        c.rack.flags |= RACK_REORDERING                    # the hole was filled by what had left before
        if c.board.retrans_out:                            # wait for what was sent again; lose nothing more
            c.advice.flags |= RECOVERY_NEW_ONLY
            return
        undo(c, True)
        keep_open(c)
    if undo_by_dsack(c):
        keep_open(c)
    find_losses(c)
    if recovery.state != CA_RECOVERY and c.board.lost_out:
        enter(c)


cdef void step_loss(Case* c) noexcept nogil:
    """F-RTO: RFC 5682 section 3.1, with SACK where there is; numbers of steps are those of the RFC."""
    cdef Recovery* recovery = c.recovery
    cdef Scoreboard* board = c.board
    cdef bint advanced = c.out.flags & ACK_ADVANCED
    cdef bint original = c.out.flags & ACK_ORIGINAL and seq_leq(c.out.original_end, recovery.high_seq)
    if advanced and undo_loss(c, False):
        return
    if not recovery.flags & RECOVERY_SACK and c.out.flags & ACK_AGAIN:
        original = False       # which of them arrived is not told
    if recovery.flags & RECOVERY_FRTO:
        if original and undo_loss(c, True):                # 3.b: not all was lost
            return
        if seq_lt(recovery.high_seq, board.nxt):
            if c.out.flags & ACK_SACKED or c.duplicate:    # 3.a: it was
                recovery.flags &= ~RECOVERY_FRTO
        elif advanced and not ended(c):
            recovery.high_seq = board.nxt
            if c.more:                                     # 2.b
                c.advice.flags |= RECOVERY_NEW_ONLY
                return
            recovery.flags &= ~RECOVERY_FRTO
    if ended(c):
        undo_recovery(c)
        return
    if not recovery.flags & RECOVERY_SACK:
        if c.duplicate and seq_lt(recovery.high_seq, board.nxt):
            add_dupack(c)
        elif advanced:
            board.dupacks = 0


cdef void step_open(Case* c) noexcept nogil:
    cdef Recovery* recovery = c.recovery
    if not recovery.flags & RECOVERY_SACK and c.out.flags & ACK_ADVANCED:
        c.board.dupacks = 0
    if recovery.state <= CA_DISORDER:
        undo_by_dsack(c)
    find_losses(c)
    if c.board.lost_out:
        enter(c)
    elif recovery.state != CA_CWR:
        keep_open(c)


cdef void recovery_ack(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, const Ack* ack, AckResult* out,
                       bint duplicate, bint more, int64_t srtt_ns, uint32_t* cwnd, uint32_t* ssthresh,
                       Advice* advice) noexcept nogil:
    """Draw from an ACK, which board_ack() has taken in, what it says of loss.

    *duplicate*: it has no data, no SYN, no FIN, and tells no other window. *more*: something new may be sent by the
    peer's window. Without SACK *out* counts as delivered what duplicate ACKs stand for.
    """
    cdef Case c
    cdef bint again_lost
    memset(advice, 0, sizeof(Advice))
    if out.flags & ACK_BEYOND:
        return
    duplicate = duplicate and ack.ack == board.una and not out.flags & ACK_ADVANCED and board.packets_out > 0
    c.recovery, c.board, c.rack, c.pool, c.ack, c.out = recovery, board, rack, pool, ack, out
    c.duplicate, c.more, c.srtt_ns, c.cwnd, c.ssthresh, c.advice = duplicate, more, srtt_ns, cwnd, ssthresh, advice
    if not recovery.flags & RECOVERY_SACK:
        use_dupacks(&c)
        if duplicate and recovery.state != CA_LOSS:
            add_dupack(&c)
    rack_ack(rack, board, ack, out)
    if out.flags & ACK_DSACK:
        note_duplicates(&c)
    if probe_ack(rack, ack, out, duplicate) and recovery.state <= CA_DISORDER:
        recovery.wanted = REDUCE_AT_ONCE
        advice.flags |= RECOVERY_REDUCE
    if leave(&c):
        return
    if recovery.state == CA_RECOVERY:
        step_recovery(&c)
    elif recovery.state == CA_LOSS:
        step_loss(&c)
        again_lost = find_losses(&c)
        if recovery.state == CA_OPEN or again_lost:
            step_open(&c)
    else:
        step_open(&c)


cdef void recovery_reordered(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, int64_t min_rtt_ns,
                             int64_t srtt_ns, int64_t now_ns, Advice* advice) noexcept nogil:
    """What was waited for has not come: RFC 8985 section 6.2 step 5. recovery_reduce() has no AckResult then."""
    cdef int64_t window = rack_window(rack, board, min_rtt_ns, srtt_ns, recovery.state >= CA_RECOVERY)
    cdef Case c
    memset(advice, 0, sizeof(Advice))
    memset(&c, 0, sizeof(Case))
    c.recovery, c.board, c.advice = recovery, board, advice
    advice.newly_lost = rack_detect(rack, board, pool, window, now_ns, &advice.wait_ns)
    if advice.newly_lost and recovery.state != CA_RECOVERY:
        enter(&c)


cdef inline uint32_t current_ssthresh(uint32_t cwnd, uint32_t ssthresh) noexcept nogil:
    """What an undo gives back: no less than three quarters of cwnd."""
    return max(ssthresh, (cwnd >> 1) + (cwnd >> 2))


cdef void prr(Recovery* recovery, const Scoreboard* board, uint32_t delivered, bint safe, uint32_t ssthresh,
              uint32_t* cwnd) noexcept nogil:
    """RFC 9937 section 6, in segments."""
    cdef int64_t there = board_in_flight(board), allowed
    recovery.prr_delivered += delivered
    if there > ssthresh:
        allowed = (<int64_t> recovery.prr_delivered * ssthresh + recovery.recover_fs - 1) // recovery.recover_fs
        allowed -= recovery.prr_out
    else:
        allowed = max(<int64_t> recovery.prr_delivered - recovery.prr_out, <int64_t> delivered) + safe
        allowed = min(allowed, ssthresh - there)
    allowed = max(allowed, <int64_t> (recovery.prr_out == 0))      # the fast retransmission itself
    cwnd[0] = <uint32_t> (there + allowed)


cdef bint recovery_cwnd(Recovery* recovery, const Scoreboard* board, const AckResult* out, uint32_t newly_lost,
                        uint32_t ssthresh, uint32_t* cwnd) noexcept nogil:
    """Set cwnd while a reduction is going on; False when none is, and growth is congestion control's."""
    if recovery.state != CA_RECOVERY and recovery.state != CA_CWR:
        return False
    if out.delivered and recovery.recover_fs:
        prr(recovery, board, out.delivered, out.flags & ACK_ADVANCED and not newly_lost, ssthresh, cwnd)
    return True


cdef void recovery_reduce(Recovery* recovery, Scoreboard* board, Rack* rack, const AckResult* out, uint32_t reduced,
                          uint32_t* cwnd, uint32_t* ssthresh) noexcept nogil:
    """Begin the reduction that was asked for; *reduced* is the ssthresh that congestion control wants.

    *out* is NULL when it was a timer that asked: cwnd is set here then, as if a segment had arrived.
    """
    cdef uint8_t wanted = recovery.wanted
    if wanted == REDUCE_NOT:
        return
    rack.flags &= ~RACK_PROBE
    recovery.wanted = REDUCE_NOT
    recovery.prior_ssthresh = 0
    recovery.prior_cwnd = cwnd[0]
    if wanted == REDUCE_AT_ONCE:
        cwnd[0] = ssthresh[0] = reduced
        recovery.flags &= ~(RECOVERY_ECE | RECOVERY_UNDO)
        return
    if wanted == REDUCE_RECOVERY and not recovery.flags & RECOVERY_ECE:
        recovery.prior_ssthresh = current_ssthresh(cwnd[0], ssthresh[0])
    recovery.flags &= ~(RECOVERY_ECE | RECOVERY_UNDO)
    recovery.state = CA_CWR
    if wanted == REDUCE_RECOVERY:
        begin_undo(recovery, board)
        recovery.state = CA_RECOVERY
    recovery.high_seq = board.nxt
    recovery.prr_delivered = recovery.prr_out = 0
    recovery.recover_fs = out.prior_flight if out != NULL else board.packets_out - board.sacked_out
    recovery.recover_fs = max(<uint32_t> 1, recovery.recover_fs)
    ssthresh[0] = reduced
    if out == NULL:
        prr(recovery, board, 1, False, reduced, cwnd)


cdef bint recovery_ece(Recovery* recovery) noexcept nogil:
    """ECN told of congestion; before recovery_ack() of that ACK. True when recovery_reduce() is to follow that."""
    recovery.prior_ssthresh = 0
    if recovery.state > CA_DISORDER:
        return False
    recovery.flags |= RECOVERY_ECE
    recovery.wanted = REDUCE_CWR
    return True


cdef bint recovery_timeout(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, bint again,
                           int64_t min_rtt_ns, int64_t srtt_ns, int64_t now_ns) noexcept nogil:
    """The RTO has expired, *again* or for the first time: mark what is lost. recovery_timed_out() is to follow.

    True when ssthresh is to be reduced, that is once in a window. F-RTO is tried unless a recovery was going on.
    """
    cdef int64_t sent_by_ns = INT64_MAX, window
    cdef bint fresh = recovery.state < CA_RECOVERY
    cdef bint reduce = (recovery.state <= CA_DISORDER or seq_leq(recovery.high_seq, board.una)
                        or (recovery.state == CA_LOSS and not again))
    if recovery.flags & RECOVERY_SACK:
        window = rack_window(rack, board, min_rtt_ns, srtt_ns, recovery.state >= CA_RECOVERY)
        sent_by_ns = rack_expired_ns(rack, window, now_ns)
    board_timeout(board, pool, sent_by_ns)
    rack.flags &= ~RACK_PROBE
    recovery.flags &= ~RECOVERY_FRTO
    if fresh or again:
        recovery.flags |= RECOVERY_FRTO
    return reduce


cdef void recovery_timed_out(Recovery* recovery, Scoreboard* board, bint reduce, uint32_t reduced, uint32_t* cwnd,
                             uint32_t* ssthresh) noexcept nogil:
    """Begin anew with one segment: RFC 5681 section 3.1. *reduce* is what recovery_timeout() said."""
    if reduce:
        recovery.prior_ssthresh = current_ssthresh(cwnd[0], ssthresh[0])
        recovery.prior_cwnd = cwnd[0]
        ssthresh[0] = reduced
        begin_undo(recovery, board)
    cwnd[0] = board_in_flight(board) + 1
    recovery.state = CA_LOSS
    recovery.high_seq = board.nxt
    recovery.wanted = REDUCE_NOT
    recovery.flags &= ~RECOVERY_ECE


cdef void recovery_resized(Recovery* recovery, const Scoreboard* board, uint32_t cwnd,
                           uint32_t* ssthresh) noexcept nogil:
    """Segments were too long for the path (board_resize()): they leave again, and that is no congestion."""
    if recovery.state == CA_LOSS:
        return
    ssthresh[0] = current_ssthresh(cwnd, ssthresh[0])
    recovery.prior_ssthresh = 0
    recovery.flags &= ~(RECOVERY_UNDO | RECOVERY_FRTO)
    recovery.high_seq = board.nxt
    recovery.state = CA_LOSS


cdef void recovery_sent(Recovery* recovery, uint32_t segments) noexcept nogil:
    """So many new segments have left."""
    recovery.prr_out += segments


cdef void recovery_resent(Recovery* recovery, uint32_t segments, int64_t now_ns) noexcept nogil:
    """So many segments have left again."""
    recovery.prr_out += segments
    if not recovery.flags & RECOVERY_RESENT:
        recovery.flags |= RECOVERY_RESENT
        recovery.first_again_ns = now_ns
    recovery.undo_retrans = max(<int32_t> 0, recovery.undo_retrans) + <int32_t> segments
