"""Segments from a template: byte by byte as those built in Python, and as dpkt reads them."""

import itertools
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import dpkt
import pytest

from aiomos.testing.packets import (
    ethernet,
    fastopen,
    flag_bits,
    ipv4,
    ipv6,
    mss,
    sack,
    sack_ok,
    tcp,
    timestamps,
    wscale,
)
from aiomos.wire.segmentation import segments as cut
from aiomos.wire.segmentation import with_checksum

probe = pytest.importorskip("tests.native._probe_segments", reason="needs the native test probes")

A4, B4, A6, B6 = "192.0.2.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"
ENDS = pytest.mark.parametrize(("src", "dst"), [(A4, B4), (A6, B6)])
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
SEQ, ACKED = 2**32 - 5, 2**32 - 1
BYTES = bytes(range(251)) * 300
FIN, SYN, RST, PSH, ACK, ECE, CWR, AE = 1, 2, 4, 8, 0x10, 0x40, 0x80, 0x100
NOPS = b"\x01\x01"


def link(src: str, tags: int = 0) -> bytes:
    """The link header of frames with packets from *src*."""
    return ethernet(ip_of(src, src), vlan=list(range(3, 3 + tags)), **MACS)[: 14 + 4 * tags]


def ip_of(src: str, dst: str, payload: bytes = b"", **fields: Any) -> bytes:
    return (
        ipv6(payload, src=src, dst=dst, **fields)
        if ":" in src
        else ipv4(payload, src=src, dst=dst, dont_fragment=True, **fields)
    )


def frame_of(src: str, dst: str, payload: bytes = b"", ip_id: int = 0, **fields: Any) -> bytes:
    segment = tcp(payload, src=src, dst=dst, **{"seq": SEQ, "ack": ACKED, "flags": "A"} | fields)
    return ethernet(ip_of(src, dst, segment, **({} if ":" in src else {"ip_id": ip_id})), **MACS)


def written(connection: Any, payload: Iterable[bytes] = (), **fields: Any) -> bytes:
    return bytes(connection.write(payload, **{"seq": SEQ, "ack": ACKED} | fields)[0])


# --- headers ----------------------------------------------------------------------------------------------


@ENDS
@pytest.mark.parametrize("n", [0, 1, 2, 3, 535, 1448, 1460, 65_000])
def test_a_segment_is_that_built_in_python(src: str, dst: str, n: int) -> None:
    connection = probe.Connection(link(src), src, dst)
    connection.ids = 0xFFFF
    frame = written(connection, [BYTES[:n]], window=77, flags=PSH | ACK)
    assert frame == frame_of(src, dst, BYTES[:n], 0xFFFF, window=77, flags="PA")
    assert connection.ids == 0


@ENDS
@pytest.mark.parametrize("flags", ["", "S", "SA", "R", "RA", "F", "FA", "FPAEC", "SEC"])
def test_flags(src: str, dst: str, flags: str) -> None:
    connection = probe.Connection(link(src), src, dst)
    assert written(connection, flags=flag_bits(flags)) == frame_of(src, dst, flags=flags)
    accurate = written(connection, flags=flag_bits(flags) | AE, count=False)
    assert accurate == frame_of(src, dst, flags=flags, accurate_ecn=True)


def test_flags_beyond_the_nine_are_left_out() -> None:
    connection = probe.Connection(link(A4), A4, B4)
    assert written(connection, flags=0xFE00 | ACK) == frame_of(A4, B4)


@pytest.mark.parametrize("tags", [0, 1, 2])
@ENDS
def test_link_headers(src: str, dst: str, tags: int) -> None:
    connection = probe.Connection(link(src, tags), src, dst)
    packet = frame_of(src, dst, b"odd")[14:]
    assert written(connection, [b"odd"]) == link(src, tags) + packet
    bare = probe.Connection(b"", src, dst)
    assert written(bare, [b"odd"]) == packet


