"""Every tunnel that is read, built around a frame; for unit tests, captures and tshark alike.

A way takes an Ethernet frame that carries IP, and whether it goes from the tunnel's first end to its second, and gives
the frame that is on the wire. Numbers that differ by direction (endpoint and session ids, call ids, sequence numbers)
do so here as well.
"""

import struct
from collections.abc import Callable

from aiomos.testing.packets import PROTO_UDP, ethernet, ip, mac_bytes, udp

Way = Callable[[bytes, bool], bytes]

V4 = ("192.0.2.1", "192.0.2.2")
V6 = ("2001:db8:ff::1", "2001:db8:ff::2")
ETHERTYPE = {4: 0x0800, 6: 0x86DD}


def ip_of(frame: bytes) -> bytes:
    """Take the IP packet out of an Ethernet frame without tags."""
    return frame[14:]


def ethertype(frame: bytes) -> int:
    """Tell which IP version it carries, by EtherType."""
    return int.from_bytes(frame[12:14])


def over_ip(payload: bytes, proto: int, forth: bool, ends: tuple[str, str] = V4) -> bytes:
    """Put an outer IP header in front."""
    src, dst = ends if forth else ends[::-1]
    return ethernet(ip(payload, src=src, dst=dst, proto=proto))


def over_udp(
    payload: bytes, forth: bool, port: int, other: int | None = None, ends: tuple[str, str] = V4
) -> bytes:
    """Put an outer UDP header in front: to *port* from an arbitrary one; or between *other* and *port*."""
    src, dst = ends if forth else ends[::-1]
    sport, dport = (50_000, port) if other is None else (other, port) if forth else (port, other)
    return over_ip(udp(payload, src=src, dst=dst, sport=sport, dport=dport), PROTO_UDP, forth, ends)


def labels(*numbers: int) -> bytes:
    """Build a label stack."""
    last = len(numbers) - 1
    return b"".join(
        struct.pack("!I", number << 12 | (i == last) << 8 | 64) for i, number in enumerate(numbers)
    )


def gre(payload: bytes, protocol: int, *, flags: int = 0, fields: bytes = b"") -> bytes:
    """Build a GRE header in front; *fields* are those that *flags* say are there."""
    return struct.pack("!HH", flags, protocol) + fields + payload


def vxlan(frame: bytes, vni: int = 42, flags: int = 0x08) -> bytes:
    """Build a VXLAN header in front (RFC 7348)."""
    return struct.pack("!B3xI", flags, vni << 8) + frame


def vxlan_gpe(payload: bytes, protocol: int, vni: int = 42, flags: int = 0x0C) -> bytes:
    """Build a VXLAN-GPE header in front."""
    return struct.pack("!BxxBI", flags, protocol, vni << 8) + payload


def nsh(payload: bytes, protocol: int, words: int = 6) -> bytes:
    """Build a network service header of *words* in front (RFC 8300)."""
    kind = 1 if words == 6 else 2
    return struct.pack("!HBBI", 0x0FC0 | words, kind, protocol, 1 << 8 | 255) + bytes(4 * words - 8) + payload


