# The bytes of one half as an async reader.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef object new_chunk(uint64_t offset, int64_t time_ns, Py_ssize_t length, uint8_t** data)
cdef Gap new_gap(uint64_t offset, uint64_t length, int64_t time_ns, object reason)

cdef class Gap:
    cdef readonly uint64_t offset
    cdef readonly uint64_t length
    cdef readonly object reason
    cdef int64_t time_ns

cdef class Pressure:
    cdef public uint64_t half_limit    # unread bytes of one half at which its reader is slow
    cdef public uint64_t total_limit
    cdef readonly uint64_t total       # unread bytes in all streams
    cdef readonly uint64_t overflows   # bytes dropped because nobody could read them
    cdef readonly uint64_t sleepers    # tasks that wait for the engine's clock
    cdef set slow                      # streams beyond half_limit
    cdef object waiter                 # future of the pump while it is held back
    cdef object loop

    cdef void check(self)
    cpdef bint holds_back(self)

cdef class Stream:
    cdef readonly object side
    cdef MonitorConnection connection
    cdef object items                  # deque of Chunk and Gap, oldest first
    cdef object orders                 # deque: for each item, when it became readable (int), or its runs (list)
    cdef object waiter                 # future of the reader that waits, or None
    cdef object error                  # what reading past the last item raises; None at a FIN
    cdef readonly uint64_t unread      # bytes in items
    cdef readonly uint64_t offset      # of the next byte to read
    cdef bint ended
    cdef readonly bint wanted          # false once given up: bytes that come are dropped
    cdef bint opened                   # somebody has read from it
    cdef readonly object gaps          # the app's choice: raise, mark, skip or zero

    cdef void push(self, object item, object order)
    cdef void end(self, object error)
    cdef void drop(self)
    cdef void wake(self)
    cdef bint overflows(self, uint64_t size)
    cdef object fill(self, Gap gap, object order)
    cdef object pop(self, object gaps)
    cdef object shorten(self, Py_ssize_t n)
    cdef object cut_run(self)
    cdef object future(self)
    cdef bint waiting(self)

cdef class MonitorConnection:
    cdef readonly object flow          # aiomos.Flow
    cdef readonly Stream client
    cdef readonly Stream server
    cdef readonly Pressure pressure
    cdef object released               # called when a half, or the whole flow, is no longer wanted
    cdef object waiter                 # future of a merged reader
    cdef list closers                  # futures of closed()
    cdef object reason

    cdef void close(self, object reason)
    cdef bint needs_engine(self)
    cdef object pop(self)
    cdef Stream earlier(self)
