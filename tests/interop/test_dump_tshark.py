"""The `dump` app writes the bytes that tshark's "follow TCP stream" shows, over every capture there is."""

from __future__ import annotations

import re
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import Record, carries_data, ends, pair, read_records, run_apps
from tests.interop.tshark import Connection, Content, Endpoint

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

SHOWN = 40
DUMPED = re.compile(
    r"(?P<client>[^-].*)\.(?P<client_port>\d+)"
    r"-(?P<server>.+)\.(?P<server_port>\d+)(-(?P<number>\d+))?\.(?P<side>client|server)"
)

Flow = dict[Endpoint, bytes]
"""What `dump` wrote of a flow, by sender."""


@pytest.mark.parametrize("capture", explained.captures())
def test_dump_agrees_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    try:
        connections = tshark.connections(capture)
    except RuntimeError as error:
        pytest.skip(str(error))
    streams = whole_streams(connections)
    followed = tshark.contents(capture, (connection.stream for connection in streams))
    log, directory = tmp_path / "flows.jsonl", tmp_path / "streams"
    run_apps(capture, "flowlog", "dump", options={"path": log, "directory": directory, "midstream": "true"})
    found = differences(name, read_records(log), streams, followed, read_dump(directory))
    explained.check("dump", name, found)


def whole_streams(connections: list[Connection]) -> list[Connection]:
    """Leave out what carries no byte, and what tshark mixes: it puts a flow's VLANs into one stream."""
    times = Counter(connection.stream for connection in connections)
    return [
        connection
        for connection in connections
        if times[connection.stream] == 1 and any(half.bytes for half in connection.halves.values())
    ]


def read_dump(directory: Path) -> dict[frozenset[Endpoint], list[Flow]]:
    """Read what `dump` wrote: by the two ends, the flows between them in the order in which they began."""
    flows: dict[tuple[frozenset[Endpoint], int], Flow] = {}
    for path in directory.iterdir() if directory.exists() else []:
        parts = DUMPED.fullmatch(path.name)
        assert parts, f"{path.name} is not a name that dump gives"
        client = Endpoint.of(address(parts["client"]), parts["client_port"])
        server = Endpoint.of(address(parts["server"]), parts["server_port"])
        key = (frozenset((client, server)), int(parts["number"] or 1))
        flows.setdefault(key, {})[client if parts["side"] == "client" else server] = path.read_bytes()
    found: dict[frozenset[Endpoint], list[Flow]] = {}
    for (both, _), flow in sorted(flows.items(), key=lambda item: item[0][1]):
        found.setdefault(both, []).append(flow)
    return found


def address(text: str) -> str:
    """Undo what `dump` does to the colons of IPv6 addresses."""
    return text if "." in text else text.replace("-", ":")


def differences(
    capture: str,
    records: list[Record],
    streams: list[Connection],
    followed: dict[tuple[int, Endpoint], Content],
    dumped: dict[frozenset[Endpoint], list[Flow]],
) -> list[Difference]:
    chosen = {(frozenset((stream.client, stream.server)), stream.vlan) for stream in streams}
    ours = [
        record
        for record in records
        if carries_data(record) and (frozenset(ends(record)), record["vlan"]) in chosen
    ]
    found = []
    for name, flows, connections in pair(ours, streams):
        if len(flows) != len(connections):
            found.append(Difference(capture, name, "connections", len(flows), len(connections)))
            continue
        files = dumped.get(frozenset(ends(flows[0])), [])
        found += explained.compare(
            capture,
            name,
            of_dump(flows[0], connections[0], files.pop(0) if files else {}),
            of_tshark(connections[0], followed),
        )
    return found


def of_dump(record: Record, connection: Connection, flow: Flow) -> dict[str, object]:
    side = {end: name for name, end in zip(("client", "server"), ends(record), strict=True)}
    client, server = connection.client, connection.server
    return {
        "client_data": shown(flow.get(client, b"")),
        "server_data": shown(flow.get(server, b"")),
        "client_lost": record[f"{side[client]}_lost"],
        "server_lost": record[f"{side[server]}_lost"],
    }


def of_tshark(connection: Connection, followed: dict[tuple[int, Endpoint], Content]) -> dict[str, object]:
    client = followed.get((connection.stream, connection.client), Content())
    server = followed.get((connection.stream, connection.server), Content())
    return {
        "client_data": shown(client.data),
        "server_data": shown(server.data),
        "client_lost": client.missing,
        "server_lost": server.missing,
    }


def shown(data: bytes) -> str:
    """Describe bytes so that equal ones look alike, and a report stays short."""
    if len(data) <= SHOWN:
        return repr(data)
    return f"{len(data)} bytes, SHA-256 {sha256(data).hexdigest()[:16]}"
