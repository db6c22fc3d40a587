"""What the command line shows on a terminal: progress, apps, options."""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from rich.console import Console
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
    table = Table("app", "what it does", box=None, header_style="bold", padding=(0, 2, 0, 0))
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


def _about(app: App) -> str:
    return (sys.modules[app.module].__doc__ or "").strip().partition("\n")[0]


def print_table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, file: IO[bytes]
) -> None:
    """Draw a table, in colour where *file* is a terminal.

    Args:
        title: What it is.
        headings: Of the columns.
        rows: Texts; a column whose every text begins with a digit is set flush right.
        file: Where to.
    """
    table = Table(title=title, title_justify="left", header_style="bold cyan")
    for number, heading in enumerate(headings):
        figures = bool(rows) and all(row[number][:1].isdigit() or not row[number] for row in rows)
        table.add_column(heading, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    try:
        Console(file=text, width=None if text.isatty() else 160).print(table)
    finally:
        text.detach()  # the file is its owner's to close
