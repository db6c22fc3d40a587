"""Several apps on one engine: flows are tracked once, at what the apps need together, and no app pays for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_TEARDOWN,
    ERROR,
    PKT_IN,
    PKT_OUT,
    App,
    Budgets,
    Flow,
    Gap,
    Hook,
    Level,
    MonitorConnection,
    Packet,
    RegistrationError,
    Report,
    Runtime,
    Settings,
)
from aiomos.engine.flow_timers import Timer
from aiomos.testing.scenario import START, Conversation, Frame, merge
from tests.events import flags_of, play, source_of
from tests.traffic import in_loop

RAISE = Settings(on_error="raise")
Step = Callable[[Runtime], Awaitable[None]]


def opened(port: int = 40000, start: float = START) -> Conversation:
    return Conversation(f"10.0.0.1:{port}", start=start).handshake()


def drive(
    frames: Sequence[Frame],
    *apps: App[Any],
    at: dict[int, Step] | None = None,
    settings: Settings = RAISE,
) -> Report:
    """Run apps frame by frame; before the frames numbered in *at* something else is done."""
    steps = at or {}

    async def main() -> Report:
        async with Runtime(source=source_of(frames, batch=1), settings=settings) as runtime:
            clock: App[None] = App("clock")
            seen = 0

            @clock.on(PKT_IN, hook=Hook.RAW)
            def count() -> None:
                nonlocal seen
                seen += 1

            for app in (*apps, clock):
                await runtime.attach(app)
            running = asyncio.get_running_loop().create_task(runtime.run())
            for number in sorted(steps):
                while seen < number and not running.done():
                    await asyncio.sleep(0)
                await steps[number](runtime)
            return await running

    return in_loop(main(), "asyncio")


def held(counters: dict[str, int]) -> dict[str, int]:
    return {name: n for name, n in counters.items() if name.startswith("held.") and n}


def reading(name: str, into: dict[str, bytes]) -> App[None]:
    """An app that reads both halves."""
    app: App[None] = App(name)

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        async for side, data in conn:
            into[f"{name} {side}"] = into.get(f"{name} {side}", b"") + data

    return app


def noting_levels(levels: list[tuple[Level, Level]]) -> App[None]:
    """An app that only needs the state, and notes the level of both halves at each packet."""
    app: App[None] = App("levels")
    app.on(PKT_OUT)(lambda flow: levels.append((flow.client.level, flow.server.level)))
    return app


# --- once ------------------------------------------------------------------------------------------------


def test_a_flow_is_tracked_once_whoever_watches_it() -> None:
    bytes_seen: dict[str, bytes] = {}
    frames = merge(*(opened(port).client("PA", b"hello") for port in range(1, 11)))
    apps = [reading(str(number), bytes_seen) for number in range(5)]
    counters: list[dict[str, int]] = []

    async def count(runtime: Runtime) -> None:
        counters.append(runtime.statistics())

    report = drive(frames, *apps, at={len(frames): count})
    assert (report.counters["flows"], report.counters["tcp"]) == (10, len(frames))
    assert (counters[0]["held.flows"], counters[0]["held.tracks"]) == (10, 20)
    assert set(bytes_seen.values()) == {b"hello" * 10}
    assert len(bytes_seen) == 5
    assert held(report.counters) == {}


def test_a_flow_runs_at_the_highest_level_that_somebody_needs() -> None:
    for callbacks, level in (
        ([Level.STATE], Level.STATE),
        ([Level.STATE, Level.BYTES], Level.BYTES),
        ([Level.STREAM, Level.STATE], Level.STREAM),
    ):
        levels: list[tuple[Level, Level]] = []
        apps = [noting_levels(levels)]
        for number, needed in enumerate(callbacks):
            app: App[None] = App(str(number))
            app.on(CONN_SETUP, level=needed)(lambda: None)
            apps.append(app)
        play(opened().frames, *apps)
        assert set(levels) == {(level, level)}


def test_a_filter_says_whose_flows_run_at_a_level() -> None:
    levels: dict[int, Level] = {}
    app: App[None] = App("test")
    app.on(PKT_OUT)(lambda flow: levels.update({flow.client.port: flow.client.level}))
    app.track("client port 2", level=Level.BYTES)
    app.track("client port 3")
    play(merge(opened(1), opened(2), opened(3)), app)
    assert levels == {1: Level.STATE, 2: Level.BYTES, 3: Level.STREAM}


def test_each_half_has_its_own_level() -> None:
    levels: list[tuple[Level, Level]] = []
    app: App[None] = App("client only")

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        conn.server.give_up()
        await conn.client.read(1)
        conn.leave()

    c = opened().client("PA", b"a").server("A").server("A").client("PA", b"b").server("A")
    play(c.frames, noting_levels(levels), app)
    assert levels[:3] == [(Level.STREAM, Level.STREAM)] * 3
    assert (Level.STREAM, Level.BYTES) in levels or levels[-1] == (Level.STATE, Level.STATE)
    assert levels[-1] == (Level.STATE, Level.STATE)


def test_bytes_are_kept_for_whoever_still_reads() -> None:
    """One handler leaves early, the other one gets every byte."""
    got: dict[str, bytes] = {}
    early: App[None] = App("early")

    @early.monitor()
    async def leave(conn: MonitorConnection) -> None:
        got["early"] = await conn.client.readexactly(3)

    c = opened()
    for turn in range(20):
        c.client("PA", bytes([turn]) * 100).server("PA", bytes([turn]) * 10)
    for apps in ([early, reading("late", got)], [reading("late", got), early]):
        got.clear()
        report = play(c.client("A").frames, *apps)
        assert got["early"] == bytes(3)
        assert got["late client"] == b"".join(bytes([turn]) * 100 for turn in range(20))
        assert got["late server"] == b"".join(bytes([turn]) * 10 for turn in range(20))
        assert held(report.counters) == {}


# --- nobody pays for another -----------------------------------------------------------------------------

SMALL = Settings(budgets=Budgets(stream_bytes=4096, stream_bytes_total=1 << 20), on_error="raise")


def flood(size: int = 200) -> list[Frame]:
    """Much more than may be unread."""
    c = opened()
    for turn in range(size):
        c.server("PA", bytes([turn & 0xFF]) * 1400).client("A")
    return c.client("PA", b"end").close().frames


def test_a_slow_handler_costs_another_app_no_bytes() -> None:
    """Offline the reader of frames waits."""
    got: dict[str, bytes] = {}
    slow: App[None] = App("slow")

    @slow.monitor()
    async def dawdle(conn: MonitorConnection) -> None:
        got["slow"] = b""
        async for data in conn.server:
            got["slow"] += data
            for _ in range(20):
                await asyncio.sleep(0)

    report = play(flood(), slow, reading("quick", got), settings=SMALL)
    assert got["slow"] == got["quick server"]
    assert len(got["slow"]) == 200 * 1400
    assert report.counters["gap.unread"] == 0


def test_a_handler_that_waits_for_the_engine_only_loses_its_own_bytes() -> None:
    """It reads the client's half, which says nothing, while the server's floods: its loss, and nobody else's."""
    got: dict[str, bytes] = {}
    waiting: App[None] = App("waiting")

    @waiting.monitor(gaps="mark")
    async def wait(conn: MonitorConnection) -> None:
        got["waiting client"] = await conn.client.read()
        got["waiting server"] = await conn.server.read()

    statistics: list[dict[str, dict[str, float]]] = []
    told: list[tuple[str, int]] = []
    quick = reading("quick", got)
    waiting.on(ERROR)(lambda event: told.append(("waiting", event.length)))
    quick.on(ERROR)(lambda event: told.append(("quick", event.length)))

    async def note(runtime: Runtime) -> None:
        statistics.append({app.name: values for app, values in runtime.app_statistics().items()})

    frames = flood()
    report = drive(frames, waiting, quick, at={len(frames): note}, settings=SMALL)
    assert got["waiting client"] == b"end"
    # Of what may be unread, chunks take something themselves.
    assert 16 * 4096 * 9 // 10 <= len(got["waiting server"]) <= 16 * 4096 + 1400
    assert len(got["quick server"]) == 200 * 1400
    lost = 200 * 1400 - len(got["waiting server"])
    assert report.counters["gap_bytes.unread"] == lost
    assert statistics[0]["waiting"]["gap_bytes"] == lost
    assert statistics[0]["quick"]["gap_bytes"] == 0
    assert {name for name, _ in told} == {"waiting"}
    assert sum(length for _, length in told) == lost


