"""Fields set in place, in any order and number, give the packet that is built with those values from scratch."""

import struct
from dataclasses import dataclass, replace
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import (
    checksum,
    ethernet,
    ipv4,
    ipv6,
    ipv6_extension,
    mss,
    pseudo_header,
    sack,
    timestamps,
    vlan,
    with_checksum,
)

probe = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")
wire = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

u8 = st.integers(0, 2**8 - 1)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
macs = st.binary(min_size=6, max_size=6).map(lambda mac: mac.hex(":"))
blocks = st.lists(st.tuples(u32, u32), max_size=2).map(tuple)
ADDRESSES = {
    4: st.ip_addresses(v=4).map(str),
    6: st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None).map(str),
}
PROTO = {"tcp": 6, "udp": 17, "icmp": 1, "sctp": 132, "udplite": 136}


@dataclass(frozen=True)
class Model:
    """A packet by its fields."""

    transport: str
    version: int
    src: str
    dst: str
    eth_src: str = "02:00:00:00:00:01"
    eth_dst: str = "02:00:00:00:00:02"
    ttl: int = 64
    tos: int = 0
    sport: int = 1234
    dport: int = 80
    seq: int = 1
    ack: int = 2
    flags: int = 0x10
    window: int = 3
    urgent: int = 0
    mss: int = 1460
    timestamps: tuple[int, int] = (1, 2)
    sack: tuple[tuple[int, int], ...] = ((5, 6), (7, 8))
    echo_id: int = 9
    odd: bool = False  # options at odd offsets
    summed: bool = True  # UDP: with a checksum
    partial: bool = False  # the checksum is left to the network card
    extension: bool = False
    tag: int | None = None
    payload: bytes = b"payload"

    @property
    def proto(self) -> int:
        return 58 if self.transport == "icmp" and self.version == 6 else PROTO[self.transport]

    def options(self) -> bytes:
        """MSS, SACK and timestamps, after a NOP or two; blocks that are gone leave NOPs."""
        selective = sack(self.sack) if self.sack else b""
        selective += b"\x01" * (18 - len(selective))
        return b"\x01" * self.odd + mss(self.mss) + selective + timestamps(*self.timestamps)

    def header(self) -> tuple[bytes, int | None]:
        """The transport header and where its checksum is."""
        match self.transport:
            case "tcp":
                options = self.options()
                options += bytes(-len(options) % 4)
                bits = (20 + len(options)) // 4 << 12 | self.flags
                numbers = (self.sport, self.dport, self.seq, self.ack, bits, self.window, 0, self.urgent)
                return struct.pack("!HHIIHHHH", *numbers) + options, 16
            case "udp":
                length = 8 + len(self.payload)
                return struct.pack("!HHHH", self.sport, self.dport, length, 0), 6 if self.summed else None
            case "icmp":
                return struct.pack("!BBHHH", 8 if self.version == 4 else 128, 0, 0, self.echo_id, 1), 2
            case _:
                return struct.pack("!HHHH", 1, 2, 0, 0), 6 if self.transport == "udplite" else None

    def segment(self) -> bytes:
        header, at = self.header()
        data = header + self.payload
        if at is None:
            return data
        if self.partial:
            held = 0xFFFF ^ checksum(pseudo_header(self.src, self.dst, self.proto, len(data)))
            return data[:at] + struct.pack("!H", held) + data[at + 2 :]
        if self.proto == PROTO["icmp"]:
            return data[:at] + struct.pack("!H", checksum(data)) + data[at + 2 :]
        return with_checksum(data, at, self.src, self.dst, self.proto)

    def frame(self) -> bytes:
        """The whole frame."""
        body = self.segment()
        if self.version == 4:
            packet = ipv4(
                body, src=self.src, dst=self.dst, proto=self.proto, ttl=self.ttl, tos=self.tos, ip_id=7
            )
        else:
            first = 60 if self.extension else self.proto
            if self.extension:
                body = ipv6_extension(body, proto=self.proto)
            fields = {"hop_limit": self.ttl, "traffic_class": self.tos, "flow_label": 0xABCDE}
            packet = ipv6(body, src=self.src, dst=self.dst, proto=first, **fields)
        frame = ethernet(packet, src=self.eth_src, dst=self.eth_dst)
        return frame if self.tag is None else vlan(frame, self.tag)

    def checksum_at(self) -> tuple[int, int]:
        """Where the network card sums from, and to."""
        frame = self.frame()
        at = self.header()[1]
        return len(frame) - len(self.segment()), at or 0