def test_a_link_header_fits_or_is_refused() -> None:
    assert probe.LINK == 22
    with pytest.raises(ValueError, match="no template"):
        probe.Connection(bytes(23), A4, B4)
    with pytest.raises(ValueError, match="no template"):
        probe.Connection(bytes(14), A4, B4, length_at=12)


def test_a_neighbour_moves() -> None:
    connection = probe.Connection(link(A4, 2), A4, B4)
    packet = frame_of(A4, B4)[14:]
    for n in (22, 14, 0, 18):
        assert connection.move(bytes(range(n)))
        assert written(connection, count=False) == bytes(range(n)) + packet
    assert not connection.move(bytes(23))
    assert written(connection, count=False) == bytes(range(18)) + packet


@pytest.mark.parametrize("ecn", range(4))
@pytest.mark.parametrize("dscp", [0, 0xB8, 0xFC])
@pytest.mark.parametrize("ttl", [1, 64, 255])
def test_traffic_class_and_hop_limit(ecn: int, dscp: int, ttl: int) -> None:
    connection = probe.Connection(b"", A4, B4, tos=dscp, ttl=ttl)
    segment = tcp(b"x", src=A4, dst=B4, seq=SEQ, ack=ACKED, flags="A")
    expected = ipv4(segment, src=A4, dst=B4, dont_fragment=True, tos=dscp | ecn, ttl=ttl)
    assert written(connection, [b"x"], ecn=ecn) == expected
    connection = probe.Connection(b"", A6, B6, tos=dscp, ttl=ttl, flow_label=0xABCDE)
    segment = tcp(b"x", src=A6, dst=B6, seq=SEQ, ack=ACKED, flags="A")
    expected = ipv6(segment, src=A6, dst=B6, traffic_class=dscp | ecn, hop_limit=ttl, flow_label=0xABCDE)
    assert written(connection, [b"x"], ecn=ecn) == expected
    assert written(connection, [b"x"], ecn=ecn | 0xFC) == expected  # two bits, no more


def test_ecn_of_the_envelope_is_not_taken_over() -> None:
    for src, dst in ((A4, B4), (A6, B6)):
        clean, marked = (written(probe.Connection(b"", src, dst, tos=tos), ecn=1) for tos in (0xB8, 0xBB))
        assert clean == marked


def test_a_flow_label_has_twenty_bits() -> None:
    connection = probe.Connection(b"", A6, B6, flow_label=0xFFFABCDE)
    assert written(connection)[:4] == b"\x60\x0a\xbc\xde"


def test_fragments_are_allowed_where_asked() -> None:
    connection = probe.Connection(b"", A4, B4, dont_fragment=False)
    connection.ids = 9
    segment = tcp(src=A4, dst=B4, seq=SEQ, ack=ACKED, flags="A")
    assert written(connection) == ipv4(segment, src=A4, dst=B4, ip_id=9)


# --- identification ---------------------------------------------------------------------------------------


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[18:20], "big")


def test_each_segment_has_an_identification_of_its_own() -> None:
    connection = probe.Connection(link(A4), A4, B4)
    connection.ids = 0xFFFE
    assert [number_of(written(connection)) for _ in range(4)] == [0xFFFE, 0xFFFF, 0, 1]
    assert number_of(written(connection, count=False)) == 0  # a SYN-ACK
    assert connection.ids == 2


@pytest.mark.parametrize(("n", "taken"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3), (60_000, 6000)])
def test_a_super_segment_takes_as_many_as_it_has_segments(n: int, taken: int) -> None:
    connection = probe.Connection(link(A4), A4, B4)
    connection.ids = 0xFFFF
    connection.write([BYTES[:n]], gso_size=10, partial=True)
    assert connection.ids == (0xFFFF + taken) % 2**16


def test_what_is_refused_takes_none() -> None:
    connection = probe.Connection(link(A4), A4, B4)
    assert connection.write([b"x"], room=54) is None
    assert connection.ids == 0


# --- options ----------------------------------------------------------------------------------------------

