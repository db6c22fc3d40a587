from aiomos import CONN_TEARDOWN, App, Flow, Level

app = App("level_bytes")


@app.on(CONN_TEARDOWN, level=Level.BYTES)
def account(flow: Flow) -> None:
    for half in (flow.client, flow.server):
        print(f"{half.address} sent {half.stream_bytes} bytes, {half.retransmits} segments twice")
