"""The wire reader: link types, tunnels, lengths, options, checksums, and anything at all."""

import random
import struct
from collections.abc import Callable

import pytest

from aiomos.testing.packets import (
    PROTO_ICMP,
    PROTO_TCP,
    PROTO_UDP,
    checksum,
    ethernet,
    fastopen,
    ip,
    ipv4,
    ipv6,
    ipv6_extension,
    ipv6_fragment,
    mss,
    pseudo_header,
    sack,
    sack_ok,
    tcp,
    tcp_frame,
    timestamps,
    udp,
    udp_frame,
    vlan,
    wscale,
)

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
decode = probe.decode

NO_VLAN = 0xFFFF
PSH_ACK = 0x18
MSS, WSCALE, SACK_OK, SACK, TIMESTAMP, FASTOPEN, MD5, BAD = (1 << bit for bit in range(8))
V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}

DATA = b"GET / HTTP/1.0\r\n"
SEGMENT = tcp(DATA, seq=0xFFFFFFF0, ack=7, flags="PA")
PACKET = ipv4(SEGMENT)
SEGMENT6 = tcp(DATA, seq=0xFFFFFFF0, ack=7, flags="PA", **V6)
PACKET6 = ipv6(SEGMENT6, **V6)
FRAME = ethernet(PACKET)
FRAME6 = ethernet(PACKET6)


def outer_udp(payload: bytes, port: int) -> bytes:
    return ethernet(ipv4(udp(payload, dport=port), proto=PROTO_UDP))


def outer_ip(payload: bytes, proto: int) -> bytes:
    return ethernet(ipv4(payload, proto=proto, src="192.0.2.1", dst="192.0.2.2"))


def mpls(payload: bytes, *labels: int) -> bytes:
    entries = [label << 12 | (i == len(labels) - 1) << 8 | 64 for i, label in enumerate(labels)]
    return b"".join(struct.pack("!I", entry) for entry in entries) + payload


def pppoe(payload: bytes) -> bytes:
    return struct.pack("!BBHH", 0x11, 0, 9, len(payload)) + payload


def cooked(payload: bytes, ethertype: int) -> bytes:
    return struct.pack("!HHH8sH", 0, 1, 6, bytes(8), ethertype) + payload


def cooked2(payload: bytes, ethertype: int) -> bytes:
    return struct.pack("!HHIHBB8s", ethertype, 0, 2, 1, 0, 6, bytes(8)) + payload


def vxlan(frame: bytes, flags: int = 0x08) -> bytes:
    return struct.pack("!B3xI", flags, 42 << 8) + frame


