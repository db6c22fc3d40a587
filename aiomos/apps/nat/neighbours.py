"""Address resolution on both sides of a NAT (RFC 826): answering for its own addresses, asking for those of hosts."""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from ipaddress import IPv4Address

import dpkt  # type: ignore[import-untyped]

ETHERTYPE_ARP = 0x0806
BROADCAST = b"\xff" * 6
NOBODY = bytes(4)
"""Sender of a question that nobody is to learn from (RFC 5227 section 1.1: ARP probe)."""

ASK_AGAIN_SECONDS = 1.0

MOST_NEIGHBOURS = 65_536
"""That are remembered: whoever sends ARP chooses what it says."""

Send = Callable[[bytes, str], None]
"""Sends a frame by the interface of a name."""


def mac_of(address: str) -> str:
    """Make up a MAC address for an external address: always the same, locally administered, of one host."""
    return bytes([0x02, *sha256(IPv4Address(address).packed).digest()[:5]]).hex(":")


class Neighbours:
    """MAC addresses of hosts as they tell them, and of addresses that are answered for.

    Args:
        send: Sends a frame.
        own: MAC addresses of the addresses that are answered for, by the interfaces by which they are asked for.
    """

    def __init__(self, send: Send, own: Mapping[str, Mapping[str, str]]) -> None:
        self._send = send
        self._own = own
        self._known: dict[tuple[str, str], str] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def learn(self, interface: str, address: str, mac: str) -> None:
        """Note where an address is; who was not heard of for longest makes room, and is asked again if needed."""
        self._known.pop((interface, address), None)
        if len(self._known) >= MOST_NEIGHBOURS:
            del self._known[next(iter(self._known))]
        self._known[interface, address] = mac

    def find(self, interface: str, address: str, time: float, *, own: str | None = None) -> str | None:
        """Tell the MAC address of a neighbour; None until it has answered, which it is asked to.

        Args:
            interface: Where it is.
            address: Its address.
            time: Now, in seconds.
            own: The address that asks; by default none.
        """
        known = self._known.get((interface, address))
        if (
            known is None
            and time - self._asked.get((interface, address), -ASK_AGAIN_SECONDS) >= ASK_AGAIN_SECONDS
        ):
            if len(self._asked) >= MOST_NEIGHBOURS:
                self._asked.clear()
            self._asked[interface, address] = time
            self.ask(interface, address, own=own)
        return known

    def ask(self, interface: str, address: str, *, own: str | None = None) -> None:
        """Ask who has an address."""
        addresses = self._own.get(interface, {})
        mac = addresses[own] if own is not None else next(iter(addresses.values()))
        question = dpkt.arp.ARP(
            op=dpkt.arp.ARP_OP_REQUEST,
            sha=_octets(mac),
            spa=NOBODY if own is None else IPv4Address(own).packed,
            tpa=IPv4Address(address).packed,
        )
        self._send(_frame(question, _octets(mac), BROADCAST), interface)

    def announce(self, addresses: Iterable[str], interface: str) -> None:
        """Tell everybody where addresses are that are answered for (RFC 5227 section 3: gratuitous ARP)."""
        for address in addresses:
            mac = _octets(self._own[interface][address])
            packed = IPv4Address(address).packed
            announcement = dpkt.arp.ARP(op=dpkt.arp.ARP_OP_REQUEST, sha=mac, spa=packed, tpa=packed)
            self._send(_frame(announcement, mac, BROADCAST), interface)

    def hear(self, frame: bytes, interface: str) -> bool:
        """Take in an ARP message, and answer it if it asks for an address that is answered for.

        Returns:
            Whether it was meant for us, and is not to go on.
        """
        try:
            message = dpkt.ethernet.Ethernet(frame).arp
        except (dpkt.UnpackError, AttributeError):
            return False
        own = self._own.get(interface, {})
        if message.spa != NOBODY and _text(message.spa) not in own:
            self.learn(interface, _text(message.spa), message.sha.hex(":"))
        mac = own.get(_text(message.tpa))
        if mac is None:
            return message.tha.hex(":") in own.values()  # an answer to one of our questions
        if message.op == dpkt.arp.ARP_OP_REQUEST and message.spa != message.tpa:
            answer = dpkt.arp.ARP(
                op=dpkt.arp.ARP_OP_REPLY,
                sha=_octets(mac),
                spa=message.tpa,
                tha=message.sha,
                tpa=message.spa,
            )
            self._send(_frame(answer, _octets(mac), message.sha), interface)
        return True


def _frame(message: "dpkt.arp.ARP", source: bytes, target: bytes) -> bytes:
    return bytes(dpkt.ethernet.Ethernet(src=source, dst=target, type=ETHERTYPE_ARP, data=message))


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _text(packed: bytes) -> str:
    return str(IPv4Address(packed))
