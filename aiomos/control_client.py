"""Talking to a running engine through its control socket; `aiomos.console.control` is the other end."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import orjson

from aiomos.errors import ControlError

ANSWER_SECONDS = 30.0
"""How long a client waits for the next line of an answer."""


@attrs.frozen
class ControlClient:
    """Commands for a running engine. Each opens a connection of its own, so there is nothing to close.

    Args:
        path: The socket, as given to ``aiomos run --control``.
        timeout: Seconds to wait for each line of an answer; None for any time.

    Every method raises `ControlError` where the run cannot be reached or refuses::

        control = ControlClient("/run/user/1000/aiomos.sock")
        name = control.attach("watch:app", ["ports=80,8080"])
        for flow in control.flows("server port 443"):
            print(flow["client"], flow["client_bytes"])
        control.detach(name)
    """

    path: str | os.PathLike[str]
    timeout: float | None = attrs.field(default=ANSWER_SECONDS, kw_only=True)

    def attach(self, app: str, options: Iterable[str] = ()) -> str:
        """Have an app loaded and attached; it is shown flows that begin from now on, and those open if it asked.

        Args:
            app: ``MODULE:APP`` as for ``aiomos run``. Modules are those that the run can import; a file is taken
                from this process's folder.
            options: ``name=value`` texts; options that are not named get their defaults.

        Returns:
            The name it goes by, which is ``NAME#2`` where another app is called so.
        """
        answer = self._ask("attach", app=_from_here(app), set=list(options))
        return str(answer["name"])

    def detach(self, name: str) -> None:
        """Have an app detached: its handlers are cancelled, its shut-down functions run.

        Args:
            name: The name it goes by, as `apps` lists it.
        """
        self._ask("detach", name=name)

    def apps(self) -> list[dict[str, Any]]:
        """List the attached apps in the order in which they see traffic.

        Returns:
            For each ``name``, ``module``, the registrations ``handlers``, ``callbacks`` and ``events``, and
            ``flows``, which it watches now.
        """
        return list(self._ask("apps")["apps"])

    def flows(self, filter: str = "", *, limit: int | None = None) -> Iterator[dict[str, Any]]:  # noqa: A002
        """Walk the open flows, as they are when the walk comes to them; it does not halt the traffic.

        Args:
            filter: Connection filter; empty picks every flow.
            limit: How many at most.

        Returns:
            An iterator of what `Flow.record` gives.
        """
        with self._answer("flows", filter=filter, limit=limit) as lines:
            for line in lines:
                if "flow" in line:
                    yield line["flow"]

    def stats(self) -> dict[str, Any]:
        """Read the counters.

        Returns:
            ``counters``, as `Runtime.statistics` gives them, and ``apps``, the counters of each app by its name.
        """
        answer = self._ask("stats")
        return {"counters": answer["counters"], "apps": answer["apps"]}

    def _ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send a command whose answer is one line."""
        with self._answer(command, **fields) as lines:
            return next(lines)

    @contextmanager
    def _answer(self, command: str, **fields: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """Send a command; gives the lines of its answer, of which the last has ``"ok"``."""
        request = orjson.dumps({"command": command, **fields}, option=orjson.OPT_APPEND_NEWLINE)
        with self._connected() as connection:
            try:
                with suppress(BrokenPipeError):  # refused before it was read to its end; the answer says why
                    connection.sendall(request)
                yield self._lines(connection)
            except TimeoutError as error:
                raise ControlError(
                    f"{os.fspath(self.path)}: no answer within {self.timeout:g} s; "
                    "the run is busy, or waits for frames"
                ) from error
            except ConnectionError as error:
                raise self._ended() from error

    def _lines(self, connection: socket.socket) -> Iterator[dict[str, Any]]:
        with connection.makefile("rb") as reader:
            for text in reader:
                if not text.endswith(b"\n"):
                    break
                line = orjson.loads(text)
                if not line.get("ok", True):
                    raise ControlError(line["error"])
                yield line
                if "ok" in line:
                    return
        raise self._ended()

    def _ended(self) -> ControlError:
        return ControlError(f"{os.fspath(self.path)}: the run ended before it had answered")

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(os.fspath(self.path))
        except OSError as error:
            connection.close()
            raise ControlError(f"{os.fspath(self.path)}: {describe_failure(error)}") from error
        return connection


def _from_here(app: str) -> str:
    """Name a file so that it is found from another process's folder; other names stay as they are."""
    place, colon, attribute = app.partition(":")
    return f"{os.path.abspath(place)}{colon}{attribute}" if place.endswith(".py") else app


REMEDIES = {
    errno.ENOENT: "there is no such socket; start a run with --control and this path",
    errno.ECONNREFUSED: "nobody listens there: its run has ended, or it is no control socket",
    errno.EACCES: "permission denied: a run can be controlled by the user who started it, and by root",
}


def describe_failure(error: OSError) -> str:
    """Say what to do about a failed connect; without an errno, the text is Python's own, as for a long path."""
    return REMEDIES.get(error.errno or 0) or error.strerror or str(error)
