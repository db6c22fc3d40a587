"""Runs: start and end of apps, broken captures, Ctrl-C, memory, and the settings of a run."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import App, Budgets, CaptureError, Level, MonitorConnection, Runtime, Settings
from tests.traffic import Loop, Traffic, flood

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    kind: Loop = request.param
    return kind


@pytest.fixture
def traffic() -> Traffic:
    traffic = Traffic()
    for port in (1000, 1001):
        conn = traffic.connection(port)
        conn.client(b"abc")
        conn.close()
    return traffic


@pytest.fixture
def capture(traffic: Traffic, tmp_path: Path) -> Path:
    return traffic.write(tmp_path / "trace.pcapng")


def noting(name: str, log: list[str]) -> App[None]:
    """An app that notes what is called when."""
    app: App[None] = App(name)

    @app.startup
    def start() -> None:
        log.append(f"{name} starts")

    @app.startup
    async def start_too() -> None:
        await asyncio.sleep(0)
        log.append(f"{name} starts too")

    @app.monitor("port 1000")
    async def handle(conn: MonitorConnection) -> None:
        await conn.closed()
        log.append(f"{name} handles")

    @app.shutdown
    async def stop() -> None:
        log.append(f"{name} stops")

    @app.shutdown
    def stop_first() -> None:
        log.append(f"{name} stops first")

    return app


# --- a run ---------------------------------------------------------------------------------------------


def test_run_reports_what_it_came_to(capture: Path, traffic: Traffic, loop: Loop) -> None:
    report = aiomos.run(App("test"), pcap=[capture], loop=loop)
    assert report.frames == len(traffic.frames)
    assert report.counters["frames"] == report.counters["tcp"] == report.frames
    assert report.counters["unwatched"] == 2  # no app asked for a flow
    assert report.seconds > 0


def test_apps_start_in_order_and_stop_in_reverse(capture: Path, loop: Loop) -> None:
    log: list[str] = []
    aiomos.run(noting("one", log), noting("two", log), pcap=[capture], loop=loop)
    assert log == [
        "one starts",
        "one starts too",
        "two starts",
        "two starts too",
        "one handles",
        "two handles",
        "two stops first",
        "two stops",
        "one stops first",
        "one stops",
    ]


async def test_serve_is_run_for_programs_with_a_loop(capture: Path) -> None:
    log: list[str] = []
    report = await aiomos.serve(noting("one", log), pcap=[capture])
    assert report.counters["flows"] == 1
    assert log[-1] == "one stops"


def test_a_handler_that_outlives_its_flow_is_waited_for(capture: Path, loop: Loop) -> None:
    app, log = App("test"), []

    @app.monitor("port 1000")
    async def handle(conn: MonitorConnection) -> None:
        await conn.closed()
        for _ in range(100):
            await asyncio.sleep(0)
        log.append("done")

    aiomos.run(app, pcap=[capture], loop=loop)
    assert log == ["done"]


def test_what_startup_registers_takes_part(capture: Path, loop: Loop) -> None:
    app, seen = App("test"), []

    @app.startup
    def start() -> None:
        app.monitors.clear()

        @app.monitor()
        async def handle(conn: MonitorConnection) -> None:
            seen.append(await conn.client.read())

    for _ in range(2):  # an app can be run again
        aiomos.run(app, pcap=[capture], loop=loop)
    assert seen == [b"abc"] * 4


def test_a_startup_that_fails_ends_the_run_and_what_had_started(capture: Path, loop: Loop) -> None:
    log: list[str] = []
    bad, last = App("bad"), noting("last", log)

    @bad.startup
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        aiomos.run(noting("one", log), bad, last, pcap=[capture], loop=loop)
    assert log == ["one starts", "one starts too", "one stops first", "one stops"]


def test_shutdown_runs_however_the_run_ends(capture: Path, loop: Loop) -> None:
    log: list[str] = []
    app = noting("one", log)

    @app.monitor()
    async def fails(_conn: MonitorConnection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        aiomos.run(app, pcap=[capture], settings=Settings(on_error="raise"), loop=loop)
    assert log[-1] == "one stops"


def test_one_input_must_be_given(capture: Path) -> None:
    with pytest.raises(ValueError, match="pcap"):
        aiomos.run(App("test"))
    with pytest.raises(ValueError, match="pcap"):
        aiomos.run(App("test"), pcap=[capture], source=Traffic().source())


def test_a_capture_that_is_not_there_is_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        aiomos.run(App("test"), pcap=[tmp_path / "missing.pcap"])


def test_progress_is_told(capture: Path, traffic: Traffic) -> None:
    calls: list[tuple[int, int | None, int]] = []
    aiomos.run(App("test"), pcap=[capture], progress=lambda *call: calls.append(call))
    size = capture.stat().st_size
    assert calls[-1] == (size, size, len(traffic.frames))


# --- captures that break off -------------------------------------------------------------------------------


def test_a_broken_capture_gives_its_results_and_then_its_error(
    capture: Path, traffic: Traffic, loop: Loop
) -> None:
    capture.write_bytes(capture.read_bytes()[:-10])
    app: App[None] = App("test")
    log: list[Any] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        log.append((await conn.client.read(), await conn.closed()))

    @app.on(aiomos.CONN_TEARDOWN)
    def teardown(flow: aiomos.Flow) -> None:
        log.append(flow.client.port)

    @app.shutdown
    def stop() -> None:
        log.append("stop")

    with pytest.raises(CaptureError) as error:
        aiomos.run(app, pcap=[capture], loop=loop)
    assert error.value.frames == len(traffic.frames) - 1
    # The second connection lacks only its last acknowledgement.
    assert log == [1000, 1001, (b"abc", "fin"), (b"abc", "end_of_capture"), "stop"]


def test_a_file_that_is_no_capture_is_refused_before_apps_start(tmp_path: Path, loop: Loop) -> None:
    path = tmp_path / "text.pcap"
    path.write_text("not a capture at all")
    log: list[str] = []
    with pytest.raises(CaptureError):
        aiomos.run(noting("one", log), pcap=[path], loop=loop)
    assert log == []


def test_several_captures_are_one_traffic(tmp_path: Path, loop: Loop) -> None:
    """Each direction was captured by itself."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.server(b"answer")
    conn.close()
    paths = []
    for port in (1000, 80):
        one = Traffic()
        one.batches = [[f for f in traffic.frames if int.from_bytes(f[1][34:36]) == port]]
        paths.append(one.write(tmp_path / f"{port}.pcapng"))
    app, seen = App("test"), []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        seen.extend([(side, bytes(data)) async for side, data in conn])

    report = aiomos.run(app, pcap=paths, loop=loop)
    assert seen == [("client", b"question"), ("server", b"answer")]
    assert report.counters["midstream"] == 0


