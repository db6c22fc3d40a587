# What apps do to the frame in hand: the engine's outlet, with all that changes packets.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.line.edits cimport Plan
from aiomos.line.paths cimport Path, Paths
from aiomos.line.waiting cimport Waiting, WaitingQueue
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport Half
from aiomos.wire.frame cimport Frame
from aiomos.wire.wire cimport Packet

# Why a payload was not replaced.
cdef enum Refusal:
    REFUSED_NO_PAYLOAD = 0     # there is none, or of a SYN or RST
    REFUSED_CUT = 1            # not captured whole
    REFUSED_HOOK = 2           # its flow is not known yet
    REFUSED_SIGNED = 3         # TCP-MD5, TCP-AO or an authentication header covers it
    REFUSED_MPTCP = 4          # a mapping of Multipath TCP covers it
    REFUSED_TUNNEL = 5         # it is in a tunnel
    REFUSED_BUDGET = 6
    REFUSED_SEEN = 7           # it has passed before, as something else
    REFUSED_EARLY = 8          # not all before it has passed: it comes again
    REFUSALS = 9

cdef class Verdicts(Paths):
    # The packet in hand.
    cdef uint32_t most                 # if put together from fragments: what its fragments may have; else 0
    cdef uint32_t fragment_id
    cdef uint32_t arrived_ack          # its acknowledgement as it was on arrival
    cdef bint moved                    # its addresses or ports were changed: its flow may be another
    cdef bint waits                    # it has come beyond a hole, and is kept until that is filled
    cdef bint has_waited               # so it was, and has its turn now
    cdef bint doubted                  # its receiver will not take its payload, which therefore does not pass
    # A half whose segments wait may have got what they wait for.
    cdef uint32_t due                  # number of its flow; 0 for none
    cdef bint unprepared               # payload was replaced of a flow of which nobody had said that it might be
    cdef uint64_t edits_refused[9]     # by Refusal
    cdef uint64_t unprepared_edits     # those of flows that were not kept in order from their start
    cdef uint64_t plain_syns           # SYNs that left without options that do not bear edits
    cdef uint64_t bare_syns            # those that left without their data
    cdef uint64_t doubts               # segments whose payload did not pass, since its receiver would not take it
    cdef uint64_t altered              # counters
    cdef uint64_t rejected
    cdef uint64_t refragmented
    cdef uint64_t held                 # fragments that waited for others
    cdef uint64_t nowhere              # frames of an interface that leads nowhere

    cdef void take_in(self, const Frame* frame, Packet* packet, int kind) noexcept nogil
    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil
    cdef void pass_on(self) noexcept nogil
    cdef uint16_t exit(self) noexcept nogil
    cdef void hold(self) noexcept nogil
    cdef void let_go(self) noexcept nogil
    cdef void plan_edited(self, Plan* plan) noexcept nogil
    cdef void pass_edited(self, const Plan* plan) noexcept nogil
    cdef void acknowledge(self, const Plan* plan) noexcept nogil
    cdef void send_plan(self, const Plan* plan) noexcept nogil
    cdef uint32_t segment_room(self) noexcept nogil
    cdef void pass_fragments(self) noexcept nogil
    cdef void give_up(self) noexcept nogil
    cdef bint is_in_tunnel(self) noexcept nogil
    cdef int drop(self, const Packet* packet) except -1
    cdef int reject(self, const Packet* packet, object why) except -1
    cdef int alter(self, const Packet* packet, dict fields) except -1
    cdef bint alter_one(self, str name, object value) except -1
    cdef bint replace(self, const Packet* packet, const uint8_t* data, size_t n) except -1
    cdef int bars(self, const Path* path) noexcept nogil
    cdef int refuse(self, int why) except -1
    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1
    cdef void remake(self, const uint8_t* data, size_t length) noexcept nogil
    cdef void prepare(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil
    cdef uint32_t open_edits(self, const FlowRecord* flow, const Path* path, int side) noexcept nogil
    cdef void take_syn_data(self) noexcept nogil
    cdef void make_plain(self, Path* path) noexcept nogil
    cdef bint wait(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil
    cdef void doubt(self) noexcept nogil
    cdef void freshen(self, const Half* sender) noexcept nogil
    cdef bint keep_waiting(self, WaitingQueue* queue) noexcept nogil
    cdef bint take_waiting(self, Packet* packet, int* kind) noexcept nogil
    cdef Frame* to_arena(self, const Waiting* waiting, Frame* out) noexcept nogil
