"""What TCP processing works on: flows, their bytes, the rules of those who watch them, the clock, counters.

TCP processing is functions that are handed a `Core`. Where apps are to be called, they call through it.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from aiomos.line.line cimport new_line
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport FlowRecord, SIGNALLED, flow_index, flows_close, flows_open
from aiomos.tcp.tracks cimport streams_close, streams_open
from aiomos.ude.rules cimport rules_open
from aiomos.wire.clock cimport nanoseconds
from aiomos.wire.wire cimport decode_options_of


@cython.final
cdef class Core:
    """What TCP processing works on."""

    def __dealloc__(self):
        flows_close(&self.flows)
        streams_close(&self.streams)
        free(self.signals)


cdef Core new_core(settings, bytes key):
    """Records, rules and clock of an engine.

    Raises:
        MemoryError: the address space for the budgets cannot be had.
    """
    cdef Core core = Core.__new__(Core)
    cdef uint64_t keys[2]
    memcpy(keys, <const char*> key, 16)
    budgets, timeouts = settings.budgets, settings.timeouts
    core.line = new_line(settings, key)
    core.outlet = core.line.outlet
    core.flow_budget = budgets.flows
    core.half_open_budget = min(budgets.half_open, budgets.flows)
    decode_options_of(settings, <const uint8_t*> <const char*> key, &core.decode_options)
    rules_open(&core.rules)
    # Flows that ended keep their record until the batch is delivered.
    if (not flows_open(&core.flows, core.flow_budget + MOST_BATCH_FRAMES, keys[0], keys[1])
        or not streams_open(&core.streams, core.flow_budget + MOST_BATCH_FRAMES, budgets.held_bytes,
                            budgets.held_bytes_half, budgets.kept_bytes, budgets.kept_bytes_half,
                            MOST_BATCH_FRAMES, <uint32_t> keys[0])):
        raise MemoryError(f"no address space for {core.flow_budget} flows; lower budgets.flows")
    core.flows.vlan_mask = 0xFFFF if settings.separate_vlans else 0
    core.streams.hold_ns = nanoseconds(timeouts.gap_hold)
    core.streams.age_ns = nanoseconds(timeouts.gap_age)
    core.timeout_half_open = nanoseconds(timeouts.half_open)
    core.timeout_established = nanoseconds(timeouts.established)
    core.timeout_closing = nanoseconds(timeouts.closing)
    core.timeout_time_wait = nanoseconds(timeouts.time_wait)
    core.timeout_reset = nanoseconds(timeouts.reset)
    core.now_ns = core.next_tick_ns = INT64_MIN
    core.timer_ns = INT64_MAX
    return core


cdef int call_apps(Core core, Moment* m) except -1 nogil:
    """Call those who wait for what has happened, behind the gate."""
    return core.open_gate(core.gate, m) if core.gate != NULL else 0


cdef object engine_of(Core core):
    """The engine that the core is of, also while it is being finalised; None once it has gone."""
    return <object> core.engine if core.engine != NULL else None


cdef int signal_flow(Core core, FlowRecord* flow) except -1 nogil:
    """Have the flow looked at when the batch is delivered; its record stays until then."""
    cdef size_t capacity
    cdef uint32_t* signals
    if flow.flags & SIGNALLED:
        return 0
    if core.signal_count == core.signal_capacity:
        capacity = core.signal_capacity * 2 + 1024
        signals = <uint32_t*> realloc(core.signals, capacity * sizeof(uint32_t))
        if signals == NULL:
            with gil:
                raise MemoryError("no memory to note which flows have news")
        core.signals = signals
        core.signal_capacity = capacity
    core.signals[core.signal_count] = flow_index(&core.flows, flow)
    core.signal_count += 1
    flow.flags |= SIGNALLED
    return 0


seal(Core)
