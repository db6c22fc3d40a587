"""Bridges between packet sockets, with no engine: all that comes passes, as it came, in its order."""

import os
import random
import select
import socket
import struct
from contextlib import closing
from typing import Any

import pytest

from aiomos.errors import TransportError
from aiomos.testing.packets import checksum, ethernet, pseudo_header
from aiomos.transport.bridge import Bridge, open_port
from aiomos.transport.packet_port import PacketPort, open_port_socket
from aiomos.transport.transport import Transport
from aiomos.transport.tuntap import TunPort
from tests.live.conftest import Ends, Line
from tests.live.network import Host
from tests.live.programs import echo, exchange, ping, program, serve, swallow, until, wait_for_frame
from tests.live.wires import Wire
from tests.models.segmentation import SuperSegment

LLDP, LLDP_STATIONS = 0x88CC, "01:80:c2:00:00:0e"
EXPERIMENTAL = 0x88B5
SOL_PACKET, PACKET_VNET_HDR = 263, 15
NEEDS_CSUM, GSO_TCPV4 = 1, 1
MTU = 1500


@pytest.fixture
def wire(in_line: Line) -> Wire:
    return Wire(in_line.middle, bridge)


def bridge() -> Bridge:
    return Bridge(PacketPort("eth0", slots=512), PacketPort("eth1", slots=512))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def numbered(number: int, size: int = 60) -> bytes:
    return ethernet(struct.pack("!I", number).ljust(size, b"\0"), ethertype=EXPERIMENTAL)


def sent_by_us(transport: Transport) -> list[tuple[bytes, int]]:
    """Return frames of the batch, and by which interface they came; without what kernels send of their own."""
    ethertype = EXPERIMENTAL.to_bytes(2, "big")
    return [
        (data, interface)
        for _, data, _, _, interface in transport.batch()
        if ethertype in (data[12:14], data[16:18])
    ]


def send_super_segment(host: Host, built: SuperSegment) -> None:
    """Send a super-segment as a kernel hands it to a network card, its checksum yet to be taken."""
    frame, transport = built.whole(), 14 + 4 * len(built.vlans) + 20
    pseudo = ~checksum(pseudo_header(built.src, built.dst, 6, len(frame) - transport)) & 0xFFFF
    offload = struct.pack("=BBHHHH", NEEDS_CSUM, GSO_TCPV4, transport + 20, built.size, transport, 16)
    with host.raw("eth0") as sock:
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sock.send(offload + frame[: transport + 16] + struct.pack("!H", pseudo) + frame[transport + 18 :])


# --- what passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mtu", [MTU, 9000])
@pytest.mark.parametrize("offloads", [True, False])
def test_connections_keep_their_bytes(in_line: Line, offloads: bool, mtu: int) -> None:
    for host, interfaces in zip(in_line, (("eth0",), ("eth0", "eth1"), ("eth0",)), strict=True):
        for interface in interfaces:
            host.set_link(interface, mtu=mtu)
            host.set_offloads(interface, on=offloads)
    wire = Wire(in_line.middle, lambda: Bridge("eth0", "eth1"))
    serve(in_line.server, 7, echo)
    data = noise(50_000_000)
    assert exchange(in_line.client.connect(in_line.server.address, 7), data) == data
    counters = wire.stop()
    whole = counters["sent_bytes"] / counters["sent"]
    assert whole > mtu if offloads else whole < mtu + 14
    assert counters["unsent"] == counters["truncated"] == counters["segmented"] == 0


@pytest.mark.usefixtures("wire")
@pytest.mark.parametrize("vlans", [(), (7,), (8, 9)])
def test_super_segment_leaves_in_segments_where_the_way_out_wants_them(
    in_line: Line, vlans: tuple[int, ...]
) -> None:
    """A tag is put back in front of headers whose checksum begins, and which end, four bytes later for it."""
    in_line.middle.set_offloads("eth1", on=False)
    receiver = in_line.server.raw("eth0")
    built = SuperSegment(
        src="198.51.100.1",
        dst="198.51.100.2",
        proto="tcp",
        payload=noise(10_000),
        size=1400,
        seq=2**32 - 3000,
        flags="PA",
        vlans=vlans,
    )
    send_super_segment(in_line.client, built)
    for segment in built.segments():
        # The kernel has taken the outer tag out.
        wait_for_frame(receiver, segment[14 + 4 * bool(vlans) :])


