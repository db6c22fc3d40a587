"""Workers over captures: real processes, and what is left of them when things go wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from aiomos import CaptureError, Settings, WorkerError
from aiomos.control_client import ControlClient
from aiomos.errors import ControlError
from aiomos.testing.packets import tcp_frame
from aiomos.transport.writer import CaptureWriter
from aiomos.workers import supervisor
from aiomos.workers.plan import AppPlan, Plan
from aiomos.workers.supervisor import run_workers

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
FLOWS = 60
CLIENT, SERVER = "10.0.0.1", "10.9.9.9"
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Connections that begin one after the other and end in another order; one has no end."""
    path = tmp_path_factory.mktemp("workers") / "flows.pcap"
    frames: list[tuple[int, bytes]] = []
    for number in range(FLOWS):
        begun = START + number * SECOND // 100
        ended = (
            START + (1 + number * 7 % (FLOWS + 1)) * SECOND
        )  # each in a second of its own, as timers have it
        there, back = (CLIENT, SERVER, 20_000 + number, 80), (SERVER, CLIENT, 80, 20_000 + number)
        frames += [
            (begun, tcp_frame(*there, seq=1, flags="S")),
            (begun + 1000, tcp_frame(*back, seq=5, ack=2, flags="SA")),
            (begun + 2000, tcp_frame(*there, seq=2, ack=6, flags="A")),
            (begun + 3000, tcp_frame(*there, seq=2, ack=6, flags="AP", payload=b"hello")),
            (ended, tcp_frame(*there, seq=7, ack=6, flags="AF")),
            (ended + 1000, tcp_frame(*back, seq=6, ack=8, flags="AF")),
            (ended + 2000, tcp_frame(*there, seq=8, ack=7, flags="A")),
        ]
    frames.append((START, tcp_frame(CLIENT, SERVER, 9, 80, seq=1, flags="S")))
    # Time passes, so that all that have closed are forgotten in turn.
    frames += [(START + second * SECOND, bytes(60)) for second in range(2 * FLOWS + 10)]
    with CaptureWriter(path) as writer:
        for time_ns, frame in sorted(frames):
            writer.write(time_ns, frame)
    return path


App = Callable[[str], str]


@pytest.fixture
def app(tmp_path: Path) -> App:
    """Write an app into a file of its own; in it `here` is a folder."""

    def write(text: str) -> str:
        path = tmp_path / f"app_{tmp_path.name.replace('-', '_')}.py"
        header = f"import aiomos, os, signal\nfrom pathlib import Path\nhere = Path({str(tmp_path)!r})\n"
        path.write_text(header + dedent(text))
        return str(path)

    return write


def plan(*captures: Path, workers: int = 3, **more: object) -> Plan:
    return Plan(workers=workers, captures=tuple(map(str, captures)), **more)  # type: ignore[arg-type]


def flowlog(path: Path, **options: str) -> AppPlan:
    return AppPlan("flowlog", (f"path={path}", *(f"{name}={value}" for name, value in options.items())))


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


# --- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_three_workers_log_what_one_process_does(capture: Path, tmp_path: Path, loop: str) -> None:
    alone = tmp_path / "alone"
    command = [sys.executable, "-m", "aiomos", "run", "flowlog", "--set", f"path={alone}", "--pcap", capture]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT)
    report = run_workers(plan(capture, apps=(flowlog(tmp_path / "shared"),), loop=loop))
    assert sorted(lines(tmp_path / "shared")) == sorted(lines(alone))
    assert report.counters["flows"] == FLOWS + 1
    assert report.counters["tcp"] == 7 * FLOWS + 1


