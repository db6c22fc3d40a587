"""Build the captures in hard/: the cases that real traffic seldom shows, a file each.

    python -m tests.data.build

The same bytes every time. Each function below is a case; its docstring says what is hard about it, its name
is the file's. Ports, addresses and times are the same throughout: client 10.0.0.1, server 10.0.0.2 port 80, a
frame every millisecond from 2024-01-01 on.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from aiomos.testing import packets
from aiomos.testing.packets import fastopen, mss, sack, sack_ok, tcp_frame, timestamps, wscale
from tests import tunnels as tunnelling
from tests.wrappings import LINKS, TAGS, TSHARK_FAILS, TSHARK_READS_NOT

HARD = Path(__file__).parent / "hard"
START_NS = 1_704_067_200_000_000_000
STEP_NS = 1_000_000

ETHERNET, NULL, RAW, LINUX_SLL = 1, 0, 101, 113

Frames = Iterator[bytes]


class Case(NamedTuple):
    """A capture to build: the frames, and how the file holds them."""

    frames: Callable[[], Frames]
    linktype: int
    snaplen: int
    endian: str


CASES: dict[str, Case] = {}


def case(
    *, linktype: int = ETHERNET, snaplen: int = 262_144, endian: str = "<"
) -> Callable[[Callable[[], Frames]], Callable[[], Frames]]:
    """Register a case under its function's name."""

    def register(function: Callable[[], Frames]) -> Callable[[], Frames]:
        CASES[function.__name__] = Case(function, linktype, snaplen, endian)
        return function

    return register


@dataclass
class Half:
    """One sender: what it would send next if nothing were odd."""

    address: str
    port: int
    iss: int
    nxt: int = 0
    """Stream offset of the next byte; the SYN is at -1, the first data byte at 0."""

    def seq(self, offset: int) -> int:
        return (self.iss + 1 + offset) & 0xFFFF_FFFF


@dataclass
class Flow:
    """A connection, written down a segment at a time."""

    port: int = 40_000
    client_iss: int = 0xFFFF_FF00
    server_iss: int = 0xFFFF_FE00
    ipv6: bool = False
    vlan: int | None = None
    client: Half = field(init=False)
    server: Half = field(init=False)

    def __post_init__(self) -> None:
        prefix = "2001:db8::" if self.ipv6 else "10.0.0."
        self.client = Half(f"{prefix}1", self.port, self.client_iss)
        self.server = Half(f"{prefix}2", 80, self.server_iss)

    def c(self, data: bytes = b"", flags: str = "A", **odd: int | bytes) -> bytes:
        """Build a segment from the client; see `_segment`."""
        return self._segment(self.client, self.server, data, flags, **odd)

    def s(self, data: bytes = b"", flags: str = "A", **odd: int | bytes) -> bytes:
        """Build a segment from the server; see `_segment`."""
        return self._segment(self.server, self.client, data, flags, **odd)

    def _segment(self, sender: Half, receiver: Half, data: bytes, flags: str, **odd: int | bytes) -> bytes:
        """Build the next segment of *sender*, or with `at` one that begins at that offset.

        `ack` is an offset too, by default all that the other side has sent; other fields are `tcp_frame`'s.
        """
        at, ack = odd.pop("at", None), odd.pop("ack", receiver.nxt)
        assert isinstance(ack, int)
        if at is None:
            at = -1 if "S" in flags else sender.nxt
            sender.nxt = at + len(data) + ("S" in flags) + ("F" in flags)
        assert isinstance(at, int)
        return tcp_frame(
            src=sender.address,
            dst=receiver.address,
            sport=sender.port,
            dport=receiver.port,
            seq=sender.seq(at),
            ack=receiver.seq(ack) if "A" in flags else 0,
            flags=flags,
            payload=data,
            vlan=self.vlan,
            **odd,  # type: ignore[arg-type]
        )

    def open(self, options: bytes = b"") -> Frames:
        yield self.c(flags="S", options=mss(1460) + options)
        yield self.s(flags="SA", options=mss(1460) + options)
        yield self.c()

    def talk(self, request: bytes = b"request", response: bytes = b"response") -> Frames:
        yield self.c(request, "PA")
        yield self.s(response, "PA")
        yield self.c()

    def close(self) -> Frames:
        yield self.c(flags="FA")
        yield self.s(flags="FA")
        yield self.c()

    def whole(self) -> Frames:
        yield from self.open()
        yield from self.talk()
        yield from self.close()


