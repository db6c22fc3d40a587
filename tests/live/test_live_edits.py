"""Flows that may be edited, as real kernels on both sides see them: order, Multipath TCP, signatures, Fast Open."""

from __future__ import annotations

import errno
import itertools
import random
import socket
import struct

import pytest

from aiomos import PKT_IN, App, Hook, Packet, Settings
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import mss, tcp_frame
from tests.live.conftest import Line
from tests.live.middlebox import Middlebox
from tests.live.network import COMMAND_SECONDS, Host
from tests.live.programs import (
    echo,
    exchange,
    in_background,
    read_all,
    retransmissions,
    send_all,
    serve,
    until,
)

IPPROTO_MPTCP = 262
SOL_MPTCP, MPTCP_INFO = 284, 1
TCP_MD5SIG, TCP_FASTOPEN, MSG_FASTOPEN = 14, 23, 0x2000_0000
MPTCP_OPTION, FASTOPEN_OPTION = 30, 34
GHOST, GHOST_MAC = "192.0.2.9", "02:00:00:00:00:99"
FASTOPEN_ALWAYS = 0x207
"""Client and server speak it, and neither asks for a cookie (ip-sysctl)."""

QUESTION = b"the secret is out of order."
REPLACED = b"the good news is out of order."


class Watcher:
    """Sees what comes in, and replaces payload if it is told to."""

    def __init__(self, *, edits: bool) -> None:
        self.app: App[None] = App("watcher")
        self.syns: list[tuple[set[int], bytes]] = []
        self.refusals: list[str] = []
        self.app.on(PKT_IN, hook=Hook.RAW)(self.look)
        if edits:
            self.app.on(PKT_IN, filter="server port 80", hook=Hook.SENDER)(self.edit)

    def look(self, pkt: Packet) -> None:
        if pkt.syn:
            self.syns.append(({kind for kind, _ in pkt.options}, pkt.payload))

    def edit(self, pkt: Packet) -> None:
        if b"secret" in pkt.payload:
            try:
                pkt.replace(pkt.payload.replace(b"secret", b"good news"))
            except ValueError as error:
                self.refusals.append(str(error))


# --- order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
def test_a_kernel_reads_what_was_edited_in_every_order(in_line: Line, order: tuple[int, ...]) -> None:
    """Three segments and a bare one of a later number, each once; no byte of theirs gets past the app."""
    watcher = Watcher(edits=True)
    box = Middlebox(in_line.middle, watcher.app)
    in_line.server.add_neighbour("eth0", GHOST, GHOST_MAC)
    in_line.server.set_offloads("eth0", on=False)  # a packet socket is to see finished checksums
    listener = in_line.server.listen(80)
    wire = in_line.client.raw("eth0")
    macs = bytes.fromhex((in_line.server.mac("eth0") + GHOST_MAC).replace(":", ""))
    isn, answers = 2**32 - 9, 0

    def say(at: int, payload: bytes = b"", flags: str = "A", options: bytes = b"") -> None:
        ends = GHOST, in_line.server.address, 4242, 80
        frame = tcp_frame(*ends, (isn + at) % 2**32, answers, flags, payload, options=options)
        wire.send(macs + frame[12:])

    def answered() -> int:
        packet = read_packet(wire.recv(1 << 16))
        segment = read_segment(packet) if packet is not None and packet.proto == 6 else None
        return segment.seq + 1 if segment is not None and segment.flags == "SA" else 0

    say(0, flags="S", options=mss(1400))
    answers = until("the server answers", answered)
    say(1)
    connection = in_line.server.keep(listener.accept()[0])
    pieces = [(1, QUESTION[:14]), (15, QUESTION[14:20]), (21, QUESTION[20:]), (1 + len(QUESTION), b"")]
    for number in order:
        say(*pieces[number])
    say(1 + len(QUESTION), flags="FA")
    assert read_all(connection) == REPLACED
    box.stop()
    assert box.counters["in_line.waiting_bytes"] == 0


def test_both_ends_talk_over_a_bad_line(lossy: Line) -> None:
    """What is lost on either side comes again, and what came after it waits meanwhile."""
    app: App[None] = App("grows")

    @app.on(PKT_IN, hook=Hook.SENDER, filter="server port 80")
    def grow(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(pkt.payload.replace(b"#", b"<number sign>"))

    box = Middlebox(lossy.middle, app)
    serve(lossy.server, 80, echo)
    data = random.Random(5).randbytes(200_000)
    heard = exchange(lossy.client.connect(lossy.server.address, 80), data)
    assert heard == data.replace(b"#", b"<number sign>").replace(b"#", b"<number sign>")
    box.stop()
    assert retransmissions(lossy.client) + retransmissions(lossy.server) > 0
    assert box.counters["in_line.held"] > 0
    assert box.counters["in_line.edits_refused.budget"] == 0


# --- Multipath TCP ------------------------------------------------------------------------------------


def speaks_multipath(connection: socket.socket) -> bool:
    """Whether a socket of Multipath TCP has not fallen back to plain TCP."""
    try:
        connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 128)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT):
            return False
        raise
    return True