def geneve(payload: bytes, ethertype: int, options: bytes = b"") -> bytes:
    return struct.pack("!BBHI", len(options) // 4, 0, ethertype, 42 << 8) + options + payload


def gtp(payload: bytes, flags: int = 0x30, extra: bytes = b"") -> bytes:
    return struct.pack("!BBHI", flags, 255, len(extra) + len(payload), 42) + extra + payload


def nested(levels: int) -> bytes:
    packet = PACKET
    for _ in range(levels):
        packet = ipv4(packet, proto=4)
    return ethernet(packet)


SNAP = b"\xaa\xaa\x03\0\0\0"

# Every way a frame can carry the one TCP segment: link type, frame.
PLAIN: dict[str, tuple[int, bytes]] = {
    "ethernet": (1, FRAME),
    "ethernet IPv6": (1, FRAME6),
    "802.1Q": (1, vlan(FRAME, 7)),
    "802.1Q IPv6": (1, vlan(FRAME6, 7)),
    "802.1ad": (1, vlan(vlan(FRAME, 8), 7, ethertype=0x88A8)),
    "QinQ": (1, vlan(vlan(FRAME, 8), 7, ethertype=0x9100)),
    "priority tag": (1, vlan(FRAME, 0, priority=5)),
    "MPLS": (1, ethernet(mpls(PACKET, 16), ethertype=0x8847)),
    "MPLS stack": (1, ethernet(mpls(PACKET6, 16, 17, 18), ethertype=0x8848)),
    "MPLS pseudowire": (1, ethernet(mpls(bytes(4) + vlan(FRAME, 9), 16), ethertype=0x8847)),
    "PPPoE": (1, ethernet(pppoe(b"\x00\x21" + PACKET), ethertype=0x8864)),
    "PPPoE IPv6": (1, ethernet(pppoe(b"\x00\x57" + PACKET6), ethertype=0x8864)),
    "PPPoE short protocol": (1, ethernet(pppoe(b"\x21" + PACKET), ethertype=0x8864)),
    "SNAP": (1, ethernet(SNAP + b"\x08\x00" + PACKET, ethertype=8 + len(PACKET))),
    "SNAP IPv6": (1, ethernet(SNAP + b"\x86\xdd" + PACKET6, ethertype=8 + len(PACKET6))),
    "raw 12": (12, PACKET),
    "raw 14": (14, PACKET6),
    "raw 101": (101, PACKET),
    "raw IPv4": (228, PACKET),
    "raw IPv6": (229, PACKET6),
    "cooked": (113, cooked(PACKET, 0x0800)),
    "cooked IPv6": (113, cooked(PACKET6, 0x86DD)),
    "cooked VLAN": (113, cooked(b"\x00\x07\x08\x00" + PACKET, 0x8100)),
    "cooked 2": (276, cooked2(PACKET, 0x0800)),
    "cooked 2 IPv6": (276, cooked2(PACKET6, 0x86DD)),
    "null little-endian": (0, struct.pack("<I", 2) + PACKET),
    "null big-endian": (0, struct.pack(">I", 2) + PACKET),
    "null Linux IPv6": (0, struct.pack("<I", 10) + PACKET6),
    "null OpenBSD IPv6": (0, struct.pack("<I", 24) + PACKET6),
    "null FreeBSD IPv6": (0, struct.pack("<I", 28) + PACKET6),
    "null macOS IPv6": (0, struct.pack("<I", 30) + PACKET6),
    "loop": (108, struct.pack(">I", 2) + PACKET),
    "PPP": (9, b"\x00\x21" + PACKET),
    "PPP with HDLC": (9, b"\xff\x03\x00\x57" + PACKET6),
    "PPP HDLC": (50, b"\xff\x03\x21" + PACKET),
    "IPv4 options": (1, ethernet(ipv4(SEGMENT, options=b"\x01\x44\x04\x05\x00"))),
    "IPv4 padded frame": (1, FRAME + bytes(9)),
    "IPv4 length 0": (1, ethernet(ipv4(SEGMENT, total_length=0))),
    "IPv6 length 0": (1, ethernet(ipv6(SEGMENT6, payload_length=0, **V6))),
    "IPv6 length 0 and no jumbo option": (
        1,
        ethernet(ipv6(ipv6_extension(SEGMENT6), proto=0, payload_length=0, **V6)),
    ),
    "IPv6 all extensions": (
        1,
        ethernet(
            ipv6(
                ipv6_extension(
                    ipv6_extension(
                        ipv6_extension(
                            bytes([135, 2])
                            + bytes(14)  # AH: 4-byte units, less 2
                            + ipv6_extension(ipv6_extension(ipv6_extension(SEGMENT6), proto=140), proto=139),
                            proto=51,
                            body=bytes(14),
                        ),
                        proto=43,
                        body=b"\x00\x00" + bytes(4),
                    ),
                    proto=60,
                ),
                proto=0,
                **V6,
            )
        ),
    ),
    "IPv6 eight extensions": (
        1,
        ethernet(ipv6(b"\x3c\0\x01\x04\0\0\0\0" * 7 + ipv6_extension(SEGMENT6), proto=60, **V6)),
    ),
    "IPv4 eight authentication headers": (
        1,
        ethernet(ipv4((b"\x33\x01" + bytes(10)) * 7 + b"\x06\x01" + bytes(10) + SEGMENT, proto=51)),
    ),
    "IPv6 atomic fragment": (1, ethernet(ipv6(ipv6_fragment(SEGMENT6), proto=44, **V6))),
}

TUNNELS: dict[str, tuple[int, bytes]] = {
    "IP in IP": (1, outer_ip(PACKET, 4)),
    "6in4": (1, outer_ip(PACKET6, 41)),
    "4in6": (1, ethernet(ipv6(PACKET, proto=4, **V6))),
    "6in6": (1, ethernet(ipv6(PACKET6, proto=41, **V6))),
    "GRE": (1, outer_ip(struct.pack("!HH", 0, 0x0800) + PACKET, 47)),
    "GRE IPv6": (1, outer_ip(struct.pack("!HH", 0, 0x86DD) + PACKET6, 47)),
    "GRE all fields": (1, outer_ip(struct.pack("!HHIII", 0xB000, 0x0800, 0, 1, 2) + PACKET, 47)),
    "GRE bridged": (1, outer_ip(struct.pack("!HH", 0, 0x6558) + FRAME, 47)),
    "VXLAN": (1, outer_udp(vxlan(FRAME), 4789)),
    "VXLAN VLAN": (1, outer_udp(vxlan(vlan(FRAME6, 5)), 4789)),
    "Geneve": (1, outer_udp(geneve(FRAME, 0x6558, b"\0" * 8), 6081)),
    "Geneve IP": (1, outer_udp(geneve(PACKET6, 0x86DD), 6081)),
    "GTP-U": (1, outer_udp(gtp(PACKET), 2152)),
    "GTP-U sequence": (1, outer_udp(gtp(PACKET, 0x32, bytes(4)), 2152)),
    "GTP-U extensions": (
        1,
        outer_udp(gtp(PACKET6, 0x34, b"\0\0\0\x85" + b"\x01\0\0\xc0" + b"\x02" + bytes(7)), 2152),
    ),
    "four tunnels": (1, nested(4)),
}

OTHERS: dict[str, tuple[int, bytes, str]] = {
    "UDP": (1, udp_frame(payload=b"query"), "udp"),
    "UDP IPv6": (1, udp_frame(payload=b"query", **V6), "udp"),
    "ICMP": (1, ethernet(ipv4(b"\x08\0\0\0", proto=PROTO_ICMP)), "icmp"),
    "ICMPv6": (1, ethernet(ipv6(b"\x80\0\0\0", proto=58, **V6)), "icmp"),
    "ICMPv6 over IPv4": (1, ethernet(ipv4(b"\x80\0\0\0", proto=58)), "ip_other"),
    "SCTP": (1, ethernet(ipv4(bytes(12), proto=132)), "ip_other"),
    "ESP": (1, ethernet(ipv6(bytes(12), proto=50, **V6)), "ip_other"),
    "IPv6 no next header": (1, ethernet(ipv6(b"", proto=59, **V6)), "ip_other"),
    "first fragment": (1, ethernet(ipv4(SEGMENT[:24], more_fragments=True)), "fragment"),
    "last fragment": (1, ethernet(ipv4(SEGMENT[24:], fragment_offset=24)), "fragment"),
    "IPv6 fragment": (1, ethernet(ipv6(ipv6_fragment(bytes(8), offset=8), proto=44, **V6)), "fragment"),
    "ARP": (1, ethernet(bytes(28), ethertype=0x0806), "non_ip"),
    "spanning tree": (1, ethernet(b"\x42\x42\x03" + bytes(35), ethertype=38), "non_ip"),
    "SNAP of an organisation": (
        1,
        ethernet(b"\xaa\xaa\x03\0\0\x0c\x20\0", ethertype=8),
        "non_ip",
    ),
    "PPPoE discovery": (1, ethernet(b"\x11\x09\0\0\0\0", ethertype=0x8863), "non_ip"),
    "PPPoE of another code": (1, ethernet(b"\x11\xa7\0\0\0\0", ethertype=0x8864), "non_ip"),
    "PPP LCP": (9, b"\xff\x03\xc0\x21\x01\x01\0\x04", "non_ip"),
    "MPLS echo channel": (1, ethernet(mpls(b"\x10\0\0\x07" + bytes(20), 13), ethertype=0x8847), "non_ip"),
    "null AppleTalk": (0, struct.pack("<I", 16) + bytes(20), "non_ip"),
    "cooked ARP": (113, cooked(bytes(28), 0x0806), "non_ip"),
    "CAN": (227, FRAME, "unknown_link"),
    "empty frame": (1, b"", "bad_link"),
    "VLAN tags without end": (1, b"\0" * 12 + b"\x81\0\0\x01" * 20 + PACKET, "bad_link"),
    "MPLS labels without end": (1, ethernet(bytes(80) + PACKET, ethertype=0x8847), "bad_link"),
    "IPv4 of version 5": (1, ethernet(b"\x55" + PACKET[1:], ethertype=0x0800), "bad_ip"),
    "IPv4 header of 16": (1, ethernet(b"\x44" + PACKET[1:], ethertype=0x0800), "bad_ip"),
    "IPv4 header beyond its length": (1, ethernet(ipv4(SEGMENT, total_length=19)), "bad_ip"),
    "IPv4 length beyond the frame": (1, ethernet(ipv4(SEGMENT, total_length=2000)), "bad_ip"),
    "IPv6 length beyond the frame": (1, ethernet(ipv6(SEGMENT6, payload_length=2000, **V6)), "bad_ip"),
    "IPv6 of version 4": (1, ethernet(b"\x45" + PACKET6[1:], ethertype=0x86DD), "bad_ip"),
    "raw nothing": (101, b"", "bad_ip"),
    "IPv6 late hop-by-hop": (
        1,
        ethernet(ipv6(ipv6_extension(ipv6_extension(SEGMENT6), proto=0), proto=60, **V6)),
        "bad_extension",
    ),
    "IPv6 extension too long": (
        1,
        ethernet(ipv6(b"\x06\x09" + SEGMENT6, proto=60, **V6)),
        "bad_extension",
    ),
    "IPv6 nine extensions": (
        1,
        ethernet(ipv6(b"\x3c\0\x01\x04\0\0\0\0" * 8 + ipv6_extension(SEGMENT6), proto=60, **V6)),
        "bad_extension",
    ),
    "IPv4 nine authentication headers": (
        1,
        ethernet(ipv4((b"\x33\x01" + bytes(10)) * 8 + b"\x06\x01" + bytes(10) + SEGMENT, proto=51)),
        "bad_extension",
    ),
    "IPv6 extensions without end": (
        1,
        ethernet(ipv6(b"\x3c\0\x01\x04\0\0\0\0" * 9 + SEGMENT6, proto=60, **V6)),
        "bad_extension",
    ),
    "TCP header of 16": (1, ethernet(ipv4(SEGMENT[:12] + b"\x40" + SEGMENT[13:])), "bad_tcp"),
    "TCP header beyond the packet": (1, ethernet(ipv4(SEGMENT[:12] + b"\xf0" + SEGMENT[13:])), "bad_tcp"),
    "TCP of 19 bytes": (1, ethernet(ipv4(SEGMENT[:19])), "bad_tcp"),
    "TCP of no bytes": (1, ethernet(ipv6(b"", **V6)), "bad_tcp"),
}

TUNNEL_FAULTS: dict[str, tuple[int, bytes, str]] = {
    "five tunnels": (1, nested(5), "bad_tunnel"),
    "GRE cut in its fields": (1, outer_ip(struct.pack("!HH", 0xB000, 0x0800), 47), "bad_tunnel"),
    "GRE cut": (1, outer_ip(b"\0\0", 47), "bad_tunnel"),
    "GRE of PPTP": (1, outer_ip(struct.pack("!HHI", 0x2001, 0x880B, 0), 47), "ip_other"),
    "GRE of something else": (1, outer_ip(struct.pack("!HH", 0, 0x0806), 47), "ip_other"),
    "VXLAN without its flag": (1, outer_udp(vxlan(FRAME, flags=0), 4789), "udp"),
    "VXLAN of ARP": (1, outer_udp(vxlan(ethernet(bytes(28), ethertype=0x0806)), 4789), "non_ip"),
    "Geneve version 1": (1, outer_udp(b"\x40" + geneve(FRAME, 0x6558)[1:], 6081), "udp"),
    "Geneve options cut": (1, outer_udp(b"\x3f" + geneve(b"", 0x6558)[1:], 6081), "bad_tunnel"),
    "Geneve of something else": (1, outer_udp(geneve(bytes(28), 0x0806), 6081), "udp"),
    "GTP-U echo": (1, outer_udp(b"\x32\x01" + gtp(PACKET)[2:], 2152), "udp"),
    "GTP-U not IP": (1, outer_udp(gtp(bytes(20)), 2152), "udp"),
    "GTP-U empty": (1, outer_udp(gtp(b""), 2152), "udp"),
    "GTP-U empty extension": (
        1,
        outer_udp(gtp(PACKET, 0x34, b"\0\0\0\x85\0\0\0\0"), 2152),
        "bad_tunnel",
    ),
    "GTP-U extension beyond": (1, outer_udp(gtp(b"", 0x34, b"\0\0\0\x85\x09\0\0\0"), 2152), "bad_tunnel"),
    "GTP-U extensions without end": (
        1,
        outer_udp(gtp(PACKET, 0x34, b"\0\0\0\x85" + b"\x01\0\0\x85" * 12), 2152),
        "bad_tunnel",
    ),
}

ALL = {name: entry[:2] for name, entry in (PLAIN | TUNNELS | OTHERS | TUNNEL_FAULTS).items()}


def carries_the_segment(packet: dict[str, object]) -> bool:
    return (
        packet["kind"] == "tcp"
        and (packet["seq"], packet["ack"], packet["flags"]) == (0xFFFFFFF0, 7, PSH_ACK)
        and (packet["sport"], packet["dport"], packet["window"]) == (1234, 80, 65535)
        and (packet["payload"], packet["payload_len"]) == (DATA, len(DATA))
        and packet["src"] in (bytes([10, 0, 0, 1]), bytes.fromhex("20010db8000000000000000000000001"))
    )


# --- what a frame carries -------------------------------------------------------------------------


@pytest.mark.parametrize(("linktype", "frame"), PLAIN.values(), ids=PLAIN)
def test_segment_is_found_behind_every_link_header(linktype: int, frame: bytes) -> None:
    assert carries_the_segment(decode(frame, linktype))
    assert carries_the_segment(decode(frame, linktype, decapsulate=True, verify=True))


@pytest.mark.parametrize(("linktype", "frame"), TUNNELS.values(), ids=TUNNELS)
def test_segment_is_found_in_tunnels_when_asked(linktype: int, frame: bytes) -> None:
    assert carries_the_segment(decode(frame, linktype, decapsulate=True, verify=True))
    outer = decode(frame, linktype)
    assert outer["kind"] in ("udp", "ip_other")
    assert outer["src"] != decode(frame, linktype, decapsulate=True)["src"] or outer["link_layers"] == 0


@pytest.mark.parametrize(("linktype", "frame", "kind"), OTHERS.values(), ids=OTHERS)
def test_other_frames_have_their_kind(linktype: int, frame: bytes, kind: str) -> None:
    assert decode(frame, linktype)["kind"] == kind
    assert decode(frame, linktype, decapsulate=True)["kind"] == kind


@pytest.mark.parametrize(("linktype", "frame", "kind"), TUNNEL_FAULTS.values(), ids=TUNNEL_FAULTS)
def test_tunnel_faults_have_their_kind(linktype: int, frame: bytes, kind: str) -> None:
    assert decode(frame, linktype, decapsulate=True)["kind"] == kind
    assert decode(frame, linktype)["kind"] in ("udp", "ip_other")


@pytest.mark.parametrize(
    ("name", "vid", "layers"),
    [
        ("ethernet", NO_VLAN, 0),
        ("802.1Q", 7, 1),
        ("802.1ad", 7, 2),
        ("QinQ", 7, 2),
        ("priority tag", NO_VLAN, 1),
        ("MPLS stack", NO_VLAN, 3),
        ("MPLS pseudowire", 9, 3),
        ("PPPoE", NO_VLAN, 2),
        ("cooked VLAN", 7, 2),
        ("VXLAN VLAN", 5, 3),
        ("four tunnels", NO_VLAN, 4),
    ],
)
def test_outermost_vlan_and_layers_are_told(name: str, vid: int, layers: int) -> None:
    linktype, frame = ALL[name]
    packet = decode(frame, linktype, decapsulate=True)
    assert (packet["vlan"], packet["link_layers"]) == (vid, layers)


def test_ip_fields_are_read() -> None:
    packet = decode(ethernet(ipv4(SEGMENT, ttl=3, tos=0xB9)), time_ns=5)
    assert (packet["ttl"], packet["tos"], packet["ip_version"], packet["time_ns"]) == (3, 0xB9, 4, 5)
    assert not packet["transient"]
    packet = decode(ethernet(ipv6(SEGMENT6, hop_limit=3, traffic_class=0xB9, flow_label=0xFFFFF, **V6)))
    assert (packet["ttl"], packet["tos"], packet["ip_version"]) == (3, 0xB9, 6)


def test_fragment_fields_are_read() -> None:
    packet = decode(ethernet(ipv4(b"x" * 16, ip_id=77, fragment_offset=1480, more_fragments=True)))
    assert (packet["fragment_id"], packet["fragment_offset"], packet["more_fragments"]) == (77, 1480, True)
    assert (packet["fragment"], packet["fragment_wire_len"]) == (b"x" * 16, 16)
    fragment = ipv6_fragment(b"x" * 16, proto=PROTO_UDP, offset=1480, more_fragments=True, ip_id=0xDEADBEEF)
    packet = decode(ethernet(ipv6(ipv6_extension(fragment, proto=44), proto=0, **V6)))
    assert (packet["fragment_id"], packet["fragment_offset"]) == (0xDEADBEEF, 1480)
    assert (packet["fragment"], packet["more_fragments"], packet["proto"]) == (b"x" * 16, True, PROTO_UDP)


def test_all_nine_flags_and_urgent_pointer_are_read() -> None:
    segment = tcp(flags="FSRPAUEC", urgent=0x1234, accurate_ecn=True)
    packet = decode(ethernet(ipv4(segment)))
    assert (packet["flags"], packet["urgent"]) == (0x1FF, 0x1234)


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [FRAME, FRAME6], ids=["IPv4", "IPv6"])
def test_snap_length_cuts_the_payload_not_its_length(frame: bytes) -> None:
    packet = decode(frame[:-5], wirelen=len(frame))
    assert (packet["payload"], packet["payload_len"]) == (DATA[:-5], len(DATA))


