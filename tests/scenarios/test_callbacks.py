"""Callbacks while traffic runs: what they are given, what they may do, and what their mistakes cost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

import aiomos
from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    ORPHAN,
    PKT_IN,
    PKT_OUT,
    STATE_CHANGE,
    TIMEOUT,
    App,
    Budgets,
    Event,
    Filter,
    Flow,
    FlowClosed,
    Half,
    Hook,
    Level,
    MonitorConnection,
    Occurrence,
    Packet,
    RegistrationError,
    Report,
    Settings,
    StalePacketError,
    Timeouts,
)
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.scenario import START, Conversation, Frame, Watcher, merge
from tests.events import PLACES, Storyteller, flags_of, play, source_of

OF_FLOWS = [place for place in PLACES if place[1] is not Hook.RAW and place[0] is not ORPHAN]
LOG = Settings(on_error="log")


@pytest.fixture
def app() -> App[None]:
    return App("test")


def opened(port: int = 40000, start: float = START) -> Conversation:
    return Conversation(f"10.0.0.1:{port}", start=start).handshake()


def eventful() -> list[Frame]:
    """Frames that raise every event of a flow."""
    c = Conversation().client("S").wait(1).client("S", seq=0).server("SA").client("A").client("PA", b"hello")
    c.client("PA", b"hello", seq=1).client("R", seq=5000, forged=True).wait(5).server("A").server(
        "PA", b"you"
    )
    return c.client("A").close().frames


def held(report: Report) -> dict[str, int]:
    return {name: n for name, n in report.counters.items() if name.startswith("held.") and n}


# --- what they are given ---------------------------------------------------------------------------------


def test_parameters_are_given_by_name(app: App[None]) -> None:
    seen: list[Any] = []
    app.on(PKT_IN)(lambda: seen.append(()))
    app.on(PKT_IN)(lambda time: seen.append(time))
    app.on(PKT_IN)(lambda side, flow: seen.append((side, flow)))

    @app.on(PKT_IN)
    def ask_for_all(event: Occurrence, time: float, side: str, half: Half, flow: Flow, pkt: Packet) -> None:
        seen.append((event.event, time, side, half.name, flow.key, pkt.syn))

    play(Conversation().client("S").frames, app)
    ends = ("10.0.0.1", 40000, "10.0.0.2", 80)
    assert seen[:2] == [(), START]
    assert seen[2][1].key == ends
    assert seen[3] == (PKT_IN, START, "client", "client", ends, True)


def test_a_filter_picks_the_flows_of_a_callback(app: App[None]) -> None:
    ports: list[tuple[str, int]] = []
    app.on(CONN_SETUP, filter="client port 1")(lambda flow: ports.append(("one", flow.client.port)))
    app.on(CONN_SETUP, filter="not client port 1")(lambda flow: ports.append(("others", flow.client.port)))
    app.on(CONN_SETUP)(lambda flow: ports.append(("all", flow.client.port)))
    play(merge(opened(1), opened(2)), app)
    assert sorted(ports) == [("all", 1), ("all", 2), ("one", 1), ("others", 2)]


def test_without_mid_stream_a_callback_only_sees_whole_flows() -> None:
    frames = Conversation().client("PA", b"a").frames
    for midstream in (True, False):
        teller = Storyteller([(CONN_TEARDOWN, Hook.RECEIVER)], midstream=midstream)
        play(frames, teller.app)
        assert len(teller.notes) == midstream


@pytest.mark.parametrize(
    ("event", "hook"),
    [(event, hook) for event in Event for hook in Hook if hook not in event.hooks],
    ids=lambda value: value.name,
)
def test_a_hook_that_an_event_does_not_have_is_refused(app: App[None], event: Event, hook: Hook) -> None:
    with pytest.raises(RegistrationError, match=rf"{event.name} is raised at Hook\."):
        app.on(event, hook=hook)


def test_a_user_defined_event_has_the_hooks_of_its_root(app: App[None]) -> None:
    """At any depth (mOS asked the event below)."""
    syn = app.ude(PKT_IN)(lambda pkt: pkt.syn)
    deep = app.ude(syn)(lambda pkt: not pkt.ack_flag)
    for hook in Hook:
        app.on(deep, hook=hook)
    setup = app.ude(CONN_SETUP)(lambda: True)
    with pytest.raises(RegistrationError, match=r"Hook\.RECEIVER"):
        app.on(setup, hook=Hook.SENDER)


def test_a_packet_is_lent(app: App[None]) -> None:
    """Once its callbacks have returned it is stale; a copy is not."""
    kept: list[tuple[Packet, Packet]] = []
    app.on(PKT_IN)(lambda pkt: kept.append((pkt, pkt.copy())))
    play(opened().client("PA", b"hello").frames, app)
    assert [flags_of(copy) for _, copy in kept] == ["S", "SA", "A", "PA"]
    assert kept[-1][1].payload == b"hello"
    for lent, _ in kept:
        with pytest.raises(StalePacketError):
            _ = lent.seq
        with pytest.raises(StalePacketError):
            lent.copy()


def test_a_flow_can_be_read_after_its_callback(app: App[None]) -> None:
    kept: list[Flow] = []
    app.on(CONN_START)(lambda flow: kept.append(flow))
    play(opened().close().frames, app)
    assert (kept[0].reason, kept[0].client.packets) == ("fin", 4)


# --- context ---------------------------------------------------------------------------------------------


def test_each_app_keeps_its_own_context_of_a_flow() -> None:
    seen: list[dict[str, int]] = []

    def counting(name: str) -> App[None]:
        app: App[None] = App(name)

        @app.on(PKT_IN)
        def count(flow: Flow) -> None:
            flow.ctx[name] = flow.ctx.get(name, 0) + 1

        app.on(CONN_TEARDOWN)(lambda flow: seen.append(flow.ctx))
        return app

    play(merge(opened(1), opened(2).client("PA", b"a")), counting("one"), counting("two"))
    assert sorted(map(str, seen)) == ["{'one': 3}", "{'one': 4}", "{'two': 3}", "{'two': 4}"]


def test_handlers_and_callbacks_of_an_app_share_the_context(app: App[None]) -> None:
    @app.on(CONN_SETUP)
    def remember(flow: Flow) -> None:
        flow.ctx["setup"] = True

    found: list[Any] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        found.append(dict(conn.flow.ctx))
        conn.flow.ctx["handled"] = True
        await conn.closed()

    app.on(CONN_TEARDOWN)(lambda flow: found.append(flow.ctx))
    play(opened().client("PA", b"a").close().frames, app)
    assert found == [{"setup": True}, {"setup": True, "handled": True}]


def test_a_context_can_be_any_object(app: App[None]) -> None:
    @app.on(CONN_START, hook=Hook.SENDER)
    def begin(flow: Flow) -> None:
        flow.ctx = Counter()

    app.on(PKT_IN)(lambda flow, side: flow.ctx.update({side: 1}))
    ends: list[Any] = []
    app.on(CONN_TEARDOWN)(lambda flow: ends.append(flow.ctx))
    play(opened().frames, app)
    assert ends == [Counter(client=2, server=1)]


# --- coming and going ------------------------------------------------------------------------------------


def test_a_callback_can_cancel_itself(app: App[None]) -> None:
    calls: list[str] = []

    @app.on(PKT_IN)
    def once(pkt: Packet) -> None:
        calls.append(flags_of(pkt))
        once.cancel()

    app.on(PKT_IN)(lambda: calls.append("other"))
    play(opened().frames, app)
    assert calls == ["S", "other", "other", "other"]
    assert not once.active


def test_a_callback_can_cancel_those_after_it(app: App[None]) -> None:
    """Also those that wait for the same event of the same packet."""
    calls: list[str] = []

    @app.on(PKT_IN)
    def first() -> None:
        calls.append("first")
        second.cancel()
        later.cancel()

    second = app.on(PKT_IN)(lambda: calls.append("second"))
    later = app.on(PKT_OUT)(lambda: calls.append("later"))
    play(opened().frames, app)
    assert calls == ["first"] * 3


@pytest.mark.parametrize("batch", [1, None])
@pytest.mark.parametrize("midstream", [True, False])
def test_a_callback_registered_while_traffic_runs(
    app: App[None], *, batch: int | None, midstream: bool
) -> None:
    """Takes the flows that are running if it takes flows in mid-stream, and all that begin from then on."""
    calls: list[tuple[int, str]] = []

    @app.on(CONN_SETUP)
    def more() -> None:
        more.cancel()
        app.on(PKT_IN, midstream=midstream)(lambda flow, pkt: calls.append((flow.client.port, flags_of(pkt))))

    play([*opened(1).client("FA").frames, *opened(2, START + 1).frames], app, batch=batch)
    running = [(1, "FA")] if midstream else []
    assert calls == [*running, (2, "S"), (2, "SA"), (2, "A")]


def test_the_last_callback_to_go_takes_its_bytes_with_it(app: App[None]) -> None:
    """Nobody needs the stream any more: it is followed no further."""
    levels: list[Level] = []

    @app.on(CONN_NEW_DATA)
    def once() -> None:
        once.cancel()

    app.on(PKT_OUT)(lambda half: levels.append(half.level))
    report = play(opened().client("PA", b"a").client("PA", b"b").client("PA", b"c").frames, app)
    assert levels[:4] == [Level.STREAM] * 4
    assert held(report) == {}


def test_a_callback_of_a_connection_that_is_gone_can_be_cancelled(app: App[None]) -> None:
    """Its record may be another connection's by now, whose callbacks stay."""
    calls: list[tuple[int, str]] = []
    registrations: list[Any] = []
    active: list[list[bool]] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        registrations.append(
            conn.on(PKT_IN, lambda flow, pkt: calls.append((flow.client.port, flags_of(pkt))))
        )
        for earlier in registrations[:-1]:
            earlier.cancel()
        active.append([each.active for each in registrations])
        await conn.closed()

    frames = []
    for port in range(1, 5):  # a record is free again a batch after its flow has gone
        frames += opened(port, START + 1000 * port).client("PA", b"x").client("R").frames
    report = play(frames, app)
    assert active == [[True], [False, True], [False, False, True], [False, False, False, True]]
    assert calls == [(port, "R") for port in range(1, 5)]  # a handler starts behind the first bytes
    assert held(report) == {}


