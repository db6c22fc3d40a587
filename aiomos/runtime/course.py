"""The course of a run: frames, then the ends of what is open, then the handlers that are left."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiomos.engine.engine import Engine
from aiomos.errors import CaptureError, TransportError
from aiomos.outputs import failure_told
from aiomos.runtime.clock import Clock, current_clock
from aiomos.runtime.failures import Failures
from aiomos.runtime.pickup import PickUp
from aiomos.runtime.turns import Turns
from aiomos.steps import ENDS_PROGRAM


class Course:
    """A run from its first frame to the end of the last handler, in a task of its own.

    Args:
        engine: The engine.
        clock: Its clock.
        turns: Given to handlers while flows come to their end.
        failures: What may end it early.
        pickup: Shows running flows to new rules meanwhile.
        read: Feeds the engine all frames.
        handlers: Returns the handlers that run.
        flush: Sends what the engine has to send.

    Attributes:
        task: That of the run; None before it begins.
        has_ended: Whether all is done.
        on_end: Called when it is.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        turns: Turns,
        failures: Failures,
        pickup: PickUp,
        read: Callable[[], Coroutine[Any, Any, None]],
        handlers: Callable[[], set[asyncio.Task[None]]],
        flush: Callable[[], object],
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self.has_ended = False
        self.on_end: list[Callable[[], object]] = []
        self._engine = engine
        self._clock = clock
        self._turns = turns
        self._failures = failures
        self._pickup = pickup
        self._read = read
        self._handlers = handlers
        self._flush = flush
        self._exit: BaseException | None = None

    def begin(self) -> None:
        """Begin, unless that was done before."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run())

    async def end(self) -> None:
        """Wait for the end.

        Raises:
            BaseException: as `Runtime.run` says.
        """
        assert self.task is not None
        await self.task
        if self._exit is not None:
            raise self._exit

    async def _run(self) -> None:
        broken: Exception | None = None
        current_clock.set(self._clock)
        failure_told.set(self._failures.of_output)
        try:
            try:
                await self._read()
            except (CaptureError, TransportError) as error:
                broken = error
            while self._engine.pick_on():
                await self._turns.give()
            while self._engine.finish():
                await self._turns.give()
            self._flush()
            await self._drain()
        except ENDS_PROGRAM as error:  # raised out of a task, it would stop the event loop in mid-air
            self._exit = error
        finally:
            self.has_ended = True
            self._pickup.end()
            for call in self.on_end:
                call()
        if broken is not None:
            raise broken
        self._failures.check_outputs()

    async def _drain(self) -> None:
        """No more frames: let sleepers and handlers come to their end."""
        self._clock.stop()
        while handlers := self._handlers():
            await asyncio.wait(handlers, return_when=asyncio.FIRST_COMPLETED)
            self._clock.stop()
            self._failures.check()
