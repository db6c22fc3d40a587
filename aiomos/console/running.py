"""Running apps to the end: the entry points, and what becomes of signals on the way."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from aiomos.app import App
from aiomos.console import snapshot
from aiomos.console.control import answering, bound
from aiomos.runtime.interrupts import SAME_SIGNAL_SECONDS, Bound
from aiomos.runtime.pumps import Progress
from aiomos.runtime.runtime import Runtime
from aiomos.runtime.signals import handled
from aiomos.runtime.statistics import Report
from aiomos.settings import Settings
from aiomos.transport.source import FrameSource
from aiomos.transport.transport import Transport

if TYPE_CHECKING:
    from aiomos.console.metrics import Exporter

COLLECTOR_THRESHOLDS = (500_000, 50, 50)
"""For `gc.set_threshold` while run() owns the process. Connections are freed by reference count; looking for cycles
among all open ones after every 700 new objects would cost more than the rest of their handling."""

GRACE_SECONDS = 10.0
"""How long handlers may take to end after Ctrl-C, unless told otherwise."""


async def serve(
    *apps: App,
    pcap: Sequence[str | os.PathLike[str]] | None = None,
    source: FrameSource | None = None,
    transport: Transport | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    control: str | os.PathLike[str] | socket.socket | None = None,
    metrics: str | None = None,
    shard: tuple[int, int] = (0, 1),
    started: Callable[[Runtime], object] | None = None,
    signals: bool = True,
    grace: float = GRACE_SECONDS,
    force: bool = False,
) -> Report:
    """Run apps on one engine until frames and handlers have come to an end.

    Start-up functions run first, in order; shut-down functions last, in reverse, however the run ends. On a live
    transport SIGINT and SIGTERM end the run in good order; a second one cuts it short.

    Args:
        apps: The apps, in the order in which they are to see the traffic.
        pcap: Captures to read.
        source: Frames from elsewhere, instead of *pcap*.
        transport: Frames from a wire, as they come, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        progress: Called now and then while frames are read.
        control: Path of a socket by which apps are attached and detached meanwhile (`aiomos.console.control`), or one
            that listens already.
        metrics: Address at which to answer Prometheus: ``HOST:PORT``, or ``:PORT`` (`aiomos.console.metrics`).
        shard: Of how many workers' shares of the flows which is to be taken, ``(index, count)``.
        started: Called once the apps are attached, before the first frame.
        signals: Whether signals are handled meanwhile: SIGINT and SIGTERM as above, SIGUSR1, which shows the state, and
            those of apps. A program that has its own handlers says False, and ends the run by `Runtime.stop` or by
            cancelling it. Afterwards signals do what they did before, in either case.
        grace: Seconds that handlers may take to end after a signal; then they are cut short.
        force: Whether the process is ended, a second after *grace* or at a second signal, whatever it does then. For
            programs that do nothing else.

    Raises:
        CaptureError: a capture is broken; what could be read has been processed.
        OSError: a capture cannot be opened.
        TransportError: the wire is gone.
    """
    # A socket that cannot be had is an error before an app has touched its files.
    with (
        nullcontext(control)
        if control is None or isinstance(control, socket.socket)
        else bound(control) as listener,
        _exporter(metrics) as exporter,
        _bound(grace, live=transport is not None) if force and signals else nullcontext() as ending,
    ):
        async with Runtime(
            pcap=pcap,
            source=source,
            transport=transport,
            settings=settings,
            progress=progress,
            shard=shard,
            signals=signals,
        ) as runtime:
            if ending is not None:
                ending.runtime = runtime
            if exporter is not None:
                exporter.read_from(partial(snapshot.take_all, runtime, runtime.settings.budgets))
            for app in apps:
                await runtime.attach(app)
            if started is not None:
                started(runtime)
            return await _run(runtime, listener, grace, ending)


def _bound(grace: float, *, live: bool) -> Bound:
    return Bound(grace, (signal.SIGINT, signal.SIGTERM) if live else (signal.SIGINT,))


async def _run(
    runtime: Runtime, listener: socket.socket | None, grace: float, ending: Bound | None
) -> Report:
    """Run to the end, controlled by who is at the other end of the socket, and by signals."""
    async with answering(listener, runtime) if listener is not None else nullcontext():
        with _ended_by_signals(runtime, grace, ending), _shown_on_signal(runtime):
            try:
                return await runtime.run()
            except asyncio.CancelledError:
                await _end_early(runtime, grace)
                raise


def _exporter(address: str | None) -> "AbstractContextManager[Exporter | None]":
    if address is None:
        return nullcontext()
    from aiomos.console.metrics import Exporter  # with prometheus-client, whose import takes its time

    return Exporter(address)


def _shown_on_signal(runtime: Runtime) -> AbstractContextManager[None]:
    """Have SIGUSR1 show the state."""
    if not runtime.signals:
        return nullcontext()
    return snapshot.shown_on_signal(partial(snapshot.take, runtime, runtime.settings.budgets))


@contextmanager
def _ended_by_signals(runtime: Runtime, grace: float, ending: Bound | None) -> Iterator[None]:
    """Have the usual signals end a live run in good order; a second one does what it always does."""
    if runtime.transport is None or not runtime.signals:
        yield
        return
    loop = asyncio.get_running_loop()

    if ending is not None:
        ending.first = runtime.stop
        yield
        return

    def stop() -> None:
        runtime.stop()
        loop.call_later(SAME_SIGNAL_SECONDS, put_back)
        loop.call_later(grace, runtime.cut_short)

    with handled({signal.SIGINT: stop, signal.SIGTERM: stop}) as put_back:
        yield


async def _end_early(runtime: Runtime, grace: float) -> None:
    """Ctrl-C: end every flow where it stands, so that apps give the results they have."""
    while runtime.engine.finish():
        await asyncio.sleep(0)
    if runtime.handlers:
        await asyncio.wait(runtime.handlers, timeout=grace)
    runtime.cut_short()


def run(
    *apps: App,
    pcap: Sequence[str | os.PathLike[str]] | None = None,
    source: FrameSource | None = None,
    transport: Transport | None = None,
    settings: Settings | None = None,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    progress: Progress | None = None,
    control: str | os.PathLike[str] | None = None,
    metrics: str | None = None,
    signals: bool = True,
    grace: float = GRACE_SECONDS,
    force: bool = False,
) -> Report:
    """Run apps to the end in an event loop of their own; `serve` for programs that have one.

    Args:
        apps: The apps.
        pcap: Captures to read.
        source: Frames from elsewhere, instead of *pcap*.
        transport: Frames from a wire, as they come, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        loop: The event loop: ``uvloop``, or Python's own ``asyncio``.
        progress: Called now and then while frames are read.
        control: As in `serve`.
        metrics: As in `serve`.
        signals: As in `serve`.
        grace: As in `serve`.
        force: As in `serve`.

    Raises:
        KeyboardInterrupt: Ctrl-C; apps have given the results so far.
        RuntimeError: an event loop is running here already.
    """
    if _in_a_loop():
        raise RuntimeError(
            "aiomos.run() starts an event loop, and one is running here: write await aiomos.serve(...) instead"
        )
    main: Coroutine[Any, Any, Report] = serve(
        *apps,
        pcap=pcap,
        source=source,
        transport=transport,
        settings=settings,
        progress=progress,
        control=control,
        metrics=metrics,
        signals=signals,
        grace=grace,
        force=force,
    )
    with patient_collector(), asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        return runner.run(main)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def patient_collector() -> Iterator[None]:
    """Have the cyclic garbage collector look less often; see COLLECTOR_THRESHOLDS."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a loop of this name: ``uvloop`` or ``asyncio``."""
    if loop == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop
