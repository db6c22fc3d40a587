"""PKT_IN and REXMIT are raised for the packets that tshark counts, over every capture there is.

Connections are compared as those of `flowlog` are, and its explanations hold here too: both count by the same rules.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import CONN_TEARDOWN, PKT_IN, REXMIT, App, CaptureError, Flow, Level, Packet, Settings, Timeouts
from tests.interop import explained, tshark
from tests.interop.explained import Difference
from tests.interop.flows import YEAR, Record, pair
from tests.interop.tshark import Connection, Endpoint

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

FORGET_NOTHING = Timeouts(half_open=YEAR, established=YEAR, closing=YEAR, time_wait=YEAR, reset=YEAR)


def count_events(capture: Path) -> tuple[list[Record], bool]:
    """Count each flow's events by who sent the packet; and tell whether the capture could be read to its end."""
    app: App[None] = App("count")
    records: list[Record] = []

    def count(what: str) -> Any:
        def note(pkt: Packet, flow: Flow) -> None:
            counts = flow.ctx.setdefault(Endpoint.of(pkt.src, pkt.sport), Counter())
            counts[what] += 1

        return note

    app.on(PKT_IN, midstream=True)(count("packets"))
    app.on(REXMIT, midstream=True, level=Level.BYTES)(count("retransmits"))

    @app.on(CONN_TEARDOWN, midstream=True)
    def end(flow: Flow) -> None:
        records.append(flow.record() | {"counts": flow.ctx})

    settings = Settings(decapsulate=True, timeouts=FORGET_NOTHING, on_error="raise")
    try:
        aiomos.run(app, pcap=[capture], settings=settings, loop="asyncio")
    except CaptureError:
        return sorted(records, key=lambda record: record["start"]), False
    return sorted(records, key=lambda record: record["start"]), True


def of_events(record: Record, connection: Connection) -> dict[str, object]:
    """What was raised for the packets of each end."""
    return {
        f"{role}_{what}": record["counts"].get(end, Counter())[what]
        for role, end in (("client", connection.client), ("server", connection.server))
        for what in ("packets", "retransmits")
    }


def of_tshark(connection: Connection) -> dict[str, object]:
    """The same by tshark."""
    return {
        f"{role}_{what}": getattr(connection.halves[end], what)
        for role, end in (("client", connection.client), ("server", connection.server))
        for what in ("packets", "retransmits")
    }


def differences(capture: str, records: list[Record], connections: list[Connection]) -> list[Difference]:
    """Differences that those of `flowlog` do not explain."""
    entries = [
        entry for entry in explained.explanations() if (entry.test, entry.capture) == ("flowlog", capture)
    ]
    found: list[Difference] = []
    for name, ours, theirs in pair(records, connections):
        if len(ours) != len(theirs):
            found.append(Difference(capture, name, "connections", len(ours), len(theirs)))
            continue
        found += explained.compare(capture, name, of_events(ours[0], theirs[0]), of_tshark(theirs[0]))
    return [difference for difference in found if not any(entry.covers(difference) for entry in entries)]


@pytest.mark.parametrize("capture", explained.captures())
def test_events_are_raised_for_what_tshark_counts(capture: Path, request: pytest.FixtureRequest) -> None:
    reading = tshark.read(capture)
    records, whole = count_events(capture)
    assert whole == reading.whole
    name = request.node.callspec.id
    explained.check("events", name, differences(name, records, reading.connections))