BLOCKS = [(1, 5), (2**32 - 9, 7), (100, 200), (300, 400), (500, 600)]
COOKIE = bytes(range(16))

SYN_OPTIONS = [
    (
        {"mss": 1460, "sack_ok": True, "timestamps": (7, 8), "wscale": 10},
        "020405b4 0402080a0000000700000008 0103030a",
    ),
    ({"mss": 1460, "sack_ok": True, "wscale": 7}, "020405b4 01010402 01030307"),
    ({"mss": 1460, "timestamps": (7, 0), "wscale": 14}, "020405b4 0101080a0000000700000000 0103030e"),
    ({"mss": 1460, "sack_ok": True, "timestamps": (7, 8)}, "020405b4 0402080a0000000700000008"),
    ({"mss": 65535}, "0204ffff"),
    ({"mss": 0, "wscale": 0}, "02040000 01030300"),
    ({}, ""),
    ({"mss": 1460, "cookie": b""}, "020405b4 22020101"),
    ({"mss": 1460, "cookie": COOKIE[:8]}, "020405b4 220a0001020304050607 0101"),
    ({"mss": 1460, "cookie": b"", "experimental": True}, "020405b4 fe04f989"),
    ({"mss": 1460, "cookie": COOKIE[:8], "experimental": True}, "020405b4 fe0cf9890001020304050607"),
    (
        {"mss": 1460, "sack_ok": True, "timestamps": (7, 0), "wscale": 10, "cookie": COOKIE},
        "020405b4 0402080a0000000700000000 0103030a 2212000102030405060708090a0b0c0d0e0f 0101",
    ),
]


@ENDS
@pytest.mark.parametrize(("options", "expected"), SYN_OPTIONS)
def test_options_of_a_syn_stand_as_linux_has_them(
    src: str, dst: str, options: dict[str, Any], expected: str
) -> None:
    connection = probe.Connection(link(src), src, dst)
    frame, _, size = connection.write(seq=SEQ, ack=ACKED, flags=SYN, **options)
    assert size == len(bytes.fromhex(expected))
    assert frame == frame_of(src, dst, flags="S", options=bytes.fromhex(expected))


@ENDS
@pytest.mark.parametrize("blocks", range(6))
@pytest.mark.parametrize("stamped", [False, True])
def test_sack_blocks_behind_timestamps(src: str, dst: str, blocks: int, stamped: bool) -> None:
    connection = probe.Connection(link(src), src, dst)
    told = min(blocks, 3 if stamped else 4)
    expected = timestamps(7, 8) if stamped else b""
    if told:
        expected += NOPS + sack(BLOCKS[:told])
    frame, _, size = connection.write(
        [b"odd"], seq=SEQ, ack=ACKED, timestamps=(7, 8) if stamped else None, sack=BLOCKS[:blocks]
    )
    assert size == len(expected)
    assert frame == frame_of(src, dst, b"odd", options=expected)


def test_sack_blocks_take_the_room_that_is_left() -> None:
    """Beside what stands in a SYN, and in front of it or not at all."""
    connection = probe.Connection(b"", A4, B4)
    all_others = {"mss": 1, "sack_ok": True, "timestamps": (1, 2), "wscale": 3}
    assert connection.write(sack=BLOCKS, **all_others)[2] == 20 + 4 + 16
    assert connection.write(sack=BLOCKS, cookie=b"", **all_others)[2] == 24 + 4 + 8
    assert connection.write(sack=BLOCKS, cookie=COOKIE[:6], **all_others)[2] == 28 + 4 + 8
    assert connection.write(sack=BLOCKS, cookie=COOKIE[:8], **all_others)[2] == 32
    assert connection.write(sack=BLOCKS, cookie=COOKIE, **all_others)[2] == 40


CHOICES = {
    "mss": [None, 1460],
    "sack_ok": [False, True],
    "timestamps": [None, (2**32 - 1, 5)],
    "wscale": [None, 7],
    "sack": [None, BLOCKS[:1], BLOCKS],
    "cookie": [None, b"", COOKIE[:4], COOKIE],
    "experimental": [False, True],
}


