"""The NAT between real kernels: hosts on a switch, the translator, a router, and a server behind it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiomos.apps import firewall, nat
from aiomos.testing.packets import ethernet, ipv4, tcp_frame
from tests.live.middlebox import Middlebox
from tests.live.network import Host, Network
from tests.live.programs import (
    Aiomos,
    curl,
    echo,
    echo_datagrams,
    exchange,
    ping,
    serve,
    start_nginx,
    until,
)

EXTERNAL, STATIC = "192.0.2.10", "192.0.2.25"
FIRST, SECOND, GATEWAY = "10.0.0.11", "10.0.0.12", "10.0.0.1"
ROUTER, SERVER = "192.0.2.1", "198.51.100.2"
QUIET_SECONDS = 0.2

LEAST = f"""
outside = "eth1"
inside = "10.0.0.0/24"
external = "{EXTERNAL}"
"""
FORWARD = f"""
[[forward]]
proto = ["tcp", "udp"]
port = 80
to = "{FIRST}"
to_port = 8080
"""
OWN_GATEWAY = f"""
gateway = "{GATEWAY}"
router = "{ROUTER}"
"""

Start = Callable[..., Middlebox]


class Site(NamedTuple):
    """Two hosts inside, what stands in line, a router and a server in the world."""

    first: Host
    second: Host
    middle: Host
    router: Host
    server: Host


@pytest.fixture(params=["in front of the router", "in place of the router"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(network: Network, mode: str) -> Site:
    names = ("first", "second", "switch", "middle", "router", "server")
    first, second, switch, middle, router, server = (network.host(name) for name in names)
    for host in (switch, middle):
        host.sysctl("ipv6.conf.default.disable_ipv6", 1)
    network.join(first, "eth0", switch, "eth0")
    network.join(second, "eth0", switch, "eth1")
    network.join(switch, "eth2", middle, "eth0")
    network.join(middle, "eth1", router, "eth0")
    network.join(router, "eth1", server, "eth0")
    switch.add_bridge("eth0", "eth1", "eth2")
    router.sysctl("ipv4.ip_forward", 1)
    router.add_address("eth0", f"{ROUTER}/24")
    router.add_address("eth1", "198.51.100.1/24")
    server.add_address("eth0", f"{SERVER}/24")
    server.add_route("default", "198.51.100.1")
    if mode == "in front of the router":
        router.add_address("eth0", f"{GATEWAY}/24")
    for host, address in ((first, FIRST), (second, SECOND)):
        host.add_address("eth0", f"{address}/24")
        host.add_route("default", GATEWAY)
    return Site(first, second, middle, router, server)


@pytest.fixture
def configuration(tmp_path: Path, mode: str) -> Callable[[str], Path]:
    """Write a configuration: keys first, then tables."""

    def configure(tables: str = "", keys: str = "") -> Path:
        path = tmp_path / "nat.toml"
        path.write_text(LEAST + (OWN_GATEWAY if mode == "in place of the router" else "") + keys + tables)
        return path

    return configure


@pytest.fixture
def start(site: Site, mode: str, configuration: Callable[..., Path]) -> Start:
    """Start the translator with a configuration."""

    def start(tables: str = "", keys: str = "", **options: Any) -> Middlebox:
        nat.app.options = nat.Options(config=configuration(tables, keys))
        box = Middlebox(site.middle, nat.app, **options)
        if (
            mode == "in place of the router"
        ):  # it has asked for the router: packets that come before the answer are lost
            until("the router has answered", lambda: box.call(lambda _: knows_router()))
        return box

    return start


def tell_peer(connection: socket.socket) -> None:
    """Say who is seen at the other end, and close."""
    with connection:
        address, port = connection.getpeername()
        connection.sendall(f"{address} {port}".encode())


def peer_seen(connection: socket.socket) -> tuple[str, int]:
    address, port = exchange(connection, b"").decode().split()
    return address, int(port)


def datagram(host: Host, address: str = "", port: int = 0) -> socket.socket:
    sock = host.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def knows_router() -> bool:
    return nat._running[-1][0].neighbours.find(ROUTER, "eth1", own=EXTERNAL) is not None


def mappings(box: Middlebox) -> int:
    return box.call(lambda _: len(nat._running[-1][0].mappings))


def connect_from(host: Host, address: str, port: int, own_port: int) -> socket.socket:
    sock = host.open_socket()
    sock.bind(("", own_port))
    sock.connect((address, port))
    return sock


# --- out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offloads", [True, False])
def test_bytes_go_there_and_back(site: Site, start: Start, offloads: bool) -> None:
    for host in (site.first, site.server):
        host.set_offloads("eth0", on=offloads)
    box = start()
    serve(site.server, 7, echo)
    data = os.urandom(3_000_000)
    assert exchange(site.first.connect(SERVER, 7), data) == data
    box.stop()


def test_hosts_share_the_external_address(site: Site, start: Start) -> None:
    """A port that is free is kept; of two hosts with the same, one gets another."""
    start()
    serve(site.server, 7, tell_peer)
    first = peer_seen(connect_from(site.first, SERVER, 7, 5000))
    second = peer_seen(connect_from(site.second, SERVER, 7, 5000))
    assert first == (EXTERNAL, 5000)
    assert second[0] == EXTERNAL
    assert second[1] != 5000
    assert second[1] % 2 == 0


def test_endpoint_has_the_same_port_for_all(site: Site, start: Start) -> None:
    start()
    client = datagram(site.first, port=5000)
    servers = [datagram(site.server, port=port) for port in (53, 54)]
    other = datagram(site.second, port=5000)
    other.sendto(b"mine", (SERVER, 53))
    servers[0].recv(100)
    seen = []
    for server, port in zip(servers, (53, 54), strict=True):
        client.sendto(b"question", (SERVER, port))
        question, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert (question, client.recvfrom(100)) == (b"question", (b"answer", (SERVER, port)))
        seen.append(peer)
    assert seen[0] == seen[1]
    assert seen[0][0] == EXTERNAL


def test_pings(site: Site, start: Start) -> None:
    """Two hosts with the same identifier among them."""
    box = start()
    for host in (site.first, site.second):
        ping(host, SERVER)
        ping(host, ROUTER)
    assert mappings(box) == 2


def test_errors_find_the_host(site: Site, start: Start) -> None:
    """With the packet they quote turned back, too: the host's kernel knows whose it is."""
    start()
    client = datagram(site.first)
    client.connect((SERVER, 9))
    client.send(b"nobody listens")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_fragments_are_translated(site: Site, start: Start) -> None:
    start()
    echo_datagrams(site.server, 7)
    client = datagram(site.first)
    data = os.urandom(20_000)
    client.sendto(data, (SERVER, 7))
    assert client.recv(1 << 16) == data


