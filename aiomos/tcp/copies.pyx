"""Copies: the same frame captured more than once is no retransmission.

A mirror port that shows a frame as it comes in and as it goes out, `-i any` on a router, and merged captures have every
frame twice. A copy has the IP identification, the numbers and the checksum of a segment just seen. Where the sender
gives no identification, only time tells it from a retransmission, which takes a round trip at least.
"""

from aiomos.tcp.tracks cimport ACKED_HOLE, BASED
from aiomos.wire.wire cimport FIN, SYN

cdef int64_t UNMARKED_NS = 3_000_000   # the same without identification, where no round trip was measured


cdef bint is_copy(const Track* t, const PacketRecord* packet) noexcept nogil:
    """Is a segment that says nothing new one of those just seen?

    Of two interfaces, whose frames come in blocks, the later one's may be read first.
    """
    cdef uint64_t mark = mark_of(packet)
    cdef int64_t limit = COPY_NS
    cdef uint32_t ticks
    cdef int i
    if not identification(packet):
        if not packet.payload_len and not packet.flags & (SYN | FIN):
            return False                           # duplicate acknowledgements are alike
        limit = min(t.handshake_ns // 2, UNMARKED_NS) if t.handshake_ns else UNMARKED_NS
    ticks = <uint32_t> (limit >> TICK_BITS)
    for i in range(RECENT):
        if t.recent[i] >> 32 == mark >> 32 and <uint32_t> (mark - t.recent[i]) + ticks <= 2 * ticks:
            return True
    return False


cdef bint is_missing_byte(const Track* t, const PacketRecord* packet) noexcept nogil:
    """Is what looks like a keep-alive the one byte at the edge, captured soon after its acknowledgement?

    A mirror port whose two sides are out of step shows each keystroke behind what acknowledges it. A keep-alive comes
    when nothing has come for long.
    """
    return (packet.payload_len == 1 and t.flags & BASED and t.flags & ACKED_HOLE and packet.seq == t.edge_seq
            and 0 <= packet.time_ns - t.acked_ns <= COPY_NS)
