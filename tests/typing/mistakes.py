"""Mistakes that a type checker is to point out: mypy fails where one of these is no error."""

import aiomos
from aiomos import CONN_SETUP, App, Chunk, Flow, Gap, Level, MonitorConnection, Settings, Stream

app = App("mistaken")


@app.monitor("tcp")  # type: ignore[type-var]
def not_async(conn: MonitorConnection) -> None: ...


@app.monitor("tcp")  # type: ignore[type-var]
async def without_connection() -> None: ...


app.monitor("tcp", level=3)  # type: ignore[arg-type]
app.monitor("tcp", overlap="random")  # type: ignore[arg-type]
app.monitor("tcp", level=Level.BYTES, gap="mark")  # type: ignore[call-arg]
app.on("conn_setup")  # type: ignore[arg-type]
app.on(CONN_SETUP, level=Level.STREAM, gaps="mark")  # type: ignore[call-arg]
Settings(on_error="ignore")  # type: ignore[arg-type]
aiomos.run(app, pcap="trace.pcap", loop="trio")  # type: ignore[arg-type]


async def reads(stream: Stream, conn: MonitorConnection) -> None:
    stream.chunks(gaps="drop")  # type: ignore[call-overload]
    async for item in stream.chunks(gaps="mark"):
        len(item)  # type: ignore[arg-type]
    conn.other("left")  # type: ignore[arg-type]
    conn.client = stream  # type: ignore[misc]
    Chunk(b"abc").offset = 5  # type: ignore[misc]
    Gap(0, 1, "dropped")  # type: ignore[arg-type]
    await conn.read()  # type: ignore[attr-defined]


async def marked(conn: MonitorConnection) -> None:
    """Registered with gaps="mark", what comes may be a Gap, which has no len()."""
    async for _side, data in conn:
        if isinstance(data, Gap):
            print(data.length)


class Longer(Chunk):  # type: ignore[misc]
    """A Chunk is final."""


def ends(flow: Flow) -> None:
    flow.reason = "fin"  # type: ignore[misc]
