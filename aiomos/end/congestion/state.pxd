# The congestion window of a connection, in segments, as Linux counts; what all algorithms know of it.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.end.congestion.cubic_state cimport Cubic
from aiomos.end.congestion.hystart cimport HyStart

cdef enum:
    INFINITE_SSTHRESH = 0x7FFFFFFF
    LEAST_SSTHRESH = 2
    MOST_WINDOW = 1 << 21          # more segments of 512 bytes than any window has (RFC 7323 section 2.3)

cdef enum:                         # Congestion.algorithm: the table is in control.pyx
    RENO = 0
    CUBIC = 1
    ALGORITHMS = 2

cdef enum:                         # why to reduce
    CAUSE_LOSS = 0
    CAUSE_ECN = 1                  # ECE (RFC 3168)
    CAUSE_TIMEOUT = 2

ctypedef struct Congestion:
    uint32_t cwnd
    uint32_t ssthresh
    uint32_t initial               # window, which is the restart window, too
    uint32_t credit                # segments acknowledged, or parts of them, that have not yet added one to cwnd
    uint32_t most_out              # in flight at once, in the window of data that ends at `usage_end`
    uint32_t usage_end
    uint32_t used                  # the most in flight since cwnd was last all used; 0: it is
    int64_t full_ns                # when it was, or was last adapted
    uint8_t algorithm
    bint limited                   # cwnd, and nothing else, has kept something from leaving in that window of data
    bint paced                     # sending is spread over time
    HyStart hystart
    Cubic cubic

# What an ACK has brought.
ctypedef struct Acked:
    uint32_t segments              # newly acknowledged: of a super-segment all that it was cut into
    uint32_t una                   # as after the ACK
    uint32_t nxt
    int64_t rtt_ns                 # sample; -1: none
    int64_t srtt_ns                # 0: not known
    int64_t now_ns                 # when it arrived

cdef inline bint in_slow_start(const Congestion* c) noexcept nogil:
    return c.cwnd < c.ssthresh

cdef inline bint congestion_limited(const Congestion* c) noexcept nogil:
    """May cwnd grow? In slow start to twice what has been in flight, else only if it was all used (RFC 7661)."""
    return c.limited or (in_slow_start(c) and c.cwnd < 2 * c.most_out)
