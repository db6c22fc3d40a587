"""Callbacks: the gate through which TCP processing calls apps.

Where the watchers of a flow wait for an event, its user-defined events are judged
without the interpreter first; only if there is somebody to call does the gate open. Behind it the tree of the event is
walked: callbacks of an event, then the events upon it that fired.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from aiomos.engine.core cimport Core, Moment, WHAT_CONFLICT, WHAT_EVICTED, WHAT_GAP, WHAT_MALFORMED, signal_flow
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.lifetimes cimport cut_flow
from aiomos.engine.registry cimport (
    ASKS_ENGINE,
    ASKS_EVENT,
    ASKS_FLOW,
    ASKS_HALF,
    ASKS_PKT,
    ASKS_SIDE,
    ASKS_TIME,
    Account,
    Call,
    Node,
    Registry,
    SAMPLED,
)
from aiomos.face.packets cimport Packet, make_packet
from aiomos.face.views cimport Flow, state_named
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport CLIENT, CLIENT_IS_LOW, DROPPED, ENDED, FlowRecord, SILENCED, TO_CONNECT
from aiomos.tcp.holdings cimport track_evidence
from aiomos.tcp.tracks cimport track_at
from aiomos.ude.machine cimport Program, run_filter
from aiomos.ude.rules cimport ANY_SET, rules_assign, rules_intern, rules_watching
from aiomos.ude.slots cimport SLOT_ERROR, SLOT_REXMIT, SLOT_STATE, SLOT_STATE_SENDER
from aiomos.wire.clock cimport seconds
from aiomos.wire.wire cimport WIRE_BAD_TCP

from aiomos.face.chunks import GAP_NAMES
from aiomos.face.packets import KIND_NAMES
from aiomos.tcp.monitor import ANOMALY_NAMES
from aiomos.ude.events import ErrorKind, Occurrence, RexmitKind

cdef enum:
    MOST_DEPTH = 16            # of callbacks that emit events whose callbacks emit events
    MOST_EMITTED = 65536       # events that callbacks emit before the first of them has returned
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
cdef class Gate:
    """What TCP processing calls apps through."""

    cdef int call(self, Moment* m) except -1:
        """Call those who wait: for the event itself, then for the events upon it that fired, depth first."""
        cdef Moment* outer = self.current
        if self.fatal is not None:
            return 0
        m.outer = outer
        self.current = m
        self.depth += 1
        try:
            self.walk(self.registry.roots[m.slot], m)
        except BaseException as error:             # it must not leave TCP processing half done
            self.end_run(error)
        finally:
            self.leave(outer)
        return 0

    cdef int leave(self, Moment* outer) except -1:
        """Callbacks have returned: what they were lent expires with the outermost ones."""
        self.depth -= 1
        self.current = outer
        if self.depth:
            return 0
        self.emitted = 0
        if self.packet is not None:
            self.packet.expire()
            self.packet = None
        self.holdings.expire_passing()
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
                m.flow != NULL and m.flow.flags & SILENCED and self.holdings.is_silenced(m.flow, node.event)):
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
            self.holdings.silence(node.event, node.account, m)
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
        if m.flow != NULL and m.flow.flags & SILENCED and self.holdings.is_silenced(m.flow, call):
            return 0
        account.callbacks += 1
        if account.callbacks % SAMPLED == 0:
            begun = clock_ns()
        try:
            self.apply(call.function, call.codes, call.count, call.event, account, m)
        except Exception as error:
            self.failed(call, call.function, account, m, error)
        if self.core.line.changes.unprepared:
            self.core.line.changes.unprepared = False
            self.registry.note_edits(call)
        if begun:
            account.sampled_ns += clock_ns() - begun
        return 0

    cdef int invoke_own(self, Call call, Moment* m) except -1:
        """Call what single connections of the app have registered."""
        cdef Call own
        cdef Flow view = self.holdings.app_view(call.account, m)
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
        rules_assign(&self.core.rules, flow, rules_intern(
            &self.core.rules, self.core.rules.sets[flow.watchers] & ~call.rule_bit | <uint64_t> 1 << call.starts))
        flow.flags |= TO_CONNECT
        return signal_flow(self.core, flow)

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
            return self.holdings.app_view(account, m)
        if code == ASKS_HALF:
            view = self.holdings.app_view(account, m)
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
            self.packet.line, self.packet.interfaces = self.core.line, self.core.outlet.interfaces
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
        return Occurrence(event=event, flow=self.holdings.app_view(account, m), side=SIDES[m.scene.side],
                          time=seconds(m.scene.now_ns), **fields)

    cdef tuple evidence(self, Moment* m):
        """The bytes held where a segment stands, and those that it has; None where none are."""
        cdef uint8_t buffer[MOST_EVIDENCE]
        cdef uint64_t length = min(m.length, <uint64_t> MOST_EVIDENCE), held = 0
        cdef uint64_t skip = m.offset - m.segment_offset
        cdef uint32_t track = m.flow.halves[m.scene.side].track
        if track:
            held = track_evidence(&self.core.streams, track_at(&self.core.streams, track), m.offset, length, buffer)
        old = (<char*> buffer)[:held] if held else None
        if skip >= m.scene.packet.payload_cap:
            return old, None
        length = min(length, m.scene.packet.payload_cap - skip)
        return old, (<const char*> m.scene.packet.payload)[skip:skip + length]

    cdef int failed(self, object key, object function, Account account, Moment* m, object error) except -1:
        """A function raised: it is not called again for this flow."""
        account.errors += 1
        self.holdings.silence(key, account, m)
        self.on_callback_error(function, self.holdings.app_view(account, m), error)
        if self.fail_closed and self.core.outlet.decides:
            self.core.line.hand.dropped = True          # nothing, if no packet is in hand
            if m.flow != NULL and not m.flow.flags & ENDED:
                cut_flow(self.core, m.flow, DROPPED)
        return 0

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
        m.flow = self.holdings.record_of(view)
        m.by_hand = True
        m.scene.now_ns = self.core.now_ns
        if outer != NULL and outer.flow == m.flow:
            m.scene = outer.scene
        m.scene.flow = m.flow
        m.scene.key = &m.flow.key
        m.scene.client_is_low = (m.flow.flags & CLIENT_IS_LOW) != 0
        m.outer = outer
        m.rules = rules_watching(&self.core.rules, m.flow)
        self.current = &m
        self.depth += 1
        self.emitted += 1
        try:
            for node in [node for (named, _), node in self.registry.nodes.items() if named is event]:
                m.slot = node.slot
                self.walk(node, &m)
        finally:
            self.leave(outer)


cdef int call_through(void* gate, Moment* m) except -1 with gil:
    return (<Gate> gate).call(m)


cdef Gate new_gate(Core core, Registry registry, Holdings holdings, on_callback_error, bint fail_closed):
    """The gate of an engine; *on_callback_error* is called with function, flow and what it raised."""
    cdef Gate gate = Gate.__new__(Gate)
    gate.core, gate.registry, gate.holdings = core, registry, holdings
    gate.on_callback_error, gate.fail_closed = on_callback_error, fail_closed
    core.gate, core.open_gate = <void*> gate, call_through
    return gate


seal(Gate)
