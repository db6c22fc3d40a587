"""The wire reader compared with dpkt, on built frames and on real captures."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import FLAG_LETTERS, mss, sack, sack_ok, tcp_frame, timestamps, wscale

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

ETHERNET = 1
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)


def tcp_fields(segment: dpkt.tcp.TCP) -> dict[str, object]:
    """What dpkt says, under our names."""
    return {
        "sport": segment.sport,
        "dport": segment.dport,
        "seq": segment.seq,
        "ack": segment.ack,
        "flags": segment.flags,
        "window": segment.win,
        "urgent": segment.urp,
        "header_len": segment.off * 4,
        "payload": bytes(segment.data),
    }


def known_options(raw: bytes) -> dict[str, object]:
    """The options both read, of a sound list, the last of a kind."""
    fields: dict[str, object] = {}
    for kind, body in dpkt.tcp.parse_opts(raw):
        match kind:
            case dpkt.tcp.TCP_OPT_MSS:
                fields["mss"] = int.from_bytes(body)
            case dpkt.tcp.TCP_OPT_WSCALE:
                fields["wscale"] = min(body[0], 14)
            case dpkt.tcp.TCP_OPT_TIMESTAMP:
                fields |= {"tsval": int.from_bytes(body[:4]), "tsecr": int.from_bytes(body[4:])}
            case dpkt.tcp.TCP_OPT_SACK:
                edges = [int.from_bytes(body[i : i + 4]) for i in range(0, len(body), 4)]
                fields["sack"] = list(zip(edges[::2], edges[1::2], strict=True))
            case dpkt.tcp.TCP_OPT_EOL:
                break
    return fields


def agree(ours: dict[str, object], theirs: dict[str, object]) -> None:
    assert {name: ours[name] for name in theirs} == theirs


@given(
    ports=st.tuples(u16, u16),
    numbers=st.tuples(u32, u32),
    flags=st.sets(st.sampled_from(FLAG_LETTERS)).map("".join),
    window=u16,
    payload=st.binary(max_size=200),
    options=st.one_of(
        st.just(b""),
        st.builds(timestamps, u32, u32),
        st.builds(lambda size, shift: mss(size) + sack_ok() + wscale(shift), u16, st.integers(0, 255)),
        st.builds(sack, st.lists(st.tuples(u32, u32), min_size=1, max_size=4)),
    ),
    ends=st.sampled_from([("10.1.2.3", "192.0.2.9"), ("2001:db8::7", "fe80::1")]),
    tag=st.none() | st.integers(1, 4094),
)
def test_built_frames_are_read_as_dpkt_reads_them(
    ports: tuple[int, int],
    numbers: tuple[int, int],
    flags: str,
    window: int,
    payload: bytes,
    options: bytes,
    ends: tuple[str, str],
    tag: int | None,
) -> None:
    frame = tcp_frame(*ends, *ports, *numbers, flags, payload, window, options, vlan=tag)
    ours = probe.decode(frame, verify=True)
    theirs = dpkt.ethernet.Ethernet(frame)
    assert ours["kind"] == "tcp"
    agree(ours, tcp_fields(theirs.data.data) | known_options(theirs.data.data.opts))
    agree(ours, {"src": theirs.data.src, "dst": theirs.data.dst, "vlan": tag or 0xFFFF})


def frames(path: Path) -> Iterator[tuple[bytes, int]]:
    """Ethernet frames of one capture."""
    with path.open("rb") as file:
        try:
            reader = dpkt.pcap.UniversalReader(file)
            if reader.datalink() == ETHERNET:
                for _, frame in reader:
                    yield frame, reader.datalink()
        except (ValueError, dpkt.Error):
            return  # not a capture, or cut short


def dpkt_tcp(frame: bytes) -> tuple[dpkt.ip.IP | dpkt.ip6.IP6, dpkt.tcp.TCP] | None:
    """The TCP segment of a plain Ethernet frame, if dpkt sees one and all of it is there."""
    if frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            packet = (dpkt.ip.IP if frame[12] == 8 else dpkt.ip6.IP6)(frame[14:])
        except dpkt.Error:
            return None
    segment = packet.data
    if not isinstance(segment, dpkt.tcp.TCP) or segment.off * 4 != 20 + len(segment.opts):
        return None
    if isinstance(packet, dpkt.ip.IP):
        whole = (
            packet.v == 4
            and packet.hl >= 5
            and 4 * (packet.hl + segment.off) <= packet.len <= len(frame) - 14
        )
        return (packet, segment) if whole and not packet.mf and not packet.offset else None
    whole = packet.v == 6 and 4 * segment.off <= packet.plen <= len(frame) - 54
    return (packet, segment) if whole and not packet.extension_hdrs else None


@pytest.mark.captures
def test_captures_are_read_as_dpkt_reads_them() -> None:
    folder = os.environ.get("AIOMOS_CAPTURES")
    if not folder:
        pytest.skip("AIOMOS_CAPTURES names no folder of captures")
    seen: Counter[str] = Counter()
    for path in sorted(Path(folder).iterdir()):
        for number, (frame, linktype) in enumerate(frames(path), start=1):
            ours = probe.decode(frame, linktype)
            seen[ours["kind"]] += 1
            theirs = dpkt_tcp(frame)
            if theirs is None:
                continue
            packet, segment = theirs
            where = f"{path.name}, frame {number}"
            assert ours["kind"] == "tcp", where
            expected = tcp_fields(segment) | {"src": packet.src, "dst": packet.dst}
            if not ours["options"] & 128:
                expected |= known_options(segment.opts)
            assert {name: ours[name] for name in expected} == expected, where
            seen["compared"] += 1
    assert seen["compared"] > 0, "no capture in the folder has TCP over Ethernet"
