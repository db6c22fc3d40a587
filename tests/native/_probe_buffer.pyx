"""Shows the send buffer to pytest."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from aiomos.end.buffer cimport (
    FIND_AGAIN, FIND_UNSENT, FIRST_ROOM, LEAST_KEPT, NEXT_ROOM, BufferBlock, SendBuffer, buffer_close, buffer_collect,
    buffer_find, buffer_open, buffer_owes, buffer_release, buffer_sent, buffer_unacked, buffer_unsent, buffer_write)
from aiomos.wire.segments cimport Stretch

KEPT, FIRST, NEXT = LEAST_KEPT, FIRST_ROOM, NEXT_ROOM
SIZE = sizeof(SendBuffer)


cdef class Buffer:
    """The send buffer of one connection."""

    cdef SendBuffer buffer

    def __cinit__(self, uint64_t limit=1 << 30):
        buffer_open(&self.buffer, limit)

    def __dealloc__(self):
        buffer_close(&self.buffer)

    def write(self, data):
        return bool(buffer_write(&self.buffer, data))

    def find(self, uint64_t offset, size_t n, bint again=False, size_t most=64):
        """The stretches, as bytes."""
        cdef Stretch spans[64]
        cdef size_t count, found, i
        with nogil:
            found = buffer_find(&self.buffer, offset, n, FIND_AGAIN if again else FIND_UNSENT, spans, most, &count)
        stretches = [(<const char*> spans[i].data)[:spans[i].length] for i in range(count)]
        assert count <= most
        assert sum(map(len, stretches)) == found
        assert all(stretches)
        return stretches

    def sent(self, size_t n):
        with nogil:
            buffer_sent(&self.buffer, n)

    def release(self, uint64_t offset):
        with nogil:
            buffer_release(&self.buffer, offset)

    def collect(self):
        buffer_collect(&self.buffer)

    def close(self):
        buffer_close(&self.buffer)

    @property
    def unsent(self):
        return buffer_unsent(&self.buffer)

    @property
    def unacked(self):
        return buffer_unacked(&self.buffer)

    @property
    def owes(self):
        return buffer_owes(&self.buffer)

    @property
    def slots(self):
        """Of the ring; 0: there is none."""
        return self.buffer.mask + 1 if self.buffer.blocks != NULL else 0

    @property
    def blocks(self):
        """Offset, length, own memory of each block that is not released; raises where they do not join."""
        cdef BufferBlock* block
        cdef uint32_t number = self.buffer.first
        found = []
        at = None
        while number != self.buffer.next:
            block = &self.buffer.blocks[number & self.buffer.mask]
            assert at is None or block.begin == at
            assert (block.owner == NULL) == (block.room != 0)
            assert block.length
            at = block.begin + block.length
            found.append((block.begin, block.length, block.room))
            number += 1
        assert at is None or at == self.buffer.end
        return found
