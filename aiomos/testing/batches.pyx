"""Frames given to an engine by hand, for tests and small tools."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

from aiomos.engine.engine cimport Engine
from aiomos.wire.frame cimport Frame
from aiomos.wire.times cimport held_within


def feed_frames(Engine engine not None, frames):
    """Have an engine process frames as one batch.

    Args:
        engine: Whose flows they are of.
        frames: ``(time_ns, data, linktype, wirelen)`` of each: nanoseconds since the epoch, its bytes from the link
            layer on, the LINKTYPE_ number of that, and how long it was on the wire.
    """
    cdef list kept = [(time_ns, bytes(data), linktype, wirelen) for time_ns, data, linktype, wirelen in frames]
    cdef Frame* array = <Frame*> malloc((len(kept) + 1) * sizeof(Frame))
    cdef size_t count = 0
    cdef bytes data
    if array == NULL:
        raise MemoryError(f"no memory for a batch of {len(kept)} frames")
    try:
        for time_ns, data, linktype, wirelen in kept:
            array[count].data = <const uint8_t*> <const char*> data
            array[count].caplen = <uint32_t> len(data)
            array[count].wirelen = wirelen
            array[count].time_ns = held_within(time_ns)
            array[count].linktype = linktype
            array[count].interface = 0
            array[count].offload = NULL
            count += 1
        engine.intake.partial = engine.intake.shards > 1
        engine.run_batch(array, count)
    finally:
        free(array)
