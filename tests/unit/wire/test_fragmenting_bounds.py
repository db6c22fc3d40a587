"""Fragments at the bounds of what they may be: exact sizes, and both sides of what is refused."""

from typing import Any

import pytest

from aiomos.testing.packets import checksum, ipv4, ipv6, ipv6_extension

probe: Any = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")

ID = 0x01020304
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60


def sizes(packet: bytes, most: int) -> list[int] | None:
    pieces = probe.fragments(packet, most, ID)
    return None if pieces is None else [len(piece) for piece in pieces]


def chained(*headers: int, payload: int = 100) -> bytes:
    """Build an IPv6 packet with extension headers of 8 bytes."""
    first, body = 17, bytes(payload)
    for header in reversed(headers):
        body = ipv6_extension(body, proto=first)
        first = header
    return ipv6(body, proto=first)


def test_ipv4_pieces_are_as_large_as_may_be() -> None:
    packet = ipv4(bytes(range(100)), proto=17)
    assert sizes(packet, 120) == [120]
    assert sizes(packet, 119) == [116, 24]  # 96 bytes, the most that 8 divides, and the rest
    assert sizes(packet, 68) == [68, 68, 24]
    assert sizes(packet, 71) == [68, 68, 24]
    assert sizes(packet, 72) == [68, 72]
    assert sizes(packet, 28) == [28] * 12 + [24]
    assert sizes(packet, 27) is None  # not 8 bytes besides the header
    pieces = probe.fragments(packet, 68, ID)
    assert [int.from_bytes(piece[6:8], "big") for piece in pieces] == [0x2000, 0x2000 | 6, 12]
    assert [int.from_bytes(piece[2:4], "big") for piece in pieces] == [68, 68, 24]
    assert [checksum(piece[:20]) for piece in pieces] == [0, 0, 0]
    assert b"".join(piece[20:] for piece in pieces) == bytes(range(100))


def test_a_last_piece_that_just_fits_is_not_cut_again() -> None:
    assert sizes(ipv4(bytes(96), proto=17), 68) == [68, 68]
    assert sizes(ipv4(bytes(97), proto=17), 68) == [68, 68, 21]
    assert sizes(ipv4(bytes(101), proto=17), 73) == [68, 73]
    assert sizes(chained(payload=108), 108) == [104, 100]
    assert sizes(chained(payload=116), 108) == [104, 108]
    assert sizes(chained(payload=117), 108) == [104, 104, 53]


def test_ipv6_pieces_are_as_large_as_may_be() -> None:
    packet = ipv6(bytes(range(100)), proto=17)
    assert sizes(packet, 140) == [140]
    assert sizes(packet, 139) == [136, 60]
    assert sizes(packet, 56) == [56] * 12 + [52]
    assert sizes(packet, 55) is None
    pieces = probe.fragments(packet, 139, ID)
    assert [piece[4:7] for piece in pieces] == [b"\x00\x60\x2c", b"\x00\x14\x2c"]
    assert [piece[40:48] for piece in pieces] == [b"\x11\0\0\x01\1\2\3\4", b"\x11\0\0\x58\1\2\3\4"]
    assert b"".join(piece[48:] for piece in pieces) == bytes(range(100))


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        ((), ()),
        ((DESTINATION,), ()),  # for the receiver alone: cut with the rest
        ((HOP_BY_HOP,), (HOP_BY_HOP,)),
        ((ROUTING, DESTINATION), (ROUTING,)),
        ((HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION), (HOP_BY_HOP, DESTINATION, ROUTING)),
        ((DESTINATION, HOP_BY_HOP), ()),  # not where it may be: what follows is not read
    ],
)
def test_headers_for_those_on_the_way_are_in_every_fragment(
    headers: tuple[int, ...], whole: tuple[int, ...]
) -> None:
    packet = chained(*headers)
    pieces = probe.fragments(packet, len(packet) - 1, ID)
    at = 40 + 8 * len(whole)
    assert len(pieces) == 2
    for piece in pieces:
        chain = [piece[6], *(piece[start] for start in range(40, at, 8))]
        assert chain == [*whole, FRAGMENT]
        assert piece[at] == [*headers, 17][len(whole)]
    assert b"".join(piece[at + 8 :] for piece in pieces) == packet[at:]


