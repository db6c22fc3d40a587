"""An HTTP server for a WSGI application that answers short requests, in a thread of its own.

However many connect, it holds no more than so many descriptors and threads, and no longer than so many seconds: who
says nothing, or says it a byte at a time, makes room for who comes next.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

__all__ = ["WsgiServer"]

MOST_CONNECTIONS = 32
"""That are open at once. Beyond it who has been waited for longest is hung up on."""

REQUEST_SECONDS = 5.0
"""How long a client may take to send its whole request, and then to take the answer."""

LONGEST_REQUEST = 1 << 14
"""Bytes of a request's head."""

THREADS = 2
"""That run the application."""

END_OF_HEAD = b"\r\n\r\n"
BAD_REQUEST = b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FAILURES = (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError)
"""Of clients, who get no answer."""


class WsgiServer:
    """Answer requests that come to a listening socket, until `close`; each connection is for one request.

    Args:
        listener: The socket; it is closed at the end.
        app: The application; it is called in a thread, for one request or two at once.

    Attributes:
        hung_up: How many connections were ended to make room, or had none.
    """

    def __init__(self, listener: socket.socket, app: "WSGIApplication") -> None:
        self.hung_up: int = 0
        self._app = app
        self._listener = listener
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="aiomos-answer")
        self._waited_for: dict[
            asyncio.StreamWriter, None
        ] = {}  # for their requests, in the order of their coming
        self._answered = 0
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="aiomos-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more, and hang up on all."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())  # which cancels what is left

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, sock=self._listener, limit=LONGEST_REQUEST)
        await self._closing.wait()
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            if self._make_room():
                head = await self._request(reader, writer)
                await self._answer(head, writer)
        except (*FAILURES, asyncio.CancelledError):
            pass  # cancelled, it ends as well: what asyncio calls when the task is done expects no such error
        finally:
            writer.transport.abort()

    def _make_room(self) -> bool:
        """Hang up on somebody if there are too many; false if all of them are being answered."""
        if len(self._waited_for) + self._answered < MOST_CONNECTIONS:
            return True
        self.hung_up += 1
        if not self._waited_for:
            return False
        longest = next(iter(self._waited_for))
        del self._waited_for[longest]
        longest.transport.abort()
        return True

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        self._waited_for[writer] = None
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await reader.readuntil(END_OF_HEAD)
        finally:
            self._waited_for.pop(writer, None)

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        self._answered += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, self._call, head)
            async with asyncio.timeout(REQUEST_SECONDS):
                writer.write(answer)
                writer.close()
                await writer.wait_closed()
        finally:
            self._answered -= 1

    def _call(self, head: bytes) -> bytes:
        """Call the application; returns the whole answer."""
        environ = read_head(head)
        if environ is None:
            return BAD_REQUEST
        lines: list[str] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _error: object = None, /
        ) -> Callable[[bytes], object]:
            lines[:] = [f"HTTP/1.0 {status}", *(f"{name}: {value}" for name, value in headers)]
            return written.append

        written.extend(self._app(environ, start_response))
        body = b"".join(written)
        lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1") + (b"" if environ["REQUEST_METHOD"] == "HEAD" else body)


def read_head(head: bytes) -> "WSGIEnvironment | None":
    """Read the head of a request as applications have it (PEP 3333); None for what is none."""
    request, *headers = head.decode("latin-1").split("\r\n")
    with suppress(ValueError):
        method, target, version = request.split(" ")
        path, _, query = target.partition("?")
        if version.startswith("HTTP/") and path.startswith("/"):
            environ = {"REQUEST_METHOD": method, "PATH_INFO": unquote(path), "QUERY_STRING": query}
            for line in filter(None, headers):
                name, _, value = line.partition(":")
                environ["HTTP_" + name.strip().upper().replace("-", "_")] = value.strip()
            return environ
    return None
