# Which packets open a flow.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from aiomos.engine.hooks cimport Decoded
from aiomos.engine.lifetimes cimport Lifetimes
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport Flows, PendingSyn
from aiomos.wire.wire cimport DecodeOptions, Packet

cdef enum:
    UNPICKED_BITS = 1 << 20            # 128 KiB

cdef class Admission(Lifetimes):
    cdef DecodeOptions decode_options
    cdef bint wired                    # the outlet is open: frames can be sent
    cdef size_t flow_budget
    cdef size_t half_open_budget
    cdef uint64_t[16384] unpicked      # a bit by hash: the SYN of such a flow was seen, and no filter picked it
    cdef uint64_t unwatched            # counters: SYNs that no filter picked,
    cdef uint64_t no_memory            # and flows for which there was none

    cdef int first_packet(self, Decoded* decoded, FlowRecord** flow) except -1 nogil
    cdef void pass_over(self, const Decoded* decoded) noexcept nogil
    cdef int open_flow(self, Decoded* decoded, bint midstream, bint client_is_low, FlowRecord** opened) except -1 nogil
    cdef int join(self, FlowRecord* flow) except -1 nogil
    cdef void apply_levels(self, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil
    cdef int process(self, FlowRecord* flow, int side, const Packet* packet) except -1 nogil
    cdef void doubt_syn(self, FlowRecord* flow, int side, const Packet* packet) noexcept nogil
    cdef int replace(self, FlowRecord* old, Decoded* decoded, FlowRecord** flow) except -1 nogil
    cdef void recall_syn(self, const PendingSyn* syn, const Decoded* decoded, Packet* packet) noexcept nogil

cdef bint confirms(const Flows* flows, const FlowRecord* flow, const Packet* packet, bint from_low) noexcept nogil
