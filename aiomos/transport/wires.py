"""The wires of a command line: what is to be opened for a live run, by one process or by several workers."""

import os
import socket
from collections.abc import Sequence
from typing import Protocol

import attrs

from aiomos.errors import TransportError
from aiomos.transport.bridge import Bridge, open_port
from aiomos.transport.fanout import fanout_program, fragments_only, without_fragments
from aiomos.transport.packet import PacketWatch
from aiomos.transport.packet_port import PacketPort, open_port_socket
from aiomos.transport.packet_sockets import Fanout, open_packet_socket, refuse_repeats
from aiomos.transport.ports import Port
from aiomos.transport.transport import Transport
from aiomos.transport.tuntap import Tap

__all__ = ["InLine", "TapDevice", "Watch", "Wire"]

FRAGMENT_SLOTS = 512
"""Fragments that may wait on an interface for each of several workers."""


class Wire(Protocol):
    """A wire that can be opened; it can be pickled.

    Workers share it out: the sockets belong to their supervisor, so that those of a worker that died collect frames
    for the one that follows it.
    """

    def open(self) -> Transport:
        """Open it for this process alone.

        Raises:
            TransportError: it cannot be opened; the message says why, and what to do.
        """

    def open_sockets(self, workers: int) -> Sequence[Sequence[socket.socket]]:
        """Open the sockets of each worker, in whose order they take their places on every interface.

        Raises:
            TransportError: they cannot be opened, or the wire cannot be shared.
        """

    def open_transport(self, sockets: Sequence[socket.socket]) -> Transport:
        """Make a worker's transport of its sockets."""


@attrs.frozen
class Watch:
    """Interfaces to be watched.

    Attributes:
        interfaces: Their names.
        busy_poll: Microseconds to poll the network card for when nothing waits; 0 for none.
    """

    interfaces: tuple[str, ...]
    busy_poll: int = 0

    def open(self) -> Transport:
        """Open it for this process alone."""
        return PacketWatch(self.interfaces, busy_poll=self.busy_poll)

    def open_sockets(self, workers: int) -> Sequence[Sequence[socket.socket]]:
        """Open the sockets of each worker; the kernel gives each its share of the flows."""
        refuse_repeats(self.interfaces)
        fanout = _fanout(defragment=True)
        return [
            [
                open_packet_socket(name, busy_poll=self.busy_poll, fanout=fanout.for_interface(place))
                for place, name in enumerate(self.interfaces)
            ]
            for _ in range(workers)
        ]

    def open_transport(self, sockets: Sequence[socket.socket]) -> Transport:
        """Make a worker's transport of its sockets."""
        return PacketWatch(self.interfaces, sockets=sockets)


@attrs.frozen
class InLine:
    """Two interfaces with this host between them.

    Attributes:
        first: Name of one; ``tap:NAME`` and ``tun:NAME`` are such devices.
        second: Name of the other.
        busy_poll: As of `Watch`.
    """

    first: str
    second: str
    busy_poll: int = 0

    def open(self) -> Transport:
        """Open it for this process alone."""
        refuse_repeats([name.rpartition(":")[2] for name in (self.first, self.second)])
        first = self._port(self.first)
        try:
            return Bridge(first, self._port(self.second))
        except BaseException:
            first.close()
            raise

    def _port(self, name: str) -> Port:
        return open_port(name) if ":" in name else PacketPort(name, busy_poll=self.busy_poll)

    def open_sockets(self, workers: int) -> Sequence[Sequence[socket.socket]]:
        """Open the sockets of each worker; both directions of a flow come to the same one."""
        # The kernel is not to put packets together: whole, they might not fit the other wire.
        fanout = _fanout(defragment=False)
        names = (self.first, self.second)
        refuse_repeats(names)
        share, fragments = without_fragments(), fragments_only()
        return [
            [
                open_port_socket(
                    name, busy_poll=self.busy_poll, fanout=fanout.for_interface(place), prefilter=share
                )
                for place, name in enumerate(names)
            ]
            + [open_port_socket(name, slots=FRAGMENT_SLOTS, prefilter=fragments) for name in names]
            for _ in range(workers)
        ]

    def open_transport(self, sockets: Sequence[socket.socket]) -> Transport:
        """Make a worker's transport of its sockets."""
        first, second, *fragments = sockets
        return Bridge(
            PacketPort(self.first, socket=first),
            PacketPort(self.second, socket=second),
            fragment_ports=[
                PacketPort(name, socket=sock, slots=FRAGMENT_SLOTS)
                for name, sock in zip((self.first, self.second), fragments, strict=True)
            ],
        )


@attrs.frozen
class TapDevice:
    """A TAP device, made if there is none: what the kernel sends into it is received.

    Attributes:
        name: Its name.
    """

    name: str

    def open(self) -> Transport:
        """Open it for this process alone."""
        return Tap(self.name)

    def open_sockets(self, workers: int) -> Sequence[Sequence[socket.socket]]:
        """Refuse: it has one queue."""
        raise TransportError(f"{self.name}: a TAP device has one queue, which {workers} workers cannot share")

    def open_transport(self, sockets: Sequence[socket.socket]) -> Transport:  # noqa: ARG002 - a Wire's
        """Refuse, as `open_sockets` does."""
        raise TransportError(f"{self.name}: a TAP device cannot be shared by workers")


def _fanout(*, defragment: bool) -> Fanout:
    """Make a group in which both ends of a flow meet; interfaces after the first have the groups after it."""
    group = int.from_bytes(os.urandom(2))
    return Fanout(group=group, program=fanout_program(), defragment=defragment)
