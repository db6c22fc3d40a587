"""The control socket of a running engine: from outside, apps come and go, flows and counters are looked at.

The protocol is JSON, an object a line. A request names its command, ``{"command": "attach", "app": "watch:app",
"set": ["ports=80"]}``. The last line of its answer is the one with ``"ok"``: ``{"ok": true, "name": "watch"}`` or
``{"ok": false, "error": "..."}``; lines before it are what the command lists. The requests of one connection are
answered in turn.

Whoever can attach an app runs code with the rights of the run. So the socket is for its user and root alone: by its
mode, and by asking the kernel who is at the other end. `aiomos.control_client` is that end.
"""

import asyncio
import errno
import importlib
import os
import socket
import stat
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import orjson

from aiomos.app import App
from aiomos.errors import AiomosError, ControlError
from aiomos.face.views import Flow
from aiomos.loader import load_app
from aiomos.logging import get_logger
from aiomos.options import must
from aiomos.steps import ENDS_PROGRAM
from aiomos.ude.filters import Filter

LONGEST_REQUEST = 1 << 16
"""Bytes of a request's line."""

MOST_CLIENTS = 64
"""That are connected at once. Beyond it the one that has been silent for longest is hung up on."""

RETRY_SECONDS = 1.0
"""Until clients are accepted again after that has failed."""

FLOWS_A_TURN = 128
"""Flows that are looked at before the engine gets its turn: about a millisecond's worth."""

OWNER_ONLY = 0o600
ROOT = 0
CREDENTIALS = struct.Struct("3i")
"""struct ucred: process, user, group (unix(7), SO_PEERCRED)."""


class ControlledRuntime(Protocol):
    """What commands need of a runtime; `aiomos.Runtime` has it.

    `flows` must stand changes of the flow table while it is walked: the engine runs between its steps.
    """

    @property
    def apps(self) -> Sequence[App]:
        """The attached apps, in the order in which they see traffic."""

    async def attach(self, app: App, /) -> None:
        """Run an app's start-up functions and register it; if that raises, nothing of it is left."""

    async def detach(self, app: App, /) -> None:
        """Cancel an app's handlers and run its shut-down functions."""

    def end_with(self, error: BaseException, /) -> None:
        """Have the run end with an exception."""

    def flows(self) -> Iterator[Flow]:
        """Walk the open flows."""

    def statistics(self) -> Mapping[str, int]:
        """Read the engine's counters."""

    def app_statistics(self) -> Mapping[App, Mapping[str, float]]:
        """Read each app's counters."""


# --- requests -------------------------------------------------------------------------------------

TEXT = must("text", lambda value: isinstance(value, str))
TEXTS = must(
    "a list of texts", lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value)
)
COUNT = must("a whole number from 1", lambda value: value is None or (type(value) is int and value > 0))


@attrs.frozen(kw_only=True)
class Attach:
    """Attach an app: ``app`` as the command line names it, ``set`` its options."""

    app: str = attrs.field(validator=TEXT)
    set: list[str] = attrs.field(factory=list, validator=TEXTS)


@attrs.frozen(kw_only=True)
class Detach:
    """Detach the app that goes by ``name``."""

    name: str = attrs.field(validator=TEXT)


@attrs.frozen(kw_only=True)
class Apps:
    """List the apps."""


@attrs.frozen(kw_only=True)
class Flows:
    """Send a line for every open flow that ``filter`` picks, ``limit`` at most."""

    filter: str = attrs.field(default="", validator=TEXT)
    limit: int | None = attrs.field(default=None, validator=COUNT)


@attrs.frozen(kw_only=True)
class Stats:
    """Send all counters."""


Request = Attach | Detach | Apps | Flows | Stats
REQUESTS: dict[str, type[Request]] = {
    "attach": Attach,
    "detach": Detach,
    "apps": Apps,
    "flows": Flows,
    "stats": Stats,
}