def ip_of(frame: bytes) -> bytes:
    """Take the Ethernet header off."""
    return frame[14:]


# --- opening and closing ------------------------------------------------------------------------------


@case()
def sequence_wrap() -> Frames:
    """Sequence numbers pass 2**32 within a segment of each half."""
    flow = Flow(client_iss=2**32 - 20, server_iss=2**32 - 301)
    yield from flow.open()
    yield from flow.talk(bytes(range(64)), bytes(range(200)))
    yield flow.s(bytes(range(200)), "PA")
    yield flow.c()
    yield from flow.close()


@case()
def simultaneous_open() -> Frames:
    """Both ends send a SYN before they see the other's (RFC 9293 figure 7)."""
    flow = Flow()
    yield flow.c(flags="S")
    yield flow.s(flags="S")
    yield flow.s(flags="SA")
    yield flow.c(flags="SA")
    yield from flow.talk()
    yield from flow.close()


@case()
def simultaneous_close() -> Frames:
    """Both ends send a FIN before they see the other's (RFC 9293 figure 13)."""
    flow = Flow()
    yield from flow.open()
    yield from flow.talk()
    yield flow.c(flags="FA")
    yield flow.s(flags="FA", ack=7)
    yield flow.s()
    yield flow.c()


@case()
def split_handshake() -> Frames:
    """The server answers the SYN with a bare SYN, and the client with a SYN-ACK."""
    flow = Flow()
    yield flow.c(flags="S")
    yield flow.s(flags="A", ack=0)
    yield flow.s(flags="S")
    yield flow.c(flags="SA")
    yield flow.s()
    yield from flow.talk()
    yield from flow.close()


@case()
def swapped_handshake() -> Frames:
    """The SYN-ACK was captured before the SYN: two mirror ports out of step."""
    flow = Flow()
    syn, syn_ack, ack = flow.open()
    yield from (syn_ack, syn, ack)
    yield from flow.talk()
    yield from flow.close()


@case()
def repeated_handshake() -> Frames:
    """SYN and SYN-ACK are sent twice, the second SYN-ACK with other options."""
    flow = Flow()
    yield flow.c(flags="S", options=mss(1460), ip_id=1)
    yield flow.c(flags="S", options=mss(1460), ip_id=2)
    yield flow.s(flags="SA", options=mss(1460) + sack_ok() + wscale(7))
    yield flow.s(flags="SA", options=mss(1300))
    yield flow.c()
    yield from flow.talk()
    yield from flow.close()


@case()
def fast_open() -> Frames:
    """Data in the SYN (RFC 7413): one accepted, one refused and sent again, one answered in the SYN-ACK."""
    cookie = fastopen(b"cookie!!")
    flow = Flow(40_000)
    yield flow.c(b"accepted", "S", options=cookie)
    yield flow.s(flags="SA")
    yield flow.c()
    yield from flow.close()
    flow = Flow(40_001)
    yield flow.c(b"refused", "S", options=cookie)
    yield flow.s(flags="SA", ack=0)
    yield flow.c(b"refused", "PA", at=0)
    yield flow.s()
    yield from flow.close()
    flow = Flow(40_002)
    yield flow.c(b"question", "S", options=cookie)
    yield flow.s(b"answer", "SA")
    yield flow.c()
    yield from flow.close()


