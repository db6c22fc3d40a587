"""Link types: a segment found behind each header, headers cut at every byte, lengths that lie, other frames."""

import struct

import pytest

from aiomos.testing.packets import ethernet, ipv4, ipv6, tcp
from aiomos.wire.protocols import LINK_TYPES, READ, Layer, number_name, unread_name
from tests.wrappings import (
    LINKS,
    Wrapping,
    attribute,
    cooked,
    erf,
    juniper,
    llc,
    nflog,
    pktap,
    ppp,
    radiotap,
    wlan,
)

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
decode = probe.decode

V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
DATA = b"GET / HTTP/1.0\r\n"
PACKETS = {
    4: ipv4(tcp(DATA, seq=0xFFFFFFF0, ack=7, flags="PA")),
    6: ipv6(tcp(DATA, seq=0xFFFFFFF0, ack=7, flags="PA", **V6), **V6),
}
PACKET = PACKETS[4]
NO_VLAN = 0xFFFF


def is_the_segment(packet: dict[str, object]) -> bool:
    return packet["kind"] == "tcp" and (packet["seq"], packet["payload"]) == (0xFFFFFFF0, DATA)


@pytest.mark.parametrize("ip_version", [4, 6])
@pytest.mark.parametrize("wrapping", LINKS.values(), ids=LINKS)
def test_a_segment_is_found_behind_everything(wrapping: Wrapping, ip_version: int) -> None:
    packet = decode(wrapping.wrap(PACKETS[ip_version]), wrapping.linktype, verify=True)
    assert is_the_segment(packet)
    assert packet["ip_version"] == ip_version
    assert packet["vlan"] == (NO_VLAN if wrapping.vlan is None else wrapping.vlan)


@pytest.mark.parametrize("wrapping", LINKS.values(), ids=LINKS)
def test_every_cut_has_a_kind(wrapping: Wrapping) -> None:
    frame = wrapping.wrap(PACKET)
    for size in range(len(frame)):
        cut = decode(bytearray(frame[:size]), wrapping.linktype, wirelen=len(frame))
        assert not is_the_segment(cut) or size >= len(frame) - 40
        decode(bytearray(frame[:size]), wrapping.linktype)


TAKEN_FOR_OTHERS = {
    "PPP with address": {1: "non_ip"},  # half of a protocol's number is another
    "PPP that is Cisco's": {1: "non_ip"},
    "PPP with direction": {2: "non_ip"},
    "pppd, direction before": {2: "non_ip"},
    "ERF SONET": {17: "non_ip"},
    "802.11 mesh": dict.fromkeys(
        range(35, 41), "non_ip"
    ),  # the addresses behind the number are what is missing
    "PKTAP as private number": dict.fromkeys(
        range(52), "unknown_link"
    ),  # told by its length from private ones
}


@pytest.mark.parametrize("name", LINKS)
def test_a_header_that_is_cut_is_not_taken_for_another(name: str) -> None:
    """Nothing is read beyond what was captured, where the memory may hold what makes sense."""
    wrapping = LINKS[name]
    frame = wrapping.wrap(PACKET)
    kinds = {
        size: decode(bytearray(frame[:size]), wrapping.linktype, wirelen=len(frame))["kind"]
        for size in range(len(frame) - len(PACKET))
    }
    others = {size: kind for size, kind in kinds.items() if kind not in ("bad_link", "bad_ip", "ip_cut")}
    assert others == TAKEN_FOR_OTHERS.get(name, {})


