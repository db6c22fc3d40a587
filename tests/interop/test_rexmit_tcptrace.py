"""The `rexmit` app counts as many retransmissions, and as many bytes in them, as tcptrace.

SYN and FIN are data to tcptrace, a byte each.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import explained
from tests.interop.explained import Difference
from tests.interop.flows import ends, run_apps
from tests.interop.tshark import Endpoint
from tests.rules import does_not_apply

TCPTRACE = shutil.which("tcptrace")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(TCPTRACE is None, reason="tcptrace is not installed"),
]

CAPTURES = [path for path in explained.files(explained.SHIPPED) if path.suffix == ".pcap"]
"""tcptrace reads no other format."""

Counted = dict[str, object]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.relative_to(explained.SHIPPED).as_posix())
def test_rexmit_agrees_with_tcptrace(capture: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    theirs = dict(by_tcptrace(capture))
    if not theirs:
        does_not_apply("tcptrace finds no connection in it")
    ours = dict(by_rexmit(capture, tmp_path / "rexmit.jsonl"))
    name = request.node.callspec.id
    found = [
        difference
        for connection, counted in theirs.items()
        for difference in compare(name, connection, ours.get(connection, {}), counted)
    ]
    explained.check("tcptrace", name, found)


def compare(capture: str, connection: str, ours: Counted, theirs: Counted) -> Iterator[Difference]:
    for field, value in theirs.items():
        if ours.get(field) != value:
            yield Difference(capture, connection, field, ours.get(field), value)


def by_rexmit(capture: Path, path: Path) -> Iterator[tuple[str, Counted]]:
    """Return each half, named after both ends and, of several, its number, and what it sent again."""
    run_apps(capture, "rexmit", options={"path": path, "format": "jsonl", "all": "true"})
    *records, _ = map(json.loads, path.read_text().splitlines())
    numbered = Numbers()
    for record in sorted(records, key=lambda record: record["start"]):
        client, server = ends(record)
        for side, name in zip(("client", "server"), numbered.names(client, server), strict=True):
            yield (
                name,
                {
                    "rexmt_data_pkts": record[f"{side}_retransmits"],
                    "rexmt_data_bytes": sum(
                        record[f"{side}_{name}"] for name in ("rexmit_bytes", "syn", "fin")
                    ),
                },
            )


def by_tcptrace(capture: Path) -> Iterator[tuple[str, Counted]]:
    """Do the same with tcptrace, which names the ends a and b."""
    command = [str(TCPTRACE), "-l", "-n", "--csv", str(capture)]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    rows = [line for line in output.splitlines() if line and not line.startswith("#") and "," in line]
    numbered = Numbers()
    for row in csv.DictReader(rows, skipinitialspace=True):
        a, b = (Endpoint.of(row[f"host_{end}"].strip(), row[f"port_{end}"].strip()) for end in "ab")
        for way, name in zip(("a2b", "b2a"), numbered.names(a, b), strict=True):
            yield (
                name,
                {field: int(row[f"{field}_{way}"]) for field in ("rexmt_data_pkts", "rexmt_data_bytes")},
            )


class Numbers:
    """Names of halves that are the same whoever is called the client."""

    def __init__(self) -> None:
        self._seen: defaultdict[frozenset[Endpoint], int] = defaultdict(int)

    def names(self, a: Endpoint, b: Endpoint) -> tuple[str, str]:
        key = frozenset((a, b))
        self._seen[key] += 1
        number = f" #{self._seen[key]}" if self._seen[key] > 1 else ""
        return f"{a} -> {b}{number}", f"{b} -> {a}{number}"
