# Back-pressure: what nobody has read yet.
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    ITEM_COST = 160            # memory of a chunk or gap that waits, besides its bytes

cdef class Pressure:
    cdef readonly uint64_t half_limit      # unread bytes of one half at which its reader is slow
    cdef readonly uint64_t total_limit
    cdef readonly uint64_t total           # unread bytes in all streams
    cdef uint64_t queued                   # chunks and gaps in all streams, besides the oldest of each
    cdef readonly uint64_t left_over       # memory of what was unread when readers last had their turn
    cdef readonly uint64_t overflows       # chunks dropped because nobody could read them, and their bytes
    cdef readonly uint64_t overflow_bytes
    cdef uint64_t turn                     # how often readers have had their turn
    cdef int64_t sleepers                  # tasks that wait for the engine's clock
    cdef public bint waits                 # the engine waits for slow readers; live it cannot
    cdef set slow                          # streams beyond half_limit
    cdef public object waiter              # future of the pump while it is held back

    cpdef void check(self)
    cpdef bint holds_back(self)
    cdef uint64_t weight(self)

cdef inline bint is_pending(object future):
    return future is not None and not future.done()
