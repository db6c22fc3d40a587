"""SystemExit, KeyboardInterrupt and others that are no Exception: shut-down functions run, then they go on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest

import aiomos
from aiomos import (
    CONN_SETUP,
    CONN_TEARDOWN,
    PKT_IN,
    App,
    Filter,
    Flow,
    Level,
    MonitorConnection,
    Packet,
    Settings,
)
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import tcp_frame
from tests.line import cross, talk
from tests.traffic import Traffic, in_loop

ROOT = Path(__file__).parents[2]
Loop = Literal["uvloop", "asyncio"]


class Stops(BaseException):
    """Of no kind that anybody knows, as what ends a test in pytest."""


EXITS = pytest.mark.parametrize(
    "exit_", [SystemExit(3), KeyboardInterrupt(), Stops()], ids=["exit", "interrupt", "other"]
)
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


def in_callback(app: App[None], leave: Callable[..., Any]) -> None:
    app.on(CONN_SETUP)(lambda: leave())


def in_nested_callback(app: App[None], leave: Callable[..., Any]) -> None:
    event = app.event("nested")
    app.on(event)(lambda: leave())
    app.on(CONN_SETUP)(lambda flow: flow.emit(event))


def in_last_callback(app: App[None], leave: Callable[..., Any]) -> None:
    app.on(CONN_TEARDOWN)(lambda: leave())


def in_predicate(app: App[None], leave: Callable[..., Any]) -> None:
    @app.ude(PKT_IN)
    def judge(pkt: Packet) -> bool:
        return bool(leave() or pkt)

    app.on(judge)(lambda: None)


def in_timer(app: App[None], leave: Callable[..., Any]) -> None:
    app.on(CONN_SETUP)(lambda flow: flow.timer(0.0001, lambda _flow: leave()))


def in_callback_of_connection(app: App[None], leave: Callable[..., Any]) -> None:
    @app.monitor(start=CONN_SETUP)
    async def handle(conn: MonitorConnection) -> None:
        conn.on(PKT_IN, lambda: leave())
        await conn.closed()


def in_handler(app: App[None], leave: Callable[..., Any]) -> None:
    @app.monitor()
    async def handle(_conn: MonitorConnection) -> None:
        leave()


def in_waiting_handler(app: App[None], leave: Callable[..., Any]) -> None:
    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        await asyncio.sleep(0)
        leave()


def in_last_handler(app: App[None], leave: Callable[..., Any]) -> None:
    """Once frames have run out."""

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.closed()
        leave()


def in_startup(app: App[None], leave: Callable[..., Any]) -> None:
    app.startup(lambda: leave())


def in_shutdown(app: App[None], leave: Callable[..., Any]) -> None:
    app.shutdown(lambda: leave())


def in_own_task(app: App[None], leave: Callable[..., Any]) -> None:
    async def work() -> None:
        leave()

    tasks: set[asyncio.Task[None]] = set()

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        tasks.add(asyncio.get_running_loop().create_task(work()))
        await conn.closed()


PLACES = [
    *(in_callback, in_nested_callback, in_last_callback, in_predicate, in_timer, in_callback_of_connection),
    *(in_handler, in_waiting_handler, in_last_handler, in_startup, in_shutdown, in_own_task),
]


def noting(name: str, log: list[str]) -> App[None]:
    app: App[None] = App(name)

    @app.startup
    def start() -> None:
        log.append(f"{name} starts")

    @app.shutdown
    def stop() -> None:
        log.append(f"{name} stops")

    @app.shutdown
    async def stop_first() -> None:
        await asyncio.sleep(0)
        log.append(f"{name} stops first")

    return app


def some_traffic() -> Traffic:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"hello")
    traffic.cut()
    conn.server(b"you")
    traffic.cut()
    conn.close()
    return traffic


@EXITS
@LOOPS
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_shutdown_functions_run_and_then_it_goes_on(
    place: Callable[[App[None], Callable[..., Any]], None], exit_: BaseException, loop: Loop
) -> None:
    if place is in_own_task and isinstance(exit_, Stops):
        return  # asyncio tells of it
    log: list[str] = []
    raised = 0

    def leave() -> None:
        nonlocal raised
        raised += 1
        raise exit_

    leaving = noting("leaving", log)
    place(leaving, leave)
    with pytest.raises(type(exit_)) as caught:
        aiomos.run(
            noting("one", log), leaving, noting("last", log), source=some_traffic().source(), loop=loop
        )
    assert caught.value is exit_ or place is in_own_task
    assert raised == 1
    stops = [line for line in log if "stops" in line]
    expected = [
        "last stops first",
        "last stops",
        "leaving stops first",
        "leaving stops",
        "one stops first",
        "one stops",
    ]
    assert stops == (expected[4:] if place is in_startup else expected)


@LOOPS
@pytest.mark.parametrize("place", [in_callback, in_last_callback, in_predicate, in_timer])
def test_what_would_close_a_generator_goes_on_too(
    place: Callable[[App[None], Callable[..., Any]], None], loop: Loop
) -> None:
    def leave() -> None:
        raise GeneratorExit

    log: list[str] = []
    leaving = noting("leaving", log)
    place(leaving, leave)
    with pytest.raises(GeneratorExit):
        aiomos.run(leaving, source=some_traffic().source(), loop=loop)
    assert log == ["leaving starts", "leaving stops first", "leaving stops"]


@EXITS
@LOOPS
def test_what_a_handler_raises_as_it_is_cancelled_goes_on_too(exit_: BaseException, loop: Loop) -> None:
    app, waits = App("test"), list[bool]()

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        try:
            waits.append(True)
            await asyncio.Event().wait()
        finally:
            raise exit_

    async def main() -> None:
        async with aiomos.Runtime(source=some_traffic().source()) as runtime:
            await runtime.attach(app)
            task = asyncio.ensure_future(runtime.run())
            while not waits:
                await asyncio.sleep(0)
            assert not task.done()

    with pytest.raises(type(exit_)):
        in_loop(main(), loop)
    assert waits == [True]


@EXITS
@pytest.mark.parametrize("place", [in_callback, in_timer, in_waiting_handler, in_last_handler])
def test_in_line_too(place: Callable[[App[None], Callable[..., Any]], None], exit_: BaseException) -> None:
    log: list[str] = []

    def leave() -> None:
        raise exit_

    leaving = noting("leaving", log)
    place(leaving, leave)
    with pytest.raises(type(exit_)):
        talk(leaving, question=b"?", answer=b"!")
    assert log == ["leaving starts", "leaving stops first", "leaving stops"]


def test_a_shutdown_function_that_fails_keeps_no_other_from_running() -> None:
    log: list[str] = []
    bad = noting("bad", log)

    @bad.shutdown
    def fail() -> None:
        log.append("bad fails")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        aiomos.run(noting("one", log), bad, source=some_traffic().source())
    assert log[2:] == ["bad fails", "bad stops first", "bad stops", "one stops first", "one stops"]


def test_nor_does_it_change_the_status_that_was_asked_for() -> None:
    app = App("test")
    app.on(CONN_SETUP)(lambda: sys.exit(7))
    app.shutdown(lambda: 1 // 0)
    with pytest.raises(SystemExit) as caught:
        aiomos.run(app, source=some_traffic().source())
    assert caught.value.code == 7


def test_after_an_exit_nothing_more_is_called() -> None:
    app, calls = App("test"), 0

    @app.on(PKT_IN)
    def leave() -> None:
        nonlocal calls
        calls += 1
        raise SystemExit

    with pytest.raises(SystemExit):
        aiomos.run(app, source=some_traffic().source())
    assert calls == 1


PROGRAM = """
    import sys
    from aiomos import App, CONN_TEARDOWN, PKT_IN
    from aiomos.apps._output import Output

    app = App("leaving")
    out = None

    @app.startup
    def start():
        global out
        out = Output(None)

    @app.on(PKT_IN)
    def leave(flow, pkt):
        out.write({"port": flow.client.port})
        if pkt.fin:
            sys.exit(5)

    @app.shutdown
    def stop():
        out.write({"end": True})
        out.close()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_has_the_status_asked_for_and_all_that_was_written(tmp_path: Path, workers: int) -> None:
    program, capture = tmp_path / "leaving.py", tmp_path / "trace.pcapng"
    program.write_text(dedent(PROGRAM))
    some_traffic().write(capture)
    command = [sys.executable, "-m", "aiomos", "run", str(program), "--pcap", str(capture)]
    if workers > 1:
        command += ["--workers", str(workers)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done.stderr
    written = done.stdout.splitlines()
    assert written.count('{"port":1000}') == 6
    assert 1 <= written.count('{"end":true}') <= workers
    assert "Traceback" not in done.stderr
    assert "worker_died" not in done.stderr


@pytest.mark.parametrize("settings", [Settings(on_error="log"), Settings(on_error="raise")])
def test_on_error_is_not_asked(settings: Settings) -> None:
    app = App("test")
    app.on(CONN_SETUP)(lambda: sys.exit("done"))
    with pytest.raises(SystemExit) as caught:
        aiomos.run(app, source=some_traffic().source(), settings=settings)
    assert caught.value.code == "done"


def test_a_flow_that_is_cut_off_meanwhile_is_left_whole() -> None:
    """What is raised in a callback of a callback goes no way that would leave TCP processing half done."""
    app, seen = App("test"), list[str]()

    @app.on(aiomos.ERROR)
    def gap() -> None:
        seen.append("gap")
        raise SystemExit(4)

    @app.on(PKT_IN)
    def drop(flow: Flow, pkt: Packet) -> None:
        if pkt.payload == b"far":
            flow.drop()
            seen.append("dropped")

    app.track(level=aiomos.Level.BYTES)
    frames = [
        tcp_frame("10.0.0.1", "10.0.0.2", 1000, 80, seq=1, flags="S"),
        tcp_frame("10.0.0.1", "10.0.0.2", 1000, 80, seq=2, flags="A"),
        tcp_frame("10.0.0.1", "10.0.0.2", 1000, 80, seq=1000, flags="A", payload=b"far"),
    ]
    with pytest.raises(SystemExit) as caught:
        cross(frames, app)
    assert caught.value.code == 4
    assert seen == ["gap", "dropped"]


def test_an_event_loop_that_is_closed_keeps_no_flow() -> None:
    """Its handlers cannot be woken: that is an error, and every flow that has ended is let go all the same."""
    engine = Engine(Settings(), bytes(16), lambda *_: None)
    opened: list[MonitorConnection] = []

    def opener(flow: Flow) -> MonitorConnection:
        pressure = Pressure(1000, 1000)
        opened.append(MonitorConnection(flow, pressure, engine.released, "mark", True))
        return opened[-1]

    engine.add_rule(Filter("").program, Level.STREAM, opener=opener)
    traffic = Traffic()
    for port in (1000, 1001, 1002):
        traffic.connection(port).client(b"abc")
    feed_frames(engine, traffic.batches[0])
    loop = asyncio.new_event_loop()
    waiting = [loop.create_task(conn.closed()) for conn in opened]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.pass_time(traffic.now_ns + 10**15)
    assert engine.statistics()["open"] == 0
    assert len(waiting) == 3
    for task in waiting:
        task.get_coro().close()
