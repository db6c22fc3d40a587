"""Watching an interface: what each program takes of the frames on a wire, and the processor time it takes for them.

The wire is a veth pair between network namespaces. A sender in C puts the frames of a capture on it from one core, as
fast as it can; the program watches the other end from another core. A program that loses frames is measured again at
lower rates, until it loses none. Loss is what was sent and not counted at the end; what the kernel says it had to drop
should be the same. Processor time is that of the program's threads, in and out of the kernel, from when it was ready
to when all was read; most of the kernel's own work for a frame is done on the sender's core.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from inputs import Input, Inputs
from live import LiveError, Section, end, settled_cpu_seconds, start
from programs import HERE, CompileError, Missing, compile_peer, debian_version, package_version
from results import Target
from rich.progress import Progress
from rich.table import Table

from tests.live.network import Host, Network

RING_MIB = 64
MTU = 65535  # captures have super-segments
SLOWER = (0.8, 0.6, 0.4, 0.2, 0.1, 0.05)
BARE, STATE, STREAM = "bare ring", "aiomos state", "aiomos stream"
TCPDUMP_COUNTS = re.compile(r"(\d+) packets? (captured|dropped by kernel)")


@attrs.frozen
class Watcher:
    """A program that watches an interface.

    Attributes:
        name: As in the tables.
        command: Its arguments; ``{interface}`` is to be watched.
        version: What is measured, and its version.
        ready: What it says, on standard output or error, once it watches.
    """

    name: str
    command: tuple[str, ...]
    version: str
    ready: str = "ready"


@attrs.frozen(kw_only=True)
class LiveRun:
    """What came of one run.

    Attributes:
        sent: Frames sent.
        seconds: For how long they were sent.
        frames: Frames the program counted.
        dropped: Frames the kernel says it dropped.
        cpu: Processor seconds of the program.
        flows: Connections it followed.
    """

    sent: int
    seconds: float
    frames: int
    dropped: int
    cpu: float
    flows: int = 0

    @property
    def rate(self) -> float:
        """Packets a second on the wire."""
        return self.sent / self.seconds

    @property
    def lost(self) -> int:
        """Frames sent and not counted."""
        return self.sent - self.frames

    @property
    def cpu_ns(self) -> float:
        """Processor time for a frame, in nanoseconds."""
        return self.cpu / max(self.frames, 1) * 1e9


@attrs.frozen
class Watched:
    """The runs of one program over one input.

    Attributes:
        watcher: The program's name.
        full: Those with the sender as fast as it can.
        lossless: The fastest one without loss; None if there was none.
    """

    watcher: str
    full: list[LiveRun]
    lossless: LiveRun | None

    @property
    def cpu_ns(self) -> float:
        """Processor time for a frame in the best run."""
        return min(run.cpu_ns for run in [*self.full, *filter(None, [self.lossless])])

    def pace(self, bare: "Watched") -> float | None:
        """Compare the rates without loss; who keeps up with the sender at its fastest counts as the ring does."""
        if bare.lossless is None:
            return None
        if self.lossless is None:
            return 0.0
        return 1.0 if self.lossless in self.full else min(1.0, self.lossless.rate / bare.lossless.rate)


LiveResults = dict[str, dict[str, Watched]]  # by input, then program


def watchers(folder: Path) -> Iterator[Watcher | Missing]:
    """Find the programs, compiling into a folder what must be."""
    try:
        ring = str(compile_peer("live_ring.c", (), folder))
        yield Watcher(BARE, (ring, "{interface}", str(RING_MIB)), "")
    except CompileError as error:
        yield Missing(BARE, str(error))
    script = str(HERE / "aiomos_live.py")
    for name, mode in ((STATE, "state"), (STREAM, "stream")):
        command = (sys.executable, script, mode, "{interface}", str(RING_MIB))
        yield Watcher(name, command, package_version("aiomos"))
    options = ("--buffer-size", str(RING_MIB << 10), "-w", "/dev/null", "-Z", "root", "-n")
    yield Watcher(
        "tcpdump", ("tcpdump", *options, "-i", "{interface}"), debian_version("tcpdump"), "listening on"
    )
    try:
        libtins = str(compile_peer("libtins_sniffer.cpp", ("-ltins", "-lpcap"), folder))
    except CompileError as error:
        yield Missing("libtins live", f"{error}; Debian: apt install libtins-dev g++")
    else:
        for mode in ("parse", "follow"):
            command = (libtins, mode, "{interface}", str(RING_MIB))
            yield Watcher(f"libtins {mode}", command, debian_version("libtins-dev"))


@attrs.frozen
class Bed:
    """A sender and a watcher's host, each with a core.

    Attributes:
        sender: The compiled peers/live_send.c.
        core: The watcher's processor core; the sender has another.
    """

    sender: Path
    core: int

    def run(self, watcher: Watcher, path: Path, rate: float) -> LiveRun:
        """Send a capture past a program.

        Args:
            watcher: The program.
            path: The capture.
            rate: Packets a second; 0 for as fast as the sender can.

        Raises:
            LiveError: the program or the sender failed.
        """
        with Network() as network:
            far, near = network.host("sender"), network.host("watcher")
            network.join(far, "eth0", near, "eth0")
            for host in (far, near):
                host.set_link("eth0", mtu=MTU)
            command = [part.format(interface="eth0") for part in watcher.command]
            process = start(near, ["taskset", "-c", str(self.core), *command], ready=watcher.ready)
            before = settled_cpu_seconds(process.pid)
            sent = json.loads(self._send(far, path, rate))
            cpu = settled_cpu_seconds(process.pid) - before
            output = end(process)
        return LiveRun(sent=sent["frames"], seconds=sent["seconds"], cpu=cpu, **counts(output))

    def _send(self, host: Host, path: Path, rate: float) -> str:
        others = sorted(os.sched_getaffinity(0) - {self.core}) or [self.core]
        command = ["taskset", "-c", str(others[0]), str(self.sender), "eth0", str(rate), str(path)]
        sender = host.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = sender.communicate()
        if sender.returncode:
            raise LiveError(f"the sender failed: {errors.strip()}")
        return output


def counts(output: str) -> dict[str, int]:
    """Read what a program counted: its line of JSON, or what tcpdump says at the end."""
    for line in output.splitlines():
        if line.startswith("{"):
            counted = json.loads(line)
            return {name: counted.get(name, 0) for name in ("frames", "dropped", "flows")}
    found = {what: int(number) for number, what in TCPDUMP_COUNTS.findall(output)}
    if len(found) < 2:
        raise LiveError(f"it does not say what it counted: {output.strip()}")
    return {"frames": found["captured"], "dropped": found["dropped by kernel"]}


def section(inputs: Inputs, core: int, repeat: int, failures: dict[str, str]) -> Section:
    """Run every program over the mix and over many flows, in turns."""
    entries = list(watchers(inputs.cache))
    found = [entry for entry in entries if isinstance(entry, Watcher)]
    bed = Bed(compile_peer("live_send.c", (), inputs.cache), core)
    chosen = [inputs.mix(), *(one for one in inputs.choose(["many"]) if one.name == "many")]
    results = {one.name: watch_all(bed, one, found, repeat, failures) for one in chosen}
    return Section(
        tables=[live_table(name, watched) for name, watched in results.items()],
        targets=list(live_targets(results)),
        versions=[watcher.version for watcher in found if watcher.version],
        missing=[entry for entry in entries if isinstance(entry, Missing)],
        numbers={name: [attrs.asdict(one) for one in watched.values()] for name, watched in results.items()},
    )


def watch_all(
    bed: Bed, chosen: Input, found: Sequence[Watcher], repeat: int, failures: dict[str, str]
) -> dict[str, Watched]:
    """Run the programs over one input."""
    full: dict[str, list[LiveRun]] = {watcher.name: [] for watcher in found}
    results = {}
    with Progress(transient=True) as progress:
        task = progress.add_task(chosen.name, total=(repeat + 1) * len(found))
        for turn in range(repeat + 1):
            for watcher in found:
                progress.update(task, description=f"{chosen.name}: {watcher.name}")
                runs = full[watcher.name]
                failure = f"{watcher.name} on {chosen.name}, live"
                try:
                    if failure in failures:
                        pass
                    elif turn < repeat:
                        runs.append(bed.run(watcher, chosen.path, 0))
                    else:
                        lossless = without_loss(bed, watcher, chosen.path, runs)
                        results[watcher.name] = Watched(watcher.name, runs, lossless)
                except LiveError as error:
                    failures[failure] = str(error)
                progress.advance(task)
    return results


def without_loss(bed: Bed, watcher: Watcher, path: Path, runs: Sequence[LiveRun]) -> LiveRun | None:
    """Find the fastest run without loss; where there is none, send slower."""
    good = [run for run in runs if run.lost == 0]
    if good:
        return max(good, key=lambda run: run.rate)
    fastest = max(run.rate for run in runs)
    slower = (bed.run(watcher, path, part * fastest) for part in SLOWER)
    return next((run for run in slower if run.lost == 0), None)


def live_table(name: str, results: dict[str, Watched]) -> Table:
    """Show the programs of one input."""
    table = Table(title=f"{name}: watched live", title_justify="left")
    table.add_column("program", no_wrap=True)
    for column in ("M/s sent", "lost", "dropped", "M/s, no loss", "CPU ns/packet", "× bare", "flows"):
        table.add_column(column, justify="right", no_wrap=True)
    bare = results.get(BARE)
    for watched in results.values():
        worst = max(watched.full, key=lambda run: run.lost)
        table.add_row(
            watched.watcher,
            f"{worst.rate / 1e6:.3f}",
            f"{worst.lost / worst.sent:.1%}" if worst.lost else "0",
            f"{worst.dropped:,}",
            f"{watched.lossless.rate / 1e6:.3f}" if watched.lossless else "-",
            f"{watched.cpu_ns:,.0f}",
            f"{watched.cpu_ns / bare.cpu_ns:.2f}" if bare else "",
            f"{worst.flows:,}" if worst.flows else "",
        )
    return table


def live_targets(results: LiveResults) -> Iterator[Target]:
    """List what was set out to be reached, with what has been."""

    def ratio(source: str, name: str) -> float | None:
        ours, bare = (results.get(source, {}).get(program) for program in (name, BARE))
        return ours.pace(bare) if ours and bare else None

    yield Target("live mix: STATE without loss, × bare ring", 0.8, ratio("mix", STATE))
    yield Target("live mix: STREAM without loss, × bare ring", 0.6, ratio("mix", STREAM))
    many = results.get("many", {}).get(STATE)
    lost = float(min(run.lost for run in many.full)) if many else None
    yield Target("live many: STATE, frames lost", 0, lost, at_most=True)
