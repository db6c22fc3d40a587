# The async face: streams of bytes, and the connection they belong to.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.face.chunks cimport Gap
from aiomos.face.pressure cimport Pressure

# What a connection and its two streams share. The streams know this and not the connection, so that no reference
# cycle keeps a connection alive once its app has left it.
cdef class Wiring:
    cdef object flow                       # aiomos.Flow
    cdef Pressure pressure
    cdef object released                   # called with the flow when less of it is wanted; None when it is over
    cdef object client_waiter              # futures of readers, or None
    cdef object server_waiter
    cdef object merged_waiter
    cdef list closers                      # futures of closed(), or None

    cdef bint needs_engine(self)
    cdef void changed(self)

cdef class Stream:
    cdef readonly object side
    cdef Wiring wiring
    cdef object head                       # the oldest item, Chunk or Gap, or None
    cdef uint64_t head_order               # when it became readable, among all of the engine's
    cdef Py_ssize_t head_at                # bytes of it that were read
    cdef Py_ssize_t taken_at               # and of the item that was taken last, before
    cdef object rest                       # deque of (item, order) behind it, or None
    cdef uint64_t queued                   # items in it
    cdef Gap unread_gap                    # the newest item, if it is a gap that grows as more is dropped
    cdef object error                      # what reading past the last item raises; None at a FIN
    cdef readonly uint64_t unread          # bytes in items
    cdef readonly uint64_t offset          # of the next byte to read
    cdef uint64_t turn                     # of the pressure, when left_over was noted
    cdef uint64_t left_over                # memory of what was unread then
    cdef bint awaited                      # whether a reader was waiting then
    cdef bint ended
    cdef readonly bint wanted              # false once given up: bytes that come are dropped
    cdef bint opened                       # somebody has read from it
    cdef readonly object gaps              # the app's choice: raise, mark, skip or zero

    cdef bint push(self, object item, uint64_t order)
    cdef void append(self, object item, uint64_t order)
    cdef void prepend(self, object item, Py_ssize_t at)
    cdef object shift(self)
    cdef uint64_t weight(self)
    cdef void end(self, object error)
    cdef void drop(self)
    cdef void wake(self)
    cdef bint overflows(self)
    cdef bint waiting(self)
    cdef object pop(self, object gaps)
    cdef object pop_item(self, object gaps)
    cdef object past_end(self)
    cdef object pop_joined(self, object gaps)
    cdef object join(self, object first, Py_ssize_t most)
    cdef object cut(self, object item, Py_ssize_t at, Py_ssize_t n)
    cdef void put_back(self, object item, Py_ssize_t at)
    cdef object fill(self, Gap gap)
    cdef void took(self, uint64_t n)

cdef class MonitorConnection:
    cdef Wiring wiring
    cdef readonly Stream client
    cdef readonly Stream server
    cdef readonly object reason
    cdef readonly bint left
    cdef uint32_t rule                     # the engine's number of the registration it came from

    cdef list occurrences                  # those of events(), or None

    cdef void end_occurrences(self)
    cdef void close(self, object reason)
    cdef object pop(self)
    cdef Stream earlier(self)
