from typing import Literal

import attrs

from aiomos import App, MonitorConnection


@attrs.define
class Options:
    """How to settle overlaps.

    Attributes:
        policy: Which bytes count where segments overlap and differ.
    """

    policy: Literal["first", "last", "bsd", "linux", "windows", "solaris"] = "first"


app = App("overlap_choice", options=Options)


async def show(conn: MonitorConnection) -> None:
    print(conn.flow, await conn.client.read(), conn.flow.client.conflicts, "segment differs")


@app.startup
def register() -> None:
    app.monitors.clear()
    app.monitor("client port 40000", overlap=app.options.policy)(show)
