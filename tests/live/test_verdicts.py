"""What apps in line decide, as real kernels on both sides see it."""

import errno
import random
import socket
import struct
from collections.abc import Callable
from itertools import count
from typing import Literal

import pytest

import aiomos
from aiomos import CONN_START, PKT_IN, App, Flow, Hook, Packet, Settings
from aiomos.testing.packets import udp_frame
from tests.live.conftest import Line
from tests.live.middlebox import Middlebox
from tests.live.programs import (
    curl,
    echo,
    echo_datagrams,
    exchange,
    in_background,
    ping,
    read_all,
    retransmissions,
    serve,
    until,
    wait_for_frame,
)

GHOST, GHOST6 = "192.0.2.9", "2001:db8::9"
"""Addresses that nobody has."""

UDP = 17
IP_RECVTTL = 12


@pytest.fixture
def app() -> App:
    return App("judge")


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# --- drop ---------------------------------------------------------------------------------------------


def test_dropped_syn_leaves_the_port_unreachable(in_line: Line, app: App) -> None:
    @app.on(CONN_START, hook=Hook.SENDER, filter="server port 81")
    def refuse(pkt: Packet) -> None:
        pkt.drop()

    box = Middlebox(in_line.middle, app)
    for port in (80, 81):
        serve(in_line.server, port, echo)
    with pytest.raises(TimeoutError):
        in_line.client.connect(in_line.server.address, 81, timeout=0.2)
    assert exchange(in_line.client.connect(in_line.server.address, 80), b"hello") == b"hello"
    box.stop()


def test_dropped_at_raw_of_any_protocol(in_line: Line, app: App) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def odd_datagrams(pkt: Packet) -> None:
        if pkt.proto == UDP and pkt.dport == 7 and int(pkt.payload) % 2:
            pkt.drop()

    Middlebox(in_line.middle, app)
    echo_datagrams(in_line.server, 7)
    sock = in_line.client.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(20):
        sock.sendto(b"%d" % number, (in_line.server.address, 7))
    got = {int(sock.recv(100)) for _ in range(10)}  # the kernel of two processors may turn them round
    assert got == set(range(0, 20, 2))


def test_dropped_segments_are_sent_again(in_line: Line, app: App) -> None:
    """The receiver's side of the flow has not seen them: streams have no bytes twice, nor a gap."""
    seen = count(1)
    data = noise(1_000_000)
    streams: list[bytes] = []

    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 7")
    def now_and_then(pkt: Packet) -> None:
        if pkt.payload_len and next(seen) % 50 == 0:
            pkt.drop()

    @app.monitor("server port 7")
    async def read(conn: aiomos.MonitorConnection) -> None:
        streams.append(await conn.client.read())

    for end in (in_line.client, in_line.server):
        end.set_offloads("eth0", on=False)
    box = Middlebox(in_line.middle, app)
    serve(in_line.server, 7, echo)
    assert exchange(in_line.client.connect(in_line.server.address, 7), data) == data
    box.stop()
    assert streams == [data]


def test_dropped_flow_is_heard_no_more(in_line: Line, app: App) -> None:
    @app.on(PKT_IN, filter="server port 7")
    def hang_up(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"drop me":
            flow.drop()

    Middlebox(in_line.middle, app)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    connection.sendall(b"drop me")
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    assert exchange(in_line.client.connect(in_line.server.address, 7), b"others live on") == b"others live on"


# --- set ----------------------------------------------------------------------------------------------


def test_fields_of_the_ip_header_are_set(in_line: Line, app: App) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def mark(pkt: Packet) -> None:
        if pkt.proto == UDP:
            pkt.set(ttl=7, tos=0xB8)
            assert (pkt.ttl, pkt.tos) == (7, 0xB8)

    Middlebox(in_line.middle, app)
    listener = in_line.server.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", 7))
    for option in (IP_RECVTTL, socket.IP_RECVTOS):
        listener.setsockopt(socket.IPPROTO_IP, option, 1)
    with in_line.client.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (in_line.server.address, 7))
    data, ancillary, _, _ = listener.recvmsg(100, 100)
    assert data == b"hello"
    values = {kind: int.from_bytes(value, "little") for _, kind, value in ancillary}
    assert values == {socket.IP_TTL: 7, socket.IP_TOS: 0xB8}


