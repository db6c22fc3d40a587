"""Doubted segments: what lies beyond the window is held apart, and belongs to the stream once the jump is believed.

tcp/monitor judges. Until then anybody may have sent such a segment (scans, backscatter, an injection), so it touches
neither the stream nor what is held for it, and what is held of it is little.

So is what a client says before its SYN is answered, as far as was captured: the SYN-ACK is late or missing in the
capture, or somebody else said it. What the server acknowledges of it, and nothing else has brought, was the client's.
If of the server nothing comes at all, all of it was. And so is what a server says before its SYN-ACK is captured, until
the client acknowledges it.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t, uint8_t

from aiomos.levels cimport STREAM_LEVEL
from aiomos.tcp.flows cimport FIN_SEEN, HalfRecord, ISS_KNOWN
from aiomos.tcp.pieces cimport (
    OVERLAP_FIRST,
    Piece,
    Room,
    bytes_held,
    drop_piece,
    first_piece,
    half_has,
    hold_segment,
    piece_at,
    room_for,
    store_has,
)
from aiomos.tcp.reassembly cimport hold_piece, tell_end, track_settle
from aiomos.tcp.tracks cimport (
    ACKED_HOLE,
    BASED,
    FINISHED,
    HELD_BEFORE,
    HELD_EARLY,
    Streams,
    Track,
    data_seq,
    drop_doubted,
    offset_of,
    track_base,
    track_index,
)
from aiomos.wire.seq cimport seq_diff, seq_lt
from aiomos.wire.wire cimport PacketRecord

cdef enum:
    MOST_DOUBTED = 32          # pieces held in one half
    MOST_WINDOW = 1 << 30      # RFC 7323 section 2.3
    SAID = 2                   # segments that a client alone is to be heard of before it is believed
    UNPLACED = 1 << 29         # offset of the first of what came before it was known where its stream begins

cdef int64_t EARLY_NS = 1_000_000_000      # RFC 6298 section 2: a client that is not answered tries again after it

# --- before the SYN-ACK -----------------------------------------------------------------------------------


cdef void track_doubt(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Hold a segment that is not believed; without room for it, those doubted before it go."""
    if t.flags & HELD_BEFORE:
        forget_doubted(s, t)
    if t.doubted.count >= MOST_DOUBTED:
        if t.flags & HELD_EARLY:
            return
        drop_doubted(s, t)
    hold_doubted(s, t, half, packet)


