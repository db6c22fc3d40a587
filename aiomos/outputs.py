"""Where apps write: a file or standard output; in a worker, the file that all workers write together.

An app that opens what it writes by `open_output` needs to know nothing of workers: one call of ``write`` is one record,
and a record is never torn, nor mixed with that of another worker. What is written is seen by who reads along within a
second, and where it cannot be written the run says so, and ends.
"""

import asyncio
import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from errno import EBADF, EDQUOT, EFBIG, EIO, EMFILE, ENFILE, ENOSPC, EROFS
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn, Protocol, TypeVar, cast
from weakref import WeakSet

from aiomos.errors import OutputError
from aiomos.starting import undone_on_failure

if TYPE_CHECKING:
    from typing_extensions import Buffer

PartT = TypeVar("PartT")

BUFFER_SIZE = 1 << 20

FLUSH_SECONDS = 0.5
"""How long what was written may wait for more."""

STANDARD_OUTPUT = "standard output"

MACHINE_ERRORS = frozenset((ENOSPC, EDQUOT, EFBIG, EIO, EROFS, EMFILE, ENFILE))
"""Numbers of errors that are about this machine, rather than about the connection at hand."""

Draw = Callable[[Sequence[PartT], IO[bytes]], object]
"""Writes what the parts of all workers come to; a function of a module, or a `functools.partial` of one."""

failure_told: ContextVar[Callable[[OutputError], object] | None] = ContextVar(
    "aiomos_failure_told", default=None
)
"""Called, besides what is raised, once an output fails that was written to in this context."""

running: list[Callable[[OutputError], object]] = []
"""The same of each run, for a thread of an app's own, which has no context of any."""


