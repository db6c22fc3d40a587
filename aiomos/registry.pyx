"""The registry of an engine: its apps, what they wait for, and the tree of events of each slot.

The base of the engine: it owns the rules. Whatever changes here is worked out at once, so that TCP processing only has
to look at bits.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from aiomos.ude.machine cimport Predicates
from aiomos.ude.rules cimport MAX_SETS, Interest, Rule, rules_changed, rules_open
from aiomos.ude.slots cimport (
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
    SLOTS,
)

from aiomos.errors import RegistrationError
from aiomos.ude.combining import combine
from aiomos.ude.events import Event, Hook
from aiomos.ude.parameters import CALLBACK_PARAMETERS

cdef enum:
    MOST_EVENTS = 64           # user-defined ones of one slot

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


cdef class Registry:
    """Who waits for what. Not to be made by itself: `aiomos.engine.Engine` is one."""

    def __cinit__(self):
        rules_open(&self.rules)
        self.accounts, self.rule_accounts, self.nodes = [], [], {}
        self.roots = [Node() for _ in range(SLOTS)]
        self.judges = [None] * SLOTS
        for slot in range(<int> SLOTS):
            (<Node> self.roots[slot]).slot = slot

    def add_account(self, name):
        """Make the account of an app, behind those there are.

        Returns:
            What add_rule() wants to be told.
        """
        cdef Account account = Account()
        account.name = name
        account.order = (<Account> self.accounts[len(self.accounts) - 1]).order + 1 if self.accounts else 0
        account.calls = []
        self.accounts.append(account)
        return account

    def add_call(self, uint32_t rule, event, hook, function, parameters):
        """Have a function called at an event for the flows of a rule.

        Args:
            rule: Number of the rule.
            event: `Event` or `UserEvent`.
            hook: Where in the processing of a packet.
            function: The callback.
            parameters: What it asks for.

        Returns:
            The call, for remove_call().

        Raises:
            RegistrationError: the event does not exist at that hook, or too many events build upon one.
        """
        cdef Call call = Call()
        cdef int slot = self.slot_of(event, hook)
        call.account = self.rule_accounts[rule]
        call.event = event
        call.function = function
        call.count = encode(parameters, call.codes)
        call.rule = rule
        call.rule_bit = <uint64_t> 1 << rule
        call.starts = -1
        call.active = True
        call.node = self.node_of(event, slot)
        call.account.calls.append(call)
        self.refresh()
        return call

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
            call.account.calls.remove(call)
            self.refresh()

    cdef Node node_of(self, object event, int slot):
        """The place of an event in the tree of a slot, made when first needed."""
        cdef Node node, parent
        if isinstance(event, Event):
            return self.roots[slot]
        if not event.active:
            raise RegistrationError(f"the event {event.name} is undefined")
        node = self.nodes.get((event, slot))
        if node is not None:
            return node
        parent = self.roots[slot] if event.base is None else self.node_of(event.base, slot)
        taken = {(<Node> other).bit for (_, at), other in self.nodes.items() if at == slot}
        if len(taken) == MOST_EVENTS:
            raise RegistrationError(f"at most {MOST_EVENTS} user-defined events can build upon one built-in event")
        node = Node()
        node.event, node.parent, node.slot = event, parent, slot
        node.bit = next(bit for bit in range(MOST_EVENTS) if bit not in taken)
        node.count = encode(event.parameters, node.codes)
        if event.compiled is None:
            node.predicate = event.predicate
        parent.children = [*parent.children, node]
        self.nodes[event, slot] = node
        event.engines.add(self)
        self.rebuild(slot)
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
        self.programs[slot] = &judge.c if rows else NULL
        return 0

    cdef void watch_errors(self, bint watched) noexcept:
        """Told whether anybody waits for an ERROR."""

    cdef int refresh(self) except -1:
        """Work out anew who is to be called where."""
        cdef Account account
        cdef Call call
        cdef Node node
        cdef Rule* rule
        cdef uint32_t number
        for number in range(self.rules.count):
            memset(&self.rules.rules[number].interest, 0, sizeof(Interest))
        waiting = {}
        self.chatty = False
        for node in self.nodes.values():
            node.account = None
        for account in self.accounts:
            for call in account.calls:
                node = call.node
                waiting.setdefault(node, []).append(call)
                node.account = account
                rule = &self.rules.rules[call.rule]
                rule.interest.events |= 1 << node.slot
                if node.slot <= SLOT_OUT and (node.parent is None or node.predicate is not None):
                    self.chatty = True
                if node.parent is None:
                    rule.interest.plain |= 1 << node.slot
                else:
                    rule.interest.called[node.slot] |= <uint64_t> 1 << node.bit
                while node.parent is not None:
                    rule.interest.udes[node.slot] |= <uint64_t> 1 << node.bit
                    if node.account is None:
                        node.account = account
                    node = node.parent
        for node in (*self.roots, *self.nodes.values()):
            calls = waiting.get(node, [])
            node.calls = calls
            node.back_calls = sorted(calls, key=backwards) if len(calls) > 1 else calls
        rules_changed(&self.rules)
        self.watch_errors((self.rules.interests[MAX_SETS].events >> SLOT_ERROR & 1) != 0)
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


def backwards(Call call not None):
    """Key by which calls are sorted for packets from the server: apps reversed, each app's in order."""
    return -<int64_t> call.account.order
