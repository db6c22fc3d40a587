# How long flows are kept, and how they end.
from libc.stdint cimport int64_t, uint16_t

from aiomos.engine.core cimport Core
from aiomos.tcp.flows cimport ENDED, FlowRecord
from aiomos.wire.wire cimport PacketRecord

cdef int64_t flow_deadline(Core core, const FlowRecord* flow) noexcept nogil
cdef int64_t next_look(Core core, const FlowRecord* flow) noexcept nogil
cdef int64_t hole_due(Core core, const FlowRecord* flow) noexcept nogil
cdef int turn_wheel(Core core, int64_t now_ns) except -1 nogil
cdef int evict_flow(Core core) except -1 nogil
cdef FlowRecord* idlest(Core core) noexcept nogil
cdef int after_segment(Core core, FlowRecord* flow, const PacketRecord* packet, int outcome) except -1 nogil
cdef void leave_half_open(Core core, FlowRecord* flow) noexcept nogil
cdef int cut_flow(Core core, FlowRecord* flow, uint16_t flags) except -1 nogil
cdef int give_up_flow(Core core, FlowRecord* flow, int reason) except -1 nogil
cdef int end_flow(Core core, FlowRecord* flow, int reason) except -1 nogil
cdef void flows_set_back(Core core, int64_t now_ns) noexcept nogil

cdef inline bint in_table(const FlowRecord* flow) noexcept nogil:
    """Is this record of the pool a live flow? Given back, it keeps the mark of its end."""
    return not flow.flags & ENDED
