"""What the benchmarks of live traffic share: programs that run in hosts of their own, and the time they take."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from programs import HERE, Missing
from results import Target
from rich.table import Table

sys.path.append(str(HERE.parent))

from tests.live.network import Host

END_SECONDS = 30
SETTLED_SECONDS = 1.2  # tcpdump has the kernel collect frames for a second
SETTLED_CPU_SECONDS = 0.001


class LiveError(Exception):
    """A program did not start, or not end as it should."""


@attrs.frozen
class Section:
    """What a section of the benchmarks came to.

    Attributes:
        tables: To be shown.
        targets: What was set out to be reached.
        versions: What was measured, and its version.
        missing: What could not be.
        numbers: All of them, as JSON takes them.
    """

    tables: Sequence[Table] = ()
    targets: Sequence[Target] = ()
    versions: Sequence[str] = ()
    missing: Sequence[Missing] = ()
    numbers: Any = None


def start(host: Host, command: Sequence[str], *, ready: str = "ready") -> "subprocess.Popen[str]":
    """Start a program in a host and wait until it says that it is ready.

    Raises:
        LiveError: it ended before.
    """
    process = host.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    said = "nothing"
    for line in process.stdout:
        if ready in line:
            return process
        said = line.strip()
    raise LiveError(f"it ended before it was ready, with status {process.wait()}: {said}")


def end(process: "subprocess.Popen[str]") -> str:
    """End a program as its user would, by SIGINT, and return what it says at the end.

    Raises:
        LiveError: it ended with an error.
    """
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=END_SECONDS)
    if process.returncode:
        raise LiveError((output.strip().splitlines() or [f"status {process.returncode}"])[-1])
    return output


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process's threads so far, in and out of the kernel."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e9


def settled_cpu_seconds(pid: int) -> float:
    """Return the same once the process does nothing any more."""
    last = -1.0
    while (now := cpu_seconds(pid)) - last > SETTLED_CPU_SECONDS:
        last = now
        time.sleep(SETTLED_SECONDS)
    return now
