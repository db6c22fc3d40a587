from aiomos import App, Hook, Packet
from aiomos.ude import SYN

app = App("turn_away")


@app.on(SYN, filter="server port 80", hook=Hook.SENDER)
def turn_away(pkt: Packet) -> None:
    pkt.reject()
