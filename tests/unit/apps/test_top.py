"""top: tables whose sums are those of the traffic, made when they are due, in the order asked for."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import aiomos
from aiomos import OptionError
from aiomos.apps import flowlog, top
from tests.interop import tshark
from tests.interop.tshark import Endpoint
from tests.traffic import START_NS, Traffic

DATA = Path(__file__).parents[2] / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
START = START_NS / 1e9
Snapshot = dict[str, Any]
Show = Callable[..., list[Snapshot]]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Run the app over captures or traffic with options; returns the tables it wrote."""

    def run(*sources: Path | Traffic, **options: Any) -> list[Snapshot]:
        path = tmp_path / "top.jsonl"
        pairs = {"path": path, "format": "jsonl", "rows": 1000, **options}
        top.app.configure([f"{name}={value}" for name, value in pairs.items()])
        captures = [
            source if isinstance(source, Path) else source.write(tmp_path / f"{number}.pcapng")
            for number, source in enumerate(sources)
        ]
        aiomos.run(top.app, pcap=captures, settings=aiomos.Settings(on_error="raise"))
        return [json.loads(line) for line in path.read_text().splitlines()]

    return run


@pytest.fixture
def log(tmp_path: Path) -> Callable[[Path], list[dict[str, Any]]]:
    """What flowlog says of a capture."""

    def run(capture: Path) -> list[dict[str, Any]]:
        path = tmp_path / "log"
        flowlog.app.configure([f"path={path}"])
        aiomos.run(flowlog.app, pcap=[capture])
        return [json.loads(line) for line in path.read_text().splitlines()]

    return run


def steady(seconds: int, *, clients: int = 3) -> Traffic:
    """Connections of which the n-th sends n*100 bytes and receives 10, four times a second."""
    traffic = Traffic()
    conns = [traffic.connection(1000 + number) for number in range(clients)]
    for _ in range(seconds * 4):
        for number, conn in enumerate(conns, 1):
            conn.client(bytes(100 * number))
            conn.server(bytes(10))
        traffic.wait(0.25 - 0.002 * clients)
    for conn in conns:
        conn.close()
    return traffic


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
@pytest.mark.parametrize("interval", [0, 0.001, 1])
def test_every_byte_is_in_one_table(
    capture: Path, interval: float, show: Show, log: Callable[[Path], list[dict[str, Any]]]
) -> None:
    tables, flows = show(capture, interval=interval), log(capture)
    for side in ("client", "server"):
        assert sum(table[f"{side}_bytes"] for table in tables) == sum(flow[f"{side}_bytes"] for flow in flows)
    assert sum(table["ended"] for table in tables) == len(flows)
    assert [table["time"] for table in tables] == sorted(table["time"] for table in tables)
    assert all(table["period"] > 0 for table in tables)
    assert top.app.callbacks == []


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_the_table_at_the_end_has_what_flowlog_has(
    capture: Path, show: Show, log: Callable[[Path], list[dict[str, Any]]]
) -> None:
    tables, flows = show(capture, interval=0), log(capture)
    rows = [row for table in tables for row in table["rows"]]
    names = ("client_packets", "server_packets", "client_bytes", "server_bytes")
    assert Counter(tuple(row[name] for name in names) for row in rows) == Counter(
        tuple(flow[name] for name in names) for flow in flows
    )
    assert sum(row["retransmits"] for row in rows) == sum(
        flow["client_retransmits"] + flow["server_retransmits"] for flow in flows
    )


@pytest.mark.interop
@pytest.mark.skipif(tshark.TSHARK is None, reason="tshark is not installed")
@pytest.mark.parametrize(
    "name",
    ["http.pcap", "tls.pcap", "ipv6.pcap", "loss_sender.pcap", "offload.pcap", "reset.pcap", "urgent.pcap"],
)
def test_packets_and_bytes_are_those_of_tshark_s_conversations(name: str, show: Show) -> None:
    (table,) = show(DATA / name, interval=0)
    ours = Counter(
        frozenset({(row["client"], row["client_packets"]), (row["server"], row["server_packets"])})
        for row in table["rows"]
    )
    output, _ = tshark.run(DATA / name, "-q", "-z", "conv,tcp")
    assert ours == Counter(conversations(output))
    payload, _ = tshark.run(DATA / name, "-Y", "tcp", "-T", "fields", "-e", "tcp.len")
    assert table["client_bytes"] + table["server_bytes"] == sum(map(int, payload.split()))


def conversations(output: str) -> Iterator[frozenset[tuple[str, int]]]:
    """Read the table of `-z conv,tcp`: each end with the frames that it sent."""
    end = r"(\S+):(\d+)"
    for line in output.splitlines():
        if row := re.match(rf"{end} +<-> +{end} +(\d+) [\d,]+ \w+ +(\d+) ", line):
            one, other = Endpoint.of(row[1], row[2]), Endpoint.of(row[3], row[4])
            yield frozenset({(str(other), int(row[5])), (str(one), int(row[6]))})


