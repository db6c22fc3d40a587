"""A wire through a bridge with no engine: what comes in is sent on."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from aiomos.transport.bridge import Bridge
from tests.live.network import Host
from tests.live.programs import in_background


class Wire:
    """Carry what comes to a bridge, in a thread, until the network ends.

    Args:
        host: The host that the bridge is opened in.
        open_bridge: Opens it.
    """

    def __init__(self, host: Host, open_bridge: Callable[[], Bridge]) -> None:
        with host.inside():
            self.bridge = open_bridge()
        self.error: OSError | None = None
        self._stopping, self._stopped = socket.socketpair()
        self._thread = in_background(self._carry)
        host.on_close(self.stop)

    def _carry(self) -> None:
        with select.epoll() as poll:
            for descriptor in (self.bridge.fileno(), self._stopped.fileno()):
                poll.register(descriptor, select.EPOLLIN)
            while self._stopped.fileno() not in dict(poll.poll()):
                try:
                    while self.bridge.read_batch():
                        self.bridge.forward_batch()
                except OSError as error:
                    self.error = error
                    return

    def stop(self) -> dict[str, int]:
        """Carry nothing more, and return what was counted."""
        self._stopping.close()
        self._thread.join()
        self._stopped.close()
        self.bridge.close()
        return self.bridge.statistics()
