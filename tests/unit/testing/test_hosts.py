"""Simulated hosts: what they send arrives whole, over any link, and the same each time."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos.testing.hosts import DatagramHost, State, TcpHost, read_packet, read_segment
from aiomos.testing.packets import tcp_frame
from aiomos.transport.sim import Link, Network, Node

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
CLIENT6, SERVER6 = ("2001:db8::1", 40000), ("2001:db8::2", 80)


def pair(
    link: Link | None = None,
    *,
    seed: int = 0,
    v6: bool = False,
    server: dict[str, Any] | None = None,
    **client: Any,
) -> tuple[Network, TcpHost, TcpHost]:
    """Join a client and a server; options of the client as keywords, of the server in *server*."""
    network = Network(seed=seed)
    near, far = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
    hosts = TcpHost(*near, peer=far, **client), TcpHost(*far, **server or {})
    network.join(*hosts, link)
    hosts[0].connect()
    return network, *hosts


def assert_whole(first: TcpHost, second: TcpHost) -> None:
    for host, other in ((first, second), (second, first)):
        assert host.received == other.data
        assert host.received_all
        assert host.sent_all
        assert not host.reset
        assert not host.failed
        assert host.ignored == 0


class Recorder(Node):
    """A wire's middle: passes frames between two links, and keeps them."""

    def __init__(self, kept: list[tuple[int, bytes]]) -> None:
        self.kept = kept
        self.other: Node = self

    def receive(self, frame: bytes, now_ns: int) -> None:
        self.kept.append((now_ns, frame))
        self.other.send(frame)


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("v6", [False, True])
def test_both_streams_arrive(v6: bool) -> None:
    network, client, server = pair(
        Link(delay=0.01), v6=v6, data=bytes(100_000), server={"data": b"answer" * 9999}
    )
    network.run()
    assert_whole(client, server)
    assert client.retransmissions == server.retransmissions == 0
    assert client.state is server.state is State.ESTABLISHED


def test_an_answer_waits_for_the_question() -> None:
    network, client, server = pair(data=b"question", server={"data": b"answer", "answers": True})
    network.run()
    assert_whole(client, server)


def test_nothing_to_send_is_two_fins() -> None:
    network, client, server = pair()
    network.run()
    assert_whole(client, server)


def test_sequence_numbers_wrap() -> None:
    network, client, server = pair(
        iss=2**32 - 1, data=b"x" * 5000, server={"iss": 2**32 - 2, "data": b"y" * 5000}
    )
    network.run()
    assert_whole(client, server)


LINKS = st.builds(
    Link,
    bandwidth=st.none() | st.floats(1e6, 1e8),
    delay=st.floats(0, 0.2),
    jitter=st.floats(0, 0.1),
    loss=st.floats(0, 0.3),
    burst=st.none() | st.floats(1, 4),
    reorder=st.floats(0, 0.5),
    reorder_delay=st.floats(0, 0.1),
    duplicate=st.floats(0, 0.5),
    queue=st.none() | st.integers(3000, 100_000),
)


@settings(max_examples=60)
@given(
    LINKS,
    st.integers(0, 2**32),
    st.binary(max_size=300).map(lambda data: data * 100),
    st.binary(max_size=300).map(lambda data: data * 100),
    st.booleans(),
    st.integers(88, 1460),
    st.integers(1460, 65535),
)
def test_streams_arrive_whole_over_any_link(
    link: Link, seed: int, question: bytes, answer: bytes, answers: bool, mss: int, window: int
) -> None:
    network, client, server = pair(
        link,
        seed=seed,
        data=question,
        mss=mss,
        window=window,
        server={"data": answer, "answers": answers, "mss": mss},
    )
    network.run()
    assert_whole(client, server)


def conversation(seed: int) -> list[tuple[int, bytes]]:
    """Every frame of a connection over bad links, with its time."""
    network = Network(seed=seed)
    client = TcpHost(*CLIENT, peer=SERVER, data=bytes(50_000))
    server = TcpHost(*SERVER, data=b"z" * 50_000)
    kept: list[tuple[int, bytes]] = []
    left, right = Recorder(kept), Recorder(kept)
    left.other, right.other = right, left
    bad = Link(delay=0.01, jitter=0.01, loss=0.05, reorder=0.1, duplicate=0.1)
    network.join(client, left, bad)
    network.join(right, server, bad)
    client.connect()
    network.run()
    assert_whole(client, server)
    return kept


