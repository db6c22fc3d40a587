# What is raised of a segment, and at which moment.
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from aiomos.engine.core cimport Core, Decoded, Moment
from aiomos.tcp.flows cimport FlowRecord, HalfRecord
from aiomos.ude.machine cimport predicates_guard
from aiomos.ude.rules cimport Interest, rules_interest
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
from aiomos.wire.wire cimport PacketRecord

cdef enum:                     # sets of slots
    MERGE_EVENTS = 1 << SLOT_REXMIT | 1 << SLOT_ERROR
    START_EVENTS = 1 << SLOT_START_SENDER | 1 << SLOT_START
    # Those for which it matters what was before the segment.
    NOTED_EVENTS = (1 << SLOT_PKT_SENDER | 1 << SLOT_START_SENDER | 1 << SLOT_STATE_SENDER | 1 << SLOT_STATE
                    | 1 << SLOT_ERROR)
    # Those of events that any segment of a flow may raise.
    PACKET_EVENTS = (1 << SLOT_PKT_SENDER | 1 << SLOT_PKT | 1 << SLOT_OUT | 1 << SLOT_STATE_SENDER | 1 << SLOT_STATE
                     | MERGE_EVENTS)

# What a segment is about to change, for those who watch the change.
ctypedef struct Before:
    HalfRecord receiver
    uint16_t flags             # of the flow
    uint8_t reason
    uint8_t states[2]          # by Side

cdef int raise_event(Core core, int slot, FlowRecord* flow, int side, const PacketRecord* packet) except -1 nogil
cdef int happen(Core core, Moment* m) except -1 nogil
cdef void judge_events(Core core, Moment* m, uint64_t wanted) noexcept nogil
cdef int monitor_watched(Core core, FlowRecord* flow, int side, const PacketRecord* packet,
                         Before* before) noexcept nogil
cdef int raise_sender(Core core, FlowRecord* flow, int side, const PacketRecord* packet,
                      const Before* before) except -1 nogil
cdef void unsee(Core core, FlowRecord* flow, int side, const Before* before) noexcept nogil
cdef int raise_merge(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int outcome,
                     uint32_t before_nxt) except -1 nogil
cdef int raise_receiver(Core core, FlowRecord* flow, int side, const PacketRecord* packet, const Before* before,
                        uint32_t watched) except -1 nogil
cdef int raise_change(Core core, int slot, FlowRecord* flow, int side, const PacketRecord* packet,
                      const Before* before) except -1 nogil
cdef int raise_error(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int what, uint64_t offset,
                     uint64_t length) except -1 nogil
cdef int raise_incidents(Core core, FlowRecord* flow, const PacketRecord* packet) except -1 nogil
cdef int raise_unbound(Core core, int slot, Decoded* decoded) except -1 nogil

cdef inline bint is_awaited(Core core, int slot, const FlowRecord* flow,
                            const PacketRecord* segment) noexcept nogil:
    """Does anybody wait for an event of a segment, as far as its flags tell?"""
    cdef const Interest* interest = rules_interest(&core.rules, flow)
    return (interest.events >> slot & 1
            and (interest.plain >> slot & 1
                 or predicates_guard(core.programs[slot], segment) & interest.udes[slot] != 0))
