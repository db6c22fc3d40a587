"""The flow engine of one core: frames and the time go in, connections, their bytes and callbacks come out.

It joins the parts, each with fields of its own, and is what others have of them. It does no input or output and reads
no clock: time is that of the frames.
"""

from libc.stddef cimport size_t
cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint8_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp

from aiomos.engine.attention cimport new_attention
from aiomos.engine.clock cimport new_clock
from aiomos.engine.core cimport MOST_BATCH_FRAMES, new_core
from aiomos.engine.delivery cimport new_delivery
from aiomos.engine.flow_timers cimport new_flow_timers
from aiomos.engine.gate cimport new_gate
from aiomos.engine.holdings_of_apps cimport new_holdings
from aiomos.engine.intake cimport new_intake
from aiomos.engine.lifetimes cimport cut_flow, end_flow, in_table
from aiomos.engine.registry cimport Account, Call, new_registry
from aiomos.engine.sending cimport send_all
from aiomos.engine.statistics cimport count_flows, statistics
from aiomos.face.views cimport Flow
from aiomos.host.host cimport Host
from aiomos.tcp.flows cimport DROPPED, FlowKey, FlowRecord, REASON_END_OF_CAPTURE, RESETTING, flow_at, flow_index
from aiomos.transport.source cimport FrameSource
from aiomos.transport.transport cimport Transport
from aiomos.wire.clock cimport seconds
from aiomos.wire.defrag cimport Defragmenter
from aiomos.wire.frame cimport Frame
from aiomos.wire.times cimport held_within
from aiomos.wire.wheel cimport wheel_next_ns

from aiomos.engine.statistics import open_flows
from aiomos.errors import NotInLineError

cdef enum:
    FINISH_SLICE = 4096        # flows ended between two deliveries when frames run out


