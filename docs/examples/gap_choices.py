from aiomos import App, Gap, MonitorConnection, StreamGap

app = App("gap_choices")


@app.monitor()
async def raised(conn: MonitorConnection) -> None:
    while not conn.client.at_eof():
        try:
            async for data in conn.client:
                print("raise:", data.offset, bytes(data))
        except StreamGap as gap:
            print("raise:", gap.offset, f"StreamGap of {gap.length} bytes, {gap.reason}")


@app.monitor()
async def marked(conn: MonitorConnection) -> None:
    async for item in conn.client.chunks(gaps="mark"):
        print("mark: ", item.offset, item if isinstance(item, Gap) else bytes(item))


@app.monitor(gaps="skip")
async def skipped(conn: MonitorConnection) -> None:
    print("skip: ", await conn.client.read())


@app.monitor(gaps="zero")
async def zeroed(conn: MonitorConnection) -> None:
    print("zero: ", len(await conn.client.read()), "bytes")
