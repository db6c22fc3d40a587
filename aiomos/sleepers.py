"""Tasks that wait on the engine's clock: `aiomos.sleep`."""

import asyncio
import heapq
import itertools


class Sleepers:
    """Futures by the time at which they are due, in seconds of the engine's clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()

    @property
    def due(self) -> float | None:
        """When the next one is to wake; None without any."""
        while self._heap and self._heap[0][2].done():  # cancelled meanwhile
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def add(self, due: float) -> asyncio.Future[None]:
        """Return a future that is done once the clock has come to *due*."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (due, next(self._ticket), future))
        return future

    def wake(self, now: float) -> None:
        """Wake those whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(None)
