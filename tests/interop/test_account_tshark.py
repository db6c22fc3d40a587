"""The `account` app puts on each account, interval by interval, the segments and bytes that tshark sees go by."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.interop import explained, tshark
from tests.interop.flows import run_apps

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

SECOND, HOUR = 1, 3600
"""Intervals: of the shipped captures, and of others, some of which are silent for years between two frames."""

EVERYBODY = {"subscribers": "0.0.0.0/0,::/0", "server": "port"}
COLUMNS = [word for name in tshark.FIELDS for word in ("-e", name)]
ROWS = ("-T", "fields", "-E", "occurrence=a", "-E", "aggregator=,", "-E", "separator=/t", *COLUMNS)

Place = tuple[int, str, str]
"""Start of an interval, an address, and the other end."""


@pytest.mark.parametrize("capture", explained.captures())
def test_each_interval_agrees_with_tshark(
    capture: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    path = tmp_path / "usage.jsonl"
    interval = SECOND if capture.is_relative_to(explained.SHIPPED) else HOUR
    run_apps(capture, "account", options={"path": path, "interval": interval, **EVERYBODY})
    ours = {
        (int(record["start"]), record["subscriber"], record["server"]): Counter(
            {field: record[field] for field in ("up_packets", "up_bytes", "down_packets", "down_bytes")}
        )
        for record in map(json.loads, path.read_text().splitlines())
    }
    theirs = sums(capture, interval)
    found = [
        explained.Difference(name, f"{subscriber} -> {server}", field, counted[field], expected[field])
        for start, subscriber, server in ours | theirs
        for counted, expected in [
            [side.get((start, subscriber, server), Counter[str]()) for side in (ours, theirs)]
        ]
        for field in counted | expected
        if counted[field] != expected[field]
    ]
    explained.check("account", name, found)


def sums(capture: Path, interval: int) -> dict[Place, Counter[str]]:
    """Sum up what tshark sees of each address with each other end, in each interval, but for copies."""
    output, _ = tshark.run(capture, "-Y", "tcp and not icmp and not icmpv6", *ROWS)
    found: dict[Place, Counter[str]] = {}
    copies = tshark.Copies()
    for segment in tshark.segments(output):
        if copies.has(segment):
            continue
        start = int(segment.time // interval * interval)
        for way, end, peer in (("up", segment.src, segment.dst), ("down", segment.dst, segment.src)):
            account = found.setdefault((start, end.address, str(peer)), Counter())
            account[f"{way}_packets"] += 1
            account[f"{way}_bytes"] += segment.length
    return found