def options_of(options: Mapping[str, Any]) -> bytes:
    """The same in Python, from the pieces: one row of Linux' table after the other."""
    found = mss(options["mss"]) if options["mss"] else b""
    stamps = timestamps(*options["timestamps"]) if options["timestamps"] else b""
    if options["sack_ok"]:
        found += sack_ok() + stamps[2:] if stamps else NOPS + sack_ok()
    else:
        found += stamps
    if options["wscale"]:
        found += b"\x01" + wscale(options["wscale"])
    cookie = b""
    if options["cookie"] is not None:
        body = options["cookie"]
        cookie = (
            struct.pack("!BBH", 254, 4 + len(body), 0xF989) + body
            if options["experimental"]
            else fastopen(body)
        )
        cookie += b"\x01" * (-len(cookie) % 4)
    blocks = (40 - len(found) - len(cookie) - 4) // 8
    if options["sack"] and blocks > 0:
        found += NOPS + sack(options["sack"][: min(blocks, 4)])
    return found + cookie


def combinations() -> list[dict[str, Any]]:
    return [dict(zip(CHOICES, chosen, strict=True)) for chosen in itertools.product(*CHOICES.values())]


@ENDS
def test_all_combinations_of_options(src: str, dst: str) -> None:
    connection = probe.Connection(link(src), src, dst)
    tried = 0
    for options in combinations():
        expected = options_of(options)
        frame, _, size = connection.write([b"a", b"bc"], seq=SEQ, ack=ACKED, count=False, **options)
        assert frame == frame_of(src, dst, b"abc", options=expected), options
        assert size == len(expected) <= 40
        assert len(dpkt.tcp.parse_opts(dpkt.ethernet.Ethernet(frame).data.data.opts)) == len(
            dpkt.tcp.parse_opts(expected)
        )
        tried += 1
    assert tried == 2**5 * 3 * 4


@pytest.mark.parametrize("n", range(18))
def test_a_cookie_is_of_4_to_16_bytes_and_even(n: int) -> None:
    connection = probe.Connection(b"", A4, B4)
    allowed = n in (0, 4, 6, 8, 10, 12, 14, 16)
    assert (connection.write(cookie=bytes(n)) is not None) == allowed
    assert (connection.write(cookie=bytes(n), experimental=True) is not None) == allowed


# --- payload ----------------------------------------------------------------------------------------------


@ENDS
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    "lengths", [(), (0,), (1,), (0, 1, 0), (1, 1), (3, 5, 7), (1448,), (1000, 448), (1,) * 64, (0,) * 64]
)
def test_stretches_follow_one_another(src: str, dst: str, partial: bool, lengths: tuple[int, ...]) -> None:
    connection = probe.Connection(link(src), src, dst)
    at = [0, *itertools.accumulate(lengths)]
    payload = [BYTES[a:b] for a, b in itertools.pairwise(at)]
    frame, offload, _ = connection.write(payload, seq=SEQ, ack=ACKED, partial=partial)
    if partial:
        frame = with_checksum(frame, *offload[4:])
    assert frame == frame_of(src, dst, BYTES[: at[-1]])


@ENDS
def test_the_longest_packet(src: str, dst: str) -> None:
    """65,535 bytes: of IPv4 all of it, of IPv6 what is behind its header."""
    connection = probe.Connection(link(src), src, dst)
    most = 65_535 - 20 - (20 if src == A4 else 0)
    assert written(connection, [BYTES[:most]]) == frame_of(src, dst, BYTES[:most])
    assert connection.write([BYTES[: most + 1]]) is None
    assert connection.write([BYTES[:most], b"", b"x"]) is None
    assert connection.write([b"x", BYTES[:most]]) is None
    assert connection.write([BYTES[:most]], timestamps=(1, 2)) is None
    assert len(written(connection, [BYTES[: most - 12]], timestamps=(1, 2))) == most + len(link(src)) + (
        40 if src == A4 else 60
    )


