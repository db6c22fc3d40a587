# Who watches a flow.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.engine.core cimport Core, Moment
from aiomos.tcp.flows cimport FlowRecord, HalfRecord
from aiomos.ude.rules cimport Need

cdef void open_tracks(Core core, FlowRecord* flow) noexcept nogil
cdef void free_tracks(Core core, FlowRecord* flow) noexcept nogil
cdef void release_flow(Core core, FlowRecord* flow) noexcept nogil
cdef int signal_data(Core core, FlowRecord* flow) except -1 nogil
cdef int signal_disturbed(Core core) except -1 nogil
cdef int raise_new_data(Core core, FlowRecord* flow) except -1 nogil
cdef uint32_t find_run(Core core, uint32_t index, Moment* m) noexcept nogil
cdef bint has_come_about(Core core, const FlowRecord* flow) noexcept nogil
cdef int come_about(Core core, FlowRecord* flow) except -1 nogil
cdef int watch_flow(Core core, FlowRecord* flow, uint64_t mask) except -1 nogil
cdef void settle_half(Core core, HalfRecord* half, const Need* need) noexcept
