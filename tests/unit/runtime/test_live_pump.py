"""The live pump in line, between two sockets: what is asked of the engine between two frames happens at once."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aiomos import CONN_SETUP, PKT_IN, App, Flow, Hook, MonitorConnection, Packet, Runtime, Settings, serve
from aiomos.testing.hosts import read_packet, read_segment
from aiomos.testing.packets import tcp_frame, udp_frame
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from tests.traffic import Loop, in_loop

SYN = tcp_frame(seq=100)
SYN_ACK = tcp_frame("10.0.0.2", "10.0.0.1", 80, 1234, 500, 101, "SA")
ACK = tcp_frame(seq=101, ack=501, flags="A")
HELLO = tcp_frame(seq=101, ack=501, flags="PA", payload=b"hello")
OWN = udp_frame(payload=b"of the app")
SECOND = 1_000_000_000


class Sockets(Transport):
    """Two ends of datagram sockets; what comes by one leaves by the other."""

    forwards = (1, 0)

    def __init__(self) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        self.near, self.far = [near for near, _ in pairs], [far for _, far in pairs]
        self.epoll = select.epoll()
        for sock in (*self.near, *self.far):
            sock.setblocking(False)
        for number, sock in enumerate(self.near):
            self.epoll.register(sock, select.EPOLLIN)
            self.interfaces.append(Interface("", f"end{number}", 1, 0))

    def fileno(self) -> int:
        """Return that of the epoll."""
        return self.epoll.fileno()

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return what has come."""
        frames = []
        for number, sock in enumerate(self.near):
            while True:
                try:
                    frames.append((time.time_ns(), sock.recv(65536), number))
                except BlockingIOError:
                    break
        return frames

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Send a frame."""
        self.near[interface].send(frame)

    def close(self) -> None:
        """Let go of the sockets."""
        self.epoll.close()
        for sock in (*self.near, *self.far):
            sock.close()
        super().close()


def between(
    app: App[Any],
    act: Callable[[Sockets, Runtime], Coroutine[Any, Any, None]],
    wire: Sockets | None = None,
    loop: Loop = "asyncio",
) -> dict[str, int]:
    """Run an app between two sockets while something is done at their far ends; the counters."""
    wire = wire or Sockets()
    tasks: list[asyncio.Task[None]] = []

    async def acting(runtime: Runtime) -> None:
        try:
            await act(wire, runtime)
        finally:
            runtime.stop()

    async def main() -> dict[str, int]:
        report = await serve(
            app,
            transport=wire,
            settings=Settings(on_error="raise"),
            started=lambda runtime: tasks.append(asyncio.create_task(acting(runtime))),
        )
        await tasks[0]
        return report.counters

    return in_loop(main(), loop)


async def heard(wire: Sockets, end: int) -> bytes:
    """Wait for a frame at an end."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(wire.far[end], 65536), 5)


async def open_connection(wire: Sockets) -> None:
    for end, frame in ((0, SYN), (1, SYN_ACK), (0, ACK)):
        wire.far[end].send(frame)
        assert await heard(wire, 1 - end) == frame


async def check_reset(wire: Sockets) -> None:
    for end in (0, 1):
        packet = read_packet(await heard(wire, end))
        assert packet is not None
        segment = read_segment(packet)
        assert segment is not None
        assert "R" in segment.flags


def test_frames_pass() -> None:
    async def act(wire: Sockets, _: Runtime) -> None:
        await open_connection(wire)
        wire.far[0].send(HELLO)
        assert await heard(wire, 1) == HELLO

    assert between(App("nothing"), act)["in_line.forwarded"] == 4


def test_what_is_sent_between_frames_leaves_at_once() -> None:
    async def act(wire: Sockets, runtime: Runtime) -> None:
        for _ in range(3):
            runtime.send(OWN, 1)
            assert await heard(wire, 1) == OWN

    assert between(App("nothing"), act)["in_line.originated"] == 3


@pytest.mark.parametrize("where", ["handler", "timer", "kept"])
def test_a_flow_is_reset_while_nothing_comes(where: str) -> None:
    app: App[None] = App("resets")
    flows: list[Flow] = []

    @app.on(CONN_SETUP)
    def note(flow: Flow) -> None:
        flows.append(flow)
        if where == "timer":
            flow.timer(0.02, Flow.reset)

    @app.monitor("server port 80")
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.read(5)
        if where == "handler":
            conn.flow.reset()

    async def act(wire: Sockets, _: Runtime) -> None:
        await open_connection(wire)
        if where == "handler":
            wire.far[0].send(HELLO)
            assert await heard(wire, 1) == HELLO
        elif where == "kept":
            flows[0].reset()
        await check_reset(wire)

    assert between(app, act)["in_line.resets"] >= 2


def test_what_is_sent_in_shutting_down_leaves() -> None:
    app: App[None] = App("polite")
    said: list[bytes] = []

    @app.shutdown
    async def end(engine: Runtime) -> None:
        engine.send(OWN, 1)

    async def act(wire: Sockets, _: Runtime) -> None:
        send = wire.send

        def note(frame: bytes, interface: int = 0) -> None:
            said.append(frame)
            send(frame, interface)

        wire.send = note  # type: ignore[method-assign]

    between(app, act)
    assert said == [OWN]


def test_a_session_is_told_of_its_end_while_nothing_comes() -> None:
    app: App[None] = App("sessions")
    sessions: list[Any] = []
    told: asyncio.Event | None = None

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        sessions.append(pkt.session(idle=60, on_end=tell))

    def tell(_: object) -> None:
        assert told is not None
        told.set()

    async def act(wire: Sockets, _: Runtime) -> None:
        nonlocal told
        told = asyncio.Event()
        wire.far[0].send(OWN)
        assert await heard(wire, 1) == OWN
        sessions[0].close()
        await asyncio.wait_for(told.wait(), 5)

    between(app, act)


def test_the_engine_is_asked_again_when_a_session_is_due_and_not_before() -> None:
    app: App[None] = App("sessions")
    sessions: list[Any] = []
    ended: list[Any] = []

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        sessions.append(pkt.session(idle=60, on_end=ended.append))

    async def act(wire: Sockets, runtime: Runtime) -> None:
        engine = runtime.engine
        assert engine.deadline_ns is None
        wire.far[0].send(OWN)
        assert await heard(wire, 1) == OWN
        last_ns = round(sessions[0].last * SECOND)
        for idle in (60, 5000, 7):  # farther than the wheel reaches, it is looked at in between
            sessions[0].idle = idle
            assert engine.deadline_ns is not None
            assert min(idle, 1023) - 1 <= (engine.deadline_ns - last_ns) / SECOND <= idle + 1
        sessions[0].close()
        assert engine.deadline_ns is not None
        assert engine.deadline_ns <= engine.clock_ns
        while not ended:
            await asyncio.sleep(0)
        assert engine.deadline_ns is None

    between(app, act)
