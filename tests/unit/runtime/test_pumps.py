"""Pumps: a program may feed the engines of its runtimes itself, and each handler sleeps by its own engine's clock."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

import aiomos
from aiomos import App, MonitorConnection, Runtime, Settings
from aiomos.runtime.pumps import Feed
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import EPOCH_NS, Link, Middlebox, Network
from tests.traffic import Loop, Traffic, in_loop

STRICT = Settings(on_error="raise")


class Stepper:
    """Steps the engines of several middleboxes by the clock of the one network that they are in."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.feeds: list[tuple[Feed, Middlebox]] = []
        self.over: list[asyncio.Event] = []
        self.stopped: list[Middlebox] = []

    def pump(self, middlebox: Middlebox) -> _Waits:
        """Make the pump of one of them."""
        over = asyncio.Event()
        self.over.append(over)
        return _Waits(self, middlebox, over)

    async def run(self) -> None:
        """Run all of them to the end of what happens."""
        while True:
            due = [at for feed, _ in self.feeds if (at := feed.clock.due_ns) is not None]
            if self.network.next_ns is None and not any(feed.clock.has_sleepers for feed, _ in self.feeds):
                break
            steps = [at for at in (self.network.next_ns, *due) if at is not None]
            self.network.run(min(steps))
            for feed, middlebox in self.feeds:
                if middlebox.read_batch():
                    feed.engine.feed(middlebox)
                feed.engine.pass_time(self.network.now_ns)
                feed.engine.flush(middlebox)
                await feed.turns.give()
                feed.engine.flush(middlebox)
        for over in self.over:
            over.set()


class _Waits:
    """The pump of an engine that is stepped from outside."""

    def __init__(self, stepper: Stepper, middlebox: Middlebox, over: asyncio.Event) -> None:
        self.stepper, self.middlebox, self.over = stepper, middlebox, over

    async def run(self) -> None:
        """Wait for the end."""
        await self.over.wait()

    def stop(self) -> None:
        """End."""
        self.stepper.stopped.append(self.middlebox)
        self.over.set()

    def attend_soon(self) -> None:
        """Nothing: it is looked after in each step."""


def two_in_one_network(loop: Loop) -> list[object]:
    network = Network(seed=3)
    stepper = Stepper(network)
    hosts, boxes = [], []
    for number in (1, 2):
        server = (f"10.0.{number}.2", 80)
        hosts.append(TcpHost(f"10.0.{number}.1", 40000, peer=server, data=b"question" * 500))
        hosts.append(TcpHost(*server, data=b"answer" * 500, answers=True))
        link = Link(delay=0.01 * number, loss=0.05)
        boxes.append(network.middlebox(hosts[-2], hosts[-1], link, link))
        hosts[-2].connect()
    seen: list[object] = []

    def watching(name: str) -> App[None]:
        app: App[None] = App(name)

        @app.monitor()
        async def watch(conn: MonitorConnection) -> None:
            read = await conn.client.read(-1)
            await aiomos.sleep(0.25)
            seen.append((name, read, network.now_ns - EPOCH_NS))

        return app

    def runtime_of(middlebox: Middlebox) -> Runtime:
        def pump(feed: Feed) -> _Waits:
            stepper.feeds.append((feed, middlebox))
            return stepper.pump(middlebox)

        return Runtime(transport=middlebox, settings=STRICT, pump=pump)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            runtimes = [await stack.enter_async_context(runtime_of(middlebox)) for middlebox in boxes]
            for number, runtime in enumerate(runtimes):
                await runtime.attach(watching(f"app {number}"))
            runs = [asyncio.create_task(runtime.run()) for runtime in runtimes]
            await stepper.run()
            seen.extend([(await run).frames for run in runs])

    in_loop(main(), loop)
    for client, server in zip(hosts[::2], hosts[1::2], strict=True):
        assert (server.received, client.received) == (client.data, server.data)
    return seen


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_two_engines_are_stepped_by_one_clock_and_do_the_same_again(loop: Loop) -> None:
    seen = two_in_one_network(loop)
    (first, read, at_ns), (second, other, _) = seen[:2]  # type: ignore[misc]
    assert {first, second} == {"app 0", "app 1"}
    assert read == other == b"question" * 500
    assert at_ns > 250_000_000
    assert seen == two_in_one_network(loop)


def test_a_pump_of_the_callers_is_told_to_stop() -> None:
    network = Network()
    stepper = Stepper(network)
    middlebox = network.middlebox(TcpHost("10.0.0.1", 1), TcpHost("10.0.0.2", 80))

    async def main() -> None:
        runtime = Runtime(transport=middlebox, pump=lambda _: stepper.pump(middlebox))
        runtime.stop()  # before there is a pump: that is told as soon as it is made
        async with runtime:
            assert stepper.stopped == [middlebox]
            assert (await runtime.run()).frames == 0

    in_loop(main(), "asyncio")


def test_a_handler_sleeps_by_the_clock_of_its_own_engine() -> None:
    """Also where another runtime was entered later, in the same task."""
    traffic = Traffic()
    conn = traffic.connection(1000)
    conn.client(b"abc")
    traffic.pause()
    traffic.wait(100)
    conn.client(b"def")
    conn.close()
    app: App[None] = App("sleeps")
    woke: list[float] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.readexactly(3)
        before = runtime.now
        await aiomos.sleep(50)
        woke.append(runtime.now - before)

    async def main() -> None:
        nonlocal runtime
        own = Runtime(source=traffic.source(), settings=STRICT)
        async with own as runtime, Runtime(source=Traffic().source()) as other:
            await other.run()  # its clock stands still: whoever sleeps by it does not sleep
            await runtime.attach(app)
            await runtime.run()

    runtime: Runtime
    in_loop(main(), "asyncio")
    assert len(woke) == 1
    assert woke[0] >= 50
