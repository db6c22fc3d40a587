"""The `flowlog` app counts what tshark counts, over every capture there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import Record, ends, pair, read_records, run_apps
from tests.interop.tshark import Connection, Endpoint

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

MICROSECOND = 1e-6


@pytest.mark.parametrize("capture", explained.captures())
def test_flowlog_agrees_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    reading = tshark.read(capture)
    log = tmp_path / "flows.jsonl"
    run = run_apps(capture, "flowlog", options={"path": log})
    assert run.whole == reading.whole
    explained.check("flowlog", name, differences(name, read_records(log), reading.connections))


def differences(capture: str, records: list[Record], connections: list[Connection]) -> list[Difference]:
    found = []
    for name, ours, theirs in pair(records, connections):
        if len(ours) != len(theirs):
            found.append(Difference(capture, name, "connections", len(ours), len(theirs)))
            continue
        found += explained.compare(capture, name, of_record(ours[0], theirs[0]), of_connection(theirs[0]))
    return found


def of_record(record: Record, connection: Connection) -> dict[str, object]:
    """Return a record's fields by end, whom aiomos takes for the client being a field of its own."""
    client, server = ends(record)
    fields: dict[str, object] = {
        "client": str(client) if connection.roles_known else None,
        "ip_version": record["ip_version"],
        "vlan": record["vlan"],
        "start": same_time(record["start"], connection.start),
        "end": same_time(record["end"], connection.end),
    }
    sides: dict[Endpoint, str] = {client: "client", server: "server"}
    for role, end in (("client", connection.client), ("server", connection.server)):
        side = sides[end]
        fields |= {
            f"{role}_packets": record[f"{side}_packets"],
            f"{role}_bytes": record[f"{side}_bytes"],
            f"{role}_copies": record[f"{side}_copies"],
            f"{role}_repeats": record[f"{side}_retransmits"] + record[f"{side}_out_of_order"],
            f"{role}_retransmits": record[f"{side}_retransmits"],
            f"{role}_mss": record[f"{side}_mss"] or None,
            f"{role}_window_scale": record[f"{side}_window_scale"] or 0,
        }
    return fields


def same_time(ours: float, theirs: float) -> float:
    """Return tshark's time where ours is the same, to the microsecond that a float of today can tell."""
    return theirs if abs(ours - theirs) < MICROSECOND else ours


def of_connection(connection: Connection) -> dict[str, object]:
    fields: dict[str, object] = {
        "client": str(connection.client) if connection.roles_known else None,
        "ip_version": connection.ip_version,
        "vlan": connection.vlan,
        "start": connection.start,
        "end": connection.end,
    }
    for role, end in (("client", connection.client), ("server", connection.server)):
        half = connection.halves[end]
        fields |= {
            f"{role}_packets": half.packets,
            f"{role}_bytes": half.bytes,
            f"{role}_copies": half.copies,
            f"{role}_repeats": half.retransmits + half.out_of_order,
            f"{role}_retransmits": half.retransmits,
            f"{role}_mss": half.mss,
            f"{role}_window_scale": half.window_scale or 0,
        }
    return fields


def test_every_explanation_has_its_section_and_its_capture() -> None:
    """A reason is a heading of docs/reference/tshark.md; a capture is one that there is."""
    entries = explained.explanations()
    assert {entry.reason for entry in entries} <= explained.anchors()
    known = {"flowlog", "dump", "events", "rexmit", "tcptrace", "abacus", "account"}
    assert {entry.test for entry in entries} <= known
    there = {path.relative_to(explained.SHIPPED).as_posix() for path in explained.files(explained.SHIPPED)}
    named = {entry.capture for entry in entries}
    assert {name for name in named if not name.startswith("captures/")} <= there
    if explained.FOLDER is not None:
        folder = Path(explained.FOLDER)
        more = {f"captures/{path.relative_to(folder).as_posix()}" for path in explained.files(folder)}
        assert {name for name in named if name.startswith("captures/")} <= more
