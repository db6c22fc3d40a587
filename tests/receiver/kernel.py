"""Ask the kernel: bring a connection of its into a state, send one segment, and note what it does.

Its peer is a script behind a TUN device, which the kernel of a network namespace takes for the wire. What it sends is
processed before the write returns, so nothing is waited for. As root, ``python -m tests.receiver.kernel`` writes the
table anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.live.network import Host, Network
from tests.receiver.trials import KERNEL, PEER, STATES, TAIL, Answer, Segment, Sent, packet_of, save, segments

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
PEER_ISN = 0xFFFFFFF0
LISTENING = 40000
FLAGS = "FSRPAUEC"
TCP_QUICKACK = 12
NAMES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECEIVED",
    4: "FIN_WAIT_1",
    5: "FIN_WAIT_2",
    6: "TIME_WAIT",
    7: "CLOSED",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "SYN_RECEIVED",
}
RECEIVING = ("ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2")
SETTINGS = {
    "tcp_window_scaling": 0,
    "tcp_invalid_ratelimit": 0,
    "tcp_syncookies": 0,
    "tcp_mtu_probing": 0,
    "tcp_early_retrans": 0,
    "tcp_ecn": 0,
}


class Wire:
    """A TUN device of a host, at the other end of which is this program."""

    def __init__(self, host: Host) -> None:
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN_NO_PI))
        host.set_link("tun0", state="up")
        host.add_address("tun0", f"{KERNEL}/24")
        for name, value in SETTINGS.items():
            host.sysctl(f"ipv4.{name}", value)

    def receive(self) -> Iterator[bytes]:
        with contextlib.suppress(BlockingIOError):
            while True:
                yield os.read(self.fd, 65536)


@contextlib.contextmanager
def a_wire() -> Iterator[tuple[Wire, socket.socket]]:
    """Enter a host of its own, with a wire and a socket that listens."""
    with Network() as network:
        host = network.host("kernel")
        with host.inside():
            wire = Wire(host)
            listener = socket.create_server((KERNEL, LISTENING), backlog=100)
            listener.setblocking(False)
            try:
                yield wire, listener
            finally:
                listener.close()
                os.close(wire.fd)


class Connection:
    """One connection of the kernel, and its peer."""

    def __init__(self, wire: Wire, listener: socket.socket, number: int) -> None:
        self.wire, self.listener = wire, listener
        self.sock: socket.socket | None = None
        self.ports = (0, 80)
        self.sent: list[Sent] = []
        self.isn: int | None = None
        self.stamp: int | None = None
        self.kernel_next = 0
        """SND.NXT of the kernel, relative."""
        self.rcv_nxt = 0
        """Its RCV.NXT, as its acknowledgements tell."""
        self.peer_stamp = 1000
        self.stamped = False
        self._number = number
        self.error = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        for _ in self.wire.receive():
            pass

    # --- opening --------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        self.sock.bind((KERNEL, 0))
        self.ports = (self.sock.getsockname()[1], 80)
        with contextlib.suppress(BlockingIOError):
            self.sock.connect((PEER, 80))
        self.drain()

    def be_connected_to(self) -> None:
        self.ports = (LISTENING, 10_000 + self._number % 50_000)

    # --- segments -------------------------------------------------------------------------------------

    def send(
        self, flags: str, seq: int = 0, ack: int | None = None, payload: str = "", stamps: str = "right"
    ) -> None:
        """Send in the peer's name, and take what the kernel answers."""
        syn = (1460, True, -1) if "S" in flags and "R" not in flags else None
        mine: tuple[int, int | None] | None = None
        if self.stamped:
            self.peer_stamp += 1
            last = self.last_stamp if self.stamp is not None else None
            echo = {"unsent": -100_000, "ahead": 100_000}.get(stamps, last)
            if "A" not in flags:
                echo = None
            past = {"old": 1, "tick": self.peer_stamp - 2, "ticks": self.peer_stamp - 3}
            mine = None if stamps == "none" else (past.get(stamps, self.peer_stamp), echo)
        if "A" not in flags:
            ack = None
        one = Sent(
            False,
            flags,
            seq,
            ack,
            payload,
            65535,
            syn,
            mine,
            len(payload) if "U" in flags else 0,
            len(self.sent),
        )
        self.sent.append(one)
        os.write(self.wire.fd, packet_of(one, self.isn or 0, PEER_ISN, self.ports, self.stamp or 0))
        self.drain()

    def drain(self) -> None:
        """Note what the kernel has sent."""
        for packet in self.wire.receive():
            self.note(packet)

    def note(self, packet: bytes) -> None:
        start = (packet[0] & 15) * 4
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            return
        sport, dport, seq, ack, bits, window, _, urgent = struct.unpack_from("!HHIIHHHH", packet, start)
        if (sport, dport) != self.ports:
            return
        flags = "".join(letter for at, letter in enumerate(FLAGS) if bits >> at & 1)
        data = start + (bits >> 12) * 4
        if "S" in flags and "A" not in flags and self.isn is not None:
            return  # its timer's
        if "S" in flags and self.isn is None:
            self.isn = seq
        options = read_options(packet[start + 20 : data])
        stamps: tuple[int, int | None] | None = None
        if 8 in options:
            val, ecr = struct.unpack("!II", options[8])
            if self.stamp is None:
                self.stamp = val
            self.last_stamp = signed(val - self.stamp)
            stamps = (self.last_stamp, ecr or None)
        syn = None
        if "S" in flags:
            (size,) = struct.unpack("!H", options[2])
            syn = (size, 4 in options, options[3][0] if 3 in options else -1)
        here = signed(seq - (self.isn or 0)) if seq or "R" not in flags else None
        there = signed(ack - PEER_ISN) if "A" in flags else None
        payload = packet[data:].decode()
        self.sent.append(Sent(True, flags, here, there, payload, window, syn, stamps, urgent, len(self.sent)))
        if here is not None and "R" not in flags:
            self.kernel_next = max(self.kernel_next, here + len(payload) + ("S" in flags) + ("F" in flags))
            if there is not None:
                self.rcv_nxt = there

    # --- what the kernel thinks -------------------------------------------------------------------------

    def state(self) -> str:
        if self.sock is not None:
            name = NAMES[self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]
            if name != "CLOSED":
                return name
        # A connection that nobody has accepted, or one in TIME_WAIT, has no socket.
        local, remote = (f":{port:04X}" for port in self.ports)
        for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
            _, here, there, number, *_ = line.split()
            if here.endswith(local) and there.endswith(remote):
                return NAMES[int(number, 16)]
        return "CLOSED"

    def read(self) -> str:
        """Read what there is."""
        data = b""
        if self.sock is None:
            try:
                self.sock, _ = self.listener.accept()
            except BlockingIOError:
                return ""
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.error = errno.errorcode[error.errno or 0]
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 1)
        self.drain()
        return data.decode()


