# Several captures merged by time.
from libc.stdint cimport int64_t, uint32_t

from aiomos.transport.source cimport FrameSource
from aiomos.wire.frame cimport Frame

# What is left of one source's batch; never empty while it is in the heap.
ctypedef struct Cursor:
    const Frame* next
    const Frame* end
    uint32_t order                 # place of the source among those merged
    int64_t next_ns                # time of the next frame as far as it is believed
    int64_t elsewhere_ns           # of wire/times

# Invariant: heap[:size] is a binary heap, its root the cursor whose next frame comes first.
ctypedef struct Merge:
    Cursor* heap
    size_t size
    Frame* frames                  # the merged batch
    size_t capacity
    size_t count

cdef class MergedSource(FrameSource):
    cdef Merge merge
    cdef Cursor* clocks            # by place: a cursor with the times of the source's last frame
    cdef list sources
    cdef list drained              # places of the sources whose next batch is due
    cdef list errors               # of the sources that could not be read to their end

    cdef bint _refill(self) except -1
    cdef int _take(self, uint32_t place, FrameSource source) except -1
