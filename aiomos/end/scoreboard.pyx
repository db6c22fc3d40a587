"""The sender's memory of what is in flight: acknowledged, SACKed, lost, sent again.

RFC 2018 and 6675 (SACK), 2883 (DSACK), 6298 section 3 (Karn's rule), 8985 section 6.2 (what is noted for RACK), and
draft-cheng-iccrg-delivery-rate-estimation (what is noted for the delivery rate). What an ACK costs is bounded by what
it newly says: SACKed neighbours become one record, so that none is passed twice, and a block is found by the tree.
"""

from libc.stdint cimport INT64_MAX
from libc.string cimport memset

from aiomos.end.sent cimport (
    BY_LOSS, BY_SEQ, NEWER, OLDER, SENT_AGAIN, SENT_EVER_AGAIN, SENT_FIN, SENT_LIMITED, SENT_LOST, SENT_SACKED,
    SENT_SYN, Sent, sent_after, sent_at)
from aiomos.end.treap cimport treap_add, treap_find, treap_first, treap_remove
from aiomos.wire.pool cimport pool_give, pool_take
from aiomos.wire.seq cimport seq_leq, seq_lt, seq_max

# What board_ack() remembers from one record to the next.
ctypedef struct Look:
    uint32_t fack              # as it was before this ACK: what one ACK tells has no order
    int64_t first_acked_ns
    int64_t last_acked_ns
    int64_t first_sacked_ns
    int64_t last_sacked_ns


