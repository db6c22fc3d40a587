"""A worker: a process with an engine and an event loop, on one processor, that handles its share of the flows.

``python -m aiomos.workers.worker DESCRIPTOR`` is started by the supervisor alone, which is at the other end of that
socket: it sends the task, and receives what the apps write.
"""

import asyncio
import os
import pickle
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiomos import logging, outputs
from aiomos.app import App
from aiomos.console.running import loop_factory, patient_collector, serve
from aiomos.errors import AiomosError, EngineBug
from aiomos.loader import load_app
from aiomos.runtime.runtime import Runtime
from aiomos.transport.clock import LiveClock
from aiomos.workers.plan import Task
from aiomos.workers.records import Ending, What
from aiomos.workers.shared import SharedOutputs

FLUSH_SECONDS = 0.05
"""How long what was written may wait to be sent."""

CAPTURE_BEAT_SECONDS = 0.05
LIVE_BEAT_SECONDS = 1.0
"""How often a worker gives a sign of life; of captures, it is what the other workers' records wait for."""

FAILED = 1
LENGTH = struct.Struct("=I")


def send_task(link: socket.socket, task: Task) -> None:
    """Tell a worker what to do; for the supervisor."""
    text = pickle.dumps((sys.path, task))
    link.sendall(LENGTH.pack(len(text)) + text)


def receive_task(link: socket.socket) -> Task:
    """Learn what to do.

    Raises:
        EOFError: the supervisor is gone.
    """
    (length,) = LENGTH.unpack(_receive(link, LENGTH.size))
    path, task = pickle.loads(_receive(link, length))
    sys.path[:] = path  # what the supervisor can import can be imported here
    assert isinstance(task, Task)
    return task


def _receive(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        if not piece:
            raise EOFError("the supervisor is gone")
        data += piece
    return data


class Worker:
    """One worker's run.

    Args:
        link: The way to the supervisor.
        task: What to do.
    """

    def __init__(self, link: socket.socket, task: Task) -> None:
        self._link = link
        self._task = task
        self._plan = task.plan
        self._outputs = SharedOutputs(link, continues=task.restarts > 0 and not self._plan.captures)
        self._runtime: Runtime | None = None
        self._calls: dict[str, tuple[int, int]] = {}
        self._is_asked = False
        self._is_to_end = False

    def run(self) -> None:
        """Run to the end, and tell the supervisor how it was."""
        outputs.outputs = self._outputs
        sys.stdout = self._outputs.stdout
        error: BaseException | None = None
        try:
            with patient_collector(), asyncio.Runner(loop_factory=loop_factory(self._plan.loop)) as runner:
                runner.run(self._main())
        except asyncio.CancelledError:  # asked to end early, apps have given what they had; or it is an app's
            error = None if self._is_asked else RuntimeError("an app raised CancelledError")
        except KeyboardInterrupt:
            error = KeyboardInterrupt()
        except SystemExit as failure:  # an app's: it is to end the whole program
            error = SystemExit(failure.code if isinstance(failure.code, int | None) else str(failure.code))
        except EngineBug:
            raise
        except (AiomosError, OSError) as failure:
            error = failure
        except Exception as failure:
            # Alone, this would end the run with a traceback; whoever asked for that is to have it.
            if self._plan.settings.on_error != "raise":
                raise
            traceback.print_exc()
            error = RuntimeError(f"{type(failure).__name__}: {failure}")
        self._outputs.stdout.flush()
        counters = self._runtime.statistics() if self._runtime is not None else {}
        self._outputs.put(What.END, data=pickle.dumps(Ending(counters, error, self._calls)))
        self._outputs.flush()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        main = asyncio.current_task()
        assert main is not None
        loop.add_signal_handler(signal.SIGTERM, self._end, main)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # which the supervisor has blocked
        beat = CAPTURE_BEAT_SECONDS if self._plan.captures else LIVE_BEAT_SECONDS
        apps = [_loaded(app.place, app.options) for app in self._plan.apps]
        with (
            self._attended(partial(self._cancel, main)),
            self._sending(),
            _called_every(beat, self._outputs.beat),
            _listening(self._task.control) as listener,
        ):
            report = await serve(
                *apps,
                settings=self._plan.settings,
                control=listener,
                started=self._started,
                grace=self._plan.grace,
                **self._frames(),
            )
            self._calls = report.calls

    def _end(self, main: "asyncio.Task[None]") -> None:
        """End early: live, frames that have arrived are still taken, as they are by a process that is alone."""
        if self._plan.captures:
            self._cancel(main)
        elif self._runtime is None:  # apps start; frames may have been arriving since the worker before died
            self._is_to_end = True
            asyncio.get_running_loop().call_later(self._plan.grace, self._cancel_start, main)
        else:
            self._stop(self._runtime)

    def _stop(self, runtime: Runtime) -> None:
        runtime.stop()
        asyncio.get_running_loop().call_later(self._plan.grace, runtime.cut_short)

    def _cancel_start(self, main: "asyncio.Task[None]") -> None:
        if self._runtime is None:
            self._cancel(main)

    def _cancel(self, main: "asyncio.Task[None]") -> None:
        self._is_asked = True
        main.cancel()

    def _frames(self) -> dict[str, Any]:
        """Where this worker's frames come from, as `serve` is told."""
        plan, task = self._plan, self._task
        if plan.captures:
            return {"pcap": plan.captures, "shard": (task.number, plan.workers)}
        assert plan.wire is not None
        transport = plan.wire.open_transport([socket.socket(fileno=number) for number in task.sockets])
        transport.clock = LiveClock(task.clock_base_ns)
        return {"transport": transport, "shard": (task.number, plan.workers)}

    def _started(self, runtime: Runtime) -> None:
        """Apps are attached, and frames come next."""
        self._runtime = runtime
        self._outputs.clock = lambda: round(runtime.engine.now * 1e9)
        self._outputs.put(What.RUNNING)
        if self._is_to_end:
            self._stop(runtime)

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """Send what the apps write soon after they have written it."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(loop.call_later, FLUSH_SECONDS, self._outputs.flush)

        self._outputs.wake = wake
        try:
            yield
        finally:
            self._outputs.wake = bool

    @contextmanager
    def _attended(self, cancel: Callable[[], object]) -> Iterator[None]:
        """End early when there is no supervisor any more: nobody would take what the apps write."""
        loop = asyncio.get_running_loop()

        def heard() -> None:  # nothing is ever sent this way after the task
            loop.remove_reader(self._link)
            cancel()

        loop.add_reader(self._link, heard)
        try:
            yield
        finally:
            loop.remove_reader(self._link)


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """Listen for the supervisor, in its folder; a worker that died may have left its socket there."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        yield listener


@contextmanager
def _called_every(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def call() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, call)
        function()

    timer = loop.call_later(seconds, call)
    try:
        yield
    finally:
        timer.cancel()


def _loaded(place: str, options: tuple[str, ...]) -> App:
    app = load_app(place)
    app.configure(options)
    return app


def main() -> None:
    """Do what the supervisor says."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for apps that reload upon it; to others it means nothing
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    task = receive_task(link)
    os.sched_setaffinity(0, {task.cpu})
    logging.configure(task.plan.log_format, task.plan.log_level, worker=task.number)
    try:
        Worker(link, task).run()
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)
    finally:
        with suppress(
            OSError
        ):  # what is left of standard output would be written to a supervisor that is gone
            sys.stdout.flush()


if __name__ == "__main__":
    main()
