"""Compare aiomos with what a user would pick instead: ``python benchmarks/bench.py [--quick]``.

Every program runs by itself on one core, over the same capture files with the page cache warm, in turns
(A, B, C, A, B, C, ...). Rates are those of its fastest run, from opening the file to the end.

The real traffic comes from ``mix_captures.py`` where AIOMOS_MIX_SCRIPT names it, else it is mixed from
the captures of the tests. AIOMOS_TRACE_SCRIPT names a generator with ``many`` and ``bulk``
commands to use in place of traces.py. AIOMOS_PEERS_PYTHON names the interpreter that has the Python peers.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import attrs
import measure
import programs
import traces
from measure import Bench, ProgramFailedError, Run
from programs import Missing, Program
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parents[1]
SLICES = (20_000, 120_000)  # frames; the difference is free of start-up
# On one machine, with a million flows: PcapPlusPlus 0.77 million packets/s, libtins 0.41.
PCAPPLUSPLUS_TO_LIBTINS = 0.77 / 0.41

FOLLOWERS = ("aiomos", "libtins", "libnids")
BOUNDS = ("read(2)", "libpcap")


@attrs.frozen
class Input:
    """A capture to measure with.

    Attributes:
        name: As on the command line and in the tables.
        path: The file.
        frames: How many it has.
        connections: The most it has open at once, at least.
        runs: First words of the names of the programs that read it.
        slice: Its first frames, for slow programs.
        slice_frames: How many those are.
    """

    name: str
    path: Path
    frames: int
    connections: int
    runs: tuple[str, ...]
    slice: Path
    slice_frames: int


@attrs.frozen
class Measurement:
    """The runs of one program over one input."""

    program: str
    frames: int
    runs: list[Run]

    @property
    def best(self) -> Run:
        """The fastest run."""
        return min(self.runs, key=lambda run: run.seconds)

    @property
    def median_seconds(self) -> float:
        """What a run took."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.best.seconds

    @property
    def stream_rate(self) -> float:
        """Bytes of TCP payload a second, of an input where the libraries agree on how many there are."""
        return self.best.bytes / self.best.seconds


Results = dict[str, dict[str, Measurement]]  # by input, then program


class Inputs:
    """Makes the captures, or finds them made."""

    def __init__(self, cache: Path, captures: Path, *, quick: bool) -> None:
        self.cache = cache
        self.captures = captures
        self.quick = quick

    def choose(self, only: str | None) -> Iterator[Input]:
        """Make the inputs of one family, or all."""
        if only in (None, "mix"):
            everyone = (*FOLLOWERS, "tcptrace", *programs.PYTHON_PEERS, *BOUNDS)
            yield self._input("mix", self._mix(), 1 << 18, everyone)
        if only in (None, "many"):
            flows = 100_000 if self.quick else 1_000_000
            rounds = 100 if self.quick else 1000
            yield self._input("many 1k", self._own("many", flows=1000, rounds=rounds), 1 << 12, (*FOLLOWERS, *BOUNDS))
            yield self._input("many", self._trace("many", flows=flows), flows, (*FOLLOWERS, *BOUNDS))
        if only in (None, "bulk"):
            path = self._trace("bulk", payload=10**8 if self.quick else 10**9)
            yield self._input("bulk", path, 1 << 12, (*FOLLOWERS, "tcptrace", *BOUNDS))

    def slice(self, path: Path, frames: int) -> Path:
        """Give a file with the first frames of another."""
        target = path.with_name(f"{path.stem}-first-{frames}.pcap")
        if not target.exists():
            traces.first_frames(path, frames, target)
        return target

    def _input(self, name: str, path: Path, connections: int, runs: tuple[str, ...]) -> Input:
        frames = traces.count_frames(path)
        slice_frames = min(frames, 10_000 if self.quick else 50_000)
        return Input(name, path, frames, connections, runs, self.slice(path, slice_frames), slice_frames)

    def _mix(self) -> Path:
        script = os.environ.get("AIOMOS_MIX_SCRIPT")
        if script:
            return self._script(script, [str(self.captures), "--copies", "1" if self.quick else "16"])
        frames = 100_000 if self.quick else 1_500_000
        return self._own("mix", captures=self.captures, frames=frames, interval_us=3)

    def _trace(self, kind: str, **options: int) -> Path:
        script = os.environ.get("AIOMOS_TRACE_SCRIPT")
        if not script:
            return self._own(kind, **options, **({"rounds": 1} if kind == "many" else {}))
        return self._script(script, [kind, *(f"--{name}={value}" for name, value in options.items())])

    def _own(self, kind: str, **options: object) -> Path:
        source = Path(traces.__file__).read_text()
        path = self._cached(kind, [source, *(f"{name}={value}" for name, value in sorted(options.items()))])
        if not path.exists():
            traces.write(path, kind, **options)
        return path

    def _script(self, script: str, arguments: list[str]) -> Path:
        path = self._cached(Path(script).stem, [script, *arguments])
        if not path.exists():
            part = path.with_suffix(".part")
            subprocess.run([sys.executable, script, *arguments, "--out", str(part)], check=True, stdout=subprocess.DEVNULL)
            part.replace(path)
        return path

    def _cached(self, stem: str, made_from: Iterable[str]) -> Path:
        digest = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:12]
        return self.cache / f"{stem}-{digest}.pcap"


