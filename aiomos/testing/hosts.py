"""Small hosts for simulated networks: a TCP that is correct and plain, and one for datagrams.

They share no code with the engine, so that tests can compare the two, and make real packets, checksums included. All
they do follows from what arrives and from the network's clock: the same network does the same again, to the byte::

    network = Network(seed=1)
    client = TcpHost("10.0.0.1", 40000, data=b"a question", peer=("10.0.0.2", 80))
    server = TcpHost("10.0.0.2", 80, data=b"an answer", answers=True)
    network.join(client, server, Link(delay=0.01, loss=0.1))
    client.connect()
    network.run()
    assert server.received == client.data
"""

import enum
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import attrs

from aiomos.testing.packets import (
    FLAG_LETTERS,
    PROTO_ICMP,
    PROTO_TCP,
    PROTO_UDP,
    checksum,
    ethernet,
    ip,
    mss,
    pseudo_header,
    sack,
    sack_ok,
    tcp,
    udp,
)
from aiomos.transport.sim import Node, Timer

__all__ = ["Datagram", "DatagramHost", "IpHost", "State", "TcpHost"]

PROTO_ICMPV6 = 58
ETHERNET_HEADER = 14
ECHO_TYPES = {4: (8, 0), 6: (128, 129)}
"""ICMP types of an echo request and its reply."""

SECOND = 1_000_000_000
MODULUS = 1 << 32


