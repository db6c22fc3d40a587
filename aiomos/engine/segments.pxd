# A segment's way through its flow.
from aiomos.engine.core cimport Core, Decoded
from aiomos.tcp.flows cimport Flows, key_hash, make_key
from aiomos.wire.wire cimport WIRE_TCP

cdef int take_segment(Core core, Decoded* decoded) except -1 nogil
cdef int on_malformed(Core core, Decoded* decoded) except -1 nogil

cdef inline void look_up(const Flows* flows, Decoded* decoded) noexcept nogil:
    """Find out to which flow a packet belongs."""
    if decoded.kind == WIRE_TCP:
        decoded.from_low = make_key(&decoded.packet, &decoded.key)
        decoded.hash = key_hash(flows, &decoded.key, decoded.packet.tunnel)
