# Which frames' times are to be believed.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from aiomos.wire.frame cimport Frame

cdef enum:
    FAR_SECONDS = 3600         # a time this far from that of the frame before is looked into
    MOST_PAUSE_SECONDS = 2592000       # 30 days: how long nothing may have been captured

# Times are held within these bounds, 146 years either way, so that the engine can add any time-out to one.
cdef inline int64_t MAX_TIME_NS() noexcept nogil:
    return (<int64_t> 1 << 62) - 1

cdef inline int64_t held_within(object time_ns) except? -1:
    """A time that comes from outside, however large its number is.

    Raises:
        ValueError: it is no number, nan, and so before and after no other.
    """
    if time_ns != time_ns:
        raise ValueError("a time is a number of nanoseconds since the epoch, not nan")
    return max(-MAX_TIME_NS(), min(MAX_TIME_NS(), time_ns))

cdef inline bint is_far(int64_t time_ns, int64_t now_ns) noexcept nogil:
    """Is a time so far from another that it is to be judged? INT64_MIN, which is no time, is far from all."""
    return (<uint64_t> time_ns - <uint64_t> now_ns + FAR_SECONDS * <uint64_t> 1_000_000_000
            > 2 * FAR_SECONDS * <uint64_t> 1_000_000_000)

cdef bint is_pause(int64_t before_ns, int64_t after_ns) noexcept nogil
cdef int64_t judge_first(const Frame* frame, size_t following) noexcept nogil
cdef bint judge_time(const Frame* frame, size_t following, int64_t now_ns, int64_t* elsewhere_ns,
                     int64_t* time_ns) noexcept nogil