@case()
def early_fin() -> Frames:
    """FIN first, the data before it later; FIN with data, repeated; data after a FIN."""
    flow = Flow(40_000)
    yield from flow.open()
    yield flow.c(b"second", "FPA", at=5)
    yield flow.c(b"first", "PA", at=0)
    flow.client.nxt = 12
    yield flow.s(flags="FA")
    yield flow.c()
    flow = Flow(40_001)
    yield from flow.open()
    yield flow.c(b"data and FIN", "FPA", ip_id=1)
    yield flow.c(b"data and FIN", "FPA", at=0, ip_id=2)
    yield flow.c(b"after the FIN", "PA")
    yield flow.s(ack=13)
    yield flow.s(flags="FA", ack=13)
    yield flow.c(at=13)


@case()
def resets() -> Frames:
    """RSTs that count and RSTs that don't: out of window, in window, exact, with data, for a SYN."""
    flow = Flow(40_000)
    yield from flow.open()
    yield flow.s(flags="R", at=-70_000)
    yield flow.s(flags="R", at=100_000)
    yield flow.s(flags="R", at=100)
    yield from flow.talk()
    yield flow.s(flags="R")
    flow = Flow(40_001)
    yield from flow.open()
    yield flow.s(b"go away", "RA")
    flow = Flow(40_002)
    yield flow.c(flags="S")
    yield flow.s(flags="RA", ack=5, at=-1)
    yield flow.s(flags="RA", ack=0, at=-1)
    flow = Flow(40_003)
    yield from flow.open()
    yield flow.c(b"data before it", "PA", at=10)
    yield flow.c(flags="R", at=24)


@case()
def reuse() -> Frames:
    """The same ports again: after a close, after a reset, and with a SYN out of nowhere."""
    for number, end in enumerate(("close", "reset", "nothing", "close")):
        flow = Flow(client_iss=0xF000_0000 + 0x1000_0000 * number, server_iss=7 * number)
        yield from flow.open()
        yield from flow.talk(b"request %d" % number, b"response %d" % number)
        if end == "close":
            yield from flow.close()
        elif end == "reset":
            yield flow.c(flags="R")


# --- data -----------------------------------------------------------------------------------------------


@case()
def retransmissions() -> Frames:
    """Data again: the same segment, cut otherwise, with new data behind, and one never missed."""
    flow = Flow()
    yield from flow.open()
    for part in (b"one ", b"two ", b"three ", b"four "):
        yield flow.c(part, "PA")
    yield flow.s(ack=4)
    yield flow.c(b"two ", "PA", at=4)
    yield flow.c(b"two three ", "PA", at=4)
    yield flow.c(b"four five ", "PA", at=14)
    flow.client.nxt = 24
    yield flow.s()
    yield flow.c(b"one two ", "PA", at=0)
    yield flow.s(options=sack([(flow.client.seq(0), flow.client.seq(8))]))
    yield from flow.close()


@case()
def reordered() -> Frames:
    """Ten one-byte segments backwards, then the eleventh."""
    flow = Flow()
    yield from flow.open(sack_ok())
    for at in reversed(range(10)):
        yield flow.c(bytes([ord("0") + at]), "PA", at=at)
        blocks = [(flow.client.seq(at), flow.client.seq(10))]
        yield flow.s(ack=0, options=sack(blocks)) if at else flow.s(ack=10)
    flow.client.nxt = 10
    yield flow.c(b"!", "PA")
    yield flow.s()
    yield from flow.close()


@case()
def overlaps() -> Frames:
    """Segments that overlap beyond a hole and differ: a connection a row of docs/reference/overlap.md."""
    for begin in range(3):
        for end in range(3):
            flow = Flow(40_000 + 3 * begin + end)
            yield from flow.open()
            start = (2, 4, 6)[begin]
            new = b"N" * ((8, 10, 12)[end] - start)
            yield flow.c(b"oooooo", "PA", at=4)
            yield flow.c(new, "PA", at=start)
            yield flow.c(b"----"[: min(4, start)], "PA", at=0)
            flow.client.nxt = max(10, start + len(new))
            yield flow.s()
            yield from flow.close()


@case()
def conflicting_retransmission() -> Frames:
    """Bytes already delivered come again and differ."""
    flow = Flow()
    yield from flow.open()
    yield flow.c(b"GET /good HTTP/1.1\r\n", "PA")
    yield flow.s()
    yield flow.c(b"GET /evil HTTP/1.1\r\n", "PA", at=0)
    yield flow.s()
    yield from flow.close()


