# The way out: the frames that a transport is to send after a batch.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint64_t, uint8_t

from aiomos.wire.frame cimport Frame

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
    cdef uint64_t forwarded            # counters, frames
    cdef uint64_t forwarded_bytes
    cdef uint64_t drops
    cdef uint64_t originated
    cdef uint64_t no_room
    cdef object on_news                # called when something is due, or to be sent, that no batch has brought about

    cdef int tell_news(self) except -1
    cdef void pass_frame(self, const Frame* frame) noexcept nogil
    cdef bint emit(self, const Frame* frame) noexcept nogil
    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil
    cdef uint8_t* take(self, size_t size) noexcept nogil
    cdef void clear(self) noexcept nogil

cdef Outlet new_outlet()
