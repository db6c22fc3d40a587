import aiomos

app = aiomos.App("heads")


@app.monitor("server port 80", gaps="mark")
async def heads(conn: aiomos.MonitorConnection) -> None:
    try:
        async for side, data in conn:  # both halves, in the order in which they became readable
            if isinstance(data, aiomos.Gap):
                print(f"{conn.flow}  {side}: {data.length} bytes are missing, from {data.offset} on")
                continue
            line = data.split(b"\r\n", 1)[0]
            if b"HTTP/" in line:
                after = data.time - conn.flow.started
                print(f"{conn.flow}  {after * 1e3:6.2f} ms  {side}: {line.decode()}")
    except aiomos.ConnectionReset:
        print(f"{conn.flow}  was cut off")
    print(f"{conn.flow}  ended: {await conn.closed()}, rtt {conn.flow.client.rtt}")
