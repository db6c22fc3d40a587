"""Packet: what it reads, what it lacks, when it is stale, and its copies."""

import copy
import os
import pickle
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiomos
from aiomos import PKT_IN, App, Hook, Settings
from aiomos.errors import CaptureError, StalePacketError
from aiomos.face.packets import Packet
from aiomos.testing.packets import (
    FLAG_LETTERS,
    PROTO_ICMP,
    PROTO_UDP,
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ipv4,
    ipv6,
    ipv6_extension,
    mss,
    sack,
    sack_ok,
    tcp,
    tcp_frame,
    timestamps,
    udp,
    udp_frame,
    wscale,
)
from aiomos.transport.captures import open_captures
from tests.traffic import Traffic

# What a packet says of itself; not what can be done with it in line.
ATTRIBUTES = sorted(
    name
    for name in dir(Packet)
    if not name.startswith("_") and not callable(getattr(Packet, name)) and name != "out_interface"
)
IP = {"ip_version", "proto", "ttl", "tos", "dscp", "ecn", "src", "dst", "length", "raw", "dpkt"}
V4 = {"ip_id", "dont_fragment"}
PORTS = {"sport", "dport"}
FLAGS = ("fin", "syn", "rst", "psh", "ack_flag", "urg", "ece", "cwr", "ae")
TCP = {
    "seq",
    "ack",
    "flags",
    "window",
    "urgent",
    "sack_permitted",
    "sack",
    "options",
    "header_len",
    *FLAGS,
} | PORTS
SIZES = {2: (2,), 3: (1,), 4: (0,), 5: (8, 16, 24, 32), 8: (8,)}
"""Lengths of the values of options that have attributes."""
OPTIONS = {"mss", "window_scale", "tsval", "tsecr"}
PAYLOAD = {"payload", "payload_len"}
FRAME = {"time", "known", "frame"}
ETHERNET = {"eth_src", "eth_dst", "ethertype"}
FRAGMENT = {"fragment_offset", "more_fragments"}

DATA = b"GET / HTTP/1.0\r\n"
V6 = {"src": "2001:db8::1", "dst": "2001:db8::2"}
SYN_OPTIONS = mss(1460) + sack_ok() + timestamps(7, 8) + wscale(9)
RAW_IP = 101
CAPTURES = Path(__file__).parents[2] / "data"
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)


def values(packet: Packet) -> dict[str, Any]:
    """Every attribute that the packet has; dpkt's object as text, so that two can be compared."""
    found = {name: getattr(packet, name) for name in ATTRIBUTES if name != "dpkt"}
    with suppress(ValueError):
        found["dpkt"] = None if packet.dpkt is None else repr(packet.dpkt)
    return {name: value for name, value in found.items() if value is not None}


# --- against dpkt ---------------------------------------------------------------------------------


def as_dpkt_reads(packet: dpkt.ip.IP | dpkt.ip6.IP6) -> dict[str, Any]:
    """What dpkt says of a whole TCP packet, under our names."""
    segment = packet.data
    version_4 = isinstance(packet, dpkt.ip.IP)
    tos = packet.tos if version_4 else packet.fc
    flags = {name: bool(segment.flags & 1 << bit) for bit, name in enumerate(FLAGS)}
    return (flags | options_as_dpkt_reads(segment.opts)) | {
        "ip_version": packet.v,
        "proto": packet.p,
        "ttl": packet.ttl if version_4 else packet.hlim,
        "tos": tos,
        "dscp": tos >> 2,
        "ecn": tos & 3,
        "ip_id": packet.id if version_4 else None,
        "dont_fragment": bool(packet.df) if version_4 else None,
        "fragment_offset": None,
        "more_fragments": None,
        "src": str((IPv4Address if version_4 else IPv6Address)(packet.src)),
        "dst": str((IPv4Address if version_4 else IPv6Address)(packet.dst)),
        "sport": segment.sport,
        "dport": segment.dport,
        "seq": segment.seq,
        "ack": segment.ack,
        "flags": segment.flags,
        "window": segment.win,
        "urgent": segment.urp,
        "header_len": segment.off * 4,
        "payload": bytes(segment.data),
        "payload_len": len(segment.data),
    }