def test_cut_headers_say_which() -> None:
    assert decode(FRAME[:47], wirelen=len(FRAME))["kind"] == "tcp_cut"
    assert decode(FRAME[:30], wirelen=len(FRAME))["kind"] == "ip_cut"
    assert decode(FRAME[:10], wirelen=len(FRAME))["kind"] == "bad_link"
    options = ethernet(ipv4(SEGMENT, options=bytes(20)))
    assert decode(options[:44], wirelen=len(options))["kind"] == "ip_cut"


TIMED = tcp_frame(seq=0xFFFFFFF0, ack=7, window=512, urgent=3, options=timestamps(5, 6), payload=DATA)


@pytest.mark.parametrize("captured", range(48, 67))
def test_tcp_header_counts_as_far_as_it_was_captured(captured: int) -> None:
    packet = decode(TIMED[:captured], wirelen=len(TIMED))
    assert (packet["kind"], packet["seq"], packet["ack"], packet["flags"]) == ("tcp", 0xFFFFFFF0, 7, 2)
    assert (packet["header_len"], packet["header_cap"]) == (32, captured - 34 if captured < 66 else 32)
    assert (packet["payload"], packet["payload_len"]) == (b"", len(DATA))
    assert packet["window"] == (512 if captured >= 50 else 0)
    assert packet["urgent"] == (3 if captured >= 54 else 0)
    assert (packet["options"], packet["tsval"]) == ((TIMESTAMP, 5) if captured >= 66 else (0, 0))


