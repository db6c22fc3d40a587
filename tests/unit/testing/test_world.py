"""Worlds: several engines, hosts and links by one clock, and the same again to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiomos
from aiomos import CONN_START, PKT_IN, App, Flow, Hook, MonitorConnection, Packet, Runtime, Settings
from aiomos.settings import Timeouts
from aiomos.testing import stations
from aiomos.testing.hosts import DatagramHost, TcpHost
from aiomos.testing.packets import tcp_frame, udp_frame
from aiomos.testing.world import Station, World
from aiomos.transport.interfaces import Interface
from aiomos.transport.pcap import CaptureReader
from aiomos.transport.sim import EPOCH_NS, Link
from tests.line import End
from tests.traffic import Loop, in_loop
from tests.unit.transport.formats import Memory

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
SECOND = 1_000_000_000
STRICT = Settings(on_error="raise")
BAD = Link(delay=0.01, jitter=0.005, loss=0.03, reorder=0.05, duplicate=0.05, corrupt=0.02)
LOOPS: tuple[Loop, ...] = ("asyncio", "uvloop")


def run(world: World, loop: Loop = "asyncio") -> None:
    in_loop(world.run(), loop)


def hosts_of(
    world: World, *, question: bytes = b"question" * 500, answer: bytes = b"answer" * 2000
) -> tuple[TcpHost, TcpHost]:
    client = world.host(TcpHost(*CLIENT, peer=SERVER, data=question))
    return client, world.host(TcpHost(*SERVER, data=answer, answers=True))


def assert_whole(client: TcpHost, server: TcpHost) -> None:
    assert client.received == server.data
    assert server.received == client.data


def frames_of(capture: bytes) -> list[tuple[int, bytes, int]]:
    """Times since the start, bytes and interfaces of the frames of a capture."""
    source, frames = CaptureReader(Memory(capture), [], 1 << 20), []
    while source.read_batch():
        frames += [(time_ns - EPOCH_NS, data, number) for time_ns, data, _, _, number in source.batch()]
    return frames


def names_of(capture: bytes) -> list[str]:
    """Names of the interfaces of a capture."""
    interfaces: list[Interface] = []
    list(CaptureReader(Memory(capture), interfaces, 1 << 20))
    return [interface.name for interface in interfaces]


# --- the same again -------------------------------------------------------------------------------------


def two_engines(loop: Loop, *, seed: int = 3, third: bool = False) -> tuple[list[Any], list[str]]:
    """Run two bridges in a row that watch, sleep and reset; a third beside them, if wanted."""
    world = World(seed=seed)
    seen: list[Any] = []

    def watching(name: str, log: list[Any]) -> App[None]:
        app: App[None] = App(name)

        @app.monitor()
        async def watch(conn: MonitorConnection) -> None:
            question = await conn.client.read(-1)
            await aiomos.sleep(0.25)
            log.append((name, len(question), world.now))
            log.append((name, len(await conn.server.read(-1)), world.now))

        return app

    client, server = hosts_of(world)
    first = world.bridge("first", watching("a", seen), settings=STRICT)
    if third:
        unheeded: list[Any] = []
        beside = world.bridge("beside", watching("c", unheeded), settings=STRICT)
        other = world.host(TcpHost("10.1.0.1", 1, peer=("10.1.0.2", 80), data=b"question" * 700))
        world.link(other, beside, BAD)
        world.link(beside, world.host(TcpHost("10.1.0.2", 80, data=b"answer" * 700)), BAD)
        other.connect()
    second = world.bridge("second", watching("b", seen), settings=STRICT)
    world.link(client, first, BAD)
    between = world.link(first, second, BAD)
    world.link(second, server, BAD)
    client.connect()
    run(world, loop)
    if third:
        assert [entry[1] for entry in unheeded] == [5600, 4200]
    assert_whole(client, server)
    assert first.report is not None
    assert first.report.frames > 20
    captures = [world.capture(of) for of in (client, first, between, second, server)]
    assert all(len(frames_of(capture)) > 20 for capture in captures)
    return seen, [hashlib.sha256(capture).hexdigest() for capture in captures]


@pytest.mark.parametrize("loop", LOOPS)
def test_two_engines_do_the_same_again_to_the_byte(loop: Loop) -> None:
    seen, captures = two_engines(loop)
    assert {entry[:2] for entry in seen} == {("a", 4000), ("a", 12000), ("b", 4000), ("b", 12000)}
    assert two_engines(loop) == two_engines("asyncio") == (seen, captures)
    assert two_engines(loop, seed=4)[1] != captures


@pytest.mark.parametrize("loop", LOOPS)
def test_a_third_engine_changes_nothing_for_the_others(loop: Loop) -> None:
    assert two_engines(loop, third=True) == two_engines(loop)


def test_processes_with_other_hash_seeds_do_the_same() -> None:
    code = (
        "from tests.unit.testing.test_world import two_engines\n"
        "for loop in ('asyncio', 'uvloop'): print(*two_engines(loop)[1])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    (lines,) = said
    assert lines.splitlines() == [" ".join(two_engines("asyncio")[1])] * 2


# --- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_time_goes_on_only_when_no_task_has_anything_left_to_do(loop: Loop) -> None:
    """However many turns of the loop an answer takes, it leaves at the time at which it was asked for."""
    world = World()
    end = world.host(End(), "end")
    app: App[None] = App("hops")
    hops = 0

    async def hop() -> None:
        nonlocal hops
        for _ in range(100):
            hops += 1
            await asyncio.sleep(0)

    @app.on(PKT_IN, hook=Hook.RAW)
    def raw(pkt: Packet) -> None:  # noqa: ARG001 - as a callback has it
        async def answer() -> None:
            await asyncio.gather(*(asyncio.create_task(hop()) for _ in range(3)))
            engine.runtime.send(b"answer".ljust(60))

        tasks.append(asyncio.create_task(answer()))

    tasks: list[asyncio.Task[None]] = []
    engine = world.engine("engine", app, settings=STRICT)
    world.link(end, engine, Link(delay=1))
    world.call_at(0.5, lambda: end.send(udp_frame(payload=b"question")))
    world.call_at(1.500001, lambda: None)
    run(world, loop)
    assert hops == 300
    assert frames_of(world.capture(end)) == [
        (SECOND // 2, udp_frame(payload=b"question"), 0),
        (SECOND * 5 // 2, b"answer".ljust(60), 0),
    ]


def test_a_task_that_never_rests_does_not_stop_the_world() -> None:
    world = World()
    app: App[None] = App("restless")
    turns = 0

    @app.startup
    async def start(engine: Runtime) -> None:  # noqa: ARG001 - as the app has it
        async def spin() -> None:
            nonlocal turns
            while world.now < 1:
                turns += 1
                await asyncio.sleep(0)

        tasks.append(asyncio.create_task(spin()))

    tasks: list[asyncio.Task[None]] = []
    world.engine("engine", app)
    world.call_at(1, lambda: None)
    run(world)
    assert 1000 <= turns < 5000
    assert world.now == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_each_engine_sleeps_by_the_worlds_clock(loop: Loop) -> None:
    """Though it has not seen a frame for long, nor at all; hours take no time."""
    world = World()
    woke: list[tuple[str, float]] = []

    def sleeping(name: str, *seconds: float) -> App[None]:
        app: App[None] = App(name)

        @app.startup
        async def start(engine: Runtime) -> None:
            async def sleep() -> None:
                for each in seconds:
                    await engine.sleep(each)
                    woke.append((name, world.now))
                    assert engine.now == world.now + EPOCH_NS / SECOND

            tasks.append(asyncio.create_task(sleep()))

        return app

    tasks: list[asyncio.Task[None]] = []
    world.engine("a", sleeping("a", 3600, 0.5))
    world.engine("b", sleeping("b", 0.25, 7200))
    run(world, loop)
    for task in tasks:
        task.result()
    assert woke == [("b", 0.25), ("a", 3600), ("a", 3600.5), ("b", 7200.25)]
    assert world.now == 7200.25


def test_a_task_of_another_engine_sleeps_from_now_on() -> None:
    """One that an event elsewhere wakes: its own engine has not been told the time since the start."""
    world = World()
    woke: list[float] = []
    waker: list[asyncio.Event] = []
    app: App[None] = App("sleeps")

    @app.startup
    async def start(engine: Runtime) -> None:
        async def sleep() -> None:
            await waker[0].wait()
            await engine.sleep(2)
            woke.append(world.now)

        waker.append(asyncio.Event())
        tasks.append(asyncio.create_task(sleep()))

    tasks: list[asyncio.Task[None]] = []
    world.engine("engine", app)
    world.call_at(5, lambda: waker[0].set())
    run(world)
    assert woke == [7]


def test_a_world_is_run_until_a_time_and_on() -> None:
    world = World(seed=1)
    client, server = hosts_of(world)
    bridge = world.bridge("bridge")
    world.link(client, bridge, Link(delay=0.25))
    world.link(bridge, server)
    client.connect()
    states: list[tuple[float, int]] = []

    async def main() -> None:
        async with world:
            for until in (0.25, 0.5, 0.6):
                await world.run(until)
                states.append((world.now, bridge.runtime.source.frames_read))
            assert not bridge.has_ended
            await world.run()
            assert bridge.has_ended
            with pytest.raises(RuntimeError, match="has ended"):
                await world.run()

    in_loop(main(), "asyncio")
    # The SYN and its answer; then the ACK and three segments.
    assert states == [(0.25, 2), (0.5, 2), (0.6, 2)]
    assert_whole(client, server)


def test_an_engine_may_be_plugged_in_between_two_runs() -> None:
    world = World()
    end, other = world.host(End(), "end"), world.host(End(), "other")

    async def main() -> None:
        async with world:
            await world.run(1)
            bridge = world.bridge("bridge", settings=STRICT)
            world.link(end, bridge)
            world.link(bridge, other)
            assert not bridge.is_running
            with pytest.raises(RuntimeError, match="bridge has not begun"):
                bridge.pump  # noqa: B018 - raises
            end.send(udp_frame(payload=b"hello"))
            await world.run(2)
            assert bridge.runtime.now == 2 + EPOCH_NS / SECOND

    in_loop(main(), "asyncio")
    assert frames_of(world.capture(other)) == [(SECOND, udp_frame(payload=b"hello"), 0)]


@pytest.mark.parametrize("loop", LOOPS)
def test_timers_of_flows_ring_at_their_time(loop: Loop) -> None:
    """Between frames, though two engines are told the time for reasons of their own only; 0 seconds are at once."""
    rang: list[tuple[str, float]] = []

    def timing(name: str, *seconds: float) -> App[None]:
        app: App[None] = App(name)

        @app.on(CONN_START)
        def start(flow: Flow) -> None:
            for each in seconds:
                flow.timer(each, lambda _: rang.append((name, world.now)))

        return app

    world, client, server, _ = world_of(timing("a", 0.125, 0), settings=STRICT, links=(Link(delay=0.25),) * 2)
    tap = world.tap("tap", timing("b", 0.2), settings=STRICT)
    other = world.host(TcpHost("10.1.0.1", 1, peer=("10.1.0.2", 80)))
    world.link(other, tap, Link(delay=0.01))
    world.link(tap, world.host(TcpHost("10.1.0.2", 80)), Link(delay=1))
    other.connect()
    run(world, loop)
    assert_whole(client, server)
    assert rang == [("b", 0.21), ("a", 0.25), ("a", 0.375)]


def test_flows_time_out_while_a_world_is_run_until_a_time() -> None:
    """To the end it is not kept going by them: they end with it."""

    def ends(until: float | None) -> tuple[list[int], float]:
        world = World()
        client = world.host(End(), "client")
        app: App[None] = App("follows")
        app.track()
        bridge = world.bridge("bridge", app, settings=Settings(timeouts=Timeouts(half_open=30)))
        world.link(client, bridge)
        world.link(bridge, world.host(End(), "server"))
        client.send(tcp_frame(flags="S"))

        async def main() -> None:
            async with world:
                await world.run(until)
                reasons.append(len(list(bridge.runtime.flows())))

        reasons: list[int] = []
        in_loop(main(), "asyncio")
        return reasons, world.now

    assert ends(None)[1] == 0
    assert ends(10) == ([1], 10)
    assert ends(100) == ([0], 100)


def test_one_world_a_loop_and_one_run_a_world() -> None:
    world, other = World(), World()

    async def main() -> None:
        world.call_at(1, lambda: tasks.extend(asyncio.create_task(each.run()) for each in (world, other)))
        world.call_at(2, lambda: None)
        await world.run()
        for task, message in zip(tasks, ("runs already", "another world"), strict=True):
            with pytest.raises(RuntimeError, match=message):
                await task

    tasks: list[asyncio.Task[None]] = []
    in_loop(main(), "asyncio")
    assert world.now == 2


# --- hosts over a bridge --------------------------------------------------------------------------------

SIZES = (0, 1000, 30_000)
LOSSES = (0.0, 0.05, 0.1)
DELAYS = (0.0, 0.01, 0.1)
MILLISECONDS = {
    (0.0, 0.0): (0, 0, 5),
    (0.0, 0.01): (100, 100, 183),
    (0.0, 0.1): (1000, 1000, 1803),
    (0.05, 0.0): (0, 0, 1004),
    (0.05, 0.01): (100, 100, 1303),
    (0.05, 0.1): (1000, 1000, 4003),
    (0.1, 0.0): (31000, 31000, 6004),
    (0.1, 0.01): (31100, 31100, 6544),
    (0.1, 0.1): (38202, 38202, 11405),
}
"""By loss and delay, what connections of so many bytes take."""


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("delay", DELAYS)
def test_bytes_arrive_over_a_bridge_in_as_much_time_as_ever(loss: float, delay: float) -> None:
    link = Link(loss=loss, delay=delay, bandwidth=100e6)
    took = []
    for size in SIZES:
        world = World(seed=6)
        client, server = hosts_of(world, question=b"q" * size, answer=b"a" * size)
        bridge = world.bridge("bridge", settings=STRICT)
        world.link(client, bridge, link)
        world.link(bridge, server, link)
        client.connect()
        run(world)
        assert_whole(client, server)
        assert client.sent_all
        assert server.sent_all
        took.append(round(world.now * 1000))
    assert tuple(took) == MILLISECONDS[loss, delay]


# --- captures -------------------------------------------------------------------------------------------


def test_captures_have_what_was_seen_there() -> None:
    """A corrupted frame as it was sent on the link and at its sender, and as it arrived at its receiver."""
    world = World(seed=1)
    first, second = world.host(End(), "first"), world.host(End(), "second")
    tap = world.tap("tap")
    one, other = world.link(first, tap, Link(delay=0.001, loss=0.5)), world.link(tap, second, Link(corrupt=1))
    for n in range(8):
        first.send(udp_frame(payload=bytes([n])))
    run(world)
    sent = [(0, udp_frame(payload=bytes([n])), 0) for n in range(8)]
    crossed = [
        (time_ns, data) for time_ns, data, interface in frames_of(world.capture(tap)) if interface == 0
    ]
    assert 0 < len(crossed) == 8 - one.there.counts["lost"] < 8
    assert frames_of(world.capture(first)) == frames_of(world.capture(one)) == sent
    assert frames_of(world.capture(tap)) == [
        (1_000_000, data, side) for _, data in crossed for side in (0, 1)
    ]
    assert frames_of(world.capture(other)) == [(1_000_000, data, 0) for _, data in crossed]
    arrived = frames_of(world.capture(second))
    assert [data for _, data, _ in arrived] == second.received
    assert len(arrived) == len(crossed)
    assert all(data not in [each for _, each in crossed] for _, data, _ in arrived)
    assert names_of(world.capture(tap)) == ["tap.0", "tap.1"]
    assert names_of(world.capture(other)) == ["tap.1", "second"]
    assert names_of(world.capture(second)) == ["second"]


def test_captures_can_be_left_out() -> None:
    world = World(captures=False)
    client, server = hosts_of(world)
    world.link(client, server)
    client.connect()
    run(world)
    assert_whole(client, server)
    with pytest.raises(RuntimeError, match="captures=False"):
        world.capture(client)


def test_only_what_is_of_the_world_is_captured() -> None:
    with pytest.raises(ValueError, match="this End is not of this world"):
        World().capture(End())


# --- kinds of engines -----------------------------------------------------------------------------------


def test_an_engine_may_have_any_number_of_ports() -> None:
    """Of four, two are forwarded to each other, one comes to nothing, and the apps answer by the last."""
    world = World()
    app: App[None] = App("answers")

    @app.on(PKT_IN, hook=Hook.RAW)
    def answer(pkt: Packet, engine: Runtime) -> None:
        if pkt.interface == "engine.3":
            engine.send(pkt.frame, pkt.interface)

    engine = world.engine("engine", app, ports=4, forwards=(1, 0, None, None), settings=STRICT)
    ends = [world.host(End(), f"end{n}") for n in range(4)]
    for end in ends:
        world.link(end, engine, Link(delay=1))
    for n, end in enumerate(ends):
        end.send(udp_frame(payload=bytes([n])))
    run(world)
    assert [end.received for end in ends] == [
        [udp_frame(payload=b"\1")],
        [udp_frame(payload=b"\0")],
        [],
        [udp_frame(payload=b"\3")],
    ]
    assert engine.transport.statistics() == {"received": 4, "dropped": 0, "sent": 3, "unsent": 0}


def test_an_engine_with_one_port_watches_what_it_is_sent() -> None:
    world = World()
    end, engine = world.host(End(), "end"), world.engine("engine", settings=STRICT)
    world.link(engine, end)
    end.send(udp_frame(payload=b"hello"))
    run(world)
    assert engine.report is not None
    assert engine.report.frames == 1
    assert end.received == []


def test_a_tap_neither_holds_up_nor_changes_anything() -> None:
    """An app at a tap cannot drop, and what it does takes no time."""

    def converse(kind: str) -> tuple[bytes, bytes, float]:
        world = World(seed=9)
        client, server = hosts_of(world)
        engine = world.tap("x") if kind == "tap" else world.bridge("x")
        world.link(client, engine, BAD)
        world.link(engine, server, BAD)
        client.connect()
        run(world)
        assert_whole(client, server)
        assert engine.report is not None
        assert engine.report.frames > 20
        return world.capture(client), world.capture(server), world.now

    assert converse("tap") == converse("bridge")


# --- faults ---------------------------------------------------------------------------------------------


def raising(error: BaseException) -> App[None]:
    app: App[None] = App("raises")

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        await conn.client.readexactly(8)
        raise error

    return app


def world_of(
    *apps: App[Any], settings: Settings | None = None, links: tuple[Link, Link] = (Link(), Link())
) -> tuple[World, TcpHost, TcpHost, Station]:
    """A client and a server with a bridge between them."""
    world = World(seed=2)
    client, server = hosts_of(world)
    bridge = world.bridge("bridge", *apps, settings=settings)
    world.link(client, bridge, links[0])
    world.link(bridge, server, links[1])
    client.connect()
    return world, client, server, bridge


def test_an_app_that_raises_is_counted_and_all_else_goes_on() -> None:
    world, client, server, bridge = world_of(raising(ValueError("mine")))
    run(world)
    assert_whole(client, server)
    assert bridge.runtime.errors == {"handler_errors": 1}
    assert bridge.error is None


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("until", [None, 60])
def test_what_an_app_raises_ends_the_world_where_it_is_to(
    loop: Loop, error: BaseException, until: float | None
) -> None:
    world, client, server, bridge = world_of(raising(error), settings=STRICT, links=(Link(delay=0.01),) * 2)
    other = world.bridge("other", settings=STRICT)

    async def main() -> None:
        with pytest.raises(type(error)) as raised:
            await world.run(until)
        assert raised.value is error

    in_loop(main(), loop)
    assert bridge.error is error
    assert bridge.report is None
    assert other.has_ended
    assert world.now == pytest.approx(0.05)
    assert len(server.received) < len(client.data) or not client.received


def test_the_first_of_several_failures_comes_out_once_all_is_shut_down() -> None:
    """However long shutting down takes the machine, no time goes on meanwhile."""
    closed: list[float] = []

    def slow_to_close(name: str) -> App[None]:
        app = raising(ValueError(name))

        @app.shutdown
        async def stop() -> None:
            await asyncio.sleep(0.01)
            closed.append(world.now)

        return app

    world = World()
    engines = [world.tap(name, slow_to_close(name), settings=STRICT) for name in ("near", "far")]
    for number, engine in enumerate(engines):
        server = f"10.{number}.0.2", 80
        client = world.host(TcpHost(f"10.{number}.0.1", 1, peer=server, data=b"question"))
        world.link(client, engine)
        world.link(engine, world.host(TcpHost(*server)))
        client.connect()
    world.call_at(1e-9, lambda: None)
    with pytest.raises(ValueError, match="near"):
        run(world)
    assert [str(engine.error) for engine in engines] == ["near", "far"]
    assert closed == [0, 0]
    assert world.now == 0


@pytest.mark.parametrize("until", [None, 60])
def test_a_world_that_is_cancelled_has_ended(until: float | None) -> None:
    """Here by one of its own events; else by a time limit, as one whose handlers wait for ever."""
    app: App[None] = App("waits")
    ends: list[MonitorConnection] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(conn)

    world, *_, bridge = world_of(app, settings=STRICT)

    async def main() -> None:
        task = asyncio.create_task(world.run(until))
        world.call_at(1, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 2  # this one, and the one that waits for it

    in_loop(main(), "asyncio")
    assert len(ends) == 1
    assert world.now == 1
    assert bridge.has_ended
    assert bridge.report is None


def test_an_app_that_cannot_start_ends_the_world() -> None:
    app: App[None] = App("broken")

    @app.startup
    async def start(engine: Runtime) -> None:  # noqa: ARG001 - as the app has it
        raise OSError("no such thing")

    world, _, server, bridge = world_of(app)
    with pytest.raises(OSError, match="no such thing"):
        run(world)
    assert bridge.has_ended
    assert server.received == b""


def test_what_a_host_raises_comes_out_and_all_has_ended() -> None:
    world, *_, bridge = world_of()

    def fail() -> None:
        raise LookupError("host")

    world.call_at(0.001, fail)
    with pytest.raises(LookupError, match="host"):
        run(world)
    assert bridge.has_ended


def test_an_engine_that_is_stopped_forwards_nothing_more() -> None:
    """Its handlers come to their end, hosts send again until they give up, and the others go on."""
    app: App[None] = App("reads")
    seen: list[tuple[float, int, int]] = []

    @app.monitor()
    async def handle(conn: MonitorConnection) -> None:
        there, back = await conn.client.read(-1), await conn.server.read(-1)
        seen.append((world.now, len(there), len(back)))

    world, client, server, bridge = world_of(app, settings=STRICT, links=(Link(delay=0.01),) * 2)
    beside = world.tap("beside", settings=STRICT)
    ping, pong = world.host(DatagramHost("10.0.1.1")), world.host(DatagramHost("10.0.1.2"))
    world.link(ping, beside)
    world.link(beside, pong)
    world.call_at(0.055, bridge.stop)
    world.call_at(10, lambda: ping.ping("10.0.1.2"))
    run(world)
    assert seen == [(0.055, 4000, 0)]
    assert bridge.report is not None
    assert bridge.error is None
    assert client.failed
    assert server.failed
    assert (server.received, client.received) == (client.data, b"")  # the question was through, no answer is
    assert bridge.transport.statistics()["dropped"] >= 2 * client.MAX_ATTEMPTS
    assert [each.kind for each in ping.received] == ["reply"]
    assert beside.report is not None
    assert beside.report.frames == 2


def test_a_link_that_is_cut_loses_what_is_on_it_and_is_mended_again() -> None:
    def converse(until: float) -> tuple[World, TcpHost, TcpHost]:
        cut = Link(delay=0.01, outages=[(0.055, until)])
        world, client, server, _ = world_of(settings=STRICT, links=(Link(delay=0.01), cut))
        run(world)
        return world, client, server

    world, client, server = converse(2)
    assert_whole(client, server)
    assert world.network.wires[2].counts["cut"] > 0
    assert world.now > 2
    world, client, server = converse(float("inf"))
    assert client.failed
    assert server.received == b""


def test_by_a_port_without_a_link_nothing_leaves() -> None:
    world = World()
    client = world.host(DatagramHost("10.0.0.1"))
    bridge = world.bridge("bridge", settings=STRICT)
    world.link(client, bridge)
    client.ping("10.0.0.2")
    run(world)
    assert bridge.transport.statistics() == {"received": 1, "dropped": 0, "sent": 0, "unsent": 1}
    tap = World()
    client = tap.host(DatagramHost("10.0.0.1"))
    tap.link(client, tap.tap("tap"))
    client.ping("10.0.0.2")
    run(tap)
    assert frames_of(tap.capture(tap.stations[0])) == frames_of(tap.capture(client))


def test_frames_longer_than_the_mtu_do_not_cross() -> None:
    """1,500 bytes behind the Ethernet header: 1,460 of TCP fit, one more does not."""

    def converse(size: int) -> tuple[TcpHost, TcpHost, int]:
        world = World()
        client = world.host(TcpHost(*CLIENT, peer=SERVER, data=bytes(5000), mss=size))
        server = world.host(TcpHost(*SERVER, data=b"answer", answers=True, mss=size))
        bridge = world.bridge("bridge", settings=STRICT)
        world.link(client, bridge)
        narrow = world.link(bridge, server, Link(mtu=1500))
        client.connect()
        run(world)
        return client, server, narrow.there.counts["too_long"]

    client, server, lost = converse(1460)
    assert_whole(client, server)
    assert lost == 0
    client, server, lost = converse(1461)
    assert client.failed
    assert server.received == b""
    assert lost > client.MAX_ATTEMPTS


# --- how it is made -------------------------------------------------------------------------------------


def test_names_are_one_each() -> None:
    world = World()
    world.bridge("x")
    client = world.host(TcpHost(*CLIENT))
    with pytest.raises(ValueError, match=r"there is a x in"):
        world.tap("x")
    with pytest.raises(ValueError, match=r"there is a x.1 in"):
        world.host(End(), "x.1")
    with pytest.raises(ValueError, match=r"there is a 10.0.0.1 in"):
        world.host(TcpHost(*CLIENT))
    with pytest.raises(ValueError, match=r"10.0.0.1 is in this world already"):
        world.host(client, "again")
    with pytest.raises(ValueError, match="a End has no address"):
        world.host(End())


def test_links_join_what_is_free_and_of_this_world() -> None:
    world = World()
    bridge, client, server = world.bridge("x"), world.host(End(), "a"), world.host(End(), "b")
    cable = world.link(client, bridge)
    assert cable.ports == (client, bridge.ports[0])
    assert world.link(bridge.ports[1], server).first is bridge.ports[1]
    with pytest.raises(ValueError, match="x has no port free"):
        world.link(bridge, world.host(End(), "c"))
    with pytest.raises(ValueError, match="has a link already"):
        world.link(client, world.host(End(), "d"))
    with pytest.raises(ValueError, match="this End is not of this world"):
        world.link(End(), world.tap("y"))
    looped = world.bridge("z")
    assert world.link(looped, looped).ports == looped.ports


@pytest.mark.parametrize(
    "wrong", [{"ports": 0}, {"ports": 2, "forwards": (1,)}, {"ports": 2, "forwards": (1, 2)}]
)
def test_engines_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="port"):
        World().engine("x", **wrong)


def test_an_engine_is_keyed_by_seed_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []

    def engine(*arguments: Any, **options: Any) -> Any:
        keys.append(options["key"])
        return made(*arguments, **options)

    made = stations.Runtime
    monkeypatch.setattr(stations, "Runtime", engine)
    for seed, name in ((1, "x"), (1, "y"), (2, "x"), (1, "x")):
        World(seed=seed).bridge(name)
    assert [len(key) for key in keys] == [16] * 4
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]


# --- any world ------------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.0, 0.05, 0.2])
links = st.builds(
    Link,
    bandwidth=st.sampled_from([None, 1e6, 1e9]),
    delay=st.sampled_from([0.0, 0.003, 0.2]),
    jitter=st.sampled_from([0.0, 0.02]),
    loss=shares,
    reorder=shares,
    duplicate=shares,
    corrupt=shares,
    queue=st.sampled_from([None, 5000]),
    mtu=st.sampled_from([None, 1500, 1000]),
    outages=st.sampled_from([(), [(0.1, 1.5)], [(0.5, 3), (4, 5)]]),
)


@settings(max_examples=40)
@given(st.lists(links, min_size=2, max_size=4), st.integers(0, 2**32), st.booleans())
def test_any_world_does_the_same_again_and_bytes_that_arrive_are_those_that_were_sent(
    row: list[Link], seed: int, watches: bool
) -> None:
    def converse(loop: Loop) -> tuple[World, TcpHost, TcpHost]:
        world = World(seed=seed)
        client, server = hosts_of(world)
        near: TcpHost | Station = client
        for number, link in enumerate(row[1:]):
            app: App[None] = App(f"app{number}")
            if watches:

                @app.monitor()
                async def watch(conn: MonitorConnection) -> None:
                    with contextlib.suppress(aiomos.AiomosError):
                        while await conn.server.read(1000):
                            await aiomos.sleep(0.01)

            far = world.tap(f"tap{number}", app) if number % 2 else world.bridge(f"bridge{number}", app)
            world.link(near, far, link)
            near = far
        world.link(near, server, row[0])
        client.connect()
        run(world, loop)
        return world, client, server

    (world, client, server), (again, *_) = converse("asyncio"), converse("uvloop")
    assert world.now == again.now
    for number, station in enumerate(world.stations):
        assert station.runtime.errors == {}
        assert world.capture(station) == again.capture(again.stations[number])
    # TCP's sum finds every single bit that is flipped behind the addresses of Ethernet, and IP's the rest.
    assert client.data.startswith(server.received)
    assert server.data.startswith(client.received)
    assert client.failed or server.failed or (client.sent_all and server.sent_all)
