"""Frames with work left to the network card: it is still to do when they leave, or has been done."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import pytest

from aiomos import PKT_IN, App, Hook, Packet, Runtime, Settings
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import checksum, mss, tcp_frame, udp_frame
from tests.traffic import in_loop

probe = pytest.importorskip("tests.native._probe_in_line", reason="needs the native test probes")

Offload = tuple[int, int, int, int, int, int]
NEEDS_CSUM, TCPV4, TCPV6 = 1, 1, 4
START_NS = 1_700_000_000_000_000_000
SIX = ("2001:db8::1", "2001:db8::2")
FOUR = ("10.0.0.1", "10.0.0.2")


def partial(frame: bytes, *, segment: int = 0, vlan: bool = False) -> tuple[bytes, Offload]:
    """Leave the checksum to the network card, as a sending host does: the field holds the sum of the pseudo-header."""
    link = 18 if vlan else 14
    six = frame[link] >> 4 == 6
    start = link + (40 if six else 20)
    proto = frame[link + 6] if six else frame[link + 9]
    addresses = frame[link + 8 : link + 40] if six else frame[link + 12 : link + 20]
    at = 16 if proto == 6 else 6
    header = addresses + struct.pack("!IxxxB", len(frame) - start, proto)
    value = ~checksum(header) & 0xFFFF
    changed = frame[: start + at] + struct.pack("!H", value) + frame[start + at + 2 :]
    size = start + (frame[start + 12] >> 4) * 4 if proto == 6 else start + 8
    return changed, (NEEDS_CSUM, (TCPV6 if six else TCPV4) if segment else 0, size, segment, start, at)


def finished(frame: bytes, offload: Offload | None) -> bytes:
    """Do what the network card does about the checksum."""
    if offload is None or not offload[0] & NEEDS_CSUM:
        return frame
    start, at = offload[4:]
    value = checksum(frame[start:])
    return frame[: start + at] + struct.pack("!H", value) + frame[start + at + 2 :]


def pass_through(
    app: App[Any], frames: list[tuple[bytes, int, Offload | None]], settings: Settings | None = None
) -> tuple[list[tuple[bytes, int, Offload | None]], dict[str, int]]:
    """Have frames pass one by one, each from an interface; what leaves, and the counters."""
    wire = probe.OffloadWire()

    async def main() -> dict[str, int]:
        options = settings or Settings(on_error="raise")
        async with Runtime(transport=wire, settings=options) as runtime:
            await runtime.attach(app)
            for number, (frame, interface, offload) in enumerate(frames):
                wire.give(START_NS + number * 1_000_000, frame, interface, offload)
                wire.read_batch()
                runtime.engine.feed(wire)
                runtime.engine.flush(wire)
            while runtime.engine.finish():
                pass
            return runtime.statistics()

    counters = in_loop(main(), "asyncio")
    return wire.sent, counters


def opening(ends: tuple[str, str]) -> list[tuple[bytes, int, Offload | None]]:
    client, server = ends
    options = mss(1000)
    return [
        (tcp_frame(client, server, seq=100, options=options), 0, None),
        (tcp_frame(server, client, 80, 1234, 500, 101, "SA", options=options), 1, None),
        (tcp_frame(client, server, seq=101, ack=501, flags="A"), 0, None),
    ]


def big(
    ends: tuple[str, str], at: int = 0, size: int = 9000, flags: str = "PA"
) -> tuple[bytes, int, Offload | None]:
    frame = tcp_frame(*ends, seq=101 + at, ack=501, flags=flags, payload=numbered(size))
    return (*partial(frame, segment=1000)[:1], 0, partial(frame, segment=1000)[1])


def numbered(size: int) -> bytes:
    return b"".join(b"%d," % at for at in range(size))[:size]


def check(frame: bytes, offload: Offload | None) -> None:
    packet = read_packet(finished(frame, offload))
    assert packet is not None
    assert packet.sum() == 0


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("verify", ["ignore", "verify"])
def test_frames_pass_with_what_is_left_to_do(ends: tuple[str, str], verify: Any) -> None:
    frames = [*opening(ends), big(ends), (*partial(udp_frame(*ends, payload=b"x"))[:1], 0, None)]
    frames[-1] = (frames[-1][0], 0, partial(udp_frame(*ends, payload=b"x"))[1])
    app: App[None] = App("watch")
    app.on(PKT_IN)(lambda: None)
    sent, counters = pass_through(app, frames, Settings(on_error="raise", checksums=verify))
    assert sent == [(frame, 1 - interface, offload) for frame, interface, offload in frames]
    assert counters["malformed.checksum"] == 0


CHANGES: dict[str, Callable[[Packet, bool], object]] = {
    "addresses": lambda pkt, six: pkt.set(
        src="2001:db8::9" if six else "192.0.2.9", dst="2001:db8::8" if six else "192.0.2.8"
    ),
    "ports": lambda pkt, _: pkt.set(sport=1, dport=2),
    "ttl": lambda pkt, _: pkt.set(ttl=9, tos=4),
    "session": lambda pkt, six: (
        pkt.session(idle=9, src="2001:db8::9" if six else "192.0.2.9", sport=7) and None
    ),
}
TCP_CHANGES: dict[str, Callable[[Packet, bool], object]] = {
    "numbers": lambda pkt, _: pkt.set(seq=7, ack=8, window=9, urgent=1, flags=0x18),
}


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *itertools.product(CHANGES, ["big", "TCP", "TCP in a VLAN", "UDP"]),
        *itertools.product(TCP_CHANGES, ["big", "TCP", "TCP in a VLAN"]),
    ],
)
def test_what_is_set_is_in_the_checksum_that_the_card_takes(
    name: str, kind: str, ends: tuple[str, str]
) -> None:
    app: App[None] = App("sets")

    @app.on(PKT_IN, hook=Hook.RAW)
    def change(pkt: Packet) -> None:
        (CHANGES | TCP_CHANGES)[name](pkt, pkt.ip_version == 6)

    if kind == "big":
        frame, _, offload = big(ends)
    elif kind == "UDP":
        frame, offload = partial(udp_frame(*ends, payload=b"odd"))
    else:
        tagged = kind == "TCP in a VLAN"
        frame, offload = partial(
            tcp_frame(*ends, seq=1, flags="A", payload=b"odd", vlan=5 if tagged else None), vlan=tagged
        )
    sent, _ = pass_through(app, [(frame, 0, offload)])
    ((changed, interface, left),) = sent
    assert (interface, left) == (1, offload)
    assert changed != frame
    assert left is not None
    if kind == "TCP in a VLAN":
        changed, left = changed[:12] + changed[16:], (*left[:4], left[4] - 4, left[5])
    check(changed, left)


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_a_replaced_super_segment_leaves_in_segments_of_the_receivers_mss(ends: tuple[str, str]) -> None:
    app: App[None] = App("replaces")

    @app.on(PKT_IN, hook=Hook.SENDER)
    def change(pkt: Packet) -> None:
        if pkt.payload and pkt.seq == 101:
            pkt.replace(pkt.payload.replace(b",", b"; "))

    frames = [*opening(ends), big(ends), big(ends, 9000, flags="FPA")]
    sent, counters = pass_through(app, frames)
    cut, passed = sent[3:-1], sent[-1]
    wanted = numbered(9000).replace(b",", b"; ")
    assert len(cut) == -(-len(wanted) // 1000)
    got, at = b"", 101
    for frame, interface, offload in cut:
        assert (interface, offload) == (1, None)
        check(frame, None)
        segment = read_segment(read_packet(frame))  # type: ignore[arg-type]
        assert segment is not None
        assert segment.seq == at
        at += len(segment.payload)
        got += segment.payload
    assert got == wanted
    frame, _, offload = passed  # untouched but for its number
    assert offload == frames[-1][2]
    check(frame, offload)
    segment = read_segment(read_packet(finished(frame, offload)))  # type: ignore[arg-type]
    assert segment is not None
    assert (segment.seq, segment.flags) == (101 + len(wanted), "FPA")
    assert counters["in_line.altered"] == 1


@pytest.mark.parametrize("kind", ["big", "UDP"])
@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_answers_leave_nothing_to_do(kind: str, ends: tuple[str, str]) -> None:
    app: App[None] = App("rejects")
    app.on(PKT_IN, hook=Hook.RAW)(lambda pkt: pkt.reject())
    frame, offload = partial(udp_frame(*ends, payload=b"x" * 600)) if kind == "UDP" else big(ends)[::2]
    ((answer, interface, left),), _ = pass_through(app, [(frame, 0, offload)])
    assert (interface, left) == (0, None)
    packet = read_packet(answer)
    assert packet is not None
    if packet.proto == 1:
        assert checksum(packet.payload) == 0
    else:
        assert packet.sum() == 0


def test_a_datagram_that_is_replaced_has_its_checksum() -> None:
    app: App[None] = App("replaces")
    app.on(PKT_IN, hook=Hook.RAW)(lambda pkt: pkt.replace(b"another"))
    for ends in (FOUR, SIX):
        frame, offload = partial(udp_frame(*ends, payload=b"one"))
        ((changed, _, left),), _ = pass_through(app, [(frame, 0, offload)])
        assert left is None
        check(changed, None)


def test_helpers_finish_what_they_leave() -> None:
    for frame in (tcp_frame(payload=b"abc"), udp_frame(*SIX, payload=b"x")):
        assert finished(*partial(frame)) == frame
