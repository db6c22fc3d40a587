"""Opening captures without holding up the event loop: a pipe may be long in coming, a disk may be far."""

import asyncio
import os
import select
import threading
from collections.abc import Sequence

from aiomos.transport.captures import open_captures
from aiomos.transport.source import FrameSource

GIVE_UP_SECONDS = 1.0
"""How long a thread that is to end is waited for."""


async def opened(paths: Sequence[str | os.PathLike[str]], *, block_size: int) -> FrameSource:
    """Open captures as `open_captures` does, in a thread.

    Cancelled, it has ended: nothing is read of a pipe any more, and it is closed. Only of a disk that does not answer a
    call remains, in a thread that nothing waits for longer than a second.

    Raises:
        CaptureError: a file is no capture.
        OSError: a file cannot be opened.
        ValueError: no path, or standard input twice.
    """
    opening = _Opening(paths, block_size)
    try:
        return await asyncio.shield(opening.future)
    except asyncio.CancelledError:
        await opening.give_up()
        raise
    finally:
        opening.end()


class _GivenUp(Exception):  # noqa: N818  not an error by itself
    """The opening was given up."""


class _Opening:
    """One opening, and the thread that does it."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]], block_size: int) -> None:
        self._paths = paths
        self._block_size = block_size
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[FrameSource] = self._loop.create_future()
        self._is_opening = True
        self._write_end: int | None
        self._read_end, self._write_end = os.pipe()
        threading.Thread(target=self._open, name="aiomos opening", daemon=True).start()

    def end(self) -> None:
        """Let go of what would wake the thread."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None

    async def give_up(self) -> None:
        """End the opening, and close what was opened before it was known that it is not wanted."""
        self.end()
        self.future.add_done_callback(_close)
        await asyncio.wait([self.future], timeout=GIVE_UP_SECONDS)

    def _open(self) -> None:
        source: FrameSource | None = None
        error: Exception | None = None
        try:
            source = open_captures(self._paths, block_size=self._block_size, wait=self._wait)
        except Exception as failure:
            error = failure
        self._is_opening = False
        os.close(self._read_end)
        try:
            self._loop.call_soon_threadsafe(self._conclude, source, error)
        except RuntimeError:  # the loop has ended
            if source is not None:
                source.close()

    def _wait(self, descriptor: int) -> None:
        """Wait until a pipe has something to read, or it is given up."""
        if not self._is_opening:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.register(self._read_end, select.POLLIN)
        if any(ready == self._read_end for ready, _ in poll.poll()):
            raise _GivenUp

    def _conclude(self, source: FrameSource | None, error: Exception | None) -> None:
        if source is not None:
            self.future.set_result(source)
        elif error is not None:
            self.future.set_exception(error)


def _close(opening: asyncio.Future[FrameSource]) -> None:
    if opening.exception() is None:
        opening.result().close()
