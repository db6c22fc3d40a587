"""Tasks that wait on the engine's clock: `aiomos.sleep`."""

import asyncio
import heapq
import itertools


class Sleepers:
    """Futures by the time at which they are due, in nanoseconds of the engine's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()

    @property
    def due_ns(self) -> int | None:
        """When the next one is to wake; None without any."""
        while self._heap and self._heap[0][2].done():  # cancelled meanwhile
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def add(self, due_ns: int) -> asyncio.Future[None]:
        """Return a future that is done once the clock has come to *due_ns*."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (due_ns, next(self._ticket), future))
        return future

    def move(self, by_ns: int) -> None:
        """Have all wake so much later: the clock is set to another time. Their order stays."""
        self._heap = [(due_ns + by_ns, ticket, future) for due_ns, ticket, future in self._heap]

    def wake(self, now_ns: int) -> None:
        """Wake those whose time has come."""
        while self._heap and self._heap[0][0] <= now_ns:
            self._pop()

    def wake_all(self) -> None:
        """Wake them all: there is nothing more to wait for."""
        while self._heap:
            self._pop()

    def _pop(self) -> None:
        future = heapq.heappop(self._heap)[2]
        if not future.done():
            future.set_result(None)
