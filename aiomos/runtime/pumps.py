"""Pumps: how frames come to the engine. From a capture as fast as handlers bear, or at the pace of a simulation.

That of a live transport is in `aiomos.runtime.live`. A program with a way of its own gives `Runtime` one: what steps
several engines by one clock, say.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

import attrs

from aiomos.engine.engine import Engine
from aiomos.runtime.clock import Clock
from aiomos.runtime.turns import Turns
from aiomos.transport.source import FrameSource
from aiomos.transport.transport import Transport

Progress = Callable[[int, int | None, int], None]
"""Called now and then with bytes read, bytes in all (None for a pipe), frames."""


SESSION_STEP_NS = 1_000_000_000
"""A simulation in which sessions are open goes no farther at once: so soon it ends when nothing is left to happen."""

RETRY_NS = 1_000_000
"""After which frames are offered again for which a simulation had no room."""


class Pump(Protocol):
    """What feeds an engine from where its frames come."""

    async def run(self) -> None:
        """Feed the engine to the end of its frames, or until `stop`.

        Raises:
            CaptureError: a capture broke off.
            TransportError: the wire is gone for good.
            BaseException: what an app has raised that is to end the run.
        """

    def stop(self) -> None:
        """Have `run` return early, also where it is yet to be called."""

    def attend_soon(self) -> None:
        """Between two batches something was asked of the engine: see soon what is to be sent, and what is due."""


@attrs.frozen(kw_only=True)
class Feed:
    """What a pump is given to do its work.

    Attributes:
        engine: To be fed.
        clock: Time as the engine has it; wakes who sleeps by it.
        turns: Those of handlers, to be given between batches.
        progress: Called now and then while captures are read, if anything.
    """

    engine: Engine
    clock: Clock
    turns: Turns
    progress: Progress | None = None


class CapturePump:
    """Feed an engine from captures: when a handler is slow, it is waited for, so nothing is dropped."""

    def __init__(self, feed: Feed, source: FrameSource) -> None:
        self._feed = feed
        self._source = source
        self._stopped = False
        self._starving: asyncio.Event | None = None

    async def run(self) -> None:
        """Run to the end."""
        feed, source = self._feed, self._source
        while not self._stopped:
            if (descriptor := source.starved) is not None:
                self._starving = asyncio.Event()
                await _readable(descriptor, self._starving)
                if self._stopped:
                    return
            if not source.read_batch():
                return
            feed.engine.feed(source)
            await feed.turns.give()
            if feed.progress is not None:
                feed.progress(source.position(), source.total(), source.frames_read)

    def stop(self) -> None:
        """Have `run` return before the next batch."""
        self._stopped = True
        if self._starving is not None:
            self._starving.set()

    def attend_soon(self) -> None:
        """Nothing: time is that of the frames, and none can be sent."""


class SimulatedPump:
    """Feed an engine at the pace of a simulation, whose time stands still while handlers run."""

    def __init__(self, feed: Feed, transport: Transport) -> None:
        self._feed = feed
        self._transport = transport
        self._stopped = False
        self._unsent = 0

    async def run(self) -> None:
        """Run to the end."""
        engine, clock, transport = self._feed.engine, self._feed.clock, self._transport
        engine.flush(transport)
        while not self._stopped:
            if transport.read_batch():
                engine.feed(transport)
            else:
                if transport.ended and not clock.has_sleepers and not self._unsent_move():
                    return
                transport.pass_time(self._next_ns(transport.now()))
                engine.pass_time(transport.now())
            engine.flush(transport)
            await self._feed.turns.give()
            engine.flush(transport)

    def _unsent_move(self) -> bool:
        """Return whether frames wait for room on the wire, and not as many as when last asked."""
        before, (self._unsent, _) = self._unsent, self._feed.engine.line.queued
        return self._unsent > 0 and self._unsent != before

    def _next_ns(self, now_ns: int) -> int | None:
        """Return to when the simulation is to go if no frame comes before; None: as far as it likes."""
        due_ns = self._feed.clock.due_ns
        if self._feed.engine.short:
            return now_ns + RETRY_NS if due_ns is None else min(due_ns, now_ns + RETRY_NS)
        if not self._feed.engine.line.session_count:
            return due_ns
        step_ns = (now_ns // SESSION_STEP_NS + 1) * SESSION_STEP_NS
        return step_ns if due_ns is None else min(due_ns, step_ns)

    def stop(self) -> None:
        """Have `run` return before the next batch."""
        self._stopped = True

    def attend_soon(self) -> None:
        """Nothing: that is seen after each turn of the handlers."""


async def _readable(descriptor: int, ready: asyncio.Event) -> None:
    """Wait until a descriptor has something to read, or has come to its end, or the event is set."""
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.set_blocking(descriptor, True)  # uvloop has changed that; what is begun is read to its end
