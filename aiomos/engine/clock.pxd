# The engine's clock.
from libc.stdint cimport int64_t

from aiomos.engine.core cimport Core

cdef class Clock:
    cdef Core core
    cdef object on_news                # called when something is due, or to be sent, that no batch has brought about
    cdef object read_clock             # nanoseconds since the epoch, of a live transport; or None
    cdef object on_set_back            # called with the nanoseconds by which the clock moves: its first time was wild
    cdef bint busy                     # a batch is being processed: what it brings about is looked at afterwards

    cdef int begin(self) except -1
    cdef int tell_news(self) except -1
    cdef int64_t now(self)

cdef Clock new_clock(Core core)
