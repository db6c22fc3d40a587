"""What can be set in which packet, and what refuses."""

import struct

import pytest

from aiomos.testing.packets import (
    checksum,
    ethernet,
    fragment_ipv4,
    ipv4,
    ipv6,
    ipv6_extension,
    ipv6_fragment,
    mss,
    pseudo_header,
    tcp,
    tcp_frame,
    udp,
    vlan,
)

probe = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")
wire = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

IP = {"ttl": 5, "tos": 6}
ADDRESSES = {"src": "192.0.2.1", "dst": "192.0.2.2"}
PORTS = {"sport": 1, "dport": 2}
NUMBERS = {"seq": 1, "ack": 2, "flags": 3, "window": 4, "urgent": 5}
OPTIONS = {"mss": 1000, "timestamps": (1, 2), "sack": []}
MAC = {"eth_src": "02:00:00:00:00:0a", "eth_dst": "02:00:00:00:00:0b"}
ALL = IP | ADDRESSES | PORTS | NUMBERS | OPTIONS | MAC | {"echo_id": 6}
ECHO = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
ARP = ethernet(bytes(28), ethertype=0x0806)

CASES = {
    "TCP": (tcp_frame(), IP | ADDRESSES | PORTS | NUMBERS | MAC),
    "TCP with MSS": (tcp_frame(options=mss(9)), IP | ADDRESSES | PORTS | NUMBERS | MAC | {"mss": 1}),
    "UDP": (ethernet(ipv4(udp(), proto=17)), IP | ADDRESSES | PORTS | MAC),
    "echo": (ethernet(ipv4(ECHO, proto=1)), IP | ADDRESSES | MAC | {"echo_id": 6}),
    "cut echo": (ethernet(ipv4(ECHO[:7], proto=1)), IP | ADDRESSES | MAC),
    "other ICMP": (ethernet(ipv4(b"\x09" + ECHO[1:], proto=1)), IP | ADDRESSES | MAC),
    "GRE": (ethernet(ipv4(bytes(8), proto=47)), IP | ADDRESSES | MAC),
    "nothing in IP": (ethernet(ipv4(b"", proto=17)), IP | ADDRESSES | MAC),
    "first fragment": (ethernet(fragment_ipv4(ipv4(tcp(bytes(99))), 48)[0]), IP | MAC),
    "later fragment": (ethernet(fragment_ipv4(ipv4(tcp(bytes(99))), 48)[1]), IP | MAC),
    "IPv6 fragment": (ethernet(ipv6(ipv6_fragment(bytes(9), offset=8), proto=44)), IP | MAC),
    "IPv6": (ethernet(ipv6(tcp())), IP | PORTS | NUMBERS | MAC),
    "ARP": (ARP, MAC),
    "broken TCP": (ethernet(ipv4(bytes(20))), MAC),
    "broken IP": (ethernet(b"\x45"), MAC),
    "too short for Ethernet": (bytes(13), {}),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_field_is_set_where_it_is(case: str) -> None:
    frame, can = CASES[case]
    for name, value in ALL.items():
        packet = probe.Writable(frame)
        assert packet.set(name, value) == (name in can), name
        assert name in can or packet.frame == frame, name


def test_raw_packets_have_no_mac() -> None:
    packet = probe.Writable(ipv4(tcp()), 101)
    assert not packet.set("eth_src", MAC["eth_src"])
    assert packet.set("sport", 5)
    assert packet.frame == ipv4(tcp(sport=5))


def test_the_checksum_of_a_super_segment_stays_partial() -> None:
    """Too long for the length field, whose place holds 0; the sum is that of the pseudo-header, as before."""

    def frame(src: str, sport: int) -> bytes:
        segment = tcp(bytes(70_000), src=src, sport=sport)
        partial = 0xFFFF ^ checksum(pseudo_header(src, "10.0.0.2", 6, len(segment)))
        return vlan(ethernet(ipv4(segment[:16] + struct.pack("!H", partial) + segment[18:], src=src)), 9)

    packet = probe.Writable(frame("10.0.0.1", 1), partial=(38, 16))
    assert packet.set("src", "203.0.113.200")
    assert packet.set("sport", 60_000)
    assert packet.frame == frame("203.0.113.200", 60_000)


def test_a_checksum_of_somebody_else_s_is_not_partial() -> None:
    """The offload names another place, as within a tunnel."""
    packet = probe.Writable(tcp_frame(), partial=(60, 16))
    assert packet.set("sport", 7)
    assert packet.frame == tcp_frame(sport=7)


@pytest.mark.parametrize("flags", [0, 2])
def test_a_checksum_that_was_looked_at_is_not_partial(flags: int) -> None:
    """VIRTIO_NET_HDR_F_DATA_VALID, or nothing: what stands in the other fields means nothing then."""
    packet = probe.Writable(tcp_frame(), partial=(34, 16), flags=flags)
    assert packet.set("sport", 7)
    assert packet.frame == tcp_frame(sport=7)


def test_a_udp_sum_of_zero_is_written_as_ones() -> None:
    """RFC 768; found by search, since one port in 65536 makes it."""
    sums = {}
    packet = probe.Writable(ethernet(ipv4(udp(b"x"), proto=17)))
    for port in range(65536):
        packet.set("sport", port)
        sums[packet.frame[40:42]] = port
    assert b"\0\0" not in sums
    assert len(sums) == 65535
    packet.set("sport", sums[b"\xff\xff"])
    assert packet.frame == ethernet(ipv4(udp(b"x", sport=sums[b"\xff\xff"]), proto=17))
    assert wire.decode(packet.frame)["kind"] == "udp"


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12])
def test_icmp_errors_quote(kind: int) -> None:
    body = struct.pack("!BBHI", kind, 0, 0, 0) + ipv4(udp(), proto=17)
    packet = probe.Writable(ethernet(ipv4(body, proto=1)))
    assert packet.quote() == ("10.0.0.1", "10.0.0.2", 1234, 53, 17)
    assert packet.echo_id() is None


