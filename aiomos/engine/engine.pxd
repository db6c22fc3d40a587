# The per-core flow engine: one frame's way through the house.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from aiomos.engine.admission cimport Admission
from aiomos.engine.hooks cimport Decoded
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.wire.defrag cimport Defragmenter
from aiomos.wire.frame cimport Frame
from aiomos.wire.unread cimport UnreadTable
from aiomos.wire.wire cimport WIRE_KINDS, Packet

cdef enum:
    GROUP = 32                 # frames decoded ahead, so that flow records arrive from memory meanwhile

cdef class Engine(Admission):
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
    cdef void* released                # blocks of those held before: parts of streams and what is to be sent are there
    cdef bint holds_frame

    cdef int run_batch(self, const Frame* frames, size_t count) except -1
    cdef int run(self, const Frame* frames, size_t count) except -1 nogil
    cdef int run_held(self, const Frame* frames, size_t count) except -1 nogil
    cdef int run_frames(self, const Frame* frames, size_t count, size_t ahead, bint last) except -1 nogil
    cdef bint date(self, const Frame* frame, size_t at, size_t following, bint last, int64_t* time_ns) except -1 nogil
    cdef int64_t ask_clock(self) except? -1 with gil
    cdef bint hold(self, const Frame* frame) noexcept nogil
    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil
    cdef void note_unread(self, const Decoded* decoded) noexcept nogil
    cdef int tell_unread(self) except -1
    cdef int turn_tracks(self, FlowRecord* flow, int side, const Packet* packet, int outcome) noexcept nogil
    cdef int attend_holes(self, FlowRecord* flow, int first, int64_t now_ns) except -1 nogil
    cdef int on_aggregate(self, Decoded* decoded) except -1 nogil
    cdef bint is_mine(self, const Packet* packet) noexcept nogil
    cdef bint is_whole_mine(self, const Packet* packet) noexcept nogil
    cdef int take(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef bint collect(self, Decoded* decoded) noexcept nogil
    cdef void found_whole(self, Decoded* decoded) noexcept nogil
    cdef bint is_about_flow(self, const Packet* packet) noexcept nogil
    cdef bint is_cut(self, FlowRecord* flow, Decoded* decoded) except -1 nogil
    cdef int on_packet(self, Decoded* decoded) except -1 nogil
    cdef int on_fragment(self, Decoded* decoded) except -1 nogil
    cdef int on_tcp(self, Decoded* decoded) except -1 nogil
    cdef int follow_bytes(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                          uint32_t before_nxt) except -1 nogil
    cdef int on_malformed(self, Decoded* decoded) except -1 nogil
