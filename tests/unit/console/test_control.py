"""The control socket: real sockets on both ends; the runtime is a fake until the last tests."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import queue
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import attrs
import orjson
import pytest
import uvloop
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from aiomos import App, Flow, cli
from aiomos.console import control
from aiomos.console.control import LONGEST_REQUEST, Names
from aiomos.control_client import ControlClient
from aiomos.errors import ControlError
from tests.traffic import Loop, Traffic

ROOT = Path(__file__).parents[3]
PATIENCE = 20.0
"""Seconds after which a test that waits for an answer has failed."""


def flow(number: int, *, server_port: int = 80) -> Flow:
    """What the server needs of a flow."""
    client = f"10.0.{number >> 8 & 0xFF}.{number & 0xFF}"
    record = {"client": client, "client_port": 1000, "server": "10.9.9.9", "server_port": server_port}
    key = (client, 1000, "10.9.9.9", server_port)
    return cast(Flow, SimpleNamespace(key=key, vlan=None, record=lambda: dict(record)))


class FakeRuntime:
    """Stands in for `aiomos.Runtime`."""

    def __init__(self) -> None:
        self.apps: list[App] = []
        self.open: Iterator[Flow] = iter(())
        self.looked_at = 0
        self.gate: asyncio.Event | None = None
        self.log: list[str] = []

    async def attach(self, app: App) -> None:
        self.log.append(f"attaching {app.name}")
        if self.gate is not None:
            await self.gate.wait()
        for function in app.startup_functions:
            function()
        self.apps.append(app)
        self.log.append(f"attached {app.name}")

    async def detach(self, app: App) -> None:
        self.apps.remove(app)

    def flows(self) -> Iterator[Flow]:
        for one in self.open:
            self.looked_at += 1
            yield one

    def statistics(self) -> dict[str, int]:
        return {"frames": 7, "flows": 1234, "evicted": 0}

    def app_statistics(self) -> dict[App, dict[str, float]]:
        return {app: {"flows": 2, "handler_seconds": 0.25} for app in self.apps}


@asynccontextmanager
async def listening(path: Path, runtime: Any) -> AsyncIterator[None]:
    """A control socket for the length of an ``async with`` block."""
    with control.bound(path) as listener:
        async with control.answering(listener, runtime):
            yield


@attrs.frozen
class Options:
    limit: int = 10


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with apps: two are called ``watch``, one fails when it is started."""
    module = ModuleType("control_apps", "Watch things.")
    vars(module).update(
        watch=App("watch", options=Options), twin=App("watch"), other=App("other"), failing=App("failing")
    )

    @module.failing.startup  # type: ignore[untyped-decorator]
    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setitem(sys.modules, "control_apps", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return module


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What is logged, which would mix with the output of commands."""
    with capture_logs() as logs:
        yield logs


@contextmanager
def serving(path: Path, runtime: Any, loop: Loop = "asyncio") -> Iterator[asyncio.AbstractEventLoop]:
    """Have a control socket answered by an event loop in another thread."""
    started: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        stop = asyncio.Event()
        async with listening(path, runtime):
            started.put((asyncio.get_running_loop(), stop))
            await stop.wait()

    def serve() -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    running, stop = started.get(timeout=PATIENCE)
    try:
        yield running
    finally:
        running.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture(params=["uvloop", "asyncio"])
def client(request: pytest.FixtureRequest, path: Path, runtime: FakeRuntime) -> Iterator[ControlClient]:
    with serving(path, runtime, request.param):
        yield ControlClient(path, timeout=PATIENCE)


@contextmanager
def connected(path: Path | str | os.PathLike[str]) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(os.fspath(path))
        yield connection


def ask(connection: socket.socket, request: bytes) -> dict[str, Any]:
    connection.sendall(request)
    return answer(connection)


def answer(connection: socket.socket) -> dict[str, Any]:
    """The next line."""
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        assert byte, "the server has hung up"
        text += byte
    line: dict[str, Any] = orjson.loads(text)
    return line


# --- apps -----------------------------------------------------------------------------------------


def test_an_app_is_attached_listed_and_detached(
    client: ControlClient, runtime: FakeRuntime, logs: list[Any]
) -> None:
    assert client.attach("control_apps:other") == "other"
    assert [app.name for app in runtime.apps] == ["other"]
    listed = {"name": "other", "module": __name__, "handlers": 0, "callbacks": 0, "events": 0, "flows": 2}
    assert client.apps() == [listed]
    client.detach("other")
    assert client.apps() == []
    assert [(line["event"], line.get("app")) for line in logs] == [
        ("control_listens", None),
        ("app_attached", "other"),
        ("app_detached", "other"),
    ]


def test_options_are_those_of_this_attach(client: ControlClient, modules: ModuleType) -> None:
    client.attach("control_apps:watch", ["limit=3"])
    assert modules.watch.options == Options(3)
    client.detach("watch")
    client.attach("control_apps:watch")
    assert modules.watch.options == Options()


def test_a_second_app_of_one_name_is_told_apart_and_keeps_its_name(
    client: ControlClient, runtime: FakeRuntime, modules: ModuleType
) -> None:
    runtime.apps.append(modules.watch)
    assert client.attach("control_apps:twin") == "watch#2"
    client.detach("watch")
    assert [app["name"] for app in client.apps()] == ["watch#2"]
    assert client.attach("control_apps:watch") == "watch"
    client.detach("watch#2")
    assert runtime.apps == [modules.watch]


def test_names_pass_over_one_that_an_app_has_by_itself() -> None:
    apps = [App("a"), App("a#2"), App("a"), App("a")]
    assert list(Names().of(apps)) == ["a", "a#2", "a#3", "a#4"]


def test_a_file_is_looked_for_where_the_client_is(
    client: ControlClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: FakeRuntime
) -> None:
    """Server and client have one folder here, so the test is that an absolute path is sent."""
    (tmp_path / "control_file.py").write_text("import aiomos\nmine = aiomos.App('mine')\n")
    monkeypatch.chdir(tmp_path)
    assert client.attach("control_file.py:mine") == "mine"
    assert os.fspath(tmp_path) in sys.path
    assert runtime.apps == [sys.modules.pop("control_file").mine]


@pytest.mark.parametrize(
    ("app", "options", "said"),
    [
        ("control_nothing", [], "no module 'control_nothing'"),
        ("control_apps:none", [], "failing, other, twin, watch"),
        ("control_apps:watch", ["limmit=3"], "did you mean 'limit'?"),
        ("control_apps:other", ["x=1"], "no options"),
        ("control_apps:failing", [], "ZeroDivisionError: on purpose"),
        ("control_exits.py:app", [], "ends the program"),
        ("control_broken.py:app", [], "control_broken.py"),
    ],
)
def test_an_app_that_cannot_be_attached_harms_nothing(
    client: ControlClient,
    runtime: FakeRuntime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    app: str,
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("control_exits.py").write_text("raise SystemExit(3)\n")
    Path("control_broken.py").write_text("1 / 0\n")
    with pytest.raises(ControlError, match=said):
        client.attach(app, options)
    assert runtime.apps == []
    assert client.attach("control_apps:other") == "other"


def test_an_app_can_be_attached_once(client: ControlClient) -> None:
    client.attach("control_apps:watch")
    with pytest.raises(ControlError, match="attached already, as watch"):
        client.attach("control_apps:watch")


@pytest.mark.parametrize(("attached", "said"), [([], "none is"), (["watch", "other"], "are watch, other")])
def test_detaching_what_is_not_there_says_what_is(
    client: ControlClient, attached: list[str], said: str
) -> None:
    for name in attached:
        client.attach(f"control_apps:{name}")
    with pytest.raises(ControlError, match=f"'wacth'; .*{said}"):
        client.detach("wacth")


def test_apps_come_one_at_a_time_and_all_else_is_answered_meanwhile(path: Path, runtime: FakeRuntime) -> None:
    runtime.gate = asyncio.Event()
    with serving(path, runtime) as loop, connected(path) as one, connected(path) as two:
        one.sendall(b'{"command": "attach", "app": "control_apps:watch"}\n')
        client = ControlClient(path, timeout=PATIENCE)
        while not runtime.log:
            client.apps()
        two.sendall(b'{"command": "attach", "app": "control_apps:other"}\n')
        client.stats()
        assert runtime.log == ["attaching watch"]
        loop.call_soon_threadsafe(runtime.gate.set)
        assert answer(two) == {"ok": True, "name": "other"}
        assert answer(one) == {"ok": True, "name": "watch"}
    assert runtime.log == ["attaching watch", "attached watch", "attaching other", "attached other"]


@pytest.mark.parametrize("turns", range(6))
async def test_an_app_that_is_coming_when_the_run_ends_comes_and_the_next_does_not(
    path: Path, runtime: FakeRuntime, turns: int
) -> None:
    """Cut short, it would be neither there, to be stopped, nor away. Clients of every stage are told."""
    runtime.gate = asyncio.Event()
    async with listening(path, runtime):
        with connected(path) as coming, connected(path) as next_:
            coming.sendall(b'{"command": "attach", "app": "control_apps:watch"}\n')
            while not runtime.log:
                await asyncio.sleep(0)
            next_.sendall(b'{"command": "attach", "app": "control_apps:other"}\n')
            late = asyncio.create_task(asyncio.to_thread(ControlClient(path, timeout=PATIENCE).apps))
            for _ in range(turns):
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(runtime.gate.set)
            coming, next_ = coming.dup(), next_.dup()
    with coming, next_:
        assert answer(coming) == {"ok": True, "name": "watch"}
        rest = b""
        with suppress(ConnectionResetError):  # what it had asked was not even read
            rest = next_.recv(1000)
    assert rest == b"" or b"the run has ended" in rest
    assert runtime.log == ["attaching watch", "attached watch"]
    with suppress(ControlError):
        assert len(await late) < 2


# --- flows and counters ---------------------------------------------------------------------------


def test_flows_are_listed_as_a_filter_and_a_limit_say(client: ControlClient, runtime: FakeRuntime) -> None:
    flows = [flow(number, server_port=80 + number % 2) for number in range(300)]
    runtime.open = iter(flows)
    assert list(client.flows()) == [one.record() for one in flows]
    runtime.open = iter(flows)
    assert list(client.flows("server port 81")) == [one.record() for one in flows[1::2]]
    runtime.open = iter(flows)
    assert list(client.flows("server port 81", limit=2)) == [flows[1].record(), flows[3].record()]


def test_a_wrong_filter_is_refused(client: ControlClient) -> None:
    with pytest.raises(ControlError, match=r"\^"):
        list(client.flows("prot 80"))


def test_listing_may_be_left_half_way(client: ControlClient, runtime: FakeRuntime) -> None:
    runtime.open = map(flow, itertools.count())
    flows = client.flows()
    assert next(flows) == flow(0).record()
    flows.close()  # type: ignore[attr-defined]
    assert client.stats()["counters"]["frames"] == 7


def test_a_client_that_does_not_read_delays_nobody_and_costs_little(
    path: Path, client: ControlClient, runtime: FakeRuntime
) -> None:
    runtime.open = map(flow, itertools.count())
    with connected(path) as slow:
        slow.sendall(b'{"command": "flows"}\n')
        before = -1
        while runtime.looked_at != before or before == 0:  # a turn of the loop without another flow: it waits
            before = runtime.looked_at
            client.stats()
        assert answer(slow) == {"flow": flow(0).record()}
    client.stats()


def test_counters_are_those_of_the_engine_and_of_each_app(client: ControlClient) -> None:
    client.attach("control_apps:watch")
    assert client.stats() == {
        "counters": {"frames": 7, "flows": 1234, "evicted": 0},
        "apps": {"watch": {"flows": 2, "handler_seconds": 0.25}},
    }


# --- requests that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"attach watch", "no JSON"),
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 5000, "no JSON"),
        (b'["attach"]', "a request is an object"),
        (b"{}", "a request is an object"),
        (b'{"command": ["attach"]}', "a request is an object"),
        (b'{"command": "stop"}', "attach, detach, apps, flows, stats"),
        (b'{"command": "attach"}', "needs the field 'app'"),
        (b'{"command": "attach", "app": 3}', "must be text"),
        (b'{"command": "attach", "app": "x", "set": "a=b"}', "must be a list of texts"),
        (b'{"command": "attach", "app": "x", "option": []}', "no field 'option'; it has app, set"),
        (b'{"command": "apps", "x": 1}', "no field 'x'; it has none"),
        (b'{"command": "flows", "limit": 0}', "must be a whole number from 1"),
        (b'{"command": "flows", "limit": true}', "must be a whole number from 1"),
    ],
)
def test_a_wrong_request_is_refused_and_the_next_is_answered(
    path: Path, client: ControlClient, request_: bytes, said: str
) -> None:
    assert client.path == path
    with connected(path) as connection:
        refusal = ask(connection, request_ + b"\n")
        assert refusal["ok"] is False
        assert said in refusal["error"]
        assert ask(connection, b'{"command": "apps"}\n') == {"ok": True, "apps": []}


def test_several_requests_may_be_sent_at_once(client: ControlClient) -> None:
    with connected(client.path) as connection:
        assert ask(connection, b'{"command": "apps"}\n{"command": "stop"}\n{"command": "flows"}\n')["ok"]
        assert not answer(connection)["ok"]
        assert answer(connection) == {"ok": True, "flows": 0}


def test_a_request_that_is_too_long_ends_its_connection_only(client: ControlClient) -> None:
    with connected(client.path) as connection:
        refusal = ask(connection, b" " * (LONGEST_REQUEST + 1))
        assert f"longer than {LONGEST_REQUEST}" in refusal["error"]
        # What was sent and not read turns the end into a reset.
        assert connection.recv(1) == b""
    assert client.apps() == []


def test_a_client_that_asks_too_much_is_told(client: ControlClient) -> None:
    """Although it is still sending when it is refused."""
    with pytest.raises(ControlError, match="longer than"):
        client.attach("control_apps:watch", ["limit=" + "3" * (1 << 22)])


def test_a_client_that_hangs_up_half_way_has_asked_nothing(client: ControlClient) -> None:
    with connected(client.path) as connection:
        connection.sendall(b'{"command": "attach", "app": "control_apps:watch"}')
    assert client.apps() == []


def test_a_client_that_hangs_up_before_its_answer_is_no_matter(
    client: ControlClient, runtime: FakeRuntime
) -> None:
    runtime.open = map(flow, itertools.count())
    for _ in range(3):
        with connected(client.path) as connection:
            connection.sendall(b'{"command": "flows"}\n' * 10)
        assert client.stats()["counters"]["frames"] == 7


def test_a_client_may_shut_its_side_and_read_on(client: ControlClient) -> None:
    """As ``socat`` and ``nc -N`` do at the end of their input."""
    with connected(client.path) as connection:
        connection.sendall(b'{"command": "apps"}\n')
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection) == {"ok": True, "apps": []}
        assert connection.recv(1) == b""


# --- the socket -----------------------------------------------------------------------------------


def test_the_socket_is_its_user_s_alone_and_goes_with_the_run(path: Path, runtime: FakeRuntime) -> None:
    before = os.umask(0)
    try:
        with serving(path, runtime):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not path.exists()


def test_the_peer_is_asked_for_its_user(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = control._peer_user

    def spy(writer: asyncio.StreamWriter) -> int:
        asked.append(real(writer))
        return asked[-1]

    monkeypatch.setattr(control, "_peer_user", spy)
    client.apps()
    assert asked == [os.geteuid()]


def test_another_user_is_refused(client: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_peer_user", lambda _writer: os.geteuid() + 1)
    with pytest.raises(ControlError, match="by the user who started it"):
        client.apps()
    monkeypatch.setattr(control, "_peer_user", lambda _writer: 0)
    assert client.apps() == []


def test_a_socket_that_a_dead_run_left_is_replaced(path: Path, runtime: FakeRuntime) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(path, runtime):
        assert ControlClient(path).apps() == []


async def test_a_socket_that_is_answered_is_not_replaced(path: Path, runtime: FakeRuntime) -> None:
    async with listening(path, runtime):
        with pytest.raises(ControlError, match="another run listens there"):
            async with listening(path, runtime):
                pass
        assert await asyncio.to_thread(ControlClient(path).apps) == []


async def test_a_bound_socket_is_taken_before_it_is_answered(path: Path, runtime: FakeRuntime) -> None:
    """So that a second run is refused before its apps have started; clients wait meanwhile."""
    with control.bound(path) as listener:
        with pytest.raises(ControlError, match="another run listens there"), control.bound(path):
            pass
        waiting = asyncio.create_task(asyncio.to_thread(ControlClient(path).apps))
        async with control.answering(listener, runtime):
            assert await waiting == []


def test_a_run_without_a_file_descriptor_left_accepts_later(
    path: Path, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    accept = socket.socket.accept
    failures = iter([OSError(errno.EMFILE, "Too many open files"), BlockingIOError()])

    def fail_first(listener: socket.socket) -> Any:
        for error in failures:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail_first)
    monkeypatch.setattr(control, "RETRY_SECONDS", 0)
    with serving(path, runtime):
        assert ControlClient(path, timeout=PATIENCE).apps() == []
    assert "control_cannot_accept" in [line["event"] for line in logs]


async def test_another_file_is_not_replaced(path: Path, runtime: FakeRuntime) -> None:
    path.write_text("precious")
    with pytest.raises(ControlError, match="something else is there"):
        async with listening(path, runtime):
            pass
    assert path.read_text() == "precious"


async def test_what_took_the_place_of_the_socket_is_left(path: Path, runtime: FakeRuntime) -> None:
    async with listening(path, runtime):
        path.unlink()
        path.write_text("of another")
    assert path.read_text() == "of another"


@pytest.mark.parametrize("name", ["x" * 200, "no/such/folder"])
async def test_a_socket_that_cannot_be_made_is_the_system_s_error(
    tmp_path: Path, runtime: FakeRuntime, name: str
) -> None:
    with pytest.raises(OSError, match=name) as caught:
        async with listening(tmp_path / name, runtime):
            pass
    assert caught.value.filename == str(tmp_path / name)


# --- what a client is told ------------------------------------------------------------------------


def test_there_is_no_such_socket(path: Path) -> None:
    with pytest.raises(ControlError, match="no such socket"):
        ControlClient(path).apps()


def test_nobody_listens(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ControlError, match="nobody listens"):
        ControlClient(path).apps()


def test_a_path_that_is_too_long_for_a_socket(path: Path) -> None:
    with pytest.raises(ControlError, match="too long"):
        ControlClient(f"{path}{'x' * 200}").apps()


def test_a_run_that_does_not_answer(path: Path) -> None:
    with control.bound(path), pytest.raises(ControlError, match=r"no answer within 0\.01 s"):
        ControlClient(path, timeout=0.01).apps()


def test_a_run_that_ends_first(path: Path, runtime: FakeRuntime) -> None:
    runtime.open = map(flow, itertools.count())
    with serving(path, runtime):
        flows = ControlClient(path, timeout=PATIENCE).flows()
        next(flows)
    with pytest.raises(ControlError, match="ended before it had answered"):
        for _ in flows:
            pass


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def ctl(path: Path, runtime: FakeRuntime) -> Iterator[Callable[..., Result]]:
    with serving(path, runtime):
        yield lambda *arguments: CliRunner().invoke(cli.main, ["ctl", str(path), *arguments])


def test_ctl_attaches_lists_and_detaches(ctl: Callable[..., Result], modules: ModuleType) -> None:
    assert ctl("attach", "control_apps:watch", "--set", "limit=3").output == "attached watch\n"
    assert modules.watch.options == Options(3)
    assert ctl("attach", "control_apps:twin", "--json").output == '{"name":"watch#2"}\n'
    assert [line.split()[0] for line in ctl("apps").output.splitlines()] == ["name", "watch", "watch#2"]
    lines = ctl("apps", "--json").output.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["watch", "watch#2"]
    assert ctl("detach", "watch").output == "detached watch\n"
    assert ctl("detach", "watch#2", "--json").output == '{"name":"watch#2"}\n'
    assert "no apps" in ctl("apps").output


ENDS = {"client": "10.0.0.1", "client_port": 1000, "server": "10.0.0.2", "server_port": 80, "ip_version": 4}
FACTS = {"start": 1.0, "end": 2.5, "client_state": "FIN_WAIT_2", "server_state": "CLOSE_WAIT"}
COUNTED = {
    f"{side}_{name}": 1234 for side in ("client", "server") for name in ("stream_bytes", "retransmits")
}
RECORD = ENDS | FACTS | COUNTED | {"client_lost": 1, "server_lost": 2, "client_rtt": 0.02, "server_rtt": None}
RECORD |= {"midstream": False}


def records(count: int) -> Iterator[Flow]:
    for _ in range(count):
        key = ("10.0.0.1", 1000, "10.0.0.2", 80)
        yield cast(Flow, SimpleNamespace(key=key, vlan=None, record=lambda: RECORD))


def test_ctl_lists_flows(
    ctl: Callable[..., Result], runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.open = records(3)
    monkeypatch.setenv("COLUMNS", "160")
    lines = ctl("flows", "--limit", "2").output.splitlines()
    assert lines[1].split()[:5] == ["10.0.0.1:1000", "10.0.0.2:80", "FIN_WAIT_2,", "CLOSE_WAIT", "1.500"]
    assert lines[1].split()[6:] == ["1,234", "1,234", "1234/1234", "3", "20.0", "ms"]
    assert len(lines) == 4
    assert "more" in lines[-1]
    runtime.open = records(60)
    assert [json.loads(line) for line in ctl("flows", "port", "80", "--json").output.splitlines()] == [
        RECORD
    ] * 60
    runtime.open = records(3)
    assert ctl("flows", "port 81").output == "no open flows\n"


def test_ctl_shows_counters(ctl: Callable[..., Result]) -> None:
    ctl("attach", "control_apps:watch")
    output = ctl("stats").output
    assert "1,234" in output
    assert "evicted" not in output
    assert output.splitlines()[-1].split() == ["watch", "2", "0.250"]
    assert json.loads(ctl("stats", "--json").output)["counters"]["evicted"] == 0


def test_ctl_tells_an_error_in_one_line(ctl: Callable[..., Result], tmp_path: Path) -> None:
    result = ctl("detach", "watch")
    assert (result.exit_code, result.stderr) == (1, "error: no app goes by 'watch'; none is attached\n")
    result = CliRunner().invoke(cli.main, ["ctl", str(tmp_path / "none"), "apps"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path}/none: there is no such socket")


# --- a real run -----------------------------------------------------------------------------------

APPS = """
import aiomos
early, late = aiomos.App("early"), aiomos.App("late")

@early.on(aiomos.CONN_SETUP)
def begins(flow):
    print("early", flow.client.port, flush=True)

@late.monitor("server port 80")
async def requests(conn):
    print("late", conn.flow.client.port, await conn.client.read(), flush=True)

@late.shutdown
def stop():
    print("late stops", flush=True)
"""


class Feed(threading.Thread):
    """Traffic for the standard input of a run: what a test gives it, and frames of no flow while it gives none.

    It goes on feeding, so that the run is busy.
    """

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.traffic = Traffic()
        self._pipe = pipe
        self._given: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def give(self) -> None:
        """Send the traffic, and begin anew with its clock where it is."""
        self._given.put(self.traffic.pcapng())
        self.traffic.batches = [[]]

    def end(self) -> None:
        self._given.put(None)
        self.join(PATIENCE)

    def run(self) -> None:
        idle = Traffic()
        for _ in range(20):
            idle.add(bytes(60_000))
        padding = idle.pcapng()
        with suppress(BrokenPipeError), self._pipe:  # the run has failed; the test says how
            while True:
                try:
                    piece = self._given.get_nowait()
                except queue.Empty:
                    piece = padding
                if piece is None:
                    return
                self._pipe.write(piece)
                self._pipe.flush()


@contextmanager
def live_run(path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Feed]]:
    """A run that listens at *path* and is fed for as long as the block lasts."""
    command = [sys.executable, "-m", "aiomos", "run", *arguments, "--pcap", "-", "--control", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr
    with process:
        feed = Feed(process.stdin)
        feed.start()
        try:
            for line in process.stderr:
                if b"control_listens" in line:
                    break
            yield process, feed
        finally:
            feed.end()
            assert process.wait(PATIENCE) == 0
    assert not path.exists()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_app_joins_and_leaves_a_real_run(path: Path, tmp_path: Path, loop: str) -> None:
    apps = tmp_path / "control_live.py"
    apps.write_text(APPS)

    def ctl(*arguments: str) -> list[str]:
        result = CliRunner().invoke(cli.main, ["ctl", str(path), *arguments])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    with live_run(path, f"{apps}:early", "--loop", loop) as (process, feed):
        assert process.stdout
        output = iter(process.stdout.readline, b"")
        missed, old = feed.traffic.connection(1000), feed.traffic.connection(1001)
        missed.client(b"before")
        missed.close()
        feed.give()
        assert [next(output), next(output)] == [b"early 1000\n", b"early 1001\n"]

        assert ctl("attach", f"{apps}:late") == ["attached late"]
        new = feed.traffic.connection(1002)
        new.client(b"after")
        old.client(b"not midstream")
        feed.give()
        assert next(output) == b"early 1002\n"
        flows = [json.loads(line) for line in ctl("flows", "server port 80", "--json")]
        assert {flow["client_port"] for flow in flows if flow["reason"] is None} == {1001, 1002}
        assert [json.loads(line)["name"] for line in ctl("apps", "--json")] == ["early", "late"]
        new.close()
        feed.give()
        assert next(output) == b"late 1002 b'after'\n"
        assert json.loads(ctl("stats", "--json")[0])["apps"]["late"]["bytes"] == len(b"after")

        assert ctl("detach", "late") == ["detached late"]
        assert next(output) == b"late stops\n"
        unseen = feed.traffic.connection(1003)
        unseen.client(b"unseen")
        feed.give()
        assert next(output) == b"early 1003\n"
        feed.end()
        assert list(output) == []


# --- clients without end ------------------------------------------------------------------------------


def test_silent_clients_make_room_for_others(
    path: Path, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_CLIENTS", 4)
    with serving(path, runtime), ExitStack() as stack:
        clients = []
        for _ in range(12):
            clients.append(stack.enter_context(connected(path)))
            assert ask(clients[-1], b'{"command": "apps"}\n')["ok"]
        assert [client.recv(1) for client in clients[:8]] == [b""] * 8
        assert ask(clients[8], b'{"command": "apps"}\n')[
            "ok"
        ]  # so it is not the one that is silent for longest
        with connected(path) as another:
            assert ask(another, b'{"command": "apps"}\n')["ok"]
        assert clients[9].recv(1) == b""
        assert ask(clients[8], b'{"command": "apps"}\n')["ok"]


def until_attaching(runtime: FakeRuntime) -> None:
    never = threading.Event()
    while not runtime.log:
        never.wait(0.001)


def test_clients_whose_requests_are_carried_out_are_not_hung_up_on(
    path: Path, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_CLIENTS", 1)
    with serving(path, runtime) as loop, connected(path) as first:
        runtime.gate = asyncio.Event()
        first.sendall(b'{"command": "attach", "app": "control_apps:other"}\n')
        until_attaching(runtime)
        with connected(path) as second:
            assert second.recv(1) == b""
        loop.call_soon_threadsafe(runtime.gate.set)
        assert answer(first)["ok"]
