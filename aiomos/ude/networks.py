"""Sets of addresses to look an address up in."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Network"]

Address = IPv4Address | IPv6Address


class Network:
    """Networks, for predicates that ask whether an address is in one of them: ``pkt.src in Network("10.0.0.0/8")``.

    Args:
        networks: ``10.0.0.0/8``, ``2001:db8::/32``, a single address, or what `ipaddress` makes of these.

    Raises:
        ValueError: One is no network, or has bits set behind its prefix.
    """

    __slots__ = ("_ranges", "networks")

    def __init__(self, *networks: str | Address | IPv4Network | IPv6Network) -> None:
        self.networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(network) for network in networks
        )
        self._ranges = tuple(
            (net.version, int(net.network_address), int(net.broadcast_address)) for net in self.networks
        )

    def __contains__(self, address: str | Address | None) -> bool:
        """Tell whether *address* is in one of the networks; None and what is no address is in none."""
        number = _number(address)
        return number is not None and any(
            version == number[0] and low <= number[1] <= high for version, low, high in self._ranges
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and other.networks == self.networks

    def __hash__(self) -> int:
        return hash(self.networks)

    def __repr__(self) -> str:
        return f"Network({', '.join(repr(str(network)) for network in self.networks)})"


@lru_cache(maxsize=65536)
def _number(address: str | Address | None) -> tuple[int, int] | None:
    """Give version and number of an address."""
    try:
        found = ip_address(address) if isinstance(address, str | IPv4Address | IPv6Address) else None
    except ValueError:
        return None
    return None if found is None else (found.version, int(found))
