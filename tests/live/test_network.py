"""The network that the other tests stand on carries what they send."""

from pathlib import Path

import pytest

from tests.live.conftest import Ends, Line
from tests.live.programs import (
    Capture,
    curl,
    echo,
    echo_datagrams,
    exchange,
    iperf3,
    ping,
    retransmissions,
    serve,
    start_iperf3,
    start_nginx,
)


def test_curl_fetches_from_nginx(pair: Ends, tmp_path: Path) -> None:
    body = bytes(range(256)) * 1000
    start_nginx(pair.server, tmp_path / "nginx", {"body": body})
    assert curl(pair.client, f"http://{pair.server.address}/body") == body
    assert curl(pair.client, f"http://[{pair.server.address6}]/body") == body


def test_kernel_bridge_carries_iperf3_and_tcpdump_sees_it(watched: Line, tmp_path: Path) -> None:
    start_iperf3(watched.server)
    capture = Capture(watched.middle, "eth0", tmp_path / "all.pcap", "--snapshot-length=96")
    assert (
        iperf3(watched.client, watched.server.address, "--bytes", "100K")["end"]["sum_sent"]["bytes"]
        >= 100_000
    )
    said = capture.finish(watched.client, watched.server.address)
    assert "0 packets dropped by kernel" in said


def test_echo_by_tcp_and_udp(pair: Ends) -> None:
    serve(pair.server, 7, echo)
    echo_datagrams(pair.server, 7)
    assert exchange(pair.client.connect(pair.server.address, 7), b"x" * 100_000) == b"x" * 100_000
    sock = pair.client.open_socket(kind=2)
    sock.sendto(b"hello", (pair.server.address, 7))
    assert sock.recv(100) == b"hello"


@pytest.mark.parametrize("size", [0, 1000, 9000])
def test_ping(pair: Ends, size: int) -> None:
    ping(pair.client, pair.server.address, bytes(size))
    ping(pair.client, pair.server.address6, bytes(size))


def test_nobody_carries_frames_in_line_by_himself(in_line: Line) -> None:
    with pytest.raises(OSError, match=r"timed out|No route"):
        in_line.client.connect(in_line.server.address, 7, timeout=0.05)


def test_lossy_wires_lose_frames_and_tcp_sends_them_again(lossy: Line) -> None:
    """Here the kernel's bridge is in the middle, so that what the wires do is known to be no other's doing."""
    lossy.middle.add_bridge("eth0", "eth1")
    serve(lossy.server, 7, echo)
    sent = bytes(range(256)) * 1000
    assert exchange(lossy.client.connect(lossy.server.address, 7), sent) == sent
    assert retransmissions(lossy.client) + retransmissions(lossy.server) > 0
