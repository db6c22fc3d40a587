"""TUN and TAP devices: a kernel on one side, this process on the other."""

import os
import random
import re
import socket
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aiomos.errors import TransportError
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import checksum, ethernet, ipv4, tcp_frame
from aiomos.transport.bridge import Bridge, open_port
from aiomos.transport.packet_port import PacketPort
from aiomos.transport.tuntap import Tap, TapPort, Tun, TunPort
from tests.live.conftest import Line
from tests.live.network import Host, Network
from tests.live.programs import echo, exchange, program, serve, until
from tests.live.wires import Wire

HERE, THERE = "198.51.100.1", "198.51.100.2"
MAC = "02:00:00:00:00:99"
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101


@pytest.fixture(autouse=True)
def _device() -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs the right to read and write /dev/net/tun")


@pytest.fixture
def host(network: Network) -> Host:
    return network.host("host")


def echo_request(data: bytes) -> bytes:
    header = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    message = header[:2] + struct.pack("!H", checksum(header + data)) + header[4:] + data
    return ipv4(message, src=THERE, dst=HERE, proto=1)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# --- a device by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Tap, Tun])
def test_kernel_answers_what_is_sent(host: Host, kind: type[Tap | Tun]) -> None:
    with host.inside(), kind("wire0") as device:
        host.add_address("wire0", f"{HERE}/24")
        request = echo_request(b"are you there?")
        if kind is Tap:
            host.add_neighbour("wire0", THERE, MAC)
            request = ethernet(request, src=MAC, dst=host.mac("wire0"))
        assert device.forwards == ()
        (interface,) = device.interfaces
        assert (interface.name, interface.linktype) == (
            "wire0",
            LINKTYPE_ETHERNET if kind is Tap else LINKTYPE_RAW,
        )
        device.send(request)

        def answer() -> bytes | None:
            device.read_batch()
            return next((data for _, data, *_ in device.batch() if data.endswith(b"are you there?")), None)

        reply = until("the kernel answers", answer)
        assert len(reply) == len(request)
        assert reply[-len(b"are you there?") - 8] == 0  # ICMP echo reply
        counters = device.statistics()
        assert counters["sent"] == 1
        assert counters["received"] == device.frames_read


def test_new_device_goes_with_its_transport(host: Host) -> None:
    with host.inside(), Tap("wire%d") as device:
        name = device.interfaces[0].name
        assert re.fullmatch(r"wire\d", name)
        assert name in [name for _, name in socket.if_nameindex()]
        device.close()
        assert name not in [name for _, name in socket.if_nameindex()]


def test_existing_device_stays(host: Host) -> None:
    host.run(program("ip"), "tuntap", "add", "wire0", "mode", "tap")
    with host.inside():
        for _ in range(2):
            Tap("wire0").close()
        assert "wire0" in [name for _, name in socket.if_nameindex()]
        with pytest.raises(TransportError, match="no such device"):
            Tun("wire0")


def test_device_is_for_one(host: Host) -> None:
    with host.inside(), Tap("wire0"), pytest.raises(TransportError, match="in use"):
        Tap("wire0")


@pytest.mark.parametrize("name", ["", "a_name_of_16_byte"])
def test_impossible_name_is_refused(host: Host, name: str) -> None:
    with host.inside(), pytest.raises(TransportError, match="1 to 15 bytes"):
        Tap(name)


@pytest.mark.skipif(
    "4294967295" not in Path("/proc/self/uid_map").read_text(), reason="needs another user than root"
)
def test_user_with_no_right_to_it_is_told_what_to_do(host: Host) -> None:
    with host.inside():
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                Tap("wire0")
            except TransportError as error:
                os._exit("sudo" in str(error))
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_device_down_and_removed(host: Host) -> None:
    with host.inside(), Tap("wire0") as device:
        host.set_link("wire0", state="down")
        device.send(ethernet(echo_request(b"")))
        assert device.statistics()["unsent_down"] == 1
        with host.netlink() as netlink:
            netlink.link("del", index=host.index("wire0"))
        with pytest.raises(TransportError, match="removed"):
            until("it is noticed", device.read_batch)
        assert not device.read_batch()
        device.send(ethernet(echo_request(b"")))
        assert device.statistics()["unsent_gone"] == 1


# --- in line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("offload", [True, False])
def test_tap_and_wire_joined(in_line: Line, offload: bool, ipv6: bool) -> None:
    """Where the device takes no super-segments, those of the other side are cut on their way."""
    client, middle, server = in_line
    with client.inside():
        tap = TapPort("tap0", offload=offload)
    client.add_address("tap0", f"{HERE}/24")
    client.add_address("tap0", "2001:db8:1::1/64")
    server.add_address("eth0", f"{THERE}/24")
    server.add_address("eth0", "2001:db8:1::2/64")
    wire = Wire(middle, lambda: Bridge(tap, PacketPort("eth1", slots=512)))
    serve(server, 7, echo, family=socket.AF_INET6 if ipv6 else socket.AF_INET)
    data = noise(5_000_000)
    assert exchange(client.connect("2001:db8:1::2" if ipv6 else THERE, 7), data) == data
    counters = wire.stop()
    assert (counters["tap0.bytes"] / counters["tap0.received"] > 1514) == offload
    assert bool(counters["tap0.segmented"]) != offload
    assert counters["unsent_refused"] == 0


