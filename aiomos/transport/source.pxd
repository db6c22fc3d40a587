# What every transport that delivers frames in batches looks like to the engine.
from libc.stdint cimport int64_t, uint64_t

from aiomos.wire.frame cimport Frame

cdef class FrameSource:
    cdef const Frame* frames   # the current batch, borrowed until the next read_batch() or close()
    cdef size_t count          # frames in it
    cdef readonly uint64_t frames_read
    cdef readonly list interfaces
    cdef int64_t first_ns      # time of the first frame, once frames_read > 0
    cdef bint heard_by_all     # whether all workers get the current batch, and each is to find its share itself

    cpdef bint read_batch(self) except -1
    cdef bint deliver(self, const Frame* frames, size_t count) noexcept
    cpdef close(self)
