"""Reassembly of one half: which bytes were seen, which are held behind a hole, which are given up.

A track has an `edge`. Bytes before it are delivered or given up for good; a segment that starts at the edge
with nothing held in its way is passed on without a copy. Anything beyond the edge is held (tcp/pieces).

A hole is given up as a gap when the receiver has acknowledged past it and a hold has gone by, when it
is too old, when too much is held behind it, or when the flow ends; never because of what the other half sends.
"""

from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from aiomos.levels cimport STREAM_LEVEL
from aiomos.tcp.copies cimport is_copy
from aiomos.tcp.flows cimport FIN_SEEN, HalfRecord, SINK
from aiomos.tcp.holdings cimport differs_from_delivered
from aiomos.tcp.past cimport past_delivered
from aiomos.tcp.pieces cimport (
    Piece,
    Room,
    bytes_held,
    drop_blocks,
    drop_piece,
    drop_pieces,
    first_piece,
    half_has,
    hold_segment,
    piece_at,
    room_for,
    store_has,
    take_piece,
)
from aiomos.tcp.retention cimport track_forget
from aiomos.tcp.retransmissions cimport comes_late, overtaken
from aiomos.tcp.tracks cimport (
    ACKED_HOLE,
    BASED,
    DISTURBED,
    FINISHED,
    FIN_TAKEN,
    GAP_BUDGET,
    GAP_SNAPLEN,
    GAP_UNREAD,
    HELD_EARLY,
    HOLED,
    LOSSLESS,
    PART_DATA,
    PART_END,
    PART_GAP,
    Part,
    SYN_DATA,
    SYN_REFUSED,
    Streams,
    TAKEN,
    TIMING,
    Track,
    URGENT,
    acked_offset,
    advance,
    data_seq,
    drop_doubted,
    is_only_fin,
    lower_doubted,
    missed_at,
    note_incident,
    offset_of,
    part_at,
    recover_missed,
    remember_missed,
    track_at,
    track_drop_parts,
    track_index,
)
from aiomos.wire.pool cimport pool_give, pool_take
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.slabs cimport SLAB_BYTES, block_at, block_take
from aiomos.wire.wire cimport FIN, PacketRecord, SYN

cdef enum:
    MOST_GIVEN_UP = 1024       # halves that give up a hole for the room of one segment


cdef void track_close(Streams* s, uint32_t index) noexcept nogil:
    """Free a track and all it holds; parts not delivered are dropped."""
    cdef Track* t = track_at(s, index)
    cdef uint32_t at, after
    track_lower(s, t)
    drop_doubted(s, t)
    drop_pieces(&s.store, &t.held)
    at = t.missed
    while at:
        after = missed_at(s, at).next
        pool_give(&s.missed, at)
        at = after
    pool_give(&s.tracks, index)


cdef void track_lower(Streams* s, Track* t) noexcept nogil:
    """Drop all bytes, and keep account of them: nobody takes this half's bytes or looks at them any more."""
    track_drop_parts(s, t)
    track_forget(s, t)
    drop_blocks(&s.store, &t.held)
    lower_doubted(s, t)
    t.past.last = NULL


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


cdef void emit_gap(Streams* s, Track* t, const HalfRecord* half, uint64_t to, int reason,
                   int64_t now_ns) noexcept nogil:
    """Tell that the bytes from the edge to *to* will not come, and go on behind them."""
    cdef uint64_t length = to - t.edge
    cdef Part* part
    t.gaps += 1
    s.gaps[reason] += 1
    s.gap_bytes[reason] += length
    if half.flags & TAKEN:
        part = emit(s, t, PART_GAP, t.edge, length, now_ns)
        if part != NULL:
            part.reason = <uint8_t> reason
    if s.log_incidents:
        note_incident(s, t, t.edge, length, reason, now_ns)
    if reason != GAP_SNAPLEN and reason != GAP_UNREAD:
        remember_missed(s, t, t.edge, to)
    advance(t, to)


cdef void deliver(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet, uint64_t start,
                  const uint8_t* data, uint64_t length, uint64_t captured) noexcept nogil:
    """Pass a segment's bytes at the edge on; what the snap length cut off becomes a gap."""
    cdef Part* part
    if half.flags & TAKEN and captured:
        part = emit(s, t, PART_DATA, start, captured, packet.time_ns)
        if part != NULL:
            past_delivered(&s.past, &t.past, start, captured)
            part.data = data
            if packet.transient:
                own_bytes(s, t, part)
            if t.flags & URGENT:
                part_urgent(s, t, part)
    advance(t, start + captured)
    if captured < length:
        if half.level == STREAM_LEVEL:
            emit_gap(s, t, half, start + length, GAP_SNAPLEN, packet.time_ns)
        else:
            advance(t, start + length)


