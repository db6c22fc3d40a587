"""Engines in a simulated network: each a node with ports, stepped from outside by the network's clock."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiomos.app import App
from aiomos.runtime.pumps import Feed
from aiomos.runtime.runtime import Runtime
from aiomos.runtime.statistics import Report
from aiomos.settings import Settings
from aiomos.transport.sim import SimPort, SimTransport

__all__ = ["Station"]


class SteppedPump:
    """The pump of an engine that is stepped from outside; see `aiomos.runtime.pumps.Pump`.

    Args:
        feed: The engine, its clock, and the turns of handlers.
        transport: Where its frames come from, and go to.
    """

    def __init__(self, feed: Feed, transport: SimTransport) -> None:
        self._feed = feed
        self._transport = transport
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_asked = False
        self._looked_ns: int | None = None
        feed.engine.on_news = self.attend_soon

    async def run(self) -> None:
        """Wait for the end."""
        try:
            await self._over
        finally:
            self._feed.engine.on_news = None

    def stop(self) -> None:
        """Have `run` return."""
        if not self._over.done():
            self._over.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Have `run` raise an exception."""
        if not self._over.done():
            self._over.set_exception(error)

    def attend_soon(self) -> None:
        """Have the engine stepped before time goes on."""
        self._is_asked = True

    @property
    def is_over(self) -> bool:
        """Whether the engine is fed no more."""
        return self._over.done()

    @property
    def has_failed(self) -> bool:
        """Whether the engine's run ends with an exception."""
        return self._over.done() and not self._over.cancelled() and self._over.exception() is not None

    @property
    def has_sleepers(self) -> bool:
        """Whether a task of its apps waits for a time to come."""
        return not self.is_over and self._feed.clock.has_sleepers

    def due_ns(self, now_ns: int) -> int | None:
        """When it has something to do if no frame comes before, after now; None: never."""
        if self.is_over:
            return None
        due_ns = self._feed.clock.due_ns
        return due_ns if due_ns is not None and due_ns > now_ns else None

    def step(self, now_ns: int) -> bool:
        """Send what is to be sent, process the frames that have arrived, and let what is due happen.

        Returns:
            Whether the engine was fed or told the time, which is so only where there was reason to.
        """
        if self.is_over:
            return False
        engine, clock = self._feed.engine, self._feed.clock
        try:
            engine.flush(self._transport)
            fed = self._transport.read_batch()
            if fed:
                engine.feed(self._transport)
            told = self._is_asked or self._is_due(now_ns)
            if told:
                self._is_asked = False
                self._looked_ns = now_ns
                engine.pass_time(now_ns)
            engine.flush(self._transport)
            clock.wake()
        except BaseException as error:
            self.fail(error)
            return True
        return fed or told

    def _is_due(self, now_ns: int) -> bool:
        """Whether the engine has not been told of this time, and something is due."""
        due_ns = self._feed.clock.due_ns
        return self._looked_ns != now_ns and due_ns is not None and due_ns <= now_ns

    async def give_turns(self) -> None:
        """Wait for handlers that have fallen behind, and see whether one has raised what is to end the run."""
        if self.is_over:
            return
        try:
            await self._feed.turns.give()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(error)


class Station:
    """An engine with its apps in a world; `aiomos.testing.world.World` makes, runs and ends it.

    Attributes:
        name: Its name.
        transport: Where its frames come from, with its counters.
        runtime: Its runtime, for `statistics`, `flows`, `send` and the like.
        report: Of its run, once that has ended in good order; None before.
        error: What its run has raised; None for nothing.
    """

    def __init__(
        self,
        transport: SimTransport,
        name: str,
        apps: Sequence[App[Any]],
        *,
        settings: Settings | None,
        key: bytes,
    ) -> None:
        self.name = name
        self.transport = transport
        self.runtime = Runtime(
            transport=transport, settings=settings, signals=False, pump=self._make_pump, key=key
        )
        self.report: Report | None = None
        self.error: BaseException | None = None
        self._apps = apps
        self._pump: SteppedPump | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_begun: asyncio.Event = asyncio.Event()

    @property
    def ports(self) -> tuple[SimPort, ...]:
        """Its ends of links, one for each interface."""
        return self.transport.ports

    @property
    def has_ended(self) -> bool:
        """Whether its run has ended, handlers and all."""
        return self._task is not None and self._task.done()

    def stop(self) -> None:
        """End its run where it stands, as of an engine that is switched off: it forwards nothing from now on."""
        self.runtime.stop()

    # --- for the world ---------------------------------------------------------------------------------

    @property
    def pump(self) -> SteppedPump:
        """What it is stepped by, once it has begun.

        Raises:
            RuntimeError: it has not.
        """
        if self._pump is None:
            raise RuntimeError(f"{self.name} has not begun")
        return self._pump

    @property
    def is_running(self) -> bool:
        """Whether it has begun and its engine is still fed."""
        return self._pump is not None and not self._pump.is_over

    @property
    def has_failed(self) -> bool:
        """Whether its run has raised something, or is about to."""
        return self.error is not None or (self._pump is not None and self._pump.has_failed)

    async def begin(self) -> None:
        """Start its apps, in a task of its own, so that clocks of others are none of theirs; once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._live(), name=self.name)
            await self._has_begun.wait()

    async def end(self) -> None:
        """Wait until its run has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def cancel(self) -> None:
        """End it at once, whatever its apps still do."""
        if self._task is not None:
            self._task.cancel()
            await self.end()

    def _make_pump(self, feed: Feed) -> SteppedPump:
        self._pump = SteppedPump(feed, self.transport)
        return self._pump

    async def _live(self) -> None:
        try:
            async with self.runtime as runtime:
                for app in self._apps:
                    await runtime.attach(app)
                self._has_begun.set()
                self.report = await runtime.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # also of those that would stop the loop: the world raises it
            self.error = error
        finally:
            self._has_begun.set()
