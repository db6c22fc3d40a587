"""Tunnels: what is behind each of them, what is not, lengths that lie, cuts, depth, and which tunnel it was."""

import random
import struct
from collections.abc import Iterator

import pytest

from aiomos.testing.packets import PROTO_UDP, ethernet, ipv4, ipv6, tcp, tcp_frame, udp, vlan
from aiomos.wire.protocols import IP_PROTOCOLS, READ, UDP_PORTS, Layer, number_name, unread_name
from tests.tunnels import (
    IPV6_TUNNELS,
    ROUTES,
    TUNNELS,
    V4,
    V6,
    Way,
    authenticated,
    ayiya,
    capwap,
    eoip,
    erspan2,
    erspan3,
    geneve,
    gre,
    gtp,
    ip_of,
    l2tp2,
    l2tp3,
    labels,
    lisp,
    nsh,
    over_ip,
    over_udp,
    ppp,
    pptp,
    teredo,
    tzsp,
    vxlan,
    vxlan_gpe,
)

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
decode = probe.decode

NOTHING = len(Layer)
"""What stands for no layer."""
DATA = b"GET / HTTP/1.0\r\n"
INNER4 = tcp_frame(seq=0xFFFFFFF0, ack=7, flags="PA", payload=DATA)
INNER6 = tcp_frame("2001:db8::1", "2001:db8::2", seq=0xFFFFFFF0, ack=7, flags="PA", payload=DATA)

CASES: dict[str, tuple[Way, bytes]] = {
    **{f"{name}, IPv4": (way, INNER4) for name, way in TUNNELS.items()},
    **{f"{name}, IPv6": (way, INNER6) for name, way in (TUNNELS | IPV6_TUNNELS).items() if "NSH" not in name},
    **{f"{name}, in a VLAN": (TUNNELS[name], vlan(INNER4, 5)) for name in ("VXLAN", "L2TPv3", "CAPWAP")},
}
parametrize_cases = pytest.mark.parametrize(("way", "inner"), CASES.values(), ids=CASES)


def carries_the_segment(packet: dict[str, object]) -> bool:
    return packet["kind"] == "tcp" and (
        (packet["sport"], packet["dport"], packet["seq"], packet["ack"]) == (1234, 80, 0xFFFFFFF0, 7)
        and (packet["payload"], packet["payload_len"]) == (DATA, len(DATA))
        and packet["src"] in (bytes([10, 0, 0, 1]), bytes.fromhex("20010db8000000000000000000000001"))
    )


# --- what is in them ------------------------------------------------------------------------------


@parametrize_cases
@pytest.mark.parametrize("forth", [True, False], ids=["forth", "back"])
def test_segment_is_found_when_asked(way: Way, inner: bytes, forth: bool) -> None:
    frame = way(inner, forth)
    assert carries_the_segment(decode(frame, decapsulate=True, verify=True))
    outer = decode(frame)
    assert outer["kind"] in ("udp", "ip_other")
    assert outer["src"][:3] == (b"\xc0\0\x02" if outer["ip_version"] == 4 else b"\x20\x01\x0d")


@parametrize_cases
def test_outer_padding_is_no_payload(way: Way, inner: bytes) -> None:
    assert carries_the_segment(decode(way(inner, True) + b"\xee" * 7, decapsulate=True))


@parametrize_cases
def test_every_cut_has_a_kind(way: Way, inner: bytes) -> None:
    """Cut by the snap length: what was captured of the segment counts, and nothing beyond it is read."""
    frame = way(inner, True)
    for length in range(len(frame)):
        packet = decode(bytearray(frame[:length]), wirelen=len(frame), decapsulate=True, verify=True)
        if length >= len(frame) - len(DATA) - 6:
            assert (packet["kind"], packet["payload_len"]) == ("tcp", len(DATA))
            assert packet["payload"] == DATA[: max(length - len(frame) + len(DATA), 0)]


