"""Runs of pytest over a copy: whether it fails, crashes, hangs, or passes."""

import contextlib
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 4 << 30
MOST_OUTPUT = 1 << 30
TEST_SECONDS = 30
"""Of processor time: no test takes as long."""

IDLE_SECONDS, IDLE_SHARE = 60, 0.1
"""A test that takes so long by the clock, and uses no more of the processor, waits for what does not come."""

_UNLOADED = re.compile(r"^\w*Error while loading (conftest '.*')", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class UsageError(Exception):
    """pytest ran no test at all; the message is its output."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of tests said: *noticed* is empty if all passed; *work* is seconds of processor time."""

    noticed: str
    seconds: float
    work: float
    output: str


def run_tests(
    root: Path,
    selection: Sequence[str],
    environment: dict[str, str],
    *,
    work_limit: float,
    limit: float,
    options: Sequence[str] = (),
) -> Outcome:
    """Run tests until one fails.

    Args:
        root: The folder to run in.
        selection: Files and folders of tests, in the order to be run.
        environment: The variables of the run.
        work_limit: Seconds of processor time after which it hangs; on a busy machine it may take as long as it does.
        limit: Seconds after which it hangs, waiting for what does not come.
        options: More options of pytest.

    Raises:
        UsageError: There was nothing to run.
    """
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:randomly",
        "--timeout=0", *options, *selection,
    ]  # fmt: skip
    began, worked = time.monotonic(), work_of_children()
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MOST_OUTPUT, MOST_OUTPUT))
            most = max(math.ceil(work_limit), 1)
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (most, most))
            ended_for = wait(process, began + limit, Progress(process.pid, out.fileno()))
        finally:
            end_group(process)
        out.seek(0)
        output = out.read()
    if not ended_for and process.returncode in (4, 5) and not _UNLOADED.search(output):
        raise UsageError(output)
    noticed = ended_for or reading(process.returncode, output)
    return Outcome(noticed, time.monotonic() - began, work_of_children() - worked, output)


def work_of_children() -> float:
    """Return the seconds of processor time that processes started here have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Progress:
    """Sees whether tests end, by what pytest prints at the end of each.

    Args:
        pid: The process that runs them.
        out: The descriptor of the file it prints to.
    """

    def __init__(self, pid: int, out: int) -> None:
        self._stat = Path(f"/proc/{pid}/stat")
        self._out = out
        self._printed = -1
        self._began = self._worked = 0.0

    def hangs(self, now: float) -> bool:
        """Does the test that runs now take too long?"""
        printed, worked = os.fstat(self._out).st_size, self._work()
        if printed != self._printed:
            self._printed, self._began, self._worked = printed, now, worked
        elapsed, used = now - self._began, worked - self._worked
        return used > TEST_SECONDS or (elapsed > IDLE_SECONDS and used < IDLE_SHARE * elapsed)

    def _work(self) -> float:
        """Return the seconds of processor time of the process, and of its children that have ended."""
        try:
            fields = self._stat.read_text().rpartition(")")[2].split()
        except OSError:
            return self._worked
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def wait(process: subprocess.Popen[bytes], deadline: float, progress: Progress) -> str:
    """Wait for a process to end by itself; returns why it is to be ended otherwise."""
    statm = Path(f"/proc/{process.pid}/statm")
    while True:
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if now > deadline or progress.hangs(now):
                return "hang"
            if resident(statm) > MOST_MEMORY:
                return "memory without end"
        else:
            return ""


def resident(statm: Path) -> int:
    """Return the bytes of memory a process uses, 0 if that cannot be known."""
    try:
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process, and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reading(status: int, output: str) -> str:
    """Return what the end of pytest says: the first failure, or nothing."""
    if status == 0:
        return ""
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return "hang"
    if status < 0:
        return f"crash ({signal.Signals(-status).name})"
    if failed := _UNLOADED.search(output) or _FAILED.search(output):
        return failed[1]
    return f"exit status {status}"
