"""The paper's figures 6 and 7, and what one callback and one user-defined event cost a packet.

A row of a figure is compared with its base as the median of their ratios, taken turn by turn, so that what slows a
machine down for a while slows both. Rows that are native call no Python: their events never happen, so that what
they take more is that of raising the event and judging its predicates.
"""

import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from inputs import Input
from measure import Bench, ProgramFailedError, Run
from results import Target
from rich.progress import Progress
from rich.table import Table

SCRIPT = str(Path(__file__).with_name("aiomos_events.py"))

Way = tuple[str, int]
"""A way of aiomos_events.py to run, and how many apps, callbacks or events."""


@attrs.frozen(kw_only=True)
class Row:
    """Something to measure.

    Attributes:
        name: As in the tables.
        ways: Processes, one after the other; what they take is added up.
        base: Name of the row to compare with; None for a base itself.
        percent: The most that it is to take more than the base.
        nanoseconds: The most that it is to take more than the base for each segment.
    """

    name: str
    ways: tuple[Way, ...]
    base: str | None = None
    percent: float | None = None
    nanoseconds: float | None = None


@attrs.frozen
class Figure:
    """Rows that are measured in turns.

    Attributes:
        name: As on the command line.
        title: What it shows.
        rows: Bases before those that are compared with them.
    """

    name: str
    title: str
    rows: tuple[Row, ...]


def sharing(what: str, way: str, goals: Sequence[float | None] = (None, None)) -> Iterator[Row]:
    """One app; more of its kind in the same run; as many in runs of their own, one after the other."""
    base = f"1 app, {what}"
    yield Row(name=base, ways=((way, 1),))
    for number, goal in zip((2, 5), goals, strict=True):
        yield Row(name=f"{number} apps, {what}", ways=((way, number),), base=base, percent=goal)
        yield Row(name=f"{number} apart, {what}", ways=((way, 1),) * number, base=base)


BASE_7 = "no callback"


def raising(what: str, way: str, number: int, goal: float | None = None) -> Row:
    """A row of figure 7."""
    return Row(name=f"{number} {what}", ways=((way, number),), base=BASE_7, percent=goal)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "figure6",
            "Figure 6: several apps at STREAM on one TCP context, and apart",
            (
                *sharing("tracking", "track"),
                *sharing("counting by callback", "account", (10, 30)),
                *sharing("reading in handlers", "read"),
            ),
        ),
        Figure(
            "figure7",
            "Figure 7: callbacks and UDEs, over an app that tracks at STREAM",
            (
                Row(name=BASE_7, ways=(("track", 1),)),
                raising("on CONN_SETUP", "setup", 1),
                raising("on CONN_SETUP", "setup", 5),
                raising("on CONN_SETUP, native", "setup_native", 1, 3),
                raising("on CONN_SETUP, native", "setup_native", 5, 8),
                raising("on CONN_NEW_DATA", "new_data", 1),
                raising("on CONN_NEW_DATA", "new_data", 5),
                raising("on CONN_NEW_DATA that peek", "peek", 1),
                raising("on CONN_NEW_DATA that peek", "peek", 5),
                raising("on CONN_NEW_DATA, native", "new_data_native", 1, 3),
                raising("on CONN_NEW_DATA, native", "new_data_native", 5, 8),
                raising("UDEs on PKT_IN", "packet_udes", 5),
                raising("UDEs on PKT_IN, native", "packet_udes_native", 5, 10),
                raising("UDEs on CONN_NEW_DATA", "data_udes", 5),
                raising("UDEs on CONN_NEW_DATA, native", "data_udes_native", 5, 10),
            ),
        ),
        Figure(
            "packet",
            "On every packet: callbacks in Python, native UDEs; over an app that tracks at STATE",
            (
                Row(name="neither", ways=(("state", 1),)),
                Row(name="1 callback", ways=(("packet", 1),), base="neither", nanoseconds=150),
                Row(name="5 callbacks", ways=(("packet", 5),), base="neither"),
                Row(name="1 native UDE", ways=(("judge", 1),), base="neither", nanoseconds=10),
                Row(name="5 native UDEs", ways=(("judge", 5),), base="neither"),
            ),
        ),
    )
}


@attrs.frozen
class Turns:
    """The runs of a row: for each turn, one of each of its ways."""

    row: Row
    turns: list[list[Run]] = attrs.field(factory=list)

    @property
    def seconds(self) -> list[float]:
        """What each turn took."""
        return [sum(run.seconds for run in runs) for runs in self.turns]

    @property
    def last(self) -> Run:
        """A run to take counts from."""
        return self.turns[-1][-1]

    def ratio(self, base: "Turns") -> float:
        """How many times what its base took, in the middle of all turns."""
        return statistics.median(
            ours / theirs for ours, theirs in zip(self.seconds, base.seconds, strict=True)
        )

    def nanoseconds(self, base: "Turns") -> float:
        """What it took more for each segment."""
        more = statistics.median(
            ours - theirs for ours, theirs in zip(self.seconds, base.seconds, strict=True)
        )
        return more / self.last.segments * 1e9


FigureResults = dict[str, Turns]  # by row


def measure_figure(
    bench: Bench, figure: Figure, chosen: Input, repeat: int, failures: dict[str, str]
) -> FigureResults:
    """Run the rows of a figure in turns; one that fails is left out."""
    chosen.path.read_bytes()  # into the page cache
    results = {row.name: Turns(row) for row in figure.rows}
    with Progress(transient=True) as progress:
        task = progress.add_task(figure.name, total=repeat * len(figure.rows))
        for _ in range(repeat):
            for row in figure.rows:
                progress.update(task, description=f"{figure.name}: {row.name}")
                if row.name in results:
                    try:
                        results[row.name].turns.append([run_way(bench, way, chosen) for way in row.ways])
                    except ProgramFailedError as error:
                        failures[f"{figure.name}: {row.name}"] = str(error)
                        del results[row.name]
                progress.advance(task)
    return results


def run_way(bench: Bench, way: Way, chosen: Input) -> Run:
    name, number = way
    return bench.run((sys.executable, SCRIPT, name, str(number), str(chosen.path)))


def figure_table(figure: Figure, results: FigureResults) -> Table:
    """Show a figure."""
    table = Table(title=figure.title, title_justify="left")
    table.add_column("row", no_wrap=True)
    for column in ("median s", "× base", "more", "ns/seg", "calls", "MB"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, measured in results.items():
        base = results.get(measured.row.base or "")
        compared = ("", "", "")
        if base is not None:
            ratio = measured.ratio(base)
            compared = (f"{ratio:.3f}", f"{ratio - 1:+.1%}", f"{measured.nanoseconds(base):,.1f}")
        last = measured.last
        table.add_row(
            name,
            f"{statistics.median(measured.seconds):.3f}",
            *compared,
            f"{last.calls:,}" if last.calls else "",
            f"{last.rss / 1e6:,.0f}",
        )
    return table


def figure_targets(figure: Figure, results: FigureResults) -> Iterator[Target]:
    """List what a figure was set out to show, with what it has."""
    for row in figure.rows:
        percent = nanoseconds = None
        if row.name in results and row.base in results:
            measured, base = results[row.name], results[row.base]
            percent, nanoseconds = (measured.ratio(base) - 1) * 100, measured.nanoseconds(base)
        if row.percent is not None:
            yield Target(f"{figure.name}: {row.name}, % more", row.percent, percent, at_most=True)
        if row.nanoseconds is not None:
            yield Target(f"{figure.name}: {row.name}, ns/segment", row.nanoseconds, nanoseconds, at_most=True)
