# The frame's way out.
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t, uint8_t

from aiomos.line.edits cimport Plan
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.paths cimport Path, Paths
from aiomos.line.translation cimport Translation

cdef class Passing:
    cdef Outlet outlet
    cdef Hand hand
    cdef Translation translation
    cdef Paths paths
    cdef uint64_t held                 # fragments that waited for others
    cdef uint64_t nowhere              # frames of an interface that leads nowhere
    cdef uint64_t refragmented
    cdef uint32_t due                  # number of its flow; 0 for none
    cdef uint64_t plain_syns           # SYNs that left without options that do not bear edits
    cdef uint64_t altered              # counters

    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil
    cdef void pass_on(self) noexcept nogil
    cdef void hold(self) noexcept nogil
    cdef void plan_edited(self, Plan* plan) noexcept nogil
    cdef void pass_edited(self, const Plan* plan) noexcept nogil
    cdef void acknowledge(self, const Plan* plan) noexcept nogil
    cdef void send_plan(self, const Plan* plan) noexcept nogil
    cdef uint32_t segment_room(self) noexcept nogil
    cdef void pass_fragments(self) noexcept nogil
    cdef void give_up(self) noexcept nogil
    cdef void remake(self, const uint8_t* data, size_t length) noexcept nogil
    cdef void make_plain(self, Path* path) noexcept nogil

cdef Passing new_passing(Outlet outlet, Hand hand, Translation translation, Paths paths)