def hidden_file(side: str) -> bytes:
    """Make up the file that one end hides in `retransmission_tunnel`."""
    return b"".join(
        b"line %d of what the %s pays nothing for\n" % (number, side.encode()) for number in range(40)
    )


@case()
def retransmission_tunnel() -> Frames:
    """A file each way inside retransmissions that differ from the cover they repeat (Go et al., NDSS 2014)."""
    flow = Flow()
    yield from flow.open()
    covers = {"client": b"C" * 200, "server": b"S" * 200}
    senders = {"client": flow.c, "server": flow.s}
    for side, send in senders.items():
        yield send(covers[side], "PA")
        yield send(covers[side], "PA")
    yield flow.c()
    files = {side: hidden_file(side) for side in senders}
    for at in range(0, max(map(len, files.values())), 200):
        for side, send in senders.items():
            yield send(files[side][at : at + 200], "PA", at=at % 400)
    yield flow.c(covers["client"], "PA", at=0)
    yield flow.s()
    yield from flow.close()


@case()
def insertion() -> Frames:
    """Segments the server will not take: wrong checksum, short TTL, old timestamp, MD5 option, no ACK."""
    flow = Flow()
    yield from flow.open(timestamps(1000))
    now = timestamps(2000, 2)
    yield flow.c(b"real ", "PA", options=now)
    bad = bytearray(flow.c(b"sum? ", "PA", at=5, options=now))
    bad[50] ^= 0xFF  # the TCP checksum
    yield bytes(bad)
    yield flow.c(b"ttl? ", "PA", at=5, options=now, ttl=1)
    yield flow.c(b"paws ", "PA", at=5, options=timestamps(1, 2))
    yield flow.c(b"md5? ", "PA", at=5, options=b"\x13\x12" + bytes(16))
    yield flow.c(b"noack", "P", at=5, options=now)
    yield flow.c(b"data!", "PA", options=now)
    yield flow.s(options=timestamps(3000, 2000))
    yield from flow.close()


@case()
def gap() -> Frames:
    """The receiver acknowledges bytes the capture never saw; the stream goes on after them."""
    flow = Flow()
    yield from flow.open()
    yield flow.c(b"before ", "PA")
    yield flow.s()
    flow.client.nxt += 100
    yield flow.c(b" after", "PA")
    yield flow.s()
    yield from flow.talk()
    yield from flow.close()


@case()
def unseen() -> Frames:
    """An acknowledgement comes before the data it is for: a mirror out of step. Nothing is missing."""
    flow = Flow()
    yield from flow.open()
    request = flow.c(b"request", "PA")
    yield flow.s(b"response", "PA")
    yield request
    yield flow.c()
    yield from flow.close()


@case()
def beyond_window() -> Frames:
    """Data the receiver has no room for."""
    flow = Flow()
    yield flow.c(flags="S")
    yield flow.s(flags="SA", window=10)
    yield flow.c()
    yield flow.c(b"0123456789", "PA")
    yield flow.s(window=0)
    yield flow.c(b"too much", "PA", at=10)
    yield flow.c(b"far away", "PA", at=1_000_000)
    yield flow.s(window=1000)
    yield flow.c(b"too much", "PA")
    yield flow.s()
    yield from flow.close()


@case()
def probes() -> Frames:
    """Keep-alives with no byte and with one wrong byte; probes of a closed window with the next byte."""
    flow = Flow()
    yield from flow.open()
    yield from flow.talk()
    for garbage in (b"", b"\0"):
        yield flow.c(garbage, at=6)
        yield flow.s()
    yield flow.s(window=0)
    for _ in range(2):
        yield flow.c(b"n", at=7)
        yield flow.s(window=0, ack=7)
    yield flow.s(window=1000, ack=7)
    yield flow.c(b"next", "PA")
    yield flow.s()
    yield from flow.close()