def distance(later: int, earlier: int) -> int:
    """Tell how far one sequence number is behind another, negative if it is before it."""
    return (later - earlier + MODULUS // 2) % MODULUS - MODULUS // 2


# --- IP -----------------------------------------------------------------------------------------------
@attrs.frozen
class Packet:
    """An IP packet that was read."""

    src: str
    dst: str
    proto: int
    payload: bytes

    def sum(self) -> int:
        """Compute the checksum over its payload and pseudo-header: 0 if the one in it is right."""
        return checksum(pseudo_header(self.src, self.dst, self.proto, len(self.payload)) + self.payload)


def read_packet(frame: bytes) -> Packet | None:
    """Read an Ethernet frame; None if it has no whole IP packet in it, or one whose header's checksum is wrong."""
    kind, data = frame[12:14], frame[ETHERNET_HEADER:]
    if kind == b"\x08\x00" and len(data) >= 20:
        size, total, fragment = 4 * (data[0] & 0x0F), *struct.unpack_from("!H2xH", data, 2)
        if data[0] >> 4 != 4 or not 20 <= size <= total <= len(data) or fragment & 0x3FFF:
            return None
        if checksum(data[:size]):
            return None
        return Packet(_text(data[12:16]), _text(data[16:20]), data[9], data[size:total])
    if kind == b"\x86\xdd" and len(data) >= 40:
        end = 40 + int.from_bytes(data[4:6])
        if data[0] >> 4 != 6 or end > len(data):
            return None
        return Packet(_text(data[8:24]), _text(data[24:40]), data[6], data[40:end])
    return None


def _text(packed: bytes) -> str:
    return str(ip_address(packed))


class IpHost(Node):
    """A host with one address.

    Attributes:
        address: As text.
        ignored: Count of frames that were not for it, or broken.
    """

    def __init__(self, address: str) -> None:
        self.address: str = str(ip_address(address))
        self.ignored: int = 0

    def receive(self, frame: bytes, now_ns: int) -> None:
        """Read a frame, and take the packet in it if it is whole and for this host."""
        packet = read_packet(frame)
        if packet is None or packet.dst != self.address or not self.take(packet, now_ns):
            self.ignored += 1

    def take(self, packet: Packet, now_ns: int) -> bool:
        """Do what is to be done about a packet; False if it is broken, or nothing is."""
        raise NotImplementedError

    def send_packet(self, payload: bytes, dst: str, proto: int) -> None:
        """Send an IP packet."""
        self.send(ethernet(ip(payload, src=self.address, dst=dst, proto=proto)))


# --- TCP ----------------------------------------------------------------------------------------------
class State(enum.Enum):
    """How far a `TcpHost` is; which halves are closed say its `sent_all` and `received_all`."""

    CLOSED = enum.auto()
    LISTEN = enum.auto()
    SYN_SENT = enum.auto()
    SYN_RECEIVED = enum.auto()
    ESTABLISHED = enum.auto()


@attrs.frozen
class Segment:
    """A TCP segment that was read."""

    sport: int
    dport: int
    seq: int
    ack: int
    flags: str
    window: int
    payload: bytes

    @property
    def length(self) -> int:
        """Its length in sequence space, SYN and FIN included."""
        return len(self.payload) + ("S" in self.flags) + ("F" in self.flags)


def read_segment(packet: Packet) -> Segment | None:
    """Read a segment; None if it is broken or its checksum is wrong."""
    data = packet.payload
    if len(data) < 20 or packet.sum():
        return None
    sport, dport, seq, ack, bits, window = struct.unpack_from("!HHIIHH", data)
    size = 4 * (bits >> 12)
    if not 20 <= size <= len(data):
        return None
    flags = "".join(letter for bit, letter in enumerate(FLAG_LETTERS) if bits >> bit & 1)
    return Segment(sport, dport, seq, ack, flags, window, data[size:])


class TcpHost(IpHost):
    """One end of one TCP connection (RFC 9293), which sends given bytes, closes its half, and keeps what arrives.

    Lost segments are sent again once the retransmission time-out of RFC 6298 is over, from the first that is not
    acknowledged on (go-back-N), with the window opening again as in slow start. What comes out of order is kept, and
    told by SACK (RFC 2018); the SACK of the other end is not made use of. A host that has closed goes on to acknowledge
    what is repeated, as in TIME-WAIT, without a time limit.

    Args:
        address: Its address.
        port: Its port.
        data: What to send.
        peer: Address and port to `connect` to; without them it listens.
        answers: Whether it sends when the other half has ended, not at once.
        iss: Initial sequence number; the default makes the numbers wrap.
        mss: Payload bytes of a segment, at most, both ways.
        window: Bytes that it takes ahead of what it has acknowledged.

    Attributes:
        state: Its `State`.
        received: Bytes that have arrived, in order.
        received_all: Whether the other half has ended, after these bytes.
        reset: Whether an RST ended the connection.
        failed: Whether it has given up to send.
        retransmissions: Count of segments that it sent again.
    """

    INITIAL_RTO = 1.0
    MAX_RTO = 60.0
    MAX_ATTEMPTS = 12
    INITIAL_SEGMENTS = 10
    """Segments that may be under way at first (RFC 6928)."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        data: bytes = b"",
        peer: tuple[str, int] | None = None,
        answers: bool = False,
        iss: int = 0xFFFF_FF00,
        mss: int = 1460,
        window: int = 65535,
    ) -> None:
        super().__init__(address)
        self.port = port
        self.data = data
        self.peer = peer
        self.answers = answers
        self.mss = mss
        self.window = window
        self.state = State.LISTEN if peer is None else State.CLOSED
        self.received: bytearray = bytearray()
        self.received_all: bool = False
        self.reset: bool = False
        self.failed: bool = False
        self.retransmissions: int = 0
        # Places in sequence space count from 0, the SYN: data follow from 1 on, the FIN comes last.
        self._iss = iss
        self._una = self._nxt = self._highest = 0
        self._peer_window = mss
        self._allowed = self.INITIAL_SEGMENTS * mss
        self._rto, self._srtt, self._rttvar = self.INITIAL_RTO, 0.0, 0.0
        self._timed: tuple[int, int] | None = None
        self._attempts = 0
        self._timer: Timer | None = None
        self._base = 0  # sequence number of the first byte that is received
        self._pieces: dict[int, bytes] = {}
        self._fin_at: int | None = None
        self._latest = 0

    @property
    def sent_all(self) -> bool:
        """Whether all it sent, its FIN included, is acknowledged."""
        return self._una == self._fin + 1

    @property
    def _rcv_nxt(self) -> int:
        return (self._base + len(self.received) + self.received_all) % MODULUS

    @property
    def _fin(self) -> int:
        """Place of the FIN."""
        return 1 + len(self.data)

    def connect(self) -> None:
        """Send a SYN to the peer."""
        if self.peer is None or self.state is not State.CLOSED:
            raise RuntimeError("connect() once, with a peer")
        self.state = State.SYN_SENT
        self._send_more()

    def abort(self) -> None:
        """End the connection by an RST."""
        self._segment("RA", self._highest)
        self._close()

    # --- sending ---------------------------------------------------------------------------------------

    def _send_more(self) -> None:
        """Send what the windows and the state allow."""
        while (segment := self._next_segment()) is not None:
            flags, payload = segment
            place, length = self._nxt, len(payload) + ("S" in flags) + ("F" in flags)
            if place < self._highest:
                self.retransmissions += 1
            elif self._timed is None:
                self._timed = place + length, self.network.now_ns
            self._nxt = place + length
            self._highest = max(self._highest, self._nxt)
            self._segment(flags, place, payload)
            if self._timer is None:
                self._start_timer()

    def _next_segment(self) -> tuple[str, bytes] | None:
        """Flags and payload of what is to be sent next, from `_nxt` on."""
        if self._nxt == 0:
            if self.state is State.SYN_SENT:
                return "S", b""
            return ("SA", b"") if self.state is State.SYN_RECEIVED else None
        if self.state is not State.ESTABLISHED or (self.answers and not self.received_all):
            return None
        room = self._una + min(self._peer_window, self._allowed) - self._nxt
        if self._nxt == self._una:
            room = max(room, 1)  # a zero window is probed, each time-out (RFC 9293 §3.8.6.1)
        payload = self.data[self._nxt - 1 : self._nxt - 1 + max(min(room, self.mss), 0)]
        if self._nxt + len(payload) == self._fin:
            return "FPA" if payload else "FA", payload
        return ("PA" if self._nxt + len(payload) == self._fin else "A", payload) if payload else None

    def _segment(self, flags: str, place: int, payload: bytes = b"") -> None:
        """Send a segment at a place of its sequence space."""
        assert self.peer is not None
        options = mss(self.mss) + sack_ok() if "S" in flags else self._sack()
        address, port = self.peer
        self.send_packet(
            tcp(
                payload,
                src=self.address,
                dst=address,
                sport=self.port,
                dport=port,
                seq=self._iss + place,
                ack=self._rcv_nxt if "A" in flags else 0,
                flags=flags,
                window=self.window,
                options=options,
            ),
            address,
            PROTO_TCP,
        )

    def _acknowledge(self) -> None:
        self._segment("A", self._highest)

    def _sack(self) -> bytes:
        """Build the SACK option: first the block of the latest segment, then others (RFC 2018 §4)."""
        blocks: list[list[int]] = []
        for start in sorted(self._pieces):
            end = start + len(self._pieces[start])
            if blocks and start <= blocks[-1][1]:
                blocks[-1][1] = max(blocks[-1][1], end)
            else:
                blocks.append([start, end])
        if not blocks:
            return b""
        blocks.sort(key=lambda block: not block[0] <= self._latest < block[1])
        edges = (((self._base + a) % MODULUS, (self._base + b) % MODULUS) for a, b in blocks[:4])
        return b"\1\1" + sack(edges)

    # --- retransmission: RFC 6298 ----------------------------------------------------------------------

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.call_later(self._rto, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        """Go back to what is not acknowledged (§5.4 to §5.6)."""
        self._timer = None
        self._attempts += 1
        if self._attempts > self.MAX_ATTEMPTS:
            self.failed = True
            self._close()
            return
        self._rto = min(2 * self._rto, self.MAX_RTO)
        self._timed = None  # Karn: what is sent again is not timed
        self._nxt = self._una
        self._allowed = self.mss
        self._send_more()

    def _measure(self, seconds: float) -> None:
        """Take a round trip into account (§2.2, §2.3)."""
        if self._srtt == 0:
            self._srtt, self._rttvar = seconds, seconds / 2
        else:
            self._rttvar += (abs(self._srtt - seconds) - self._rttvar) / 4
            self._srtt += (seconds - self._srtt) / 8
        self._rto = min(max(self._srtt + 4 * self._rttvar, self.INITIAL_RTO), self.MAX_RTO)

    def _take_ack(self, segment: Segment, now_ns: int) -> None:
        place = self._una + distance(segment.ack, self._iss + self._una)
        self._peer_window = segment.window
        if not self._una < place <= self._highest:
            return
        self._una = place
        self._nxt = max(self._nxt, place)
        self._allowed += self.mss
        self._attempts = 0
        if self._timed is not None and place >= self._timed[0]:
            self._measure((now_ns - self._timed[1]) / SECOND)
            self._timed = None
        self._stop_timer()
        if self._una < self._highest:
            self._start_timer()

    # --- receiving -------------------------------------------------------------------------------------

    def take(self, packet: Packet, now_ns: int) -> bool:
        """Take a segment."""
        segment = read_segment(packet) if packet.proto == PROTO_TCP else None
        if segment is None or segment.dport != self.port:
            return False
        other = packet.src, segment.sport
        if self.state is State.LISTEN and "S" in segment.flags and not set("AR") & set(segment.flags):
            self.peer, self.state = other, State.SYN_RECEIVED
            self._take_syn(segment)
            self._send_more()
        elif self.state in (State.CLOSED, State.LISTEN) or other != self.peer:
            self._refuse(segment, other)
        elif self.state is State.SYN_SENT:
            self._take_answer(segment, now_ns)
        else:
            self._take_segment(segment, now_ns)
        return True

    def _refuse(self, segment: Segment, other: tuple[str, int]) -> None:
        """Answer a segment of no connection by an RST (RFC 9293 §3.10.7.1)."""
        if "R" in segment.flags:
            return
        if "A" in segment.flags:
            flags, seq, ack = "R", segment.ack, 0
        else:
            flags, seq, ack = "RA", 0, segment.seq + segment.length
        address, port = other
        answer = tcp(
            src=self.address,
            dst=address,
            sport=self.port,
            dport=port,
            seq=seq,
            ack=ack,
            flags=flags,
            window=0,
        )
        self.send_packet(answer, address, PROTO_TCP)

    def _take_answer(self, segment: Segment, now_ns: int) -> None:
        """Take what answers the SYN."""
        if "A" not in segment.flags or distance(segment.ack, self._iss) != 1:
            return
        if "R" in segment.flags:
            self.reset = True
            self._close()
        elif "S" in segment.flags:
            self.state = State.ESTABLISHED
            self._take_syn(segment)
            self._take_ack(segment, now_ns)
            self._acknowledge()
            self._send_more()

    def _take_syn(self, segment: Segment) -> None:
        self._base = segment.seq + 1
        self._peer_window = segment.window

    def _take_segment(self, segment: Segment, now_ns: int) -> None:
        if "R" in segment.flags:
            self._take_reset(segment)
        elif "S" in segment.flags and self.state is State.SYN_RECEIVED:
            self._nxt = 0  # the answer to the SYN was lost
            self._send_more()
        elif "S" in segment.flags:
            self._acknowledge()
        elif "A" in segment.flags:
            self._take_ack(segment, now_ns)
            if self._una:
                self.state = State.ESTABLISHED
            if segment.length:
                self._take_data(segment)
                self._acknowledge()
            self._send_more()

    def _take_reset(self, segment: Segment) -> None:
        """Believe an RST that has the very next number; ask about one that is within the window (RFC 5961 §3.2)."""
        ahead = distance(segment.seq, self._rcv_nxt)
        if ahead == 0:
            self.reset = True
            self._close()
        elif 0 < ahead < self.window:
            self._acknowledge()

    def _take_data(self, segment: Segment) -> None:
        """Keep what is new within the window, and put in order what has become so."""
        place = len(self.received) + distance(segment.seq, self._base + len(self.received))
        end = place + len(segment.payload)
        if end > len(self.received) + self.window or (self._fin_at is not None and end > self._fin_at):
            return
        if "F" in segment.flags:
            self._fin_at = end
        self._latest = place
        if len(segment.payload) > len(self._pieces.get(place, b"")):
            self._pieces[place] = segment.payload
        while (start := next(self._ready(), None)) is not None:
            self.received += self._pieces.pop(start)[len(self.received) - start :]
        self.received_all = len(self.received) == self._fin_at

    def _ready(self) -> Iterator[int]:
        """Yield pieces that begin at, or before, the end of what is in order."""
        return (start for start in sorted(self._pieces) if start <= len(self.received))

    def _close(self) -> None:
        self._stop_timer()
        self.state = State.CLOSED


# --- UDP and ICMP -------------------------------------------------------------------------------------
@attrs.frozen
class Datagram:
    """A UDP datagram, or an ICMP echo request or reply, that arrived.

    Attributes:
        time_ns: When.
        kind: ``udp``, ``request`` or ``reply``.
        src: Address of its sender.
        sport: Source port; the identifier of an echo.
        dport: Destination port; the sequence number of an echo.
        data: What it carries.
    """

    time_ns: int
    kind: str
    src: str
    sport: int
    dport: int
    data: bytes


class DatagramHost(IpHost):
    """Sends UDP datagrams and pings, and keeps what arrives; pings are answered.

    Args:
        address: Its address.
        echo: Whether it sends UDP datagrams back, too.

    Attributes:
        received: What has arrived: `Datagram` records.
    """

    def __init__(self, address: str, *, echo: bool = False) -> None:
        super().__init__(address)
        self.echo = echo
        self.received: list[Datagram] = []

    def send_datagram(self, data: bytes, to: tuple[str, int], *, sport: int = 40000) -> None:
        """Send a UDP datagram."""
        address, port = to
        datagram = udp(data, src=self.address, dst=address, sport=sport, dport=port)
        self.send_packet(datagram, address, PROTO_UDP)

    def ping(self, to: str, *, identifier: int = 1, sequence: int = 1, data: bytes = b"") -> None:
        """Send an ICMP echo request."""
        self._send_echo(0, to, identifier, sequence, data)

    def take(self, packet: Packet, now_ns: int) -> bool:
        """Take a datagram or an echo."""
        if packet.proto == PROTO_UDP:
            return self._take_udp(packet, now_ns)
        if packet.proto == self._icmp:
            return self._take_echo(packet, now_ns)
        return False

    @property
    def _version(self) -> int:
        return ip_address(self.address).version

    @property
    def _icmp(self) -> int:
        return PROTO_ICMP if self._version == 4 else PROTO_ICMPV6

    def _take_udp(self, packet: Packet, now_ns: int) -> bool:
        data = packet.payload
        if len(data) < 8 or (data[6:8] != b"\0\0" and packet.sum()):
            return False
        sport, dport = struct.unpack_from("!HH", data)
        self.received.append(Datagram(now_ns, "udp", packet.src, sport, dport, data[8:]))
        if self.echo:
            self.send_datagram(data[8:], (packet.src, sport), sport=dport)
        return True

    def _take_echo(self, packet: Packet, now_ns: int) -> bool:
        data = packet.payload
        kinds = ECHO_TYPES[self._version]
        if len(data) < 8 or data[0] not in kinds or self._echo_sum(data, packet.src, packet.dst):
            return False
        identifier, sequence = struct.unpack_from("!HH", data, 4)
        is_request = data[0] == kinds[0]
        kind = "request" if is_request else "reply"
        self.received.append(Datagram(now_ns, kind, packet.src, identifier, sequence, data[8:]))
        if is_request:
            self._send_echo(1, packet.src, identifier, sequence, data[8:])
        return True

    def _send_echo(self, reply: int, to: str, identifier: int, sequence: int, data: bytes) -> None:
        kind = ECHO_TYPES[self._version][reply]
        message = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + data
        total = self._echo_sum(message, self.address, to)
        self.send_packet(message[:2] + struct.pack("!H", total) + message[4:], to, self._icmp)

    def _echo_sum(self, message: bytes, src: str, dst: str) -> int:
        """Compute the checksum, which in ICMPv6 covers the pseudo-header, too (RFC 4443 §2.3)."""
        if self._version == 4:
            return checksum(message)
        return checksum(pseudo_header(src, dst, PROTO_ICMPV6, len(message)) + message)
