"""Retransmissions: which segments were sent again, and why, as far as a capture tells.

The rules are those of Wireshark's TCP analysis (packet-tcp.c, tcp_analyze_sequence_number()); where it asks the time
since any acknowledgement, the time since the last duplicate one is asked here.
"""

from libc.stdint cimport int64_t

from aiomos.tcp.copies cimport COPY_NS, is_copy
from aiomos.tcp.flows cimport ACK_SEEN
from aiomos.tcp.holdings cimport track_conflict, track_unseen
from aiomos.tcp.pieces cimport first_overlap
from aiomos.tcp.tracks cimport BASED, FIN_TAKEN, SYN_REFUSED, data_seq, offset_of
from aiomos.wire.seq cimport seq_leq, seq_max
from aiomos.wire.wire cimport FIN, SYN

cdef enum:
    FAST_DUP_ACKS = 2          # RFC 5681 section 3.2 has 3, of which a capture may lack one

cdef int64_t REORDER_NS = 3_000_000     # a segment this late was overtaken, where no round trip was measured
cdef int64_t FAST_NS = 20_000_000       # a fast retransmission follows the last duplicate acknowledgement within it


cdef int track_judge(const Streams* s, const Track* t, const HalfRecord* half, const PacketRecord* packet,
                     bint payload_ok,
                     uint32_t before_nxt) noexcept nogil:
    """Tell of what kind (RexmitKind) a retransmission is that is about to be taken in; REXMIT_NONE if it is none.

    Exactly what track_payload() counts as a retransmission is one. *half* is as after the segment, *before_nxt* its
    nxt as it was before; *payload_ok* is false of keep-alives and probes.
    """
    cdef uint64_t fresh = 0, at = 0, length = 0
    cdef int64_t start, end
    if not payload_ok or not t.flags & BASED or not comes_late(half, packet, before_nxt):
        return REXMIT_NONE
    start = offset_of(t, data_seq(packet))
    end = start + packet.payload_len
    if end > 0:
        fresh = track_unseen(s, t, <uint64_t> max(start, 0), <uint64_t> end)
    if overtaken(s, t, half, packet, fresh):
        return REXMIT_NONE
    if fresh == 0 and is_copy(t, packet) and not track_conflict(s, t, packet, &at, &length):
        return REXMIT_NONE
    return kind_of(t, half, packet)


cdef bint overtaken(const Streams* s, const Track* t, const HalfRecord* half, const PacketRecord* packet,
                    uint64_t fresh) noexcept nogil:
    """Has a late segment, *fresh* bytes of which are new, been overtaken on its way, and was sent but once?

    To be asked before it is taken in, or right after.
    """
    cdef int64_t late = packet.time_ns - t.nxt_ns
    if not packet.payload_len and (packet.flags & SYN or t.flags & FIN_TAKEN):
        return False
    if fresh != packet.payload_len or t.flags & SYN_REFUSED:
        return False
    return late < (t.handshake_ns if t.handshake_ns else REORDER_NS) or (
        late <= COPY_NS and is_behind_its_ack(s, t, half, packet))


cdef bint is_behind_its_ack(const Streams* s, const Track* t, const HalfRecord* half,
                            const PacketRecord* packet) noexcept nogil:
    """Does nothing but acknowledgements tell that its sender had sent so much before?

    A mirror port whose two sides are out of step shows a segment behind its acknowledgement, which may be that of the
    next as well. What was lost has others behind it, that were captured.
    """
    cdef uint32_t after = data_seq(packet) + packet.payload_len
    cdef int64_t end = offset_of(t, after)
    return (half.flags & ACK_SEEN and seq_leq(after + (packet.flags & FIN), half.una) and <int64_t> t.edge <= end
            and first_overlap(&s.store, &t.held, <uint64_t> end) == 0)


cdef int kind_of(const Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    cdef uint32_t seq = packet.seq
    if packet.flags & SYN:
        return REXMIT_SYN
    if not packet.payload_len:
        return REXMIT_FIN
    if half.flags & ACK_SEEN and seq_leq(seq + packet.payload_len, half.una):
        return REXMIT_SPURIOUS
    # It is what the duplicate acknowledgements asked for, or a hole among what they reported as received.
    if (t.dup_acks >= FAST_DUP_ACKS and packet.time_ns - t.dup_ack_ns < FAST_NS
            and (seq == half.una or (seq_lt(half.una, seq) and seq_lt(seq, t.sack_high)))):
        return REXMIT_FAST
    return REXMIT_RTO


cdef void track_acked_again(Track* t, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Count a duplicate acknowledgement of this half (RFC 5681 section 2), and what it reports as received."""
    cdef int i
    if packet.ack != half.una:                     # an older one, overtaken on its way
        return
    if t.dup_acks == 0:
        t.sack_high = half.una
    t.dup_acks += 1
    t.dup_ack_ns = packet.time_ns
    for i in range(packet.sack_count):
        t.sack_high = seq_max(t.sack_high, packet.sack[2 * i + 1])
