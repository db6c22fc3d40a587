from aiomos import App, MonitorConnection

app = App("http_chunks")


@app.monitor("server port 80")
async def show(conn: MonitorConnection) -> None:
    async for data in conn.client:
        print(conn.flow, f"offset {data.offset}, {len(data)} bytes:", data[:24])