def run_all(
    bench: Bench, chosen: Input, found: Sequence[Program], repeat: int, failures: dict[str, str]
) -> dict[str, Measurement]:
    """Run every program that is meant for an input, in turns."""
    chosen.path.read_bytes()  # into the page cache
    readers = [program for program in found if program.name.startswith(chosen.runs)]
    runs: dict[str, list[Run]] = {program.name: [] for program in readers}
    with Progress(transient=True) as progress:
        task = progress.add_task(chosen.name, total=repeat * len(readers))
        for _ in range(repeat):
            for program in readers:
                progress.update(task, description=f"{chosen.name}: {program.name}")
                failure = f"{program.name} on {chosen.name}"
                if failure not in failures:
                    path = chosen.slice if program.slow else chosen.path
                    try:
                        runs[program.name].append(bench.run(program.arguments(path, chosen.connections)))
                    except ProgramFailedError as error:
                        failures[failure] = str(error)
                progress.advance(task)
    frames = {program.name: chosen.slice_frames if program.slow else chosen.frames for program in readers}
    return {name: Measurement(name, frames[name], done) for name, done in runs.items() if done}


def rate_table(chosen: Input, results: dict[str, Measurement]) -> Table:
    """Show the programs of one input."""
    table = Table(title=f"{chosen.name}: {chosen.frames:,} frames, {chosen.path.stat().st_size / 1e6:,.0f} MB", title_justify="left")
    table.add_column("program")
    columns = ("M packets/s", "× libtins", "ns/packet", "best s", "median s", "process s", "CPU s", "start-up s", "RSS MB")
    for column in (*columns, "flows", "stream MB", "GB/s", "given up"):
        table.add_column(column, justify="right")
    base = results.get("libtins callbacks")
    for name, measurement in results.items():
        best = measurement.best
        table.add_row(
            name + (f" (first {measurement.frames:,})" if measurement.frames != chosen.frames else ""),
            f"{measurement.rate / 1e6:.3f}",
            f"{measurement.rate / base.rate:.2f}" if base else "",
            f"{1e9 / measurement.rate:,.0f}",
            f"{best.seconds:.3f}",
            f"{measurement.median_seconds:.3f}",
            f"{best.wall:.3f}",
            f"{best.cpu:.3f}",
            f"{best.python_startup_seconds:.2f}" if best.python_startup_seconds else "",
            f"{best.rss / 1e6:,.0f}",
            f"{best.flows:,}" if best.flows else "",
            f"{best.bytes / 1e6:,.1f}" if best.bytes else "",
            f"{measurement.stream_rate / 1e9:.2f}" if best.bytes else "",
            f"{best.aborted:,}" if best.aborted else "",
        )
    return table


