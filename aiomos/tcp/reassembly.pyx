"""Reassembly of one half: which bytes were seen, which are held behind a hole, which are given up.

A track has an `edge`. Bytes before it are delivered or given up for good; a segment that starts at the edge
with nothing held in its way is passed on without a copy. Anything beyond the edge is held as pieces in a skip
list ordered by offset; overlaps among pieces follow the policy of docs/reference/overlap.md.

A hole is given up as a gap when the receiver has acknowledged past it and a hold has gone by, when it
is too old, when too much is held behind it, or when the flow ends; never because of what the other half sends.
"""

from libc.string cimport memcmp, memcpy, memset

from aiomos.tcp.flows cimport ACK_SEEN, FIN_SEEN, ISS_KNOWN, SEQ_KNOWN, SINK
from aiomos.tcp.pool cimport pool_close, pool_give, pool_open, pool_take
from aiomos.tcp.seq cimport seq_diff, seq_leq, seq_lt
from aiomos.tcp.wire cimport FIN, SYN

cdef enum:
    SKIP_LEVELS = 4
    MAX_PIECES = 4096          # held in one half; reached only at level BYTES, where pieces hold no memory
    MAX_COMPARED = 256         # parts of a batch that a segment sent again is compared with
    MAX_MISSED = 64            # gaps of one half remembered, to take late bytes out of the loss again
    LEVEL_STREAM = 3

# Wireshark's rule for telling a reordered segment from a retransmission when no round trip was measured.
cdef int64_t REORDER_NS = 3_000_000