@pytest.mark.parametrize("captured", range(54, 66))
def test_broken_options_are_told_apart_from_cut_ones(captured: int) -> None:
    """An option that reaches beyond the header is broken wherever the capture ends; one beyond the capture is not."""
    whole = tcp_frame(options=mss(9) + wscale(2) + sack_ok(), payload=DATA)
    assert not decode(whole[:captured], wirelen=len(whole))["options"] & BAD
    broken = tcp_frame(options=mss(9) + b"\x08\x0a\0\0\0\0\0\0", payload=DATA)
    assert bool(decode(broken[:captured], wirelen=len(broken))["options"] & BAD) is (captured >= 60)


@pytest.mark.parametrize(
    ("captured", "kind", "ports", "length"),
    [
        (37, "ip_other", (0, 0), 13),
        (38, "udp", (1234, 53), 9),
        (40, "udp", (1234, 53), 5),
        (42, "udp", (1234, 53), 5),
    ],
)
def test_udp_header_counts_as_far_as_it_was_captured(
    captured: int, kind: str, ports: tuple[int, int], length: int
) -> None:
    frame = udp_frame(payload=b"query")
    padded = frame + bytes(4)
    frame = padded[:16] + struct.pack("!H", 37) + padded[18:]
    packet = decode(frame[:captured], wirelen=len(frame))
    assert (packet["kind"], packet["sport"], packet["dport"]) == (kind, *ports)
    assert packet["payload_len"] == (length if kind == "udp" else 17)


