"""flowlog: one record a connection, in every form, the same every time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import OptionError
from aiomos.apps import flowlog
from tests.traffic import Traffic

DATA = Path(__file__).parents[2] / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
FIELDS = [
    *("client", "client_port", "server", "server_port", "ip_version", "vlan", "start", "end", "reason"),
    *("client_state", "server_state", "midstream", "guessed_roles"),
    *(
        f"{side}_{name}"
        for side in ("client", "server")
        for name in (
            *("packets", "bytes", "stream_bytes", "retransmits", "out_of_order", "copies", "lost", "rtt"),
            *("mss", "window_scale"),
        )
    ),
]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Run the app over captures with options; returns what it wrote."""

    def run(*captures: Path, **options: Any) -> str:
        path = tmp_path / "log"
        flowlog.app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])
        aiomos.run(flowlog.app, pcap=captures)
        return path.read_text()

    return run


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_each_connection_is_a_line(capture: Path, write: Write) -> None:
    text = write(capture, midstream=True)
    for record in records(text):
        assert list(record) == FIELDS
        assert record["start"] <= record["end"]
        assert record["reason"] in ("fin", "rst", "timeout", "evicted", "end_of_capture")
        for side in ("client", "server"):
            assert record[f"{side}_stream_bytes"] <= record[f"{side}_bytes"]
    assert text == write(capture, midstream=True), "two runs differ"


def test_a_connection_in_full(write: Write, tmp_path: Path) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"question")
    conn.client(b"question", at=0)
    conn.server(b"answer")
    conn.close()
    (record,) = records(write(traffic.write(tmp_path / "x.pcapng")))
    times = {name: record.pop(name) for name in ("start", "end", "client_rtt", "server_rtt")}
    assert times["end"] - times["start"] == pytest.approx((len(traffic.frames) - 1) / 1000, abs=1e-6)
    assert record == {
        "client": "10.0.0.1",
        "client_port": 1000,
        "server": "10.0.0.2",
        "server_port": 80,
        "ip_version": 4,
        "vlan": None,
        "reason": "fin",
        "client_state": "TIME_WAIT",
        "server_state": "CLOSED",
        "midstream": False,
        "guessed_roles": False,
        "client_packets": 6,
        "client_bytes": 16,
        "client_stream_bytes": 8,
        "client_retransmits": 1,
        "client_out_of_order": 0,
        "client_copies": 0,
        "client_lost": 0,
        "client_mss": None,
        "client_window_scale": None,
        "server_packets": 3,
        "server_bytes": 6,
        "server_stream_bytes": 6,
        "server_retransmits": 0,
        "server_out_of_order": 0,
        "server_copies": 0,
        "server_lost": 0,
        "server_mss": None,
        "server_window_scale": None,
    }


def test_csv_has_the_same_fields(write: Write) -> None:
    rows = list(csv.DictReader(io.StringIO(write(DATA / "http.pcap", format="csv"))))
    expected = records(write(DATA / "http.pcap"))
    assert [list(row) for row in rows] == [FIELDS] * len(expected)
    for row, record in zip(rows, expected, strict=True):
        assert row == {name: "" if value is None else str(value) for name, value in record.items()}


def test_csv_without_connections_is_empty(write: Write) -> None:
    assert write(DATA / "http.pcap", format="csv", filter="port 1") == ""


def test_the_table_is_for_people(write: Write) -> None:
    text = write(DATA / "ipv6.pcap", format="table")
    (record,) = records(write(DATA / "ipv6.pcap"))
    assert "1 TCP connections" in text or "1 TCP connection" in text
    assert record["reason"] in text
    assert f"{record['server_stream_bytes']:,}" in text
    assert "\x1b" not in text  # no colours in a file


def test_an_ipv6_address_in_the_table_is_told_from_its_port(write: Write) -> None:
    """As RFC 5952 section 6 recommends, and as a flow's own text has it."""
    text = write(DATA / "ipv6.pcap", format="table")
    assert "[2001:db8::2]:80" in text


def test_the_filter_picks_connections(write: Write) -> None:
    lines = records(write(DATA / "tls.pcap", filter="server port 443"))
    assert lines
    assert all(record["server_port"] == 443 for record in lines)
    assert records(write(DATA / "tls.pcap", filter="not server port 443")) == []


def test_midstream_connections_are_marked_and_can_be_left_out(write: Write) -> None:
    """Nothing is claimed of a handshake that was not seen."""
    capture = DATA / "hard" / "midstream.pcap"
    (record,) = records(write(capture))
    assert (record["midstream"], record["guessed_roles"]) == (True, True)
    assert record["server_port"] == 80
    assert [
        record[f"{side}_{name}"] for side in ("client", "server") for name in ("mss", "window_scale")
    ] == [None] * 4
    assert "fin, no SYN" in write(capture, format="table")
    assert records(write(capture, midstream=False)) == []


def test_one_capture_in_several_forms_gives_one_log(write: Write) -> None:
    plain = write(DATA / "http.pcap")
    assert plain == write(DATA / "http.pcap.gz") == write(DATA / "http.pcapng")


def test_several_captures_are_one_log(write: Write) -> None:
    both = records(write(DATA / "tls.pcap", DATA / "http.pcap"))
    one, other = records(write(DATA / "tls.pcap")), records(write(DATA / "http.pcap"))
    assert len(both) == len(one) + len(other)


def test_standard_output_without_a_path(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    flowlog.app.configure([])
    aiomos.run(flowlog.app, pcap=[DATA / "ipv6.pcap"])
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line)["ip_version"] == 6


@pytest.mark.parametrize("pairs", [["format=xml"], ["speed=1"], ["midstream=perhaps"]])
def test_a_bad_option_is_refused(pairs: list[str]) -> None:
    with pytest.raises(OptionError):
        flowlog.app.configure(pairs)


def test_the_log_is_closed_and_unregistered_after_a_run(write: Write) -> None:
    write(DATA / "http.pcap")
    assert flowlog.app.callbacks == []
    first = write(DATA / "http.pcap")
    assert len(records(first)) == len({(r["client_port"], r["start"]) for r in records(first)})


def test_a_broken_capture_leaves_the_log_it_could_give(write: Write, tmp_path: Path) -> None:
    whole = (DATA / "http.pcap").read_bytes()
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(whole[:-7])
    with pytest.raises(aiomos.CaptureError):
        write(broken)
    assert len(records((tmp_path / "log").read_text())) == len(records(write(DATA / "http.pcap")))
