# When to send again: RFC 6298 with the numbers and the variance of Linux (net/ipv4/tcp_input.c, tcp_rtt_estimator()).
#
# All times are nanoseconds. rto_sample() and rto_progress() after each ACK that brings something, rto_expired() after
# each time-out; rto_ns() is how long to wait from then on.
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t

cdef enum:
    RTO_FIRST_MS = 1_000           # RFC 6298 section 2
    RTO_FALLBACK_MS = 3_000        # section 5.7: the handshake was repeated, and gave no sample
    RTO_MIN_MS = 200               # Linux; RFC 6298 has a second
    RTO_MAX_MS = 120_000
    SYN_LINEAR_TIMEOUTS = 4        # Linux: so many time-outs of a SYN more than one do not back off
    LEAST_RTT_NS = 1_000           # what comes sooner counts so much
    MOST_BACKOFF_SHIFT = 20        # a shift of what is 120 s at most
    MIN_RTT_WINDOW_S = 300         # Linux, tcp_min_rtt_wlen

ctypedef struct Rto:
    int64_t srtt_8                 # smoothed RTT, times 8; 0: no sample yet
    int64_t mdev_4                 # mean deviation, times 4
    int64_t mdev_max_4             # the largest of this round trip, RTO_MIN at least
    int64_t rttvar_4               # goes into the RTO: follows mdev_max_4 up at once, down by a quarter a round trip
    uint32_t round_end             # when this is acknowledged, a round trip is over
    uint8_t backoff                # doublings since something was acknowledged; stays at 255
    uint8_t expired                # time-outs since then; stays at 255
    bint fell_back

ctypedef struct RttSample:
    int64_t time_ns
    int64_t rtt_ns

# The least RTT of the latest MIN_RTT_WINDOW_S: the best of all, the best since that, and the best since that one
# (Kathleen Nichols' filter, Linux' lib/win_minmax.c), of which each takes the place of the one before when that is old.
ctypedef struct MinRtt:
    RttSample best[3]

cdef inline int64_t rto_base_ns(const Rto* rto) noexcept nogil:
    """The RTO without back-off."""
    if not rto.srtt_8:
        return <int64_t> (RTO_FALLBACK_MS if rto.fell_back else RTO_FIRST_MS) * 1_000_000
    return (rto.srtt_8 >> 3) + rto.rttvar_4

cdef inline int64_t rto_ns(const Rto* rto) noexcept nogil:
    cdef int64_t most = <int64_t> RTO_MAX_MS * 1_000_000
    return min(min(rto_base_ns(rto), most) << min(rto.backoff, <uint8_t> MOST_BACKOFF_SHIFT), most)

cdef inline int64_t rto_srtt_ns(const Rto* rto) noexcept nogil:
    """Smoothed RTT; 0: no sample yet."""
    return rto.srtt_8 >> 3

cdef inline int64_t min_rtt_ns(const MinRtt* least) noexcept nogil:
    """The least RTT of late; 0: no sample yet."""
    return least.best[0].rtt_ns if least.best[0].rtt_ns != INT64_MAX else 0

cdef void rto_open(Rto* rto) noexcept nogil
# The handshake is complete; to be called after the sample that it gave, if any.
cdef void rto_established(Rto* rto) noexcept nogil
# A segment was sent once only, or its timestamp is echoed (Karn), and was acknowledged; *una* and *nxt* are as after
# this ACK. Ends back-off. Negative: none, as where a clock was set back.
cdef void rto_sample(Rto* rto, int64_t rtt_ns, uint32_t una, uint32_t nxt) noexcept nogil
# New data was acknowledged: back-off ends, whether that gave a sample or not.
cdef void rto_progress(Rto* rto) noexcept nogil
# It has expired, and the first segment is to be sent again; of a SYN (*opening*) the first few do not back off.
cdef void rto_expired(Rto* rto, bint opening) noexcept nogil

cdef void min_rtt_open(MinRtt* least) noexcept nogil
# A sample; if its ACK may have been *delayed* on purpose, it counts only if it is less than all.
cdef void min_rtt_add(MinRtt* least, int64_t rtt_ns, bint delayed, int64_t now_ns) noexcept nogil
