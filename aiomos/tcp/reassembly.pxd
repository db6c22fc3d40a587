# Bytes of one half in order, once: coverage, held segments, gaps. Levels BYTES (no payload) and STREAM.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport HalfRecord
from aiomos.tcp.pieces cimport Piece
from aiomos.tcp.tracks cimport Part, Streams, Track
from aiomos.wire.wire cimport PacketRecord

cdef void track_close(Streams* s, uint32_t index) noexcept nogil
cdef void track_lower(Streams* s, Track* t) noexcept nogil
cdef void track_payload(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet, int policy,
                        bint payload_ok, uint32_t before_nxt) noexcept nogil
cdef void track_urgent(Track* t, const PacketRecord* packet) noexcept nogil
cdef void track_copied(Streams* s, Track* t, const PacketRecord* packet) noexcept nogil
cdef void drop_beyond(Streams* s, Track* t) noexcept nogil
cdef const HalfRecord* take_disturbed(Streams* s) noexcept nogil
cdef uint64_t hold_piece(Streams* s, Track* t, const HalfRecord* half, Piece* new, int policy, int64_t now_ns,
                         bint* differs) noexcept nogil
cdef void track_settle(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef int64_t track_deadline(const Streams* s, const Track* t, const HalfRecord* half) noexcept nogil
cdef void tell_end(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef void drain(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef Part* emit(Streams* s, Track* t, int kind, uint64_t offset, uint64_t length, int64_t time_ns) noexcept nogil
cdef void give_up_hole(Streams* s, Track* t, const HalfRecord* half, uint64_t limit, int reason,
                       int64_t now_ns) noexcept nogil
cdef void settle_hole(Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
