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

HOST_PORTS = 4096
"""Ports of each protocol for one host: a sixteenth of those of an address."""

HOST_SESSIONS = 16_384
"""Sessions for one host: a sixteenth of the engine's budget."""


class Endpoint(NamedTuple):
    """A protocol, an address and a port; of ICMP, the identifier in place of the port."""

    proto: str
    address: str
    port: int


class Exhausted(Exception):  # noqa: N818  what happened to the ports
    """All ports of the host's external address are in use."""


class HostLimit(Exception):  # noqa: N818  what happened to a host
    """A host inside has as much as it may have (RFC 6888 REQ-4).

    Args:
        what: Of what: ports, or sessions.
        limit: How many that are.
        is_first: Whether it had not come to a limit before, since it has anything.
    """

    def __init__(self, what: str, limit: int, *, is_first: bool) -> None:
        super().__init__(what, limit)
        self.what, self.limit, self.is_first = what, limit, is_first


@attrs.define
class Host:
    """What a host inside has.

    Attributes:
        address: The external address that it shares, while it has ports; else None.
        ports: How many ports of that, by protocol.
        sessions: How many sessions that it began.
        told: Whether it has come to a limit.
    """

    address: str | None = None
    ports: Counter[str] = attrs.field(factory=Counter)
    sessions: int = 0
    told: bool = False


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
        host_ports: Ports of each protocol that a host may have at once.
        host_sessions: Sessions that it may have begun and not ended.
    """

    def __init__(
        self,
        external: Sequence[str],
        ports: range,
        random: Random,
        *,
        permanent: Iterable[tuple[Endpoint, Endpoint]] = (),
        statics: Mapping[str, str] | None = None,
        host_ports: int = HOST_PORTS,
        host_sessions: int = HOST_SESSIONS,
    ) -> None:
        self._external = external
        self._ports = ports
        self._random = random
        self._by_inside: dict[Endpoint, Mapped] = {}
        self._by_external: dict[Endpoint, Mapped] = {}
        self._pools: dict[tuple[str, str], PortPool] = {}
        self._hosts: dict[str, Host] = {}  # those that have a port or a session
        self._host_ports = host_ports
        self._host_sessions = host_sessions
        self._sharing: Counter[str] = Counter(dict.fromkeys(external, 0))  # how many hosts share each address
        self._statics = dict(statics or {})
        self._hosts_of_statics = {external: inside for inside, external in self._statics.items()}
        for inside, outer in permanent:
            mapped = Mapped(inside, outer, permanent=True)
            self._by_external[outer] = mapped
            self._by_inside.setdefault(inside, mapped)

    def __len__(self) -> int:
        return len(self._by_external)

    def of(self, inside: Endpoint) -> Mapped:
        """Return the mapping of an inside endpoint that begins a session; it is made when first asked for.

        Raises:
            Exhausted: all ports are in use.
            HostLimit: the host has as many ports, or sessions, as it may have.
        """
        host = self._hosts.get(inside.address) or Host()
        if host.sessions >= self._host_sessions:
            raise self._limit(host, "sessions", self._host_sessions)
        return self._by_inside.get(inside) or self._make(inside, host)

    def at(self, external: Endpoint) -> Mapped | None:
        """Find the mapping of an external endpoint."""
        found = self._by_external.get(external)
        if found is None and (host := self._hosts_of_statics.get(external.address)) is not None:
            return Mapped(external._replace(address=host), external, permanent=True)
        return found

    def use(self, mapped: Mapped, peer: str, *, begun: bool = False) -> None:
        """Note that a session with a peer uses a mapping; *begun*, if the host inside has begun it."""
        mapped.peers[peer] += 1
        if begun:
            self._hosts.setdefault(mapped.inside.address, Host()).sessions += 1

    def release(self, mapped: Mapped, peer: str, *, begun: bool = False) -> None:
        """Note that a session has ended; with the last one its mapping ends."""
        mapped.peers[peer] -= 1
        if not mapped.peers[peer]:
            del mapped.peers[peer]
        if begun:
            self._hosts[mapped.inside.address].sessions -= 1
            self._tidy_host(mapped.inside.address)
        self.tidy(mapped)

    def tidy(self, mapped: Mapped) -> None:
        """End a mapping that no session uses, and take its port back."""
        if not mapped.peers and not mapped.permanent:
            self._forget(mapped)

    @staticmethod
    def _limit(host: Host, what: str, limit: int) -> HostLimit:
        is_first, host.told = not host.told, True
        return HostLimit(what, limit, is_first=is_first)

    def _make(self, inside: Endpoint, host: Host) -> Mapped:
        if (own := self._statics.get(inside.address)) is not None:
            return Mapped(inside, inside._replace(address=own), permanent=True)
        if host.ports[inside.proto] >= self._host_ports:
            raise self._limit(host, "ports", self._host_ports)
        address = host.address or self._least_shared()
        port = self._pool(inside.proto, address).take(inside.port)
        mapped = Mapped(inside, Endpoint(inside.proto, address, port))
        self._by_inside[inside] = self._by_external[mapped.external] = mapped
        self._sharing[address] += host.address is None
        host.address = address
        host.ports[inside.proto] += 1
        self._hosts[inside.address] = host
        return mapped

    def _forget(self, mapped: Mapped) -> None:
        del self._by_inside[mapped.inside], self._by_external[mapped.external]
        proto, address, port = mapped.external
        self._pool(proto, address).give_back(port)
        host = self._hosts[mapped.inside.address]
        host.ports[proto] -= 1
        if not host.ports.total():
            host.address = None
            self._sharing[address] -= 1
        self._tidy_host(mapped.inside.address)

    def _tidy_host(self, address: str) -> None:
        """Forget a host that has nothing."""
        host = self._hosts[address]
        if host.address is None and not host.sessions:
            del self._hosts[address]

    def _least_shared(self) -> str:
        """Choose the address for a host that has none; it keeps it while it has mappings (RFC 4787 REQ-2: paired)."""
        return min(self._external, key=self._sharing.__getitem__)

    def _pool(self, proto: str, address: str) -> PortPool:
        pool = self._pools.get((proto, address))
        if pool is None:
            taken = [endpoint.port for endpoint in self._by_external if endpoint[:2] == (proto, address)]
            pool = self._pools[proto, address] = PortPool(self._ports, taken, self._random)
        return pool
