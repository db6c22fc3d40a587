"""Shows the queue of segments that wait for the bytes before them to pytest."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from aiomos.line.waiting cimport (
    MOST_WAITING, Waiting, WaitingQueue, waiting_clear, waiting_cost, waiting_make, waiting_put, waiting_take)
from aiomos.wire.frame cimport Frame, Offload

MOST = MOST_WAITING
RECORD = sizeof(Waiting)


cdef class Queue:
    """A queue of frames, put in and taken out by hand."""

    cdef WaitingQueue queue

    def __cinit__(self):
        memset(&self.queue, 0, sizeof(WaitingQueue))

    def __dealloc__(self):
        waiting_clear(&self.queue)

    def put(self, uint32_t seq, uint32_t end, bytes data=b"", gso_size=None):
        """Put a frame in, with an Offload if *gso_size* is given; returns whether it was taken."""
        cdef Frame frame
        cdef Offload offload
        memset(&frame, 0, sizeof(Frame))
        memset(&offload, 0, sizeof(Offload))
        frame.data = <const unsigned char*> <const char*> data
        frame.caplen = <uint32_t> len(data)
        if gso_size is not None:
            offload.gso_size = gso_size
            frame.offload = &offload
        cdef Waiting* waiting = waiting_make(&frame, seq, end)
        assert waiting != NULL and waiting.frame.data != frame.data
        return bool(waiting_put(&self.queue, waiting))

    def take(self, uint32_t nxt):
        """Take the first out, if it has its turn: seq, end, bytes, gso_size or None."""
        cdef Waiting* waiting = waiting_take(&self.queue, nxt)
        if waiting == NULL:
            return None
        data = (<const char*> waiting.frame.data)[:waiting.frame.caplen]
        assert waiting_cost(&waiting.frame) == RECORD + len(data)
        gso_size = None if waiting.frame.offload == NULL else waiting.frame.offload.gso_size
        found = waiting.seq, waiting.end, data, gso_size
        free(waiting)
        return found

    def clear(self):
        return waiting_clear(&self.queue)

    @property
    def held(self):
        """How many, and their memory."""
        return self.queue.count, self.queue.bytes

    @property
    def order(self):
        """Where those that wait begin and end; the last is where the next to come is compared first."""
        found = []
        cdef Waiting* waiting = self.queue.head
        while waiting != NULL:
            found.append((waiting.seq, waiting.end))
            if waiting.next == NULL:
                assert waiting == self.queue.tail
            waiting = waiting.next
        assert (self.queue.tail == NULL) == (not found)
        return found
