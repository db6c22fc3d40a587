"""ARP of the NAT: what it answers, what it asks, what it learns."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import dpkt  # type: ignore[import-untyped]
import pytest

from aiomos.apps.nat import neighbours as neighbours_module
from aiomos.apps.nat.neighbours import Neighbours, mac_of

EXTERNAL, GATEWAY, HOST, ROUTER = "192.0.2.10", "10.0.0.1", "10.0.0.5", "192.0.2.1"
HOST_MAC = "02:00:00:00:00:05"
OWN = {
    "outside": {EXTERNAL: mac_of(EXTERNAL)},
    "inside": {GATEWAY: mac_of(GATEWAY), EXTERNAL: mac_of(EXTERNAL)},
}


class Wire:
    """Where frames go."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def __call__(self, frame: bytes, interface: str) -> None:
        self.sent.append((interface, dpkt.ethernet.Ethernet(frame)))

    def take(self) -> tuple[str, Any]:
        (sent,) = self.sent
        self.sent.clear()
        return sent


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def neighbours(wire: Wire) -> Neighbours:
    return Neighbours(wire, OWN)


def arp(op: int, sender: str, target: str, *, mac: str = HOST_MAC, target_mac: str | None = None) -> bytes:
    octets = bytes.fromhex(mac.replace(":", ""))
    to = bytes(6) if target_mac is None else bytes.fromhex(target_mac.replace(":", ""))
    message = dpkt.arp.ARP(
        op=op, sha=octets, spa=IPv4Address(sender).packed, tha=to, tpa=IPv4Address(target).packed
    )
    return bytes(dpkt.ethernet.Ethernet(src=octets, dst=b"\xff" * 6, type=0x0806, data=message))


@pytest.mark.parametrize("interface", ["inside", "outside"])
def test_external_address_is_answered_for_on_both_sides(
    neighbours: Neighbours, wire: Wire, interface: str
) -> None:
    assert neighbours.hear(arp(1, ROUTER, EXTERNAL), interface)
    where, frame = wire.take()
    assert where == interface
    assert frame.dst.hex(":") == HOST_MAC
    assert frame.arp.op == 2
    assert frame.arp.sha.hex(":") == frame.src.hex(":") == mac_of(EXTERNAL)
    assert (frame.arp.spa, frame.arp.tpa) == (IPv4Address(EXTERNAL).packed, IPv4Address(ROUTER).packed)
    assert frame.arp.tha.hex(":") == HOST_MAC


def test_others_are_not_answered_for_and_pass(neighbours: Neighbours, wire: Wire) -> None:
    assert not neighbours.hear(arp(1, ROUTER, "192.0.2.99"), "outside")
    assert not neighbours.hear(arp(1, HOST, GATEWAY), "outside")  # that is an address inside
    assert not wire.sent


def test_hosts_are_learnt_from_what_they_say(neighbours: Neighbours, wire: Wire) -> None:
    neighbours.hear(arp(1, HOST, "10.0.0.99"), "inside")
    assert neighbours.find("inside", HOST, 0.0) == HOST_MAC
    assert not wire.sent


def test_unknown_hosts_are_asked_once_a_second(neighbours: Neighbours, wire: Wire) -> None:
    for time in (100.0, 100.5, 100.9):
        assert neighbours.find("inside", HOST, time) is None
    where, frame = wire.take()
    assert where == "inside"
    assert frame.dst == b"\xff" * 6
    assert (frame.arp.op, frame.arp.spa, frame.arp.tpa) == (1, bytes(4), IPv4Address(HOST).packed)
    assert neighbours.find("inside", HOST, 101.0) is None
    wire.take()
    answer = arp(2, HOST, "0.0.0.0", target_mac=frame.arp.sha.hex(":"))
    assert neighbours.hear(answer, "inside")
    assert neighbours.find("inside", HOST, 102.0) == HOST_MAC


def test_router_is_asked_in_the_name_of_the_external_address(neighbours: Neighbours, wire: Wire) -> None:
    assert neighbours.find("outside", ROUTER, 0.0, own=EXTERNAL) is None
    _, frame = wire.take()
    assert (frame.arp.spa, frame.arp.sha.hex(":")) == (IPv4Address(EXTERNAL).packed, mac_of(EXTERNAL))


def test_addresses_are_announced(neighbours: Neighbours, wire: Wire) -> None:
    neighbours.announce([EXTERNAL], "outside")
    _, frame = wire.take()
    assert frame.arp.spa == frame.arp.tpa == IPv4Address(EXTERNAL).packed


def test_whoever_claims_our_address_is_not_believed(neighbours: Neighbours) -> None:
    assert neighbours.hear(arp(1, EXTERNAL, EXTERNAL), "outside")
    assert neighbours.find("outside", EXTERNAL, 0.0) is None


@pytest.mark.parametrize("size", range(42))
def test_frames_that_are_cut_short_pass(neighbours: Neighbours, size: int) -> None:
    assert not neighbours.hear(arp(1, ROUTER, EXTERNAL)[:size], "outside")


def test_made_up_addresses_are_of_one_host_and_local() -> None:
    macs = {mac_of(f"192.0.2.{number}") for number in range(256)}
    assert len(macs) == 256
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)


def test_neighbours_are_bounded(neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends ARP chooses what it says; who was heard of lately stays."""
    monkeypatch.setattr(neighbours_module, "MOST_NEIGHBOURS", 3)
    for number in (1, 2, 3, 1, 4, 5):
        neighbours.learn("inside", f"10.0.0.{number}", HOST_MAC)
    assert [number for number in range(1, 6) if ("inside", f"10.0.0.{number}") in neighbours._known] == [
        1,
        4,
        5,
    ]
    for number in range(10, 20):
        neighbours.find("inside", f"10.0.0.{number}", 0.0, own=GATEWAY)
    assert len(neighbours._asked) <= 3
