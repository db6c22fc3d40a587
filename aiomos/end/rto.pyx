"""Retransmission time-out and least round trip time of an end.

RFC 6298 takes four mean deviations for the variance. Linux takes the largest of each round trip, lets what the
RTO has of it sink by a quarter a round trip only, and never below the least RTO: so the RTO is above the smoothed RTT
by that much at least, and a path that is quiet for long does not make it tight.
"""

from libc.string cimport memset

from aiomos.wire.seq cimport seq_lt

cdef int64_t MIN_NS = <int64_t> RTO_MIN_MS * 1_000_000
cdef int64_t WINDOW_NS = <int64_t> MIN_RTT_WINDOW_S * 1_000_000_000
cdef int64_t MOST_RTT_NS = <int64_t> 1 << 56       # two years: its eightfold still fits


cdef void rto_open(Rto* rto) noexcept nogil:
    memset(rto, 0, sizeof(Rto))


cdef void rto_established(Rto* rto) noexcept nogil:
    if not rto.srtt_8:
        rto.fell_back = True
    rto.backoff = rto.expired = 0


cdef void rto_sample(Rto* rto, int64_t rtt_ns, uint32_t una, uint32_t nxt) noexcept nogil:
    cdef int64_t error
    if rtt_ns < 0:
        return
    rtt_ns = min(max(rtt_ns, LEAST_RTT_NS), MOST_RTT_NS)
    rto.backoff = 0
    if not rto.srtt_8:
        rto.srtt_8 = rtt_ns << 3
        rto.mdev_4 = rtt_ns << 1                   # so the RTO is three times the RTT
        rto.mdev_max_4 = rto.rttvar_4 = max(rto.mdev_4, MIN_NS)
        rto.round_end = nxt
        return
    error = rtt_ns - (rto.srtt_8 >> 3)
    rto.srtt_8 += error
    follow_deviation(rto, error)
    if seq_lt(rto.round_end, una):
        if rto.mdev_max_4 < rto.rttvar_4:
            rto.rttvar_4 -= (rto.rttvar_4 - rto.mdev_max_4) >> 2
        rto.round_end = nxt
        rto.mdev_max_4 = MIN_NS


cdef void follow_deviation(Rto* rto, int64_t error) noexcept nogil:
    cdef bint shorter = error < 0
    error = (-error if shorter else error) - (rto.mdev_4 >> 2)
    if shorter and error > 0:
        error >>= 3                                # an RTT that falls is no reason for a longer RTO (Eifel)
    rto.mdev_4 += error
    if rto.mdev_4 > rto.mdev_max_4:
        rto.mdev_max_4 = rto.mdev_4
        rto.rttvar_4 = max(rto.rttvar_4, rto.mdev_max_4)


cdef void rto_progress(Rto* rto) noexcept nogil:
    rto.backoff = rto.expired = 0


cdef void rto_expired(Rto* rto, bint opening) noexcept nogil:
    rto.expired += rto.expired < 255
    if not opening or rto.expired > SYN_LINEAR_TIMEOUTS:
        rto.backoff += rto.backoff < 255


# --- least RTT ------------------------------------------------------------------------------------------

cdef void min_rtt_open(MinRtt* least) noexcept nogil:
    begin_window(least, INT64_MAX, 0)


cdef void begin_window(MinRtt* least, int64_t rtt_ns, int64_t now_ns) noexcept nogil:
    least.best[0].time_ns, least.best[0].rtt_ns = now_ns, rtt_ns
    least.best[1] = least.best[2] = least.best[0]


cdef void min_rtt_add(MinRtt* least, int64_t rtt_ns, bint delayed, int64_t now_ns) noexcept nogil:
    cdef RttSample sample
    if rtt_ns < 0:
        return
    sample.time_ns, sample.rtt_ns = now_ns, max(rtt_ns, LEAST_RTT_NS)
    if delayed and sample.rtt_ns > least.best[0].rtt_ns:
        return
    if sample.rtt_ns <= least.best[0].rtt_ns or now_ns - least.best[2].time_ns > WINDOW_NS:
        begin_window(least, sample.rtt_ns, now_ns)
        return
    if sample.rtt_ns <= least.best[1].rtt_ns:
        least.best[1] = least.best[2] = sample
    elif sample.rtt_ns <= least.best[2].rtt_ns:
        least.best[2] = sample
    move_window(least, sample)


cdef void move_window(MinRtt* least, RttSample sample) noexcept nogil:
    cdef int64_t age = sample.time_ns - least.best[0].time_ns
    if age > WINDOW_NS:
        pass_on(least, sample)
        if sample.time_ns - least.best[0].time_ns > WINDOW_NS:
            pass_on(least, sample)
    elif least.best[1].time_ns == least.best[0].time_ns and age > WINDOW_NS // 4:
        least.best[1] = least.best[2] = sample     # a second choice, of the second quarter
    elif least.best[2].time_ns == least.best[1].time_ns and age > WINDOW_NS // 2:
        least.best[2] = sample                     # a third, of the second half


cdef void pass_on(MinRtt* least, RttSample sample) noexcept nogil:
    """The best is too old: the next takes its place."""
    least.best[0], least.best[1], least.best[2] = least.best[1], least.best[2], sample
