"""Timers of flows, by the engine's clock, and how time passes: they run out, and flows end, in order."""

cimport cython
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from aiomos.engine.clock cimport Clock
from aiomos.engine.core cimport Core, Moment, moment_begin
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings, is_open
from aiomos.engine.lifetimes cimport flows_set_back, turn_wheel
from aiomos.engine.raising cimport happen
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport CLIENT, FlowRecord
from aiomos.ude.rules cimport rules_watching
from aiomos.ude.slots cimport SLOT_TIMEOUT
from aiomos.wire.clock cimport nanoseconds, seconds
from aiomos.wire.wheel cimport wheel_rests_until

import heapq

from aiomos.errors import FlowClosed

cdef enum:
    FEW_TIMERS = 64
    MOST_RAN_OUT = 65536       # timers that run out before those set meanwhile have to wait for the clock
    LEAST_DELAY_NS = 1_000_000     # of a timer that is set by one that runs out


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


@cython.final
cdef class FlowTimers:
    """The timers that apps have set on flows."""

    def set_timer(self, Flow view not None, delay, function):
        """Have a timer of a flow run out after *delay* seconds of the engine's clock; see `Flow.timer`."""
        cdef Timer timer = Timer.__new__(Timer)
        self.holdings.record_of(view)
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
        self.core.timer_ns = self.timers[0][0]
        if timer.due_ns == self.core.timer_ns:
            self.core.next_tick_ns = min(self.core.next_tick_ns, self.core.timer_ns)
            self.clock.tell_news()
        return timer

    cdef int64_t due_of(self, int64_t delay_ns) except? -1:
        """When a timer is to run out; one that is set by another that does so, not before the clock has gone on.

        Else one that sets itself anew would never let it go on.
        """
        cdef int64_t due_ns = self.clock.now() + delay_ns
        if self.pass_ns != INT64_MIN:
            due_ns = max(due_ns, self.core.now_ns + LEAST_DELAY_NS)
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
                self.gate.failed(timer, function, view.account, m, error)
        except BaseException as error:
            self.gate.end_run(error)
        return 0

    cdef bint is_watched(self, Flow view) except -1:
        """Does the app of a view still watch the flow?"""
        return (rules_watching(&self.core.rules, <FlowRecord*> view.r) & (<Account?> view.account).rules) != 0

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
        if self.core.timer_ns != INT64_MAX:
            self.core.timer_ns += by_ns
        if self.clock.on_set_back is not None:
            self.clock.on_set_back(by_ns)
        return 0

    cdef int run_timers(self) except -1 with gil:
        """Let the timers run out that are due now."""
        cdef Timer timer
        cdef Flow view
        cdef Moment m
        while self.gate.fatal is None and self.timers and self.timers[0][0] <= self.core.now_ns:
            timer = heapq.heappop(self.timers)[2]
            view = timer.view
            if not (may_run_out(timer) and self.is_watched(view)):
                continue
            timer.active = False
            self.ran_out += 1
            moment_begin(&m, SLOT_TIMEOUT, <FlowRecord*> view.r, CLIENT, NULL, timer.due_ns)
            if timer.function is None:
                m.only = (<Account?> view.account).rules
                happen(self.core, &m)
            else:
                self.call_timer(timer, &m)
        self.core.timer_ns = self.timers[0][0] if self.timers and self.gate.fatal is None else INT64_MAX
        return 0

    cdef int set_back(self, int64_t now_ns) except -1 nogil:
        """Set the clock to another time: that of the only frame so far was wild."""
        self.move_timers(now_ns - self.core.now_ns)
        flows_set_back(self.core, now_ns)
        return 0

    cdef int advance(self, int64_t now_ns) except -1 nogil:
        """Let time pass: timers run out, and flows end, in the order of their times."""
        if self.core.timer_ns <= now_ns:
            self.pass_ns, self.ran_out = now_ns, 0
            while self.core.timer_ns <= now_ns:
                self.core.now_ns = self.core.timer_ns
                turn_wheel(self.core, self.core.now_ns)
                self.run_timers()
            self.pass_ns = INT64_MIN
        self.core.now_ns = now_ns
        turn_wheel(self.core, now_ns)
        self.core.next_tick_ns = min(wheel_rests_until(&self.core.flows.wheel), self.core.timer_ns)
        return 0


cdef bint may_run_out(Timer timer) noexcept:
    """Is a timer still set, on a flow that is still followed?"""
    return timer.active and is_open(timer.view)


cdef FlowTimers new_flow_timers(Core core, Holdings holdings, Clock clock, Gate gate):
    cdef FlowTimers timers = FlowTimers.__new__(FlowTimers)
    timers.core, timers.holdings, timers.clock, timers.gate = core, holdings, clock, gate
    timers.timers = []
    timers.pass_ns = INT64_MIN
    timers.most_timers = FEW_TIMERS
    return timers


seal(Timer)
seal(FlowTimers)
