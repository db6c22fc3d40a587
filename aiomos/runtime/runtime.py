"""Where apps, engine, transport and event loop meet.

The pump reads a batch of frames, feeds the engine, and gives the loop a turn so that the handlers it has woken can
run. Offline nothing is dropped: when a handler is slow, the pump waits for it.
"""

import asyncio
import inspect
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from types import TracebackType, coroutine
from typing import TYPE_CHECKING, Any, Self

import attrs

from aiomos.app import (
    App,
    Callback,
    CallbackRegistration,
    Gaps,
    MonitorRegistration,
    Overlap,
    TrackRegistration,
    Urgent,
    asks_for_engine,
)
from aiomos.engine.engine import Engine
from aiomos.engine.registry import Account, Call
from aiomos.errors import (
    CaptureError,
    ConnectionEvicted,
    ConnectionReset,
    ConnectionTimedOut,
    NotInLineError,
    OutputError,
    RegistrationError,
    StreamGap,
    TransportError,
)
from aiomos.face.streams import MonitorConnection, Pressure
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.logging import get_logger
from aiomos.outputs import MACHINE_ERRORS, STANDARD_OUTPUT, failure_told, reader_is_gone, running
from aiomos.runtime.interrupts import describe_tasks
from aiomos.runtime.listeners import Listener
from aiomos.runtime.live import LivePump
from aiomos.runtime.opening import opened
from aiomos.runtime.prefilter import prefilter
from aiomos.runtime.sleepers import Sleepers
from aiomos.settings import Settings
from aiomos.starting import starting
from aiomos.steps import ENDS_PROGRAM, Steps
from aiomos.transport.source import FrameSource
from aiomos.transport.transport import Transport
from aiomos.ude.filters import Filter
from aiomos.ude.locating import located
from aiomos.ude.parameters import place
from aiomos.wire.protocols import Layer, number_name

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress = Callable[[int, int | None, int], None]
"""Called now and then with bytes read, bytes in all (None for a pipe), frames."""

PATH_ERRORS = (StreamGap, ConnectionReset, ConnectionTimedOut, ConnectionEvicted)
"""What the wire did; a handler that lets it through just ends."""

MOST_SLEEP_SECONDS = 1e10
"""More than any run lasts, and any capture spans."""

LOGGED_ERRORS = 10
"""Exceptions of one app's handlers or callbacks that are logged; more are only counted."""

BLOCK_SIZE = 1 << 20
"""Bytes of a capture read at once: frames enough that a handler, woken once a batch, finds more than one chunk."""

STALL_SECONDS = 10.0
"""How long handlers may hold the reader back before it is logged."""

SIMULATED_STEP_NS = 1_000_000_000
"""A simulation in which sessions are open goes no farther at once: so soon it ends when nothing is left to happen."""

MOST_LAST_SLEEPS = 10_000
"""How often a task may sleep once frames have run out, when no time passes any more."""

SAMPLED = 64
"""One handler in so many is timed, and stands for the others."""

_current: ContextVar["Runtime"] = ContextVar("aiomos_runtime")
_pressure: ContextVar[Pressure] = ContextVar("aiomos_pressure")
"""Of the app whose code runs."""


@attrs.define(eq=False, kw_only=True)
class Attachment:
    """What a runtime keeps of an app that is attached.

    Attributes:
        account: The engine's side of it.
        pressure: Unread bytes of its handlers: each app has its own, so that none pays for another's slowness.
        rules: The engine's rules for its callbacks and tracks, by what they want.
        users: How many registrations share each of them.
        handlers: Those that run.
        started: Whether its start-up functions have returned.
        started_handlers: How many handlers were started.
        sampled_seconds: Time spent in those that were timed.
        errors: Exceptions of handlers.
    """

    account: Account
    pressure: Pressure
    rules: dict[tuple[str, Level, bool, bool, bool], int] = attrs.field(factory=dict)
    users: Counter[int] = attrs.field(factory=Counter)
    handlers: set[asyncio.Task[None]] = attrs.field(factory=set)
    started: bool = False
    started_handlers: int = 0
    sampled_seconds: float = 0.0
    errors: int = 0