# --- cancellation ---------------------------------------------------------------------------------------------


async def test_leaving_a_runtime_cancels_its_handlers(traffic: Traffic) -> None:
    log: list[str] = []
    app = App("test")

    @app.monitor("port 1000")
    async def handle(_conn: MonitorConnection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cancelled")

    async with Runtime(source=traffic.source()) as runtime:
        await runtime.attach(app)
        task = asyncio.create_task(runtime.run())
        for _ in range(10):
            await asyncio.sleep(0)
    assert log == ["cancelled"]
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_serve_gives_the_results_it_has(traffic: Traffic) -> None:
    log: list[Any] = []
    app = App("test")

    @app.monitor("port 1000")
    async def stuck(_conn: MonitorConnection) -> None:
        await asyncio.Event().wait()

    @app.on(aiomos.CONN_TEARDOWN, level=Level.BYTES)
    def teardown(flow: aiomos.Flow) -> None:
        log.append((flow.client.port, flow.reason, flow.client.stream_bytes))

    @app.shutdown
    def stop() -> None:
        log.append("stop")

    task = asyncio.create_task(aiomos.serve(app, source=traffic.source()))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == [(1000, "fin", 3), (1001, "fin", 3), "stop"]


def aiomos_run(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "aiomos", "run", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_ctrl_c_writes_the_results_so_far(loop: str, traffic: Traffic, tmp_path: Path) -> None:
    """The pipe stays open, as that of a tcpdump that goes on; the interrupt comes while it is waited for."""
    traffic.connection(1002).client(b"open")
    # A reader fills a block before it looks at it, so there is more than one.
    padding = Traffic()
    for _ in range(60):
        padding.add(bytes(60_000))
    log = tmp_path / "flows.jsonl"
    process = aiomos_run("aiomos.apps.flowlog", "--pcap", "-", "--loop", loop, "--set", f"path={log}")
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with process:
        feeder = threading.Thread(target=feed, args=(process.stdin, traffic.pcapng() + padding.pcapng()))
        feeder.start()
        feeder.join()  # the pipe holds less than a block: what came before is being worked on
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        output, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130, errors.decode()
    assert b"Traceback" not in errors
    assert output == b""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert {r["client_port"]: (r["reason"], r["client_stream_bytes"]) for r in records} == {
        1000: ("fin", 3),
        1001: ("fin", 3),
        1002: ("end_of_capture", 4),
    }


def feed(pipe: Any, data: bytes) -> None:
    pipe.write(data)
    pipe.flush()


def test_a_sleep_of_no_number_is_an_error_and_one_without_end_lasts_to_the_end(
    capture: Path, loop: Loop
) -> None:
    app, slept = App("test"), list[float]()

    @app.monitor("port 1000")
    async def handle(_conn: MonitorConnection) -> None:
        with pytest.raises(ValueError, match="nan"):
            await aiomos.sleep(float("nan"))
        for seconds in (float("inf"), 1e300):
            await aiomos.sleep(seconds)
            slept.append(seconds)

    report = aiomos.run(app, pcap=[capture], loop=loop)
    assert slept == [float("inf"), 1e300]
    assert report.counters.get("handler_errors", 0) == 0


# --- memory ------------------------------------------------------------------------------------------------------


READER = """
import resource, sys, aiomos
app = aiomos.App("reader")
total = 0
@app.monitor()
async def handler(conn):
    global total
    async for side, data in conn:
        total += len(data)
aiomos.run(app, pcap=["-"], settings=aiomos.Settings(on_error="raise"))
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def read_flood(chunks: int) -> tuple[int, int]:
    """Have another process read a generated stream; its bytes, and the most memory it used in KiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdin
    assert process.stdout
    with process:
        for piece in flood(chunks, 50_000):
            process.stdin.write(piece)
        process.stdin.close()
        total, peak = map(int, process.stdout.read().split())
    assert process.returncode == 0
    return total, peak


def test_memory_does_not_grow_with_the_capture() -> None:
    small, large = read_flood(400), read_flood(4000)
    assert (small[0], large[0]) == (20_000_000, 200_000_000)
    assert large[1] - small[1] < 8 << 10


def test_settings_reach_the_engine(traffic: Traffic) -> None:
    settings = Settings(budgets=Budgets(flows=1))
    report = aiomos.run(noting("one", []), source=traffic.source(), settings=settings)
    assert report.counters["evicted"] + report.counters["released_early"] == 0  # one flow is watched
    app = App("all")
    app.track()
    report = aiomos.run(app, source=traffic.source(), settings=settings)
    assert report.counters["released_early"] == 1


def test_the_event_loop_is_the_one_asked_for(traffic: Traffic, loop: Loop) -> None:
    app, kinds = App("test"), []

    @app.startup
    async def note() -> None:
        kinds.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])

    aiomos.run(app, source=traffic.source(), loop=loop)
    assert kinds == [loop]
