# A transport whose frames leave late, or not at all, as links have it.
from libc.stdint cimport int64_t

from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame, Offload

cdef class Delayed:
    # A frame that is on its way.
    cdef bytes data
    cdef Frame frame
    cdef Offload offload

    cdef int take(self, const Frame* frame, bytes data) except -1

cdef class Impaired(Transport):
    cdef readonly Transport transport
    cdef readonly tuple wires
    cdef list on_the_way               # heap of (time it is due, in ns; ticket; Delayed)
    cdef int64_t ticket
    cdef int64_t armed_ns              # when the timer rings; 0 where it is not set
    cdef object waiter                 # epoll of the transport's descriptor and the timer
    cdef int timer

    cdef int carry(self, const Frame* frame) except -1
    cdef int send_due(self) except -1
    cdef int arm(self) except -1