def test_all_that_is_registered_can_be_cancelled_at_once() -> None:
    teller = Storyteller()

    @teller.app.on(CONN_SETUP)
    def stop() -> None:
        for registration in list(teller.app.callbacks):
            registration.cancel()

    report = play(eventful(), teller.app)
    assert teller.notes[-1][1] == "setup"
    assert held(report) == {}


# --- mistakes --------------------------------------------------------------------------------------------


def test_a_callback_that_raises_is_not_called_again_for_that_flow(app: App[None]) -> None:
    calls: list[tuple[str, int]] = []

    @app.on(PKT_IN)
    def fail(flow: Flow) -> None:
        calls.append(("fail", flow.client.port))
        raise ValueError("on purpose")

    app.on(PKT_IN)(lambda flow: calls.append(("other", flow.client.port)))
    other: App[None] = App("other")
    other.on(PKT_IN)(lambda flow: calls.append(("app", flow.client.port)))
    with capture_logs() as logs:
        report = play(merge(opened(1), opened(2)), app, other, settings=LOG)
    assert Counter(calls) == {
        (name, port): times for port in (1, 2) for name, times in (("fail", 1), ("other", 3), ("app", 3))
    }
    assert report.counters["callback_errors"] == 2
    failed = [entry for entry in logs if entry["event"] == "callback_failed"]
    assert len(failed) == 2
    assert failed[0]["app"].endswith("fail")
    assert "10.0.0.1:1" in failed[0]["flow"]