LONGEST = 1 << 20


@pytest.mark.parametrize("address", [{}, V6], ids=["IPv4", "IPv6"])
def test_length_zero_is_believed_up_to_what_big_tcp_makes(address: dict[str, str]) -> None:
    """A capture may state any length on the wire; no IP packet is longer than this."""
    frame = tcp_frame(**address, payload=b"x" * 10)
    at = 16 if not address else 18
    frame = frame[:at] + b"\0\0" + frame[at + 2 :]
    header = 40 if not address else 60
    assert decode(frame, wirelen=14 + LONGEST)["payload_len"] == LONGEST - header
    for wirelen in (14 + LONGEST + 1, 0x7FFFFFFF, 0xFFFFFFFF):
        assert decode(frame, wirelen=wirelen)["kind"] == "bad_ip"


def jumbogram(size: int, stated: int, options: bytes = b"") -> bytes:
    """An IPv6 packet with the jumbo payload option, *size* bytes of payload and a length field of 0."""
    body = options + b"\xc2\x04" + struct.pack("!I", stated)
    segment = tcp(b"j" * size, **V6)
    return ethernet(ipv6(ipv6_extension(segment, body=body), proto=0, payload_length=0, **V6))


def test_jumbogram_is_as_long_as_its_option_says() -> None:
    """RFC 2675 section 2; behind it there may be padding."""
    frame = jumbogram(70_000, 8 + 20 + 70_000)
    assert decode(frame, verify=True)["payload_len"] == 70_000
    assert decode(frame + bytes(9))["payload_len"] == 70_000
    assert decode(frame[:100], wirelen=len(frame))["payload_len"] == 70_000
    padded = jumbogram(70_000, 16 + 20 + 70_000, options=b"\x01\x01\0" + b"\0" * 5)
    assert decode(padded + bytes(9))["payload_len"] == 70_000


