from aiomos import CONN_NEW_DATA, App, Flow

app = App("ude_emit")
several = app.event("several")


@app.on(CONN_NEW_DATA, filter="server port 80")
def count(flow: Flow) -> None:
    requests = flow.client.peek(0, 65536).count(b"HTTP/1.1\r\n")
    if requests > 1 and "told" not in flow.ctx:
        flow.ctx["told"] = True
        flow.ctx["requests"] = requests
        app.emit(several, flow)


@app.ude(several)
def from_curl(flow: Flow) -> bool:
    return b"User-Agent: curl" in flow.client.peek(0, 512)


@app.on(from_curl)
def tell(flow: Flow) -> None:
    print(f"{flow}: {flow.ctx['requests']} requests from curl")
    from_curl.undefine()  # once is enough
