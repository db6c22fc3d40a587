"""Super-segments at the bounds of what can be cut: both sides of each."""

import pytest

from aiomos.testing.packets import ethernet, ipv4, ipv6, tcp, udp
from aiomos.wire.segmentation import segments, with_checksum

V4 = {"src": "192.0.2.1", "dst": "198.51.100.2"}
V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
TCPV4, TCPV6, UDP, ECN = 1, 4, 5, 0x80
RAW = 101


def tcp4(payload: bytes, **fields: int) -> bytes:
    return ipv4(tcp(payload, seq=1000, flags="A", **V4, **fields), **V4)


def cut(
    frame: bytes, kind: int = TCPV4, size: int = 10, start: int = 34, linktype: int = 1
) -> list[int] | None:
    found = segments(frame, kind, size, start, linktype)
    return None if found is None else [len(segment) for segment in found]


def test_the_last_segment_has_the_rest() -> None:
    assert cut(ethernet(tcp4(bytes(20)))) == [64, 64]
    assert cut(ethernet(tcp4(bytes(21)))) == [64, 64, 55]
    assert cut(ethernet(tcp4(bytes(19)))) == [64, 63]
    assert cut(ethernet(tcp4(bytes(9)))) == [63]
    assert cut(ethernet(tcp4(b"a"))) == [55]
    assert cut(ethernet(tcp4(b""))) is None


def test_a_segment_size_of_none_is_refused() -> None:
    assert cut(ethernet(tcp4(bytes(3))), size=1) == [55, 55, 55]
    assert cut(ethernet(tcp4(bytes(3))), size=0) is None


def test_kinds() -> None:
    frame = ethernet(tcp4(bytes(20)))
    assert cut(frame, TCPV4 | ECN) == [64, 64]
    assert [cut(frame, kind) for kind in (0, 2, 3, 6)] == [None] * 4
    datagram = ethernet(ipv6(udp(bytes(20), **V6), proto=17, **V6))
    assert cut(datagram, UDP, start=54) == [72, 72]
    assert cut(ethernet(ipv6(tcp(bytes(20), **V6), **V6)), TCPV6, start=54) == [84, 84]


@pytest.mark.parametrize(("tags", "expected"), [(1, [68, 68]), (4, [80, 80]), (5, None)])
def test_behind_four_tags_and_no_more(tags: int, expected: list[int] | None) -> None:
    frame = ethernet(tcp4(bytes(20)))
    tagged = frame[:12] + b"\x81\x00\x00\x01" * tags + frame[12:]
    assert cut(tagged, start=34 + 4 * tags) == expected


def test_frames_that_end_in_a_header() -> None:
    whole = ethernet(tcp4(bytes(20)))
    for length in (0, 13, 14, 33, 34, 53, 54):
        assert cut(whole[:length]) is None
    assert cut(whole[:55]) == [55]
    assert [cut(whole[14:][:length], start=20, linktype=RAW) for length in (0, 19, 40, 41)] == [
        None,
        None,
        None,
        [41],
    ]
    assert cut(b"\x50" + whole[15:], start=20, linktype=RAW) is None
    tagged = whole[:12] + b"\x88\xa8\x00\x01"
    assert cut(tagged[:15]) is None
    assert cut(tagged) is None


def test_where_the_sum_begins_is_behind_the_ip_header() -> None:
    whole = ethernet(tcp4(bytes(30)))
    assert cut(whole, start=33) is None
    assert cut(whole, start=34) == [64, 64, 64]
    six = ethernet(ipv6(tcp(bytes(20), **V6), **V6))
    assert cut(six, TCPV6, start=53) is None
    assert cut(six, TCPV6, start=54) == [84, 84]
    assert cut(whole, start=len(whole) - 19) is None
    assert cut(whole, start=len(whole) + 1) is None
    assert cut(whole, UDP, start=len(whole) - 8) is None
    assert cut(whole, UDP, start=len(whole) - 9) == [84]


def test_a_tcp_header_has_20_bytes_at_least() -> None:
    whole = bytearray(ethernet(tcp4(bytes(20))))
    for words, expected in ((4, None), (5, [64, 64]), (6, [68, 64]), (9, [74]), (10, None), (15, None)):
        whole[46] = words << 4
        assert cut(bytes(whole)) == expected, words


def test_a_sum_that_fits_to_the_last_byte() -> None:
    assert with_checksum(bytes(10), 0, 8) == bytes(8) + b"\xff\xff"
    assert with_checksum(bytes(10), 0, 9) is None
    assert with_checksum(bytes(10), 8, 0) == bytes(8) + b"\xff\xff"
    assert with_checksum(bytes(10), 9, 0) is None
    assert with_checksum(bytes(10), 11, 0) is None
    assert with_checksum(b"\x12\x34\0\0\xff\xff", 0, 2) == b"\x12\x34\xed\xcb\xff\xff"
    assert with_checksum(b"\x12\x34\0\0\xff\xff", 2, 0) == b"\x12\x34\xff\xff\xff\xff"
