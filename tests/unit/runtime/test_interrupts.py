"""Interrupts: a run says what it waits for, ends after its grace whatever an app does, and at once if asked again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CAPTURE = ROOT / "tests" / "data" / "http.pcap"
FOREVER = "1000"

HANG = """
import asyncio, sys, time
from aiomos import App
app = App("hang")

async def waits():
    await asyncio.Event().wait()

async def stays():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def works():
    time.sleep(1000)

@app.monitor(gaps="skip")
async def hang(conn):
    print('{{"event": "hangs"}}', file=sys.stderr, flush=True)
    await {how}()

@app.shutdown
def end():
    print("shut down", flush=True)
"""


class Run:
    """A run that hangs.

    Attributes:
        log: What it has logged.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def read_log(self, event: str) -> dict[str, Any]:
        """Read the log up to an event."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if not line.startswith("{"):
                continue
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"{event} was not logged, but {self.log}")

    def finish(self) -> tuple[int, str]:
        """Return its status, and what it printed."""
        out, errors = self.process.communicate(timeout=60)
        self.log += [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
        return self.process.returncode, out


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a run whose handlers hang in some way, and wait until one does."""

    @contextmanager
    def begin(how: str, *arguments: str) -> Iterator[Run]:
        (tmp_path / "hang.py").write_text(HANG.format(how=how))
        command = [
            sys.executable,
            "-m",
            "aiomos",
            "run",
            "hang.py",
            "--pcap",
            str(CAPTURE),
            "--log-format",
            "json",
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*command, *arguments], cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, env=environment
        ) as process:
            try:
                run = Run(process)
                run.read_log("hangs")
                yield run
            finally:
                process.kill()

    return begin


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_handlers_that_wait_are_named_and_cut_short(start: Start, loop: str) -> None:
    with start("waits", "--grace", "3", "--loop", loop) as run:
        run.interrupt()
        ending = run.read_log("ending")
        assert ending["waits_for"] == "2 handlers of hang, most at waits in hang.py:7"
        assert ending["at_most_seconds"] == 2.5
        run.read_log("handlers_cut_short")
        assert run.finish() == (130, "shut down\n")


def test_handlers_that_do_not_let_go_are_ended_by_force(start: Start) -> None:
    with start("stays", "--grace", "0") as run:
        run.interrupt()
        assert "2 handlers of hang" in run.read_log("ended_by_force")["waited_for"]
        assert run.finish() == (1, "")


def test_code_that_does_not_wait_is_named_and_ended_by_force(start: Start) -> None:
    with start("works", "--grace", "2") as run:
        run.interrupt()
        assert run.read_log("ending")["waits_for"] == "code that does not wait: works in hang.py:17"
        run.read_log("ended_by_force")
        assert run.finish() == (1, "")


@pytest.mark.parametrize("how", ["waits", "stays", "works"])
def test_a_second_interrupt_ends_it_at_once(start: Start, how: str) -> None:
    with start(how, "--grace", FOREVER) as run:
        run.interrupt()
        assert run.read_log("ending")["at_most_seconds"] == 999.5
        run.interrupt()
        assert run.finish()[0] == 130


def test_workers_end_after_the_grace(start: Start) -> None:
    with start("waits", "--grace", "3", "--workers", "2") as run:
        run.interrupt()
        assert run.read_log("ending")["waits_for"].startswith("workers ")
        assert run.finish()[0] == 130
        assert "handlers_cut_short" in [line["event"] for line in run.log]


def test_workers_end_at_once_at_a_second_interrupt(start: Start) -> None:
    with start("works", "--grace", FOREVER, "--workers", "2") as run:
        run.interrupt()
        run.read_log("ending")
        run.interrupt()
        assert run.finish()[0] == 1
        assert [line["event"] for line in run.log].count("worker_killed") >= 1
