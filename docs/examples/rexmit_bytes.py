from aiomos import REXMIT, App, Flow, Level, Occurrence

app = App("rexmit_bytes")


@app.on(REXMIT, level=Level.STREAM)
def compare(flow: Flow, side: str, event: Occurrence) -> None:
    same = (
        "no bytes at hand" if event.old is None else event.new is not None and event.new.startswith(event.old)
    )
    print(f"{flow} {side} {event.kind} [{event.offset}:+{event.length}] same: {same}")