cdef void part_urgent(Streams* s, Track* t, Part* part) noexcept nogil:
    """Have the urgent byte, if it is in the last part, be a part of its own."""
    cdef Part* after
    cdef uint64_t before = t.urgent - part.offset
    if part.kind != PART_DATA or t.urgent < part.offset or before >= part.length:
        return
    if before:
        after = cut_part(s, t, part, before)
        if after == NULL:
            return
        part = after
    part.reason = part.length == 1 or cut_part(s, t, part, 1) != NULL


cdef Part* cut_part(Streams* s, Track* t, Part* part, uint64_t at) noexcept nogil:
    """Make two of the last part; the bytes of both are the second one's."""
    cdef Part* after = emit(s, t, PART_DATA, part.offset + at, part.length - at, part.time_ns)
    if after == NULL:
        return NULL
    after.data = part.data + at
    after.block = part.block
    part.block = 0
    part.length = at
    return after


cdef void own_bytes(Streams* s, const Track* t, Part* part) noexcept nogil:
    """Copy bytes that do not outlive the packet; without a block left they are a gap."""
    if part.length <= SLAB_BYTES:
        part.block = block_take(&s.store.blocks, part.length)
    if part.block == 0:
        part.kind = PART_GAP
        part.reason = GAP_BUDGET
        s.gaps[GAP_BUDGET] += 1
        s.gap_bytes[GAP_BUDGET] += part.length
        if s.log_incidents:
            note_incident(s, t, part.offset, part.length, GAP_BUDGET, part.time_ns)
        return
    cdef uint8_t* block = block_at(&s.store.blocks, part.block)
    memcpy(block, part.data, part.length)
    part.data = block


cdef void track_payload(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet, int policy,
                        bint payload_ok, uint32_t before_nxt) noexcept nogil:
    """Take in a segment of this half; *before_nxt* is half.nxt as it was before the segment."""
    cdef uint64_t fresh = 0, conflicts = t.conflicts
    t.bytes += packet.payload_len
    if not payload_ok or not t.flags & BASED:
        if t.flags & HELD_EARLY and t.flags & BASED:
            note_early(t, half, packet, before_nxt)
        # Of probes only: what else is refused may differ from one to the next, and is not at hand to tell.
        elif packet.payload_len == 1 and not packet.flags & SYN and is_copy(t, packet):
            track_copied(s, t, packet)
        return
    if packet.payload_len:
        fresh = take_bytes(s, t, half, packet, policy)
        t.stream_bytes += fresh
    if comes_late(half, packet, before_nxt):
        if t.conflicts == conflicts:
            tell_late(s, t, half, packet, fresh)
        else:
            count_late(s, t, half, packet, fresh)
    if seq_lt(before_nxt, half.nxt):
        t.nxt_ns = packet.time_ns
        if not t.flags & TIMING:                   # RFC 6298 section 3: one segment timed at a time, none sent twice
            t.flags |= TIMING
            t.rtt_seq = half.nxt
            t.rtt_ns = packet.time_ns
    if packet.flags & FIN:
        t.flags |= FIN_TAKEN
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, packet.time_ns)


cdef void track_urgent(Track* t, const PacketRecord* packet) noexcept nogil:
    """Take note of an urgent pointer, as Linux does (tcp_check_urg() in net/ipv4/tcp_input.c).

    It points behind the urgent byte. What it says of bytes that have come is ignored; if it says another than before,
    the former byte is urgent no more.
    """
    cdef int64_t at = offset_of(t, data_seq(packet)) + (packet.urgent - 1 if packet.urgent else 0)
    if not t.flags & BASED or at < <int64_t> t.edge or (t.flags & URGENT and at <= <int64_t> t.urgent):
        return
    t.urgent = <uint64_t> at
    t.flags |= URGENT


cdef void track_copied(Streams* s, Track* t, const PacketRecord* packet) noexcept nogil:
    """Count a segment that was captured once more."""
    t.copies += 1
    t.copied_bytes += packet.payload_len
    s.copies += 1


cdef void note_early(Track* t, const HalfRecord* half, const PacketRecord* packet, uint32_t before_nxt) noexcept nogil:
    """Note that a segment that is held apart came again."""
    if (packet.payload_len and comes_late(half, packet, before_nxt)
            and offset_of(t, data_seq(packet)) >= <int64_t> t.edge and not is_copy(t, packet)):
        t.early_late += 1