@pytest.mark.usefixtures("wire")
@pytest.mark.parametrize("vlan", [None, 7, (8, 9)])
def test_frames_arrive_as_they_were_sent(in_line: Line, vlan: int | None) -> None:
    """Those that the standard keeps from passing a bridge, too, both ways; see wait_for_frame() for tags."""
    ends = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    for sender, receiver in (ends, ends[::-1]):
        frame = ethernet(noise(100), dst=LLDP_STATIONS, ethertype=LLDP, vlan=vlan)
        sender.send(frame)
        assert wait_for_frame(receiver, frame[18:])[:12] == frame[:12]


@pytest.mark.usefixtures("wire")
def test_neighbours_are_found_and_answer(in_line: Line) -> None:
    """By ARP, and IPv6 neighbour discovery, which is multicast."""
    ping(in_line.client, in_line.server.address)
    ping(in_line.server, in_line.client.address6)


@pytest.mark.usefixtures("wire")
def test_order_is_kept(in_line: Line) -> None:
    sender, receiver = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    for number in range(300):
        sender.send(numbered(number))
    frames = (receiver.recv(2000) for _ in range(10_000))
    seen = [struct.unpack("!I", frame[14:18])[0] for frame, _ in zip(frames, range(300), strict=False)]
    assert seen == list(range(300))


def test_batches_are_in_order_of_time_across_interfaces(in_line: Line) -> None:
    ends = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    with in_line.middle.inside(), bridge() as both:
        assert [interface.name for interface in both.interfaces] == ["eth0", "eth1"]
        for number in range(40):
            ends[number % 2].send(numbered(number))
        assert until("frames come", both.read_batch)
        assert sent_by_us(both) == [(numbered(number), number % 2) for number in range(40)]


# --- what does not ------------------------------------------------------------------------------------


def test_frame_too_long_for_the_way_out_is_counted(in_line: Line, wire: Wire) -> None:
    in_line.middle.set_link("eth1", mtu=600)
    receiver = in_line.server.raw("eth0")
    in_line.client.raw("eth0").send(numbered(1, size=1000))
    in_line.client.raw("eth0").send(numbered(2))
    wait_for_frame(receiver, numbered(2)[14:])
    counters = wire.stop()
    assert counters["unsent"] == counters["unsent_too_long"] == counters["eth1.unsent_too_long"] == 1


def test_interface_down_and_up(in_line: Line, wire: Wire) -> None:
    in_line.middle.set_link("eth1", state="down")
    in_line.client.raw("eth0").send(numbered(1))
    until("it is not sent", lambda: wire.bridge.statistics()["unsent_down"])
    in_line.middle.set_link("eth1", state="up")
    ping(in_line.client, in_line.server.address)
    counters = wire.stop()
    assert (counters["eth1.outages"], counters["eth0.outages"]) == (1, 0)
    assert wire.error is None


def test_removed_interface_ends_it_once(in_line: Line) -> None:
    with in_line.middle.inside(), bridge() as both:
        with in_line.middle.netlink() as netlink:
            netlink.link("del", index=in_line.middle.index("eth1"))
        wait_for_removal(both, "eth1")
        assert both.ended
        assert not both.read_batch()
        both.send(numbered(1), 1)
        assert both.statistics()["unsent_gone"] == 1


def test_removal_of_an_interface_that_was_down_is_noticed(in_line: Line) -> None:
    with in_line.middle.inside(), bridge() as both:
        in_line.middle.set_link("eth1", state="down")
        until("it is noticed", lambda: not both.read_batch() and both.statistics()["eth1.outages"])
        with in_line.middle.netlink() as netlink:
            netlink.link("del", index=in_line.middle.index("eth1"))
        wait_for_removal(both, "eth1")
        assert both.statistics()["eth1.outages"] == 1


def wait_for_removal(both: Bridge, interface: str) -> None:
    """Read until it is noticed; kernels may send frames of their own meanwhile."""
    with pytest.raises(TransportError, match=interface):
        until("it is noticed", lambda: both.read_batch() and both.ended)


def test_full_ring_loses_what_the_kernel_says(in_line: Line) -> None:
    with in_line.middle.inside(), Bridge(PacketPort("eth0", slots=15), PacketPort("eth1", slots=15)) as both:
        for number in range(50):
            in_line.client.raw("eth0").send(numbered(number))
        assert until("frames come", both.read_batch)
        assert sum(interface == 0 for _, _, _, _, interface in both.batch()) == 15
        counters = both.statistics()
        assert counters["eth0.received"] == 15
        assert counters["eth0.dropped"] >= 35


# --- opening ------------------------------------------------------------------------------------------


