from aiomos import CONN_SETUP, CONN_TEARDOWN, App, Flow

app = App("teardowns")


@app.on(CONN_SETUP)
def note(flow: Flow, time: float) -> None:
    flow.ctx["setup"] = time


@app.on(CONN_TEARDOWN)
def tell(flow: Flow) -> None:
    took = f"{(flow.ctx['setup'] - flow.started) * 1000:.1f} ms" if "setup" in flow.ctx else "never"
    print(f"{flow} set up: {took}, end: {flow.reason}")
