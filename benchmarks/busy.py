"""An app with some Python for every packet, as what is to be shared out among workers."""

from collections import Counter

from aiomos import PKT_IN, App, Packet

app = App("busy")
sizes: Counter[tuple[str, int]] = Counter()


@app.on(PKT_IN)
def count(pkt: Packet, side: str) -> None:
    """Count packets by side and size."""
    sizes[side, pkt.payload_len or 0] += 1
