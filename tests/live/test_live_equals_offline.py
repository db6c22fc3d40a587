"""Traffic watched as it passes gives what its capture gives afterwards."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Line
from tests.live.programs import (
    MARK_PORT,
    Aiomos,
    Capture,
    curl,
    echo,
    exchange,
    iperf3,
    offline,
    serve,
    start_iperf3,
    start_nginx,
    talk_in_vlan,
)

SMALL, LARGE = b"small\n", bytes(range(256)) * 20_000
TIMES = {"start", "end", "client_rtt", "server_rtt"}
CLOCK_SECONDS = 0.05
"""Each packet socket looks at the clock when it gets a frame: a microsecond apart, but for a machine under load."""

LATE = ("_out_of_order", "_retransmits")
OVERTAKEN = 2
"""Segments of few flows sent by two processors at once may come to two packet sockets in different order."""

ROOMY = ("--setting", f"budgets.stream_bytes={1 << 28}")
"""Handlers of a test may be slower than the wire for a while."""


def talk(line: Line, directory: Path) -> None:
    """Open connections of all kinds, one after the other and at once, until all are over."""
    client, server = line.client, line.server
    start_nginx(server, directory, {"small": SMALL, "large": LARGE})
    serve(server, 7, echo)
    start_iperf3(server)
    for address in (server.address, f"[{server.address6}]"):
        assert curl(client, f"http://{address}/small") == SMALL
        assert curl(client, f"http://{address}/large") == LARGE
    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(lambda _: curl(client, f"http://{server.address}/small"), range(24)))
            == [SMALL] * 24
        )
    assert exchange(client.connect(server.address, 7), LARGE) == LARGE
    with pytest.raises(ConnectionRefusedError):
        client.connect(server.address, 81)
    iperf3(client, server.address, "--time", "1", "--bitrate", "100M")
    iperf3(client, server.address6, "--bytes", "1M", "--reverse")
    talk_in_vlan(client, server, vid=42)


def differences(live: list[dict[str, Any]], offline: list[dict[str, Any]]) -> list[str]:
    """Compare records flow by flow, in whatever order they ended: live, a timer may have fired between two."""
    found = [f"{len(live)} flows live, {len(offline)} offline"] if len(live) != len(offline) else []
    overtaken = 0
    for ours, theirs in zip(in_order(live), in_order(offline), strict=False):
        flow = "{client}.{client_port} > {server}.{server_port}".format_map(theirs)
        overtaken += any(ours[name] != theirs[name] for name in ours if name.endswith(LATE))
        found += [
            f"{flow} {name}: {ours[name]}, {theirs[name]}" for name in ours if not same(name, ours, theirs)
        ]
    return found if overtaken <= OVERTAKEN else [f"{overtaken} flows count late segments otherwise", *found]


def same(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if name.endswith(LATE):
        return bool(abs(ours[name] - theirs[name]) <= OVERTAKEN)
    if name in TIMES and None not in (ours[name], theirs[name]):
        return bool(abs(ours[name] - theirs[name]) < CLOCK_SECONDS)
    return bool(ours[name] == theirs[name])


def in_order(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: (record["client"], record["client_port"], record["start"]))


def read_streams(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_flows_and_bytes_are_those_of_the_capture(watched: Line, tmp_path: Path, loop: str) -> None:
    live, replayed = tmp_path / "live", tmp_path / "replayed"
    # What follows "vlan" in a filter of tcpdump is looked for behind a tag.
    capture = Capture(watched.middle, "eth0", tmp_path / "all.pcap", f"tcp or port {MARK_PORT} or vlan")
    aiomos = Aiomos(
        watched.middle,
        tmp_path,
        *("flowlog", "dump", "--iface", "eth0", "--loop", loop, *ROOMY, "--set", f"directory={live}"),
    )
    talk(watched, tmp_path / "nginx")
    said = capture.finish(watched.client, watched.server.address)
    assert "0 packets dropped by kernel" in said
    ended = aiomos.stop()
    assert ended.status == 0
    records = offline("flowlog", "dump", "--pcap", capture.path, *ROOMY, "--set", f"directory={replayed}")
    assert len(records) >= 30  # of some 35 that were opened
    assert differences(ended.records, records) == []
    assert read_streams(live) == read_streams(replayed)
    assert [record for record in ended.log if record.get("level") in ("warning", "error")] == []


def test_vlan_of_a_flow_is_known(watched: Line, tmp_path: Path) -> None:
    aiomos = Aiomos(watched.middle, tmp_path, "flowlog", "--iface", "eth0")
    talk_in_vlan(watched.client, watched.server, vid=42)
    (record,) = aiomos.stop().records
    assert (record["vlan"], record["reason"], record["client_bytes"], record["server_bytes"]) == (
        42,
        "fin",
        8,
        6,
    )


@pytest.mark.parametrize("arguments", [("--iface", "eth0,eth1"), ("--bridge", "eth0", "eth1")])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_idle_wire_costs_no_processor_time(
    in_line: Line, tmp_path: Path, arguments: tuple[str, ...], loop: str
) -> None:
    """Though a connection is open, whose time-outs run."""
    if arguments[0] == "--iface":
        in_line.middle.add_bridge("eth0", "eth1")
    serve(in_line.server, 7, echo)
    aiomos = Aiomos(in_line.middle, tmp_path, "flowlog", *arguments, "--loop", loop)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.sendall(b"hello")
    assert connection.recv(5) == b"hello"
    before = aiomos.processor_seconds()
    time.sleep(1)  # an idle second is what is measured
    assert aiomos.processor_seconds() - before <= 0.02


def test_two_interfaces_are_watched_at_once(watched: Line, tmp_path: Path) -> None:
    """A connection that passes both is seen twice: its second frames are copies, and no other flow's."""
    serve(watched.server, 7, echo)
    aiomos = Aiomos(watched.middle, tmp_path, "flowlog", "--iface", "eth0,eth1")
    assert exchange(watched.client.connect(watched.server.address, 7), b"x" * 1000) == b"x" * 1000
    (record,) = aiomos.stop().records
    assert (record["client_stream_bytes"], record["server_stream_bytes"], record["reason"]) == (
        1000,
        1000,
        "fin",
    )
    assert record["client_copies"] > 0
    assert record["client_retransmits"] == 0


def test_missing_interface_is_told_with_those_there(watched: Line, tmp_path: Path) -> None:
    aiomos = Aiomos(watched.middle, tmp_path, "flowlog", "--iface", "eth7", ready=False)
    aiomos.process.wait(30)
    said = (tmp_path / "stderr").read_text()
    assert aiomos.process.returncode != 0
    assert "eth7" in said
    assert "eth1" in said
    assert "Traceback" not in said