def options_as_dpkt_reads(raw: bytes) -> dict[str, Any]:
    """What dpkt says of a list of options; nothing of one that is broken, which it reads its own way."""
    options = dpkt.tcp.parse_opts(raw)
    if None in options or raw != b"".join(
        bytes([kind, 2 + len(value)] if kind > 1 else [kind]) + value for kind, value in options
    ):
        return {}
    kinds = [kind for kind, _ in options]
    options = options[: kinds.index(0) + 1] if 0 in kinds else options
    if any(len(value) not in SIZES.get(kind, (len(value),)) for kind, value in options):
        return {"options": tuple(options)}
    last = dict(options)
    edges = struct.unpack(f"!{len(last.get(5, b'')) // 4}I", last.get(5, b""))
    tsval, tsecr = struct.unpack("!II", last[8]) if 8 in last else (None, None)
    return {
        "options": tuple(options),
        "mss": int.from_bytes(last[2], "big") if 2 in last else None,
        "window_scale": min(last[3][0], 14) if 3 in last else None,
        "sack_permitted": 4 in last,
        "sack": tuple(zip(edges[::2], edges[1::2], strict=True)),
        "tsval": tsval,
        "tsecr": tsecr,
    }


@given(
    ports=st.tuples(u16, u16),
    numbers=st.tuples(u32, u32),
    flags=st.sets(st.sampled_from(FLAG_LETTERS)).map("".join),
    accurate_ecn=st.booleans(),
    fields=st.tuples(u16, u16),
    ip_fields=st.tuples(st.integers(0, 255), st.integers(0, 255), u16, st.booleans()),
    payload=st.binary(max_size=200),
    options=st.one_of(
        st.just(b""),
        st.builds(timestamps, u32, u32),
        st.builds(lambda size, shift: mss(size) + sack_ok() + wscale(shift), u16, st.integers(0, 255)),
        st.builds(sack, st.lists(st.tuples(u32, u32), min_size=1, max_size=4)),
        st.builds(
            lambda kind, body: bytes([kind, 2 + len(body)]) + body,
            st.integers(9, 255),
            st.binary(max_size=38),
        ),
    ),
    version_6=st.booleans(),
    tag=st.none() | st.integers(1, 4094),
)
def test_built_packets_read_as_dpkt_reads_them(
    ports: tuple[int, int],
    numbers: tuple[int, int],
    flags: str,
    accurate_ecn: bool,
    fields: tuple[int, int],
    ip_fields: tuple[int, int, int, bool],
    payload: bytes,
    options: bytes,
    version_6: bool,
    tag: int | None,
) -> None:
    ends = V6 if version_6 else {}
    ttl, tos, ip_id, dont_fragment = ip_fields
    segment = tcp(
        payload,
        **ends,
        sport=ports[0],
        dport=ports[1],
        seq=numbers[0],
        ack=numbers[1],
        flags=flags,
        accurate_ecn=accurate_ecn,
        window=fields[0],
        urgent=fields[1],
        options=options,
    )
    if version_6:
        raw = ipv6(segment, **V6, hop_limit=ttl, traffic_class=tos)
    else:
        raw = ipv4(segment, ttl=ttl, tos=tos, ip_id=ip_id, dont_fragment=dont_fragment)
    packet = Packet.decode(ethernet(raw, vlan=tag), time=1.25)
    expected = as_dpkt_reads((dpkt.ip6.IP6 if version_6 else dpkt.ip.IP)(raw))
    expected |= {"vlan": tag, "time": 1.25, "raw": raw, "length": len(raw)}
    expected |= {"eth_src": "02:00:00:00:00:01", "eth_dst": "02:00:00:00:00:02", "known": False}
    expected |= {"ethertype": 0x86DD if version_6 else 0x0800, "frame": ethernet(raw, vlan=tag)}
    expected |= {"interface": None, "malformed": None}
    assert {name: getattr(packet, name) for name in ATTRIBUTES if name != "dpkt"} == expected
    assert bytes(packet.dpkt.data.data) == payload


