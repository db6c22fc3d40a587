"""The engine's clock: that of frames, or between batches that of the transport."""

cimport cython
from libc.stdint cimport int64_t

from aiomos.engine.core cimport Core
from aiomos.sealing cimport seal
from aiomos.wire.times cimport held_within


@cython.final
cdef class Clock:
    """What time it is for the engine, and whether it is at work."""

    cdef int begin(self) except -1:
        """A batch begins, or time passes.

        Raises:
            RuntimeError: from inside a callback.
        """
        if self.busy:
            raise RuntimeError("the engine is at work: a callback cannot feed it, or let its time pass")
        self.busy = True
        return 0

    cdef int tell_news(self) except -1:
        """Something has been asked for between two batches."""
        return 0 if self.busy else self.core.outlet.tell_news()

    cdef int64_t now(self):
        """The time now: that of the frame in hand, or between batches that of the transport, if it has one."""
        if not self.busy and self.read_clock is not None:
            return max(held_within(self.read_clock()), self.core.now_ns)
        return self.core.now_ns


cdef Clock new_clock(Core core):
    cdef Clock clock = Clock.__new__(Clock)
    clock.core = core
    return clock


seal(Clock)
