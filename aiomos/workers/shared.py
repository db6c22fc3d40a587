"""Outputs of a worker: what its apps write goes to the supervisor, which writes it for all workers."""

import io
import os
import pickle
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from aiomos.outputs import Draw, PartT
from aiomos.workers.records import STANDARD_OUTPUT, What, written

if TYPE_CHECKING:
    from typing_extensions import Buffer

FLUSH_BYTES = 1 << 16
"""What is waiting to be sent goes at once from so many bytes on."""


class SharedOutputs:
    """Opens outputs that all workers have together; see `aiomos.outputs`.

    Args:
        link: The way to the supervisor. Sending waits for it: who writes faster than is taken is held back.
        continues: Whether the worker has taken the place of one that died; over captures, it writes the same anew.

    Attributes:
        clock: Tells the engine's time in nanoseconds.
        wake: Called, in any thread, when something begins to wait for `flush`.
        stdout: Standard output as text.
    """

    def __init__(self, link: socket.socket, *, continues: bool = False) -> None:
        self.continues = continues
        self.clock: Callable[[], int] = int
        self.wake: Callable[[], object] = bool
        self._link = link
        link.setblocking(False)
        self._room = select.poll()
        self._room.register(link, select.POLLOUT)
        self._waiting = bytearray()
        self._lock = threading.Lock()  # an app may write in threads of its own
        self._opened = STANDARD_OUTPUT
        self._lines = Lines(self, STANDARD_OUTPUT)
        self.stdout = io.TextIOWrapper(cast(IO[bytes], self._lines), encoding="utf-8", line_buffering=True)

    def open(self, path: Path | None) -> IO[bytes]:
        """Open an output; see `aiomos.outputs.open_output`."""
        if path is None:
            return cast(IO[bytes], self._lines)
        # Whether it can be written is found out here, where the app is; the supervisor will empty it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
        self._opened += 1
        self.put(What.OPEN, self._opened, os.fsencode(path.absolute()))
        return cast(IO[bytes], SharedFile(self, self._opened))

    def write_heading(self, file: IO[bytes], heading: bytes) -> None:
        """Send a heading; see `aiomos.outputs.write_heading`."""
        self.put(What.HEADING, cast(SharedFile, file).number, heading)

    def add_part(self, file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
        """Send a part of a summary; see `aiomos.outputs.write_summary`."""
        self.put(What.PART, cast(SharedFile, file).number, pickle.dumps((pickle.dumps(draw), part)))

    def put(self, what: What, output: int = STANDARD_OUTPUT, data: bytes = b"") -> None:
        """Have a record sent soon."""
        with self._lock:
            begins = not self._waiting
            self._waiting += written(what, output, self.clock(), data)
            if len(self._waiting) >= FLUSH_BYTES:
                self._send()
                return
        if begins:
            self.wake()

    def flush(self) -> None:
        """Send what is waiting."""
        with self._lock:
            self._send()

    def beat(self) -> None:
        """Send what is waiting, and a sign of life."""
        self.put(What.TIME)
        self.flush()

    def _send(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        left = memoryview(data)
        with suppress(ConnectionError):  # the supervisor is gone, and with it all who would read this
            while left:
                try:
                    left = left[self._link.send(left) :]
                except (
                    BlockingIOError
                ):  # the event loop looks at the link, too, so it does not block by itself
                    self._room.poll()


class SharedFile(io.RawIOBase):
    """A file of all workers; what one call writes stays in one piece.

    Attributes:
        number: What the supervisor knows it by.
    """

    def __init__(self, outputs: SharedOutputs, number: int) -> None:
        self._outputs = outputs
        self.number = number

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, data: "Buffer", /) -> int:
        """Write a record."""
        record = bytes(data)
        self._outputs.put(What.DATA, self.number, record)
        return len(record)

    def close(self) -> None:
        """Write no more."""
        if not self.closed:
            super().close()
            self._outputs.put(What.CLOSE, self.number)


class Lines(SharedFile):
    """Standard output, which many parts of a program write to: whole lines of it stay in one piece."""

    def __init__(self, outputs: SharedOutputs, number: int) -> None:
        super().__init__(outputs, number)
        self._begun = b""

    def write(self, data: "Buffer", /) -> int:
        """Write the lines that are complete; what has been begun waits for its end."""
        text = bytes(data)
        lines, newline, rest = text.rpartition(b"\n")
        if newline:
            super().write(self._begun + lines + newline)
            self._begun = rest
        else:
            self._begun += text
        return len(text)

    def flush(self) -> None:
        """Write what has been begun."""
        if self._begun:
            begun, self._begun = self._begun, b""
            super().write(begun)

    def close(self) -> None:
        """Write what has been begun; standard output itself stays open."""
        self.flush()
