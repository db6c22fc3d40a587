"""What stands between Ethernet and IP: tags, label stacks, 802.2, sessions; each found, cut, lied about, nested."""

import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from aiomos.testing.packets import ethernet, ipv4, ipv6, tcp
from aiomos.wire.protocols import ETHERTYPES, LLC, PPP_PROTOCOLS, READ, Layer
from tests.wrappings import TAGS, Wrapping, amsdu, isl, label, llc, macsec, of, ppp, pppoe, sized, wlan

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
@pytest.mark.parametrize("wrapping", TAGS.values(), ids=TAGS)
def test_a_segment_is_found_behind_everything(wrapping: Wrapping, ip_version: int) -> None:
    packet = decode(wrapping.wrap(PACKETS[ip_version]), wrapping.linktype, verify=True)
    assert is_the_segment(packet)
    assert packet["ip_version"] == ip_version
    assert packet["vlan"] == (NO_VLAN if wrapping.vlan is None else wrapping.vlan)


@pytest.mark.parametrize("src", ["8.0.69.1", "2001:db8:86dd:6000::1"])
def test_an_ip_packet_behind_a_label_is_none_of_ethernet_though_its_source_looks_so(src: str) -> None:
    """Where a frame would have the type and the first byte of IP, stand bytes of the address."""
    if ":" in src:
        packet = ipv6(tcp(DATA, seq=0xFFFFFFF0, src=src, dst=V6["dst"]), src=src, dst=V6["dst"])
    else:
        packet = ipv4(tcp(DATA, seq=0xFFFFFFF0, src=src), src=src)
    found = decode(ethernet(label(packet, 16), ethertype=0x8847), 1, verify=True)
    assert is_the_segment(found)
    assert found["src"] == ip_address(src).packed


@pytest.mark.parametrize("wrapping", TAGS.values(), ids=TAGS)
def test_every_cut_has_a_kind(wrapping: Wrapping) -> None:
    """Cut by the snap length nothing is invented; cut on the wire it is malformed, not IP, or a shorter segment."""
    frame = wrapping.wrap(PACKET)
    for size in range(len(frame)):
        cut = decode(bytearray(frame[:size]), wrapping.linktype, wirelen=len(frame))
        assert not is_the_segment(cut) or size >= len(frame) - 40
        decode(bytearray(frame[:size]), wrapping.linktype)


@pytest.mark.parametrize("group", [ETHERTYPES, LLC, PPP_PROTOCOLS])
def test_every_row_of_the_reference_has_an_instance(group: str) -> None:
    rows = {row.number for row in READ if row.group == group}
    assert rows - {"0x86DD", "0x0021, 0x0057"} <= {wrapping.row for wrapping in TAGS.values()}


def test_ethertypes_that_are_not_in_the_reference_are_counted_by_number() -> None:
    listed = {
        int(number, 16)
        for row in READ
        if row.group == ETHERTYPES and row.number.startswith("0x")
        for number in row.number.split(", ")
    }
    unread = {
        ethertype
        for ethertype in range(0x600, 0x10000)
        if decode(ethernet(bytes(60), ethertype=ethertype)).get("unread") == (Layer.ETHERTYPE, ethertype)
    }
    # An empty batman-adv, Arista or PPPoE header is none that is read, and counted under the same number.
    assert unread == set(range(0x600, 0x10000)) - listed | {0x4305, 0x8864, 0x8909, 0xD28B}


# --- lengths --------------------------------------------------------------------------------------


def test_behind_the_length_of_pppoe_there_is_nothing() -> None:
    """Its length ends the packet, whatever IP says; and short of that, IP's."""
    session = pppoe(ppp(PACKET))
    assert is_the_segment(decode(ethernet(session + b"padding", ethertype=0x8864)))
    short = session[:4] + struct.pack("!H", len(PACKET) + 2 - 1) + session[6:]
    assert decode(ethernet(short + b"padding", ethertype=0x8864))["kind"] == "bad_ip"
    long = session[:4] + struct.pack("!H", len(PACKET) + 2 + 1) + session[6:]
    assert decode(ethernet(long, ethertype=0x8864))["kind"] == "bad_link"
    assert is_the_segment(decode(ethernet(long + b"x", ethertype=0x8864)))


