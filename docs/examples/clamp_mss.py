from aiomos import PKT_IN, App, Hook, Packet

app = App("clamp_mss")


@app.ude(PKT_IN)
def opening(pkt: Packet) -> bool:
    return pkt.syn and pkt.mss > 1360


@app.on(opening, hook=Hook.SENDER)
def clamp(pkt: Packet) -> None:
    before = pkt.mss
    pkt.set(mss=1360)
    print(f"{pkt.src}: {before} -> {pkt.mss}")
