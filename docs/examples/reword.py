from aiomos import PKT_IN, App, Hook, Packet

app = App("reword")


@app.ude(PKT_IN)
def answer(pkt: Packet) -> bool:
    return pkt.sport == 80 and pkt.payload_len > 0


@app.on(answer, filter="server port 80", hook=Hook.SENDER)
def reword(pkt: Packet) -> None:
    if b"secret" in pkt.payload:
        pkt.replace(pkt.payload.replace(b"secret", b"good news"))
