# What apps and sessions do to the frame in hand, and to flows: the engine's outlet, with all that changes packets.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.building cimport Envelope
from aiomos.tcp.edits cimport EditStore, Plan
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.outlet cimport Outlet
from aiomos.tcp.pool cimport Pool
from aiomos.tcp.rewriting cimport Rewrite
from aiomos.tcp.sessions cimport Session as SessionRecord
from aiomos.tcp.sessions cimport SessionMatch, Sessions, Tuple
from aiomos.tcp.wire cimport DecodeOptions, Packet
from aiomos.transport.frame cimport Frame

cdef enum:
    PATH_HEADER = 24           # Ethernet with two VLAN tags, and to spare

# How frames of a flow's ends travel, and what was edited; by the flow's index. Not more than a cache line's worth is
# touched by most packets.
ctypedef struct Path:
    uint8_t header[2][24]      # link layer of frames from each end
    uint8_t header_len[2]
    bint known[2]              # header and interface are set
    uint16_t interface[2]      # that the end's frames come in by
    uint16_t linktype[2]
    uint32_t edits[2]          # of each half's bytes (tcp/edits)

# Link-layer addresses that a session's packets leave with, by direction.
ctypedef struct SessionLink:
    uint8_t source[2][6]
    uint8_t target[2][6]
    bint set_source[2]
    bint set_target[2]
    bint turn_back             # they leave by the interface they came in by

cdef class Session:
    cdef Verdicts verdicts             # None once it has ended
    cdef uint32_t index
    cdef list listeners                # called when it ends
    cdef tuple kept                    # the last values of one that has ended

    cdef SessionRecord* record(self) except NULL
    cdef tuple values(self)

cdef class Verdicts(Outlet):
    cdef DecodeOptions decode_options
    cdef Rewrite rewrite               # the packet in hand, to be written,
    cdef bint writable                 # if that is set up
    cdef int kind                      # wire.Kind of the packet in hand
    cdef size_t link_len               # bytes before its IP header
    cdef uint32_t most                 # of a packet put together from fragments: what its fragments may have; else 0
    cdef uint32_t fragment_id
    cdef uint32_t arrived_ack          # as it was on arrival
    cdef bint moved                    # its addresses or ports were changed: its flow may be another
    cdef bint turned_back              # it leaves by the interface it came in by
    cdef bint matched                  # `match` is its session
    cdef SessionMatch match
    # The flow of the segment in hand, once that is known.
    cdef FlowRecord* flow
    cdef int side
    cdef uint32_t flow_number
    cdef uint32_t before_nxt           # Half.nxt of its sender, without this segment
    cdef Pool paths                    # Path by flow
    cdef Pool links                    # SessionLink by session
    cdef EditStore edits
    cdef Sessions sessions
    cdef list handles                  # Session by SessionRecord.hold
    cdef list free_handles
    cdef uint64_t keys[2]
    cdef size_t session_room
    cdef size_t edit_room
    cdef size_t edit_room_half
    cdef int64_t now_ns
    cdef uint64_t altered              # counters
    cdef uint64_t rejected
    cdef uint64_t resets
    cdef uint64_t refused              # packets that could not be passed on as they were to be
    cdef uint64_t refragmented
    cdef uint64_t held                 # fragments that waited for others
    cdef uint64_t nowhere              # frames of an interface that leads nowhere

    cdef void take_in(self, const Frame* frame, Packet* packet, int kind) noexcept nogil
    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil
    cdef bint enter_session(self) noexcept nogil
    cdef void pass_session(self) noexcept nogil
    cdef void pass_on(self) noexcept nogil
    cdef uint16_t exit(self) noexcept nogil
    cdef void hold(self) noexcept nogil
    cdef void plan_edited(self, Plan* plan) noexcept nogil
    cdef void pass_edited(self, const Plan* plan) noexcept nogil
    cdef void acknowledge(self, const Plan* plan) noexcept nogil
    cdef void send_plan(self, const Plan* plan) noexcept nogil
    cdef uint32_t segment_room(self) noexcept nogil
    cdef void pass_fragments(self) noexcept nogil
    cdef void give_up(self) noexcept nogil
    cdef bint is_in_tunnel(self) noexcept nogil
    cdef Rewrite* begin(self) noexcept nogil
    cdef void translate_forth(self, const uint8_t* data, size_t length, uint16_t linktype) noexcept nogil
    cdef bint answer(self, const uint8_t* data, size_t length) noexcept nogil
    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil
    cdef Path* path(self, uint32_t number) noexcept nogil
    cdef void flow_begun(self, uint32_t number) noexcept nogil
    cdef void flow_gone(self, uint32_t number) noexcept nogil
    cdef bint is_edited(self, uint32_t number) noexcept nogil
    cdef void flow_met(self, FlowRecord* flow, uint32_t number, int side, Packet* packet) noexcept nogil
    cdef void note_path(self, Path* path, int side, const Packet* packet) noexcept nogil
    cdef bint envelope_to(self, const FlowRecord* flow, const Path* path, int side, Envelope* out) noexcept nogil
    cdef void send_reset(self, const FlowRecord* flow, uint32_t number, int side, uint32_t seq, uint32_t ack,
                         uint16_t flags) noexcept nogil
    cdef void send_to_end(self, const uint8_t* data, size_t length, uint16_t linktype, const Path* path,
                          int side) noexcept nogil
    cdef bint cut_off(self, const FlowRecord* flow, uint32_t number, int side, const Packet* packet) noexcept nogil
    cdef void reset_ends(self, const FlowRecord* flow, uint32_t number) noexcept nogil
    cdef int in_hand(self, const Packet* packet) except -1
    cdef int drop(self, const Packet* packet) except -1
    cdef int reject(self, const Packet* packet, object why) except -1
    cdef int alter(self, const Packet* packet, dict fields) except -1
    cdef bint alter_one(self, str name, object value) except -1
    cdef bint replace(self, const Packet* packet, const uint8_t* data, size_t n) except -1
    cdef uint32_t acknowledged(self) noexcept
    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1
    cdef Session make_session(self, const Packet* packet, dict addresses, object idle, object transitory, object on_end,
                              bint turn_back)
    cdef int lay_over(self, Session session, dict addresses, int64_t idle_ns, object transitory,
                      bint turn_back) except -1
    cdef int lay_under(self, Session session, dict addresses, int64_t idle_ns, object transitory,
                       bint turn_back) except -1
    cdef int read_tuples(self, dict addresses, Tuple* arrives, Tuple* leaves) except -1
    cdef int read_link(self, dict addresses, bint turn_back, SessionLink* link) except -1
    cdef void forget_match(self, uint32_t index) noexcept
    cdef void pass_time(self, int64_t now_ns) noexcept nogil
    cdef list take_ended(self)