cdef void tell_late(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet,
                    uint64_t fresh) noexcept nogil:
    """Count a segment behind the highest one seen that says nothing else than those before."""
    if fresh == 0 and is_copy(t, packet):
        track_copied(s, t, packet)
    else:
        count_late(s, t, half, packet, fresh)


cdef void count_late(const Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet,
                     uint64_t fresh) noexcept nogil:
    """A segment behind the highest one seen: overtaken on the way, or sent again."""
    if overtaken(s, t, half, packet, fresh):
        t.out_of_order += 1
        return
    t.retransmits += 1
    t.flags &= ~<uint32_t> TIMING                  # Karn's algorithm
    if packet.payload_len:
        t.flags &= ~<uint32_t> SYN_REFUSED


cdef uint64_t take_bytes(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet,
                         int policy) noexcept nogil:
    """Deliver or hold a segment's bytes; returns how many of them had not been seen before."""
    cdef int64_t start = offset_of(t, data_seq(packet)), end = start + packet.payload_len
    cdef int64_t cut = 0
    cdef uint64_t late = 0, captured = packet.payload_cap
    cdef bint differs = False
    if start < <int64_t> t.edge:
        differs = half.flags & TAKEN and differs_from_delivered(s, t, packet)
        if t.missed:
            late = recover_missed(s, t, <uint64_t> max(start, 0), <uint64_t> max(end, 0))
        if end <= <int64_t> t.edge:
            if differs:
                count_conflict(s, t)
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
            if differs:
                count_conflict(s, t)
            return late
    if start == <int64_t> t.edge and not packet.flags & SYN and (
            t.held.head[0] == 0 or first_piece(&s.store, &t.held).start >= <uint64_t> end):
        deliver(s, t, half, packet, <uint64_t> start, packet.payload + cut, <uint64_t> (end - start), captured)
        if t.held.head[0]:
            drain(s, t, half, packet.time_ns)
        settle_hole(t, half, packet.time_ns)
        late += <uint64_t> (end - start)
    else:
        late += take_beyond(s, t, half, packet, start, end, cut, captured, policy, &differs)
    if differs:
        count_conflict(s, t)
    return late


cdef void count_conflict(Streams* s, Track* t) noexcept nogil:
    """One segment, one conflict, however many stretches of it differ."""
    t.conflicts += 1
    s.conflicts += 1


cdef uint64_t take_beyond(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet, int64_t start,
                          int64_t end, int64_t cut, uint64_t captured, int policy, bint* differs) noexcept nogil:
    """Take in a segment that lies beyond a hole or meets held bytes; *cut* of its payload was delivered before."""
    cdef Piece new
    cdef Room room
    cdef uint64_t fresh = 0
    cdef bint with_data = half.level == STREAM_LEVEL
    new.owner = track_index(s, t)
    new.data = NULL
    new.seg_start = <uint64_t> start
    new.seg_end = <uint64_t> end
    new.captured_end = <uint64_t> start + captured
    new.time_ns = packet.time_ns
    new.end = <uint64_t> start
    while new.end < <uint64_t> end:                # once, but for segments no block can hold
        new.start = new.end
        new.end = min(<uint64_t> end, new.start + SLAB_BYTES)
        if with_data:
            new.data = packet.payload + cut + (new.start - <uint64_t> start)
        find_room(s, t, half, &new, with_data, &room)
        if t.edge >= new.end:                      # what was behind the hole included these bytes
            continue
        if t.edge > new.start:
            if with_data:
                new.data += t.edge - new.start
            new.start = t.edge
        # At the edge it is passed on at once, so the half's budget may be exceeded for that moment.
        if store_has(&s.store, &room) and (t.edge >= new.start or is_within(s, t, &room)):
            fresh += hold_segment(&s.store, &t.held, &new, policy, differs)
            if not packet.flags & SYN:
                drain(s, t, half, packet.time_ns)
        elif t.edge >= new.start:
            fresh += deliver_between(s, t, half, packet, &new)
        # Else it is LOSSLESS, and there is no room: as if the segment had not come. Its sender has it still.
    settle_hole(t, half, packet.time_ns)
    if s.disturbed:
        t.flags |= HOLED                           # the engine looks at such a half, and so at those
    return fresh