def test_each_app_has_its_own_account() -> None:
    got: dict[str, bytes] = {}
    caller: App[None] = App("caller")
    caller.on(PKT_IN, filter="client port 1")(lambda: None)
    statistics: list[dict[str, dict[str, float]]] = []

    async def note(runtime: Runtime) -> None:
        statistics.append({app.name: values for app, values in runtime.app_statistics().items()})

    frames = merge(opened(1).client("PA", b"hello"), opened(2).client("PA", b"you"))
    drive(frames, caller, reading("reader", got), at={len(frames): note})
    (told,) = statistics
    assert (told["caller"]["flows"], told["reader"]["flows"]) == (1, 2)
    assert (told["caller"]["callbacks"], told["reader"]["callbacks"]) == (4, 0)
    assert (told["caller"]["bytes"], told["reader"]["bytes"]) == (0, 8)
    assert (told["caller"]["handlers"], told["reader"]["handlers"]) == (0, 2)


def test_flows_are_counted_for_each_app_as_they_come_and_go() -> None:
    """By whatever way they go: stopped, ended, cancelled with the last callback, detached, and come again."""
    all_, some, late = (App[None](name) for name in ("all", "some", "late"))
    all_.on(CONN_TEARDOWN)(lambda: None)
    counted: list[list[float]] = []
    stopped: list[str] = []
    registration = some.on(PKT_IN, filter="client port 1 or client port 2")(lambda: None)

    @some.on(CONN_NEW_DATA)
    def stop(flow: Flow) -> None:
        if flow.client.port == 3:
            stopped.append(str(flow))
            flow.stop()

    late.on(PKT_IN, midstream=True)(lambda: None)

    async def count(runtime: Runtime) -> None:
        told = runtime.app_statistics()
        counted.append([told.get(app, {"flows": -1})["flows"] for app in (all_, some, late)])

    async def attach(runtime: Runtime) -> None:
        await runtime.attach(late)
        await count(runtime)

    async def cancel(runtime: Runtime) -> None:
        registration.cancel()
        await count(runtime)

    async def detach(runtime: Runtime) -> None:
        await runtime.detach(some)
        await count(runtime)
        await runtime.detach(late)
        await count(runtime)
        await runtime.attach(late)
        await count(runtime)

    frames: list[Frame] = []
    at: dict[int, Step] = {}
    for port in (1, 2, 3):
        frames += opened(port, START + port).frames
    at[len(frames)] = count
    frames += opened(3, START + 3).client("PA", b"hello").frames[-1:]
    at[len(frames)] = count
    frames += opened(4, START + 10).frames
    at[len(frames)] = attach
    frames += opened(4, START + 10).client("RA").frames[-1:]
    at[len(frames)] = cancel
    frames += opened(5, START + 100).frames  # the flow that was reset is forgotten by now
    at[len(frames)] = detach
    frames += opened(6, START + 101).frames
    at[len(frames)] = count
    drive(frames, all_, some, at=at)
    assert stopped
    assert counted == [
        [3, 3, -1],
        [3, 2, -1],
        [4, 3, 4],
        [4, 3, 4],
        [4, -1, 4],
        [4, -1, -1],
        [4, -1, 4],
        [5, -1, 5],
    ]


