"""Reno: a segment more each round trip, half of it where something was lost (RFC 5681 section 3.1)."""

from aiomos.end.congestion.state cimport CAUSE_ECN, LEAST_SSTHRESH, in_slow_start


cdef void reno_begin(Congestion* c) noexcept nogil:
    """Begin; all it knows is the credit, which is 0."""


cdef void reno_avoid(Congestion* c, const Acked* acked, uint32_t segments) noexcept nogil:
    if c.credit >= c.cwnd:
        c.credit = 0               # cwnd was larger when this was gained: one segment is enough
        c.cwnd += 1
    c.credit += segments
    if c.credit >= c.cwnd:
        segments = c.credit // c.cwnd
        c.credit -= segments * c.cwnd
        c.cwnd += segments


cdef void reno_paused(Congestion* c, int64_t now_ns) noexcept nogil:
    """Nothing of it depends on time."""


cdef uint32_t reno_reduce(Congestion* c, int cause) noexcept nogil:
    if cause == CAUSE_ECN and not in_slow_start(c):
        return max(<uint32_t> (c.cwnd * <uint32_t> 4 // 5), <uint32_t> LEAST_SSTHRESH)      # RFC 8511
    return max(c.cwnd // 2, <uint32_t> LEAST_SSTHRESH)


cdef void reno_undone(Congestion* c) noexcept nogil:
    """What was gained meanwhile stays."""