def test_many_connections_at_once(site: Site, start: Start) -> None:
    box = start()
    serve(site.server, 7, echo)
    connections = [host.connect(SERVER, 7) for _ in range(100) for host in (site.first, site.second)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%d" % number)
    assert [int(connection.recv(100)) for connection in connections] == list(range(200))
    assert mappings(box) == 200


def test_exhausted_ports_are_told(site: Site, start: Start) -> None:
    start(keys='ports = "5000-5001"\n')
    echo_datagrams(site.server, 7)
    clients = [datagram(site.first) for _ in range(3)]
    for client in clients:
        client.connect((SERVER, 7))
        client.send(b"hello")
    # A datagram of the host's own may have taken a port before.
    assert sorted(map(outcome, clients)) in (["hello", "hello", "refused"], ["hello", "refused", "refused"])


def outcome(client: socket.socket) -> str:
    """Say what a client has heard."""
    try:
        return client.recv(100).decode()
    except OSError as error:
        return "refused" if error.errno == errno.EHOSTUNREACH else str(error)


def test_mapping_ends_when_nothing_comes(site: Site, start: Start) -> None:
    box = start("[idle]\nudp = 1\n")
    echo_datagrams(site.server, 7)
    client = datagram(site.first, port=5000)
    for _ in range(2):
        client.sendto(b"hello", (SERVER, 7))
        assert client.recv(100) == b"hello"
        assert mappings(box) == 1
        until("the mapping has ended", lambda: mappings(box) == 0)


def test_connection_older_than_the_translator_is_reset(site: Site, start: Start) -> None:
    serve(site.server, 7, echo)
    box = start()
    connection = site.first.connect(SERVER, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    box.stop()
    start()
    connection.sendall(b"anybody there?")
    with pytest.raises(ConnectionResetError):
        connection.recv(100)


# --- in -----------------------------------------------------------------------------------------------


def test_forwarded_port_leads_inside(site: Site, start: Start) -> None:
    start(FORWARD)
    serve(site.first, 8080, tell_peer)
    port = (connection := site.server.connect(EXTERNAL, 80)).getsockname()[1]
    assert peer_seen(connection) == (SERVER, port)
    echo_datagrams(site.first, 8080)
    client = datagram(site.server)
    client.sendto(b"hello", (EXTERNAL, 80))
    assert client.recvfrom(100) == (b"hello", (EXTERNAL, 80))


def test_nothing_else_gets_in(site: Site, start: Start) -> None:
    start(FORWARD)
    for port in (81, 8080):
        serve(site.first, port, echo)
        with pytest.raises(TimeoutError):
            site.server.connect(EXTERNAL, port, timeout=QUIET_SECONDS)


def test_packets_to_inside_addresses_are_refused(site: Site, start: Start) -> None:
    """Whoever is next to the router could send them."""
    box = start()
    frame = tcp_frame(ROUTER, FIRST, 5000, 80)
    listener = site.first.raw("eth0")
    site.router.raw("eth0").send(frame)
    until("it is refused", lambda: box.call(lambda _: nat._running[-1][0].refused["unsolicited"]))
    listener.setblocking(False)
    seen = []
    while True:
        try:
            seen.append(listener.recv(1 << 16))
        except BlockingIOError:
            break
    assert frame not in seen


@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [("endpoint-independent", True), ("address-dependent", True), ("address-and-port-dependent", False)],
)
def test_known_address_from_another_port(site: Site, start: Start, filtering: str, let_in: bool) -> None:
    start(keys=f'filtering = "{filtering}"\n')
    client, server, other = (
        datagram(site.first),
        datagram(site.server, port=53),
        datagram(site.server, port=54),
    )
    client.sendto(b"hello", (SERVER, 53))
    _, peer = server.recvfrom(100)
    other.sendto(b"from another port", peer)
    server.sendto(b"from the same", peer)
    expected = [b"from another port", b"from the same"] if let_in else [b"from the same"]
    assert [client.recv(100) for _ in expected] == expected


def test_host_with_an_address_to_itself(site: Site, start: Start) -> None:
    start(f'[[static]]\ninside = "{FIRST}"\nexternal = "{STATIC}"\n')
    serve(site.server, 7, tell_peer)
    assert peer_seen(connect_from(site.first, SERVER, 7, 5000)) == (STATIC, 5000)
    assert peer_seen(connect_from(site.second, SERVER, 7, 5000)) == (EXTERNAL, 5000)
    serve(site.first, 22, echo)
    assert exchange(site.server.connect(STATIC, 22), b"hello") == b"hello"
    ping(site.server, STATIC)


# --- inside -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [False, True])
def test_hairpin(site: Site, start: Start, own: bool) -> None:
    """RFC 4787 REQ-9: the server inside sees the external address of the client inside, even if that is itself."""
    start(FORWARD)
    serve(site.first, 8080, tell_peer)
    client = site.first if own else site.second
    address, _ = peer_seen(client.connect(EXTERNAL, 80))
    assert address == EXTERNAL
    echo_datagrams(site.first, 8080)
    with datagram(client) as sock:
        sock.sendto(b"hello", (EXTERNAL, 80))
        assert sock.recvfrom(100) == (b"hello", (EXTERNAL, 80))


def test_hairpin_errors_find_the_host(site: Site, start: Start) -> None:
    """RFC 5508 REQ-7."""
    start(FORWARD)
    with datagram(site.second) as sock:
        sock.connect((EXTERNAL, 80))
        sock.send(b"nobody listens")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


@pytest.mark.parametrize("mode", ["in front of the router"], indirect=True)
def test_link_stays_one_link(site: Site, start: Start) -> None:
    """Hosts reach the router's inside address as themselves, and broadcast gets through."""
    box = start()
    serve(site.router, 7, tell_peer)
    port = (connection := site.first.connect(GATEWAY, 7)).getsockname()[1]
    assert peer_seen(connection) == (FIRST, port)
    assert mappings(box) == 0
    listener = site.router.raw("eth0")
    frame = ethernet(ipv4(b"x" * 40, src="0.0.0.0", dst="255.255.255.255", proto=17), dst="ff:ff:ff:ff:ff:ff")
    site.first.raw("eth0").send(frame)
    until("it comes", lambda: listener.recv(1 << 16) == frame)


# --- together -----------------------------------------------------------------------------------------


def test_behind_a_firewall_in_one_process(
    site: Site, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    """The firewall sees the addresses as they come in, whichever of the two is named first."""
    rules = tmp_path / "firewall.toml"
    rules.write_text(
        '[zone.inside]\ninterface = "eth0"\n[[rule]]\nsrc = "10.0.0.11"\nfrom = "inside"\naction = "accept"\n'
    )
    echo_datagrams(site.server, 7)
    serve(site.server, 7, tell_peer)
    for order in ((firewall.app, nat.app), (nat.app, firewall.app)):
        firewall.app.options = firewall.Options(rules=rules, watch=0)
        nat.app.options = nat.Options(config=configuration())
        box = Middlebox(site.middle, *order)
        assert peer_seen(site.first.connect(SERVER, 7))[0] == EXTERNAL
        with datagram(site.first) as sock:
            sock.sendto(b"hello", (SERVER, 7))
            assert sock.recv(100) == b"hello"
        ping(site.first, SERVER)
        with pytest.raises(TimeoutError):
            site.second.connect(SERVER, 7, timeout=QUIET_SECONDS)
        box.stop()


def test_on_the_command_line(site: Site, configuration: Callable[..., Path], tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    start_nginx(site.server, tmp_path / "nginx", {"file": content})
    box = Aiomos(
        *(site.middle, tmp_path / "run", "nat", "--bridge", "eth0", "eth1"),
        *("--set", f"config={configuration(FORWARD)}"),
    )
    assert curl(site.first, f"http://{SERVER}/file") == content
    ended = box.stop()
    assert ended.status == 0
    (line,) = [record for record in ended.log if record.get("component") == "aiomos.nat"]
    assert line["refused"].keys() <= {"unresolved", "not_routed"}  # the hosts' own multicast
