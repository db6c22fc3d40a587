"""Delivery rate and pacing rate, as Linux has them (net/ipv4/tcp_rate.c, tcp_update_pacing_rate())."""

from libc.stdint cimport UINT64_MAX

cdef enum:                         # percent
    SLOW_START_PACE = 200
    AVOIDANCE_PACE = 120

cdef int64_t SECOND = 1_000_000_000
cdef uint64_t MOST_BYTES = <uint64_t> 1 << 32          # in one product with SECOND, twice


cdef bint rate_add(Rate* rate, const RateSample* sample, int64_t min_rtt_ns) noexcept nogil:
    cdef uint32_t delivered = sample.delivered - sample.prior_delivered
    # Sending and arriving each took so long: neither can have been faster than the slower of the two.
    cdef int64_t interval_ns = max(sample.sent_ns - sample.first_sent_ns, sample.now_ns - sample.prior_delivered_ns)
    if interval_ns <= 0 or interval_ns < min_rtt_ns:
        return False
    if not sample.app_limited or is_faster(delivered, interval_ns, rate):
        rate.delivered, rate.interval_ns, rate.app_limited = delivered, interval_ns, sample.app_limited
    return True


cdef inline bint is_faster(uint32_t delivered, int64_t interval_ns, const Rate* rate) noexcept nogil:
    """Is it at least the rate that is known? In microseconds, so that products fit."""
    return (<uint64_t> delivered * <uint64_t> (rate.interval_ns // 1000)
            >= <uint64_t> rate.delivered * <uint64_t> (interval_ns // 1000))


cdef inline uint64_t a_second(uint64_t total, int64_t interval_ns) noexcept nogil:
    return min(total, MOST_BYTES) * SECOND // <uint64_t> interval_ns


cdef uint64_t delivery_rate(const Rate* rate, uint32_t mss) noexcept nogil:
    if not rate.interval_ns:
        return 0
    return a_second(<uint64_t> rate.delivered * mss, rate.interval_ns)


cdef uint64_t pacing_rate(uint32_t cwnd, uint32_t ssthresh, uint32_t out, uint32_t mss,
                          int64_t srtt_ns) noexcept nogil:
    cdef uint64_t percent = SLOW_START_PACE if cwnd < ssthresh // 2 else AVOIDANCE_PACE
    if srtt_ns <= 0:
        return UINT64_MAX
    return a_second(<uint64_t> max(cwnd, out) * mss * percent // 100, srtt_ns)
