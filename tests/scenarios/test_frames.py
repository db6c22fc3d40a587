"""FRAME: what there is of frames in which no packet can be read; and who runs an app, which every callback may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aiomos import CONN_SETUP, ERROR, FRAME, PKT_IN, App, Hook, Packet, Runtime, Settings
from aiomos.testing.packets import (
    ethernet,
    fragment_ipv4,
    ipv4,
    ipv6,
    ipv6_extension,
    tcp,
    tcp_frame,
    udp_frame,
)
from aiomos.testing.scenario import START, Conversation, Frame
from tests.events import look, play

ARP = ethernet(bytes(28), ethertype=0x0806)
VERIFIED = Settings(on_error="raise", checksums="verify")
NO_PACKETS = {
    "ARP": (ARP, 1, None),
    "LLDP in a VLAN": (ethernet(bytes(40), ethertype=0x88CC, vlan=5), 1, None),
    "unknown link": (bytes(40), 147, None),
    "nothing": (b"", 1, "link"),
    "cut tag": (ethernet(ipv4(b""), vlan=5)[:16], 1, "link"),
    "bad IP": (ethernet(ipv4(b"", total_length=9)), 1, "ip"),
    "cut IP": (tcp_frame()[:30], 1, "ip_cut"),
    "bad extension": (ethernet(ipv6(ipv6_extension(b"", proto=0), proto=0)), 1, "extension"),
    "bad TCP": (ethernet(ipv4(tcp()[:12] + b"\x10" + tcp()[13:])), 1, "tcp"),
    "cut TCP": (tcp_frame()[:40], 1, "tcp_cut"),
    "checksum": (tcp_frame(payload=b"x")[:-1] + b"y", 1, "checksum"),
}


def frame_of(data: bytes, linktype: int = 1, wirelen: int = 0) -> Frame:
    return (round(START * 1e9), data, linktype, max(wirelen, len(data)))


@pytest.mark.parametrize(("data", "linktype", "malformed"), NO_PACKETS.values(), ids=NO_PACKETS)
def test_a_frame_without_a_packet_is_told_of(data: bytes, linktype: int, malformed: str | None) -> None:
    frames = [frame_of(data, linktype, 60)]
    told: list[Any] = look(
        frames,
        FRAME,
        lambda m: (m.flow, m.half, m.side, m.time, m.pkt.frame, m.pkt.malformed, m.event.packet),
        hook=Hook.RAW,
        settings=VERIFIED,
    )
    assert told == [(None, None, "client", START, data, malformed, None)]
    assert not look(frames, PKT_IN, lambda m: m.side, hook=Hook.RAW, settings=VERIFIED)


@pytest.mark.parametrize(
    "data",
    [
        tcp_frame(),
        udp_frame(),
        ethernet(ipv4(b"", proto=99)),
        *map(ethernet, fragment_ipv4(ipv4(bytes(99)), 48)),
    ],
)
def test_packets_are_no_frames(data: bytes) -> None:
    frames = [frame_of(data)]
    assert not look(frames, FRAME, lambda m: m.side, hook=Hook.RAW)
    assert look(frames, PKT_IN, lambda m: m.side, hook=Hook.RAW) == ["client"]


@pytest.mark.parametrize(
    ("chosen", "count"),
    [("", 2), ("vlan", 1), ("vlan 5", 1), ("vlan 6", 0), ("not vlan", 1), ("not vlan 6", 2)],
)
def test_filters_pick_frames_by_their_vlan(chosen: str, count: int) -> None:
    frames = [frame_of(ARP), frame_of(ethernet(bytes(28), ethertype=0x0806, vlan=5))]
    assert len(look(frames, FRAME, lambda m: m, hook=Hook.RAW, filter=chosen)) == count


PREDICATES: dict[str, tuple[Callable[..., object], bool, int]] = {
    "by its VLAN": (lambda pkt: pkt.vlan == 5, True, 1),
    "known": (lambda pkt: not pkt.known, True, len(NO_PACKETS)),
    "a port that was read": (lambda pkt: pkt.dport == 80, True, 3),
    "a checksum of a segment": (lambda pkt: pkt.seq is not None and pkt.payload == b"y", True, 1),
    "by its type": (lambda pkt: pkt.ethertype == 0x0806, False, 1),
    "malformed": (lambda pkt: pkt.malformed is not None, False, 8),
}


@pytest.mark.parametrize(("predicate", "native", "count"), PREDICATES.values(), ids=PREDICATES)
def test_predicates_read_what_a_frame_has(predicate: Callable[..., object], native: bool, count: int) -> None:
    app: App[None] = App("frames")
    chosen = app.ude(FRAME)(predicate)
    frames = [frame_of(data, linktype, 60) for data, linktype, _ in NO_PACKETS.values()]
    assert chosen.native == native
    assert len(look(frames, chosen, lambda m: m, hook=Hook.RAW, settings=VERIFIED)) == count


def test_of_a_malformed_segment_the_frame_comes_before_the_error() -> None:
    talk = Conversation().handshake().client("PA", b"data", change=lambda frame: frame[:-1] + b"?")
    told: list[tuple[str, str]] = []
    app: App[None] = App("order")

    @app.on(FRAME, hook=Hook.RAW)
    def on_frame(pkt: Packet) -> None:
        told.append(("frame", str(pkt.malformed)))

    @app.on(ERROR)
    def on_error(pkt: Packet) -> None:
        told.append(("error", str(pkt.malformed)))

    play(talk.frames, app, settings=VERIFIED)
    assert told == [("frame", "checksum"), ("error", "checksum")]


# --- engine ---------------------------------------------------------------------------------------


def test_callbacks_and_functions_for_start_and_end_can_ask_for_the_engine() -> None:
    app: App[None] = App("asks")
    asked: list[object] = []

    @app.startup
    async def begin(engine: Runtime) -> None:
        asked.append(engine)

    @app.on(CONN_SETUP)
    def note(engine: Runtime) -> None:
        asked.extend((engine, app in engine.apps))

    @app.shutdown
    def end(engine: Runtime) -> None:
        asked.append(engine)

    play(Conversation().handshake().frames, app)
    runtime = asked[0]
    assert isinstance(runtime, Runtime)
    assert asked == [runtime, runtime, True, runtime]


def test_addresses_that_are_not_there_are_alike() -> None:
    """A predicate says of None what Python does, without Python."""
    app: App[None] = App("alike")
    told: list[tuple[str, bytes]] = []
    alike, unlike = (
        app.ude(FRAME)(lambda pkt: pkt.src == pkt.dst),
        app.ude(FRAME)(lambda pkt: pkt.src != pkt.dst),
    )
    assert alike.native
    assert unlike.native
    app.on(alike, hook=Hook.RAW)(lambda pkt: told.append(("alike", pkt.frame)))
    app.on(unlike, hook=Hook.RAW)(lambda pkt: told.append(("unlike", pkt.frame)))
    bad = tcp_frame(payload=b"x")[:-1] + b"y"
    play([frame_of(ARP), frame_of(bad)], app, settings=VERIFIED)
    assert told == [("alike", ARP), ("unlike", bad)]
