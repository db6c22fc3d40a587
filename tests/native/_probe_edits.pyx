"""Shows the edits of one half to pytest: segments and acknowledgements in, what leaves instead out."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos.line.edits cimport (
    EDITS_RESULTS, Acknowledgement, EditStore, Edits, Plan, edits_at, edits_close, edits_copy, edits_cut,
    edits_incoming_ack, edits_open, edits_outgoing, edits_replace, edits_store_close, edits_store_open)
from aiomos.wire.building cimport Cut
from aiomos.wire.wire cimport PacketRecord

RESULTS = ("noted", "seen", "partly_seen", "beyond_hole", "no_payload", "budget")
assert len(RESULTS) == EDITS_RESULTS


cdef class Store:
    """Room for edits."""

    cdef EditStore store

    def __cinit__(self, halves=16, half_budget=1 << 20, budget=1 << 22):
        assert edits_store_open(&self.store, halves, half_budget, budget)

    def __dealloc__(self):
        edits_store_close(&self.store)

    @property
    def in_use(self):
        """Halves, edits and blocks in use."""
        return self.store.halves.in_use, self.store.edits.in_use, self.store.blocks.in_use


cdef class Half:
    """One half that is edited.

    Args:
        store: Where its edits are held.
        una: What the receiver has acknowledged; new numbers are the old ones up to here.
        nxt: What the sender has sent.
        window: What the receiver stated last, unscaled.
        wscale: Its scale.
        ordered: Whether segments beyond a hole are dropped.
    """

    cdef Store store
    cdef uint32_t index

    def __init__(self, Store store not None, uint32_t una, uint32_t nxt, uint16_t window=0xFFFF, uint8_t wscale=0,
                 bint ordered=True):
        self.store = store
        self.index = edits_open(&store.store, una, nxt, window, wscale, ordered)
        if not self.index:
            raise MemoryError

    def close(self):
        edits_close(&self.store.store, self.index)

    @property
    def held(self):
        """Edits held and bytes they cost."""
        cdef const Edits* edits = edits_at(&self.store.store, self.index)
        return edits.count, edits.held_bytes

    def replace(self, seq, bytes payload not None, bytes data not None, flags=0, captured=None):
        """Note an edit; what became of it by name."""
        cdef PacketRecord packet = make_packet(seq, payload, flags, 0, captured)
        return RESULTS[edits_replace(&self.store.store, self.index, &packet, data, len(data))]

    def send(self, seq, bytes payload not None=b"", flags=0x10, urgent=0, most=None, captured=None):
        """Pass a segment: the plan as a dict, ``segments`` being what leaves as ``(seq, flags, urgent, payload)``."""
        cdef PacketRecord packet = make_packet(seq, payload, flags, urgent, captured)
        cdef Plan plan
        cdef Cut cut
        cdef bytearray out
        edits_outgoing(&self.store.store, self.index, &packet, &plan)
        segments = []
        if plan.as_is:
            segments.append((plan.seq, plan.flags, plan.urgent, payload))
        elif not plan.drop:
            out = bytearray(plan.length + 8)
            out[plan.length:] = b"\xEE" * 8
            edits_copy(&self.store.store, &plan, &packet, <uint8_t*> <char*> out)
            assert out[plan.length:] == b"\xEE" * 8, "written beyond the plan's length"
            memset(&cut, 0, sizeof(Cut))
            while edits_cut(&plan, most or 0xFFFF_FFFF, &cut):
                segments.append((cut.seq, cut.flags, cut.urgent, bytes(out[cut.at:cut.at + cut.length])))
                assert cut.number == len(segments) - 1
        own = (plan.ack, plan.window) if plan.own_ack else None
        return {"drop": bool(plan.drop), "as_is": bool(plan.as_is), "own_ack": own,
                "segments": [] if plan.drop else segments}

    def acknowledge(self, ack, window=0xFFFF, sack=(), flags=0x10):
        """Pass an acknowledgement of the receiver: what the sender gets, ``(ack, window, sack)``."""
        cdef PacketRecord packet = make_packet(0, b"", flags, 0, None)
        cdef Acknowledgement out
        packet.ack = ack
        packet.window = window
        packet.sack_count = len(sack)
        for i, (left, right) in enumerate(sack):
            packet.sack[2 * i], packet.sack[2 * i + 1] = left, right
        edits_incoming_ack(&self.store.store, self.index, &packet, &out)
        return out.ack, out.window, [(out.sack[2 * i], out.sack[2 * i + 1]) for i in range(out.sack_count)]


cdef PacketRecord make_packet(uint32_t seq, bytes payload, uint16_t flags, uint16_t urgent, captured):
    cdef PacketRecord packet
    memset(&packet, 0, sizeof(PacketRecord))
    packet.seq = seq
    packet.flags = flags
    packet.urgent = urgent
    packet.payload = <const uint8_t*> <const char*> payload
    packet.payload_len = <uint32_t> len(payload)
    packet.payload_cap = packet.payload_len if captured is None else captured
    return packet
