# How fast data arrives (draft-cheng-iccrg-delivery-rate-estimation), and how fast it is to leave, for TCP_INFO.
from libc.stdint cimport int64_t, uint32_t, uint64_t

# The latest rate that was not held down by the application, or the highest.
ctypedef struct Rate:
    uint32_t delivered             # segments
    int64_t interval_ns            # in which they were; 0: nothing is known
    bint app_limited

# What an ACK says, with the counters of what was sent last of all that arrived, as they were at its sending.
ctypedef struct RateSample:
    uint32_t delivered             # segments that had arrived, ever, and now have
    uint32_t prior_delivered
    int64_t prior_delivered_ns     # when that had last grown
    int64_t first_sent_ns          # when what had arrived last then was sent
    int64_t sent_ns
    int64_t now_ns                 # when the ACK arrived
    bint app_limited               # the application had no more

# False when the sample says nothing: an interval shorter than the least RTT is that of something sent again in vain.
cdef bint rate_add(Rate* rate, const RateSample* sample, int64_t min_rtt_ns) noexcept nogil
# Bytes a second; 0: nothing is known.
cdef uint64_t delivery_rate(const Rate* rate, uint32_t mss) noexcept nogil
# Bytes a second that Linux would pace at: twice cwnd in a round trip while it is less than half of ssthresh, else 1.2
# times; UINT64_MAX: no RTT is known.
cdef uint64_t pacing_rate(uint32_t cwnd, uint32_t ssthresh, uint32_t out, uint32_t mss,
                          int64_t srtt_ns) noexcept nogil
