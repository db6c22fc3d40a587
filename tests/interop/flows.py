"""Run the shipped apps over a capture, and pair what they say with tshark's connections."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.interop.tshark import Connection, Endpoint

Record = dict[str, Any]
TIMEOUTS = ("half_open", "established", "closing", "time_wait", "reset")
YEAR = 365 * 86_400

Ends = frozenset[Endpoint]


class Run(NamedTuple):
    """How a run of `aiomos` went."""

    whole: bool
    """Whether the capture could be read to its end."""
    log: list[dict[str, Any]]


def run_apps(capture: Path, *apps: str, options: dict[str, object]) -> Run:
    """Run shipped apps over a capture with `aiomos run`; as tshark, look into tunnels and forget nothing."""
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    modules = [f"aiomos.apps.{app}" for app in apps]
    settings += [word for name in TIMEOUTS for word in ("--setting", f"timeouts.{name}={YEAR}")]
    command = [sys.executable, "-m", "aiomos", "run", *modules, "--pcap", str(capture), "--decapsulate"]
    command += ["--log-format", "json", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    broken = done.returncode == 1 and f"error: {capture}: " in done.stderr
    assert broken or not done.returncode, done.stderr
    return Run(not broken, [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")])


def read_records(path: Path) -> list[Record]:
    """Read what `flowlog` wrote, in the order in which the flows began."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted(map(json.loads, lines), key=lambda record: record["start"])


def ends(record: Record) -> tuple[Endpoint, Endpoint]:
    """Return a record's client and server."""
    return (
        Endpoint.of(record["client"], record["client_port"]),
        Endpoint.of(record["server"], record["server_port"]),
    )


def pair(
    records: list[Record], connections: list[Connection]
) -> Iterator[tuple[str, list[Record], list[Connection]]]:
    """Pair flows with connections that have the same ends, in the order in which they begin.

    Yields:
        A name for reports, and what there is on either side: one each, or all if there are more on one side.
    """
    ours: dict[Ends, list[Record]] = defaultdict(list)
    theirs: dict[Ends, list[Connection]] = defaultdict(list)
    for record in records:
        ours[frozenset(ends(record))].append(record)
    for connection in connections:
        theirs[frozenset((connection.client, connection.server))].append(connection)
    for key in ours | theirs:
        left, right = ours.get(key, []), theirs.get(key, [])
        name = name_of(left, right)
        if len(left) != len(right):
            yield name, left, right
            continue
        for number, (record, connection) in enumerate(zip(left, right, strict=True), start=1):
            yield (f"{name} #{number}" if len(left) > 1 else name), [record], [connection]


def name_of(records: list[Record], connections: list[Connection]) -> str:
    """Name a connection after tshark's view of it, so that the name does not depend on what is tested."""
    if connections:
        client, server = connections[0].client, connections[0].server
    else:
        client, server = ends(records[0])
    return f"{client} -> {server}"
