"""Every way in which an IP packet comes without another IP packet before it: link types, tags, label stacks.

Built by hand from the layouts, independently of the readers; each is tried with tshark, too, as far as that reads it.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from aiomos.testing.packets import ethernet, ip_ethertype, vlan

pack = struct.pack

CONTROL_WORD = b"\0\x2a\xf3\x01"
SNAP = b"\xaa\xaa\x03\0\0\0"
TSHARK_READS_NOT = frozenset((166, 205, 206, 219, 281, 282, 284, 285))
"""Link types that tshark 4.0 refuses."""
TSHARK_FAILS = frozenset(
    ("NFLOG big-endian", "pseudowire to an address like IPv4", "ISL with a VLAN", "old QinQ")
)
"""What it takes for something else; the VLAN of ISL is no `vlan.id`."""


class Wrapping(NamedTuple):
    """One way.

    Attributes:
        linktype: LINKTYPE_ number of the frames.
        wrap: Makes a frame of an IP packet.
        row: The number in `aiomos.wire.protocols.READ` that it is an instance of.
        vlan: VLAN id that is to be found, if any.
    """

    linktype: int
    wrap: Callable[[bytes], bytes]
    row: str
    vlan: int | None = None


def kind(packet: bytes) -> bytes:
    return pack("!H", ip_ethertype(packet))


def version(packet: bytes, four: int, six: int) -> int:
    return four if packet[0] >> 4 == 4 else six


def ppp(packet: bytes) -> bytes:
    return pack("!H", version(packet, 0x0021, 0x0057)) + packet


def pppoe(body: bytes) -> bytes:
    return pack("!HHH", 0x1100, 9, len(body)) + body


def llc(packet: bytes) -> bytes:
    return SNAP + kind(packet) + packet


def bridged(packet: bytes, padding: int = 2) -> bytes:
    return b"\xaa\xaa\x03\0\x80\xc2\0\x07" + bytes(padding) + ethernet(packet)


def nlpid(packet: bytes) -> bytes:
    return bytes([version(packet, 0xCC, 0x8E)]) + packet


def label(body: bytes, *labels: int) -> bytes:
    last = len(labels) - 1
    return b"".join(pack("!I", value << 12 | (i == last) << 8 | 64) for i, value in enumerate(labels)) + body


def chdlc(packet: bytes) -> bytes:
    return b"\x0f\0" + kind(packet) + packet


def frame_relay(packet: bytes) -> bytes:
    return b"\x18\x41\x03" + nlpid(packet)


def wlan(body: bytes, control: bytes = b"\x08\x02", more: bytes = b"") -> bytes:
    """Frame control, duration, three addresses, sequence control; *more* of the header."""
    return (
        control + bytes(2) + bytes.fromhex("020000000001 020000000002 020000000003") + b"\x10\0" + more + body
    )


def amsdu(*bodies: bytes) -> bytes:
    """Subframes of an A-MSDU, all but the last padded."""
    frames = [bytes(12) + pack("!H", len(body)) + body for body in bodies]
    return b"".join(frame + bytes(-len(frame) % 4) for frame in frames[:-1]) + frames[-1]


def radiotap(frame: bytes, fields: bytes = b"", *present: int) -> bytes:
    words = present or (0,)
    return (
        pack("<BBH", 0, 0, 4 + 4 * len(words) + len(fields))
        + pack(f"<{len(words)}I", *words)
        + fields
        + frame
    )


def attribute(number: int, value: bytes, endian: str = "<") -> bytes:
    return pack(endian + "HH", len(value) + 4, number) + value + bytes(-len(value) % 4)


def nflog(packet: bytes, endian: str = "<", family: int | None = None, ethertype: int = 0x0800) -> bytes:
    family = version(packet, 2, 10) if family is None else family
    header = attribute(1, pack("!HBB", ethertype, 1, 0), endian)
    return bytes([family, 0, 0, 5]) + header + attribute(10, b"web\0", endian) + attribute(9, packet, endian)


def pktap(linktype: int, frame: bytes, trailer: bytes = b"") -> bytes:
    fields = pack("<III24sIIII", 108, 1, linktype, b"en0", 0, 2, 14, len(trailer))
    return fields.ljust(108, b"\0") + frame + trailer


def cooked(protocol: int, body: bytes, hardware: int = 1) -> bytes:
    return pack("!HHH8sH", 0, hardware, 6, bytes(8), protocol) + body


def cooked2(protocol: int, body: bytes, hardware: int = 1) -> bytes:
    return pack("!HHIHBB8s", protocol, 0, 2, hardware, 0, 6, bytes(8)) + body


def erf(record: int, body: bytes, more: bytes = b"", before: bytes = b"") -> bytes:
    return (
        bytes(8)
        + pack("!BBHHH", record, 4, 16 + len(more + before + body), 0, len(body))
        + more
        + before
        + body
    )


def juniper(body: bytes, flags: int = 0, more: bytes = b"") -> bytes:
    return b"MGC" + bytes([flags]) + more + body


def isl(packet: bytes, vid: int = 7) -> bytes:
    frame = ethernet(packet) + bytes(4)
    rest = SNAP[:3] + b"\0\0\x0c" + pack("!HHH", vid << 1, 1, 0) + frame
    return bytes.fromhex("01000c000000 020000000001") + pack("!H", len(rest)) + rest + bytes(4)


def macsec(packet: bytes, control: int = 0, channel: bytes = b"") -> bytes:
    body = kind(packet) + packet
    return bytes([control, len(body) if len(body) < 48 else 0]) + pack("!I", 1) + channel + body + bytes(16)


def typed(ethertype: int, between: bytes = b"") -> Callable[[bytes], bytes]:
    """Make an Ethernet frame with a tag that ends with the type of what follows."""
    return lambda packet: ethernet(between + kind(packet) + packet, ethertype=ethertype)


def outer(ethertype: int, between: bytes) -> Callable[[bytes], bytes]:
    """Make an Ethernet frame with another in it."""
    return lambda packet: ethernet(between + ethernet(packet), ethertype=ethertype)


def of(ethertype: int, wrap: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda packet: ethernet(wrap(packet), ethertype=ethertype)


def sized(wrap: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Make an 802.3 frame, padded as short ones are."""
    return lambda packet: ethernet(wrap(packet), ethertype=len(wrap(packet))) + b"pad"


