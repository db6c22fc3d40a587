"""Urgent bytes: what a Linux reader without SO_OOBINLINE is given is what ``urgent="out_of_band"`` gives."""

import random
import socket
import struct
from functools import partial

import pytest

from aiomos.levels import Level
from aiomos.testing.scenario import Frame, watch
from tests.live.network import Network
from tests.live.programs import until

BYTES_RECEIVED = 128
"""Offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h)."""
PORT = 7000


def has_received(connection: socket.socket, total: int) -> bool:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_RECEIVED + 8)
    count: int = struct.unpack_from("Q", info, BYTES_RECEIVED)[0]
    return count >= total


def read(connection: socket.socket) -> bytes:
    """Read all that there is, mark after mark."""
    data = b""
    while True:
        try:
            part = connection.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return data
        if not part:
            return data
        data += part


def captured(tap: socket.socket) -> list[Frame]:
    """The frames of a loopback interface, each of which is shown as it leaves and as it comes."""
    frames: list[Frame] = []
    tap.setblocking(False)
    while True:
        try:
            data, address = tap.recvfrom(65536)
        except BlockingIOError:
            return frames
        if address[2] != socket.PACKET_OUTGOING:
            frames.append((1_700_000_000_000_000_000 + len(frames) * 1_000_000, data, 1, len(data)))


@pytest.mark.parametrize("seed", range(5))
def test_a_linux_reader_is_given_the_same(network: Network, seed: int) -> None:
    """A reader that keeps up with a sender of urgent bytes, one after the other or with others between."""
    draw = random.Random(seed)
    host = network.host("one")
    with host.inside(), socket.socket() as listener, socket.socket() as sender:
        tap = host.raw("lo")
        listener.bind(("127.0.0.1", PORT))
        listener.listen()
        sender.connect(("127.0.0.1", PORT))
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection, _ = listener.accept()
        with connection:
            sent, given = b"", b""
            for n in range(40):
                data = bytes([n]) * draw.choice([1, 1, 2, 9])
                sender.send(data, draw.choice([0, socket.MSG_OOB]))
                sent += data
                until("the bytes have come", partial(has_received, connection, len(sent)))
                given += read(connection)
            sender.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            while part := connection.recv(4096):
                given += part
        frames = captured(tap)
    assert len(given) < len(sent)
    inline = watch(frames, level=Level.STREAM, filter=f"port {PORT}").streams[0][0]
    without = watch(frames, level=Level.STREAM, filter=f"port {PORT}", urgent="out_of_band").streams[0][0]
    assert (inline.data, without.data) == (sent, given)
