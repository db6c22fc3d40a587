"""Callbacks: the gate through which TCP processing calls apps.

It owns the flow and stream records. Where the watchers of a flow wait for an event, its user-defined events are judged
without the interpreter first; only if there is somebody to call does the gate open. Behind it the tree of the event is
walked: callbacks of an event, then the events upon it that fired.
"""

cimport cython
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport INT64_MAX, INT64_MIN, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from aiomos.engine.registry cimport (
    ASKS_ENGINE,
    ASKS_EVENT,
    ASKS_FLOW,
    ASKS_HALF,
    ASKS_PKT,
    ASKS_SIDE,
    ASKS_TIME,
    SAMPLED,
)
from aiomos.face.packets cimport make_packet
from aiomos.face.views cimport make_flow, state_named
from aiomos.sealing cimport mark_part, seal
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT,
    CLIENT_IS_LOW,
    DROPPED,
    ENDED,
    SIGNALLED,
    SILENCED,
    TO_CONNECT,
    flow_index,
    flows_close,
)
from aiomos.tcp.holdings cimport track_read
from aiomos.tcp.reassembly cimport streams_close, track_at
from aiomos.ude.machine cimport Program, predicates_fire, run_filter
from aiomos.ude.rules cimport (
    ANY_SET,
    Interest,
    rules_assign,
    rules_intern,
    rules_interest,
    rules_watching,
)
from aiomos.ude.slots cimport (
    SLOT_ERROR,
    SLOT_REXMIT,
    SLOT_STATE,
    SLOT_STATE_SENDER,
    SLOT_TEARDOWN,
    SLOT_TIMEOUT,
)
from aiomos.wire.clock cimport nanoseconds, seconds
from aiomos.wire.times cimport held_within
from aiomos.wire.wire cimport WIRE_BAD_TCP

import heapq

from aiomos.errors import FlowClosed
from aiomos.face.chunks import GAP_NAMES
from aiomos.face.packets import KIND_NAMES
from aiomos.tcp.monitor import ANOMALY_NAMES
from aiomos.ude.events import ErrorKind, Occurrence, RexmitKind

cdef enum:
    FEW_TIMERS = 64
    MOST_DEPTH = 16            # of callbacks that emit events whose callbacks emit events
    MOST_EMITTED = 65536       # events that callbacks emit before the first of them has returned
    MOST_RAN_OUT = 65536       # timers that run out before those set meanwhile have to wait for the clock
    LEAST_DELAY_NS = 1_000_000     # of a timer that is set by one that runs out
    MOST_EVIDENCE = 65536      # bytes of old and new that an occurrence carries

cdef tuple SIDES = ("client", "server")
cdef dict KINDS_OF_ERRORS = {kind.value: kind for kind in ErrorKind}
# In the order of Moment.what; what is counted and is no error has no kind.
cdef tuple ERROR_KINDS = tuple([KINDS_OF_ERRORS.get(name) for name in (
    *ANOMALY_NAMES, *[f"gap.{name}" for name in GAP_NAMES], "conflict", "evicted", *KIND_NAMES)])
cdef tuple REXMIT_KINDS = (None, *RexmitKind)
assert ERROR_KINDS[WHAT_GAP] is ErrorKind.GAP_LOST and ERROR_KINDS[WHAT_EVICTED] is ErrorKind.EVICTED
assert ERROR_KINDS[WHAT_MALFORMED + WIRE_BAD_TCP] is ErrorKind.MALFORMED_TCP


cdef inline int64_t clock_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


@cython.final
cdef class Timer:
    """A timer of a flow, made by `Flow.timer`.

    Attributes:
        active: Whether it is still to run out.
    """

    @property
    def due(self):
        """When it runs out, in seconds of the engine's clock."""
        return seconds(self.due_ns)

    def cancel(self):
        """Have it not run out; once it has, this does nothing."""
        self.active = False
        self.view = self.function = None


