"""An app with work in Python for every packet, as what is to be shared out among workers."""

import hashlib

from aiomos import PKT_IN, App, Packet

app = App("busy")
seen: set[bytes] = set()


@app.on(PKT_IN)
def fingerprint(pkt: Packet) -> None:
    """Remember every payload by its hash."""
    seen.add(hashlib.sha256(pkt.payload or b"").digest()[:8])
