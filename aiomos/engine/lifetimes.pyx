"""Lifetimes: how long flows are kept, and how they end.

A flow that is closed, by its ends or by an app that cuts it off, is kept for stragglers. It ends when nothing more has
come for long enough, or for want of room, or of frames; docs/design/timers.md tells of the wheel that finds it.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint16_t, uint32_t, uint8_t

from aiomos.engine.core cimport Core, WHAT_EVICTED, signal_flow
from aiomos.engine.raising cimport raise_error, raise_event, raise_incidents
from aiomos.engine.watching cimport has_come_about, raise_new_data, release_flow, signal_data
from aiomos.tcp.doubts cimport early_deadline, early_tick
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLOSED,
    FIN_SEEN,
    FlowRecord,
    HALF_OPEN,
    LINKED,
    OPEN,
    REASON_DROPPED,
    REASON_END_OF_CAPTURE,
    REASON_EVICTED,
    REASON_RST,
    REASON_TIMEOUT,
    RESET,
    RESETTING,
    SIGNALLED,
    TO_CONNECT,
    flow_at,
    flow_index,
    flows_link,
    flows_remove,
    queue_drop,
    queue_push,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport CLOSED_NOW
from aiomos.tcp.progress cimport track_finish, track_tick
from aiomos.tcp.reassembly cimport track_deadline
from aiomos.tcp.tracks cimport (
    HELD_EARLY,
    HOLED,
    PART_CAPTURE_END,
    PART_END,
    PART_EVICTED,
    PART_RESET,
    PART_TIMEOUT,
    Track,
    track_at,
)
from aiomos.ude.rules cimport rules_count
from aiomos.ude.slots cimport SLOT_TEARDOWN
from aiomos.wire.wheel cimport wheel_due, wheel_first, wheel_rests_until, wheel_start, wheel_unlink
from aiomos.wire.wire cimport PacketRecord

cdef enum:
    EVICTION_LOOKS = 64        # flows whose deadline is put right in search of the idlest


cdef int64_t flow_deadline(Core core, const FlowRecord* flow) noexcept nogil:
    """When the flow is to be forgotten if nothing more is seen of it."""
    cdef int64_t wait
    if flow.flags & CLOSED:
        wait = core.timeout_time_wait
        if flow.reason == REASON_RST:
            wait = core.timeout_reset
        elif flow.reason == REASON_DROPPED:        # longer than a sender waits before it tries again
            wait = core.timeout_closing
    elif (flow.halves[0].flags | flow.halves[1].flags) & FIN_SEEN:
        wait = core.timeout_closing
    elif flow.flags & FLOW_ESTABLISHED:
        wait = core.timeout_established
    else:
        wait = core.timeout_half_open
    return flow.last_ns + wait


cdef int64_t next_look(Core core, const FlowRecord* flow) noexcept nogil:
    """When the flow is to be looked at again: its own deadline, or that of a hole in one of its halves."""
    return min(flow_deadline(core, flow), hole_due(core, flow)) if flow.halves[0].track else flow_deadline(core, flow)


cdef int64_t hole_due(Core core, const FlowRecord* flow) noexcept nogil:
    """When the first hole of a flow with tracks is to be given up, or what came early believed; else INT64_MAX."""
    cdef int64_t due = INT64_MAX, some
    cdef const Track* t
    cdef int side
    for side in range(2):
        t = track_at(&core.streams, flow.halves[side].track)
        if t.flags & HOLED:
            some = track_deadline(&core.streams, t, &flow.halves[side])
            due = min(due, some) if some else due
        if t.flags & HELD_EARLY:
            due = min(due, early_deadline(t, &flow.halves[side]))
    return due


cdef int turn_wheel(Core core, int64_t now_ns) except -1 nogil:
    """Look at every flow whose slot of the wheel has come."""
    cdef uint32_t index = wheel_due(&core.flows.wheel, now_ns)
    cdef FlowRecord* flow
    cdef int side
    while index:
        flow = flow_at(&core.flows, index)
        if flow_deadline(core, flow) <= now_ns:
            give_up_flow(core, flow, REASON_TIMEOUT)
        else:
            if flow.halves[0].track:
                for side in range(2):
                    early_tick(&core.streams, track_at(&core.streams, flow.halves[side].track),
                               &flow.halves[side], now_ns)
                    track_tick(&core.streams, track_at(&core.streams, flow.halves[side].track),
                               &flow.halves[side], now_ns)
                if core.streams.incident_count:
                    raise_incidents(core, flow, NULL)
                if flow.halves[0].track:
                    signal_data(core, flow)
            flows_link(&core.flows, flow, next_look(core, flow))
        index = wheel_due(&core.flows.wheel, now_ns)
    return 0


cdef int evict_flow(Core core) except -1 nogil:
    """Make room for one flow: a closed one that only waits for stragglers, else half-open, else idle longest."""
    if core.flows.closed.count:
        core.released_early += 1
        return end_flow(core, flow_at(&core.flows, core.flows.closed.head), OPEN)
    core.evicted += 1
    if core.flows.half_open.count:
        return end_flow(core, flow_at(&core.flows, core.flows.half_open.head), REASON_EVICTED)
    return give_up_flow(core, idlest(core), REASON_EVICTED)


cdef FlowRecord* idlest(Core core) noexcept nogil:
    """The flow nearest to its time-out, to a step of the wheel.

    Slots tell deadlines as they were when a flow was linked. Those found early are linked where they
    belong now; a bounded number of them per call, so that the last one seen may have to do.
    """
    cdef int _look
    cdef FlowRecord* flow = NULL
    cdef FlowRecord* best = NULL
    cdef uint16_t slot
    for _look in range(EVICTION_LOOKS):
        flow = flow_at(&core.flows, wheel_first(&core.flows.wheel))
        slot = flow.wheel.slot
        flows_link(&core.flows, flow, flow_deadline(core, flow))
        if best == NULL or flow.last_ns < best.last_ns:
            best = flow
        if flow.wheel.slot == slot:
            break
    for _look in range(EVICTION_LOOKS):            # among those due in the same second, too, the idlest
        if not flow.wheel.next:
            break
        flow = flow_at(&core.flows, flow.wheel.next)
        if flow.last_ns < best.last_ns:
            best = flow
    return best


cdef int after_segment(Core core, FlowRecord* flow, const PacketRecord* packet, int outcome) except -1 nogil:
    """Whatever changes how long the flow is kept."""
    cdef int side
    if outcome & CLOSED_NOW:
        leave_half_open(core, flow)
        queue_push(&core.flows, &core.flows.closed, flow)
        if flow.reason == REASON_RST and flow.halves[0].track:
            for side in range(2):
                track_finish(&core.streams, track_at(&core.streams, flow.halves[side].track),
                             &flow.halves[side], PART_RESET, packet.time_ns)
            if core.streams.incident_count:
                raise_incidents(core, flow, packet)
            signal_data(core, flow)
    if flow_deadline(core, flow) <= packet.time_ns:  # time-outs of 0 seconds
        return end_flow(core, flow, OPEN)
    flows_link(&core.flows, flow, next_look(core, flow))
    return 0


cdef void leave_half_open(Core core, FlowRecord* flow) noexcept nogil:
    """The flow is half-open no more: it is established, or over."""
    if flow.flags & HALF_OPEN:
        if flow.flags & LINKED:
            queue_drop(&core.flows, &core.flows.half_open, flow)
        flow.flags &= ~<uint16_t> HALF_OPEN


cdef int cut_flow(Core core, FlowRecord* flow, uint16_t flags) except -1 nogil:
    """Let no more of a flow pass: as far as its watchers are concerned, it is closed."""
    cdef int side
    flow.flags |= flags | CLOSED
    flow.reason = <uint8_t> (REASON_RST if flags & RESETTING else REASON_DROPPED)
    flow.last_ns = max(flow.last_ns, core.now_ns)
    for side in range(2):
        flow.halves[side].facts |= RESET
    if core.line.hand.packet != NULL and core.line.hand.flow == flow:
        core.line.hand.dropped = True
    leave_half_open(core, flow)
    if not flow.flags & LINKED:
        queue_push(&core.flows, &core.flows.closed, flow)
    if flow.halves[0].track:
        for side in range(2):
            track_finish(&core.streams, track_at(&core.streams, flow.halves[side].track), &flow.halves[side],
                         PART_RESET, flow.last_ns)
        if core.streams.incident_count:
            raise_incidents(core, flow, NULL)
        if flow.halves[0].track:
            signal_data(core, flow)
    flows_link(&core.flows, flow, next_look(core, flow))
    return 0


cdef int give_up_flow(Core core, FlowRecord* flow, int reason) except -1 nogil:
    """End a flow whose ends may go on; but not one whose ends number its bytes differently, untranslated."""
    if core.outlet.forwards and not flow.flags & CLOSED and core.line.paths.is_edited(flow_index(&core.flows, flow)):
        core.line.paths.reset_ends(flow, flow_index(&core.flows, flow))
    return end_flow(core, flow, reason)


cdef int end_flow(Core core, FlowRecord* flow, int reason) except -1 nogil:
    """Close the books of a flow; its record goes once nobody needs it."""
    cdef int side, kind = PART_END
    if flow.reason == OPEN:
        flow.reason = <uint8_t> (reason if reason != OPEN else REASON_TIMEOUT)
    if flow.halves[0].track:
        if flow.reason == REASON_RST or flow.reason == REASON_DROPPED:
            kind = PART_RESET
        elif flow.reason == REASON_TIMEOUT:
            kind = PART_TIMEOUT
        elif flow.reason == REASON_EVICTED:
            kind = PART_EVICTED
        elif flow.reason == REASON_END_OF_CAPTURE:
            kind = PART_CAPTURE_END
        for side in range(2):
            track_finish(&core.streams, track_at(&core.streams, flow.halves[side].track),
                         &flow.halves[side], kind, flow.last_ns)
        if core.streams.incident_count:
            raise_incidents(core, flow, NULL)
    if flow.reason == REASON_EVICTED:
        raise_error(core, flow, 0, NULL, WHAT_EVICTED, 0, 0)
    raise_new_data(core, flow)
    rules_count(&core.rules, flow, -1)
    flows_remove(&core.flows, flow)
    if flow.flags & ANNOUNCED:
        core.ended[flow.reason] += 1
        raise_event(core, SLOT_TEARDOWN, flow, 0, NULL)
    else:                                          # a SYN-ACK whose SYN never came, and what followed it
        core.orphans += flow.halves[0].packets + flow.halves[1].packets
        core.without_syn += flow.halves[0].packets + flow.halves[1].packets
    if (flow.hold or flow.flags & SIGNALLED or flow.flags & TO_CONNECT and has_come_about(core, flow)
            or flow == core.line.hand.flow):
        signal_flow(core, flow)                    # its last segment is yet to leave, perhaps in other numbers
    else:
        release_flow(core, flow)
    return 0


cdef void flows_set_back(Core core, int64_t now_ns) noexcept nogil:
    """Set the clock of flows to another time: that of the only frame so far was wild."""
    cdef uint32_t index
    cdef FlowRecord* flow
    cdef int side
    core.now_ns = now_ns
    core.line.translation.set_back(now_ns)
    for index in range(1, core.flows.pool.high_water + 1):  # there is one flow at most
        if in_table(flow_at(&core.flows, index)):
            wheel_unlink(&core.flows.wheel, index)
    wheel_start(&core.flows.wheel, now_ns)
    core.next_tick_ns = min(wheel_rests_until(&core.flows.wheel), core.timer_ns)
    for index in range(1, core.flows.pool.high_water + 1):
        flow = flow_at(&core.flows, index)
        if in_table(flow):
            flow.started_ns = flow.last_ns = now_ns
            flows_link(&core.flows, flow, flow_deadline(core, flow))
            if flow.halves[0].track:
                for side in range(2):
                    track_at(&core.streams, flow.halves[side].track).rtt_ns = now_ns
                    track_at(&core.streams, flow.halves[side].track).nxt_ns = now_ns
