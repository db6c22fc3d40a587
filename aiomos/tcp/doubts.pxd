# Segments beyond the window, held until it is known whether their sender has jumped there.
from libc.stdint cimport int64_t, uint64_t

from aiomos.tcp.flows cimport Half
from aiomos.tcp.reassembly cimport Streams, Track
from aiomos.tcp.wire cimport Packet

cdef void track_doubt(Streams* s, Track* t, const Half* half, const Packet* packet) noexcept nogil
cdef void track_resume(Streams* s, Track* t, Half* half, int policy, int64_t reach, int64_t now_ns) noexcept nogil
cdef void drop_doubted(Streams* s, Track* t) noexcept nogil