@pytest.mark.parametrize("place", OF_FLOWS, ids=lambda place: f"{place[0].name}-{place[1].name}")
def test_an_exception_in_any_event_changes_nothing_else(place: tuple[Event, Hook]) -> None:
    def tell(*apps: App[None]) -> list[str]:
        teller = Storyteller()
        report = play(eventful(), *apps, teller.app, settings=LOG)
        assert held(report) == {}
        return teller.lines

    app: App[None] = App("failing")
    event, hook = place
    app.on(CONN_SETUP)(lambda flow: flow.timer(1))

    @app.on(event, hook=hook)
    def fail() -> None:
        raise ValueError("on purpose")

    with capture_logs():
        assert tell(app) == tell()


@pytest.mark.parametrize("place", [(PKT_IN, Hook.RAW), (ORPHAN, Hook.RECEIVER)], ids=str)
def test_mistakes_about_packets_without_a_flow_are_counted_each(
    app: App[None], place: tuple[Event, Hook]
) -> None:
    """There is no flow to be left alone; of one callback ten are logged."""
    frames = Conversation()
    for _ in range(20):
        frames.client("A")

    @app.on(place[0], hook=place[1])
    def fail() -> None:
        raise ValueError("on purpose")

    with capture_logs() as logs:
        report = play(frames.frames, app, settings=LOG)
    assert report.counters["callback_errors"] == 20
    assert len([entry for entry in logs if entry["event"] == "callback_failed"]) == 10


def test_an_app_sees_its_own_mistakes_counted() -> None:
    good: App[None] = App("good")
    bad: App[None] = App("bad")
    good.on(PKT_IN)(lambda: None)
    bad.on(PKT_IN)(lambda: 1 / 0)
    counted: list[Any] = []

    async def main() -> None:
        async with aiomos.Runtime(source=source_of(opened().frames), settings=LOG) as runtime:
            await runtime.attach(good)
            await runtime.attach(bad)
            await runtime.run()
            counted.append(runtime.app_statistics())

    with capture_logs():
        asyncio.run(main())
    of_good, of_bad = counted[0].values()
    assert (of_good["callbacks"], of_good["errors"]) == (3, 0)
    assert (of_bad["callbacks"], of_bad["errors"]) == (1, 1)


# --- leaving a flow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", OF_FLOWS, ids=lambda place: f"{place[0].name}-{place[1].name}")
@pytest.mark.parametrize("batch", [1, None])
def test_a_flow_can_be_stopped_inside_any_event(place: tuple[Event, Hook], batch: int | None) -> None:
    """It is the last that the app is told of the flow, even of the same packet; others are told all."""
    event, hook = place
    leaver = Storyteller()

    @leaver.app.on(CONN_SETUP)
    def set_timer(flow: Flow) -> None:
        flow.timer(1)

    @leaver.app.on(event, hook=hook)
    def stop(flow: Flow) -> None:
        leaver.notes.append(("", "stopped"))
        flow.stop()

    leaver.app.callbacks.insert(0, leaver.app.callbacks.pop())
    stays, alone = Storyteller(), Storyteller()
    report = play(eventful(), leaver.app, stays.app, batch=batch)
    play(eventful(), alone.app, batch=batch)
    after = leaver.notes[leaver.notes.index(("", "stopped")) + 1 :]
    assert [word for _, word in after if word != "raw"] == []
    assert stays.lines == alone.lines
    assert held(report) == {}


def test_a_stopped_flow_lets_its_bytes_go(app: App[None]) -> None:
    """While it still runs."""
    counters: list[int] = []

    async def main() -> None:
        c = opened().client("PA", bytes(1000)).client("PA", bytes(1000)).client("PA", b"stop").client("A")
        async with aiomos.Runtime(source=source_of(c.frames, batch=1)) as runtime:

            @app.on(PKT_IN, level=Level.STREAM)
            def look(pkt: Packet, flow: Flow) -> None:
                counters.append(runtime.statistics()["held.kept"])
                if pkt.payload == b"stop":
                    flow.stop()

            watcher: App[None] = App("watcher")
            watcher.on(PKT_IN)(lambda: counters.append(runtime.statistics()["held.kept"]))
            await runtime.attach(app)
            await runtime.attach(watcher)
            await runtime.run()

    asyncio.run(main())
    assert max(counters) > 0
    assert counters[-1] == 0


