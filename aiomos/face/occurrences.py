"""Events of one connection as an async iterator."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

from aiomos.ude.events import Event, Occurrence

if TYPE_CHECKING:
    from aiomos.face.streams import ConnectionCallback, MonitorConnection
    from aiomos.ude.user import UserEvent

LIMIT = 1024
"""Occurrences that nobody has taken, at which the handler is slow."""

HARD = 16
"""Limits that may pile up while the handler itself waits for the engine elsewhere; what is more is missed."""


class Occurrences:
    """What has happened on a connection, in order; made by `MonitorConnection.events`.

    The iteration ends with the flow. A handler that is slow to take them holds the reader of frames back, as one
    that is slow to read bytes does.

    Attributes:
        missed: Occurrences that were not kept, since the handler did not take them, and the engine could not wait
            for it: live, or while the handler itself waits for something else of the engine.
    """

    def __init__(self, connection: "MonitorConnection", events: "tuple[Event | UserEvent, ...]") -> None:
        self.missed: int = 0
        self._connection = connection
        self._queue: deque[Occurrence] = deque()
        self._future: asyncio.Future[None] | None = None
        self._registrations: list[ConnectionCallback] = []
        self._ended = connection.reason is not None or connection.left or not events
        if not self._ended:
            for event in events:
                self._registrations.append(connection.listen(event, self._note, ("occurrence",)))

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Occurrence:
        """Wait for the next occurrence."""
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._future = asyncio.get_running_loop().create_future()
            self._connection.pressure.check()
            try:
                await self._future
            finally:
                self._future = None
        occurrence = self._queue.popleft()
        if len(self._queue) == LIMIT // 2:
            self._connection.pressure.let_go(self)
        return occurrence

    def close(self) -> None:
        """Take note of no more; what was noted can still be taken."""
        for registration in self._registrations:
            registration.cancel()
        self.end()

    def needs_engine(self) -> bool:
        """Whether the handler waits for something that only the engine can bring."""
        return self._future is not None or self._connection.needs_engine()

    def _note(self, occurrence: Occurrence) -> None:
        if len(self._queue) >= HARD * LIMIT and not self._is_waited_for():
            self.missed += 1
            return
        self._queue.append(occurrence)
        if len(self._queue) == LIMIT:
            self._connection.pressure.hold(self)
        self._wake()

    def _is_waited_for(self) -> bool:
        pressure = self._connection.pressure
        return pressure.waits and not self.needs_engine() and pressure.holds_back()

    def end(self) -> None:
        """The connection is over; called by it."""
        self._ended = True
        self._connection.pressure.let_go(self)
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
