from aiomos import PKT_IN, App, Hook, Packet

app = App("broken_judge")


@app.on(PKT_IN, filter="server port 80", hook=Hook.SENDER)
def judge(pkt: Packet) -> None:
    if "malware" in pkt.payload.decode("ascii"):  # there is more than ASCII
        pkt.drop()
