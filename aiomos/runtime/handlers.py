"""Handlers: a task each, how it ends, and what it has cost."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any

from aiomos.app import Handler
from aiomos.errors import ConnectionEvicted, ConnectionReset, ConnectionTimedOut, StreamGap
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.runtime.failures import Failures

PATH_ERRORS = (StreamGap, ConnectionReset, ConnectionTimedOut, ConnectionEvicted)
"""What the wire did; a handler that lets it through just ends."""

SAMPLED = 64
"""One handler in so many is timed, and stands for the others."""


class Handlers:
    """Those of one app.

    Args:
        app: Name of the app.
        failures: Told what they raise.

    Attributes:
        tasks: Those that run.
        started: How many were started.
        errors: How many have raised.
    """

    def __init__(self, app: str, failures: Failures) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.started = 0
        self.errors = 0
        self._app = app
        self._failures = failures
        self._sampled_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Time spent in them, an estimate."""
        return self._sampled_seconds * SAMPLED

    def starter(
        self, handler: Handler, connect: Callable[[Flow], MonitorConnection], context: Context
    ) -> Callable[[Flow], MonitorConnection]:
        """Return what makes the connection of a flow and starts a handler on it, in a copy of a context."""
        create_task = asyncio.get_running_loop().create_task

        def start(flow: Flow) -> MonitorConnection:
            connection = connect(flow)
            self.tasks.add(create_task(self._run(handler, connection), context=context.copy()))
            return connection

        return start

    async def cancel(self) -> None:
        """Cancel those that run, but for the one that asks for it, and wait for their end."""
        others = self.tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    async def _run(self, handler: Handler, connection: MonitorConnection) -> None:
        """Run a handler on one connection and let the connection go after it."""
        self.started += 1
        running = handler(connection)
        try:
            if self.started % SAMPLED == 0:
                await self._timed(running)
            else:
                await running
        except PATH_ERRORS as error:
            self._failures.counts[f"handlers_ended.{type(error).__name__}"] += 1
        except Exception as error:
            self._failed(connection, error)
        except (asyncio.CancelledError, GeneratorExit) as error:
            if _was_ended(error):
                raise
            self._failed(connection, error)
        except BaseException as error:  # out of a task, it would stop the loop in mid-air, or be lost
            self._failures.end_with(error)
        finally:
            connection.leave()
            task = asyncio.current_task()
            assert task is not None
            self.tasks.discard(task)

    def _failed(self, connection: MonitorConnection, error: BaseException) -> None:
        self.errors += 1
        self._failures.of_handler(self._app, connection.flow, error)

    @coroutine
    def _timed(self, running: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Await a handler, with a note of the time that it runs."""
        answer: Any = None
        step = running.send
        while True:
            begun = time.perf_counter()
            try:
                waits_for = step(answer)
            except StopIteration:
                return
            finally:
                self._sampled_seconds += time.perf_counter() - begun
            try:
                answer, step = (yield waits_for), running.send
            except BaseException as error:  # cancelled: the handler is to know
                answer, step = error, running.throw


def _was_ended(error: BaseException) -> bool:
    """Tell whether the task at hand was cancelled or closed from outside, or what it runs has made that up."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the loop has ended
        return True
    return task is None or (isinstance(error, asyncio.CancelledError) and task.cancelling() > 0)
