"""Where apps write: a file or standard output; in a worker, the file that all workers write together.

An app that opens what it writes by `open_output` needs to know nothing of workers: one call of ``write`` is one record,
and a record is never torn, nor mixed with that of another worker.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeVar

PartT = TypeVar("PartT")

BUFFER_SIZE = 1 << 20

Draw = Callable[[Sequence[PartT], IO[bytes]], object]
"""Writes what the parts of all workers come to; a function of a module, or a `functools.partial` of one."""


class Outputs(Protocol):
    """What opens outputs for a process."""

    def open(self, path: Path | None) -> IO[bytes]:
        """Open an output."""

    def write_heading(self, file: IO[bytes], heading: bytes) -> None:
        """Write a heading, unless another worker has."""

    def add_part(self, file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
        """Write what a part comes to, or have it written with those of the other workers."""


class OwnOutputs:
    """Of a process that is alone."""

    def open(self, path: Path | None) -> IO[bytes]:
        """Open a file, or take standard output as it is."""
        return path.open("wb", buffering=BUFFER_SIZE) if path is not None else sys.stdout.buffer

    def write_heading(self, file: IO[bytes], heading: bytes) -> None:
        """Write it."""
        file.write(heading)

    def add_part(self, file: IO[bytes], part: PartT, draw: Draw[PartT]) -> None:
        """Write the only part."""
        draw([part], file)


outputs: Outputs = OwnOutputs()
"""Replaced in a worker before its apps are loaded."""


def open_output(path: Path | None) -> IO[bytes]:
    """Open a file for writing, or standard output where *path* is None, as one that workers share.

    What workers write is put in the order of the engine's clock where captures are read, and passed on as it comes
    where traffic is live.

    Returns:
        A binary file. Close it, unless it is standard output.

    Raises:
        OSError: the file cannot be written.
    """
    return outputs.open(path)


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