@pytest.mark.parametrize("stated", [0, 28 + 60_000, 0xFFFF, 28 + 70_001, LONGEST, 0xFFFFFFFF])
def test_jumbogram_that_no_host_takes_is_bad(stated: int) -> None:
    """Section 3: as short as any packet; or longer than what there is."""
    assert decode(jumbogram(70_000, stated))["kind"] == "bad_ip"
    assert decode(jumbogram(10, stated), wirelen=0xFFFFFFFF)["kind"] in ("bad_ip", "tcp")
    assert decode(jumbogram(10, LONGEST), wirelen=0xFFFFFFFF)["kind"] == "bad_ip"


def test_jumbo_option_in_a_long_list_of_padding() -> None:
    """Two kilobytes of options are looked through, and no more."""
    body = b"\0" * 2040 + b"\xc2\x04" + struct.pack("!I", 2048 + 20 + 70_000)
    frame = ethernet(
        ipv6(ipv6_extension(tcp(b"j" * 70_000, **V6), body=body), proto=0, payload_length=0, **V6)
    )
    assert decode(frame + bytes(5))["payload_len"] == 70_000


def test_length_beyond_the_wire_is_bad_even_when_cut() -> None:
    """An end host would not take it; the capture's own length tells."""
    frame = ethernet(ipv4(SEGMENT, total_length=2000))
    assert decode(frame[:-5], wirelen=len(frame))["kind"] == "bad_ip"


