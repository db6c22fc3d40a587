"""In line, frames are whole; one that is not passes untouched, whatever an app would do with its headers."""

from typing import NoReturn

import pytest

from aiomos import PKT_IN, Hook, Level, Packet, Settings
from aiomos.engine.engine import Engine
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import tcp_frame, timestamps, udp_frame
from aiomos.ude.filters import Filter
from tests.fuzz.in_line import Wire

WHOLE_TCP = tcp_frame(flags="PA", options=timestamps(1, 2), payload=b"data")
WHOLE_UDP = udp_frame(payload=b"query")


def fail(_callback: object, _flow: object, error: Exception) -> NoReturn:
    raise error


def pass_cut(frame: bytes, wirelen: int) -> tuple[list[bytes], list[bytes], dict[str, int]]:
    """Pass a frame in line to an app that edits what it is shown; what it was shown, what left, the counters."""
    engine, wire = Engine(Settings(on_error="raise"), bytes(16), fail), Wire((1,))
    engine.open(wire.forwards, [interface.name for interface in wire.interfaces])
    shown: list[bytes] = []

    def edit(pkt: Packet) -> None:
        shown.append(pkt.raw)
        pkt.set(ttl=3, dport=99)

    rule = engine.add_rule(Filter("").program, Level.STATE, unbound=True, midstream=True)
    engine.add_call(rule, PKT_IN, Hook.RAW, edit, ("pkt",))
    data = bytes(bytearray(frame))  # edits are made in place, and what is sent is read from here
    feed_frames(engine, [(1, data, 1, wirelen)])
    engine.flush(wire)
    return shown, wire.all_sent, engine.statistics()


@pytest.mark.parametrize("captured", range(48, 66))
def test_a_cut_tcp_header_is_not_edited(captured: int) -> None:
    frame = WHOLE_TCP[:captured]
    shown, left, counters = pass_cut(frame, len(WHOLE_TCP))
    assert (shown, left, counters["malformed.tcp_cut"], counters["tcp"]) == ([], [frame], 1, 0)


@pytest.mark.parametrize("captured", range(38, 42))
def test_a_cut_udp_header_is_not_edited(captured: int) -> None:
    frame = WHOLE_UDP[:captured]
    shown, left, counters = pass_cut(frame, len(WHOLE_UDP))
    assert (shown, left, counters["malformed.tcp_cut"], counters["udp"]) == ([], [frame], 1, 0)


@pytest.mark.parametrize("frame", [WHOLE_TCP, WHOLE_UDP], ids=["TCP", "UDP"])
def test_whole_headers_are(frame: bytes) -> None:
    shown, left, _ = pass_cut(frame, len(frame))
    assert shown == [frame[14:]]
    assert left[0][36:38] == (99).to_bytes(2)
