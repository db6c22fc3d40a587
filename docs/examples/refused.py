from aiomos import App, Flow, Packet
from aiomos.ude import RST

app = App("refused")


@app.ude(RST)  # an event upon another, which is in stock
def refused(flow: Flow) -> bool:
    return not flow.established


@app.on(refused)  # inside TCP processing, at that moment
def tell(pkt: Packet, flow: Flow) -> None:
    print(f"{flow} refused by {pkt.src}, ttl {pkt.ttl}")