def test_missing_interface_is_named(in_line: Line) -> None:
    with in_line.middle.inside(), pytest.raises(TransportError, match=r"eth7: no such interface.*eth0, eth1"):
        open_port("eth7")


def test_ends_of_different_kinds_are_refused(in_line: Line) -> None:
    with in_line.middle.inside(), pytest.raises(ValueError, match="cannot be joined"):
        Bridge(PacketPort("eth0", slots=15), TunPort("tun0"))


@pytest.mark.parametrize("slots", [0, 1 << 21])
def test_impossible_number_of_slots_is_refused(in_line: Line, slots: int) -> None:
    with in_line.middle.inside(), pytest.raises(ValueError, match="slots"):
        PacketPort("eth0", slots=slots)


def test_socket_goes_from_hand_to_hand(in_line: Line) -> None:
    """Each goes on where the one before has ended, though nothing waits there."""
    sender = in_line.client.raw("eth0")
    frames = [ethernet(noise(100 + number), ethertype=EXPERIMENTAL, vlan=7) for number in range(5)]
    with in_line.middle.inside(), closing(open_port_socket("eth0", slots=15)) as waiting:
        for turn in range(4):
            for frame in frames:
                sender.send(frame)
            with Bridge(PacketPort("eth0", socket=waiting, slots=15), PacketPort("eth1", slots=15)) as first:
                until("frames come", first.read_batch)
                assert sent_by_us(first) == [(frame, 0) for frame in frames], turn


def test_frames_of_an_unfinished_batch_come_again(in_line: Line) -> None:
    """A worker that dies takes none with it; their tags are put back once only."""
    frames = [ethernet(noise(100 + number), ethertype=EXPERIMENTAL, vlan=7) for number in range(5)]
    with in_line.middle.inside(), closing(open_port_socket("eth0", slots=15)) as waiting:
        for frame in frames:
            in_line.client.raw("eth0").send(frame)
        for _ in range(2):
            child = os.fork()
            if child == 0:
                dying = Bridge(PacketPort("eth0", socket=waiting, slots=15), PacketPort("eth1", slots=15))
                dying.read_batch()
                os._exit(len(sent_by_us(dying)))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        with Bridge(PacketPort("eth0", socket=waiting, slots=15), PacketPort("eth1", slots=15)) as last:
            assert last.read_batch()
            assert sent_by_us(last) == [(frame, 0) for frame in frames]


def test_data_that_nobody_answers_does_not_stay(in_line: Line, wire: Wire) -> None:
    """What is read but never sent back: one direction alone does not fill anything up."""
    serve(in_line.server, 9, swallow)
    with in_line.client.connect(in_line.server.address, 9) as sock:
        sock.sendall(noise(5_000_000))
    assert wire.stop()["dropped"] == 0


def test_a_port_does_not_wait_for_a_full_queue(pair: Ends) -> None:
    """It says so, and its descriptor tells when there is room; each frame takes 1.5 ms here, two fill the memory."""
    ports: Any = pytest.importorskip("tests.native._probe_ports", reason="needs the native test probes")
    client, server = pair
    client.run(
        program("tc"),
        *["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8mbit", "burst", "2k", "latency", "1s"],
    )
    receiver = server.raw("eth0")
    with client.inside():
        sock = open_port_socket("eth0", slots=64)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2304)
    port = PacketPort("eth0", socket=sock, slots=64)
    refused = 0
    for number in range(40):
        while not ports.send(port, numbered(number, 1486)):
            refused += 1
            assert select.select([], [sock], [], 5)[1]
    counters = port.statistics()
    port.close()
    sock.close()
    assert 10 < refused < 40
    assert (counters["sent"], counters["unsent"]) == (40, 0)
    for number in range(40):
        wait_for_frame(receiver, numbered(number, 1486))


# --- what is known of its interfaces ------------------------------------------------------------------


def test_interfaces_know_what_they_are(in_line: Line) -> None:
    in_line.middle.set_link("eth1", mtu=1400, address="02:00:00:00:00:77")
    in_line.middle.set_offloads("eth1", on=False)
    with in_line.middle.inside(), bridge() as both:
        first, second = both.interfaces
        assert (first.mtu, second.mtu, second.mac) == (MTU, 1400, "02:00:00:00:00:77")
        assert first.index == socket.if_nametoindex("eth0") != second.index
        assert {"tx_checksum", "tso", "gso"} <= first.offloads
        assert not second.offloads & {"tx_checksum", "tso", "gso"}
