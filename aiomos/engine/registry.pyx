"""The registry of an engine: its apps, what they wait for, and the tree of events of each slot.

Whatever changes here is worked out at once, so that TCP processing only has
to look at bits.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from aiomos.engine.core cimport Core, engine_of
from aiomos.levels cimport STREAM_LEVEL
from aiomos.sealing cimport seal
from aiomos.ude.machine cimport Predicates, Program
from aiomos.ude.rules cimport Interest, MAX_RULES, MAX_SETS, Rule, rules_changed, rules_take
from aiomos.ude.slots cimport (
    SLOTS,
    SLOT_EMITTED,
    SLOT_ERROR,
    SLOT_FRAME,
    SLOT_NEW_DATA,
    SLOT_ORPHAN,
    SLOT_OUT,
    SLOT_PKT,
    SLOT_PKT_SENDER,
    SLOT_RAW,
    SLOT_REXMIT,
    SLOT_SETUP,
    SLOT_START,
    SLOT_START_SENDER,
    SLOT_STATE,
    SLOT_STATE_SENDER,
    SLOT_TEARDOWN,
    SLOT_TIMEOUT,
)

from aiomos.errors import RegistrationError
from aiomos.ude.combining import combine
from aiomos.ude.events import Event, Hook
from aiomos.ude.mentions import mentions
from aiomos.ude.parameters import CALLBACK_PARAMETERS

cdef enum:
    MOST_EVENTS = 64           # user-defined ones of one slot

OVERLAPS = ("first", "last", "bsd", "linux", "windows", "solaris")

cdef dict SLOT_OF = {
    (Event.PKT_IN, Hook.RAW): SLOT_RAW,
    (Event.PKT_IN, Hook.SENDER): SLOT_PKT_SENDER, (Event.PKT_IN, Hook.RECEIVER): SLOT_PKT,
    (Event.PKT_OUT, Hook.RECEIVER): SLOT_OUT,
    (Event.CONN_START, Hook.SENDER): SLOT_START_SENDER, (Event.CONN_START, Hook.RECEIVER): SLOT_START,
    (Event.CONN_SETUP, Hook.RECEIVER): SLOT_SETUP,
    (Event.CONN_NEW_DATA, Hook.RECEIVER): SLOT_NEW_DATA,
    (Event.CONN_TEARDOWN, Hook.RECEIVER): SLOT_TEARDOWN,
    (Event.ERROR, Hook.RECEIVER): SLOT_ERROR,
    (Event.STATE_CHANGE, Hook.SENDER): SLOT_STATE_SENDER, (Event.STATE_CHANGE, Hook.RECEIVER): SLOT_STATE,
    (Event.ORPHAN, Hook.RECEIVER): SLOT_ORPHAN,
    (Event.REXMIT, Hook.RECEIVER): SLOT_REXMIT,
    (Event.TIMEOUT, Hook.RECEIVER): SLOT_TIMEOUT,
    (Event.FRAME, Hook.RAW): SLOT_FRAME,
    (None, Hook.RECEIVER): SLOT_EMITTED}
# What can be asked for; an occurrence is an event with a copy of the packet.
cdef tuple ASKED = (*CALLBACK_PARAMETERS, "occurrence")


cdef int encode(object parameters, uint8_t* codes) except -1:
    """Note what a function asks for, and how much that is."""
    cdef int count = 0
    for name in parameters:
        codes[count] = ASKED.index(name)
        count += 1
    return count


@cython.final
cdef class Account:
    """What an engine keeps of one app: its place among the others, and what it cost.

    Attributes:
        name: The app's name.
        order: Its place, from client to server.
        callbacks: How often its callbacks were called.
        errors: How many of these raised.
        bytes: Stream bytes handed to its handlers.
        calls: Its callbacks.
        detached: Whether the app has left.
    """

    @property
    def seconds(self):
        """Time spent in its callbacks, estimated from one call in 64."""
        return self.sampled_ns * SAMPLED / 1e9


@cython.final
cdef class Call:
    """One callback, as the engine calls it.

    Attributes:
        account: Whose it is.
        event: What it waits for.
        function: What is called; None where it starts a handler.
        active: False once removed.
    """


@cython.final
cdef class Node:
    """An event in the tree of a slot: the built-in one at the root, user-defined ones upon it."""

    def __cinit__(self):
        self.children, self.calls, self.back_calls = [], [], []
        self.bit = -1


@cython.final
cdef class Registry:
    """Who waits for what."""

    def add_account(self, name):
        """Make the account of an app, behind those there are.

        Returns:
            What add_rule() wants to be told.
        """
        cdef Account account = Account.__new__(Account)
        account.name = name
        account.order = (<Account> self.accounts[len(self.accounts) - 1]).order + 1 if self.accounts else 0
        account.calls = []
        self.accounts.append(account)
        return account

    def add_rule(self, Program program, level, *, account=None, midstream=False, overlap="first", urgent="inline",
                 opener=None, keeps=False, unbound=False):
        """Watch the flows that a filter picks.

        Args:
            program: The compiled filter; None picks no flow by itself.
            level: How much of them to follow.
            account: Whose rule it is, from add_account(); None for one that is made now.
            midstream: Whether to take flows whose SYN was not captured.
            overlap: Who wins bytes that two segments share; the first rule to pick a flow decides.
            urgent: Whether urgent bytes are part of the stream (``inline``), or left out (``out_of_band``).
            opener: Called with each `Flow` that has data to read or ends; returns its `MonitorConnection`.
            keeps: Whether delivered bytes are kept for a while, to be looked at.
            unbound: Whether it is only about packets that belong to no flow, or not yet.

        Returns:
            The rule's number, for add_call() and remove_rule().

        Raises:
            RegistrationError: too many rules.
        """
        cdef uint32_t number
        cdef uint64_t bit
        cdef Rule* rule
        cdef Account owner = self.add_account("app") if account is None else <Account?> account
        if owner.detached:
            raise RegistrationError(f"the app {owner.name} is detached")
        number = rules_take(&self.core.rules)
        if number == MAX_RULES:
            raise RegistrationError(f"one engine takes {MAX_RULES} handlers and callbacks; merge some of them")
        bit = <uint64_t> 1 << number
        while len(self.filters) <= number:
            self.filters.append(None)
            self.openers.append(None)
            self.rule_accounts.append(None)
        self.filters[number], self.openers[number] = program, opener
        self.rule_accounts[number] = owner
        owner.rules |= bit
        rule = &self.core.rules.rules[number]
        rule.code = program.code if program is not None else NULL
        rule.code_len = program.n if program is not None else 0
        rule.level = int(level)
        rule.overlap = OVERLAPS.index(overlap)
        rule.urgent_out = urgent == "out_of_band"
        rule.midstream = midstream
        rule.connects = opener is not None
        rule.keeps = keeps
        rule.follows = not unbound
        if midstream and not unbound:
            self.core.rules.midstream |= bit
        if opener is not None:
            self.core.rules.connecting |= bit
            if level == STREAM_LEVEL:
                self.core.rules.reading |= bit
                if rule.urgent_out:
                    self.core.rules.urgent_out |= bit
        return number

    def add_call(self, uint32_t rule, event, hook, function, parameters, edits=None):
        """Have a function called at an event for the flows of a rule.

        Args:
            rule: Number of the rule.
            event: `Event` or `UserEvent`.
            hook: Where in the processing of a packet.
            function: The callback.
            parameters: What it asks for.
            edits: Whether it may replace payload; None to read it from its code.

        Returns:
            The call, for remove_call().

        Raises:
            RegistrationError: the event does not exist at that hook, or too many events build upon one.
        """
        cdef int slot = self.slot_of(event, hook)
        cdef Account account = self.owner(rule)
        cdef Call call = new_call(account, event, function, parameters, self.node_of(event, slot, account), rule)
        call.declared = edits is not None
        call.edits = edits if call.declared else self.may_edit(slot, function, parameters)
        account.calls.append(call)
        self.refresh()
        return call

    cdef bint may_edit(self, int slot, function, parameters) except -1:
        """May a function replace payload, as far as its code tells? Before the flow is known, nobody can."""
        return (function is not None and slot not in (SLOT_RAW, SLOT_ORPHAN, SLOT_FRAME) and "pkt" in parameters
                and mentions(function, "replace"))

    cdef int note_edits(self, Call call) except -1:
        """A call has replaced payload though nothing had told that it would: count on it from now on."""
        cdef Call other
        if not call.declared:
            for other in call.account.calls or ():
                other.edits = other.edits or other.rule == call.rule  # it may be one of a single connection
            self.refresh()
        return 0

    def start_at(self, uint32_t rule, event, opener):
        """Have a rule's flows given to handlers only once an event has happened on them.

        Args:
            rule: Number of the rule.
            event: `Event` or `UserEvent`.
            opener: As in add_rule().
        """
        cdef Call call
        cdef Account account = self.owner(rule)
        cdef const Rule* waiting = &self.core.rules.rules[rule]
        started = self.add_rule(None, waiting.level, account=account, overlap=OVERLAPS[waiting.overlap],
                                urgent="out_of_band" if waiting.urgent_out else "inline", opener=opener)
        call = self.add_call(rule, event, Hook.RECEIVER, None, ())
        call.starts = started
        self.on_event |= <uint64_t> 1 << <uint32_t> started
        return started

    def slot_of(self, event, hook):
        """The slot of an event at a hook.

        Raises:
            RegistrationError: the event is not raised there.
        """
        root = event if isinstance(event, Event) else event.root
        slot = SLOT_OF.get((root, hook))
        if slot is None:
            name = event.value if isinstance(event, Event) else event.name
            raise RegistrationError(f"{name} is not raised at hook {hook.value!r}")
        return slot

    def remove_call(self, Call call not None):
        """Have a function called no more; also from inside a callback."""
        if call.active:
            call.active = False
            if call in call.account.calls:         # not one of a single connection: see ignore()
                call.account.calls.remove(call)
            self.refresh()

    def remove_rule(self, uint32_t number):
        """Have a rule pick no more flows and call nothing; its connections are to be left by their app."""
        cdef Call call
        cdef Account account
        if number < self.core.rules.count and self.core.rules.rules[number].active:
            account = self.rule_accounts[number]
            for call in list(account.calls):
                if call.rule == number:
                    self.remove_call(call)
            account.rules &= ~(<uint64_t> 1 << number)
            self.core.rules.rules[number].active = False
            self.core.rules.retired |= <uint64_t> 1 << number
            self.on_event &= ~(<uint64_t> 1 << number)

    cdef Account owner(self, uint32_t rule):
        """Whose rule it is.

        Raises:
            RegistrationError: there is no such rule.
        """
        if rule >= self.core.rules.count or not self.core.rules.rules[rule].active:
            raise RegistrationError(f"there is no rule {rule}")
        return self.rule_accounts[rule]

    cdef Node node_of(self, object event, int slot, Account account):
        """The place of an event in the tree of a slot, made when first needed."""
        cdef Node node, parent
        if isinstance(event, Event):
            return self.roots[slot]
        if not event.active:
            raise RegistrationError(f"the event {event.name} is undefined")
        node = self.nodes.get((event, slot))
        if node is not None:
            return node
        parent = self.roots[slot] if event.base is None else self.node_of(event.base, slot, account)
        taken = {(<Node> other).bit for (_, at), other in self.nodes.items() if at == slot}
        if len(taken) == MOST_EVENTS:
            raise RegistrationError(f"at most {MOST_EVENTS} user-defined events can build upon one built-in event")
        node = Node.__new__(Node)
        node.event, node.parent, node.slot, node.account = event, parent, slot, account
        node.bit = next(bit for bit in range(MOST_EVENTS) if bit not in taken)
        node.count = encode(event.parameters, node.codes)
        if event.compiled is None:
            node.predicate = event.predicate
        parent.children = [*parent.children, node]
        self.nodes[event, slot] = node
        try:
            self.rebuild(slot)
        except BaseException as error:             # it is as if it had never been there
            parent.children = [child for child in parent.children if child is not node]
            del self.nodes[event, slot]
            if isinstance(error, RecursionError):
                raise RegistrationError(f"{event.name} is nested too deep to be compiled from here") from error
            raise
        event.engines.add(engine_of(self.core))
        return node

    def remove_event(self, event):
        """Have a user-defined event, and those upon it, never be raised again."""
        for (_, slot), node in list(self.nodes.items()):
            if descends(node, event):
                for call in list((<Node> node).calls):
                    self.remove_call(call)

    cdef int prune(self) except -1:
        """Forget events that nobody waits for any more, so that others can have their bits."""
        cdef Node node
        cdef int slot
        for slot in {slot for _, slot in self.nodes}:
            if prune_below(self.roots[slot]):
                self.nodes = {(event, at): node for (event, at), node in self.nodes.items()
                              if at != slot or is_below(node, self.roots[slot])}
                self.rebuild(slot)
        return 0

    cdef int rebuild(self, int slot) except -1:
        """Join the predicates of a slot into one program."""
        cdef Predicates judge
        rows = []
        collect((<Node> self.roots[slot]).children, rows)
        judge = combine(rows) if rows else None
        self.judges[slot] = judge
        self.core.programs[slot] = &judge.c if rows else NULL
        return 0

    cdef int refresh(self) except -1:
        """Work out anew who is to be called where."""
        cdef Account account
        cdef Call call
        cdef Node node
        cdef Rule* rule
        cdef uint32_t number
        cdef set served = set()                    # nodes whose account waits for them; others keep the one they had
        for number in range(self.core.rules.count):
            memset(&self.core.rules.rules[number].interest, 0, sizeof(Interest))
        waiting = {}
        self.chatty = False
        for account in self.accounts:
            for call in account.calls:
                node = call.node
                waiting.setdefault(node, []).append(call)
                rule = &self.core.rules.rules[call.rule]
                rule.interest.events |= 1 << node.slot
                rule.interest.edits = rule.interest.edits or call.edits
                if node.slot <= SLOT_OUT and (node.parent is None or node.predicate is not None):
                    self.chatty = True
                if node.parent is None:
                    rule.interest.plain |= 1 << node.slot
                else:
                    rule.interest.called[node.slot] |= <uint64_t> 1 << node.bit
                while node.parent is not None:
                    rule.interest.udes[node.slot] |= <uint64_t> 1 << node.bit
                    if node not in served or node is call.node:  # its own callbacks before those upon it
                        node.account = account
                    served.add(node)
                    node = node.parent
        for node in (*self.roots, *self.nodes.values()):
            calls = waiting.get(node, [])
            node.calls = calls
            node.back_calls = sorted(calls, key=backwards) if len(calls) > 1 else calls
        rules_changed(&self.core.rules)
        self.core.streams.log_incidents = (self.core.rules.interests[MAX_SETS].events >> SLOT_ERROR & 1) != 0
        return 0


cdef bint descends(Node node, object event):
    while node is not None:
        if node.event is event:
            return True
        node = node.parent
    return False


cdef bint prune_below(Node node) except -1:
    """Take branches out of a tree that lead to no callback; whether there were any."""
    cdef Node child
    cdef bint pruned = False
    for child in node.children:
        pruned = prune_below(child) or pruned
    kept = [child for child in node.children if child.calls or child.children]
    pruned = pruned or len(kept) < len(node.children)
    node.children = kept
    return pruned


cdef bint is_below(Node node, Node root):
    """Is a node still in the tree of a slot?"""
    while node.parent is not None:
        if node not in node.parent.children:
            return False
        node = node.parent
    return node is root


cdef int collect(list nodes, list rows) except -1:
    """The events of a tree for the compiler, parents before children."""
    cdef Node node
    for node in nodes:
        rows.append((node.bit, node.parent.bit if node.parent.parent is not None else None,
                     node.event.compiled, node.event.filter.expression))
        collect(node.children, rows)
    return 0


cdef Call new_call(Account account, object event, object function, object parameters, Node node, uint32_t rule):
    """A callback of an app, for the flows of one of its rules."""
    cdef Call call = Call.__new__(Call)
    call.account, call.event, call.function, call.node = account, event, function, node
    call.count = encode(parameters, call.codes)
    call.rule, call.rule_bit = rule, <uint64_t> 1 << rule
    call.starts = -1
    call.active = True
    return call


def backwards(Call call not None):
    """Key by which calls are sorted for packets from the server: apps reversed, each app's in order."""
    return -<int64_t> call.account.order


cdef Registry new_registry(Core core):
    cdef Registry registry = Registry.__new__(Registry)
    cdef Node root
    registry.core = core
    registry.accounts, registry.rule_accounts, registry.nodes = [], [], {}
    registry.filters, registry.openers = [], []
    registry.roots, registry.judges = [], [None] * SLOTS
    for slot in range(<int> SLOTS):
        root = Node.__new__(Node)
        root.slot = slot
        registry.roots.append(root)
    return registry


seal(Account)
seal(Call)
seal(Node)
seal(Registry)
