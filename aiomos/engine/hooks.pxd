# The hook points of TCP processing.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.engine.delivery cimport Delivery
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport FlowKey, Half
from aiomos.tcp.monitor cimport ANOMALIES
from aiomos.ude.slots cimport (
    SLOT_ERROR,
    SLOT_OUT,
    SLOT_PKT,
    SLOT_PKT_SENDER,
    SLOT_REXMIT,
    SLOT_START,
    SLOT_START_SENDER,
    SLOT_STATE,
    SLOT_STATE_SENDER,
)
from aiomos.wire.wire cimport Packet

cdef enum:                     # sets of slots
    MERGE_EVENTS = 1 << SLOT_REXMIT | 1 << SLOT_ERROR
    START_EVENTS = 1 << SLOT_START_SENDER | 1 << SLOT_START
    # Those for which it matters what was before the segment.
    NOTED_EVENTS = (1 << SLOT_PKT_SENDER | 1 << SLOT_START_SENDER | 1 << SLOT_STATE_SENDER | 1 << SLOT_STATE
                    | 1 << SLOT_ERROR)
    # Those of events that any segment of a flow may raise.
    PACKET_EVENTS = (1 << SLOT_PKT_SENDER | 1 << SLOT_PKT | 1 << SLOT_OUT | 1 << SLOT_STATE_SENDER | 1 << SLOT_STATE
                     | MERGE_EVENTS)

# A frame that has been read.
ctypedef struct Decoded:
    Packet packet
    FlowKey key
    uint32_t hash
    int kind
    bint from_low

# What a segment is about to change, for those who watch the change.
ctypedef struct Before:
    Half receiver
    uint16_t flags             # of the flow
    uint8_t reason
    uint8_t states[2]          # by Side

cdef class Hooks(Delivery):
    cdef uint64_t anomalies[ANOMALIES]  # of tcp/monitor
    cdef uint64_t noted[ANOMALIES]      # those of the segment at hand

    cdef int monitor_watched(self, FlowRecord* flow, int side, const Packet* packet, Before* before) noexcept nogil
    cdef int raise_sender(self, FlowRecord* flow, int side, const Packet* packet, const Before* before) except -1 nogil
    cdef void unsee(self, FlowRecord* flow, int side, const Before* before) noexcept nogil
    cdef int raise_merge(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                         uint32_t before_nxt) except -1 nogil
    cdef int raise_receiver(self, FlowRecord* flow, int side, const Packet* packet, const Before* before,
                            uint32_t watched) except -1 nogil
    cdef int raise_change(self, int slot, FlowRecord* flow, int side, const Packet* packet,
                          const Before* before) except -1 nogil
    cdef int raise_error(self, FlowRecord* flow, int side, const Packet* packet, int what, uint64_t offset,
                         uint64_t length) except -1 nogil
    cdef int raise_incidents(self, FlowRecord* flow, const Packet* packet) except -1 nogil
    cdef int raise_unbound(self, int slot, Decoded* decoded) except -1 nogil