@parametrize_cases
def test_damage_has_a_kind(way: Way, inner: bytes) -> None:
    rng = random.Random(3)
    frame = way(inner, True)
    for _ in range(300):
        changed = bytearray(frame)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(14, len(changed))] = rng.randrange(256)
        packet = decode(changed, wirelen=len(frame) + rng.randrange(3), decapsulate=True, separate=True)
        if "payload" in packet:
            assert len(packet["payload"]) <= packet["payload_len"]


def test_ports_of_vxlan_are_a_setting() -> None:
    frame = over_udp(vxlan(INNER4), True, 9999)
    assert decode(frame, decapsulate=True)["kind"] == "udp"
    assert carries_the_segment(decode(frame, decapsulate=True, vxlan_ports=(1, 9999)))
    assert decode(TUNNELS["VXLAN"](INNER4, True), decapsulate=True, vxlan_ports=())["kind"] == "udp"
    assert decode(over_udp(vxlan(INNER4), True, 0), decapsulate=True, vxlan_ports=(1,))["kind"] == "udp"


# --- what they are not ----------------------------------------------------------------------------

ARP = ethernet(bytes(28), ethertype=0x0806)
PACKET4 = ip_of(INNER4)
ROUTE = ROUTES[:8]
OTHERS: dict[str, tuple[bytes, str]] = {
    "GRE of ARP": (over_ip(gre(bytes(28), 0x0806), 47, True), "ip_other"),
    "GRE version 2": (over_ip(gre(PACKET4, 0x0800, flags=2), 47, True), "ip_other"),
    "GRE cut": (over_ip(b"\0\0", 47, True), "bad_tunnel"),
    "GRE cut in its fields": (over_ip(gre(b"", 0x0800, flags=0xB000), 47, True), "bad_tunnel"),
    "GRE cut in its key": (over_ip(gre(b"\0\0\0", 0x0800, flags=0x2000), 47, True), "bad_tunnel"),
    "GRE routes without end": (
        over_ip(gre(bytes(4) + ROUTE * 9 + PACKET4, 0x0800, flags=0x4000), 47, True),
        "bad_tunnel",
    ),
    "GRE route beyond": (
        over_ip(gre(bytes(4) + b"\x08\0\0\xff", 0x0800, flags=0x4000), 47, True),
        "bad_tunnel",
    ),
    "PPTP acknowledgement": (
        over_ip(gre(b"", 0x880B, flags=0x2081, fields=struct.pack("!HHI", 0, 7, 1)), 47, True),
        "ip_other",
    ),
    "PPTP longer than it is": (
        over_ip(gre(ppp(PACKET4), 0x880B, flags=0x3001, fields=struct.pack("!HHI", 999, 7, 1)), 47, True),
        "bad_tunnel",
    ),
    "PPTP cut": (over_ip(gre(bytes(4), 0x880B, flags=0x3001), 47, True), "bad_tunnel"),
    "PPTP compressed": (over_ip(pptp(b"\0\xfd\x90\0" + bytes(20), True), 47, True), "non_ip"),
    "EoIP keep-alive": (over_ip(eoip(b""), 47, True), "ip_other"),
    "EoIP longer than it is": (over_ip(eoip(INNER4)[:-1], 47, True), "bad_tunnel"),
    "EoIP cut": (over_ip(eoip(b"")[:7], 47, True), "bad_tunnel"),
    "PPP LCP in GRE": (over_ip(gre(b"\xff\x03\xc0\x21\1\1\0\4", 0x880B), 47, True), "non_ip"),
    "ERSPAN II cut": (over_ip(gre(bytes(3), 0x88BE, flags=0x1000, fields=bytes(4)), 47, True), "bad_tunnel"),
    "ERSPAN II of another version": (
        over_ip(gre(bytes(40), 0x88BE, flags=0x1000, fields=bytes(4)), 47, True),
        "ip_other",
    ),
    "ERSPAN III cut": (over_ip(gre(bytes(11), 0x22EB), 47, True), "bad_tunnel"),
    "ERSPAN III of another version": (over_ip(gre(bytes(40), 0x22EB), 47, True), "ip_other"),
    "ERSPAN III of another frame type": (over_ip(erspan3(INNER4, frame_type=1), 47, True), "ip_other"),
    "ERSPAN III platform cut": (
        over_ip(erspan3(b"", platform=bytes(8))[:-1], 47, True),
        "bad_tunnel",
    ),
    "ERSPAN II of ARP": (over_ip(erspan2(ARP), 47, True), "non_ip"),
    "MPLS in IP cut": (over_ip(labels(16)[:3], 137, True), "bad_link"),
    "MPLS in IP of something else": (over_ip(labels(16) + b"\x10" + bytes(9), 137, True), "non_ip"),
    "EtherIP of another version": (over_ip(b"\x40\0" + INNER4, 97, True), "ip_other"),
    "EtherIP cut": (over_ip(b"\x30", 97, True), "bad_tunnel"),
    "L2TPv3 control": (over_ip(bytes(4) + INNER4, 115, True), "ip_other"),
    "L2TPv3 of something else": (over_ip(l2tp3(ARP, True), 115, True), "ip_other"),
    "VXLAN without its flag": (over_udp(vxlan(INNER4, flags=0), True, 4789), "udp"),
    "VXLAN with what must be zero": (
        over_udp(vxlan(INNER4)[:7] + b"\1" + vxlan(INNER4)[8:], True, 4789),
        "udp",
    ),
    "VXLAN too short for a frame": (over_udp(vxlan(INNER4[:13]), True, 4789), "udp"),
    "VXLAN of ARP": (over_udp(vxlan(ARP), True, 4789), "non_ip"),
    "VXLAN-GPE version 1": (over_udp(vxlan_gpe(PACKET4, 1, flags=0x1C), True, 4790), "udp"),
    "VXLAN-GPE of something else": (over_udp(vxlan_gpe(PACKET4, 9), True, 4790), "udp"),
    "VXLAN-GPE of no IP": (over_udp(vxlan_gpe(bytes(40), 1), True, 4790), "udp"),
    "NSH of something else": (over_udp(vxlan_gpe(nsh(PACKET4, 9), 4), True, 4790), "non_ip"),
    "NSH cut": (over_udp(vxlan_gpe(nsh(b"", 1)[:20], 4), True, 4790), "bad_link"),
    "NSH without end": (
        over_udp(vxlan_gpe(nsh(b"", 4, words=2) * 30, 4), True, 4790),
        "bad_tunnel",
    ),
    "Geneve version 1": (over_udp(b"\x40" + geneve(INNER4, 0x6558)[1:], True, 6081), "udp"),
    "Geneve options cut": (over_udp(b"\x3f" + geneve(b"", 0x6558)[1:], True, 6081), "bad_tunnel"),
    "Geneve of something else": (over_udp(geneve(bytes(28), 0x0806), True, 6081), "udp"),
    "GTP-U echo": (over_udp(b"\x32\x01" + gtp(PACKET4)[2:], True, 2152), "udp"),
    "GTP-U longer than it is": (over_udp(gtp(PACKET4)[:-1], True, 2152), "udp"),
    "GTP-U of something else": (over_udp(gtp(bytes(20)), True, 2152), "udp"),
    "GTP-U empty": (over_udp(gtp(b""), True, 2152), "udp"),
    "GTP-U extensions without end": (
        over_udp(gtp(PACKET4, True, 0x34, b"\0\0\0\x85" + b"\x01\0\0\x85" * 12), True, 2152),
        "bad_tunnel",
    ),
    "MPLS in UDP of no IP": (over_udp(labels(16) + bytes(40), True, 6635), "udp"),
    "MPLS in UDP without bottom": (over_udp(b"\0\1\0\x40" * 20, True, 6635), "udp"),
    "GRE in UDP with routes": (over_udp(gre(bytes(40), 0x0800, flags=0x4000), True, 4754), "udp"),
    "GRE in UDP cut": (over_udp(gre(b"", 0x0800, flags=0x2000), True, 4754), "udp"),
    "LISP of no IP": (over_udp(lisp(bytes(40)), True, 4341), "udp"),
    "L2TPv2 control": (over_udp(l2tp2(bytes(8), True, flags=0xC802, fields=bytes(4)), True, 1701), "udp"),
    "L2TPv2 longer than it is": (
        over_udp(l2tp2(ppp(PACKET4), True, flags=0x4002)[:-1], True, 1701),
        "udp",
    ),
    "L2TPv2 of a length below its header": (
        over_udp(b"\x40\x02\0\x05" + bytes(4) + ppp(PACKET4), True, 1701),
        "udp",
    ),
    "L2TPv2 length within its header": (over_udp(b"\x40\x02\0\x08" + bytes(9), True, 1701), "udp"),
    "L2TPv2 offset beyond": (
        over_udp(l2tp2(ppp(PACKET4), True, flags=0x0202, fields=b"\xff\xff"), True, 1701),
        "udp",
    ),
    "L2TPv2 of LCP": (over_udp(l2tp2(b"\xff\x03\xc0\x21\1\1\0\4", True), True, 1701), "non_ip"),
    "L2TPv2 empty": (over_udp(l2tp2(b"\xff\x03", True), True, 1701), "udp"),
    "Teredo bubble": (
        over_udp(teredo(ipv6(b"", proto=59)), True, 3544),
        "ip_other",
    ),
    "Teredo of IPv4": (over_udp(teredo(PACKET4), True, 3544), "udp"),
    "Teredo authentication cut": (
        over_udp(teredo(b"", authentication=True)[:-1], True, 3544),
        "udp",
    ),
    "TZSP keep-alive": (over_udp(b"\1\4\0\0\1" + bytes(30), True, 37008), "udp"),
    "TZSP version 2": (over_udp(b"\2" + tzsp(INNER4)[1:], True, 37008), "udp"),
    "TZSP tags without end": (over_udp(tzsp(INNER4, tags=bytes(40)), True, 37008), "udp"),
    "TZSP tag beyond": (over_udp(tzsp(b"", tags=b"\x0a\xff"), True, 37008), "udp"),
    "TZSP of something else": (over_udp(tzsp(INNER4, 5), True, 37008), "udp"),
    "CAPWAP encrypted": (over_udp(b"\1" + capwap(INNER4)[1:], True, 5247), "udp"),
    "CAPWAP fragment": (over_udp(capwap(INNER4, bits=0x80), True, 5247), "udp"),
    "CAPWAP keep-alive": (over_udp(capwap(INNER4, bits=0x08), True, 5247), "udp"),
    "CAPWAP header beyond": (over_udp(capwap(b"", words=31)[:40], True, 5247), "udp"),
    "CAPWAP of ARP": (over_udp(capwap(ARP), True, 5247), "udp"),
    "CAPWAP 802.11 without data": (
        over_udp(capwap(b"\x01\x48" + bytes(40), native=True), True, 5247),
        "udp",
    ),
    "CAPWAP 802.11, protected": (
        over_udp(capwap(b"\x41\x08" + bytes(40), native=True), True, 5247),
        "udp",
    ),
    "CAPWAP 802.11, cut": (over_udp(capwap(b"\x03\x88" + bytes(20), native=True), True, 5247), "udp"),
    "CAPWAP of other radio": (over_udp(capwap(bytes(40), native=True, bits=2 << 9), True, 5247), "udp"),
    "AYIYA heartbeat": (over_udp(ayiya(PACKET4, operation=0), True, 5072), "udp"),
    "AYIYA cut": (over_udp(ayiya(PACKET4)[:30], True, 5072), "udp"),
    "five tunnels": (
        ethernet(ipv4(ipv4(ipv4(ipv4(ipv4(PACKET4, proto=4), proto=4), proto=4), proto=4), proto=4)),
        "bad_tunnel",
    ),
}


