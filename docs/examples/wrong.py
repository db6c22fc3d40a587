from aiomos import ERROR, App, Flow, Occurrence

app = App("wrong")


@app.on(ERROR)
def tell(flow: Flow, side: str, event: Occurrence) -> None:
    print(f"{flow} {side}: {event.kind}")
    if event.kind == "bad_reset":
        flow.stop()  # this app is told no more of it
