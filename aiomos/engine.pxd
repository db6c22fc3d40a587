# The per-core flow engine: one frame's way through the house.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.defrag cimport Defragmenter
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport FlowKey, Flows
from aiomos.tcp.reassembly cimport Streams, Track
from aiomos.tcp.streams cimport MonitorConnection, Stream
from aiomos.tcp.views cimport Flow
from aiomos.tcp.wire cimport DecodeOptions, Packet
from aiomos.transport.frame cimport Frame
from aiomos.ude.machine cimport Instruction

cdef enum:
    MAX_RULES = 64             # bits of a watch set
    MAX_SETS = 4096
    ANY_SET = 0xFFFF           # watch set that did not fit the table: worked out anew each time
    GROUP = 32                 # frames decoded ahead, so that flow records arrive from memory meanwhile

cdef enum:                     # what a rule wants to be called for
    CALL_SETUP = 1
    CALL_TEARDOWN = 2

# The C side of a registration.
ctypedef struct Rule:
    const Instruction* code    # its filter; the Python object is kept in Engine.programs
    size_t code_len
    uint8_t level
    uint8_t overlap
    uint8_t calls
    bint midstream
    bint connects              # makes a connection for each flow
    bint active

ctypedef struct Decoded:
    Packet packet
    FlowKey key
    uint32_t hash
    int kind
    bint from_low

cdef class Engine:
    cdef Flows flows
    cdef Streams streams
    cdef DecodeOptions decode_options
    cdef Defragmenter defragmenter
    cdef Decoded* group
    cdef Rule rules[64]
    cdef uint32_t rule_count
    cdef uint64_t midstream_rules
    cdef uint64_t connecting_rules
    cdef uint64_t sets[4096]
    cdef uint32_t set_count
    cdef uint32_t* signals
    cdef size_t signal_count
    cdef size_t signal_capacity
    cdef size_t flow_budget
    cdef size_t half_open_budget
    cdef int64_t now_ns
    cdef int64_t next_tick_ns
    cdef int64_t timeout_half_open
    cdef int64_t timeout_established
    cdef int64_t timeout_closing
    cdef int64_t timeout_time_wait
    cdef int64_t timeout_reset
    cdef FlowRecord** remaining        # flows still to be ended by finish()
    cdef size_t remaining_count
    cdef uint64_t kinds[15]
    cdef uint64_t anomalies[16]
    cdef uint64_t frames
    cdef uint64_t opened
    cdef uint64_t picked_up
    cdef uint64_t orphans
    cdef uint64_t unwatched
    cdef uint64_t evicted
    cdef uint64_t released_early
    cdef uint64_t no_memory
    cdef list programs
    cdef list calls
    cdef list openers
    cdef list holds
    cdef list free_holds
    cdef object on_callback_error

    cdef int list_remaining(self) except -1
    cdef int run(self, const Frame* frames, size_t count) except -1 nogil
    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil
    cdef int on_fragment(self, Decoded* decoded) except -1 nogil
    cdef int on_tcp(self, Decoded* decoded) except -1 nogil
    cdef int after_segment(self, FlowRecord* flow, int side, const Packet* packet, int outcome) except -1 nogil
    cdef int follow_bytes(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                          uint32_t before_nxt) except -1 nogil
    cdef void open_tracks(self, FlowRecord* flow) noexcept nogil
    cdef void free_tracks(self, FlowRecord* flow) noexcept nogil
    cdef FlowRecord* open_flow(self, Decoded* decoded, bint midstream, bint client_is_low) except? NULL nogil
    cdef FlowRecord* first_packet(self, Decoded* decoded) except? NULL nogil
    cdef FlowRecord* replace(self, FlowRecord* old, Decoded* decoded) except? NULL nogil
    cdef void doubt_syn(self, FlowRecord* flow, int side, const Packet* packet) noexcept nogil
    cdef uint64_t match(self, const FlowKey* key, bint client_is_low, bint midstream) noexcept nogil
    cdef uint16_t intern(self, uint64_t mask) noexcept nogil
    cdef uint64_t watchers(self, const FlowRecord* flow) noexcept nogil
    cdef void apply_levels(self, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil
    cdef int join(self, FlowRecord* flow) except -1 nogil
    cdef int announce(self, FlowRecord* flow, uint64_t mask) except -1 nogil
    cdef int advance(self, int64_t now_ns) except -1 nogil
    cdef int64_t deadline(self, const FlowRecord* flow) noexcept nogil
    cdef int64_t next_look(self, const FlowRecord* flow) noexcept nogil
    cdef int evict(self) except -1 nogil
    cdef FlowRecord* idlest(self) noexcept nogil
    cdef int end_flow(self, FlowRecord* flow, int reason) except -1 nogil
    cdef void release(self, FlowRecord* flow) noexcept nogil
    cdef int signal(self, FlowRecord* flow) except -1 nogil
    cdef int signal_data(self, FlowRecord* flow) except -1 nogil
    cdef void lower(self, FlowRecord* flow, Flow view) noexcept
    cdef int call(self, FlowRecord* flow, int what) except -1 with gil
    cdef Flow view_of(self, FlowRecord* flow)
    cdef int deliver(self) except -1
    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1
    cdef object take_run(self, Track* track, bint both)
    cdef int connect(self, FlowRecord* flow, Flow view) except -1
    cdef int hand_over(self, FlowRecord* flow, Flow view) except -1
    cdef int end_view(self, FlowRecord* flow, Flow view) except -1
