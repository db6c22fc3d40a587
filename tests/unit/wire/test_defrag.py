"""Fragments: overlap policies, IPv6's rules, budgets, time-outs, and any order of arrival."""

import random
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import (
    PROTO_ICMP,
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ipv4,
    ipv6,
    ipv6_extension,
    ipv6_fragment,
    tcp,
    vlan,
)
from tests.models.defrag import POLICIES, Fragment, reassemble

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
from aiomos.wire.defrag import Defragmenter  # noqa: E402

KEY = bytes(range(16))
SECOND = 1_000_000_000
V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
DATA = random.Random(3).randbytes(3000)


class Table:
    """A defragmenter fed with IP packets, checked for leaks when the test asks."""

    def __init__(self, **settings: object) -> None:
        self.defragmenter = Defragmenter(KEY, **settings)
        self.reassembler = probe.Reassembler(self.defragmenter)

    def add(self, packet: bytes, at: float = 0.0, **frame: int) -> tuple[str, bytes | None]:
        return self.reassembler.add(ethernet(packet), time_ns=int(at * SECOND), **frame)

    def outcomes(self, packets: Sequence[bytes]) -> list[str]:
        return [self.add(packet)[0] for packet in packets]

    def expire(self, at: float) -> int:
        return self.reassembler.expire(int(at * SECOND))

    def __getitem__(self, counter: str) -> int:
        return self.defragmenter.statistics()[counter]


def piece(data: bytes, offset: int, *, more: bool = True, ip_id: int = 1, **header: object) -> bytes:
    return ipv4(data, ip_id=ip_id, fragment_offset=offset, more_fragments=more, **header)


def piece6(data: bytes, offset: int, *, more: bool = True, ip_id: int = 1) -> bytes:
    return ipv6(ipv6_fragment(data, offset=offset, more_fragments=more, ip_id=ip_id), proto=44, **V6)


# --- whole packets --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 24, 1000, 1480])
def test_ipv4_packet_comes_back_as_it_was(size: int) -> None:
    packet = ipv4(tcp(DATA[:2000], flags="A"), ip_id=7, ttl=9, tos=3)
    table = Table()
    *pending, last = (table.add(fragment) for fragment in fragment_ipv4(packet, size))
    assert {outcome for outcome, _ in pending} == {"pending"}
    assert last == ("complete", packet)
    assert probe.decode_packet(packet, verify=True)["payload"] == DATA[:2000]
    assert table["held_bytes"] == table["held_datagrams"] == 0


@pytest.mark.parametrize("size", [8, 24, 1000, 1440])
def test_ipv6_packet_comes_back_without_fragment_header(size: int) -> None:
    packet = ipv6(tcp(DATA[:2000], flags="A", **V6), hop_limit=9, traffic_class=3, **V6)
    table = Table()
    *pending, last = (table.add(fragment) for fragment in fragment_ipv6(packet, size))
    assert {outcome for outcome, _ in pending} == {"pending"}
    assert last == ("complete", packet)
    assert probe.decode_packet(packet, verify=True)["payload"] == DATA[:2000]
    assert table["held_bytes"] == table["held_datagrams"] == 0


def test_ipv6_extension_headers_before_the_fragment_header_stay() -> None:
    segment = tcp(DATA[:100], **V6)
    whole = ipv6(ipv6_extension(ipv6_extension(segment), proto=60), proto=0, **V6)
    cut = [
        ipv6(ipv6_extension(ipv6_extension(fragment, proto=44), proto=60), proto=0, **V6)
        for fragment in (
            ipv6_fragment(segment[:64], more_fragments=True),
            ipv6_fragment(segment[64:], offset=64),
        )
    ]
    table = Table()
    assert table.outcomes(cut[:1]) == ["pending"]
    assert table.add(cut[1]) == ("complete", whole)


