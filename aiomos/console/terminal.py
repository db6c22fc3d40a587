"""What the command line shows on a terminal: progress, apps and their options and events, a controlled run."""

import io
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import attrs
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from aiomos.app import App
from aiomos.options import describe
from aiomos.outputs import ended

if TYPE_CHECKING:
    from aiomos.console.doctor import Finding
    from aiomos.ude.user import UserEvent


WHOLE = 100_000
"""Characters of a line where there is no terminal: whoever reads a pipe or a file gets every column whole."""


@attrs.frozen
class Layout:
    """What becomes of a table that is wider than the terminal.

    Attributes:
        stacked: Headings of two columns that become one, the second below the first.
        spare: Headings of columns that are left out, first to last, until it fits.
    """

    stacked: Sequence[tuple[str, str]] = ()
    spare: Sequence[str] = ()


AS_IT_IS = Layout()


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int | None, int], None]]:
    """Show a bar on standard error for the length of a ``with`` block, then remove it.

    Yields:
        A function to call with the bytes read, the bytes in all (None: not known) and the frames read.
    """
    columns = (
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[frames]:,} frames"),
    )
    # An app's output is led around the bar only where both are on a terminal; into a pipe it goes untouched.
    bar = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
    )
    with bar:
        task = bar.add_task("", total=None, frames=0)
        yield lambda done, total, frames: bar.update(task, completed=done, total=total, frames=frames)


def show_apps(apps: Sequence[App]) -> None:
    """Print a table of apps with the first line of each one's module docstring."""
    table = _plain_table("app", "what it does")
    for app in apps:
        table.add_row(app.name, Text(_about(app)))
    Console().print(table)


def show_options(app: App) -> None:
    """Print what an app does and a table of its options."""
    console = Console(highlight=False)
    console.print(Text(f"{app.name}: {_about(app)}"))
    options = describe(app.options_type) if app.options_type else []
    if not options:
        console.print("  no options")
        return
    table = Table("option", "default", "meaning", box=None, header_style="bold", padding=(0, 0, 0, 2))
    for option in options:
        default = "must be set" if option.default is None else option.default
        table.add_row(option.name, Text(default), Text(f"{option.help} ({option.kind})".lstrip()))
    console.print(table)


def show_events(app: App, *, programs: bool) -> None:
    """Print a table of an app's user-defined events: which run native, and what keeps the others in Python.

    Args:
        app: The app.
        programs: Whether to print the compiled programs behind the table.
    """
    console = Console(highlight=False)
    console.print(Text(f"{app.name}: {_about(app)}"))
    if not app.udes:
        console.print("  no user-defined events: nothing to explain")
        return
    table = _plain_table("event", "upon", "filter", "runs", "why")
    for event in app.udes:
        table.add_row(*map(Text, (event.name, *_explain(event))))
    console.print(table)
    if programs:
        for event in app.udes:
            if event.listing:
                console.print(Text(f"\n{event.name}:\n{event.listing}"))


def _explain(event: "UserEvent") -> tuple[str, str, str, str]:
    if event.base is None:
        return "", str(event.filter), "when emitted", ""
    return event.base.name, str(event.filter), "native" if event.native else "in Python", event.why_not or ""