def test_padding_is_not_payload() -> None:
    packet = decode(tcp_frame(flags="A") + b"\xee" * 6)
    assert (packet["payload"], packet["payload_len"]) == (b"", 0)
    assert len(packet["network"]) == 40


def test_super_frame_without_length_goes_to_the_end() -> None:
    data = bytes(70000)
    for packet in (
        ipv4(tcp(data)),
        ipv6(tcp(data, **V6), **V6),
    ):
        assert decode(ethernet(packet), verify=True)["payload_len"] == 70000


def test_capture_that_states_too_few_wire_bytes_is_read() -> None:
    assert carries_the_segment(decode(FRAME, wirelen=10))


def test_udp_length_bounds_its_payload() -> None:
    datagram = struct.pack("!HHHH", 1, 2, 12, 0) + b"12345678"
    frame = ethernet(ipv4(datagram, proto=PROTO_UDP))
    assert decode(frame)["payload"] == b"1234"
    assert decode(frame)["payload_len"] == 4
    assert decode(ethernet(ipv4(datagram[:7], proto=PROTO_UDP)))["kind"] == "ip_other"


# --- options --------------------------------------------------------------------------------------

OptionCase = tuple[bytes, int, dict[str, object]]
OPTIONS: dict[str, OptionCase] = {
    "none": (b"", 0, {"mss": 0, "wscale": 0, "tsval": 0, "tsecr": 0, "sack": []}),
    "mss": (mss(1460), MSS, {"mss": 1460}),
    "wscale": (wscale(7), WSCALE, {"wscale": 7}),
    "wscale beyond 14": (wscale(255), WSCALE, {"wscale": 14}),
    "sack permitted": (sack_ok(), SACK_OK, {}),
    "one sack block": (sack([(1, 2)]), SACK, {"sack": [(1, 2)]}),
    "four sack blocks": (
        sack([(1, 2), (3, 4), (5, 6), (7, 8)]),
        SACK,
        {"sack": [(1, 2), (3, 4), (5, 6), (7, 8)]},
    ),
    "timestamps": (timestamps(0xFFFFFFFF, 3), TIMESTAMP, {"tsval": 0xFFFFFFFF, "tsecr": 3}),
    "timestamps unaligned": (b"\x08\x0a" + bytes(7) + b"\x01\x00\x00", TIMESTAMP, {"tsval": 0, "tsecr": 1}),
    "timestamps and sack": (
        timestamps(5, 6) + sack([(7, 8)]),
        TIMESTAMP | SACK,
        {"tsval": 5, "sack": [(7, 8)]},
    ),
    "fast open request": (fastopen(), FASTOPEN, {}),
    "fast open cookie": (fastopen(bytes(8)), FASTOPEN, {}),
    "fast open experiment": (b"\xfe\x0c\xf9\x89" + bytes(8), FASTOPEN, {}),
    "other experiment": (b"\xfe\x04\xf9\x8a", 0, {}),
    "md5": (b"\x13\x12" + bytes(16), MD5, {}),
    "authentication": (b"\x1d\x10" + bytes(14), MD5, {}),
    "unknown": (b"\x4c\x04\x00\x00" + mss(9), MSS, {"mss": 9}),
    "syn of linux": (
        mss(1460) + sack_ok() + b"\x08\x0a" + bytes(8) + b"\x01" + wscale(9),
        MSS | SACK_OK | TIMESTAMP | WSCALE,
        {"mss": 1460, "wscale": 9},
    ),
    "end of list": (mss(9) + b"\x00\x03\x03\x07", MSS, {"mss": 9, "wscale": 0}),
    "length 0": (mss(9) + b"\x03\x00\x07\x00", MSS | BAD, {"mss": 9}),
    "length 1": (mss(9) + b"\x03\x01\x07\x00", MSS | BAD, {"mss": 9}),
    "length beyond": (mss(9) + b"\x08\x0a\x00\x00", MSS | BAD, {"mss": 9}),
    "kind alone": (mss(9) + b"\x01\x01\x01\x03", MSS | BAD, {"mss": 9}),
    "mss of a wrong size": (b"\x02\x03\x05" + wscale(7), WSCALE | BAD, {"mss": 0, "wscale": 7}),
    "wscale of a wrong size": (b"\x03\x04\x07\x07" + mss(9), MSS | BAD, {"wscale": 0, "mss": 9}),
    "sack permitted of a wrong size": (b"\x04\x03\x00\x01", BAD, {}),
    "sack of a wrong size": (b"\x05\x0b" + bytes(10), BAD, {"sack": []}),
    "empty sack": (b"\x05\x02\x01\x01", BAD, {"sack": []}),
    "timestamps of a wrong size": (b"\x08\x09" + bytes(7) + b"\x01\x01\x01", BAD, {"tsval": 0}),
}