def prefixed(before: bytes, wrap: Callable[[bytes], bytes] = bytes) -> Callable[[bytes], bytes]:
    return lambda packet: before + wrap(packet)


BELOW = "below 0x0600"
VLANS = "0x8100, 0x88A8, 0x9100"
MPLS = "0x8847, 0x8848"
BARE = "12, 14, 101, 228, 229"
SNAP_ROW = "SAP 0xAA, 00-00-00 and 00-00-F8"

TAGS: dict[str, Wrapping] = {
    "IPv4 or IPv6": Wrapping(1, ethernet, "0x0800"),
    "VLAN": Wrapping(1, lambda packet: vlan(ethernet(packet), 7), VLANS, 7),
    "QinQ": Wrapping(1, lambda packet: vlan(vlan(ethernet(packet), 8), 7, ethertype=0x9100), VLANS, 7),
    "802.1ad": Wrapping(1, lambda packet: vlan(vlan(ethernet(packet), 8), 7, ethertype=0x88A8), VLANS, 7),
    "old QinQ": Wrapping(
        1,
        lambda packet: vlan(vlan(ethernet(packet), 8, ethertype=0x9300), 7, ethertype=0x9200),
        "0x9200, 0x9300",
        7,
    ),
    "ten VLANs": Wrapping(1, lambda packet: ethernet(packet, vlan=range(1, 11)), VLANS, 1),
    "VN-Tag": Wrapping(1, typed(0x8926, b"\0\0\0\x01"), "0x8926"),
    "E-Tag": Wrapping(1, typed(0x893F, b"\0\0\0\x01\0\0"), "0x893F"),
    "I-TAG": Wrapping(1, outer(0x88E7, b"\0\0\0\x01"), "0x88E7"),
    "I-TAG in a backbone VLAN": Wrapping(
        1, lambda packet: vlan(outer(0x88E7, b"\x08\0\0\x01")(packet), 7, ethertype=0x88A8), "0x88E7", 7
    ),
    "Cisco MetaData": Wrapping(1, typed(0x8909, b"\x01\x01\0\x01\0\x05"), "0x8909"),
    "HSR": Wrapping(1, typed(0x892F, b"\0\0\0\x01"), "0x892F"),
    "PRP trailer": Wrapping(
        1, lambda packet: ethernet(packet) + pack("!HHH", 1, 0xA000 | len(packet) + 6, 0x88FB), "0x892F"
    ),
    "R-TAG": Wrapping(1, typed(0xF1C1, b"\0\0\0\x01"), "0xF1C1"),
    "MACsec": Wrapping(1, of(0x88E5, macsec), "0x88E5"),
    "MACsec with channel": Wrapping(1, of(0x88E5, lambda p: macsec(p, 0x20, bytes(8))), "0x88E5"),
    "FabricPath": Wrapping(1, lambda p: outer(0x8903, b"\0\x40")(p) + b"FCS?", "0x8903"),
    "TRILL": Wrapping(1, outer(0x22F3, b"\0\x05\0\x01\0\x02"), "0x22F3"),
    "TRILL with options": Wrapping(1, outer(0x22F3, b"\0\x45\0\x01\0\x02" + bytes(4)), "0x22F3"),
    "NSH": Wrapping(1, of(0x894F, lambda p: pack("!HBBI", 2, 2, version(p, 1, 2), 0x1FF) + p), "0x894F"),
    "NSH with context and Ethernet": Wrapping(1, outer(0x894F, pack("!HBBI16x", 6, 1, 3, 0x1FF)), "0x894F"),
    "NSH twice": Wrapping(
        1,
        of(0x894F, lambda p: pack("!HBBIHBBI", 2, 2, 4, 0x1FF, 2, 2, version(p, 1, 2), 0x1FF) + p),
        "0x894F",
    ),
    "NSH with MPLS": Wrapping(
        1, of(0x894F, lambda p: pack("!HBBI", 2, 2, 5, 0x1FF) + label(p, 16)), "0x894F"
    ),
    "batman-adv": Wrapping(1, outer(0x4305, b"\x40\x0f\x32\x01" + bytes(6)), "0x4305"),
    "Ethernet bridged": Wrapping(1, outer(0x6558, b""), "0x6558"),
    "Arista 64 bits": Wrapping(1, typed(0xD28B, b"\0\x01\0\x10" + bytes(8)), "0xD28B"),
    "Arista 48 bits": Wrapping(1, typed(0xD28B, b"\0\x01\x01\x20" + bytes(6)), "0xD28B"),
    "PPPoE": Wrapping(1, of(0x8864, lambda p: pppoe(ppp(p)) + b"padding"), "0x8864"),
    "PPPoE with one byte": Wrapping(1, of(0x8864, lambda p: pppoe(ppp(p)[1:])), "0x8864"),
    "PPPoE in a VLAN": Wrapping(1, lambda p: vlan(ethernet(pppoe(ppp(p)), ethertype=0x8864), 7), "0x8864", 7),
    "PPP with MPLS": Wrapping(1, of(0x8864, lambda p: pppoe(b"\x02\x81" + label(p, 16))), "0x0281, 0x0283"),
    "PPP with multicast MPLS": Wrapping(
        1, of(0x8864, lambda p: pppoe(b"\x02\x83" + label(p, 16))), "0x0281, 0x0283"
    ),
    "PPP bridged": Wrapping(1, of(0x8864, lambda p: pppoe(b"\0\x31\0\x01" + ethernet(p))), "0x0031"),
    "PPP multilink": Wrapping(1, of(0x8864, lambda p: pppoe(b"\0\x3d\xc0\0\0\x01" + ppp(p))), "0x003D"),
    "MPLS": Wrapping(1, of(0x8847, lambda p: label(p, 16, 17, 18)), MPLS),
    "MPLS upstream": Wrapping(1, of(0x8848, lambda p: label(p, 16)), MPLS),
    "pseudowire": Wrapping(1, of(0x8847, lambda p: label(CONTROL_WORD + ethernet(p), 16)), MPLS),
    "pseudowire with PPPoE": Wrapping(
        1, of(0x8847, lambda p: label(CONTROL_WORD + ethernet(pppoe(ppp(p)), ethertype=0x8864), 16)), MPLS
    ),
    "pseudowire with SNAP": Wrapping(1, of(0x8847, lambda p: label(CONTROL_WORD + sized(llc)(p), 16)), MPLS),
    "pseudowire without control word": Wrapping(
        1,
        of(0x8847, lambda p: label(ethernet(p, dst="00:1b:21:00:00:01", src="00:1b:21:00:00:02"), 16)),
        MPLS,
    ),
    "pseudowire to an address like IPv4": Wrapping(
        1, of(0x8847, lambda p: label(ethernet(p, dst="4c:00:ff:fe:00:01"), 16)), MPLS
    ),
    "SNAP": Wrapping(1, sized(llc), SNAP_ROW),
    "SNAP of a bridge": Wrapping(1, sized(lambda p: b"\xaa\xaa\x03\0\0\xf8" + kind(p) + p), SNAP_ROW),
    "SNAP with a VLAN": Wrapping(1, sized(lambda p: SNAP + b"\x81\0\0\x07" + kind(p) + p), SNAP_ROW, 7),
    "SNAP bridged": Wrapping(1, sized(bridged), "SAP 0xAA, 00-80-C2"),
    "SAP of IP": Wrapping(1, sized(prefixed(b"\x06\x06\x03")), "SAP 0x06"),
    "NLPID": Wrapping(1, sized(prefixed(b"\xfe\xfe\x03", nlpid)), "SAP 0xFE"),
    "NLPID of PPP": Wrapping(1, sized(prefixed(b"\xfe\xfe\x03\xcf", ppp)), "SAP 0xFE"),
    "jumbo 802.2": Wrapping(1, of(0x8870, llc), "0x8870"),
    "ISL": Wrapping(1, lambda p: isl(p, 0), BELOW),
    "ISL with a VLAN": Wrapping(1, isl, BELOW, 7),
}
"""Behind Ethernet."""

