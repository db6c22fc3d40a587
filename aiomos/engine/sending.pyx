"""The way out of the engine: what a transport takes, and what becomes of the rest.

A wire that is full is offered nothing more in the same flush. What is of our making waits in the outlet, and goes first
at the next one; what was to pass is dropped, and counted by the transport.
"""

from libc.stddef cimport size_t

from aiomos.line.outlet cimport Outlet, is_own
from aiomos.line.queue cimport SendQueue, queue_drop, queue_peek
from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame

cdef enum:
    AT_ONCE = 64               # frames taken from a queue
    REFUSALS = 8               # of one flush: then the wire, which may lose single frames, counts as full


cdef int send_all(Outlet outlet, Transport transport) except -1:
    cdef size_t count = outlet.count
    cdef const Frame* frames
    try:
        if outlet.full_count:
            send_queued(outlet, transport)
        if count:
            frames = outlet.by_interface() if transport.by_interface else outlet.frames
            send_new(outlet, transport, frames, count)
    finally:
        outlet.clear()
    return 0


cdef int send_queued(Outlet outlet, Transport transport) except -1:
    """Offer the frames that wait, of each interface until it is full again."""
    cdef size_t interface
    for interface in range(outlet.interface_count):
        if outlet.queues[interface].full:
            send_queue(outlet, &outlet.queues[interface], transport)
    return 0


cdef int send_queue(Outlet outlet, SendQueue* queue, Transport transport) except -1:
    cdef Frame[<int> AT_ONCE] frames
    cdef size_t count, taken
    outlet.found_room(queue)
    while queue.frames:
        count = queue_peek(queue, frames, AT_ONCE)
        taken = 0
        try:
            taken = <size_t> transport.send_frames(frames, count)
        except BaseException:
            taken = count                          # as those of a batch: nobody can tell which of them left
            raise
        finally:
            queue_drop(queue, taken)
        if taken < count:
            outlet.found_full(queue)
            return 0
    return 0


cdef int send_new(Outlet outlet, Transport transport, const Frame* frames, size_t count) except -1:
    """Offer the frames of a batch, in order, and put off what the wire has no room for."""
    cdef size_t i = 0, run, taken, refusals = 0
    cdef SendQueue* queue
    while i < count:
        queue = outlet.queue_of(&frames[i])
        if queue != NULL and queue.full:
            if not outlet.put_off(queue, &frames[i]):
                transport.count_unsent(frames[i].interface, 1)
            i += 1
            continue
        run = count - i if not outlet.full_count else run_of(outlet, frames + i, count - i)
        taken = <size_t> transport.send_frames(frames + i, run)
        i += taken
        if taken == run:
            continue
        queue = outlet.queue_of(&frames[i])
        if queue != NULL and is_own(&frames[i]):
            outlet.found_full(queue)               # it is put off in the next turn
            continue
        transport.count_unsent(frames[i].interface, 1)
        i += 1
        refusals += 1
        if queue != NULL and refusals == REFUSALS:
            refusals = 0
            outlet.found_full(queue)
    return 0


cdef size_t run_of(Outlet outlet, const Frame* frames, size_t count) noexcept nogil:
    """How many frames there are before the next one of an interface that is full."""
    cdef size_t i
    cdef SendQueue* queue
    for i in range(1, count):
        queue = outlet.queue_of(&frames[i])
        if queue != NULL and queue.full:
            return i
    return count
