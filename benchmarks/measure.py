"""Run a program and measure it: time, memory, instructions, cache misses."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

# Cachegrind's events, of which it tells reads and writes apart.
CACHE_EVENTS = {
    "Ir": "instructions",
    "D1mr": "l1_data_misses",
    "D1mw": "l1_data_misses",
    "DLmr": "last_level_data_misses",
    "DLmw": "last_level_data_misses",
}


class ProgramFailedError(Exception):
    """A program ended with an error, ran out of time, or printed no result."""


@attrs.frozen(kw_only=True)
class Run:
    """What one run of a program counted and used.

    Attributes:
        frames: Frames it saw.
        segments: TCP segments of connections it followed.
        flows: TCP connections it followed.
        bytes: Stream bytes it handed over.
        newlines: Newline bytes among them; None if it read none.
        aborted: Connections it gave up.
        calls: Callbacks called, where they count.
        seconds: From opening the file to the end, by its own clock; of the whole process if it has none.
        python_startup_seconds: Processor time before that.
        wall: Seconds of the whole process.
        cpu: Processor seconds of the whole process.
        rss: Most memory it held, in bytes.
    """

    seconds: float
    wall: float
    cpu: float
    rss: int
    frames: int = 0
    segments: int = 0
    flows: int = 0
    bytes: int = 0
    newlines: int | None = None
    aborted: int = 0
    calls: int = 0
    python_startup_seconds: float = 0.0


@attrs.frozen
class Bench:
    """Where programs run.

    Attributes:
        launcher: The compiled peers/launch.c.
        core: The processor core for them, and nothing else.
        timeout: Seconds a program may take.
    """

    launcher: Path
    core: int
    timeout: float

    def run(self, command: Sequence[str]) -> Run:
        """Run a command on the core.

        Raises:
            ProgramFailedError: it failed, or took too long.
        """
        with tempfile.NamedTemporaryFile("r") as usage_file:
            output = self._output([str(self.launcher), str(self.core), usage_file.name, *command])
            usage = json.load(usage_file)
        return Run(
            **{"seconds": usage["wall"], **last_json_line(output)},
            wall=usage["wall"],
            cpu=usage["user"] + usage["system"],
            rss=usage["rss"],
        )

    def events(self, command: Sequence[str]) -> dict[str, int]:
        """Count a command's instructions and its misses of the first and last level of cache, by simulation.

        Raises:
            ProgramFailedError: it failed, or took too long.
        """
        with tempfile.NamedTemporaryFile("r", suffix=".cachegrind") as counts:
            options = ("--tool=cachegrind", "--cache-sim=yes", f"--cachegrind-out-file={counts.name}")
            self._output(["valgrind", "--quiet", *options, *command])
            lines = dict(line.split(": ", 1) for line in counts if line.startswith(("events: ", "summary: ")))
        totals = dict.fromkeys(CACHE_EVENTS.values(), 0)
        for event, count in zip(lines["events"].split(), lines["summary"].split(), strict=True):
            if event in CACHE_EVENTS:
                totals[CACHE_EVENTS[event]] += int(count)
        return totals

    def _output(self, command: Sequence[str]) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=self.timeout, check=True)
        except FileNotFoundError:
            raise ProgramFailedError(f"no {command[0]} on the PATH") from None
        except subprocess.TimeoutExpired:
            raise ProgramFailedError(f"took more than {self.timeout:.0f} s") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).strip().splitlines()
            raise ProgramFailedError(said[-1] if said else f"exit status {error.returncode}") from None
        return done.stdout


def last_json_line(output: str) -> dict[str, float]:
    """Read the line of results among what a program printed; empty if it prints none."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def last_core() -> int:
    """Pick the core least used by others: the first often serves interrupts."""
    return max(os.sched_getaffinity(0))


def machine() -> str:
    """Describe processor and Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}"
