"""Every half-stream to a file: what each side sent, in order and once.

::

    aiomos run aiomos.apps.dump --pcap trace.pcap --set directory=streams

writes ``streams/CLIENT.PORT-SERVER.PORT.client`` and ``.server`` for each connection; the second connection on
the same addresses and ports gets ``-2``, and so on. The colons of IPv6 addresses become dashes.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs

from aiomos import App, Gap, MonitorConnection
from aiomos.logging import get_logger

if TYPE_CHECKING:
    from aiomos import Flow, Stream


@attrs.define
class Options:
    """Where to write, and how to treat what is missing.

    Attributes:
        directory: Where the files go; made if it is not there.
        filter: Which connections; all without it.
        midstream: Whether to write connections whose SYN was not captured.
        gaps: skip leaves missing bytes out, zero leaves a hole of zeros in the file, which takes no room; both
            report them.
    """

    directory: Path = Path("streams")
    filter: str = ""
    midstream: bool = False
    gaps: Literal["skip", "zero"] = "skip"


app = App("dump", options=Options)
_names: Counter[str] = Counter()


def stream_name(flow: "Flow") -> str:
    """Name the files of a connection; each name is given once a run."""
    client, client_port, server, server_port = flow.key
    name = f"{client}.{client_port}-{server}.{server_port}".replace(":", "-")
    _names[name] += 1
    return name if _names[name] == 1 else f"{name}-{_names[name]}"


async def write_half(stream: "Stream", path: Path, fill: bool) -> None:
    """Write one half to a file, which is made even if nothing comes."""
    with path.open("wb") as file:
        async for item in stream.chunks(gaps="mark"):
            if not isinstance(item, Gap):
                file.write(item)
                continue
            get_logger("dump").warning(
                "gap", file=path.name, offset=item.offset, length=item.length, reason=item.reason
            )
            if fill:
                file.seek(item.length, os.SEEK_CUR)
        file.truncate()  # as far as a gap at the end reaches


async def dump(conn: MonitorConnection) -> None:
    """Write both halves of a connection, whatever way it ends."""
    options = app.options
    base = options.directory / stream_name(conn.flow)
    fill = options.gaps == "zero"
    await asyncio.gather(
        *(
            write_half(half, base.with_name(f"{base.name}.{half.side}"), fill)
            for half in (conn.client, conn.server)
        ),
        return_exceptions=False,
    )


@app.startup
def prepare() -> None:
    """Make the directory, and register for the connections the options choose."""
    options = app.options
    options.directory.mkdir(parents=True, exist_ok=True)
    _names.clear()
    app.monitors.clear()
    app.monitor(options.filter, midstream=options.midstream)(dump)
