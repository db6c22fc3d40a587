from aiomos import PKT_IN, App, Flow, Packet

app = App("ude_tree")


@app.ude(PKT_IN, filter="not client net 198.51.100.0/24")
def reset(pkt: Packet) -> bool:
    return pkt.rst


@app.ude(reset)  # only looked at where reset has happened
def refused(flow: Flow) -> bool:
    return not flow.established


@app.ude(reset)
def broken_off(flow: Flow) -> bool:
    return flow.established


@app.on(reset)
def count(flow: Flow) -> None:
    flow.ctx["resets"] = flow.ctx.get("resets", 0) + 1


@app.on(refused)
def no_service(flow: Flow) -> None:
    print(f"{flow}: refused")


@app.on(broken_off)
def lost(flow: Flow, side: str) -> None:
    print(f"{flow}: the {side} broke it off, {flow.client.stream_bytes} bytes in; reset {flow.ctx['resets']}")