def test_a_super_frame_in_pppoe_ends_where_pppoe_does() -> None:
    """IP length 0 means all there is, which does not include what is behind another header's end."""
    packet = ipv4(tcp(DATA, flags="PA"), total_length=0)
    found = decode(ethernet(pppoe(ppp(packet)) + b"padding", ethertype=0x8864))
    assert (found["payload"], found["payload_len"]) == (DATA, len(DATA))


def test_behind_the_length_of_802_3_there_is_nothing() -> None:
    frame = sized(llc)(PACKET)
    assert is_the_segment(decode(frame))
    shorter = frame[:12] + struct.pack("!H", 8 + len(PACKET) - 1) + frame[14:]
    assert decode(shorter)["kind"] == "bad_ip"
    longer = frame[:12] + struct.pack("!H", len(frame)) + frame[14:]
    assert decode(longer)["kind"] == "bad_link"
    neither = frame[:12] + struct.pack("!H", 1501) + frame[14:]
    assert decode(neither)["unread"] == (Layer.ETHERTYPE, 1501)


def test_the_short_length_of_macsec_leaves_its_trailer_out() -> None:
    packet = ipv4(tcp(b"", flags="A"), total_length=0)
    frame = ethernet(macsec(packet), ethertype=0x88E5)
    assert decode(frame)["payload_len"] == 0
    assert decode(frame[:15] + b"\x3f" + frame[16:])["kind"] == "bad_link"


def test_the_length_of_isl_is_obeyed() -> None:
    frame = isl(PACKET)
    assert is_the_segment(decode(frame))
    assert decode(frame[:12] + b"\0\x0b" + frame[14:])["kind"] == "bad_link"
    assert decode(frame[:12] + struct.pack("!H", len(frame) - 13) + frame[14:])["kind"] == "bad_link"
    assert decode(frame[:12] + struct.pack("!H", 40) + frame[14:])["kind"] == "bad_ip"


@pytest.mark.parametrize("words", [0, 1, 63])
def test_an_nsh_header_of_another_length_is_malformed(words: int) -> None:
    frame = of(0x894F, lambda packet: struct.pack("!HBBI", words, 2, 1, 0x1FF) + packet)(PACKET)
    assert decode(frame)["kind"] == "bad_link"


# --- what is not read -----------------------------------------------------------------------------

UNREAD: dict[str, tuple[bytes, tuple[int, int]]] = {
    "ARP": (ethernet(bytes(28), ethertype=0x0806), (Layer.ETHERTYPE, 0x0806)),
    "ARP in a VLAN": (ethernet(b"\0\x07\x08\x06" + bytes(28), ethertype=0x8100), (Layer.ETHERTYPE, 0x0806)),
    "LLDP": (ethernet(b"\x02\x07", ethertype=0x88CC), (Layer.ETHERTYPE, 0x88CC)),
    "spanning tree": (ethernet(b"\x42\x42\x03" + bytes(35), ethertype=38), (Layer.SAP, 0x4242)),
    "Cisco's discovery": (
        ethernet(b"\xaa\xaa\x03\0\0\x0c\x20\0\x02", ethertype=9),
        (Layer.SNAP, 0x00000C_2000),
    ),
    "SNAP with a length": (
        ethernet(b"\xaa\xaa\x03\0\0\0\x00\x26" + bytes(40), ethertype=48),
        (Layer.SNAP, 38),
    ),
    "no type at all": (bytes(60), (Layer.ETHERTYPE, 0)),
    "OSI": (ethernet(b"\xfe\xfe\x03\x83\x1b\x01", ethertype=6), (Layer.NLPID, 0x83)),
    "PPP control": (ethernet(pppoe(b"\xc0\x21\x01\x01\0\x04"), ethertype=0x8864), (Layer.PPP, 0xC021)),
    "PPPoE of another code": (ethernet(b"\x11\xa7" + bytes(4), ethertype=0x8864), (Layer.ETHERTYPE, 0x8864)),
    "a piece of multilink PPP": (
        ethernet(pppoe(b"\0\x3d\x80\0\0\x01" + ppp(PACKET)), ethertype=0x8864),
        (Layer.FRAGMENTS, 1),
    ),
    "PPP bridged, not Ethernet": (
        ethernet(pppoe(b"\0\x31\0\x02" + bytes(40)), ethertype=0x8864),
        (Layer.PPP, 0x0031),
    ),
    "MACsec, encrypted": (of(0x88E5, lambda packet: macsec(packet, 0x0C))(PACKET), (Layer.ENCRYPTED, 1)),
    "MACsec, changed": (of(0x88E5, lambda packet: macsec(packet, 0x04))(PACKET), (Layer.ENCRYPTED, 1)),
    "MPLS channel": (ethernet(label(b"\x10\0\0\x07" + bytes(20), 13), ethertype=0x8847), (Layer.MPLS, 1)),
    "pseudowire of something": (ethernet(label(bytes(40), 13), ethertype=0x8847), (Layer.MPLS, 0)),
    "NSH of an experiment": (
        ethernet(struct.pack("!HBBI", 2, 2, 0xFE, 0x1FF) + PACKET, ethertype=0x894F),
        (Layer.ETHERTYPE, 0x894F),
    ),
    "Cisco MetaData, version 2": (
        ethernet(b"\x02\x01\0\x01\0\x05\x08\0" + PACKET, ethertype=0x8909),
        (Layer.ETHERTYPE, 0x8909),
    ),
    "TRILL, version 1": (ethernet(b"\x40" + bytes(60), ethertype=0x22F3), (Layer.ETHERTYPE, 0x22F3)),
}