cdef void find_room(Streams* s, Track* t, const HalfRecord* half, const Piece* new, bint with_data,
                    Room* room) noexcept nogil:
    """Have room made to hold a segment: by its own half at the half's budget, else by those that wait for longest."""
    room_for(&s.store, &t.held, new.start, new.end, with_data, room)
    while not is_within(s, t, room) and t.edge < new.start:
        give_up_hole(s, t, half, new.start, GAP_BUDGET, new.time_ns)
    if t.edge < new.start and not store_has(&s.store, room):
        make_room(s, t, room, new.time_ns)
        while not store_has(&s.store, room) and t.edge < new.start and not t.flags & LOSSLESS:
            give_up_hole(s, t, half, new.start, GAP_BUDGET, new.time_ns)


cdef inline bint is_within(const Streams* s, const Track* t, const Room* room) noexcept nogil:
    """Is a segment within what one half may hold? Where an end receives, the window that it gives says how much."""
    return t.flags & LOSSLESS or half_has(&s.store, &t.held, room)


cdef void make_room(Streams* s, const Track* own, const Room* room, int64_t now_ns) noexcept nogil:
    """Have the halves that have held something for longest go on, whoever they are, but for the one at hand.

    Whoever comes last waits least for what it misses: a flood of segments that are held displaces itself, not those
    whose holes are about to be filled. Each piece is given up once, so the work is bounded by that of having held it.
    """
    cdef int _half
    cdef Track* t
    for _half in range(MOST_GIVEN_UP):
        if store_has(&s.store, room) or not s.store.oldest:
            return
        if s.store.blocks.bytes - s.store.bytes > s.store.waiting:
            return                                 # that is what has the room, until the batch is done
        t = track_at(s, piece_at(&s.store, s.store.oldest).owner)
        if t == own:
            return
        give_up_oldest(s, t, t.half, now_ns)


cdef void give_up_oldest(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """Have a half go on without what is missing before the piece that it has held for longest, a doubted one first."""
    cdef uint64_t end = piece_at(&s.store, s.store.oldest).end
    s.held_dropped += 1
    if t.doubted.count:
        drop_doubted(s, t)
        return
    if t.flags & LOSSLESS:
        drop_beyond(s, t)
        return
    if t.flags & SYN_DATA:                         # not taken by the server yet: as if they had not come
        t.flags &= ~<uint32_t> SYN_DATA
        drop_beyond(s, t)
    while t.held.head[0] and first_piece(&s.store, &t.held).start < end:
        give_up_hole(s, t, half, first_piece(&s.store, &t.held).start, GAP_BUDGET, now_ns)
    settle_hole(t, half, now_ns)
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, now_ns)
    if not t.flags & DISTURBED:
        t.flags |= DISTURBED
        t.disturbed = s.disturbed
        s.disturbed = track_index(s, t)


cdef void drop_beyond(Streams* s, Track* t) noexcept nogil:
    """Let what is held beyond a hole go, as if it had not come; its sender is to send it again (RFC 2018 section 8)."""
    t.stream_bytes -= bytes_held(&s.store, &t.held, 0, UINT64_MAX)
    drop_pieces(&s.store, &t.held)


cdef const HalfRecord* take_disturbed(Streams* s) noexcept nogil:
    """A half that gave up a hole for another's sake, to be told of it; NULL when there is none."""
    cdef Track* t
    if not s.disturbed:
        return NULL
    t = track_at(s, s.disturbed)
    s.disturbed = t.disturbed
    t.flags &= ~<uint32_t> DISTURBED
    return t.half


cdef uint64_t hold_piece(Streams* s, Track* t, const HalfRecord* half, Piece* new, int policy, int64_t now_ns,
                         bint* differs) noexcept nogil:
    """Hold bytes that were held elsewhere, and deliver what has become contiguous; returns how many are new."""
    cdef uint64_t fresh = 0
    cdef Room room
    find_room(s, t, half, new, new.data != NULL, &room)
    if t.edge >= new.end:
        return 0
    if t.edge > new.start:
        if new.data != NULL:
            new.data += t.edge - new.start
        new.start = t.edge
    if store_has(&s.store, &room):
        fresh = hold_segment(&s.store, &t.held, new, policy, differs)
        drain(s, t, half, now_ns)
    return fresh


