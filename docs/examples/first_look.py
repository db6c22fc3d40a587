import aiomos

app = aiomos.App("first_look")


@app.monitor("server port 80")
async def requests(conn: aiomos.MonitorConnection) -> None:
    async for data in conn.client:
        print(f"{conn.flow}  {data.split(b'HTTP')[0].decode()} ({len(data)} bytes at {data.offset})")
    print(f"{conn.flow}  end of the client's half")