def packets_of(path: Path, limit: int | None = None) -> Iterator[Packet]:
    """Packets of a capture, as far as it can be read."""
    with suppress(CaptureError), open_captures([path]) as source:
        for time_ns, frame, linktype, wirelen in islice(source, limit):
            with suppress(ValueError):
                yield Packet.decode(frame, linktype, time=time_ns / 1e9, wirelen=wirelen)


def agrees_with_dpkt(packet: Packet) -> bool:
    """Compare a packet with dpkt's reading of its bytes; false where dpkt sees no whole TCP segment."""
    values(packet)
    if packet.seq is None or packet.payload_len > len(packet.payload):
        return False
    theirs = packet.dpkt
    if not isinstance(theirs.data, dpkt.tcp.TCP) or 20 + len(theirs.data.opts) != packet.header_len:
        return False
    expected = as_dpkt_reads(theirs)
    assert {name: getattr(packet, name) for name in expected} == expected
    return True


@pytest.mark.parametrize("path", sorted(CAPTURES.rglob("*.pcap*")), ids=lambda path: path.name)
def test_captured_packets_read_as_dpkt_reads_them(path: Path) -> None:
    packets = list(packets_of(path))
    agreed = sum(map(agrees_with_dpkt, packets))
    assert agreed or not any(packet.payload for packet in packets if packet.seq is not None)


@pytest.mark.captures
def test_packets_of_many_captures_read_as_dpkt_reads_them() -> None:
    folder = os.environ.get("AIOMOS_CAPTURES")
    if not folder:
        pytest.skip("AIOMOS_CAPTURES names no folder of captures")
    assert sum(
        agrees_with_dpkt(packet)
        for path in sorted(Path(folder).iterdir())
        for packet in packets_of(path, 200)
    )


# --- what a packet has ----------------------------------------------------------------------------

KINDS = {
    "TCP": (tcp_frame(options=SYN_OPTIONS, vlan=7), 1, IP | V4 | TCP | PAYLOAD | OPTIONS | {"vlan"}),
    "TCP without options": (tcp_frame(), 1, IP | V4 | TCP | PAYLOAD),
    "TCP over IPv6": (tcp_frame(**V6), 1, IP | TCP | PAYLOAD),
    "UDP": (udp_frame(payload=DATA), 1, IP | V4 | PORTS | PAYLOAD),
    "ICMP": (ipv4(DATA, proto=PROTO_ICMP), RAW_IP, IP | V4 | PAYLOAD),
    "other": (ipv6(DATA, proto=99), RAW_IP, IP | PAYLOAD),
    "fragment": (fragment_ipv4(ipv4(tcp(DATA * 9)), 64)[0], RAW_IP, IP | V4 | FRAGMENT | PAYLOAD),
    "fragment of IPv6": (
        fragment_ipv6(ipv6(tcp(DATA * 9)), 64)[1],
        RAW_IP,
        IP | {"ip_id"} | FRAGMENT | PAYLOAD,
    ),
}


@pytest.mark.parametrize(("frame", "linktype", "names"), KINDS.values(), ids=KINDS)
def test_what_a_packet_lacks_is_none(frame: bytes, linktype: int, names: set[str]) -> None:
    packet = Packet.decode(frame, linktype)
    assert set(values(packet)) == names | FRAME | (ETHERNET if linktype == 1 else set())


def test_udp_has_ports_and_payload() -> None:
    packet = Packet.decode(udp_frame(sport=5, dport=53, payload=DATA))
    assert (packet.sport, packet.dport, packet.proto, packet.payload) == (5, 53, PROTO_UDP, DATA)