def test_ipv4_options_and_df_of_the_first_fragment_stay() -> None:
    table = Table()
    assert table.add(piece(b"b" * 8, 8, more=False))[0] == "pending"
    first = piece(b"a" * 8, 0, options=b"\x94\x04\0\0", dont_fragment=True)
    whole = ipv4(b"a" * 8 + b"b" * 8, ip_id=1, options=b"\x94\x04\0\0", dont_fragment=True)
    assert table.add(first) == ("complete", whole)


def test_largest_packet_is_built() -> None:
    packet = ipv4(bytes(65515), ip_id=1)
    table = Table(fragments=65536)
    assert [table.add(fragment)[1] for fragment in fragment_ipv4(packet, 8)][-1] == packet
    packet = ipv6(bytes(65535), **V6)
    assert [table.add(fragment)[1] for fragment in fragment_ipv6(packet, 8)][-1] == packet


def test_datagrams_are_told_apart_by_ends_protocol_id_and_vlan() -> None:
    table = Table()
    first = piece(b"a" * 8, 0)
    assert table.outcomes([first]) == ["pending"]
    assert (
        table.outcomes(
            [
                piece(b"b" * 8, 8, more=False, ip_id=2),
                piece(b"b" * 8, 8, more=False, src="10.0.0.9"),
                piece(b"b" * 8, 8, more=False, dst="10.0.0.9"),
                piece(b"b" * 8, 8, more=False, proto=PROTO_ICMP),
            ]
        )
        == ["pending"] * 4
    )
    frame = vlan(ethernet(piece(b"b" * 8, 8, more=False)), 3)
    assert table.reassembler.add(frame)[0] == "pending"
    assert table["held_datagrams"] == 6
    assert table.outcomes([piece(b"b" * 8, 8, more=False)]) == ["complete"]


def test_ipv6_fragments_join_whatever_protocol_they_name() -> None:
    """RFC 8200 §4.5: only the first fragment's next header counts."""
    table = Table()
    late = ipv6(ipv6_fragment(b"b" * 8, proto=17, offset=8), proto=44, **V6)
    assert table.outcomes([late]) == ["pending"]
    assert table.add(piece6(b"a" * 8, 0)) == ("complete", ipv6(b"a" * 8 + b"b" * 8, **V6))


# --- overlap --------------------------------------------------------------------------------------

# The scenario of Novak, "Target-Based Fragmentation Reassembly": byte, offset, length, in order of arrival.
SCENARIO = [
    *[("A", 0, 24), ("B", 32, 16), ("C", 48, 24), ("D", 80, 8), ("E", 104, 16), ("F", 120, 24)],
    *[("G", 144, 16), ("H", 160, 16), ("I", 176, 8), ("J", 8, 32), ("K", 48, 24), ("L", 72, 24)],
    *[("M", 96, 24), ("N", 128, 8), ("O", 152, 8), ("P", 160, 8), ("Q", 176, 16)],
]
REASSEMBLED = {  # one letter for eight bytes
    "first": "AAAJBBCCCLDLMEEFFFGGHHIQ",
    "last": "AJJJJBKKKLLLMMMFNFGOPHQQ",
    "bsd": "AAAJJBCCCLLLMMMFFFGGHHIQ",
    "linux": "AAAJJBKKKLLLMMMFFFGGPHQQ",
    "windows": "AAAJBBCCCLLLMEEFFFGGHHIQ",
    "solaris": "AAAJBBCCCLLLMMMFFFGGHHIQ",
}


@pytest.mark.parametrize("policy", POLICIES)
def test_published_scenario(policy: str) -> None:
    expected = b"".join(letter.encode() * 8 for letter in REASSEMBLED[policy])
    fragments = [Fragment(at, name.encode() * size, last=name == "Q") for name, at, size in SCENARIO]
    assert reassemble(fragments, policy) == expected
    table = Table(policy=policy)
    *_, (outcome, whole) = (table.add(piece(f.data, f.offset, more=not f.last)) for f in fragments)
    assert (outcome, whole) == ("complete", ipv4(expected, ip_id=1))
    assert table["overlaps"] == 8
    assert table["held_bytes"] == 0


