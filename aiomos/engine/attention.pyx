"""Attention: who watches a running flow, and how much work is therefore done on it.

Apps come and go, connections give up a half or all of it: each time the flow is set to the least that those who are
left need together (paper, section 4.3).
"""

cimport cython
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from aiomos.engine.core cimport Core, Moment
from aiomos.engine.flow_timers cimport FlowTimers
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings, is_open
from aiomos.engine.registry cimport Account, Call, Registry, new_call
from aiomos.engine.watching cimport free_tracks, open_tracks, settle_half, watch_flow
from aiomos.face.streams cimport MonitorConnection, Stream
from aiomos.face.views cimport Flow
from aiomos.levels cimport BYTES_LEVEL, STATE_LEVEL, STREAM_LEVEL
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport CLIENT_IS_LOW, ENDED, FlowRecord, KEEP, TO_CONNECT, flow_at
from aiomos.ude.rules cimport (
    ANY_SET,
    Need,
    Rule,
    rules_assign,
    rules_begin_round,
    rules_blocked,
    rules_end_round,
    rules_forget,
    rules_held_up,
    rules_intern,
    rules_match,
    rules_need,
    rules_reclaim,
    rules_watching,
)

from aiomos.errors import RegistrationError

cdef enum:
    PICK_FLOWS = 8192          # looked at in one turn for a rule that is new: a millisecond,
    SWEEP_FLOWS = 4096         # and for rules that were removed