def test_fragments_tell_their_place() -> None:
    whole = ipv4(tcp(DATA * 9), ip_id=77)
    first, last = [Packet.decode(fragment, RAW_IP) for fragment in fragment_ipv4(whole, 88)]
    assert (first.ip_id, first.fragment_offset, first.more_fragments) == (77, 0, True)
    assert (last.ip_id, last.fragment_offset, last.more_fragments) == (77, 88, False)
    assert first.payload + last.payload == whole[20:]
    assert last.payload_len == len(last.payload)
    other = Packet.decode(fragment_ipv6(ipv6(tcp(DATA * 9)), 88, ip_id=1 << 31)[1], RAW_IP)
    assert (other.ip_id, other.fragment_offset, other.proto) == (1 << 31, 88, 6)


def test_cut_payload_keeps_its_length() -> None:
    frame = tcp_frame(payload=DATA)
    packet = Packet.decode(frame[:-5], wirelen=len(frame))
    assert (packet.payload, packet.payload_len) == (DATA[:-5], len(DATA))
    assert (packet.raw, packet.length) == (frame[14:-5], len(frame) - 19)


def test_padding_is_no_part_of_the_packet() -> None:
    frame = tcp_frame(payload=b"x")
    assert Packet.decode(frame + bytes(5)).raw == frame[14:]


BROKEN_OPTIONS = {
    "length 0": (b"\x03\x00\x07\x00", ()),
    "length 1": (b"\x03\x01\x07\x00", ()),
    "length beyond": (b"\x01\x03\x09\x07", ((1, b""),)),
    "kind alone": (b"\x01\x01\x01\x03", ((1, b""),) * 3),
    "length 2": (b"\x03\x02\x01\x00", ((3, b""), (1, b""), (0, b""))),
}


@pytest.mark.parametrize(("raw", "rest"), BROKEN_OPTIONS.values(), ids=BROKEN_OPTIONS)
def test_options_end_where_their_list_is_broken(raw: bytes, rest: tuple[tuple[int, bytes], ...]) -> None:
    packet = Packet.decode(tcp_frame(options=mss(9) + raw))
    assert packet.options == ((2, b"\0\x09"), *rest)
    assert packet.mss == 9


def test_options_end_with_their_list() -> None:
    packet = Packet.decode(tcp_frame(options=b"\x01\x00" + wscale(9)))
    assert packet.options == ((1, b""), (0, b""))
    assert packet.window_scale is None


# --- decoding -------------------------------------------------------------------------------------

NO_PACKETS = {
    "empty": (b"", 1, "malformed.link"),
    "ARP": (ethernet(bytes(28), ethertype=0x0806), 1, "non_ip"),
    "unknown link": (b"12345678", 147, "unknown_link"),
    "cut IP header": (tcp_frame()[:30], 1, "malformed.ip_cut"),
    "cut TCP header": (tcp_frame()[:40], 1, "malformed.tcp_cut"),
    "impossible IP": (ipv4(b"", total_length=9), RAW_IP, "malformed.ip"),
}


@pytest.mark.parametrize(("frame", "linktype", "kind"), NO_PACKETS.values(), ids=NO_PACKETS)
def test_a_frame_without_a_packet_says_what_it_is(frame: bytes, linktype: int, kind: str) -> None:
    with pytest.raises(ValueError, match=f": {kind}$"):
        Packet.decode(frame, linktype, wirelen=60)


def test_any_buffer_can_be_decoded() -> None:
    frame = bytearray(tcp_frame(payload=DATA))
    packet = Packet.decode(memoryview(frame))
    frame[:] = bytes(len(frame))
    assert packet.payload == DATA


def test_packets_are_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match=r"Packet\.decode"):
        Packet()


# --- loans ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probe() -> Any:
    return pytest.importorskip("tests.native._probe_packets", reason="needs the native test probes")


@pytest.mark.parametrize("name", [*ATTRIBUTES, "copy"])
def test_after_the_loan_nothing_can_be_read(probe: Any, name: str) -> None:
    loan = probe.Loan(tcp_frame(options=SYN_OPTIONS, payload=DATA))
    packet = loan.packet
    assert getattr(packet, name) is not None or name in FRAGMENT | {"vlan", "interface", "malformed"}
    loan.end()
    with pytest.raises(StalePacketError, match=r"pkt\.copy\(\)"):
        getattr(packet, name)() if name == "copy" else getattr(packet, name)
    assert repr(packet) == "<Packet, stale>"


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_after_the_loan_nothing_can_be_copied(probe: Any, take: Any) -> None:
    loan = probe.Loan(tcp_frame())
    loan.end()
    with pytest.raises(StalePacketError):
        take(loan.packet)