def read_request(line: bytes) -> Request:
    """Read the line of a request.

    Raises:
        ControlError: it is none; the message says what would be right.
        OptionError: one of its fields has a value that is not allowed.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ControlError(f"the request is no JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("command"), str):
        raise ControlError('a request is an object with a command, such as {"command": "apps"}')
    command = fields.pop("command")
    if command not in REQUESTS:
        raise ControlError(f"there is no command {command!r}; there are {', '.join(REQUESTS)}")
    allowed = attrs.fields_dict(REQUESTS[command])
    for name in fields:
        if name not in allowed:
            raise ControlError(f"{command} has no field {name!r}; it has {', '.join(allowed) or 'none'}")
    for name, field in allowed.items():
        if field.default is attrs.NOTHING and name not in fields:
            raise ControlError(f"{command} needs the field {name!r}")
    return REQUESTS[command](**fields)


# --- names of apps --------------------------------------------------------------------------------


class Names:
    """What the attached apps go by: their own names, and ``NAME#2`` for the second of one name.

    An app keeps what it goes by for as long as it is attached.
    """

    def __init__(self) -> None:
        self._names: dict[App, str] = {}

    def of(self, apps: Iterable[App]) -> dict[str, App]:
        """Tell the attached apps by what they go by, in their order."""
        apps = list(apps)
        self._names = {app: name for app, name in self._names.items() if app in apps}
        for app in apps:
            if app not in self._names:
                self._names[app] = self._free(app.name)
        return {self._names[app]: app for app in apps}

    def _free(self, name: str) -> str:
        taken = set(self._names.values())
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}#{number}"
        return free


# --- the commands ---------------------------------------------------------------------------------

Answer = dict[str, Any]
Send = Callable[[Answer], Awaitable[None]]
"""Sends a line of an answer, as fast as the client takes it."""


class Commands(Protocol):
    """Carries out requests: those about one runtime, or about all workers."""

    async def carry_out(self, request: Request, send: Send, /) -> Answer:
        """Carry out a request.

        Args:
            request: The request. No two that attach or detach are carried out at once.
            send: For the lines before the last.

        Returns:
            The fields of the last line.

        Raises:
            AiomosError: it is refused; the client is told why.
            OSError: as well.
        """


class RuntimeCommands:
    """Commands about a runtime in this process.

    Args:
        runtime: The runtime.
    """

    def __init__(self, runtime: ControlledRuntime) -> None:
        self._runtime = runtime
        self._names = Names()

    async def carry_out(self, request: Request, send: Send) -> Answer:
        """Carry out a request; see `Commands`."""
        match request:
            case Attach():
                return await self._attach(request)
            case Detach():
                return await self._detach(request)
            case Apps():
                return {"apps": self._apps()}
            case Flows():
                return await self._flows(request, send)
            case Stats():
                return {"counters": self._runtime.statistics(), "apps": self._app_statistics()}

    async def _attach(self, request: Attach) -> Answer:
        app = _load(request.app)
        if app in self._runtime.apps:
            raise ControlError(f"{request.app} is attached already, as {self._name(app)}")
        app.configure(request.set)
        try:
            await self._runtime.attach(app)
        except ENDS_PROGRAM as error:
            raise ControlError(f"{request.app} ends the program as it starts") from error
        name = self._name(app)
        get_logger("aiomos.console.control").info("app_attached", app=name)
        return {"name": name}

    def _name(self, app: App) -> str:
        return next(name for name, attached in self._attached().items() if attached is app)

    def _attached(self) -> dict[str, App]:
        return self._names.of(self._runtime.apps)

    async def _detach(self, request: Detach) -> Answer:
        attached = self._attached()
        if request.name not in attached:
            listed = f"attached are {', '.join(attached)}" if attached else "none is attached"
            raise ControlError(f"no app goes by {request.name!r}; {listed}")
        try:
            await self._runtime.detach(attached[request.name])
        except ENDS_PROGRAM as error:
            self._runtime.end_with(error)
            raise ControlError(f"{request.name} ends the program as it leaves") from error
        get_logger("aiomos.console.control").info("app_detached", app=request.name)
        return {"name": request.name}

    def _apps(self) -> list[Answer]:
        statistics = self._app_statistics()
        return [
            {
                "name": name,
                "module": app.module,
                "handlers": len(app.monitors),
                "callbacks": len(app.callbacks),
                "events": len(app.udes),
                "flows": statistics[name].get("flows", 0),
            }
            for name, app in self._attached().items()
        ]

    def _app_statistics(self) -> dict[str, dict[str, float]]:
        statistics = self._runtime.app_statistics()
        return {name: dict(statistics.get(app, {})) for name, app in self._attached().items()}

    async def _flows(self, request: Flows, send: Send) -> Answer:
        """Send the flows little by little: the engine runs in between, and no more is held than a slow client takes."""
        chosen = Filter(request.filter)
        sent = 0
        for looked_at, flow in enumerate(self._runtime.flows(), 1):
            if _picks(chosen, flow):
                await send({"flow": flow.record()})
                sent += 1
                if sent == request.limit:
                    break
            if looked_at % FLOWS_A_TURN == 0:
                await asyncio.sleep(0)
        return {"flows": sent}


# --- the server -----------------------------------------------------------------------------------


class HungUp(Exception):  # noqa: N818  what happened; it is no error
    """The client is gone. Not a ConnectionError: an app may raise that for reasons of its own."""


class ControlServer:
    """Answer the requests of all who connect to a control socket.

    Args:
        listener: The socket; it listens and does not block.
        commands: What carries out the requests.
    """

    # asyncio's own server loses connections that come while it is closed: their clients would wait for ever.

    def __init__(self, listener: socket.socket, commands: Commands) -> None:
        self._listener = listener
        self._commands = commands
        self._changing = asyncio.Lock()  # of the list of apps: one attach or detach at a time
        self._clients: set[asyncio.Task[None]] = set()
        self._silent: dict[
            asyncio.Task[None], None
        ] = {}  # those without a request, in the order of their last
        self._over = False

    def start(self) -> None:
        """Accept clients from now on, those who already wait first."""
        if not self._over:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        """Hang up on every client, once the app that is coming or going, if any, has done so."""
        self._over = True
        asyncio.get_running_loop().remove_reader(self._listener)
        async with self._changing:
            await asyncio.sleep(0)  # so that every client's task has begun, and ends what it began
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no file descriptor is left: who waits goes on waiting
            get_logger("aiomos.console.control").warning("control_cannot_accept", reason=str(error))
            loop.remove_reader(self._listener)
            loop.call_later(RETRY_SECONDS, self.start)
            return
        if len(self._clients) >= MOST_CLIENTS and not self._make_room():
            connection.close()
            return
        client = loop.create_task(self._serve(connection))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    def _make_room(self) -> bool:
        """Hang up on the client that has been silent for longest; false if all of them have requests."""
        get_logger("aiomos.console.control").warning("control_crowded", clients=len(self._clients))
        if not self._silent:
            return False
        longest = next(iter(self._silent))
        del self._silent[longest]
        longest.cancel()
        return True

    async def _serve(self, connection: socket.socket) -> None:
        """Answer one client until it hangs up."""
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LONGEST_REQUEST)
        try:
            with suppress(HungUp):
                await self._converse(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # without waiting for a slow client to take what is buffered
            raise
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await self._next_line(reader)
            except ConnectionError as error:
                raise HungUp from error
            except ValueError:  # the rest of the line is lost, so what follows cannot be told apart
                await _send(writer, _refusal(f"a request is longer than {LONGEST_REQUEST} bytes"))
                return
            if not line.endswith(b"\n"):  # the end, perhaps half-way through a request: that one is not meant
                return
            await _send(writer, await self._answer(line, writer))

    async def _next_line(self, reader: asyncio.StreamReader) -> bytes:
        client = asyncio.current_task()
        assert client is not None
        self._silent[client] = None
        try:
            return await reader.readline()
        finally:
            self._silent.pop(client, None)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> Answer:
        """Carry out a request and return the last line of its answer."""
        try:
            if _peer_user(writer) not in (os.geteuid(), ROOT):
                raise ControlError("this run is controlled by the user who started it, and by root")
            return {"ok": True, **await self._carry_out(read_request(line), partial(_send, writer))}
        except HungUp:
            raise
        except (AiomosError, OSError) as error:
            return _refusal(str(error))
        except Exception as error:  # the code of an app, or ours: the run goes on
            get_logger("aiomos.console.control").error("command_failed", exc_info=error)
            return _refusal(_describe(error))

    async def _carry_out(self, request: Request, send: Send) -> Answer:
        if isinstance(request, Attach | Detach):
            async with self._change():
                return await self._commands.carry_out(request, send)
        return await self._commands.carry_out(request, send)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[None]:
        async with self._changing:
            if self._over:
                raise ControlError("the run has ended")
            yield


def _load(place: str) -> App:
    importlib.invalidate_caches()  # the file may be younger than this process
    try:
        return load_app(place)
    except SystemExit as error:
        raise ControlError(f"{place} ends the program while it is imported") from error


def _picks(chosen: Filter, flow: Flow) -> bool:
    client, client_port, server, server_port = flow.key
    return chosen.matches((client, client_port), (server, server_port), vlan=flow.vlan)


def _peer_user(writer: asyncio.StreamWriter) -> int:
    """Ask the kernel whose process connected."""
    credentials = writer.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
    )
    _, user, _ = CREDENTIALS.unpack(credentials)
    return int(user)


async def _send(writer: asyncio.StreamWriter, answer: Answer) -> None:
    writer.write(_line(answer))
    await _drain(writer)


async def _drain(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except ConnectionError as error:
        raise HungUp from error


def _line(answer: Answer) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)


def _refusal(error: str) -> Answer:
    return {"ok": False, "error": error}


def _describe(error: Exception) -> str:
    """Say what was raised, and where: whoever asked sees no traceback."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"


