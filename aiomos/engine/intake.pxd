# The way of a frame.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from aiomos.engine.clock cimport Clock
from aiomos.engine.core cimport Core, Decoded
from aiomos.engine.flow_timers cimport FlowTimers
from aiomos.wire.defrag cimport Defragmenter
from aiomos.wire.frame cimport Frame
from aiomos.wire.unread cimport UnreadTable
from aiomos.wire.wire cimport PacketRecord, WIRE_KINDS

cdef enum:
    GROUP = 32                 # frames decoded ahead, so that flow records arrive from memory meanwhile

cdef class Intake:
    cdef Core core
    cdef Clock clock
    cdef FlowTimers flow_timers
    cdef Defragmenter defragmenter
    cdef Decoded* group
    cdef uint32_t shard                # which share of the flows is taken,
    cdef uint32_t shards               # of how many
    cdef uint64_t kinds[WIRE_KINDS]
    cdef UnreadTable unread_table
    cdef uint16_t unread_told          # of its numbers, so many are known to Python
    cdef public object on_unread       # called with layer and number of what may hide flows, when first seen; or None
    cdef bint partial                  # whether only that share of the current batch is to be taken
    cdef uint64_t frames
    cdef uint64_t wild_times           # frames whose time was not believed
    cdef int64_t elsewhere_ns          # of wire/times: time of the last frame far from the clock that was believed
    cdef uint64_t dated                # frames whose time was looked at
    cdef Frame held                    # the last frame, if what comes next is to tell whether its time is right: a copy
    cdef void* kept_frames             # blocks of those held before: parts of streams and what is to be sent are there
    cdef bint holds_frame

    cdef int run(self, const Frame* frames, size_t count) except -1 nogil
    cdef int run_held(self, const Frame* frames, size_t count) except -1 nogil
    cdef int run_frames(self, const Frame* frames, size_t count, size_t ahead, bint last) except -1 nogil
    cdef bint date(self, const Frame* frame, size_t at, size_t following, bint last,
                   int64_t* time_ns) except -1 nogil
    cdef int64_t ask_clock(self) except? -1 with gil
    cdef bint hold(self, const Frame* frame) noexcept nogil
    cdef int take(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef int on_aggregate(self, Decoded* decoded) except -1 nogil
    cdef void note_unread(self, const Decoded* decoded) noexcept nogil
    cdef int tell_unread(self) except -1
    cdef bint is_mine(self, const PacketRecord* packet) noexcept nogil
    cdef bint is_whole_mine(self, const PacketRecord* packet) noexcept nogil
    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef bint is_for_host(self, const Frame* frame, Decoded* decoded) noexcept nogil
    cdef bint collect(self, Decoded* decoded) noexcept nogil
    cdef void found_whole(self, Decoded* decoded) noexcept nogil
    cdef bint is_about_flow(self, const PacketRecord* packet) noexcept nogil
    cdef int on_packet(self, Decoded* decoded) except -1 nogil
    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil
    cdef int on_fragment(self, Decoded* decoded) except -1 nogil
    cdef list unread(self)

cdef Intake new_intake(Core core, Clock clock, FlowTimers flow_timers, Defragmenter defragmenter, tuple shard)
