from aiomos import App, MonitorConnection

app = App("hang_up")


@app.monitor("server port 80")
async def watch(conn: MonitorConnection) -> None:
    line = await conn.client.readuntil(b"\r\n")
    if b"/secret" in line:
        conn.flow.reset()
        print(f"{conn.flow} ended: {await conn.closed()}")
