# What an application has written and its peer has not acknowledged: docs/design/sending.md.
#
# Bytes are named by their offset, the first ever written being 0. Objects are taken and let go of with the interpreter
# only (buffer_write(), buffer_collect(), buffer_close()); all else needs none.
from cpython.object cimport PyObject
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.wire.segments cimport Stretch

cdef enum:
    LEAST_KEPT = 1024              # bytes of a write that is kept as it is; a shorter one is copied behind the last
    FIRST_ROOM = 1024              # of a block that copies go into,
    NEXT_ROOM = 4096               # and of one behind such

cdef enum:                         # who asks buffer_find(): each finds quickly what is behind what it found last
    FIND_UNSENT = 0
    FIND_AGAIN = 1

ctypedef struct BufferBlock:
    uint64_t begin                 # offset of its first byte
    uint8_t* data
    size_t length
    size_t room                    # of its own memory; 0: it is that of `owner`
    PyObject* owner                # NULL: none

ctypedef struct SendBuffer:
    BufferBlock* blocks            # a ring: block number n is at n & mask
    uint32_t mask
    uint32_t spent                 # first block whose owner has not been let go of; up to `first`
    uint32_t first                 # of what is not acknowledged
    uint32_t next                  # one behind the last
    uint32_t hints[2]              # numbers of the blocks found last
    uint64_t acked                 # offsets: acked <= sent <= end
    uint64_t sent
    uint64_t end
    uint64_t limit                 # bytes not acknowledged, at most

cdef inline uint64_t buffer_unsent(const SendBuffer* buffer) noexcept nogil:
    """What flow control towards the application counts."""
    return buffer.end - buffer.sent

cdef inline uint64_t buffer_unacked(const SendBuffer* buffer) noexcept nogil:
    """Sent, and not acknowledged."""
    return buffer.sent - buffer.acked

cdef inline bint buffer_owes(const SendBuffer* buffer) noexcept nogil:
    """Do objects wait for buffer_collect()?"""
    return buffer.spent != buffer.first

cdef void buffer_open(SendBuffer* buffer, uint64_t limit) noexcept nogil
cdef void buffer_close(SendBuffer* buffer)
# Take what an application writes, any buffer of contiguous bytes: all of it, or nothing, and False, if it is more than
# the limit leaves. Immutable bytes are kept, others copied.
#
# Raises: TypeError, BufferError: it is no such buffer. MemoryError.
cdef bint buffer_write(SendBuffer* buffer, object data) except -1
# Find *n* bytes from an offset on, as stretches, *most* of them: how many bytes were found, fewer if there are no more,
# or not in so few stretches; 0 before what is acknowledged. They stay where they are until they are released.
cdef size_t buffer_find(SendBuffer* buffer, uint64_t offset, size_t n, int who, Stretch* out, size_t most,
                        size_t* count) noexcept nogil
# So many more bytes were sent for the first time.
cdef void buffer_sent(SendBuffer* buffer, size_t n) noexcept nogil
# All up to an offset, of what was sent, is acknowledged.
cdef void buffer_release(SendBuffer* buffer, uint64_t offset) noexcept nogil
# Let go of objects whose bytes are acknowledged.
cdef void buffer_collect(SendBuffer* buffer)