@pytest.mark.parametrize("wrapping", LINKS.values(), ids=LINKS)
def test_every_byte_can_be_any_other(wrapping: Wrapping) -> None:
    frame = wrapping.wrap(PACKET)
    for at in range(len(frame) - len(PACKET)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            changed = decode(bytearray(frame[:at] + bytes([value]) + frame[at + 1 :]), wrapping.linktype)
            if changed["kind"] == "tcp":  # read from within the frame, wherever that now is
                assert len(changed["payload"]) <= len(frame)


# --- the reference --------------------------------------------------------------------------------

LISTED = {
    int(number): row.number for row in READ if row.group == LINK_TYPES for number in row.number.split(", ")
}


def test_every_row_of_the_reference_has_an_instance() -> None:
    instances = {wrapping.linktype for wrapping in LINKS.values()} | {1}
    assert {LISTED[linktype] for linktype in instances} == set(LISTED.values())
    assert {wrapping.row for wrapping in LINKS.values()} == set(LISTED.values()) - {"1"}
    assert all(LISTED[wrapping.linktype] == wrapping.row for wrapping in LINKS.values())


def test_link_types_that_are_not_in_the_reference_are_unknown() -> None:
    unknown = {linktype for linktype in range(1024) if decode(bytes(200), linktype)["kind"] == "unknown_link"}
    # 149 is read where it looks like PKTAP.
    assert unknown == set(range(1024)) - set(LISTED) | {149}
    assert decode(bytes(200), 147)["unread"] == (Layer.LINKTYPE, 147)


def test_names() -> None:
    assert unread_name(Layer.LINKTYPE, 147) == "unread.linktype.user0"
    assert unread_name(Layer.LINKTYPE, 999) == "unread.linktype.999"
    assert unread_name(Layer.ETHERTYPE, 0x0806) == "unread.ethertype.arp"
    assert unread_name(Layer.ETHERTYPE, 0x1234) == "unread.ethertype.0x1234"
    assert number_name(Layer.CONTROL, 105) == "ieee802_11"
    assert number_name(Layer.SNAP, 0x123456_0001) == "0x1234560001"


# --- lengths --------------------------------------------------------------------------------------

LYING: dict[str, tuple[int, bytes]] = {
    "IPNET beyond the frame": (226, struct.pack("!BBHI16x", 1, 2, 0, len(PACKET) + 1) + PACKET),
    "NFLOG attribute beyond the frame": (239, bytes(4) + struct.pack("<HH", 200, 9) + PACKET),
    "NFLOG attribute of no length": (239, bytes(4) + struct.pack("<HH", 3, 1) + PACKET),
    "NFLOG without a packet": (239, bytes(4) + attribute(10, b"web\0") * 3),
    "NFLOG of too many attributes": (239, bytes(4) + attribute(10, b"web\0") * 40 + attribute(9, PACKET)),
    "PKTAP beyond the frame": (258, struct.pack("<III", 4000, 1, 1) + bytes(200)),
    "PKTAP of no length": (258, struct.pack("<III", 51, 1, 1) + bytes(200)),
    "PKTAP with a trailer beyond the frame": (
        258,
        pktap(1, ethernet(PACKET))[:48] + b"\xff" * 4 + bytes(200),
    ),
    "PPI beyond the frame": (192, struct.pack("<BBHI", 0, 0, 200, 1)),
    "PPI of no length": (192, struct.pack("<BBHI", 0, 0, 7, 1) + ethernet(PACKET)),
    "radiotap beyond the frame": (127, struct.pack("<BBHI", 0, 0, 200, 0)),
    "radiotap of no length": (127, struct.pack("<BBHI", 0, 0, 7, 0) + wlan(llc(PACKET))),
    "radiotap, flags beyond it": (127, struct.pack("<BBHI", 0, 0, 8, 2) + wlan(llc(PACKET))),
    "radiotap of words without end": (
        127,
        struct.pack("<BBH", 0, 0, 104) + b"\xff" * 100 + wlan(llc(PACKET)),
    ),
    "radiotap, version 1": (127, struct.pack("<BBHI", 1, 0, 8, 0) + wlan(llc(PACKET))),
    "AVS beyond the frame": (163, struct.pack(">II", 0x80211001, 200) + bytes(56)),
    "AVS of another magic": (163, struct.pack(">II56x", 0x80311001, 64) + wlan(llc(PACKET))),
    "PFLOG of no length": (117, bytes([0, 2]) + PACKET),
    "Juniper's magic missing": (178, b"MGB\0" + ethernet(PACKET)),
    "Juniper's extensions beyond the frame": (178, juniper(ethernet(PACKET), 0x80, b"\xff\xff")),
    "ERF extensions without end": (197, erf(0x82, ethernet(PACKET), (b"\x83" + bytes(7)) * 9, bytes(2))),
    "frame relay address without end": (107, b"\x18\x40\x40\x40\x40\x40\x03\xcc" + PACKET),
    "token ring with an odd route": (6, b"\x10\x40" + bytes(6) + b"\x80" + bytes(5) + b"\x05" + bytes(60)),
    "PPPoE beyond the frame": (51, struct.pack("!HHH", 0x1100, 9, 200) + ppp(PACKET)),
}


@pytest.mark.parametrize(("linktype", "frame"), LYING.values(), ids=LYING)
def test_lengths_that_cannot_be_are_malformed(linktype: int, frame: bytes) -> None:
    assert decode(frame, linktype)["kind"] == "bad_link"


def test_the_length_of_a_record_is_that_of_the_wire() -> None:
    """An ERF record is padded, and cut where the card's snap length was; its header knows the frame's length."""
    frame = erf(2, ethernet(PACKET), before=bytes(2))
    assert is_the_segment(decode(frame + bytes(6), 197))
    packet = decode(frame[:-6], 197)
    assert (packet["payload"], packet["payload_len"]) == (DATA[:-6], len(DATA))


def test_an_ipnet_packet_ends_where_its_header_says() -> None:
    packet = ipv4(tcp(DATA, flags="PA"), total_length=0)
    found = decode(struct.pack("!BBHI16x", 1, 2, 0, len(packet)) + packet + b"more", 226)
    assert found["payload"] == DATA


# --- what is not read -----------------------------------------------------------------------------

UNREAD: dict[str, tuple[int, bytes, tuple[int, int]]] = {
    "beacon": (105, b"\x80\0" + bytes(60), (Layer.CONTROL, 105)),
    "acknowledgement": (105, b"\xd4\0" + bytes(8), (Layer.CONTROL, 105)),
    "802.11 without data": (105, b"\x48\x01" + bytes(22), (Layer.CONTROL, 105)),
    "802.11 protected": (105, wlan(bytes(8) + llc(PACKET), b"\x88\x42", bytes(2)), (Layer.ENCRYPTED, 0)),
    "802.11 first fragment": (105, wlan(llc(PACKET), b"\x08\x06"), (Layer.FRAGMENTS, 0)),
    "802.11 last fragment": (105, wlan(llc(PACKET))[:22] + b"\x11\0" + llc(PACKET), (Layer.FRAGMENTS, 0)),
    "radiotap with a beacon": (127, radiotap(b"\x80\0" + bytes(60)), (Layer.CONTROL, 105)),
    "FDDI station management": (10, b"\x41" + bytes(60), (Layer.CONTROL, 10)),
    "token ring management": (6, b"\x10\0" + bytes(60), (Layer.CONTROL, 6)),
    "SunATM signalling": (123, b"\x06" + bytes(60), (Layer.CONTROL, 123)),
    "ERF of InfiniBand": (197, erf(21, bytes(60)), (Layer.CONTROL, 197)),
    "PKTAP of no packet": (258, struct.pack("<III", 108, 2, 1) + bytes(120), (Layer.CONTROL, 258)),
    "Juniper, unknown protocol": (178, juniper(bytes(4) + PACKET, 2), (Layer.CONTROL, 178)),
    "Juniper ATM operations": (137, juniper(b"\x80" + bytes(60)), (Layer.CONTROL, 137)),
    "netlink in a cooked capture": (113, cooked(0, PACKET, 824), (Layer.LINKTYPE, 253)),
    "Novell in a cooked capture": (113, cooked(1, PACKET), (Layer.ETHERTYPE, 1)),
    "Cisco's keep-alive": (104, b"\x8f\0\x80\x35" + bytes(20), (Layer.ETHERTYPE, 0x8035)),
    "frame relay management": (107, b"\0\x01\x03\x08" + bytes(20), (Layer.NLPID, 0x08)),
    "frame relay fragment": (107, b"\x18\x41\x03\xb1\x80\0" + bytes(20), (Layer.FRAGMENTS, 2)),
    "NFLOG of ARP": (239, nflog(bytes(28), "<", 3, 0x0806), (Layer.ETHERTYPE, 0x0806)),
    "AppleTalk of a host": (0, struct.pack("<I", 16) + bytes(20), (Layer.FAMILY, 16)),
    "PPP control": (9, b"\xff\x03\xc0\x21\x01\x01\0\x04", (Layer.PPP, 0xC021)),
}


@pytest.mark.parametrize(("linktype", "frame", "number"), UNREAD.values(), ids=UNREAD)
def test_what_is_not_read_is_told_by_its_number(linktype: int, frame: bytes, number: tuple[int, int]) -> None:
    packet = decode(frame, linktype)
    assert (packet["kind"], packet["unread"]) == ("non_ip", number)


def test_a_private_number_that_does_not_look_like_pktap_stays_private() -> None:
    frame = pktap(1, ethernet(PACKET))
    assert is_the_segment(decode(frame, 149))
    for at, value in ((4, 2), (3, 1), (12, 0), (13, 7), (0, 51)):
        assert decode(frame[:at] + bytes([value]) + frame[at + 1 :], 149)["unread"] == (Layer.LINKTYPE, 149)


def test_a_link_type_within_another_is_told_by_its_number() -> None:
    packet = decode(struct.pack("<BBHI", 0, 0, 8, 147) + bytes(60), 192)
    assert (packet["kind"], packet["unread"]) == ("unknown_link", (Layer.LINKTYPE, 147))
    packet = decode(struct.pack("<BBHI", 0, 0, 8, 0x10001) + bytes(60), 192)
    assert (packet["kind"], packet["unread"]) == ("unknown_link", (Layer.LINKTYPE, 0x10001))


def test_link_types_within_link_types_are_bounded() -> None:
    frame = PACKET
    for linktype in (101, *[192] * 20):
        frame = struct.pack("<BBHI", 0, 0, 8, linktype) + frame
    assert decode(frame, 192)["kind"] == "bad_link"
