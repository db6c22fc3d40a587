from collections.abc import Callable

from aiomos import PKT_IN, App, Hook, Packet

app = App("by_rule")
RULES: dict[bytes, Callable[[Packet, bytes], bool]] = {b"The secret is": Packet.replace}


@app.on(PKT_IN, filter="server port 80", hook=Hook.SENDER, edits=True)
def judge(pkt: Packet) -> None:
    for words, act in RULES.items():
        if words in pkt.payload:
            act(pkt, b"No.")
