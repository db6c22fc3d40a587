"""Frames built natively: answers that go back the way the packet came, and packets with other payloads."""

import struct

import pytest

from aiomos.testing.packets import (
    ethernet,
    ipv4,
    ipv6,
    ipv6_extension,
    mss,
    tcp,
    tcp_frame,
    timestamps,
    udp,
    vlan,
)

probe = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")
wire = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
A4, B4, A6, B6 = "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"
ENDS = [(A4, B4), (A6, B6)]
SEQ = 2**32 - 5
RAW = 101


def packet(payload: bytes, proto: int, src: str = A4, dst: str = B4) -> bytes:
    if ":" in src:
        return ipv6(payload, src=src, dst=dst, proto=proto)
    return ipv4(payload, src=src, dst=dst, proto=proto, dont_fragment=True)


def answer(packet: bytes) -> bytes:
    return ethernet(packet, src=B, dst=A)


# --- RST and ACK ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("src", "dst"), ENDS)
@pytest.mark.parametrize(
    ("flags", "data", "seq", "ack", "answered"),
    [
        ("S", b"", 0, (SEQ + 1) % 2**32, "RA"),
        ("SA", b"", 77, 0, "R"),
        ("A", b"data", 77, 0, "R"),
        ("F", b"1234567", 0, (SEQ + 8) % 2**32, "RA"),
    ],
)
def test_a_reset_is_what_a_closed_port_answers(
    src: str, dst: str, flags: str, data: bytes, seq: int, ack: int, answered: str
) -> None:
    """RFC 9293 section 3.10.7.1."""
    offender = tcp_frame(src, dst, 1234, 80, SEQ, 77, flags, data)
    reset = tcp(b"", src=dst, dst=src, sport=80, dport=1234, seq=seq, ack=ack, flags=answered, window=0)
    assert probe.Writable(offender).reset() == answer(packet(reset, 6, dst, src))


def test_no_reset_answers_a_reset() -> None:
    assert probe.Writable(tcp_frame(flags="R")).reset() == b""
    assert probe.Writable(ethernet(ipv4(udp(), proto=17))).reset() == b""


def test_an_ack_echoes_timestamps() -> None:
    segment = tcp_frame(A4, B4, 1, 2, SEQ, 55, "A", b"data", options=timestamps(8, 9))
    ack = tcp(
        src=B4,
        dst=A4,
        sport=2,
        dport=1,
        seq=55,
        ack=SEQ + 4,
        flags="A",
        window=99,
        options=timestamps(9, 8),
    )
    assert probe.Writable(segment).ack((SEQ + 4) % 2**32, 99) == answer(packet(ack, 6, B4, A4))
    assert probe.Writable(tcp_frame(flags="S")).ack(1, 1) == b""


@pytest.mark.parametrize(("src", "dst"), ENDS)
def test_a_segment_goes_either_way_in_an_envelope(src: str, dst: str) -> None:
    writable = probe.Writable(tcp_frame(src, dst, 1, 2, flags="A"))
    there = tcp(b"odd", src=src, dst=dst, sport=1, dport=2, seq=SEQ, ack=4, flags="PA", window=5)
    assert writable.segment(SEQ, 4, 0x18, 5, b"odd") == ethernet(packet(there, 6, src, dst))
    back = tcp(src=dst, dst=src, sport=2, dport=1, seq=3, ack=4, flags="A", options=timestamps(6, 7))
    assert writable.segment(3, 4, 0x10, 65535, timestamps=(6, 7), answer=True) == answer(
        packet(back, 6, dst, src)
    )


def test_ecn_and_other_dscp_bits() -> None:
    """What is not data is not ECN-capable (RFC 3168 section 6.1.4); DSCP stays."""
    segment = tcp(flags="S")
    reset = probe.Writable(ethernet(ipv4(segment, tos=0xBB))).reset()
    assert reset[15] == 0xB8


# --- link headers -----------------------------------------------------------------------------------------


def pppoe(packet: bytes, compressed: bool = False) -> bytes:
    inner = (b"\x21" if compressed else b"\x00\x21") + packet
    return struct.pack("!BBHH", 0x11, 0, 7, len(inner)) + inner


def mpls(packet: bytes) -> bytes:
    return struct.pack("!II", 16 << 12 | 64, 17 << 12 | 1 << 8 | 64) + packet


def snap(packet: bytes) -> bytes:
    return b"\xaa\xaa\x03\0\0\0\x08\x00" + packet


@pytest.mark.parametrize("compressed", [False, True])
def test_pppoe_states_the_new_length(compressed: bool) -> None:
    frame = ethernet(pppoe(packet(tcp(b"long payload"), 6), compressed), ethertype=0x8864)
    reset = packet(tcp(flags="RA", ack=13, sport=80, dport=1234, src=B4, dst=A4, window=0), 6, B4, A4)
    assert probe.Writable(frame).reset() == answer_in(pppoe(reset, compressed), 0x8864)


