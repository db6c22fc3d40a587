"""Chunks, gaps, and a half as an async reader."""

from __future__ import annotations

import asyncio
import pickle
import sys
import tracemalloc
from typing import Any

import pytest

from aiomos import (
    Budgets,
    Chunk,
    ConnectionEvicted,
    ConnectionReset,
    ConnectionTimedOut,
    Filter,
    Flow,
    Gap,
    Level,
    MonitorConnection,
    Settings,
    Stream,
    StreamGap,
    Timeouts,
)
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.scenario import Conversation, Frame, Watcher
from tests.traffic import Connection, Loop, Traffic, drain, fail, watch
from tests.traffic import read as read_items


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


def send(traffic: Traffic, conn: Connection, *pieces: bytes) -> None:
    """Have the client send pieces, each when the handler has come to wait for it, and close."""
    for piece in pieces:
        traffic.pause()
        conn.client(piece)
    traffic.pause()
    conn.close()


# --- Chunk -------------------------------------------------------------------------------------------


def test_a_chunk_is_bytes_that_know_where_and_when() -> None:
    chunk = Chunk(b"abc", 1 << 40, 1_700_000_000.25)
    assert isinstance(chunk, bytes)
    assert chunk == b"abc"
    assert (chunk.offset, chunk.time) == (1 << 40, 1_700_000_000.25)
    assert b"".join([chunk, b"d"]) == b"abcd"
    assert {b"abc": 1}[chunk] == 1
    assert bytes(chunk) == b"abc"
    assert memoryview(chunk).tolist() == [97, 98, 99]


def test_a_chunk_may_be_empty_and_has_defaults() -> None:
    assert (Chunk(), Chunk().offset, Chunk().time) == (b"", 0, 0.0)
    assert Chunk(bytearray(b"ab"), 3).offset == 3


def test_chunks_are_equal_when_their_bytes_are() -> None:
    assert Chunk(b"a", 1, 1.0) == Chunk(b"a", 2, 2.0)
    assert hash(Chunk(b"a", 1, 1.0)) == hash(b"a")
    assert Chunk(b"a") != Chunk(b"b")


def test_a_slice_of_a_chunk_is_plain_bytes() -> None:
    chunk = Chunk(b"abc", 5, 1.0)
    assert type(chunk[1:]) is bytes
    assert type(chunk[:]) is bytes
    assert type(chunk + b"") is bytes
    assert chunk[0] == 97


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_chunk_can_be_pickled(protocol: int) -> None:
    chunk = pickle.loads(pickle.dumps(Chunk(b"abc", 7, 12.5), protocol))
    assert type(chunk) is Chunk
    assert (chunk, chunk.offset, chunk.time) == (b"abc", 7, 12.5)


def test_a_chunk_cannot_be_subclassed() -> None:
    """Where and when stand behind the bytes in memory, where a subclass would keep its own."""
    with pytest.raises(TypeError):
        type("Longer", (Chunk,), {})


def test_a_chunk_takes_no_attributes() -> None:
    with pytest.raises(AttributeError):
        Chunk(b"abc").offset = 5  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Chunk(b"abc").other = 5  # type: ignore[attr-defined]


def test_chunks_are_freed() -> None:
    references = sys.getrefcount(Chunk)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for at in range(1000):
            Chunk(bytes(1000), at, 1.0)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
        kept = [Chunk(bytes(1000), at, 1.0) for at in range(100)]
        assert all(chunk.offset == at for at, chunk in enumerate(kept))
        assert tracemalloc.get_traced_memory()[0] - before > 100_000
        del kept
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert sys.getrefcount(Chunk) == references


# --- Gap ---------------------------------------------------------------------------------------------


def test_a_gap_tells_where_how_much_and_why() -> None:
    gap = Gap(10, 5, "lost", 1.5)
    assert (gap.offset, gap.length, gap.reason, gap.time) == (10, 5, "lost", 1.5)
    assert gap == Gap(10, 5, "lost")
    assert gap != Gap(10, 5, "age")
    assert gap != (10, 5, "lost")
    assert hash(gap) == hash(Gap(10, 5, "lost"))
    assert "10" in repr(gap)


