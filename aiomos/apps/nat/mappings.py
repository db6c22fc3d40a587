"""Which external endpoint stands for which inside one: RFC 4787, and for TCP and ICMP RFC 5382 and RFC 5508.

A mapping belongs to an inside endpoint, whomever that talks to (endpoint-independent, RFC 4787 REQ-1). It lives as long
as a session uses it, and then gives its port back.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

import attrs

WELL_KNOWN = range(1024)


class Endpoint(NamedTuple):
    """A protocol, an address and a port; of ICMP, the identifier in place of the port."""

    proto: str
    address: str
    port: int


class Exhausted(Exception):  # noqa: N818  what happened to the ports
    """All ports of the host's external address are in use."""


@attrs.define(eq=False)
class Mapped:
    """One mapping.

    Attributes:
        inside: The endpoint inside.
        external: What the world knows it as.
        permanent: Whether it was configured, and stays.
        peers: How many sessions there are with each address.
    """

    inside: Endpoint
    external: Endpoint
    permanent: bool = False
    peers: Counter[str] = attrs.field(factory=Counter)

    def lets_in(self, peer: str, filtering: str) -> bool:
        """Tell whether a peer without a session may reach the inside (RFC 4787 section 5)."""
        if self.permanent or filtering == "endpoint-independent":
            return True
        return filtering == "address-dependent" and peer in self.peers


class PortPool:
    """The ports of one external address and protocol that are free.

    Args:
        ports: All that may be given out.
        taken: Those that are configured for something else.
        random: Chooses where the port that was asked for is taken (RFC 7857 section 9: not in any order).
    """

    def __init__(self, ports: Iterable[int], taken: Iterable[int], random: Random) -> None:
        self._random = random
        self._free: dict[tuple[bool, bool], list[int]] = {
            (low, odd): [] for low in (False, True) for odd in (False, True)
        }
        self._place: dict[int, int] = {}
        for port in sorted(set(ports) - set(taken)):
            self.give_back(port)

    def __len__(self) -> int:
        return len(self._place)

    def take(self, wanted: int) -> int:
        """Take a port, best the one that is wanted, else one like it.

        Like it means on the same side of 1024 (RFC 4787 REQ-3 a) and as even or odd (REQ-4); if no such is free, on the
        same side, and then any.

        Raises:
            Exhausted: none is free.
        """
        if wanted in self._place:
            return self._remove(wanted)
        low, odd = _kind(wanted)
        for kind in ((low, odd), (low, not odd), (not low, odd), (not low, not odd)):
            if free := self._free[kind]:
                return self._remove(self._random.choice(free))
        raise Exhausted

    def give_back(self, port: int) -> None:
        """Take back a port that is used no more."""
        free = self._free[_kind(port)]
        self._place[port] = len(free)
        free.append(port)

    def _remove(self, port: int) -> int:
        """Remove a port from its list by putting the last one in its place."""
        free, place = self._free[_kind(port)], self._place.pop(port)
        last = free.pop()
        if last != port:
            free[place] = last
            self._place[last] = place
        return port


def _kind(port: int) -> tuple[bool, bool]:
    return port in WELL_KNOWN, port % 2 == 1


class Mappings:
    """All mappings, found from either side.

    Args:
        external: The external addresses that hosts share.
        ports: Ports of each that may be given out.
        random: Chooses ports.
        permanent: Mappings that were configured.
        statics: External addresses that hosts have to themselves, by the hosts' own addresses.
    """

    def __init__(
        self,
        external: Sequence[str],
        ports: range,
        random: Random,
        *,
        permanent: Iterable[tuple[Endpoint, Endpoint]] = (),
        statics: Mapping[str, str] | None = None,
    ) -> None:
        self._external = external
        self._ports = ports
        self._random = random
        self._by_inside: dict[Endpoint, Mapped] = {}
        self._by_external: dict[Endpoint, Mapped] = {}
        self._pools: dict[tuple[str, str], PortPool] = {}
        self._pairs: dict[str, tuple[str, int]] = {}  # of each host, its address and how many mappings
        self._hosts: Counter[str] = Counter(dict.fromkeys(external, 0))  # how many hosts share each
        self._statics = dict(statics or {})
        self._hosts_of_statics = {external: inside for inside, external in self._statics.items()}
        for inside, outer in permanent:
            mapped = Mapped(inside, outer, permanent=True)
            self._by_external[outer] = mapped
            self._by_inside.setdefault(inside, mapped)

    def __len__(self) -> int:
        return len(self._by_external)

    def of(self, inside: Endpoint) -> Mapped:
        """Return the mapping of an inside endpoint, which is made when first asked for.

        Raises:
            Exhausted: all ports are in use.
        """
        return self._by_inside.get(inside) or self._make(inside)

    def at(self, external: Endpoint) -> Mapped | None:
        """Find the mapping of an external endpoint."""
        found = self._by_external.get(external)
        if found is None and (host := self._hosts_of_statics.get(external.address)) is not None:
            return Mapped(external._replace(address=host), external, permanent=True)
        return found

    def use(self, mapped: Mapped, peer: str) -> None:
        """Note that a session with a peer uses a mapping."""
        mapped.peers[peer] += 1

    def release(self, mapped: Mapped, peer: str) -> None:
        """Note that a session has ended; with the last one its mapping ends."""
        mapped.peers[peer] -= 1
        if not mapped.peers[peer]:
            del mapped.peers[peer]
        self.tidy(mapped)

    def tidy(self, mapped: Mapped) -> None:
        """End a mapping that no session uses, and take its port back."""
        if not mapped.peers and not mapped.permanent:
            self._forget(mapped)

    def _make(self, inside: Endpoint) -> Mapped:
        if (own := self._statics.get(inside.address)) is not None:
            return Mapped(inside, inside._replace(address=own), permanent=True)
        address, count = self._pairs.get(inside.address) or (self._least_shared(), 0)
        port = self._pool(inside.proto, address).take(inside.port)
        mapped = Mapped(inside, Endpoint(inside.proto, address, port))
        self._by_inside[inside] = self._by_external[mapped.external] = mapped
        self._pairs[inside.address] = address, count + 1
        self._hosts[address] += not count
        return mapped

    def _forget(self, mapped: Mapped) -> None:
        del self._by_inside[mapped.inside], self._by_external[mapped.external]
        proto, address, port = mapped.external
        self._pool(proto, address).give_back(port)
        _, count = self._pairs.pop(mapped.inside.address)
        if count > 1:
            self._pairs[mapped.inside.address] = address, count - 1
        self._hosts[address] -= count == 1

    def _least_shared(self) -> str:
        """Choose the address for a host that has none; it keeps it while it has mappings (RFC 4787 REQ-2: paired)."""
        return min(self._external, key=self._hosts.__getitem__)

    def _pool(self, proto: str, address: str) -> PortPool:
        pool = self._pools.get((proto, address))
        if pool is None:
            taken = [endpoint.port for endpoint in self._by_external if endpoint[:2] == (proto, address)]
            pool = self._pools[proto, address] = PortPool(self._ports, taken, self._random)
        return pool
