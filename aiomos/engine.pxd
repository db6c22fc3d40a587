# The per-core flow engine: one frame's way through the house.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from aiomos.hooks cimport Decoded, Hooks
from aiomos.tcp.defrag cimport Defragmenter
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport PendingSyn
from aiomos.tcp.wire cimport DecodeOptions, Packet
from aiomos.transport.frame cimport Frame

cdef enum:
    GROUP = 32                 # frames decoded ahead, so that flow records arrive from memory meanwhile

cdef class Engine(Hooks):
    cdef DecodeOptions decode_options
    cdef Defragmenter defragmenter
    cdef Decoded* group
    cdef bint wired                    # the outlet is open: frames can be sent
    cdef uint32_t shard                # which share of the flows is taken,
    cdef uint32_t shards               # of how many
    cdef size_t flow_budget
    cdef size_t half_open_budget
    cdef int64_t timeout_half_open
    cdef int64_t timeout_established
    cdef int64_t timeout_closing
    cdef int64_t timeout_time_wait
    cdef int64_t timeout_reset
    cdef FlowRecord** remaining        # flows still to be ended by finish()
    cdef size_t remaining_count
    cdef uint64_t kinds[15]
    cdef uint64_t frames
    cdef uint64_t orphans
    cdef uint64_t unwatched
    cdef uint64_t evicted
    cdef uint64_t released_early
    cdef uint64_t no_memory
    cdef list filters                  # Program by rule

    cdef int list_remaining(self) except -1
    cdef int run_batch(self, const Frame* frames, size_t count) except -1
    cdef int run(self, const Frame* frames, size_t count) except -1 nogil
    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil
    cdef int tell_sessions(self) except -1
    cdef bint is_mine(self, const Packet* packet) noexcept nogil
    cdef int take(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil
    cdef bint collect(self, Decoded* decoded) noexcept nogil
    cdef void look_up(self, Decoded* decoded) noexcept nogil
    cdef bint is_about_flow(self, const Packet* packet) noexcept nogil
    cdef bint is_cut(self, FlowRecord* flow, Decoded* decoded) except -1 nogil
    cdef int on_packet(self, Decoded* decoded) except -1 nogil
    cdef int on_fragment(self, Decoded* decoded) except -1 nogil
    cdef int on_tcp(self, Decoded* decoded) except -1 nogil
    cdef int process(self, FlowRecord* flow, int side, const Packet* packet) except -1 nogil
    cdef int after_segment(self, FlowRecord* flow, const Packet* packet, int outcome) except -1 nogil
    cdef int follow_bytes(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                          uint32_t before_nxt) except -1 nogil
    cdef int on_malformed(self, Decoded* decoded) except -1 nogil
    cdef FlowRecord* open_flow(self, Decoded* decoded, bint midstream, bint client_is_low) except? NULL nogil
    cdef FlowRecord* first_packet(self, Decoded* decoded) except? NULL nogil
    cdef FlowRecord* replace(self, FlowRecord* old, Decoded* decoded) except? NULL nogil
    cdef void doubt_syn(self, FlowRecord* flow, int side, const Packet* packet) noexcept nogil
    cdef void recall_syn(self, const PendingSyn* syn, const Decoded* decoded, Packet* packet) noexcept nogil
    cdef void apply_levels(self, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil
    cdef int join(self, FlowRecord* flow) except -1 nogil
    cdef int advance(self, int64_t now_ns) except -1 nogil
    cdef int turn_wheel(self, int64_t now_ns) except -1 nogil
    cdef int64_t deadline(self, const FlowRecord* flow) noexcept nogil
    cdef int64_t next_look(self, const FlowRecord* flow) noexcept nogil
    cdef int evict(self) except -1 nogil
    cdef FlowRecord* idlest(self) noexcept nogil
    cdef int give_up(self, FlowRecord* flow, int reason) except -1 nogil
    cdef int end_flow(self, FlowRecord* flow, int reason) except -1 nogil