COMMON = {"eth_src": macs, "eth_dst": macs, "ttl": u8, "tos": u8}
PORTS = {"sport": u16, "dport": u16}
NUMBERS = {"seq": u32, "ack": u32, "flags": st.integers(0, 0x1FF), "window": u16, "urgent": u16, "mss": u16}
SETTABLE = {
    "tcp": COMMON | PORTS | NUMBERS | {"timestamps": st.tuples(u32, u32), "sack": blocks},
    "udp": COMMON | PORTS,
    "icmp": COMMON | {"echo_id": u16},
    "sctp": COMMON,
    "udplite": COMMON,
}


@st.composite
def packets(draw: st.DrawFn) -> Model:
    version = draw(st.sampled_from([4, 6]))
    transport = draw(st.sampled_from(["tcp", "udp", "icmp", "sctp", "udplite"]))
    return Model(
        transport,
        version,
        draw(ADDRESSES[version]),
        draw(ADDRESSES[version]),
        odd=draw(st.booleans()),
        summed=draw(st.booleans()),
        partial=transport in ("tcp", "udp") and draw(st.booleans()),
        extension=version == 6 and draw(st.booleans()),
        tag=draw(st.none() | st.integers(1, 4094)),
        payload=draw(st.binary(max_size=40)),
    )


@given(data=st.data(), model=packets())
def test_any_changes_give_the_packet_built_from_scratch(data: st.DataObject, model: Model) -> None:
    if not model.summed and model.transport == "udp":
        model = replace(model, partial=False)
    packet = probe.Writable(model.frame(), partial=model.checksum_at() if model.partial else None)
    settable = SETTABLE[model.transport] | {"src": ADDRESSES[model.version], "dst": ADDRESSES[model.version]}
    for _ in range(data.draw(st.integers(1, 6))):
        name = data.draw(st.sampled_from(sorted(settable)))
        value: Any = data.draw(settable[name])
        fits = name != "sack" or len(value) <= len(model.sack)
        assert packet.set(name, value) == (fits and (name != "sack" or bool(model.sack)))
        if fits:
            model = replace(model, **{name: value})
    assert packet.frame == model.frame()
    decoded, again = packet.decoded(), wire.decode(packet.frame)
    names = set(decoded) & set(again)
    assert {name: decoded[name] for name in names} == {name: again[name] for name in names}


def read_by_dpkt(model: Model) -> bool:
    """Whether dpkt writes all of it as it has read it."""
    kinds = ("tcp", "udp", "icmp")
    return model.version == 4 and model.transport in kinds and model.summed and not model.partial


@given(data=st.data(), model=packets().filter(read_by_dpkt))
def test_dpkt_takes_the_same_checksums(data: st.DataObject, model: Model) -> None:
    packet = probe.Writable(model.frame())
    for name in ("src", "dst", "ttl", "tos"):
        assert packet.set(name, data.draw((COMMON | {"src": ADDRESSES[4], "dst": ADDRESSES[4]})[name]))
    for name in ("sport", "dport", "echo_id", "window"):
        packet.set(name, data.draw(u16))
    octets = packet.frame[14 if model.tag is None else 18 :]
    theirs = dpkt.ip.IP(octets)
    theirs.sum = theirs.data.sum = 0
    assert bytes(theirs) == octets


@given(
    src=ADDRESSES[4],
    dst=ADDRESSES[4],
    data=st.binary(max_size=60),
    proto=st.sampled_from([6, 17]),
)
def test_a_segment_is_summed_as_the_builders_sum_it(src: str, dst: str, data: bytes, proto: int) -> None:
    ours = probe.segment_checksum(src, dst, proto, data)
    theirs = checksum(pseudo_header(src, dst, proto, len(data)) + data)
    assert ours == (theirs or (0xFFFF if proto == PROTO["udp"] else 0))