def bytes_per_flow(results: Results, program: str) -> float | None:
    """What a flow costs in memory: how much more the many flows take than the thousand."""
    few, plenty = (results.get(name, {}).get(program) for name in ("many 1k", "many"))
    if few is None or plenty is None or plenty.best.flows <= few.best.flows:
        return None
    return (plenty.best.rss - few.best.rss) / (plenty.best.flows - few.best.flows)


def memory_table(results: Results) -> Table:
    """Show what a flow costs each program."""
    table = Table(title="a flow among many", title_justify="left")
    table.add_column("program")
    table.add_column("bytes/flow", justify="right")
    table.add_column("ns/packet, × that at 1,000 flows", justify="right")
    for name, measurement in results["many"].items():
        per_flow = bytes_per_flow(results, name)
        if per_flow is not None:
            slower = results["many 1k"][name].rate / measurement.rate
            table.add_row(name, f"{per_flow:,.0f}", f"{slower:.2f}")
    return table


@attrs.frozen
class Target:
    """Something to reach.

    Attributes:
        text: What.
        goal: The number.
        value: The one measured; None if it was not.
        at_most: Whether less is better.
    """

    text: str
    goal: float
    value: float | None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Say whether it is reached."""
        if self.value is None:
            return "[dim]not measured"
        reached = self.value <= self.goal if self.at_most else self.value >= self.goal
        return "[green]reached" if reached else "[red]not reached"


def targets(results: Results, flows: int) -> list[Target]:
    """List what was set out to be reached, single core, with what has been."""

    def measured(source: str, program: str) -> Measurement | None:
        return results.get(source, {}).get(program)

    def ratio(source: str, program: str, peer: str) -> float | None:
        ours, theirs = measured(source, program), measured(source, peer)
        return ours.rate / theirs.rate if ours and theirs else None

    few, plenty = measured("many 1k", "aiomos state"), measured("many", "aiomos state")
    stream, reader = measured("bulk", "aiomos stream"), measured("bulk", "libtins callbacks")
    to_pcapplusplus = ratio("many", "aiomos state", "libtins callbacks")
    return [
        Target("mix: STATE, × libtins", 5, ratio("mix", "aiomos state", "libtins callbacks")),
        Target("mix: STREAM unread, × libtins", 3, ratio("mix", "aiomos stream", "libtins callbacks")),
        Target("mix: STREAM unread, × libnids", 2, ratio("mix", "aiomos stream", "libnids callbacks")),
        Target("mix: async handlers, × libtins", 1, ratio("mix", "aiomos handlers", "libtins callbacks")),
        Target("mix: flowlog, × libtins", 2, ratio("mix", "aiomos flowlog", "libtins callbacks")),
        Target("many: bytes a flow at STATE", 256, bytes_per_flow(results, "aiomos state"), at_most=True),
        Target("many: flows lost", 0, flows - plenty.best.flows if plenty else None, at_most=True),
        Target(
            f"many: STATE, × PcapPlusPlus (taken as {PCAPPLUSPLUS_TO_LIBTINS:.2f} × libtins)",
            4,
            to_pcapplusplus / PCAPPLUSPLUS_TO_LIBTINS if to_pcapplusplus else None,
        ),
        Target(
            "many: cost of a packet, × that at 1,000 flows",
            2.5,
            few.rate / plenty.rate if few and plenty else None,
            at_most=True,
        ),
        Target(
            "bulk: STREAM unread, GB/s",
            5,
            reader.best.bytes / stream.best.seconds / 1e9 if stream and reader else None,
        ),
    ]


def target_table(chosen: Iterable[Target]) -> Table:
    """Show the targets."""
    table = Table(title="targets", title_justify="left")
    for column, side in (("target", "left"), ("goal", "right"), ("measured", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for target in chosen:
        goal = f"{'≤' if target.at_most else '≥'} {target.goal:g}"
        table.add_row(target.text, goal, "" if target.value is None else f"{target.value:,.2f}", target.verdict)
    return table


def event_table(bench: Bench, inputs: Inputs, chosen: Input, found: Sequence[Program], failures: dict[str, str]) -> Table:
    """Count instructions and cache misses of a packet, as the difference of two slices."""
    table = Table(title=f"{chosen.name}: per packet, simulated by cachegrind", title_justify="left")
    for column in ("program", "instructions", "L1 data misses", "last-level misses"):
        table.add_column(column, justify="left" if column == "program" else "right")
    short, long = (min(frames, chosen.frames) for frames in SLICES)
    for program in found:
        if not program.name.startswith(FOLLOWERS):
            continue
        try:
            few, plenty = (
                bench.events(program.arguments(inputs.slice(chosen.path, frames), chosen.connections))
                for frames in (short, long)
            )
        except ProgramFailedError as error:
            failures[f"{program.name} under cachegrind"] = str(error)
            continue
        table.add_row(program.name, *(f"{(plenty[event] - few[event]) / (long - short):,.2f}" for event in few))
    return table


def notes(found: Sequence[Program], missing: Sequence[Missing], failures: dict[str, str]) -> Iterator[str]:
    """Say what was measured, and what could not be."""
    yield measure.machine()
    versions = {program.name.split()[0]: program.version for program in found}
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items())
    for entry in missing:
        yield f"missing: {entry.name}: {entry.reason}"
    for failure, reason in failures.items():
        yield f"failed: {failure}: {reason}"


def save(path: Path, results: Results, chosen: Sequence[Target], found: Sequence[Program]) -> None:
    """Write everything as JSON."""
    document = {
        "machine": measure.machine(),
        "versions": {program.name: program.version for program in found},
        "targets": [attrs.asdict(target) for target in chosen],
        "results": {
            source: [attrs.asdict(measurement) for measurement in measurements.values()]
            for source, measurements in results.items()
        },
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add: Callable[..., argparse.Action] = parser.add_argument
    add("--captures", type=Path, default=ROOT / "tests" / "data", help="folder of real captures to mix")
    add("--quick", action="store_true", help="a tenth of the size: to see that it works")
    add("--only", choices=("mix", "many", "bulk"), help="one kind of input")
    add("--programs", default="", metavar="NAME,...", help="only programs whose names begin so")
    add("--repeat", type=int, default=3, help="runs of each program (3)")
    add("--instructions", action="store_true", help="count instructions and cache misses (valgrind; slow)")
    add("--json", type=Path, metavar="OUT", help="write all numbers here")
    add("--cache", type=Path, default=ROOT / "build" / "bench", help="folder for captures and binaries")
    add("--core", type=int, default=measure.last_core(), help="processor core to run on")
    add("--timeout", type=float, default=900, help="seconds a program may take (900)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and say which targets are reached."""
    options = parse_arguments(arguments)
    console = Console()
    options.cache.mkdir(parents=True, exist_ok=True)
    try:
        bench = Bench(programs.compile_peer("launch.c", (), options.cache), options.core, options.timeout)
    except programs.CompileError as error:
        console.print(f"the launcher does not compile: {error}")
        return 1
    found, missing = programs.discover(options.cache, os.environ.get("AIOMOS_PEERS_PYTHON", sys.executable))
    found = [program for program in found if program.name.startswith(tuple(options.programs.split(",")))]
    inputs = Inputs(options.cache, options.captures, quick=options.quick)
    results: Results = {}
    failures: dict[str, str] = {}
    flows = 0
    for chosen in inputs.choose(options.only):
        results[chosen.name] = run_all(bench, chosen, found, options.repeat, failures)
        console.print(rate_table(chosen, results[chosen.name]))
        if chosen.name == "many":
            flows = chosen.connections
            console.print(memory_table(results))
        if options.instructions and chosen.name == "mix":
            console.print(event_table(bench, inputs, chosen, found, failures))
    reached = targets(results, flows)
    console.print(target_table(reached))
    for note in notes(found, missing, failures):
        console.print(note, highlight=False, markup=False)
    if options.json:
        save(options.json, results, reached, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