class Outputs(Protocol):
    """What opens outputs for a process.

    Attributes:
        continues: Whether the process has taken the place of another, which may have written files in this run.
    """

    continues: bool

    def open(self, path: Path | None) -> IO[bytes]:
        """Open an output."""

    def write_heading(self, file: IO[bytes], heading: bytes) -> None:
        """Write a heading, unless another worker has."""

    def add_part(self, file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
        """Write what a part comes to, or have it written with those of the other workers."""


class OwnOutputs:
    """Of a process that is alone."""

    continues = False

    def open(self, path: Path | None) -> IO[bytes]:
        """Open a file, or standard output."""
        if path is not None:
            return cast(IO[bytes], OutputFile(path))
        if sys.stdout is None:
            raise OSError(EBADF, os.strerror(EBADF), STANDARD_OUTPUT)
        named = isinstance(sys.stdout.buffer, StandardOutput)
        return sys.stdout.buffer if named else cast(IO[bytes], StandardOutput())

    def write_heading(self, file: IO[bytes], heading: bytes) -> None:
        """Write it."""
        file.write(heading)

    def add_part(self, file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
        """Write the only part."""
        draw([part], file)


LOCK_SECONDS = 0.2


class _Output(io.RawIOBase):
    """What is written goes on within `FLUSH_SECONDS`; once it cannot, every further call fails as the first did."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._failure: OutputError | None = None
        self._waits = False  # whether something waits for `flush`
        self._lock = threading.RLock()  # an app may write in threads of its own
        self._loop = _running_loop()
        _opened.add(self)

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, data: "Buffer", /) -> int:
        """Write a record.

        Raises:
            OutputError: it cannot be written, or what came before it could not.
        """
        with self._lock:
            self._check()
            try:
                size = self._take(data)
            except OSError as error:
                self._fail(error)
            if not self._waits:
                self._waits = True
                self._flush_soon()
            return size

    def flush(self) -> None:
        """Have all that was written be seen.

        Raises:
            OutputError: it cannot be written.
        """
        with self._lock:
            self._check()
            self._waits = False
            try:
                self._give()
            except OSError as error:
                self._fail(error)

    def flush_by_force(self) -> None:
        """Flush before the process is gone, unless another thread is about to write, or it fails."""
        if self._lock.acquire(timeout=LOCK_SECONDS):
            with suppress(OSError, ValueError):
                self.flush()

    def _take(self, data: "Buffer") -> int:
        raise NotImplementedError

    def _give(self) -> None:
        raise NotImplementedError

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.closed:
            raise ValueError(f"{self.name} is closed")

    def _fail(self, error: OSError) -> NoReturn:
        self._failure = OutputError.of(self.name, error)
        tell = failure_told.get()
        for told in running if tell is None else [tell]:
            told(self._failure)
        raise self._failure from error

    def _flush_soon(self) -> None:
        """Flush in a while; in a program without an event loop, when it is asked for or there is enough."""
        self._loop = loop = _running_loop() or self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(loop.call_later, FLUSH_SECONDS, self._flush_late)

    def _flush_late(self) -> None:
        if self._waits and not self.closed:
            with suppress(OutputError):  # who writes next, or closes, is told, and the run was
                self.flush()


_opened: "WeakSet[_Output]" = WeakSet()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class OutputFile(_Output):
    """A file of one process.

    Args:
        path: The file; it is made, or emptied.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = io.FileIO(path, "w")
        self._buffer = bytearray()
        super().__init__(str(path))

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file.fileno()

    def _take(self, data: "Buffer") -> int:
        size = len(self._buffer)
        self._buffer += data
        size = len(self._buffer) - size
        if len(self._buffer) >= BUFFER_SIZE:
            self._give()
        return size

    def _give(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        write_all(self._file, data)

    def close(self) -> None:
        """Write what waits, and close the file.

        Raises:
            OutputError: that cannot be written, or what came before it could not.
        """
        if self.closed:
            return
        try:
            super().close()  # which flushes
        finally:
            self._file.close()


class StandardOutput(_Output):
    """Standard output, as it is where this is made; closing it leaves it open."""

    def __init__(self) -> None:
        self._file = sys.stdout.buffer
        super().__init__(STANDARD_OUTPUT)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Write what waits."""
        self.flush()

    def _take(self, data: "Buffer") -> int:
        return self._file.write(data)

    def _give(self) -> None:
        self._file.flush()


def write_all(file: io.RawIOBase | io.FileIO, data: "Buffer") -> None:
    """Write to a file without a buffer, which may take a part at a time.

    Raises:
        OSError: it cannot be written.
    """
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0 :]


@contextmanager
def naming_standard_output() -> Iterator[None]:
    """Have ``print()`` go the way of `open_output`, in a ``with`` block: soon, and with errors that say where."""
    before = sys.stdout
    if not hasattr(before, "buffer"):
        yield
        return
    output = StandardOutput()
    text = io.TextIOWrapper(
        cast(IO[bytes], output),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.isatty(),
        write_through=True,
    )
    sys.stdout = text
    try:
        yield
    finally:
        sys.stdout = before
        with suppress(OutputError):  # whoever has anything to say of it has flushed it
            text.detach()


def reader_is_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):
        return False
    return any(events & select.POLLERR for _, events in poll.poll(0))


def flush_all() -> None:
    """Write what waits of all outputs that are open, as far as that can be done: the process is about to be gone."""
    for output in list(_opened):
        output.flush_by_force()


def flush_standard_output() -> None:
    """Have what was printed be seen.

    Raises:
        OutputError: it cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError.of(STANDARD_OUTPUT, error) from error


def hold_standard_descriptors() -> None:
    """Open what is closed of the first three descriptors: a socket or file that came to lie there would get output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def give_up_standard_output() -> None:
    """Have what still waits for standard output go nowhere, so that the interpreter does not try at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


outputs: Outputs = OwnOutputs()
"""Replaced in a worker before its apps are loaded."""


def open_output(path: Path | None) -> IO[bytes]:
    """Open a file for writing, or standard output where *path* is None, as one that workers share.

    What workers write is put in the order of the engine's clock where captures are read, and passed on as it comes
    where traffic is live. Nothing waits longer than half a second to be written.

    Returns:
        A binary file. Close it; of standard output, that only flushes it. What cannot be written is an `OutputError`,
        of that call and of each one after it; it also ends the run.

    Raises:
        OSError: the file cannot be opened.
    """
    file = outputs.open(path)
    undone_on_failure(file.close)
    return file


def write_heading(file: IO[bytes], heading: bytes) -> None:
    """Write what stands at the top of a file, such as the names of columns; of several workers, the first does."""
    outputs.write_heading(file, heading)


def write_summary(file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
    """Write a summary at the end of an app, such as a table of totals.

    With workers, each has its own part of it; *draw* is then called once, with the parts of all, by the process that
    writes.

    Args:
        file: Where to, as `open_output` gave it; still open.
        part: What this worker has to say; it can be pickled.
        draw: Called with the parts and a file; a function of a module that can be imported.
    """
    outputs.add_part(file, part, draw)


def ended(reason: str, *, midstream: bool) -> str:
    """Write down how a connection ended, or is, with the mark of one whose SYN was not captured."""
    return f"{reason}, no SYN" if midstream else reason
