"""Fields that apps set: the least and the greatest value of each leaves in its place, one beyond is refused."""

from typing import Any

import pytest

from aiomos import PKT_IN, App, Hook, Packet
from aiomos.testing.packets import PROTO_TCP, checksum, mss, pseudo_header, tcp_frame
from tests.line import cross

SYN = tcp_frame(flags="S", options=mss(1460))
MOST = {
    "ttl": 0xFF,
    "tos": 0xFF,
    "sport": 0xFFFF,
    "dport": 0xFFFF,
    "seq": 0xFFFFFFFF,
    "ack": 0xFFFFFFFF,
    "flags": 0x1FF,
    "window": 0xFFFF,
    "urgent": 0xFFFF,
    "mss": 0xFFFF,
}
# Where it is in the frame, behind 14 bytes of Ethernet and 20 of IPv4.
PLACES = {
    "tos": (15, 1),
    "ttl": (22, 1),
    "sport": (34, 2),
    "dport": (36, 2),
    "seq": (38, 4),
    "ack": (42, 4),
    "flags": (46, 2),
    "window": (48, 2),
    "urgent": (52, 2),
    "mss": (56, 2),
}


def left_with(**fields: Any) -> bytes | None:
    """Return the SYN as it left with these fields; None if they were refused, and it left as it was."""
    app: App[None] = App("setter")
    refused = []

    @app.on(PKT_IN, hook=Hook.SENDER)
    def change(pkt: Packet) -> None:
        try:
            pkt.set(**fields)
        except ValueError as error:
            refused.append(str(error))

    [frame] = cross([SYN], app).there
    assert checksum(frame[14:34]) == 0
    assert checksum(pseudo_header("10.0.0.1", "10.0.0.2", PROTO_TCP, len(frame) - 34) + frame[34:]) == 0
    if refused:
        assert frame == SYN
        return None
    return frame


@pytest.mark.parametrize("name", MOST)
def test_each_number_has_its_bounds(name: str) -> None:
    at, size = PLACES[name]
    for value in (0, 1, MOST[name] - 1, MOST[name]):
        frame = left_with(**{name: value})
        assert frame is not None
        there = int.from_bytes(frame[at : at + size], "big")
        assert (there & 0x1FF if name == "flags" else there) == value
    assert left_with(**{name: MOST[name] + 1}) is None
    assert left_with(**{name: -1}) is None


@pytest.mark.parametrize(("name", "at"), [("eth_dst", 0), ("eth_src", 6)])
def test_a_link_address_has_six_bytes(name: str, at: int) -> None:
    frame = left_with(**{name: "0a:0b:0c:0d:0e:0f"})
    assert frame is not None
    assert frame[at : at + 6] == bytes.fromhex("0a0b0c0d0e0f")
    assert left_with(**{name: "0a:0b:0c:0d:0e"}) is None
    assert left_with(**{name: "0a:0b:0c:0d:0e:0f:00"}) is None
    assert left_with(**{name: "0a:0b:0c:0d:0e:0g"}) is None
