"""What would never end does: timers that set, events that emit, callbacks that beget themselves."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

import aiomos
from aiomos import (
    CONN_SETUP,
    CONN_TEARDOWN,
    FRAME,
    PKT_IN,
    TIMEOUT,
    App,
    Flow,
    Hook,
    Level,
    MonitorConnection,
    NotInLineError,
    Packet,
    RegistrationError,
    Runtime,
    Settings,
)
from aiomos.testing.batches import feed_frames
from aiomos.testing.scenario import START, Conversation, Frame
from tests.events import play
from tests.line import talk
from tests.traffic import Traffic

LOG = Settings(on_error="log")


@pytest.fixture
def app() -> App[None]:
    return App("test")


def ticking(ticks: int, apart: float) -> list[Frame]:
    """A connection, and then an acknowledgement now and then; those of the handshake come all at once."""
    c = Conversation().handshake()
    for _ in range(ticks):
        c.wait(apart).client("A")
    return c.frames


def timed(app: App[None], delay: float) -> list[float]:
    """Have a timer set itself anew whenever it runs out; the times at which it does."""
    times: list[float] = []

    @app.on(CONN_SETUP)
    def begin(flow: Flow) -> None:
        def again(flow: Flow) -> None:
            times.append(flow._engine().now - START)
            flow.timer(delay, again)

        flow.timer(delay, again)

    return times


def test_a_timer_of_no_time_that_sets_itself_runs_out_once_a_packet(app: App[None]) -> None:
    times = timed(app, 0)
    play(ticking(5, 1.0), app)
    assert len(times) == 5
    assert times == sorted(set(times))


def test_so_does_one_of_next_to_no_time(app: App[None]) -> None:
    times = timed(app, 1e-9)
    play(ticking(5, 3600.0), app)
    assert len(times) == 5


def test_one_of_some_time_runs_out_as_often_as_it_fits(app: App[None]) -> None:
    times = timed(app, 0.25)
    play(ticking(2, 1.0), app)
    assert [round(time - times[0], 6) for time in times] == [0.25 * number for number in range(8)]


def test_it_does_not_run_out_without_end_between_two_packets(app: App[None]) -> None:
    """A frame's time may be years ahead."""
    times = timed(app, 0.001)
    play(ticking(2, 3600.0), app)
    assert len(times) == 2 * 65536


def test_the_event_of_a_timer_that_sets_one_is_raised_once_a_packet(app: App[None]) -> None:
    times: list[float] = []
    app.on(CONN_SETUP)(lambda flow: flow.timer(0))

    @app.on(TIMEOUT)
    def again(flow: Flow, time: float) -> None:
        times.append(time)
        flow.timer(0)

    play(ticking(5, 1.0), app)
    assert len(times) == 5


def test_two_timers_that_set_each_other(app: App[None]) -> None:
    order: list[str] = []

    def one(flow: Flow) -> None:
        order.append("one")
        flow.timer(0, other)

    def other(flow: Flow) -> None:
        order.append("other")
        flow.timer(0, one)

    app.on(CONN_SETUP)(lambda flow: flow.timer(0, one))
    play(ticking(4, 1.0), app)
    assert order == ["one", "other", "one", "other"]


# --- events that beget events -------------------------------------------------------------------------------


def test_an_event_that_emits_itself_ends_in_an_error(app: App[None]) -> None:
    event = app.event("echo")
    calls = 0

    @app.on(event)
    def echo(flow: Flow) -> None:
        nonlocal calls
        calls += 1
        flow.emit(event)

    app.on(CONN_SETUP)(lambda flow: flow.emit(event))
    with capture_logs() as logs:
        report = play(ticking(1, 1.0), app, settings=LOG)
    assert calls == 15
    assert report.counters["callback_errors"] == len(logs) > 0


def test_so_does_one_that_emits_itself_twice_and_minds_no_error(app: App[None]) -> None:
    event = app.event("echo")
    calls = errors = 0

    @app.on(event)
    def echo(flow: Flow) -> None:
        nonlocal calls, errors
        calls += 1
        for _ in range(100):
            try:
                flow.emit(event)
            except RecursionError:
                errors += 1
                break

    app.on(CONN_SETUP)(lambda flow: flow.emit(event))
    play(ticking(1, 1.0), app)
    assert errors > 0
    assert calls <= 65536


