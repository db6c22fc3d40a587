"""Lines that clients send to some ports."""

from typing import Literal

import attrs

from aiomos import App, MonitorConnection


@attrs.define
class Options:
    """Which lines, and how to show them.

    Attributes:
        ports: The servers' ports.
        form: text, or repr for bytes as Python writes them.
    """

    ports: list[int] = attrs.field(factory=lambda: [80])
    form: Literal["text", "repr"] = "text"


app = App("port_log", options=Options)


async def show(conn: MonitorConnection) -> None:
    while line := await conn.client.readline():
        if line.startswith(b"GET"):
            print(line.decode().rstrip() if app.options.form == "text" else repr(line))


@app.startup
def register() -> None:
    """The filter depends on an option, so the handler is registered once options are set."""
    app.monitors.clear()
    app.monitor("server port " + " or ".join(map(str, app.options.ports)))(show)