def test_only_copies_can_be_pickled(probe: Any) -> None:
    loan = probe.Loan(tcp_frame())
    with pytest.raises(TypeError, match=r"pkt\.copy\(\)"):
        pickle.dumps(loan.packet)


@pytest.mark.parametrize(("frame", "linktype", "_names"), KINDS.values(), ids=KINDS)
def test_a_copy_outlives_the_loan(probe: Any, frame: bytes, linktype: int, _names: set[str]) -> None:
    loan = probe.Loan(frame, linktype, time_ns=5_000_000_001)
    kept = loan.packet.copy()
    before = values(loan.packet)
    text = repr(loan.packet)
    loan.end()
    assert values(kept) == before
    assert repr(kept) == text
    assert kept.copy() is kept
    assert copy.deepcopy(kept) is kept


# --- frames ---------------------------------------------------------------------------------------

ARP = ethernet(bytes(28), ethertype=0x0806, vlan=[9, 7])


def test_a_frame_without_ip_has_its_link_layer(probe: Any) -> None:
    loan = probe.Loan(ARP)
    packet = loan.packet
    assert values(packet).keys() == FRAME | ETHERNET | {"vlan"}
    assert (packet.ethertype, packet.vlan, packet.known) == (0x0806, 9, False)
    assert (packet.eth_src, packet.eth_dst) == ("02:00:00:00:00:01", "02:00:00:00:00:02")


@pytest.mark.parametrize("interface", [0, 1, 2])
def test_an_interface_beyond_those_with_names_has_none(probe: Any, interface: int) -> None:
    loan = probe.Loan(tcp_frame(), interface=interface, interfaces=("left", "right"))
    assert loan.packet.interface == ("left", "right", None)[interface]


@given(frame=st.binary(max_size=64), tags=st.integers(0, 5))
def test_any_frame_can_be_read_and_copied(frame: bytes, tags: int) -> None:
    probe = pytest.importorskip("tests.native._probe_packets", reason="needs the native test probes")
    frame = frame[:12] + b"\x81\x00\x00\x05" * tags + frame[12:]
    loan = probe.Loan(frame)
    before = values(loan.packet)
    kept = loan.packet.copy()
    loan.end()
    assert values(kept) == before
    assert kept.frame == frame


def test_the_length_of_an_802_3_frame_is_no_ethertype(probe: Any) -> None:
    loan = probe.Loan(ethernet(bytes(40), ethertype=40))
    assert loan.packet.ethertype is None


def test_a_pickle_keeps_all_of_the_frame(probe: Any) -> None:
    frame = ethernet(ipv4(ipv4(tcp(DATA)), proto=4), vlan=7) + b"padding"
    loan = probe.Loan(frame, interface=1, interfaces=("left", "right"), known=True, decapsulate=True)
    packet = loan.packet.copy()
    assert values(pickle.loads(pickle.dumps(packet))) == values(packet)


# --- in callbacks ---------------------------------------------------------------------------------


