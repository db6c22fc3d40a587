# Flows that may be edited are kept in order.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.passing cimport Passing
from aiomos.line.paths cimport Path, Paths
from aiomos.line.translation cimport Translation
from aiomos.line.waiting cimport Waiting, WaitingQueue
from aiomos.tcp.flows cimport FlowRecord, HalfRecord
from aiomos.wire.frame cimport Frame
from aiomos.wire.wire cimport PacketRecord

cdef class Ordering:
    cdef Outlet outlet
    cdef Hand hand
    cdef Translation translation
    cdef Paths paths
    cdef Passing passing
    cdef uint64_t bare_syns            # those that left without their data
    cdef uint64_t doubts               # segments whose payload did not pass, since its receiver would not take it

    cdef void prepare(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil
    cdef uint32_t open_edits(self, const FlowRecord* flow, const Path* path, int side) noexcept nogil
    cdef void take_syn_data(self) noexcept nogil
    cdef bint wait(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil
    cdef void freshen(self, const HalfRecord* sender) noexcept nogil
    cdef void doubt(self) noexcept nogil
    cdef bint keep_waiting(self, WaitingQueue* queue) noexcept nogil
    cdef bint take_waiting(self, PacketRecord* packet, int* kind) noexcept nogil
    cdef Frame* to_arena(self, const Waiting* waiting, Frame* out) noexcept nogil

cdef Ordering new_ordering(Outlet outlet, Hand hand, Translation translation, Paths paths, Passing passing)
cdef bint is_signed(const FlowRecord* flow, int side, const PacketRecord* packet) noexcept nogil
