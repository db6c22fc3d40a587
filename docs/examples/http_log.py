"""A log of HTTP requests, one a line."""

import sys
from asyncio import IncompleteReadError
from pathlib import Path

import attrs

from aiomos import App, MonitorConnection, Stream, StreamGap


# region options
@attrs.define
class Options:
    """What to log, and where.

    Attributes:
        path: File to write; standard output without it.
        methods: Only requests with these methods; all without it.
    """

    path: Path | None = None
    methods: frozenset[str] = frozenset()


app = App("http_log", options=Options)
output = sys.stdout


@app.startup
def open_output() -> None:
    global output
    if app.options.path is not None:
        output = app.options.path.open("w")


@app.shutdown
def close_output() -> None:
    if output is not sys.stdout:
        output.close()


# endregion
async def read_request(stream: Stream) -> str:
    """Read one request with its body; gives its first line."""
    head = await stream.readuntil(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").rstrip().split("\r\n")
    for field in fields:
        name, _, value = field.partition(":")
        if name.lower() == "content-length":
            await stream.readexactly(int(value))
    return first


# region handler
@app.monitor("server port 80")
async def log(conn: MonitorConnection) -> None:
    methods = app.options.methods
    client = conn.flow.client.address
    try:
        while True:
            request = await read_request(conn.client)
            if not methods or request.split()[0] in methods:
                print(client, request, file=output)
    except IncompleteReadError as end:
        if end.partial:
            print(client, f"request cut short after {len(end.partial)} bytes", file=output)
    except StreamGap as gap:
        print(client, f"{gap.length} bytes missing at offset {gap.offset}: {gap.reason}", file=output)


# endregion
