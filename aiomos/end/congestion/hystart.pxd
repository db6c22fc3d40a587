# When to leave the first slow start: HyStart++ (RFC 9406).
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t

cdef enum:                         # section 4.3
    HYSTART_MIN_THRESHOLD_NS = 4_000_000
    HYSTART_MAX_THRESHOLD_NS = 16_000_000
    HYSTART_DIVISOR = 8
    HYSTART_SAMPLES = 8
    HYSTART_GROWTH_DIVISOR = 4
    HYSTART_ROUNDS = 5
    HYSTART_BURST = 8              # L: most segments by which an ACK lets cwnd grow, unless sending is paced

ctypedef struct HyStart:
    int64_t last_ns                # lastRoundMinRTT; INT64_MAX: infinity
    int64_t least_ns               # currentRoundMinRTT
    int64_t baseline_ns            # cssBaselineMinRtt, while in conservative slow start; else INT64_MAX
    uint32_t round_end             # windowEnd
    uint8_t samples                # rttSampleCount, HYSTART_SAMPLES at most
    uint8_t rounds                 # in conservative slow start
    uint8_t credit                 # quarters of a segment
    bint begun                     # round_end is set

cdef inline bint hystart_conservative(const HyStart* h) noexcept nogil:
    return h.baseline_ns != INT64_MAX

cdef void hystart_begin(HyStart* h) noexcept nogil
# By how many segments cwnd grows for so many acknowledged.
cdef uint32_t hystart_growth(HyStart* h, uint32_t segments, bint paced) noexcept nogil
# An ACK; *rtt_ns* is its sample, -1: none. True: slow start is over.
cdef bint hystart_acked(HyStart* h, uint32_t una, uint32_t nxt, int64_t rtt_ns) noexcept nogil