@st.composite
def quoting(draw: st.DrawFn) -> tuple[Model, Model, int, int]:
    """A packet, the same translated, how much of it is quoted, and how odd the payload of its error is."""
    version = draw(st.sampled_from([4, 6]))
    address = ADDRESSES[version]
    transport = draw(st.sampled_from(["tcp", "udp", "icmp"]))
    before = Model(
        transport,
        version,
        draw(address),
        draw(address),
        sport=draw(u16),
        dport=draw(u16),
        echo_id=draw(u16),
        summed=draw(st.booleans()),
        payload=draw(st.binary(max_size=20)),
    )
    changes = {"src": draw(address), "dst": draw(address)}
    changes |= {"echo_id": draw(u16)} if transport == "icmp" else {"sport": draw(u16), "dport": draw(u16)}
    after = replace(before, **changes)
    return before, after, draw(st.integers(8, 80)), draw(st.integers(0, 7))


def error(inner: Model, quoted: int, kind: int, version: int) -> bytes:
    """An ICMP error that quotes a packet, with so many bytes of its transport."""
    packet = inner.frame()[14:]
    header = 20 if version == 4 else 40
    body = struct.pack("!BBHI", 3 + kind if version == 6 and kind < 2 else 3, 1, 0, 0)
    body += packet[: header + quoted]
    src, dst = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    if version == 4:
        return ethernet(
            ipv4(body[:2] + struct.pack("!H", checksum(body)) + body[4:], src=src, dst=dst, proto=1)
        )
    return ethernet(ipv6(with_checksum(body, 2, src, dst, 58), src=src, dst=dst, proto=58))


@given(quoting())
def test_a_quoted_packet_is_translated_as_it_would_have_been(case: tuple[Model, Model, int, int]) -> None:
    before, after, quoted, kind = case
    packet = probe.Writable(error(before, quoted, kind, before.version))
    ports = (before.echo_id,) * 2 if before.transport == "icmp" else (before.sport, before.dport)
    assert packet.quote() == (before.src, before.dst, *ports, before.proto)
    ports = (after.echo_id,) * 2 if after.transport == "icmp" else (after.sport, after.dport)
    packet.set_quote(after.src, after.dst, *ports)
    assert packet.frame == error(after, quoted, kind, before.version)
    assert packet.quote() == (after.src, after.dst, *ports, after.proto)


@given(st.binary(max_size=120), st.integers(0, 12), st.sampled_from([4, 6]))
def test_no_quote_leads_out_of_the_packet(quoted: bytes, kind: int, version: int) -> None:
    """Whatever stands there: it is read within bounds, and written within them when it is told."""
    body = struct.pack("!BBHI", kind, 0, 0, 0) + quoted
    packet = ipv4(body, proto=1) if version == 4 else ipv6(body, proto=58)
    writable = probe.Writable(ethernet(packet))
    if writable.quote() is not None:
        inner = 4 if ":" not in writable.quote()[0] else 6
        assert inner == version
        address = "1.2.3.4" if version == 4 else "::1"
        writable.set_quote(address, address, 1, 1)
        assert writable.quote()[:4] == (address, address, 1, 1)


@given(options=st.binary(max_size=40), size=u16, edges=blocks)
def test_broken_options_are_changed_within_the_header(
    options: bytes, size: int, edges: tuple[tuple[int, int], ...]
) -> None:
    options += bytes(-len(options) % 4)
    header = struct.pack("!HHIIHHHH", 1, 2, 3, 4, (20 + len(options)) // 4 << 12, 5, 0, 0) + options
    frame = ethernet(ipv4(with_checksum(header + b"tail", 16, "10.0.0.1", "10.0.0.2", 6)))
    packet = probe.Writable(frame)
    before = wire.decode(frame)
    packet.set("mss", size)
    packet.set("timestamps", (1, 2))
    packet.set("sack", edges)
    after = wire.decode(packet.frame, verify=True)
    assert after["kind"] == "tcp"
    assert after["payload"] == b"tail"
    if before["options"] & 1 and not before["options"] & 128:
        assert after["mss"] == size
