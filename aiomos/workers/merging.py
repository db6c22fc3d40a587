"""What workers write, put together: into files that all of them share, in the order of time where there is one."""

import os
import pickle
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from aiomos.errors import OutputError
from aiomos.logging import get_logger
from aiomos.outputs import OutputFile, open_output
from aiomos.workers.records import STANDARD_OUTPUT, Record, What

AHEAD_BYTES = 8 << 20
"""What is kept of a worker that is ahead of others in time before it is read no further."""

AHEAD_RECORD_BYTES = 128
"""What each record takes besides its bytes, roughly."""

NEVER = 1 << 63
"""After all times."""


class Files:
    """The outputs of all workers.

    Args:
        workers: How many workers there are.
        stdout: Standard output.
        failed: Called with what an output fails with; what is written to it afterwards is left out.
    """

    def __init__(
        self,
        workers: int,
        stdout: IO[bytes] | None = None,
        failed: Callable[[OutputError], object] | None = None,
    ) -> None:
        self._workers = workers
        self._failed = failed
        self._files: dict[str, IO[bytes]] = {"": stdout or open_output(None)}
        self._paths: dict[tuple[int, int], str] = {}  # by worker, and the number it has for it
        self._holders: defaultdict[str, set[int]] = defaultdict(set)
        self._parts: defaultdict[tuple[str, bytes], dict[int, Any]] = defaultdict(dict)
        self._headed: set[str] = set()
        self._written: set[str] = set()

    def apply(self, worker: int, record: Record) -> None:
        """Do what a record says.

        Raises:
            OSError: a file cannot be opened.
            OutputError: one cannot be written, and nobody else is told.
        """
        with self._telling():
            self._apply(worker, record)

    def _apply(self, worker: int, record: Record) -> None:
        if record.what is What.OPEN:
            self._open(worker, record.output, os.fsdecode(record.data))
            return
        path = self._path(worker, record.output)
        if record.what is What.DATA or (record.what is What.HEADING and path not in self._headed):
            self._files[path].write(record.data)
            self._written.add(path)
            if record.what is What.HEADING:
                self._headed.add(path)
        elif record.what is What.PART:
            draw, part = pickle.loads(record.data)
            parts = self._parts[path, draw]
            parts[worker] = part
            if len(parts) == self._workers:
                self._draw(path, draw)
        elif record.what is What.CLOSE:
            self._close(worker, path)

    def flush(self) -> None:
        """Have what was written be seen."""
        for path in self._written & self._files.keys():
            with self._telling():
                self._files[path].flush()
        self._written.clear()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            if self._failed is None:
                raise
            self._failed(error)

    def close(self) -> None:
        """Write the summaries that lack a part of a worker that is no more, and close all files."""
        try:
            for path, draw in list(self._parts):
                self._draw(path, draw)
            self.flush()
        finally:
            for path, file in self._files.items():
                if path:
                    with self._telling():
                        file.close()

    def _open(self, worker: int, output: int, path: str) -> None:
        """Open a file for the first worker that does; a worker that begins anew goes on where it was."""
        if path not in self._files:
            self._files[path] = cast(IO[bytes], OutputFile(Path(path)))
        self._paths[worker, output] = path
        self._holders[path].add(worker)

    def _path(self, worker: int, output: int) -> str:
        return "" if output == STANDARD_OUTPUT else self._paths[worker, output]

    def _close(self, worker: int, path: str) -> None:
        holders = self._holders[path]
        holders.discard(worker)
        if not holders:
            self._headed.discard(path)
            self._files.pop(path).close()

    def _draw(self, path: str, draw: bytes) -> None:
        """Write a summary of the parts that there are."""
        parts = self._parts.pop((path, draw))
        try:
            pickle.loads(draw)([part for _, part in sorted(parts.items())], self._files[path])
        except OSError:
            raise
        except Exception as error:  # an app's code: the other outputs are as good as ever
            get_logger("aiomos.workers").error("summary_failed", path=path, exc_info=error)
        self._written.add(path)


class Merger:
    """Passes on what workers write: as it comes or, *ordered*, by time.

    A record goes out when no worker can send an earlier one any more: each has sent a later one, or a sign of life. Of
    records of one time, those of the first worker come first.

    Args:
        workers: How many.
        files: Where it goes.
        ordered: Whether the order is that of time.
    """

    def __init__(self, workers: int, files: Files, *, ordered: bool) -> None:
        self._files = files
        self._ordered = ordered
        self._queues: list[deque[Record]] = [deque() for _ in range(workers)]
        self._bytes = [0] * workers
        self._times = [0] * workers  # up to which all is there

    def add(self, worker: int, records: Sequence[Record]) -> None:
        """Take what a worker has sent, in its order, and pass on what can go."""
        for record in records:
            if not self._ordered:
                self._files.apply(worker, record)
                continue
            self._times[worker] = max(self._times[worker], record.time_ns)
            if record.what is not What.TIME:
                self._queues[worker].append(record)
                self._bytes[worker] += len(record.data) + AHEAD_RECORD_BYTES
        self._pass_on()
        self._files.flush()

    def end(self, worker: int) -> None:
        """Wait for nothing more of a worker."""
        self._times[worker] = NEVER
        self._pass_on()
        self._files.flush()

    def is_ahead(self, worker: int) -> bool:
        """Whether so much of a worker waits for others that it has to wait, too."""
        return self._bytes[worker] > AHEAD_BYTES

    def _pass_on(self) -> None:
        workers = range(len(self._queues))
        while True:
            # A worker without records may send one of the time it has come to.
            first = min(workers, key=self._next_time)
            queue = self._queues[first]
            if not queue:
                return
            record = queue.popleft()
            self._bytes[first] -= len(record.data) + AHEAD_RECORD_BYTES
            self._files.apply(first, record)

    def _next_time(self, worker: int) -> int:
        queue = self._queues[worker]
        return queue[0].time_ns if queue else self._times[worker]