def test_a_seed_gives_the_same_frames_at_the_same_times() -> None:
    assert conversation(5) == conversation(5)
    assert conversation(5) != conversation(6)


def test_holes_are_told_by_sack() -> None:
    sacks = [
        frame
        for _, frame in conversation(5)
        if (packet := read_packet(frame))
        and (packet.payload[12] >> 4) * 4 > 20
        and packet.payload[20:23:2] == b"\1\5"
    ]
    assert sacks


# --- ends ---------------------------------------------------------------------------------------------


def test_a_lost_peer_is_given_up() -> None:
    network, client, _ = pair(Link(loss=1))
    network.run()
    assert client.failed
    assert client.state is State.CLOSED
    assert client.retransmissions == TcpHost.MAX_ATTEMPTS


def test_a_closed_port_answers_by_rst() -> None:
    network, client, server = pair()
    server.state = State.CLOSED
    network.run()
    assert client.reset


def test_abort_resets_the_other_end_though_the_rst_is_ahead_of_it() -> None:
    """An RST that is not the next number is asked about, and repeated with the right one (RFC 5961)."""
    network, client, server = pair(Link(delay=0.01), data=b"x" * 10_000)
    network.run(network.now_ns + 15_000_000)
    client._send_more()
    client.abort()
    network.run()
    assert server.reset
    assert client.state is server.state is State.CLOSED


def test_rst_of_a_guess_is_not_believed() -> None:
    network, client, _ = pair(data=b"x" * 10)
    network.run()
    guess = tcp_frame(*(SERVER[0], CLIENT[0], SERVER[1], CLIENT[1]), seq=5, flags="R")
    client.receive(guess, network.now_ns)
    assert not client.reset


def test_broken_packets_are_ignored() -> None:
    network, _, server = pair(data=b"x" * 10)
    network.run()
    good = tcp_frame(CLIENT[0], SERVER[0], CLIENT[1], SERVER[1], flags="R", payload=b"abc")
    for at in range(14, len(good)):
        broken = good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :]
        server.receive(broken, network.now_ns)
    assert server.ignored == len(good) - 14
    for size in range(len(good)):
        server.receive(good[:size], network.now_ns)
    assert not server.reset


def test_connect_needs_a_peer_and_is_done_once() -> None:
    with pytest.raises(RuntimeError, match="once"):
        TcpHost(*SERVER).connect()
    _, client, _ = pair()
    with pytest.raises(RuntimeError, match="once"):
        client.connect()


def test_a_zero_window_is_probed() -> None:
    network, client, server = pair(data=b"x" * 3000, server={"window": 0})
    network.run(network.now_ns + 5_000_000_000)
    assert not server.received
    server.window = 65535
    network.run()
    assert_whole(client, server)


# --- datagrams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("addresses", [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")])
def test_datagrams_and_pings_are_answered(addresses: tuple[str, str]) -> None:
    network = Network()
    client, server = DatagramHost(addresses[0]), DatagramHost(addresses[1], echo=True)
    network.join(client, server, Link(delay=0.01))
    client.send_datagram(b"hello", (addresses[1], 7), sport=5000)
    client.ping(addresses[1], identifier=9, sequence=3, data=b"ping")
    network.run()
    assert [(got.kind, got.src, got.sport, got.dport, got.data) for got in client.received] == [
        ("udp", addresses[1], 7, 5000, b"hello"),
        ("reply", addresses[1], 9, 3, b"ping"),
    ]
    assert [got.kind for got in server.received] == ["udp", "request"]
    assert client.ignored == server.ignored == 0


def test_a_datagram_host_ignores_tcp_and_what_is_for_others() -> None:
    host = DatagramHost("10.0.0.2")
    host.receive(tcp_frame("10.0.0.1", "10.0.0.2"), 0)
    host.receive(tcp_frame("10.0.0.1", "10.0.0.3"), 0)
    host.receive(b"", 0)
    assert host.ignored == 3


def test_read_segment_gives_the_fields() -> None:
    packet = read_packet(tcp_frame(seq=5, ack=6, flags="FPA", payload=b"abc", window=7))
    assert packet is not None
    segment = read_segment(packet)
    assert segment is not None
    assert (segment.seq, segment.ack, segment.flags, segment.window, segment.length) == (5, 6, "FPA", 7, 4)
    short = struct.pack("!20x")
    assert read_segment(type(packet)(packet.src, packet.dst, 6, short)) is None