@case()
def urgent() -> Frames:
    """Urgent data: the pointer in the segment, in a later one, and far away."""
    flow = Flow()
    yield from flow.open()
    yield flow.c(b"abc!", "UPA", urgent=4)
    yield flow.c(b"def", "UPA", urgent=6)
    yield flow.c(b"gh!", "PA")
    yield flow.c(b"ijk", "UPA", urgent=60_000)
    yield flow.s()
    yield from flow.close()


@case()
def half_close() -> Frames:
    """The server goes on for a while after the client's FIN."""
    flow = Flow()
    yield from flow.open()
    yield flow.c(b"all I have", "FPA")
    yield flow.s()
    for part in (b"and ", b"now ", b"my ", b"turn"):
        yield flow.s(part, "PA")
        yield flow.c()
    yield flow.s(flags="FA")
    yield flow.c()


# --- what is seen of a flow -----------------------------------------------------------------------------


@case()
def midstream() -> Frames:
    """No handshake in the capture; the server's port is the lower one, and it speaks first."""
    flow = Flow()
    for _ in flow.open():
        continue
    yield flow.s(b"220 ready\r\n", "PA")
    yield flow.c()
    yield from flow.talk()
    yield from flow.close()


@case()
def client_only() -> Frames:
    """Only one direction was captured."""
    flow = Flow()
    client = packets.mac_bytes("0a00") and bytes([10, 0, 0, 1])
    yield from (frame for frame in flow.whole() if frame[26:30] == client)


@case(snaplen=68)
def snapped() -> Frames:
    """Frames cut after 68 bytes: headers whole, payload not."""
    flow = Flow()
    yield from flow.open()
    yield from flow.talk(b"r" * 500, b"R" * 1000)
    yield from flow.talk()
    yield from flow.close()


@case(snaplen=40)
def snapped_in_header() -> Frames:
    """Frames cut within the TCP header."""
    yield from Flow().whole()


@case()
def ecn() -> Frames:
    """ECE, CWR and AE in the handshake (RFC 3168, RFC 9768), congestion marked and answered."""
    flow = Flow()
    yield flow.c(flags="SEC")
    yield flow.s(flags="SAE")
    yield flow.c()
    yield flow.c(b"marked", "PA")
    yield flow.s(flags="AE")
    yield flow.c(b"slower", "PAC")
    yield flow.s()
    yield from flow.close()
    flow = Flow(40_001)
    syn = packets.tcp(src="10.0.0.1", dst="10.0.0.2", sport=40_001, flags="SEC", accurate_ecn=True)
    yield packets.ethernet(packets.ipv4(syn))


@case()
def odd_flags() -> Frames:
    """Segments with no flags, all flags, SYN with FIN, and FIN without ACK, on no connection."""
    for port, flags in enumerate(("", "FSRPAUEC", "SF", "F", "SR", "FPU")):
        yield Flow(40_000 + port).c(flags=flags)


# --- around TCP -------------------------------------------------------------------------------------------


@case()
def vlans() -> Frames:
    """Flows that differ only in their VLAN; a priority tag; two tags of both kinds."""
    yield from Flow(vlan=12).whole()
    yield from Flow(vlan=13).whole()
    for frame in Flow(40_001).whole():
        yield packets.vlan(frame, 0, priority=5)
    for frame in Flow(40_002, vlan=100).whole():
        yield packets.vlan(frame, 200)
    for frame in Flow(40_003, vlan=100).whole():
        yield packets.vlan(frame, 200, ethertype=0x88A8)


@case()
def fragments() -> Frames:
    """TCP in IPv4 fragments: in order, backwards, doubled, and one missing."""
    flow = Flow()
    yield from flow.open()
    for number in range(4):
        segment = ip_of(flow.c(bytes([ord("a") + number]) * 100, "PA", ip_id=number + 1))
        parts = packets.fragment_ipv4(segment, 48)
        if number == 1:
            parts.reverse()
        elif number == 2:
            parts = [part for part in parts for _ in range(2)]
        elif number == 3:
            del parts[1]
        yield from (packets.ethernet(part) for part in parts)
        yield flow.s(ack=min(flow.client.nxt, 300))
    yield flow.c(b"d" * 100, "PA", at=300)
    yield flow.s()
    yield from flow.close()


