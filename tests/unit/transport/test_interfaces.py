"""What the kernel tells of a live interface; of others nothing (tests/live looks at cards of a namespace)."""

from aiomos.transport.interfaces import Interface, live_interface


def test_loopback_has_an_index_and_an_mtu_but_no_mac_address() -> None:
    found = live_interface("lo", 1)
    assert (found.name, found.linktype, found.index, found.mac) == ("lo", 1, 1, "")
    assert found.mtu >= 1500
    assert "gso" in found.offloads


def test_of_an_interface_that_is_not_there_nothing_is_known() -> None:
    assert live_interface("nothere0", 101) == Interface("", "nothere0", 101, 0)
