"""A wire whose queue is full: nothing holds the loop up, frames of one's own leave, and what passes is counted."""

from __future__ import annotations

import asyncio
import resource
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiomos import App, Runtime, Settings, serve
from aiomos.testing.packets import ethernet
from aiomos.transport.bridge import Bridge
from aiomos.transport.packet import PacketWatch
from aiomos.transport.packet_port import PacketPort, open_port_socket
from aiomos.transport.transport import Transport
from tests.live.conftest import Line
from tests.live.network import Host
from tests.traffic import Loop, in_loop

OWN, PASSING = 0x88B5, 0x88B6
SIZE = 1200
SO_RCVBUFFORCE = 33
LONG_SECONDS = 0.004
"""Less than any wait that is worth it, more than a turn of the loop takes."""

BEHIND, AT = "behind the socket", "at the socket"


def numbered(number: int, ethertype: int) -> bytes:
    return ethernet(struct.pack("!I", number).ljust(SIZE, b"\0"), ethertype=ethertype)


def slow(host: Host, interface: str, where: str) -> None:
    """Have an interface pass 8 Mbit/s, behind a queue of 20 kB, or one of 4 MB that only a socket's share bounds."""
    with host.netlink() as netlink:
        netlink.tc(
            "add",
            "tbf",
            index=host.index(interface),
            rate="8mbit",
            burst=16_000,
            limit=20_000 if where == BEHIND else 4_000_000,
        )


def port(interface: str, where: str) -> tuple[PacketPort, socket.socket]:
    sock = open_port_socket(interface, slots=512)
    if where == AT:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40_000)
    return PacketPort(interface, socket=sock, slots=512), sock


def listen(host: Host) -> socket.socket:
    receiver = host.raw("eth0")
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
    return receiver


def heard(receiver: socket.socket) -> list[tuple[int, int]]:
    """Return kind and number of the frames that have come."""
    found = []
    receiver.setblocking(False)
    while True:
        try:
            frame = receiver.recv(2000)
        except BlockingIOError:
            return found
        kind = int.from_bytes(frame[12:14], "big")
        if kind in (OWN, PASSING):
            found.append((kind, struct.unpack("!I", frame[14:18])[0]))


class Turns:
    """How long callbacks of asyncio's loop take, and which of them have waited; while it is on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.longest = 0.0
        self.waited: list[float] = []
        self.count = 0
        run: Callable[[asyncio.Handle], None] = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            given_up, begun = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw, time.perf_counter()
            run(handle)
            if not self.on:
                return
            took = time.perf_counter() - begun
            self.count += 1
            self.longest = max(self.longest, took)
            # One that was long because others had the processor has not given it up itself.
            if took > LONG_SECONDS and resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > given_up:
                self.waited.append(took)

        patch.setattr(asyncio.Handle, "_run", timed)


def run(
    transport: Transport, act: Callable[[Runtime], Any], loop: Loop, turns: Turns | None = None
) -> dict[str, int]:
    """Run over a transport while something is done, and until what waits has left; the counters."""
    tasks: list[asyncio.Task[None]] = []

    async def acting(runtime: Runtime) -> None:
        try:
            if turns is not None:  # neither what is opened nor what is closed counts
                turns.on = True
            await act(runtime)
            async with asyncio.timeout(20):
                while runtime.statistics()["in_line.queued_frames"]:
                    await asyncio.sleep(0.01)
        finally:
            if turns is not None:
                turns.on = False
            runtime.stop()

    async def main() -> dict[str, int]:
        report = await serve(
            App("nothing"),
            transport=transport,
            settings=Settings(on_error="raise"),
            started=lambda runtime: tasks.append(asyncio.create_task(acting(runtime))),
        )
        await tasks[0]
        return report.counters

    return in_loop(main(), loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("where", [BEHIND, AT])
def test_full_queue_holds_up_nobody_and_loses_nothing_of_ones_own(
    in_line: Line,
    where: str,
    loop: Loop,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[..., None],
) -> None:
    slow(in_line.middle, "eth1", where)
    receiver = listen(in_line.server)
    with in_line.middle.inside():
        second, sock = port("eth1", where)
        bridge = Bridge(PacketPort("eth0", slots=512), second)
    turns = Turns(monkeypatch)

    async def act(runtime: Runtime) -> None:
        for number in range(300):
            runtime.send(numbered(number, OWN), "eth1")
            if number % 50 == 49:
                await asyncio.sleep(0.005)

    counters = run(bridge, act, loop, turns)
    sock.close()
    time.sleep(0.1)  # the last ones are on their way
    assert heard(receiver) == [(OWN, number) for number in range(300)]
    assert counters["in_line.delayed"] > 100
    assert counters["in_line.no_room"] == 0
    record_property("longest turn", turns.longest)
    assert turns.waited == []
    assert loop == "uvloop" or turns.count > 20


@pytest.mark.parametrize("where", [BEHIND, AT])
def test_bridge_that_is_full_drops_and_counts(
    in_line: Line, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own frames leave all the same, in order."""
    slow(in_line.middle, "eth1", where)
    sender, receiver = in_line.client.raw("eth0"), listen(in_line.server)
    with in_line.middle.inside():
        second, sock = port("eth1", where)
        bridge = Bridge(PacketPort("eth0", slots=512), second)
    turns = Turns(monkeypatch)

    async def act(runtime: Runtime) -> None:
        for number in range(400):
            sender.send(numbered(number, PASSING))
            if number % 10 == 0:
                runtime.send(numbered(number // 10, OWN), "eth1")
                await asyncio.sleep(0.001)
        async with asyncio.timeout(20):
            while runtime.statistics()["transport.eth0.received"] < 400:
                await asyncio.sleep(0.01)

    counters = run(bridge, act, "asyncio", turns)
    sock.close()
    time.sleep(0.1)
    numbers = heard(receiver)
    own = [number for kind, number in numbers if kind == OWN]
    passed = [number for kind, number in numbers if kind == PASSING]
    assert own == list(range(40))
    assert passed == sorted(passed)
    assert counters["transport.unsent_queue_full"] == counters["transport.unsent"] > 50
    # Kernels send a frame of their own now and then.
    assert (
        400 <= len(passed) + counters["transport.unsent_queue_full"] <= counters["in_line.forwarded"] <= 420
    )
    assert turns.waited == []


@pytest.mark.parametrize("where", [BEHIND, AT])
def test_who_only_watches_waits_for_room_too(in_line: Line, where: str) -> None:
    slow(in_line.middle, "eth1", where)
    receiver = listen(in_line.server)
    with in_line.middle.inside():
        watch = PacketWatch(["eth1"])

    async def act(runtime: Runtime) -> None:
        for number in range(300):
            runtime.send(numbered(number, OWN), "eth1")

    counters = run(watch, act, "asyncio")
    time.sleep(0.3)
    assert heard(receiver) == [(OWN, number) for number in range(300)]
    assert counters["transport.unsent"] == 0
    assert counters["in_line.delayed"] > 100
