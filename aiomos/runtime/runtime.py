"""Where apps, engine, transport and event loop meet.

`Runtime` is their joint and the face of them all. What it is made of has rooms of its own: attachments of apps, their
handlers and failures, the clock, the backlog of slow handlers, pumps, and the course of a run. What is left here is how
they are joined, and the public methods, most of whose lines are what they promise.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiomos.app import App, Gaps, Overlap, Urgent
from aiomos.engine.engine import Engine
from aiomos.errors import NotInLineError, OutputError
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.logging import get_logger
from aiomos.registrations import Registration
from aiomos.runtime.attachments import Attachments
from aiomos.runtime.backlog import Backlog
from aiomos.runtime.clock import Clock, current_clock
from aiomos.runtime.course import Course
from aiomos.runtime.failures import Failures
from aiomos.runtime.interrupts import describe_tasks
from aiomos.runtime.listeners import Listener
from aiomos.runtime.live import LivePump
from aiomos.runtime.neighbours import Neighbours
from aiomos.runtime.opening import opened
from aiomos.runtime.pickup import PickUp
from aiomos.runtime.pumps import CapturePump, Feed, Progress, Pump, SimulatedPump
from aiomos.runtime.statistics import Report, Statistics, warn_of_unread
from aiomos.runtime.turns import Turns
from aiomos.runtime.wanted import Wanted
from aiomos.runtime.watching import Ground, Watcher
from aiomos.settings import Settings
from aiomos.steps import Steps
from aiomos.transport.source import FrameSource
from aiomos.transport.transport import Transport
from aiomos.ude.filters import Filter
from aiomos.ude.locating import located

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_SIZE = 1 << 20
"""Bytes of a capture read at once: frames enough that a handler, woken once a batch, finds more than one chunk."""


class Runtime:
    """One engine with its source of frames, inside a running event loop.

    Args:
        pcap: Captures to read: files, patterns, ``-`` for standard input; merged by time.
        source: Frames from elsewhere, instead of *pcap*.
        transport: Frames from a wire, as they come, instead of *pcap*.
        settings: Budgets, time-outs, how frames are read.
        progress: Called now and then while captures are read.
        shard: Of how many workers' shares of the flows which is to be taken, ``(index, count)``.
        signals: Whether apps may handle signals, as `firewall` does with SIGHUP; a runtime itself handles none.
        pump: Makes what feeds the engine, of an `aiomos.runtime.pumps.Feed`; by default where frames come from tells.
        key: 16 bytes, the key of hash tables, which a simulation derives from its seed; random ones by default.

    Raises:
        ValueError: none or several of *pcap*, *source* and *transport*, or a *key* of another length.

    Use it as an async context manager. Entering it opens the captures and raises `CaptureError` where one is none,
    `OSError` where it cannot be opened; leaving it cancels what still runs and closes the source::

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
        transport: Transport | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
        shard: tuple[int, int] = (0, 1),
        signals: bool = True,
        pump: Callable[[Feed], Pump] | None = None,
        key: bytes | None = None,
    ) -> None:
        if [pcap, source, transport].count(None) != 2:
            raise ValueError("a Runtime reads pcap=[...], source=... or transport=...: one of them")
        self.settings: Settings = settings or Settings()
        self.transport = transport
        self.signals = signals
        self.source: FrameSource
        if (given := transport or source) is not None:
            self.source = given
        self._captures = pcap
        self._is_live = transport is not None and not transport.virtual
        self._backlog = Backlog(self.settings.budgets, waits=not self._is_live)
        self._failures = Failures(
            on_error=self.settings.on_error,
            frames_go_on=transport is not None and bool(transport.forwards),
            stop=self.stop,
            attend=self._look_again,
        )
        self.engine: Engine = Engine(
            self.settings, os.urandom(16) if key is None else key, self._failures.of_callback, shard
        )
        self.engine.face = self
        self.engine.on_unread = warn_of_unread
        if transport is not None:
            interfaces = transport.interfaces
            names = [interface.name for interface in interfaces]
            links = [(interface.mac, interface.mtu) for interface in interfaces]
            self.engine.open(transport.forwards, names, links)
            self.engine.read_clock = transport.now
        self._clock = Clock(self.engine, self._backlog, self._attend_soon)
        self._turns = Turns(self._clock, self._backlog, self._failures)
        self._wanted = Wanted(bounded=not self.settings.decapsulate)
        pickup = PickUp(self.engine, self._attend_soon)
        self.attachments = Attachments(
            self,
            Ground(
                engine=self.engine,
                clock=self._clock,
                backlog=self._backlog,
                failures=self._failures,
                wanted=self._wanted,
                pickup=pickup,
                turns=self._turns,
            ),
        )
        self._statistics = Statistics(self.engine, transport, self.attachments, self._backlog, self._failures)
        self._course = Course(
            engine=self.engine,
            clock=self._clock,
            turns=self._turns,
            failures=self._failures,
            pickup=pickup,
            read=self._read_all,
            handlers=lambda: self.handlers,
            flush=self._flush,
        )
        self._progress = progress
        self._make_pump = pump or self._usual_pump
        self._pump: Pump | None = None
        self._is_stopped = False
        self._is_cut = False

    # --- apps ------------------------------------------------------------------------------------------

    async def attach(self, app: App) -> None:
        """Run an app's start-up functions, and show it traffic from now on.

        Flows that are running are shown to those of its registrations that take flows in mid-stream; their earlier
        bytes are a gap. So are registrations that the app makes later.

        Raises:
            RegistrationError: the app is attached already, or the engine takes no more registrations.
        """
        await self.attachments.attach(app)

    async def detach(self, app: App) -> None:
        """Show an app no more traffic: leave its connections, end its handlers, and run its shut-down functions.

        All of these run, whatever one of them raises; that is raised at the end, the first of several.

        Raises:
            RegistrationError: the app is not attached.
        """
        await self.attachments.detach(app)

    def install(self, registration: Registration) -> None:
        """Have a registration count from now on that an attached app has made."""
        self.attachments[registration.app].install(registration)

    def withdraw(self, registration: Registration) -> None:
        """Have a registration of an attached app count no more."""
        self.attachments[registration.app].withdraw(registration)

    @located()
    def monitor(
        self,
        filter: str = "",  # noqa: A002 - the word of the field
        *,
        level: Level = Level.STREAM,
        midstream: bool = False,
        overlap: Overlap = "first",
        gaps: Gaps = "raise",
        urgent: Urgent = "inline",
    ) -> Listener:
        """Listen for connections that a filter picks; use it with ``async with``.

        Args:
            filter: Which connections.
            level: How much of them to follow.
            midstream: Whether to take those whose handshake was not captured.
            overlap: Which bytes count where segments overlap and differ.
            gaps: What missing bytes do to a reader: raise, mark, skip or zero.
            urgent: Whether urgent bytes are part of the stream, inline, or left out, out_of_band.
        """
        chosen = Filter(filter)

        def watch(accept: Callable[[MonitorConnection], object]) -> Watcher:
            watcher = self.attachments.open("listener")
            connect = watcher.connector(gaps, level)

            def opener(flow: Flow) -> MonitorConnection:
                accept(connection := connect(flow))
                return connection

            watcher.watch(chosen, level, midstream=midstream, overlap=overlap, urgent=urgent, opener=opener)
            return watcher

        return Listener(self._course, watch)

    @property
    def apps(self) -> list[App]:
        """The apps that are attached, in the order in which they see packets from the client."""
        return [attachment.app for attachment in self.attachments]

    # --- the wire --------------------------------------------------------------------------------------

    @property
    def interfaces(self) -> list[str]:
        """Names of the interfaces of a live run."""
        return [interface.name for interface in self.transport.interfaces] if self.transport else []

    @property
    def neighbours(self) -> Neighbours:
        """Where hosts of our links are, and addresses that are answered for."""
        return Neighbours(self.engine, self.interfaces)

    def send(self, frame: "Buffer", interface: str | int = 0) -> None:
        """Send a frame: after those before it, or between batches at once.

        Args:
            frame: Its bytes, from the link layer on, without a checksum of its own.
            interface: Name or index of the interface by which it is to leave.

        Raises:
            NotInLineError: frames come from a capture: there is no wire to send to.
            ValueError: no such interface.
        """
        if self.transport is None:
            raise NotInLineError("there is no wire to send to: frames come from a capture")
        index = self.interfaces.index(interface) if isinstance(interface, str) else interface
        if not 0 <= index < len(self.interfaces):
            raise ValueError(f"no interface {index}: there are {len(self.interfaces)}")
        self.engine.send(frame, index, self.transport.interfaces[index].linktype)

    def _flush(self) -> None:
        if self.transport is not None:
            self.engine.flush(self.transport)

    # --- what is known ---------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time, seconds since the epoch: of the latest frame, or live of the transport; 0.0 before the first."""
        return self._clock.now

    async def sleep(self, seconds: float) -> None:
        """Wait on the engine's clock: packet time offline. When frames run out, all sleepers wake.

        Raises:
            RuntimeError: frames have run out, and the task does nothing but sleep, again and again.
            ValueError: *seconds* is nan.
        """
        await self._clock.sleep(seconds)

    def flows(self) -> Iterator[Flow]:
        """Yield what is known of each open flow at this moment; batches may pass between two of them."""
        return self.engine.open_flows()

    def app_statistics(self) -> dict[App, dict[str, float]]:
        """Return what each app holds and has cost.

        Returns:
            ``flows`` it watches now, ``callbacks`` called, ``callback_seconds`` spent in them, ``handlers`` running,
            ``handler_seconds`` spent in them (both estimated from one in 64), ``bytes`` handed to its streams,
            ``errors`` raised, ``gap_bytes`` it did not read in time.
        """
        return self._statistics.of_apps()

    def calls(self) -> dict[str, tuple[int, int]]:
        """Return, by the name of each app, how often its handlers and callbacks were called, and how many raised."""
        return self._statistics.calls()

    def statistics(self) -> dict[str, int]:
        """Return the engine's counters, and those of handlers, callbacks and readers."""
        return self._statistics.counters()

    @property
    def errors(self) -> Counter[str]:
        """How handlers and callbacks have failed, and how often."""
        return self._failures.counts

    @property
    def unread_bytes(self) -> int:
        """Bytes that handlers could read and have not."""
        return self._backlog.unread_bytes

    @property
    def handlers(self) -> set[asyncio.Task[None]]:
        """The handlers that run, of all apps."""
        return self.attachments.handlers

    def waits_for(self) -> str:
        """Say what the end of the run waits for; may be asked in any thread."""
        return describe_tasks({each.app.name: set(each.handlers.tasks) for each in self.attachments})

    # --- the run ---------------------------------------------------------------------------------------

    async def run(self) -> Report:
        """Read all frames, and wait until every handler has returned.

        Raises:
            CaptureError: the capture broke off; what could be read has been processed, and handlers are done.
            OutputError: what an app writes is lost; the same.
            BaseException: KeyboardInterrupt, SystemExit or another that is no `Exception`, raised by an app.
        """
        begun = time.perf_counter()
        self._course.begin()
        await self._course.end()
        return Report(
            frames=self.source.frames_read,
            counters=self.statistics(),
            seconds=time.perf_counter() - begun,
            calls=self.calls(),
        )

    def stop(self) -> None:
        """Have the run end early: flows end where they stand, handlers come to their end, and `run` returns."""
        self._is_stopped = True
        if self._pump is not None:
            self._pump.stop()

    def end_with(self, error: BaseException) -> None:
        """Have the run end, in good order, with an exception; of several, with the first."""
        self._failures.end_with(error)

    def output_failed(self, error: OutputError) -> None:
        """Have the run end early, for what an app writes is lost; in line frames go on, and it fails at its end."""
        self._failures.of_output(error)

    def cut_short(self) -> None:
        """Cancel the handlers that have not ended in time; what they would have said is lost, and counted."""
        handlers = self.handlers
        if handlers and not self._is_cut:
            self._is_cut = True
            self.errors["handlers_cut_short"] += len(handlers)
            get_logger("aiomos").error("handlers_cut_short", waited_for=self.waits_for())
            for task in handlers:
                task.cancel()

    def _usual_pump(self, feed: Feed) -> Pump:
        """Make the pump that where frames come from needs."""
        if self.transport is None:
            return CapturePump(feed, self.source)
        return LivePump(feed, self.transport) if self._is_live else SimulatedPump(feed, self.transport)

    async def _read_all(self) -> None:
        assert self._pump is not None
        if self.transport is not None and self._is_live:
            self._wanted.apply_to(self.transport)
            names = [interface.name for interface in self.transport.interfaces]
            get_logger("aiomos").info("ready", interfaces=names, apps=[app.name for app in self.apps])
        await self._pump.run()

    def _attend_soon(self) -> None:
        if self._pump is not None:
            self._pump.attend_soon()

    def _look_again(self) -> None:
        self._backlog.check()
        self._attend_soon()

    # --- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the captures, and make this the runtime that `aiomos.sleep` goes by."""
        if self._captures is not None:
            self.source = await opened(self._captures, block_size=BLOCK_SIZE)
        self._pump = self._make_pump(
            Feed(engine=self.engine, clock=self._clock, turns=self._turns, progress=self._progress)
        )
        current_clock.set(self._clock)
        self._failures.listen()
        if self._is_stopped:
            self._pump.stop()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what still runs, detach the apps and close the source; each is done, whatever another raises."""
        self._failures.close()
        tasks = [task for task in (*self.handlers, self._course.task) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        steps = Steps()
        for app in reversed(self.apps):
            with steps:
                await self.detach(app)
        with steps:
            self._flush()
        with steps:
            self.source.close()
        if exc is None and self._failures.ends_program:  # raised by a handler at its end
            with steps:
                self._failures.check()
        steps.conclude(exc)
