"""Interfaces that go down, or away: what packet sockets and rtnetlink(7) tell of them.

A packet socket tells that its interface went down, and once only: not that it was removed after that. Netlink tells
that something changed, and asking each socket is cheaper than to find out what.
"""

import select
import socket
from contextlib import suppress

import attrs

from aiomos.logging import get_logger
from aiomos.transport.packet_sockets import name_of

RTMGRP_LINK = 1  # linux/rtnetlink.h


class LinkPoll:
    """An epoll over what frames are read from, that is readable, too, when interfaces have changed.

    It is an epoll because a socket in error, as one whose interface went down, would end its being waited for.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._netlink = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._netlink.bind((0, RTMGRP_LINK))
        self._epoll.register(self._netlink, select.EPOLLIN)
        self._registered: set[int] = set()

    def register(self, descriptor: int) -> None:
        """Wait for what comes by a descriptor, too."""
        self._epoll.register(descriptor, select.EPOLLIN)
        self._registered.add(descriptor)

    def fileno(self) -> int:
        """Return the descriptor of the epoll."""
        return self._epoll.fileno()

    def suspects(self) -> set[int]:
        """Return the descriptors whose interfaces may have gone down or away since this was asked last."""
        ready = dict(self._epoll.poll(0))
        if self._netlink.fileno() in ready:
            self._drain()
            return self._registered
        return {descriptor for descriptor, events in ready.items() if events & select.EPOLLERR}

    def _drain(self) -> None:
        # No more is an error, and so is that there were more than it could hold: the rest is read next time.
        with suppress(OSError):
            while True:
                self._netlink.recv(1)

    def close(self) -> None:
        """Wait no more; may be called again."""
        self._epoll.close()
        self._netlink.close()


@attrs.define
class Link:
    """An interface, as a packet socket that is bound to it knows it.

    Attributes:
        name: Name of the interface.
        outages: How often it went down.
        removed: Whether it was removed, as of the last look.
    """

    name: str
    _socket: socket.socket
    outages: int = 0
    removed: bool = False

    def look(self) -> None:
        """Clear the error of an interface that went down, find out whether it was removed, and log either."""
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.outages += 1
            log_change("interface_down", self.name)
        if not self.removed and name_of(self._socket) == "":
            self.removed = True
            log_change("interface_removed", self.name)


def log_change(event: str, interface: str) -> None:
    """Log that an interface went down, or away."""
    get_logger("aiomos.transport").warning(event, interface=interface)
