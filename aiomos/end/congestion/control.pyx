"""Slow start, what is done with cwnd while it is not used, and the table of algorithms for the rest.

As Linux does (net/ipv4/tcp_cong.c, tcp_output.c): segments are counted, and a reduction goes by cwnd, not by what is in
flight, since cwnd does not grow while it is not used, and sinks if that lasts.
"""

from libc.string cimport memcmp, memset, strlen

from aiomos.end.congestion.cubic cimport cubic_avoid, cubic_begin, cubic_paused, cubic_reduce, cubic_undone
from aiomos.end.congestion.hystart cimport hystart_acked, hystart_begin, hystart_growth
from aiomos.end.congestion.reno cimport reno_avoid, reno_begin, reno_paused, reno_reduce, reno_undone
from aiomos.end.congestion.state cimport (
    ALGORITHMS,
    Acked,
    CUBIC,
    Congestion,
    INFINITE_SSTHRESH,
    MOST_WINDOW,
    RENO,
    congestion_limited,
    in_slow_start,
)
from aiomos.wire.seq cimport seq_leq

cdef enum:                         # RFC 6928
    INITIAL_SEGMENTS = 10
    INITIAL_BYTES = 14_600
    LEAST_INITIAL = 2

ctypedef struct Algorithm:
    const char* name
    void (*begin)(Congestion* c) noexcept nogil
    # *segments* were acknowledged in congestion avoidance.
    void (*avoid)(Congestion* c, const Acked* acked, uint32_t segments) noexcept nogil
    # Up to now cwnd has not been used.
    void (*paused)(Congestion* c, int64_t now_ns) noexcept nogil
    uint32_t (*reduce)(Congestion* c, int cause) noexcept nogil
    void (*undone)(Congestion* c) noexcept nogil

cdef Algorithm TABLE[2]            # by number
TABLE[RENO] = Algorithm("reno", reno_begin, reno_avoid, reno_paused, reno_reduce, reno_undone)
TABLE[CUBIC] = Algorithm("cubic", cubic_begin, cubic_avoid, cubic_paused, cubic_reduce, cubic_undone)


cdef uint8_t algorithm_named(const char* name, size_t n) noexcept nogil:
    cdef uint8_t number
    for number in range(ALGORITHMS):
        if strlen(TABLE[number].name) == n and memcmp(TABLE[number].name, name, n) == 0:
            return number
    return ALGORITHMS


cdef const char* algorithm_name(uint8_t algorithm) noexcept nogil:
    return TABLE[algorithm].name


# --- windows --------------------------------------------------------------------------------------------

cdef void congestion_begin(Congestion* c, uint8_t algorithm, uint32_t mss, uint32_t syn_losses,
                           int64_t now_ns) noexcept nogil:
    memset(c, 0, sizeof(Congestion))
    c.algorithm = algorithm if algorithm < ALGORITHMS else <uint8_t> CUBIC
    c.initial = min(<uint32_t> INITIAL_SEGMENTS,
                    max(<uint32_t> LEAST_INITIAL, <uint32_t> INITIAL_BYTES // max(mss, <uint32_t> 1)))
    # RFC 5681 section 3.1; as in Linux, one loss is forgiven, since the first RTO is a second only (RFC 6298).
    c.cwnd = c.initial if syn_losses < 2 else 1
    c.ssthresh = INFINITE_SSTHRESH
    c.full_ns = now_ns
    hystart_begin(&c.hystart)
    TABLE[c.algorithm].begin(c)


cdef inline uint32_t remembered(const Congestion* c, bint calm) noexcept nogil:
    """The ssthresh that keeps in mind what cwnd was, when it falls without a loss."""
    return max(c.ssthresh, c.cwnd // 2 + c.cwnd // 4) if calm else c.ssthresh


cdef void congestion_sent(Congestion* c, uint32_t out, uint32_t una, uint32_t nxt, bint limited, bint calm,
                          int64_t rto_ns, int64_t now_ns) noexcept nogil:
    cdef uint32_t used
    if seq_leq(c.usage_end, una) or limited or (not c.limited and out > c.most_out):
        c.limited, c.most_out, c.usage_end = limited, out, nxt
    if congestion_limited(c):
        c.used = 0
        c.full_ns = now_ns
        return
    c.used = max(c.used, out)
    if now_ns - c.full_ns < rto_ns:
        return
    if calm:
        used = max(c.used, c.initial)
        if used < c.cwnd:
            c.ssthresh = remembered(c, calm)
            c.cwnd = (c.cwnd + used) // 2
        c.used = 0
    c.full_ns = now_ns


cdef void congestion_idle(Congestion* c, int64_t idle_ns, bint calm, int64_t rto_ns, int64_t now_ns) noexcept nogil:
    cdef uint32_t restart = min(c.initial, c.cwnd)
    TABLE[c.algorithm].paused(c, now_ns)
    if idle_ns <= rto_ns:
        return
    c.ssthresh = remembered(c, calm)
    while idle_ns > rto_ns and c.cwnd > restart:
        c.cwnd //= 2
        idle_ns -= max(rto_ns, <int64_t> 1)
    c.cwnd = max(c.cwnd, restart)
    c.used = 0
    c.full_ns = now_ns


# --- growth ---------------------------------------------------------------------------------------------

cdef inline uint32_t slow_start(Congestion* c, const Acked* acked) noexcept nogil:
    """Grow; return how many of the segments acknowledged are left for congestion avoidance."""
    cdef uint32_t growth
    if c.ssthresh == INFINITE_SSTHRESH:
        c.cwnd += hystart_growth(&c.hystart, acked.segments, c.paced)
        if hystart_acked(&c.hystart, acked.una, acked.nxt, acked.rtt_ns):
            c.ssthresh = c.cwnd
        return 0
    growth = min(acked.segments, c.ssthresh - c.cwnd)
    c.cwnd += growth
    return acked.segments - growth


cdef void congestion_acked(Congestion* c, const Acked* acked) noexcept nogil:
    cdef uint32_t segments = acked.segments
    if not congestion_limited(c):
        TABLE[c.algorithm].paused(c, acked.now_ns)
        return
    if in_slow_start(c):
        segments = slow_start(c, acked)
    if segments:
        TABLE[c.algorithm].avoid(c, acked, segments)
    c.cwnd = min(c.cwnd, <uint32_t> MOST_WINDOW)


cdef uint32_t congestion_reduce(Congestion* c, int cause) noexcept nogil:
    c.credit = 0
    return TABLE[c.algorithm].reduce(c, cause)


cdef void congestion_undone(Congestion* c) noexcept nogil:
    TABLE[c.algorithm].undone(c)
