# The way out: what becomes of the frame in hand, and the frames that a transport is to send after a batch.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint64_t

from aiomos.wire.frame cimport Frame
from aiomos.wire.rewriting cimport Rewrite
from aiomos.wire.wire cimport Packet

cdef enum:
    MOST_INTERFACES = 64
    NOWHERE = 0xFFFF           # of a frame that goes on by no interface
    BLOCK_BYTES = 1 << 20
    MOST_BLOCKS = 64           # of bytes that one batch may bring about

# Memory for bytes that live until the batch's frames have been sent.
ctypedef struct Arena:
    uint8_t* blocks[64]
    size_t sizes[64]
    size_t count               # blocks there are
    size_t at                  # the one in use
    size_t used                # bytes of it

cdef class Outlet:
    cdef readonly bint in_line         # frames go on, unless they are dropped
    cdef readonly bint is_open         # frames can be sent
    cdef readonly tuple interfaces     # their names; None before it is open
    cdef uint16_t peers[64]            # by interface: that by which its frames go on, or NOWHERE
    cdef Frame* frames                 # to be sent, in order
    cdef size_t count
    cdef size_t capacity
    cdef Arena arena
    # The frame in hand; between frames, packet is NULL.
    cdef Packet* packet
    cdef Frame frame                   # as it will leave
    cdef bint dropped
    cdef int kind                      # wire.Kind of its packet
    cdef size_t link_len               # bytes before its IP header
    cdef Rewrite rewrite               # the packet, to be written,
    cdef bint writable                 # if that is set up
    cdef uint64_t forwarded            # counters, frames
    cdef uint64_t forwarded_bytes
    cdef uint64_t drops
    cdef uint64_t originated
    cdef uint64_t no_room
    cdef object on_news                # called when something is due, or to be sent, that no batch has brought about

    cdef void enter(self, const Frame* frame, Packet* packet, int kind) noexcept nogil
    cdef int tell_news(self) except -1
    cdef int in_hand(self, const Packet* packet) except -1
    cdef Rewrite* begin(self) noexcept nogil
    cdef void pass_frame(self, const Frame* frame) noexcept nogil
    cdef bint emit(self, const Frame* frame) noexcept nogil
    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil
    cdef uint8_t* take(self, size_t size) noexcept nogil
    cdef void clear(self) noexcept nogil
