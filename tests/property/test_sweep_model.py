"""Whoever comes, goes, and stops watching while rules are being forgotten: each flow is watched by those that are left.

The model knows only who watches what; in which slices the engine looks at flows is no matter to it.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aiomos import PKT_IN, Flow, Hook, Level, MonitorConnection, Settings, Timeouts
from aiomos.engine.engine import Engine
from aiomos.engine.registry import Account
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.ude.filters import Filter
from tests.models.watchers import Rule, Watchers
from tests.traffic import Connection, Traffic, fail

probe = pytest.importorskip("tests.native._probe_rules", reason="needs the native test probes")

PORTS = range(1001, 1012)
ODD = Filter(" or ".join(f"port {port}" for port in PORTS if port % 2))


@dataclass(eq=False)
class Guest:
    """An app, with one rule.

    Attributes:
        account: The engine's.
        rule: The model's.
        connections: Those made for it.
        stops: Ports of flows that it is to watch no more when next called for them.
        leaves: Whether it is to go when next called.
    """

    account: Account
    rule: Rule
    connections: list[MonitorConnection] = field(default_factory=list)
    stops: set[int] = field(default_factory=set)
    leaves: bool = False


class Machine(RuleBasedStateMachine):
    """An engine that looks at very few flows in a call, and the model."""

    @initialize(size=st.sampled_from([1, 2, 3, 100]), reset=st.sampled_from([0.0, 1.0]))
    def begin(self, size: int, reset: float) -> None:
        self.size = size
        self.engine = Engine(Settings(timeouts=Timeouts(reset=reset)), bytes(16), fail)
        probe.sweep_so_many(self.engine, size)
        self.model = Watchers()
        self.guests: list[Guest] = []
        self.owners: dict[int, Guest] = {}
        """Of each connection, by its id."""
        self.connections: dict[int, Connection] = {}
        self.traffic = Traffic()
        self.called = 0

    def feed(self) -> None:
        self.looks_at_few(lambda: feed_frames(self.engine, self.traffic.frames))
        self.traffic.batches = [[]]

    def looks_at_few(self, call: object) -> None:
        """Whatever is called: a round goes on by no more than a slice."""
        before, end = probe.swept(self.engine)
        call()  # type: ignore[operator]
        after, new_end = probe.swept(self.engine)
        assert after - before <= self.size or (after <= self.size and before == end)
        assert after <= new_end

    @rule(
        odd=st.booleans(),
        level=st.sampled_from([Level.STATE, Level.BYTES]),
        connects=st.booleans(),
        midstream=st.booleans(),
    )
    @precondition(lambda self: len(self.guests) < 8)
    def come(self, odd: bool, level: Level, connects: bool, midstream: bool) -> None:
        """An app is attached."""
        account = self.engine.add_account("guest")
        blocked = probe.blocked(self.engine)
        guest = Guest(account, Rule(-1, odd, level))

        def open_for(flow: Flow) -> MonitorConnection:
            connection = MonitorConnection(flow, Pressure(1, 1), self.engine.released, "mark", False)
            guest.connections.append(connection)
            self.owners[id(connection)] = guest
            return connection

        guest.rule.number = self.engine.add_rule(
            (ODD if odd else Filter("")).program,
            level,
            account=account,
            midstream=midstream,
            opener=open_for if connects else None,
        )
        assert guest.rule.number not in blocked

        def called(flow: Flow) -> None:
            self.called += 1
            if flow.client.port in guest.stops:
                guest.stops.remove(flow.client.port)
                flow.stop()
                self.model.stop(flow.client.port, guest.rule)
            if guest.leaves:
                guest.leaves = False
                assert not self.engine.remove_account(account)  # it is looked at flows when the batch is done
                self.gone(guest)

        self.engine.add_call(guest.rule.number, PKT_IN, Hook.RECEIVER, called, ("flow",))
        self.guests.append(guest)
        self.model.add(guest.rule, picks_up=midstream)
        if midstream:
            assert not self.engine.pick_up([guest.rule.number])

    def gone(self, guest: Guest) -> None:
        self.guests.remove(guest)
        self.model.remove(guest.rule)

    @precondition(lambda self: self.guests)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        """An app is detached, between batches."""
        guest = data.draw(st.sampled_from(self.guests))
        self.gone(guest)
        self.looks_at_few(lambda: self.engine.remove_account(guest.account))

    @precondition(lambda self: self.guests)
    @rule(data=st.data())
    def remove_rule(self, data: st.DataObject) -> None:
        """A rule is taken back; the app stays, with none."""
        guest = data.draw(st.sampled_from(self.guests))
        self.gone(guest)
        self.engine.remove_rule(guest.rule.number)

    @precondition(lambda self: self.guests and self.model.flows)
    @rule(data=st.data(), leaves=st.booleans())
    def meddle(self, data: st.DataObject, leaves: bool) -> None:
        """An app stops watching a flow from inside a callback, or goes from there."""
        guest = data.draw(st.sampled_from(self.guests))
        port = data.draw(st.sampled_from(sorted(self.model.flows)))
        watches = guest.rule in self.model.flows[port]
        guest.leaves = leaves
        guest.stops = set() if leaves else {port}
        before = self.called
        self.connections[port].client()
        self.feed()
        assert (self.called > before) or not watches
        guest.leaves, guest.stops = False, set()

    @rule(port=st.sampled_from(PORTS))
    def open(self, port: int) -> None:
        if port not in self.model.flows:
            self.connections[port] = self.traffic.connection(port)
            self.feed()
            self.model.open(port)

    @precondition(lambda self: self.model.flows)
    @rule(data=st.data(), leaves=st.booleans(), opens=st.sampled_from(PORTS))
    def end(self, data: st.DataObject, leaves: bool, opens: int) -> None:
        """A flow is reset, and forgotten then or a little later; in the same batch an app may go, and a flow begin."""
        port = data.draw(st.sampled_from(sorted(self.model.flows)))
        watching = [guest for guest in self.guests if guest.rule in self.model.flows[port]]
        leaving = watching[:1] if leaves else []
        for guest in leaving:
            guest.leaves = True
        self.connections[port].reset()
        begins = opens not in self.model.flows
        if begins:
            self.connections[opens] = self.traffic.connection(opens)
        self.feed()
        assert not set(leaving) & set(self.guests)
        if begins:
            self.model.open(opens)
        self.traffic.wait(2)
        self.looks_at_few(lambda: self.engine.pass_time(self.traffic.now_ns))
        self.model.end(port)

    @rule()
    def idle(self) -> None:
        """A turn of the loop without frames: no more flows than a slice are looked at."""
        before = probe.watched(self.engine)
        self.looks_at_few(self.engine.sweep_on)
        after = probe.watched(self.engine)
        assert sum(before[port][1:3] != after[port][1:3] for port in after) <= self.size

    @rule()
    def batch(self) -> None:
        """A frame that is not of TCP."""
        self.traffic.add(bytes(60))
        self.feed()

    @invariant()
    def each_flow_has_its_watchers(self) -> None:
        probe.check_sets(self.engine)
        found, blocked = probe.watched(self.engine), probe.blocked(self.engine)
        assert found.keys() == self.model.flows.keys()
        assert not blocked & {rule.number for rule in self.model.rules}
        for port, (numbers, levels, has_tracks, connections) in found.items():
            watchers = self.model.flows[port]
            assert numbers == {rule.number for rule in watchers}
            needed = self.model.level(port)
            assert min(levels) >= needed
            assert has_tracks == (max(levels) > Level.STATE)
            if not blocked:
                assert levels == (needed, needed)
            for number, connection in connections:
                assert number in blocked or self.owners[id(connection)].rule in self.model.rules
                assert number == self.owners[id(connection)].rule.number

    def teardown(self) -> None:
        """Left alone, rounds come to their end, numbers can be used again, and no set is there twice."""
        if not hasattr(self, "engine"):
            return
        account = self.engine.add_account("last")
        self.engine.add_rule(Filter("").program, Level.STATE, account=account)
        more = self.engine.remove_account(account)
        turns = 1
        while more:
            more = self.engine.sweep_on()
            turns += 1
        assert turns <= 2 * -(-len(PORTS) // self.size) + 1
        assert not probe.blocked(self.engine)
        self.each_flow_has_its_watchers()
        self.batch()  # of flows that ended apps have been told now
        kinds = {frozenset(watchers) for watchers in self.model.flows.values()} | {frozenset()}
        assert probe.sets(self.engine) == len(kinds)
        assert probe.last_set(self.engine) != 0  # so that no more are looked through than need be
        free = min(set(range(9)) - {rule.number for rule in self.model.rules})
        assert self.engine.add_rule(None, Level.STATE) == free


TestSweep = Machine.TestCase
