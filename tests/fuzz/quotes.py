"""ICMP errors about packets that have passed, quotes of every length and quotes in quotes; all in every tunnel."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from aiomos.testing.packets import (
    checksum,
    ethernet,
    fragment_ipv4,
    ip,
    ipv6_extension,
    ipv6_fragment,
    pseudo_header,
)
from tests.fuzz.hostile import Frame
from tests.tunnels import IPV6_TUNNELS, TUNNELS
from tests.wrappings import TAGS

ICMP, ICMPV6 = 1, 58
ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
ROUTERS = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
ENDS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
MOST_DEPTH = 4
TAGGED = tuple(TAGS.values())
WRITTEN_ANEW = (
    *("IPv4 or IPv6", "VLAN", "QinQ", "SNAP", "SNAP of a bridge", "MPLS", "MPLS upstream"),
    *("PPPoE", "PPPoE with one byte", "PPPoE in a VLAN"),
)
"""Names in `TAGS`: link layers that packets built in line have, too."""
UNFRAGMENTED = (b"\0\0", b"\x40\0")
BARE = {b"\x08\x00": "4", b"\x86\xdd": "6"}
"""EtherTypes of IP, and the digit with which a packet begins."""


def version_of(packet: bytes) -> int:
    """The IP version of a packet, 4 if it says none."""
    return 6 if packet and packet[0] >> 4 == 6 else 4


def ends_of(packet: bytes) -> tuple[str, str]:
    """Source and destination of an IP packet; some others if they are cut off."""
    if version_of(packet) == 6:
        if len(packet) < 40:
            return ENDS[6]
        return str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40]))
    if len(packet) < 20:
        return ENDS[4]
    return str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))


def error_about(quoted: bytes, kind: int, code: int, *, src: str | None = None, rest: int = 0) -> bytes:
    """Write the ICMP error that tells a packet's sender of it.

    Args:
        quoted: As much of the packet as is to be quoted.
        kind: The type.
        code: The code.
        src: Who tells; by default the destination.
        rest: The second word of the header.
    """
    version = version_of(quoted)
    told, other = ends_of(quoted)
    src = src or other
    message = struct.pack("!BBHI", kind, code, 0, rest) + quoted
    pseudo = pseudo_header(src, told, ICMPV6, len(message)) if version == 6 else b""
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return ip(message, src=src, dst=told, proto=ICMPV6 if version == 6 else ICMP)


def wrapped(packet: bytes, chosen: random.Random) -> bytes:
    """Wrap a packet for Ethernet in one of the ways that are read: bare, behind tags, or in a tunnel."""
    match chosen.randrange(3):
        case 0:
            return ethernet(packet)
        case 1:
            return chosen.choice(TAGGED).wrap(packet)
    ways = [*TUNNELS.values(), *(IPV6_TUNNELS.values() if version_of(packet) == 6 else ())]
    return chosen.choice(ways)(ethernet(packet), chosen.random() < 0.5)


def errors_about(packet: bytes, chosen: random.Random) -> Iterator[bytes]:
    """Give frames of errors about an IP packet, of one kind each time it is called."""
    version = version_of(packet)
    for _ in range(3):
        quoted = packet
        match chosen.randrange(8):
            case 0 if version == 4 and len(packet) > 36 and packet[0] == 0x45 and packet[6:8] == b"\0\0":
                quoted = chosen.choice(fragment_ipv4(packet, 36))
            case 1 if version == 6 and len(packet) > 48:
                body = ipv6_fragment(packet[40:], proto=packet[6], more_fragments=True)
                quoted = packet[:4] + struct.pack("!HB", len(body), 44) + packet[7:40] + body
            case 2 if version == 6 and len(packet) > 48:
                body = ipv6_extension(packet[40:], proto=packet[6])
                quoted = packet[:4] + struct.pack("!HB", len(body), 60) + packet[7:40] + body
            case 3:
                changed = bytearray(packet)
                if changed:
                    changed[chosen.randrange(min(60, len(changed)))] = chosen.randrange(256)
                quoted = bytes(changed)
            case 4:  # what NAT has done to it is undone: a reply's error
                quoted = packet[:12] + packet[16:20] + packet[12:16] + packet[20:] if version == 4 else packet
        for _ in range(chosen.choice((1, 1, 1, 2, 3, MOST_DEPTH))):
            quoted = quoted[: chosen.choice((chosen.randrange(90), len(quoted)))]
            of = version_of(quoted)
            kind = chosen.choice((*ERRORS[of], *ERRORS[of], chosen.randrange(256)))
            src = chosen.choice((None, ROUTERS[of]))
            quoted = error_about(
                quoted, kind, chosen.choice((0, 1, 3, 4, chosen.randrange(256))), src=src, rest=1280
            )
        yield wrapped(quoted[:1500], chosen)


def with_errors(frames: Iterable[Frame], chosen: random.Random) -> Iterator[Frame]:
    """Put errors about what has passed between frames."""
    passed: list[bytes] = []
    for time_ns, data, linktype, wirelen in frames:
        yield time_ns, data, linktype, wirelen
        start = {1: 14, 101: 0, 228: 0, 229: 0, 113: 16}.get(linktype)
        if start is not None and data[start : start + 1] and data[start] >> 4 in (4, 6):
            passed = [*passed[-20:], data[start:]]
        if passed and chosen.random() < 0.5:
            for error in errors_about(chosen.choice(passed), chosen):
                yield time_ns, error, 1, len(error)


def with_tunnels(frames: Iterable[Frame], chosen: random.Random) -> Iterator[Frame]:
    """Put most of the packets that are bare on Ethernet into one tunnel, or behind one kind of tag."""
    tunnel = chosen.choice(sorted(TUNNELS)) if chosen.random() < 0.7 else None
    tagged = chosen.choice(TAGGED)
    for time_ns, data, linktype, wirelen in frames:
        is_bare = linktype == 1 and BARE.get(data[12:14]) == data[14:15].hex()[:1]
        if not is_bare or chosen.random() < 0.1:
            yield time_ns, data, linktype, wirelen
            continue
        forth = data[26:30] < data[30:34]
        frame = tagged.wrap(data[14:]) if tunnel is None else TUNNELS[tunnel](data, forth)
        yield time_ns, frame, linktype, len(frame) + wirelen - len(data)


def in_pieces(frames: Iterable[Frame], chosen: random.Random) -> Iterator[Frame]:
    """Put the packets of bare Ethernet behind one link layer that is written anew; some in fragments, some too late.

    IPv4 packets only come in fragments, all of which have that link layer; what is late leaves a hole behind.
    """
    wrap = TAGS[chosen.choice(WRITTEN_ANEW)].wrap
    late: list[Frame] = []
    for time_ns, data, linktype, wirelen in frames:
        if linktype != 1 or BARE.get(data[12:14]) != data[14:15].hex()[:1]:
            yield time_ns, data, linktype, wirelen
            continue
        packet = data[14:]
        pieces = [packet]
        whole = (
            packet[:1] == b"\x45"
            and len(packet) == int.from_bytes(packet[2:4])
            and packet[6:8] in UNFRAGMENTED
        )
        if whole and len(packet) > 60 and chosen.random() < 0.5:
            pieces = fragment_ipv4(packet[:6] + b"\0\0" + packet[8:], chosen.choice((40, 64, 600)))
        sent = [(time_ns, framed, 1, len(framed)) for framed in map(wrap, pieces)]
        if chosen.random() < 0.2:
            late += sent
            continue
        yield from sent
        if late and chosen.random() < 0.4:
            yield from late
            late = []
    yield from late
