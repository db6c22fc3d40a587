"""The first line of every HTTP request."""

from asyncio import IncompleteReadError

from aiomos import App, MonitorConnection, Stream

app = App("http_heads")


async def read_request(stream: Stream) -> str:
    """Read one request with its body; gives its first line."""
    head = await stream.readuntil(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").rstrip().split("\r\n")
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() == "content-length":
            await stream.readexactly(int(value))
    return first


@app.monitor("server port 80")
async def log(conn: MonitorConnection) -> None:
    try:
        while True:
            print(conn.flow.client.address, await read_request(conn.client))
    except IncompleteReadError:
        pass  # the client's half has ended
