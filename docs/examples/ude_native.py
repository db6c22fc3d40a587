from aiomos import CONN_NEW_DATA, PKT_IN, App, Flow, Half, Network, Packet

app = App("ude_native")
INSIDE = Network("10.0.0.0/8", "192.168.0.0/16", "fc00::/7")


@app.ude(PKT_IN, native=True)
def probed(pkt: Packet) -> bool:
    return pkt.syn and not pkt.ack_flag and pkt.src not in INSIDE and pkt.window < 1025


@app.ude(CONN_NEW_DATA, native=True)
def greets(flow: Flow) -> bool:
    return flow.server.peek(0, 4) == b"220 " and flow.server.port in (25, 587)


@app.ude(CONN_NEW_DATA)
def far_away(half: Half) -> bool:
    return half.rtt is not None and half.rtt > 0.2
