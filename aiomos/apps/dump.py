"""Every half-stream to a file: what each side sent, in order and once.

::

    aiomos run aiomos.apps.dump --pcap trace.pcap --set directory=streams

writes ``streams/CLIENT.PORT-SERVER.PORT.client`` and ``.server`` for each connection; the second connection on
the same addresses and ports gets ``-2``, and so on. The name of one whose SYN was not captured, so that its bytes may
begin anywhere and its client is a guess, has ``-midstream``. The colons of IPv6 addresses become dashes.
"""

import asyncio
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs

from aiomos import App, Gap, MonitorConnection, OutputError, outputs
from aiomos.descriptors import Descriptors
from aiomos.logging import get_logger

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aiomos import Flow, Stream


@attrs.define
class Options:
    """Where to write, and how to treat what is missing.

    Attributes:
        directory: Where the files go; made if it is not there.
        filter: Which connections; all without it.
        midstream: Whether to write connections whose SYN was not captured, too; their names say so.
        gaps: skip leaves missing bytes out, zero leaves a hole of zeros in the file, which takes no room; both
            report them.
    """

    directory: Path = Path("streams")
    filter: str = ""
    midstream: bool = True
    gaps: Literal["skip", "zero"] = "skip"


app = App("dump", options=Options)

REMEMBERED_NAMES = 65_536
"""Names of connections that are known to have been given; whether older ones were is seen in the directory."""


class Names:
    """Names for the files of connections; each is given once a run.

    Args:
        directory: Where the files are.
        remembered: How many names to remember.
        continues: Whether a process before this one, of the same run, may have given some; what is there already may be
            its, then, and stays.
    """

    def __init__(
        self, directory: Path, remembered: int = REMEMBERED_NAMES, *, continues: bool = False
    ) -> None:
        self._directory = directory
        self._remembered = remembered
        self._continues = continues
        self._given: OrderedDict[str, int] = OrderedDict()
        self._since_ns = self._now_ns()

    def __len__(self) -> int:
        return len(self._given)

    def name(self, flow: "Flow") -> str:
        """Name the files of a connection."""
        client, client_port, server, server_port = flow.key
        name = f"{client}.{client_port}-{server}.{server_port}".replace(":", "-")
        if flow.midstream:
            name += "-midstream"
        number = self._given.pop(name, 0) + 1
        forgets = len(self._given) >= self._remembered
        if number == 1 and (forgets or self._continues):
            number = next(n for n in count(1) if not self._is_of_this_run(_numbered(name, n)))
        if forgets:
            self._given.popitem(last=False)
        self._given[name] = number
        return _numbered(name, number)

    def _is_of_this_run(self, name: str) -> bool:
        """Whether a connection has these files already; what an earlier run left is written over."""
        try:
            made_ns = (self._directory / f"{name}.client").stat().st_mtime_ns
            return self._continues or made_ns >= self._since_ns
        except FileNotFoundError:
            return False

    def _now_ns(self) -> int:
        """The time of the directory's own clock: that of a file which is made now."""
        with tempfile.TemporaryFile(dir=self._directory) as file:
            return os.fstat(file.fileno()).st_mtime_ns


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


class HalfFile:
    """The file of a half, open only now and then.

    Args:
        path: The file; it is made, or emptied.
        descriptors: The files that are open.

    Attributes:
        path: The file.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, path: Path, descriptors: Descriptors) -> None:
        self.path = path
        self._descriptors = descriptors
        self._offset = 0
        with self._named():
            descriptors.use(self, lambda: self._open(os.O_CREAT | os.O_TRUNC))

    def write(self, data: "Buffer") -> None:
        """Write the next bytes.

        Raises:
            OutputError: they cannot be written.
        """
        left = memoryview(data).cast("B")
        with self._named():
            descriptor = self._descriptors.use(self, self._open)
            while left:
                written = os.pwrite(descriptor, left, self._offset)
                self._offset += written
                left = left[written:]

    def skip(self, length: int) -> None:
        """Leave a hole, which reads as zeros and takes no room."""
        self._offset += length

    def close(self) -> None:
        """Have the file end here, be it in a hole.

        Raises:
            OutputError: it cannot.
        """
        with self._named():
            os.ftruncate(self._descriptors.use(self, self._open), self._offset)
            self._descriptors.close(self)

    def _open(self, flags: int = 0) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o666)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._descriptors.close(self)
            raise OutputError.of(self.path, error) from error


@attrs.define
class Run:
    """What one run keeps."""

    names: Names
    descriptors: Descriptors


_runs: list[Run] = []


async def write_half(stream: "Stream", file: HalfFile, fill: bool) -> None:
    """Write one half to its file."""
    try:
        async for item in stream.chunks(gaps="mark"):
            if not isinstance(item, Gap):
                file.write(item)
                continue
            get_logger("dump").warning(
                "gap", file=file.path.name, offset=item.offset, length=item.length, reason=item.reason
            )
            if fill:
                file.skip(item.length)
    finally:
        file.close()


async def dump(conn: MonitorConnection) -> None:
    """Write both halves of a connection, whatever way it ends."""
    options, run = app.options, _runs[-1]
    base = options.directory / run.names.name(conn.flow)
    fill = options.gaps == "zero"
    files = [
        (half, HalfFile(base.with_name(f"{base.name}.{half.side}"), run.descriptors))
        for half in (conn.client, conn.server)
    ]
    await asyncio.gather(*(write_half(half, file, fill) for half, file in files), return_exceptions=False)


@app.startup
def prepare() -> None:
    """Make the directory, and register for the connections the options choose."""
    options = app.options
    options.directory.mkdir(parents=True, exist_ok=True)
    run = Run(Names(options.directory, continues=outputs.outputs.continues), Descriptors())
    app.monitors.clear()
    app.monitor(options.filter, midstream=options.midstream)(dump)
    _runs.append(run)


@app.shutdown
def finish() -> None:
    """Close what is open; the next run chooses anew."""
    app.monitors.clear()
    _runs.pop().descriptors.close_all()
