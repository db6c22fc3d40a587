# Who watches a running flow.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.engine.core cimport Core
from aiomos.engine.flow_timers cimport FlowTimers
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.registry cimport Call, Registry
from aiomos.face.views cimport Flow
from aiomos.tcp.flows cimport FlowRecord

cdef class Attention:
    cdef Core core
    cdef Registry registry
    cdef Holdings holdings
    cdef Gate gate
    cdef FlowTimers flow_timers
    cdef dict own_calls                # by (Account, event, slot): Call that stands for those of single connections
    cdef uint64_t picking              # rules that running flows are being shown to
    cdef uint32_t picked_to            # index of the last flow that was
    cdef uint32_t swept_to             # index of the last flow looked at for rules that were removed,
    cdef uint32_t sweep_end            # of the last one to be,
    cdef uint32_t sweep_flows          # and how many are in one call

    cdef int watch_less(self, Flow view, Call shared) except -1
    cdef int sweep(self) except -1
    cdef int forget(self) except -1
    cdef int sweep_flow(self, FlowRecord* flow) except -1
    cdef void relevel(self, FlowRecord* flow)

cdef Attention new_attention(Core core, Registry registry, Holdings holdings, Gate gate, FlowTimers flow_timers)