@st.composite
def overlapping(draw: st.DrawFn) -> list[Fragment]:
    """Fragments of one datagram of up to 12 units of 8 bytes, ending with two that cover it all."""
    units = draw(st.integers(2, 12))
    fragments = []
    for number in range(draw(st.integers(1, 12))):
        start = draw(st.integers(0, units - 1))
        stop = draw(st.integers(start + 1, units if start else units - 1))
        fragments.append(Fragment(start * 8, bytes([number]) * (stop - start) * 8, last=stop == units))
    return [*fragments, Fragment(0, b"\xfe" * 8), Fragment(8, b"\xff" * (units - 1) * 8, last=True)]


@given(overlapping(), st.sampled_from(POLICIES))
def test_overlaps_give_what_the_model_gives(fragments: list[Fragment], policy: str) -> None:
    table = Table(policy=policy)
    for fragment in fragments:
        outcome, whole = table.add(piece(fragment.data, fragment.offset, more=not fragment.last))
        assert outcome in ("pending", "duplicate", "complete")
        if outcome == "complete":
            break
    assert whole is not None
    assert whole[20:] == reassemble(fragments, policy)
    assert table["held_bytes"] == 0


@given(
    st.integers(1, 40).flatmap(
        lambda count: st.tuples(
            st.just(count), st.permutations(range(count)), st.lists(st.integers(0, count - 1))
        )
    ),
    st.booleans(),
    st.sampled_from(POLICIES),
)
def test_any_order_with_duplicates_gives_the_same_packet(
    arrival: tuple[int, list[int], list[int]], six: bool, policy: str
) -> None:
    count, order, again = arrival
    data = DATA[: count * 16 - 3]
    packet = ipv6(data, **V6) if six else ipv4(data, ip_id=9)
    fragments = fragment_ipv6(packet, 16) if six else fragment_ipv4(packet, 16)
    if count == 1:
        return  # not a fragment
    table = Table(policy=policy)
    for number in [*order[:-1], *(n for n in again if n != order[-1])]:
        assert table.add(fragments[number])[0] in ("pending", "duplicate")
    assert table.add(fragments[order[-1]]) == ("complete", packet)
    assert table["held_bytes"] == 0


# --- IPv6's rules ---------------------------------------------------------------------------------


def test_ipv6_overlap_drops_the_datagram_and_what_is_to_come() -> None:
    """RFC 5722 §4."""
    table = Table(policy="last")
    assert table.outcomes([piece6(b"a" * 16, 0), piece6(b"b" * 16, 8)]) == ["pending", "overlap"]
    assert table.outcomes([piece6(b"a" * 16, 0), piece6(b"c" * 8, 16, more=False)]) == ["condemned"] * 2
    assert (table["overlap_drops"], table["condemned"], table["completed"]) == (1, 2, 0)


def test_ipv6_exact_duplicate_is_ignored_but_not_a_changed_one() -> None:
    """RFC 8200 §4.5 lets a receiver tell exact duplicates from overlaps."""
    table = Table()
    assert table.outcomes([piece6(b"a" * 16, 0), piece6(b"a" * 16, 0)]) == ["pending", "duplicate"]
    assert table.outcomes([piece6(b"b" * 16, 0)]) == ["overlap"]


# --- fragments that cannot be ---------------------------------------------------------------------


def test_fragment_that_is_not_a_multiple_of_8_is_bad_unless_last() -> None:
    table = Table()
    assert table.outcomes([piece(b"a" * 9, 0), piece(b"a" * 8, 0)]) == ["bad", "pending"]
    assert table.outcomes([piece(b"a" * 9, 8, more=False)]) == ["complete"]


def test_empty_fragment_is_bad() -> None:
    table = Table()
    assert table.outcomes([piece(b"", 8), piece(b"", 8, more=False)]) == ["bad", "bad"]
    assert table["held_datagrams"] == 0


