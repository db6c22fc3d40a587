"""Connections as an async iterator, for apps without decorators."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiomos.face.streams import MonitorConnection
from aiomos.runtime.course import Course
from aiomos.runtime.watching import Watcher


class Listener:
    """Connections as an async iterator, for apps without decorators.

    Made by `Runtime.monitor`. Leaving its ``async with`` block lets all its connections go.
    """

    def __init__(
        self,
        course: Course,
        watch: Callable[[Callable[[MonitorConnection], object]], Watcher],
    ) -> None:
        self._course = course
        self._watch = watch
        self._watcher: Watcher | None = None
        self._waiting: deque[MonitorConnection] = deque()
        self._open: set[MonitorConnection] = set()
        self._future: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._watcher = self._watch(self._accept)
        self._course.on_end.append(self._wake)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening and let every connection go."""
        assert self._watcher is not None
        self._watcher.close()
        self._course.on_end.remove(self._wake)
        for connection in self._open:
            connection.leave()
        self._open.clear()
        self._waiting.clear()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> MonitorConnection:
        """Wait for the next connection; the iteration ends with the frames."""
        self._course.begin()
        while not self._waiting:
            if self._course.has_ended:
                await self._course.end()
                raise StopAsyncIteration
            self._future = asyncio.get_running_loop().create_future()
            await self._future
        return self._waiting.popleft()

    def _accept(self, connection: MonitorConnection) -> None:
        self._waiting.append(connection)
        self._open.add(connection)
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
