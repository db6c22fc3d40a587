from aiomos import App, Level, MonitorConnection

app = App("level_state")


@app.monitor(level=Level.STATE)
async def lifetimes(conn: MonitorConnection) -> None:
    reason = await conn.closed()
    flow = conn.flow
    print(f"{flow} {reason}, {flow.last - flow.started:.3f} s, {flow.client.packets} packets from the client")