def test_a_fragment_is_not_cut_again() -> None:
    assert sizes(ipv4(bytes(100), proto=17, more_fragments=True), 60) is None
    assert sizes(ipv4(bytes(100), proto=17, fragment_offset=8), 60) is None
    assert sizes(ipv4(bytes(100), proto=17, dont_fragment=True), 60) == [60, 60, 40]
    assert sizes(chained(FRAGMENT), 100) is None
    assert sizes(chained(HOP_BY_HOP, FRAGMENT), 100) is None


def test_eight_extension_headers_are_read() -> None:
    assert sizes(chained(*[ROUTING] * 7, FRAGMENT), 150) is None
    assert sizes(chained(*[ROUTING] * 8, FRAGMENT), 150) == [144, 144, 144, 124]


def test_headers_that_do_not_fit_are_refused() -> None:
    packet = chained(ROUTING, payload=0)
    assert sizes(packet, 100) == [48]
    assert sizes(packet[:-1], 100) is None
    longer = packet[:41] + b"\1" + packet[42:]
    assert sizes(longer, 100) is None
    assert sizes(longer + bytes(7), 100) is None
    assert sizes(longer + bytes(8), 100) == [56]
    assert sizes(ipv6(b"", proto=17), 100) == [40]
    assert sizes(ipv6(b"", proto=17)[:-1], 100) is None
    assert sizes(ipv4(b"", proto=17), 100) == [20]
    assert sizes(ipv4(b"", proto=17)[:-1], 100) is None
    assert sizes(b"\x44" + ipv4(bytes(9), proto=17)[1:], 100) is None
    assert sizes(b"\x46" + ipv4(bytes(4), proto=17)[1:], 100) == [24]
    assert sizes(b"\x46" + ipv4(bytes(3), proto=17)[1:], 100) is None
    assert sizes(b"\x50" + bytes(60), 100) is None


def test_the_longest_packets() -> None:
    assert sizes(ipv4(bytes(65515), proto=17), 65535) == [65535]
    assert sizes(ipv4(bytes(65515), proto=17) + b"\0", 65536) is None
    assert sizes(ipv6(bytes(65535), proto=17), 65575) == [65575]
    assert sizes(ipv6(bytes(65535), proto=17) + b"\0", 65576) is None


@pytest.mark.parametrize(
    ("options", "later"),
    [
        (b"", b""),
        (b"\x94\x04\0\0", b"\x94\x04\0\0"),
        (b"\x44\x04\0\0", b""),
        (b"\x01\x94\x04\0\0\0\0\0", b"\x94\x04\0\0"),  # behind a NOP; padding
        (b"\x00\x94\x04\0\0\0\0\0", b""),  # behind the end
        (b"\x82\x03\7\x83\x03\x08\0\0", b"\x82\x03\7\x83\x03\x08\0\0"),
        (b"\x82\x03\7\0", b"\x82\x03\7\0"),
        (b"\x94\x04\0\0\x82\x01\0\0", b"\x94\x04\0\0"),  # shorter than its own header
        (b"\x94\x04\0\0\x01\x82\x02\0", b"\x94\x04\0\0\x82\x02\0\0"),
        (b"\x94\x04\0\0\x01\x82\x02\x83", b"\x94\x04\0\0\x82\x02\0\0"),  # no room for a length
        (b"\x94\x04\0\0\x01\x82\x03\7", b"\x94\x04\0\0\x82\x03\7\0"),
        (b"\x94\x04\0\0\x01\x82\x04\7", b"\x94\x04\0\0"),  # longer than what is left
        (b"\x94\x28" + bytes(38), b"\x94\x28" + bytes(38)),
    ],
)
def test_later_fragments_have_the_options_that_are_to_be_copied(options: bytes, later: bytes) -> None:
    packet = ipv4(bytes(range(100)), proto=17, options=options)
    first, second = probe.fragments(packet, len(packet) - 1, ID)
    assert first[: 20 + len(options)][20:] == options
    assert second[0] == 0x45 + len(later) // 4
    assert second[20 : 20 + len(later)] == later
    assert second[20 + len(later) :] == bytes(range(96, 100)) if len(options) % 8 == 0 else True
    assert checksum(second[: 20 + len(later)]) == 0
