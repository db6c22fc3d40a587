# What apps decide about the packet in hand.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uint8_t

from aiomos.line.hand cimport Hand
from aiomos.line.ordering cimport Ordering
from aiomos.line.outlet cimport Outlet
from aiomos.line.passing cimport Passing
from aiomos.line.paths cimport Path, Paths
from aiomos.line.translation cimport Translation
from aiomos.wire.wire cimport PacketRecord

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

cdef class Changes:
    cdef Outlet outlet
    cdef Hand hand
    cdef Translation translation
    cdef Paths paths
    cdef Passing passing
    cdef Ordering ordering
    cdef bint unprepared               # payload was replaced of a flow of which nobody had said that it might be
    cdef uint64_t edits_refused[9]     # by Refusal
    cdef uint64_t unprepared_edits     # those of flows that were not kept in order from their start
    cdef uint64_t rejected

    cdef int drop(self, const PacketRecord* packet) except -1
    cdef int reject(self, const PacketRecord* packet, object why) except -1
    cdef int alter(self, const PacketRecord* packet, dict fields) except -1
    cdef bint alter_one(self, str name, object value) except -1
    cdef bint replace(self, const PacketRecord* packet, const uint8_t* data, size_t n) except -1
    cdef int bars(self, const Path* path) noexcept nogil
    cdef int refuse(self, int why) except -1
    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1

cdef Changes new_changes(Outlet outlet, Hand hand, Translation translation, Paths paths, Passing passing,
                         Ordering ordering)
