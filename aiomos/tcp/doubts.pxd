# Segments beyond the window, held until it is known whether their sender has jumped there.
from libc.stdint cimport int64_t

from aiomos.tcp.flows cimport HalfRecord
from aiomos.tcp.tracks cimport Streams, Track
from aiomos.wire.wire cimport PacketRecord

cdef void track_doubt(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil
cdef void track_resume(Streams* s, Track* t, HalfRecord* half, int policy, int64_t reach, int64_t now_ns) noexcept nogil
cdef bint track_early(Streams* s, Track* t, HalfRecord* half, const PacketRecord* packet, bint goes_on) noexcept nogil
cdef void track_apart(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil
cdef void track_before(Streams* s, Track* t, HalfRecord* half, const PacketRecord* packet) noexcept nogil
cdef void track_unplaced(Streams* s, Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil
cdef void early_base(Streams* s, Track* t, HalfRecord* half) noexcept nogil
cdef int64_t early_deadline(const Track* t, const HalfRecord* half) noexcept nogil
cdef void early_tick(Streams* s, Track* t, HalfRecord* half, int64_t now_ns) noexcept nogil
cdef void early_acked(Streams* s, Track* t, const HalfRecord* half, int64_t acked, int64_t now_ns) noexcept nogil
cdef void early_passed(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef void forget_doubted(Streams* s, Track* t) noexcept nogil
cdef void early_ended(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
