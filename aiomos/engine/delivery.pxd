# What Python is told of a batch.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.engine.attention cimport Attention
from aiomos.engine.core cimport Core
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.registry cimport Account, Registry
from aiomos.face.streams cimport MonitorConnection, Stream
from aiomos.face.views cimport Flow
from aiomos.tcp.flows cimport FlowRecord
from aiomos.tcp.past cimport PastRun
from aiomos.tcp.tracks cimport Track

cdef class Past:
    cdef Flow view
    cdef int side
    cdef object chunk
    cdef PastRun run
    cdef uint32_t epoch

cdef class Delivery:
    cdef Core core
    cdef Registry registry
    cdef Holdings holdings
    cdef Gate gate
    cdef Attention attention
    cdef object history                # deque of Past: what streams were given last, oldest first

    cdef int deliver(self) except -1
    cdef int tell(self, FlowRecord* flow) except -1
    cdef int told(self, FlowRecord* flow) except -1
    cdef int connect(self, FlowRecord* flow) except -1
    cdef int begin_late(self, FlowRecord* flow, int side, MonitorConnection connection) except -1
    cdef int replay(self, FlowRecord* flow, int side, MonitorConnection connection) except -1
    cdef int push_missed(self, Stream stream, uint64_t start, uint64_t end) except -1
    cdef int hand_over(self, FlowRecord* flow) except -1
    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1
    cdef int push(self, FlowRecord* flow, int side, Account account, Stream stream, object item,
                  uint64_t order) except -1
    cdef int raise_unread(self, FlowRecord* flow, int side, Account account, object chunk) except -1
    cdef object take_run(self, Track* track, bint both)
    cdef int remember(self, FlowRecord* flow, Flow view, int side, object chunk) except -1
    cdef int forget(self, Past past) except -1
    cdef int end_view(self, FlowRecord* flow) except -1
    cdef int end_stream(self, const FlowRecord* flow, int side, Stream stream) except -1
    cdef int end_views(self, const FlowRecord* flow, Flow first) except -1
    cdef int tell_sessions(self) except -1

cdef Delivery new_delivery(Core core, Registry registry, Holdings holdings, Gate gate, Attention attention)