@pytest.mark.parametrize("offloads", [True, False])
@pytest.mark.parametrize("ipv6", [False, True])
def test_connections_are_led_to_another_host(in_line: Line, app: App, ipv6: bool, offloads: bool) -> None:
    """Addresses, ports and checksums there and back, of super-segments with checksums still to be filled in, too."""
    ghost, there = (GHOST6, in_line.server.address6) if ipv6 else (GHOST, in_line.server.address)
    mac = in_line.server.mac("eth0")

    @app.on(PKT_IN, hook=Hook.RAW)
    def forth(pkt: Packet) -> None:
        if pkt.dst == ghost and pkt.dport == 80:
            pkt.set(dst=there, dport=8080, eth_dst=mac)

    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 8080")
    def back(pkt: Packet, side: str) -> None:
        if side == "server":
            pkt.set(src=ghost, sport=80)

    for host in (in_line.client, in_line.server):
        host.set_offloads("eth0", on=offloads)
    in_line.client.add_neighbour("eth0", ghost, "02:00:00:00:00:99")
    serve(in_line.server, 8080, echo, family=socket.AF_INET6 if ipv6 else socket.AF_INET)
    Middlebox(in_line.middle, app)
    data = noise(3_000_000)
    assert exchange(in_line.client.connect(ghost, 80), data) == data


def test_mss_is_clamped(in_line: Line, app: App) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def clamp(pkt: Packet) -> None:
        if pkt.syn:
            pkt.set(mss=600)

    Middlebox(in_line.middle, app)
    sizes: list[int] = []

    def note_mss(connection: socket.socket) -> None:
        sizes.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        echo(connection)

    serve(in_line.server, 7, note_mss)
    connection = in_line.client.connect(in_line.server.address, 7)
    sizes.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
    assert exchange(connection, noise(100_000)) == noise(100_000)
    assert max(sizes) <= 600


# --- replace ------------------------------------------------------------------------------------------


def replacing(app: App, change: Callable[[bytes], bytes]) -> None:
    """Have all payload of port 80, both ways, replaced by what *change* makes of it, in whatever pieces it comes."""

    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 80")
    def replace(pkt: Packet) -> None:
        if pkt.payload_len:
            changed = change(pkt.payload)
            if changed != pkt.payload:
                pkt.replace(changed)


def grow(data: bytes) -> bytes:
    return data.replace(b"#", b"<number sign>")


def shrink(data: bytes) -> bytes:
    return data.translate(None, delete=bytes(range(0x80, 0xC0)))


def grow_and_shrink(data: bytes) -> bytes:
    return shrink(grow(data))


def answer_http(body: bytes) -> Callable[[socket.socket], None]:
    """Answer a request by a body that ends with its connection, so that its length is written nowhere."""

    def answer(connection: socket.socket) -> None:
        with connection:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" + body)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    return answer


@pytest.mark.parametrize("change", [grow, shrink, grow_and_shrink])
@pytest.mark.parametrize("offloads", [True, False])
def test_curl_gets_the_replaced_body_whole(
    in_line: Line, app: App, change: Callable[[bytes], bytes], offloads: bool
) -> None:
    replacing(app, change)
    body = noise(5_000_000)
    for host in (in_line.client, in_line.server):
        host.set_offloads("eth0", on=offloads)
    serve(in_line.server, 80, answer_http(body))
    Middlebox(in_line.middle, app)
    assert curl(in_line.client, "--http1.0", f"http://{in_line.server.address}/") == change(body)


@pytest.mark.parametrize("change", [grow, shrink, grow_and_shrink])
def test_replaced_both_ways_at_once(in_line: Line, app: App, change: Callable[[bytes], bytes]) -> None:
    replacing(app, change)
    serve(in_line.server, 80, echo)
    Middlebox(in_line.middle, app)
    data = noise(1_000_000)
    assert exchange(in_line.client.connect(in_line.server.address, 80), data) == change(change(data))


@pytest.mark.parametrize("change", [grow, shrink, grow_and_shrink])
def test_replaced_bytes_survive_loss(lossy: Line, app: App, change: Callable[[bytes], bytes]) -> None:
    """Segments are lost before and behind the middle, sent again in other pieces, and acknowledged selectively."""
    replacing(app, change)
    body = noise(250_000)
    serve(lossy.server, 80, answer_http(body))
    Middlebox(lossy.middle, app)
    assert curl(lossy.client, "--http1.0", f"http://{lossy.server.address}/") == change(body)
    assert retransmissions(lossy.server) > 0


def test_replaced_by_nothing(in_line: Line, app: App) -> None:
    """A segment whose payload is gone is acknowledged all the same."""

    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 7")
    def censor(pkt: Packet, side: str) -> None:
        if side == "client" and pkt.payload == b"secret":
            pkt.replace(b"")

    Middlebox(in_line.middle, app)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    connection.sendall(b"secret")
    until("the secret is acknowledged", lambda: not unacknowledged(connection))
    connection.sendall(b"bye")
    connection.shutdown(socket.SHUT_WR)
    assert read_all(connection) == b"bye"


