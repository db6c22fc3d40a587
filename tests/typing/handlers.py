"""Handlers, callbacks and readers as users write them; read by type checkers, never run."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, Literal, assert_type

import attrs

import aiomos
from aiomos import (
    CONN_SETUP,
    App,
    Budgets,
    CallbackRegistration,
    Chunk,
    ConnectionReset,
    Flow,
    Gap,
    Half,
    Level,
    Listener,
    MonitorConnection,
    Report,
    Runtime,
    Settings,
    Stream,
    StreamGap,
    Timeouts,
)


@attrs.define
class Options:
    out: Path
    limit: int = 10


app = App("typed", options=Options)
plain = App()
assert_type(app.options, Options)


# --- decorators give back what they are put on ------------------------------------------------------


@app.monitor("tcp port 80", level=Level.STREAM, midstream=True, overlap="linux", gaps="zero")
@plain.monitor()
async def handler(conn: MonitorConnection) -> None:
    assert_type(conn.client, Stream)
    assert_type(conn.flow, Flow)


async def call_it_in_a_test(conn: MonitorConnection) -> None:
    assert_type(await handler(conn), None)


@app.on(CONN_SETUP, filter="port 80", level=Level.BYTES)
def set_up(flow: Flow, time: float) -> None:
    assert_type(time, float)
    assert_type(flow.server, Half)


assert_type(set_up, CallbackRegistration)
set_up.cancel()


@app.startup
def start() -> None: ...


@app.shutdown
async def stop() -> None: ...


assert_type(start(), None)
coroutine: Coroutine[Any, Any, None] = stop()


# --- reading ------------------------------------------------------------------------------------------


async def read(stream: Stream) -> None:
    assert_type(await stream.read(), bytes)
    assert_type(await stream.readuntil(b"\r\n", limit=100), bytes)
    assert_type(await stream.readline(), bytes)
    assert_type(await asyncio.wait_for(stream.readexactly(4), 1), bytes)
    assert_type(await anext(stream), Chunk)
    assert_type([len(chunk) async for chunk in stream], list[int])
    assert_type([item async for item in stream.chunks(gaps="mark")], list[Chunk | Gap])
    assert_type(stream.side, Literal["client", "server"])
    assert_type((stream.offset, stream.unread, stream.at_eof()), tuple[int, int, bool])
    assert_type(stream.give_up(), None)


def lines(stream: Stream) -> AsyncIterator[bytes]:
    """A stream goes wherever an async iterator of bytes is asked for."""

    async def generate() -> AsyncIterator[bytes]:
        async for chunk in stream:
            for line in chunk.splitlines():
                yield line

    return generate()


async def merged(conn: MonitorConnection) -> None:
    async for side, data in conn:
        assert_type(side, Literal["client", "server"])
        sender: Half = conn.flow.half(side)
        assert_type(sender.port, int)
        assert_type(conn.other(side), Stream)
        assert_type(data[1:], bytes)
        assert_type(data + b"", bytes)
    try:
        await conn.server.read()
    except StreamGap as gap:
        assert_type((gap.offset, gap.length, gap.reason), tuple[int, int, str])
    except ConnectionReset as error:
        assert_type(error.flow, str | None)
    how = await conn.closed()
    assert how in ("fin", "rst", "timeout", "evicted", "end_of_capture")


async def gap_or_chunk(stream: Stream) -> None:
    async for item in stream.chunks(gaps="mark"):
        if isinstance(item, Gap):
            assert_type(item.length, int)
        else:
            assert_type(item, Chunk)
    chunk = Chunk(bytearray(b"abc"), 5, 1.5)
    assert_type(chunk, Chunk)


# --- without decorators -------------------------------------------------------------------------------


async def listen() -> None:
    settings = Settings(budgets=Budgets(flows=10), timeouts=Timeouts(gap_hold=0.1), on_error="raise")
    async with Runtime(pcap=["a.pcap", Path("b.pcap")], settings=settings) as runtime:
        listener = runtime.monitor("port 80", level=Level.BYTES)
        assert_type(listener, Listener)
        async with listener as opened:
            assert_type(opened, Listener)
            assert_type(await anext(opened), MonitorConnection)
        await runtime.attach(app)
        assert_type(await runtime.run(), Report)
        assert_type(runtime.statistics(), dict[str, int])
    await aiomos.sleep(1.5)


def show(done: int, total: int | None, frames: int) -> None: ...


report = aiomos.run(app, plain, pcap=[Path("x.pcap")], loop="uvloop", progress=show)
assert_type((report.frames, report.seconds), tuple[int, float])
