"""Segments cut from a super-segment are those that a host would have built one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import PROTO_TCP, PROTO_UDP, checksum, ethernet, ip, pseudo_header, tcp, udp
from aiomos.wire.segmentation import segments, with_checksum
from tests.models.segmentation import SuperSegment

GSO_TYPES = {("tcp", 4): 1, ("tcp", 6): 4, ("udp", 4): 5, ("udp", 6): 5}
GSO_ECN = 0x80
ADDRESSES = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101


@st.composite
def super_segments(draw: st.DrawFn) -> SuperSegment:
    src, dst = ADDRESSES[draw(st.sampled_from([4, 6]))]
    return SuperSegment(
        src=src,
        dst=dst,
        proto=draw(st.sampled_from(["tcp", "udp"])),
        payload=draw(st.binary(min_size=1, max_size=300)) * draw(st.integers(1, 60)),
        size=draw(st.integers(100, 1460)),
        seq=draw(st.integers(2**32 - 20_000, 2**32 - 1)),
        flags="".join(draw(st.sets(st.sampled_from("FPUEC")))) + "A",
        options=b"\x01" * 4 * draw(st.integers(0, 10)),
        ip_id=draw(st.integers(2**16 - 20, 2**16 - 1)),
        vlans=tuple(draw(st.lists(st.integers(1, 4094), max_size=2))),
        ip_options=b"\x01" * 4 * draw(st.integers(0, 10)),
    )


def headers(built: SuperSegment) -> tuple[int, int]:
    """Return where the IP header and the transport's header begin."""
    network = 14 + 4 * len(built.vlans)
    return network, network + (40 if ":" in built.src else 20 + len(built.ip_options))


def gso_type(built: SuperSegment) -> int:
    ecn = GSO_ECN if "C" in built.flags and built.proto == "tcp" else 0
    return GSO_TYPES[built.proto, 6 if ":" in built.src else 4] | ecn


@given(super_segments())
def test_segments_are_those_built_one_by_one(built: SuperSegment) -> None:
    _, transport = headers(built)
    cut = segments(built.whole(), gso_type(built), built.size, transport)
    assert cut == built.segments()


@given(super_segments())
def test_without_a_link_layer_too(built: SuperSegment) -> None:
    network, transport = headers(built)
    cut = segments(built.whole()[network:], gso_type(built), built.size, transport - network, LINKTYPE_RAW)
    assert cut == [frame[network:] for frame in built.segments()]


@given(
    st.binary(max_size=200) | super_segments().map(SuperSegment.whole),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 65535) | st.integers(0, 100),
    st.sampled_from([LINKTYPE_ETHERNET, LINKTYPE_RAW]),
)
def test_nonsense_is_refused_or_cut_within_bounds(
    frame: bytes, kind: int, size: int, transport: int, linktype: int
) -> None:
    for segment in segments(frame, kind, size, transport, linktype) or ():
        assert 0 < len(segment) <= len(frame)


@pytest.mark.parametrize("version", [4, 6])
@given(payload=st.binary(max_size=100), proto=st.sampled_from([PROTO_TCP, PROTO_UDP]))
def test_completed_sum_is_that_of_the_whole(version: int, payload: bytes, proto: int) -> None:
    src, dst = ADDRESSES[version]
    build, offset = (tcp, 16) if proto == PROTO_TCP else (udp, 6)
    carried = build(payload, src=src, dst=dst)
    whole = ethernet(ip(carried, src=src, dst=dst, proto=proto))
    start = len(whole) - len(carried)
    pseudo = ~checksum(pseudo_header(src, dst, proto, len(carried))) & 0xFFFF
    left = whole[: start + offset] + pseudo.to_bytes(2, "big") + whole[start + offset + 2 :]
    completed = with_checksum(left, start, offset)
    assert completed is not None
    # Zero and minus zero are the same sum; which of them a TCP header has makes no difference.
    assert completed.replace(b"\xff\xff", b"\0\0") == whole.replace(b"\xff\xff", b"\0\0")


@given(st.binary(max_size=60), st.integers(0, 65535), st.integers(0, 65535))
def test_sum_outside_the_frame_is_refused(frame: bytes, start: int, offset: int) -> None:
    fits = start + offset + 2 <= len(frame)
    assert (with_checksum(frame, start, offset) is not None) == fits