def unacknowledged(connection: socket.socket) -> int:
    """Return `tcpi_unacked`: segments sent and not acknowledged."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, 24)[0])


# --- reset and reject ---------------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True])
def test_reset_flow_is_reset_for_both_kernels_at_once(in_line: Line, app: App, busy: bool) -> None:
    @app.on(PKT_IN, filter="server port 7")
    def reset(pkt: Packet, flow: Flow) -> None:
        if pkt.payload.endswith(b"reset me"):
            flow.reset()

    Middlebox(in_line.middle, app)
    listener = in_line.server.listen(7)
    client = in_line.client.connect(in_line.server.address, 7)
    server, _ = listener.accept()
    in_line.server.keep(server)
    if busy:
        client.sendall(noise(100_000))
    errors: list[int] = []
    reader = in_background(lambda: errors.append(error_of(server)))
    client.sendall(b"reset me")
    errors.append(error_of(client))
    reader.join()
    assert errors == [errno.ECONNRESET, errno.ECONNRESET]


def error_of(sock: socket.socket) -> int:
    """Read until the kernel reports an error, and return its errno; 0 at an end in good order."""
    try:
        while sock.recv(1 << 16):
            pass
    except OSError as error:
        return error.errno or 0
    return 0


@pytest.mark.parametrize("ipv6", [False, True])
def test_rejected_connection_is_refused_at_once(in_line: Line, app: App, ipv6: bool) -> None:
    @app.on(CONN_START, hook=Hook.SENDER, filter="server port 81")
    def reject(pkt: Packet) -> None:
        pkt.reject()

    box = Middlebox(in_line.middle, app)
    serve(in_line.server, 81, echo, family=socket.AF_INET6 if ipv6 else socket.AF_INET)
    address = in_line.server.address6 if ipv6 else in_line.server.address
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            in_line.client.connect(address, 81, timeout=10)
    box.stop()


@pytest.mark.parametrize(
    ("why", "ipv6", "error"),
    [
        ((), False, errno.EHOSTUNREACH),
        ((), True, errno.EACCES),
        (("port",), False, errno.ECONNREFUSED),
        (("port",), True, errno.ECONNREFUSED),
    ],
)
def test_rejected_datagram_is_refused_at_once(
    in_line: Line, app: App, why: tuple[Literal["port"], ...], ipv6: bool, error: int
) -> None:
    @app.on(PKT_IN, hook=Hook.RAW)
    def reject(pkt: Packet) -> None:
        if pkt.proto == UDP:
            pkt.reject(*why)

    Middlebox(in_line.middle, app)
    sock = in_line.client.open_socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((in_line.server.address6 if ipv6 else in_line.server.address, 7))
    sock.send(b"hello")
    assert error_of(sock) == error


# --- bypass, send, and apps that fail -----------------------------------------------------------------


def test_bypassed_flow_goes_on_unseen(in_line: Line, app: App) -> None:
    seen: list[bytes] = []

    @app.on(PKT_IN, filter="server port 7")
    def look_once(pkt: Packet, flow: Flow, side: str) -> None:
        if pkt.payload_len and side == "client":
            seen.append(pkt.payload)
            flow.bypass()

    Middlebox(in_line.middle, app)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    for data in (b"one", b"two", b"three"):
        connection.sendall(data)
        assert connection.recv(100) == data
    assert exchange(connection, noise(1_000_000)) == noise(1_000_000)
    assert seen == [b"one"]


@pytest.mark.parametrize("interface", ["eth0", "eth1", 0, 1])
def test_app_sends_a_frame_of_its_own(in_line: Line, app: App, interface: str | int) -> None:
    frame = udp_frame(src=GHOST, dst=in_line.client.address, payload=b"from the middle")

    @app.on(PKT_IN, hook=Hook.RAW)
    def answer(pkt: Packet, engine: aiomos.Runtime) -> None:
        if pkt.proto == UDP:
            assert pkt.interface == "eth0"
            engine.send(frame, interface)

    Middlebox(in_line.middle, app)
    receiver = (in_line.client if interface in ("eth0", 0) else in_line.server).raw("eth0")
    with in_line.client.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"hello", (in_line.server.address, 7))
    assert wait_for_frame(receiver, b"from the middle") == frame


def failing(app: App) -> None:
    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 7")
    def fail(pkt: Packet) -> None:
        if pkt.payload == b"trap":
            raise ArithmeticError("as the test asks")


def test_callback_that_fails_open_leaves_the_flow_alone(in_line: Line, app: App) -> None:
    failing(app)
    Middlebox(in_line.middle, app, settings=Settings(fail="open"))
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    for data in (b"hello", b"trap", b"bye"):
        connection.sendall(data)
        assert connection.recv(100) == data


def test_callback_that_fails_closed_drops_the_flow(in_line: Line, app: App) -> None:
    failing(app)
    Middlebox(in_line.middle, app, settings=Settings(fail="closed"))
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    connection.sendall(b"trap")
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(100)
    assert exchange(in_line.client.connect(in_line.server.address, 7), b"others live on") == b"others live on"


def test_without_verdicts_everything_passes(in_line: Line, app: App) -> None:
    Middlebox(in_line.middle, app)
    ping(in_line.client, in_line.server.address)
    ping(in_line.client, in_line.server.address6)