def test_a_mistake_of_one_app_is_not_another_apps() -> None:
    got: dict[str, bytes] = {}
    bad: App[None] = App("bad")
    bad.on(PKT_IN)(lambda: 1 / 0)

    @bad.monitor()
    async def fail(_: MonitorConnection) -> None:
        raise ValueError("on purpose")

    with capture_logs():
        report = play(
            opened().client("PA", b"hello").close().frames, bad, reading("good", got), settings=Settings()
        )
    assert got == {"good client": b"hello"}
    assert (report.counters["callback_errors"], report.counters["handler_errors"]) == (1, 1)
    assert held(report.counters) == {}


# --- coming while traffic runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("midstream", [True, False])
def test_an_app_can_be_attached_while_traffic_runs(*, midstream: bool) -> None:
    """It gets the flows that begin from then on; those that run, where it takes flows in mid-stream."""
    seen: list[tuple[int, str]] = []
    late: App[None] = App("late")

    @late.on(PKT_IN, midstream=midstream)
    def note(flow: Flow, pkt: Packet) -> None:
        seen.append((flow.client.port, flags_of(pkt)))

    running = opened(1).client("PA", b"a").server("A")
    frames = [*running.frames, *opened(2, START + 1).frames]
    drive(frames, reading("first", {}), at={3: lambda runtime: runtime.attach(late)})
    earlier = [(1, "PA"), (1, "A")] if midstream else []
    assert seen == [*earlier, (2, "S"), (2, "SA"), (2, "A")]