cdef bint streams_open(Streams* s, size_t flows, size_t held_bytes, size_t half_budget, size_t batch_frames,
                       uint32_t seed) noexcept nogil:
    """Set up the pools for *flows* flows and *held_bytes* bytes behind holes; false without memory."""
    memset(s, 0, sizeof(Streams))
    s.random = seed | 1
    s.half_budget = <uint32_t> min(half_budget, <size_t> 1 << 31)
    cdef size_t small = held_bytes // SMALL_BLOCK + 1, pieces = small + flows + MAX_PIECES
    return (pool_open(&s.tracks, sizeof(Track), 2 * flows)
            and pool_open(&s.pieces, sizeof(Piece), pieces)
            and pool_open(&s.small, SMALL_BLOCK, small)
            and pool_open(&s.large, LARGE_BLOCK, held_bytes // LARGE_BLOCK + 1)
            and pool_open(&s.parts, sizeof(Part), 4 * batch_frames + 2 * pieces + 4 * flows))


cdef void streams_close(Streams* s) noexcept nogil:
    pool_close(&s.tracks)
    pool_close(&s.pieces)
    pool_close(&s.small)
    pool_close(&s.large)
    pool_close(&s.parts)


cdef uint32_t track_open(Streams* s) noexcept nogil:
    cdef uint32_t index = pool_take(&s.tracks)
    if index:
        memset(track_at(s, index), 0, sizeof(Track))
    return index


cdef void track_close(Streams* s, uint32_t index) noexcept nogil:
    """Free a track and all it holds; parts not delivered are dropped."""
    cdef Track* t = track_at(s, index)
    cdef uint32_t at, after
    track_lower(s, t)
    while t.head[0]:
        drop_piece(s, t, t.head[0])
    at = t.missed
    while at:
        after = piece_at(s, at).next[0]
        pool_give(&s.pieces, at)
        at = after
    pool_give(&s.tracks, index)


cdef void track_lower(Streams* s, Track* t) noexcept nogil:
    """Drop what waits for delivery and the payload of what is held: nobody takes this half's bytes any more."""
    cdef uint32_t at = t.out_head, after
    while at:
        after = part_at(s, at).next
        part_release(s, at)
        at = after
    t.out_head = t.out_tail = 0
    t.past = NULL
    at = t.head[0]
    while at:
        drop_block(s, t, piece_at(s, at))
        at = piece_at(s, at).next[0]


cdef void track_base(Track* t, const Half* half) noexcept nogil:
    """Fix which sequence number is offset 0: the one after the SYN, or where the half was picked up."""
    if t.edge == 0 and not t.head[0] and half.flags & SEQ_KNOWN:
        t.edge_seq = half.iss + 1 if half.flags & ISS_KNOWN else half.una
        t.flags |= BASED


cdef void track_begin_late(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    """Consumers are told of the half only now: what went by before is a gap to them."""
    cdef Part* part
    if t.edge and half.flags & SINK:
        s.gaps[GAP_UNREAD] += 1
        s.gap_bytes[GAP_UNREAD] += t.edge
        part = emit(s, t, PART_GAP, 0, t.edge, now_ns)
        if part != NULL:
            part.reason = GAP_UNREAD


# --- offsets --------------------------------------------------------------------------------------

cdef inline int64_t offset_of(const Track* t, uint32_t seq) noexcept nogil:
    """Stream offset of a sequence number near the edge; negative before the stream's start."""
    return <int64_t> t.edge + seq_diff(seq, t.edge_seq)


cdef inline int64_t acked_offset(const Track* t, const Half* half) noexcept nogil:
    """Stream offset up to which the receiver has acknowledged data (its ACK of a FIN counts one more)."""
    if not half.flags & ACK_SEEN:
        return 0
    if half.flags & FIN_SEEN and seq_lt(half.fin, half.una):
        return offset_of(t, half.fin)
    return offset_of(t, half.una)


cdef void advance(Track* t, uint64_t to) noexcept nogil:
    t.edge_seq += <uint32_t> (to - t.edge)
    t.edge = to


# --- parts: what goes to the consumers -------------------------------------------------------------

cdef Part* emit(Streams* s, Track* t, int kind, uint64_t offset, uint64_t length, int64_t time_ns) noexcept nogil:
    """Append a part; its pool holds as many as one batch can bring about."""
    cdef uint32_t index = pool_take(&s.parts)
    cdef Part* part
    if index == 0:
        s.parts_missing += 1
        return NULL
    part = part_at(s, index)
    part.kind = <uint8_t> kind
    part.reason = 0
    part.offset = offset
    part.length = length
    part.time_ns = time_ns
    part.data = NULL
    part.block = 0
    part.next = 0
    s.serial += 1
    part.serial = s.serial
    if t.out_tail:
        part_at(s, t.out_tail).next = index
    else:
        t.out_head = index
    t.out_tail = index
    return part


cdef void part_release(Streams* s, uint32_t index) noexcept nogil:
    cdef Part* part = part_at(s, index)
    if part.block:
        pool_give(&s.large if part.large else &s.small, part.block)
    pool_give(&s.parts, index)


cdef void emit_gap(Streams* s, Track* t, const Half* half, uint64_t to, int reason, int64_t now_ns) noexcept nogil:
    """Tell that the bytes from the edge to *to* will not come, and go on behind them."""
    cdef uint64_t length = to - t.edge
    cdef Part* part
    t.gaps += 1
    s.gaps[reason] += 1
    s.gap_bytes[reason] += length
    if half.flags & SINK:
        part = emit(s, t, PART_GAP, t.edge, length, now_ns)
        if part != NULL:
            part.reason = <uint8_t> reason
    if reason != GAP_SNAPLEN:
        remember_missed(s, t, t.edge, to)
    advance(t, to)


cdef void deliver(Streams* s, Track* t, const Half* half, const Packet* packet, uint64_t start,
                  const uint8_t* data, uint64_t length, uint64_t captured) noexcept nogil:
    """Pass a segment's bytes at the edge on; what the snap length cut off becomes a gap."""
    cdef Part* part
    if half.flags & SINK and captured:
        part = emit(s, t, PART_DATA, start, captured, packet.time_ns)
        if part != NULL:
            part.data = data
            if packet.transient:
                own_bytes(s, part)
    advance(t, start + captured)
    if captured < length:
        if half.level == LEVEL_STREAM:
            emit_gap(s, t, half, start + length, GAP_SNAPLEN, packet.time_ns)
        else:
            advance(t, start + length)


cdef void own_bytes(Streams* s, Part* part) noexcept nogil:
    """Copy bytes that do not outlive the packet; without a block left they are a gap."""
    part.large = part.length > SMALL_BLOCK
    if part.length <= LARGE_BLOCK:
        part.block = pool_take(&s.large if part.large else &s.small)
    if part.block == 0:
        part.kind = PART_GAP
        part.reason = GAP_BUDGET
        s.gaps[GAP_BUDGET] += 1
        s.gap_bytes[GAP_BUDGET] += part.length
        return
    cdef uint8_t* block = <uint8_t*> pool_at(&s.large if part.large else &s.small, part.block)
    memcpy(block, part.data, part.length)
    part.data = block


# --- pieces: a skip list ---------------------------------------------------------------------------

cdef inline Piece* piece_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Piece*> pool_at(&s.pieces, index)


cdef int coin(Streams* s) noexcept nogil:
    """Levels of a new piece: one more with probability 1/8 each (xorshift32 from a secret seed)."""
    cdef uint32_t x = s.random
    cdef int levels = 1
    x ^= x << 13
    x ^= x >> 17
    x ^= x << 5
    s.random = x
    while levels < SKIP_LEVELS and x & 7 == 0:
        levels += 1
        x >>= 3
    return levels


cdef void find_before(Streams* s, Track* t, uint64_t offset, uint32_t** links) noexcept nogil:
    """The links, level by level, that lead to the first piece starting at or after *offset*."""
    cdef uint32_t* row = t.head
    cdef int level = SKIP_LEVELS - 1
    while level >= 0:
        while row[level] and piece_at(s, row[level]).start < offset:
            row = piece_at(s, row[level]).next
        links[level] = row + level
        level -= 1


cdef uint32_t first_overlap(Streams* s, Track* t, uint64_t offset) noexcept nogil:
    """The first piece that ends after *offset*."""
    cdef uint32_t* row = t.head
    cdef uint32_t before = 0
    cdef int level = SKIP_LEVELS - 1
    while level >= 0:
        while row[level] and piece_at(s, row[level]).start <= offset:
            before = row[level]
            row = piece_at(s, before).next
        level -= 1
    if before and piece_at(s, before).end > offset:
        return before
    return piece_at(s, before).next[0] if before else t.head[0]


cdef void unlink_piece(Streams* s, Track* t, uint32_t index) noexcept nogil:
    cdef uint32_t* links[SKIP_LEVELS]
    cdef int level
    cdef Piece* piece = piece_at(s, index)
    find_before(s, t, piece.start, links)
    for level in range(SKIP_LEVELS):
        if links[level][0] == index:
            links[level][0] = piece.next[level]
    t.pieces -= 1


cdef void drop_block(Streams* s, Track* t, Piece* piece) noexcept nogil:
    if piece.block:
        pool_give(&s.large if piece.large else &s.small, piece.block)
        t.held_bytes -= LARGE_BLOCK if piece.large else SMALL_BLOCK
        piece.block = 0
    piece.data = NULL


cdef void drop_piece(Streams* s, Track* t, uint32_t index) noexcept nogil:
    unlink_piece(s, t, index)
    drop_block(s, t, piece_at(s, index))
    pool_give(&s.pieces, index)


cdef bint has_blocks(const Streams* s, uint64_t length) noexcept nogil:
    """Are there pieces and blocks for a segment of *length* bytes, and for what overlaps and cuts make of it?"""
    cdef const Pool* blocks = &s.large if length > SMALL_BLOCK else &s.small
    return (s.pieces.in_use + 3 <= s.pieces.capacity and blocks.in_use + 2 <= blocks.capacity
            and s.small.in_use + 2 <= s.small.capacity)


cdef bint has_room(const Streams* s, const Track* t, uint64_t length, bint with_data) noexcept nogil:
    """Is there a piece, and a block for its bytes, within every budget?"""
    if t.pieces + 3 > MAX_PIECES:
        return False
    if not with_data:
        return s.pieces.in_use + 3 <= s.pieces.capacity
    return (has_blocks(s, length)
            and t.held_bytes + (LARGE_BLOCK if length > SMALL_BLOCK else SMALL_BLOCK) <= s.half_budget)


cdef bint add_piece(Streams* s, Track* t, uint64_t start, uint64_t end, const uint8_t* data,
                    const Piece* origin) noexcept nogil:
    """Hold the bytes from *start* to *end*; *origin* gives the segment's edges and time."""
    cdef uint32_t* links[SKIP_LEVELS]
    cdef uint32_t index = pool_take(&s.pieces)
    cdef Piece* piece
    cdef int level, levels
    if index == 0:
        return False
    piece = piece_at(s, index)
    piece.start = start
    piece.end = end
    piece.seg_start = origin.seg_start
    piece.seg_end = origin.seg_end
    piece.time_ns = origin.time_ns
    piece.data = NULL
    piece.block = 0
    piece.cut = data == NULL and origin.data != NULL
    if data != NULL and not keep_bytes(s, t, piece, data):
        pool_give(&s.pieces, index)
        return False
    find_before(s, t, start, links)
    levels = coin(s)
    for level in range(SKIP_LEVELS):
        piece.next[level] = 0
        if level < levels:
            piece.next[level] = links[level][0]
            links[level][0] = index
    t.pieces += 1
    return True


cdef bint keep_bytes(Streams* s, Track* t, Piece* piece, const uint8_t* data) noexcept nogil:
    cdef uint64_t length = piece.end - piece.start
    piece.large = length > SMALL_BLOCK
    cdef Pool* pool = &s.large if piece.large else &s.small
    piece.block = pool_take(pool)
    if piece.block == 0:
        return False
    piece.data = <uint8_t*> pool_at(pool, piece.block)
    memcpy(<uint8_t*> piece.data, data, length)
    t.held_bytes += LARGE_BLOCK if piece.large else SMALL_BLOCK
    return True


# --- overlaps --------------------------------------------------------------------------------------

cdef bint new_wins(int policy, const Piece* old, const Piece* new, bint old_leads, uint64_t new_end) noexcept nogil:
    """The table of docs/reference/overlap.md; *new_end* is its new.end'."""
    if policy == OVERLAP_FIRST:
        return False
    if policy == OVERLAP_LAST:
        return True
    if policy == OVERLAP_LINUX:
        return new.start < old.seg_start or (new.start == old.seg_start and new.end > old.seg_end)
    if policy == OVERLAP_SOLARIS:
        return new_end > old.end if old_leads else new.end >= old.end
    return new.start < old.start


cdef bint leads(const Track* t, uint32_t index, const Piece* old, const Piece* new) noexcept nogil:
    return old.start < new.start or (old.start == new.start and t.head[0] == index)


cdef uint64_t solaris_end(Streams* s, Track* t, uint32_t at, const Piece* new) noexcept nogil:
    """new.end': where a later piece that reaches beyond the new segment begins, else its end."""
    cdef Piece* old
    while at:
        old = piece_at(s, at)
        if old.start >= new.end:
            break
        if old.end > new.end and not leads(t, at, old, new):
            return old.start
        at = old.next[0]
    return new.end


cdef uint64_t hold_segment(Streams* s, Track* t, const Piece* new, int policy) noexcept nogil:
    """Hold a segment beyond the edge, settling overlaps; returns how many of its bytes are new.

    *new* describes it: start, end, seg_start, seg_end, time and data (NULL at level BYTES).
    """
    cdef uint32_t at = first_overlap(s, t, new.start), after
    cdef uint64_t cursor = new.start, kept = new.start, fresh = 0, new_end = new.end, start, end
    cdef Piece* old
    cdef bint differs = False
    if policy == OVERLAP_SOLARIS:
        new_end = solaris_end(s, t, at, new)
    # `kept` to `cursor` is the stretch of the new segment that has won so far and is not stored yet.
    while at:
        old = piece_at(s, at)
        if old.start >= new.end:
            break
        after = old.next[0]
        start = old.start if old.start > cursor else cursor
        end = old.end if old.end < new.end else new.end
        fresh += start - cursor
        if new.data != NULL and old.data != NULL and start < new.captured_end and memcmp(
                new.data + (start - new.start), old.data + (start - old.start),
                min(end, new.captured_end) - start) != 0:
            differs = True
        if not new_wins(policy, old, new, leads(t, at, old, new), new_end):
            store(s, t, new, kept, start)
            kept = end
        else:
            yield_range(s, t, at, start, end)
        cursor = end
        at = after
    fresh += new.end - cursor
    store(s, t, new, kept, new.end)
    if differs:
        count_conflict(s, t)
    return fresh


cdef void store(Streams* s, Track* t, const Piece* new, uint64_t start, uint64_t end) noexcept nogil:
    """Hold a stretch of a segment; what the snap length cut off becomes a piece without data."""
    cdef uint64_t captured = end
    if start >= end:
        return
    if new.data != NULL and new.captured_end < end:
        captured = new.captured_end if new.captured_end > start else start
    if start < captured:
        add_piece(s, t, start, captured, new.data + (start - new.start) if new.data != NULL else NULL, new)
    if captured < end:
        add_piece(s, t, captured, end, NULL, new)


cdef void yield_range(Streams* s, Track* t, uint32_t index, uint64_t start, uint64_t end) noexcept nogil:
    """An old piece gives the bytes from *start* to *end* up."""
    cdef Piece* old = piece_at(s, index)
    cdef uint64_t old_end = old.end
    if start == old.start and end == old.end:
        drop_piece(s, t, index)
    elif start == old.start:
        if old.data != NULL:
            old.data += end - old.start
        old.start = end
    else:
        old.end = start
        if end < old_end:
            add_piece(s, t, end, old_end, old.data + (end - old.start) if old.data != NULL else NULL, old)


# --- segments --------------------------------------------------------------------------------------

cdef void track_payload(Streams* s, Track* t, const Half* half, const Packet* packet, int policy,
                        bint payload_ok, uint32_t before_nxt) noexcept nogil:
    """Take in a segment of this half; *before_nxt* is half.nxt as it was before the segment."""
    cdef uint32_t length = packet.payload_len
    cdef uint32_t seq = packet.seq + (packet.flags & SYN > 0)
    cdef uint64_t fresh
    cdef bint ahead
    t.bytes += length
    if not payload_ok or not t.flags & BASED:
        return
    ahead = seq_lt(before_nxt, half.nxt)
    if length:
        fresh = take_bytes(s, t, half, packet, seq, policy)
        t.stream_bytes += fresh
        if seq_lt(seq, before_nxt):
            classify_late(t, packet.time_ns, fresh == length)
    elif not ahead and packet.flags & (SYN | FIN):
        t.retransmits += 1
        t.flags &= ~<uint32_t> TIMING
    if ahead:
        t.nxt_ns = packet.time_ns
        if not t.flags & TIMING:                   # RFC 6298 section 3: one segment timed at a time, none sent twice
            t.flags |= TIMING
            t.rtt_seq = half.nxt
            t.rtt_ns = packet.time_ns
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, packet.time_ns)


cdef void classify_late(Track* t, int64_t now_ns, bint all_fresh) noexcept nogil:
    """A segment behind the highest one seen: sent again, or overtaken on the way (Wireshark's time rule)."""
    cdef int64_t limit = t.handshake_ns if t.handshake_ns else REORDER_NS
    if all_fresh and now_ns - t.nxt_ns < limit and not t.flags & SYN_REFUSED:
        t.out_of_order += 1
    else:
        t.retransmits += 1
        t.flags &= ~<uint32_t> SYN_REFUSED
        t.flags &= ~<uint32_t> TIMING              # Karn's algorithm


cdef uint64_t take_bytes(Streams* s, Track* t, const Half* half, const Packet* packet, uint32_t seq,
                         int policy) noexcept nogil:
    """Deliver or hold a segment's bytes; returns how many of them had not been seen before."""
    cdef int64_t start = offset_of(t, seq), end = start + packet.payload_len
    cdef int64_t cut = 0
    cdef uint64_t late = 0, captured = packet.payload_cap, before
    cdef bint differs = False
    if start < <int64_t> t.edge:
        differs = half.flags & SINK and differs_from_delivered(s, t, packet, start)
        if differs:
            count_conflict(s, t)
        if t.missed:
            late = recover_missed(s, t, <uint64_t> (start if start > 0 else 0), <uint64_t> (end if end > 0 else 0))
        if end <= <int64_t> t.edge:
            return late
        cut = <int64_t> t.edge - start
        start = <int64_t> t.edge
        captured = captured - cut if captured > <uint64_t> cut else 0
    if packet.flags & SYN:
        t.flags |= SYN_DATA
    elif t.flags & SYN_DATA:
        t.flags &= ~<uint32_t> SYN_DATA
        drain(s, t, half, packet.time_ns)
        if end <= <int64_t> t.edge:
            return late
    if start == <int64_t> t.edge and not packet.flags & SYN and (
            t.head[0] == 0 or piece_at(s, t.head[0]).start >= <uint64_t> end):
        deliver(s, t, half, packet, <uint64_t> start, packet.payload + cut, <uint64_t> (end - start), captured)
        if t.head[0]:
            drain(s, t, half, packet.time_ns)
        settle_hole(t, half, packet.time_ns)
        return late + <uint64_t> (end - start)
    before = t.conflicts
    late += take_beyond(s, t, half, packet, start, end, cut, captured, policy)
    if differs and t.conflicts > before:           # one segment, one conflict
        t.conflicts -= 1
        s.conflicts -= 1
    return late


cdef bint differs_from_delivered(const Streams* s, const Track* t, const Packet* packet, int64_t start) noexcept nogil:
    """Does a segment sent again say something else than what was delivered?

    What was delivered in this batch is looked at, as far as a bounded walk reaches, and what was handed over last.
    """
    cdef uint32_t index = t.out_head
    cdef int left = MAX_COMPARED
    cdef const Part* part
    cdef bint differs = t.past != NULL and differing(packet, start, t.past, t.past_offset, t.past_length)
    while index and left and not differs:
        part = part_at(s, index)
        if part.kind == PART_DATA:
            differs = differing(packet, start, part.data, part.offset, part.length)
        index = part.next
        left -= 1
    return differs


cdef void count_conflict(Streams* s, Track* t) noexcept nogil:
    t.conflicts += 1
    s.conflicts += 1


cdef bint differing(const Packet* packet, int64_t start, const uint8_t* data, uint64_t offset,
                    uint64_t length) noexcept nogil:
    """Do the payload, which begins at stream offset *start*, and *data* differ where they share offsets?"""
    cdef int64_t left = max(start, <int64_t> offset)
    cdef int64_t right = min(start + packet.payload_cap, <int64_t> (offset + length))
    return left < right and memcmp(packet.payload + (left - start), data + (left - <int64_t> offset), right - left) != 0


cdef uint64_t take_beyond(Streams* s, Track* t, const Half* half, const Packet* packet, int64_t start,
                          int64_t end, int64_t cut, uint64_t captured, int policy) noexcept nogil:
    """Take in a segment that lies beyond a hole or meets held bytes; *cut* of its payload was delivered before."""
    cdef Piece new
    cdef uint64_t fresh = 0
    cdef bint with_data = half.level == LEVEL_STREAM
    new.data = NULL
    new.seg_start = <uint64_t> start
    new.seg_end = <uint64_t> end
    new.captured_end = <uint64_t> start + captured
    new.time_ns = packet.time_ns
    new.end = <uint64_t> start
    while new.end < <uint64_t> end:                # once, but for segments no block can hold
        new.start = new.end
        new.end = min(<uint64_t> end, new.start + LARGE_BLOCK)
        if with_data:
            new.data = packet.payload + cut + (new.start - <uint64_t> start)
        while not has_room(s, t, new.end - new.start, with_data) and t.edge < new.start:
            give_up_hole(s, t, half, new.start, GAP_BUDGET, packet.time_ns)
        if t.edge >= new.end:                      # what was behind the hole included these bytes
            continue
        if t.edge > new.start:
            if with_data:
                new.data += t.edge - new.start
            new.start = t.edge
        # At the edge it is passed on at once, so the half's budget may be exceeded for that moment.
        if has_room(s, t, new.end - new.start, with_data) or (
                t.edge >= new.start and has_blocks(s, new.end - new.start)):
            fresh += hold_segment(s, t, &new, policy)
            if not packet.flags & SYN:
                drain(s, t, half, packet.time_ns)
        else:
            fresh += deliver_between(s, t, half, packet, &new)
    settle_hole(t, half, packet.time_ns)
    return fresh


cdef uint64_t deliver_between(Streams* s, Track* t, const Half* half, const Packet* packet,
                              const Piece* new) noexcept nogil:
    """Without room to hold a segment at the edge, let it fill what held pieces leave open, whatever the policy."""
    cdef uint64_t fresh = 0, to, captured
    while t.edge < new.end:
        to = new.end
        if t.head[0] and piece_at(s, t.head[0]).start < to:
            to = piece_at(s, t.head[0]).start
        if to > t.edge:
            captured = min(to, new.captured_end) - t.edge if new.captured_end > t.edge else 0
            fresh += to - t.edge
            deliver(s, t, half, packet, t.edge, new.data + (t.edge - new.start) if new.data != NULL else NULL,
                    to - t.edge, captured)
        drain(s, t, half, packet.time_ns)
    return fresh


cdef void drain(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    """Deliver the pieces that have become contiguous."""
    cdef uint32_t index
    cdef Piece* piece
    cdef Part* part
    if t.flags & SYN_DATA:
        return
    while t.head[0]:
        index = t.head[0]
        piece = piece_at(s, index)
        if piece.start > t.edge:
            break
        if piece.end > t.edge:
            if half.flags & SINK and piece.data != NULL:
                part = emit(s, t, PART_DATA, t.edge, piece.end - t.edge, now_ns)
                if part != NULL:
                    part.data = piece.data + (t.edge - piece.start)
                    part.block = piece.block
                    part.large = piece.large
                    t.held_bytes -= LARGE_BLOCK if piece.large else SMALL_BLOCK
                    piece.block = 0
            if piece.cut and half.level == LEVEL_STREAM:
                emit_gap(s, t, half, piece.end, GAP_SNAPLEN, now_ns)
            else:
                advance(t, piece.end)
        drop_piece(s, t, index)


cdef void settle_hole(Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    """Note whether something is missing at the edge, and since when its receiver has had it."""
    cdef int64_t acked = acked_offset(t, half)
    if acked > <int64_t> t.edge:
        if not t.flags & ACKED_HOLE:
            t.flags |= ACKED_HOLE
            t.acked_ns = now_ns
            t.acked_to = <uint64_t> acked
    else:
        t.flags &= ~<uint32_t> ACKED_HOLE
    if t.head[0] or t.flags & ACKED_HOLE:
        t.flags |= HOLED
    else:
        t.flags &= ~<uint32_t> HOLED


# --- acknowledgements and time ----------------------------------------------------------------------

cdef void track_acked(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    """The receiver has acknowledged more of this half (half.una has moved)."""
    if t.flags & TIMING and seq_leq(t.rtt_seq, half.una):
        t.flags &= ~<uint32_t> TIMING
        add_rtt(t, now_ns - t.rtt_ns)
    if t.flags & SYN_DATA:
        t.flags &= ~<uint32_t> SYN_DATA
        if acked_offset(t, half) <= 0:             # RFC 7413 section 4.2.2: the server did not take the SYN's data
            t.flags |= SYN_REFUSED
            while t.head[0]:
                t.stream_bytes -= piece_at(s, t.head[0]).end - piece_at(s, t.head[0]).start
                drop_piece(s, t, t.head[0])
        drain(s, t, half, now_ns)
    if t.flags & BASED:
        settle_hole(t, half, now_ns)


cdef void add_rtt(Track* t, int64_t sample) noexcept nogil:
    """RFC 6298 section 2."""
    cdef int64_t error
    if sample < 0:                                 # the capture's clock was set back
        return
    if not t.flags & HAS_RTT:
        t.flags |= HAS_RTT
        t.srtt = sample
        t.rttvar = sample // 2
        return
    error = sample - t.srtt
    t.srtt += error // 8
    t.rttvar += ((error if error > 0 else -error) - t.rttvar) // 4


cdef void tracks_set_up(Track* client, Track* server) noexcept nogil:
    """The handshake is complete: its round trip, both ways from where the capture was, is known."""
    if client.flags & server.flags & HAS_RTT:
        client.handshake_ns = server.handshake_ns = client.srtt + server.srtt


cdef int64_t track_deadline(const Streams* s, const Track* t, const Half* half) noexcept nogil:
    """When the hole at the edge is to be given up, 0 when there is none."""
    cdef int64_t due = 0
    if not t.flags & HOLED:
        return 0
    if t.head[0]:
        due = piece_at(s, t.head[0]).time_ns + s.age_ns
    if t.flags & ACKED_HOLE and (due == 0 or t.acked_ns + s.hold_ns < due):
        due = t.acked_ns + s.hold_ns
    return due


cdef void track_tick(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    """Give up the holes whose time has come."""
    cdef int64_t acked = acked_offset(t, half)
    cdef uint64_t limit
    if t.flags & ACKED_HOLE and now_ns >= t.acked_ns + s.hold_ns:
        limit = t.acked_to if <int64_t> t.acked_to < acked else <uint64_t> acked
        while t.edge < limit:
            give_up_hole(s, t, half, limit, GAP_LOST, now_ns)
        t.flags &= ~<uint32_t> ACKED_HOLE
    while t.head[0] and now_ns >= piece_at(s, t.head[0]).time_ns + s.age_ns:
        give_up_hole(s, t, half, piece_at(s, t.head[0]).start, GAP_AGE, now_ns)
    settle_hole(t, half, now_ns)
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, now_ns)


cdef void give_up_hole(Streams* s, Track* t, const Half* half, uint64_t limit, int reason,
                       int64_t now_ns) noexcept nogil:
    """Make the hole at the edge a gap, as far as the first held piece or *limit*, and deliver what follows."""
    cdef uint64_t to = limit
    t.flags &= ~<uint32_t> SYN_DATA
    if t.head[0] and piece_at(s, t.head[0]).start < to:
        to = piece_at(s, t.head[0]).start
    if to > t.edge:
        emit_gap(s, t, half, to, reason, now_ns)
    drain(s, t, half, now_ns)


cdef void tell_end(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil:
    if offset_of(t, half.fin) == <int64_t> t.edge:
        t.flags |= FINISHED
        if half.flags & SINK:
            emit(s, t, PART_END, t.edge, 0, now_ns)


cdef void track_finish(Streams* s, Track* t, const Half* half, int kind, int64_t now_ns) noexcept nogil:
    """The flow has ended as *kind* (a PartKind) says: give up every hole, deliver all, and tell the end."""
    cdef int64_t acked = acked_offset(t, half)
    if not t.flags & BASED:
        acked = 0
    while t.head[0]:
        give_up_hole(s, t, half, piece_at(s, t.head[0]).start,
                     GAP_LOST if <int64_t> piece_at(s, t.head[0]).start <= acked else GAP_END, now_ns)
    if acked > <int64_t> t.edge:
        give_up_hole(s, t, half, <uint64_t> acked, GAP_LOST, now_ns)
    t.flags &= ~<uint32_t> (HOLED | ACKED_HOLE)
    if not t.flags & FINISHED:
        t.flags |= FINISHED
        if half.flags & FIN_SEEN and t.flags & BASED and offset_of(t, half.fin) == <int64_t> t.edge:
            kind = PART_END
        if half.flags & SINK:
            emit(s, t, kind, t.edge, 0, now_ns)


# --- bytes given up ---------------------------------------------------------------------------------

cdef void remember_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil:
    cdef uint32_t index
    t.missed_bytes += end - start
    if end > t.missed_end:
        t.missed_end = end
    if t.missed_count < MAX_MISSED:
        index = pool_take(&s.pieces)
        if index:
            t.missed_count += 1
            piece_at(s, index).start = start
            piece_at(s, index).end = end
            piece_at(s, index).next[0] = t.missed
            t.missed = index


cdef uint64_t recover_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil:
    """Bytes of a late segment that had been given up: seen after all, though not delivered."""
    cdef uint32_t* link = &t.missed
    cdef uint32_t index
    cdef uint64_t found = 0, left, right, tail
    cdef Piece* gap
    while link[0]:
        index = link[0]
        gap = piece_at(s, index)
        left = gap.start if gap.start > start else start
        right = gap.end if gap.end < end else end
        if left >= right:
            link = gap.next
            continue
        found += right - left
        tail = gap.end
        if left > gap.start:
            gap.end = left
            if right < tail:
                t.missed_bytes -= tail - right     # remember_missed() counts it again
                remember_missed(s, t, right, tail)
            link = gap.next
        elif right < gap.end:
            gap.start = right
            link = gap.next
        else:
            link[0] = gap.next[0]
            t.missed_count -= 1
            pool_give(&s.pieces, index)
    t.missed_bytes -= found
    t.late_bytes += <uint32_t> found
    return found


cdef uint64_t track_lost(const Streams* s, const Track* t, const Half* half) noexcept nogil:
    """Bytes acknowledged by the receiver and never seen."""
    cdef int64_t acked = acked_offset(t, half)
    cdef uint64_t beyond = 0
    cdef uint32_t at = t.missed
    cdef Piece* gap
    if not half.flags & ACK_SEEN:
        return 0
    if acked < <int64_t> t.missed_end:
        while at:
            gap = piece_at(s, at)
            if <int64_t> gap.end > acked:
                beyond += gap.end - (gap.start if <int64_t> gap.start > acked else <uint64_t> acked)
            at = gap.next[0]
    return t.missed_bytes - beyond if beyond < t.missed_bytes else 0
