"""Networks tell which addresses are in them, and nothing else is."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from aiomos.ude.networks import Network

NETWORK = Network("10.0.0.0/8", "192.0.2.7", ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    "address", ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::1", IPv4Address("10.1.1.1")]
)
def test_is_in(address: str | IPv4Address) -> None:
    assert address in NETWORK


@pytest.mark.parametrize(
    "address", ["11.0.0.0", "::ffff:10.0.0.1", "::1", IPv6Address("fe80::1"), None, "x", "10.0.0.01"]
)
def test_is_not_in(address: str | IPv6Address | None) -> None:
    assert address not in NETWORK


def test_what_is_no_address_is_in_none() -> None:
    assert 167772161 not in NETWORK  # type: ignore[operator]


def test_refuses_bits_behind_the_prefix() -> None:
    with pytest.raises(ValueError, match="host bits"):
        Network("10.0.0.1/8")


def test_equal_networks_are_equal() -> None:
    assert Network("10.0.0.0/8") == Network("10.0.0.0/8") != Network("10.0.0.0/9")
    assert len({Network("10.0.0.0/8"), Network("10.0.0.0/8")}) == 1
    assert repr(Network("10.0.0.0/8")) == "Network('10.0.0.0/8')"