def test_a_predicate_that_emits_the_event_that_it_is_asked_about(app: App[None]) -> None:
    base = app.event("base")
    calls = 0

    @app.ude(base)
    def again(flow: Flow) -> bool:
        nonlocal calls
        calls += 1
        flow.emit(base)
        return True

    app.on(again)(lambda: None)
    app.on(CONN_SETUP)(lambda flow: flow.emit(base))
    report = play(ticking(1, 1.0), app, settings=LOG)
    assert calls == 15
    assert report.counters["callback_errors"] > 0


def test_each_handler_may_emit_as_often_as_it_likes(app: App[None]) -> None:
    event = app.event("often")
    calls = 0

    @app.on(event)
    def count() -> None:
        nonlocal calls
        calls += 1

    @app.monitor(level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        for _ in range(70_000):
            conn.flow.emit(event)

    play(ticking(1, 1.0), app)
    assert calls == 70_000


# --- callbacks that beget callbacks -------------------------------------------------------------------------


def test_a_callback_that_registers_itself_anew_is_called_once_a_packet_by_each(app: App[None]) -> None:
    calls: list[int] = []

    @app.monitor(level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        def again() -> None:
            calls.append(conn.flow.client.packets)
            conn.on(PKT_IN, again)

        conn.on(PKT_IN, again)

    play(ticking(4, 1.0), app)
    assert [calls.count(packets) for packets in sorted(set(calls))] == [1, 2, 4, 8][: len(set(calls))]
    assert len(calls) >= 7


def test_registrations_of_an_app_come_to_an_end(app: App[None]) -> None:
    made = 0
    refused: list[RegistrationError] = []

    @app.on(PKT_IN)
    def register() -> None:
        nonlocal made
        try:
            while True:
                app.on(PKT_IN, filter=f"client port {made + 1}")(lambda: None)
                made += 1
        except RegistrationError as error:
            refused.append(error)

    play(Conversation().client("S").frames, app)
    assert 50 < made < 64
    assert len(refused) == 1


def test_frames_that_beget_frames_are_bounded_by_the_batch(app: App[None]) -> None:
    """There is no wire here, and so an error; tests/scenarios/test_in_line.py has the rest."""
    refused = 0

    @app.on(FRAME, hook=Hook.RAW)
    def answer(pkt: Packet, engine: Runtime) -> None:
        nonlocal refused
        with pytest.raises(NotInLineError):
            engine.send(pkt.frame or b"?")
        refused += 1

    traffic = Traffic()
    traffic.add(bytes(60))
    aiomos.run(app, source=traffic.source(), settings=Settings(on_error="raise"))
    assert refused == 1


# --- handlers that sleep for ever ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_handler_that_sleeps_again_and_again_does_not_keep_a_run_from_its_end(
    app: App[None], seconds: float
) -> None:
    naps = 0

    @app.monitor(level=Level.STATE)
    async def handle(_conn: MonitorConnection) -> None:
        nonlocal naps
        while True:
            await aiomos.sleep(seconds)
            naps += 1

    with capture_logs() as logs:
        report = play(ticking(2, 100.0), app, settings=LOG)
    assert 10_000 <= naps < 10_100
    assert report.counters["handler_errors"] == 1
    assert "RuntimeError" in repr(logs[0]["exc_info"])


def test_one_that_sleeps_until_the_end_of_the_connection_ends_well(app: App[None]) -> None:
    ended: list[str | None] = []

    @app.monitor(level=Level.STATE)
    async def handle(conn: MonitorConnection) -> None:
        while conn.reason is None:
            await aiomos.sleep(10)
        ended.append(conn.reason)

    play(ticking(2, 100.0), app)
    assert ended == ["end_of_capture"]


# --- engines that are fed from inside -----------------------------------------------------------------------


def test_a_callback_cannot_feed_the_engine_that_calls_it(app: App[None]) -> None:
    refused: list[str] = []

    @app.on(CONN_TEARDOWN)
    @app.on(PKT_IN)
    def feed(engine: Runtime) -> None:
        for inside in (
            lambda: feed_frames(engine.engine, frames),
            lambda: engine.engine.pass_time(1 << 62),
            lambda: engine.engine.finish(),
        ):
            with pytest.raises(RuntimeError, match="at work"):
                inside()
            refused.append("refused")

    frames = Conversation().client("S").frames

    play(frames, app)
    assert len(refused) == 6


def test_a_timer_of_no_time_runs_out_in_a_simulation_too() -> None:
    """Whose time stands still until something is due."""
    app = App("test")
    times = timed(app, 0)
    talk(app, question=b"?", answer=b"!")
    assert len(times) > 5
