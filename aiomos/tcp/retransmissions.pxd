# Which segments were sent again, and why; duplicate acknowledgements.
from libc.stdint cimport uint32_t, uint64_t

from aiomos.tcp.flows cimport HalfRecord
from aiomos.tcp.tracks cimport Streams, Track, data_seq
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.wire cimport PacketRecord

cdef enum RexmitKind:
    REXMIT_NONE = 0
    REXMIT_RTO = 1             # after a time-out, as far as can be told
    REXMIT_FAST = 2            # duplicate acknowledgements had asked for it
    REXMIT_SPURIOUS = 3        # all of it had been acknowledged
    REXMIT_SYN = 4             # a SYN or SYN-ACK
    REXMIT_FIN = 5             # a FIN without data
    REXMIT_KINDS = 6

cdef int track_judge(const Streams* s, const Track* t, const HalfRecord* half, const PacketRecord* packet,
                     bint payload_ok,
                     uint32_t before_nxt) noexcept nogil
cdef void track_acked_again(Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil
cdef bint overtaken(const Streams* s, const Track* t, const HalfRecord* half, const PacketRecord* packet,
                    uint64_t fresh) noexcept nogil

cdef inline bint comes_late(const HalfRecord* half, const PacketRecord* packet, uint32_t before_nxt) noexcept nogil:
    """Is a segment with bytes, SYN or FIN behind the highest one seen? *before_nxt* is half.nxt as it was before."""
    if packet.payload_len:
        return seq_lt(data_seq(packet), before_nxt)
    return not seq_lt(before_nxt, half.nxt)
