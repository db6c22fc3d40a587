"""Lifetimes: how long flows are kept, and how they end.

A flow that is closed, by its ends or by an app that cuts it off, is kept for stragglers. It ends when nothing more has
come for long enough, or for want of room, or of frames; docs/design/timers.md tells of the wheel that finds it.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp

from aiomos.engine.callbacks cimport WHAT_EVICTED
from aiomos.face.views cimport Flow
from aiomos.line.translation cimport Session
from aiomos.sealing cimport mark_part
from aiomos.tcp.doubts cimport early_deadline, early_tick
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLOSED,
    DROPPED,
    FIN_SEEN,
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
    FlowKey,
    flow_at,
    flow_index,
    flows_link,
    flows_remove,
    queue_drop,
    queue_push,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport CLOSED_NOW
from aiomos.tcp.reassembly cimport (
    HELD_EARLY,
    HOLED,
    PART_CAPTURE_END,
    PART_END,
    PART_EVICTED,
    PART_RESET,
    PART_TIMEOUT,
    Track,
    track_at,
    track_deadline,
    track_finish,
    track_tick,
)
from aiomos.ude.rules cimport rules_count
from aiomos.ude.slots cimport SLOT_TEARDOWN
from aiomos.wire.clock cimport nanoseconds
from aiomos.wire.times cimport held_within
from aiomos.wire.wheel cimport wheel_due, wheel_first, wheel_next_ns, wheel_rests_until, wheel_start, wheel_unlink

from aiomos.errors import NotInLineError

cdef enum:
    EVICTION_LOOKS = 64        # flows whose deadline is put right in search of the idlest
    FINISH_SLICE = 4096        # flows ended between two deliveries when frames run out


cdef class Lifetimes(Hooks):
    """The ends of flows. Not to be made by itself: `aiomos.engine.engine.Engine` is one."""

    def __cinit__(self, settings, *_others, **_named):
        timeouts = settings.timeouts
        self.timeout_half_open = nanoseconds(timeouts.half_open)
        self.timeout_established = nanoseconds(timeouts.established)
        self.timeout_closing = nanoseconds(timeouts.closing)
        self.timeout_time_wait = nanoseconds(timeouts.time_wait)
        self.timeout_reset = nanoseconds(timeouts.reset)
        self.now_ns = self.next_tick_ns = INT64_MIN

    def __dealloc__(self):
        free(self.remaining)

    # --- time -----------------------------------------------------------------------------------------

    def pass_time(self, time_ns):
        """Let time pass without frames: what is due until *time_ns*, nanoseconds since the epoch, happens.

        Raises:
            RuntimeError: from inside a callback.
        """
        cdef int64_t now_ns = held_within(time_ns)
        if now_ns < self.now_ns or now_ns == self.now_ns < self.due_ns():
            return
        self.begin()
        self.now_ns = now_ns
        self.outlet.pass_time(now_ns)
        try:
            with nogil:
                if now_ns >= self.next_tick_ns:
                    self.advance(now_ns)
            self.deliver()
            self.tell_sessions()
        finally:
            self.busy = False
        self.raise_fatal()

    @property
    def deadline_ns(self):
        """When pass_time() has something to do if no frame comes before, nanoseconds since the epoch; None: never."""
        cdef int64_t due = self.due_ns()
        return due if due != INT64_MAX else None

    cdef int64_t due_ns(self) noexcept:
        """When something is due: a flow to be looked at, a timer, or a session; INT64_MAX: never."""
        return min(wheel_next_ns(&self.flows.wheel), self.timer_ns, self.outlet.due_ns())

    cdef int set_back(self, int64_t now_ns) except -1 nogil:
        """Set the clock to another time: that of the only frame so far was wild."""
        cdef uint32_t index
        cdef FlowRecord* flow
        cdef int side
        if self.timer_ns != INT64_MAX:
            self.move_timers(now_ns - self.now_ns)
        self.now_ns = now_ns
        self.outlet.set_back(now_ns)
        for index in range(1, self.flows.pool.high_water + 1):     # there is one flow at most
            if in_table(flow_at(&self.flows, index)):
                wheel_unlink(&self.flows.wheel, index)
        wheel_start(&self.flows.wheel, now_ns)
        self.next_tick_ns = min(wheel_rests_until(&self.flows.wheel), self.timer_ns)
        for index in range(1, self.flows.pool.high_water + 1):
            flow = flow_at(&self.flows, index)
            if in_table(flow):
                flow.started_ns = flow.last_ns = now_ns
                flows_link(&self.flows, flow, self.deadline(flow))
                if flow.halves[0].track:
                    for side in range(2):
                        track_at(&self.streams, flow.halves[side].track).rtt_ns = now_ns
                        track_at(&self.streams, flow.halves[side].track).nxt_ns = now_ns
        return 0

    cdef int64_t deadline(self, const FlowRecord* flow) noexcept nogil:
        """When the flow is to be forgotten if nothing more is seen of it."""
        cdef int64_t wait
        if flow.flags & CLOSED:
            wait = self.timeout_time_wait
            if flow.reason == REASON_RST:
                wait = self.timeout_reset
            elif flow.reason == REASON_DROPPED:    # longer than a sender waits before it tries again
                wait = self.timeout_closing
        elif (flow.halves[0].flags | flow.halves[1].flags) & FIN_SEEN:
            wait = self.timeout_closing
        elif flow.flags & FLOW_ESTABLISHED:
            wait = self.timeout_established
        else:
            wait = self.timeout_half_open
        return flow.last_ns + wait

    cdef int64_t next_look(self, const FlowRecord* flow) noexcept nogil:
        """When the flow is to be looked at again: its own deadline, or that of a hole in one of its halves."""
        return min(self.deadline(flow), self.hole_due(flow)) if flow.halves[0].track else self.deadline(flow)

    cdef int64_t hole_due(self, const FlowRecord* flow) noexcept nogil:
        """When the first hole of a flow with tracks is to be given up, or what came early believed; else INT64_MAX."""
        cdef int64_t due = INT64_MAX, some
        cdef const Track* t
        cdef int side
        for side in range(2):
            t = track_at(&self.streams, flow.halves[side].track)
            if t.flags & HOLED:
                some = track_deadline(&self.streams, t, &flow.halves[side])
                due = min(due, some) if some else due
            if t.flags & HELD_EARLY:
                due = min(due, early_deadline(t, &flow.halves[side]))
        return due

    cdef int advance(self, int64_t now_ns) except -1 nogil:
        """Let time pass: timers run out, and flows end, in the order of their times."""
        if self.timer_ns <= now_ns:
            self.pass_ns, self.ran_out = now_ns, 0
            while self.timer_ns <= now_ns:
                self.now_ns = self.timer_ns
                self.turn_wheel(self.now_ns)
                self.run_timers()
            self.pass_ns = INT64_MIN
        self.now_ns = now_ns
        self.turn_wheel(now_ns)
        self.next_tick_ns = min(wheel_rests_until(&self.flows.wheel), self.timer_ns)
        return 0

    cdef int turn_wheel(self, int64_t now_ns) except -1 nogil:
        """Look at every flow whose slot of the wheel has come."""
        cdef uint32_t index = wheel_due(&self.flows.wheel, now_ns)
        cdef FlowRecord* flow
        cdef int side
        while index:
            flow = flow_at(&self.flows, index)
            if self.deadline(flow) <= now_ns:
                self.give_up(flow, REASON_TIMEOUT)
            else:
                if flow.halves[0].track:
                    for side in range(2):
                        early_tick(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                   &flow.halves[side], now_ns)
                        track_tick(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                   &flow.halves[side], now_ns)
                    if self.streams.incident_count:
                        self.raise_incidents(flow, NULL)
                    if flow.halves[0].track:
                        self.signal_data(flow)
                flows_link(&self.flows, flow, self.next_look(flow))
            index = wheel_due(&self.flows.wheel, now_ns)
        return 0

    # --- budgets --------------------------------------------------------------------------------------

    cdef int evict(self) except -1 nogil:
        """Make room for one flow: a closed one that only waits for stragglers, else half-open, else idle longest."""
        if self.flows.closed.count:
            self.released_early += 1
            return self.end_flow(flow_at(&self.flows, self.flows.closed.head), OPEN)
        self.evicted += 1
        if self.flows.half_open.count:
            return self.end_flow(flow_at(&self.flows, self.flows.half_open.head), REASON_EVICTED)
        return self.give_up(self.idlest(), REASON_EVICTED)

    cdef FlowRecord* idlest(self) noexcept nogil:
        """The flow nearest to its time-out, to a step of the wheel.

        Slots tell deadlines as they were when a flow was linked. Those found early are linked where they
        belong now; a bounded number of them per call, so that the last one seen may have to do.
        """
        cdef int _look
        cdef FlowRecord* flow = NULL
        cdef FlowRecord* best = NULL
        cdef uint16_t slot
        for _look in range(EVICTION_LOOKS):
            flow = flow_at(&self.flows, wheel_first(&self.flows.wheel))
            slot = flow.wheel.slot
            flows_link(&self.flows, flow, self.deadline(flow))
            if best == NULL or flow.last_ns < best.last_ns:
                best = flow
            if flow.wheel.slot == slot:
                break
        for _look in range(EVICTION_LOOKS):        # among those due in the same second, too, the idlest
            if not flow.wheel.next:
                break
            flow = flow_at(&self.flows, flow.wheel.next)
            if flow.last_ns < best.last_ns:
                best = flow
        return best

    # --- the ends of flows ----------------------------------------------------------------------------

    cdef int after_segment(self, FlowRecord* flow, const Packet* packet, int outcome) except -1 nogil:
        """Whatever changes how long the flow is kept."""
        cdef int side
        if outcome & CLOSED_NOW:
            self.leave_half_open(flow)
            queue_push(&self.flows, &self.flows.closed, flow)
            if flow.reason == REASON_RST and flow.halves[0].track:
                for side in range(2):
                    track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                 &flow.halves[side], PART_RESET, packet.time_ns)
                if self.streams.incident_count:
                    self.raise_incidents(flow, packet)
                self.signal_data(flow)
        if self.deadline(flow) <= packet.time_ns:  # time-outs of 0 seconds
            return self.end_flow(flow, OPEN)
        flows_link(&self.flows, flow, self.next_look(flow))
        return 0

    cdef void leave_half_open(self, FlowRecord* flow) noexcept nogil:
        """The flow is half-open no more: it is established, or over."""
        if flow.flags & HALF_OPEN:
            if flow.flags & LINKED:
                queue_drop(&self.flows, &self.flows.half_open, flow)
            flow.flags &= ~<uint16_t> HALF_OPEN

    cdef int cut(self, FlowRecord* flow, uint16_t flags) except -1 nogil:
        """Let no more of a flow pass: as far as its watchers are concerned, it is closed."""
        cdef int side
        flow.flags |= flags | CLOSED
        flow.reason = <uint8_t> (REASON_RST if flags & RESETTING else REASON_DROPPED)
        flow.last_ns = max(flow.last_ns, self.now_ns)
        for side in range(2):
            flow.halves[side].facts |= RESET
        if self.outlet.packet != NULL and self.outlet.flow == flow:
            self.outlet.dropped = True
        self.leave_half_open(flow)
        if not flow.flags & LINKED:
            queue_push(&self.flows, &self.flows.closed, flow)
        if flow.halves[0].track:
            for side in range(2):
                track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track), &flow.halves[side],
                             PART_RESET, flow.last_ns)
            if self.streams.incident_count:
                self.raise_incidents(flow, NULL)
            if flow.halves[0].track:
                self.signal_data(flow)
        flows_link(&self.flows, flow, self.next_look(flow))
        return 0

    def drop_flow(self, Flow view not None):
        """Let nothing of a flow pass any more; see `Flow.drop`."""
        cdef FlowRecord* flow = self.record_of(view)
        if not self.outlet.in_line:
            raise NotInLineError
        if not flow.flags & DROPPED:
            self.cut(flow, DROPPED)
            self.tell_news()

    def reset_flow(self, Flow view not None):
        """End a connection by RST to both ends; see `Flow.reset`."""
        cdef FlowRecord* flow = self.record_of(view)
        if not self.outlet.is_open:
            raise NotInLineError("there is no wire to send a RST to: frames come from a capture")
        if not flow.flags & RESETTING:
            self.outlet.reset_ends(flow, flow_index(&self.flows, flow))
            self.cut(flow, DROPPED | RESETTING)
            self.tell_news()

    cdef int give_up(self, FlowRecord* flow, int reason) except -1 nogil:
        """End a flow whose ends may go on; but not one whose ends number its bytes differently, untranslated."""
        if self.outlet.in_line and not flow.flags & CLOSED and self.outlet.is_edited(flow_index(&self.flows, flow)):
            self.outlet.reset_ends(flow, flow_index(&self.flows, flow))
        return self.end_flow(flow, reason)

    cdef int end_flow(self, FlowRecord* flow, int reason) except -1 nogil:
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
                track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track),
                             &flow.halves[side], kind, flow.last_ns)
            if self.streams.incident_count:
                self.raise_incidents(flow, NULL)
        if flow.reason == REASON_EVICTED:
            self.raise_error(flow, 0, NULL, WHAT_EVICTED, 0, 0)
        self.raise_new_data(flow)
        rules_count(&self.rules, flow, -1)
        flows_remove(&self.flows, flow)
        if flow.flags & ANNOUNCED:
            self.ended[flow.reason] += 1
            self.raise_event(SLOT_TEARDOWN, flow, 0, NULL)
        else:                                      # a SYN-ACK whose SYN never came, and what followed it
            self.orphans += flow.halves[0].packets + flow.halves[1].packets
            self.without_syn += flow.halves[0].packets + flow.halves[1].packets
        if (flow.hold or flow.flags & SIGNALLED or flow.flags & TO_CONNECT and self.has_come_about(flow)
                or flow == self.outlet.flow):
            self.signal(flow)                      # its last segment is yet to leave, perhaps in other numbers
        else:
            self.release(flow)
        return 0

    def finish(self):
        """End the next slice of flows for want of frames, oldest first; False when none is left."""
        cdef size_t done = 0
        self.begin()
        try:
            if self.remaining == NULL:
                self.list_remaining()
            with nogil:
                while self.remaining_count and done < FINISH_SLICE:
                    self.remaining_count -= 1
                    done += 1
                    self.end_flow(self.remaining[self.remaining_count], REASON_END_OF_CAPTURE)
            self.deliver()
            self.tell_sessions()
        finally:
            self.busy = False
        self.raise_fatal()
        return self.remaining_count > 0

    cdef int list_remaining(self) except -1:
        """Note all open flows, the youngest first."""
        cdef uint32_t index
        cdef FlowRecord* flow
        self.remaining = <FlowRecord**> malloc((self.flows.table.count + 1) * sizeof(FlowRecord*))
        if self.remaining == NULL:
            raise MemoryError("no memory to list the open flows")
        for index in range(1, self.flows.pool.high_water + 1):
            flow = flow_at(&self.flows, index)
            if in_table(flow):
                self.remaining[self.remaining_count] = flow
                self.remaining_count += 1
        qsort(self.remaining, self.remaining_count, sizeof(FlowRecord*), younger_first)
        return 0

    cdef int tell_sessions(self) except -1:
        """Tell those who wait for it which sessions have ended."""
        cdef Session session
        if not self.outlet.sessions.ended_head and not self.outlet.gone:
            return 0
        for session in self.outlet.take_ended():
            for function in session.listeners:
                try:
                    try:
                        function(session)
                    except Exception as error:
                        self.on_callback_error(function, None, error)
                except BaseException as error:
                    self.end_run(error)
        return 0


cdef int younger_first(const void* a, const void* b) noexcept nogil:
    """Order of two flows, the one that began later first; keys decide among those that began at once."""
    cdef const FlowRecord* one = (<const FlowRecord**> a)[0]
    cdef const FlowRecord* other = (<const FlowRecord**> b)[0]
    if one.started_ns != other.started_ns:
        return -1 if one.started_ns > other.started_ns else 1
    return memcmp(&other.key, &one.key, sizeof(FlowKey))


mark_part(Lifetimes)
