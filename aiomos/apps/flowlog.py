"""One record for every TCP connection: who, when, how it ended, and what each side sent.

::

    aiomos run aiomos.apps.flowlog --pcap trace.pcap --set path=flows.jsonl
    aiomos run aiomos.apps.flowlog --pcap trace.pcap --set format=table
"""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import attrs
import orjson

from aiomos import CONN_TEARDOWN, App, CallbackRegistration, Level
from aiomos.outputs import ended, open_output, write_heading, write_summary

if TYPE_CHECKING:
    from aiomos import Flow


@attrs.define
class Options:
    """What to write, and where.

    Attributes:
        path: File to write; standard output without it.
        format: jsonl for JSON Lines, csv, or table for people.
        filter: Which connections; all without it.
        midstream: Whether to log connections whose SYN was not captured, too; they are marked, and where there is no
            SYN-ACK either, who is client is judged by port.
    """

    path: Path | None = None
    format: Literal["jsonl", "csv", "table"] = "jsonl"
    filter: str = ""
    midstream: bool = True


class Writer(Protocol):
    """A form of the log."""

    def write(self, record: dict[str, Any]) -> None:
        """Add one connection."""

    def finish(self) -> None:
        """Write what is left."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, output: IO[bytes]) -> None:
        self._write = output.write

    def write(self, record: dict[str, Any]) -> None:
        """Add one connection."""
        self._write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def finish(self) -> None:
        """Nothing is held back."""


class Csv:
    """Comma-separated values with a header; what is not known is empty."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._text = io.TextIOWrapper(output, encoding="utf-8", newline="", write_through=True)
        self._writer: csv.DictWriter[str] | None = None

    def write(self, record: dict[str, Any]) -> None:
        """Add one connection."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._text, record)
            heading = io.StringIO(newline="")
            csv.writer(heading).writerow(record)
            write_heading(self._output, heading.getvalue().encode())
        self._writer.writerow(record)

    def finish(self) -> None:
        """Leave the output open for its owner."""
        self._text.detach()


FORMS = {4: "{}:{}", 6: "[{}]:{}"}


class Table:
    """A table for people, written at the end."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._records: list[dict[str, Any]] = []

    def write(self, record: dict[str, Any]) -> None:
        """Add one connection."""
        self._records.append(record)

    def finish(self) -> None:
        """Draw the table."""
        write_summary(self._output, self._records, draw)


def draw(parts: Sequence[list[dict[str, Any]]], output: IO[bytes]) -> None:
    """Draw the table of the connections that each worker has seen."""
    from aiomos.console.terminal import FLOWS, print_table

    rows = [
        (
            *(FORMS[r["ip_version"]].format(r[side], r[f"{side}_port"]) for side in ("client", "server")),
            f"{r['end'] - r['start']:.3f} s",
            ended(r["reason"], midstream=r["midstream"]),
            *(f"{r[side + 'stream_bytes']:,}" for side in ("client_", "server_")),
            f"{r['client_retransmits']}/{r['server_retransmits']}",
            f"{r['client_lost'] + r['server_lost']:,}",
            "" if r["client_rtt"] is None else f"{r['client_rtt'] * 1e3:.1f} ms",
        )
        for r in sorted((record for part in parts for record in part), key=lambda r: r["start"])
    ]
    headings = ("client", "server", "lasted", "ended", "sent", "received", "resent", "lost", "rtt")
    print_table(f"{len(rows)} TCP connections", headings, rows, file=output, layout=FLOWS)


WRITERS: dict[str, Callable[[IO[bytes]], Writer]] = {"jsonl": JsonLines, "csv": Csv, "table": Table}


class FlowLog:
    """The log of one run: its output, and the callback that feeds it."""

    def __init__(self, options: Options) -> None:
        self._output = open_output(options.path)
        self._writer: Writer = WRITERS[options.format](self._output)

    def register(self, options: Options) -> CallbackRegistration:
        """Have each flow written when it ends."""
        write = self._writer.write

        def log(flow: "Flow") -> None:
            write(flow.record())

        at_end = app.on(CONN_TEARDOWN, filter=options.filter, level=Level.BYTES, midstream=options.midstream)
        return at_end(log)

    def close(self) -> None:
        """Write what is left."""
        try:
            self._writer.finish()
        finally:
            self._output.close()


app = App("flowlog", options=Options)
_running: list[tuple[FlowLog, CallbackRegistration]] = []


@app.startup
def open_log() -> None:
    """Open the output, and register for the flows the options choose."""
    log = FlowLog(app.options)
    _running.append((log, log.register(app.options)))


@app.shutdown
def close_log() -> None:
    """Write what is left and close the output."""
    while _running:
        log, registration = _running.pop()
        registration.cancel()
        log.close()
