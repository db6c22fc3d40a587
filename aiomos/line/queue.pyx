"""Frames of our making that wait for room on a wire.

The memory that frames of a batch lie in goes with the batch, so what waits is a copy. There are bounds to how much may:
whoever asks for room first (`Outlet.room`) never meets them.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


cdef bint queue_put(SendQueue* queue, const Frame* frame) noexcept nogil:
    cdef Queued* queued
    if queue.frames >= MOST_QUEUED or frame.caplen > MOST_QUEUED_BYTES - queue.bytes:
        return False
    queued = <Queued*> malloc(sizeof(Queued) + frame.caplen)
    if queued == NULL:
        return False
    queued.next, queued.frame = NULL, frame[0]
    queued.frame.data = <const unsigned char*> (queued + 1)
    memcpy(queued + 1, frame.data, frame.caplen)
    if frame.offload != NULL:
        queued.offload = frame.offload[0]
        queued.frame.offload = &queued.offload
    if queue.tail != NULL:
        queue.tail.next = queued
    else:
        queue.head = queued
    queue.tail = queued
    queue.frames += 1
    queue.bytes += frame.caplen
    return True


cdef size_t queue_peek(const SendQueue* queue, Frame* out, size_t room) noexcept nogil:
    cdef const Queued* queued = queue.head
    cdef size_t count = 0
    while queued != NULL and count < room:
        out[count] = queued.frame
        count += 1
        queued = queued.next
    return count


cdef void queue_drop(SendQueue* queue, size_t count) noexcept nogil:
    cdef Queued* queued
    while count and queue.head != NULL:
        queued = queue.head
        queue.head = queued.next
        queue.frames -= 1
        queue.bytes -= queued.frame.caplen
        count -= 1
        free(queued)
    if queue.head == NULL:
        queue.tail = NULL