# --- the socket -----------------------------------------------------------------------------------


def answering(listener: socket.socket, runtime: ControlledRuntime) -> AbstractAsyncContextManager[None]:
    """Answer the clients of a bound socket for the length of an ``async with`` block, those who already wait first."""
    return carrying_out(listener, RuntimeCommands(runtime))


@asynccontextmanager
async def carrying_out(listener: socket.socket, commands: Commands) -> AsyncIterator[None]:
    """Do the same with other commands than those about a runtime of this process."""
    server = ControlServer(listener, commands)
    server.start()
    try:
        yield
    finally:
        await server.stop()


@contextmanager
def bound(path: str | os.PathLike[str]) -> Iterator[socket.socket]:
    """Bind a control socket for the length of a ``with`` block; who connects waits until it is `answering`.

    Raises:
        ControlError: another run listens there, or something else is there.
        OSError: the socket cannot be made.
    """
    place = Path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        os.fchmod(listener.fileno(), OWNER_ONLY)  # which bind() gives the file, so that it never is more open
        _remove_stale(place)
        try:
            listener.bind(str(place))
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(place)) from error
        ours = _identity(place)
        try:
            listener.listen()
            listener.setblocking(False)
            get_logger("aiomos.console.control").info("control_listens", path=str(place))
            yield listener
        finally:
            if _identity(place) == ours:
                place.unlink()


def _remove_stale(path: Path) -> None:
    """Make room for a socket where a dead run left one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path}: something else is there; choose another path for the control socket")
    if _is_live(path):
        raise ControlError(f"{path}: another run listens there; end it, or choose another path")
    path.unlink(missing_ok=True)


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell a file from others that may come to have its name; None where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
