"""The public names as a type checker sees them; never run."""

from typing import assert_type

import attrs

import aiomos
from aiomos import App, Chunk, Flow, Gap, Level, MonitorConnection, State, Stream


@attrs.define
class Options:
    limit: int = 10


app = App("typed", options=Options)
assert_type(app.options.limit, int)


@app.monitor("server port 80", level=Level.STREAM, overlap="linux", gaps="mark")
async def both_halves(conn: MonitorConnection) -> None:
    async for side, data in conn:
        assert_type(data, Chunk)
        assert_type(conn.other(side), Stream)
    assert_type(await conn.client.readexactly(4), bytes)
    assert_type(await conn.closed() == "fin", bool)


@app.monitor("tcp")
async def one_half(conn: MonitorConnection) -> None:
    async for data in conn.client:
        assert_type(data, Chunk)
        assert_type(data.offset, int)
        assert_type(data.time, float)
    async for item in conn.server.chunks(gaps="mark"):
        assert_type(item, Chunk | Gap)
    async for filled in conn.server.chunks(gaps="zero"):
        assert_type(filled, Chunk)


@app.on(aiomos.CONN_TEARDOWN)
def ended(flow: Flow) -> None:
    assert_type(flow.key, tuple[str, int, str, int])
    assert_type(flow.client.state, State)
    assert_type(flow.client.rtt, float | None)


async def listen() -> None:
    async with aiomos.Runtime(pcap=["trace.pcap"]) as engine, engine.monitor("tcp port 80") as listener:
        async for conn in listener:
            assert_type(conn, MonitorConnection)
    assert_type(await aiomos.serve(app, pcap=["trace.pcap"]), aiomos.Report)


assert_type(aiomos.run(app, pcap=["trace.pcap"], loop="asyncio").counters, dict[str, int])
app.monitor("tcp", gaps="wrong")  # type: ignore[call-overload,arg-type,unused-ignore]
