from aiomos import App, MonitorConnection, StreamGap

app = App("one_half_first")


@app.monitor("server port 80")
async def client_then_server(conn: MonitorConnection) -> None:
    asked = await conn.client.read()  # while this waits, the server's bytes pile up
    try:
        answered = await conn.server.read()
    except StreamGap as gap:
        print(conn.flow, f"asked {len(asked)} bytes; {gap.length} bytes of the answer {gap.reason}")
    else:
        print(conn.flow, f"asked {len(asked)} bytes, answered {len(answered)}")