@case()
def overlapping_fragments() -> Frames:
    """Two IPv4 fragments carry the same bytes differently."""
    flow = Flow()
    yield from flow.open()
    good = packets.fragment_ipv4(ip_of(flow.c(b"good" * 20, "PA", ip_id=7)), 40)
    evil = packets.fragment_ipv4(ip_of(flow.c(b"evil" * 20, "PA", at=0, ip_id=7)), 40)
    yield from (packets.ethernet(part) for part in (good[0], good[2], evil[1], good[1]))
    yield flow.s()
    yield from flow.close()


@case()
def fragments_ipv6() -> Frames:
    """TCP in IPv6 fragments, in order and backwards, and an atomic fragment (RFC 6946)."""
    flow = Flow(ipv6=True)
    yield from flow.open()
    for number, size in enumerate((48, 48, 1000)):
        parts = packets.fragment_ipv6(ip_of(flow.c(b"abcdefgh" * 12, "PA")), size, ip_id=number + 1)
        yield from (packets.ethernet(part) for part in (reversed(parts) if number == 1 else parts))
        yield flow.s()
    yield from flow.close()


@case()
def extension_headers() -> Frames:
    """IPv6 with hop-by-hop, routing and destination options before TCP."""
    hop_by_hop, routing, destination = 0, 43, 60
    for frame in Flow(ipv6=True).whole():
        packet = ip_of(frame)
        body = packets.ipv6_extension(packet[40:])
        body = packets.ipv6_extension(body, proto=destination, body=bytes(6))
        body = packets.ipv6_extension(body, proto=routing)
        yield packets.ethernet(packets.ipv6(body, proto=hop_by_hop))


@case()
def ip_options() -> Frames:
    """IPv4 headers with options (router alert)."""
    for frame in Flow().whole():
        packet = ip_of(frame)
        addresses = ("10.0.0.1", "10.0.0.2") if packet[15] == 1 else ("10.0.0.2", "10.0.0.1")
        options = b"\x94\x04\0\0"
        yield packets.ethernet(packets.ipv4(packet[20:], src=addresses[0], dst=addresses[1], options=options))


@case()
def tunnels() -> Frames:
    """The same connection within GRE, 4in4, 4in6, 6in4 and VXLAN, on different ports."""
    outer4 = ("192.0.2.1", "192.0.2.2")
    for frame in Flow(40_000).whole():
        gre = struct.pack("!HH", 0, 0x0800) + ip_of(frame)
        yield packets.ethernet(packets.ipv4(gre, src=outer4[0], dst=outer4[1], proto=47))
    for frame in Flow(40_001).whole():
        yield packets.ethernet(packets.ipv4(ip_of(frame), src=outer4[0], dst=outer4[1], proto=4))
    for frame in Flow(40_002).whole():
        yield packets.ethernet(packets.ipv6(ip_of(frame), proto=4))
    for frame in Flow(40_003, ipv6=True).whole():
        yield packets.ethernet(packets.ipv4(ip_of(frame), src=outer4[0], dst=outer4[1], proto=41))
    for frame in Flow(40_004).whole():
        vxlan = struct.pack("!II", 0x0800_0000, 42 << 8) + frame
        datagram = packets.udp(vxlan, src=outer4[0], dst=outer4[1], sport=50_000, dport=4789)
        yield packets.ethernet(packets.ipv4(datagram, src=outer4[0], dst=outer4[1], proto=17))


@case()
def encapsulations() -> Frames:
    """The same connection in every tunnel that is read and that tshark reads by default, on different ports."""
    names = [name for name in tunnelling.TUNNELS if name not in tunnelling.UNREAD_BY_TSHARK]
    for number, name in enumerate(names):
        ipv6 = number % 2 == 1 and "NSH" not in name and "WCCP" not in name
        flow = Flow(41_000 + number, ipv6=ipv6)
        for frame in flow.whole():
            source = 54 if ipv6 else 34
            yield tunnelling.TUNNELS[name](
                frame, int.from_bytes(frame[source : source + 2]) == flow.client.port
            )


