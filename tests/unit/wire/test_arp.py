"""ARP messages, read and written."""

from ipaddress import IPv4Address

import dpkt
import pytest

from aiomos.testing.packets import ethernet, mac_bytes, vlan

probe = pytest.importorskip("tests.native._probe_messages", reason="needs the native test probes")

OURS, THEIRS, NOBODY = "02:00:00:00:00:01", "02:00:00:00:00:02", "00:00:00:00:00:00"
BROADCAST = b"\xff" * 6
A, B = "192.0.2.1", "192.0.2.255"


def arp(op: int = 1, *, padding: bytes = b"", **fields: object) -> bytes:
    """A frame by dpkt: B, who is THEIRS, asks for A."""
    message = dpkt.arp.ARP(
        op=op, sha=mac_bytes(THEIRS), spa=IPv4Address(B).packed, tha=bytes(6), tpa=IPv4Address(A).packed
    )
    for name, value in fields.items():
        setattr(message, name, value)
    return ethernet(bytes(message) + padding, src=THEIRS, dst="ff:ff:ff:ff:ff:ff", ethertype=0x0806)


@pytest.mark.parametrize("op", [1, 2])
@pytest.mark.parametrize("padding", [b"", bytes(18)])
def test_messages_are_read(op: int, padding: bytes) -> None:
    assert probe.read_arp(arp(op, padding=padding)) == (op, THEIRS, B, NOBODY, A)


def test_hardware_type_of_ieee_802_is_read_too() -> None:
    assert probe.read_arp(arp(hrd=6)) == (1, THEIRS, B, NOBODY, A)


@pytest.mark.parametrize(
    "fields", [{"hrd": 2}, {"pro": 0x86DD}, {"hln": 8}, {"pln": 16}, {"op": 0}, {"op": 3}, {"op": 8}]
)
def test_what_is_of_other_kinds_is_not_read(fields: dict[str, int]) -> None:
    assert probe.read_arp(arp(**fields)) is None


def test_other_frames_and_tagged_ones_are_not_read() -> None:
    assert probe.read_arp(ethernet(arp()[14:], ethertype=0x0800)) is None
    assert probe.read_arp(vlan(arp(), 5)) is None


def test_a_message_cut_anywhere_is_not_read() -> None:
    whole = arp()
    assert len(whole) == 42
    assert [size for size in range(43) if probe.read_arp(whole[:size]) is not None] == [42]


def test_messages_are_written_as_dpkt_writes_them() -> None:
    written = probe.write_arp(1, mac_bytes(THEIRS), B, bytes(6), A, BROADCAST)
    assert written == arp()
    answer = probe.write_arp(2, mac_bytes(OURS), A, mac_bytes(THEIRS), B, mac_bytes(THEIRS))
    frame = dpkt.ethernet.Ethernet(answer)
    assert (frame.src, frame.dst, frame.type) == (mac_bytes(OURS), mac_bytes(THEIRS), 0x0806)
    assert (frame.arp.op, frame.arp.spa, frame.arp.tpa) == (2, IPv4Address(A).packed, IPv4Address(B).packed)
    assert (frame.arp.sha, frame.arp.tha) == (mac_bytes(OURS), mac_bytes(THEIRS))


def test_nothing_is_written_without_room() -> None:
    assert probe.write_arp(1, mac_bytes(THEIRS), B, bytes(6), A, BROADCAST, room=41) == b""
