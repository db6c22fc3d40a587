# What CUBIC remembers. Apart from cubic.pxd, which is about a Congestion, of which this is a part.
from libc.stdint cimport int64_t, uint32_t, uint64_t

# One stretch of congestion avoidance.
ctypedef struct Curve:
    int64_t epoch_ns               # t is counted from here, moved on by the time in which cwnd was not used
    int64_t k_us                   # K
    uint64_t window_32             # cwnd, in 1/2**32 segments
    uint64_t estimate_32           # W_est
    uint32_t wmax_10               # W_max, in 1/1024 segments; 0: what cwnd is when the curve begins
    uint32_t prior                 # cwnd_prior, in segments; 0: none
    bint begun

ctypedef struct Cubic:
    Curve curve
    Curve before                   # as it was before it was reduced
    int64_t seen_ns                # t is counted up to here
    bint reduced                   # `before` is set
