"""Which worker has a flow: both directions the same, workers about equally, and the kernel's program alike."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.errors import CaptureError
from aiomos.testing.packets import (
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ipv4,
    ipv6,
    ipv6_extension,
    ipv6_fragment,
    tcp,
    tcp_frame,
    udp,
    vlan,
)
from aiomos.transport.bpf import Instruction, Program
from aiomos.transport.captures import open_captures
from aiomos.transport.fanout import fanout_program, fragments_only, without_fragments
from aiomos.wire.sharding import shard_of, shard_of_ends
from tests.models.bpf import received_by_fanout, received_by_socket, run, sent_by_fanout

PROGRAM = fanout_program()
ALL = 0xFFFFFFFF
"""So many shards that nearly every bit of the hash shows."""

DATA = Path(__file__).parents[2] / "data"

PORTS = st.integers(0, 65535)
V4 = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
V6 = st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number)))
EXTENSIONS = st.lists(st.sampled_from([0, 43, 44, 51, 60, 135, 139, 140]), max_size=8)


@st.composite
def ends(draw: st.DrawFn) -> dict[str, Any]:
    addresses = draw(st.sampled_from([V4, V6]))
    return {"src": draw(addresses), "dst": draw(addresses), "sport": draw(PORTS), "dport": draw(PORTS)}


def back(ends: dict[str, Any]) -> dict[str, Any]:
    return {"src": ends["dst"], "dst": ends["src"], "sport": ends["dport"], "dport": ends["sport"]}


def segment(ends: dict[str, Any], proto: int) -> bytes:
    return (tcp if proto == 6 else udp)(b"payload", **ends)


def packet(ends: dict[str, Any], proto: int, *, extensions: list[int], options: int = 0) -> bytes:
    """Build a packet with IPv4 options, or IPv6 extension headers: their numbers, in order."""
    body = segment(ends, proto) if proto in (6, 17) else b"something else"
    addresses = {"src": ends["src"], "dst": ends["dst"]}
    if "." in ends["src"]:
        return ipv4(body, proto=proto, options=bytes(4 * options), **addresses)
    for kind in reversed([kind for index, kind in enumerate(extensions) if kind or not index]):
        if kind == 44:
            body = ipv6_fragment(body, proto=proto)  # atomic
        elif kind == 51:
            body = bytes([proto, 4]) + bytes(22) + body
        else:
            body = ipv6_extension(body, proto=proto, body=b"\1\x0c" + bytes(12))
        proto = kind
    return ipv6(body, proto=proto, **addresses)


def by_the_kernel(frame: bytes) -> int:
    """Run the program on a frame as it comes in and as it goes out: the same."""
    coming, going = run(PROGRAM, received_by_fanout(frame)), run(PROGRAM, sent_by_fanout(frame))
    assert coming == going
    return coming % ALL


@given(ends(), st.sampled_from([6, 17]), EXTENSIONS, st.integers(0, 10))
def test_both_directions_and_the_kernel_agree(
    ends: dict[str, Any], proto: int, extensions: list[int], options: int
) -> None:
    there = ethernet(packet(ends, proto, extensions=extensions, options=options))
    again = ethernet(packet(back(ends), proto, extensions=[]))
    shard = shard_of(there, ALL)
    assert shard == shard_of(again, ALL) == by_the_kernel(there) == by_the_kernel(again)
    first, second = ((ends["src"], ends["sport"]), (ends["dst"], ends["dport"]))
    assert shard == shard_of_ends(first, second, ALL) == shard_of_ends(second, first, ALL)


@given(ends(), st.sampled_from([1, 2, 47, 58, 132]), EXTENSIONS)
def test_what_is_neither_tcp_nor_udp_goes_by_addresses(
    ends: dict[str, Any], proto: int, extensions: list[int]
) -> None:
    there = ethernet(packet(ends, proto, extensions=extensions))
    shard = shard_of_ends((ends["src"], 0), (ends["dst"], 0), ALL)
    assert shard == shard_of(there, ALL) == by_the_kernel(there)


@given(ends(), st.sampled_from([6, 17]))
def test_fragments_go_by_addresses(ends: dict[str, Any], proto: int) -> None:
    whole = packet(ends, proto, extensions=[])
    shard = shard_of_ends((ends["src"], 0), (ends["dst"], 0), ALL)
    for fragment in (fragment_ipv4 if "." in ends["src"] else fragment_ipv6)(whole, 8):
        frame = ethernet(fragment)
        assert shard == shard_of(frame, ALL) == by_the_kernel(frame)


V4_ERRORS, V6_ERRORS = st.sampled_from([3, 4, 5, 11, 12]), st.sampled_from([1, 2, 3, 4, 100, 127])


def icmp(kind: int, quote: bytes, *, router: str, sender: str) -> bytes:
    """Build an ICMP message behind whose header these bytes are."""
    body = bytes([kind, 0, 0, 0, 0, 0, 5, 0]) + quote
    return (ipv4 if "." in sender else ipv6)(body, src=router, dst=sender, proto=1 if "." in sender else 58)


def by_addresses(ends: dict[str, Any]) -> int:
    return shard_of_ends((ends["src"], 0), (ends["dst"], 0), ALL)


@given(st.data(), ends(), st.sampled_from([6, 17]), EXTENSIONS, st.integers(0, 10), st.integers(0, 60))
def test_icmp_errors_go_where_the_flow_is_that_they_quote(
    data: st.DataObject, ends: dict[str, Any], proto: int, extensions: list[int], options: int, padding: int
) -> None:
    is_v4 = "." in ends["src"]
    kind = data.draw(V4_ERRORS if is_v4 else V6_ERRORS)
    router = data.draw(V4 if is_v4 else V6)
    whole = packet(ends, proto, extensions=extensions, options=options)
    port_end = len(whole) - len(segment(ends, proto)) + 4
    quote = whole[: data.draw(st.integers(port_end, len(whole)))]
    frame = ethernet(icmp(kind, quote, router=router, sender=ends["src"])) + bytes(padding)
    there, back_again = ethernet(whole), ethernet(packet(back(ends), proto, extensions=[]))
    assert shard_of(frame, ALL) == shard_of(there, ALL) == shard_of(back_again, ALL) == by_the_kernel(frame)
    tagged = vlan(vlan(frame, 7), 8, ethertype=0x88A8)
    assert shard_of(tagged, ALL) == shard_of(frame, ALL) == by_the_kernel(tagged)


@given(st.data(), ends(), st.sampled_from([6, 17, 1, 58, 132]), EXTENSIONS, st.integers(0, 10))
def test_quotes_cut_anywhere_go_by_what_is_left(
    data: st.DataObject, ends: dict[str, Any], proto: int, extensions: list[int], options: int
) -> None:
    is_v4 = "." in ends["src"]
    router = data.draw(V4 if is_v4 else V6)
    whole = packet(ends, proto, extensions=extensions, options=options)
    cut = data.draw(st.integers(0, len(whole)))
    padding = data.draw(st.sampled_from([0, 60]))  # that of a short frame is no part of the quote
    frame = ethernet(icmp(3, whole[:cut], router=router, sender=ends["src"])) + bytes(padding)
    if cut < (20 if is_v4 else 40):
        expected = by_addresses({"src": router, "dst": ends["src"]})
    elif proto not in (6, 17) or cut < len(whole) - len(segment(ends, proto)) + 4:
        expected = by_addresses(ends)
    else:
        expected = shard_of(ethernet(whole), ALL)
    assert shard_of(frame, ALL) == expected == by_the_kernel(frame)


@given(ends(), st.integers(0, 255), st.sampled_from([6, 17]))
def test_other_messages_of_icmp_go_by_addresses(ends: dict[str, Any], kind: int, proto: int) -> None:
    is_v4 = "." in ends["src"]
    whole = packet(ends, proto, extensions=[])
    frame = ethernet(icmp(kind, whole, router=ends["dst"], sender=ends["src"]))
    is_error = kind in (3, 4, 5, 11, 12) if is_v4 else kind < 128
    expected = shard_of(ethernet(whole), ALL) if is_error else by_addresses(ends)
    assert shard_of(frame, ALL) == expected == by_the_kernel(frame)


@given(ends(), st.sampled_from([6, 17]))
def test_errors_about_fragments_go_by_ports_where_those_are(ends: dict[str, Any], proto: int) -> None:
    is_v4 = "." in ends["src"]
    whole = packet(ends, proto, extensions=[])
    first, *others = (fragment_ipv4 if is_v4 else fragment_ipv6)(whole, 8)
    for fragment, expected in ((first, shard_of(ethernet(whole), ALL)), (others[0], by_addresses(ends))):
        frame = ethernet(icmp(3, fragment, router=ends["dst"], sender=ends["src"]))
        assert shard_of(frame, ALL) == expected == by_the_kernel(frame)


@given(st.data(), ends(), EXTENSIONS)
def test_what_a_quote_holds_is_read_alike(
    data: st.DataObject, ends: dict[str, Any], extensions: list[int]
) -> None:
    """Whatever bytes it has."""
    whole = bytearray(packet(ends, 6, extensions=extensions))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    quote = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    frame = ethernet(icmp(3, quote, router=ends["dst"], sender=ends["src"]))
    assert shard_of(frame, ALL) == by_the_kernel(frame)


# --- fragments ----------------------------------------------------------------------------------------


def is_heard_by_all(frame: bytes) -> bool:
    """Run the filters of both kinds of sockets: one of them keeps a frame."""
    kept = [
        bool(run(program, received_by_socket(frame))) for program in (fragments_only(), without_fragments())
    ]
    assert sorted(kept) == [False, True]
    return kept[0]


@given(
    ends(), st.sampled_from([6, 17, 132]), EXTENSIONS, st.lists(st.sampled_from([0x8100, 0x88A8]), max_size=4)
)
def test_all_workers_hear_fragments_and_nothing_else(
    ends: dict[str, Any], proto: int, extensions: list[int], tags: list[int]
) -> None:
    def tagged(frame: bytes) -> bytes:
        for tag in tags:
            frame = vlan(frame, 5, ethertype=tag)
        return frame

    whole = packet(ends, proto, extensions=extensions)
    assert not is_heard_by_all(tagged(ethernet(whole)))
    for fragment in (fragment_ipv4 if "." in ends["src"] else fragment_ipv6)(
        packet(ends, proto, extensions=[]), 8
    ):
        assert is_heard_by_all(tagged(ethernet(fragment)))
        session = (
            b"\x11\0\0\1" + (len(fragment) + 2).to_bytes(2) + (b"\0\x21" if "." in ends["src"] else b"\0\x57")
        )
        assert is_heard_by_all(tagged(ethernet(session + fragment, ethertype=0x8864)))


@given(st.binary(max_size=80), st.sampled_from([0x0800, 0x86DD, 0x8100, 0x8864, 0x0806, 0x88A8]))
def test_no_frame_is_lost_between_the_filters(data: bytes, ethertype: int) -> None:
    is_heard_by_all(ethernet(data, ethertype=ethertype)[: 14 + len(data)])


def test_what_is_no_fragment_can_be_filtered_further() -> None:
    nothing: Program = (Instruction(0x06, 0, 0, 0),)
    frame = tcp_frame()
    assert run(without_fragments(), received_by_socket(frame))
    assert not run(without_fragments(nothing), received_by_socket(frame))


@given(ends(), st.lists(st.sampled_from([0x8100, 0x88A8, 0x9100]), max_size=4), st.booleans(), PORTS)
def test_tags_and_pppoe_change_nothing(
    ends: dict[str, Any], tags: list[int], pppoe: bool, number: int
) -> None:
    inner = packet(ends, 6, extensions=[])
    session = b"\x11\0\0\1" + (len(inner) + 2).to_bytes(2) + (b"\0\x21" if "." in ends["src"] else b"\0\x57")
    frame = ethernet(session + inner, ethertype=0x8864) if pppoe else ethernet(inner)
    for tag in tags:
        frame = vlan(frame, number % 4096, ethertype=tag)
    assert shard_of(frame, ALL) == shard_of(ethernet(inner), ALL) == by_the_kernel(frame)


FIXED = {0x8100: 2, 0x9200: 2, 0x9300: 2, 0x8926: 4, 0x892F: 4, 0xF1C1: 4, 0x893F: 6}
"""Tags by their EtherTypes: bytes before the type of what follows."""


@given(ends(), st.lists(st.sampled_from(list(FIXED)), max_size=4), st.binary(min_size=6, max_size=6))
def test_tags_of_other_sizes_change_nothing_either(
    ends: dict[str, Any], tags: list[int], some: bytes
) -> None:
    inner = packet(ends, 6, extensions=[])
    plain = frame = ethernet(inner)
    fragment = ethernet((fragment_ipv4 if "." in ends["src"] else fragment_ipv6)(inner, 8)[0])
    for tag in tags:
        frame = frame[:12] + tag.to_bytes(2) + some[: FIXED[tag]] + frame[12:]
        fragment = fragment[:12] + tag.to_bytes(2) + some[: FIXED[tag]] + fragment[12:]
    assert shard_of(frame, ALL) == shard_of(plain, ALL) == by_the_kernel(frame)
    assert not is_heard_by_all(frame)
    assert is_heard_by_all(fragment)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(13),
        ethernet(bytes(46), ethertype=0x0806),
        ethernet(b"\x42\x42\x03" + bytes(43), ethertype=46),
        ethernet(bytes(4), ethertype=0x8100),
    ],
)
def test_frames_without_ip_are_of_the_first_shard(frame: bytes) -> None:
    assert shard_of(frame, ALL) == 0
    if len(frame) >= 14:
        assert by_the_kernel(frame) == 0


@given(st.binary(max_size=80), st.sampled_from([0x0800, 0x86DD, 0x8100, 0x8864]))
def test_any_bytes_have_a_shard(data: bytes, ethertype: int) -> None:
    frame = ethernet(data, ethertype=ethertype)
    assert 0 <= shard_of(frame, 3) < 3
    by_the_kernel(frame)


def test_raw_ip_has_the_shard_of_its_frame() -> None:
    frame = tcp_frame()
    assert shard_of(frame[14:], ALL, linktype=101) == shard_of(frame, ALL)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one shard"):
        shard_of(b"", 0)
    with pytest.raises(ValueError, match="one family"):
        shard_of_ends(("10.0.0.1", 1), ("::1", 2), 2)


# --- spread -------------------------------------------------------------------------------------------


def assert_even(shards: Counter[int], count: int) -> None:
    """Every shard has its part, give or take what chance would: five standard deviations."""
    total = shards.total()
    mean = total / count
    spread = 5 * (mean * (1 - 1 / count)) ** 0.5
    for shard in range(count):
        assert abs(shards[shard] - mean) <= spread, f"{dict(shards)} of {total} in {count}"


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_alike_flows_are_spread(count: int) -> None:
    """Ports or addresses in a row: clients of one server, a scan, a load generator."""
    server = ("192.0.2.1", 443)
    made = {
        "ports": [(("10.0.0.1", port), server) for port in range(1024, 9216)],
        "addresses": [((f"10.0.{n >> 8}.{n & 255}", 5000), server) for n in range(8192)],
        "both": [((f"10.0.0.{n & 63}", 1024 + (n >> 6)), server) for n in range(8192)],
        "ends alike": [((f"10.0.0.{n & 127}", 9), (f"10.0.1.{n >> 7}", 9)) for n in range(8192)],
        "IPv6": [((f"2001:db8::{n:x}", 5000), ("2001:db8:1::1", 443)) for n in range(8192)],
        "prefixes": [((f"2001:db8:{n:x}::1", 5000), ("2001:db9::1", 443)) for n in range(8192)],
    }
    for flows in made.values():
        assert_even(Counter(shard_of_ends(*flow, count) for flow in flows), count)


def flow_frames(folder: Path) -> Iterator[bytes]:
    """Yield one Ethernet frame of each flow in the captures of a folder."""
    seen = set()
    for path in sorted(folder.glob("*.pcap*")):
        with open_captures([path]) as source, suppress(CaptureError):
            for _, data, linktype, _ in source:
                if linktype == 1 and (number := shard_of(data, ALL)) and number not in seen:
                    seen.add(number)
                    yield data


def test_real_frames_are_of_the_same_shard_in_the_kernel() -> None:
    frames = list(flow_frames(DATA))
    assert len(frames) == 20
    for frame in frames:
        assert by_the_kernel(frame) == shard_of(frame, ALL)


@pytest.mark.captures
def test_real_flows_are_spread() -> None:
    folder = os.environ.get("AIOMOS_CAPTURES")
    if not folder:
        pytest.skip("AIOMOS_CAPTURES names no folder of captures")
    frames = list(flow_frames(Path(folder)))
    assert frames, f"{folder} has no flows"
    for count in (2, 3, 4, 8):
        assert_even(Counter(shard_of(frame, count) for frame in frames), count)
