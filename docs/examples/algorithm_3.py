from aiomos import PKT_IN, App, Flow, Packet

app = App("algorithm_3")


@app.ude(PKT_IN)
def syn(pkt: Packet) -> bool:
    return pkt.syn


@app.on(syn)
def on_syn(pkt: Packet, flow: Flow) -> None:
    print(f"{pkt.src}:{pkt.sport}, {flow.client.state.name} and {flow.server.state.name}")
