"""Neighbours as apps have them: where hosts of our links are, and addresses that are answered for."""

from collections.abc import Sequence

from aiomos.engine.engine import Engine
from aiomos.errors import NotInLineError
from aiomos.host.host import Host


class Neighbours:
    """MAC addresses of the hosts on our links, by ARP and neighbour discovery, and addresses of ours.

    Entries age as RFC 4861 section 7.3 has it: a host that has answered is believed for about 30 seconds, and asked
    again when it is used after that.

    Args:
        engine: Has the table.
        interfaces: Names of its interfaces.
    """

    def __init__(self, engine: Engine, interfaces: Sequence[str]) -> None:
        self._engine = engine
        self._interfaces = list(interfaces)

    @property
    def _host(self) -> Host:
        host = self._engine.host
        if host is None:
            raise NotInLineError("there is no link that we could be on: frames come from a capture")
        return host

    def answer_for(self, address: str, interface: str, mac: str) -> None:
        """Answer whoever asks by an interface where an address is, until `forget`.

        Args:
            address: IPv4 or IPv6.
            interface: Name of the interface.
            mac: MAC address to answer with.

        Raises:
            NotInLineError: frames come from a capture.
            ValueError: it is no address, or there are 65,536.
        """
        self._host.add_address(self._interfaces.index(interface), address, mac)

    def forget(self, address: str, interface: str) -> None:
        """Answer for an address no longer."""
        self._host.remove_address(self._interfaces.index(interface), address)

    def announce(self, address: str, interface: str) -> None:
        """Tell all neighbours where an address is that is answered for (RFC 5227 section 3, RFC 4861 section 7.2.6).

        Raises:
            ValueError: it is not answered for.
        """
        self._engine.announce(self._interfaces.index(interface), address)

    def hear_all(self) -> None:
        """Remember also who asks others where they are; on a bridge, that tells much for nothing."""
        self._host.hear_all(True)

    def find(self, address: str, interface: str, *, own: str | None = None) -> str | None:
        """Tell the MAC address of a neighbour; None until it has answered, which it is asked to.

        Args:
            address: Its address.
            interface: Name of the interface behind which it is.
            own: The address that asks; by default none does (RFC 5227 section 1.1).

        Raises:
            NotInLineError: frames come from a capture.
        """
        if self._engine.host is None:
            raise NotInLineError("there is no link that we could be on: frames come from a capture")
        return self._engine.find_neighbour(self._interfaces.index(interface), address, own)

    def state(self, address: str, interface: str) -> tuple[str, str | None] | None:
        """Tell what is known of a neighbour, without asking it.

        Returns:
            ``incomplete``, ``reachable``, ``stale``, ``delay``, ``probe`` or ``failed``, and its MAC address, None
            where that is not known; None if nothing is known of it.
        """
        return self._host.neighbour(self._interfaces.index(interface), address)

    def statistics(self) -> dict[str, int]:
        """Return counters by name."""
        return self._host.statistics()