cdef uint64_t deliver_between(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet,
                              const Piece* new) noexcept nogil:
    """Without room to hold a segment at the edge, let it fill what held pieces leave open, whatever the policy."""
    cdef uint64_t fresh = 0, to, captured
    while t.edge < new.end:
        to = new.end
        if t.held.head[0] and first_piece(&s.store, &t.held).start < to:
            to = first_piece(&s.store, &t.held).start
        if to > t.edge:
            captured = min(to, new.captured_end) - t.edge if new.captured_end > t.edge else 0
            fresh += to - t.edge
            deliver(s, t, half, packet, t.edge, new.data + (t.edge - new.start) if new.data != NULL else NULL,
                    to - t.edge, captured)
        drain(s, t, half, packet.time_ns)
        if t.held.head[0] and first_piece(&s.store, &t.held).start <= t.edge:
            break                                  # data of a SYN, which wait: so do those behind them
    return fresh


cdef void drain(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """Deliver the pieces that have become contiguous."""
    cdef uint32_t index
    cdef uint64_t end
    cdef bint cut
    cdef Piece* piece
    cdef Part* part
    if t.flags & SYN_DATA:
        return
    while t.held.head[0]:
        index = t.held.head[0]
        piece = piece_at(&s.store, index)
        end = piece.end
        cut = piece.cut
        if piece.start > t.edge:
            break
        if end <= t.edge:
            drop_piece(&s.store, &t.held, index)
            continue
        part = NULL
        if half.flags & TAKEN and piece.data != NULL:
            part = emit(s, t, PART_DATA, t.edge, end - t.edge, now_ns)
        if part != NULL:
            past_delivered(&s.past, &t.past, t.edge, end - t.edge)
            part.data = piece.data + (t.edge - piece.start)
            part.block = take_piece(&s.store, &t.held, index)
            if t.flags & URGENT:
                part_urgent(s, t, part)
            advance(t, end)
            continue
        if cut and half.level == STREAM_LEVEL:
            emit_gap(s, t, half, end, GAP_SNAPLEN, now_ns)
        elif piece.data == NULL and half.flags & SINK:
            emit_gap(s, t, half, end, GAP_UNREAD, now_ns)    # held before anybody took the bytes
        else:
            advance(t, end)
        drop_piece(&s.store, &t.held, index)


cdef void settle_hole(Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """Note whether something is missing at the edge, and since when its receiver has had it."""
    cdef int64_t acked = acked_offset(t, half)
    if t.flags & LOSSLESS:
        t.flags &= ~<uint32_t> (HOLED | ACKED_HOLE)
        return
    if acked > <int64_t> t.edge:
        if not t.flags & ACKED_HOLE:
            t.flags |= ACKED_HOLE
            t.acked_ns = now_ns
            t.acked_to = <uint64_t> acked
    else:
        t.flags &= ~<uint32_t> ACKED_HOLE
    if t.held.head[0] or t.flags & ACKED_HOLE:
        t.flags |= HOLED
    else:
        t.flags &= ~<uint32_t> HOLED


cdef void track_settle(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """The half's numbers have jumped: what is missing before them is a hole from now on."""
    t.dup_acks = 0
    t.flags &= ~<uint32_t> TIMING
    settle_hole(t, half, now_ns)


cdef int64_t track_deadline(const Streams* s, const Track* t, const HalfRecord* half) noexcept nogil:
    """When the hole at the edge of a HOLED track is to be given up; 0 if only a FIN is missing."""
    cdef int64_t due = 0
    if t.flags & LOSSLESS:
        return INT64_MAX
    if t.held.head[0]:
        due = first_piece(&s.store, &t.held).time_ns + s.age_ns
    if (t.flags & ACKED_HOLE and (due == 0 or t.acked_ns + s.hold_ns < due)
            and not is_only_fin(t, half, acked_offset(t, half))):
        due = t.acked_ns + s.hold_ns
    return due


cdef void give_up_hole(Streams* s, Track* t, const HalfRecord* half, uint64_t limit, int reason,
                       int64_t now_ns) noexcept nogil:
    """Make the hole at the edge a gap, as far as the first held piece or *limit*, and deliver what follows."""
    cdef uint64_t to = limit
    t.flags &= ~<uint32_t> SYN_DATA
    if t.held.head[0] and first_piece(&s.store, &t.held).start < to:
        to = first_piece(&s.store, &t.held).start
    if to > t.edge:
        emit_gap(s, t, half, to, reason, now_ns)
    drain(s, t, half, now_ns)


cdef void tell_end(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    if offset_of(t, half.fin) == <int64_t> t.edge:
        t.flags |= FINISHED
        t.ending = PART_END
        if half.flags & TAKEN:
            emit(s, t, PART_END, t.edge, 0, now_ns)
