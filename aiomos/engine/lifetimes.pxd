# How long flows are kept, and how they end.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from aiomos.engine.hooks cimport Hooks
from aiomos.tcp.flows cimport ENDED, REASONS
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.wire.wire cimport Packet

cdef class Lifetimes(Hooks):
    cdef int64_t timeout_half_open
    cdef int64_t timeout_established
    cdef int64_t timeout_closing
    cdef int64_t timeout_time_wait
    cdef int64_t timeout_reset
    cdef FlowRecord** remaining        # flows still to be ended by finish()
    cdef size_t remaining_count
    cdef uint64_t orphans              # counters: segments of no flow,
    cdef uint64_t without_syn          # of these, of flows whose SYN was not seen,
    cdef uint64_t evicted              # flows that made room,
    cdef uint64_t released_early       # and closed ones that did,
    cdef uint64_t[REASONS] ended       # and flows that apps were told of, by Reason

    cdef int64_t due_ns(self) noexcept
    cdef int set_back(self, int64_t now_ns) except -1 nogil
    cdef int64_t deadline(self, const FlowRecord* flow) noexcept nogil
    cdef int64_t next_look(self, const FlowRecord* flow) noexcept nogil
    cdef int64_t hole_due(self, const FlowRecord* flow) noexcept nogil
    cdef int advance(self, int64_t now_ns) except -1 nogil
    cdef int turn_wheel(self, int64_t now_ns) except -1 nogil
    cdef int evict(self) except -1 nogil
    cdef FlowRecord* idlest(self) noexcept nogil
    cdef int after_segment(self, FlowRecord* flow, const Packet* packet, int outcome) except -1 nogil
    cdef void leave_half_open(self, FlowRecord* flow) noexcept nogil
    cdef int give_up(self, FlowRecord* flow, int reason) except -1 nogil
    cdef int end_flow(self, FlowRecord* flow, int reason) except -1 nogil
    cdef int list_remaining(self) except -1
    cdef int tell_sessions(self) except -1

cdef inline bint in_table(const FlowRecord* flow) noexcept nogil:
    """Is this record of the pool a live flow? Given back, it keeps the mark of its end."""
    return not flow.flags & ENDED
