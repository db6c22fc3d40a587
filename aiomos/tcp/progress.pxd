# What acknowledgements, time and the end of its flow say of a half.
from libc.stdint cimport int64_t

from aiomos.tcp.flows cimport HalfRecord
from aiomos.tcp.tracks cimport Streams, Track

cdef void track_acked(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef void track_tick(Streams* s, Track* t, const HalfRecord* half, int64_t now_ns) noexcept nogil
cdef void track_finish(Streams* s, Track* t, const HalfRecord* half, int kind, int64_t now_ns) noexcept nogil
