"""Several workers in line: what is about a flow without its ports comes to the worker that has the flow."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.conftest import Line, address
from tests.live.network import Host, Network
from tests.live.programs import Aiomos, echo, exchange, ping, serve
from tests.live.test_live_workers import wait_for_workers

DESTINATIONS = 8
"""More than would all fall to one worker by chance."""

LINK_MTU = 1300
RULES = """
[zone.inside]
interface = "eth0"
[zone.outside]
interface = "eth1"
[[default]]
from = "inside"
to = "outside"
action = "accept"
"""


def start(middle: Host, directory: Path) -> Aiomos:
    """Start a firewall of two workers that lets connections out, and none in."""
    rules = directory / "firewall.toml"
    rules.write_text(RULES)
    aiomos = Aiomos(
        middle,
        directory / "run",
        "firewall",
        *("--bridge", "eth0", "eth1", "--workers", "2"),
        "--set",
        f"rules={rules}",
    )
    wait_for_workers(aiomos, 2)
    return aiomos


class Routed(NamedTuple):
    """Hosts on their way to each other: the middle has `eth0` to the client, `eth1` to the router."""

    client: Host
    middle: Host
    router: Host
    server: Host


@pytest.fixture
def routed(network: Network) -> Routed:
    """A client, a host in line, and behind that a router to a server: `eth1` of the router is the server's link."""
    client, middle = network.host("client"), network.host("middle")
    router, server = network.host("router"), network.host("server")
    middle.sysctl("ipv6.conf.default.disable_ipv6", 1)
    network.join(client, "eth0", middle, "eth0")
    network.join(middle, "eth1", router, "eth0")
    network.join(router, "eth1", server, "eth0")
    address(client, router)
    router.sysctl("ipv4.ip_forward", 1)
    router.sysctl("ipv6.conf.all.forwarding", 1)
    for host, number in ((router, 1), (server, 2)):
        interface = "eth1" if host is router else "eth0"
        host.add_address(interface, f"198.51.100.{number}/24")
        host.add_address(interface, f"2001:db8:1::{number}/64")
    for number in range(DESTINATIONS):
        server.add_address("eth0", f"198.51.100.{100 + number}/24")
        server.add_address("eth0", f"2001:db8:1::{100 + number}/64")
    for number, (host, interface) in enumerate(
        ((client, "eth0"), (router, "eth0"), (router, "eth1"), (server, "eth0")), start=1
    ):
        host.add_address(interface, f"fe80::{number}/64")  # from which a kernel looks for who is next
    # The server knows what the link takes, but does not say so to the client.
    server.add_route("default", "198.51.100.1", mtu=LINK_MTU, advmss=1460)
    server.add_route("2001:db8::/64", "2001:db8:1::1", mtu=LINK_MTU, advmss=1440)
    client.add_route("default", "192.0.2.2")
    client.add_route("2001:db8:1::/64", "2001:db8::2")
    return Routed(client, middle, router, server)


@pytest.mark.parametrize("ipv6", [False, True])
def test_path_mtu_discovery_succeeds(routed: Routed, tmp_path: Path, ipv6: bool) -> None:
    """A link behind the firewall takes shorter packets only; its router tells each of the client's connections."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    serve(routed.server, 7, echo, family=family)
    routed.router.set_link("eth1", mtu=LINK_MTU)
    aiomos = start(routed.middle, tmp_path)
    prefix = "2001:db8:1::" if ipv6 else "198.51.100."
    data = os.urandom(50_000)
    told = routed.client.raw("eth0")
    told.setblocking(False)
    for number in range(DESTINATIONS):
        connection = routed.client.connect(f"{prefix}{100 + number}", 7)
        connection.settimeout(30)
        assert exchange(connection, data) == data
        assert errors(told, ipv6=ipv6) > 0
    assert aiomos.stop().status == 0


def errors(told: socket.socket, *, ipv6: bool) -> int:
    """Count the ICMP errors that say that a packet is too big, of the frames that have come."""
    count = 0
    while True:
        try:
            frame = told.recv(1 << 16)
        except BlockingIOError:
            return count
        count += frame[20] == 58 and frame[54] == 2 if ipv6 else frame[23] == 1 and frame[34:36] == b"\3\4"


@pytest.mark.parametrize("ipv6", [False, True])
def test_answers_in_fragments_come_through(in_line: Line, tmp_path: Path, ipv6: bool) -> None:
    """The question is not cut, so it came to the worker by its ports; the answer is, and its fragments have none."""
    client, server = in_line.client, in_line.server
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    listener = server.open_socket(family, socket.SOCK_DGRAM)
    listener.bind(("", 53))
    there = (server.address6 if ipv6 else server.address, 53)
    aiomos = start(in_line.middle, tmp_path)
    for number in range(16):
        answer = os.urandom(4000 + number)
        asking = client.open_socket(family, socket.SOCK_DGRAM)
        asking.settimeout(5)
        asking.sendto(b"question", there)
        _, peer = listener.recvfrom(100)
        listener.sendto(answer, peer)
        assert asking.recv(1 << 16) == answer
        asking.settimeout(0.05)
        with pytest.raises(TimeoutError):  # it comes once
            asking.recv(1 << 16)
    ping(client, there[0], bytes(5000))
    ended = aiomos.stop()
    assert ended.status == 0


def test_segments_in_fragments_come_to_their_connection(routed: Routed, tmp_path: Path) -> None:
    """A server that sets no DF, behind a router whose link to the bridge is short."""
    routed.server.sysctl("ipv4.ip_no_pmtu_disc", 1)
    routed.router.set_link("eth0", mtu=600)
    serve(routed.server, 7, send_much)
    aiomos = start(routed.middle, tmp_path)
    for number in range(DESTINATIONS):
        connection = routed.client.connect(f"198.51.100.{100 + number}", 7)
        connection.settimeout(30)
        assert exchange(connection, b"") == MUCH
    assert routed.client.counters("eth0")["rx_packets"] > DESTINATIONS * len(MUCH) / 576  # they came cut
    assert aiomos.stop().status == 0


MUCH = bytes(range(256)) * 200


def send_much(connection: socket.socket) -> None:
    """Send a lot, then close."""
    with connection:
        connection.sendall(MUCH)