cdef inline uint32_t segments_of(const Scoreboard* board, const Sent* record) noexcept nogil:
    """SYN and FIN count a number each, but are no data: they ride on a segment."""
    cdef uint32_t data = record.end - record.seq - (record.flags & SENT_SYN) - ((record.flags & SENT_FIN) >> 1)
    return max(<uint32_t> 1, data // board.mss + (data % board.mss != 0))


cdef inline bint in_flight(const Sent* record) noexcept nogil:
    return not record.flags & SENT_SACKED and (record.flags & (SENT_LOST | SENT_AGAIN)) != SENT_LOST


cdef inline void time_append(Scoreboard* board, Pool* pool, uint32_t index, Sent* record) noexcept nogil:
    record.links[OLDER], record.links[NEWER] = board.newest, 0
    if board.newest:
        sent_at(pool, board.newest).links[NEWER] = index
    else:
        board.oldest = index
    board.newest = index


cdef inline void time_remove(Scoreboard* board, Pool* pool, Sent* record) noexcept nogil:
    cdef uint32_t older = record.links[OLDER], newer = record.links[NEWER]
    if older:
        sent_at(pool, older).links[NEWER] = newer
    else:
        board.oldest = newer
    if newer:
        sent_at(pool, newer).links[OLDER] = older
    else:
        board.newest = older


cdef inline void recount(Scoreboard* board, Sent* record, uint32_t segments) noexcept nogil:
    """A record counts so many segments now; in whatever counters it is in."""
    cdef uint32_t change = segments - record.segments      # modulo 2**32, as the counters are
    record.segments = segments
    board.packets_out += change
    if record.flags & SENT_SACKED:
        board.sacked_out += change
    if record.flags & SENT_LOST:
        board.lost_out += change
    if record.flags & SENT_AGAIN:
        board.retrans_out += change


cdef inline void unlist(Scoreboard* board, Pool* pool, uint32_t index, Sent* record) noexcept nogil:
    """Out of the list by time or the tree of lost ones, in one of which is whatever is not SACKed."""
    if in_flight(record):
        time_remove(board, pool, record)
    else:
        treap_remove(pool, &board.lost_tree, BY_LOSS, index)


cdef inline void leave_place(Scoreboard* board, Pool* pool, uint32_t index, Sent* record) noexcept nogil:
    """Out of the list by time or the tree of lost ones, and of what they count."""
    if record.flags & SENT_SACKED:
        return
    unlist(board, pool, index, record)
    if record.flags & SENT_LOST:
        board.lost_out -= record.segments
    if record.flags & SENT_AGAIN:
        board.retrans_out -= record.segments
    record.flags &= ~<uint32_t> (SENT_LOST | SENT_AGAIN)


cdef void list_remove(Scoreboard* board, Pool* pool, uint32_t index, Sent* record) noexcept nogil:
    """Out of the list and the tree of all, and back to the pool."""
    if record.prev:
        sent_at(pool, record.prev).next = record.next
    else:
        board.first = record.next
    if record.next:
        sent_at(pool, record.next).prev = record.prev
    else:
        board.last = record.prev
    treap_remove(pool, &board.tree, BY_SEQ, index)
    pool_give(pool, index)


cdef void list_insert(Scoreboard* board, Pool* pool, uint32_t before, uint32_t index, Sent* record) noexcept nogil:
    """Into the list and the tree of all, behind *before*."""
    record.prev, record.next = before, board.first
    if before:
        record.next = sent_at(pool, before).next
        sent_at(pool, before).next = index
    else:
        board.first = index
    if record.next:
        sent_at(pool, record.next).prev = index
    else:
        board.last = index
    treap_add(pool, &board.tree, BY_SEQ, index)


cdef void board_open(Scoreboard* board, uint32_t seq, uint32_t mss) noexcept nogil:
    """Nothing is in flight, and what is sent next begins at *seq*."""
    memset(board, 0, sizeof(Scoreboard))
    board.una = board.nxt = board.fack = seq
    board.mss = max(<uint32_t> 1, mss)


cdef void board_close(Scoreboard* board, Pool* pool) noexcept nogil:
    """Give all records back; what was sent is forgotten."""
    cdef uint32_t index = board.first, following
    while index:
        following = sent_at(pool, index).next
        pool_give(pool, index)
        index = following
    board_open(board, board.nxt, board.mss)


cdef inline void stamp(Scoreboard* board, Pool* pool, Sent* record, int64_t now_ns) noexcept nogil:
    """Note when it leaves, and what the delivery rate is computed from.

    The list by time always rises, whatever the clock does: of what leaves by one reading of it, as all of a batch does,
    RACK must know the order. By sequence number, as RFC 8985 has it, a retransmission would pass for sent first.
    """
    if board.newest:
        now_ns = max(now_ns, sent_at(pool, board.newest).sent_ns + 1)
    record.sent_ns = now_ns
    record.first_sent_ns, record.delivered_ns = board.first_sent_ns, board.delivered_ns
    record.delivered = board.delivered
    record.flags &= ~<uint32_t> SENT_LIMITED
    if board.app_limited:
        record.flags |= SENT_LIMITED


cdef bint board_sent(Scoreboard* board, Pool* pool, uint32_t end, uint32_t flags, int64_t now_ns) noexcept nogil:
    """Note that [nxt, end) left, for the first time; *flags*: SENT_SYN, SENT_FIN.

    False when it may not leave, since it could not be remembered: the pool is used up, or it is more than any window.
    """
    cdef uint32_t index
    cdef Sent* record
    if not seq_lt(board.nxt, end) or end - board.una > MOST_IN_FLIGHT:
        return False
    index = pool_take(pool)
    if not index:
        return False
    if not board.packets_out:
        board.first_sent_ns = board.delivered_ns = now_ns
    record = sent_at(pool, index)
    record.seq, record.end, record.flags = board.nxt, end, flags & (SENT_SYN | SENT_FIN)
    record.segments = segments_of(board, record)
    stamp(board, pool, record, now_ns)
    list_insert(board, pool, board.last, index, record)
    time_append(board, pool, index, record)
    board.packets_out += record.segments
    board.nxt = end
    board.widest = max(board.widest, end - board.una)
    return True


cdef bint split_at(Scoreboard* board, Pool* pool, uint32_t index, uint32_t seq) noexcept nogil:
    """Make two records of one that is not SACKed: the first keeps its number. False when the pool is used up."""
    cdef uint32_t more = pool_take(pool)
    cdef Sent* left
    cdef Sent* right
    if not more:
        return False
    left, right = sent_at(pool, index), sent_at(pool, more)
    right[0] = left[0]
    right.seq = left.end = seq
    right.flags &= ~<uint32_t> SENT_SYN
    left.flags &= ~<uint32_t> SENT_FIN
    right.segments = 0
    recount(board, left, segments_of(board, left))
    recount(board, right, segments_of(board, right))
    list_insert(board, pool, index, more, right)
    if not in_flight(left):
        treap_add(pool, &board.lost_tree, BY_LOSS, more)
        return True
    right.links[OLDER], right.links[NEWER] = index, left.links[NEWER]
    if left.links[NEWER]:
        sent_at(pool, left.links[NEWER]).links[OLDER] = more
    else:
        board.newest = more
    left.links[NEWER] = more
    return True


cdef bint board_split(Scoreboard* board, Pool* pool, uint32_t index, uint32_t segments) noexcept nogil:
    """Have a record that is not SACKed count no more than so many segments, at least one; the rest becomes another.

    False when it counts more, since the pool is used up.
    """
    cdef Sent* record = sent_at(pool, index)
    segments = max(<uint32_t> 1, segments)
    if record.segments <= segments or record.flags & SENT_SACKED:
        return True
    return split_at(board, pool, index, record.seq + (record.flags & SENT_SYN) + segments * board.mss)


cdef void note_delivered(Scoreboard* board, const Ack* ack, const Sent* record, uint32_t end, Look* look,
                         AckResult* out) noexcept nogil:
    """A record, up to *end*, arrived, and we did not know that before this ACK."""
    cdef bint again = record.flags & SENT_EVER_AGAIN
    if not again:
        if not out.flags & ACK_ORIGINAL or seq_lt(end, out.original_end):
            out.original_end = end
        out.flags |= ACK_ORIGINAL
        if seq_lt(end, look.fack):                         # RFC 8985 section 6.2 step 3
            out.flags |= ACK_REORDERED
    board.fack = seq_max(board.fack, end)
    if not out.flags & ACK_RATE or sent_after(record.sent_ns, end, out.rate_sent_ns, out.rate_end):
        out.flags = (out.flags & ~<uint32_t> (ACK_RATE_LIMITED | ACK_RATE_AGAIN)) | ACK_RATE
        if record.flags & SENT_LIMITED:
            out.flags |= ACK_RATE_LIMITED
        if again:
            out.flags |= ACK_RATE_AGAIN
        out.rate_delivered, out.rate_delivered_ns = record.delivered, record.delivered_ns
        out.rate_first_sent_ns, out.rate_sent_ns, out.rate_end = record.first_sent_ns, record.sent_ns, end
    # It may be an earlier transmission that arrived: RFC 8985 section 6.2 step 2.
    if again and (record.sent_ns > ack.echo_ns or ack.now_ns - record.sent_ns < ack.min_rtt_ns):
        return
    if not out.flags & ACK_LATEST or sent_after(record.sent_ns, end, out.latest_sent_ns, out.latest_end):
        out.latest_sent_ns, out.latest_end = record.sent_ns, end
        out.flags = (out.flags & ~<uint32_t> ACK_LATEST_AGAIN) | ACK_LATEST
        if again:
            out.flags |= ACK_LATEST_AGAIN


cdef uint32_t merge_sacked(Scoreboard* board, Pool* pool, uint32_t index) noexcept nogil:
    """Make one record of a SACKed one and its neighbour behind, if that is SACKed, too; gives the one that follows."""
    cdef Sent* record = sent_at(pool, index)
    cdef uint32_t other = record.next
    cdef Sent* behind
    if not other:
        return 0
    behind = sent_at(pool, other)
    if not behind.flags & SENT_SACKED:
        return other
    record.end = behind.end
    record.segments += behind.segments
    record.flags |= behind.flags & (SENT_FIN | SENT_EVER_AGAIN)
    list_remove(board, pool, other, behind)
    return record.next


cdef uint32_t sack_record(Scoreboard* board, Pool* pool, const Ack* ack, uint32_t index, uint32_t start, uint32_t stop,
                          Look* look, AckResult* out) noexcept nogil:
    """SACK what of a record is within [start, stop); gives the record to look at next.

    Whole segments only, as Linux does: a receiver that tells of single bytes does not make us keep records of them.
    """
    cdef Sent* record = sent_at(pool, index)
    cdef uint32_t base = record.seq + (record.flags & SENT_SYN), previous, count
    if seq_lt(record.seq, start):
        count = (start - base + board.mss - 1) // board.mss if seq_lt(base, start) else 1
        if count >= record.segments:
            return record.next
        start = base + count * board.mss
    else:
        start = record.seq
    if seq_lt(stop, record.end):
        count = min((stop - base) // board.mss, record.segments - 1) if seq_lt(base, stop) else 0
        stop = base + count * board.mss if count else record.seq
    else:
        stop = record.end
    if not seq_lt(start, stop):
        return record.next
    if seq_lt(stop, record.end) and not split_at(board, pool, index, stop):
        out.unsplit += 1
        return record.next
    if seq_lt(record.seq, start):
        if not split_at(board, pool, index, start):
            out.unsplit += 1
            return record.next
        index = record.next
        record = sent_at(pool, index)
    note_delivered(board, ack, record, record.end, look, out)
    if not record.flags & SENT_EVER_AGAIN:
        look.first_sacked_ns = min(look.first_sacked_ns, record.sent_ns)
        look.last_sacked_ns = max(look.last_sacked_ns, record.sent_ns)
    leave_place(board, pool, index, record)
    record.flags |= SENT_SACKED
    board.sacked_out += record.segments
    out.newly_sacked += record.segments
    out.sacked_bytes += record.end - record.seq
    out.flags |= ACK_SACKED
    previous = record.prev
    if previous and sent_at(pool, previous).flags & SENT_SACKED:
        merge_sacked(board, pool, previous)
        index = previous
    return merge_sacked(board, pool, index)


cdef bint is_duplicate(const uint32_t* blocks, uint8_t count, uint32_t ack) noexcept nogil:
    """Is the first block a DSACK? Below the cumulative ACK, or inside the second block: RFC 2883 section 4."""
    return seq_lt(blocks[0], ack) or (count > 1 and seq_leq(blocks[2], blocks[0]) and seq_leq(blocks[1], blocks[3]))


cdef void take_dsack(Scoreboard* board, const Ack* ack, AckResult* out) noexcept nogil:
    """Believe a DSACK of what was sent, and of no more segments than were sent again."""
    cdef uint32_t start = ack.blocks[0], end = ack.blocks[1], length = end - start, segments
    segments = max(<uint32_t> 1, length // board.mss + (length % board.mss != 0))
    if (not seq_lt(start, end) or seq_lt(board.nxt, end) or length > board.widest
            or (seq_lt(start, ack.ack) and seq_lt(ack.ack, end)) or segments > board.resent - board.duplicates):
        out.bad_blocks += 1
        return
    board.duplicates += segments
    out.duplicates, out.dsack_start, out.dsack_end = segments, start, end
    out.flags |= ACK_DSACK


cdef void take_blocks(Scoreboard* board, Pool* pool, const Ack* ack, Look* look, AckResult* out) noexcept nogil:
    cdef uint32_t index, start, stop
    cdef uint8_t count = min(ack.block_count, <uint8_t> FORM_BLOCKS), i = 0
    out.flags |= ACK_HAD_SACK
    if is_duplicate(ack.blocks, count, ack.ack):
        take_dsack(board, ack, out)
        i = 1
    for i in range(i, count):
        start, stop = ack.blocks[2 * i], ack.blocks[2 * i + 1]
        if not seq_lt(start, stop) or not seq_lt(board.una, start) or seq_lt(board.nxt, stop):
            out.bad_blocks += 1
            continue
        index = treap_find(pool, board.tree, BY_SEQ, start)
        while index and seq_lt(sent_at(pool, index).seq, stop):
            out.touched += 1
            if sent_at(pool, index).flags & SENT_SACKED:
                index = sent_at(pool, index).next
            else:
                index = sack_record(board, pool, ack, index, start, stop, look, out)


cdef void take_cumulative(Scoreboard* board, Pool* pool, const Ack* ack, Look* look, AckResult* out) noexcept nogil:
    cdef uint32_t index, end, before
    cdef Sent* record
    while board.first:
        index = board.first
        record = sent_at(pool, index)
        if seq_leq(ack.ack, record.seq):
            break
        out.touched += 1
        before = record.segments
        end = record.end
        if seq_lt(ack.ack, end):                           # a part of it: what is left is counted anew
            end = ack.ack
            record.seq = end
            record.flags &= ~<uint32_t> SENT_SYN
            recount(board, record, min(before, segments_of(board, record)))
            before -= record.segments
        if before:
            out.acked += before
            if record.flags & SENT_EVER_AGAIN:
                out.flags |= ACK_AGAIN
            if not record.flags & SENT_SACKED:
                out.delivered += before
                note_delivered(board, ack, record, end, look, out)
                if not record.flags & SENT_EVER_AGAIN:
                    look.first_acked_ns = min(look.first_acked_ns, record.sent_ns)
                    look.last_acked_ns = max(look.last_acked_ns, record.sent_ns)
        if end != record.end:
            break
        leave_place(board, pool, index, record)
        board.packets_out -= record.segments
        if record.flags & SENT_SACKED:
            board.sacked_out -= record.segments
        list_remove(board, pool, index, record)
    out.bytes = ack.ack - board.una
    out.flags |= ACK_ADVANCED
    board.una = ack.ack
    board.fack = seq_max(board.fack, ack.ack)


cdef void take_samples(const Ack* ack, const Look* look, AckResult* out) noexcept nogil:
    """RTT by the first and the last of what arrived, as tcp_clean_rtx_queue() of Linux does."""
    cdef int64_t first = -1, last = -1
    if look.first_sacked_ns != INT64_MAX:
        first, last = ack.now_ns - look.first_sacked_ns, ack.now_ns - look.last_sacked_ns
    if look.first_acked_ns != INT64_MAX and not out.flags & ACK_AGAIN:
        first = ack.now_ns - look.first_acked_ns
        if last < 0:
            last = ack.now_ns - look.last_acked_ns
    out.rtt_ns, out.latest_rtt_ns = max(<int64_t> -1, first), max(<int64_t> -1, last)


cdef void board_ack(Scoreboard* board, Pool* pool, const Ack* ack, AckResult* out) noexcept nogil:
    """Take in what an ACK says. Of an old one, whose number is below snd_una, that is its SACK blocks."""
    cdef Look look
    memset(out, 0, sizeof(AckResult))
    out.rtt_ns = out.latest_rtt_ns = -1
    out.prior_una, out.prior_in_flight = board.una, board_in_flight(board)
    out.prior_flight = board.packets_out - board.sacked_out
    out.prior_flight -= min(out.prior_flight, board.dupacks)
    if seq_lt(board.nxt, ack.ack):
        out.flags = ACK_BEYOND
        return
    look.fack = board.fack
    look.first_acked_ns = look.first_sacked_ns = INT64_MAX
    look.last_acked_ns = look.last_sacked_ns = -INT64_MAX
    if ack.block_count:
        take_blocks(board, pool, ack, &look, out)
    if seq_lt(board.una, ack.ack):
        take_cumulative(board, pool, ack, &look, out)
    out.delivered += out.newly_sacked
    if not out.delivered:
        return
    take_samples(ack, &look, out)
    board.delivered += out.delivered
    board.delivered_ns = ack.now_ns
    board.first_sent_ns = out.rate_sent_ns
    if board.app_limited and seq_lt(board.app_limited, board.delivered):
        board.app_limited = 0


cdef uint32_t board_lose(Scoreboard* board, Pool* pool, uint32_t index) noexcept nogil:
    """A record's latest transmission is lost: it is to be sent again. Its segments, or 0 when it is not in flight."""
    cdef Sent* record = sent_at(pool, index)
    if not in_flight(record):
        return 0
    time_remove(board, pool, record)
    if not record.flags & SENT_LOST:
        board.lost_out += record.segments
    if record.flags & SENT_AGAIN:
        board.retrans_out -= record.segments
    record.flags = (record.flags & ~<uint32_t> SENT_AGAIN) | SENT_LOST
    treap_add(pool, &board.lost_tree, BY_LOSS, index)
    return record.segments


cdef void board_forgive(Scoreboard* board, Pool* pool) noexcept nogil:
    """Nothing is lost after all. Walks what is in flight, once a recovery or time-out at most.

    What was not sent again goes to the beginning of the list by time, from which it came; if it belongs further on, it
    passes for older than it is, and gives no RTT.
    """
    cdef uint32_t index = board.last
    cdef Sent* record
    board.lost_out = board.lost_tree = 0
    while index:
        record = sent_at(pool, index)
        if (record.flags & (SENT_LOST | SENT_AGAIN)) == SENT_LOST:
            if board.oldest and sent_at(pool, board.oldest).sent_ns < record.sent_ns:
                record.sent_ns = sent_at(pool, board.oldest).sent_ns
                record.flags |= SENT_EVER_AGAIN
            record.links[OLDER], record.links[NEWER] = 0, board.oldest
            if board.oldest:
                sent_at(pool, board.oldest).links[OLDER] = index
            else:
                board.newest = index
            board.oldest = index
        record.flags &= ~<uint32_t> SENT_LOST
        index = record.prev


cdef uint32_t board_next_lost(const Scoreboard* board, const Pool* pool) noexcept nogil:
    """The first record by sequence number that is to be sent again (RFC 6675 section 4, NextSeg rule 1); 0: none."""
    return treap_first(pool, board.lost_tree, BY_LOSS)


cdef void board_retransmitted(Scoreboard* board, Pool* pool, uint32_t index, int64_t now_ns) noexcept nogil:
    """A record left again: one that was lost, or, as a probe (RFC 8985 section 7.3), one that is in flight."""
    cdef Sent* record = sent_at(pool, index)
    if record.flags & SENT_SACKED:
        return
    unlist(board, pool, index, record)
    if not record.flags & SENT_AGAIN:
        board.retrans_out += record.segments
    record.flags |= SENT_AGAIN | SENT_EVER_AGAIN
    stamp(board, pool, record, now_ns)
    time_append(board, pool, index, record)
    board.resent += record.segments


cdef void forget_sacks(Scoreboard* board, Pool* pool) noexcept nogil:
    """The receiver has thrown away what it had SACKed (RFC 2018 section 8): all that is lost."""
    cdef uint32_t index = board.first
    cdef Sent* record
    while index:
        record = sent_at(pool, index)
        if record.flags & SENT_SACKED:
            recount(board, record, segments_of(board, record))     # many small ones may have become one
            board.sacked_out -= record.segments
            board.lost_out += record.segments
            record.flags = (record.flags & ~<uint32_t> SENT_SACKED) | SENT_LOST
            treap_add(pool, &board.lost_tree, BY_LOSS, index)
        index = record.next
    board.fack = board.una


cdef bint board_timeout(Scoreboard* board, Pool* pool, int64_t sent_by_ns) noexcept nogil:
    """The RTO has expired: the first is lost, and what was sent by then (RFC 8985 section 6.3); INT64_MAX: all.

    True when the first is SACKed: the receiver has reneged, and all its SACKs are forgotten.
    """
    cdef bint reneged = board_reneging(board, pool)
    board.dupacks = 0
    if reneged:
        forget_sacks(board, pool)
        sent_by_ns = INT64_MAX
    elif board.first:
        board_lose(board, pool, board.first)
    while board.oldest and sent_at(pool, board.oldest).sent_ns <= sent_by_ns:
        board_lose(board, pool, board.oldest)
    return reneged


cdef uint32_t board_resize(Scoreboard* board, Pool* pool, uint32_t mss) noexcept nogil:
    """Segments hold so many bytes from now on. What left in larger ones is lost (RFC 1191 section 6.5); gives how many.

    The one walk over all that is in flight; a path shrinks seldom, and what an ICMP says is checked before.
    """
    cdef uint32_t index = board.first, lost = 0, data
    cdef bint too_long
    cdef Sent* record
    mss = max(<uint32_t> 1, mss)
    while index:
        record = sent_at(pool, index)
        data = record.end - record.seq - (record.flags & SENT_SYN) - ((record.flags & SENT_FIN) >> 1)
        too_long = min(data, board.mss) > mss
        recount(board, record, max(<uint32_t> 1, data // mss + (data % mss != 0)))
        if too_long:
            lost += board_lose(board, pool, index)
        index = record.next
    board.mss = mss
    return lost


cdef void board_app_limited(Scoreboard* board) noexcept nogil:
    """The application has no more to send: what leaves until that has arrived tells nothing of the path's rate."""
    board.app_limited = max(<uint32_t> 1, board.delivered + board_in_flight(board))
