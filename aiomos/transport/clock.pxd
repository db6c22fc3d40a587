# The time of a live run, and how what the kernel stamped by the wall's clock is brought onto it.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from aiomos.wire.frame cimport Frame

cdef class LiveClock:
    cdef readonly int64_t base_ns      # the wall's clock less the monotonic one, when the run began
    cdef readonly uint64_t steps
    cdef int64_t shift_ns              # this clock less the wall's, when it was looked at last,
    cdef int64_t before_ns             # and before its last step
    cdef int64_t looked_ns             # when that was
    cdef object wall
    cdef object monotonic

    cdef int64_t time(self) except? -1
    # Measure how far off the wall's clock is; to be called after frames were read, before their times are mended.
    cdef int look(self) except -1
    # Bring times of the wall's clock onto this one, of frames of one interface in the order in which they came.
    # `latest_ns` is the latest time that this interface has had.
    cdef void bring(self, Frame* frames, size_t count, int64_t* latest_ns) noexcept nogil
    cdef int64_t brought(self, int64_t stamp_ns) noexcept nogil
