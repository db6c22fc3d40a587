"""Where apps, engine, transport and event loop meet.

The pump reads a batch of frames, feeds the engine, and gives the loop a turn so that the handlers it has woken can
run. Offline nothing is dropped: when a handler is slow, the pump waits for it.
"""

import asyncio
import gc
import heapq
import inspect
import itertools
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import attrs

from aiomos.app import App, Callback, Gaps, Handler, Overlap
from aiomos.engine import Engine
from aiomos.errors import CaptureError, ConnectionEvicted, ConnectionReset, ConnectionTimedOut, StreamGap
from aiomos.logging import get_logger
from aiomos.settings import Settings
from aiomos.tcp.levels import Level
from aiomos.tcp.streams import MonitorConnection, Pressure
from aiomos.tcp.views import Flow
from aiomos.transport.captures import open_captures
from aiomos.transport.source import FrameSource
from aiomos.ude.filters import Filter

Progress = Callable[[int, int | None, int], None]
"""Called now and then with bytes read, bytes in all (None for a pipe), frames."""

PATH_ERRORS = (StreamGap, ConnectionReset, ConnectionTimedOut, ConnectionEvicted)
"""What the wire did; a handler that lets it through just ends."""

LOGGED_ERRORS = 10
"""Exceptions of one app's handlers or callbacks that are logged; more are only counted."""

BLOCK_SIZE = 1 << 20
"""Bytes of a capture read at once: frames enough that a handler, woken once a batch, finds more than one chunk."""

COLLECTOR_THRESHOLDS = (500_000, 50, 50)
"""For `gc.set_threshold` while run() owns the process. Connections are freed by reference count; looking for cycles
among all open ones after every 700 new objects would cost more than the rest of their handling."""

GRACE_SECONDS = 2.0
"""How long handlers may take to end after Ctrl-C."""

STALL_SECONDS = 10.0
"""How long handlers may hold the reader back before it is logged."""

_current: ContextVar["Runtime"] = ContextVar("aiomos_runtime")


