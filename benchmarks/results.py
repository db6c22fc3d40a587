"""What was measured, as tables, and the targets it is held against."""

import statistics
from collections.abc import Callable, Iterable

import attrs
from inputs import Input
from measure import Run
from rich.table import Table

# On one machine, with a million flows: PcapPlusPlus 0.77 million packets/s, libtins 0.41.
PCAPPLUSPLUS_TO_LIBTINS = 0.77 / 0.41


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


Results = dict[str, dict[str, Measurement]]  # by input, then program


def columns(frames: int, payload: int, base: Measurement | None) -> dict[str, Callable[[Measurement], str]]:
    """Give the columns of the table of an input.

    Args:
        frames: Frames of the input.
        payload: Stream bytes in it.
        base: What rates are compared with.
    """

    def unless_zero(text: str, value: float) -> str:
        return text if value else ""

    return {
        "M packets/s": lambda m: f"{m.rate / 1e6:.3f}",
        "× libtins": lambda m: f"{m.rate / base.rate:.2f}" if base else "",
        "ns/packet": lambda m: f"{1e9 / m.rate:,.0f}",
        "GB/s": lambda m: unless_zero(f"{payload / m.best.seconds / 1e9:.2f}", m.frames == frames),
        "best s": lambda m: f"{m.best.seconds:.3f}",
        "median s": lambda m: f"{m.median_seconds:.3f}",
        "process s": lambda m: f"{m.best.wall:.3f}",
        "CPU s": lambda m: f"{m.best.cpu:.3f}",
        "start-up s": lambda m: unless_zero(
            f"{m.best.python_startup_seconds:.2f}", m.best.python_startup_seconds
        ),
        "RSS MB": lambda m: f"{m.best.rss / 1e6:,.0f}",
        "flows": lambda m: unless_zero(f"{m.best.flows:,}", m.best.flows),
        "given up": lambda m: unless_zero(f"{m.best.aborted:,}", m.best.aborted),
        "stream MB": lambda m: unless_zero(f"{m.best.bytes / 1e6:,.1f}", m.best.bytes),
    }


def stream_bytes(results: dict[str, Measurement]) -> int:
    """Give the stream bytes in an input: the most that any program handed over."""
    return max((measurement.best.bytes for measurement in results.values()), default=0)


def rate_table(chosen: Input, results: dict[str, Measurement]) -> Table:
    """Show the programs of one input."""
    size = chosen.path.stat().st_size / 1e6
    table = Table(title=f"{chosen.name}: {chosen.frames:,} frames, {size:,.0f} MB", title_justify="left")
    table.add_column("program")
    shown = columns(chosen.frames, stream_bytes(results), results.get("libtins callbacks"))
    for name in shown:
        table.add_column(name, justify="right")
    for name, measurement in results.items():
        part = "" if measurement.frames == chosen.frames else f" (first {measurement.frames:,})"
        table.add_row(name + part, *(show(measurement) for show in shown.values()))
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
    stream = measured("bulk", "aiomos stream")
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
            stream_bytes(results["bulk"]) / stream.best.seconds / 1e9 if stream else None,
        ),
    ]


def target_table(chosen: Iterable[Target]) -> Table:
    """Show the targets."""
    table = Table(title="targets", title_justify="left")
    for column, side in (("target", "left"), ("goal", "right"), ("measured", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for target in chosen:
        goal = f"{'≤' if target.at_most else '≥'} {target.goal:g}"
        value = "" if target.value is None else f"{target.value:,.2f}"
        table.add_row(target.text, goal, value, target.verdict)
    return table
