"""When an event loop has nothing left to run: then only time can make anything happen."""

import asyncio
from types import TracebackType
from typing import Any, Self

MOST_TURNS = 1000
"""Turns of the loop that tasks get at most before time goes on: one that yields for ever would stop it."""


class Stillness:
    """Counts what is to be called in the running loop's next turn, for the length of a ``with`` block.

    A loop tells nobody whether anything is left to run. All that wakes a task, a future or a callback goes by its
    `call_soon`, asyncio's and uvloop's, so that is what is counted. Threads and descriptors are not: what waits for the
    machine, waits.

    Raises:
        RuntimeError: it is counted already, or the loop does not let it be.
    """

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        try:
            self._own = vars(loop)
        except TypeError:
            raise RuntimeError(
                f"{type(loop).__name__} has no attributes of its own: use asyncio's or uvloop's"
            ) from None
        if "call_soon" in self._own:
            raise RuntimeError("another world runs in this event loop")
        call_soon = loop.call_soon
        self._count = 0

        def counted(callback: Any, *args: Any, **context: Any) -> asyncio.Handle:
            self._count += 1
            return call_soon(callback, *args, **context)

        self._own["call_soon"] = counted
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._own["call_soon"]

    async def reached(self) -> None:
        """Let tasks have turns until none has anything left to do, or `MOST_TURNS` of them."""
        for _ in range(MOST_TURNS):
            before = self._count
            await asyncio.sleep(0)
            if self._count == before + 1:  # our own
                return
