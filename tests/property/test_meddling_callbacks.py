"""Callbacks, predicates, handlers and timers that change everything while they are called, in any order.

Each run has two apps. One meddles: wherever it is called it does what Hypothesis says next. The other only counts, and
is to count the same as without it.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

import aiomos
from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_TEARDOWN,
    ERROR,
    ORPHAN,
    PKT_IN,
    PKT_OUT,
    STATE_CHANGE,
    TIMEOUT,
    App,
    Event,
    Flow,
    FlowClosed,
    Hook,
    MonitorConnection,
    NotInLineError,
    Packet,
    RegistrationError,
    Report,
    Runtime,
    Settings,
)
from aiomos.ude.user import UserEvent
from tests.line import talk
from tests.traffic import Traffic, in_loop

LOG = Settings(on_error="log")
EVENTS: tuple[Event, ...] = (
    PKT_IN,
    PKT_OUT,
    CONN_SETUP,
    CONN_NEW_DATA,
    CONN_TEARDOWN,
    STATE_CHANGE,
    ERROR,
    TIMEOUT,
)
SEEN = (PKT_IN, CONN_SETUP, CONN_NEW_DATA, CONN_TEARDOWN, STATE_CHANGE)
"""What the other app counts."""

REFUSALS = (FlowClosed, NotInLineError, RegistrationError, RecursionError)
"""What a step may rightly be refused with."""

ACTIONS = (
    *("cancel", "cancel_all", "undefine", "detach", "stop", "bypass", "emit", "timer", "timer_with_function"),
    *(
        "cancel_timers",
        "listen",
        "cancel_listeners",
        "give_up",
        "leave",
        "drop",
        "reset",
        "register",
        "define",
    ),
    *(
        "raise_value",
        "raise_index",
        "raise_flow_closed",
        "raise_recursion",
        "keep",
        "collect",
        "attach",
        "events",
    ),
    "peek",
)
steps = st.lists(st.sampled_from(ACTIONS) | st.just(""), max_size=30)


class Meddler:
    """An app whose every function does the next step that is left.

    Args:
        steps: What to do.
        traffic_events: The events it listens to at first.
    """

    def __init__(self, steps: list[str], traffic_events: list[Event]) -> None:
        self.app = App("meddler")
        self.left = list(reversed(steps))
        self.done: Counter[str] = Counter()
        self.raised = 0
        self.refused: Counter[type[BaseException]] = Counter()
        self.kept: list[Any] = []
        self.timers: list[Any] = []
        self.listeners: list[Any] = []
        self.connections: list[MonitorConnection] = []
        self.events: list[UserEvent] = [self.app.event("by hand")]
        self.engine: Runtime | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        for event in traffic_events:
            self.define(event)
        for event in traffic_events:
            self.register(event)
        self.app.on(PKT_IN, hook=Hook.RAW)(self.called)
        self.app.on(ORPHAN)(self.called)
        self.app.startup(self.note_engine)
        self.app.monitor()(self.handle)
        self.app.monitor(level=aiomos.Level.STATE)(self.handle)
        self.app.monitor(start=self.events[-1])(self.handle)

    def note_engine(self, engine: Runtime) -> None:
        self.engine = engine

    def called(self, pkt: Packet, flow: Flow) -> None:
        self.meddle(flow, pkt)

    def judge(self, pkt: Packet, flow: Flow) -> bool:
        self.meddle(flow, pkt)
        return pkt is None or pkt.payload != b""

    async def handle(self, conn: MonitorConnection) -> None:
        self.connections.append(conn)
        self.meddle(conn.flow, None)
        with suppress(aiomos.StreamGap):
            async for _chunk in conn.client:
                self.meddle(conn.flow, None)
                await aiomos.sleep(0.0001)
        await conn.closed()
        self.meddle(conn.flow, None)

    # --- what it does ---

    def register(self, event: Event | UserEvent) -> None:
        hook = Hook.RECEIVER
        self.app.on(event, hook=hook)(self.called)

    def define(self, base: Event | UserEvent) -> None:
        event = self.app.ude(base)(self.judge)
        self.events.append(event)
        self.app.on(event)(self.called)

    def meddle(self, flow: Flow | None, pkt: Packet | None) -> None:
        action = self.left.pop() if self.left else ""
        if not action:
            return
        self.done[action] += 1
        step: Callable[[Flow | None, Packet | None], None] = getattr(self, f"do_{action}")
        try:
            step(flow, pkt)
        except REFUSALS as error:
            self.refused[type(error)] += 1
            if action.startswith("raise"):
                self.raised += 1
                raise
        except Exception:
            self.raised += 1
            assert action.startswith("raise"), action
            raise

    def do_cancel(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        if self.app.callbacks:
            self.app.callbacks[len(self.left) % len(self.app.callbacks)].cancel()

    def do_cancel_all(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for registration in list(self.app.callbacks):
            registration.cancel()

    def do_undefine(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        self.events[len(self.left) % len(self.events)].undefine()

    def do_detach(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        assert self.engine is not None
        if self.app in self.engine.apps:
            self.spawn(self.engine.detach(self.app))
            # At once, too, as a listener does that is left.
            self.engine.engine.remove_account(self.engine.attachments[self.app].account)

    def do_attach(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        assert self.engine is not None
        if self.app not in self.engine.apps:
            self.spawn(self.engine.attach(self.app))

    def spawn(self, coroutine: Any) -> None:
        async def attempt() -> None:
            with suppress(RegistrationError):  # it has left, or come, meanwhile
                await coroutine

        self.tasks.add(asyncio.get_running_loop().create_task(attempt()))

    def do_stop(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            flow.stop()

    def do_bypass(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            flow.bypass()

    def do_emit(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            for event in self.events:
                flow.emit(event)

    def do_timer(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            self.timers.append(flow.timer(0.001 * (len(self.left) % 5)))

    def do_timer_with_function(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            timer = flow.timer(0.0005 * (len(self.left) % 5), lambda flow: self.meddle(flow, None))
            self.timers.append(timer)

    def do_cancel_timers(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for timer in self.timers:
            timer.cancel()

    def do_listen(self, flow: Flow | None, _pkt: Packet | None) -> None:
        for conn in self.connections:
            event = EVENTS[len(self.left) % len(EVENTS)]
            self.listeners.append(conn.on(event, lambda pkt: self.meddle(flow, pkt)))
            self.listeners.append(conn.on(self.events[-1], lambda: self.meddle(flow, None)))

    def do_events(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for conn in self.connections:
            self.kept.append(conn.events(PKT_IN, self.events[0]))

    def do_cancel_listeners(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for listener in self.listeners:
            listener.cancel()

    def do_give_up(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for conn in self.connections:
            conn.server.give_up()

    def do_leave(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        for conn in self.connections:
            conn.leave()

    def do_drop(self, flow: Flow | None, pkt: Packet | None) -> None:
        if flow is not None:
            flow.drop()
        if pkt is not None:
            pkt.drop()

    def do_reset(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            flow.reset()

    def do_register(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        self.register(EVENTS[len(self.left) % len(EVENTS)])

    def do_define(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        self.define(self.events[-1] if self.events[-1].active else PKT_IN)

    def do_raise_value(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        raise ValueError

    def do_raise_index(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        raise IndexError

    def do_raise_flow_closed(self, flow: Flow | None, _pkt: Packet | None) -> None:
        raise FlowClosed(flow=flow)

    def do_raise_recursion(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        raise RecursionError

    def do_keep(self, flow: Flow | None, pkt: Packet | None) -> None:
        self.kept += [flow, pkt, flow and flow.client]

    def do_collect(self, _flow: Flow | None, _pkt: Packet | None) -> None:
        gc.collect(0)

    def do_peek(self, flow: Flow | None, _pkt: Packet | None) -> None:
        if flow is not None:
            self.kept.append((flow.client.peek(0, 100), flow.client.held, flow.record(), str(flow)))


class Bystander:
    """An app that counts what it is told."""

    def __init__(self) -> None:
        self.app = App("bystander")
        self.seen: Counter[tuple[str, int]] = Counter()
        self.read: dict[int, bytes] = {}
        for event in SEEN:
            self.app.on(event)(self.counter(event))
        self.app.monitor(gaps="mark")(self.handle)

    def counter(self, event: Event) -> Callable[[Flow], None]:
        def count(flow: Flow) -> None:
            self.seen[event.value, flow.client.port] += 1

        return count

    async def handle(self, conn: MonitorConnection) -> None:
        async for side, data in conn:
            if side == "client" and isinstance(data, bytes):
                port = conn.flow.client.port
                self.read[port] = self.read.get(port, b"") + data
        self.seen[str(await conn.closed()), conn.flow.client.port] += 1


def some_traffic(batches: int) -> Traffic:
    """Three connections that do all there is to do, and a segment of none."""
    traffic = Traffic()
    conns = [traffic.connection(port) for port in (1000, 1001, 1002)]
    for number, conn in enumerate(conns):
        conn.client(b"hello")
        conn.client(b"world", at=10)  # behind a hole
        conn.server(b"you")
        if number < batches:
            traffic.cut()
        conn.client(b"there", at=5)
        conn.server(b"you", at=0)  # sent again
    traffic.tick(0.01)
    conns[0].close()
    if batches:
        traffic.cut()
    conns[1].reset("server")
    traffic.tick(100)
    conns[2].client(b"late")
    traffic.tick(500)
    return traffic


def run(traffic: Traffic, *apps: App) -> Report:
    async def main() -> Report:
        return await aiomos.serve(*apps, source=traffic.source(), settings=LOG)

    return in_loop(main(), "asyncio")


@given(
    steps=steps,
    events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=4, unique=True),
    batches=st.integers(0, 3),
    first=st.booleans(),
)
def test_nothing_that_an_app_does_when_called_reaches_the_other(
    steps: list[str], events: list[Event], batches: int, first: bool
) -> None:
    traffic = some_traffic(batches)
    alone = Bystander()
    run(traffic, alone.app)
    assert alone.seen["pkt_in", 1000] > 5  # it has seen something
    assert alone.read[1000] == b"hellothereworld"
    beside, meddler = Bystander(), Meddler(steps, events)
    apps = (meddler.app, beside.app) if first else (beside.app, meddler.app)
    with capture_logs() as logs:
        report = run(traffic, *apps)
    assert beside.seen == alone.seen
    assert beside.read == alone.read
    errors = report.counters.get("callback_errors", 0) + report.counters.get("handler_errors", 0)
    assert errors <= meddler.raised
    assert len([log for log in logs if log["event"].endswith("_failed")]) <= errors
    if meddler.raised and not meddler.done["detach"]:
        assert errors > 0
    held = {name: n for name, n in report.counters.items() if name.startswith("held.") and n}
    assert not held
    for thing in meddler.kept:
        str(thing)


@given(steps=steps, events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=3, unique=True))
def test_nor_in_line_does_it_break_anything_but_the_connection(steps: list[str], events: list[Event]) -> None:
    meddler, beside = Meddler(steps, events), Bystander()
    with capture_logs():
        done = talk(
            meddler.app, beside.app, question=b"?" * 3000, answer=b"!" * 3000, settings=LOG, lasts=10.0
        )
    counters = done.report.counters
    assert beside.seen["pkt_in", 40000] > 0 or meddler.done["drop"]
    if not (meddler.done["drop"] or meddler.done["reset"]):
        assert done.heard == (b"?" * 3000, b"!" * 3000)
    held = {name: n for name, n in counters.items() if name.startswith("held.") and n}
    assert not held
    assert counters.get("callback_errors", 0) + counters.get("handler_errors", 0) <= meddler.raised


def test_every_step_is_taken() -> None:
    """A run that does all of them, so that the one above is not about nothing."""
    done: Counter[str] = Counter()
    for action in ACTIONS:
        meddler, beside = (
            Meddler(["", "", "listen", action, "", action] * 5, [PKT_IN, CONN_NEW_DATA]),
            Bystander(),
        )
        with capture_logs():
            run(some_traffic(1), meddler.app, beside.app)
        assert beside.read[1000] == b"hellothereworld"
        done.update(meddler.done)
    assert all(done[action] for action in ACTIONS), done