@case()
def tags() -> Frames:
    """The same connection behind each tag, label and header that may stand between Ethernet and IP."""
    read = [wrapping for name, wrapping in TAGS.items() if name not in TSHARK_FAILS]
    for port, wrapping in enumerate(read, start=40_000):
        yield from (wrapping.wrap(ip_of(frame)) for frame in Flow(port).whole())


@case()
def unread() -> Frames:
    """A connection among frames that hide some: MACsec with encryption, a piece of multilink PPP; and LLDP."""
    flow = Flow().whole()
    yield next(flow)
    yield packets.ethernet(bytes.fromhex("2c0000000001") + bytes(60), ethertype=0x88E5)
    yield packets.ethernet(b"LLDP", ethertype=0x88CC)
    yield packets.ethernet(bytes.fromhex("110000090008 003d80000001 0021"), ethertype=0x8864)
    yield packets.ethernet(b"LLDP", ethertype=0x88CC)
    yield from flow


@case()
def padding() -> Frames:
    """Ethernet padding behind the IP packet, not all zero, must not become data."""
    for frame in Flow().whole():
        yield frame + b"padding!"[: max(0, 60 - len(frame))] + b"FCS?"


@case()
def offloaded() -> Frames:
    """A super-segment whose IPv4 total length is 0, and checksums that are the pseudo-header's sum only."""
    flow = Flow()
    yield from flow.open()
    frame = flow.c(b"0123456789" * 200, "PA")
    packet = ip_of(frame)
    pseudo = packets.pseudo_header("10.0.0.1", "10.0.0.2", 6, len(packet) - 20)
    partial = struct.pack("!H", packets.checksum(pseudo) ^ 0xFFFF)
    segment = packet[20:36] + partial + packet[38:]
    yield packets.ethernet(packets.ipv4(segment, total_length=0))
    yield flow.s()
    yield packets.ethernet(packets.ipv4(ip_of(flow.c(b"end", "PA"))[20:36] + partial + b"\0\0end"))
    yield flow.s()
    yield from flow.close()


@case()
def malformed() -> Frames:
    """Lengths and offsets that cannot be, within a good connection."""
    flow = Flow()
    yield from flow.open()
    good = flow.c(b"never", "PA", at=0)
    for at, value in (
        (14, 0x44),  # IPv4 header of 16 bytes
        (14, 0x4F),  # ... and of 60, more than there is before the options end
        (14, 0x55),  # IP version 5
        (17, 30),  # total length that ends within the TCP header
        (16, 0x40),  # total length beyond the frame
        (46, 0x40),  # TCP header of 16 bytes
        (46, 0xF0),  # ... and of 60
    ):
        broken = bytearray(good)
        broken[at] = value
        yield bytes(broken)
    for size in (1, 13, 14, 20, 33, 34, 40, 53):
        yield good[:size]
    yield from flow.talk()
    yield flow.c(at=7, options=b"\x02\x04\x05")  # MSS option cut short
    yield flow.c(at=7, options=b"\x08\x00\x01\x01")  # option of length 0
    yield flow.c(at=7, options=b"\x05\xff\0\0")  # SACK longer than the header
    yield from flow.close()


@case()
def others() -> Frames:
    """A connection among ARP, UDP, ICMP, an IP protocol nobody knows and a frame that is not IP."""
    yield packets.ethernet(bytes.fromhex("0001080006040001") + bytes(20), ethertype=0x0806)
    yield packets.udp_frame(payload=b"query", dport=53)
    frames = Flow().whole()
    yield next(frames)
    icmp = struct.pack("!BBHI", 8, 0, 0, 1)
    yield packets.ethernet(
        packets.ipv4(icmp[:2] + struct.pack("!H", packets.checksum(icmp)) + icmp[4:], proto=1)
    )
    yield next(frames)
    yield packets.ethernet(packets.ipv4(b"?" * 8, proto=253))
    yield packets.ethernet(b"LLDP", ethertype=0x88CC)
    yield from frames