@attrs.frozen(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        frames: Frames read.
        counters: Counters by name, as `Runtime.statistics` gives them.
        seconds: Wall time from the first read to the end of the last handler.
        calls: By the name of each app, how many handlers and callbacks were called, and how many of these raised.
    """

    frames: int
    counters: dict[str, int]
    seconds: float
    calls: dict[str, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the apps whose every handler and callback raised."""
        return [name for name, (calls, errors) in self.calls.items() if calls and errors >= calls]


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

    Raises:
        ValueError: none or several of *pcap*, *source* and *transport*.

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
        self.engine: Engine = Engine(self.settings, os.urandom(16), self._callback_failed, shard)
        self.engine.face = self
        self.engine.on_unread = _warn_of_unread
        if transport is not None:
            self.engine.open(transport.forwards, [interface.name for interface in transport.interfaces])
            self.engine.read_clock = transport.now
        self._attachments: dict[App, Attachment] = {}
        self._pressures: list[Pressure] = []
        self._own_pressure = self._new_pressure()  # of listeners, and of whoever belongs to no app
        self.errors: Counter[str] = Counter()
        self._logged: Counter[object] = Counter()
        self._progress = progress
        self._listeners: set[Listener] = set()
        self._filters: dict[object, list[Filter | None]] = {}
        self._sleepers = Sleepers()
        self._pump_task: asyncio.Task[None] | None = None
        self._live: LivePump | None = None
        self._stopped = False
        self._finished = False
        self._out_of_frames = False
        self._fatal: BaseException | None = None
        self._exit: BaseException | None = None
        self._lost: list[OSError] = []
        self._cut = False
        self._picks_up = False
        self._starving: asyncio.Event | None = None
        self._last_sleeps: Counter[asyncio.Task[Any] | None] = Counter()

    # --- apps ------------------------------------------------------------------------------------------

    async def attach(self, app: App) -> None:
        """Run an app's start-up functions, and show it traffic from now on.

        Flows that are running are shown to those of its registrations that take flows in mid-stream; their earlier
        bytes are a gap. So are registrations that the app makes later.

        Raises:
            RegistrationError: the app is attached already, or the engine takes no more registrations.
        """
        if app in self._attachments:
            raise RegistrationError(f"{app} is attached already")
        pressure = self._new_pressure()
        attachment = self._attachments[app] = Attachment(
            account=self.engine.add_account(app.name), pressure=pressure
        )
        try:
            with starting() as undo:
                undo.callback(_put_back, app, list(app.monitors), list(app.callbacks), list(app.tracks))
                token, told = _pressure.set(pressure), failure_told.set(self.output_failed)
                try:
                    for function in app.startup_functions:
                        await self._call(function)
                finally:
                    _pressure.reset(token)
                    failure_told.reset(told)
            attachment.started = True
            for monitor in app.monitors:
                self.add_handler(monitor)
            for callback in app.callbacks:
                self.add_callback(callback)
            for track in app.tracks:
                self.add_track(track)
        except BaseException:
            await self.detach(app)
            raise
        app.runtimes.append(self)

    async def detach(self, app: App) -> None:
        """Show an app no more traffic: leave its connections, end its handlers, and run its shut-down functions.

        All of these run, whatever one of them raises; that is raised at the end, the first of several.

        Raises:
            RegistrationError: the app is not attached.
        """
        attachment = self._attachments.pop(app, None)
        if attachment is None:
            raise RegistrationError(f"{app} is not attached")
        if self in app.runtimes:
            app.runtimes.remove(self)
        for callback in app.callbacks:
            callback.on_cancel.pop(self, None)
        self.engine.remove_account(attachment.account)
        self._wants_no_more(app)
        others = attachment.handlers - {asyncio.current_task()}
        for task in others:
            task.cancel()
        steps = Steps()
        with steps:
            if others:
                await asyncio.wait(others)
        self._pressures.remove(attachment.pressure)
        self._relieve()
        if attachment.started:
            for function in reversed(app.shutdown_functions):
                with steps:
                    await self._call(function)
        steps.conclude()

    async def _call(self, function: Callable[..., Any]) -> None:
        """Call a start-up or shut-down function."""
        result = function(engine=self) if asks_for_engine(function) else function()
        if inspect.isawaitable(result):
            await result

    @property
    def apps(self) -> list[App]:
        """The apps that are attached, in the order in which they see packets from the client."""
        return list(self._attachments)

    @property
    def interfaces(self) -> list[str]:
        """Names of the interfaces of a live run."""
        return [interface.name for interface in self.transport.interfaces] if self.transport else []

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
        watched = self.engine.count_flows([each.account for each in self._attachments.values()])
        return {
            app: {
                "flows": flows,
                "callbacks": attachment.account.callbacks,
                "callback_seconds": attachment.account.seconds,
                "handlers": len(attachment.handlers),
                "handler_seconds": attachment.sampled_seconds * SAMPLED,
                "bytes": attachment.account.bytes,
                "errors": attachment.account.errors + attachment.errors,
                "gap_bytes": attachment.pressure.overflow_bytes,
            }
            for (app, attachment), flows in zip(self._attachments.items(), watched, strict=True)
        }

    def add_handler(self, registration: MonitorRegistration) -> None:
        """Start a handler for the flows of a registration from now on."""
        attachment = self._attachments[registration.app]
        create_task = asyncio.get_running_loop().create_task
        connection = self._connection(registration.gaps, registration.level, attachment.pressure)
        context = copy_context()
        context.run(_pressure.set, attachment.pressure)
        context.run(failure_told.set, self.output_failed)

        def opener(flow: Flow) -> MonitorConnection:
            opened = connection(flow)
            task = create_task(self._handle(registration, attachment, opened), context=context.copy())
            attachment.handlers.add(task)
            return opened

        start = registration.start
        self._wants(registration.app, registration.filter)
        rule = self.engine.add_rule(
            registration.filter.program,
            registration.level,
            account=attachment.account,
            midstream=registration.midstream,
            overlap=registration.overlap,
            urgent=registration.urgent,
            opener=opener if start is None else None,
            keeps=start is not None and registration.level is Level.STREAM,
        )
        if start is not None:
            self.engine.start_at(rule, start, opener)
        if registration.midstream:
            self._pick_up(rule)

    def add_callback(self, registration: CallbackRegistration) -> None:
        """Call a callback from now on."""
        rule = self._rule(
            registration.app,
            registration.filter,
            registration.level,
            registration.midstream,
            keeps=registration.level is Level.STREAM,
            unbound=registration.unbound,
        )
        call = self.engine.add_call(
            rule,
            registration.event,
            registration.hook,
            registration.function,
            registration.parameters,
            registration.edits,
        )
        registration.on_cancel[self] = partial(self._forget_callback, registration.app, call, rule)

    def add_track(self, registration: TrackRegistration) -> None:
        """Follow the flows of a registration from now on."""
        self._rule(registration.app, registration.filter, registration.level, registration.midstream)

    def _forget_callback(self, app: App, call: Call, rule: int) -> None:
        """Call a callback no more; with the last that wanted them, its flows go as well."""
        self.engine.remove_call(call)
        attachment = self._attachments.get(app)
        if attachment is None:
            return
        attachment.users[rule] -= 1
        if attachment.users[rule] == 0:
            attachment.rules = {key: other for key, other in attachment.rules.items() if other != rule}
            self.engine.remove_rule(rule)

    def _rule(
        self,
        app: App,
        chosen: Filter,
        level: Level,
        midstream: bool,
        *,
        keeps: bool = False,
        unbound: bool = False,
    ) -> int:
        """Return the rule of an app for such flows.

        Registrations that want the same share one, if they are made before the app is attached: those made later
        begin later.
        """
        attachment = self._attachments[app]
        key = (str(chosen), level, midstream, keeps, unbound)
        rule = None if self in app.runtimes else attachment.rules.get(key)
        if rule is None:
            self._wants(app, None if unbound else chosen)
            rule = attachment.rules[key] = self.engine.add_rule(
                chosen.program,
                level,
                account=attachment.account,
                midstream=midstream,
                keeps=keeps,
                unbound=unbound,
            )
            if midstream and not unbound:
                self._pick_up(rule)
        attachment.users[rule] += 1
        return rule

    def _pick_up(self, rule: int) -> None:
        """Show running flows to a rule; of many, some in each turn of the loop, so that frames have theirs."""
        if self.engine.pick_up([rule]) and not self._picks_up:
            self._picks_up = True
            asyncio.get_running_loop().call_soon(self._pick_on)

    def _pick_on(self) -> None:
        self._picks_up = not self._finished and self.engine.pick_on()
        if self._picks_up:
            asyncio.get_running_loop().call_soon(self._pick_on)
        elif self._live is not None:
            self._live.attend_soon()

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

        def register(listener: Listener) -> Account:
            self._wants(listener, chosen)
            connection = self._connection(gaps, level, self._own_pressure)

            def opener(flow: Flow) -> MonitorConnection:
                opened = connection(flow)
                listener._accept(opened)
                return opened

            account = self.engine.add_account("listener")
            self.engine.add_rule(
                chosen.program,
                level,
                account=account,
                midstream=midstream,
                overlap=overlap,
                urgent=urgent,
                opener=opener,
            )
            return account

        return Listener(self, register)

    # --- what the kernel may leave out -----------------------------------------------------------------

    def _wants(self, owner: object, chosen: Filter | None) -> None:
        """Note which flows somebody watches; None: packets that belong to no flow."""
        self._filters.setdefault(owner, []).append(chosen)
        if self._live is not None:
            self._set_prefilter()

    def _wants_no_more(self, owner: object) -> None:
        self._filters.pop(owner, None)
        if self._live is not None:
            self._set_prefilter()

    def _set_prefilter(self) -> None:
        """Have the kernel leave out, if it can, what nobody watches."""
        assert self.transport is not None
        filters = [chosen for several in self._filters.values() for chosen in several]
        flows_only = [chosen for chosen in filters if chosen is not None]
        bounded = len(flows_only) == len(filters) and not self.settings.decapsulate
        self.transport.set_prefilter(prefilter(flows_only) if bounded and flows_only else None)

    def _connection(
        self, gaps: Gaps, level: Level, pressure: Pressure
    ) -> Callable[[Flow], MonitorConnection]:
        """Return what makes the connections of a registration."""
        return partial(
            MonitorConnection,
            pressure=pressure,
            released=self.engine.released,
            gaps=gaps,
            wanted=level is Level.STREAM,
        )

    # --- handlers and callbacks ------------------------------------------------------------------------

    async def _handle(
        self, registration: MonitorRegistration, attachment: "Attachment", connection: MonitorConnection
    ) -> None:
        """Run a handler on one connection and let the connection go after it."""
        attachment.started_handlers += 1
        running = registration.handler(connection)
        try:
            if attachment.started_handlers % SAMPLED == 0:
                await _timed(running, attachment)
            else:
                await running
        except PATH_ERRORS as error:
            self.errors[f"handlers_ended.{type(error).__name__}"] += 1
        except Exception as error:
            attachment.errors += 1
            self._failed("handler", registration.app.name, connection.flow, error)
        except (asyncio.CancelledError, GeneratorExit) as error:
            if _was_ended(error):
                raise
            attachment.errors += 1
            self._failed("handler", registration.app.name, connection.flow, error)
        except BaseException as error:  # out of a task, it would stop the loop in mid-air, or be lost
            self.end_with(error)
        finally:
            connection.leave()
            task = asyncio.current_task()
            assert task is not None
            attachment.handlers.discard(task)

    def _callback_failed(self, callback: Callback, flow: Flow | None, error: Exception) -> None:
        self._failed("callback", place(callback), flow, error)
        if self._fatal is not None:
            raise self._fatal

    def end_with(self, error: BaseException) -> None:
        """Have the run end, in good order, with an exception; of several, with the first."""
        self._fatal = self._fatal or error
        self._relieve()
        if self._live is not None:
            self._live.attend_soon()

    def _output_failed_elsewhere(self, error: OutputError) -> None:
        """Have the loop's thread do the same, whichever finds out."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.output_failed, error)

    def output_failed(self, error: OutputError) -> None:
        """Have the run end early, for what an app writes is lost; in line frames go on, and it fails at its end."""
        if error in self._lost:
            return
        self._lost.append(error)
        if self.transport is not None and self.transport.forwards:
            get_logger("aiomos").error("output_failed", error=str(error), note="frames are passed on")
        else:
            self.stop()

    def _failed(self, what: str, app: object, flow: Flow | None, error: BaseException) -> None:
        """An app raised: that is the end of its interest in this flow, and of nothing else."""
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            error = OutputError.of(STANDARD_OUTPUT, error)
        if isinstance(error, OutputError):
            self.output_failed(error)
            return
        self.errors[f"{what}_errors"] += 1
        self._logged[app] += 1
        if self.settings.on_error == "raise":
            self.end_with(error)
            return
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            self._lost.append(error)
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
            OutputError: what an app writes is lost; the same.
            BaseException: KeyboardInterrupt, SystemExit or another that is no `Exception`, raised by an app.
        """
        begun = time.perf_counter()
        self._start_pump()
        await self._check_pump()
        return Report(
            frames=self.source.frames_read,
            counters=self.statistics(),
            seconds=time.perf_counter() - begun,
            calls=self.calls(),
        )

    def calls(self) -> dict[str, tuple[int, int]]:
        """Return, by the name of each app, how often its handlers and callbacks were called, and how many raised."""
        return {
            app.name: (
                attachment.started_handlers + attachment.account.callbacks,
                attachment.errors + attachment.account.errors,
            )
            for app, attachment in self._attachments.items()
        }

    def statistics(self) -> dict[str, int]:
        """Return the engine's counters, and those of handlers, callbacks and readers."""
        counters: dict[str, int] = self.engine.statistics()
        if self.transport is not None:
            counters |= {f"transport.{name}": count for name, count in self.transport.statistics().items()}
            if self.transport.clock is not None:
                counters["transport.clock_steps"] = self.transport.clock.steps
        for pressure in self._pressures:
            counters["gap.unread"] += pressure.overflows
            counters["gap_bytes.unread"] += pressure.overflow_bytes
        counters["unread_bytes"] = self.unread_bytes
        return counters | dict(self.errors)

    def _start_pump(self) -> None:
        if self._pump_task is None:
            self._pump_task = asyncio.get_running_loop().create_task(self._pump())

    async def _check_pump(self) -> None:
        assert self._pump_task is not None
        await self._pump_task
        if self._exit is not None:
            raise self._exit

    def stop(self) -> None:
        """Have the run end early: flows end where they stand, handlers come to their end, and `run` returns."""
        self._stopped = True
        if self._live is not None:
            self._live.stop()
        if self._starving is not None:
            self._starving.set()

    async def _pump(self) -> None:
        broken: Exception | None = None
        _current.set(self)
        failure_told.set(self.output_failed)
        try:
            try:
                await self._read_all()
            except (CaptureError, TransportError) as error:
                broken = error
            while self.engine.pick_on():
                await self._turn()
            while self.engine.finish():
                await self._turn()
            self._flush()
            await self._drain()
        except ENDS_PROGRAM as error:  # as in _handle()
            self._exit = error
        finally:
            self._finished = True
            for listener in self._listeners:
                listener._wake()
        if broken is None and self._lost:
            broken = self._lost[0]
        if broken is not None:
            raise broken

    async def _read_all(self) -> None:
        if self.transport is None:
            await self._read_source()
        elif self.transport.virtual:
            await self._read_virtual(self.transport)
        else:
            await self._read_live(self.transport)

    async def _read_source(self) -> None:
        source, engine = self.source, self.engine
        while not self._stopped:
            if (descriptor := source.starved) is not None:
                self._starving = asyncio.Event()
                await _readable(descriptor, self._starving)
                if self._stopped:
                    return
            if not source.read_batch():
                return
            engine.feed(source)
            await self._turn()
            if self._progress is not None:
                self._progress(source.position(), source.total(), source.frames_read)

    async def _read_live(self, transport: Transport) -> None:
        """Process frames as they come; slow handlers are not waited for, what does not fit is a gap."""
        self._live = LivePump(self.engine, transport, self._sleepers, self._next_turn)
        self._set_prefilter()
        if self._stopped:  # while apps started; what has arrived is still taken
            self._live.stop()
        names = [interface.name for interface in transport.interfaces]
        get_logger("aiomos").info("ready", interfaces=names, apps=[app.name for app in self.apps])
        await self._live.run()

    async def _read_virtual(self, transport: Transport) -> None:
        """Process frames at the pace of a simulation: its time stands still while handlers run."""
        engine = self.engine
        self._flush()
        while not self._stopped:
            if transport.read_batch():
                engine.feed(transport)
            else:
                due = [at for at in (engine.deadline_ns, self._sleepers.due_ns) if at is not None]
                if engine.outlet.session_count:
                    due.append((transport.now() // SIMULATED_STEP_NS + 1) * SIMULATED_STEP_NS)
                if transport.ended and self._sleepers.due_ns is None:
                    return
                transport.pass_time(min(due, default=None))
                engine.pass_time(transport.now())
            self._flush()
            await self._turn()
            self._flush()

    def _flush(self) -> None:
        if self.transport is not None:
            self.engine.flush(self.transport)

    async def _turn(self) -> None:
        """Let woken handlers run, and wait for those that have fallen behind."""
        self._sleepers.wake(self.engine.clock_ns)
        await asyncio.sleep(0)
        while self._fatal is None and any(pressure.holds_back() for pressure in self._pressures):
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await self._relieved()
            except TimeoutError:
                get_logger("aiomos").warning("handlers_slow", unread_bytes=self.unread_bytes)
        self._next_turn()

    def _next_turn(self) -> None:
        """Readers have had their turn since the last batch."""
        for pressure in self._pressures:
            pressure.next_turn()
        if self._fatal is not None:
            raise self._fatal

    async def _relieved(self) -> None:
        """Wait until handlers may have caught up."""
        waiter = asyncio.get_running_loop().create_future()
        for pressure in self._pressures:
            pressure.waiter = waiter
        try:
            await waiter
        finally:
            for pressure in self._pressures:
                pressure.waiter = None

    def _relieve(self) -> None:
        """Have the pump look again."""
        for pressure in self._pressures:
            pressure.check()

    def _new_pressure(self) -> Pressure:
        budgets = self.settings.budgets
        waits = self.transport is None or self.transport.virtual
        self._pressures.append(Pressure(budgets.stream_bytes, budgets.stream_bytes_total, waits))
        return self._pressures[-1]

    @property
    def unread_bytes(self) -> int:
        """Bytes that handlers could read and have not."""
        return sum(pressure.total for pressure in self._pressures)

    @property
    def handlers(self) -> set[asyncio.Task[None]]:
        """The handlers that run, of all apps."""
        return {task for attachment in self._attachments.values() for task in attachment.handlers}

    def waits_for(self) -> str:
        """Say what the end of the run waits for; may be asked in any thread."""
        return describe_tasks({app.name: set(each.handlers) for app, each in list(self._attachments.items())})

    def cut_short(self) -> None:
        """Cancel the handlers that have not ended in time; what they would have said is lost, and counted."""
        handlers = self.handlers
        if handlers and not self._cut:
            self._cut = True
            self.errors["handlers_cut_short"] += len(handlers)
            get_logger("aiomos").error("handlers_cut_short", waited_for=self.waits_for())
            for task in handlers:
                task.cancel()

    async def _drain(self) -> None:
        """No more frames: let sleepers and handlers come to their end."""
        self._out_of_frames = True
        self._sleepers.wake_all()
        while handlers := self.handlers:
            await asyncio.wait(handlers, return_when=asyncio.FIRST_COMPLETED)
            self._sleepers.wake_all()
            if self._fatal is not None:
                raise self._fatal

    # --- the engine's clock ----------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The time, seconds since the epoch: of the latest frame, or live of the transport; 0.0 before the first."""
        return self.engine.now

    async def sleep(self, seconds: float) -> None:
        """Wait on the engine's clock: packet time offline. When frames run out, all sleepers wake.

        Raises:
            RuntimeError: frames have run out, and the task does nothing but sleep, again and again.
            ValueError: *seconds* is nan.
        """
        if self._out_of_frames:
            task = asyncio.current_task()
            self._last_sleeps[task] += 1
            if self._last_sleeps[task] > MOST_LAST_SLEEPS:
                raise RuntimeError("there are no more frames, and so no time to sleep: end when the flow has")
        if math.isnan(seconds):
            raise ValueError("sleep() takes a number of seconds, not nan")
        if seconds <= 0 or self._out_of_frames:
            await asyncio.sleep(0)
            return
        future = self._sleepers.add(self.engine.clock_ns + round(min(seconds, MOST_SLEEP_SECONDS) * 1e9))
        if self._live is not None:
            self._live.attend_soon()
        pressure = _pressure.get(self._pressures[0])
        pressure.sleeper(1)
        try:
            await future
        finally:
            pressure.sleeper(-1)

    # --- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the captures, and make this the runtime that `aiomos.sleep` goes by."""
        if self._captures is not None:
            self.source = await opened(self._captures, block_size=BLOCK_SIZE)
        _current.set(self)
        self._loop = asyncio.get_running_loop()
        running.append(self._output_failed_elsewhere)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what still runs, detach the apps and close the source; each is done, whatever another raises."""
        running.remove(self._output_failed_elsewhere)
        tasks = [task for task in (*self.handlers, self._pump_task) if task is not None]
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
        if exc is None and not isinstance(self._fatal, Exception | None):  # raised by a handler at its end
            with steps:
                raise self._fatal
        steps.conclude(exc)


def _put_back(
    app: App,
    monitors: list[MonitorRegistration],
    callbacks: list[CallbackRegistration],
    tracks: list[TrackRegistration],
) -> None:
    """Have an app be registered for what it was before it started."""
    app.monitors[:], app.callbacks[:], app.tracks[:] = monitors, callbacks, tracks


def _warn_of_unread(layer: int, number: int) -> None:
    name = Layer(layer).name.lower()
    get_logger("aiomos").warning("not_read", layer=name, number=number, name=number_name(layer, number))


def _was_ended(error: BaseException) -> bool:
    """Tell whether the task at hand was cancelled or closed from outside, or what it runs has made that up."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # the loop has ended
        return True
    return task is None or (isinstance(error, asyncio.CancelledError) and task.cancelling() > 0)


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


async def _readable(descriptor: int, ready: asyncio.Event) -> None:
    """Wait until a descriptor has something to read, or has come to its end, or the event is set."""
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.set_blocking(descriptor, True)  # uvloop has changed that; what is begun is read to its end


@coroutine
def _timed(running: Coroutine[Any, Any, None], attachment: "Attachment") -> Generator[Any, Any, None]:
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
            attachment.sampled_seconds += time.perf_counter() - begun
        try:
            answer, step = (yield waits_for), running.send
        except BaseException as error:  # cancelled: the handler is to know
            answer, step = error, running.throw
