"""Room on the wire: the event loop is asked to say when there is some again, while there is none, and only then."""

import asyncio
from collections.abc import Callable

from aiomos.engine.engine import Engine
from aiomos.transport.transport import Transport

RETRY_SECONDS = 0.001
"""When frames are offered again where no descriptor tells of room: the kernel's queues behind a socket do not."""


class Room:
    """Who is called when frames that wait in the engine may leave.

    Args:
        engine: Where frames wait.
        transport: By which they are to leave.
        again: Called when there may be room: it is to flush the engine, and to `look` again.
    """

    def __init__(self, engine: Engine, transport: Transport, again: Callable[[], object]) -> None:
        self._engine = engine
        self._transport = transport
        self._again = again
        self._loop = asyncio.get_running_loop()
        self._descriptors: set[int] = set()
        self._timer: asyncio.Handle | None = None

    def flush(self) -> None:
        """Have the transport send what it has room for, and see that the rest is offered again."""
        if self._engine.flush(self._transport) or self._descriptors:
            self._look()

    def _look(self) -> None:
        """See that the loop calls when there is room for what waits."""
        wanted = set()
        for interface in self._engine.short:
            descriptor = self._transport.write_fileno(interface)
            if descriptor is not None:
                wanted.add(descriptor)
            elif self._timer is None:
                self._timer = self._loop.call_later(RETRY_SECONDS, self._retry)
        for descriptor in self._descriptors - wanted:
            self._loop.remove_writer(descriptor)
        for descriptor in wanted - self._descriptors:
            self._loop.add_writer(descriptor, self._again)
        self._descriptors = wanted

    def _retry(self) -> None:
        self._timer = None
        self._again()

    def close(self) -> None:
        """Wait no more."""
        for descriptor in self._descriptors:
            self._loop.remove_writer(descriptor)
        self._descriptors = set()
        if self._timer is not None:
            self._timer.cancel()
