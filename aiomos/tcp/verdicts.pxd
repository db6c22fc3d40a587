# What apps do to the frame in hand: the engine's outlet, with all that changes packets.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.edits cimport Plan
from aiomos.tcp.paths cimport Paths
from aiomos.tcp.wire cimport Packet
from aiomos.transport.frame cimport Frame

cdef class Verdicts(Paths):
    # The packet in hand.
    cdef uint32_t most                 # if put together from fragments: what its fragments may have; else 0
    cdef uint32_t fragment_id
    cdef uint32_t arrived_ack          # its acknowledgement as it was on arrival
    cdef bint moved                    # its addresses or ports were changed: its flow may be another
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
    cdef uint32_t acknowledged(self) noexcept
    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1