def test_stop_leaves_the_connections_of_the_app(app: App[None]) -> None:
    ended: list[Any] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        ended.append([side async for side, _ in conn])

    @app.on(PKT_IN)
    def stop(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"stop":
            flow.stop()

    other: App[None] = App("other")

    @other.monitor()
    async def handle_too(conn: MonitorConnection) -> None:
        ended.append(await conn.client.read())

    play(opened().client("PA", b"a").client("PA", b"stop").client("PA", b"b").close().frames, app, other)
    assert ended == [["client"], b"astopb"]


# --- timers ----------------------------------------------------------------------------------------------


def timed(app: App[None], begin: Callable[[Flow], object], c: Conversation) -> None:
    @app.on(CONN_START)
    def start(flow: Flow) -> None:
        begin(flow)

    play(c.frames, app)


def ticking(seconds: int = 5) -> Conversation:
    """A packet a second."""
    c = Conversation(step=0).client("S").wait(0.25)
    for _ in range(seconds):
        c.client("S", seq=0).wait(1)
    return c


def test_timers_run_out_in_the_order_of_their_times(app: App[None]) -> None:
    order: list[str] = []

    def begin(flow: Flow) -> None:
        for delay, name in ((2.5, "third"), (1.5, "first"), (2.5, "fourth"), (2.0, "second")):
            flow.timer(delay, lambda _, name=name: order.append(name))

    timed(app, begin, ticking())
    assert order == ["first", "second", "third", "fourth"]


def test_a_timer_can_be_cancelled(app: App[None]) -> None:
    order: list[str] = []

    def begin(flow: Flow) -> None:
        kept = flow.timer(1, lambda _: order.append("kept"))
        gone = flow.timer(1, lambda _: order.append("gone"))
        assert (gone.active, gone.due) == (True, START + 1)
        gone.cancel()
        gone.cancel()
        assert not gone.active
        flow.timer(2, lambda _: order.append(f"kept is {kept.active}"))

    timed(app, begin, ticking())
    assert order == ["kept", "kept is False"]


def test_a_timer_can_be_set_again_when_it_runs_out(app: App[None]) -> None:
    times: list[float] = []

    def tick(flow: Flow) -> None:
        times.append(len(times))
        flow.timer(1, tick)

    timed(app, lambda flow: flow.timer(1, tick), ticking(5))
    assert len(times) == 4


def test_a_timer_with_a_function_raises_no_event(app: App[None]) -> None:
    called: list[str] = []
    app.on(TIMEOUT)(lambda: called.append("event"))
    timed(app, lambda flow: flow.timer(1, lambda _: called.append("function")), ticking())
    assert called == ["function"]


def test_a_timer_is_its_apps_alone(app: App[None]) -> None:
    called: list[str] = []
    app.on(TIMEOUT)(lambda: called.append("mine"))
    other: App[None] = App("other")
    other.on(TIMEOUT)(lambda: called.append("other"))
    app.on(CONN_START)(lambda flow: flow.timer(1))
    play(ticking().frames, app, other)
    assert called == ["mine"]


def test_a_timer_ends_with_its_flow(app: App[None]) -> None:
    called: list[str] = []
    frames = [*opened().client("R").frames, *opened(1, START + 20).frames]
    app.on(CONN_SETUP, filter="client port 40000")(
        lambda flow: flow.timer(15, lambda _: called.append("late"))
    )
    app.on(CONN_TEARDOWN)(lambda: called.append("end"))
    play(frames, app)
    assert called == ["end", "end"]


def test_no_timer_of_a_stopped_flow_runs_out(app: App[None]) -> None:
    """The app gets nothing more of it."""
    called: list[str] = []
    app.on(TIMEOUT)(lambda: called.append("event"))

    def begin(flow: Flow) -> None:
        flow.timer(1)
        flow.timer(1, lambda _: called.append("function"))
        flow.stop()

    timed(app, begin, ticking())
    assert called == []


@pytest.mark.parametrize("delay", [-1, -1e-9, float("nan"), float("inf")])
def test_a_timer_needs_a_delay(app: App[None], delay: float) -> None:
    errors: list[type] = []

    def begin(flow: Flow) -> None:
        with pytest.raises(ValueError, match=r"."):
            flow.timer(delay)
        errors.append(ValueError)

    timed(app, begin, ticking())
    assert errors == [ValueError]


def test_a_timer_of_0_seconds_runs_out_before_the_next_packet_that_is_later(app: App[None]) -> None:
    order: list[str] = []
    app.on(PKT_IN)(lambda: order.append("packet"))
    timed(app, lambda flow: flow.timer(0, lambda _: order.append("timer")), ticking(1))
    assert order == ["packet", "timer", "packet"]


def test_a_mistake_in_a_timer_is_contained(app: App[None]) -> None:
    with capture_logs():
        app.on(CONN_START)(lambda flow: flow.timer(1, lambda _: 1 / 0))
        report = play(ticking().frames, app, settings=LOG)
    assert report.counters["callback_errors"] == 1


def test_a_flow_that_has_ended_takes_no_timer(app: App[None]) -> None:
    kept: list[Flow] = []
    app.on(CONN_START)(lambda flow: kept.append(flow))
    play(opened().close().frames, app)
    for act in (
        lambda flow: flow.timer(1),
        lambda flow: flow.emit(app.event("late")),
        lambda flow: flow.stop(),
    ):
        with pytest.raises(FlowClosed):
            act(kept[0])


# --- user-defined events ---------------------------------------------------------------------------------


def test_an_event_upon_an_event(app: App[None]) -> None:
    """Parents before children, in the order of definition, once each; a branch that does not hold is left out."""
    order: list[str] = []
    data = app.ude(PKT_IN, name="data")(lambda pkt: pkt.payload_len > 0)
    long = app.ude(data, name="long")(lambda pkt: pkt.payload_len > 3)
    longest = app.ude(long, name="longest")(lambda pkt: pkt.payload_len > 5)
    short = app.ude(data, name="short")(lambda pkt: pkt.payload_len <= 3)
    for event in (longest, short, long, data):
        app.on(event)(lambda event: order.append(event.name))
    app.on(PKT_IN)(lambda pkt: order.append(str(pkt.payload_len)))
    c = opened().client("PA", b"ab").client("PA", b"abcd").client("PA", b"abcdef")
    play(c.frames, app)
    assert order[3:] == ["2", "data", "short", "4", "data", "long", "6", "data", "long", "longest"]


def test_predicates_that_need_python_do_the_same(app: App[None]) -> None:
    """Whether a predicate is compiled shows nowhere but in the time it takes."""
    order: list[str] = []

    def ends_in(end: bytes, packet: Packet) -> bool:
        return packet.payload in (b"ab", b"abcdef") and packet.payload.endswith(end)

    data = app.ude(PKT_IN, name="data")(lambda pkt: pkt.payload_len > 0)
    python = app.ude(data, name="python")(lambda pkt: ends_in(b"", pkt))
    native = app.ude(python, name="native")(lambda pkt: pkt.payload_len > 3)
    assert (data.native, python.native, native.native) == (True, False, True)
    for event in (data, python, native):
        app.on(event)(lambda event: order.append(event.name))
    c = opened().client("PA", b"ab").client("PA", b"abcd").client("PA", b"abcdef")
    play(c.frames, app)
    assert order == ["data", "python", "data", "data", "python", "native"]


def test_only_branches_that_lead_to_a_callback_are_looked_at(app: App[None]) -> None:
    looked: list[str] = []

    def noting(name: str) -> Callable[[], bool]:
        def predicate() -> bool:
            looked.append(name)
            return True

        return predicate

    below = app.ude(PKT_IN)(noting("below"))
    app.ude(PKT_IN)(noting("nobody waits"))
    app.ude(below)(noting("nor above"))
    above = app.ude(below)(noting("above"))
    app.on(above)(lambda: looked.append("call"))
    play(Conversation().client("S").frames, app)
    assert looked == ["below", "above", "call"]


def test_an_event_of_several_apps_is_looked_at_once() -> None:
    looked: list[str] = []

    def predicate() -> bool:
        looked.append("looked")
        return True

    event = aiomos.App("library").ude(PKT_IN)(predicate)
    apps: list[App[None]] = [App("one"), App("two")]
    for app in apps:
        app.on(event)(lambda: looked.append("call"))
    play(Conversation().client("S").frames, *apps)
    assert looked == ["looked", "call", "call"]


def test_filters_of_events_and_of_callbacks_both_count(app: App[None]) -> None:
    ports: list[int] = []
    event = app.ude(CONN_SETUP, filter="client port 1 or client port 2")(lambda: True)
    app.on(event, filter="client port 2 or client port 3")(lambda flow: ports.append(flow.client.port))
    play(merge(opened(1), opened(2), opened(3)), app)
    assert ports == [2]


def test_a_filter_of_an_event_below_counts_too(app: App[None]) -> None:
    ports: list[int] = []
    below = app.ude(CONN_SETUP, filter="client port 1")(lambda: True)
    above = app.ude(below)(lambda: True)
    app.on(above)(lambda flow: ports.append(flow.client.port))
    play(merge(opened(1), opened(2)), app)
    assert ports == [1]


def test_an_event_can_be_undefined_while_traffic_runs(app: App[None]) -> None:
    """With all upon it; what is in the air of the same packet included."""
    order: list[str] = []
    data = app.ude(PKT_IN, name="data")(lambda pkt: pkt.payload_len > 0)
    upon = app.ude(data, name="upon")(lambda: True)
    app.on(PKT_IN)(lambda: order.append("packet"))

    @app.on(data)
    def once() -> None:
        order.append("data")
        data.undefine()

    app.on(upon)(lambda: order.append("upon"))
    play(opened().client("PA", b"a").client("PA", b"b").frames, app)
    assert order[3:] == ["packet", "data", "packet"]
    assert not data.active
    with pytest.raises(RegistrationError, match="undefined"):
        app.ude(data)(lambda: True)


def test_a_predicate_that_raises_is_false_and_not_asked_again(app: App[None]) -> None:
    asked: list[str] = []
    table: dict[int, bool] = {}

    def predicate(flow: Flow, pkt: Packet) -> bool:
        asked.append(flags_of(pkt))
        return table[flow.client.port]

    event = app.ude(PKT_IN)(predicate)
    app.on(event)(lambda: asked.append("call"))
    with capture_logs() as logs:
        report = play(opened().frames, app, settings=LOG)
    assert asked == ["S"]
    assert report.counters["callback_errors"] == 1
    assert logs[0]["event"] == "callback_failed"


@pytest.mark.parametrize("place", OF_FLOWS, ids=lambda place: f"{place[0].name}-{place[1].name}")
def test_any_event_of_a_flow_can_be_built_upon(app: App[None], place: tuple[Event, Hook]) -> None:
    event, hook = place
    base: list[Any] = []
    upon: list[Any] = []
    user = app.ude(event)(lambda: True)
    app.on(CONN_SETUP)(lambda flow: flow.timer(1))
    app.on(event, hook=hook)(_append(base))
    app.on(user, hook=hook)(_append(upon))
    play(eventful(), app)
    assert base == upon != []


def _append(into: list[Any]) -> Callable[..., None]:
    def note(event: Occurrence) -> None:
        into.append(
            (event.time, event.side, event.kind, event.before, event.after, event.offset, event.length)
        )

    return note


# --- raised by hand --------------------------------------------------------------------------------------


def test_an_event_raised_by_hand_is_raised_at_once(app: App[None]) -> None:
    order: list[str] = []
    event = app.event("by hand")
    upon = app.ude(event, name="upon")(lambda side: side == "server")
    app.on(event)(lambda event: order.append(event.name))
    app.on(upon)(lambda event: order.append(event.name))

    @app.on(PKT_IN)
    def emit(flow: Flow, side: str) -> None:
        order.append(side)
        app.emit(event, flow)
        order.append("emitted")

    play(Conversation().client("S").server("SA").frames, app)
    assert order == ["client", "by hand", "emitted", "server", "by hand", "upon", "emitted"]


def test_what_is_raised_by_hand_in_a_callback_has_its_packet(app: App[None]) -> None:
    event = app.event("by hand")
    seen: list[Any] = []
    app.on(event)(lambda pkt, side, time, half: seen.append((flags_of(pkt), side, time, half.name)))
    app.on(PKT_IN)(lambda flow: flow.emit(event))
    play(Conversation().client("S").frames, app)
    assert seen == [("S", "client", START, "client")]


def test_others_can_wait_for_what_an_app_raises(app: App[None]) -> None:
    event = app.event("by hand")
    other: App[None] = App("other")
    seen: list[Any] = []
    other.on(event)(lambda flow: seen.append(flow.ctx))
    app.on(CONN_SETUP)(lambda flow: app.emit(event, flow))
    play(opened().frames, app, other)
    assert seen == [{}]


def test_a_predicate_is_not_asked_when_its_event_is_raised_by_hand(app: App[None]) -> None:
    event = app.ude(PKT_IN)(lambda: False)
    seen: list[str] = []
    app.on(event)(lambda: seen.append("call"))
    app.on(CONN_SETUP)(lambda flow: app.emit(event, flow))
    play(opened().frames, app)
    assert seen == ["call"]


def test_callbacks_that_emit_can_only_be_so_deep(app: App[None]) -> None:
    depth: list[int] = []
    event = app.event("again")

    @app.on(event)
    def again(flow: Flow) -> None:
        depth.append(len(depth))
        app.emit(event, flow)

    app.on(CONN_SETUP)(lambda flow: app.emit(event, flow))
    with capture_logs() as logs:
        report = play(opened().frames, app, settings=LOG)
    assert 10 < len(depth) < 20
    assert report.counters["callback_errors"] == 1
    assert "RecursionError" in repr(logs[0]["exc_info"])


def test_only_user_defined_events_are_raised_by_hand(app: App[None]) -> None:
    errors: list[Exception] = []

    @app.on(CONN_SETUP)
    def emit(flow: Flow) -> None:
        for wrong in (PKT_IN, "by hand", None):
            with pytest.raises(RegistrationError, match="user-defined"):
                app.emit(wrong, flow)  # type: ignore[arg-type]
            errors.append(RegistrationError())

    play(opened().frames, app)
    assert len(errors) == 3


def test_a_handler_can_raise_an_event(app: App[None]) -> None:
    event = app.event("by hand")
    seen: list[Any] = []
    app.on(event)(lambda pkt, flow, side: seen.append((pkt, flow.client.port, side)))

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        app.emit(event, conn.flow)
        await conn.closed()
        with pytest.raises(FlowClosed):
            app.emit(event, conn.flow)

    play(opened().client("PA", b"a").close().frames, app)
    assert seen == [(None, 40000, "client")]


# --- of one connection -----------------------------------------------------------------------------------


def test_a_connection_can_be_listened_to(app: App[None]) -> None:
    seen: list[Any] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        if conn.flow.client.port == 1:
            conn.on(PKT_IN, lambda pkt, flow: seen.append((flow.client.port, flags_of(pkt))))
        await conn.closed()

    play(merge(opened(1), opened(2)), app)
    assert seen == [(1, "SA"), (1, "A")]


def test_a_callback_of_a_connection_can_be_cancelled(app: App[None]) -> None:
    seen: list[str] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        def once(pkt: Packet) -> None:
            seen.append(flags_of(pkt))
            registration.cancel()
            registration.cancel()

        registration = conn.on(PKT_IN, once, hook=Hook.SENDER)
        assert registration.active
        await conn.closed()
        assert not registration.active

    report = play(opened().frames, app)
    assert seen == ["SA"]
    assert held(report) == {}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_callback_of_a_connection_can_cancel_those_after_it(app: App[None], which: int) -> None:
    """Of the same event: what is cancelled is not called any more, not for this packet either."""
    seen: list[tuple[int, str]] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        def noting(number: int) -> Callable[[Packet], None]:
            def note(pkt: Packet) -> None:
                seen.append((number, flags_of(pkt)))
                if number == 0:
                    registrations[which].cancel()

            return note

        registrations = [conn.on(PKT_IN, noting(number), hook=Hook.SENDER) for number in range(3)]
        await conn.closed()

    report = play(opened().frames, app)
    left = [number for number in range(3) if number != which]
    first = [0, 1, 2] if which == 0 else left
    assert seen == [(number, "SA") for number in first] + [(number, "A") for number in left]
    assert held(report) == {}


@pytest.mark.parametrize("how", ["callbacks", "events"])
def test_the_last_callback_of_a_connection_takes_its_level_along(app: App[None], how: str) -> None:
    """Not before: there are two of the same event."""
    levels: list[Level] = []
    told: list[bytes] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        ends: list[Callable[[], object]]
        if how == "callbacks":
            ends = [
                conn.on(CONN_NEW_DATA, lambda half: told.append(half.peek(0, 9))).cancel for _ in range(2)
            ]
        else:
            ends = [conn.events(CONN_NEW_DATA).close for _ in range(2)]

        def count(pkt: Packet) -> None:
            if pkt.payload:
                ends.pop()()

        counting = conn.on(PKT_IN, count)
        async for _ in conn.events(PKT_OUT):
            if not ends:
                counting.cancel()

    other: App[None] = App("other")
    other.on(PKT_OUT)(lambda half: levels.append(half.level))
    c = opened()
    for payload in (b"a", b"b"):
        c.client("PA", payload).server("A")
    report = play(c.close().frames, app, other)
    raised = CONN_NEW_DATA.level
    assert levels[:8] == [Level.STATE] + [raised] * 4 + [Level.STATE] * 3
    assert held(report) == {}


@pytest.mark.parametrize("how", ["callbacks", "events"])
def test_what_is_cancelled_after_its_flow_changes_no_other(app: App[None], how: str) -> None:
    """What that flow took of the engine is another's by then."""
    ends: list[Callable[[], object]] = []
    told: list[bytes] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        if conn.flow.client.port == 1:
            if how == "callbacks":
                ends.append(conn.on(CONN_NEW_DATA, lambda: None).cancel)
            else:
                ends.append(conn.events(CONN_NEW_DATA).close)
        await conn.closed()

    other: App[None] = App("other")

    @other.on(CONN_NEW_DATA, filter="client port 2")
    def cancel_and_look(half: Half) -> None:
        if ends:
            ends.pop()()
        told.append(half.peek(0, 9))

    first, second = opened(1), opened(2, START + 1)
    first.client("R")
    for payload in (b"one", b"two"):
        second.client("PA", payload).server("A")
    settings = Settings(on_error="raise", timeouts=Timeouts(reset=0))
    report = play(first.frames + second.close().frames, app, other, settings=settings)
    assert (ends, told) == ([], [b"one", b"onetwo"])
    assert held(report) == {}


def test_what_cannot_be_listened_to_on_a_connection(app: App[None]) -> None:
    done: list[bool] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        with pytest.raises(RegistrationError):
            conn.on(CONN_SETUP, lambda: None, hook=Hook.SENDER)
        with pytest.raises(RegistrationError):
            conn.on(PKT_IN, lambda packet: packet)
        with pytest.raises(RegistrationError):
            conn.on("pkt_in", lambda: None)  # type: ignore[arg-type]
        with pytest.raises(RegistrationError):
            conn.events("pkt_in")  # type: ignore[arg-type]
        await conn.closed()
        with pytest.raises(FlowClosed):
            conn.on(PKT_IN, lambda: None)
        done.append(True)

    play(opened().frames, app)
    assert done == [True]


@pytest.mark.parametrize("batch", [1, 2, None])
def test_events_of_a_connection_are_an_iterator(app: App[None], batch: int | None) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        async for occurrence in conn.events(PKT_IN, CONN_SETUP, ERROR):
            packet = flags_of(occurrence.packet) if occurrence.packet is not None else None
            seen.append((occurrence.name, packet, occurrence.kind))
        seen.append(("over", None, None))

    play([*opened().client("R", seq=5000, forged=True).close().frames], app, batch=batch)
    if batch == 1:
        assert seen == [
            ("pkt_in", "SA", None),
            ("pkt_in", "A", None),
            ("conn_setup", "A", None),
            ("error", "R", "bad_reset"),
            ("pkt_in", "R", None),
            ("pkt_in", "FA", None),
            ("pkt_in", "A", None),
            ("pkt_in", "FA", None),
            ("pkt_in", "A", None),
            ("over", None, None),
        ]
    assert seen[-1] == ("over", None, None)


def test_a_handler_that_is_slow_to_take_events_holds_the_reader_back(app: App[None]) -> None:
    """None is missed, and no more are kept than a limit and what a batch brings."""
    total, most = 20_000, 0
    c = opened()
    for _ in range(total):
        c.client("A")
    taken = 0

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        nonlocal taken, most
        events = conn.events(PKT_IN)
        async for _ in events:
            taken += 1
            most = max(most, conn.flow.client.packets - taken)
            if taken % 100 == 0:
                await asyncio.sleep(0)
        assert events.missed == 0

    play(c.frames, app, batch=50)
    assert taken == total + 3 - 50, "all since the batch in which the handler was started"
    assert most < 2000


def test_events_that_a_handler_cannot_take_meanwhile_are_missed_and_counted(app: App[None]) -> None:
    """It waits for the end: the engine cannot wait for it."""
    total = 20_000
    c = opened()
    for _ in range(total):
        c.client("A")
    counts: list[int] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        events = conn.events(PKT_IN)
        await conn.closed()
        taken = len([occurrence async for occurrence in events])
        counts.extend((taken, events.missed))

    play(c.frames, app, batch=1000)
    taken, missed = counts
    assert 10_000 < taken < total
    assert taken + missed == total + 3 - 1000


def test_events_pile_up_no_further_while_a_handler_sleeps(app: App[None]) -> None:
    """The engine waits for nobody then; without the limit all would be kept."""
    total = 40_000
    c = opened()
    for _ in range(total):
        c.client("A")
    counts: list[int] = []

    @app.monitor(level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        events = conn.events(PKT_IN)
        await aiomos.sleep((total - 2000) / 1000)
        events.close()
        counts.extend((len([occurrence async for occurrence in events]), events.missed))

    play(c.frames, app, batch=1000)
    taken, missed = counts
    assert taken == 16 * 1024
    assert missed > 10_000


def test_events_can_be_closed(app: App[None]) -> None:
    seen: list[str] = []

    @app.monitor(level=Level.STATE, start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        events = conn.events(PKT_IN)
        async for occurrence in events:
            assert occurrence.packet is not None
            seen.append(flags_of(occurrence.packet))
            events.close()

    play(opened().close().frames, app)
    assert seen == ["SA"]


# --- handlers that wait for an event ---------------------------------------------------------------------


def answering() -> list[Frame]:
    c = opened()
    for turn in range(4):
        c.client("PA", f"ask {turn};".encode()).server("PA", f"answer {turn};".encode())
    return c.client("A").close().frames


CLIENT = b"ask 0;ask 1;ask 2;ask 3;"
SERVER = b"answer 0;answer 1;answer 2;answer 3;"


@pytest.mark.parametrize("batch", [1, 2, 7, None])
@pytest.mark.parametrize("word", [b"ask 0", b"answer 0", b"ask 2", b"answer 3"])
def test_a_handler_that_starts_late_reads_from_the_beginning(
    app: App[None], batch: int | None, word: bytes
) -> None:
    read: list[bytes] = []
    found = app.ude(CONN_NEW_DATA)(lambda half: word in half.peek(0, 1000))

    @app.monitor(start=found)
    async def handle(conn: MonitorConnection) -> None:
        read.extend((await conn.client.read(), await conn.server.read()))

    report = play(answering(), app, batch=batch)
    assert read == [CLIENT, SERVER]
    assert held(report) == {}


@pytest.mark.parametrize(
    "event", [CONN_START, CONN_SETUP, PKT_IN, STATE_CHANGE], ids=lambda event: event.name
)
@pytest.mark.parametrize("batch", [1, None])
def test_a_handler_can_wait_for_a_built_in_event(app: App[None], event: Event, batch: int | None) -> None:
    read: list[bytes] = []

    @app.monitor(start=event)
    async def handle(conn: MonitorConnection) -> None:
        read.extend((await conn.client.read(), await conn.server.read()))

    play(answering(), app, batch=batch)
    assert read == [CLIENT, SERVER]


def test_where_its_event_does_not_happen_a_handler_is_not_started(app: App[None]) -> None:
    never = app.ude(CONN_NEW_DATA)(lambda half: b"never" in half.peek(0, 1000))
    started: list[int] = []

    @app.monitor(start=never)
    async def handle(_: MonitorConnection) -> None:
        started.append(1)

    report = play(answering(), app)
    assert started == []
    assert held(report) == {}
    assert report.counters["flows"] == 1


def test_a_handler_starts_once_a_flow(app: App[None]) -> None:
    started: list[int] = []

    @app.monitor(start=PKT_IN, level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        started.append(conn.flow.client.port)
        await conn.closed()

    play(merge(opened(1), opened(2)), app)
    assert sorted(started) == [1, 2]


def test_what_was_too_much_to_keep_is_a_gap(app: App[None]) -> None:
    c = opened()
    for turn in range(100):
        c.client("PA", bytes([turn]) * 1000).server("A")
    c.server("PA", b"start").client("A")
    read: list[Any] = []

    @app.monitor(start=app.ude(CONN_NEW_DATA)(lambda side: side == "server"), gaps="mark")
    async def handle(conn: MonitorConnection) -> None:
        read.extend([item async for item in conn.client])

    play(c.frames, app, settings=Settings(budgets=Budgets(kept_bytes_half=16384), on_error="raise"))
    gap, *chunks = read
    assert (gap.offset, gap.reason) == (0, "unread")
    assert gap.length + sum(map(len, chunks)) == 100_000
    assert sum(map(len, chunks)) >= 8192


def test_a_handler_that_waits_picks_no_more_than_its_filter(app: App[None]) -> None:
    started: list[int] = []

    @app.monitor("client port 2", start=CONN_SETUP)
    async def handle(conn: MonitorConnection) -> None:
        started.append(conn.flow.client.port)

    play(merge(opened(1), opened(2)), app)
    assert started == [2]


# --- what is taken away while it is used -----------------------------------------------------------------


@pytest.mark.parametrize("error", [IndexError, KeyError, RecursionError, FlowClosed])
def test_a_predicate_that_raises_once_its_last_callback_was_cancelled_is_logged(
    app: App[None], error: type[Exception]
) -> None:
    """In the same moment: nobody waits for its event any more."""

    @app.ude(PKT_IN)
    def bad() -> bool:
        raise error

    @app.on(PKT_IN)
    def first() -> None:
        on_bad.cancel()

    @app.on(bad)
    def on_bad() -> None:
        raise AssertionError

    with capture_logs() as logs:
        report = play(opened().client("PA", b"a").frames, app, settings=LOG)
    assert [type(log["exc_info"]) for log in logs] == [error]
    assert report.counters["callback_errors"] == 1
    assert not held(report)


def test_one_that_fires_once_then_is_silent_though_nobody_waits(app: App[None]) -> None:
    asked = 0

    @app.ude(PKT_IN, once=True)
    def once(pkt: Packet) -> bool:
        nonlocal asked
        asked += 1
        return len(str(pkt)) > 0

    app.on(PKT_IN)(lambda: on_once.cancel())
    on_once = app.on(once)(lambda: None)
    assert not held(play(opened().client("PA", b"a").frames, app))
    assert asked == 1


def test_callbacks_of_an_app_that_is_detached_within_one_are_called_no_more(app: App[None]) -> None:
    calls: list[str] = []

    @app.ude(PKT_IN)
    def judge() -> bool:
        calls.append("predicate")
        raise IndexError

    app.on(judge)(lambda: calls.append("event"))

    @app.on(PKT_IN)
    def leave(engine: aiomos.Runtime) -> None:
        calls.append("leave")
        engine.engine.remove_account(engine.attachments[app].account)

    with capture_logs() as logs:
        report = play(opened().client("PA", b"a").frames, app, settings=LOG)
    assert calls == ["leave", "predicate"]
    assert len(logs) == 1
    assert not held(report)


def test_nothing_can_be_registered_for_an_app_that_has_left(app: App[None]) -> None:
    refused: list[str] = []

    @app.on(CONN_SETUP)
    def leave(engine: aiomos.Runtime, flow: Flow) -> None:
        account = engine.attachments[app].account
        call = account.calls[0]
        engine.engine.remove_account(account)
        engine.engine.remove_account(account)  # twice, it does nothing
        engine.engine.remove_call(call)
        for late in (
            lambda: engine.engine.add_rule(None, Level.STATE, account=account),
            lambda: engine.engine.add_call(0, PKT_IN, Hook.RECEIVER, leave, ()),
            lambda: engine.engine.add_call(1 << 20, PKT_IN, Hook.RECEIVER, leave, ()),
            lambda: engine.engine.start_at(63, PKT_IN, leave),
            lambda: engine.engine.pick_up([1 << 20]),
            lambda: engine.engine.listen(flow, PKT_IN, Hook.RECEIVER, leave, ()),
        ):
            with pytest.raises(RegistrationError):
                late()
            refused.append("refused")
        with pytest.raises(FlowClosed):
            flow.timer(1)

    play(opened().frames, app)
    assert len(refused) == 6


def test_an_event_upon_orphans_is_none_of_a_connection(app: App[None]) -> None:
    upon = app.ude(ORPHAN)(lambda pkt: pkt.syn)
    refused = 0

    @app.monitor(level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        nonlocal refused
        with pytest.raises(RegistrationError):
            conn.on(upon, lambda: None)
        refused += 1

    play(opened().frames, app)
    assert refused == 1


def test_an_opener_that_makes_no_connection_is_an_error() -> None:
    engine = Engine(Settings(), bytes(16), print)
    engine.add_rule(Filter("").program, Level.STATE, opener=lambda _flow: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError):
        feed_frames(engine, opened().frames)


@pytest.mark.parametrize(("lag", "base"), [(-5, 0), (5, 5)])
def test_a_timer_counts_from_the_later_of_the_last_frame_and_the_transports_clock(
    lag: int, base: int
) -> None:
    """Set between batches, while that clock lags behind the frames, or has gone on."""
    watcher = Watcher()
    watcher.feed(opened().frames)
    assert watcher.flow is not None
    last_ns = watcher.engine.clock_ns
    watcher.engine.read_clock = lambda: last_ns + lag * 10**9
    assert watcher.flow.timer(1).due == pytest.approx((last_ns + (base + 1) * 10**9) / 1e9, abs=1e-6)
    watcher.finish()


def test_a_delivery_that_fails_gives_back_what_it_was_to_hand_over() -> None:
    engine = Engine(Settings(timeouts=Timeouts(reset=0)), bytes(16), print)
    pressure = Pressure(1 << 20, 1 << 20)

    def opener(flow: Flow) -> MonitorConnection:
        if flow.client.port == 40000:
            raise ValueError
        return MonitorConnection(flow, pressure, engine.released, "mark", True)

    engine.add_rule(Filter("").program, Level.STREAM, opener=opener)
    ended = opened(40001, start=START + 1).client("PA", b"hello").server("RA")
    with pytest.raises(ValueError):  # noqa: PT011 - it is the opener's
        feed_frames(engine, [*opened().client("PA", b"hello").frames, *ended.frames])
    held = {name: count for name, count in engine.statistics().items() if name.startswith("held.") and count}
    assert held == {"held.flows": 1, "held.tracks": 2}
    feed_frames(engine, opened(40002, start=START + 2).client("PA", b"hello").frames)
    while engine.finish():
        pass
    counters = engine.statistics()
    assert not any(count for name, count in counters.items() if name.startswith("held."))
    assert (counters["ended.rst"], counters["ended.end_of_capture"]) == (1, 2)
