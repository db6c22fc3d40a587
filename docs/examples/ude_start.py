from aiomos import App, MonitorConnection
from aiomos.ude import HTTP

app = App("ude_start")


@app.monitor(start=HTTP)
async def web(conn: MonitorConnection) -> None:
    """Started when the server's bytes prove to be HTTP; both halves are read from their beginning."""
    asked = await conn.client.readline()
    print(conn.flow, asked.decode().strip(), "->", (await conn.server.readline()).decode().strip())
