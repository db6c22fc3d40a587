from aiomos import App, MonitorConnection

app = App("both_halves")


@app.monitor("server port 80")
async def in_order(conn: MonitorConnection) -> None:
    async for side, data in conn:  # as the bytes became readable
        print(f"{side}: {len(data)} bytes from offset {data.offset}")


@app.monitor("server port 80")
async def only_the_first_line(conn: MonitorConnection) -> None:
    conn.server.give_up()  # not read here: nothing of it is kept
    print("first line:", await conn.client.readline())