# --- iterating ---------------------------------------------------------------------------------------


def test_a_half_is_an_async_iterator_of_chunks(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"abc", b"de")
    seen: list[tuple[int, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        async for chunk in conn.client:
            assert type(chunk) is Chunk
            assert chunk.time == conn.flow.last
            seen.append((chunk.offset, chunk))
        async for _ in conn.client:
            raise AssertionError("a half that has ended goes on")

    watch(handler, traffic, loop=loop)
    assert seen == [(0, b"abc"), (3, b"de")]


def test_what_comes_between_two_wake_ups_is_one_chunk(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    for piece in (b"ab", b"cd", b"ef"):
        traffic.cut()
        conn.client(piece)
    conn.close()
    seen: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        first = await conn.client.read(1)
        for _ in range(50):
            await asyncio.sleep(0)
        seen.extend([first, *[chunk async for chunk in conn.client]])

    watch(handler, traffic, loop=loop)
    assert seen == [b"a", b"bcdef"]


# --- reading as from an asyncio.StreamReader ------------------------------------------------------------


def test_read_returns_what_there_is_up_to_n(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"abcdef", b"g")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        reader = conn.client
        assert not reader.at_eof()
        assert await reader.read(0) == b""
        while data := await reader.read(4):
            assert reader.offset == sum(map(len, reads)) + len(data)
            reads.append(data)
        assert reader.at_eof()
        assert await reader.read(4) == b""
        assert await reader.read() == b""

    watch(handler, traffic, loop=loop)
    assert reads == [b"abcd", b"ef", b"g"]


def test_read_without_a_size_returns_all_to_the_end(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"abc", b"de", b"f")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        reads.append(await conn.client.read())

    watch(handler, traffic, loop=loop)
    assert reads == [b"abcdef"]


def test_a_chunk_read_in_parts_keeps_its_time(traffic: Traffic, conn: Connection) -> None:
    """Times are nanoseconds inside; on their way through seconds they must not wander."""
    traffic.now_ns += 123_456_789
    conn.client(bytes(100))
    times: set[float] = set()

    async def handler(conn: MonitorConnection) -> None:
        while data := await conn.client.read(1):
            assert isinstance(data, Chunk)
            times.add(data.time)

    watch(handler, traffic)
    assert times == {(traffic.now_ns - 1_000_000) / 1_000_000_000}


def test_readexactly_waits_for_all_of_it(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"ab", b"cd", b"efg")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        reads.append(await conn.client.readexactly(5))
        reads.append(await conn.client.readexactly(0))
        reads.append(await conn.client.readexactly(1))
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await conn.client.readexactly(3)
        assert (error.value.partial, error.value.expected) == (b"g", 3)
        with pytest.raises(ValueError, match="negative"):
            await conn.client.readexactly(-1)

    watch(handler, traffic, loop=loop)
    assert reads == [b"abcde", b"", b"f"]


def test_readuntil_finds_a_separator_across_chunks(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"ab\r", b"\n\r\ncd", b"ef\r\n\r", b"\nrest")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        reader = conn.client
        reads.append(await reader.readuntil(b"\r\n\r\n"))
        assert reader.offset == 6
        reads.append(await reader.readuntil(b"\r\n\r\n"))
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readuntil(b"\r\n\r\n")
        assert error.value.partial == b"rest"
        with pytest.raises(ValueError, match="separator"):
            await reader.readuntil(b"")

    watch(handler, traffic, loop=loop)
    assert reads == [b"ab\r\n\r\n", b"cdef\r\n\r\n"]


def test_readuntil_leaves_what_exceeds_its_limit_to_be_read(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    send(traffic, conn, b"a" * 10, b"b" * 10, b"\n")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(asyncio.LimitOverrunError) as error:
            await conn.client.readuntil(limit=15)
        assert error.value.consumed == 20
        assert conn.client.offset == 0
        reads.append(await conn.client.read(5))
        reads.append(await conn.client.readline())

    watch(handler, traffic, loop=loop)
    assert reads == [b"aaaaa", b"aaaaabbbbbbbbbb\n"]


def test_readline_gives_the_last_line_without_its_newline(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    send(traffic, conn, b"one\ntw", b"o\nthr", b"ee")
    lines: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        while line := await conn.client.readline():
            lines.append(line)

    watch(handler, traffic, loop=loop)
    assert lines == [b"one\n", b"two\n", b"three"]


def test_reads_of_both_kinds_can_be_mixed(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"HEAD\nbody and more")
    reads: list[tuple[int, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        assert await conn.client.readline() == b"HEAD\n"
        assert await conn.client.readexactly(4) == b"body"
        async for chunk in conn.client:
            reads.append((chunk.offset, chunk))  # noqa: PERF401

    watch(handler, traffic, loop=loop)
    assert reads == [(9, b" and more")]


def test_read_to_the_end_has_a_limit(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"a" * 10, b"b" * 10, b"c")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(asyncio.LimitOverrunError, match="not ended within 15") as error:
            await conn.client.read(limit=15)
        assert error.value.consumed == 20
        assert (conn.client.offset, conn.client.unread) == (0, 20)
        reads.append(await conn.client.read(limit=21))

    watch(handler, traffic, loop=loop)
    assert reads == [b"a" * 10 + b"b" * 10 + b"c"]


def test_readexactly_has_a_limit(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    """A length of the peer's choice is not read, nor waited for."""
    send(traffic, conn, b"\xff\xff\xff\xffrest")
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        length = int.from_bytes(await conn.client.readexactly(4))
        with pytest.raises(
            asyncio.LimitOverrunError, match="4294967295 bytes are more than the limit of 67108864"
        ):
            await conn.client.readexactly(length)
        with pytest.raises(asyncio.LimitOverrunError):
            await conn.client.readexactly(4, limit=3)
        reads.append(await conn.client.readexactly(4, limit=4))

    watch(handler, traffic, loop=loop)
    assert reads == [b"rest"]


def test_zeros_for_a_gap_of_the_peer_s_choice_are_bounded(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    """Two packets and an acknowledgement far ahead: no more memory than a read may take."""
    conn.client(b"ab")
    for at in range(1, 1000):  # as far ahead as is believed
        conn.server(ack=60_000 * at)
    traffic.wait(2)
    conn.server(ack=60_000 * 1000)
    conn.close()
    seen: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(asyncio.LimitOverrunError):
                await conn.client.read(limit=4 << 20)
            with pytest.raises(asyncio.LimitOverrunError):
                await conn.client.readexactly(1 << 31)
            assert await conn.client.readexactly(3) == b"ab\0"
            seen.append(sum([len(chunk) async for chunk in conn.client]))
            seen.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    watch(handler, traffic, loop=loop, gaps="zero")
    assert seen[0] == 60_000_000 - 3
    assert seen[1] < 30 << 20


def test_what_read_had_taken_before_a_gap_can_still_be_read(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    lossy(traffic, conn)
    reads: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(StreamGap):
            await conn.client.read()
        assert conn.client.offset == 0
        reads.append(await conn.client.read(1))
        reads.append(await conn.client.read(9))  # what adjoins, not what comes behind the gap
        reads.append(await conn.client.read(9))

    watch(handler, traffic, loop=loop)
    assert reads == [b"a", b"b", b"fg"]


def test_small_reads_of_a_large_chunk_take_time_by_what_they_read(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    """If each read copied what is left, the bytes copied would be 40 gigabytes."""
    for _ in range(10):
        conn.client(b"1\n" * 20_000)
        conn.server()
    conn.close()
    lines: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        reader = conn.client
        count = 0
        while line := await reader.readline():
            assert line == b"1\n"
            if not count:
                assert await reader.readexactly(1) == b"1"
                assert await reader.read(1) == b"\n"
                assert reader.offset == 4
            count += 1
        lines.append(count)

    watch(
        handler,
        traffic,
        loop=loop,
        settings=Settings(on_error="raise", budgets=Budgets(stream_bytes=1 << 24)),
    )
    assert lines == [199_999]


def test_a_merged_read_goes_on_where_another_stopped(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    send(traffic, conn, b"one\ntwo\n")
    seen: list[tuple[str, int, bytes]] = []

    async def handler(conn: MonitorConnection) -> None:
        assert await conn.client.readline() == b"one\n"
        async for side, data in conn:
            seen.append((side, data.offset, data))

    watch(handler, traffic, loop=loop)
    assert seen == [("client", 4, b"two\n")]


# --- gaps --------------------------------------------------------------------------------------------


def lossy(traffic: Traffic, conn: Connection) -> Traffic:
    """ab, three missing bytes, fg."""
    conn.client(b"ab")
    conn.client(b"fg", at=5)
    traffic.wait(2)
    conn.close()
    return traffic


def test_a_gap_is_raised_once_at_its_place(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    lossy(traffic, conn)
    seen: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(StreamGap) as error:
            await drain(conn.client, seen)
        gap = error.value
        seen.append((gap.offset, gap.length, gap.reason, gap.side, gap.flow))
        async for chunk in conn.client:
            seen.append((chunk.offset, chunk))  # noqa: PERF401

    watch(handler, traffic, loop=loop)
    flow = "10.0.0.1:1000 -> 10.0.0.2:80"
    assert seen == [b"ab", (2, 3, "lost", "client", flow), (5, b"fg")]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ("mark", [b"ab", Gap(2, 3, "lost"), b"fg"]),
        ("skip", [b"ab", b"fg"]),
        ("zero", [b"ab", b"\0\0\0", b"fg"]),
    ],
)
@pytest.mark.parametrize("whole_app", [False, True])
def test_an_app_chooses_what_a_gap_does(
    traffic: Traffic, conn: Connection, loop: Loop, gaps: Any, expected: list[Any], whole_app: bool
) -> None:
    lossy(traffic, conn)
    seen: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        iterator = conn.client if whole_app else conn.client.chunks(gaps=gaps)
        await drain(iterator, seen)
        assert conn.client.at_eof()

    watch(handler, traffic, loop=loop, **({"gaps": gaps} if whole_app else {}))
    assert all(isinstance(item, Chunk | Gap) for item in seen)
    if gaps == "mark":
        assert seen == expected
    else:
        assert b"".join(seen) == b"".join(expected)
        assert seen[-1].offset + len(seen[-1]) == 7


def test_another_word_for_gaps_is_refused_at_the_call(traffic: Traffic, conn: Connection) -> None:
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(ValueError, match="gaps"):
            conn.client.chunks(gaps="drop")  # type: ignore[call-overload]

    watch(handler, traffic)


@pytest.mark.parametrize("gaps", ["raise", "mark", "skip", "zero"])
def test_reads_meet_gaps_as_the_app_chose(traffic: Traffic, conn: Connection, loop: Loop, gaps: Any) -> None:
    lossy(traffic, conn)
    seen: list[Any] = []

    async def handler(conn: MonitorConnection) -> None:
        while not conn.client.at_eof():
            try:
                seen.append(await conn.client.read(100))
            except StreamGap as gap:
                seen.append(gap.offset)
        seen.append(await conn.client.read(100))

    watch(handler, traffic, loop=loop, gaps=gaps)
    assert [item for item in seen if item] == {
        "raise": [b"ab", 2, b"fg"],
        "mark": [b"ab", b"fg"],
        "skip": [b"ab", b"fg"],
        "zero": [b"ab", b"\0\0\0fg"],
    }[gaps]


@pytest.mark.parametrize("call", ["readexactly", "readuntil"])
def test_bytes_before_a_gap_can_still_be_read_after_it_was_raised(
    traffic: Traffic, conn: Connection, loop: Loop, call: str
) -> None:
    lossy(traffic, conn)

    async def handler(conn: MonitorConnection) -> None:
        with pytest.raises(StreamGap):
            await (conn.client.readexactly(4) if call == "readexactly" else conn.client.readuntil(b"g"))
        assert await conn.client.readexactly(2) == b"ab"
        assert await conn.client.readexactly(2) == b"fg"
        assert conn.client.at_eof()

    watch(handler, traffic, loop=loop)


def test_a_long_gap_of_zeros_comes_in_pieces(traffic: Traffic, conn: Connection) -> None:
    length = 5 << 20
    conn.client(b"ab")
    for at in range(1 << 16, length, 1 << 16):
        conn.server(ack=at)
    conn.client(b"yz", at=length)
    traffic.wait(2)
    conn.close()
    sizes: list[int] = []

    async def handler(conn: MonitorConnection) -> None:
        end = 0
        async for chunk in conn.client.chunks(gaps="zero"):
            assert chunk.offset == end
            end += len(chunk)
            sizes.append(len(chunk))

    watch(handler, traffic)
    assert sum(sizes) == length + 2
    assert max(sizes) <= 1 << 20


# --- the end -----------------------------------------------------------------------------------------


def collect(
    traffic: Traffic, loop: Loop, settings: Settings | None = None
) -> tuple[list[bytes], list[BaseException]]:
    """Read the client's half of each connection; the bytes and what came behind them."""
    chunks: list[bytes] = []
    errors: list[BaseException] = []

    async def handler(conn: MonitorConnection) -> None:
        try:
            await drain(conn.client, chunks)
        except OSError as error:
            errors.append(error)

    watch(handler, traffic, settings=settings, loop=loop)
    return chunks, errors


def test_a_fin_ends_the_iteration(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc", flags="FA")
    traffic.pause()
    conn.server(b"x" * 10)
    assert collect(traffic, loop) == ([b"abc"], [])


def test_a_fin_ends_a_half_before_the_connection_ends(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc", flags="FA")
    traffic.pause()
    conn.server(b"later")
    order: list[bytes | str] = []

    async def handler(conn: MonitorConnection) -> None:
        order.append(await conn.client.read())
        order.append("client ended")
        order.append(await conn.server.read())

    watch(handler, traffic, loop=loop)
    assert order == [b"abc", "client ended", b"later"]


def test_a_fin_before_missing_bytes_does_not_end_the_half(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    conn.client(at=3, flags="FA")
    traffic.pause()
    conn.client(b"abc", at=0)
    assert collect(traffic, loop) == ([b"abc"], [])


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_reset_is_raised_behind_the_last_byte(
    traffic: Traffic, conn: Connection, loop: Loop, side: Any, paused: bool
) -> None:
    conn.client(b"abc")
    if paused:
        traffic.pause()
    conn.reset(side)
    chunks, (error,) = collect(traffic, loop)
    assert chunks == [b"abc"]
    assert isinstance(error, ConnectionReset)
    assert error.flow == "10.0.0.1:1000 -> 10.0.0.2:80"


def test_silence_is_raised_as_a_time_out(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc")
    traffic.tick(7500)
    chunks, (error,) = collect(traffic, loop)
    assert chunks == [b"abc"]
    assert isinstance(error, ConnectionTimedOut)
    assert isinstance(error, TimeoutError)


def test_an_eviction_is_raised(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc")
    traffic.pause()
    traffic.connection(port=1001).close()
    settings = Settings(on_error="raise", budgets=Budgets(flows=1))
    chunks, (error,) = collect(traffic, loop, settings)
    assert chunks == [b"abc"]
    assert isinstance(error, ConnectionEvicted)


def test_the_end_of_the_capture_just_ends_a_half(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc")
    assert collect(traffic, loop) == ([b"abc"], [])


def test_errors_are_raised_again_by_every_later_read(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.reset()

    async def handler(conn: MonitorConnection) -> None:
        for half in (conn.client, conn.server):
            for _ in range(2):
                with pytest.raises(ConnectionReset):
                    await half.read(10)
            assert half.at_eof()

    watch(handler, traffic, loop=loop)


# --- giving up, cancelling, one reader -----------------------------------------------------------------


def test_give_up_drops_what_is_unread_and_what_comes(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"abc")
    conn.server(b"1")
    traffic.pause()
    conn.client(b"def")
    conn.server(b"2")
    conn.close()
    seen: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        conn.client.give_up()
        conn.client.give_up()  # nothing more to give up
        assert conn.client.unread == 0
        assert not conn.client.wanted
        assert conn.client.at_eof()
        assert await conn.client.read(10) == b""
        seen.append(await conn.server.read())
        assert conn.flow.client.stream_bytes == 6  # still counted

    watch(handler, traffic, loop=loop)
    assert seen == [b"12"]


def test_give_up_wakes_who_waits(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"!")  # the handler starts with the first byte
    traffic.pause(20)
    conn.client(b"abc")
    conn.close()
    seen: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        async def reader() -> None:
            seen.append(await conn.client.read(10))

        await reader()
        task = asyncio.create_task(reader())
        await asyncio.sleep(0)
        assert not task.done()
        conn.client.give_up()
        await task

    watch(handler, traffic, loop=loop)
    assert seen == [b"!", b""]


def test_only_one_coroutine_may_wait_for_a_half(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    conn.client(b"!")  # the handler starts with the first byte
    traffic.pause(20)
    conn.client(b"abc")
    conn.server(b"xyz")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        assert await conn.client.read(10) == b"!"
        first = asyncio.create_task(conn.client.read(10))
        other = asyncio.create_task(conn.server.read(10))  # another half is another reader's
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waiting"):
            await conn.client.read(10)
        assert await first == b"abc"
        assert await other == b"xyz"

    watch(handler, traffic, loop=loop)


@pytest.mark.parametrize("kind", ["read", "iterate"])
def test_a_cancelled_read_loses_nothing(traffic: Traffic, conn: Connection, loop: Loop, kind: str) -> None:
    conn.client(b"!")  # the handler starts with the first byte
    traffic.pause(20)
    conn.client(b"abc")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        async def read() -> bytes:
            return await (conn.client.read(10) if kind == "read" else anext(conn.client))

        assert await read() == b"!"
        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read() == b"abc"

    watch(handler, traffic, loop=loop)


def test_a_read_that_is_cancelled_as_its_data_comes_loses_nothing(
    traffic: Traffic, conn: Connection, loop: Loop
) -> None:
    """Between the wake-up and the reader's turn the data is still the stream's."""
    traffic.cut()
    conn.client(b"abc")
    conn.client(b"def")
    conn.close()
    seen: list[bytes] = []

    async def handler(conn: MonitorConnection) -> None:
        task = asyncio.create_task(conn.client.read(3))
        while not conn.client.unread:
            await asyncio.sleep(0)
            if task.done():
                seen.append(task.result())
                break
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        seen.append(await conn.client.read())

    watch(handler, traffic, loop=loop)
    assert b"".join(seen) == b"abcdef"


@pytest.mark.parametrize("call", ["readexactly", "readuntil", "readline"])
def test_a_cancelled_read_gives_back_what_it_had_taken(
    traffic: Traffic, conn: Connection, loop: Loop, call: str
) -> None:
    """As asyncio.StreamReader, whose buffer keeps a line that is not complete: ``wait_for`` relies on it."""
    conn.client(b"abc")
    traffic.pause(20)
    conn.client(b"def\n")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        async def read(reader: Stream) -> bytes:
            if call == "readexactly":
                return await reader.readexactly(7)
            return await (reader.readuntil(b"\n") if call == "readuntil" else reader.readline())

        task = asyncio.create_task(read(conn.client))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read(conn.client) == b"abcdef\n"

    watch(handler, traffic, loop=loop)


def test_wait_for_bounds_a_read(traffic: Traffic, conn: Connection, loop: Loop) -> None:
    """A read takes part in what asyncio offers for any awaitable."""
    conn.client(b"abc")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        assert await asyncio.wait_for(conn.client.read(10), 5) == b"abc"
        async with asyncio.timeout(5):
            assert await conn.client.read(10) == b""

    watch(handler, traffic, loop=loop)


def test_the_bytes_are_not_there_below_level_stream(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"abc")
    conn.close()

    async def handler(conn: MonitorConnection) -> None:
        assert not conn.client.wanted
        assert await conn.client.read() == b""
        assert await conn.closed() == "fin"
        assert conn.flow.client.stream_bytes == 3

    settings = Settings(on_error="raise", timeouts=Timeouts(time_wait=0))
    watch(handler, traffic, level=Level.BYTES, settings=settings)


def test_a_stream_says_what_it_is(traffic: Traffic, conn: Connection) -> None:
    conn.client(b"abc")

    async def handler(conn: MonitorConnection) -> None:
        assert (conn.client.side, conn.server.side) == ("client", "server")
        assert "10.0.0.1:1000 -> 10.0.0.2:80" in repr(conn.client)
        await conn.client.read()
        assert "3" in repr(conn.client)

    watch(handler, traffic)


# --- what nobody reads -----------------------------------------------------------------------------------


def unread_items(traffic: Traffic, limit: int, total_limit: int = 1 << 30) -> list[Chunk | Gap]:
    """What there is to read in the end, where the engine waits for nobody and nobody has read."""
    budgets = Budgets(flows=16)
    engine = Engine(Settings(budgets=budgets), bytes(16), fail)
    pressure = Pressure(limit, total_limit, waits=False)
    opened: list[MonitorConnection] = []

    def opener(flow: Flow) -> MonitorConnection:
        opened.append(MonitorConnection(flow, pressure, engine.released, "mark", True))
        return opened[-1]

    engine.add_rule(Filter("").program, Level.STREAM, opener=opener)
    for batch in traffic.batches:
        feed_frames(engine, batch)
        pressure.next_turn()
    while engine.finish():
        pass
    (conn,) = opened
    items = read_items(conn.client)
    assert sum(item.length if isinstance(item, Gap) else len(item) for item in items) == 20_000
    assert pressure.total == 0
    return items


@pytest.mark.parametrize("limits", [(100_000, 1 << 30), (1 << 30, 100_000)], ids=["one", "all"])
def test_small_chunks_weigh_more_than_their_bytes(
    traffic: Traffic, conn: Connection, limits: tuple[int, int]
) -> None:
    for _ in range(20_000):
        traffic.cut()
        conn.client(b"!")
    items = unread_items(traffic, *limits)
    assert isinstance(items[-1], Gap)
    assert 19_000 < items[-1].length < 19_500
    assert len(items) == 2  # a read joins what is there


def test_gaps_that_nobody_reads_are_one(traffic: Traffic, conn: Connection) -> None:
    for _ in range(2000):
        traffic.cut()
        conn.client(b"!" * 10, captured=5)
    items = unread_items(traffic, 1000)
    assert len(items) < 50
    assert {item.reason for item in items if isinstance(item, Gap)} == {"snaplen", "unread"}


class Impatient(Watcher):
    """Keeps at most 1,000 unread bytes of a half, and waits for no reader, as live."""

    def __init__(self) -> None:
        super().__init__(level=Level.STREAM)
        self._pressure = Pressure(1000, 1 << 30, waits=False)

    def turn(self, frames: list[Frame]) -> None:
        """Feed frames one by one; then readers have their turn."""
        self.feed(frames, batch=1)
        self._pressure.next_turn()

    def take(self, count: int) -> list[tuple[str, int, int]]:
        """Read so many items of the client's half."""
        stream = self._connections[0].client.chunks(gaps="mark")
        items = []
        for _ in range(count):
            try:
                next(anext(stream).__await__())
            except StopIteration as read:
                item = read.value
            items.append(
                (type(item).__name__, item.offset, item.length if isinstance(item, Gap) else len(item))
            )
        self._pressure.next_turn()
        return items


def test_a_reader_that_is_slow_twice_has_two_gaps_at_their_own_offsets() -> None:
    """What is missed later does not join a gap before bytes that were taken meanwhile, though that is unread yet."""
    watcher = Impatient()
    c = Conversation().handshake()
    for size in (2000, 300, 40, 2000, 500, 60):
        c.client("A", b"d" * size)
    watcher.turn(c.frames[:4])
    watcher.turn(c.frames[4:5])
    watcher.turn(c.frames[5:6])
    assert watcher.take(1) == [("Chunk", 0, 2000)]
    watcher.turn(c.frames[6:7])
    watcher.turn(c.frames[7:8])
    watcher.turn(c.frames[8:9])
    assert watcher.take(3) == [("Gap", 2000, 340), ("Chunk", 2340, 2000), ("Gap", 4340, 560)]
    watcher.finish()
