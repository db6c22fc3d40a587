# Congestion avoidance of RFC 5681: one algorithm behind control.pxd.
from libc.stdint cimport int64_t, uint32_t

from aiomos.end.congestion.state cimport Acked, Congestion

cdef void reno_begin(Congestion* c) noexcept nogil
cdef void reno_avoid(Congestion* c, const Acked* acked, uint32_t segments) noexcept nogil
cdef void reno_paused(Congestion* c, int64_t now_ns) noexcept nogil
cdef uint32_t reno_reduce(Congestion* c, int cause) noexcept nogil
cdef void reno_undone(Congestion* c) noexcept nogil
