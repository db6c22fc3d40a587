"""account: what each subscriber sent and was sent, interval by interval."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

import aiomos
from aiomos import App, Level, MonitorConnection, OptionError, Runtime, Settings, serve
from aiomos.apps import account
from aiomos.testing.scenario import Conversation
from tests.events import source_of
from tests.traffic import START_NS, Traffic, in_loop

DATA = Path(__file__).parents[2] / "data"
START = START_NS // 1_000_000_000
MINUTE = START // 60 * 60

Record = dict[str, Any]
Run = Callable[..., list[Record]]


def configure(path: Path, **options: Any) -> None:
    account.app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Run the app over a capture or traffic with options; returns what it wrote."""

    def run(source: Path | Traffic, **options: Any) -> str:
        path = tmp_path / "usage"
        capture = source if isinstance(source, Path) else source.write(tmp_path / "trace.pcapng")
        configure(path, **options)
        aiomos.run(account.app, pcap=[capture], settings=Settings(on_error="raise"))
        return path.read_text()

    return run


@pytest.fixture
def run(write: Callable[..., str]) -> Run:
    return lambda *args, **options: [json.loads(line) for line in write(*args, **options).splitlines()]


def talk(traffic: Traffic, port: int = 1000, **ends: str) -> None:
    """A connection with 8 bytes up, sent twice, and 10 down."""
    conn = traffic.connection(port, **ends)
    conn.client(b"question")
    traffic.wait(0.1)  # longer than a copy takes
    conn.client(b"question", at=0)
    conn.server(b"the answer")
    conn.close()


def test_both_directions_of_a_connection(run: Run) -> None:
    traffic = Traffic()
    talk(traffic)
    assert run(traffic) == [
        {
            "start": MINUTE,
            "end": MINUTE + 60,
            "subscriber": "10.0.0.1",
            "server": "10.0.0.2",
            "connections": 1,
            "up_packets": 6,
            "up_bytes": 16,
            "down_packets": 3,
            "down_bytes": 10,
        }
    ]


def test_delivered_bytes_are_counted_once(run: Run) -> None:
    traffic = Traffic()
    talk(traffic)
    (record,) = run(traffic, count="delivered")
    assert (record["up_bytes"], record["down_bytes"], record["up_packets"]) == (8, 10, 6)


def test_subscriber_may_be_the_server(run: Run) -> None:
    traffic = Traffic()
    talk(traffic)
    (record,) = run(traffic, subscribers="10.0.0.2/32")
    assert (record["subscriber"], record["server"]) == ("10.0.0.2", "10.0.0.1")
    assert (record["up_bytes"], record["down_bytes"]) == (10, 16)


def test_between_two_subscribers_both_are_charged(run: Run) -> None:
    traffic = Traffic()
    talk(traffic)
    records = run(traffic, subscribers="10.0.0.0/8")
    assert [(record["subscriber"], record["up_bytes"]) for record in records] == [
        ("10.0.0.1", 16),
        ("10.0.0.2", 10),
    ]


def test_connections_of_nobody_are_passed_over(run: Run) -> None:
    traffic = Traffic()
    talk(traffic)
    assert run(traffic, subscribers="192.0.2.0/24") == []


@pytest.mark.parametrize(
    ("options", "parties"),
    [
        ({}, {("10.0.0.1", "10.0.0.2"), ("10.0.0.3", "10.0.0.2"), ("fd00::1", "fd00::2")}),
        ({"prefix": 24, "prefix6": 64}, {("10.0.0.0/24", "10.0.0.2"), ("fd00::/64", "fd00::2")}),
        (
            {"server": "port"},
            {("10.0.0.1", "10.0.0.2:80"), ("10.0.0.3", "10.0.0.2:80"), ("fd00::1", "[fd00::2]:80")},
        ),
        ({"server": "none"}, {("10.0.0.1", None), ("10.0.0.3", None), ("fd00::1", None)}),
    ],
)
def test_who_is_on_one_account(run: Run, options: dict[str, Any], parties: set[tuple[str, str]]) -> None:
    traffic = Traffic()
    talk(traffic)
    talk(traffic, client="10.0.0.3")
    talk(traffic, client="fd00::1", server="fd00::2")
    records = run(traffic, **options)
    assert {(record["subscriber"], record.get("server")) for record in records} == parties
    assert sum(record["connections"] for record in records) == 3


def test_long_connection_counts_in_each_interval_in_which_it_is_active(run: Run) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"first")
    for size in (3, 0, 5):  # in the second minute from here, nothing
        traffic.wait(60)
        if size:
            conn.server(bytes(size))
    conn.close()
    records = run(traffic)
    assert [(record["start"] - MINUTE, record["up_bytes"], record["down_bytes"]) for record in records] == [
        (0, 5, 0),
        (60, 0, 3),
        (180, 0, 5),
    ]
    assert [record["connections"] for record in records] == [1, 1, 1]


def test_intervals_add_up_to_the_whole_run(run: Run) -> None:
    figures = ("up_packets", "up_bytes", "down_packets", "down_bytes")
    capture = DATA / "keepalive.pcap"
    (whole,) = run(capture, interval=0)
    assert "start" not in whole
    parts = run(capture, interval=0.5)
    assert len(parts) > 2
    assert [sum(part[name] for part in parts) for name in figures] == [whole[name] for name in figures]


