# Timers of flows.
from libc.stdint cimport int64_t, uint64_t

from aiomos.engine.clock cimport Clock
from aiomos.engine.core cimport Core, Moment
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow

cdef class Timer:
    cdef Flow view
    cdef object function
    cdef readonly int64_t due_ns
    cdef readonly bint active

cdef class FlowTimers:
    cdef Core core
    cdef Holdings holdings
    cdef Clock clock
    cdef Gate gate
    cdef list timers                   # heap of (due_ns, ticket, Timer)
    cdef Py_ssize_t most_timers        # beyond which those are let go that will not run out
    cdef uint64_t tickets
    cdef int64_t pass_ns               # while timers run out: up to when, and
    cdef int ran_out                   # how many have

    cdef int64_t due_of(self, int64_t delay_ns) except? -1
    cdef int call_timer(self, Timer timer, Moment* m) except -1
    cdef bint is_watched(self, Flow view) except -1
    cdef int drop_timers(self) except -1
    cdef int cancel_timers(self, Account account) except -1
    cdef int move_timers(self, int64_t by_ns) except -1 with gil
    cdef int run_timers(self) except -1 with gil
    cdef int set_back(self, int64_t now_ns) except -1 nogil
    cdef int advance(self, int64_t now_ns) except -1 nogil

cdef FlowTimers new_flow_timers(Core core, Holdings holdings, Clock clock, Gate gate)
