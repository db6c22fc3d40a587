"""Progress of a half: what acknowledgements, time and the end of its flow say of bytes that have not come."""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from aiomos.tcp.doubts cimport early_acked, early_ended, early_passed
from aiomos.tcp.flows cimport FIN_SEEN, HalfRecord
from aiomos.tcp.pieces cimport first_piece
from aiomos.tcp.reassembly cimport drain, drop_beyond, emit, give_up_hole, settle_hole, tell_end
from aiomos.tcp.rtt cimport add_rtt
from aiomos.tcp.tracks cimport (
    ACKED_HOLE,
    BASED,
    FINISHED,
    GAP_AGE,
    GAP_END,
    GAP_LOST,
    HELD_BEFORE,
    HELD_EARLY,
    HOLED,
    LOSSLESS,
    PART_END,
    SYN_DATA,
    SYN_REFUSED,
    Streams,
    TAKEN,
    TIMING,
    Track,
    acked_offset,
    is_only_fin,
    offset_of,
)
from aiomos.wire.seq cimport seq_leq


cdef void track_acked(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """The receiver has acknowledged more of this half (half.una has moved)."""
    t.dup_acks = 0
    if t.flags & TIMING and seq_leq(t.rtt_seq, half.una):
        t.flags &= ~<uint32_t> TIMING
        add_rtt(t, now_ns - t.rtt_ns)
    if t.flags & (SYN_DATA | HELD_EARLY):
        opening_acked(s, t, half, now_ns)
    if t.flags & BASED:
        settle_hole(t, half, now_ns)


cdef void opening_acked(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """The same while what its sender said with its SYN, or before the SYN-ACK, waits for it."""
    cdef int64_t acked = acked_offset(t, half)
    if t.flags & SYN_DATA:
        t.flags &= ~<uint32_t> SYN_DATA
        if acked <= 0:                             # RFC 7413 section 4.2.2: the server did not take the SYN's data
            t.flags |= SYN_REFUSED
            drop_beyond(s, t)
        drain(s, t, half, now_ns)
    if t.flags & HELD_EARLY:
        early_acked(s, t, half, acked, now_ns)


cdef void track_tick(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil:
    """Give up the holes whose time has come."""
    cdef int64_t acked = acked_offset(t, half)
    cdef uint64_t limit
    if t.flags & LOSSLESS:
        return
    if t.flags & ACKED_HOLE and now_ns >= t.acked_ns + s.hold_ns and not is_only_fin(t, half, acked):
        limit = t.acked_to if <int64_t> t.acked_to < acked else <uint64_t> acked
        while t.edge < limit:
            give_up_hole(s, t, half, limit, GAP_LOST, now_ns)
        t.flags &= ~<uint32_t> ACKED_HOLE
    if t.flags & HELD_EARLY and t.held.head[0] and now_ns >= first_piece(&s.store, &t.held).time_ns + s.age_ns:
        early_passed(s, t, half, now_ns)
    while t.held.head[0] and now_ns >= first_piece(&s.store, &t.held).time_ns + s.age_ns:
        give_up_hole(s, t, half, first_piece(&s.store, &t.held).start, GAP_AGE, now_ns)
    settle_hole(t, half, now_ns)
    if half.flags & FIN_SEEN and not t.flags & FINISHED:
        tell_end(s, t, half, now_ns)


cdef void track_finish(Streams* s, Track* t, const HalfRecord* half, int kind, int64_t now_ns) noexcept nogil:
    """The flow has ended as *kind* (a PartKind) says: give up every hole, deliver all, and tell the end."""
    cdef int64_t acked = acked_offset(t, half)
    if not t.flags & BASED:
        acked = 0
    if t.flags & (HELD_EARLY | HELD_BEFORE):
        early_ended(s, t, half, now_ns)
    if t.flags & LOSSLESS:
        drop_beyond(s, t)
    while t.held.head[0]:
        give_up_hole(s, t, half, first_piece(&s.store, &t.held).start,
                     GAP_LOST if <int64_t> first_piece(&s.store, &t.held).start <= acked else GAP_END, now_ns)
    if is_only_fin(t, half, acked):
        kind = PART_END
    elif acked > <int64_t> t.edge and not t.flags & LOSSLESS:
        give_up_hole(s, t, half, <uint64_t> acked, GAP_LOST, now_ns)
    t.flags &= ~<uint32_t> (HOLED | ACKED_HOLE)
    if not t.flags & FINISHED:
        t.flags |= FINISHED
        if half.flags & FIN_SEEN and t.flags & BASED and offset_of(t, half.fin) == <int64_t> t.edge:
            kind = PART_END
        t.ending = <uint8_t> kind
        if half.flags & TAKEN:
            emit(s, t, kind, t.edge, 0, now_ns)