def test_record_is_written_when_its_interval_is_over(tmp_path: Path) -> None:
    """Not when the next connection comes to speak of it, which may be long after."""
    path = tmp_path / "usage"
    written: list[int] = []
    app = aiomos.App("look")

    @app.on(aiomos.PKT_IN, filter="port 81", midstream=True)
    def look() -> None:
        written.append(len(path.read_text().splitlines()))

    traffic = Traffic()
    talk(traffic)
    traffic.tick(120)
    traffic.pause()
    traffic.connection().ends["server"] = ("10.0.0.2", 81)
    conn = traffic.connection(2000, opened=False)
    conn.ends["server"] = ("10.0.0.2", 81)
    conn.open()
    configure(path)
    aiomos.run(account.app, app, pcap=[traffic.write(tmp_path / "trace.pcapng")])
    assert written[0] == 1


def test_a_connection_that_says_nothing_since_the_app_was_attached_is_on_no_account(tmp_path: Path) -> None:
    runtimes: list[Runtime] = []
    first: App[None] = App("first")

    @first.monitor("client port 1", level=Level.STATE)
    async def attach(_: MonitorConnection) -> None:
        await runtimes[0].attach(account.app)

    silent, busy = Conversation("10.0.0.1:1").handshake(), Conversation("10.0.0.3:2", start=START).handshake()
    for _ in range(100):
        busy.client("PA", b"question").server("A")
    configure(tmp_path / "usage")
    source = source_of(silent.frames + busy.frames, batch=1)
    in_loop(
        serve(first, source=source, settings=Settings(on_error="raise"), started=runtimes.append), "asyncio"
    )
    (record,) = map(json.loads, (tmp_path / "usage").read_text().splitlines())
    assert record["subscriber"] == "10.0.0.3"


def test_csv_has_the_same_values(write: Callable[..., str], run: Run) -> None:
    capture = DATA / "http.pcap"
    rows = list(csv.DictReader(io.StringIO(write(capture, format="csv"))))
    records = run(capture)
    assert rows == [{name: str(value) for name, value in record.items()} for record in records]


def test_counters_for_prometheus(tmp_path: Path) -> None:
    traffic = Traffic()
    talk(traffic)
    talk(traffic, 1001)
    traffic.tick(120)
    traffic.pause()
    seen: dict[str, float | None] = {}
    app = aiomos.App("scrape")
    parties = {"subscriber": "10.0.0.1", "server": "10.0.0.2"}

    @app.shutdown
    def scrape() -> None:
        for way in ("up", "down"):
            seen[way] = REGISTRY.get_sample_value("aiomos_account_bytes_total", {**parties, "direction": way})
        seen["connections"] = REGISTRY.get_sample_value("aiomos_account_connections_total", parties)

    configure(tmp_path / "unused", format="prometheus")
    aiomos.run(account.app, app, pcap=[traffic.write(tmp_path / "trace.pcapng")])
    assert seen == {"up": 32, "down": 20, "connections": 2}
    assert REGISTRY.get_sample_value("aiomos_account_connections_total", parties) is None
    assert not (tmp_path / "unused").exists()


def test_counters_need_an_interval(tmp_path: Path) -> None:
    configure(tmp_path / "unused", format="prometheus", interval=0)
    with pytest.raises(OptionError, match="interval"):
        aiomos.run(account.app, pcap=[DATA / "http.pcap"])


@pytest.mark.parametrize("option", ["prefix=33", "prefix6=129", "interval=-1", "count=some", "format=xml"])
def test_options_out_of_range(option: str) -> None:
    with pytest.raises(OptionError, match=option.partition("=")[0]):
        account.app.configure([option])


# --- bounds -------------------------------------------------------------------------------------------


def scan(hosts: int) -> Traffic:
    """Connections of so many clients."""
    traffic = Traffic()
    for number in range(hosts):
        talk(traffic, 1000 + number, client=f"10.0.0.{number + 1}")
    return traffic


def test_accounts_beyond_the_limit_are_one(run: Run) -> None:
    with capture_logs() as log:
        records = run(scan(6), limit=4, interval=0)
    assert [(record["subscriber"], record["connections"]) for record in records] == [
        *((f"10.0.0.{number}", 1) for number in range(1, 5)),
        ("others", 2),
    ]
    assert len({record["up_bytes"] / record["connections"] for record in records}) == 1
    (told,) = log
    assert (told["event"], told["accounts"], told["put_together"]) == ("limit_reached", 4, 2)


def test_counters_beyond_the_limit_are_one(tmp_path: Path) -> None:
    counted: list[tuple[float | None, float | None]] = []
    configure(tmp_path / "unused", format="prometheus", interval=1, limit=4)
    watch: aiomos.App[None] = aiomos.App("watch")

    @watch.shutdown
    def look() -> None:
        for subscriber in ("10.0.0.4", "10.0.0.5", "others"):
            server = "others" if subscriber == "others" else "10.0.0.2"
            labels = {"subscriber": subscriber, "server": server}
            counted.append(
                (
                    REGISTRY.get_sample_value("aiomos_account_connections_total", labels),
                    REGISTRY.get_sample_value("aiomos_account_bytes_total", {**labels, "direction": "up"}),
                )
            )

    path = scan(6).write(tmp_path / "trace.pcapng")
    aiomos.run(account.app, watch, pcap=[path], settings=Settings(on_error="raise"))
    assert [connections for connections, _ in counted] == [1, None, 2]