def geneve(payload: bytes, protocol: int, vni: int = 42, options: bytes = b"") -> bytes:
    """Build a Geneve header in front (RFC 8926)."""
    return struct.pack("!BBHI", len(options) // 4, 0, protocol, vni << 8) + options + payload


def gtp(payload: bytes, forth: bool = True, flags: int = 0x30, extra: bytes = b"") -> bytes:
    """Build a GTP-U header in front; the endpoint identifier is that of whom it is sent to."""
    teid = 0xAAAA if forth else 0xBBBB
    return struct.pack("!BBHI", flags, 255, len(extra) + len(payload), teid) + extra + payload


def ppp(packet: bytes, hdlc: bool = False) -> bytes:
    """Build a PPP protocol field in front, with HDLC's address and control bytes or without."""
    return (b"\xff\x03" if hdlc else b"") + (b"\0\x57" if packet[0] >> 4 == 6 else b"\0\x21") + packet


def pptp(payload: bytes, forth: bool, acknowledges: bool = False) -> bytes:
    """Build PPTP's GRE of version 1 in front (RFC 2637)."""
    fields = struct.pack("!HHI", len(payload), 7 if forth else 8, 1) + (bytes(4) if acknowledges else b"")
    return gre(payload, 0x880B, flags=0x3081 if acknowledges else 0x3001, fields=fields)


def eoip(frame: bytes, tunnel: int = 7) -> bytes:
    """Build MikroTik's Ethernet over IP in front: GRE of version 1, length and, in little-endian order, tunnel."""
    return gre(frame, 0x6400, flags=0x2001, fields=struct.pack("!H", len(frame)) + struct.pack("<H", tunnel))


def erspan2(frame: bytes) -> bytes:
    """Build ERSPAN type II behind GRE with a sequence number."""
    return gre(struct.pack("!HHI", 0x1000 | 100, 7, 1) + frame, 0x88BE, flags=0x1000, fields=b"\0\0\0\1")


def erspan3(frame: bytes, frame_type: int = 0, platform: bytes = b"") -> bytes:
    """Build ERSPAN type III behind GRE, with a platform subheader of 8 bytes or without."""
    bits = frame_type << 10 | bool(platform)
    header = struct.pack("!HHIHH", 0x2000 | 100, 7, 1, 0, bits)
    return gre(header + platform + frame, 0x22EB, flags=0x1000, fields=b"\0\0\0\1")


def l2tp2(payload: bytes, forth: bool, *, flags: int = 0x0002, fields: bytes = b"") -> bytes:
    """Build an L2TPv2 data header in front (RFC 2661); *fields* go behind tunnel and session."""
    length = b""
    if flags & 0x4000:
        length = struct.pack("!H", 8 + len(fields) + len(payload))
    ids = struct.pack("!HH", 5 if forth else 6, 7 if forth else 8)
    return struct.pack("!H", flags) + length + ids + fields + payload


def l2tp3(frame: bytes, forth: bool, cookie: int = 0, sublayer: int = 0) -> bytes:
    """Build an L2TPv3 session header in front (RFC 3931)."""
    return struct.pack("!I", 0x1111 if forth else 0x2222) + b"\xc0" * cookie + bytes(sublayer) + frame


def teredo(packet: bytes, *, authentication: bool = False, origin: bool = False) -> bytes:
    """Build Teredo's headers in front of an IPv6 packet (RFC 4380)."""
    header = b"\0\1\2\4" + b"id" + b"auth" + bytes(9) if authentication else b""
    return header + (b"\0\0\xff\xff" + bytes(4) if origin else b"") + packet


def tzsp(frame: bytes, encapsulated: int = 1, tags: bytes = b"\0\x0a\1\xc8\1") -> bytes:
    """Build a TZSP header in front: by default padding, a tag of one byte, and the end."""
    return struct.pack("!BBH", 1, 0, encapsulated) + tags + frame


def capwap(payload: bytes, *, native: bool = False, words: int = 2, bits: int = 0) -> bytes:
    """Build a CAPWAP data header of *words* in front (RFC 5415)."""
    return struct.pack("!II", words << 19 | 1 << 9 | native << 8 | bits, 0) + bytes(4 * words - 8) + payload


def wlan(packet: bytes) -> bytes:
    """Build an 802.11 data frame, 802.2 and SNAP in front of an IP packet."""
    station, access_point = mac_bytes("02:00:00:00:00:01"), mac_bytes("02:00:00:00:00:02")
    header = b"\x08\x01\0\0" + access_point + station + access_point + b"\0\0"
    return header + b"\xaa\xaa\x03\0\0\0" + struct.pack("!H", ETHERTYPE[packet[0] >> 4]) + packet


def ayiya(packet: bytes, operation: int = 1) -> bytes:
    """Build an AYIYA header in front: an identity of 16 bytes, a signature of 20."""
    protocol = 41 if packet[0] >> 4 == 6 else 4
    return bytes([0x41, 0x52, 0x10 | operation, protocol]) + bytes(4 + 16 + 20) + packet


def lisp(packet: bytes, instance: int | None = None) -> bytes:
    """Build a LISP data header in front (RFC 9300)."""
    last = 1 if instance is None else instance << 8 | 1
    return struct.pack("!II", 0xC0_000001 if instance is None else 0xC8_000001, last) + packet


def authenticated(proto: int, payload: bytes) -> bytes:
    """Build an authentication header of 24 bytes in front (RFC 4302)."""
    return struct.pack("!BBHII", proto, 4, 0, 0x100, 1) + bytes(12) + payload


CONTROL_WORD = bytes(4)
ROUTES = b"\x08\0\0\x04\xc0\0\2\1" + bytes(4)
"""A source route of GRE and the empty one at its end (RFC 1701)."""

TUNNELS: dict[str, Way] = {
    "IP in IP": lambda f, d: over_ip(ip_of(f), 41 if ethertype(f) == 0x86DD else 4, d),
    "IP in IPv6": lambda f, d: over_ip(ip_of(f), 41 if ethertype(f) == 0x86DD else 4, d, V6),
    "GRE": lambda f, d: over_ip(gre(ip_of(f), ethertype(f)), 47, d),
    "GRE over IPv6": lambda f, d: over_ip(gre(ip_of(f), ethertype(f)), 47, d, V6),
    "GRE all fields": lambda f, d: over_ip(
        gre(ip_of(f), ethertype(f), flags=0xB000, fields=struct.pack("!III", 0, 9, 1 + d)), 47, d
    ),
    "GRE source route": lambda f, d: over_ip(
        gre(ip_of(f), ethertype(f), flags=0x4000, fields=bytes(4) + ROUTES), 47, d
    ),
    "GRE bridged": lambda f, d: over_ip(gre(f, 0x6558), 47, d),
    "NVGRE": lambda f, d: over_ip(
        gre(f, 0x6558, flags=0x2000, fields=struct.pack("!I", 0x1234 << 8 | d)), 47, d
    ),
    "GRE MPLS": lambda f, d: over_ip(gre(labels(16 + d, 17) + ip_of(f), 0x8847), 47, d),
    "GRE MPLS upstream": lambda f, d: over_ip(gre(labels(16) + CONTROL_WORD + f, 0x8848), 47, d),
    "GRE PPP": lambda f, d: over_ip(gre(ppp(ip_of(f)), 0x880B), 47, d),
    "GRE NSH": lambda f, d: over_ip(gre(nsh(f, 3), 0x894F), 47, d),
    "WCCP": lambda f, d: over_ip(gre(b"\0\0\0\1" + ip_of(f), 0x883E), 47, d),
    "WCCP version 1": lambda f, d: over_ip(gre(ip_of(f), 0x883E), 47, d),
    "PPTP": lambda f, d: over_ip(pptp(ppp(ip_of(f)), d), 47, d),
    "PPTP acknowledging": lambda f, d: over_ip(pptp(ppp(ip_of(f), hdlc=True), d, True), 47, d),
    "EoIP": lambda f, d: over_ip(eoip(f), 47, d),
    "ERSPAN I": lambda f, d: over_ip(gre(f, 0x88BE), 47, d),
    "ERSPAN II": lambda f, d: over_ip(erspan2(f), 47, d),
    "ERSPAN III": lambda f, d: over_ip(erspan3(f), 47, d),
    "ERSPAN III platform": lambda f, d: over_ip(erspan3(f, platform=bytes(8)), 47, d),
    "ERSPAN III of IP": lambda f, d: over_ip(erspan3(ip_of(f), frame_type=2), 47, d),
    "MPLS in IP": lambda f, d: over_ip(labels(16) + ip_of(f), 137, d),
    "EtherIP": lambda f, d: over_ip(b"\x30\0" + f, 97, d),
    "L2TPv3": lambda f, d: over_ip(l2tp3(f, d), 115, d),
    "L2TPv3 cookie": lambda f, d: over_ip(l2tp3(f, d, cookie=8, sublayer=4), 115, d),
    "VXLAN": lambda f, d: over_udp(vxlan(f), d, 4789),
    "VXLAN of old Linux": lambda f, d: over_udp(vxlan(f), d, 8472),
    "VXLAN over IPv6": lambda f, d: over_udp(vxlan(f), d, 4789, ends=V6),
    "VXLAN-GPE": lambda f, d: over_udp(vxlan_gpe(ip_of(f), 2 if ethertype(f) == 0x86DD else 1), d, 4790),
    "VXLAN-GPE Ethernet": lambda f, d: over_udp(vxlan_gpe(f, 3), d, 4790),
    "VXLAN-GPE NSH": lambda f, d: over_udp(vxlan_gpe(nsh(ip_of(f), 1), 4), d, 4790),
    "VXLAN-GPE NSH NSH": lambda f, d: over_udp(vxlan_gpe(nsh(nsh(f, 3), 4, words=2), 4), d, 4790),
    "VXLAN-GPE MPLS": lambda f, d: over_udp(vxlan_gpe(labels(16) + ip_of(f), 5), d, 4790),
    "VXLAN-GPE without P": lambda f, d: over_udp(vxlan(f), d, 4790),
    "Geneve": lambda f, d: over_udp(geneve(f, 0x6558, options=bytes(8)), d, 6081),
    "Geneve IP": lambda f, d: over_udp(geneve(ip_of(f), ethertype(f)), d, 6081),
    "GTP-U": lambda f, d: over_udp(gtp(ip_of(f), d), d, 2152),
    "GTP-U sequence": lambda f, d: over_udp(gtp(ip_of(f), d, 0x32, bytes(4)), d, 2152),
    "GTP-U extensions": lambda f, d: over_udp(
        gtp(ip_of(f), d, 0x34, b"\0\0\0\x85" + b"\x01\0\0\xc0" + b"\x02" + bytes(7)), d, 2152
    ),
    "GTP-U Ethernet": lambda f, d: over_udp(gtp(f, d), d, 2152),
    "MPLS in UDP": lambda f, d: over_udp(labels(16, 17) + ip_of(f), d, 6635),
    "MPLS in UDP, pseudowire": lambda f, d: over_udp(labels(16) + CONTROL_WORD + f, d, 6635),
    "GRE in UDP": lambda f, d: over_udp(gre(ip_of(f), ethertype(f)), d, 4754),
    "LISP": lambda f, d: over_udp(lisp(ip_of(f)), d, 4341),
    "L2TPv2": lambda f, d: over_udp(l2tp2(ppp(ip_of(f)), d), d, 1701, 1701),
    "L2TPv2 all fields": lambda f, d: over_udp(
        l2tp2(ppp(ip_of(f), hdlc=True), d, flags=0x4A02, fields=b"\0\1\0\2\0\2\0\0"), d, 1701, 40_121
    ),
    "L2TPv3 over UDP": lambda f, d: over_udp(b"\0\3\0\0" + l2tp3(f, d, cookie=4), d, 1701, 40_122),
    "TZSP": lambda f, d: over_udp(tzsp(f), d, 37008),
    "CAPWAP": lambda f, d: over_udp(capwap(f), d, 5247, 40_123),
    "CAPWAP long": lambda f, d: over_udp(capwap(f, words=4), d, 5247, 40_123),
    "AYIYA": lambda f, d: over_udp(ayiya(ip_of(f)), d, 5072, 40_124),
}
"""Ways for either IP version."""

UNREAD_BY_TSHARK = {
    "GRE MPLS upstream",
    "ERSPAN III of IP",
    "L2TPv3",
    "L2TPv3 cookie",
    "VXLAN of old Linux",
    "VXLAN-GPE without P",
    "MPLS in UDP, pseudowire",
    "L2TPv3 over UDP",
}
"""What tshark reads only if told: cookie, sublayer, port, control word. WCCP version 1 it reads of IPv4."""

WLAN_TUNNELS: dict[str, Way] = {
    "CAPWAP 802.11": lambda f, d: over_udp(capwap(wlan(ip_of(f)), native=True), d, 5247, 40_123),
    "TZSP 802.11": lambda f, d: over_udp(tzsp(wlan(ip_of(f)), 18), d, 37008),
}
"""Ways that need 802.11 to be read."""

IPV6_TUNNELS: dict[str, Way] = {
    "Teredo": lambda f, d: over_udp(teredo(ip_of(f)), d, 3544, 40_125),
    "Teredo authentication": lambda f, d: over_udp(teredo(ip_of(f), authentication=True), d, 3544, 40_125),
    "Teredo origin": lambda f, d: over_udp(teredo(ip_of(f), origin=True), d, 3544, 40_125),
    "Teredo both": lambda f, d: over_udp(teredo(ip_of(f), authentication=True, origin=True), d, 3544, 40_125),
}
"""Ways for IPv6 only."""
