"""Every figure in its own column: each app shows a connection whose numbers are all unlike, in every form.

Where a connection with so many unlike numbers would be too long to write down, the numbers are made up.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import App
from aiomos.apps import abacus, account, flowlog, rexmit, top
from aiomos.console import terminal
from tests.traffic import lopsided

Write = Callable[..., str]

FLOW = {
    "client": "10.0.0.1",
    "client_port": 1000,
    "server": "10.0.0.2",
    "server_port": 80,
    "ip_version": 4,
    "vlan": None,
    "start": 1_700_000_000.0,
    "end": 1_700_000_002.08,
    "reason": "fin",
    "client_state": "TIME_WAIT",
    "server_state": "CLOSED",
    "midstream": False,
    "guessed_roles": False,
    "client_packets": 20,
    "client_bytes": 2360,
    "client_stream_bytes": 660,
    "client_retransmits": 2,
    "client_out_of_order": 3,
    "client_copies": 4,
    "client_lost": 40,
    "client_rtt": pytest.approx(0.0189, abs=5e-5),
    "client_mss": 1460,
    "client_window_scale": 7,
    "server_packets": 23,
    "server_bytes": 8510,
    "server_stream_bytes": 2410,
    "server_retransmits": 5,
    "server_out_of_order": 1,
    "server_copies": 6,
    "server_lost": 90,
    "server_rtt": pytest.approx(0.0070, abs=5e-5),
    "server_mss": 1200,
    "server_window_scale": 9,
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Have an app look at the connection; returns what it wrote."""

    def run(app: App[Any], **options: Any) -> str:
        path = tmp_path / "out"
        app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])
        aiomos.run(app, pcap=[lopsided().write(tmp_path / "lopsided.pcapng")])
        return path.read_text()

    return run


def cells(text: str) -> list[list[str]]:
    """The rows of a table with lines between its columns, the headings first."""
    lines = [line.replace("┃", "│").split("│")[1:-1] for line in text.splitlines() if line[0] in "│┃"]
    return [[cell.strip() for cell in line] for line in lines]


def drawn(draw: Callable[[Any], None]) -> list[list[str]]:
    file = io.BytesIO()
    draw(file)
    return cells(file.getvalue().decode())


# --- flowlog, and the flows of a run that is controlled -----------------------------------------------


def test_flowlog_as_json_lines(write: Write) -> None:
    (line,) = write(flowlog.app).splitlines()
    assert json.loads(line) == FLOW


def test_flowlog_as_csv(write: Write) -> None:
    (row,) = csv.DictReader(io.StringIO(write(flowlog.app, format="csv")))
    expected = {name: "" if value is None else value for name, value in FLOW.items()}
    figures = {name for name, value in FLOW.items() if not isinstance(value, str | bool | None)}
    assert {
        name: float(value) if name in figures else {"False": False}.get(value, value)
        for name, value in row.items()
    } == expected


def test_flowlog_as_a_table(write: Write) -> None:
    headings, row = cells(write(flowlog.app, format="table"))
    assert dict(zip(headings, row, strict=True)) == {
        "client": "10.0.0.1:1000",
        "server": "10.0.0.2:80",
        "lasted": "2.080 s",
        "ended": "fin",
        "sent": "660",
        "received": "2,410",
        "resent": "2/5",
        "lost": "130",
        "rtt": "18.9 ms",
    }


