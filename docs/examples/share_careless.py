from aiomos import CONN_TEARDOWN, App, Flow, Level

app = App("share_careless")


@app.on(CONN_TEARDOWN, level=Level.BYTES)
def bytes_per_request(flow: Flow) -> None:
    print(flow.client.stream_bytes / flow.ctx["requests"])  # which nobody has put there
