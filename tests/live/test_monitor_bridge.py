"""Two hosts joined by a bridge that watches: nothing that passes is changed, lost, repeated or held up for good."""

import hashlib
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aiomos.testing.packets import ethernet
from tests.live.conftest import Line
from tests.live.network import Host
from tests.live.programs import (
    Aiomos,
    ctl,
    curl,
    echo,
    echo_datagrams,
    exchange,
    iperf3,
    ping,
    serve,
    start_iperf3,
    start_nginx,
    talk_in_vlan,
    until,
)

PIECE = hashlib.sha512(b"aiomos").digest() * 1021
SIZES = {"empty": 0, "byte": 1, "small": 1_000, "medium": 1_000_000}


def content(size: int) -> bytes:
    """Return bytes in which no frame is like the one before."""
    return (PIECE * (size // len(PIECE) + 1))[:size]


def digest(connection: socket.socket) -> None:
    """Answer what comes by its length and hash."""
    received, length = hashlib.sha256(), 0
    with connection:
        while data := connection.recv(1 << 16):
            received.update(data)
            length += len(data)
        connection.sendall(f"{length} {received.hexdigest()}".encode())


@pytest.fixture
def bridge(in_line: Line, tmp_path: Path) -> Aiomos:
    """The bridge, as the command line makes it."""
    control = tmp_path / "control"
    return Aiomos(in_line.middle, tmp_path, "flowlog", "--bridge", "eth0", "eth1", "--control", control)


def total(bridge: Aiomos, field: str) -> int:
    """End the bridge, and sum a field of its records."""
    ended = bridge.stop()
    assert ended.status == 0
    assert [record for record in ended.log if record.get("level") in ("warning", "error")] == []
    return sum(record[field] for record in ended.records)


@pytest.mark.parametrize(
    ("offloads", "mtu", "largest"),
    [(True, 1500, 50_000_000), (False, 1500, 10_000_000), (False, 9000, 20_000_000)],
)
def test_files_come_through_whole(
    in_line: Line, tmp_path: Path, offloads: bool, mtu: int, largest: int
) -> None:
    for host, interface in each_interface(in_line):
        host.set_offloads(interface, on=offloads)
        host.set_link(interface, mtu=mtu)
    bridge = Aiomos(in_line.middle, tmp_path, "flowlog", "--bridge", "eth0", "eth1")
    files = {name: content(size) for name, size in (SIZES | {"largest": largest}).items()}
    start_nginx(in_line.server, tmp_path / "nginx", files)
    serve(in_line.server, 7, digest)
    for address in (in_line.server.address, f"[{in_line.server.address6}]"):
        for name, file in files.items():
            assert curl(in_line.client, f"http://{address}/{name}") == file, name
    for file in files.values():
        answer = exchange(in_line.client.connect(in_line.server.address, 7), file)
        assert answer.decode() == f"{len(file)} {hashlib.sha256(file).hexdigest()}"
    assert total(bridge, "client_stream_bytes") > sum(map(len, files.values()))


def each_interface(line: Line) -> list[tuple[Host, str]]:
    return [(line.client, "eth0"), (line.middle, "eth0"), (line.middle, "eth1"), (line.server, "eth0")]


def test_many_connections_at_once(in_line: Line, bridge: Aiomos) -> None:
    serve(in_line.server, 7, echo)

    def talk(number: int) -> bool:
        data = content(number * 1009)
        return exchange(in_line.client.connect(in_line.server.address, 7), data) == data

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(talk, range(300)))
    assert total(bridge, "server_stream_bytes") == sum(number * 1009 for number in range(300))


def test_bytes_are_whole_where_frames_are_lost(lossy: Line, tmp_path: Path) -> None:
    """On either side of the bridge: what it sees for the first time may be a retransmission, or come in disorder."""
    streams = tmp_path / "streams"
    bridge = Aiomos(
        lossy.middle, tmp_path, "flowlog", "dump", "--bridge", "eth0", "eth1", "--set", f"directory={streams}"
    )
    serve(lossy.server, 7, echo)
    sent = {}
    for size in (1_000, 100_000, 300_000):
        connection = lossy.client.connect(lossy.server.address, 7)
        sent[connection.getsockname()[1]] = content(size)
        assert exchange(connection, content(size)) == content(size)
    records = bridge.stop().records
    assert {record["client_port"]: record["client_stream_bytes"] for record in records} == {
        port: len(data) for port, data in sent.items()
    }
    assert sum(record[f"{side}_retransmits"] for record in records for side in ("client", "server")) > 0
    for port, data in sent.items():
        (client,) = streams.glob(f"{lossy.client.address}.{port}-*.client")
        assert client.read_bytes() == client.with_suffix(".server").read_bytes() == data


@pytest.mark.usefixtures("bridge")
def test_iperf3_runs_both_ways(in_line: Line) -> None:
    start_iperf3(in_line.server)
    for arguments in (["--parallel", "4"], ["--reverse"]):
        report = iperf3(in_line.client, in_line.server.address, "--time", "1", *arguments)
        assert report["end"]["sum_received"]["bytes"] > 1_000_000


@pytest.mark.usefixtures("bridge")
def test_what_is_not_tcp_passes(in_line: Line) -> None:
    """ARP and neighbour discovery among it: nobody knew a link-layer address before."""
    client, server = in_line.client, in_line.server
    for size in (0, 1000, 5000):  # the last in fragments
        ping(client, server.address, content(size))
        ping(client, server.address6, content(size))
        ping(server, client.address, content(size))
    echo_datagrams(server, 7)
    sock = client.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in (0, 1, 1400, 9000, 60_000):
        sock.sendto(content(size), (server.address, 7))
        assert sock.recv(1 << 16) == content(size)


@pytest.mark.usefixtures("bridge")
def test_broadcast_reaches_the_other_side(in_line: Line) -> None:
    """As a DHCP client asks, which has no address yet."""
    answerer = in_line.server.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    answerer.bind(("", 67))
    asker = in_line.client.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    asker.bind(("", 68))
    asker.sendto(b"discover", ("255.255.255.255", 67))
    assert answerer.recv(1 << 16) == b"discover"


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("ethertype", [0x88CC, 0x8809, 0x9000, 0x05FF])
def test_frames_of_any_kind_pass_as_they_are(in_line: Line, ethertype: int) -> None:
    """LLDP and LACP, which the kernel's bridge keeps to itself; loopback tests; IEEE 802.3 with a length."""
    sender, receiver = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    frame = ethernet(content(46), src="02:00:00:00:00:01", dst="01:80:c2:00:00:0e", ethertype=ethertype)
    sender.send(frame)
    until("the frame comes", lambda: receiver.recv(1 << 16) == frame)


@pytest.mark.usefixtures("bridge")
def test_order_is_kept_and_nothing_comes_twice(in_line: Line) -> None:
    """Frames of all kinds, watched and not, in one row; no more on their way than any queue holds."""
    sender, receiver = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    kinds = (0x9000, 0x0800, 0x86DD, 0x8100, 0x0806)
    burst = 100
    for first in range(0, 3000, burst):
        sent = [numbered_frame(number, kinds[number % len(kinds)]) for number in range(first, first + burst)]
        for frame in sent:
            sender.send(frame)
        received: list[bytes] = []
        while len(received) < burst:
            frame = receiver.recv(1 << 16)
            if b"numbered" in frame:
                received.append(frame[-4:])
        assert received == [frame[-4:] for frame in sent]
    # Each has come once: what comes next is this one.
    last = numbered_frame(2**32 - 1, 0x9000)
    sender.send(last)
    until("the last frame comes", lambda: b"numbered" in (frame := receiver.recv(1 << 16)) and frame == last)


def numbered_frame(number: int, ethertype: int) -> bytes:
    return ethernet(content(60) + b"numbered" + struct.pack("!I", number), ethertype=ethertype)


@pytest.mark.usefixtures("bridge")
def test_tags_stay_on_frames(in_line: Line) -> None:
    talk_in_vlan(in_line.client, in_line.server, vid=42)


def test_tagged_connection_is_followed(in_line: Line, bridge: Aiomos) -> None:
    talk_in_vlan(in_line.client, in_line.server, vid=42)
    (record,) = bridge.stop().records
    assert (record["vlan"], record["client_stream_bytes"], record["server_stream_bytes"]) == (42, 8, 6)


def test_connections_live_on_while_apps_come_and_go(in_line: Line, tmp_path: Path) -> None:
    control = tmp_path / "control"
    bridge = Aiomos(in_line.middle, tmp_path, "--bridge", "eth0", "eth1", "--control", control)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)

    def say(data: bytes) -> None:
        connection.sendall(data)
        answer = b""
        while len(answer) < len(data):
            answer += connection.recv(1 << 16)
        assert answer == data

    say(content(100_000))
    log = tmp_path / "flows.jsonl"
    ctl(control, "attach", "flowlog", "--set", f"path={log}", "--set", "midstream=true")
    say(content(200_000))
    ctl(control, "attach", "dump", "--set", f"directory={tmp_path / 'streams'}", "--set", "midstream=true")
    say(content(300_000))
    ctl(control, "detach", "flowlog")
    say(content(400_000))
    ctl(control, "detach", "dump")
    say(content(500_000))
    connection.close()
    assert bridge.stop().status == 0


def test_connection_lives_on_when_the_bridge_is_started_again(in_line: Line, tmp_path: Path) -> None:
    """TCP only finds that some segments were lost meanwhile."""
    first = Aiomos(in_line.middle, tmp_path / "first", "flowlog", "--bridge", "eth0", "eth1")
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.sendall(b"before")
    assert connection.recv(100) == b"before"
    assert first.stop().status == 0
    connection.sendall(b"meanwhile")
    second = Aiomos(
        in_line.middle, tmp_path / "second", "flowlog", "--bridge", "eth0", "eth1", "--set", "midstream=true"
    )
    assert connection.recv(100) == b"meanwhile"
    connection.close()
    (record,) = second.stop().records
    assert record["midstream"]
