"""Fragments made natively are put together again by the defragmenter and by dpkt, to the packet they were made of."""

import random
import warnings

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import checksum, ethernet, ipv4, ipv6, ipv6_extension

probe = pytest.importorskip("tests.native._probe_rewriting", reason="needs the native test probes")
wire = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
from aiomos.wire.defrag import Defragmenter  # noqa: E402

KEY = bytes(16)
DATA = random.Random(1).randbytes(65535)
COPIED, FIRST_ONLY = b"\x94\x04\x00\x00", b"\x44\x08\x05\x00\x00\x00\x00\x00"  # router alert, timestamps


CHAINS = [(), (0,), (43,), (0, 43)]
FRAGMENTED = [(60,), (0, 60, 43, 60)]  # with headers behind the fragment header, which dpkt does not read


@st.composite
def packets(draw: st.DrawFn, chains: list[tuple[int, ...]]) -> bytes:
    payload = DATA[: draw(st.one_of(st.integers(0, 3000), st.integers(60_000, 65_000)))]
    if draw(st.booleans()):
        options = draw(st.sampled_from([b"", COPIED, FIRST_ONLY, FIRST_ONLY + b"\x01" + COPIED, COPIED * 10]))
        fields = {"dont_fragment": draw(st.booleans()), "tos": draw(st.integers(0, 255)), "ip_id": 77}
        return ipv4(payload, proto=draw(st.sampled_from([17, 253])), options=options, **fields)
    first, body = 17, payload
    for header in reversed(draw(st.sampled_from(chains))):
        body = ipv6_extension(body, proto=first)
        first = header
    return ipv6(body, proto=first, traffic_class=5, flow_label=9)


def together(pieces: list[bytes]) -> bytes | None:
    reassembler = wire.Reassembler(Defragmenter(KEY, fragments=10_000))
    whole = None
    for piece in pieces:
        outcome, packet = reassembler.add(ethernet(piece))
        assert outcome in ("pending", "complete"), outcome
        whole = whole or packet
    return whole


@given(packet=packets(CHAINS + FRAGMENTED), most=st.integers(68, 3000), seed=st.integers(0, 99))
def test_fragments_make_the_packet_again(packet: bytes, most: int, seed: int) -> None:
    pieces = probe.fragments(packet, most, 0xDEADBEEF)
    if pieces is None:
        overhead = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 48 + 8 * 4
        assert most < overhead + 8
        return
    assert all(len(piece) <= most for piece in pieces)
    if len(packet) <= most:
        assert pieces == [packet]
        return
    random.Random(seed).shuffle(pieces)
    assert together(pieces) == packet


@given(packet=packets(CHAINS), most=st.integers(120, 3000))
def test_dpkt_reads_the_fragments(packet: bytes, most: int) -> None:
    pieces = probe.fragments(packet, most, 0xDEADBEEF)
    if len(pieces) == 1:
        return
    if packet[0] >> 4 == 6:
        fragments = [fragment for fragment in map(ipv6_fragment, pieces) if fragment]
        assert {fragment.id for fragment in fragments} == {0xDEADBEEF}
        offsets = [fragment.frag_off for fragment in fragments]
        more = [fragment.m_flag for fragment in fragments]
        assert more == [1] * (len(more) - 1) + [0]
    else:
        parts = [dpkt.ip.IP(piece) for piece in pieces]
        assert all(checksum(piece[: part.hl * 4]) == 0 for part, piece in zip(parts, pieces, strict=True))
        assert {(part.id, part.df, part.tos) for part in parts} == {(77, packet[6] >> 6 & 1, packet[1])}
        assert all(COPIED in part.opts for part in parts) == (COPIED in parts[0].opts)
        assert not any(FIRST_ONLY in part.opts for part in parts[1:])
        assert [part.mf for part in parts] == [1] * (len(parts) - 1) + [0]
        assert all(part.len == len(piece) for part, piece in zip(parts, pieces, strict=True))
        offsets = [part.offset // 8 for part in parts]
    assert offsets == sorted(offsets)


def ipv6_fragment(piece: bytes) -> dpkt.ip6.IP6FragmentHeader | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dpkt.ip6.IP6(piece).extension_hdrs.get(44)


@given(st.binary(max_size=200), st.integers(0, 200), st.sampled_from([b"", b"\x45", b"\x60", b"\x4f"]))
def test_broken_packets_are_refused_or_cut_within_bounds(tail: bytes, most: int, start: bytes) -> None:
    pieces = probe.fragments(start + tail, most, 1)
    assert pieces is None or all(len(piece) <= max(most, 1) for piece in pieces)
    if pieces:
        assert sum(len(piece) for piece in pieces) >= len(start + tail)
