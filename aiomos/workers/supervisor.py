"""The supervisor: starts workers, replaces those that die or hang, and speaks for all of them.

It handles no frames. What workers have in common is here: the packet sockets, which outlive a worker, the files that
apps write, the control socket, the metrics, and the signals.
"""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import attrs

from aiomos.console.control import Stats, bound, carrying_out
from aiomos.console.metrics import Exporter
from aiomos.console.running import loop_factory
from aiomos.console.snapshot import Snapshot, show
from aiomos.errors import AiomosError, OutputError, WorkerError
from aiomos.logging import get_logger
from aiomos.runtime.interrupts import TELL_SECONDS
from aiomos.runtime.signals import handled
from aiomos.runtime.statistics import Report
from aiomos.steps import ENDS_PROGRAM
from aiomos.transport.clock import LiveClock
from aiomos.transport.wires import InLine
from aiomos.workers.commands import WorkersCommands, add_counters, ask
from aiomos.workers.merging import Files, Merger
from aiomos.workers.plan import AppPlan, Plan, Task
from aiomos.workers.process import WorkerProcess
from aiomos.workers.records import Ending, Record

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds before a worker that died is started anew: the first, doubled with each death, and no more than the last."""

MOST_DEATHS = 5
DEATHS_SECONDS = 60.0
"""A worker that dies so often within so many seconds, each time before it ran or over a capture, is given up."""

DRAIN_SECONDS = 3.0
"""How long workers may take, beyond the time of grace of their handlers, to end after they were asked to."""

LOOK_SECONDS = 0.5
"""How often the watchdog looks."""

ANSWER_SECONDS = 3.0
"""How long a worker may take to tell its figures."""

PROMETHEUS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes leave what their apps count by prometheus-client, in the environment."""


