"""HyStart++ (RFC 9406): slow start ends when round trips get longer, before something is lost.

An RTT that has grown since the last round is no proof, so cwnd goes on growing for five rounds, four times as slowly,
and if the RTT falls below what it was when they began, as before.
"""

from libc.string cimport memset

from aiomos.wire.seq cimport seq_leq


cdef void hystart_begin(HyStart* h) noexcept nogil:
    memset(h, 0, sizeof(HyStart))
    h.last_ns = h.least_ns = h.baseline_ns = INT64_MAX


cdef uint32_t hystart_growth(HyStart* h, uint32_t segments, bint paced) noexcept nogil:
    cdef uint32_t quarters
    if not paced:
        segments = min(segments, <uint32_t> HYSTART_BURST)
    if not hystart_conservative(h):
        return segments
    quarters = h.credit + segments
    h.credit = <uint8_t> (quarters % HYSTART_GROWTH_DIVISOR)
    return quarters // HYSTART_GROWTH_DIVISOR


cdef bint hystart_acked(HyStart* h, uint32_t una, uint32_t nxt, int64_t rtt_ns) noexcept nogil:
    if not h.begun:
        h.begun = True
        h.round_end = nxt
    if rtt_ns >= 0:
        h.least_ns = min(h.least_ns, rtt_ns)
        h.samples += h.samples < HYSTART_SAMPLES
        if h.samples == HYSTART_SAMPLES:
            judge(h)
    if not seq_leq(h.round_end, una):
        return False
    h.round_end = nxt
    h.last_ns, h.least_ns, h.samples = h.least_ns, INT64_MAX, 0
    if hystart_conservative(h):
        h.rounds += 1              # the one in which it began counts as a whole
    return h.rounds == HYSTART_ROUNDS


cdef void judge(HyStart* h) noexcept nogil:
    """Compare this round with the last, or with what conservative slow start began with (section 4.2)."""
    cdef int64_t threshold
    if hystart_conservative(h):
        if h.least_ns < h.baseline_ns:
            h.baseline_ns = INT64_MAX
            h.rounds = h.credit = 0
        return
    if h.last_ns == INT64_MAX:
        return
    threshold = max(<int64_t> HYSTART_MIN_THRESHOLD_NS,
                    min(h.last_ns // HYSTART_DIVISOR, <int64_t> HYSTART_MAX_THRESHOLD_NS))
    if h.least_ns - threshold >= h.last_ns:
        h.baseline_ns = h.least_ns
        h.rounds = h.credit = 0
