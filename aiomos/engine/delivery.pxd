# What Python is told of a batch.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.engine.callbacks cimport Callbacks, Moment
from aiomos.engine.registry cimport Account, Call
from aiomos.face.streams cimport MonitorConnection, Stream
from aiomos.face.views cimport Flow
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport Half
from aiomos.tcp.past cimport PastRun
from aiomos.tcp.reassembly cimport Track
from aiomos.ude.rules cimport Need

cdef class Past:
    cdef Flow view
    cdef int side
    cdef object chunk
    cdef PastRun run
    cdef uint32_t epoch

cdef class Delivery(Callbacks):
    cdef uint64_t opened               # flows
    cdef uint64_t picked_up            # of these, in mid-stream
    cdef dict own_calls                # by (Account, event, slot): Call that stands for those of single connections
    cdef object history                # deque of Past: what streams were given last, oldest first
    cdef uint64_t picking              # rules that running flows are being shown to
    cdef uint32_t picked_to            # index of the last flow that was
    cdef uint64_t on_event             # rules whose handlers are started by an event: nothing else is asked

    cdef void open_tracks(self, FlowRecord* flow) noexcept nogil
    cdef void free_tracks(self, FlowRecord* flow) noexcept nogil
    cdef void release(self, FlowRecord* flow) noexcept nogil
    cdef int signal_data(self, FlowRecord* flow) except -1 nogil
    cdef int signal_disturbed(self) except -1 nogil
    cdef int raise_new_data(self, FlowRecord* flow) except -1 nogil
    cdef uint32_t find_run(self, uint32_t index, Moment* m) noexcept nogil
    cdef bint has_come_about(self, const FlowRecord* flow) noexcept nogil
    cdef int come_about(self, FlowRecord* flow) except -1 nogil
    cdef int watch(self, FlowRecord* flow, uint64_t mask) except -1 nogil
    cdef int watch_less(self, Flow view, Call shared) except -1
    cdef int sweep(self) except -1
    cdef void relevel(self, FlowRecord* flow)
    cdef void settle(self, Half* half, const Need* need) noexcept
    cdef int deliver(self) except -1
    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1
    cdef int remember(self, FlowRecord* flow, Flow view, int side, object chunk) except -1
    cdef int forget(self, Past past) except -1
    cdef int raise_unread(self, FlowRecord* flow, int side, Account account, object chunk) except -1
    cdef object take_run(self, Track* track, bint both)
    cdef int tell(self, FlowRecord* flow) except -1
    cdef int told(self, FlowRecord* flow) except -1
    cdef int connect(self, FlowRecord* flow) except -1
    cdef int begin_late(self, FlowRecord* flow, int side, MonitorConnection connection) except -1
    cdef int replay(self, FlowRecord* flow, int side, MonitorConnection connection) except -1
    cdef int push(self, FlowRecord* flow, int side, Account account, Stream stream, object item,
                  uint64_t order) except -1
    cdef int push_missed(self, Stream stream, uint64_t start, uint64_t end) except -1
    cdef int hand_over(self, FlowRecord* flow) except -1
    cdef int end_view(self, FlowRecord* flow) except -1
    cdef int end_stream(self, const FlowRecord* flow, int side, Stream stream) except -1
    cdef int end_views(self, const FlowRecord* flow, Flow first) except -1
