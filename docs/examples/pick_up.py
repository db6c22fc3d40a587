from aiomos import App, MonitorConnection

app = App("pick_up")


@app.monitor(midstream=True, gaps="skip")
async def any_connection(conn: MonitorConnection) -> None:
    flow = conn.flow
    print(flow, "midstream" * flow.midstream, "roles guessed" * flow.guessed_roles)
    print("  client:", await conn.client.read())
    print("  server:", await conn.server.read())
