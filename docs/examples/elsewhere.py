from aiomos import PKT_IN, App, Hook, Packet

app = App("elsewhere")


@app.ude(PKT_IN)
def new(pkt: Packet) -> bool:
    return pkt.syn and not pkt.ack_flag and not pkt.known


@app.on(new, filter="server port 80", hook=Hook.RAW)
def translate(pkt: Packet) -> None:
    pkt.session(src="198.51.100.7", sport=5000, idle=7440, transitory=240)
