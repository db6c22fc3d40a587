"""CUBIC (RFC 9438), in whole numbers.

Windows are kept with 32 bits of fraction, so what each of many ACKs adds is not lost; the curve is taken to 1/1024 of a
segment and to a microsecond.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from aiomos.end.congestion.state cimport CAUSE_ECN, CAUSE_TIMEOUT, LEAST_SSTHRESH, MOST_WINDOW, in_slow_start
from aiomos.end.congestion.cubic_state cimport Curve

cdef enum:
    MOST_ACKED = 1 << 16           # that one ACK lets cwnd grow by, so that all fits in 64 bits
    FARTHEST_US = 200_000_000      # from K: the curve is higher there than any window

# C (t - K)**3 with C = 0.4, in 1/1024 segments, of (t - K)**2 in 1e-6 s**2 and of t - K in us: 1e12 / 1024 / 0.4.
cdef int64_t CURVE_DIVISOR = 2_441_406_250


cdef void cubic_begin(Congestion* c) noexcept nogil:
    memset(&c.cubic, 0, sizeof(c.cubic))


cdef inline int64_t rise_10(int64_t from_k_us) noexcept nogil:
    """C (t - K)**3 of equation 1, in 1/1024 segments."""
    from_k_us = max(<int64_t> -FARTHEST_US, min(from_k_us, <int64_t> FARTHEST_US))
    return from_k_us * from_k_us // 1_000_000 * from_k_us // CURVE_DIVISOR


cdef inline int64_t height_10(const Curve* curve, int64_t t_us) noexcept nogil:
    """W_cubic(t) of equation 1."""
    return curve.wmax_10 + rise_10(t_us - curve.k_us)


cdef uint64_t cube_root(uint64_t value) noexcept nogil:
    """The largest whole number whose cube is no more: bit by bit."""
    cdef uint64_t root = 0, part
    cdef int shift = 63
    while shift >= 0:
        root *= 2
        part = (3 * root * (root + 1) + 1) << shift
        if value >= part:
            value -= part
            root += 1
        shift -= 3
    return root


cdef int64_t k_of(int64_t below_10) noexcept nogil:
    """K of equation 2, the time until the curve has risen by so much, to 1/1024 of a segment."""
    # In ms: 1e9 / 0.4 / 1024 = 9,765,625 / 4. Then one step of Newton's.
    cdef int64_t k_us = <int64_t> cube_root(<uint64_t> below_10 * 9_765_625 // 4) * 1000
    cdef int64_t left_10 = below_10 - rise_10(k_us)
    return k_us + left_10 * CURVE_DIVISOR // max(3 * (k_us * k_us // 1_000_000), <int64_t> 1)


cdef void begin_curve(Congestion* c, int64_t now_ns) noexcept nogil:
    cdef Curve* curve = &c.cubic.curve
    curve.begun = True
    curve.epoch_ns = c.cubic.seen_ns = now_ns
    curve.window_32 = curve.estimate_32 = <uint64_t> c.cwnd << 32
    if not curve.prior:
        curve.prior = c.cwnd       # slow start ended without a loss (section 4.10)
    if curve.wmax_10 > c.cwnd << 10:
        curve.k_us = k_of(curve.wmax_10 - (c.cwnd << 10))
    else:
        curve.wmax_10, curve.k_us = c.cwnd << 10, 0


cdef void follow_window(Congestion* c) noexcept nogil:
    """Begin anew with what others have made of cwnd: nobody else may raise it at one stroke."""
    cdef Curve* curve = &c.cubic.curve
    if curve.window_32 >> 32 != c.cwnd:
        curve.window_32 = <uint64_t> c.cwnd << 32
        curve.estimate_32 = min(curve.estimate_32, curve.window_32)


cdef void cubic_avoid(Congestion* c, const Acked* acked, uint32_t segments) noexcept nogil:
    cdef Curve* curve = &c.cubic.curve
    cdef int64_t t_us
    cdef uint64_t window_10
    if not curve.begun:
        begin_curve(c, acked.now_ns)
    c.cubic.seen_ns = max(c.cubic.seen_ns, acked.now_ns)
    follow_window(c)
    segments = min(segments, <uint32_t> MOST_ACKED)
    window_10 = max(curve.window_32 >> 22, <uint64_t> 1)
    t_us = (c.cubic.seen_ns - curve.epoch_ns) // 1000
    # Section 4.3: alpha is 3 (1 - 0.7) / (1 + 0.7) = 9 / 17 until Reno would be where the reduction was.
    curve.estimate_32 += ((<uint64_t> (17 if curve.estimate_32 >> 32 >= curve.prior else 9) * segments << 42)
                          // (17 * window_10))
    if height_10(curve, t_us) < <int64_t> (curve.estimate_32 >> 22):
        curve.window_32 = max(curve.window_32, curve.estimate_32)
    else:
        approach(curve, height_10(curve, t_us + acked.srtt_ns // 1000), window_10, segments)
    curve.window_32 = min(curve.window_32, <uint64_t> MOST_WINDOW << 32)
    curve.estimate_32 = min(curve.estimate_32, <uint64_t> MOST_WINDOW << 32)
    c.cwnd = <uint32_t> (curve.window_32 >> 32)


cdef inline void approach(Curve* curve, int64_t target_10, uint64_t window_10, uint32_t segments) noexcept nogil:
    """Go to the target within a round trip (sections 4.2, 4.4 and 4.5), by half of cwnd at most."""
    cdef uint64_t most_32 = curve.window_32 + curve.window_32 // 2, target_32, gain_32
    if target_10 <= <int64_t> window_10:
        return
    target_32 = min(<uint64_t> target_10 << 22, most_32)
    gain_32 = ((target_32 - curve.window_32) << 10) // window_10
    curve.window_32 = min(curve.window_32 + gain_32 * segments, target_32)


cdef void cubic_paused(Congestion* c, int64_t now_ns) noexcept nogil:
    """Take out of t the time since the last ACK (section 5.8): cwnd was not used."""
    if c.cubic.curve.begun and now_ns > c.cubic.seen_ns:
        c.cubic.curve.epoch_ns += now_ns - c.cubic.seen_ns
        c.cubic.seen_ns = now_ns


cdef uint32_t cubic_reduce(Congestion* c, int cause) noexcept nogil:
    cdef Curve* curve = &c.cubic.curve
    cdef uint32_t tenths = 8 if cause == CAUSE_ECN and not in_slow_start(c) else 7      # RFC 8511
    c.cubic.before = curve[0]
    c.cubic.reduced = True
    if cause == CAUSE_TIMEOUT:
        curve.wmax_10 = 0          # section 4.8
    elif c.cwnd << 10 < curve.wmax_10:
        # Fast convergence (section 4.7): (1 + 0.7) / 2.
        curve.wmax_10 = <uint32_t> ((<uint64_t> c.cwnd << 10) * 17 // 20)
    else:
        curve.wmax_10 = c.cwnd << 10
    curve.prior = c.cwnd
    curve.begun = False
    return max(c.cwnd * tenths // 10, <uint32_t> LEAST_SSTHRESH)


cdef void cubic_undone(Congestion* c) noexcept nogil:
    if c.cubic.reduced:
        c.cubic.curve = c.cubic.before             # section 4.9
        c.cubic.reduced = False