def show_attached(apps: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of the apps of a controlled run; each as `ControlClient.apps` gives it."""
    if not apps:
        Console().print("no apps are attached")
        return
    figures = ("handlers", "callbacks", "events", "flows")
    table = _plain_table("name", "module", figures=figures)
    for app in apps:
        table.add_row(app["name"], app["module"], *(f"{app[name]:,}" for name in figures))
    Console(highlight=False).print(table)


FLOWS = Layout(stacked=[("client", "server")], spare=["rtt", "lost", "resent", "lasted", "states"])


def show_flows(flows: Sequence[Mapping[str, Any]], *, rows: int) -> None:
    """Print a table of open flows, each as `Flow.record` gives it; of more than *rows*, the first ones."""
    width = width_of(sys.stdout)
    console = Console(highlight=False, width=width)
    if not flows:
        console.print("no open flows")
        return
    headings = ("client", "server", "states", "lasted", "sent", "received", "resent", "lost", "rtt")
    console.print(wide_table("", headings, [tuple(_flow_row(flow)) for flow in flows[:rows]], width, FLOWS))
    if len(flows) > rows:
        console.print(f"... and more: --limit shows more than {rows}, a filter picks some")


def _flow_row(flow: Mapping[str, Any]) -> Iterator[str]:
    form = "[{}]:{}" if flow["ip_version"] == 6 else "{}:{}"
    for side in ("client", "server"):
        yield form.format(flow[side], flow[f"{side}_port"])
    states = dict.fromkeys((flow["client_state"], flow["server_state"]))  # two that are one are written once
    yield ended(", ".join(states), midstream=flow["midstream"])
    yield f"{flow['end'] - flow['start']:.3f} s"
    yield from (f"{flow[f'{side}_stream_bytes']:,}" for side in ("client", "server"))
    yield f"{flow['client_retransmits']}/{flow['server_retransmits']}"
    yield f"{flow['client_lost'] + flow['server_lost']:,}"
    yield "" if flow["client_rtt"] is None else f"{flow['client_rtt'] * 1e3:.1f} ms"


NARROW_INDENT = 4

VERDICT_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_findings(findings: "Sequence[Finding]") -> None:
    """Print what `aiomos.console.doctor` found: a table of the machine, and one of each interface.

    What to change stands in a column of its own or, where a terminal has no room for that, in lines of its own.
    """
    width = width_of(sys.stdout)
    console = Console(highlight=False, width=width)
    for number, subject in enumerate(dict.fromkeys(finding.subject for finding in findings)):
        found = [finding for finding in findings if finding.subject == subject]
        if number:
            console.print()
        cells = [(each.name, each.verdict, each.value, each.advice) for each in found]
        headings = (subject, "", "", "what to change")
        wide = _needed([(name, [row[place] for row in cells]) for place, name in enumerate(headings)], GAP)
        if wide <= width:
            table = _plain_table(*headings)
            for name, verdict, value, advice in cells:
                table.add_row(
                    Text(name), Text(verdict, style=VERDICT_STYLES[verdict]), Text(value), Text(advice)
                )
            console.print(table)
        else:
            _show_narrow(console, subject, cells)


def _show_narrow(console: Console, subject: str, cells: Sequence[tuple[str, str, str, str]]) -> None:
    console.print(Text(subject, style="bold"))
    widths = [max(cell_len(row[place]) for row in cells) for place in (0, 1)]
    for name, verdict, value, advice in cells:
        table = Table(box=None, show_header=False, padding=(0, GAP, 0, 0))
        table.add_column(width=widths[0], no_wrap=True)
        table.add_column(width=widths[1], no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(name), Text(verdict, style=VERDICT_STYLES[verdict]), Text(value))
        console.print(table)
        for line in advice.splitlines():
            console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, NARROW_INDENT)))


def show_counters(counters: Mapping[str, int], apps: Mapping[str, Mapping[str, float]]) -> None:
    """Print the counters of a run that are not 0, and those of each app."""
    _print_counters(Console(highlight=False), counters, apps)


def show_state(
    title: str,
    counters: Mapping[str, int],
    apps: Mapping[str, Mapping[str, float]],
    *,
    flows: Mapping[str, int],
    used: Mapping[str, tuple[int, int]],
    missing: Sequence[str],
) -> None:
    """Print what a run holds now, and its counters, to standard error.

    Args:
        title: What stands above it; may be empty.
        counters: Of the engine; those that are 0 are left out.
        apps: Counters of each app.
        flows: Flows in the table by state.
        used: How much of each budget is in use, and the budget.
        missing: What was not followed so far, in words.
    """
    console = Console(stderr=True, highlight=False)
    if title:
        console.rule(Text(title), align="left")
    console.print(Text("flows: " + ", ".join(f"{n:,} {state}" for state, n in flows.items())))
    table = _plain_table("budget", figures=("in use", "of", "share"))
    for name, (now, limit) in used.items():
        table.add_row(name, f"{now:,}", f"{limit:,}", f"{now / limit:.1%}")
    console.print(table)
    for shortfall in missing:
        console.print(Text(f"incomplete: {shortfall}"))
    console.print()
    _print_counters(console, counters, apps)


def _print_counters(
    console: Console, counters: Mapping[str, int], apps: Mapping[str, Mapping[str, float]]
) -> None:
    table = _plain_table("counter", figures=("value",))
    for name, value in counters.items():
        if value:
            table.add_row(name, f"{value:,}")
    console.print(table)
    if apps:
        names = list(dict.fromkeys(name for counted in apps.values() for name in counted))
        table = _plain_table("app", figures=[name.replace("_", " ") for name in names])
        for app, counted in apps.items():
            table.add_row(app, *(_figure(counted.get(name, 0)) for name in names))
        console.print()
        console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"


def _plain_table(*headings: str, figures: Sequence[str] = ()) -> Table:
    """Make a table without lines; the columns of *figures* come last and are set flush right."""
    table = Table(*headings, box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in figures:
        table.add_column(heading, justify="right")
    return table


def _about(app: App) -> str:
    return (sys.modules[app.module].__doc__ or "").strip().partition("\n")[0]


# --- wide tables --------------------------------------------------------------------------------------


def width_of(file: IO[Any]) -> int:
    """Return how many characters a line may have there."""
    return shutil.get_terminal_size().columns if file.isatty() else WHOLE


def wide_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    layout: Layout = AS_IT_IS,
    *,
    lines: bool = False,
) -> Group:
    """Make a table whose cells are all whole, as far as the width allows; what has no room is named below it.

    Args:
        title: What it is.
        headings: Of the columns.
        rows: Texts; a column of figures is set flush right.
        width: Characters of a line.
        layout: What to do if that is not enough.
        lines: Whether to draw lines, where there is room for them.
    """
    columns = [(heading, [row[place] for row in rows]) for place, heading in enumerate(headings)]
    drawn = lines and _needed(columns, FRAME) < width
    left_out: list[str] = []
    if not drawn and _needed(columns, GAP) > width:
        columns, left_out = _fitted(columns, width, layout)
    plain: dict[str, Any] = {"box": None, "padding": (0, GAP, 0, 0), "header_style": "bold"}
    table = Table(**{"header_style": "bold cyan"} if drawn else plain)
    for heading, cells in columns:
        figures = any(cells) and all(FIGURE.fullmatch(cell) or not cell for cell in cells)
        table.add_column(heading, justify="right" if figures else "left", overflow="fold")
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*map(Text, row))
    parts: list[RenderableType] = [Text(title), table] if title else [table]
    if left_out:
        parts.append(Text(f"no room here for: {', '.join(left_out)}", style="dim"))
    return Group(*parts)


FIGURE = re.compile(r"\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:%| (?:s|ms|[kMG]?B/s))?")

GAP, FRAME = 2, 3
"""Characters that a column takes besides its text, without lines and with them."""

Column = tuple[str, list[str]]


def _needed(columns: Sequence[Column], between: int) -> int:
    return sum(between + max(map(_text_width, (heading, *cells))) for heading, cells in columns)


def _text_width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _fitted(columns: Sequence[Column], width: int, layout: Layout) -> tuple[list[Column], list[str]]:
    """Break headings, stack columns, leave out empty ones, then spare ones; return the rest, and what was spare."""
    kept = {heading: (heading.replace(" ", "\n"), cells) for heading, cells in columns}
    for upper, lower in layout.stacked:
        if upper in kept and lower in kept and _needed([*kept.values()], GAP) > width:
            (above, first), (below, second) = kept[upper], kept.pop(lower)
            kept[upper] = (
                f"{above}\n{below}",
                [f"{a}\n{b}" if b else a for a, b in zip(first, second, strict=True)],
            )
    left_out = []
    for heading in [*(name for name, (_, cells) in kept.items() if not any(cells)), *layout.spare]:
        if heading in kept and _needed([*kept.values()], GAP) > width:
            _, cells = kept.pop(heading)
            if any(cells):
                left_out.append(heading)
    return [*kept.values()], left_out


def print_table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    file: IO[bytes],
    layout: Layout = AS_IT_IS,
) -> None:
    """Draw a table, in colour where *file* is a terminal, and as wide as it needs to be where it is not.

    Args:
        title: What it is.
        headings: Of the columns.
        rows: Texts; a column of figures is set flush right.
        file: Where to.
        layout: What to do where a terminal is too narrow.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    try:
        width = width_of(text)
        table = wide_table(title, headings, rows, width, layout, lines=True)
        Console(file=text, width=width, highlight=False).print(table)
    finally:
        text.detach()  # the file is its owner's to close