LINKS: dict[str, Wrapping] = {
    "null little-endian": Wrapping(0, lambda p: pack("<I", version(p, 2, 30)) + p, "0"),
    "null big-endian": Wrapping(0, lambda p: pack(">I", version(p, 2, 10)) + p, "0"),
    "token ring": Wrapping(6, prefixed(b"\x10\x40" + bytes(12), llc), "6"),
    "token ring with a route": Wrapping(
        6, prefixed(b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\x06\0\0\x01\0\x02", llc), "6"
    ),
    "PPP": Wrapping(9, ppp, "9, 50"),
    "PPP with address": Wrapping(50, prefixed(b"\xff\x03", ppp), "9, 50"),
    "PPP that is Cisco's": Wrapping(50, chdlc, "9, 50"),
    "FDDI": Wrapping(10, prefixed(b"\x54" + bytes(12), llc), "10"),
    "ATM 11": Wrapping(11, llc, "11, 100"),
    "ATM": Wrapping(100, bridged, "11, 100"),
    "raw": Wrapping(101, bytes, BARE),
    "raw 12": Wrapping(12, bytes, BARE),
    "raw 14": Wrapping(14, bytes, BARE),
    "ENC": Wrapping(109, lambda p: pack("<III", version(p, 2, 24), 1, 0) + p, "13, 109"),
    "ENC 13": Wrapping(13, lambda p: pack(">III", version(p, 2, 24), 1, 0) + p, "13, 109"),
    "PPPoE": Wrapping(51, lambda p: pppoe(ppp(p)), "51"),
    "Cisco HDLC": Wrapping(104, chdlc, "104"),
    "Cisco HDLC with MPLS": Wrapping(104, lambda p: b"\x0f\0\x88\x47" + label(p, 16), "104"),
    "802.11": Wrapping(105, lambda p: wlan(llc(p)), "105"),
    "802.11 to the access point": Wrapping(105, lambda p: wlan(llc(p), b"\x08\x01"), "105"),
    "802.11 with four addresses": Wrapping(105, lambda p: wlan(llc(p), b"\x08\x03", bytes(6)), "105"),
    "802.11 QoS": Wrapping(105, lambda p: wlan(llc(p), b"\x88\x02", bytes(2)), "105"),
    "802.11 QoS, high throughput": Wrapping(105, lambda p: wlan(llc(p), b"\x88\x82", bytes(6)), "105"),
    "802.11 mesh": Wrapping(105, lambda p: wlan(bytes(6) + llc(p), b"\x88\x03", bytes(7) + b"\x01"), "105"),
    "802.11 with FCS": Wrapping(105, lambda p: wlan(llc(p)) + b"FCS?", "105"),
    "ATM CLIP": Wrapping(106, bytes, "106"),
    "frame relay": Wrapping(107, frame_relay, "107"),
    "frame relay, four bytes": Wrapping(107, prefixed(b"\x18\x40\x40\x41\x03", nlpid), "107"),
    "frame relay SNAP": Wrapping(107, prefixed(b"\x18\x41\x03\0\x80", lambda p: llc(p)[3:]), "107"),
    "frame relay bridged": Wrapping(107, prefixed(b"\x18\x41\x03\0\x80", lambda p: bridged(p, 0)[3:]), "107"),
    "frame relay PPP": Wrapping(107, prefixed(b"\x18\x41\x03\xcf", ppp), "107"),
    "frame relay of Cisco": Wrapping(107, lambda p: b"\x18\x41" + kind(p) + p, "107"),
    "loop": Wrapping(108, lambda p: pack(">I", version(p, 2, 24)) + p, "108"),
    "cooked": Wrapping(113, lambda p: cooked(ip_ethertype(p), p), "113, 276"),
    "cooked VLAN": Wrapping(113, lambda p: cooked(0x8100, b"\0\x07" + kind(p) + p), "113, 276", 7),
    "cooked PPP": Wrapping(113, lambda p: cooked(7, ppp(p), 512), "113, 276"),
    "cooked 802.2": Wrapping(113, lambda p: cooked(4, llc(p)), "113, 276"),
    "cooked Ethernet": Wrapping(113, lambda p: cooked(3, ethernet(p)), "113, 276"),
    "cooked GRE": Wrapping(113, lambda p: cooked(0x6558, ethernet(p), 778), "113, 276"),
    "cooked radiotap": Wrapping(113, lambda p: cooked(4, radiotap(wlan(llc(p))), 803), "113, 276"),
    "cooked 2": Wrapping(276, lambda p: cooked2(ip_ethertype(p), p), "113, 276"),
    "cooked 2 PPP": Wrapping(276, lambda p: cooked2(7, ppp(p), 512), "113, 276"),
    "PFLOG": Wrapping(117, lambda p: bytes([61, version(p, 2, 24)]) + bytes(62) + p, "117"),
    "PFLOG of today": Wrapping(117, lambda p: bytes([100, version(p, 2, 24)]) + bytes(98) + p, "117"),
    "Prism": Wrapping(119, lambda p: pack("<II136x", 0x44, 144) + wlan(llc(p)), "119"),
    "Prism that is AVS": Wrapping(119, lambda p: pack(">II56x", 0x80211001, 64) + wlan(llc(p)), "119"),
    "Fibre Channel": Wrapping(122, prefixed(bytes(16), llc), "122"),
    "SunATM": Wrapping(123, prefixed(b"\x02\0\0\x20", llc), "123"),
    "radiotap": Wrapping(127, lambda p: radiotap(wlan(llc(p))), "127"),
    "radiotap, flags": Wrapping(127, lambda p: radiotap(wlan(llc(p)) + b"FCS?", b"\x10", 2), "127"),
    "radiotap, aligned": Wrapping(
        127, lambda p: radiotap(wlan(bytes(2) + llc(p), b"\x88\x02", bytes(2)), bytes(8) + b"\x20", 3), "127"
    ),
    "radiotap, more words": Wrapping(
        127,
        lambda p: radiotap(
            wlan(bytes(2) + llc(p), b"\x88\x02", bytes(2)), bytes(12) + b"\x20", 0x8000_0003, 0
        ),
        "127",
    ),
    "Juniper MLPPP": Wrapping(130, lambda p: juniper(bytes(2) + ppp(p)), "130, 131"),
    "Juniper MLPPP of services": Wrapping(130, lambda p: juniper(b"\x54\0\0\0" + ppp(p)), "130, 131"),
    "Juniper MLFR": Wrapping(131, lambda p: juniper(b"\x54\0\0\0\x03" + nlpid(p)), "130, 131"),
    "Juniper GGSN": Wrapping(133, lambda p: juniper(pack("<I", version(p, 2, 6)) + p, 2), "133, 136"),
    "Juniper services": Wrapping(136, lambda p: juniper(pack("<I", version(p, 2, 6)) + p, 2), "133, 136"),
    "Juniper ATM1": Wrapping(137, lambda p: juniper(bytes(4) + llc(p)), "135, 137"),
    "Juniper ATM2": Wrapping(135, lambda p: juniper(bytes(8) + p), "135, 137"),
    "Juniper ATM2, NLPID": Wrapping(135, lambda p: juniper(bytes(8) + b"\x03" + nlpid(p)), "135, 137"),
    "Juniper ATM2, PPP": Wrapping(135, lambda p: juniper(bytes(8) + ppp(p)), "135, 137"),
    "IEEE 1394": Wrapping(138, lambda p: bytes(16) + kind(p) + p, "138"),
    "PKTAP": Wrapping(258, lambda p: pktap(1, ethernet(p)), "149, 258"),
    "PKTAP of raw IP": Wrapping(258, lambda p: pktap(12, p), "149, 258"),
    "PKTAP with a trailer": Wrapping(258, lambda p: pktap(1, ethernet(p), b"FCS?"), "149, 258"),
    "PKTAP as private number": Wrapping(149, lambda p: pktap(1, ethernet(p)), "149, 258"),
    "AVS": Wrapping(163, lambda p: pack(">II56x", 0x80211001, 64) + wlan(llc(p)), "163"),
    "pppd": Wrapping(166, prefixed(b"\0\x03", ppp), "166"),
    "pppd, direction before": Wrapping(166, prefixed(b"\x01\xff\x03", ppp), "166"),
    "Juniper PPPoE": Wrapping(167, lambda p: juniper(ethernet(pppoe(ppp(p)), ethertype=0x8864)), "167, 178"),
    "Juniper Ethernet": Wrapping(178, lambda p: juniper(ethernet(p)), "167, 178"),
    "Juniper Ethernet, extended": Wrapping(
        178, lambda p: juniper(ethernet(p), 0x80, pack("!H6x", 6)), "167, 178"
    ),
    "Juniper without link": Wrapping(178, lambda p: juniper(pack("<I", version(p, 2, 6)) + p, 2), "167, 178"),
    "Juniper MPLS": Wrapping(181, lambda p: juniper(pack("<I", 5) + label(p, 16), 2), "181"),
    "Juniper PPP": Wrapping(179, lambda p: juniper(b"\xff\x03" + ppp(p)), "179"),
    "Juniper frame relay": Wrapping(180, lambda p: juniper(frame_relay(p)), "180"),
    "Juniper Cisco HDLC": Wrapping(181, lambda p: juniper(chdlc(p)), "181"),
    "Juniper voice": Wrapping(183, lambda p: juniper(bytes(18) + p), "183"),
    "PPI": Wrapping(192, lambda p: pack("<BBHI", 0, 0, 8, 105) + wlan(llc(p)), "192"),
    "PPI with Ethernet": Wrapping(192, lambda p: pack("<BBHI4x", 0, 0, 12, 1) + ethernet(p), "192"),
    "ERF Ethernet": Wrapping(197, lambda p: erf(2, ethernet(p), before=bytes(2)), "197"),
    "ERF extended": Wrapping(197, lambda p: erf(0x82, ethernet(p), b"\x83" + bytes(15), bytes(2)), "197"),
    "ERF IP": Wrapping(197, lambda p: erf(version(p, 22, 23), p), "197"),
    "ERF SONET": Wrapping(197, lambda p: erf(1, b"\xff\x03" + ppp(p)), "197"),
    "PPP with direction": Wrapping(204, prefixed(b"\x01\xff\x03", ppp), "204"),
    "Cisco HDLC with direction": Wrapping(205, prefixed(b"\x01", chdlc), "205"),
    "frame relay with direction": Wrapping(206, prefixed(b"\x01", frame_relay), "206"),
    "MPLS": Wrapping(219, lambda p: label(p, 16, 17), "219"),
    "IPNET": Wrapping(226, lambda p: pack("!BBHI16x", 1, version(p, 2, 26), 0, len(p)) + p, "226"),
    "NFLOG": Wrapping(239, nflog, "239"),
    "NFLOG big-endian": Wrapping(239, lambda p: nflog(p, ">"), "239"),
    "NFLOG of a bridge": Wrapping(239, lambda p: nflog(p, "<", 7, ip_ethertype(p)), "239"),
    "InfiniBand": Wrapping(242, lambda p: bytes(40) + kind(p) + bytes(2) + p, "242"),
    "Broadcom's tag": Wrapping(
        281, lambda p: ethernet(p)[:12] + bytes(4) + ethernet(p)[12:], "281, 282, 284, 285"
    ),
    "Broadcom's tag before": Wrapping(282, lambda p: bytes(4) + ethernet(p), "281, 282, 284, 285"),
    "Marvell's tag": Wrapping(
        284, lambda p: ethernet(p)[:12] + b"\x60\0\0\x07" + ethernet(p)[12:], "281, 282, 284, 285", 7
    ),
    "Marvell's tag with a type": Wrapping(
        285,
        lambda p: ethernet(p)[:12] + b"\xda\xda\0\0\x40\0\0\0" + ethernet(p)[12:],
        "281, 282, 284, 285",
    ),
}
"""Other than Ethernet."""

ALL = {f"Ethernet: {name}": wrapping for name, wrapping in TAGS.items()} | LINKS
