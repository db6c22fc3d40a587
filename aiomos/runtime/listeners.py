"""Connections as an async iterator, for apps without decorators."""

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiomos.engine.registry import Account
from aiomos.face.streams import MonitorConnection

if TYPE_CHECKING:
    from aiomos.runtime.runtime import Runtime


class Listener:
    """Connections as an async iterator, for apps without decorators.

    Made by `Runtime.monitor`. Leaving its ``async with`` block lets all its connections go.
    """

    def __init__(self, runtime: "Runtime", register: Callable[["Listener"], Account]) -> None:
        self._runtime = runtime
        self._register = register
        self._account: Account | None = None
        self._waiting: deque[MonitorConnection] = deque()
        self._open: set[MonitorConnection] = set()
        self._future: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._account = self._register(self)
        self._runtime._listeners.add(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening and let every connection go."""
        assert self._account is not None
        self._runtime.engine.remove_account(self._account)
        self._runtime._wants_no_more(self)
        self._runtime._listeners.discard(self)
        for connection in self._open:
            connection.leave()
        self._open.clear()
        self._waiting.clear()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> MonitorConnection:
        """Wait for the next connection; the iteration ends with the frames."""
        self._runtime._start_pump()
        while not self._waiting:
            if self._runtime._finished:
                await self._runtime._check_pump()
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
