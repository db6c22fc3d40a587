"""Segments that ends send, beside the same ones built by fields in Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing import packets
from aiomos.wire.segmentation import segments, with_checksum

probe: Any = pytest.importorskip("tests.native._probe_segments", reason="needs the native test probes")

V4 = {"src": "192.0.2.1", "dst": "198.51.100.2"}
V6 = {"src": "2001:db8::1", "dst": "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe"}
ADDRESSES = pytest.mark.parametrize("addresses", [V4, V6], ids=["v4", "v6"])
ACK, SYN, FIN, PSH, CWR, ECE = 0x10, 0x02, 0x01, 0x08, 0x80, 0x40
NOP = b"\x01"
PORTS = {"sport": 50000, "dport": 443}


def link(addresses: dict[str, str], tags: int = 0) -> bytes:
    """Return the Ethernet header of packets between two addresses."""
    frame = packets.ethernet(packets.ip(b"", proto=6, **addresses), vlan=[7] * tags or None)
    return frame[: 14 + 4 * tags]


def template(addresses: dict[str, str], *, tags: int = 0, **how: Any) -> Any:
    made = probe.SegmentTemplate(link(addresses, tags), **addresses, **PORTS, **how)
    assert made.made
    return made


def options_of(**fields: Any) -> bytes:
    header = probe.tcp_header(**fields)
    assert header[12] >> 4 == len(header) / 4
    return bytes(header[20:])


# --- options ------------------------------------------------------------------------------------------

MSS, STAMP, SCALE = packets.mss(1460), b"\x08\x0a" + bytes([0, 0, 0, 9, 0, 0, 0, 8]), packets.wscale(7)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, b""),
        ({"mss": 1460}, MSS),
        (
            {"mss": 1460, "sack_ok": True, "timestamps": (9, 8), "wscale": 7},
            MSS + packets.sack_ok() + STAMP + NOP + SCALE,
        ),
        (
            {"mss": 1460, "sack_ok": True, "wscale": 7},
            MSS + NOP * 2 + packets.sack_ok() + NOP + SCALE,
        ),
        ({"mss": 1460, "timestamps": (9, 8), "wscale": 7}, MSS + NOP * 2 + STAMP + NOP + SCALE),
        ({"mss": 1460, "sack_ok": True, "timestamps": (9, 8)}, MSS + packets.sack_ok() + STAMP),
        ({"mss": 1460, "sack_ok": True}, MSS + NOP * 2 + packets.sack_ok()),
        ({"mss": 1460, "wscale": 0}, MSS + NOP + packets.wscale(0)),
        ({"timestamps": (9, 8)}, NOP * 2 + STAMP),
        ({"sack": [(1, 2)]}, NOP * 2 + packets.sack([(1, 2)])),
        ({"sack": []}, b""),
        (
            {"timestamps": (9, 8), "sack": [(2**32 - 1, 5), (9, 10)]},
            NOP * 2 + STAMP + NOP * 2 + packets.sack([(2**32 - 1, 5), (9, 10)]),
        ),
    ],
)
def test_options_are_in_the_order_and_with_the_padding_of_linux(
    fields: dict[str, Any], expected: bytes
) -> None:
    assert options_of(**fields) == expected


def test_a_syn_is_as_linux_sends_it() -> None:
    """Its header, ports and numbers apart, with a window of 64240 and a scale of 7."""
    header = probe.tcp_header(
        seq=0x12345678,
        flags=SYN,
        window=64240,
        mss=1460,
        sack_ok=True,
        timestamps=(0xDEADBEEF, 0),
        wscale=7,
    )
    assert header.hex() == (
        "000100021234567800000000a002faf000000000"  # MSS, SACK permitted, timestamps, NOP, window scale
        "020405b4"
        "0402"
        "080adeadbeef00000000"
        "01"
        "030307"
    )


BLOCKS = [(10 * number, 10 * number + 5) for number in range(6)]


@pytest.mark.parametrize(
    ("fields", "taken"),
    [({}, 4), ({"timestamps": (9, 8)}, 3), ({"timestamps": (9, 8), "mss": 1460}, 2), ({"mss": 1460}, 4)],
)
def test_as_many_sack_blocks_as_there_is_room_for(fields: dict[str, Any], taken: int) -> None:
    for count in range(7):
        found = options_of(sack=BLOCKS[:count], **fields)
        without = options_of(**fields)
        some = BLOCKS[: min(count, taken)]
        assert found == without + (NOP * 2 + packets.sack(some) if some else b"")
        assert len(found) <= 40


@pytest.mark.parametrize("size", [0, 4, 6, 8, 14, 16])
def test_cookies_of_fast_open(size: int) -> None:
    cookie = bytes(range(size))
    padding = NOP * (-(2 + size) % 4)
    assert options_of(cookie=cookie) == packets.fastopen(cookie) + padding
    syn = {"mss": 1460, "sack_ok": True, "timestamps": (9, 8), "wscale": 7}
    found = options_of(cookie=cookie, **syn)
    fits = len(options_of(**syn)) + 2 + size + len(padding) <= 40
    assert found == options_of(**syn) + (packets.fastopen(cookie) + padding if fits else b"")
    assert fits == (size <= 18)
    assert options_of(cookie=cookie, sack=BLOCKS[:4]) == options_of(sack=BLOCKS[:4]) + (
        packets.fastopen(cookie) + padding if size <= 2 else b""
    )


def test_a_cookie_has_sixteen_bytes_at_most() -> None:
    assert options_of(cookie=bytes(200)) == packets.fastopen(bytes(16)) + NOP * 2


# --- frames -------------------------------------------------------------------------------------------


def expected(
    addresses: dict[str, str], payload: bytes, *, tags: int = 0, tos: int = 0, **fields: Any
) -> bytes:
    """Build by fields what the template is to write."""
    ip_id = fields.pop("ip_id", 0)
    segment = packets.tcp(payload, **PORTS, **addresses, **{"window": 0, **fields})
    if addresses is V4:
        packet = packets.ipv4(segment, tos=tos, ip_id=ip_id, dont_fragment=True, **addresses)
    else:
        packet = packets.ipv6(segment, **addresses)
        first = int.from_bytes(packet[:4], "big") | tos << 20
        packet = first.to_bytes(4, "big") + packet[4:]
    return packets.ethernet(packet, vlan=[7] * tags or None)


@ADDRESSES
@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 1, 2, 1447, 1448])
def test_whole_frames(addresses: dict[str, str], tags: int, size: int) -> None:
    payload = bytes(range(256)) * 6
    fields = {"seq": 2**32 - 5, "ack": 7, "window": 502, "urgent": 3}
    frame, left = template(addresses, tags=tags).write(
        [payload[:size]], flags=ACK | PSH, timestamps=(9, 8), **fields
    )
    assert left is None
    assert frame == expected(
        addresses, payload[:size], tags=tags, flags="PA", options=NOP * 2 + STAMP, **fields
    )


@ADDRESSES
def test_without_a_link_layer(addresses: dict[str, str]) -> None:
    made = probe.SegmentTemplate(b"", **addresses, **PORTS)
    assert made.made
    frame, _ = made.write([b"a"], flags=ACK)
    assert frame == expected(addresses, b"a", flags="A")[14:]


@ADDRESSES
def test_the_next_hop_changes(addresses: dict[str, str]) -> None:
    made = template(addresses)
    made.redirect(b"\x02\x00\x00\x00\x00\x09")
    frame, _ = made.write([], flags=ACK)
    assert frame == b"\x02\x00\x00\x00\x00\x09" + expected(addresses, b"", flags="A")[6:]


@ADDRESSES
@pytest.mark.parametrize("ecn", [0, 1, 2, 3])
def test_ecn_and_services(addresses: dict[str, str], ecn: int) -> None:
    frame, _ = template(addresses, tos=0xBB).write([b"ab"], flags=ACK, ecn=ecn)
    assert frame == expected(addresses, b"ab", flags="A", tos=0xB8 | ecn)


def test_a_flow_label_is_kept_with_all_else() -> None:
    frame, _ = template(V6, tos=0xFC, flow_label=0xABCDE).write([], flags=ACK, ecn=1)
    assert frame[14:18].hex() == "6fdabcde"


def test_ipv4_packets_are_numbered_but_for_a_syn_ack() -> None:
    made = template(V4, identification=0xFFFF)
    frames = [made.write([b"a"], flags=flags)[0] for flags in (ACK, SYN | ACK, ACK, SYN)]
    numbers = [int.from_bytes(frame[18:20], "big") for frame in frames]
    assert numbers == [0xFFFF, 0, 0, 1]
    assert frames[0] == expected(V4, b"a", flags="A", ip_id=0xFFFF)
    assert all(frame[20:22] == b"\x40\x00" for frame in frames)


def test_fragments_are_allowed_where_asked_for() -> None:
    frame, _ = template(V4, dont_fragment=False).write([b"a"], flags=ACK)
    assert frame[20:22] == b"\x00\x00"
    segment = packets.tcp(b"a", flags="A", window=0, **PORTS, **V4)
    assert frame == packets.ethernet(packets.ipv4(segment, **V4))


@given(st.lists(st.binary(max_size=40), max_size=16), st.sampled_from([V4, V6]))
def test_payload_lies_in_any_number_of_places(parts: list[bytes], addresses: dict[str, str]) -> None:
    frame, _ = template(addresses).write(parts, flags=ACK, window=9)
    assert frame == expected(addresses, b"".join(parts), flags="A", window=9)


@ADDRESSES
def test_room(addresses: dict[str, str]) -> None:
    made = template(addresses)
    whole, _ = made.write([b"abc", b"de"], flags=ACK)
    assert made.write([b"abc", b"de"], flags=ACK, room=len(whole)) is not None
    for room in (0, 1, len(whole) - 6, len(whole) - 5, len(whole) - 1):
        assert made.write([b"abc", b"de"], flags=ACK, room=room) is None


@pytest.mark.parametrize(("addresses", "most"), [(V4, 65535 - 40), (V6, 65535 - 20)], ids=["v4", "v6"])
def test_longer_than_ip_can_say(addresses: dict[str, str], most: int) -> None:
    made = template(addresses)
    frame, _ = made.write([bytes(most)], flags=ACK)
    assert frame == expected(addresses, bytes(most), flags="A")
    assert made.write([bytes(most + 1)], flags=ACK) is None
    assert made.write([bytes(most), b"a"], flags=ACK) is None
    stamped, _ = made.write([bytes(most - 12)], flags=ACK, timestamps=(1, 2))
    assert len(stamped) == len(frame)
    assert made.write([bytes(most - 11)], flags=ACK, timestamps=(1, 2)) is None


def test_link_headers_that_make_no_template() -> None:
    def made(header: bytes, **how: Any) -> bool:
        return bool(probe.SegmentTemplate(header, **V4, **PORTS, **how).made)

    assert made(link(V4, 2))
    assert not made(link(V4, 3))
    assert not made(link(V4), length_at=12)


# --- what is left to the network card -----------------------------------------------------------------


@ADDRESSES
@pytest.mark.parametrize("tags", [0, 2])
@given(payload=st.binary(max_size=100))
def test_a_sum_that_is_left_to_do(addresses: dict[str, str], tags: int, payload: bytes) -> None:
    frame, left = template(addresses, tags=tags).write([payload], flags=ACK, partial=True)
    start = 14 + 4 * tags + (20 if addresses is V4 else 40)
    assert left == (0, 0, 0, start, 16)
    assert with_checksum(frame, start, 16) == expected(addresses, payload, tags=tags, flags="A")


@ADDRESSES
@pytest.mark.parametrize(("size", "count"), [(1449, 2), (2896, 2), (2897, 3), (60000, 42)])
def test_super_segments(addresses: dict[str, str], size: int, count: int) -> None:
    payload = bytes(range(251)) * 240
    made = template(addresses, identification=5)
    fields = {"ack": 4, "window": 1, "options": NOP * 2 + STAMP}
    frame, left = made.write(
        [payload[:1000], payload[1000:size]],
        seq=2**32 - 1000,
        ack=4,
        window=1,
        flags=ACK | PSH | FIN,
        timestamps=(9, 8),
        gso_size=1448,
        partial=True,
    )
    gso_type, gso_size, hdr_len, start, offset = left
    assert (gso_type, gso_size, offset) == (1 if addresses is V4 else 4, 1448, 16)
    assert hdr_len == start + 32 == len(frame) - size
    found = segments(frame, gso_type, gso_size, start)
    assert found is not None
    assert len(found) == count
    assert found == [
        expected(
            addresses,
            payload[:size][at : at + 1448],
            seq=2**32 - 1000 + at,
            flags="FPA" if at + 1448 >= size else "A",
            ip_id=5 + number,
            **fields,
        )
        for number, at in enumerate(range(0, size, 1448))
    ]
    after, _ = made.write([], flags=ACK)
    if addresses is V4:
        assert int.from_bytes(after[18:20], "big") == 5 + count


@ADDRESSES
@pytest.mark.parametrize("size", [0, 1, 1448])
def test_what_fits_one_segment_is_no_super_segment(addresses: dict[str, str], size: int) -> None:
    made = template(addresses, identification=5)
    _, left = made.write([bytes(size)], flags=ACK, gso_size=1448, partial=True)
    assert left[:3] == (0, 0, 0)
    after, _ = made.write([], flags=ACK)
    if addresses is V4:
        assert int.from_bytes(after[18:20], "big") == 6


@ADDRESSES
def test_cwr_is_told_of_a_super_segment(addresses: dict[str, str]) -> None:
    frame, left = template(addresses).write([bytes(30)], flags=ACK | CWR, gso_size=10, partial=True)
    assert left[0] == 0x80 | (1 if addresses is V4 else 4)
    found = segments(frame, left[0], left[1], left[3])
    assert found is not None
    assert [segment[left[3] + 13] for segment in found] == [ACK | CWR, ACK, ACK]
