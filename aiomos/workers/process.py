"""A worker as the supervisor sees it: the process that runs now, and those that ran before it."""

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from aiomos.workers.plan import Task
from aiomos.workers.records import Ending, Reader, Record, What
from aiomos.workers.worker import send_task

PIECE = 1 << 18
"""Bytes that are read of a worker at once."""

Receive = Callable[[Sequence[Record]], Awaitable[None]]
"""Takes what a worker writes."""


@attrs.define(eq=False, kw_only=True)
class WorkerProcess:
    """One of the workers.

    Attributes:
        number: Which, from 0.
        cpu: The processor it runs on.
        control: Path of its control socket.
        sockets: Its packet sockets; they outlive its process.
        process: The process that runs now, or ran last.
        has_run: Whether that one has got to the frames.
        heard: When it last gave a sign of life, by the event loop's clock.
        restarts: How often it was started anew.
        received: Records that were received of it so far, over all processes.
        to_skip: Of a process that reads captures anew, the records that the one before has sent already.
        ending: How it ended, once it has.
    """

    number: int
    cpu: int
    control: Path
    sockets: Sequence[socket.socket] = ()
    process: subprocess.Popen[bytes] | None = None
    has_run: bool = False
    heard: float = 0.0
    restarts: int = 0
    received: int = 0
    to_skip: int = 0
    ending: Ending | None = None

    def start(self, task: Task) -> socket.socket:
        """Start a process; return this end of the way to it.

        It has a process group of its own, so that Ctrl-C reaches the supervisor alone.
        """
        ours, theirs = socket.socketpair()
        numbers = [sock.fileno() for sock in self.sockets]
        # It is told to end, and cannot yet: the signal waits until it can (worker._main).
        with theirs, _blocked(signal.SIGTERM):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aiomos.workers.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *numbers],
                process_group=0,
            )
        with suppress(OSError):  # it is dead already, which will be found out where it is read
            send_task(ours, attrs.evolve(task, sockets=tuple(numbers)))
        self.has_run = False
        return ours

    async def follow(self, link: socket.socket, receive: Receive) -> int:
        """Take what the process sends until it has ended.

        Args:
            link: The way to it.
            receive: Takes its records.

        Returns:
            Its exit status, negative for the signal that ended it.
        """
        assert self.process is not None
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_unix_connection(sock=link)
        records = Reader()
        try:
            while data := await reader.read(PIECE):
                self.heard = loop.time()
                await receive(self._taken(records.feed(data)))
        except ConnectionError:
            pass
        finally:
            writer.close()
        await ended(self.process)
        return self.process.wait()

    def _taken(self, records: Sequence[Record]) -> list[Record]:
        """Note what is about the worker itself, and return what it writes."""
        written: list[Record] = []
        for record in records:
            if record.what is What.RUNNING:
                self.has_run = True
            elif record.what is What.END:
                self.ending = pickle.loads(record.data)
            elif record.what is What.TIME:
                written.append(record)
            elif self.to_skip:
                self.to_skip -= 1
            else:
                self.received += 1
                written.append(record)
        return written

    def is_alive(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if one runs."""
        if self.process is not None:
            self.process.send_signal(number)  # which sees to it that it has not ended

    def close(self) -> None:
        """Be rid of the process, and close the sockets."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for sock in self.sockets:
            sock.close()


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal, in a ``with`` block: processes that are started there begin so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