def test_flows_of_a_run_that_is_controlled(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same figures in the same words, and what each end has come to."""
    monkeypatch.setenv("COLUMNS", "160")
    terminal.show_flows([json.loads(write(flowlog.app))], rows=1)
    headings, row = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    named = zip(filter(None, headings), filter(None, row), strict=True)
    assert {heading.strip(): value.strip() for heading, value in named} == {
        "client": "10.0.0.1:1000",
        "server": "10.0.0.2:80",
        "states": "TIME_WAIT, CLOSED",
        "lasted": "2.080 s",
        "sent": "660",
        "received": "2,410",
        "resent": "2/5",
        "lost": "130",
        "rtt": "18.9 ms",
    }


# --- rexmit -------------------------------------------------------------------------------------------


def test_rexmit_as_json_lines(write: Write) -> None:
    connection, total = map(json.loads, write(rexmit.app, format="jsonl").splitlines())
    zeros = dict.fromkeys(rexmit.KINDS, 0)
    client = zeros | {"packets": 20, "bytes": 2360, "retransmits": 2, "spurious": 2, "rexmit_bytes": 500}
    server = zeros | {"packets": 23, "bytes": 8510, "retransmits": 5, "spurious": 5, "rexmit_bytes": 2500}
    both = {name: client[name] + server[name] for name in client}
    assert connection == {
        "record": "connection",
        **{name: FLOW[name] for name in ("client", "client_port", "server", "server_port", "vlan")},
        **{name: FLOW[name] for name in ("midstream", "start", "end", "reason")},
        **{f"client_{name}": value for name, value in client.items()},
        **{f"server_{name}": value for name, value in server.items()},
        "client_rexmit_rate": round(500 / 2360, 6),
        "server_rexmit_rate": round(2500 / 8510, 6),
    }
    assert total == {
        "record": "total",
        "connections": 1,
        "connections_with_any": 1,
        "connections_midstream": 0,
        **both,
        "rexmit_rate": round(3000 / 10870, 6),
    }


def test_rexmit_as_a_table(write: Write) -> None:
    headings, *rows = cells(write(rexmit.app))
    shown = [{name: cell for name, cell in zip(headings, row, strict=True) if cell} for row in rows]
    assert [(row.pop("from"), row.pop("to", "")) for row in shown] == [
        ("10.0.0.2:80", "10.0.0.1:1000"),
        ("10.0.0.1:1000", "10.0.0.2:80"),
        ("in all", ""),
    ]
    assert shown == [
        {"packets": "23", "spurious": "5", "bytes sent again": "2,500", "of all": "29.38%"},
        {"packets": "20", "spurious": "2", "bytes sent again": "500", "of all": "21.19%"},
        {"packets": "43", "spurious": "7", "bytes sent again": "3,000", "of all": "27.60%"},
    ]


def test_each_kind_of_rexmit_has_its_column() -> None:
    """Of two workers, each with a sum of its own."""
    counted = Counter({name: 10 + number for number, name in enumerate(rexmit.KINDS)})
    counted.update({"packets": 3000, "bytes": 8000, "rexmit_bytes": 2000})
    more = Counter(dict.fromkeys(rexmit.KINDS, 100) | {"packets": 5, "bytes": 2000, "rexmit_bytes": 500})
    parts = [
        rexmit.Part(Counter(connections=7, connections_with_any=3), counted, []),
        rexmit.Part(Counter(connections=1100, connections_with_any=2), more, []),
    ]
    headings, row = drawn(partial(rexmit.draw, 5, parts))
    assert dict(zip(headings, row, strict=True)) == {
        "from": "in all",
        "to": "",
        "packets": "3,005",
        "rto": "110",
        "fast": "111",
        "spurious": "112",
        "syn": "113",
        "fin": "114",
        "keep alive": "115",
        "zero window probe": "116",
        "bytes sent again": "2,500",
        "of all": "25.00%",
    }
    file = io.BytesIO()
    rexmit.draw(5, parts, file)
    assert file.getvalue().decode().startswith("Sent again in 5 of 1,107 TCP connections")


# --- account and abacus: copies are counted once -------------------------------------------------------


@pytest.mark.parametrize(("count", "up", "down"), [("all", 1160, 4910), ("delivered", 660, 2410)])
def test_account(write: Write, count: str, up: int, down: int) -> None:
    expected = {
        "start": 1_699_999_980.0,
        "end": 1_700_000_040.0,
        "subscriber": "10.0.0.1",
        "server": "10.0.0.2",
        "connections": 1,
        "up_packets": 16,
        "up_bytes": up,
        "down_packets": 17,
        "down_bytes": down,
    }
    assert json.loads(write(account.app, count=count)) == expected
    (row,) = csv.DictReader(io.StringIO(write(account.app, count=count, format="csv")))
    assert row == {name: str(value) for name, value in expected.items()}


def test_abacus(write: Write) -> None:
    (line,) = write(abacus.app, subscribers="10.0.0.2", format="jsonl").splitlines()
    assert json.loads(line) == {
        "record": "usage",
        "subscriber": "10.0.0.2",
        "flows": 1,
        "up_bytes": 4910,
        "up_stream_bytes": 2410,
        "up_identical_bytes": 2500,
        "up_differing_bytes": 0,
        "up_unchecked_bytes": 0,
        "up_charged_bytes": 2410,
        "down_bytes": 1160,
        "down_stream_bytes": 660,
        "down_identical_bytes": 500,
        "down_differing_bytes": 0,
        "down_unchecked_bytes": 0,
        "down_charged_bytes": 660,
    }


def test_each_figure_of_abacus_has_its_column() -> None:
    """Of two workers that both have the subscriber."""
    names = [f"{way}_{name}" for way in abacus.WAYS for name in abacus.USAGE.values()]
    one = {name: 1000 + number for number, name in enumerate(names)}
    other = {name: 1_000_000 * number for number, name in enumerate(names)}
    parts = [
        {"usage": [{"record": "usage", "subscriber": "10.0.0.1", "flows": flows, **figures}], "suspect": []}
        for flows, figures in ((2, one), (3, other))
    ]
    headings, row = drawn(partial(abacus.draw, abacus.Options(), parts))
    assert dict(zip(headings, row, strict=True)) == {
        "subscriber": "10.0.0.1",
        "flows": "5",
        "up bytes": "1,000",
        "up once": "1,001,001",
        "up charged": "2,001,002",
        "up differ": "3,001,003",
        "up unchecked": "4,001,004",
        "down bytes": "5,001,005",
        "down once": "6,001,006",
        "down charged": "7,001,007",
        "down differ": "8,001,008",
        "down unchecked": "9,001,009",
    }


@pytest.mark.parametrize("sender", ["client", "server"])
def test_each_figure_of_a_suspect_has_its_column(sender: str) -> None:
    suspect = {
        "record": "suspect",
        "sender": sender,
        "subscriber": "10.0.0.9",
        **{name: FLOW[name] for name in ("client", "client_port", "server", "server_port")},
        "segments": 1001,
        "alerts": 7,
        "differing_bytes": 2002,
        "differing_share": 0.31,
    }
    *_, headings, row = drawn(partial(abacus.draw, abacus.Options(), [{"usage": [], "suspect": [suspect]}]))
    client, server = "10.0.0.1:1000", "10.0.0.2:80"
    assert dict(zip(headings, row, strict=True)) == {
        "subscriber": "10.0.0.9",
        "from": client if sender == "client" else server,
        "to": server if sender == "client" else client,
        "segments": "1,001",
        "differing bytes": "2,002",
        "of those compared": "31%",
    }


# --- top ----------------------------------------------------------------------------------------------


def test_top_as_json_lines(write: Write) -> None:
    table = json.loads(write(top.app, interval=0, format="jsonl"))
    (row,) = table.pop("rows")
    assert table == {
        "time": 1_700_000_002.08,
        "period": pytest.approx(2.08),
        "open": 0,
        "ended": 1,
        "client_bytes": 2360,
        "server_bytes": 8510,
    }
    assert row == {
        "client": "10.0.0.1:1000",
        "server": "10.0.0.2:80",
        "states": ["TIME_WAIT", "CLOSED"],
        "client_rate": pytest.approx(2360 / 2.08),
        "server_rate": pytest.approx(8510 / 2.08),
        "client_bytes": 2360,
        "server_bytes": 8510,
        "client_packets": 20,
        "server_packets": 23,
        "retransmits": 7,
        "rtt": pytest.approx(0.0259, abs=5e-5),
        "age": pytest.approx(2.08),
        "reason": "fin",
        "midstream": False,
    }


def test_top_as_text(write: Write) -> None:
    title, headings, row = write(top.app, interval=0).splitlines()
    assert title.strip() == (
        "2023-11-14 22:13:22 UTC  0 open, 1 ended in 2.1 s,  1 kB/s from clients, 4 kB/s from servers"
    )
    named = zip(headings.split(), filter(None, row.split("  ")), strict=True)
    assert {heading: value.strip() for heading, value in named} == {
        "client": "10.0.0.1:1000",
        "server": "10.0.0.2:80",
        "states": "ended: fin",
        "sends": "1 kB/s",
        "receives": "4 kB/s",
        "sent": "2,360",
        "received": "8,510",
        "resent": "7",
        "rtt": "25.9 ms",
        "age": "2.1 s",
    }
