from aiomos import PKT_IN, TIMEOUT, App, Flow

app = App("silent_peers")


@app.on(PKT_IN)
def rearm(flow: Flow) -> None:
    if "timer" in flow.ctx:
        flow.ctx["timer"].cancel()
    flow.ctx["timer"] = flow.timer(0.5)


@app.on(TIMEOUT)
def silent(flow: Flow, time: float) -> None:
    print(f"{flow} silent for half a second, {time - flow.started:.1f} s after it began")
