from aiomos import CONN_SETUP, App, Flow

app = App("time_limit")


@app.on(CONN_SETUP, filter="server port 80")
def begin(flow: Flow) -> None:
    flow.timer(0.015, Flow.reset)  # a callback, called with the flow
