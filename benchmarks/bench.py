"""Compare aiomos with what a user would pick instead: ``python benchmarks/bench.py [--quick]``.

Every program runs by itself on one core, over the same capture files with the page cache warm, in turns
(A, B, C, A, B, C, ...). Rates are those of its fastest run, from opening the file to the end. The paper's figures
compare ways of running aiomos with one another, see figures.py.

The real traffic comes from ``mix_captures.py`` where AIOMOS_MIX_SCRIPT names it, else it is mixed from
the captures of the tests. AIOMOS_TRACE_SCRIPT names a generator with ``many`` and ``bulk``
commands to use in place of traces.py. AIOMOS_PEERS_PYTHON names the interpreter that has the Python peers.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import measure
import programs
from figures import FIGURES, FigureResults, figure_table, figure_targets, measure_figure
from inputs import FAMILIES, FOLLOWERS, Input, Inputs
from measure import Bench, ProgramFailedError, Run
from needs import needs, needs_table
from programs import Missing, Program
from results import Measurement, Results, Target, memory_table, rate_table, target_table, targets
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

ROOT = Path(__file__).parents[1]
LIVE = ("live_watch", "live_bridge", "workers")
"""Modules that measure in their own way; the live ones need the right to make network namespaces."""
SECTIONS = (*FAMILIES, *FIGURES, *LIVE)
SLICES = (20_000, 120_000)  # frames; the difference is free of start-up


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


def event_table(events: dict[str, dict[str, float]], title: str) -> Table:
    """Show what a packet costs each program."""
    table = Table(title=title, title_justify="left")
    table.add_column("program")
    for event in next(iter(events.values()), {}):
        table.add_column(event.replace("_", " "), justify="right")
    for program, counts in events.items():
        table.add_row(program, *(f"{count:,.2f}" for count in counts.values()))
    return table


def count_events(
    bench: Bench, inputs: Inputs, chosen: Input, found: Sequence[Program], failures: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Count instructions and cache misses of a packet, as the difference of two slices of an input."""
    short, long = (min(frames, chosen.frames) for frames in SLICES)
    events = {}
    for program in (program for program in found if program.name.startswith(FOLLOWERS)):
        try:
            few, plenty = (
                bench.events(program.arguments(inputs.slice(chosen.path, frames), chosen.connections))
                for frames in (short, long)
            )
        except ProgramFailedError as error:
            failures[f"{program.name} under cachegrind"] = str(error)
        else:
            events[program.name] = {name: (plenty[name] - few[name]) / (long - short) for name in few}
    return events


def notes(versions: Sequence[str], missing: Sequence[Missing], failures: dict[str, str]) -> Iterator[str]:
    """Say what was measured, and what could not be."""
    yield measure.machine()
    yield "versions: " + ", ".join(dict.fromkeys(versions))
    for entry in missing:
        yield f"missing: {entry.name}: {entry.reason}"
    for failure, reason in failures.items():
        yield f"failed: {failure}: {reason}"


def save(
    path: Path,
    results: Results,
    events: dict[str, dict[str, float]],
    chosen: Sequence[Target],
    found: Sequence[Program],
    figures: dict[str, FigureResults],
    live: dict[str, Any],
) -> None:
    """Write everything as JSON."""
    document = {
        "machine": measure.machine(),
        "versions": {program.name: program.version for program in found},
        "events_a_packet": events,
        "targets": [attrs.asdict(target) for target in chosen],
        "results": {
            source: [attrs.asdict(measurement) for measurement in measurements.values()]
            for source, measurements in results.items()
        },
        "figures": {
            name: [attrs.asdict(measured) for measured in rows.values()] for name, rows in figures.items()
        },
        "live": live,
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def sections(text: str) -> tuple[str, ...]:
    """Read names of sections."""
    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"no section {name!r}; there are {', '.join(SECTIONS)}")
    return chosen


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add: Callable[..., argparse.Action] = parser.add_argument
    add("--captures", type=Path, default=ROOT / "tests" / "data", help="folder of real captures to mix")
    add("--quick", action="store_true", help="a tenth of the size: to see that it works")
    add("--only", type=sections, default=SECTIONS, metavar="NAME,...", help=f"some of {', '.join(SECTIONS)}")
    add("--programs", default="", metavar="NAME,...", help="only programs whose names begin so")
    add("--repeat", type=int, default=3, help="runs of each program (3)")
    add(
        "--instructions",
        action="store_true",
        help="also count instructions and cache misses of the mix (valgrind; slow)",
    )
    add("--json", type=Path, metavar="OUT", help="write all numbers here")
    add("--cache", type=Path, default=ROOT / "build" / "bench", help="folder for captures and binaries")
    add("--core", type=int, default=measure.last_core(), help="processor core to run on")
    add("--timeout", type=float, default=900, help="seconds a program may take (900)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, and say which targets are reached."""
    options = parse_arguments(arguments)
    console = Console()
    peers_python = os.environ.get("AIOMOS_PEERS_PYTHON", sys.executable)
    console.print(needs_table(needs(options.only, peers_python, instructions=options.instructions)))
    options.cache.mkdir(parents=True, exist_ok=True)
    try:
        bench = Bench(programs.compile_peer("launch.c", (), options.cache), options.core, options.timeout)
    except programs.CompileError as error:
        console.print(f"the launcher does not compile: {error}")
        return 1
    inputs = Inputs(options.cache, options.captures, quick=options.quick)
    failures: dict[str, str] = {}
    found, missing = [*programs.aiomos_programs()], []
    if any(name in FAMILIES for name in options.only):
        found, missing = programs.discover(options.cache, peers_python)
        found = [program for program in found if program.name.startswith(tuple(options.programs.split(",")))]
    results: Results = {}
    events: dict[str, dict[str, float]] = {}
    flows = 0
    for chosen in inputs.choose(options.only):
        results[chosen.name] = run_all(bench, chosen, found, options.repeat, failures)
        console.print(rate_table(chosen, results[chosen.name]))
        if chosen.name == "many":
            flows = chosen.connections
            console.print(memory_table(results))
        if options.instructions and chosen.name == "mix":
            events = count_events(bench, inputs, chosen, found, failures)
            console.print(event_table(events, f"{chosen.name}: a packet, simulated by cachegrind"))
    reached = targets(results, flows) if results else []
    figures: dict[str, FigureResults] = {}
    for figure in (FIGURES[name] for name in options.only if name in FIGURES):
        rows = figures[figure.name] = measure_figure(bench, figure, inputs.mix(), options.repeat, failures)
        console.print(figure_table(figure, rows))
        reached += figure_targets(figure, rows)
    live: dict[str, Any] = {}
    versions = [program.version for program in found]
    for name in (name for name in options.only if name in LIVE):
        try:
            section = importlib.import_module(name).section(inputs, options.core, options.repeat, failures)
        except (ImportError, OSError) as error:  # no pyroute2, or no right to make network namespaces
            missing.append(Missing(name, str(error)))
            continue
        for table in section.tables:
            console.print(table)
        reached += section.targets
        versions += section.versions
        missing += section.missing
        live[name] = section.numbers
    console.print(target_table(reached))
    for note in notes(versions, missing, failures):
        console.print(note, highlight=False, markup=False)
    if options.json:
        save(options.json, results, events, reached, found, figures, live)
    return 0


if __name__ == "__main__":
    sys.exit(main())