@ENDS
def test_room(src: str, dst: str) -> None:
    connection = probe.Connection(link(src), src, dst)
    size = len(written(connection, [b"four"], timestamps=(1, 2)))
    for room in (0, 13, 14, 33, 34, 54, size - 1):
        assert connection.write([b"four"], timestamps=(1, 2), room=room) is None
    assert connection.write([b"four"], timestamps=(1, 2), room=size) is not None


def test_room_for_headers() -> None:
    connection = probe.Connection(bytes(22), A6, B6)
    frame = connection.write(mss=1, sack_ok=True, timestamps=(1, 2), wscale=3, cookie=COOKIE)[0]
    assert len(frame) == probe.HEADERS


# --- what is left to the network card ---------------------------------------------------------------------


@ENDS
@pytest.mark.parametrize("tags", [0, 2])
@pytest.mark.parametrize("n", [0, 1, 1460])
def test_a_partial_checksum(src: str, dst: str, tags: int, n: int) -> None:
    connection = probe.Connection(link(src, tags), src, dst)
    frame, offload, _ = connection.write([BYTES[:n]], seq=SEQ, ack=ACKED, gso_size=1460, partial=True)
    start = 14 + 4 * tags + (20 if src == A4 else 40)
    assert offload == (1, 0, start + 20, 0, start, 16)
    assert with_checksum(frame, start, 16) == link(src, tags) + frame_of(src, dst, BYTES[:n])[14:]


@ENDS
@pytest.mark.parametrize("flags", [ACK, PSH | ACK, FIN | ACK, CWR | ACK])
@pytest.mark.parametrize("n", [1449, 2896, 2897, 65_000])
def test_a_super_segment_is_cut_into_what_would_have_been_sent_one_by_one(
    src: str, dst: str, flags: int, n: int
) -> None:
    connection = probe.Connection(link(src), src, dst)
    connection.ids = 0xFFFE
    fields = {"ack": ACKED, "timestamps": (7, 8), "ecn": 2}
    frame, offload, _ = connection.write(
        [BYTES[: n // 3], BYTES[n // 3 : n]], seq=SEQ, flags=flags, gso_size=1448, partial=True, **fields
    )
    start = len(link(src)) + (20 if src == A4 else 40)
    kind = (1 if src == A4 else 4) | (0x80 if flags & CWR else 0)
    assert offload == (1, kind, start + 32, 1448, start, 16)
    alone = probe.Connection(link(src), src, dst)
    alone.ids = 0xFFFE
    expected = []
    for at in range(0, n, 1448):
        own = flags if at + 1448 >= n else flags & ~(FIN | PSH)
        if at:
            own &= ~CWR
        expected.append(
            alone.write([BYTES[at : min(at + 1448, n)]], seq=(SEQ + at) % 2**32, flags=own, **fields)[0]
        )
    assert cut(frame, kind, 1448, start) == expected
    assert connection.ids == alone.ids


def test_a_super_segment_needs_somebody_to_cut_it() -> None:
    connection = probe.Connection(link(A4), A4, B4)
    assert connection.write([bytes(1449)], gso_size=1448) is None
    assert connection.write([bytes(1448)], gso_size=1448) is not None
    assert connection.write([bytes(1449)]) is not None  # its size is not looked at


# --- RST --------------------------------------------------------------------------------------------------


@ENDS
def test_resets_of_our_own(src: str, dst: str) -> None:
    """A bare RST, and one that acknowledges: without options, as from a closed port."""
    connection = probe.Connection(link(src), src, dst)
    bare = written(connection, flags=RST, ack=0, window=0)
    assert bare == frame_of(src, dst, flags="R", ack=0, window=0)
    assert written(connection, flags=RST | ACK, window=0, count=False) == frame_of(
        src, dst, flags="RA", window=0
    )