def test_rates_are_those_since_the_table_before(show: Show) -> None:
    tables = show(steady(5), interval=1)
    assert len(tables) == 6
    for table in tables[1:-1]:
        assert table["period"] == pytest.approx(1, abs=0.26)
        assert table["open"] == 3
        rates = [row["client_rate"] for row in table["rows"]]
        assert rates == [pytest.approx(400 * number, rel=0.35) for number in (3, 2, 1)]
        assert sum(rates) * table["period"] == pytest.approx(table["client_bytes"])
    assert tables[-1]["open"] == 0
    assert tables[-1]["ended"] == 3


def test_tables_come_when_they_are_due(show: Show) -> None:
    """The first exactly; each of the others an interval after the first packet behind the one before."""
    times = [table["time"] - START for table in show(steady(4), interval=1)]
    assert times[0] == pytest.approx(1, abs=1e-3)
    assert all(1 - 1e-6 <= later - earlier <= 1.26 for earlier, later in pairwise(times[:-1]))


def test_tables_may_be_less_than_a_second_apart(show: Show) -> None:
    times = [table["time"] for table in show(DATA / "http.pcap", interval=0.001)]
    assert len(times) >= 6
    assert all(later - earlier < 0.005 for earlier, later in pairwise(times))


def test_tables_go_on_when_the_connection_that_gave_the_time_has_ended(show: Show) -> None:
    traffic = Traffic()
    short = traffic.connection(1000)
    long = traffic.connection(1001)
    short.reset()
    for _ in range(60):
        long.client(b"x")
        traffic.wait(0.5)
    times = [table["time"] for table in show(traffic, interval=1)]
    assert len(times) > 15


@pytest.mark.parametrize("sort", ["rate", "retransmits", "rtt"])
def test_what_is_sorted_by_comes_first(show: Show, sort: str) -> None:
    traffic = Traffic()
    for port, size, repeats, delay in ((1, 300, 0, 0.1), (2, 100, 2, 0.2), (3, 200, 1, 0.3)):
        conn = traffic.connection(1000 + port)
        conn.client(bytes(size))
        for _ in range(repeats):
            conn.client(bytes(1), at=0)
        conn.client(b"x")
        traffic.wait(delay)
        conn.server(b"y")
        conn.client()
        conn.close()
    (table,) = show(traffic, interval=0, sort=sort, rows=2)
    order = {"rate": [1001, 1003], "retransmits": [1002, 1003], "rtt": [1003, 1002]}
    assert [int(row["client"].rpartition(":")[2]) for row in table["rows"]] == order[sort]
    assert table["ended"] == 3


def test_the_filter_picks_connections(show: Show) -> None:
    assert show(DATA / "http.pcap", filter="server port 81", interval=0) == []


def test_midstream_connections_are_marked_and_can_be_left_out(show: Show) -> None:
    capture = DATA / "hard" / "midstream.pcap"
    (table,) = show(capture, interval=0)
    (row,) = table["rows"]
    assert row["server"].endswith(":80")
    assert row["midstream"] is True
    assert show(capture, interval=0, midstream=False) == []


def test_tables_without_a_terminal_are_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    top.app.configure([f"path={path}", "interval=0"])
    aiomos.run(top.app, pcap=[DATA / "http.pcap", DATA / "ipv6.pcap"])
    words = path.read_text()
    assert "16,831" in words
    assert "[2001:db8::2]:80" in words
    assert "ended: fin" in words
    assert "\x1b" not in words


def test_a_terminal_shows_the_latest_table(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    now = [0.0]
    monkeypatch.setattr(top.clock, "monotonic", lambda: now[0])
    screen = top.Terminal(Console(file=shown, force_terminal=True, width=100))
    for number in range(1, 4):
        screen.show(top.Snapshot(START, 1.0, number, 0, 0, 0, []))
    screen.close()
    words = shown.getvalue()
    assert "1 open" in words
    assert "2 open" not in words  # too soon after the first
    assert "3 open" in words


def test_speed_lets_time_pass_as_it_did(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [1000.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(top.clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(top.clock, "sleep", sleep)
    tables = show(steady(4), interval=1, speed=2)
    assert len(slept) == len(tables) - 1
    assert sum(slept) == pytest.approx((tables[-2]["time"] - START) / 2, abs=0.01)


@pytest.mark.parametrize("pairs", [["sort=size"], ["rows=0"], ["interval=-1"], ["speed=-1"], ["format=csv"]])
def test_a_bad_option_is_refused(pairs: list[str]) -> None:
    with pytest.raises(OptionError):
        top.app.configure(pairs)
