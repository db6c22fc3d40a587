"""Wires of a command line, as far as they need no interface."""

import pytest

from aiomos import TransportError
from aiomos.transport.bridge import Bridge
from aiomos.transport.packet import PacketWatch
from aiomos.transport.packet_sockets import refuse_repeats
from aiomos.transport.wires import InLine, Watch, Wire

TWICE = "named twice, so that each frame would be seen twice"


@pytest.mark.parametrize("wire", [Watch(("m0", "m0")), Watch(("m0", "m1", "m0")), InLine("m0", "m0")])
def test_an_interface_named_twice_is_refused_by_one_process_and_by_several(wire: Wire) -> None:
    with pytest.raises(TransportError, match=f"^m0: {TWICE}"):
        wire.open()
    with pytest.raises(TransportError, match=f"^m0: {TWICE}"):
        wire.open_sockets(2)


def test_a_device_named_twice_is_refused_before_it_is_made() -> None:
    with pytest.raises(TransportError, match=f"^m0: {TWICE}"):
        InLine("tap:m0", "tap:m0").open()


def test_transports_of_a_programs_own_are_refused_as_well() -> None:
    with pytest.raises(TransportError, match=f"^lo: {TWICE}"):
        PacketWatch(["lo", "lo"])
    with pytest.raises(TransportError, match=f"^lo: {TWICE}"):
        Bridge("lo", "lo")


def test_another_name_of_an_interface_is_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.if_nametoindex", {"eth0": 2, "uplink": 2, "eth1": 3}.__getitem__)
    refuse_repeats(["eth0", "eth1"])
    with pytest.raises(TransportError, match=r"^uplink: the same interface as eth0"):
        refuse_repeats(["eth0", "eth1", "uplink"])