@pytest.mark.parametrize(("options", "bits", "fields"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("address", [{}, V6], ids=["IPv4", "IPv6"])
def test_options(options: bytes, bits: int, fields: dict[str, object], address: dict[str, str]) -> None:
    packet = decode(tcp_frame(**address, options=options, payload=DATA))
    assert packet["kind"] == "tcp"
    assert packet["options"] == bits
    assert {name: packet[name] for name in fields} == fields
    assert packet["payload"] == DATA
    assert packet["header_len"] == 20 + (len(options) + 3) // 4 * 4


# --- checksums ------------------------------------------------------------------------------------


def with_tcp_sum(value: int, address: dict[str, str]) -> bytes:
    segment = tcp(DATA, **address)
    segment = segment[:16] + struct.pack("!H", value) + segment[18:]
    ends = {"src": "10.0.0.1", "dst": "10.0.0.2"} | address
    return ethernet(ip(segment, proto=PROTO_TCP, **ends))


def pseudo_sum(address: dict[str, str], length: int) -> int:
    ends = {"src": "10.0.0.1", "dst": "10.0.0.2"} | address
    return 0xFFFF ^ checksum(pseudo_header(ends["src"], ends["dst"], PROTO_TCP, length))


@pytest.mark.parametrize("address", [{}, V6], ids=["IPv4", "IPv6"])
def test_wrong_tcp_checksum_is_told_only_when_asked(address: dict[str, str]) -> None:
    frame = with_tcp_sum(0xBEEF, address)
    assert decode(frame)["kind"] == "tcp"
    assert decode(frame, verify=True)["kind"] == "bad_checksum"
    assert decode(frame[:-1], wirelen=len(frame), verify=True)["kind"] == "tcp"


@pytest.mark.parametrize("address", [{}, V6], ids=["IPv4", "IPv6"])
def test_checksums_left_to_the_network_card_pass(address: dict[str, str]) -> None:
    length = 20 + len(DATA)
    for value in (0, pseudo_sum(address, length), pseudo_sum(address, 0)):
        assert decode(with_tcp_sum(value, address), verify=True)["kind"] == "tcp"


def test_wrong_ip_checksum_is_told_only_when_asked() -> None:
    frame = FRAME[:24] + b"\xbe\xef" + FRAME[26:]
    assert decode(frame)["kind"] == "tcp"
    assert decode(frame, verify=True)["kind"] == "bad_checksum"


def test_ip_checksum_left_to_the_network_card_passes() -> None:
    assert decode(FRAME[:24] + b"\0\0" + FRAME[26:], verify=True)["kind"] == "tcp"


def test_tcp_checksum_is_not_judged_before_the_final_destination() -> None:
    """RFC 8200 §8.1: with segments left, the pseudo-header has the last address of the route."""
    routed = ipv6_extension(tcp(DATA, src="2001:db8::1", dst="2001:db8::99"), body=b"\x04\x01" + bytes(4))
    assert decode(ethernet(ipv6(routed, proto=43, **V6)), verify=True)["kind"] == "tcp"
    arrived = ipv6_extension(tcp(DATA, src="2001:db8::1", dst="2001:db8::99"), body=b"\x04\x00" + bytes(4))
    assert decode(ethernet(ipv6(arrived, proto=43, **V6)), verify=True)["kind"] == "bad_checksum"


def test_checksum_of_every_length_and_alignment() -> None:
    data = random.Random(1).randbytes(600)
    for start in range(9):
        for length in range(0, 500, 7):
            assert probe.checksum(memoryview(data)[start : start + length]) == checksum(
                data[start : start + length]
            )
    assert probe.checksum(b"\xff" * 65535) == checksum(b"\xff" * 65535)


# --- anything at all ------------------------------------------------------------------------------


def read_whole(frame: bytes, linktype: int, wirelen: int) -> None:
    """Decode in a buffer of its own, so that a read beyond it is one an address sanitizer sees."""
    for asked in (False, True):
        packet = decode(bytearray(frame), linktype, wirelen=wirelen, decapsulate=asked, verify=asked)
        if "payload" in packet:
            assert len(packet["payload"]) <= packet["payload_len"]
            assert len(packet["network"]) <= len(frame)


@pytest.mark.parametrize(("linktype", "frame"), ALL.values(), ids=ALL)
def test_every_truncation_has_a_kind(linktype: int, frame: bytes) -> None:
    for length in range(len(frame)):
        read_whole(frame[:length], linktype, len(frame))
        read_whole(frame[:length], linktype, length)


def flip(frame: bytes, rng: random.Random) -> bytes:
    changed = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def random_bytes(_frame: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200))


@pytest.mark.parametrize("change", [flip, random_bytes])
def test_damaged_frames_have_a_kind(change: Callable[[bytes, random.Random], bytes]) -> None:
    rng = random.Random(2)
    for linktype, frame in ALL.values():
        for _ in range(50 if frame else 0):
            damaged = change(frame, rng)
            read_whole(damaged, linktype, len(damaged) + rng.randrange(3))
