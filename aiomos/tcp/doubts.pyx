"""Doubted segments: what lies beyond the window is held apart, and belongs to the stream once the jump is believed.

tcp/monitor judges. Until then anybody may have sent such a segment (scans, backscatter, an injection), so it touches
neither the stream nor what is held for it, and what is held of it is little.
"""

from libc.stdint cimport uint32_t

from aiomos.tcp.pieces cimport (
    OVERLAP_FIRST,
    Piece,
    Room,
    drop_piece,
    drop_pieces,
    first_piece,
    half_has,
    hold_segment,
    room_for,
    store_has,
)
from aiomos.tcp.reassembly cimport BASED, data_seq, hold_piece, offset_of, track_index, track_settle
from aiomos.tcp.seq cimport seq_lt

cdef enum:
    MOST_DOUBTED = 32          # pieces held in one half
    MOST_WINDOW = 1 << 30      # RFC 7323 section 2.3
    LEVEL_STREAM = 3


cdef void track_doubt(Streams* s, Track* t, const Half* half, const Packet* packet) noexcept nogil:
    """Hold a segment that is not believed; without room for it, those doubted before it go."""
    cdef int64_t start = offset_of(t, data_seq(packet))
    cdef uint64_t memory
    cdef bint with_data = half.level == LEVEL_STREAM, differs = False
    cdef Piece new
    cdef Room room
    if not t.flags & BASED or not packet.payload_len or not 0 <= start - <int64_t> t.edge <= MOST_WINDOW:
        return
    if t.doubted.count >= MOST_DOUBTED:
        drop_doubted(s, t)
    new.owner = track_index(s, t)
    new.start = new.seg_start = <uint64_t> start
    new.end = new.seg_end = new.start + packet.payload_len
    new.captured_end = new.start + packet.payload_cap
    new.time_ns = packet.time_ns
    new.data = packet.payload if with_data else NULL
    room_for(&s.store, &t.doubted, new.start, new.end, with_data, &room)
    if (s.doubted_memory > s.doubted_budget or not half_has(&s.store, &t.doubted, &room)
            or not store_has(&s.store, &room)):
        return
    memory = t.doubted.bytes
    hold_segment(&s.store, &t.doubted, &new, OVERLAP_FIRST, &differs)
    s.doubted_memory += t.doubted.bytes - memory


cdef void track_resume(Streams* s, Track* t, Half* half, int policy, int64_t reach, int64_t now_ns) noexcept nogil:
    """A jump was believed: take in those of the doubted segments that are part of it; the others go.

    Part of it is what is near where its numbers stand now, or near the edge (with it came a doubted acknowledgement).
    """
    cdef int64_t nxt = offset_of(t, half.nxt), start
    cdef bint differs = False
    cdef Piece piece
    if not t.flags & BASED:
        return
    while t.doubted.head[0]:
        piece = first_piece(&s.store, &t.doubted)[0]
        start = <int64_t> piece.start
        if now_ns - piece.time_ns < s.age_ns and (
                -reach <= start - nxt <= reach or start - <int64_t> t.edge <= reach):
            piece.captured_end = piece.end
            t.stream_bytes += hold_piece(s, t, half, &piece, policy, now_ns, &differs)
            if seq_lt(half.nxt, t.edge_seq + <uint32_t> (piece.end - t.edge)):
                half.nxt = t.edge_seq + <uint32_t> (piece.end - t.edge)
        s.doubted_memory -= t.doubted.bytes
        drop_piece(&s.store, &t.doubted, t.doubted.head[0])
        s.doubted_memory += t.doubted.bytes
    track_settle(s, t, half, now_ns)


cdef void drop_doubted(Streams* s, Track* t) noexcept nogil:
    s.doubted_memory -= t.doubted.bytes
    drop_pieces(&s.store, &t.doubted)
