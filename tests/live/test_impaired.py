"""Links of a simulation on real wires: frames leave late, or not at all."""

import os
import select
import socket
import time
from collections.abc import Callable

import pytest

from aiomos.transport.bridge import Bridge
from aiomos.transport.impaired import Impaired
from aiomos.transport.sim import Link
from tests.live.conftest import Line
from tests.live.network import COMMAND_SECONDS

EXPERIMENTAL = b"\x88\xb5"


def frame(number: int) -> bytes:
    return b"\xff" * 6 + number.to_bytes(6) + EXPERIMENTAL + bytes(50)


def numbers(sock: socket.socket) -> list[int]:
    """Take the numbers of the frames that wait at a packet socket, but for those it sent itself."""
    sock.setblocking(False)
    found: list[int] = []
    while True:
        try:
            data, address = sock.recvfrom(65536)
        except BlockingIOError:
            return found
        if data[12:14] == EXPERIMENTAL and address[2] != socket.PACKET_OUTGOING:
            found.append(int.from_bytes(data[6:12]))


def carry(impaired: Impaired, done: Callable[[], bool]) -> None:
    """Carry frames between the interfaces until it is done, woken by the descriptor alone."""
    while not done():
        assert select.select([impaired.fileno()], [], [], COMMAND_SECONDS)[0], "nothing comes any more"
        if impaired.read_batch():
            for _, data, _, _, interface in impaired.batch():
                if data[12:14] == EXPERIMENTAL:
                    impaired.send(data, impaired.forwards[interface])


def test_frames_leave_as_the_links_have_it(in_line: Line) -> None:
    """To the client at once, to the server with a delay and losses."""
    client, server = in_line.client.raw("eth0"), in_line.server.raw("eth0")
    with in_line.middle.inside():
        bridge = Bridge("eth0", "eth1")
    with Impaired(bridge, Link(), Link(delay=0.05, loss=0.2), seed=1) as impaired:
        _, there = impaired.wires
        started = time.monotonic()
        for number in range(100):
            client.send(frame(number))
            server.send(frame(1000 + number))
        carry(impaired, lambda: impaired.statistics()["link0_sent"] == 100)
        assert numbers(client) == list(range(1000, 1100))
        arrived: list[int] = []

        def all_arrived() -> bool:
            arrived.extend(numbers(server))
            return there.counts["sent"] == 100 and len(arrived) == 100 - there.counts["lost"]

        carry(impaired, all_arrived)
        assert time.monotonic() - started >= 0.05
        assert 0 < there.counts["lost"] < 100
        assert arrived == sorted(arrived)
        while impaired.read_batch():
            pass
        assert not select.select([impaired.fileno()], [], [], 0)[0]
    impaired.close()


def test_each_interface_needs_a_link(in_line: Line) -> None:
    with in_line.middle.inside():
        bridge = Bridge("eth0", "eth1")
    with bridge, pytest.raises(ValueError, match="2 interfaces"):
        Impaired(bridge, Link())


def test_it_may_be_closed_again(in_line: Line) -> None:
    """And closes no descriptor but its own."""
    with in_line.middle.inside():
        impaired = Impaired(Bridge("eth0", "eth1"), Link(), Link())
    before = os.fstat(1)
    for _ in range(2):
        impaired.close()
    assert os.fstat(1) == before
