"""The turns of the event loop between two batches, which are those of the handlers."""

import asyncio

from aiomos.logging import get_logger
from aiomos.runtime.backlog import Backlog
from aiomos.runtime.clock import Clock
from aiomos.runtime.failures import Failures

STALL_SECONDS = 10.0
"""How long handlers may hold the reader back before it is logged."""


class Turns:
    """Who has a turn before the engine is fed again.

    Attributes:
        have_takers: Whether a batch may wake anybody: handlers, or tasks of apps by their callbacks. False where apps
            only have flows followed.
    """

    def __init__(self, clock: Clock, backlog: Backlog, failures: Failures) -> None:
        self._clock = clock
        self._backlog = backlog
        self._failures = failures
        self.have_takers = False

    async def give(self) -> None:
        """Let woken handlers run, and wait for those that have fallen behind.

        Raises:
            BaseException: what is to end the run.
        """
        self._clock.wake()
        await asyncio.sleep(0)
        while not self._failures.end_run and self._backlog.holds_back():
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._backlog.relieved()
            except TimeoutError:
                get_logger("aiomos").warning("handlers_slow", unread_bytes=self._backlog.unread_bytes)
        self.pass_on()

    def pass_on(self) -> None:
        """Handlers have had their turn.

        Raises:
            BaseException: what is to end the run.
        """
        self._backlog.next_turn()
        self._failures.check()