def test_who_comes_late_reads_from_there_on() -> None:
    """And what is still at hand of what went by; the rest of it is a gap. Whoever was there before gets all."""
    got: dict[str, bytes] = {}
    items: list[Any] = []
    late: App[None] = App("late")

    @late.monitor(midstream=True, gaps="mark")
    async def read(conn: MonitorConnection) -> None:
        items.extend([item async for item in conn.client])

    c = opened().client("PA", b"long ago,").client("PA", b"before,").client("PA", b"after").close()
    drive(c.frames, reading("first", got), at={5: lambda runtime: runtime.attach(late)})
    assert got["first client"] == b"long ago,before,after"
    gap, *rest = items
    assert (gap.offset, gap.reason) == (0, "unread")
    assert gap.length >= len(b"long ago,")
    assert b"".join(rest) == b"long ago,before,after"[gap.length :]


def test_who_comes_to_a_flow_of_which_only_the_state_was_followed() -> None:
    items: list[Any] = []
    levels: list[tuple[Level, Level]] = []
    late: App[None] = App("late")

    @late.monitor(midstream=True, gaps="mark")
    async def read(conn: MonitorConnection) -> None:
        items.extend([item async for item in conn.client])

    frames = opened().client("PA", b"before").server("A").client("PA", b"after").close().frames
    drive(frames, noting_levels(levels), at={5: lambda runtime: runtime.attach(late)})
    assert levels[:5] == [(Level.STATE, Level.STATE)] * 5
    assert levels[5] == (Level.STREAM, Level.STREAM)
    gap, *rest = items
    assert (gap.offset, gap.length) == (0, 6)
    assert b"".join(rest) == b"after"


