"""Connections: both halves together, their end, and readers that are slow, gone or asleep."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import structlog

import aiomos
from aiomos import (
    App,
    Budgets,
    Chunk,
    ConnectionReset,
    Gap,
    Level,
    MonitorConnection,
    Runtime,
    Settings,
    StreamGap,
    Timeouts,
)
from aiomos.transport.pcap import CaptureReader
from tests.traffic import Connection, Loop, Pieces, Side, Traffic, drain, flood, in_loop, watch


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    kind: Loop = request.param
    return kind


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def conn(traffic: Traffic) -> Connection:
    return traffic.connection()


def strict(**changes: Any) -> Settings:
    return Settings(on_error="raise", **changes)


# --- both halves in one iteration ----------------------------------------------------------------------


def test_requests_and_responses_of_one_batch_come_in_order(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    for number in (b"1", b"2", b"3"):
        conn.client(b"GET /" + number)
        conn.server(b"HTTP ")
        conn.server(b"200 " + number)
    conn.close()
    assert len(traffic.batches) == 1
    seen: list[tuple[str, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        async for side, data in conn:
            assert isinstance(data, Chunk)
            seen.append((side, data))

    watch(handler, traffic, loop=loop)
    assert seen == [
        (side, data)
        for number in (b"1", b"2", b"3")
        for side, data in (("client", b"GET /" + number), ("server", b"HTTP 200 " + number))
    ]


@pytest.mark.parametrize("cuts", [(), (1,), (2, 4), (1, 2, 3, 4, 5, 6)])
def test_the_order_does_not_depend_on_the_batches(
    traffic: Traffic, conn: Connection, loop: Loop, cuts: tuple[int, ...]
) -> None:
    for number, side in enumerate(("client", "server", "client", "server", "server", "client")):
        if number in cuts:
            traffic.cut()
        conn.segment(side, b"%d" % number)  # type: ignore[arg-type]
    conn.close()
    seen: list[str] = []

    async def handler(conn: MonitorConnection) -> None:
        async for side, data in conn:
            seen.extend(f"{side}{byte - 48}" for byte in data)

    watch(handler, traffic, loop=loop)
    assert seen == ["client0", "server1", "client2", "server3", "server4", "client5"]


def test_bytes_behind_a_hole_come_when_they_became_readable(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(b"cd", at=2)
    conn.server(b"first", ack=0)
    conn.client(b"ab", at=0)
    conn.server(b"second")
    seen: list[tuple[str, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        await drain(conn, seen)

    watch(handler, traffic, loop=loop)
    assert seen == [("server", b"first"), ("client", b"abcd"), ("server", b"second")]


@pytest.mark.parametrize("gaps", ["mark", "skip", "zero", "raise"])
def test_gaps_have_their_place_in_the_merged_order(
    traffic: Traffic, conn: Connection, loop: Loop, gaps: Any
) -> None:
    conn.client(b"ab")
    conn.server(b"reply")
    conn.client(b"ef", at=4)
    conn.server(b"more")
    traffic.wait(2)
    conn.server()
    conn.server(b"last")
    conn.close()
    seen: list[tuple[str, Any]] = []

    async def handler(conn: MonitorConnection) -> None:
        while True:
            try:
                await drain(conn, seen)
                return
            except StreamGap as gap:
                seen.append((str(gap.side), gap.offset))

    watch(handler, traffic, loop=loop, gaps=gaps)
    lost: dict[str, list[tuple[str, Any]]] = {
        "mark": [("client", Gap(2, 2, "lost")), ("client", b"ef")],
        "raise": [("client", 2), ("client", b"ef")],
        "skip": [("client", b"ef")],
        "zero": [("client", b"\0\0"), ("client", b"ef")],
    }
    replies = [("client", b"ab"), ("server", b"replymore")]
    assert seen == [*replies, *lost[gaps], ("server", b"last")]


def test_a_skipped_gap_at_one_half_s_end_does_not_end_the_other(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(b"abcdef", captured=2, flags="FA")
    conn.server(b"reply")
    conn.server(flags="FA")
    seen: list[tuple[str, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        await drain(conn, seen)

    watch(handler, traffic, loop=loop, gaps="skip")
    assert seen == [("client", b"ab"), ("server", b"reply")]


def test_merged_iteration_ends_with_both_halves(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc", flags="FA")
    traffic.pause()
    conn.server(b"later")
    traffic.pause()
    conn.server(flags="FA")
    seen: list[tuple[str, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        await drain(conn, seen)
        assert conn.client.at_eof()
        assert conn.server.at_eof()

    watch(handler, traffic, loop=loop)
    assert seen == [("client", b"abc"), ("server", b"later")]


def test_a_reset_is_raised_behind_the_last_bytes_of_both(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(b"abc")
    conn.server(b"xyz")
    conn.reset()
    seen: list[tuple[str, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(ConnectionReset):
            await drain(conn, seen)

    watch(handler, traffic, loop=loop)
    assert seen == [("client", b"abc"), ("server", b"xyz")]


def test_only_one_coroutine_may_iterate_over_a_connection(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(b"abc")
    traffic.pause(20)
    conn.client(b"def")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        assert await anext(conn) == ("client", b"abc")

        async def first() -> Any:
            return await anext(conn)

        task = asyncio.create_task(first())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waiting"):
            await anext(conn)
        assert await task == ("client", b"def")

    watch(handler, traffic, loop=loop)


def test_other_is_the_half_that_faces_a_side(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"a")

    async def handler(conn: MonitorConnection) -> None:
        assert conn.other("client") is conn.server
        assert conn.other("server") is conn.client

    watch(handler, traffic)


def test_the_same_bytes_are_there_for_every_handler(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    for piece in (b"abc", b"def"):
        conn.client(piece)
        traffic.pause()
    conn.close()
    app, seen = App("test"), []

    @app.monitor()
    async def one(conn: MonitorConnection) -> None:
        seen.append(await conn.client.read())

    @app.monitor()
    async def gone(conn: MonitorConnection) -> None:
        await conn.client.read(1)

    @app.monitor()
    async def other(conn: MonitorConnection) -> None:
        seen.append(b"".join([data async for side, data in conn if side == "client"]))

    aiomos.run(app, source=traffic.source(), settings=strict(), loop=loop)
    assert seen == [b"abcdef", b"abcdef"]


# --- the end -----------------------------------------------------------------------------------------


def reason_of(traffic: Traffic, loop: Loop, settings: Settings | None = None) -> list[Any]:
    reasons: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        assert conn.reason is None or conn.reason == conn.flow.reason
        reasons.append(await conn.closed())
        assert conn.reason == conn.flow.reason == reasons[-1]
        assert await conn.closed() == reasons[-1]

    watch(handler, traffic, settings=settings, loop=loop)
    return reasons


def test_closed_after_both_fins(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.close()
    assert reason_of(traffic, loop) == ["fin"]


def test_closed_by_a_reset(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.reset("server")
    assert reason_of(traffic, loop) == ["rst"]


def test_closed_by_silence(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"a")
    traffic.tick(8000)
    assert reason_of(traffic, loop) == ["timeout"]


def test_closed_by_a_budget(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"a")
    traffic.cut()
    traffic.connection(1001).close()
    assert reason_of(traffic, loop, strict(budgets=Budgets(flows=1))) == ["evicted", "fin"]


def test_closed_by_the_end_of_the_capture(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"a")
    assert reason_of(traffic, loop) == ["end_of_capture"]


def test_closed_gives_up_halves_that_nobody_reads(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"request")
    traffic.pause()
    conn.server(bytes(1000))
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        assert await conn.client.readexactly(7) == b"request"
        await conn.closed()
        assert conn.client.wanted
        assert not conn.server.wanted
        assert conn.server.unread == 0
        assert await conn.server.read() == b""
        assert conn.flow.server.stream_bytes == 1000

    watch(handler, traffic, loop=loop)


def test_after_a_break_closed_waits_for_the_end(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc")
    traffic.pause()
    for _ in range(100):
        conn.client(bytes(1000))
        traffic.cut()
    conn.close()
    seen: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        async for data in conn.client:
            seen.append(bytes(data))
            break
        seen.append(await conn.closed())

    watch(handler, traffic, settings=strict(budgets=Budgets(stream_bytes=4096)), loop=loop)
    assert seen == [b"abc", "fin"]


@pytest.mark.parametrize("level", [Level.STATE, Level.BYTES])
def test_closed_at_levels_without_bytes(traffic: Traffic, conn: Connection, loop: Loop, level: Level) -> None:
    conn.client(b"abc")
    conn.close()
    seen: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        seen.append(await conn.closed())
        seen.append(conn.flow.client.stream_bytes)

    watch(handler, traffic, loop=loop, level=level)
    assert seen == ["fin", 3 if level is Level.BYTES else 0]


# --- leaving ------------------------------------------------------------------------------------------


def test_a_handler_that_returns_frees_what_is_held(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"x")
    traffic.pause()
    for at in range(10, 100, 10):
        conn.client(bytes(5), at=at, ack=0)
    traffic.pause()
    other = traffic.connection(2000)
    traffic.pause()
    conn.client(bytes(5), at=200, ack=0)
    traffic.pause()
    other.client(b"now")
    held: list[dict[str, int]] = []

    async def main() -> None:
        async with Runtime(source=traffic.source(), settings=strict()) as runtime:
            app = App("test")

            def note() -> None:
                counters = runtime.statistics()
                held.append({name: counters[f"held.{name}"] for name in ("blocks", "pieces", "parts")})

            @app.monitor("port 1000")
            async def leaves(conn: MonitorConnection) -> None:
                await conn.client.read(1)
                while runtime.statistics()["held.pieces"] < 9:
                    await asyncio.sleep(0)
                note()

            @app.monitor("port 2000")
            async def stays(conn: MonitorConnection) -> None:
                note()
                await conn.client.read(3)
                note()

            await runtime.attach(app)
            await runtime.run()
            note()

    in_loop(main(), loop)
    nothing = {"blocks": 0, "pieces": 0, "parts": 0}
    assert held == [{"blocks": 9, "pieces": 9, "parts": 0}, nothing, nothing, nothing]


def test_a_connection_is_freed_without_the_cyclic_collector(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    """By reference count, as soon as its handler has returned and its flow has ended."""
    conn.client(b"abc")
    traffic.pause()
    conn.reset()
    other = traffic.connection(2000)
    traffic.pause()
    other.client(b"now")
    alive: list[set[int]] = []
    gc.collect()
    kept = {id(thing) for thing in gc.get_objects() if type(thing) is aiomos.Flow}  # by what other tests keep

    def ports() -> set[int]:
        """Client ports of the flows in memory, those only the collector would find included."""
        things = [thing for thing in gc.get_objects() if type(thing) is aiomos.Flow]
        return {thing.client.port for thing in things if id(thing) not in kept}

    async def handler(conn: MonitorConnection) -> None:
        if conn.flow.client.port == 1000:
            assert await conn.client.read(3) == b"abc"
            alive.append(ports())
            return
        await conn.client.read(3)
        alive.append(ports())

    gc.disable()
    try:
        watch(handler, traffic, settings=strict(timeouts=Timeouts(reset=0)), loop=loop)
    finally:
        gc.enable()
    assert alive == [{1000}, {2000}]


def test_leaving_frees_unread_bytes_at_once(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"x" * 1000)
    traffic.pause()

    async def handler(conn: MonitorConnection) -> None:
        assert conn.client.unread == 1000
        conn.leave()
        assert conn.client.unread == 0
        assert await conn.client.read() == b""

    watch(handler, traffic)


# --- what handlers raise ---------------------------------------------------------------------------------


def test_an_exception_ends_only_its_handler_on_its_flow(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(b"bad")
    other = traffic.connection(1001)
    other.client(b"good")
    traffic.pause()
    other.client(b"ness")
    app, seen = App("test"), []

    @app.monitor()
    async def fails(conn: MonitorConnection) -> None:
        if await conn.client.read(3) == b"bad":
            raise ZeroDivisionError
        seen.append(await conn.client.read())

    @app.monitor()
    async def works(conn: MonitorConnection) -> None:
        seen.append(await conn.client.read())

    with structlog.testing.capture_logs() as logs:
        report = aiomos.run(app, source=traffic.source(), loop=loop)
    assert sorted(seen) == [b"bad", b"dness", b"goodness"]
    assert report.counters["handler_errors"] == 1
    (entry,) = [log for log in logs if log["event"] == "handler_failed"]
    assert (entry["app"], entry["flow"]) == ("test", "10.0.0.1:1000 -> 10.0.0.2:80")
    assert isinstance(entry["exc_info"], ZeroDivisionError)


def test_exceptions_are_logged_a_few_times_and_all_counted(traffic: Traffic, loop: Loop) -> None:
    for port in range(1000, 1100):
        traffic.connection(port)
    app = App("test")

    @app.monitor()
    async def fails(_conn: MonitorConnection) -> None:
        raise ZeroDivisionError

    with structlog.testing.capture_logs() as logs:
        report = aiomos.run(app, source=traffic.source(), loop=loop)
    assert report.counters["handler_errors"] == 100
    assert 0 < len(logs) < 20


@pytest.mark.parametrize("kind", ["gap", "reset", "timeout"])
def test_what_the_path_did_is_no_error_of_the_handler(
    traffic: Traffic, conn: Connection, loop: Loop, kind: str
) -> None:
    conn.client(b"abc")
    if kind == "gap":
        conn.client(b"x", at=5)
    elif kind == "reset":
        conn.reset()
    else:
        traffic.tick(8000)
    names = {"gap": "StreamGap", "reset": "ConnectionReset", "timeout": "ConnectionTimedOut"}

    async def handler(conn: MonitorConnection) -> None:
        await conn.client.read()

    with structlog.testing.capture_logs() as logs:
        report = watch(handler, traffic, ends=0, loop=loop)  # on_error="raise" is about exceptions of the app
    assert report.counters[f"handlers_ended.{names[kind]}"] == 1
    assert "handler_errors" not in report.counters
    assert logs == []


@pytest.mark.parametrize("waits", [False, True])
def test_on_error_raise_brings_the_exception_out_of_the_run(
    traffic: Traffic, conn: Connection, loop: Loop, waits: bool
) -> None:
    conn.client(b"abc")
    traffic.pause()
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        if waits:
            await conn.closed()
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        watch(handler, traffic, loop=loop)


def test_a_callback_s_exception_is_counted_and_contained(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.close()
    app, seen = App("test"), []

    @app.on(aiomos.CONN_SETUP)
    def fails() -> None:
        raise ZeroDivisionError

    @app.on(aiomos.CONN_SETUP)
    def works(flow: aiomos.Flow) -> None:
        seen.append(str(flow))

    report = aiomos.run(app, source=traffic.source(), loop=loop)
    assert seen == ["10.0.0.1:1000 -> 10.0.0.2:80"]
    assert report.counters["callback_errors"] == 1
    with pytest.raises(ZeroDivisionError):
        aiomos.run(app, source=traffic.source(), settings=strict(), loop=loop)


# --- without decorators ------------------------------------------------------------------------------------


def test_a_listener_gives_the_connections_its_filter_picks(traffic: Traffic, loop: Loop) -> None:
    for port in (1000, 1001, 1002):
        conn = traffic.connection(port)
        conn.client(b"%d" % port)
        traffic.pause()
        conn.close()
    seen: list[bytes] = []

    async def main() -> None:
        async with (
            Runtime(source=traffic.source()) as runtime,
            runtime.monitor("not port 1001") as listener,
        ):
            async for conn in listener:
                seen.append(await conn.client.read())  # noqa: PERF401 - as apps write it
            with pytest.raises(StopAsyncIteration):
                await anext(listener)

    in_loop(main(), loop)
    assert seen == [b"1000", b"1002"]


def test_leaving_a_listener_lets_its_connections_go(traffic: Traffic, loop: Loop) -> None:
    first, second = traffic.connection(1000), traffic.connection(1001)
    first.client(b"abc")
    second.client(b"x")
    second.client(bytes(1000), at=10, ack=0)
    traffic.pause()
    traffic.connection(1002)
    statistics: list[dict[str, int]] = []

    async def main() -> None:
        async with Runtime(source=traffic.source()) as runtime:
            async with runtime.monitor() as listener:
                async for conn in listener:
                    assert await conn.client.read(3) == b"abc"
                    break
            assert conn.client.at_eof()
            statistics.append(runtime.statistics())
            report = await runtime.run()
            statistics.append(report.counters)

    in_loop(main(), loop)
    assert statistics[0]["held.blocks"] == 0
    assert statistics[1]["frames"] == len(traffic.frames)
    assert statistics[1]["unwatched"] == 1


def test_tasks_may_read_connections_of_a_listener_at_once(traffic: Traffic, loop: Loop) -> None:
    conns = [traffic.connection(port) for port in range(1000, 1010)]
    for number in range(5):
        for conn in conns:
            conn.client(b"%d" % number)
        traffic.pause()
    for conn in conns:
        conn.close()
    seen: list[bytes] = []

    async def read(conn: MonitorConnection) -> None:
        seen.append(await conn.client.read())

    async def main() -> None:
        async with (
            asyncio.TaskGroup() as tasks,
            Runtime(source=traffic.source()) as runtime,
            runtime.monitor() as listener,
        ):
            running = [tasks.create_task(read(conn)) async for conn in listener]
            await asyncio.gather(*running)

    in_loop(main(), loop)
    assert seen == [b"01234"] * 10


# --- the engine's clock ------------------------------------------------------------------------------------


def test_sleep_goes_by_packet_time(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"a")
    for _ in range(10):
        traffic.pause(1)
        traffic.tick(1)
    traffic.pause()
    conn.client(b"b")
    conn.close()
    seen: list[Any] = []

    async def main() -> None:
        async with Runtime(source=traffic.source(), settings=strict()) as runtime:
            app = App("test")

            @app.monitor()
            async def handler(conn: MonitorConnection) -> None:
                seen.append(bytes(await conn.client.read(1)))
                start = runtime.engine.now
                await aiomos.sleep(5)
                seen.append(round(runtime.engine.now - start))
                seen.append(bytes(await conn.client.read(1)))

            await runtime.attach(app)
            await runtime.run()

    in_loop(main(), loop)
    assert seen == [b"a", 5, b"b"]


def test_sleepers_wake_when_frames_run_out(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"a")
    woken: list[bool] = []

    async def handler(_conn: MonitorConnection) -> None:
        await aiomos.sleep(1e9)
        await aiomos.sleep(1e9)
        woken.append(True)

    watch(handler, traffic, loop=loop)
    assert woken == [True]


async def test_sleep_outside_a_handler_says_so() -> None:
    with pytest.raises(RuntimeError, match="handler"):
        await aiomos.sleep(1)


# --- slow readers --------------------------------------------------------------------------------------------


SMALL = Budgets(stream_bytes=64 << 10, stream_bytes_total=256 << 10)
BATCH = 64 << 10  # bytes of a capture read at once


def flooded(chunks: int, size: int, **options: Any) -> CaptureReader:
    return CaptureReader(Pieces(flood(chunks, size, **options)), [], BATCH)


@pytest.mark.timeout(30)
def test_a_slow_handler_holds_the_reader_back_and_nothing_is_dropped(loop: Loop) -> None:
    most = total = 0

    async def handler(conn: MonitorConnection) -> None:
        nonlocal most, total
        async for data in conn.server:
            total += len(data)
            for _ in range(20):
                await asyncio.sleep(0)
                most = max(most, conn.server.unread)

    report = watch(handler, flooded(4000, 1400), settings=strict(budgets=SMALL), loop=loop)
    assert total == 4000 * 1400
    assert report.counters["gap_bytes.unread"] == 0
    assert most <= SMALL.stream_bytes + BATCH


@pytest.mark.timeout(30)
@pytest.mark.parametrize("gaps", ["mark", "raise"])
def test_a_handler_that_reads_one_half_is_not_held_up_by_the_other(loop: Loop, gaps: Any) -> None:
    """100 MB that nobody reads: not kept beyond the hard limit, counted, and told if they are read after all."""
    seen: list[Any] = []
    most = 0

    async def handler(conn: MonitorConnection) -> None:
        nonlocal most
        n = 0
        async for data in conn.client:
            n += len(data)
            most = max(most, conn.server.unread)
        seen.append(n)
        kept = missing = 0
        async for item in conn.server.chunks(gaps="mark"):
            if isinstance(item, Gap):
                assert item.reason == "unread"
                missing += item.length
            else:
                kept += len(item)
        seen.append((kept, missing))

    report = watch(
        handler, flooded(2000, 50_000, chatter=10), settings=strict(budgets=SMALL), loop=loop, gaps=gaps
    )
    chatter, (kept, missing) = seen
    assert chatter == 200
    assert kept + missing == 100_000_000
    assert most <= 16 * SMALL.stream_bytes + BATCH
    assert 0 < kept <= 16 * SMALL.stream_bytes + BATCH
    assert report.counters["gap_bytes.unread"] == missing


@pytest.mark.timeout(30)
def test_below_the_hard_limit_an_unread_half_is_kept_whole(loop: Loop) -> None:
    size = 14 * SMALL.stream_bytes
    seen: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        seen.append(len(await conn.client.read()))
        seen.append(len(await conn.server.read()))

    budgets = Budgets(stream_bytes=SMALL.stream_bytes)
    report = watch(handler, flooded(size // 1024, 1024), settings=strict(budgets=budgets), loop=loop)
    assert seen == [0, size]
    assert report.counters["gap_bytes.unread"] == 0


@pytest.mark.timeout(30)
def test_a_handler_that_sleeps_on_the_engine_s_clock_does_not_stop_it(loop: Loop) -> None:
    naps = total = 0

    async def handler(conn: MonitorConnection) -> None:
        nonlocal naps, total
        async for data in conn.server.chunks(gaps="mark"):
            total += data.length if isinstance(data, Gap) else len(data)
            await aiomos.sleep(0.5)
            naps += 1

    watch(handler, flooded(3000, 1400), settings=strict(budgets=SMALL), loop=loop)
    assert total == 3000 * 1400
    assert naps >= 3  # three seconds of traffic


@pytest.mark.timeout(30)
def test_a_handler_that_only_waits_for_the_end_keeps_nothing(loop: Loop) -> None:
    most = 0

    async def main() -> None:
        nonlocal most
        source = flooded(2000, 50_000)
        async with Runtime(source=source, settings=strict(budgets=SMALL)) as runtime:
            app = App("test")

            @app.monitor()
            async def handler(conn: MonitorConnection) -> None:
                await conn.server.read(1)  # a half that was begun is not given up
                assert await conn.closed() == "end_of_capture"

            await runtime.attach(app)
            task = asyncio.ensure_future(runtime.run())
            while not task.done():
                most = max(most, runtime.unread_bytes)
                await asyncio.sleep(0)
            await task

    in_loop(main(), loop)
    assert most <= SMALL.stream_bytes + 2 * BATCH


@pytest.mark.parametrize("size", [800, 1500])  # below and above what makes one half slow
def test_what_all_unread_halves_keep_is_bounded(loop: Loop, size: int) -> None:
    traffic = Traffic()
    conns = [traffic.connection(port) for port in range(1000, 1010)]
    for _ in range(6):
        for conn in conns:
            conn.client(bytes(size))
        traffic.cut()
    budgets = Budgets(stream_bytes=1000, stream_bytes_total=2000)

    async def handler(conn: MonitorConnection) -> None:
        await conn.server.read()

    report = watch(handler, traffic, settings=strict(budgets=budgets), loop=loop)
    kept = 6 * 10 * size - report.counters["gap_bytes.unread"]
    assert 0 < kept <= 2 * budgets.stream_bytes_total + 10 * size


@pytest.mark.timeout(30)
def test_two_connections_may_feed_one_bounded_queue(loop: Loop) -> None:
    """Neither waits for the engine while the queue is full, so the reader is held back until it is not."""
    traffic = Traffic()
    conns = [traffic.connection(1000), traffic.connection(1001)]
    for _ in range(300):
        for conn in conns:
            conn.client(bytes(1000))
            conn.server()
        traffic.cut()
    for conn in conns:
        conn.close()
    totals = {1000: 0, 1001: 0}

    async def main() -> None:
        queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(2)
        budgets = Budgets(stream_bytes=4000, stream_bytes_total=6000)
        async with Runtime(source=traffic.source(), settings=strict(budgets=budgets)) as runtime:
            app = App("test")

            @app.monitor()
            async def handler(conn: MonitorConnection) -> None:
                async for data in conn.client:
                    await queue.put((conn.flow.client.port, data))

            async def consume() -> None:
                while (item := await queue.get()) is not None:
                    totals[item[0]] += len(item[1])
                    for _ in range(10):
                        await asyncio.sleep(0)

            await runtime.attach(app)
            consumer = asyncio.create_task(consume())
            report = await runtime.run()
            await queue.put(None)
            await consumer
            assert report.counters["gap_bytes.unread"] == 0

    in_loop(main(), loop)
    assert totals == {1000: 300_000, 1001: 300_000}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("first", ["client", "server"])
def test_halves_may_be_read_one_after_the_other(loop: Loop, first: Side) -> None:
    """Whole requests before whole responses: what waits unread is bounded, what fits is kept."""
    traffic = Traffic()
    conn = traffic.connection()
    for _ in range(50):
        conn.client(bytes(1000))
        conn.server(bytes(1000))
        traffic.cut()
    conn.close()
    sizes: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        for half in (conn.client, conn.server) if first == "client" else (conn.server, conn.client):
            sizes.append(len(await half.read()))  # noqa: PERF401 - one after the other

    report = watch(handler, traffic, settings=strict(budgets=Budgets(stream_bytes=8192)), loop=loop)
    assert sizes == [50_000, 50_000]
    assert report.counters["gap_bytes.unread"] == 0


@pytest.mark.timeout(30)
def test_halves_may_be_read_by_two_tasks(loop: Loop) -> None:
    sizes: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        client, server = await asyncio.gather(conn.client.read(), conn.server.read())
        sizes.extend((len(client), len(server)))

    watch(handler, flooded(3000, 1400, chatter=3), settings=strict(budgets=SMALL), loop=loop)
    assert sizes == [1000, 3000 * 1400]


# --- the same every time -----------------------------------------------------------------------------------


def test_two_runs_give_the_same(loop: Loop) -> None:
    def script() -> tuple[list[str], dict[str, int]]:
        traffic = Traffic()
        conns = [traffic.connection(port) for port in range(1000, 1008)]
        for number in range(40):
            conn = conns[number * 5 % 8]
            conn.client(b"%d" % number * 50, at=None if number % 7 else conn.sent["client"] + 3)
            conn.server(b"ok")
            traffic.wait(0.2)
            if number % 3 == 0:
                traffic.cut()
        for conn in conns[::2]:
            conn.close()
        log: list[str] = []

        async def handler(conn: MonitorConnection) -> None:
            async for side, data in conn:
                log.append(f"{conn.flow} {side} {data!r} {data.time:.9f}")
                await aiomos.sleep(0.3)
            log.append(f"{conn.flow} {await conn.closed()}")

        report = watch(handler, traffic, loop=loop, gaps="mark")
        return log, report.counters

    first = script()
    assert first == script()
    assert len(first[0]) > 60
