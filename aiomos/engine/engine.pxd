# The per-core flow engine.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from aiomos.engine.attention cimport Attention
from aiomos.engine.clock cimport Clock
from aiomos.engine.core cimport Core
from aiomos.engine.delivery cimport Delivery
from aiomos.engine.flow_timers cimport FlowTimers
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.intake cimport Intake
from aiomos.engine.registry cimport Registry
from aiomos.tcp.flows cimport FlowRecord
from aiomos.wire.frame cimport Frame

cdef class Engine:
    cdef object __weakref__
    cdef Core core
    cdef bytes key                     # secret
    cdef Registry registry
    cdef Holdings holdings
    cdef Clock clock
    cdef Gate gate
    cdef FlowTimers flow_timers
    cdef Attention attention
    cdef Delivery delivery
    cdef Intake intake
    cdef FlowRecord** remaining        # flows still to be ended by finish()
    cdef size_t remaining_count

    cdef int64_t due_ns(self) noexcept
    cdef void pass_time_of_host(self) noexcept
    cdef int run_batch(self, const Frame* frames, size_t count) except -1
    cdef int list_remaining(self) except -1
