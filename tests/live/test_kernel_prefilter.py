"""The kernel runs a prefilter as the model of its machine does."""

import socket
from itertools import product

import pytest

from aiomos.runtime.prefilter import prefilter
from aiomos.testing.packets import tcp_frame, udp_frame, vlan
from aiomos.transport.bpf import attach_filter
from aiomos.ude.filters import Filter
from tests.live.network import Network
from tests.live.test_fanout import drain
from tests.models.bpf import Buffer, received_by_socket, run

FILTERS = [
    "port 80",
    "tcp port 80-443 and net 10.0.0.0/30",
    "server host 2001:db8::2 or udp",
    "not host 10.0.0.1-10.0.0.5 and not port 53",
    "ip6 and not net 2001:db8::/64",
    "host 2001:db8::2-2001:db8:1::1 and vlan 3",
]
ADDRESSES = [
    ("10.0.0.1", "192.0.2.1"),
    ("192.0.2.1", "10.0.0.1"),
    ("192.0.2.9", "10.0.0.7"),
    ("2001:db8::1", "2001:db8::2"),
    ("2001:db8:1::1", "2001:db8:1::2"),
]


def frames() -> list[bytes]:
    """Build frames, each with a number in its source address."""
    made = []
    for (src, dst), sport, dport in product(ADDRESSES, (80, 5000), (53, 80, 443)):
        frame = tcp_frame(src, dst, sport, dport)
        made += [frame, udp_frame(src, dst, sport, dport), vlan(frame, 3), vlan(vlan(frame, 3), 4)]
    return [frame[:6] + number.to_bytes(6) + frame[12:] for number, frame in enumerate(made)]


@pytest.mark.parametrize("text", FILTERS)
def test_kernel_keeps_what_the_model_keeps(network: Network, text: str) -> None:
    sender, receiver = network.host("sender"), network.host("receiver")
    network.join(sender, "eth0", receiver, "eth0")
    program = prefilter([Filter(text)])
    assert program is not None
    sockets: list[socket.socket] = [receiver.raw("eth0"), sender.raw("eth0")]
    for sock in sockets:
        attach_filter(sock, program)
        sock.setblocking(False)
        drain(sock)
    sending = sender.raw("eth0")
    made = frames()
    for frame in made:
        sending.send(frame)
    came_in = [run(program, received_by_socket(frame)) for frame in made]
    went_out = [run(program, Buffer(frame, int.from_bytes(frame[12:14]))) for frame in made]
    for sock, lengths in zip(sockets, (came_in, went_out), strict=True):
        kept = [int.from_bytes(frame[6:12]) for frame, length in zip(made, lengths, strict=True) if length]
        assert 0 < len(kept) < len(made)
        assert drain(sock) == kept