@pytest.mark.parametrize(
    "fragments",
    [
        [piece(b"a" * 8, 8, more=False), piece(b"a" * 8, 16, more=False)],
        [piece(b"a" * 16, 8, more=False), piece(b"a" * 8, 8, more=False)],
        [piece(b"a" * 8, 8, more=False), piece(b"a" * 8, 16)],
        [piece(b"a" * 8, 16), piece(b"a" * 8, 8, more=False)],
    ],
    ids=["later end", "earlier end", "bytes behind the end", "end before bytes"],
)
def test_contradicting_ends_drop_the_datagram(fragments: list[bytes]) -> None:
    table = Table()
    assert table.outcomes(fragments) == ["pending", "bad"]
    assert table.outcomes([piece(b"a" * 8, 0)]) == ["condemned"]


def test_bytes_beyond_65535_are_too_big() -> None:
    """The "ping of death"."""
    table = Table()
    assert table.outcomes([piece(bytes(8), 65512)]) == ["too_big"]
    assert table.outcomes([piece(bytes(3), 65512, more=False, ip_id=2)]) == ["pending"]
    assert table.outcomes([piece6(bytes(8), 65528, more=False)]) == ["too_big"]
    assert table.outcomes([piece6(bytes(7), 65528, more=False, ip_id=2)]) == ["pending"]
    assert table["too_big"] == 2


def test_longer_header_of_the_first_fragment_counts_towards_65535() -> None:
    whole = ipv4(bytes(65515), ip_id=1)
    first, *others = fragment_ipv4(whole, 8000)
    table = Table()
    assert set(table.outcomes(others)) == {"pending"}
    assert table.outcomes([piece(first[20:], 0, options=bytes(4))]) == ["too_big"]


def test_fragment_cut_by_the_capture_is_not_used() -> None:
    frame = ethernet(piece(b"a" * 16, 0))
    table = Table()
    assert table.reassembler.add(frame[:-4], wirelen=len(frame)) == ("cut", None)
    assert (table["cut"], table["held_datagrams"]) == (1, 0)


# --- time and budgets -----------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "timeout"), [(piece, 30), (piece6, 60)], ids=["IPv4", "IPv6"])
def test_datagram_times_out(make: object, timeout: int) -> None:
    assert callable(make)
    table = Table()
    table.add(make(b"a" * 8, 0), at=100)
    table.add(make(b"b" * 8, 8), at=100 + timeout - 1)
    assert table.expire(100 + timeout - 0.001) == 0
    assert table.expire(100 + timeout) == 1
    assert (table["timeouts"], table["held_bytes"]) == (1, 0)


@pytest.mark.parametrize(("make", "timeout"), [(piece, 30), (piece6, 60)], ids=["IPv4", "IPv6"])
def test_datagram_of_a_wild_time_to_come_holds_up_none_behind_it(make: object, timeout: int) -> None:
    assert callable(make)
    table = Table()
    table.add(make(b"a" * 8, 0), at=1000)
    assert table.expire(1000 - timeout + 0.001) == 0
    assert table.expire(1000 - timeout) == 1
    assert (table["timeouts"], table["held_bytes"]) == (1, 0)


def test_late_fragment_does_not_join_a_datagram_out_of_time() -> None:
    table = Table(ipv4_timeout=5)
    assert table.add(piece(b"a" * 8, 0), at=0)[0] == "pending"
    assert table.add(piece(b"b" * 8, 8, more=False), at=5)[0] == "pending"
    assert (table["timeouts"], table["held_datagrams"]) == (1, 1)


def test_condemned_datagram_is_forgotten_after_its_time() -> None:
    table = Table()
    assert table.outcomes([piece6(b"a" * 16, 0), piece6(b"b" * 16, 8)]) == ["pending", "overlap"]
    assert table.expire(60) == 0
    assert (table["held_datagrams"], table["held_bytes"], table["timeouts"]) == (0, 0, 0)
    assert table.outcomes([piece6(b"a" * 16, 0)]) == ["pending"]


def test_oldest_datagram_is_evicted_at_the_budget_of_datagrams() -> None:
    table = Table(datagrams=3)
    for number in range(4):
        table.add(piece(b"a" * 8, 0, ip_id=number), at=number)
    assert (table["evicted"], table["held_datagrams"]) == (1, 3)
    assert table.outcomes([piece(b"b" * 8, 8, more=False, ip_id=1)]) == ["complete"]
    assert table.outcomes([piece(b"b" * 8, 8, more=False, ip_id=0)]) == ["pending"]