def signed(number: int) -> int:
    return (number + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def read_options(data: bytes) -> dict[int, bytes]:
    options = {}
    while data and data[0]:
        if data[0] == 1:
            data = data[1:]
        else:
            options[data[0]] = data[2 : data[1]]
            data = data[data[1] :]
    return options


# --- trials ---------------------------------------------------------------------------------------------


def bring_into(c: Connection, state: str, *, stamped: bool) -> str:
    """Bring a connection into a state; returns what was read on the way."""
    c.stamped = stamped
    if state == "SYN_RECEIVED by SYN":
        c.be_connected_to()
        c.rcv_nxt = 0
        c.send("S")
        return ""
    c.connect()
    if state == "SYN_SENT":
        return ""
    if state == "SYN_RECEIVED":
        c.send("S")
        return ""
    c.send("SA", 0, 1)
    assert c.sock is not None
    c.sock.send(b"hello")
    c.drain()
    c.send("A", 1, 6)
    c.send("PA", 1, 6, "answer")
    read = c.read()
    if state == "ESTABLISHED with data in flight":
        c.sock.send(b"on its way")
        c.drain()
    if state == "ESTABLISHED with a hole":
        c.send("PA", 17, 6, "held")
    if state in {"CLOSE_WAIT", "LAST_ACK"}:
        c.send("FA", 7, 6)
    if state in {"FIN_WAIT_1", "FIN_WAIT_2", "CLOSING", "LAST_ACK", "TIME_WAIT"}:
        c.sock.shutdown(socket.SHUT_WR)
        c.drain()
    if state in {"FIN_WAIT_2", "TIME_WAIT"}:
        c.send("A", 7, 7)
    if state == "CLOSING":
        c.send("FA", 7, 6)
    if state == "TIME_WAIT":
        c.send("FA", 7, 7)
    return read


def is_stamped(state: str, segment: Segment) -> bool:
    """Have both ends agreed to timestamps? Where it is not about them, not, so that they don't decide everything."""
    return segment.stamps != "right" or state == "SYN_SENT"


def attempt(
    wire: Wire, listener: socket.socket, number: int, state: str, segment: Segment
) -> tuple[list[Sent], Answer]:
    """Make a trial; returns the way into the state, and what came of it."""
    with Connection(wire, listener, number) as c:
        stamped = is_stamped(state, segment)
        read = bring_into(c, state, stamped=stamped)
        assert c.state() == state.split()[0], (state, c.state(), c.sent)
        setup, c.sent = c.sent, []
        c.send(
            segment.flags,
            c.rcv_nxt + segment.seq,
            c.kernel_next + segment.ack,
            segment.payload,
            segment.stamps,
        )
        after = c.state()
        read += c.read()
        sent, c.sent = c.sent, []
        if after == "SYN_SENT":
            c.send("SA", 0, 1)
        elif after == "SYN_RECEIVED":
            c.send("A", 1, 1)
        if c.state() in RECEIVING:
            c.send("PA", c.rcv_nxt, c.kernel_next, TAIL.decode())
        read += c.read()
        tail = c.sent
        name = state + (" with timestamps" if stamped and state != "SYN_SENT" else "")
        moved = [one._replace(ms=one.ms + len(setup)) for one in sent]
        late = [one._replace(ms=one.ms + len(setup) + len(sent)) for one in tail]
        return setup, Answer(name, str(segment), moved, after, c.error, late, read)


def ask(states: tuple[str, ...] = STATES) -> tuple[dict[str, list[Sent]], list[Answer]]:
    """Ask the kernel for the whole table."""
    setups: dict[str, list[Sent]] = {}
    answers = []
    with a_wire() as (wire, listener):
        for state in states:
            for segment in segments():
                setup, answer = attempt(wire, listener, len(answers), state, segment)
                setups.setdefault(answer.state, setup)
                answers.append(answer)
    return setups, answers


if __name__ == "__main__":
    save(*ask())