cdef class Callbacks(Registry):
    """The gate. Not to be made by itself: `aiomos.engine.engine.Engine` is one."""

    def __cinit__(self):
        self.views, self.free_views, self.timers = [None], [], []
        self.timer_ns = INT64_MAX
        self.pass_ns = INT64_MIN
        self.most_timers = FEW_TIMERS

    def __dealloc__(self):
        flows_close(&self.flows)
        streams_close(&self.streams)
        free(self.signals)

    cdef void watch_errors(self, bint watched) noexcept:
        self.streams.log_incidents = watched

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
        return 0 if self.busy else self.outlet.tell_news()

    @property
    def on_news(self):
        """Called when something is due, or to be sent, that no batch has brought about; may be set."""
        return self.outlet.on_news

    @on_news.setter
    def on_news(self, value):
        self.outlet.on_news = value

    cdef int cut(self, FlowRecord* flow, uint16_t flags) except -1 nogil:
        """Let no more of a flow pass; `aiomos.engine.engine.Engine` knows how."""
        return 0

    # --- raising --------------------------------------------------------------------------------------

    cdef int signal(self, FlowRecord* flow) except -1 nogil:
        """Have the flow looked at when the batch is delivered; its record stays until then."""
        cdef size_t capacity
        cdef uint32_t* signals
        if flow.flags & SIGNALLED:
            return 0
        if self.signal_count == self.signal_capacity:
            capacity = self.signal_capacity * 2 + 1024
            signals = <uint32_t*> realloc(self.signals, capacity * sizeof(uint32_t))
            if signals == NULL:
                with gil:
                    raise MemoryError("no memory to note which flows have news")
            self.signals = signals
            self.signal_capacity = capacity
        self.signals[self.signal_count] = flow_index(&self.flows, flow)
        self.signal_count += 1
        flow.flags |= SIGNALLED
        return 0

    cdef int raise_event(self, int slot, FlowRecord* flow, int side, const WirePacket* packet) except -1 nogil:
        """Raise an event that has no facts of its own."""
        cdef Moment m
        if packet != NULL and not is_awaited(self, slot, flow, packet):
            return 0
        moment_begin(&m, slot, flow, side, packet, packet.time_ns if packet != NULL else self.now_ns)
        return self.happen(&m)

    cdef int happen(self, Moment* m) except -1 nogil:
        """Judge the user-defined events of a moment, and call whoever waits for what has happened."""
        cdef const Interest* interest = rules_interest(&self.rules, m.flow)
        if not interest.events >> m.slot & 1 or not m.flow.flags & ANNOUNCED:
            return 0
        if interest.udes[m.slot]:
            m.scene.flow = m.flow
            m.scene.key = &m.flow.key
            m.scene.client_is_low = (m.flow.flags & CLIENT_IS_LOW) != 0
            self.judge(m, interest.udes[m.slot])
        if interest.plain >> m.slot & 1 or m.fired & interest.called[m.slot]:
            m.rules = rules_watching(&self.rules, m.flow)
            if m.only:
                m.rules &= m.only
            return self.call(m)
        return 0

    cdef void judge(self, Moment* m, uint64_t wanted) noexcept nogil:
        m.scene.streams = &self.streams
        m.fired = predicates_fire(self.programs[m.slot], &m.scene, wanted, &m.unsure) | m.unsure

    # --- the gate -------------------------------------------------------------------------------------

    cdef int call(self, Moment* m) except -1 with gil:
        """Call those who wait: for the event itself, then for the events upon it that fired, depth first."""
        cdef Moment* outer = self.current
        if self.fatal is not None:
            return 0
        m.outer = outer
        self.current = m
        self.depth += 1
        try:
            self.walk(self.roots[m.slot], m)
        except BaseException as error:             # it must not leave TCP processing half done
            self.end_run(error)
        finally:
            self.leave(outer)
        return 0

    cdef int leave(self, Moment* outer) except -1:
        """Callbacks have returned: what they were lent expires with the outermost ones."""
        cdef Flow view
        self.depth -= 1
        self.current = outer
        if self.depth:
            return 0
        self.emitted = 0
        if self.packet is not None:
            self.packet.expire()
            self.packet = None
        if self.passing is not None:
            views, self.passing = self.passing, None
            while views:
                view = views.pop()
                if Py_REFCNT(view) > 1:
                    view.detach()                  # a callback has kept it
        return 0

    cdef int end_run(self, object error) except -1:
        """Have the run end with an exception, the first one, once the batch is done."""
        if self.fatal is None:
            self.fatal = error
        return 0

    cdef int raise_fatal(self) except -1:
        """The batch is done: raise what a callback has raised to end the run."""
        if self.fatal is not None:
            error, self.fatal = self.fatal, None
            raise error
        return 0

    cdef int walk(self, Node node, Moment* m) except -1:
        cdef Call call
        cdef Node child
        for call in (node.calls if m.scene.side == CLIENT else node.back_calls):
            if call.active and m.rules & call.rule_bit:
                self.invoke(call, m)
        for child in node.children:
            if (m.by_hand or m.fired >> child.bit & 1) and self.holds(child, m):
                self.walk(child, m)
        return 0

    cdef bint holds(self, Node node, Moment* m) except -1:
        """Has the event of a node happened, after all?"""
        if not node.event.active or (
                m.flow != NULL and m.flow.flags & SILENCED and self.is_silenced(m.flow, node.event)):
            return False
        if m.by_hand and not self.picks(node.event.filter.program, m):
            return False
        if node.predicate is not None or m.by_hand or m.unsure >> node.bit & 1:
            try:
                if not self.apply(node.event.predicate, node.codes, node.count, node.event, node.account, m):
                    return False
            except Exception as error:
                self.failed(node.event, node.event.predicate, node.account, m, error)
                return False
        if node.event.once:
            self.silence(node.event, node.account, m)
        return True

    cdef bint picks(self, Program program, Moment* m):
        """Does a filter pick the flow at hand?"""
        if program is None:
            return False
        return run_filter(program.code, program.n, &m.scene)

    cdef int invoke(self, Call call, Moment* m) except -1:
        cdef Account account = call.account
        cdef int64_t begun = 0
        if call.starts >= 0:
            return self.start(call, m)
        if call.function is None:
            return self.invoke_own(call, m)
        if m.flow != NULL and m.flow.flags & SILENCED and self.is_silenced(m.flow, call):
            return 0
        account.callbacks += 1
        if account.callbacks % SAMPLED == 0:
            begun = clock_ns()
        try:
            self.apply(call.function, call.codes, call.count, call.event, account, m)
        except Exception as error:
            self.failed(call, call.function, account, m, error)
        if self.outlet.unprepared:
            self.outlet.unprepared = False
            self.note_edits(call)
        if begun:
            account.sampled_ns += clock_ns() - begun
        return 0

    cdef int invoke_own(self, Call call, Moment* m) except -1:
        """Call what single connections of the app have registered."""
        cdef Call own
        cdef Flow view = self.app_view(call.account, m)
        if view is None or view.own is None:
            return 0
        for own in view.own.get(call, ()):
            if own.active and m.rules & call.rule_bit:
                self.invoke(own, m)
        return 0

    cdef int start(self, Call call, Moment* m) except -1:
        """The event that a handler waits for has happened: the flow gets it now."""
        cdef FlowRecord* flow = m.flow
        if flow == NULL or flow.watchers == ANY_SET:
            return 0
        m.rules &= ~call.rule_bit
        rules_assign(&self.rules, flow, rules_intern(
            &self.rules, self.rules.sets[flow.watchers] & ~call.rule_bit | <uint64_t> 1 << call.starts))
        flow.flags |= TO_CONNECT
        return self.signal(flow)

    cdef object apply(self, object function, const uint8_t* codes, int count, object event, Account account, Moment* m):
        """Call a function with what it asks for."""
        if count == 1:
            return function(self.argument(codes[0], event, account, m))
        if count == 2:
            return function(self.argument(codes[0], event, account, m), self.argument(codes[1], event, account, m))
        return function(*[self.argument(codes[at], event, account, m) for at in range(count)])

    cdef object argument(self, uint8_t code, object event, Account account, Moment* m):
        cdef Flow view
        if code == ASKS_PKT:
            return self.packet_view(m)
        if code == ASKS_FLOW:
            return self.app_view(account, m)
        if code == ASKS_HALF:
            view = self.app_view(account, m)
            return None if view is None else (view.server if m.scene.side else view.client)
        if code == ASKS_SIDE:
            return SIDES[m.scene.side]
        if code == ASKS_TIME:
            return seconds(m.scene.now_ns)
        if code == ASKS_ENGINE:
            return self.face
        return self.occurrence(event, account, m, code != ASKS_EVENT)

    cdef Packet packet_view(self, Moment* m):
        """The packet of the moment, lent until the callbacks have returned."""
        if m.scene.packet == NULL:
            return None
        if self.packet is None or self.packet.p != m.scene.packet:
            self.packet = make_packet(m.scene.packet, m.scene.kind)
            self.packet.outlet, self.packet.interfaces = self.outlet, self.outlet.interfaces
        return self.packet

    cdef object occurrence(self, object event, Account account, Moment* m, bint keep):
        """What a callback is told of the moment; with *keep*, with a copy of the packet."""
        fields = {}
        if m.slot == SLOT_ERROR:
            fields["kind"] = ERROR_KINDS[m.what]
        elif m.slot == SLOT_REXMIT:
            fields["kind"] = REXMIT_KINDS[m.what]
        elif m.slot == SLOT_STATE or m.slot == SLOT_STATE_SENDER:
            fields["before"], fields["after"] = state_named(m.before), state_named(m.after)
        if m.length:
            fields["offset"], fields["length"] = m.offset, m.length
            if m.scene.packet != NULL and (m.slot == SLOT_REXMIT or m.what == WHAT_CONFLICT):
                fields["old"], fields["new"] = self.evidence(m)
        if keep and m.scene.packet != NULL:
            fields["packet"] = self.packet_view(m).copy()
        return Occurrence(event=event, flow=self.app_view(account, m), side=SIDES[m.scene.side],
                          time=seconds(m.scene.now_ns), **fields)

    cdef tuple evidence(self, Moment* m):
        """The bytes held where a segment stands, and those that it has; None where none are."""
        cdef uint8_t buffer[MOST_EVIDENCE]
        cdef uint64_t length = min(m.length, <uint64_t> MOST_EVIDENCE), held = 0
        cdef uint64_t skip = m.offset - m.segment_offset
        cdef uint32_t track = m.flow.halves[m.scene.side].track
        if track:
            held = track_read(&self.streams, track_at(&self.streams, track), m.offset, length, buffer)
        old = (<char*> buffer)[:held] if held else None
        if skip >= m.scene.packet.payload_cap:
            return old, None
        length = min(length, m.scene.packet.payload_cap - skip)
        return old, (<const char*> m.scene.packet.payload)[skip:skip + length]

    cdef int failed(self, object key, object function, Account account, Moment* m, object error) except -1:
        """A function raised: it is not called again for this flow."""
        account.errors += 1
        self.silence(key, account, m)
        self.on_callback_error(function, self.app_view(account, m), error)
        if self.fail_closed and self.outlet.in_line:
            self.outlet.dropped = True             # nothing, if no packet is in hand
            if m.flow != NULL and not m.flow.flags & ENDED:
                self.cut(m.flow, DROPPED)
        return 0

    cdef int silence(self, object key, Account account, Moment* m) except -1:
        """Have a callback or predicate not be called again for the flow at hand."""
        cdef Flow view
        if m.flow != NULL and m.slot != SLOT_TEARDOWN:
            view = self.view_of(m.flow, account)
            m.flow.flags |= SILENCED
            if view.silenced is None:
                view.silenced = set()
            view.silenced.add(key)
        return 0

    cdef bint is_silenced(self, FlowRecord* flow, object key) except -1:
        cdef Flow view = self.views[flow.hold]
        while view is not None:
            if view.silenced is not None and key in view.silenced:
                return True
            view = view.sibling
        return False

    # --- views of flows -------------------------------------------------------------------------------

    cdef Flow app_view(self, Account account, Moment* m):
        """An app's view of the flow at hand; None without one."""
        cdef Flow view
        if m.flow == NULL:
            return None
        if m.slot != SLOT_TEARDOWN or m.flow.hold:
            return self.view_of(m.flow, account)
        if self.passing is None:                   # a flow that ends and that nobody knew needs no lasting view
            self.passing = []
        for view in self.passing:
            if view.account is account:
                return view
        view = make_flow(m.flow, &self.streams, 0, account, self)
        self.passing.append(view)
        return view

    cdef Flow view_of(self, FlowRecord* flow, Account account):
        """An app's view of a flow, made when first needed; each app has its own, for what it keeps there."""
        cdef Flow first = self.views[flow.hold], view
        view = first
        while view is not None:
            if view.account is account:
                return view
            view = view.sibling
        view = make_flow(flow, &self.streams, flow_index(&self.flows, flow), account, self)
        if first is not None:
            view.sibling = first.sibling
            first.sibling = view
            return view
        view.connections = []
        if self.free_views:
            flow.hold = self.free_views.pop()
            self.views[flow.hold] = view
        else:
            flow.hold = <uint32_t> len(self.views)
            self.views.append(view)
        return view

    cdef FlowRecord* record_of(self, Flow view) except NULL:
        """The record of a flow that is still followed.

        Raises:
            FlowClosed: it has ended.
        """
        if not is_open(view):
            raise FlowClosed(flow=view)
        return <FlowRecord*> view.r

    # --- raised by hand -------------------------------------------------------------------------------

    def emit(self, event, Flow view not None):
        """Raise a user-defined event on a flow: its callbacks run now, then the events upon it are looked at.

        Raises:
            FlowClosed: the flow has ended.
            RecursionError: callbacks that emit have come too deep, or there is no end of what they emit.
        """
        cdef Moment m
        cdef Node node
        cdef Moment* outer = self.current
        if self.depth >= MOST_DEPTH:
            raise RecursionError(f"{event.name} is emitted by callbacks {MOST_DEPTH} deep")
        if self.depth and self.emitted >= MOST_EMITTED:
            raise RecursionError(f"{event.name}: callbacks have emitted {MOST_EMITTED} events at one moment")
        memset(&m, 0, sizeof(m))
        m.flow = self.record_of(view)
        m.by_hand = True
        m.scene.now_ns = self.now_ns
        if outer != NULL and outer.flow == m.flow:
            m.scene = outer.scene
        m.scene.flow = m.flow
        m.scene.key = &m.flow.key
        m.scene.client_is_low = (m.flow.flags & CLIENT_IS_LOW) != 0
        m.outer = outer
        m.rules = rules_watching(&self.rules, m.flow)
        self.current = &m
        self.depth += 1
        self.emitted += 1
        try:
            for node in [node for (named, _), node in self.nodes.items() if named is event]:
                m.slot = node.slot
                self.walk(node, &m)
        finally:
            self.leave(outer)

    # --- timers ---------------------------------------------------------------------------------------

    cdef int64_t clock(self):
        """The time now: that of the frame in hand, or between batches that of the transport, if it has one."""
        if not self.busy and self.read_clock is not None:
            return max(held_within(self.read_clock()), self.now_ns)
        return self.now_ns

    def set_timer(self, Flow view not None, delay, function):
        """Have a timer of a flow run out after *delay* seconds of the engine's clock; see `Flow.timer`."""
        cdef Timer timer = Timer.__new__(Timer)
        self.record_of(view)
        if (<Account?> view.account).detached:
            raise FlowClosed(flow=view)
        if len(self.timers) >= self.most_timers:
            self.drop_timers()
        timer.view, timer.function, timer.active = view, function, True
        timer.due_ns = self.due_of(nanoseconds(delay))
        self.tickets += 1
        heapq.heappush(self.timers, (timer.due_ns, self.tickets, timer))
        if view.timers is None:
            view.timers = []
        elif len(view.timers) >= FEW_TIMERS:
            view.timers = [other for other in view.timers if (<Timer> other).active]
        view.timers.append(timer)
        self.timer_ns = self.timers[0][0]
        if timer.due_ns == self.timer_ns:
            self.next_tick_ns = min(self.next_tick_ns, self.timer_ns)
            self.tell_news()
        return timer

    cdef int64_t due_of(self, int64_t delay_ns) except? -1:
        """When a timer is to run out; one that is set by another that does so, not before the clock has gone on.

        Else one that sets itself anew would never let it go on.
        """
        cdef int64_t due_ns = self.clock() + delay_ns
        if self.pass_ns != INT64_MIN:
            due_ns = max(due_ns, self.now_ns + LEAST_DELAY_NS)
            if delay_ns < LEAST_DELAY_NS or self.ran_out >= MOST_RAN_OUT:
                due_ns = max(due_ns, self.pass_ns + 1)
        return due_ns

    cdef int call_timer(self, Timer timer, Moment* m) except -1:
        cdef Flow view = timer.view
        function = timer.function
        try:
            try:
                function(view)
            except Exception as error:
                self.failed(timer, function, view.account, m, error)
        except BaseException as error:
            self.end_run(error)
        return 0

    cdef bint is_watched(self, Flow view) except -1:
        """Does the app of a view still watch the flow?"""
        return (rules_watching(&self.rules, <FlowRecord*> view.r) & (<Account?> view.account).rules) != 0

    cdef int drop_timers(self) except -1:
        """Let timers go that will not run out any more; done when there are twice as many as were left last time."""
        self.timers = [entry for entry in self.timers if may_run_out(entry[2])]
        heapq.heapify(self.timers)
        self.most_timers = max(2 * len(self.timers), <Py_ssize_t> FEW_TIMERS)
        return 0

    cdef int cancel_timers(self, Account account) except -1:
        """Have no timer of an app run out."""
        cdef Timer timer
        for _, _, timer in self.timers:
            if timer.active and timer.view is not None and timer.view.account is account:
                timer.cancel()
        return 0

    cdef int move_timers(self, int64_t by_ns) except -1 with gil:
        """Have all timers run out so much later: the clock is set to another time. Their order stays."""
        cdef Timer timer
        for _, _, timer in self.timers:
            timer.due_ns += by_ns
        self.timers = [(due_ns + by_ns, ticket, timer) for due_ns, ticket, timer in self.timers]
        self.timer_ns += by_ns
        return 0

    cdef int run_timers(self) except -1 with gil:
        """Let the timers run out that are due now."""
        cdef Timer timer
        cdef Flow view
        cdef Moment m
        while self.fatal is None and self.timers and self.timers[0][0] <= self.now_ns:
            timer = heapq.heappop(self.timers)[2]
            view = timer.view
            if not (may_run_out(timer) and self.is_watched(view)):
                continue
            timer.active = False
            self.ran_out += 1
            moment_begin(&m, SLOT_TIMEOUT, <FlowRecord*> view.r, CLIENT, NULL, timer.due_ns)
            if timer.function is None:
                m.only = (<Account?> view.account).rules
                self.happen(&m)
            else:
                self.call_timer(timer, &m)
        self.timer_ns = self.timers[0][0] if self.timers and self.fatal is None else INT64_MAX
        return 0


cdef bint is_open(Flow view) noexcept:
    """Is the flow still followed?"""
    return view is not None and view.streams != NULL and view.index != 0 and not view.r.flags & ENDED


cdef bint may_run_out(Timer timer) noexcept:
    """Is a timer still set, on a flow that is still followed?"""
    return timer.active and is_open(timer.view)


seal(Timer)
mark_part(Callbacks)