def test_attach_and_detach_run_what_belongs_to_it() -> None:
    log: list[str] = []
    app: App[None] = App("late")
    app.startup(lambda: log.append("start"))
    app.shutdown(lambda: log.append("stop"))

    @app.monitor(midstream=True, level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        log.append("handle")
        try:
            await conn.closed()
        finally:
            log.append("cancelled")

    async def detach(runtime: Runtime) -> None:
        assert app in runtime.apps
        await runtime.detach(app)
        assert app not in runtime.apps
        log.append("detached")

    c = opened().client("A").client("A").client("A").client("A")
    drive(c.close().frames, at={2: lambda runtime: runtime.attach(app), 3: detach})
    assert log == ["start", "stop", "detached"]
    log.clear()
    keeper: App[None] = App("keeper")
    keeper.track()
    drive(c.frames, keeper, at={3: lambda runtime: runtime.attach(app), 6: detach})
    assert log == ["start", "handle", "cancelled", "stop", "detached"]


def test_an_app_is_attached_once() -> None:
    app: App[None] = App("test")

    async def main() -> None:
        async with Runtime(source=source_of(opened().frames)) as runtime:
            await runtime.attach(app)
            with pytest.raises(RegistrationError, match="attached already"):
                await runtime.attach(app)
            assert runtime.apps == [app]
            await runtime.detach(app)
            with pytest.raises(RegistrationError, match="not attached"):
                await runtime.detach(app)
            await runtime.attach(app)
            await runtime.run()

    in_loop(main(), "asyncio")


def test_an_app_that_fails_to_start_is_not_attached() -> None:
    """Others go on; its shut-down functions, which would undo what did not happen, are not called."""
    seen: list[str] = []
    bad, good = App[None]("bad"), App[None]("good")
    bad.on(PKT_IN)(lambda: seen.append("bad"))
    good.on(CONN_TEARDOWN)(lambda: seen.append("good"))
    bad.shutdown(lambda: seen.append("bad stops"))

    @bad.startup
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("on purpose")

    async def attach(runtime: Runtime) -> None:
        with pytest.raises(ValueError, match="on purpose"):
            await runtime.attach(bad)
        assert runtime.apps[0] is good
        assert bad not in runtime.apps

    drive(opened().close().frames, good, at={2: attach})
    assert seen == ["good"]
    with pytest.raises(ValueError, match="on purpose"):
        play(opened().frames, bad)


def test_an_app_with_too_many_registrations_is_not_attached() -> None:
    app: App[None] = App("greedy")
    for port in range(1, 200):
        app.on(PKT_IN, filter=f"port {port}")(lambda: None)
    seen: list[str] = []
    good: App[None] = App("good")
    good.on(CONN_TEARDOWN)(lambda: seen.append("good"))

    async def attach(runtime: Runtime) -> None:
        with pytest.raises(RegistrationError, match="64"):
            await runtime.attach(app)
        assert app not in runtime.apps

    async def attach_less(runtime: Runtime) -> None:
        app.callbacks[5:] = []
        await runtime.attach(app)

    drive(opened().close().frames, good, at={2: attach, 4: attach_less})
    assert seen == ["good"]


# --- going while traffic runs ----------------------------------------------------------------------------


def test_who_goes_takes_levels_and_buffers_along() -> None:
    """At once, while the flow runs and others watch it."""
    got: dict[str, bytes] = {}
    levels: list[tuple[Level, Level]] = []
    reader = reading("reader", got)
    counters: list[dict[str, int]] = []

    async def detach(runtime: Runtime) -> None:
        counters.append(runtime.statistics())
        await runtime.detach(reader)

    async def look(runtime: Runtime) -> None:
        counters.append(runtime.statistics())

    c = opened().client("PA", b"a").client("PA", b"lost", captured=False)
    for _ in range(20):
        c.client("PA", bytes(1000))
    c.client("PA", b"later").client("A")
    report = drive(c.frames, noting_levels(levels), reader, at={15: detach, 20: look})
    before, after = counters
    assert before["held.pieces"] > 0
    assert (before["held.tracks"], after["held.tracks"]) == (2, 0)
    assert set(held(after)) == {"held.flows"}
    assert levels[0] == (Level.STREAM, Level.STREAM)
    assert levels[-1] == (Level.STATE, Level.STATE)
    assert held(report.counters) == {}


def test_who_goes_is_called_no_more() -> None:
    """Callbacks, timers, handlers that wait for their event: nothing of it runs once detach() has returned."""
    log: list[str] = []
    timers: list[Timer] = []
    app: App[None] = App("goes")
    app.on(PKT_IN)(lambda pkt: log.append(flags_of(pkt)))
    app.on(CONN_TEARDOWN)(lambda: log.append("end"))
    app.on(CONN_NEW_DATA)(lambda: log.append("data"))

    @app.on(CONN_SETUP)
    def set_timers(flow: Flow) -> None:
        timers.extend((flow.timer(1), flow.timer(1, lambda _: log.append("timer"))))
        assert all(timer.active for timer in timers)

    @app.monitor(start=app.ude(PKT_IN)(lambda pkt: pkt.payload_len > 0))
    async def handle(_: MonitorConnection) -> None:
        log.append("handler")

    stays: App[None] = App("stays")
    stays.track()
    c = opened().client("A").wait(5).client("PA", b"a").close()

    async def detach(runtime: Runtime) -> None:
        await runtime.detach(app)
        assert [timer.active for timer in timers] == [False, False]

    report = drive(c.frames, app, stays, at={4: detach})
    assert log == ["S", "SA", "A", "A"]
    assert held(report.counters) == {}


def test_an_app_can_come_and_go_any_number_of_times() -> None:
    """Rules, accounts and events are used again; one frame passes each time the app is there."""
    seen: list[tuple[int, str]] = []
    raw: list[str] = []
    app: App[None] = App("often")
    event = app.ude(PKT_IN)(lambda pkt: pkt.syn)
    app.on(event)(lambda pkt, flow: seen.append((flow.client.port, flags_of(pkt))))
    app.on(PKT_IN, hook=Hook.RAW)(lambda pkt: raw.append(flags_of(pkt)))
    app.on(CONN_NEW_DATA, filter="port 80")(lambda: None)
    stayed: list[int] = []

    async def often(runtime: Runtime) -> None:
        for number in range(300):
            await runtime.attach(app)
            while len(raw) == number:
                await asyncio.sleep(0)
            await runtime.detach(app)
        await runtime.attach(app)
        stayed.append(len(raw))

    frames = [*opened(1).frames, *opened(2, START + 1).frames]
    c = opened(3)
    for _ in range(1000):
        c.client("A")
    report = drive([*frames, *c.frames, *opened(4, START + 100).frames], at={1: often})
    assert stayed == [300]
    assert seen == [(2, "S"), (3, "S"), (4, "S"), (4, "SA")]  # flows of before are none of its
    assert held(report.counters) == {}


def test_what_was_held_before_anybody_read_is_a_gap() -> None:
    """Behind a hole lie bytes of a flow of which only the numbers were wanted; then an app comes that reads."""
    counts: App[None] = App("counts")
    counts.track(level=Level.BYTES)
    reads: App[None] = App("reads")
    seen: list[bytes | tuple[int, int, str]] = []

    @reads.monitor(midstream=True, gaps="mark")
    async def handle(conn: MonitorConnection) -> None:
        items = [item async for item in conn.client.chunks(gaps="mark")]
        seen.extend(
            (item.offset, item.length, item.reason) if isinstance(item, Gap) else item for item in items
        )

    c = opened().client("PA", b"zero").client("PA", b"later", seq=10).client("PA", b"first", seq=5)
    c.client("PA", b"more", seq=15).client("PA", b"!").close()
    drive(c.frames, counts, at={5: lambda runtime: runtime.attach(reads)})
    assert seen == [(0, 4, "unread"), b"first", (9, 5, "unread"), b"more", b"!"]


def test_the_other_way_round_after_one_has_gone() -> None:
    """The chain closes."""
    order: list[str] = []
    apps: list[App[None]] = [App(name) for name in ("one", "two", "three")]
    for app in apps:
        app.on(PKT_IN)(_note(order, app.name))
    drive(opened().client("A").server("A").frames, *apps, at={3: lambda runtime: runtime.detach(apps[1])})
    assert order[-4:] == ["one", "three", "three", "one"]


def _note(order: list[str], name: str) -> Callable[[], None]:
    return lambda: order.append(name)


def test_an_app_can_be_detached_by_its_own_handler() -> None:
    """It is cancelled as all its handlers are, and the app is gone."""
    log: list[str] = []
    app: App[None] = App("suicidal")
    runtimes: list[Runtime] = []
    app.shutdown(lambda: log.append("stop"))

    @app.monitor(level=Level.STATE)
    async def handle(_: MonitorConnection) -> None:
        await runtimes[0].detach(app)
        log.append("goes on")

    async def remember(runtime: Runtime) -> None:
        runtimes.append(runtime)

    stays: App[None] = App("stays")
    stays.on(CONN_TEARDOWN)(lambda: log.append("end"))
    report = drive(opened().client("A").client("A").close().frames, app, stays, at={0: remember})
    assert "stop" in log
    assert log[-1] == "end"
    assert app not in runtimes[0].apps
    assert held(report.counters) == {}


def test_events_of_an_app_that_has_gone_make_room_for_those_of_another() -> None:
    """64 can build upon one built-in event: here one of the app that stays, and upon it nine chains of seven."""
    called: list[str] = []
    stays: App[None] = App("stays")
    base = stays.ude(PKT_IN)(lambda: True)
    stays.on(base)(lambda: called.append("base"))

    def chains(name: str) -> App[None]:
        app: App[None] = App(name)
        for _ in range(9):
            event = base
            for _ in range(7):
                event = app.ude(event)(lambda: True)
            app.on(event)(_note(called, name))
        return app

    first, second = chains("first"), chains("second")

    async def both(runtime: Runtime) -> None:
        await runtime.attach(first)
        with pytest.raises(RegistrationError, match="at most 64"):
            await runtime.attach(second)

    async def exchange(runtime: Runtime) -> None:
        await runtime.detach(first)
        await runtime.attach(second)

    drive(opened(1).frames + opened(2, START + 1).frames, stays, at={0: both, 3: exchange})
    assert called == (["base"] + ["first"] * 9) * 3 + (["base"] + ["second"] * 9) * 3


@pytest.mark.parametrize("followed", [False, True])
def test_bytes_before_a_syn_that_comes_late_are_kept_for_who_is_told_of_it_then(*, followed: bool) -> None:
    """Whether or not an app that takes pick-ups follows the connection meanwhile."""
    got: dict[str, bytes] = {}
    tracker: App[None] = App("tracker")
    tracker.track(level=Level.STATE, midstream=True)
    c = Conversation().handshake().client("PA", b"request").server("PA", b"an answer").client("A")
    c.client("PA", b" and more").close()
    syn, *rest = c.frames
    frames = [*rest[:4], (rest[3][0], *syn[1:]), *rest[4:]]
    report = drive(frames, reading("reader", got), *([tracker] if followed else []))
    assert got == {"reader client": b"request and more", "reader server": b"an answer"}
    assert report.counters["flows"] == 1


def test_flows_can_be_listed_at_any_time() -> None:
    seen: list[list[int]] = []

    async def look(runtime: Runtime) -> None:
        seen.append(sorted(flow.client.port for flow in runtime.flows()))

    tracker: App[None] = App("tracker")
    tracker.track(level=Level.STATE)
    frames = [*opened(1).frames, *opened(2, START + 1).frames]
    drive(frames, tracker, at={1: look, 3: look, 4: look, 6: look})
    assert seen == [[1], [1], [1, 2], [1, 2]]
