from aiomos import App, MonitorConnection

app = App("share_lines")


@app.monitor("server port 80")
async def first_line(conn: MonitorConnection) -> None:
    print(conn.flow, await conn.client.readline())