def answer_in(body: bytes, ethertype: int) -> bytes:
    return ethernet(body, src=B, dst=A, ethertype=ethertype)


def test_labels_and_tags_stay() -> None:
    reset = packet(tcp(flags="RA", ack=1, sport=80, dport=1234, src=B4, dst=A4, window=0), 6, B4, A4)
    frame = ethernet(mpls(packet(tcp(), 6)), ethertype=0x8847, vlan=[3, 4])
    assert probe.Writable(frame).reset() == ethernet(mpls(reset), src=B, dst=A, ethertype=0x8847, vlan=[3, 4])


def test_an_802_3_frame_states_the_new_length() -> None:
    body = snap(packet(tcp(b"long payload"), 6))
    reset = snap(packet(tcp(flags="RA", ack=13, sport=80, dport=1234, src=B4, dst=A4, window=0), 6, B4, A4))
    frame = vlan(ethernet(body, ethertype=len(body)), 5)
    assert probe.Writable(frame).reset() == vlan(ethernet(reset, src=B, dst=A, ethertype=len(reset)), 5)


def test_raw_packets_have_no_link_header() -> None:
    reset = packet(tcp(flags="RA", ack=1, sport=80, dport=1234, src=B4, dst=A4, window=0), 6, B4, A4)
    assert probe.Writable(packet(tcp(), 6), RAW).reset() == reset


# --- other payloads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 999])
def test_udp_with_another_payload(size: int) -> None:
    new = bytes(range(256)) * 4
    before = vlan(ethernet(ipv4(udp(b"before"), proto=17, tos=4, ttl=9, ip_id=7)), 3)
    after = vlan(ethernet(ipv4(udp(new[:size]), proto=17, tos=4, ttl=9, ip_id=7)), 3)
    assert probe.Writable(before).with_payload(new[:size]) == after


def test_udp_without_a_checksum_stays_without() -> None:
    body = struct.pack("!HHHH", 1, 2, 14, 0) + b"before"
    after = struct.pack("!HHHH", 1, 2, 13, 0) + b"after"
    assert probe.Writable(ethernet(ipv4(body, proto=17))).with_payload(b"after") == ethernet(
        ipv4(after, proto=17)
    )


def test_tcp_over_ipv6_extensions_with_another_payload() -> None:
    def build(payload: bytes) -> bytes:
        segment = tcp(payload, src=A6, dst=B6, flags="A", options=mss(9))
        return ethernet(ipv6(ipv6_extension(segment), src=A6, dst=B6, proto=60, flow_label=3))

    assert probe.Writable(build(b"before")).with_payload(b"and after") == build(b"and after")


def test_cuts_have_their_own_numbers() -> None:
    payload = bytes(range(200))
    model = tcp_frame(seq=1, flags="PA", payload=b"x", options=timestamps(1, 2), ip_id=0xFFFF)
    cut = probe.Writable(model).cut(payload, 100, 50, SEQ, 0x110, 3, 2)
    segment = tcp(payload[100:150], seq=SEQ, flags="A", options=timestamps(1, 2), urgent=3, accurate_ecn=True)
    assert cut == ethernet(ipv4(segment, ip_id=1))


def test_a_super_segment_leaves_with_its_own_length_and_a_full_checksum() -> None:
    segment = tcp(bytes(70_000))
    frame = ethernet(ipv4(segment[:16] + b"\xab\xcd" + segment[18:]))
    built = probe.Writable(frame, partial=(34, 16)).with_payload(b"small")
    assert built == ethernet(ipv4(tcp(b"small")))


def test_what_does_not_fit_is_not_built() -> None:
    writable = probe.Writable(tcp_frame(payload=b"x"))
    size = len(writable.with_payload(b"abc"))
    assert len(writable.with_payload(b"abc", size)) == size
    assert writable.with_payload(b"abc", size - 1) == b""
    assert writable.with_payload(b"abc", 5) == b""
    assert writable.with_payload(bytes(65536)) == b""
    assert writable.segment(1, 2, 16, 3, bytes(65536)) == b""
    size = len(writable.reset(2000))
    assert len(writable.reset(size)) == size
    assert writable.reset(size - 1) == b""


def test_with_segments_left_the_last_address_is_not_the_header_s() -> None:
    """Its checksum could not be taken, so no payload is put into it; a new destination leaves the checksum alone."""
    routing = b"\x00\x01" + bytes(4) + bytes(16)
    segment = tcp(src=A6, dst="2001:db8::99")
    frame = ethernet(ipv6(ipv6_extension(segment, body=routing), src=A6, dst=B6, proto=43))
    writable = probe.Writable(frame)
    assert writable.with_payload(b"x") == b""
    assert writable.set("dst", "2001:db8::77")
    again = ipv6(ipv6_extension(segment, body=routing), src=A6, dst="2001:db8::77", proto=43)
    assert writable.frame == ethernet(again)