@pytest.mark.parametrize("edits", [False, True])
def test_multipath_tcp_falls_back_where_payload_is_edited(in_line: Line, edits: bool) -> None:
    watcher = Watcher(edits=edits)
    box = Middlebox(in_line.middle, watcher.app)
    spoken: list[bool] = []
    try:
        listener = in_line.server.open_socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        client = in_line.client.open_socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError as error:
        pytest.skip(f"this kernel has no Multipath TCP: {error}")
    listener.bind(("", 80))
    listener.listen()
    client.connect((in_line.server.address, 80))
    server = in_line.server.keep(listener.accept()[0])
    sender = in_background(send_all, client, QUESTION)
    assert read_all_open(server) == (REPLACED if edits else QUESTION)
    spoken += [speaks_multipath(client), speaks_multipath(server)]
    sender.join()
    send_all(server, QUESTION)
    assert read_all(client) == (REPLACED if edits else QUESTION)
    box.stop()
    assert MPTCP_OPTION in watcher.syns[0][0]
    assert spoken == [not edits] * 2
    assert box.counters["in_line.plain_syns"] == edits
    assert watcher.refusals == []


def read_all_open(sock: socket.socket) -> bytes:
    """Read a connection to its end, and leave it open."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


# --- signatures ---------------------------------------------------------------------------------------


def sign(sock: socket.socket, peer: str, key: bytes) -> None:
    """Have a socket sign its segments to a peer (RFC 2385): struct tcp_md5sig of linux/tcp.h."""
    address = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(peer)).ljust(128, b"\0")
    option = address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, option)
    except OSError as error:
        pytest.skip(f"this kernel does not sign segments: {error}")


def test_signed_connections_go_on_as_they_are(in_line: Line) -> None:
    watcher = Watcher(edits=True)
    box = Middlebox(in_line.middle, watcher.app)
    listener = in_line.server.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    sign(listener, in_line.client.address, b"key")
    listener.bind(("", 80))
    listener.listen()
    client = in_line.client.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    sign(client, in_line.server.address, b"key")
    client.connect((in_line.server.address, 80))
    server = in_line.server.keep(listener.accept()[0])
    send_all(client, QUESTION)
    assert read_all_open(server) == QUESTION
    send_all(server, QUESTION)
    assert read_all(client) == QUESTION
    box.stop()
    assert len(watcher.refusals) == 2
    assert all("signed" in refusal for refusal in watcher.refusals)
    assert box.counters["in_line.edits_refused.signed"] == 2
    assert box.counters["in_line.altered"] == 0


def test_failing_closed_nothing_signed_passes_that_was_to_be_edited(in_line: Line) -> None:
    watcher = Watcher(edits=True)
    Middlebox(in_line.middle, watcher.app, settings=Settings(fail="closed"))
    listener = in_line.server.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    sign(listener, in_line.client.address, b"key")
    listener.bind(("", 80))
    listener.listen()
    client = in_line.client.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    sign(client, in_line.server.address, b"key")
    client.connect((in_line.server.address, 80))
    server = in_line.server.keep(listener.accept()[0])
    client.sendall(b"hello")
    assert server.recv(100) == b"hello"
    client.sendall(QUESTION)
    until("it was tried again", lambda: len(watcher.refusals) > 1)
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(100)


# --- Fast Open ----------------------------------------------------------------------------------------


def open_fast(host: Host, address: str, data: bytes) -> socket.socket:
    """Connect by a SYN with data."""
    client = host.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    client.setblocking(True)  # else the kernel says that the handshake goes on
    client.sendto(data, MSG_FASTOPEN, (address, 80))
    return client


@pytest.mark.parametrize("edits", [False, True])
@pytest.mark.parametrize("cookies", [False, True])
def test_data_in_a_syn_is_edited_behind_the_handshake(in_line: Line, edits: bool, cookies: bool) -> None:
    """With cookies it takes a connection to get one; where payload is edited none is given, and none is asked for."""
    for host in (in_line.client, in_line.server):
        host.sysctl("ipv4.tcp_fastopen", 3 if cookies else FASTOPEN_ALWAYS)
    watcher = Watcher(edits=edits)
    box = Middlebox(in_line.middle, watcher.app)
    listener = in_line.server.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("", 80))
    listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    listener.listen()
    heard = []
    for _ in range(3):
        client = open_fast(in_line.client, in_line.server.address, QUESTION)
        client.shutdown(socket.SHUT_WR)
        server = in_line.server.keep(listener.accept()[0])
        server.settimeout(COMMAND_SECONDS)
        heard.append(read_all(server))
        client.close()
    box.stop()
    early = sum(payload == QUESTION for options, payload in watcher.syns)
    asked = any(FASTOPEN_OPTION in options for options, _ in watcher.syns)
    assert heard == [REPLACED if edits else QUESTION] * 3
    if cookies:
        assert asked
        assert (early > 0) == (not edits)
    else:
        assert early > 0
    assert box.counters["in_line.bare_syns"] == (early if edits else 0)
    assert watcher.refusals == []
