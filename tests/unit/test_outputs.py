"""Outputs: seen soon, and an error where they cannot be written: by the apps that ship, by print(), with workers."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

import aiomos
from aiomos import App, Level, MonitorConnection, OutputError, outputs
from aiomos.loader import shipped_apps
from aiomos.outputs import open_output
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import Network

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
FULL = Path("/dev/full")
NO_ROOM = "No space left on device"
WRITERS = [app.name for app in shipped_apps() if app.name not in ("dump", "firewall", "nat")]

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aiomos", "run", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, timeout=60, env=environment, **options
    )  # type: ignore[call-overload,no-any-return]


# --- soon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("standard", [False, True])
def test_what_is_written_is_seen_soon_though_nobody_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, standard: bool
) -> None:
    path = tmp_path / "out"
    monkeypatch.setattr(outputs, "FLUSH_SECONDS", 0)

    async def write(file: IO[bytes]) -> bytes:
        file.write(b"a record\n")
        before = path.read_bytes()
        while path.read_bytes() == before:
            await asyncio.sleep(0)
        file.write(b"another\n")
        while b"another" not in path.read_bytes():
            await asyncio.sleep(0)
        return before

    async def main() -> bytes:
        if not standard:
            return await write(open_output(path))
        with path.open("w") as file:
            monkeypatch.setattr(sys, "stdout", file)
            return await write(open_output(None))

    assert asyncio.run(main()) == b""
    assert path.read_bytes() == b"a record\nanother\n"


def test_what_is_printed_is_seen_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    monkeypatch.setattr(outputs, "FLUSH_SECONDS", 0)

    async def main() -> None:
        print("a line")
        assert path.read_text() == ""
        while not path.read_text():
            await asyncio.sleep(0)

    with path.open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with outputs.naming_standard_output():
            asyncio.run(main())
            assert path.read_text() == "a line\n"
        assert sys.stdout is file


def test_records_are_in_the_file_once_it_is_closed_or_there_are_many(tmp_path: Path) -> None:
    path = tmp_path / "out"
    file = open_output(path)
    file.write(b"a record\n")
    assert path.read_bytes() == b""
    file.write(bytes(outputs.BUFFER_SIZE))
    assert path.stat().st_size == outputs.BUFFER_SIZE + 9
    file.write(b"the end")
    file.close()
    assert path.read_bytes().endswith(b"\0the end")


def test_print_and_records_keep_their_order(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with outputs.naming_standard_output():
        print("first")
        with open_output(None) as file:
            file.write(b"second\n")
            print("third")
    assert capsysbinary.readouterr().out == b"first\nsecond\nthird\n"


# --- not at all -----------------------------------------------------------------------------------


def test_each_call_after_a_failure_fails_and_close_too() -> None:
    file = open_output(FULL)
    file.write(b"x" * 10)
    for call in (file.flush, lambda: file.write(b"more"), file.close):
        with pytest.raises(OutputError, match=f"^/dev/full: {NO_ROOM}; what comes after"):
            call()
    assert file.closed


@pytest.mark.parametrize("app", WRITERS)
def test_an_app_whose_file_is_full_ends_the_run_with_an_error_that_names_it(app: str) -> None:
    done = run(app, "--pcap", str(DATA / "http.pcap"), "--set", "path=/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: /dev/full: {NO_ROOM}; ")
    assert len(done.stderr.splitlines()) == 1


APPS: list[list[str]] = [["flowlog"], ["top"], ["printer.py"]]
APPS += [[app, "--workers", "2"] for app in ("flowlog", "printer.py")]


@pytest.fixture
def printer(tmp_path: Path) -> Path:
    """An app that prints, in a folder."""
    text = "from aiomos import App\napp = App('printer')\n"
    text += "@app.monitor(gaps='skip')\nasync def say(conn):\n    print(conn.flow, 'x' * 100_000)\n"
    (tmp_path / "printer.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize("arguments", APPS, ids=" ".join)
def test_standard_output_that_is_full_is_an_error(arguments: list[str], printer: Path) -> None:
    with FULL.open("w") as full:
        done = run(*arguments, "--pcap", str(DATA / "http.pcap"), stdout=full, cwd=printer)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: standard output: {NO_ROOM}; ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", APPS, ids=" ".join)
def test_when_the_reader_of_standard_output_has_gone_nothing_is_said(
    arguments: list[str], printer: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        done = run(*arguments, "--pcap", str(DATA / "http.pcap"), stdout=pipe, cwd=printer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["apps"], ["apps", "top"], ["--help"], ["run", "--help"]])
def test_other_commands_say_it_as_well(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "aiomos", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: standard output: {NO_ROOM}; ")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_grows_beyond_its_limit_has_whole_records_before(tmp_path: Path) -> None:
    """As on a disk that fills up: ``ulimit -f``."""
    log = tmp_path / "flows.jsonl"
    captures = [str(DATA / f"{name}.pcap") for name in ("http", "tls", "reset", "reuse", "half_close")]
    command = f"ulimit -f 2; exec {sys.executable} -m aiomos run flowlog --pcap {' '.join(captures)} --set path={log}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {log}: File too large; ")
    assert log.stat().st_size == 2048
    assert [json.loads(line)["client"] for line in log.read_bytes().splitlines()[:-1]] != []


# --- what a run makes of it -----------------------------------------------------------------------


def failing(write: Callable[[], object], *, at: Level = Level.STATE) -> tuple[App, list[str]]:
    """An app that fails on each connection, and what it has tried."""
    app, tried = App("failing"), list[str]()

    @app.monitor(level=at)
    async def handle(conn: MonitorConnection) -> None:
        tried.append(str(conn.flow))
        write()

    return app, tried


def raise_output_error() -> None:
    raise OutputError.of("somewhere", OSError(28, NO_ROOM))


def test_a_lost_output_ends_a_run_over_captures_and_other_apps_give_what_they_have() -> None:
    lost, tried = failing(raise_output_error)
    other, ended = App("other"), []
    other.on(aiomos.CONN_TEARDOWN)(lambda flow: ended.append(flow.reason))
    with pytest.raises(OutputError, match=r"^somewhere: "):
        aiomos.run(lost, other, pcap=[DATA / "http.pcap"])
    assert len(tried) == 2
    assert ended


def test_a_thread_of_an_app_has_no_context_and_ends_the_run_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import asyncio, threading\nfrom pathlib import Path\n"
        "from aiomos import App, MonitorConnection\nfrom aiomos.outputs import open_output\n"
        'app = App("threaded")\n'
        "@app.startup\ndef begin() -> None:\n    file = open_output(Path('/dev/full'))\n"
        "    threading.Thread(target=file.write, args=(b'record',)).start()\n"
        "@app.monitor('')\nasync def wait(conn: MonitorConnection) -> None:\n    await asyncio.sleep(1)\n"
    )
    done = run(str(tmp_path / "app.py"), "--pcap", str(DATA / "http.pcap"))
    assert done.returncode == 1
    assert f"error: /dev/full: {NO_ROOM}; " in done.stderr


def test_in_line_frames_go_on_and_the_run_fails_at_its_end() -> None:
    network = Network()
    client = TcpHost("10.0.0.1", 40000, peer=("10.0.0.2", 80), data=b"question" * 2000)
    server = TcpHost("10.0.0.2", 80, data=b"answer" * 9000, answers=True)
    middlebox = network.middlebox(client, server, in_line=True)
    client.connect()
    app, tried = failing(raise_output_error)
    with pytest.raises(OutputError, match=r"^somewhere: "):
        aiomos.run(app, transport=middlebox)
    assert len(tried) == 1
    assert client.received == server.data
    assert server.received == client.data


def test_the_pipe_of_an_app_s_own_is_a_failure_of_that_connection_alone() -> None:
    def write() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    app, tried = failing(write)
    report = aiomos.run(app, pcap=[DATA / "http.pcap"])
    assert len(tried) == 2
    assert report.counters["handler_errors"] == 2
    assert report.failed == ["failing"]


def test_a_full_disk_of_an_app_s_own_fails_the_run_at_its_end() -> None:
    def write() -> None:
        with open(FULL, "wb", buffering=0) as file:
            file.write(b"x")

    app, tried = failing(write)
    with pytest.raises(OSError, match=NO_ROOM):
        aiomos.run(app, pcap=[DATA / "http.pcap"])
    assert len(tried) == 2
