# Times: integer nanoseconds inside, float seconds in the public API. The only place that converts.
from libc.stdint cimport int64_t

from aiomos.wire.times cimport MAX_TIME_NS

cdef inline double seconds(int64_t ns) noexcept nogil:
    """To seconds; whole and part apart, as a double has no room for today's date in nanoseconds."""
    return <double> (ns // 1_000_000_000) + <double> (ns % 1_000_000_000) / 1e9

cdef inline int64_t nanoseconds(double value) noexcept nogil:
    cdef int64_t whole = <int64_t> value
    cdef double part = (value - <double> whole) * 1e9
    return whole * 1_000_000_000 + <int64_t> (part + (0.5 if part >= 0 else -0.5))

cdef inline int64_t nanoseconds_of(double value) except? -1:
    """From seconds that come from outside, however many they are.

    Raises:
        ValueError: they are no number, nan.
    """
    if value != value:
        raise ValueError("a time is a number of seconds, not nan")
    if -4.6e9 < value < 4.6e9:
        return nanoseconds(value)
    return MAX_TIME_NS() if value > 0 else -MAX_TIME_NS()
