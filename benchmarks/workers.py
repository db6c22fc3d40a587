"""Two workers against one: whole runs of the command line over the mix, as each worker reads all of it."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from inputs import Inputs
from live import Section
from programs import HERE
from rich.progress import Progress
from rich.table import Table

APPS = {"flowlog": "flowlog", "hash of every payload, in Python": str(HERE / "busy.py")}
WORKERS = (1, 2)
TIMEOUT = 300

Runs = dict[tuple[str, int], list[float]]


def section(inputs: Inputs, core: int, repeat: int, failures: dict[str, str]) -> Section:  # noqa: ARG001
    """Run each app by one and by two workers, in turns, on whichever cores they choose."""
    path = str(inputs.mix().path)
    runs: Runs = {(app, workers): [] for app in APPS for workers in WORKERS}
    with Progress(transient=True) as progress:
        task = progress.add_task("workers", total=repeat * len(runs))
        for _ in range(repeat):
            for app, workers in runs:
                try:
                    runs[app, workers].append(run(APPS[app], path, workers))
                except subprocess.SubprocessError as error:
                    failures[f"workers: {app} by {workers}"] = str(error)
                progress.advance(task)
    speeds = {app: speed(runs[app, 1], runs[app, 2]) for app in APPS}
    return Section(
        tables=[table(runs, speeds)],
        numbers={f"{app}, {workers}": seconds for (app, workers), seconds in runs.items()},
    )


def run(app: str, path: str, workers: int) -> float:
    """Return the seconds of one run, start-up and end included."""
    command = [sys.executable, "-m", "aiomos", "run", app, "--pcap", path, "--workers", str(workers)]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=TIMEOUT)
    return time.perf_counter() - begun


def speed(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Return how much faster two are: the median over pairs of runs one after the other."""
    ratios = [a / b for a, b in zip(one, two, strict=False)]
    return statistics.median(ratios) if ratios else None


def table(runs: Runs, speeds: dict[str, float | None]) -> Table:
    """Show seconds and their ratio."""
    shown = Table(title="workers: the mix, whole runs", title_justify="left")
    shown.add_column("app")
    for workers in WORKERS:
        shown.add_column(f"{workers} worker{'s' * (workers > 1)}, s", justify="right")
    shown.add_column("faster ×", justify="right")
    for app, ratio in speeds.items():
        seconds = [runs[app, workers] for workers in WORKERS]
        cells = [f"{statistics.median(each):.2f}" if each else "-" for each in seconds]
        shown.add_row(app, *cells, "-" if ratio is None else f"{ratio:.2f}")
    return shown
