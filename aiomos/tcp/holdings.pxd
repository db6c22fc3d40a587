# Which bytes of a half are at hand: kept, of the running batch, handed over last, held beyond a hole.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from aiomos.tcp.tracks cimport Streams, Track
from aiomos.wire.wire cimport PacketRecord

cdef uint64_t track_read(const Streams* s, const Track* t, uint64_t offset, uint64_t n, uint8_t* out) noexcept nogil
cdef uint64_t track_evidence(const Streams* s, const Track* t, uint64_t offset, uint64_t n,
                             uint8_t* out) noexcept nogil
cdef const uint8_t* track_view(const Streams* s, const Track* t, uint64_t offset, uint64_t n,
                               uint64_t* available) noexcept nogil
cdef size_t track_ranges(const Streams* s, const Track* t, uint64_t start, uint64_t end, uint64_t* starts,
                         uint64_t* ends, size_t most) noexcept nogil
cdef uint64_t track_unseen(const Streams* s, const Track* t, uint64_t start, uint64_t end) noexcept nogil
cdef bint track_conflict(const Streams* s, const Track* t, const PacketRecord* packet, uint64_t* offset,
                         uint64_t* length) noexcept nogil
cdef bint differs_from_delivered(const Streams* s, const Track* t, const PacketRecord* packet) noexcept nogil