@case(linktype=RAW)
def raw_ip() -> Frames:
    """No link layer: IPv4 and IPv6 packets."""
    yield from map(ip_of, Flow().whole())
    yield from map(ip_of, Flow(ipv6=True).whole())


@case(linktype=NULL)
def loopback() -> Frames:
    """BSD loopback: the address family in the capturing host's byte order."""
    for frame in Flow().whole():
        yield struct.pack("<I", 2) + ip_of(frame)
    for frame in Flow(ipv6=True).whole():
        yield struct.pack("<I", 30) + ip_of(frame)


@case(linktype=LINUX_SLL)
def cooked_v1() -> Frames:
    """Linux cooked capture, version 1; version 2 is recorded in ../cooked.pcap."""
    for frame in Flow().whole():
        yield struct.pack("!HHH8sH", 0, 1, 6, frame[6:12], 0x0800) + ip_of(frame)


@case(endian=">")
def big_endian() -> Frames:
    """A file written by a host of the other byte order."""
    yield from Flow().whole()


def pcap(case: Case) -> bytes:
    """Write a capture in the classic format, microseconds."""
    parts = [struct.pack(case.endian + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, case.snaplen, case.linktype)]
    for number, frame in enumerate(case.frames()):
        seconds, ns = divmod(START_NS + number * STEP_NS, 10**9)
        kept = frame[: case.snaplen]
        parts += [struct.pack(case.endian + "IIII", seconds, ns // 1000, len(kept), len(frame)), kept]
    return b"".join(parts)


def pcapng() -> bytes:
    """Write a pcapng file: two sections of different byte order, interfaces that differ in link and clock."""

    def block(endian: str, kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack(endian + "I", 12 + len(body))
        return struct.pack(endian + "I", kind) + length + body + length

    parts = []
    for endian, port in (("<", 40_000), (">", 40_001)):
        parts.append(block(endian, 0x0A0D0D0A, struct.pack(endian + "IHHq", 0x1A2B3C4D, 1, 0, -1)))
        nanoseconds = struct.pack(endian + "HHB3xHH", 9, 1, 9, 0, 0)
        parts.append(block(endian, 1, struct.pack(endian + "HHI", ETHERNET, 0, 0)))
        parts.append(block(endian, 1, struct.pack(endian + "HHI", RAW, 0, 0) + nanoseconds))
        parts.append(block(endian, 0x8000_0BAD, b"of a local kind, to be skipped"))
        for number, frame in enumerate(Flow(port).whole()):
            ns = START_NS + number * STEP_NS
            data, ticks = (ip_of(frame), ns) if number % 2 else (frame, ns // 1000)
            fixed = (number % 2, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), len(data))
            parts.append(block(endian, 6, struct.pack(endian + "IIIII", *fixed) + data))
    return b"".join(parts)


def links_pcapng() -> bytes:
    """Write a pcapng file with an interface of every link type but Ethernet, as far as tshark reads it."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + length + body + length

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    read = [
        wrapping
        for name, wrapping in LINKS.items()
        if wrapping.linktype not in TSHARK_READS_NOT and name not in TSHARK_FAILS
    ]
    parts += [block(1, struct.pack("<HHI", wrapping.linktype, 0, 0)) for wrapping in read]
    ticks = START_NS // 1000
    for interface, wrapping in enumerate(read):
        for frame in Flow(40_000 + interface).whole():
            data = wrapping.wrap(ip_of(frame))
            ticks += STEP_NS // 1000
            fixed = (interface, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), len(data))
            parts.append(block(6, struct.pack("<IIIII", *fixed) + data))
    return b"".join(parts)


def build(directory: Path = HARD) -> None:
    """Write every case into *directory*."""
    directory.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (directory / f"{name}.pcap").write_bytes(pcap(case))
    (directory / "sections.pcapng").write_bytes(pcapng())
    (directory / "links.pcapng").write_bytes(links_pcapng())


if __name__ == "__main__":
    build()
