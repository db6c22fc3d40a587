# The way out: the frames that a transport is to send after a batch.
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, uint16_t, uint64_t, uint8_t

from aiomos.line.queue cimport SendQueue
from aiomos.wire.frame cimport Frame

cdef enum:
    MOST_INTERFACES = 64
    NOWHERE = 0xFFFF           # of a frame that goes on by no interface
    BLOCK_BYTES = 1 << 20
    MOST_BLOCKS = 64           # of bytes that one batch may bring about

# A frame of our making has come at no time. It waits for room on the wire, where one that passes is dropped.
cdef inline bint is_own(const Frame* frame) noexcept nogil:
    return frame.time_ns == INT64_MIN

# Memory for bytes that live until the batch's frames have been sent.
ctypedef struct Arena:
    uint8_t* blocks[64]
    size_t sizes[64]
    size_t count               # blocks there are
    size_t at                  # the one in use
    size_t used                # bytes of it

cdef class Outlet:
    cdef readonly bint may_send        # there is a wire to send to
    cdef readonly bint forwards        # what comes in by one interface goes on by another, unless it is dropped
    cdef readonly bint decides         # apps have a say in what becomes of a packet
    cdef readonly tuple interfaces     # their names; None before it is open
    cdef uint16_t peers[64]            # by interface: that by which its frames go on, or NOWHERE
    cdef Frame* frames                 # to be sent, in order
    cdef size_t count
    cdef size_t capacity
    cdef Frame* sorted                 # room for as many, by interface
    cdef size_t sorted_capacity
    cdef SendQueue* queues             # by interface,
    cdef size_t interface_count        # so many
    cdef size_t full_count             # interfaces that had no room at the last flush
    cdef Arena arena
    cdef uint64_t forwarded            # counters, frames
    cdef uint64_t forwarded_bytes
    cdef uint64_t drops
    cdef uint64_t originated
    cdef uint64_t no_room
    cdef uint64_t delayed              # frames of our making that the wire had no room for at first
    cdef object on_news                # called when something is due, or to be sent, that no batch has brought about

    cdef int tell_news(self) except -1
    cdef void pass_frame(self, const Frame* frame) noexcept nogil
    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil
    cdef uint8_t* take(self, size_t size) noexcept nogil
    cdef void clear(self) noexcept nogil
    cdef bint append(self, const Frame* frame) noexcept nogil
    cdef bint emit(self, Frame* frame) noexcept nogil
    cdef SendQueue* queue_of(self, const Frame* frame) noexcept nogil
    cdef const Frame* by_interface(self) noexcept nogil
    cdef void found_full(self, SendQueue* queue) noexcept nogil
    cdef void found_room(self, SendQueue* queue) noexcept nogil
    cdef bint put_off(self, SendQueue* queue, const Frame* frame) noexcept nogil
    cdef void room_of(self, size_t interface, size_t* frames, size_t* bytes) noexcept nogil

cdef Outlet new_outlet()