def test_oldest_of_both_ip_versions_is_evicted() -> None:
    table = Table(datagrams=2)
    table.add(piece6(b"a" * 8, 0), at=1)
    table.add(piece(b"a" * 8, 0), at=2)
    table.add(piece(b"a" * 8, 0, ip_id=2), at=3)
    assert table.add(piece(b"b" * 8, 8, more=False), at=3)[0] == "complete"
    assert table.add(piece6(b"b" * 8, 8, more=False), at=3)[0] == "pending"


def test_memory_stays_within_its_budget() -> None:
    table = Table(memory=20_000, policy="last")
    rng = random.Random(4)
    for number in range(3000):
        offset = rng.randrange(400) * 8
        table.add(piece(bytes(rng.randrange(1, 180) * 8), offset, ip_id=rng.randrange(40)), at=number / 1000)
        assert table["held_bytes"] <= 20_000
    assert table["evicted"] > 0
    table.expire(1000)
    assert (table["held_bytes"], table["held_datagrams"]) == (0, 0)


def test_datagram_larger_than_the_budget_is_dropped_and_evicts_the_rest_only_once() -> None:
    table = Table(memory=3000)
    assert table.outcomes([piece(b"a" * 8, 0, ip_id=1)]) == ["pending"]
    assert table.outcomes([piece(bytes(1400), 1400 * n, ip_id=2) for n in range(3)]) == [
        "pending",
        "memory",
        "condemned",
    ]
    assert table["held_datagrams"] == 1
    assert table["evicted"] == 1


def test_no_memory_at_all_is_told() -> None:
    table = Table(memory=8)
    assert table.outcomes([piece(b"a" * 8, 0)]) == ["memory"]
    assert table["held_bytes"] == 0


def test_fragments_of_one_datagram_are_bounded() -> None:
    table = Table(fragments=4)
    outcomes = table.outcomes([piece(bytes(8), 16 * n) for n in range(6)])
    assert outcomes == ["pending"] * 4 + ["too_many", "condemned"]


def test_every_fragment_is_counted_once() -> None:
    table = Table()
    table.outcomes([piece(b"a" * 8, 0), piece(b"a" * 8, 0), piece(b"", 8), piece(b"b" * 8, 8, more=False)])
    counts = table.defragmenter.statistics()
    outcomes = ("pending", "completed", "duplicates", "bad")
    assert [counts[name] for name in outcomes] == [1, 1, 1, 1]
    assert counts["fragments"] == sum(counts[name] for name in outcomes) == 4


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        (b"short", {}),
        (KEY, {"policy": "best"}),
        (KEY, {"datagrams": 0}),
        (KEY, {"fragments": 0}),
        (KEY, {"ipv4_timeout": 0.0}),
        (KEY, {"ipv6_timeout": float("nan")}),
    ],
)
def test_wrong_settings_are_refused(key: bytes, settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Defragmenter(key, **settings)


# --- anything at all ------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 8191), st.integers(0, 300), st.booleans(), st.booleans())
    ),
    st.sampled_from(POLICIES),
)
def test_any_fragments_keep_the_books(arrivals: list[tuple[int, int, int, bool, bool]], policy: str) -> None:
    table = Table(policy=policy, memory=4000, datagrams=3, fragments=6)
    for ip_id, unit, size, more, six in arrivals:
        make = piece6 if six else piece
        if not unit and not more:
            continue  # not a fragment
        outcome, whole = table.add(make(bytes(size), unit * 8, more=more, ip_id=ip_id))
        if outcome == "complete":
            assert whole is not None
            length = struct.unpack_from("!H", whole, 4 if six else 2)[0]
            assert length == len(whole) - (40 if six else 0)
        assert table["held_bytes"] <= 4000
    table.expire(1000)
    assert (table["held_bytes"], table["held_datagrams"]) == (0, 0)