@cython.final
cdef class Attention:
    """Who watches a running flow, and how much of it is therefore followed."""

    def pick_up(self, rules):
        """Show running flows to rules that were added meanwhile and take flows in mid-stream.

        Args:
            rules: Their numbers.

        Returns:
            Whether there are so many flows that pick_on() is to be called for the rest.
        """
        cdef uint32_t index
        cdef uint64_t added = 0
        for index in rules:
            self.registry.owner(index)
            added |= <uint64_t> 1 << index
        self.picking |= added
        self.picked_to = 0
        return self.pick_on()

    def pick_on(self):
        """Go on with what pick_up() began, between batches; whether there are more flows."""
        cdef uint64_t matching
        cdef uint32_t index
        cdef FlowRecord* flow
        cdef uint32_t last = min(self.picked_to + PICK_FLOWS, <uint32_t> self.core.flows.pool.high_water)
        for index in range(self.picked_to + 1, last + 1 if self.picking else 0):
            flow = flow_at(&self.core.flows, index)
            if flow.flags & ENDED or flow.watchers == ANY_SET:
                continue
            matching = self.picking & rules_match(&self.core.rules, &flow.key, (flow.flags & CLIENT_IS_LOW) != 0, True)
            if matching & ~self.core.rules.sets[flow.watchers]:  # else it began with the rule there
                watch_flow(self.core, flow, self.core.rules.sets[flow.watchers] | matching)
                self.relevel(flow)
        self.picked_to = last
        if last == self.core.flows.pool.high_water:
            self.picking = 0
        return self.picking != 0

    def stop(self, Flow view not None):
        """Have an app watch a flow no more."""
        cdef FlowRecord* flow = <FlowRecord*> view.r
        cdef Account account = view.account
        cdef Moment* moment = self.gate.current
        cdef MonitorConnection connection
        if view.streams == NULL or view.index == 0 or account is None:  # gone, or made for its last callbacks
            return
        while moment != NULL:
            if moment.flow == flow:
                moment.rules &= ~account.rules
            moment = moment.outer
        rules_assign(&self.core.rules, flow, rules_intern(
            &self.core.rules, rules_watching(&self.core.rules, flow) & ~account.rules))
        for connection in list((<Flow> self.holdings.views[flow.hold]).connections):
            if connection.wiring.flow is view:
                connection.leave()
        self.relevel(flow)

    def listen(self, Flow view not None, event, hook, function, parameters):
        """Have a function called at an event for one flow only.

        Returns:
            The call, for ignore().

        Raises:
            FlowClosed: the flow has ended.
            RegistrationError: as add_call() does.
        """
        cdef FlowRecord* flow = self.holdings.record_of(view)
        cdef Account account = view.account
        cdef uint16_t watchers
        cdef Call shared = self.own_call(account, event, hook)
        cdef Call own = new_call(account, event, function, parameters, shared.node, shared.rule)
        if not shared.edits and self.registry.may_edit(self.registry.slot_of(event, hook), function, parameters):
            shared.edits = True
            self.registry.refresh()
        watchers = rules_intern(&self.core.rules, rules_watching(&self.core.rules, flow) | own.rule_bit)
        if watchers == ANY_SET:
            raise RegistrationError("too many different sets of registrations watch the flows of this engine")
        rules_assign(&self.core.rules, flow, watchers)
        if view.own is None:
            view.own = {}
        view.own[shared] = [*view.own.get(shared, ()), own]
        self.relevel(flow)
        return own

    def own_call(self, Account account not None, event, hook):
        """The call that stands for those that single connections of an app have registered for an event."""
        cdef Call shared
        if account.detached:
            raise RegistrationError(f"the app {account.name} is detached")
        key = account, event, self.registry.slot_of(event, hook)
        shared = self.own_calls.get(key)
        if shared is None:
            rule = self.registry.add_rule(None, event.level, account=account, keeps=event.level == STREAM_LEVEL)
            shared = self.own_calls[key] = self.registry.add_call(rule, event, hook, None, ())
        return shared

    def remove_event(self, event):
        """Have a user-defined event, and those upon it, never be raised again."""
        self.registry.remove_event(event)
        for key, shared in list(self.own_calls.items()):
            if not (<Call> shared).active:
                del self.own_calls[key]
                self.registry.remove_rule((<Call> shared).rule)

    def remove_account(self, Account account not None):
        """Forget an app: its rules, calls and timers.

        Returns:
            Whether there are so many flows that sweep_on() is to be called for the rest.
        """
        cdef uint32_t number
        if account.detached:
            return False
        self.flow_timers.cancel_timers(account)
        for number in range(self.core.rules.count):
            if account.rules >> number & 1:
                self.registry.remove_rule(number)
        self.registry.accounts.remove(account)
        account.detached = True
        return self.sweep_on()                     # else at the end of the batch

    def ignore(self, Flow view not None, Call own not None):
        """Take back what listen() did."""
        cdef Call shared
        own.active = False
        for shared, calls in (view.own or {}).items():
            if own in calls:
                view.own[shared] = [call for call in calls if call is not own]
                if not view.own[shared]:
                    del view.own[shared]
                    self.watch_less(view, shared)
                return

    cdef int watch_less(self, Flow view, Call shared) except -1:
        """The last of an app's calls that one call stands for on a flow has gone."""
        cdef FlowRecord* flow = <FlowRecord*> view.r
        cdef uint16_t watchers
        if not shared.active or not is_open(view):  # its rule's number may be another one's by now
            return 0
        watchers = rules_intern(&self.core.rules, rules_watching(&self.core.rules, flow) & ~shared.rule_bit)
        if watchers != ANY_SET:                    # else what it costs stays as it is
            rules_assign(&self.core.rules, flow, watchers)
            self.relevel(flow)
        return 0

    def sweep_on(self):
        """Go on with what remove_account() began; whether there are more flows. Inside a callback it does nothing."""
        if not rules_blocked(&self.core.rules) or self.gate.current != NULL:
            return False
        self.sweep()
        return rules_blocked(&self.core.rules) != 0

    cdef int sweep(self) except -1:
        """Rules were removed: have the next flows do no more than those that are left need.

        All sets forget the rules at once, and what follows from that is put right flow by flow, SWEEP_FLOWS in a call.
        A flow that is opened, ended or watched by others meanwhile needs no care: what it is given comes from the sets.
        """
        cdef uint32_t index, last
        cdef FlowRecord* flow
        if self.core.rules.retired:
            self.forget()
        if not self.core.rules.leaving:
            rules_begin_round(&self.core.rules)
            self.swept_to, self.sweep_end = 0, self.core.flows.pool.high_water
        last = min(self.swept_to + self.sweep_flows, self.sweep_end)
        for index in range(self.swept_to + 1, last + 1):
            flow = flow_at(&self.core.flows, index)
            if not flow.flags & ENDED:
                self.sweep_flow(flow)
        self.swept_to = last
        if last == self.sweep_end:
            rules_end_round(&self.core.rules)
        if self.core.signal_count:                 # flows may have ended of which apps are to be told first
            self.core.rules.sets_wanted = True
        else:
            rules_reclaim(&self.core.rules)
        return 0

    cdef int forget(self) except -1:
        """Forget the rules that were removed, wherever that needs no look at flows."""
        cdef uint64_t retired = self.core.rules.retired
        self.picking &= ~retired
        rules_forget(&self.core.rules)
        self.registry.prune()
        for key, shared in list(self.own_calls.items()):
            if retired & (<Call> shared).rule_bit:
                del self.own_calls[key]
        return 0

    cdef int sweep_flow(self, FlowRecord* flow) except -1:
        """Have one flow do no more than those who are left need."""
        cdef Flow view = self.holdings.views[flow.hold]
        rules_assign(&self.core.rules, flow, rules_intern(&self.core.rules, rules_watching(&self.core.rules, flow)))
        if view is not None:
            view.connections = [connection for connection in view.connections
                                if not self.core.rules.leaving >> (<MonitorConnection> connection).rule & 1]
        self.relevel(flow)
        return 0

    def number_rules(self):
        """See to it that a rule can have the number of one that was removed, if there is no other.

        Where 64 rules are registered or were removed so lately, this looks at all flows that are left of the round.
        """
        while rules_held_up(&self.core.rules) and self.sweep_on():
            pass

    def released(self, Flow view not None):
        """Lower a flow's level to what its connections still want; called when one gives a half or all up."""
        if is_open(view):
            self.relevel(<FlowRecord*> view.r)

    cdef void relevel(self, FlowRecord* flow):
        """Run a flow at the highest level that those who watch it need now, per half."""
        cdef uint64_t mask = rules_watching(&self.core.rules, flow)
        cdef uint64_t connected = 0 if flow.flags & TO_CONNECT else self.core.rules.connecting
        cdef Flow view = self.holdings.views[flow.hold]
        cdef MonitorConnection connection
        cdef Need needs[2]
        cdef int side
        if view is not None:
            for connection in view.connections:
                connected |= <uint64_t> 1 << connection.rule
        for side in range(2):
            needs[side] = rules_need(&self.core.rules, mask & ~connected, mask & ~connected)
            for connection in (view.connections if view is not None else ()):
                add_need(&needs[side], &self.core.rules.rules[connection.rule], connection, side)
            if flow.flags & TO_CONNECT and flow.halves[side].flags & KEEP:
                needs[side].keep = True            # until whoever begins late has been given it: replay()
        if max(needs[0].level, needs[1].level) == STATE_LEVEL:
            free_tracks(self.core, flow)
        elif not flow.halves[0].track:
            open_tracks(self.core, flow)
        for side in range(2):
            settle_half(self.core, &flow.halves[side], &needs[side])


cdef void add_need(Need* need, const Rule* rule, MonitorConnection connection, int side):
    """Add what a connection still wants of a half."""
    cdef Stream stream = connection.server if side else connection.client
    if connection.left or not rule.active:
        return
    if stream.wanted:
        need.sink = True
        need.level = max(need.level, rule.level)
    else:
        need.level = max(need.level, min(rule.level, <uint8_t> BYTES_LEVEL))


cdef Attention new_attention(Core core, Registry registry, Holdings holdings, Gate gate, FlowTimers flow_timers):
    cdef Attention attention = Attention.__new__(Attention)
    attention.core, attention.registry, attention.holdings = core, registry, holdings
    attention.gate, attention.flow_timers = gate, flow_timers
    attention.own_calls = {}
    attention.sweep_flows = SWEEP_FLOWS
    return attention


seal(Attention)
