"""A group of sockets gets from the kernel exactly the frames that the hash in software says."""

import mmap
import socket
import struct
from collections import Counter
from typing import Any

import pytest

from aiomos.testing.packets import ethernet, fragment_ipv4, ip, ipv4, tcp_frame, udp_frame, vlan
from aiomos.transport.bpf import attach_fanout
from aiomos.transport.fanout import fanout_program
from aiomos.wire.sharding import shard_of
from tests.live.network import Host, Network

SOL_PACKET = 263
PACKET_TX_RING = 13
PACKET_FANOUT = 18
PACKET_FANOUT_CBPF = 6
MARK = b"\x5a" * 16


def frames() -> list[bytes]:
    """Build frames of many flows, in both directions, each with a number in its source address."""
    made: list[bytes] = []
    for n in range(40):
        ports: dict[str, Any] = {"sport": 40000 + n, "dport": 443}
        turned: dict[str, Any] = {"sport": 443, "dport": 40000 + n}
        for src, dst in ((f"10.0.0.{n + 1}", "192.0.2.1"), (f"2001:db8::{n + 1:x}", "2001:db8::ffff")):
            made += [tcp_frame(src, dst, **ports, payload=MARK), tcp_frame(dst, src, **turned, payload=MARK)]
            made += [udp_frame(src, dst, **ports, payload=MARK), udp_frame(dst, src, **turned, payload=MARK)]
            made.append(vlan(tcp_frame(src, dst, **ports, payload=MARK), n + 1))
            made.append(vlan(vlan(tcp_frame(src, dst, **ports, payload=MARK), n), n + 1, ethertype=0x88A8))
            made.append(ethernet(ip(MARK, src=src, dst=dst, proto=132)))
        whole = ipv4(bytes(40) + MARK * 2, src=f"10.0.0.{n + 1}", dst="192.0.2.1", proto=17)
        made += [ethernet(fragment) for fragment in fragment_ipv4(whole, 32)]
        made.append(ethernet(MARK * 3, ethertype=0x88B5))
    return [
        frame[:6] + number.to_bytes(6) + frame[12:] for number, frame in enumerate(made, start=0x020000000000)
    ]


def group(host: Host, interface: str, count: int) -> list[socket.socket]:
    """Open sockets that share out the frames of an interface."""
    sockets = []
    for _ in range(count):
        sock = host.raw(interface)
        sock.setsockopt(SOL_PACKET, PACKET_FANOUT, 7 | PACKET_FANOUT_CBPF << 16)
        sockets.append(sock)
    attach_fanout(sockets[0], fanout_program())
    for sock in sockets:
        sock.setblocking(False)
        drain(sock)
    return sockets


def drain(sock: socket.socket) -> list[int]:
    """Take the numbers of all frames that wait."""
    numbers = []
    while True:
        try:
            numbers.append(int.from_bytes(sock.recv(65536)[6:12]))
        except BlockingIOError:
            return numbers


def shared_out(frames: list[bytes], count: int) -> list[list[int]]:
    """Return the numbers of the frames of each shard."""
    return [
        [int.from_bytes(frame[6:12]) for frame in frames if shard_of(frame, count) == shard]
        for shard in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_kernel_gives_each_socket_what_the_software_says(network: Network, count: int) -> None:
    sender, receiver = network.host("sender"), network.host("receiver")
    network.join(sender, "eth0", receiver, "eth0")
    sending = sender.raw("eth0")
    leaving, coming = group(sender, "eth0", count), group(receiver, "eth0", count)
    made = frames()
    for start in range(0, len(made), 100):  # few enough for the buffer of one socket
        some = made[start : start + 100]
        for frame in some:
            sending.send(frame)
        assert [drain(sock) for sock in coming] == shared_out(some, count)
        assert [drain(sock) for sock in leaving] == shared_out(some, count)
    if count > 1:
        spread = Counter(shard_of(frame, count) for frame in made)
        assert len(spread) == count


def test_headers_outside_of_the_linear_buffer_are_read(network: Network) -> None:
    """What leaves from a PACKET_TX_RING lies in the pages of the ring, all but its Ethernet header."""
    sender, receiver = network.host("sender"), network.host("receiver")
    network.join(sender, "eth0", receiver, "eth0")
    coming = group(receiver, "eth0", 4)
    sending = sender.raw("eth0")
    block, size = 1 << 16, 1 << 11
    sending.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("=IIII", block, 4, size, 4 * block // size))
    with mmap.mmap(sending.fileno(), 4 * block) as ring:
        made = frames()[: 4 * block // size]
        for slot, frame in enumerate(made):
            at = slot * size
            ring[at + 32 : at + 32 + len(frame)] = frame
            # struct tpacket_hdr: status TP_STATUS_SEND_REQUEST, length.
            struct.pack_into("@LI", ring, at, 1, len(frame))
        sending.send(b"")
    assert [drain(sock) for sock in coming] == shared_out(made, 4)
