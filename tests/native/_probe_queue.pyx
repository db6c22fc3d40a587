"""Drives what waits for room on a wire by hand."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos.line.queue cimport MOST_QUEUED, MOST_QUEUED_BYTES, SendQueue, queue_drop, queue_peek, queue_put
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload

cdef enum:
    PEEKED = 64

most_frames, most_bytes = MOST_QUEUED, MOST_QUEUED_BYTES


cdef class Queue:
    """The queue of one interface."""

    cdef SendQueue queue

    def __dealloc__(self):
        queue_drop(&self.queue, self.queue.frames)

    def put(self, bytes data not None, csum=None):
        """Put a frame whose memory, and that of its Offload, is gone afterwards."""
        cdef Frame frame
        cdef size_t size = len(data)
        cdef unsigned char* copy = <unsigned char*> malloc(size + 1)
        cdef Offload* offload = <Offload*> malloc(sizeof(Offload))
        assert copy != NULL and offload != NULL
        memcpy(copy, <const char*> data, size)
        memset(&frame, 0, sizeof(frame))
        memset(offload, 0, sizeof(Offload))
        frame.data, frame.caplen, frame.wirelen = copy, <unsigned int> size, <unsigned int> size
        if csum is not None:
            offload.flags = OFFLOAD_NEEDS_CSUM
            offload.csum_start, offload.csum_offset = csum
            frame.offload = offload
        try:
            return queue_put(&self.queue, &frame)
        finally:
            memset(copy, 0xAA, size)
            memset(offload, 0xAA, sizeof(Offload))
            free(copy)
            free(offload)

    def peek(self, size_t room):
        """The first frames, with where the sum of each is to be taken from and put."""
        cdef Frame[<int> PEEKED] frames
        cdef size_t i
        assert room <= PEEKED
        found = []
        for i in range(queue_peek(&self.queue, frames, room)):
            csum = None
            if frames[i].offload != NULL:
                csum = frames[i].offload.csum_start, frames[i].offload.csum_offset
            found.append((<bytes> frames[i].data[:frames[i].caplen], csum))
        return found

    def drop(self, size_t count):
        queue_drop(&self.queue, count)

    @property
    def held(self):
        """Frames, and their bytes."""
        return self.queue.frames, self.queue.bytes