class Supervisor:
    """Run workers to their end.

    Args:
        plan: What they run.
        folder: For their control sockets.

    Attributes:
        apps: What is attached now.
        workers: The workers.
        interrupted: The signal that ended the run early, if one did.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self.apps: list[AppPlan] = list(plan.apps)
        cpus = sorted(os.sched_getaffinity(0))
        sockets = plan.wire.open_sockets(plan.workers) if plan.wire is not None else [()] * plan.workers
        self.workers = [
            WorkerProcess(
                number=number,
                cpu=cpus[number % len(cpus)],
                control=folder / f"{number}.sock",
                sockets=sockets[number],
            )
            for number in range(plan.workers)
        ]
        self._clock = LiveClock()
        self._files = Files(plan.workers, failed=self._output_failed)
        self._merger = Merger(plan.workers, self._files, ordered=bool(plan.captures))
        self._moved = asyncio.Event()  # set when records have been passed on
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self.interrupted: signal.Signals | None = None
        self._log = get_logger("aiomos.workers")

    async def run(self) -> Report:
        """Run until every worker has come to its end.

        Raises:
            AiomosError: what a worker ended with, as if it had run alone.
            KeyboardInterrupt, SystemExit: raised by an app in a worker.
            OSError: the same, or a file cannot be written.
            WorkerError: a worker died again and again.
        """
        begun = time.perf_counter()
        watching = self._watchdog() if self._plan.watchdog else nullcontext()
        try:
            async with watching:
                await asyncio.gather(*map(self._keep, self.workers))
        finally:
            for worker in self.workers:
                worker.close()
            self._files.close()
        if self._failure is not None:
            raise self._failure
        endings = [worker.ending for worker in self.workers if worker.ending is not None]
        counters = add_counters([ending.counters for ending in endings])
        return Report(
            frames=counters.get("frames", 0),
            counters=counters,
            seconds=time.perf_counter() - begun,
            calls=_add_calls(endings),
        )

    def interrupt(self, number: signal.Signals) -> None:
        """Have workers end their flows where they stand and come to their end; a second time, by force."""
        if self._stopping.is_set():
            self._kill()
        else:
            self.interrupted = number
            self._stop()

    def _fail(self, error: BaseException) -> None:
        """Note what `run` is to raise, of several the first."""
        self._failure = self._failure or error

    def _output_failed(self, error: OutputError) -> None:
        """End the run early, for what apps write is lost; in line frames go on, and it fails at its end."""
        if error is self._failure:
            return
        if self._failure is None and isinstance(self._plan.wire, InLine):
            self._log.error("output_failed", error=str(error), note="frames are passed on")
        self._fail(error)
        if not isinstance(self._plan.wire, InLine):
            self._stop()

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        loop.call_later(min(TELL_SECONDS, self._plan.grace), self._tell_of_waiting)
        loop.call_later(self._plan.grace + DRAIN_SECONDS, self._kill)

    def _tell_of_waiting(self) -> None:
        alive = [worker.number for worker in self.workers if worker.is_alive()]
        if alive:
            self._log.warning(
                "ending",
                waits_for=f"workers {', '.join(map(str, alive))}",
                at_most_seconds=self._plan.grace + DRAIN_SECONDS - TELL_SECONDS,
                note="Ctrl-C again ends them at once",
            )

    def _kill(self) -> None:
        for worker in self.workers:
            if worker.is_alive():
                self._log.error("worker_killed", worker=worker.number, reason="it did not end in time")
                self._fail(
                    WorkerError(
                        f"worker {worker.number} did not end in time and was killed; what it held is lost"
                    )
                )
                worker.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on to every worker."""
        for worker in self.workers:
            worker.signal(number)

    async def look(self) -> list[Snapshot]:
        """Ask every worker for its figures."""
        return list(await asyncio.gather(*map(self._look_at, self.workers)))

    # --- one worker -----------------------------------------------------------------------------------

    async def _keep(self, worker: WorkerProcess) -> None:
        """Run a worker, and another one in its place if it dies, until one comes to its end."""
        try:
            await self._keep_alive(worker)
        except (AiomosError, OSError) as error:
            self._fail(error)
            self._stop()
        finally:
            self._merger.end(worker.number)
            self._moved.set()

    async def _keep_alive(self, worker: WorkerProcess) -> None:
        clock = asyncio.get_running_loop().time
        deaths: list[float] = []
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = clock()
            how = describe_status(await self._run_once(worker))
            if worker.ending is not None:
                self._take_ending(worker.ending)
                return
            if self._stopping.is_set():
                return
            if clock() - started > DEATHS_SECONDS:
                pause = FIRST_PAUSE
            if not worker.has_run or self._plan.captures:
                deaths = [when for when in (*deaths, clock()) if clock() - when < DEATHS_SECONDS]
            if len(deaths) >= MOST_DEATHS:
                raise WorkerError(f"worker {worker.number} died {MOST_DEATHS} times in a row, last by {how}")
            self._log.error("worker_died", worker=worker.number, status=how, restart_in=pause)
            await self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            worker.restarts += 1
            worker.to_skip = worker.received if self._plan.captures else 0

    def _take_ending(self, ending: Ending) -> None:
        """An error ends the run, as it would alone; over captures the other workers read theirs to the end."""
        if ending.error is not None:
            self._fail(ending.error)
            ends_all = isinstance(ending.error, ENDS_PROGRAM) or self._plan.settings.on_error == "raise"
            if ends_all or not self._plan.captures:
                self._stop()

    async def _run_once(self, worker: WorkerProcess) -> int:
        plan = attrs.evolve(self._plan, apps=tuple(self.apps))
        link = worker.start(
            Task(
                plan=plan,
                number=worker.number,
                cpu=worker.cpu,
                control=worker.control,
                clock_base_ns=self._clock.base_ns,
                restarts=worker.restarts,
            )
        )
        worker.heard = asyncio.get_running_loop().time()
        return await worker.follow(link, partial(self._receive, worker))

    async def _receive(self, worker: WorkerProcess, records: Sequence[Record]) -> None:
        """Pass on what a worker writes; let it wait while it is too far ahead of the others."""
        self._merger.add(worker.number, records)
        self._moved.set()
        while self._merger.is_ahead(worker.number):
            self._moved.clear()
            await self._moved.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _look_at(self, worker: WorkerProcess) -> Snapshot:
        if worker.ending is not None:
            return Snapshot(
                worker=worker.number,
                restarts=worker.restarts,
                counters=worker.ending.counters,
                budgets=self._plan.settings.budgets,
            )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await ask(worker.control, Stats())
        except (AiomosError, TimeoutError):
            return Snapshot(worker=worker.number, up=False, restarts=worker.restarts)
        return Snapshot(
            worker=worker.number,
            restarts=worker.restarts,
            counters=answer["counters"],
            apps=answer["apps"],
            budgets=self._plan.settings.budgets,
        )

    # --- the watchdog ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _watchdog(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        """Kill workers that give no sign of life: they are started anew like any that died."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            late = now - looked > 2 * LOOK_SECONDS
            looked = now
            if late:  # we have been held up ourselves, so what they said meanwhile has not been read
                continue
            for worker in self.workers:
                silent = now - worker.heard
                if worker.has_run and worker.is_alive() and silent > self._plan.watchdog:
                    self._log.error("worker_hangs", worker=worker.number, silent_seconds=round(silent, 1))
                    worker.heard = now  # so that it is killed once
                    worker.signal(signal.SIGKILL)


