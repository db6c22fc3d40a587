"""rexmit: each retransmission and probe is counted once, under its kind, for the half that sent it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import OptionError
from aiomos.apps import flowlog, rexmit
from tests.traffic import Traffic

DATA = Path(__file__).parents[2] / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
RETRANSMISSIONS = ("rto", "fast", "spurious", "syn", "fin")
SIDES = ("client", "server")
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Run the app over captures with options; returns what it wrote."""

    def run(*captures: Path, **options: Any) -> str:
        path = tmp_path / "report"
        rexmit.app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])
        aiomos.run(rexmit.app, pcap=captures)
        return path.read_text()

    return run


@pytest.fixture
def records(write: Write) -> Callable[..., list[dict[str, Any]]]:
    """Run it over captures for its records."""
    return lambda *captures, **options: [
        json.loads(line) for line in write(*captures, format="jsonl", **options).splitlines()
    ]


@pytest.fixture
def counts(
    records: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> Callable[[Traffic], dict[str, int]]:
    """What is counted of the only connection of a piece of traffic, without the zeros."""

    def count(traffic: Traffic) -> dict[str, int]:
        connection, _ = records(traffic.write(tmp_path / "trace.pcapng"))
        names = [f"{side}_{kind}" for side in SIDES for kind in (*rexmit.KINDS, "rexmit_bytes")]
        return {name: connection[name] for name in names if connection[name]}

    return count


def shut_window(traffic: Traffic) -> Any:
    """A connection with 100 bytes from the client, and no room for more."""
    conn = traffic.connection()
    conn.client(bytes(100))
    conn.server(window=0)
    return conn


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_it_counts_what_the_flow_record_counts(
    capture: Path, records: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    *connections, total = records(capture)
    flowlog.app.configure([f"path={tmp_path / 'log'}"])
    aiomos.run(flowlog.app, pcap=[capture])
    flows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert total["record"] == "total"
    assert total["connections"] == len(flows)
    assert total["connections_with_any"] == len(connections)
    for name in ("packets", "bytes", "retransmits"):
        assert total[name] == sum(flow[f"{side}_{name}"] for flow in flows for side in SIDES)
    for record in (total, *connections):
        for prefix in ("",) if record is total else ("client_", "server_"):
            assert record[f"{prefix}retransmits"] == sum(record[prefix + kind] for kind in RETRANSMISSIONS)
            assert record[f"{prefix}rexmit_bytes"] <= record[f"{prefix}bytes"]


def test_data_again_before_and_after_its_acknowledgement(counts: Callable[[Traffic], dict[str, int]]) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.client(b"question", at=0)
    conn.server(b"answer")
    conn.client(b"quest", at=0)
    conn.close()
    assert counts(traffic) == {"client_rto": 1, "client_spurious": 1, "client_rexmit_bytes": 13}


def test_duplicate_acknowledgements_ask_for_a_fast_one(counts: Callable[[Traffic], dict[str, int]]) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    for at in range(0, 500, 100):
        conn.server(bytes(100), at=at)
    for _ in range(4):
        conn.client(ack=100)
    conn.server(bytes(100), at=100)
    assert counts(traffic) == {"server_fast": 1, "server_rexmit_bytes": 100}


def test_syn_and_fin_again(counts: Callable[[Traffic], dict[str, int]]) -> None:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.segment("client", at=-1, flags="S")
    traffic.wait(1)
    conn.open()
    conn.segment("server", flags="FA")
    traffic.wait(1)
    conn.segment("server", at=0, flags="FA")
    assert counts(traffic) == {"client_syn": 1, "server_fin": 1}


@pytest.mark.parametrize("garbage", [b"", b"\0"])
def test_keep_alives(counts: Callable[[Traffic], dict[str, int]], garbage: bytes) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.server(b"answer")
    conn.client()
    for _ in range(3):
        conn.server(garbage, at=5)
        conn.client()
    conn.client(garbage, at=7)
    assert counts(traffic) == {"client_keep_alive": 1, "server_keep_alive": 3}


def test_single_bytes_in_a_row_are_no_probes(
    records: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Nor are acknowledgements, nor the opening and the end."""
    traffic = Traffic()
    conn = traffic.connection()
    for byte in b"typed by hand":
        conn.client(bytes([byte]))
        conn.server()
    conn.close()
    (total,) = records(traffic.write(tmp_path / "trace.pcapng"))
    assert not any(total[kind] for kind in rexmit.KINDS)


@pytest.mark.parametrize(
    ("data", "at"), [(b"", 99), (b"n", 100)], ids=["as Linux does", "with the next byte"]
)
def test_window_probes(counts: Callable[[Traffic], dict[str, int]], data: bytes, at: int) -> None:
    traffic = Traffic()
    conn = shut_window(traffic)
    for _ in range(3):
        traffic.wait(1)
        conn.client(data, at=at)
        conn.server(ack=100, window=0)
    conn.server(ack=100, window=1000)
    assert counts(traffic) == {"client_zero_window_probe": 3}


def test_an_open_window_is_not_probed(counts: Callable[[Traffic], dict[str, int]]) -> None:
    traffic = Traffic()
    conn = shut_window(traffic)
    conn.server(window=1000)
    conn.client(at=99)
    assert counts(traffic) == {"client_keep_alive": 1}


def test_rate_and_sum(records: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> None:
    traffic = Traffic()
    for port in (1000, 1001):
        conn = traffic.connection(port)
        conn.client(bytes(300))
        conn.client(bytes(100), at=0)
        conn.close()
    quiet = traffic.connection(1002)
    quiet.server(bytes(200))
    quiet.close()
    first, second, total = records(traffic.write(tmp_path / "trace.pcapng"))
    assert [record["client_rexmit_rate"] for record in (first, second)] == [0.25, 0.25]
    assert (first["client_port"], second["client_port"]) == (1000, 1001)
    assert (first["server_retransmits"], first["server_rexmit_rate"]) == (0, 0.0)
    assert (total["connections"], total["connections_with_any"]) == (3, 2)
    assert (total["retransmits"], total["rexmit_bytes"], total["bytes"]) == (2, 200, 1000)
    assert total["rexmit_rate"] == 0.2


def test_the_table_has_the_worst_halves_and_the_sum(write: Write, tmp_path: Path) -> None:
    traffic = Traffic()
    for port in range(1000, 1005):
        conn = traffic.connection(port)
        conn.client(bytes(100))
        for _ in range(port - 999):
            traffic.wait(0.2)
            conn.client(bytes(100), at=0)
        conn.close()
    table = write(traffic.write(tmp_path / "trace.pcapng"), top=2)
    assert "5 of 5 TCP connections" in table
    rows = [line for line in table.splitlines() if "10.0.0.1:" in line]
    assert ["1004" in rows[0], "1003" in rows[1], len(rows)] == [True, True, 2]
    assert "1,500" in table.split("in all")[1]


def test_nothing_sent_again_is_a_table_too(write: Write) -> None:
    assert "0 of 2 TCP connections" in write(DATA / "http.pcap")


def test_the_filter_picks_connections(records: Callable[..., list[dict[str, Any]]]) -> None:
    (total,) = records(DATA / "loss_sender.pcap", filter="server port 1")
    assert total["connections"] == 0


@pytest.mark.parametrize("pair", ["format=csv", "top=0", "speed=1"])
def test_a_bad_option_is_refused(pair: str) -> None:
    with pytest.raises(OptionError):
        rexmit.app.configure([pair])


def test_midstream_connections_are_marked_and_can_be_left_out(
    records: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.client(b"again")
    conn.server()
    traffic.wait(1)
    conn.client(b"again", at=0)
    capture = traffic.write(tmp_path / "trace.pcapng")
    connection, total = records(capture)
    assert (connection["midstream"], connection["client_retransmits"]) == (True, 1)
    assert (total["connections"], total["connections_midstream"]) == (1, 1)
    assert records(capture, midstream=False)[0]["connections"] == 0
    rexmit.app.configure([f"path={tmp_path / 'table'}"])
    aiomos.run(rexmit.app, pcap=[capture])
    words = " ".join((tmp_path / "table").read_text().split())
    assert "(1 without their SYN)" in words
    assert ", no SYN" in words
