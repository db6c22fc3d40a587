"""The `dump` app writes the bytes that tshark's "follow TCP stream" shows, over every capture there is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import Record, Run, ends, pair, read_records, run_apps
from tests.interop.tshark import Connection, Content, Endpoint, Half

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

SHOWN = 40


@pytest.mark.parametrize("capture", explained.captures())
def test_dump_agrees_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    reading = tshark.read(capture)
    speaking = [
        stream for stream in reading.connections if any(half.bytes for half in stream.halves.values())
    ]
    followed = tshark.contents(capture, (connection.stream for connection in speaking))
    log, directory = tmp_path / "flows.jsonl", tmp_path / "streams"
    run = run_apps(capture, "flowlog", "dump", options={"path": log, "directory": directory})
    assert run.whole == reading.whole
    dumped = list(read_dump(directory, read_records(log), run))
    explained.check("dump", name, differences(name, dumped, reading.connections, followed))


Dumped = tuple[Record, dict[Endpoint, Content]]
"""A flow, and what was written of it by sender."""


def read_dump(directory: Path, records: list[Record], run: Run) -> Iterator[Dumped]:
    """Read the files of `dump`, and of its log where something is missing in them."""
    gaps: dict[str, list[Record]] = defaultdict(list)
    for line in run.log:
        if line["event"] == "gap":
            gaps[line["file"]].append(line)
    times: Counter[str] = Counter()
    for record in records:
        if not is_dumped(record):
            yield record, {end: Content() for end in ends(record)}
            continue
        name = "{client}.{client_port}-{server}.{server_port}".format_map(record).replace(":", "-")
        name += "-midstream" * record["midstream"]
        times[name] += 1
        name = name if times[name] == 1 else f"{name}-{times[name]}"
        contents: dict[Endpoint, Content] = {}
        for end, side in zip(ends(record), ("client", "server"), strict=True):
            contents[end] = Content((directory / f"{name}.{side}").read_bytes())
            for gap in gaps[f"{name}.{side}"]:
                contents[end].gaps[gap["offset"] - contents[end].gaps.total()] += gap["length"]
        yield record, contents


def is_dumped(record: Record) -> bool:
    """Tell whether there are files of a flow: not if it was never established and never carried a byte."""
    spoke = record["client_bytes"] or record["server_bytes"]
    return bool(spoke) or None not in (record["client_rtt"], record["server_rtt"])


def differences(
    capture: str,
    dumped: list[Dumped],
    connections: list[Connection],
    followed: dict[tuple[int, Endpoint], Content],
) -> list[Difference]:
    written = {id(record): contents for record, contents in dumped}
    found = []
    for name, flows, streams in pair([record for record, _ in dumped], connections):
        if len(flows) != len(streams):
            found.append(Difference(capture, name, "connections", len(flows), len(streams)))
            continue
        ours, theirs = {}, {}
        for role, end in (("client", streams[0].client), ("server", streams[0].server)):
            content = followed.get((streams[0].stream, end), Content())
            theirs[f"{role}_data"] = shown(content)
            told = as_told(written[id(flows[0])][end], content, streams[0].halves[end])
            ours[f"{role}_data"] = shown(told)
        found += explained.compare(capture, name, ours, theirs)
    return found


def as_told(ours: Content, theirs: Content, half: Half) -> Content:
    """Leave out of ours what tshark does not tell of a half.

    It begins with the first payload where nothing was captured before it, and goes on behind a hole only if
    that was acknowledged and data follow.
    """
    start = 1 if half.starts_with_data else 0
    stop = len(theirs.data)
    end = stop if stop in ours.gaps else len(ours.data)
    return Content(ours.data[:end], Counter({at: n for at, n in ours.gaps.items() if start <= at < end}))


def shown(content: Content) -> str:
    """Describe bytes and gaps so that equal ones look alike, and a report stays short."""
    data = content.data
    text = repr(data) if len(data) <= SHOWN else f"{len(data)} bytes, SHA-256 {sha256(data).hexdigest()[:16]}"
    return f"{text}, gaps {dict(content.gaps)}"
