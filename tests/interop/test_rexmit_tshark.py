"""The `rexmit` app finds the retransmissions and probes that tshark finds, and of the same kinds; tcptrace as many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aiomos.apps.rexmit import KINDS, PROBES
from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import Record, ends, pair, run_apps
from tests.interop.tshark import Connection, Endpoint

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]


@pytest.mark.parametrize("capture", explained.captures())
def test_rexmit_agrees_with_tshark(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    reading = tshark.read(capture)
    path = tmp_path / "rexmit.jsonl"
    run = run_apps(capture, "rexmit", options={"path": path, "format": "jsonl", "all": "true"})
    assert run.whole == reading.whole
    *records, _ = map(json.loads, path.read_text().splitlines())
    explained.check("rexmit", name, differences(name, records, reading.connections))


def differences(capture: str, records: list[Record], connections: list[Connection]) -> list[Difference]:
    found = []
    for name, ours, theirs in pair(sorted(records, key=lambda record: record["start"]), connections):
        if len(ours) == len(theirs):
            found += explained.compare(capture, name, *comparable(ours[0], theirs[0]))
    return found


def comparable(record: Record, connection: Connection) -> tuple[dict[str, object], dict[str, object]]:
    """Return both sides' probes, and of halves with as many retransmissions on either side the kinds of these.

    Where that number differs, or that of connections, test_flowlog_tshark has it, and explained.toml the reason.
    """
    ours, theirs = {}, {}
    sides: dict[Endpoint, str] = dict(zip(ends(record), ("client", "server"), strict=True))
    for role, end in (("client", connection.client), ("server", connection.server)):
        half, side = connection.halves[end], sides[end]
        same = record[f"{side}_retransmits"] == half.retransmits
        for kind in KINDS if same else PROBES:
            ours[f"{role}_{kind}"], theirs[f"{role}_{kind}"] = record[f"{side}_{kind}"], half.kinds[kind]
        if same:
            ours[f"{role}_rexmit_bytes"], theirs[f"{role}_rexmit_bytes"] = (
                record[f"{side}_rexmit_bytes"],
                half.rexmit_bytes,
            )
    return ours, theirs
