"""The engine's clock, and who waits on it: `aiomos.sleep`."""

import asyncio
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from aiomos.engine.engine import Engine
from aiomos.runtime.backlog import Backlog

MOST_SLEEP_SECONDS = 1e10
"""More than any run lasts, and any capture spans."""

MOST_LAST_SLEEPS = 10_000
"""How often a task may sleep once frames have run out, when no time passes any more."""

current_clock: ContextVar["Clock"] = ContextVar("aiomos_clock")
"""Of the engine whose app's code runs."""


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

    def wake(self, now_ns: int) -> bool:
        """Wake those whose time has come; return whether there were any."""
        woken = False
        while self._heap and self._heap[0][0] <= now_ns:
            self._pop()
            woken = True
        return woken

    def wake_all(self) -> None:
        """Wake them all: there is nothing more to wait for."""
        while self._heap:
            self._pop()

    def _pop(self) -> None:
        future = heapq.heappop(self._heap)[2]
        if not future.done():
            future.set_result(None)


class Clock:
    """Time as an engine's frames tell it, or live its transport, and the tasks that sleep by it.

    Args:
        engine: The engine.
        backlog: Told of tasks that sleep: the engine cannot wait for these.
        attend: Called when a task has begun to sleep, so that the pump sees when it is due.
    """

    def __init__(self, engine: Engine, backlog: Backlog, attend: Callable[[], object]) -> None:
        self._engine = engine
        self._backlog = backlog
        self._attend = attend
        self._sleepers = Sleepers()
        engine.on_set_back = self._sleepers.move
        self._stands_still = False
        self._last_sleeps: Counter[asyncio.Task[Any] | None] = Counter()

    @property
    def now(self) -> float:
        """The time, seconds since the epoch; 0.0 before the first frame."""
        return self._engine.now

    @property
    def due_ns(self) -> int | None:
        """When the engine or a sleeper has something to do if no frame comes before; None: never."""
        due = [at for at in (self._engine.deadline_ns, self._sleepers.due_ns) if at is not None]
        return min(due, default=None)

    @property
    def has_sleepers(self) -> bool:
        """Whether a task waits for a time to come."""
        return self._sleepers.due_ns is not None

    def wake(self) -> bool:
        """Wake the tasks whose time has come; return whether there were any."""
        return self._sleepers.wake(self._engine.clock_ns)

    def stop(self) -> None:
        """There are no more frames: wake all tasks, also those that sleep hereafter."""
        self._stands_still = True
        self._sleepers.wake_all()

    async def sleep(self, seconds: float) -> None:
        """Have the task at hand wait for so long; see `Runtime.sleep`."""
        if self._stands_still:
            task = asyncio.current_task()
            self._last_sleeps[task] += 1
            if self._last_sleeps[task] > MOST_LAST_SLEEPS:
                raise RuntimeError("there are no more frames, and so no time to sleep: end when the flow has")
        if math.isnan(seconds):
            raise ValueError("sleep() takes a number of seconds, not nan")
        if seconds <= 0 or self._stands_still:
            await asyncio.sleep(0)
            return
        future = self._sleepers.add(self._engine.clock_ns + round(min(seconds, MOST_SLEEP_SECONDS) * 1e9))
        self._attend()
        with self._backlog.asleep():
            await future


async def sleep(seconds: float) -> None:
    """Wait on the clock of the engine whose handler calls it: packet time offline, so that replays repeat.

    Raises:
        RuntimeError: not called from a handler or inside ``async with Runtime(...)``.
    """
    try:
        clock = current_clock.get()
    except LookupError:
        raise RuntimeError("aiomos.sleep() follows an engine's clock: call it from a handler") from None
    await clock.sleep(seconds)
