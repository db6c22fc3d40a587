"""An app of an engine whose callbacks change everything while they are called: what the fuzz targets put beside others.

It cancels its callbacks, or all of them and itself, registers others, undefines and defines events, emits them from
inside of callbacks, sets timers that set timers, leaves connections and listens on them; all by a seed.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from aiomos import Event, Filter, Flow, FlowClosed, Hook, Level, MonitorConnection, RegistrationError
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.ude.user import UserEvent, event, ude

ON_A_FLOW = ("emit", "emit", "set_timer", "set_timer", "cancel_timer", "stop", "look")
GENERAL = (
    *("cancel", "register", "define", "undefine", "change_rules", "detach"),
    *("leave", "give_up", "listen", "listen", "cancel_listener"),
)
"""What it does: methods."""

REFUSALS = (FlowClosed, RegistrationError, RecursionError)
"""What it may rightly be refused with."""

BOUNDLESS = 1 << 60
FEW_CALLS, MOST_CALLS = 4, 12
"""Callbacks at a time, and connections that it remembers."""

OFTEN = (Event.PKT_IN, Event.PKT_OUT, Event.CONN_NEW_DATA, Event.STATE_CHANGE)
TIMES = (0, 0.000_001, 0.5, 100)


class Meddler:
    """One such app.

    Args:
        engine: Where.
        chosen: Chooses what is done.

    Attributes:
        done: What was done and not refused, and how often.
    """

    def __init__(self, engine: Engine, chosen: random.Random) -> None:
        self._engine = engine
        self._chosen = chosen
        self._pressure = Pressure(BOUNDLESS, BOUNDLESS)
        self._everything = Filter("").program
        self._by_hand = event("by_hand")
        self.done: Counter[str] = Counter()
        self._settle()

    def _settle(self) -> None:
        """Begin, or begin anew once all was given up."""
        self._account = self._engine.add_account("meddles")
        self._events: list[UserEvent] = [self._by_hand]
        self._calls: list[Any] = []
        self._timers: list[Any] = []
        self._listeners: list[Any] = []
        self._connections: list[MonitorConnection] = []
        self._rule, self._unbound = self._rules()
        self._fill()

    def _fill(self) -> None:
        """Have something call it on, whatever was given up."""
        self._calls = [call for call in self._calls if call.active]
        for _ in range(FEW_CALLS - len(self._calls)):
            self._define()
            self._register()

    def _rules(self) -> tuple[int, int]:
        level = self._chosen.choice([Level.STATE, Level.BYTES, Level.STREAM])
        how: dict[str, Any] = {"account": self._account, "midstream": True}
        rule = self._engine.add_rule(
            self._everything, level, keeps=level is Level.STREAM, opener=self._open, **how
        )
        return rule, self._engine.add_rule(self._everything, Level.STATE, unbound=True, **how)

    def _open(self, flow: Flow) -> MonitorConnection:
        connection = MonitorConnection(flow, self._pressure, self._engine.released, "skip")
        self._connections = [*self._connections[-MOST_CALLS:], connection]
        self._meddle(flow)
        return connection

    # --- what is called -------------------------------------------------------------------------------

    def _called(self, flow: Flow | None) -> None:
        self._meddle(flow)

    def _called_free(self, pkt: object) -> None:
        assert pkt is not None
        self._meddle(None)

    def _judge(self, flow: Flow | None) -> bool:
        """Say whether an event has happened, and change things meanwhile."""
        self._meddle(flow)
        return self._chosen.random() < 0.7

    def _meddle(self, flow: Flow | None) -> None:
        if self._chosen.random() < 0.75:
            return
        acts = GENERAL if flow is None or self._chosen.random() < 0.3 else ON_A_FLOW
        act = self._chosen.choice(acts)
        try:
            getattr(self, f"_{act}")(*(() if flow is None or acts is GENERAL else (flow,)))
            self._fill()
        except REFUSALS:
            return
        self.done[act] += 1

    # --- on a flow ------------------------------------------------------------------------------------

    def _emit(self, flow: Flow) -> None:
        flow.emit(self._chosen.choice(self._events))

    def _set_timer(self, flow: Flow) -> None:
        function = self._chosen.choice((None, self._meddle, Flow.stop, Flow.record))
        self._timers = [*self._timers[-MOST_CALLS:], flow.timer(self._chosen.choice(TIMES), function)]

    def _cancel_timer(self, _flow: Flow) -> None:
        if self._timers:
            self._chosen.choice(self._timers).cancel()

    def _stop(self, flow: Flow) -> None:
        if self._chosen.random() < 0.3:
            flow.stop()

    def _look(self, flow: Flow) -> None:
        for half in (flow.client, flow.server):
            half.peek(0, 100)
        repr((flow, flow.record(), flow.client.held, flow.server.held))

    # --- on the engine ---------------------------------------------------------------------------------

    def _register(self) -> None:
        if len(self._calls) >= MOST_CALLS:
            return
        chosen = self._chosen.choice((*OFTEN, *Event, *self._events))
        hook = self._chosen.choice(chosen.hooks)
        root = chosen.root if isinstance(chosen, UserEvent) else chosen
        free = hook is Hook.RAW or root is Event.ORPHAN
        self._calls.append(
            self._engine.add_call(
                self._unbound if free else self._rule,
                chosen,
                hook,
                self._called_free if free else self._called,
                ("pkt",) if free else ("flow",),
            )
        )

    def _cancel(self) -> None:
        if self._calls:
            self._engine.remove_call(self._calls.pop(self._chosen.randrange(len(self._calls))))

    def _define(self) -> None:
        if len(self._events) < MOST_CALLS:
            base = self._chosen.choice((*Event, *self._events[:4]))
            defined = ude(base, once=self._chosen.random() < 0.2)(self._judge)
            self._events.append(defined)

    def _undefine(self) -> None:
        if len(self._events) > 1:
            self._events.pop(self._chosen.randrange(1, len(self._events))).undefine()

    def _detach(self) -> None:
        if self._chosen.random() < 0.2:
            self._engine.remove_account(self._account)
            self._settle()

    def _change_rules(self) -> None:
        if self._chosen.random() < 0.2:
            for rule in (self._rule, self._unbound):
                self._engine.remove_rule(rule)
            self._calls = []
            self._rule, self._unbound = self._rules()
            self._engine.pick_up([self._rule])

    def _leave(self) -> None:
        if self._connections:
            self._chosen.choice(self._connections).leave()

    def _give_up(self) -> None:
        if self._connections:
            self._chosen.choice(self._connections).server.give_up()

    def _listen(self) -> None:
        chosen = self._chosen.choice((*Event, *self._events))
        if self._connections and Hook.RECEIVER in chosen.hooks:
            heard = self._chosen.choice(self._connections).listen(chosen, self._called, ("flow",))
            self._listeners = [*self._listeners[-MOST_CALLS:], heard]

    def _cancel_listener(self) -> None:
        if self._listeners:
            self._listeners.pop(self._chosen.randrange(len(self._listeners))).cancel()

    def end(self) -> None:
        """Leave whatever it still has."""
        self._engine.remove_account(self._account)
        for connection in self._connections:
            connection.leave()