cdef bint hold_doubted(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Hold a segment apart, if it has a place in the stream; False without room."""
    cdef int64_t start = offset_of(t, data_seq(packet))
    cdef uint64_t memory
    cdef bint with_data = half.level == STREAM_LEVEL, differs = False
    cdef Piece new
    cdef Room room
    if not t.flags & (BASED | HELD_EARLY) or not packet.payload_len or not 0 <= start - <int64_t> t.edge <= MOST_WINDOW:
        return True
    new.owner = track_index(s, t)
    new.start = new.seg_start = <uint64_t> start
    new.end = new.seg_end = new.start + packet.payload_len
    new.captured_end = new.start + packet.payload_cap
    new.time_ns = packet.time_ns
    new.data = packet.payload if with_data else NULL
    room_for(&s.store, &t.doubted, new.start, new.end, with_data, &room)
    if (s.doubted_memory > s.doubted_budget or not half_has(&s.store, &t.doubted, &room)
            or not store_has(&s.store, &room)):
        return False
    memory = t.doubted.bytes
    hold_segment(&s.store, &t.doubted, &new, OVERLAP_FIRST, &differs)
    s.doubted_memory += t.doubted.bytes - memory
    return True


cdef void track_resume(Streams* s, Track* t, HalfRecord* half, int policy, int64_t reach,
                       int64_t now_ns) noexcept nogil:
    """A jump was believed: take in those of the doubted segments that are part of it; the others go.

    Part of it is what is near where its numbers stand now, or near the edge (with it came a doubted acknowledgement).
    """
    cdef int64_t nxt = offset_of(t, half.nxt), start
    cdef bint differs = False
    cdef Piece piece
    if not t.flags & BASED:
        return
    while t.doubted.head[0]:
        piece = copy_of_first(s, t)
        start = <int64_t> piece.start
        if now_ns - piece.time_ns < s.age_ns and (
                -reach <= start - nxt <= reach or start - <int64_t> t.edge <= reach):
            t.stream_bytes += hold_piece(s, t, half, &piece, policy, now_ns, &differs)
            if seq_lt(half.nxt, t.edge_seq + <uint32_t> (piece.end - t.edge)):
                half.nxt = t.edge_seq + <uint32_t> (piece.end - t.edge)
        drop_first(s, t)
    track_settle(s, t, half, now_ns)


cdef inline Piece copy_of_first(const Streams* s, const Track* t) noexcept nogil:
    """The first doubted piece, as hold_piece() takes it."""
    cdef Piece piece = first_piece(&s.store, &t.doubted)[0]
    piece.captured_end = piece.end
    if piece.cut:                                  # it had bytes, of which none were captured
        piece.captured_end = piece.start
        piece.data = <const uint8_t*> first_piece(&s.store, &t.doubted)
    return piece


cdef void drop_first(Streams* s, Track* t) noexcept nogil:
    s.doubted_memory -= t.doubted.bytes
    drop_piece(&s.store, &t.doubted, t.doubted.head[0])
    s.doubted_memory += t.doubted.bytes


cdef bint track_early(Streams* s, Track* t, HalfRecord* half, const PacketRecord* packet, bint goes_on) noexcept nogil:
    """Hold what a client says before its SYN is answered; False if it is believed, since nobody has said otherwise.

    After a second without an answer, after MOST_DOUBTED segments, or without room, the server's side is taken not to be
    captured. With room, not for one segment alone, however often it comes: *goes_on* tells that another was captured
    before.
    """
    if not t.flags & HELD_EARLY:
        begin_early(s, t, packet)
        t.early_said = goes_on
    t.early_said += says_more(s, t, packet)
    if (t.early_said < SAID or (packet.time_ns - t.early_ns < EARLY_NS and t.doubted.count < MOST_DOUBTED)) and (
            hold_doubted(s, t, half, packet)):
        return True
    believe_early(s, t, half, packet.time_ns)
    return False


cdef void hold_early(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Hold a segment until something confirms it, or count it without room."""
    if t.doubted.count >= MOST_DOUBTED or not hold_doubted(s, t, half, packet):
        count_unconfirmed(s, packet.payload_len)


cdef bint says_more(const Streams* s, const Track* t, const PacketRecord* packet) noexcept nogil:
    """Are there bytes in a segment that none of those held apart has?"""
    cdef int64_t start = offset_of(t, data_seq(packet))
    cdef uint64_t end = <uint64_t> (start + packet.payload_len)
    return packet.payload_len != 0 and start >= <int64_t> t.edge and (
        bytes_held(&s.store, &t.doubted, <uint64_t> start, end) < packet.payload_len)


cdef void begin_early(Streams* s, Track* t, const PacketRecord* packet) noexcept nogil:
    drop_doubted(s, t)
    t.flags |= HELD_EARLY
    t.early_ns = packet.time_ns


cdef void track_apart(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Hold what a client says whose acknowledgement of the SYN-ACK was not captured, until its server tells."""
    if not t.flags & HELD_EARLY:
        begin_early(s, t, packet)
    hold_early(s, t, half, packet)


cdef inline bint is_unanswered(const HalfRecord* half) noexcept nogil:
    """Is it a client whose SYN nothing captured has acknowledged?"""
    return half.flags & ISS_KNOWN and half.una == half.iss


cdef void track_unplaced(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Hold what a server says before its SYN-ACK is captured: where its stream begins is not known yet."""
    if not t.flags & HELD_EARLY:
        t.flags |= HELD_EARLY
        t.edge_seq = packet.seq - UNPLACED
    hold_early(s, t, half, packet)


cdef void early_base(Streams* s, Track* t, HalfRecord* half) noexcept nogil:
    """Fix where a stream begins of which something came early, or fix it anew: track_base().

    Where no SYN tells, it is with what reaches up to what its receiver has acknowledged, as far as that was captured.
    """
    cdef uint32_t before = t.edge_seq
    cdef int64_t shift
    track_base(t, half)
    shift = <int64_t> seq_diff(t.edge_seq, before)
    if not half.flags & ISS_KNOWN and shift > 0:
        shift = <int64_t> run_before(s, t, <uint64_t> shift)
        begin_at(t, half, before + <uint32_t> shift)
    while t.doubted.head[0] and <int64_t> first_piece(&s.store, &t.doubted).start < shift:
        forget_first(s, t)
    shift_doubted(s, t, <uint64_t> shift)


cdef uint64_t run_before(const Streams* s, const Track* t, uint64_t to) noexcept nogil:
    """Where the doubted bytes begin that reach without a hole to an offset; that itself if none do.

    The last number before it may have been a FIN.
    """
    cdef uint32_t index = t.doubted.head[0]
    cdef uint64_t start = to, end = to
    cdef const Piece* piece
    while index:
        piece = piece_at(&s.store, index)
        if piece.start >= to:
            break
        if piece.start != end:
            start = piece.start
        end = piece.end
        index = piece.next[0]
    return start if end + 1 >= to else to


cdef inline void begin_at(Track* t, HalfRecord* half, uint32_t seq) noexcept nogil:
    """Have a stream begin at a sequence number of which nothing was delivered."""
    t.edge_seq = seq
    t.flags &= ~<uint32_t> ACKED_HOLE              # it began elsewhere, so the hole begins now
    half.iss = seq - 1


cdef void shift_doubted(Streams* s, Track* t, uint64_t shift) noexcept nogil:
    """Count the offsets of what is held from *shift* on."""
    cdef uint32_t index = t.doubted.head[0]
    cdef Piece* piece
    while index:
        piece = piece_at(&s.store, index)
        piece.start -= shift
        piece.end -= shift
        piece.seg_start -= shift
        piece.seg_end -= shift
        index = piece.next[0]


cdef void track_before(Streams* s, Track* t, HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Take in what lies before a stream that begins where an acknowledgement told, once it reaches up to there.

    Until then it is held with the beginning at offset UNPLACED.
    """
    cdef uint64_t start, base = UNPLACED
    if t.edge or t.stream_bytes or t.held.head[0]:
        return
    if not t.flags & HELD_BEFORE:
        forget_doubted(s, t)
        t.flags |= HELD_BEFORE
    t.edge_seq -= UNPLACED
    hold_early(s, t, half, packet)
    t.edge_seq += UNPLACED
    if half.flags & FIN_SEEN and half.fin + 1 == t.edge_seq:
        base -= 1                                  # what was acknowledged was a FIN
    start = run_before(s, t, base)
    if start == UNPLACED:
        return
    while t.doubted.head[0] and first_piece(&s.store, &t.doubted).start < start:
        forget_first(s, t)
    shift_doubted(s, t, start)
    begin_at(t, half, t.edge_seq - <uint32_t> (UNPLACED - start))
    t.flags &= ~<uint32_t> HELD_BEFORE
    take_early(s, t, half, <int64_t> (UNPLACED - start), packet.time_ns)


cdef int64_t early_deadline(const Track* t, const HalfRecord* half) noexcept nogil:
    """When what came early is to be believed, INT64_MAX if that is not a question of time."""
    return t.early_ns + EARLY_NS if t.flags & HELD_EARLY and t.early_said >= SAID and is_unanswered(half) else INT64_MAX


cdef void early_tick(Streams* s, Track* t, HalfRecord* half, int64_t now_ns) noexcept nogil:
    """Believe what came early if its time has come."""
    if early_deadline(t, half) <= now_ns:
        believe_early(s, t, half, now_ns)


cdef void believe_early(Streams* s, Track* t, HalfRecord* half, int64_t now_ns) noexcept nogil:
    half.una = half.iss + 1                        # its SYN was acknowledged, on the side that is not captured
    take_early(s, t, half, offset_of(t, half.nxt), now_ns)
    t.flags &= ~<uint32_t> HELD_EARLY


cdef void early_acked(Streams* s, Track* t, const HalfRecord* half, int64_t acked, int64_t now_ns) noexcept nogil:
    """The server has acknowledged the stream up to an offset, 0 or less if the SYN alone."""
    if acked > 0:
        take_early(s, t, half, acked, now_ns)


cdef void early_passed(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """What came early and nobody acknowledged is its sender's as far as that has gone on behind it."""
    take_early(s, t, half, offset_of(t, half.fin if half.flags & FIN_SEEN else half.nxt), now_ns)


cdef void early_ended(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """The flow has ended: with no answer all is believed, else what is in order, if nothing else of this half was."""
    if t.flags & BASED and not t.flags & HELD_BEFORE:
        early_passed(s, t, half, now_ns)
    if t.flags & BASED and t.edge == 0 and not is_unanswered(half):
        while t.doubted.head[0] and first_piece(&s.store, &t.doubted).start <= t.edge:
            take_early(s, t, half, <int64_t> first_piece(&s.store, &t.doubted).end, now_ns)
    forget_doubted(s, t)


cdef void forget_doubted(Streams* s, Track* t) noexcept nogil:
    """Drop what nothing has confirmed, and count what nothing else has brought."""
    while t.doubted.head[0]:
        forget_first(s, t)
    drop_doubted(s, t)


cdef void forget_first(Streams* s, Track* t) noexcept nogil:
    cdef const Piece* piece = first_piece(&s.store, &t.doubted)
    if piece.end > t.edge:
        count_unconfirmed(s, piece.end - max(piece.start, t.edge))
    drop_first(s, t)


cdef void count_unconfirmed(Streams* s, uint64_t length) noexcept nogil:
    if length:
        s.unconfirmed += 1
        s.unconfirmed_bytes += length


cdef void take_early(Streams* s, Track* t, const HalfRecord* half, int64_t limit, int64_t now_ns) noexcept nogil:
    """Take in what came early, up to an offset, where nothing else has brought it."""
    cdef bint differs = False
    cdef Piece piece
    cdef uint64_t fresh
    while t.doubted.head[0] and <int64_t> first_piece(&s.store, &t.doubted).start < limit:
        piece = copy_of_first(s, t)
        piece.end = min(piece.end, <uint64_t> limit)
        piece.captured_end = min(piece.captured_end, piece.end)
        fresh = hold_piece(s, t, half, &piece, OVERLAP_FIRST, now_ns, &differs)
        t.stream_bytes += fresh
        if fresh:                                  # it was the client's, and so was what came again
            t.retransmits += t.early_late
            t.early_late = 0
        if <int64_t> first_piece(&s.store, &t.doubted).end > limit:
            break
        drop_first(s, t)
    if not t.doubted.head[0]:
        t.flags &= ~<uint32_t> HELD_EARLY
    track_settle(s, t, half, now_ns)
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, now_ns)