@pytest.mark.parametrize(
    "quoted",
    [
        ipv4(udp(), proto=17)[:27],
        ipv4(udp(), proto=47),
        ipv4(b"\x03" + ECHO[1:], proto=1),
        ipv4(udp(), proto=17, fragment_offset=8),
        ipv6(udp(src="::1", dst="::2"), proto=17, src="::1", dst="::2"),
        b"",
    ],
)
def test_what_cannot_be_told_is_no_quote(quoted: bytes) -> None:
    body = struct.pack("!BBHI", 3, 0, 0, 0) + quoted
    assert probe.Writable(ethernet(ipv4(body, proto=1))).quote() is None


V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
ECHO6 = struct.pack("!BBHHH", 128, 0, 0, 7, 1)
V4_ENDS, V6_ENDS = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")
QUOTABLE = {
    "TCP": (ipv4(tcp(b"payload")), 20, (*V4_ENDS, 1234, 80, 6)),
    "TCP with IP options": (ipv4(tcp(), options=b"\x94\x04\0\0"), 24, (*V4_ENDS, 1234, 80, 6)),
    "UDP": (ipv4(udp(b"payload"), proto=17), 20, (*V4_ENDS, 1234, 53, 17)),
    "echo": (ipv4(ECHO, proto=1), 20, (*V4_ENDS, 7, 7, 1)),
    "first fragment": (fragment_ipv4(ipv4(tcp(bytes(99))), 48)[0], 20, (*V4_ENDS, 1234, 80, 6)),
    "TCP over IPv6": (ipv6(tcp(b"payload", **V6), **V6), 40, (*V6_ENDS, 1234, 80, 6)),
    "TCP behind an extension": (
        ipv6(ipv6_extension(tcp(**V6)), proto=60, **V6),
        48,
        (*V6_ENDS, 1234, 80, 6),
    ),
    "UDP over IPv6": (ipv6(udp(b"payload", **V6), proto=17, **V6), 40, (*V6_ENDS, 1234, 53, 17)),
    "echo over IPv6": (ipv6(ECHO6, proto=58, **V6), 40, (*V6_ENDS, 7, 7, 58)),
    "first IPv6 fragment": (
        ipv6(ipv6_fragment(tcp(bytes(99), **V6)[:48], more_fragments=True), proto=44, **V6),
        48,
        (*V6_ENDS, 1234, 80, 6),
    ),
    "GRE": (ipv4(bytes(40), proto=47), 60, None),
}


@pytest.mark.parametrize("case", sorted(QUOTABLE))
def test_a_quote_is_told_from_eight_bytes_of_transport_on(case: str) -> None:
    """RFC 792; of TCP, even the ports may be missing, or the header behind them."""
    whole, headers, told = QUOTABLE[case]
    six = whole[0] >> 4 == 6
    for length in range(len(whole) + 1):
        body = struct.pack("!BBHI", 1 if six else 3, 0, 0, 0) + whole[:length]
        error = ipv6(body, proto=58, **V6) if six else ipv4(body, proto=1)
        packet = probe.Writable(ethernet(error))
        quote = packet.quote()
        assert quote == (told if length >= headers + 8 else None), length
        if quote:
            packet.set_quote(*told[:4])  # the same again: nothing changes, and nothing beyond is touched
            assert packet.frame == ethernet(error), length


def test_a_quoted_first_fragment_is_told() -> None:
    quoted = ipv4(udp(bytes(99)), proto=17, more_fragments=True)[:28]
    body = struct.pack("!BBHI", 11, 1, 0, 0) + quoted
    assert probe.Writable(ethernet(ipv4(body, proto=1))).quote() == ("10.0.0.1", "10.0.0.2", 1234, 53, 17)


def test_blocks_that_are_gone_leave_no_trace() -> None:
    options = b"\x01\x01\x05\x12" + struct.pack("!IIII", 1, 2, 3, 4)
    packet = probe.Writable(tcp_frame(flags="A", options=options))
    assert not packet.set("sack", [(1, 2), (3, 4), (5, 6)])
    assert packet.set("sack", [(7, 8)])
    one = b"\x01\x01\x05\x0a" + struct.pack("!II", 7, 8) + b"\x01" * 8
    assert packet.frame == tcp_frame(flags="A", options=one)
    assert packet.set("sack", [])
    assert packet.frame == tcp_frame(flags="A", options=b"\x01" * 20)
    assert not packet.set("sack", [])


def test_blocks_are_set_in_every_option_that_has_some() -> None:
    """RFC 2018 has one; whoever sends several must not have one left with numbers of before an edit."""

    def frame(*blocks: tuple[int, int]) -> bytes:
        options = b"".join(b"\x01\x01\x05\x0a" + struct.pack("!II", *block) for block in blocks)
        return tcp_frame(flags="A", options=options)

    packet = probe.Writable(frame((1, 2), (3, 4), (5, 6)))
    assert packet.set("sack", [(7, 8)])
    assert packet.frame == frame((7, 8), (7, 8), (7, 8))