def test_records_come_in_the_order_of_time(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "flows.jsonl"
    run_workers(plan(capture, apps=(flowlog(out),)))
    *closed, unanswered = (orjson.loads(line) for line in lines(out))
    ends = [record["end"] for record in closed]
    assert ends == sorted(ends)
    assert len(ends) == FLOWS
    assert unanswered["client_port"] == 9


def test_a_table_is_one_table_of_all_workers(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "flows.txt"
    run_workers(plan(capture, apps=(flowlog(out, format="table"),)))
    assert lines(out)[0].decode().split() == [str(FLOWS + 1), "TCP", "connections"]


def test_a_file_has_one_heading(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "flows.csv"
    run_workers(plan(capture, apps=(flowlog(out, format="csv"),)))
    assert [number for number, line in enumerate(lines(out)) if line.startswith(b"client,")] == [0]
    assert len(lines(out)) == FLOWS + 2


def test_printed_lines_stay_whole(capture: Path, app: App, capfd: pytest.CaptureFixture[str]) -> None:
    printing = app("""
        app = aiomos.App("printing")

        @app.on(aiomos.CONN_TEARDOWN)
        def ended(flow):
            for part in ("a" * 5000, flow.client.port, "z" * 5000):
                print(part, end=" ")
            print()
    """)
    run_workers(plan(capture, apps=(AppPlan(printing),)))
    printed = capfd.readouterr().out.splitlines()
    assert {line.split()[1] for line in printed} == {"9", *(str(20_000 + n) for n in range(FLOWS))}
    assert {(line.split()[0], line.split()[2]) for line in printed} == {("a" * 5000, "z" * 5000)}


def test_workers_run_on_processors_of_their_own(capture: Path, app: App, tmp_path: Path) -> None:
    pinned = app("""
        app = aiomos.App("pinned")

        @app.startup
        def begin():
            (here / f"pid{os.getpid()}").write_text(" ".join(map(str, os.sched_getaffinity(0))))
    """)
    run_workers(plan(capture, workers=2, apps=(AppPlan(pinned),)))
    allowed = sorted(os.sched_getaffinity(0))
    used = sorted(int(path.read_text()) for path in tmp_path.glob("pid*"))
    assert used == sorted(allowed[number % len(allowed)] for number in range(2))


# --- faults ---------------------------------------------------------------------------------------

DIES_ONCE = """
    import aiomos.outputs
    from aiomos.apps._output import Output

    app = aiomos.App("dying")
    out = None
    count = 0

    @app.startup
    def begin():
        global out
        out = Output(here / "out")

    @app.on(aiomos.CONN_TEARDOWN)
    def ended(flow):
        global count
        out.write({"port": flow.client.port})
        count += 1
        marker = here / "died"
        if count == 5 and not marker.exists():
            marker.touch()
            aiomos.outputs.outputs.flush()
            DEATH

    @app.shutdown
    def end():
        out.close()
"""


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between a death and what follows."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(supervisor, "LOOK_SECONDS", 0.05)


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as logs:
        yield logs  # type: ignore[misc]


@pytest.mark.usefixtures("fast")
def test_a_worker_that_dies_is_replaced_and_nothing_is_written_twice(
    capture: Path, app: App, tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    dying = app(DIES_ONCE.replace("DEATH", "os.kill(os.getpid(), signal.SIGKILL)"))
    run_workers(plan(capture, apps=(AppPlan(dying),)))
    ports = sorted(orjson.loads(line)["port"] for line in lines(tmp_path / "out"))
    assert ports == [9, *(20_000 + number for number in range(FLOWS))]
    (died,) = [record for record in logs if record["event"] == "worker_died"]
    assert died["status"] == "SIGKILL"


@pytest.mark.usefixtures("fast")
def test_a_worker_that_hangs_is_replaced(
    capture: Path, app: App, tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    hanging = app(DIES_ONCE.replace("DEATH", "signal.pause()"))
    run_workers(plan(capture, apps=(AppPlan(hanging),), watchdog=1.0))
    assert len(lines(tmp_path / "out")) == FLOWS + 1
    assert [record["event"] for record in logs] == ["worker_hangs", "worker_died"]


@pytest.mark.usefixtures("fast", "logs")
def test_a_worker_that_dies_again_and_again_is_given_up(capture: Path, app: App) -> None:
    doomed = app("""
        app = aiomos.App("doomed")

        @app.startup
        def begin():
            os._exit(3)
    """)
    with pytest.raises(WorkerError, match="5 times in a row, last by exit status 3"):
        run_workers(plan(capture, workers=2, apps=(AppPlan(doomed),)))


def test_an_error_is_raised_as_if_there_were_no_workers(capture: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run_workers(plan(capture, apps=(flowlog(tmp_path / "nowhere" / "out"),)))


def test_a_broken_capture_is_read_as_far_as_it_goes(capture: Path, tmp_path: Path) -> None:
    broken, out = tmp_path / "broken.pcap", tmp_path / "out"
    broken.write_bytes(capture.read_bytes()[:-10])
    with pytest.raises(CaptureError, match="cut short"):
        run_workers(plan(broken, apps=(flowlog(out),)))
    assert len(lines(out)) == FLOWS + 1


def test_on_error_raise_ends_all_workers(capture: Path, app: App) -> None:
    failing = app("""
        app = aiomos.App("failing")

        @app.on(aiomos.CONN_TEARDOWN)
        def ended(flow):
            raise ValueError("on purpose")
    """)
    with pytest.raises(RuntimeError, match="ValueError: on purpose"):
        run_workers(plan(capture, apps=(AppPlan(failing),), settings=Settings(on_error="raise")))


# --- signals, control, metrics --------------------------------------------------------------------

WAITS = """
    import asyncio, socket
    from aiomos.apps._output import Output

    app = aiomos.App("waiting")
    out = None

    def tell(what):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as say:
            say.sendto(what, str(here / "told"))

    @app.startup
    def begin():
        global out
        out = Output(here / "out")
        tell(b"begun")

    waiting = False

    @app.monitor("server port 80")
    async def stay(conn):
        global waiting
        if not waiting:
            waiting = True
            tell(b"waiting")
        await asyncio.Event().wait()

    @app.on(aiomos.CONN_TEARDOWN)
    def ended(flow):
        out.write({"port": flow.client.port})

    @app.shutdown
    def end():
        out.write({"end": os.getpid()})
        out.close()
"""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the apps of a test say how far they are."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "told"))
        heard.settimeout(60)
        yield heard


def once_waiting(told: socket.socket, act: Callable[[], object], *, workers: int = 2) -> threading.Thread:
    """Act as soon as all workers have begun, and handlers in each wait for what never comes."""

    def run() -> None:
        for _ in range(2 * workers):
            told.recv(64)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signals_let_workers_end_in_good_order(
    capture: Path,
    app: App,
    tmp_path: Path,
    told: socket.socket,
    number: signal.Signals,
    raised: type[BaseException],
) -> None:
    thread = once_waiting(told, lambda: os.kill(os.getpid(), number))
    with pytest.raises(raised):
        run_workers(plan(capture, workers=2, apps=(AppPlan(app(WAITS)),)))
    thread.join()
    records = [orjson.loads(line) for line in lines(tmp_path / "out")]
    assert sum("end" in record for record in records) == 2
    assert any("port" in record for record in records)


@pytest.mark.usefixtures("logs")
def test_one_control_socket_and_one_scrape_for_all_workers(
    capture: Path, app: App, tmp_path: Path, told: socket.socket
) -> None:
    path = tmp_path / "control"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: dict[str, object] = {}

    def look() -> None:
        try:
            control = ControlClient(path)
            seen["stats"] = control.stats()
            seen["apps"] = [listed["name"] for listed in control.apps()]
            seen["attached"] = control.attach("flowlog", [f"path={tmp_path / 'log'}"])
            control.detach("flowlog")
            seen["flows"] = list(control.flows(limit=5))
            try:
                control.attach("flowlog", ["nonsense=1"])
            except ControlError as error:
                seen["refused"] = str(error)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
                seen["metrics"] = answer.read().decode()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = once_waiting(told, look)
    with pytest.raises(SystemExit):
        run_workers(
            plan(capture, workers=2, apps=(AppPlan(app(WAITS)),)),
            control=str(path),
            metrics=f"127.0.0.1:{port}",
        )
    thread.join()
    stats = seen["stats"]
    assert isinstance(stats, dict)
    assert stats["counters"]["flows"] == FLOWS + 1
    assert stats["apps"]["waiting"]["errors"] == 0
    assert seen["apps"] == ["waiting"]
    assert seen["attached"] == "flowlog"
    assert "has no option 'nonsense'" in str(seen["refused"])
    values = {
        (sample.name, sample.labels.get("worker")): sample.value
        for family in text_string_to_metric_families(str(seen["metrics"]))
        for sample in family.samples
    }
    assert values["aiomos_worker_up", "0"] == values["aiomos_worker_up", "1"] == 1
    assert values["aiomos_flows_seen_total", "0"] + values["aiomos_flows_seen_total", "1"] == FLOWS + 1