def _add_calls(endings: Sequence[Ending]) -> dict[str, tuple[int, int]]:
    total: dict[str, tuple[int, int]] = {}
    for ending in endings:
        for name, (calls, errors) in ending.calls.items():
            before = total.get(name, (0, 0))
            total[name] = before[0] + calls, before[1] + errors
    return total


def describe_status(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def run_workers(plan: Plan, *, control: str | None = None, metrics: str | None = None) -> Report:
    """Run workers to their end, in an event loop of this process.

    Args:
        plan: What they run.
        control: Path of a socket for ``aiomos ctl``: about all workers together.
        metrics: Address for Prometheus to scrape: of each worker.

    Raises:
        AiomosError: what a worker ended with.
        OSError: the same, or a socket or file cannot be had.
        KeyboardInterrupt: Ctrl-C, over captures; apps have given the results so far.
        SystemExit: SIGTERM, over captures; the same.
    """
    with tempfile.TemporaryDirectory(prefix="aiomos-") as folder, ExitStack() as stack:
        listener = stack.enter_context(bound(control)) if control is not None else None
        exporter = stack.enter_context(_exporter(metrics, folder)) if metrics is not None else None
        main = _supervise(plan, Path(folder), listener, exporter)
        with asyncio.Runner(loop_factory=loop_factory(plan.loop)) as runner:
            report, interrupted = runner.run(main)
    if plan.captures and interrupted is signal.SIGINT:
        raise KeyboardInterrupt
    if plan.captures and interrupted is not None:
        raise SystemExit(128 + interrupted)  # as shells report it
    return report


async def _supervise(
    plan: Plan, folder: Path, listener: socket.socket | None, exporter: Exporter | None
) -> tuple[Report, signal.Signals | None]:
    supervisor = Supervisor(plan, folder)
    if exporter is not None:
        exporter.read_from(supervisor.look)
    commands = WorkersCommands(supervisor.workers, supervisor.apps)
    with _signals_of(supervisor):
        async with carrying_out(listener, commands) if listener is not None else nullcontext():
            return await supervisor.run(), supervisor.interrupted


@contextmanager
def _exporter(address: str, folder: str) -> Iterator[Exporter]:
    """Serve metrics, among them what apps count by prometheus-client in the workers."""
    os.environ[PROMETHEUS_DIRECTORY] = folder
    try:
        with Exporter(address, directory=folder) as exporter:
            yield exporter
    finally:
        del os.environ[PROMETHEUS_DIRECTORY]


@contextmanager
def _signals_of(supervisor: Supervisor) -> Iterator[None]:
    """Have signals do to all workers what they do to a run that is alone."""
    loop = asyncio.get_running_loop()
    shown: set[asyncio.Task[None]] = set()

    def show_state() -> None:
        task = loop.create_task(_show(supervisor))
        shown.add(task)
        task.add_done_callback(shown.discard)

    handlers: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGINT: partial(supervisor.interrupt, signal.SIGINT),
        signal.SIGTERM: partial(supervisor.interrupt, signal.SIGTERM),
        signal.SIGHUP: partial(supervisor.signal, signal.SIGHUP),
        signal.SIGUSR1: show_state,
    }
    with handled(handlers):
        yield


async def _show(supervisor: Supervisor) -> None:
    for snapshot in await supervisor.look():
        show(snapshot, worker=snapshot.worker, answers=snapshot.up)