@pytest.mark.parametrize(("frame", "number"), UNREAD.values(), ids=UNREAD)
def test_what_is_not_read_is_told_by_its_number(frame: bytes, number: tuple[int, int]) -> None:
    packet = decode(frame)
    assert (packet["kind"], packet["unread"]) == ("non_ip", number)


# --- bounds ---------------------------------------------------------------------------------------

NESTED: dict[str, Callable[[int], bytes]] = {
    "VLAN": lambda count: ethernet(PACKET, vlan=[1] * count),
    "R-TAG": lambda count: ethernet(
        b"\0\0\0\x01\xf1\xc1" * (count - 1) + b"\0\0\0\x01\x08\0" + PACKET, ethertype=0xF1C1
    ),
    "MPLS": lambda count: ethernet(label(PACKET, *range(count)), ethertype=0x8847),
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
def test_layers_are_bounded(nested: Callable[[int], bytes]) -> None:
    assert is_the_segment(decode(nested(16)))
    assert decode(nested(16))["link_layers"] == 16
    assert decode(nested(17))["kind"] == "bad_link"
    assert decode(nested(2000))["kind"] == "bad_link"


def test_frames_in_frames_are_bounded() -> None:
    """FabricPath in FabricPath takes two layers each: the tag and the frame."""
    frame = ethernet(PACKET)
    for count in range(1, 12):
        frame = ethernet(b"\0\x40" + frame, ethertype=0x8903)
        assert decode(frame)["kind"] == ("tcp" if count <= 8 else "bad_link")


# --- aggregates -----------------------------------------------------------------------------------


def test_every_subframe_of_an_aggregate_is_read() -> None:
    packets = [ipv4(tcp(bytes([65 + i]) * i, flags="A")) for i in range(5)]
    frame = wlan(amsdu(*map(llc, packets)), b"\x88\x02", b"\x80\0")
    assert decode(frame, 105)["kind"] == "aggregate"
    assert [packet["payload"] for packet in probe.decode_aggregate(frame)] == [
        b"",
        b"B",
        b"CC",
        b"DDD",
        b"EEEE",
    ]


def test_a_subframe_that_is_not_read_hides_none_behind_it() -> None:
    frame = wlan(amsdu(b"\xaa\xaa\x03\0\0\0\x08\x06" + bytes(28), llc(PACKET)), b"\x88\x02", b"\x80\0")
    first, second = probe.decode_aggregate(frame)
    assert first["unread"] == (Layer.ETHERTYPE, 0x0806)
    assert is_the_segment(second)


def test_an_aggregate_cut_anywhere_ends() -> None:
    frame = wlan(amsdu(llc(PACKET), llc(PACKET), llc(PACKET)), b"\x88\x02", b"\x80\0")
    for size in range(26, len(frame)):
        for wirelen in (size, len(frame)):
            found = probe.decode_aggregate(bytearray(frame[:size]), wirelen=wirelen)
            assert len(found) <= 3
            assert all(not is_the_segment(packet) or size > 80 for packet in found)


def test_a_subframe_longer_than_the_frame_is_malformed() -> None:
    frame = wlan(bytes(12) + b"\xff\xff" + llc(PACKET), b"\x88\x02", b"\x80\0")
    assert [packet["kind"] for packet in probe.decode_aggregate(frame)] == ["bad_link"]