@cython.no_gc_clear                                # what it tells the core of its end is still there then
cdef class Engine:
    """One core's flows. Made by the runtime, which feeds it and runs what it hands over.

    Args:
        settings: Budgets, time-outs, how frames are read.
        key: 16 secret bytes that key the hash of the flow table.
        on_callback_error: Called with the function, the flow and the exception a callback raised; what
            it raises itself stops the run.
        shard: Of how many shares of the flows it takes which, ``(index, count)``, from batches that all workers get.

    Raises:
        MemoryError: the address space for the budgets cannot be had.
        ValueError: *key* has another length.
    """

    def __cinit__(self, settings, const uint8_t[::1] key not None, on_callback_error, shard=(0, 1)):
        cdef bytes secret = bytes(key)
        if len(secret) != 16:
            raise ValueError(f"the key is 16 bytes, not {len(secret)}")
        self.key = secret
        self.core = new_core(settings, secret)
        self.core.engine = <void*> self
        self.registry = new_registry(self.core)
        self.holdings = new_holdings(self.core)
        self.clock = new_clock(self.core)
        self.gate = new_gate(self.core, self.registry, self.holdings, on_callback_error, settings.fail == "closed")
        self.flow_timers = new_flow_timers(self.core, self.holdings, self.clock, self.gate)
        self.attention = new_attention(self.core, self.registry, self.holdings, self.gate, self.flow_timers)
        self.delivery = new_delivery(self.core, self.registry, self.holdings, self.gate, self.attention)
        self.intake = new_intake(self.core, self.clock, self.flow_timers,
                                 Defragmenter(secret, memory=settings.budgets.fragment_bytes), shard)

    def __dealloc__(self):
        if self.core is not None:
            self.core.engine = self.core.gate = NULL
        free(self.remaining)

    def feed(self, FrameSource source not None):
        """Process the current batch of a transport and hand over what came of it.

        Raises:
            RuntimeError: from inside a callback.
        """
        self.intake.partial = self.intake.shards > 1 and source.heard_by_all
        self.run_batch(source.frames, source.count)

    cdef int run_batch(self, const Frame* frames, size_t count) except -1:
        self.clock.begin()
        try:
            if self.registry.chatty:               # the interpreter is needed at every packet: do not let it go
                self.intake.run(frames, count)
            else:
                with nogil:
                    self.intake.run(frames, count)
            self.pass_time_of_host()
            self.delivery.deliver()
            self.delivery.tell_sessions()
            if self.intake.unread_told != self.intake.unread_table.used:
                self.intake.tell_unread()
        finally:
            self.clock.busy = False
        return self.gate.raise_fatal()

    cdef void pass_time_of_host(self) noexcept:
        if self.core.outlet.may_send:
            self.core.host.pass_time(self.core.now_ns)

    def pass_time(self, time_ns):
        """Let time pass without frames: what is due until *time_ns*, nanoseconds since the epoch, happens.

        Raises:
            RuntimeError: from inside a callback.
        """
        cdef int64_t now_ns = held_within(time_ns)
        if self.intake.holds_frame:
            self.run_batch(NULL, 0)
        if now_ns < self.core.now_ns or now_ns == self.core.now_ns < self.due_ns():
            return
        self.clock.begin()
        self.core.now_ns = now_ns
        self.core.line.translation.pass_time(now_ns)
        try:
            with nogil:
                if now_ns >= self.core.next_tick_ns:
                    self.flow_timers.advance(now_ns)
            self.pass_time_of_host()
            self.delivery.deliver()
            self.delivery.tell_sessions()
        finally:
            self.clock.busy = False
        self.gate.raise_fatal()

    @property
    def deadline_ns(self):
        """When pass_time() has something to do if no frame comes before, nanoseconds since the epoch; None: never."""
        cdef int64_t due = self.due_ns()
        return due if due != INT64_MAX else None

    cdef int64_t due_ns(self) noexcept:
        """When something is due: a flow to be looked at, a timer, a session, a neighbour; INT64_MAX: never."""
        cdef int64_t due = min(wheel_next_ns(&self.core.flows.wheel), self.core.timer_ns,
                               self.core.line.translation.due_ns())
        return min(due, self.core.host.next_due()) if self.core.outlet.may_send else due

    def finish(self):
        """End the next slice of flows for want of frames, oldest first; False when none is left."""
        cdef size_t done = 0
        if self.intake.holds_frame:
            self.run_batch(NULL, 0)
        if self.core.outlet.may_send:
            self.core.host.end()
        self.clock.begin()
        try:
            if self.remaining == NULL:
                self.list_remaining()
            with nogil:
                while self.remaining_count and done < FINISH_SLICE:
                    self.remaining_count -= 1
                    done += 1
                    end_flow(self.core, self.remaining[self.remaining_count], REASON_END_OF_CAPTURE)
            self.delivery.deliver()
            self.delivery.tell_sessions()
        finally:
            self.clock.busy = False
        self.gate.raise_fatal()
        return self.remaining_count > 0

    cdef int list_remaining(self) except -1:
        """Note all open flows, the youngest first."""
        cdef uint32_t index
        cdef FlowRecord* flow
        self.remaining = <FlowRecord**> malloc((self.core.flows.table.count + 1) * sizeof(FlowRecord*))
        if self.remaining == NULL:
            raise MemoryError("no memory to list the open flows")
        for index in range(1, self.core.flows.pool.high_water + 1):
            flow = flow_at(&self.core.flows, index)
            if in_table(flow):
                self.remaining[self.remaining_count] = flow
                self.remaining_count += 1
        qsort(self.remaining, self.remaining_count, sizeof(FlowRecord*), younger_first)
        return 0

    def open(self, forwards, interfaces, links=()):
        """Have frames sent, and in line passed on; before the first is fed.

        Args:
            forwards: For each interface that by which its frames go on; empty where they are only watched.
            interfaces: Their names.
            links: MAC address, empty where it is not known, and MTU of each.
        """
        self.core.line.open(forwards, interfaces, self.core.flow_budget + MOST_BATCH_FRAMES)
        self.core.host = Host(self.core.outlet, self.key, list(links))

    def flush(self, Transport transport not None):
        """Have a transport send what is to be sent.

        Returns:
            Whether it had no room for something, of which `short` tells where.
        """
        if self.core.outlet.count or self.core.outlet.full_count:
            send_all(self.core.outlet, transport)
        return self.core.outlet.full_count > 0

    @property
    def short(self):
        """The interfaces for which frames wait, or room is asked for, that the wire did not have at the last flush."""
        return self.core.outlet.short

    def send(self, frame, interface, linktype):
        """Send a frame of an app's making: after those before it, or between batches at once."""
        self.core.outlet.send(frame, interface, linktype)
        self.clock.tell_news()

    def drop_flow(self, Flow view not None):
        """Let nothing of a flow pass any more; see `Flow.drop`."""
        cdef FlowRecord* flow = self.holdings.record_of(view)
        if not self.core.outlet.decides:
            raise NotInLineError
        if not flow.flags & DROPPED:
            cut_flow(self.core, flow, DROPPED)
            self.clock.tell_news()

    def reset_flow(self, Flow view not None):
        """End a connection by RST to both ends; see `Flow.reset`."""
        cdef FlowRecord* flow = self.holdings.record_of(view)
        if not self.core.outlet.may_send:
            raise NotInLineError("there is no wire to send a RST to: frames come from a capture")
        if not flow.flags & RESETTING:
            self.core.line.paths.reset_ends(flow, flow_index(&self.core.flows, flow))
            cut_flow(self.core, flow, DROPPED | RESETTING)
            self.clock.tell_news()

    @property
    def now(self):
        """Time of the latest frame, or live the time, seconds since the epoch; 0.0 before the first."""
        return seconds(self.clock_ns)

    @property
    def clock_ns(self):
        """The same in nanoseconds."""
        cdef int64_t now_ns = self.clock.now()
        return now_ns if now_ns != INT64_MIN else 0

    def open_flows(self):
        """Yield what is known of each flow that has not ended, as a `Flow` that stays as it is."""
        return open_flows(self.core)

    def count_flows(self, accounts):
        """How many flows each of several apps watches now, by their accounts."""
        return count_flows(self.core, accounts)

    def unread(self):
        """Tell what was not read; see `Intake.unread`."""
        return self.intake.unread()

    def statistics(self):
        """Counters by name; see docs/reference/counters.md."""
        return statistics(self.core, self.intake)

    # --- its parts, to those who have the engine --------------------------------------------------------

    def add_account(self, name):
        """See `Registry.add_account`."""
        return self.registry.add_account(name)

    def add_rule(self, program, level, **how):
        """See `Registry.add_rule`."""
        self.attention.number_rules()
        return self.registry.add_rule(program, level, **how)

    def add_call(self, rule, event, hook, function, parameters, edits=None):
        """See `Registry.add_call`."""
        return self.registry.add_call(rule, event, hook, function, parameters, edits)

    def start_at(self, rule, event, opener):
        """See `Registry.start_at`."""
        self.attention.number_rules()
        return self.registry.start_at(rule, event, opener)

    def slot_of(self, event, hook):
        """See `Registry.slot_of`."""
        return self.registry.slot_of(event, hook)

    def remove_call(self, Call call not None):
        """See `Registry.remove_call`."""
        self.registry.remove_call(call)

    def remove_rule(self, number):
        """See `Registry.remove_rule`."""
        self.registry.remove_rule(number)

    def remove_event(self, event):
        """See `Attention.remove_event`."""
        self.attention.remove_event(event)

    def remove_account(self, Account account not None):
        """See `Attention.remove_account`."""
        return self.attention.remove_account(account)

    def sweep_on(self):
        """See `Attention.sweep_on`."""
        return self.attention.sweep_on()

    def pick_up(self, rules):
        """See `Attention.pick_up`."""
        return self.attention.pick_up(rules)

    def pick_on(self):
        """See `Attention.pick_on`."""
        return self.attention.pick_on()

    def stop(self, Flow view not None):
        """See `Attention.stop`."""
        self.attention.stop(view)

    def listen(self, Flow view not None, event, hook, function, parameters):
        """See `Attention.listen`."""
        return self.attention.listen(view, event, hook, function, parameters)

    def ignore(self, Flow view not None, Call own not None):
        """See `Attention.ignore`."""
        self.attention.ignore(view, own)

    def released(self, Flow view not None):
        """See `Attention.released`."""
        self.attention.released(view)

    def own_call(self, Account account not None, event, hook):
        """See `Attention.own_call`."""
        return self.attention.own_call(account, event, hook)

    def emit(self, event, Flow view not None):
        """See `Gate.emit`."""
        self.gate.emit(event, view)

    def set_timer(self, Flow view not None, delay, function):
        """See `FlowTimers.set_timer`."""
        return self.flow_timers.set_timer(view, delay, function)

    @property
    def on_unread(self):
        """Called with layer and number of what may hide flows, when first seen; or None."""
        return self.intake.on_unread

    @on_unread.setter
    def on_unread(self, function):
        self.intake.on_unread = function

    @property
    def line(self):
        """What becomes of the packet in hand, and what is sent."""
        return self.core.line

    @property
    def host(self):
        """Who we are on our links; None where frames come from a capture."""
        return self.core.host

    def find_neighbour(self, interface, address, own):
        """See `Host.find`."""
        found = self.core.host.find(interface, address, own, self.clock_ns)
        self.clock.tell_news()
        return found

    def announce(self, interface, address):
        """See `Host.announce`."""
        self.core.host.announce(interface, address)
        self.clock.tell_news()

    @property
    def face(self):
        """What callbacks get that ask for ``engine``: the `Runtime`; None without one."""
        return self.gate.face

    @face.setter
    def face(self, face):
        self.gate.face = face

    @property
    def on_news(self):
        """Called when something is due, or to be sent, that no batch has brought about."""
        return self.core.outlet.on_news

    @on_news.setter
    def on_news(self, function):
        self.core.outlet.on_news = function

    @property
    def on_set_back(self):
        """Called with the nanoseconds by which the clock moves: its first time was wild."""
        return self.clock.on_set_back

    @on_set_back.setter
    def on_set_back(self, function):
        self.clock.on_set_back = function

    @property
    def read_clock(self):
        """Nanoseconds since the epoch, of a live transport; or None."""
        return self.clock.read_clock

    @read_clock.setter
    def read_clock(self, function):
        self.clock.read_clock = function


cdef int younger_first(const void* a, const void* b) noexcept nogil:
    """Order of two flows, the one that began later first; keys decide among those that began at once."""
    cdef const FlowRecord* one = (<const FlowRecord**> a)[0]
    cdef const FlowRecord* other = (<const FlowRecord**> b)[0]
    if one.started_ns != other.started_ns:
        return -1 if one.started_ns > other.started_ns else 1
    return memcmp(&other.key, &one.key, sizeof(FlowKey))
