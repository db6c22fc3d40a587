# How much may be in flight, in segments, as Linux counts: docs/design/congestion.md.
#
# congestion_begin() when a connection is set up; congestion_sent() after each sending; congestion_acked() for each ACK
# of new data while recovery does not govern cwnd; congestion_reduce() when recovery begins, which then lowers cwnd to
# what that says; congestion_idle() before something is sent while nothing is in flight; congestion_undone() when a
# reduction has turned out to be wrong, cwnd and ssthresh having been put back.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.end.congestion.cubic_state cimport Cubic
from aiomos.end.congestion.hystart cimport HyStart

cdef enum:
    INFINITE_SSTHRESH = 0x7FFFFFFF
    LEAST_SSTHRESH = 2
    MOST_WINDOW = 1 << 21          # more segments of 512 bytes than any window has (RFC 7323 section 2.3)

cdef enum:                         # Congestion.algorithm
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

# A name such as "cubic" (*name* of *n* bytes) is that of an algorithm; ALGORITHMS where there is none.
cdef uint8_t algorithm_named(const char* name, size_t n) noexcept nogil
cdef const char* algorithm_name(uint8_t algorithm) noexcept nogil

# *mss* is that of data; *syn_losses*: how often the SYN or SYN-ACK was sent again.
cdef void congestion_begin(Congestion* c, uint8_t algorithm, uint32_t mss, uint32_t syn_losses,
                           int64_t now_ns) noexcept nogil
# *out* segments are in flight now; *limited*: something more would have left, but for cwnd. Where cwnd is not used for
# an RTO, it falls half the way to what is, if nothing is amiss (*calm*: the state is CA_OPEN).
cdef void congestion_sent(Congestion* c, uint32_t out, uint32_t una, uint32_t nxt, bint limited, bint calm,
                          int64_t rto_ns, int64_t now_ns) noexcept nogil
cdef void congestion_acked(Congestion* c, const Acked* acked) noexcept nogil
# The ssthresh to go down to.
cdef uint32_t congestion_reduce(Congestion* c, int cause) noexcept nogil
# Nothing was sent for *idle_ns*: beyond an RTO, cwnd falls to the restart window, by half for each.
cdef void congestion_idle(Congestion* c, int64_t idle_ns, bint calm, int64_t rto_ns, int64_t now_ns) noexcept nogil
cdef void congestion_undone(Congestion* c) noexcept nogil
