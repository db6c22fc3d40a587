"""Segments that wait for the bytes before them.

In a half that may be edited every byte is to pass in order, since what stands before it may yet change length. A
segment from beyond a hole is kept as the frame that it came in, and is processed once the hole is filled, as if it
came then.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos.wire.seq cimport seq_leq, seq_lt


cdef size_t waiting_cost(const Frame* frame) noexcept nogil:
    return sizeof(Waiting) + frame.caplen


cdef Waiting* waiting_make(const Frame* frame, uint32_t seq, uint32_t end) noexcept nogil:
    cdef Waiting* waiting = <Waiting*> malloc(waiting_cost(frame))
    if waiting == NULL:
        return NULL
    memset(waiting, 0, sizeof(Waiting))
    waiting.seq, waiting.end, waiting.frame = seq, end, frame[0]
    waiting.frame.data = <const unsigned char*> (waiting + 1)
    memcpy(waiting + 1, frame.data, frame.caplen)
    if frame.offload != NULL:
        waiting.offload = frame.offload[0]
        waiting.frame.offload = &waiting.offload
    return waiting


cdef bint waiting_put(WaitingQueue* queue, Waiting* waiting) noexcept nogil:
    cdef Waiting** link = &queue.head
    if queue.count == MOST_WAITING:
        free(waiting)
        return False
    if queue.tail != NULL and seq_lt(queue.tail.seq, waiting.seq):
        link = &queue.tail.next                # as they mostly come
    while link[0] != NULL and seq_leq(link[0].seq, waiting.seq):
        if seq_leq(waiting.end, link[0].end):
            free(waiting)
            return False
        link = &link[0].next
    waiting.next = link[0]
    link[0] = waiting
    if waiting.next == NULL:
        queue.tail = waiting
    queue.count += 1
    queue.bytes += <uint32_t> waiting_cost(&waiting.frame)
    return True


cdef Waiting* waiting_take(WaitingQueue* queue, uint32_t nxt) noexcept nogil:
    cdef Waiting* first = queue.head
    if first == NULL or not seq_leq(first.seq, nxt):
        return NULL
    queue.head = first.next
    if queue.head == NULL:
        queue.tail = NULL
    queue.count -= 1
    queue.bytes -= <uint32_t> waiting_cost(&first.frame)
    return first


cdef uint32_t waiting_clear(WaitingQueue* queue) noexcept nogil:
    cdef uint32_t count = queue.count
    cdef Waiting* first = queue.head
    cdef Waiting* next
    while first != NULL:
        next = first.next
        free(first)
        first = next
    memset(queue, 0, sizeof(WaitingQueue))
    return count