@pytest.mark.parametrize("offload", [True, False])
def test_two_tuns_joined(network: Network, offload: bool) -> None:
    """Segments that one makes are whole at the other, whichever of them does without offloads."""
    client, server = network.host("client"), network.host("server")
    ports = []
    for host, address, peer in ((client, HERE, THERE), (server, THERE, HERE)):
        with host.inside():
            ports.append(TunPort("tun0", offload=offload or host is server))
        host.add_address("tun0", f"{address}/32")
        with host.netlink() as netlink:
            netlink.route("add", dst=f"{peer}/32", oif=host.index("tun0"))
    wire = Wire(client, lambda: Bridge(*ports))
    serve(server, 7, echo)
    data = noise(5_000_000)
    assert exchange(client.connect(THERE, 7), data) == data
    assert wire.stop()["unsent_refused"] == 0


TCPV4, UDP, GSO_UNKNOWN = 1, 5, 3
LONGEST = 65535 + 18


@pytest.mark.parametrize(
    ("length", "options", "unsent"),
    [
        (1000, {"gso_type": TCPV4, "gso_size": 400, "csum": (34, 16)}, None),
        (1000, {"gso_type": GSO_UNKNOWN, "gso_size": 400, "csum": (34, 16)}, "refused"),
        (1000, {"gso_type": TCPV4, "gso_size": 400}, "refused"),
        (LONGEST + 400, {"gso_type": TCPV4, "gso_size": 400, "csum": (34, 16)}, None),
        (LONGEST + 400, {"gso_type": TCPV4, "gso_size": LONGEST - 54, "csum": (34, 16)}, None),
        (LONGEST + 400, {"gso_type": TCPV4, "gso_size": 65535, "csum": (34, 16)}, "refused"),
        (1000, {"gso_type": 0, "csum": (34, 16)}, None),
        (1000, {"gso_type": 0, "csum": (34, 965)}, "refused"),
        (LONGEST, {"gso_type": 0, "csum": (34, 16)}, None),
        (LONGEST + 1, {"gso_type": 0, "csum": (34, 16)}, "too_long"),
        (1000, {"gso_type": 0}, None),
    ],
)
def test_work_that_is_left_to_a_card_is_done_or_the_frame_is_counted(
    host: Host, length: int, options: dict[str, Any], unsent: str | None
) -> None:
    """No kernel hands over most of these; nothing of one that makes no sense is sent."""
    ports: Any = pytest.importorskip("tests.native._probe_ports", reason="needs the native test probes")
    frame = tcp_frame() + bytes(length - 54)
    with host.inside():
        port = TapPort("tap0", offload=False)
        host.add_address("tap0", f"{HERE}/24")
        ports.send(port, frame, **options)
        counters = port.statistics()
        received = host.counters("tap0")["rx_packets"]
        port.close()
    sent = -(-(length - 54) // options["gso_size"]) if options["gso_type"] else 1
    causes = {name.removeprefix("unsent_"): n for name, n in counters.items() if name.startswith("unsent_")}
    assert {name: n for name, n in causes.items() if n} == ({unsent: 1} if unsent else {})
    assert received == (0 if unsent else sent)
    assert (counters["sent"], counters["sent_bytes"]) == ((0, 0) if unsent else (1, length))
    assert counters["segmented"] == (not unsent and options["gso_type"] != 0)


@pytest.mark.parametrize("given_up", [False, True])
def test_rest_of_a_super_segment_leaves_once_there_is_room(host: Host, given_up: bool) -> None:
    """Here the device is a socket, which has room for a few frames; none is sent twice."""
    ports: Any = pytest.importorskip("tests.native._probe_ports", reason="needs the native test probes")
    with host.inside():
        port = TapPort("tap0", offload=False)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(port), near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4000)
        near.setblocking(False)
        far.setblocking(False)
        os.dup2(near.fileno(), port.fileno())
        super_segment = tcp_frame(seq=0) + bytes(40 * 500)
        last = tcp_frame(seq=1_000_000, payload=b"last")
        seen: list[int] = []
        refused = 0
        while not ports.send(port, super_segment, gso_type=TCPV4, gso_size=500, csum=(34, 16)):
            refused += 1
            if given_up:
                ports.give_up(port)
                break
            seen.append(seq_of(far.recv(2000)))
        assert refused == 1 if given_up else refused > 10
        while 1_000_000 not in seen:
            if not ports.send(port, last):
                seen.append(seq_of(far.recv(2000)))
                continue
            while 1_000_000 not in seen:
                seen.append(seq_of(far.recv(2000)))
        counters = port.statistics()
    whole = [500 * number for number in range(40)]
    assert seen[:-1] == (whole[: len(seen) - 1] if given_up else whole)
    assert given_up == (len(seen) < 41)
    assert (counters["sent"], counters["segmented"], counters["unsent_queue_full"]) == (2, 1, given_up)


def seq_of(frame: bytes) -> int:
    packet = read_packet(frame)
    assert packet is not None
    segment = read_segment(packet)
    assert segment is not None
    return segment.seq


def test_ports_have_names(host: Host) -> None:
    with host.inside():
        for name, kind in (("tap:wire0", TapPort), ("tun:wire1", TunPort)):
            port = open_port(name)
            assert type(port) is kind
            assert port.interface == name[4:]
            port.close()
