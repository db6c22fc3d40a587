"""The `dump` app writes the bytes that tshark's "follow TCP stream" shows, over every capture there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import Record, ends, pair, read_records, run_apps
from tests.interop.tshark import Connection, Content, Endpoint

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

SHOWN = 40


@pytest.mark.parametrize("capture", explained.captures())
def test_dump_agrees_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    reading = tshark.read(capture)
    speaking = [stream for stream in reading.connections if any(half.bytes for half in stream.halves.values())]
    followed = tshark.contents(capture, (connection.stream for connection in speaking))
    log, directory = tmp_path / "flows.jsonl", tmp_path / "streams"
    options = {"path": log, "directory": directory, "midstream": "true"}
    assert run_apps(capture, "flowlog", "dump", options=options) == reading.whole
    flows = list(with_files(read_records(log), directory))
    explained.check("dump", name, differences(name, flows, reading.connections, followed))


def with_files(records: list[Record], directory: Path) -> Iterator[tuple[Record, Path]]:
    """Yield each record with the name that `dump` gives the files of its flow, but for their suffix."""
    times: Counter[str] = Counter()
    for record in records:
        name = "{client}.{client_port}-{server}.{server_port}".format_map(record).replace(":", "-")
        times[name] += 1
        yield record, directory / (name if times[name] == 1 else f"{name}-{times[name]}")


def differences(
    capture: str,
    flows: list[tuple[Record, Path]],
    connections: list[Connection],
    followed: dict[tuple[int, Endpoint], Content],
) -> list[Difference]:
    files = {id(record): path for record, path in flows}
    found = []
    for name, ours, theirs in pair([record for record, _ in flows], connections):
        if len(ours) != len(theirs):
            found.append(Difference(capture, name, "connections", len(ours), len(theirs)))
            continue
        dumped = of_dump(ours[0], theirs[0], files[id(ours[0])])
        found += explained.compare(capture, name, dumped, of_tshark(theirs[0], followed))
    return found


def of_dump(record: Record, connection: Connection, path: Path) -> dict[str, object]:
    sides = dict(zip(ends(record), ("client", "server"), strict=True))
    fields: dict[str, object] = {}
    for role, end in (("client", connection.client), ("server", connection.server)):
        side = sides[end]
        fields[f"{role}_data"] = shown(path.with_name(f"{path.name}.{side}").read_bytes())
        fields[f"{role}_lost"] = record[f"{side}_lost"]
    return fields


def of_tshark(connection: Connection, followed: dict[tuple[int, Endpoint], Content]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for role, end in (("client", connection.client), ("server", connection.server)):
        content = followed.get((connection.stream, end), Content())
        fields |= {f"{role}_data": shown(content.data), f"{role}_lost": content.missing}
    return fields


def shown(data: bytes) -> str:
    """Describe bytes so that equal ones look alike, and a report stays short."""
    if len(data) <= SHOWN:
        return repr(data)
    return f"{len(data)} bytes, SHA-256 {sha256(data).hexdigest()[:16]}"
