"""TCP state of both ends as seen from the middle (RFC 9293 section 3.10, from neither end).

A monitor sees segments pass; whether their receiver takes them it must conclude. What it knows of an end
is kept as facts (it sent a SYN, its SYN was acknowledged, ...), and the end's RFC 9293 state is a function of
them, so a packet that was not captured leaves a fact unknown, never the machine stuck.

The rules are those a receiver would apply, loosened only by what a monitor may have missed:
sequence numbers may run ahead of the acknowledgements seen by one extra window, and what was
acknowledged is taken to have been sent.
"""

from libc.stdint cimport int32_t, uint16_t

from aiomos.tcp.flows cimport (
    ACK_SEEN,
    CLOSED,
    DOUBTED,
    DOUBTED_ACK,
    DOUBTED_FIN,
    FIN_ACKED,
    FIN_RECEIVED,
    FIN_SEEN,
    FIN_SENT,
    ISS_KNOWN,
    MD5_SIGNED,
    MIDSTREAM,
    OFFERS_SCALE,
    OTHER_SYNACK,
    PASSIVE_CLOSE,
    REASON_FIN,
    REASON_RST,
    REFUSED,
    RESET,
    RESET_BY_SERVER,
    SACK_PERMITTED,
    SCALE_KNOWN,
    SEQ_KNOWN,
    SERVER,
    SYN_ACKED,
    SYN_RECEIVED,
    SYN_SENT,
    TIMESTAMPS,
    WINDOW_KNOWN,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.wire.seq cimport seq_diff, seq_leq, seq_lt, seq_max
from aiomos.wire.wire cimport (
    ACK,
    FIN,
    OPT_BAD,
    OPT_MD5,
    OPT_MSS,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    RST,
    SYN,
    URG,
    header_is_cut,
    window_is_known,
)

cdef enum:
    SYNCHRONISED = SYN_SENT | SYN_ACKED | SYN_RECEIVED
    JUMP = DOUBTED | DOUBTED_ACK | DOUBTED_FIN
    MOST_WINDOW = 1 << 30      # RFC 7323 section 2.3: no window is larger
    BELIEVED_DOUBTS = 8        # segments in a row, with nothing else in between, before a jump is believed
    MOST_REACH = 1 << 24       # how far from each other what tells of the same jump may be; few windows are larger
    UNMEASURED = 1 << 22       # how far a sender may run ahead of itself where the capture tells no window
    PAWS_IDLE_DAYS = 24        # RFC 7323 section 5.5: then TS.Recent is too old to judge by
    PAWS_TICKS = 1             # that a stamp may be behind it
    LATE_SYN_WINDOW = 65535    # bytes of a connection that a SYN may be captured behind: a window that is not scaled

cdef int64_t MILLISECOND = 1_000_000      # a tick of most timestamp clocks
cdef int64_t LATE_SYN_NS = 1_000_000_000
cdef int64_t PAWS_IDLE_NS = <int64_t> PAWS_IDLE_DAYS * 86400 * 1_000_000_000
cdef uint8_t[256] STATES

# What the anomalies of monitor.pxd are counted under.
ANOMALY_NAMES = (
    "no_ack", "bad_flags", "out_of_window", "bad_ack", "bad_reset", "syn_in_connection", "bad_synack", "paws",
    "after_fin", "unsigned", "bad_options", "ack_unseen", "before_synack", "keep_alive", "zero_window_probe",
    "syn_retry", "urgent")
assert len(ANOMALY_NAMES) == ANOMALIES


def _state_of(facts: int) -> int:
    """RFC 9293 state of an end of which *facts* are known."""
    if facts & RESET:
        return STATE_CLOSED
    if facts & FIN_SENT:
        if facts & FIN_RECEIVED:
            if facts & PASSIVE_CLOSE:
                return STATE_CLOSED if facts & FIN_ACKED else LAST_ACK
            return TIME_WAIT if facts & FIN_ACKED else CLOSING
        return FIN_WAIT_2 if facts & FIN_ACKED else FIN_WAIT_1
    if facts & FIN_RECEIVED:
        return CLOSE_WAIT
    if facts & SYNCHRONISED == SYNCHRONISED:
        return ESTABLISHED
    if facts & SYN_RECEIVED:
        return SYN_RECEIVED_STATE
    return SYN_SENT_STATE if facts & SYN_SENT else LISTEN


for _facts in range(256):
    STATES[_facts] = _state_of(_facts)


cdef uint8_t state_of(uint8_t facts) noexcept nogil:
    return STATES[facts]


cdef int monitor_segment(FlowRecord* flow, int side, const PacketRecord* packet, uint64_t* anomalies) noexcept nogil:
    """Bring both ends' state up to date with a segment sent by *side*; returns Outcome bits.

    *anomalies* are counters by Anomaly.
    """
    cdef HalfRecord* snd = &flow.halves[side]
    cdef HalfRecord* rcv = &flow.halves[1 - side]
    cdef int outcome
    snd.packets += 1
    if packet.options & (OPT_BAD | OPT_MD5) or snd.flags & MD5_SIGNED:
        if options_refused(snd, rcv, packet, anomalies):
            return 0
    if packet.flags & (SYN | RST):
        outcome = on_control(flow, side, snd, rcv, packet, anomalies)
    elif packet.flags & ACK:
        outcome = on_segment(flow, snd, rcv, packet, anomalies)
    else:
        anomalies[A_NO_ACK] += 1
        return 0
    if not flow.flags & (FLOW_ESTABLISHED | CLOSED) and (snd.facts & rcv.facts & SYNCHRONISED) == SYNCHRONISED:
        flow.flags |= FLOW_ESTABLISHED
        if not flow.flags & MIDSTREAM:             # of a pick-up the handshake was not seen
            outcome |= SETUP
    if snd.facts & rcv.facts & FIN_ACKED and not flow.flags & CLOSED:
        flow.flags |= CLOSED
        flow.reason = REASON_FIN
        outcome |= CLOSED_NOW
    return outcome


cdef bint options_refused(const HalfRecord* snd, const HalfRecord* rcv, const PacketRecord* packet,
                          uint64_t* anomalies) noexcept nogil:
    """RFC 2385 section 2: a receiver drops what should be signed and is not, or the reverse."""
    cdef bint is_signed = (packet.options & OPT_MD5) != 0
    if packet.options & OPT_BAD:
        anomalies[A_BAD_OPTIONS] += 1
    if header_is_cut(packet) or (rcv.flags & (ISS_KNOWN | SCALE_KNOWN)) == ISS_KNOWN:
        return False                               # the signature, or whether it was agreed on, may have been cut off
    if snd.flags & SCALE_KNOWN and not packet.flags & SYN and is_signed != ((snd.flags & MD5_SIGNED) != 0):
        anomalies[A_UNSIGNED] += 1
        return True
    return False


cdef int on_control(FlowRecord* flow, int side, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                    uint64_t* anomalies) noexcept nogil:
    if packet.flags & RST:                         # looked at before a SYN in every state
        return on_reset(flow, side, snd, rcv, packet, anomalies)
    if packet.flags & FIN:
        anomalies[A_BAD_FLAGS] += 1
        return 0
    if packet.flags & ACK:
        return on_synack(flow, snd, rcv, packet, anomalies)
    return on_syn(flow, snd, rcv, packet, anomalies)


# --- opening --------------------------------------------------------------------------------------

cdef void learn_syn(HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Take the sequence number and options of an end's SYN or SYN-ACK."""
    half.iss = packet.seq
    half.una = packet.seq
    half.nxt = packet.seq + 1 + packet.payload_len
    half.flags = (half.flags & ~(ACK_SEEN | FIN_SEEN | OFFERS_SCALE | TIMESTAMPS | SACK_PERMITTED | MD5_SIGNED
                                 | JUMP)) | SEQ_KNOWN | ISS_KNOWN | SCALE_KNOWN | WINDOW_KNOWN
    half.wnd = half.max_wnd = packet.window       # RFC 7323 section 2.2: the window of a SYN is never scaled
    half.wscale = 0
    half.mss = packet.mss if packet.options & OPT_MSS else 0
    if packet.options & OPT_WSCALE:
        half.wscale = packet.wscale
        half.flags |= OFFERS_SCALE
    if packet.options & OPT_TIMESTAMP:
        half.ts_recent = packet.tsval
        half.flags |= TIMESTAMPS
    if packet.options & OPT_SACK_OK:
        half.flags |= SACK_PERMITTED
    if packet.options & OPT_MD5:
        half.flags |= MD5_SIGNED
    if header_is_cut(packet):                      # what is not there of it may have been cut off
        half.flags &= ~<uint16_t> SCALE_KNOWN
        if not window_is_known(packet):
            half.flags &= ~<uint16_t> WINDOW_KNOWN


cdef void learn_late_syn(HalfRecord* half, const HalfRecord* peer, const PacketRecord* packet) noexcept nogil:
    """Take the SYN of an end of which what came behind it was captured before."""
    cdef uint16_t known = half.flags & (ACK_SEEN | FIN_SEEN | WINDOW_KNOWN | TIMESTAMPS | JUMP)
    cdef uint32_t una = half.una, nxt = half.nxt, wnd = half.wnd, max_wnd = half.max_wnd, stamp = half.ts_recent
    learn_syn(half, packet)
    half.una = seq_max(una, packet.seq + 1)        # what was captured before has acknowledged it
    half.nxt = seq_max(nxt, half.nxt)
    half.flags |= known & (ACK_SEEN | FIN_SEEN | JUMP)
    if known & WINDOW_KNOWN:                       # read without a scale so far
        half.wnd = wnd << scale(half, peer)
        half.max_wnd = max_wnd << scale(half, peer)
    if known & half.flags & TIMESTAMPS and seq_lt(half.ts_recent, stamp):
        half.ts_recent = stamp


cdef void adopt(HalfRecord* half, uint32_t seq) noexcept nogil:
    """Begin to follow an end whose SYN was not captured."""
    half.nxt = half.una = seq
    half.iss = seq - 1
    if not half.flags & DOUBTED:
        half.fin = seq
    half.flags |= SEQ_KNOWN


cdef bint begins_here(const FlowRecord* flow, const HalfRecord* half, const PacketRecord* packet) noexcept nogil:
    """Is a SYN the beginning of what was captured of its sender already?

    As a rule its first byte was; a capture with several queues may have others before it as well.
    """
    cdef int32_t behind
    if not half.flags & SEQ_KNOWN:
        return True
    behind = seq_diff(half.iss, packet.seq)
    if behind == 0 or (behind == -1 and not half.flags & ACK_SEEN):     # that one may have stood at the SYN itself
        return True
    return 0 < behind <= LATE_SYN_WINDOW and packet.time_ns - flow.started_ns <= LATE_SYN_NS


cdef int on_syn(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                uint64_t* anomalies) noexcept nogil:
    if snd.flags & ISS_KNOWN and packet.seq == snd.iss:
        if is_late_payload(snd, packet):
            anomalies[A_SYN_IN_CONNECTION] += 1
            return SYN_DOUBTED if flow.flags & CLOSED and not flow.flags & FLOW_ESTABLISHED else 0
        if packet.options & OPT_TIMESTAMP and not snd.facts & SYN_ACKED and seq_lt(snd.ts_recent, packet.tsval):
            snd.ts_recent = packet.tsval
        # Sent again; after a RST, the same SYN may yet be answered by a SYN-ACK.
        return PAYLOAD_OK | (SYN_DOUBTED if flow.flags & CLOSED and not flow.flags & FLOW_ESTABLISHED else 0)
    if flow.flags & CLOSED:
        return REOPEN
    if not snd.flags & ISS_KNOWN:
        # An opening, a simultaneous open, a split handshake, or the SYN of what was captured before it.
        if begins_here(flow, snd, packet):
            snd.facts |= SYN_SENT
            rcv.facts |= SYN_RECEIVED
            if snd.flags & SEQ_KNOWN:
                learn_late_syn(snd, rcv, packet)
                return PAYLOAD_OK | JOINED
            open_half(snd, rcv, packet)
            return PAYLOAD_OK
    elif not rcv.flags & ISS_KNOWN and not flow.flags & FLOW_ESTABLISHED:
        # Nobody has answered the first SYN: the client tries again with another ISN.
        anomalies[A_SYN_RETRY] += 1
        open_half(snd, rcv, packet)
        return PAYLOAD_OK | RESTARTED
    # RFC 5961 section 4: answered with a challenge ACK. A client that has forgotten the connection goes on
    # to open a new one, which what follows will show.
    anomalies[A_SYN_IN_CONNECTION] += 1
    return SYN_DOUBTED


cdef inline bint is_late_payload(const HalfRecord* snd, const PacketRecord* packet) noexcept nogil:
    """RFC 5961 section 4.2: whoever has acknowledged a SYN takes no data from one that comes again."""
    return packet.payload_len != 0 and (snd.facts & SYN_ACKED) != 0


cdef void open_half(HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet) noexcept nogil:
    """Take the first SYN of an end."""
    learn_syn(snd, packet)
    rcv.flags &= ~<uint16_t> REFUSED
    if not rcv.flags & SEQ_KNOWN:
        rcv.ts_recent = packet.tsval
    if not rcv.flags & WINDOW_KNOWN:
        rcv.wnd = snd.nxt


cdef int on_synack(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                   uint64_t* anomalies) noexcept nogil:
    cdef int outcome = PAYLOAD_OK
    if not answers_syn(flow, snd, rcv, packet):
        anomalies[A_BAD_SYNACK] += 1
        if not snd.flags & SEQ_KNOWN:
            refuse(flow, snd, packet)
        return 0
    if is_behind_answer(snd, rcv, packet):
        snd.iss = packet.seq
    if snd.flags & SEQ_KNOWN and packet.seq != snd.iss:
        anomalies[A_BAD_SYNACK] += 1
        if snd.flags & ISS_KNOWN or is_unheard(snd, rcv):
            flow.resync = packet.seq + 1           # which of them the client has taken, its ACK will tell
            flow.flags |= OTHER_SYNACK
        return 0
    if snd.flags & ISS_KNOWN and is_late_payload(snd, packet):
        anomalies[A_SYN_IN_CONNECTION] += 1
        return 0
    if not snd.flags & SEQ_KNOWN:
        learn_syn(snd, packet)
    elif not snd.flags & ISS_KNOWN:                # the client's ACK was captured before it
        if not rcv.flags & ACK_SEEN:
            doubt_early(rcv, snd)
        learn_late_syn(snd, rcv, packet)
        outcome |= RESTARTED
    if not rcv.flags & SEQ_KNOWN:
        adopt(rcv, packet.ack)                     # its SYN comes later, or was not captured
    if not snd.flags & MD5_SIGNED:                 # it does not sign, so the connection is not signed
        rcv.flags &= ~<uint16_t> MD5_SIGNED
    snd.facts |= SYN_SENT | SYN_RECEIVED
    rcv.facts |= SYN_SENT | SYN_ACKED | SYN_RECEIVED
    rcv.flags |= ACK_SEEN
    if seq_lt(rcv.una, packet.ack):
        rcv.una = packet.ack
        outcome |= ACK_MOVED
    return outcome


cdef inline bint is_behind_answer(const HalfRecord* snd, const HalfRecord* rcv,
                                  const PacketRecord* packet) noexcept nogil:
    """Is a SYN-ACK captured behind a client's acknowledgement of more than that, or a stranger's?

    The first may be missing: all that a client acknowledges lies within its window. RFC 7413: a server that takes the
    SYN's data speaks before the client acknowledges its SYN-ACK, so the first may acknowledge any more.
    """
    return snd.flags & (SEQ_KNOWN | WINDOW_KNOWN) == SEQ_KNOWN and is_unheard(snd, rcv) and (
        snd.wnd != rcv.iss + 1 or 0 < seq_diff(snd.iss, packet.seq) <= allowance(rcv))


cdef inline bint is_unheard(const HalfRecord* half, const HalfRecord* peer) noexcept nogil:
    """Is all that is known of an end what segments in the name of its peer, which has sent a SYN, have acknowledged?

    Before the SYN-ACK anybody may have sent them.
    """
    return not half.flags & ISS_KNOWN and peer.flags & (ISS_KNOWN | ACK_SEEN) == ISS_KNOWN


cdef inline bint is_early(const FlowRecord* flow, const HalfRecord* snd, const HalfRecord* rcv) noexcept nogil:
    """Does a client go on though nothing captured has answered its SYN?

    Not if its peer was captured first, as where a SYN comes behind its SYN-ACK. Once it is believed all the same, una
    stands behind its SYN (tcp/doubts).
    """
    return snd.una == snd.iss and is_unheard(rcv, snd) and not flow.flags & MIDSTREAM


cdef void doubt_early(HalfRecord* client, HalfRecord* server) noexcept nogil:
    """The SYN-ACK was captured after its client went on: whether it did, and had an answer, what follows will show."""
    cdef uint32_t end = client.nxt, acked = server.una
    cdef uint16_t fin = client.flags & FIN_SEEN
    forget_early(client, server)
    server.una = server.nxt = server.iss + 1
    if seq_lt(server.nxt, acked):
        doubt_ack(server, acked)
    if seq_lt(client.nxt, end):
        client.fin = end
        client.flags |= DOUBTED | (DOUBTED_FIN if fin else 0)


cdef bint confirm_early(HalfRecord* half, HalfRecord* peer, uint32_t ack) noexcept nogil:
    """Is an acknowledgement one of what was captured before the SYN-ACK, or before that was acknowledged?

    A jump lies farther ahead. If it is one of all that, what *half* acknowledged then is true as well.
    """
    cdef uint32_t end = half.fin
    if half.flags & (DOUBTED | DOUBTED_ACK) != DOUBTED or seq_diff(end, half.una) > allowance(peer) or (
            seq_diff(ack, half.nxt) > allowance(peer)):
        return False
    peer.facts |= SYN_ACKED                        # what comes behind a handshake is true, so the handshake is
    if seq_leq(end, ack):
        if half.flags & DOUBTED_FIN and end == ack:
            half.fin = ack - 1
            half.flags |= FIN_SEEN
        half.flags &= ~<uint16_t> JUMP
        if peer.flags & DOUBTED_ACK and seq_lt(peer.una, peer.fin) and seq_diff(peer.fin, peer.una) <= allowance(half):
            peer.flags = peer.flags & ~<uint16_t> JUMP | ACK_SEEN
            peer.una = peer.fin
            peer.nxt = seq_max(peer.nxt, peer.una)
    return seq_leq(ack, end)


cdef void doubt_ack(HalfRecord* half, uint32_t ack) noexcept nogil:
    """Note what of an end is said to be acknowledged, until what it says ends there, or what its peer says is true."""
    if not half.flags & DOUBTED or half.flags & DOUBTED_ACK and seq_lt(half.fin, ack):
        half.fin = ack
        half.flags |= DOUBTED | DOUBTED_ACK


cdef void forget_early(HalfRecord* client, HalfRecord* server) noexcept nogil:
    """Put a client back to its SYN, what it was taken to have received as well."""
    client.nxt = seq_max(client.una, server.wnd)
    client.flags &= ~<uint16_t> (FIN_SEEN | JUMP)
    client.facts &= ~<uint8_t> (FIN_SENT | FIN_ACKED)
    server.facts &= ~<uint8_t> (FIN_RECEIVED | PASSIVE_CLOSE)


cdef inline void refuse(FlowRecord* flow, HalfRecord* snd, const PacketRecord* packet) noexcept nogil:
    """Note that an end in SYN-SENT answers a segment by a RST, as it does any with an acknowledgement it refuses."""
    snd.flags |= REFUSED
    flow.resync = packet.ack


cdef bint answers_syn(const FlowRecord* flow, const HalfRecord* snd, const HalfRecord* rcv,
                      const PacketRecord* packet) noexcept nogil:
    """RFC 9293 section 3.10.7.3, first check: a segment to an end in SYN-SENT must acknowledge its SYN, no more.

    RFC 7323 section 3.2: what timestamp it echoes must have been sent; to Linux, between the first SYN and now. How
    fast that clock ticks is not known, so a later SYN may show more.
    """
    cdef uint32_t first = snd.ts_recent
    if not rcv.flags & ISS_KNOWN:
        return True                                # the SYN comes later, or was not captured
    if not (seq_lt(rcv.iss, packet.ack) and seq_leq(packet.ack, rcv.nxt)):
        return False
    if (rcv.facts & SYN_RECEIVED or snd.flags & SEQ_KNOWN or not packet.options & OPT_TIMESTAMP
            or not packet.tsecr or not rcv.flags & TIMESTAMPS):
        return True
    return seq_leq(first, packet.tsecr) and (
        seq_leq(packet.tsecr, rcv.ts_recent)
        or seq_diff(packet.tsecr, first) <= (packet.time_ns - flow.started_ns) // MILLISECOND + 1)


cdef uint8_t scale(const HalfRecord* one, const HalfRecord* other) noexcept nogil:
    """RFC 7323 section 2.2: windows are scaled only if both SYNs carried the option."""
    return 0 if other.flags & SCALE_KNOWN and not other.flags & OFFERS_SCALE else one.wscale


# --- synchronised states --------------------------------------------------------------------------

cdef int on_segment(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                    uint64_t* anomalies) noexcept nogil:
    cdef uint32_t seq = packet.seq, length = packet.payload_len
    cdef uint32_t end = seq + length + (packet.flags & FIN)
    cdef uint32_t una
    cdef int outcome = PAYLOAD_OK, moved
    cdef bint opening = (snd.facts & rcv.facts & SYNCHRONISED) != SYNCHRONISED
    if opening:
        moved = comes_too_early(flow, snd, rcv, packet, end, anomalies)
        if moved >= 0:
            return moved
    if not snd.flags & SEQ_KNOWN:
        adopt(snd, seq)
    elif too_old(flow, snd, rcv, packet):
        anomalies[A_PAWS] += 1
        return 0
    if not in_window(snd, rcv, end):
        if not believe_jump(snd, rcv, packet):
            anomalies[A_OUT_OF_WINDOW] += 1
            return DOUBT if seq_lt(snd.nxt, end) else 0
        outcome |= RESYNC
    moved = on_ack(flow, snd, rcv, packet, anomalies)
    if moved < 0:
        anomalies[A_BAD_ACK] += 1
        return DOUBT
    snd.doubts = rcv.doubts = 0
    outcome |= moved
    una = snd.una
    if opening:
        infer_handshake(snd, rcv)
    if packet.options & OPT_TIMESTAMP and seq_leq(seq, una) and seq_leq(una, end) and (
            not seq_lt(packet.tsval, snd.ts_recent) or not snd.ts_recent):
        snd.ts_recent = packet.tsval               # RFC 7323 section 4.3, of acceptable segments only
    if end == snd.nxt and end == seq:
        return outcome                             # a plain acknowledgement
    if una == snd.iss and is_early(flow, snd, rcv):
        outcome |= EARLY
    if length <= 1 and not packet.flags & FIN:
        if is_probe(snd, rcv, seq, length, anomalies):
            return outcome & ~PAYLOAD_OK | KEEP_ALIVE
        if length == 0 and seq_lt(snd.nxt, end):
            if not snd.flags & (DOUBTED | FIN_SEEN):
                snd.fin = end                      # the same
            elif snd.flags & DOUBTED_FIN and end == snd.fin:
                snd.nxt = end - 1                  # behind a FIN that its peer is to confirm
                return outcome
    if packet.flags & URG and length:
        anomalies[A_URGENT] += 1
    if snd.flags & FIN_SEEN and seq_lt(snd.fin, seq + length):
        if snd.facts & FIN_ACKED or rcv.facts & FIN_RECEIVED:
            anomalies[A_AFTER_FIN] += 1
            return outcome & ~PAYLOAD_OK
        snd.flags &= ~<uint16_t> FIN_SEEN          # nobody had taken that FIN, and it was not the end
        snd.facts &= ~<uint8_t> FIN_SENT
    if packet.flags & FIN:
        if is_its_fin(snd, end):
            on_fin(snd, rcv, packet)
        else:
            anomalies[A_AFTER_FIN] += 1            # what it carries is as good as any other segment's
    if seq_lt(snd.nxt, end):
        snd.nxt = end
    elif is_before_its_start(flow, snd, rcv, end):
        return outcome & ~PAYLOAD_OK | EARLY
    return outcome


cdef inline bint is_before_its_start(const FlowRecord* flow, const HalfRecord* snd, const HalfRecord* rcv,
                                     uint32_t end) noexcept nogil:
    """Does a segment lie before what its sender was taken to begin with: what the client's first acknowledgement told?

    The client may have acknowledged more by then than the SYN-ACK, where the capture shows the server's side late.
    """
    return rcv.flags & ISS_KNOWN and not snd.flags & ISS_KNOWN and not flow.flags & MIDSTREAM and (
        seq_leq(end, snd.iss + 1))


cdef int comes_too_early(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet, uint32_t end,
                         uint64_t* anomalies) noexcept nogil:
    """Refuse a segment of a synchronised state to an end that cannot be in one, as far as the capture shows.

    Returns what is to be done about it, -1 if it is not refused.
    """
    if not rcv.flags & ISS_KNOWN:
        return -1
    if not snd.flags & SEQ_KNOWN:
        # RFC 9293 section 3.10.7.3: in SYN-SENT nothing is taken but a SYN or a RST. If the capture lacks the SYN-ACK,
        # its receiver's own acknowledgement will tell where this end begins.
        anomalies[A_BEFORE_SYNACK] += 1
        if not answers_syn(flow, snd, rcv, packet):
            refuse(flow, snd, packet)
            if not 0 < seq_diff(packet.ack, rcv.nxt) <= LATE_SYN_WINDOW:
                return 0
            doubt_ack(rcv, packet.ack)
        if packet.flags & FIN and not snd.flags & DOUBTED:
            snd.fin = end
            snd.flags |= DOUBTED | DOUBTED_FIN
        return EARLY                               # captured before its SYN-ACK, or a stranger's
    if not snd.flags & ISS_KNOWN or rcv.facts & SYN_ACKED:
        return -1
    # RFC 9293 section 3.10.7.4: in SYN-RECEIVED a segment lies behind the SYN, and acknowledges what was sent.
    if seq_leq(packet.seq, snd.iss) and seq_leq(end, snd.iss + 1):
        anomalies[A_OUT_OF_WINDOW] += 1
        return 0
    if not (seq_lt(rcv.iss, packet.ack) and seq_leq(packet.ack, rcv.nxt)) and not (
            flow.flags & OTHER_SYNACK and packet.ack == flow.resync):
        if 0 < seq_diff(packet.ack, rcv.nxt) <= allowance(snd) and 0 <= seq_diff(end, snd.una) <= allowance(rcv):
            anomalies[A_ACK_UNSEEN] += 1
            doubt_segment(snd, packet, end)
            doubt_ack(rcv, packet.ack)
            return EARLY                           # the capture lacks the handshake's last segment, or a stranger's
        anomalies[A_BAD_ACK] += 1
        return 0
    return -1


cdef void doubt_segment(HalfRecord* snd, const PacketRecord* packet, uint32_t end) noexcept nogil:
    """Note where what an end says would end, until its peer acknowledges it: confirm_early()."""
    cdef uint32_t beyond = snd.nxt if not snd.flags & DOUBTED or snd.flags & DOUBTED_ACK else snd.fin
    if seq_lt(beyond, end):
        snd.fin = end
        snd.flags = snd.flags & ~<uint16_t> JUMP | DOUBTED | (DOUBTED_FIN if packet.flags & FIN else 0)


cdef bint too_old(const FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet) noexcept nogil:
    """PAWS (RFC 7323 section 5.3), where both ends have agreed to timestamps as far as is known.

    As Linux has it (tcp_paws_check()): a TS.Recent of 0 is none, and one tick is forgiven, since of what two processors
    send at the turn of a tick the later may come first.
    """
    if not packet.options & OPT_TIMESTAMP or (rcv.flags & ISS_KNOWN and not rcv.flags & TIMESTAMPS):
        return False
    if not snd.flags & TIMESTAMPS:
        if not snd.flags & ISS_KNOWN:              # pick-up: learn that it uses them
            snd.flags |= TIMESTAMPS
            snd.ts_recent = packet.tsval
        return False
    if not seq_lt(packet.tsval, snd.ts_recent - PAWS_TICKS) or not snd.ts_recent:
        return False
    if packet.time_ns - flow.last_ns < PAWS_IDLE_NS:
        return True
    snd.ts_recent = rcv.ts_recent = 0              # section 5.5: neither end's is a measure any more
    return False


cdef int64_t allowance(const HalfRecord* rcv) noexcept nogil:
    """Bytes a sender may have beyond the acknowledgements seen: the window, and one more for those not seen yet."""
    cdef uint64_t window = rcv.max_wnd
    if not rcv.flags & SCALE_KNOWN:
        window <<= 14
    return <int64_t> (2 * window if 2 * window < MOST_WINDOW else MOST_WINDOW)


cdef bint in_window(const HalfRecord* snd, const HalfRecord* rcv, uint32_t end) noexcept nogil:
    """RFC 9293 section 3.10.7.4, first check; where the capture does not tell the window, a guess.

    A segment far below it is refused as well: no retransmission is that old, so its FIN, timestamp or
    acknowledgement would be a stranger's.
    """
    cdef int64_t ahead = seq_diff(end, snd.una)
    if not (rcv.flags & WINDOW_KNOWN and snd.flags & ACK_SEEN):
        if is_first_flight(snd, rcv):
            return ahead >= -allowance(rcv) and seq_diff(end, snd.nxt) <= allowance(rcv)
        return -MOST_WINDOW <= seq_diff(end, snd.nxt) <= UNMEASURED
    return -allowance(rcv) <= ahead <= allowance(rcv)


cdef inline bint is_first_flight(const HalfRecord* snd, const HalfRecord* rcv) noexcept nogil:
    """Has an end said no more behind its SYN, which nothing has acknowledged, than the window of its peer's SYN?"""
    return rcv.flags & snd.flags & ISS_KNOWN and rcv.flags & WINDOW_KNOWN and snd.una == snd.iss and (
        seq_diff(snd.nxt, snd.una) <= allowance(rcv))


cdef int64_t reach(const HalfRecord* rcv) noexcept nogil:
    """How far from each other segments of the same jump, and their acknowledgements, may be."""
    if not rcv.flags & WINDOW_KNOWN:
        return UNMEASURED
    return max(65535, min(allowance(rcv), <int64_t> MOST_REACH))


cdef bint believe_jump(HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet) noexcept nogil:
    """Judge a segment beyond the window.

    Much of a connection may be missing from a capture. A jump is believed when both ends tell of it: the segment,
    and an acknowledgement near it, whichever was captured first. If nothing else is seen in between, it is believed as
    well when segments keep going on from there. No jump is wider than a window can be: beyond it there is no order.
    """
    cdef uint32_t end = packet.seq + packet.payload_len + (packet.flags & FIN)
    if snd.flags & FIN_SEEN or not 0 < seq_diff(end, snd.nxt) <= MOST_WINDOW:
        return False
    if not doubted_near(snd, rcv, packet.seq):
        snd.doubts = 0
    elif snd.flags & DOUBTED_ACK:
        snd.una = snd.fin
        snd.nxt = seq_max(snd.nxt, snd.una)
        snd.flags &= ~<uint16_t> JUMP
        return True
    snd.doubts += 1
    if snd.doubts >= BELIEVED_DOUBTS:
        snd.flags &= ~<uint16_t> (JUMP | ACK_SEEN)     # the acknowledgements seen are no measure any more
        return True
    snd.fin = end
    snd.flags = snd.flags & ~<uint16_t> JUMP | DOUBTED | (DOUBTED_FIN if packet.flags & FIN else 0)
    return False


cdef bint believe_ack(HalfRecord* snd, HalfRecord* rcv, uint32_t ack) noexcept nogil:
    """Judge an acknowledgement beyond what its sender's window allows: has *rcv*, whose bytes it is about, jumped?"""
    if rcv.flags & FIN_SEEN or not 0 < seq_diff(ack, rcv.nxt) <= MOST_WINDOW:
        return False
    if not doubted_near(rcv, snd, ack):
        rcv.doubts = 0
    elif not rcv.flags & DOUBTED_ACK:
        if rcv.flags & DOUBTED_FIN and ack == rcv.fin:
            rcv.fin = ack - 1
            rcv.flags |= FIN_SEEN
        rcv.flags &= ~<uint16_t> JUMP
        return True
    rcv.doubts += 1
    if rcv.doubts >= BELIEVED_DOUBTS:
        rcv.flags &= ~<uint16_t> JUMP
        return True
    rcv.fin = ack
    rcv.flags = rcv.flags & ~<uint16_t> JUMP | DOUBTED | DOUBTED_ACK
    return False


cdef bint doubted_near(const HalfRecord* half, const HalfRecord* peer, uint32_t seq) noexcept nogil:
    """Is a number near where the half is doubted to have jumped to?"""
    cdef int64_t apart = seq_diff(seq, half.fin)
    return half.flags & DOUBTED and -reach(peer) <= apart <= reach(peer)


cdef int on_ack(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                uint64_t* anomalies) noexcept nogil:
    """RFC 9293 section 3.10.7.4, fifth check; -1 when the segment is to be ignored for its acknowledgement."""
    cdef uint32_t ack = packet.ack
    cdef int32_t ahead
    cdef int outcome = 0
    if not rcv.flags & SEQ_KNOWN:
        if snd.flags & ISS_KNOWN and not 0 <= seq_diff(packet.seq, snd.una) <= MOST_WINDOW:
            return -1                              # of an earlier connection
        adopt(rcv, ack)
        rcv.flags |= ACK_SEEN
    elif begins_elsewhere(flow, snd, rcv, ack):
        outcome |= REBASED
    ahead = seq_diff(ack, rcv.una)
    if ahead < 0:
        # RFC 5961 section 5.2: older than any acknowledgement that can still be on its way.
        if -<int64_t> ahead <= allowance(snd) or not snd.flags & WINDOW_KNOWN:
            return outcome
        if rcv.packets or rcv.flags & ISS_KNOWN:
            return -1
        adopt(rcv, ack)                            # one acknowledgement against another, and nothing of that end
        return outcome | REBASED
    if ahead > 0:
        if seq_lt(rcv.nxt, ack):
            if rcv.flags & FIN_SEEN:
                return -1                          # nothing lies behind a FIN
            if confirm_early(rcv, snd, ack):
                pass
            elif seq_diff(ack, rcv.nxt) <= acknowledgeable(snd, rcv):
                anomalies[A_ACK_UNSEEN] += 1
                if rcv.flags & DOUBTED_ACK:        # its sender says this now
                    rcv.flags &= ~<uint16_t> JUMP
            elif not (rcv.packets or rcv.flags & ISS_KNOWN):
                adopt(rcv, ack)                    # as above
                outcome |= REBASED
            elif believe_ack(snd, rcv, ack):
                outcome |= RESYNC
            else:
                return -1
            rcv.nxt = ack
            outcome |= ACK_AHEAD
            if not rcv.flags & (DOUBTED | FIN_SEEN):
                rcv.fin = ack                      # what lies before it may have been a FIN
        rcv.una = ack
        rcv.flags |= ACK_SEEN
        outcome |= ACK_MOVED
        if rcv.flags & ISS_KNOWN:
            rcv.facts |= SYN_ACKED
        if rcv.flags & FIN_SEEN and seq_lt(rcv.fin, ack):
            rcv.facts |= FIN_SENT | FIN_ACKED
            receive_fin(snd)
    if ahead == 0 and seq_lt(packet.seq + packet.payload_len, snd.nxt):
        return outcome                             # overtaken on its way: its window is not the latest (SND.WL1)
    if not window_is_known(packet):
        return outcome
    snd.wnd = <uint32_t> packet.window << scale(snd, rcv)
    if snd.wnd > snd.max_wnd:
        snd.max_wnd = snd.wnd
    snd.flags |= WINDOW_KNOWN
    return outcome


cdef inline int64_t acknowledgeable(const HalfRecord* snd, const HalfRecord* rcv) noexcept nogil:
    """How far beyond what was captured of its peer an end is believed to have had bytes of that, without a doubt."""
    if snd.flags & WINDOW_KNOWN and (snd.flags & SCALE_KNOWN or not rcv.flags & ISS_KNOWN):
        return allowance(snd)
    if not rcv.flags & ISS_KNOWN:
        return MOST_WINDOW
    if snd.flags & WINDOW_KNOWN and rcv.flags & SCALE_KNOWN and not rcv.flags & OFFERS_SCALE:
        return 2 * <int64_t> snd.max_wnd           # its peer's SYN says that it has no scale
    return UNMEASURED


cdef bint begins_elsewhere(FlowRecord* flow, HalfRecord* snd, HalfRecord* rcv, uint32_t ack) noexcept nogil:
    """Put right where a half begins, if an acknowledgement shows that it was taken wrongly."""
    if flow.flags & OTHER_SYNACK and ack == flow.resync:
        if rcv.una == rcv.iss:
            rcv.iss = rcv.una = ack - 1            # the client took the other SYN-ACK
            rcv.nxt = ack
            return True
        if is_unheard(rcv, snd):                   # the client took that SYN-ACK: what it said before, a stranger said
            forget_early(snd, rcv)
            snd.una = snd.iss + 1
            adopt(rcv, ack)
            flow.flags &= ~<uint16_t> OTHER_SYNACK
            return True
    if (flow.flags & MIDSTREAM and not rcv.flags & ISS_KNOWN and rcv.packets == 1 and rcv.una == rcv.nxt
            and ack == rcv.nxt + 1):
        adopt(rcv, ack)                            # picked up at a keep-alive, which stands one byte back
        return True
    return False


cdef void infer_handshake(HalfRecord* snd, HalfRecord* rcv) noexcept nogil:
    """Conclude from a segment of a synchronised state what the capture did not show of the opening."""
    if not snd.facts & SYN_RECEIVED or not rcv.facts & SYN_SENT:
        # The sender has had its peer's SYN, and the acknowledgement of its own with it.
        snd.facts |= SYNCHRONISED
        rcv.facts |= SYN_SENT | SYN_RECEIVED
    if not snd.facts & SYN_SENT:
        snd.facts |= SYN_SENT
    if not rcv.flags & ISS_KNOWN or seq_lt(rcv.iss, rcv.una):
        rcv.facts |= SYN_ACKED
    if not snd.flags & ISS_KNOWN or not rcv.packets:
        snd.facts |= SYN_ACKED                     # the acknowledgement was on the side not captured


cdef bint is_probe(const HalfRecord* snd, const HalfRecord* rcv, uint32_t seq, uint32_t length,
                   uint64_t* anomalies) noexcept nogil:
    """Keep-alives (RFC 9293 section 3.8.4) and repeated zero-window probes (3.8.6.1) carry nothing new."""
    if length and rcv.wnd == 0 and rcv.flags & WINDOW_KNOWN and seq == snd.una:
        anomalies[A_ZERO_WINDOW_PROBE] += 1
        return seq != snd.nxt
    if seq == snd.nxt - 1 and (length == 0 or snd.una == snd.nxt) and not snd.flags & FIN_SEEN:
        anomalies[A_KEEP_ALIVE] += 1
        return True
    return False


# --- closing --------------------------------------------------------------------------------------

cdef void receive_fin(HalfRecord* half) noexcept nogil:
    if not half.facts & FIN_RECEIVED:
        half.facts |= FIN_RECEIVED
        if not half.facts & FIN_SENT:
            half.facts |= PASSIVE_CLOSE


cdef bint is_its_fin(const HalfRecord* snd, uint32_t end) noexcept nogil:
    """A new FIN where something else was sent already is not its sender's.

    What nothing has shown so far but its acknowledgement, or one that its sender sent behind it, may have been it.
    """
    if seq_lt(snd.nxt, end):
        return True
    return end == snd.fin + 1 if snd.flags & FIN_SEEN else end == snd.nxt and end == snd.fin and not snd.flags & DOUBTED


cdef void on_fin(HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet) noexcept nogil:
    """A FIN is a position in the stream; its receiver has it once all before it has arrived."""
    if not snd.flags & FIN_SEEN:
        if snd.flags & DOUBTED_ACK and snd.fin == packet.seq + packet.payload_len + 1:
            snd.una = snd.fin                      # its peer had acknowledged it before the SYN-ACK was captured
            snd.flags |= ACK_SEEN
        snd.fin = packet.seq + packet.payload_len
        snd.flags = snd.flags & ~<uint16_t> JUMP | FIN_SEEN
        snd.facts |= FIN_SENT
        if snd.facts & PASSIVE_CLOSE and rcv.flags & FIN_SEEN and seq_leq(packet.ack, rcv.fin):
            # It closed before it had its peer's FIN: both closed at once (RFC 9293 section 3.6, case 3).
            snd.facts &= ~<uint8_t> PASSIVE_CLOSE
    if seq_leq(packet.seq, snd.nxt):
        receive_fin(rcv)
    if seq_lt(snd.fin, snd.una):                   # acknowledged before it was captured
        snd.facts |= FIN_ACKED
        receive_fin(rcv)


cdef int on_reset(FlowRecord* flow, int side, HalfRecord* snd, HalfRecord* rcv, const PacketRecord* packet,
                  uint64_t* anomalies) noexcept nogil:
    if flow.flags & CLOSED:
        return 0
    if rcv.flags & REFUSED and not rcv.flags & SEQ_KNOWN and packet.seq == flow.resync:
        return 0                                   # its answer to what it refused: it remains in SYN-SENT
    if not reset_acceptable(flow, snd, rcv, packet):
        anomalies[A_BAD_RESET] += 1
        return 0
    snd.facts |= RESET
    rcv.facts |= RESET
    flow.flags |= CLOSED
    flow.reason = REASON_RST
    if side == SERVER:
        flow.flags |= RESET_BY_SERVER
    return CLOSED_NOW


cdef bint reset_acceptable(const FlowRecord* flow, const HalfRecord* snd, const HalfRecord* rcv,
                           const PacketRecord* packet) noexcept nogil:
    """Would the receiver believe this RST?

    In SYN-SENT it must acknowledge the SYN (RFC 9293 section 3.10.7.3). Later it must stand exactly at
    RCV.NXT (RFC 5961 section 3.2): where its last acknowledgement was, if something is missing behind that, else behind
    all that was sent. Without acknowledgements it may be anywhere between.
    """
    if rcv.flags & ISS_KNOWN and not snd.flags & SEQ_KNOWN:
        return packet.flags & ACK and answers_syn(flow, snd, rcv, packet)
    if not snd.flags & SEQ_KNOWN:
        return True
    if snd.una == packet.seq and not snd.facts & SYN_ACKED and snd.flags & ISS_KNOWN:
        return not rcv.flags & SEQ_KNOWN           # where its SYN stood: who has had that expects the next number
    if snd.flags & FIN_SEEN and packet.seq == snd.fin:
        return True                                # as macOS numbers it after its FIN, and Linux has it
    if snd.flags & ACK_SEEN:
        return packet.seq == snd.una or packet.seq == snd.nxt
    return seq_leq(snd.una, packet.seq) and seq_leq(packet.seq, snd.nxt)