@attrs.frozen(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        frames: Frames read.
        counters: Counters by name, as `Runtime.statistics` gives them.
        seconds: Wall time from the first read to the end of the last handler.
    """

    frames: int
    counters: dict[str, int]
    seconds: float


class Listener:
    """Connections as an async iterator, for apps without decorators.

    Made by `Runtime.monitor`. Leaving its ``async with`` block lets all its connections go.
    """

    def __init__(self, runtime: "Runtime", rule: Callable[["Listener"], int]) -> None:
        self._runtime = runtime
        self._register = rule
        self._rule: int | None = None
        self._waiting: deque[MonitorConnection] = deque()
        self._open: set[MonitorConnection] = set()
        self._future: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        self._rule = self._register(self)
        self._runtime._listeners.add(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening and let every connection go."""
        assert self._rule is not None
        self._runtime.engine.remove_rule(self._rule)
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


class Runtime:
    """One engine with its source of frames, inside a running event loop.

    Args:
        pcap: Captures to read: files, patterns, ``-`` for standard input; merged by time.
        source: Frames from elsewhere, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        progress: Called now and then while frames are read.

    Raises:
        CaptureError: a file is no capture.
        OSError: a file cannot be opened.
        ValueError: neither or both of *pcap* and *source*.

    Use it as an async context manager; leaving it cancels what still runs and closes the source::

        async with aiomos.Runtime(pcap=["trace.pcap"]) as engine:
            async with engine.monitor("tcp port 80") as listener:
                async for conn in listener:
                    ...
    """

    def __init__(
        self,
        *,
        pcap: Sequence[str | os.PathLike[str]] | None = None,
        source: FrameSource | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        if (pcap is None) == (source is None):
            raise ValueError("a Runtime reads either pcap=[...] or source=...")
        self.settings = settings or Settings()
        self.source = source if source is not None else open_captures(pcap or [], block_size=BLOCK_SIZE)
        self.engine = Engine(self.settings, os.urandom(16), self._callback_failed)
        budgets = self.settings.budgets
        self.pressure = Pressure(budgets.stream_bytes, budgets.stream_bytes_total)
        self.apps: list[App] = []
        self.errors: Counter[str] = Counter()
        self._logged: Counter[object] = Counter()
        self._progress = progress
        self.handlers: set[asyncio.Task[None]] = set()
        self._listeners: set[Listener] = set()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._ticket = itertools.count()
        self._pump_task: asyncio.Task[None] | None = None
        self._finished = False
        self._out_of_frames = False
        self._fatal: BaseException | None = None

    # --- registrations ---------------------------------------------------------------------------------

    def attach(self, app: App) -> None:
        """Register an app's handlers and callbacks; flows that open from now on are shown to it."""
        self.apps.append(app)
        for monitor in app.monitors:
            self._add_handler(app, monitor.handler, monitor.filter, monitor.level, monitor.midstream,
                              monitor.overlap, monitor.gaps)  # fmt: skip
        for callback in app.callbacks:
            calls = [(callback.event.value, callback.function, callback.parameters)]
            rule = self.engine.add_rule(
                callback.filter.program, callback.level, midstream=callback.midstream, calls=calls
            )
            callback.on_cancel.append(partial(self.engine.remove_rule, rule))
        for track in app.tracks:
            self.engine.add_rule(track.filter.program, track.level, midstream=track.midstream)

    def monitor(
        self,
        filter: str = "",  # noqa: A002 - the word of the field
        *,
        level: Level = Level.STREAM,
        midstream: bool = False,
        overlap: Overlap = "first",
        gaps: Gaps = "raise",
    ) -> Listener:
        """Listen for connections that a filter picks; use it with ``async with``.

        Args:
            filter: Which connections.
            level: How much of them to follow.
            midstream: Whether to take those whose handshake was not captured.
            overlap: Which bytes count where segments overlap and differ.
            gaps: What missing bytes do to a reader: raise, mark, skip or zero.
        """
        program = Filter(filter).program

        def register(listener: Listener) -> int:
            connection = self._connection(gaps, level)

            def opener(flow: Flow) -> MonitorConnection:
                opened = connection(flow)
                listener._accept(opened)
                return opened

            return self.engine.add_rule(program, level, midstream=midstream, overlap=overlap, opener=opener)

        return Listener(self, register)

    def _add_handler(
        self, app: App, handler: Handler, chosen: Filter, level: Level, midstream: bool, overlap: Overlap, gaps: Gaps
    ) -> None:  # fmt: skip
        create_task = asyncio.get_running_loop().create_task
        connection = self._connection(gaps, level)

        def opener(flow: Flow) -> MonitorConnection:
            opened = connection(flow)
            self.handlers.add(create_task(self._handle(app, handler, opened)))
            return opened

        self.engine.add_rule(chosen.program, level, midstream=midstream, overlap=overlap, opener=opener)

    def _connection(self, gaps: Gaps, level: Level) -> Callable[[Flow], MonitorConnection]:
        """Return what makes the connections of a registration."""
        return partial(
            MonitorConnection,
            pressure=self.pressure,
            released=self.engine.released,
            gaps=gaps,
            wanted=level is Level.STREAM,
        )

    # --- handlers and callbacks ------------------------------------------------------------------------

    async def _handle(self, app: App, handler: Handler, connection: MonitorConnection) -> None:
        """Run a handler on one connection and let the connection go after it."""
        try:
            await handler(connection)
        except PATH_ERRORS as error:
            self.errors[f"handlers_ended.{type(error).__name__}"] += 1
        except Exception as error:
            self._failed("handler", app.name, connection.flow, error)
        finally:
            connection.leave()
            task = asyncio.current_task()
            assert task is not None
            self.handlers.discard(task)

    def _callback_failed(self, callback: Callback, flow: Flow, error: Exception) -> None:
        self._failed("callback", f"{callback.__module__}.{callback.__qualname__}", flow, error)
        if self._fatal is not None:
            raise self._fatal

    def _failed(self, what: str, app: object, flow: Flow, error: Exception) -> None:
        """An app raised: that is the end of its interest in this flow, and of nothing else."""
        self.errors[f"{what}_errors"] += 1
        self._logged[app] += 1
        if self.settings.on_error == "raise" or isinstance(error, BrokenPipeError):
            self._fatal = self._fatal or error
            self.pressure.relieve()
            return
        log = get_logger("aiomos").bind(app=str(app))
        if self._logged[app] <= LOGGED_ERRORS:
            log.error(f"{what}_failed", flow=str(flow), exc_info=error)
        if self._logged[app] == LOGGED_ERRORS:
            log.error(f"{what}_fails_often", note="more of its exceptions are counted, not logged")

    # --- the pump --------------------------------------------------------------------------------------

    async def run(self) -> Report:
        """Read all frames, and wait until every handler has returned.

        Raises:
            CaptureError: the capture broke off; what could be read has been processed, and handlers are done.
        """
        begun = time.perf_counter()
        self._start_pump()
        await self._check_pump()
        return Report(
            frames=self.source.frames_read, counters=self.statistics(), seconds=time.perf_counter() - begun
        )

    def statistics(self) -> dict[str, int]:
        """Return the engine's counters, and those of handlers, callbacks and readers."""
        counters: dict[str, int] = self.engine.statistics()
        counters["gap.unread"] += self.pressure.overflows
        counters["gap_bytes.unread"] += self.pressure.overflow_bytes
        return counters | dict(self.errors)

    def _start_pump(self) -> None:
        if self._pump_task is None:
            self._pump_task = asyncio.get_running_loop().create_task(self._pump())

    async def _check_pump(self) -> None:
        assert self._pump_task is not None
        await self._pump_task

    async def _pump(self) -> None:
        broken: CaptureError | None = None
        _current.set(self)
        try:
            try:
                await self._read_all()
            except CaptureError as error:
                broken = error
            while self.engine.finish():
                await self._turn()
            await self._drain()
        finally:
            self._finished = True
            for listener in self._listeners:
                listener._wake()
        if broken is not None:
            raise broken

    async def _read_all(self) -> None:
        source, engine = self.source, self.engine
        while source.read_batch():
            engine.feed(source)
            await self._turn()
            if self._progress is not None:
                self._progress(source.position(), source.total(), source.frames_read)

    async def _turn(self) -> None:
        """Let woken handlers run, and wait for those that have fallen behind."""
        self._wake_sleepers(self.engine.now)
        await asyncio.sleep(0)
        while self.pressure.holds_back() and self._fatal is None:
            try:
                await asyncio.wait_for(self.pressure.relieved(), STALL_SECONDS)
            except TimeoutError:
                get_logger("aiomos").warning("handlers_slow", unread_bytes=self.pressure.total)
        self.pressure.next_turn()
        if self._fatal is not None:
            raise self._fatal

    async def _drain(self) -> None:
        """No more frames: let sleepers and handlers come to their end."""
        self._out_of_frames = True
        self._wake_sleepers(float("inf"))
        while self.handlers:
            await asyncio.wait(self.handlers, return_when=asyncio.FIRST_COMPLETED)
            self._wake_sleepers(float("inf"))
            if self._fatal is not None:
                raise self._fatal

    # --- the engine's clock ----------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Wait on the engine's clock: packet time offline. When frames run out, all sleepers wake."""
        if seconds <= 0 or self._out_of_frames:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.engine.now + seconds, next(self._ticket), future))
        self.pressure.sleeper(1)
        try:
            await future
        finally:
            self.pressure.sleeper(-1)

    def _wake_sleepers(self, now: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    # --- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Make this the runtime that `aiomos.sleep` goes by."""
        _current.set(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what still runs and close the source."""
        tasks = [task for task in (*self.handlers, self._pump_task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.source.close()


async def sleep(seconds: float) -> None:
    """Wait on the clock of the engine whose handler calls it: packet time offline, so that replays repeat.

    Raises:
        RuntimeError: not called from a handler or inside ``async with Runtime(...)``.
    """
    try:
        runtime = _current.get()
    except LookupError:
        raise RuntimeError("aiomos.sleep() follows an engine's clock: call it from a handler") from None
    await runtime.sleep(seconds)


async def serve(
    *apps: App,
    pcap: Sequence[str | os.PathLike[str]] | None = None,
    source: FrameSource | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run apps on one engine until frames and handlers have come to an end.

    Start-up functions run first, in order; shut-down functions last, in reverse, however the run ends.

    Args:
        apps: The apps, in the order in which they are to see the traffic.
        pcap: Captures to read.
        source: Frames from elsewhere, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        progress: Called now and then while frames are read.

    Raises:
        CaptureError: a capture is broken; what could be read has been processed.
        OSError: a capture cannot be opened.
    """
    async with Runtime(pcap=pcap, source=source, settings=settings, progress=progress) as runtime:
        started: list[App] = []
        try:
            for app in apps:
                started.append(app)
                for function in app.startup_functions:
                    await _call(function)
                runtime.attach(app)
            try:
                return await runtime.run()
            except asyncio.CancelledError:
                await _end_early(runtime)
                raise
        finally:
            for app in reversed(started):
                for function in reversed(app.shutdown_functions):
                    await _call(function)


async def _end_early(runtime: Runtime) -> None:
    """Ctrl-C: end every flow where it stands, so that apps give the results they have."""
    while runtime.engine.finish():
        await asyncio.sleep(0)
    if runtime.handlers:
        await asyncio.wait(runtime.handlers, timeout=GRACE_SECONDS)


async def _call(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result


def run(
    *apps: App,
    pcap: Sequence[str | os.PathLike[str]] | None = None,
    source: FrameSource | None = None,
    settings: Settings | None = None,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    progress: Progress | None = None,
) -> Report:
    """Run apps to the end in an event loop of their own; `serve` for programs that have one.

    Args:
        apps: The apps.
        pcap: Captures to read.
        source: Frames from elsewhere, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        loop: The event loop: ``uvloop``, or Python's own ``asyncio``.
        progress: Called now and then while frames are read.

    Raises:
        KeyboardInterrupt: Ctrl-C; apps have given the results so far.
    """
    main: Coroutine[Any, Any, Report] = serve(
        *apps, pcap=pcap, source=source, settings=settings, progress=progress
    )
    with _patient_collector(), asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        return runner.run(main)


@contextmanager
def _patient_collector() -> Iterator[None]:
    """Have the cyclic garbage collector look less often; see COLLECTOR_THRESHOLDS."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if loop == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop
