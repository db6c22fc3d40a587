# What the line knows of flows: the paths of their frames, and in which numbers each end counts.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from aiomos.line.edits cimport EditStore
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.translation cimport Translation
from aiomos.line.waiting cimport WaitingQueue
from aiomos.tcp.flows cimport FlowRecord
from aiomos.wire.building cimport Envelope
from aiomos.wire.pool cimport Pool
from aiomos.wire.wire cimport PacketRecord

cdef enum:
    PATH_HEADER = 24           # Ethernet with two VLAN tags, and to spare

# How frames of a flow's ends travel, and what was edited; by the flow's index.
ctypedef struct Path:
    uint8_t header[2][24]      # link layer of frames from each end
    uint8_t header_len[2]
    bint known[2]              # header and interface are set
    uint16_t interface[2]      # that the end's frames come in by
    uint16_t linktype[2]
    uint32_t edits[2]          # of each half's bytes (line/edits)
    bint editable              # some callback may replace payload: it is kept in order from its start
    bint plain                 # its SYN has left without what could not be edited (Multipath TCP, Fast Open)
    bint mptcp                 # both ends speak Multipath TCP, whose checksums and mappings cover the bytes
    bint has_passed[2]
    uint32_t passed[2]         # by side, one past the highest byte that has passed, if any has
    WaitingQueue waiting[2]    # of each half, what arrived beyond a hole

cdef class Paths:
    cdef Outlet outlet
    cdef Hand hand
    cdef Translation translation
    cdef Pool paths                    # Path by flow
    cdef uint32_t flows_begun          # the highest number of a flow
    cdef EditStore edits
    cdef size_t edit_room
    cdef size_t edit_room_half
    cdef size_t waiting_room           # bytes of frames that may wait for holes to be filled: of all halves,
    cdef size_t waiting_room_half      # and of one
    cdef size_t waiting_bytes
    cdef bint fail_closed              # what cannot be edited as an app would have it does not pass
    cdef uint64_t resets               # RSTs sent
    cdef uint64_t given_up             # segments that have waited in vain

    cdef bint open_paths(self, size_t flows) noexcept
    cdef Path* path(self, uint32_t number) noexcept nogil
    cdef void flow_begun(self, uint32_t number) noexcept nogil
    cdef void flow_gone(self, uint32_t number) noexcept nogil
    cdef void clear_waiting(self, WaitingQueue* queue) noexcept nogil
    cdef bint is_edited(self, uint32_t number) noexcept nogil
    cdef void flow_met(self, FlowRecord* flow, uint32_t number, int side, PacketRecord* packet) noexcept nogil
    cdef void note_path(self, Path* path, int side, const PacketRecord* packet) noexcept nogil
    cdef bint envelope_to(self, const FlowRecord* flow, const Path* path, int side, Envelope* out) noexcept nogil
    cdef void send_reset(self, const FlowRecord* flow, uint32_t number, int side, uint32_t seq, uint32_t ack,
                         uint16_t flags) noexcept nogil
    cdef void send_to_end(self, const uint8_t* data, size_t length, uint16_t linktype, const Path* path,
                          int side) noexcept nogil
    cdef bint cut_off(self, const FlowRecord* flow, uint32_t number, int side,
                      const PacketRecord* packet) noexcept nogil
    cdef void reset_ends(self, const FlowRecord* flow, uint32_t number) noexcept nogil

cdef Paths new_paths(Outlet outlet, Hand hand, Translation translation, settings)
