"""What a task sends in the turn of the loop in which the engine woke it leaves in that turn.

A callback that has itself called again each turn counts them. It stands before the tasks that the engine wakes, so that
these, and what the pump does behind them, find the count of their own turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import aiomos
from aiomos import CONN_NEW_DATA, CONN_SETUP, PKT_IN, App, Flow, Hook, MonitorConnection, Runtime
from aiomos.runtime.live import LivePump
from aiomos.testing.packets import tcp_frame, udp_frame
from tests.traffic import Loop
from tests.unit.runtime.test_live_pump import (
    ACK,
    HELLO,
    OWN,
    SYN,
    SYN_ACK,
    Sockets,
    between,
    check_reset,
    heard,
    open_connection,
)

WORLD = tcp_frame(seq=106, ack=501, flags="PA", payload=b"world")
FINS = [
    tcp_frame(seq=111, ack=501, flags="FA"),
    tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 501, 112, "FA"),
    tcp_frame(seq=112, ack=502, flags="A"),
]
FORWARDED = (SYN, SYN_ACK, ACK, HELLO, WORLD, *FINS)
OTHER = udp_frame(payload=b"of another task")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Loop:
    kind: Loop = request.param
    return kind


class Turns(Sockets):
    """Notes in which turn of the loop each frame of the app's, and each RST, has left."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        self.left: list[int] = []

    def count(self) -> None:
        """Count turns from now on."""
        self.turn += 1
        asyncio.get_running_loop().call_soon(self.count)

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Send a frame."""
        if frame not in (*FORWARDED, OTHER):
            self.left.append(self.turn)
        super().send(frame, interface)


class Echo:
    """An app's side of a test: what is woken calls `say`."""

    def __init__(self, wire: Turns) -> None:
        self.wire = wire
        self.said: list[int] = []
        self.runtime: Runtime | None = None

    def say(self) -> None:
        """Send a frame, and note in which turn."""
        assert self.runtime is not None
        self.runtime.send(OWN, 1)
        self.said.append(self.wire.turn)


def by_bytes(app: App[Any], echo: Echo) -> None:
    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.readexactly(5)
        await conn.client.readexactly(5)  # the first ones came with the task itself
        echo.say()


def by_its_start(app: App[Any], echo: Echo) -> None:
    @app.monitor()
    async def handle(_: MonitorConnection) -> None:
        echo.say()


def by_the_end_of_its_bytes(app: App[Any], echo: Echo) -> None:
    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        assert await conn.client.read() == b"helloworld"
        echo.say()


def by_an_event(app: App[Any], echo: Echo) -> None:
    @app.monitor(start=CONN_SETUP)
    async def handle(conn: MonitorConnection) -> None:
        async for _ in conn.events(CONN_NEW_DATA):
            echo.say()
            return