@pytest.mark.parametrize(("frame", "kind"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_tunnel_has_its_kind(frame: bytes, kind: str) -> None:
    assert decode(frame, decapsulate=True)["kind"] == kind
    assert decode(frame)["kind"] in ("udp", "ip_other")
    for length in range(14, len(frame)):
        decode(bytearray(frame[:length]), wirelen=len(frame), decapsulate=True)


PORTS = (1701, 2152, 3544, 4341, 4754, 4789, 4790, 5072, 5247, 6081, 6635, 8472, 37008)


@pytest.mark.parametrize("port", PORTS)
def test_a_datagram_that_has_the_port_by_chance_is_not_malformed(port: int) -> None:
    """A client may use it for anything: answers of DNS, noise."""
    rng = random.Random(port)
    for _ in range(1000):
        data = rng.randbytes(rng.randrange(120))
        answer = rng.randbytes(2) + bytes.fromhex("8180000100010000000003777777076578616d706c6503636f6d00")
        for payload in (data, answer, bytes(rng.randrange(60)), b"HTTP/1.1 200 OK\r\n\r\n"):
            for sport, dport in ((53, port), (port, 53)):
                frame = ethernet(ipv4(udp(payload, sport=sport, dport=dport), proto=PROTO_UDP))
                assert decode(frame, decapsulate=True)["kind"] in ("udp", "non_ip")


# --- what is told of them where they stay closed ---------------------------------------------------

UDP_NAMES = {
    "L2TP": 1701,
    "GTP-U": 2152,
    "Teredo": 3544,
    "LISP": 4341,
    "GRE in UDP": 4754,
    "VXLAN-GPE": 4790,
    "VXLAN": 4789,
    "AYIYA": 5072,
    "CAPWAP": 5247,
    "Geneve": 6081,
    "MPLS in UDP": 6635,
    "TZSP": 37008,
}


@parametrize_cases
def test_a_tunnel_that_is_not_entered_is_named(
    way: Way, inner: bytes, request: pytest.FixtureRequest
) -> None:
    packet = decode(way(inner, True))
    if packet["kind"] == "ip_other":
        assert not number_name(Layer.PROTOCOL, packet["proto"]).isdigit()
    else:
        name = request.node.callspec.id
        port = next(port for start, port in UDP_NAMES.items() if name.startswith(start))
        assert packet["unread"] == (Layer.UDP, port)
        assert unread_name(*packet["unread"]).startswith("unread.udp.")


def test_datagrams_of_no_tunnel_are_not_named() -> None:
    for frame, _ in OTHERS.values():
        packet = decode(frame)
        assert packet["kind"] != "udp" or packet["unread"][0] in (Layer.UDP, Layer.ENCRYPTED, NOTHING)
    assert decode(OTHERS["CAPWAP 802.11, protected"][0])["unread"] == (Layer.ENCRYPTED, 0)
    assert decode(OTHERS["GTP-U echo"][0])["unread"][0] == NOTHING
    assert decode(OTHERS["L2TPv2 control"][0])["unread"][0] == NOTHING


@pytest.mark.parametrize("asked", [False, True])
def test_esp_in_udp_is_encrypted(asked: bool) -> None:
    """RFC 3948; not IKE on the same port, nor a keep-alive."""
    for payload, layer in (
        (b"\0\0\1\0" + bytes(40), Layer.ENCRYPTED),
        (bytes(44), NOTHING),
        (b"\xff", NOTHING),
    ):
        for forth in (True, False):
            packet = decode(over_udp(payload, forth, 4500, 4500), decapsulate=asked)
            assert (packet["kind"], packet["unread"][0]) == ("udp", layer)
    assert unread_name(Layer.ENCRYPTED, 2) == "unread.encrypted.esp"


def test_the_reference_has_every_port() -> None:
    rows = {int(row.number) for row in READ if row.group == UDP_PORTS}
    assert rows == set(UDP_NAMES.values())
    protocols = {
        int(number) for row in READ if row.group == IP_PROTOCOLS for number in row.number.split(", ")
    }
    read = {
        proto
        for proto in range(256)
        if any(
            decode(over_ip(payload, proto, True), decapsulate=True)["kind"]
            in ("tcp", "bad_tunnel", "bad_extension")
            for payload in (PACKET4, b"\x30\0" + INNER4, labels(16) + PACKET4, l2tp3(INNER4, True), b"")
        )
    }
    assert read - {6, 17} == protocols & {4, 41, 47, 51, 97, 115, 137}


# --- lengths --------------------------------------------------------------------------------------

UNMEASURED = ipv4(tcp(DATA), total_length=0)
"""An inner packet without a length of its own: the tunnel's tells where it ends."""
CLIPPED: dict[str, bytes] = {
    "GTP-U": over_udp(gtp(UNMEASURED) + b"trailer", True, 2152),
    "L2TPv2": over_udp(l2tp2(ppp(UNMEASURED), True, flags=0x4002) + b"trailer", True, 1701),
    "PPTP": over_ip(pptp(ppp(UNMEASURED), True) + b"trailer", 47, True),
    "UDP": ethernet(
        ipv4(udp(vxlan(ethernet(UNMEASURED)), dport=4789) + b"trailer", proto=PROTO_UDP, src=V4[0], dst=V4[1])
    ),
    "IP": over_ip(gre(UNMEASURED, 0x0800), 47, True) + b"trailer",
}


@pytest.mark.parametrize("frame", CLIPPED.values(), ids=CLIPPED)
def test_length_of_the_tunnel_is_obeyed(frame: bytes) -> None:
    packet = decode(frame, decapsulate=True)
    assert (packet["kind"], packet["payload"], packet["payload_len"]) == ("tcp", DATA, len(DATA))


def test_inner_length_beyond_the_outer_is_bad() -> None:
    """Whatever the frame has behind the outer packet."""
    frame = over_ip(gre(ipv4(tcp(DATA), total_length=60), 0x0800), 47, True) + bytes(40)
    assert decode(frame, decapsulate=True)["kind"] == "bad_ip"


# --- within each other ----------------------------------------------------------------------------


def nested(ways: list[Way]) -> bytes:
    frame = INNER4
    for way in ways:
        frame = way(frame, True)
    return frame


def test_tunnels_within_each_other_up_to_four() -> None:
    rng = random.Random(4)
    for _ in range(300):
        ways = rng.sample(list(TUNNELS.values()), 5)
        shallow = nested(ways[:2])
        if decode(shallow, decapsulate=True)["kind"] == "tcp":
            assert carries_the_segment(decode(shallow, decapsulate=True))
        assert decode(nested(ways[:4]), decapsulate=True)["kind"] in ("tcp", "bad_tunnel", "bad_ip")
        assert decode(nested(ways), decapsulate=True)["kind"] in ("bad_tunnel", "bad_ip")


def test_four_plain_tunnels_are_entered_and_not_a_fifth() -> None:
    way = TUNNELS["VXLAN"]
    assert carries_the_segment(decode(nested([way] * 4), decapsulate=True))
    assert decode(nested([way] * 5), decapsulate=True)["kind"] == "bad_tunnel"


# --- authentication header ------------------------------------------------------------------------


def with_ah(count: int, proto: int, payload: bytes) -> bytes:
    for _ in range(count):
        payload, proto = authenticated(proto, payload), 51
    return ethernet(ipv4(payload, proto=proto))


@pytest.mark.parametrize("count", range(1, 9))
def test_authentication_header_of_ipv4_is_passed_asked_or_not(count: int) -> None:
    """RFC 4302: it stands where an IPv6 extension header would, and hides nothing."""
    frame = with_ah(count, 6, PACKET4[20:])
    for asked in (False, True):
        assert carries_the_segment(decode(frame, decapsulate=asked, verify=True))
    for length in range(14, len(frame)):
        decode(bytearray(frame[:length]), wirelen=len(frame))


def test_authentication_header_before_other_things() -> None:
    assert decode(with_ah(1, 17, udp(b"query")))["kind"] == "udp"
    assert decode(with_ah(1, 1, b"\x08\0\0\0"))["kind"] == "icmp"
    assert decode(with_ah(1, 50, bytes(20)))["kind"] == "ip_other"
    tunnel = with_ah(1, 4, PACKET4)
    assert decode(tunnel)["kind"] == "ip_other"
    assert carries_the_segment(decode(tunnel, decapsulate=True))


def test_broken_authentication_headers() -> None:
    assert decode(with_ah(9, 6, PACKET4[20:]))["kind"] == "bad_extension"
    assert decode(ethernet(ipv4(b"\x06\xff" + bytes(20), proto=51)))["kind"] == "bad_extension"
    assert decode(ethernet(ipv4(b"\x06\x04\0", proto=51)))["kind"] == "bad_extension"
    cut = with_ah(1, 6, PACKET4[20:])
    assert decode(cut[:40], wirelen=len(cut))["kind"] == "ip_cut"


# --- which tunnel ---------------------------------------------------------------------------------

UNNAMED = ("ERSPAN", "GTP-U", "TZSP", "CAPWAP", "AYIYA", "Teredo", "LISP")
"""Tunnels that separate no flows; LISP does by an instance alone, which is not there."""


def name_of(frame: bytes) -> int:
    """The number that stands for the tunnels entered."""
    packet = decode(frame, decapsulate=True, separate=True)
    assert packet["kind"] == "tcp"
    number: int = packet["tunnel"]
    return number


@parametrize_cases
def test_both_directions_are_one_tunnel(way: Way, inner: bytes) -> None:
    """Whatever ids, labels and sequence numbers differ."""
    assert name_of(way(inner, True)) == name_of(way(inner, False))
    assert decode(way(inner, True), decapsulate=True)["tunnel"] == 0


def test_which_tunnels_separate_flows() -> None:
    for name, way in (TUNNELS | IPV6_TUNNELS).items():
        inner = INNER6 if name in IPV6_TUNNELS else INNER4
        assert (name_of(way(inner, True)) == 0) is name.startswith(UNNAMED), name


def distinct() -> Iterator[bytes]:
    """Frames in tunnels that are all different ones."""
    elsewhere = ("192.0.2.1", "192.0.2.9")
    for vni in (1, 2, 0xFFFFFF):
        yield over_udp(vxlan(INNER4, vni), True, 4789)
    for key in (1, 2, 0xFFFF, 0x1234_00, 0x2234_00):
        yield over_ip(gre(PACKET4, 0x0800, flags=0x2000, fields=struct.pack("!I", key)), 47, True)
    for key in (0x123400, 0x223400):
        yield over_ip(gre(INNER4, 0x6558, flags=0x2000, fields=struct.pack("!I", key)), 47, True)
    for ends in (V4, elsewhere, V6):
        yield over_ip(PACKET4, 4, True, ends)
    yield over_ip(eoip(INNER4, 1), 47, True)
    yield over_ip(eoip(INNER4, 2), 47, True)
    yield over_udp(lisp(PACKET4, instance=1), True, 4341)
    yield over_udp(lisp(PACKET4, instance=2), True, 4341)
    yield over_udp(vxlan(over_ip(PACKET4, 4, True), 1), True, 4789)
    yield over_udp(vxlan(over_ip(PACKET4, 4, True), 2), True, 4789)
    yield over_ip(ip_of(over_udp(vxlan(INNER4, 1), True, 4789)), 4, True)


def test_different_tunnels_have_different_names() -> None:
    names = [name_of(frame) for frame in distinct()]
    assert len(set(names)) == len(names)


def test_numbers_name_a_tunnel_wherever_its_ends_are() -> None:
    """A virtual network is one, by whatever hosts and in whatever way it is carried."""
    elsewhere = ("192.0.2.1", "192.0.2.9")
    here = name_of(over_udp(vxlan(INNER4, 5), True, 4789))
    assert here == name_of(over_udp(vxlan(INNER4, 5), True, 4789, ends=elsewhere))
    assert here == name_of(over_udp(geneve(INNER4, 0x6558, 5), True, 6081))
    assert here == name_of(over_udp(vxlan_gpe(PACKET4, 1, 5), True, 4790))


def test_flow_id_of_nvgre_is_no_part_of_its_name() -> None:
    """RFC 7637 section 3.2: 24 bits name the virtual subnet, 8 spread its flows; no subnet is below 0x1000."""

    def bridged(key: int) -> int:
        return name_of(over_ip(gre(INNER4, 0x6558, flags=0x2000, fields=struct.pack("!I", key)), 47, True))

    assert bridged(0x123456_01) == bridged(0x123456_FF) != bridged(0x123457_01)
    assert bridged(1) != bridged(2)
