# Which packets open a flow.
from libc.stdint cimport uint64_t

from aiomos.engine.core cimport Core, Decoded
from aiomos.tcp.flows cimport FlowRecord, Flows, PendingSyn
from aiomos.wire.wire cimport PacketRecord

cdef int first_packet(Core core, Decoded* decoded, FlowRecord** flow) except -1 nogil
cdef void pass_over(Core core, const Decoded* decoded) noexcept nogil
cdef int open_flow(Core core, Decoded* decoded, bint midstream, bint client_is_low,
                   FlowRecord** opened) except -1 nogil
cdef int join_flow(Core core, FlowRecord* flow) except -1 nogil
cdef void apply_levels(Core core, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil
cdef void doubt_syn(Core core, FlowRecord* flow, int side, const PacketRecord* packet) noexcept nogil
cdef void recall_syn(Core core, const PendingSyn* syn, const Decoded* decoded, PacketRecord* packet) noexcept nogil
cdef bint confirms(const Flows* flows, const FlowRecord* flow, const PacketRecord* packet, bint from_low) noexcept nogil
