# What Python is told of a batch.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport Flows
from aiomos.tcp.reassembly cimport Streams, Track
from aiomos.tcp.streams cimport MonitorConnection, Stream
from aiomos.tcp.views cimport Flow
from aiomos.ude.rules cimport Rules

cdef class Past:
    cdef Flow view
    cdef int side
    cdef object chunk

cdef class Delivery:
    cdef Flows flows
    cdef Streams streams
    cdef Rules rules
    cdef int64_t now_ns                # time of the latest frame
    cdef uint32_t* signals             # flows with news, in the order in which they got them
    cdef size_t signal_count
    cdef size_t signal_capacity
    cdef list openers                  # by rule
    cdef list calls                    # by rule: (event, function, parameters)
    cdef list views                    # Python's Flow by Flow.hold of the record
    cdef list free_views
    cdef object on_callback_error
    cdef object history                # deque of Past: what streams were given last, oldest first
    cdef uint64_t history_bytes

    cdef void free_tracks(self, FlowRecord* flow) noexcept nogil
    cdef void release(self, FlowRecord* flow) noexcept nogil
    cdef int signal(self, FlowRecord* flow) except -1 nogil
    cdef int signal_data(self, FlowRecord* flow) except -1 nogil
    cdef void lower(self, FlowRecord* flow, Flow view) noexcept
    cdef int call(self, FlowRecord* flow, int what) except -1 with gil
    cdef Flow view_of(self, FlowRecord* flow)
    cdef int deliver(self) except -1
    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1
    cdef int remember(self, FlowRecord* flow, Flow view, int side, object chunk) except -1
    cdef int forget(self, Past past) except -1
    cdef object take_run(self, Track* track, bint both)
    cdef int connect(self, FlowRecord* flow, Flow view) except -1
    cdef int hand_over(self, FlowRecord* flow, Flow view) except -1
    cdef int end_view(self, FlowRecord* flow, Flow view) except -1