@pytest.fixture
def traffic() -> Traffic:
    """A connection whose data comes in fragments, and a datagram."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(DATA)
    traffic.add(udp_frame(payload=DATA))
    conn.server(b"D" * 100)
    _, whole, _, _ = traffic.batches[-1].pop()
    for fragment in fragment_ipv4(whole[14:], 64):
        traffic.add(ethernet(fragment))
    conn.close()
    return traffic


@pytest.mark.parametrize("hook", [Hook.RAW, Hook.SENDER, Hook.RECEIVER])
def test_callbacks_are_lent_their_packets(traffic: Traffic, hook: Hook) -> None:
    app = App("keeps")
    lent, copies, seen = [], [], []

    @app.on(PKT_IN, hook=hook)
    def keep(pkt: Packet) -> None:
        lent.append(pkt)
        copies.append(pkt.copy())
        seen.append(values(pkt))

    aiomos.run(app, source=traffic.source(), settings=Settings(on_error="raise"))
    assert len(lent) == (10 if hook is Hook.RAW else 8)
    for packet in lent:
        for name in ATTRIBUTES:
            with pytest.raises(StalePacketError):
                getattr(packet, name)
    assert [values(packet) for packet in copies] == seen
    payloads = [packet.payload for packet in copies if packet.payload]
    if hook is Hook.RAW:
        assert payloads[:2] == [DATA, DATA]
        assert [packet.fragment_offset for packet in copies if packet.more_fragments is not None] == [0, 64]
    else:
        assert payloads == [DATA, b"D" * 100]


# --- pickled --------------------------------------------------------------------------------------

SUPER_FRAME = ipv4(tcp(bytes(70_000)))
PICKLED = {
    **{name: (frame, linktype, len(frame)) for name, (frame, linktype, _) in KINDS.items()},
    "cut": (tcp_frame(payload=DATA)[:-5], 1, len(tcp_frame(payload=DATA))),
    "cut super-frame": (SUPER_FRAME[:96], RAW_IP, len(SUPER_FRAME)),
    "cut fragment": (fragment_ipv4(ipv4(tcp(DATA * 9)), 64)[0][:50], RAW_IP, 84),
    "UDP shorter than IP": (ipv4(udp(DATA)[:20], proto=PROTO_UDP, total_length=40) + bytes(4), RAW_IP, 44),
}


@pytest.mark.parametrize(("frame", "linktype", "wirelen"), PICKLED.values(), ids=PICKLED)
def test_a_pickled_copy_reads_the_same(frame: bytes, linktype: int, wirelen: int) -> None:
    packet = Packet.decode(frame, linktype, time=1.5, wirelen=wirelen)
    assert values(pickle.loads(pickle.dumps(packet))) == values(packet)


# --- malformed ------------------------------------------------------------------------------------


def test_a_packet_with_a_wrong_checksum_is_read_all_the_same(probe: Any) -> None:
    """It comes with an ERROR, and the app decides."""
    frame = tcp_frame(payload=DATA, options=SYN_OPTIONS)
    loan = probe.Loan(frame[:-1] + b"?", verify=True)
    kept = loan.packet.copy()
    before = values(loan.packet)
    loan.end()
    assert values(kept) == before
    assert before == values(Packet.decode(frame[:-1] + b"?")) | {"time": 0.0, "malformed": "checksum"}


NESTED_EXTENSIONS = ethernet(ipv6(ipv6_extension(b"", proto=0), proto=0))
MALFORMED = {
    "bad TCP": (ethernet(ipv4(tcp(DATA)[:12] + b"\x10" + tcp(DATA)[13:])), None, "tcp", IP | V4 | PORTS),
    "cut TCP": (tcp_frame()[:47], 54, "tcp_cut", IP | V4 | PORTS),
    "cut in the ports": (tcp_frame()[:36], 54, "tcp_cut", IP | V4),
    "IP checksum": (tcp_frame()[:24] + b"??" + tcp_frame()[26:], None, "checksum", IP | V4),
    "IPv6 extension": (NESTED_EXTENSIONS, None, "extension", IP - {"dpkt"}),
    "bad IP": (ethernet(ipv4(b"", total_length=9)), None, "ip", set[str]()),
    "cut IP": (tcp_frame()[:30], 54, "ip_cut", set[str]()),
    "cut tag": (ARP[:17], None, "link", set[str]()),
    "no frame": (b"", None, "link", set[str]()),
}


@pytest.mark.parametrize(("frame", "wirelen", "kind", "names"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_packets_have_what_was_read(
    probe: Any, frame: bytes, wirelen: int | None, kind: str, names: set[str]
) -> None:
    loan = probe.Loan(frame, wirelen=wirelen, verify=True)
    found = values(loan.packet)
    assert found.pop("malformed") == kind
    assert set(found) - ETHERNET == names | FRAME
    assert ("eth_src" in found) == (len(frame) >= 14)
    kept = loan.packet.copy()
    before = values(loan.packet)
    loan.end()
    assert values(kept) == before
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(kept)


@pytest.mark.parametrize("frame", [ARP, tcp_frame(), *(frame for frame, *_ in MALFORMED.values())])
def test_a_copy_keeps_its_frame(probe: Any, frame: bytes) -> None:
    names = ("left", "right")
    loan = probe.Loan(frame, verify=True, interface=1, interfaces=names, known=True)
    kept = loan.packet.copy()
    before = values(loan.packet)
    loan.end()
    assert values(kept) == before
    assert (kept.frame, kept.interface, kept.known) == (frame, "right", True)


def test_what_dpkt_cannot_read_is_said(probe: Any) -> None:
    loan = probe.Loan(NESTED_EXTENSIONS)
    with pytest.raises(ValueError, match=r"dpkt .* cannot read this IPv6 packet of 48 bytes") as raised:
        _ = loan.packet.dpkt
    assert isinstance(raised.value.__cause__, dpkt.Error)
    assert loan.packet.raw == NESTED_EXTENSIONS[14:]


def test_tunnels_are_opened_where_the_engine_opens_them(probe: Any) -> None:
    inner = ipv4(tcp(DATA, src="192.0.2.1", dst="192.0.2.2"), src="192.0.2.1", dst="192.0.2.2")
    frame = ethernet(ipv4(inner, proto=4))
    assert Packet.decode(frame).proto == 4
    assert probe.Loan(frame, decapsulate=True).packet.raw == inner


# --- anything at all ------------------------------------------------------------------------------

SEEDS = [frame for frame, _, _ in KINDS.values()] + [
    ethernet(ipv6(ipv6_extension(tcp(DATA, **V6)), **V6, proto=0)),
    tcp_frame(options=sack([(1, 2), (3, 4)]), payload=DATA, **V6),
    ethernet(ipv4(ipv4(tcp(DATA)), proto=4)),
]


@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 200),
    linktype=st.sampled_from([1, RAW_IP]),
    options=st.fixed_dictionaries({"verify": st.booleans(), "decapsulate": st.booleans()}),
)
def test_damaged_frames_can_be_read_and_kept(
    probe: Any,
    seed: bytes,
    changes: list[tuple[int, int]],
    length: int,
    linktype: int,
    options: dict[str, bool],
) -> None:
    frame = bytearray(seed)
    for at, byte in changes:
        frame[at % len(frame)] = byte
    loan = probe.Loan(frame[:length], linktype, wirelen=len(frame), **options)
    packet = loan.packet
    before = values(packet)
    if packet.payload is not None:
        assert packet.payload in packet.raw
        assert len(packet.payload) <= packet.payload_len
    kept = packet.copy()
    loan.end()
    assert values(kept) == before
    assert repr(kept)


# --- text -----------------------------------------------------------------------------------------

LINES = {
    "SYN": (tcp_frame(seq=9), 1, "10.0.0.1:1234 > 10.0.0.2:80: Flags [S], seq 9, win 65535, length 0"),
    "data": (
        tcp_frame(**V6, seq=9, ack=7, flags="PAEC", payload=DATA),
        1,
        "[2001:db8::1]:1234 > [2001:db8::2]:80: Flags [P.EW], seq 9, ack 7, win 65535, length 16",
    ),
    "no flags": (
        tcp_frame(flags=""),
        1,
        "10.0.0.1:1234 > 10.0.0.2:80: Flags [none], seq 0, win 65535, length 0",
    ),
    "UDP": (udp_frame(payload=DATA), 1, "10.0.0.1:1234 > 10.0.0.2:53: UDP, length 16"),
    "ICMP": (ipv4(DATA, proto=PROTO_ICMP), RAW_IP, "10.0.0.1 > 10.0.0.2: icmp, protocol 1, length 16"),
    "fragment": (
        fragment_ipv4(ipv4(tcp(DATA)), 16)[1],
        RAW_IP,
        "10.0.0.1 > 10.0.0.2: fragment at 16, protocol 6, length 16",
    ),
}


@pytest.mark.parametrize(("frame", "linktype", "line"), LINES.values(), ids=LINES)
def test_a_packet_is_shown_in_a_line(frame: bytes, linktype: int, line: str) -> None:
    assert repr(Packet.decode(frame, linktype)) == f"<Packet {line}>"


def test_a_malformed_packet_is_shown_by_its_kind(probe: Any) -> None:
    assert repr(probe.Loan(b"").packet) == "<Packet malformed.link>"
    assert repr(probe.Loan(tcp_frame()[:47], wirelen=54).packet) == (
        "<Packet 10.0.0.1 > 10.0.0.2: malformed.tcp_cut, protocol 6>"
    )


@pytest.mark.parametrize("captured", range(48, 66))
def test_a_cut_tcp_header_has_what_was_captured(probe: Any, captured: int) -> None:
    """Fixed fields one by one, then options one by one; what was cut off is None, not zero."""
    frame = tcp_frame(seq=7, flags="S", window=512, urgent=3, options=mss(1400) + sack_ok() + wscale(5))
    loan = probe.Loan(frame[:captured], wirelen=len(frame))
    packet = loan.packet
    copy = packet.copy()
    for one in (packet, copy, pickle.loads(pickle.dumps(copy))):
        assert (one.seq, one.syn, one.header_len) == (7, True, 32)
        assert (one.payload, one.payload_len) == (b"", 0)
        assert one.window == (512 if captured >= 50 else None)
        assert one.urgent == (3 if captured >= 54 else None)
        assert one.mss == (1400 if captured >= 58 else None)
        assert one.sack_permitted == (True if captured >= 60 else None)
        assert one.window_scale == (5 if captured >= 63 else None)
        whole = [(2, b"\x05x"), (4, b""), (3, b"\x05"), (0, b"")]
        ends = [58, 60, 63, 64]
        assert one.options == tuple(
            option for option, end in zip(whole, ends, strict=True) if captured >= end
        )
    assert ("win 512" in repr(packet)) is (captured >= 50)


@pytest.mark.parametrize(
    ("captured", "has_ports"), [(34, False), (37, False), (38, True), (39, True), (41, True)]
)
def test_a_cut_udp_header_has_its_ports(probe: Any, captured: int, has_ports: bool) -> None:
    frame = udp_frame(sport=5, dport=6, payload=b"query")
    loan = probe.Loan(frame[:captured], wirelen=len(frame))
    packet = loan.packet
    assert (packet.sport, packet.dport) == ((5, 6) if has_ports else (None, None))
    assert packet.payload == (b"" if has_ports else frame[34:captured])
    assert packet.payload_len == (5 if has_ports else 13)


words = st.sampled_from([0, 0, 0, 1, 0xDB8, 0x2001, 0xFFFF, 0x7F00])


@given(
    st.binary(min_size=16, max_size=16)
    | st.lists(words, min_size=8, max_size=8).map(lambda w: struct.pack("!8H", *w))
)
def test_ipv6_addresses_are_written_as_ipaddress_writes_them(probe: Any, packed: bytes) -> None:
    assert probe.text_of(packed, 6) == str(IPv6Address(packed))


@given(st.binary(min_size=4, max_size=4))
def test_ipv4_addresses_are_written_as_ipaddress_writes_them(probe: Any, packed: bytes) -> None:
    assert probe.text_of(packed, 4) == str(IPv4Address(packed))


def test_texts_of_many_addresses_are_their_own(probe: Any) -> None:
    """More than are remembered, of both versions, twice."""
    for _ in range(2):
        for number in range(0, 1 << 24, 1009):
            assert probe.text_of(number.to_bytes(4, "big"), 4) == str(IPv4Address(number))
            mapped = number | 0xFFFF << 32
            assert probe.text_of(mapped.to_bytes(16, "big"), 6) == str(IPv6Address(mapped))
