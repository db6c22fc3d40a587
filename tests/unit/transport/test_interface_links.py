"""Which sockets may have lost their interface: those in error, and all once an interface has changed (tests/live)."""

from __future__ import annotations

import socket

from aiomos.transport.links import LinkPoll


def test_while_nothing_changes_none_is_suspect() -> None:
    poll = LinkPoll()
    first, other = socket.socketpair()
    poll.register(first.fileno())
    assert poll.suspects() == set()
    other.send(b"a frame")
    assert poll.suspects() == set()
    for _ in range(2):
        poll.close()
    first.close()
    other.close()