def by_a_callback(app: App[Any], echo: Echo) -> None:
    """Which puts something into the app's own queue."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()

    @app.on(PKT_IN, hook=Hook.RAW)
    def put(pkt: aiomos.Packet) -> None:
        if pkt.payload:
            queue.put_nowait(bytes(pkt.payload))

    @app.startup
    async def begin() -> None:
        async def take() -> None:
            await queue.get()
            echo.say()

        app.task = asyncio.create_task(take())  # type: ignore[attr-defined]


def by_the_clock(app: App[Any], echo: Echo) -> None:
    @app.monitor()
    async def handle(_: MonitorConnection) -> None:
        await aiomos.sleep(0.02)
        echo.say()


def by_a_timer(app: App[Any], echo: Echo) -> None:
    rung = asyncio.Event()

    @app.on(CONN_SETUP)
    def arm(flow: Flow) -> None:
        flow.timer(0.02, lambda _: rung.set())

    @app.monitor()
    async def handle(_: MonitorConnection) -> None:
        await rung.wait()
        echo.say()


WOKEN: list[Callable[[App[Any], Echo], None]] = [
    by_bytes,
    by_its_start,
    by_the_end_of_its_bytes,
    by_an_event,
    by_a_callback,
    by_the_clock,
    by_a_timer,
]


def run(
    register: Callable[[App[Any], Echo], None],
    act: Callable[[Turns, Runtime], Awaitable[None]],
    loop: Loop,
) -> tuple[Turns, Echo]:
    """Run an app while turns are counted."""
    wire = Turns()
    echo = Echo(wire)
    app: App[Any] = App("echo")

    @app.startup
    def start(engine: Runtime) -> None:
        echo.runtime = engine
        wire.count()

    register(app, echo)

    async def acting(_: Sockets, runtime: Runtime) -> None:
        await act(wire, runtime)

    between(app, acting, wire, loop)
    return wire, echo


async def converse(wire: Turns, _: Runtime) -> None:
    """Open a connection, say something twice, close it, and wait for what the app says."""
    await open_connection(wire)
    passed = []
    for end, frame in ((0, HELLO), (0, WORLD), (0, FINS[0]), (1, FINS[1]), (0, FINS[2])):
        wire.far[end].send(frame)
        passed.append(await heard(wire, 1 - end))
        while passed[-1] != frame:
            passed.append(await heard(wire, 1 - end))
    while OWN not in passed:
        passed.append(await heard(wire, 1))


@pytest.mark.parametrize("register", WOKEN)
def test_what_a_woken_task_sends_leaves_in_its_turn(
    register: Callable[[App[Any], Echo], None], loop: Loop
) -> None:
    wire, echo = run(register, converse, loop)
    assert len(echo.said) == 1
    assert wire.left == echo.said


def test_so_do_rsts_of_a_connection_that_it_ends(loop: Loop) -> None:
    def register(app: App[Any], echo: Echo) -> None:
        @app.monitor()
        async def handle(conn: MonitorConnection) -> None:
            conn.flow.reset()
            echo.said.append(echo.wire.turn)

    async def act(wire: Turns, _: Runtime) -> None:
        await open_connection(wire)
        wire.far[0].send(HELLO)
        assert await heard(wire, 1) == HELLO
        await check_reset(wire)

    wire, echo = run(register, act, loop)
    assert len(echo.said) == 1
    assert len(wire.left) >= 2
    assert set(wire.left) == set(echo.said)


def test_the_pump_stands_behind_the_woken_also_if_another_has_asked_for_it_before(loop: Loop) -> None:
    async def act(wire: Turns, runtime: Runtime) -> None:
        await open_connection(wire)
        wire.far[0].send(HELLO)
        assert await heard(wire, 1) == HELLO
        wire.far[0].send(WORLD)
        asyncio.get_running_loop().call_soon(runtime.send, OTHER, 1)  # in the turn in which that is read
        heard_now = [await heard(wire, 1) for _ in range(3)]
        assert sorted(heard_now) == sorted((WORLD, OTHER, OWN))

    wire, echo = run(by_bytes, act, loop)
    assert len(echo.said) == 1
    assert wire.left == echo.said


def test_what_a_task_sends_that_nobody_woke_leaves_in_the_next_turn(loop: Loop) -> None:
    async def act(wire: Turns, runtime: Runtime) -> None:
        await open_connection(wire)
        await asyncio.sleep(0.01)
        runtime.send(OWN, 1)
        asked.append(wire.turn)
        assert await heard(wire, 1) == OWN

    asked: list[int] = []
    wire, _ = run(lambda *_: None, act, loop)
    assert wire.left == [asked[0] + 1]


def test_the_pump_stands_behind_nobody_where_nobody_can_be_woken(loop: Loop) -> None:
    """A bridge whose apps only have flows followed is called once a batch."""

    async def act(wire: Turns, _: Runtime) -> None:
        await open_connection(wire)

    def register(app: App[Any], _: Echo) -> None:
        app.track()

    assert calls_behind(register, act, loop) == 0
    assert calls_behind(by_its_start, act, loop) > 0


def calls_behind(
    register: Callable[[App[Any], Echo], None],
    act: Callable[[Turns, Runtime], Awaitable[None]],
    loop: Loop,
) -> int:
    """Run an app; how often the pump stood behind others."""
    calls = 0
    stand = LivePump.stand_behind

    def counting(pump: LivePump) -> None:
        nonlocal calls
        calls += 1
        stand(pump)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LivePump, "stand_behind", counting)
        run(register, act, loop)
    return calls
