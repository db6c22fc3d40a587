"""A segment's way through its flow: both ends brought up to date, bytes ordered, events raised, in that order."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from aiomos.engine.admission cimport confirms, doubt_syn, first_packet, join_flow, open_flow, recall_syn
from aiomos.engine.core cimport Core, Decoded, WHAT_MALFORMED, signal_flow
from aiomos.engine.lifetimes cimport after_segment, end_flow, flow_deadline, hole_due, leave_half_open, next_look
from aiomos.engine.raising cimport (
    Before,
    MERGE_EVENTS,
    NOTED_EVENTS,
    PACKET_EVENTS,
    START_EVENTS,
    is_awaited,
    monitor_watched,
    raise_error,
    raise_event,
    raise_incidents,
    raise_merge,
    raise_receiver,
    raise_sender,
    raise_unbound,
    unsee,
)
from aiomos.engine.watching cimport come_about, signal_data, signal_disturbed
from aiomos.tcp.copies cimport is_copy, is_missing_byte, remember
from aiomos.tcp.doubts cimport (
    early_acked,
    early_base,
    forget_doubted,
    track_apart,
    track_before,
    track_doubt,
    track_early,
    track_resume,
    track_unplaced,
)
from aiomos.tcp.flows cimport (
    CLIENT_IS_LOW,
    DROPPED,
    ENDED,
    FlowRecord,
    HALF_OPEN,
    HalfRecord,
    ISS_KNOWN,
    MIDSTREAM,
    OPEN,
    PendingSyn,
    REASON_DROPPED,
    REASON_TIMEOUT,
    RESETTING,
    SEQ_KNOWN,
    TO_CONNECT,
    flow_index,
    flows_find,
    flows_link,
    key_hash,
    make_key,
    side_of,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport (
    ACK_AHEAD,
    ACK_MOVED,
    CLOSED_NOW,
    DOUBT,
    EARLY,
    JOINED,
    KEEP_ALIVE,
    PAYLOAD_OK,
    REBASED,
    REOPEN,
    RESTARTED,
    RESYNC,
    SETUP,
    SYN_DOUBTED,
    monitor_segment,
    reach,
)
from aiomos.tcp.progress cimport track_acked, track_tick
from aiomos.tcp.reassembly cimport track_copied, track_payload, track_urgent
from aiomos.tcp.rtt cimport tracks_set_up
from aiomos.tcp.tracks cimport BASED, HELD_EARLY, HOLED, Track, offset_of, track_at, track_base
from aiomos.tcp.retransmissions cimport track_acked_again
from aiomos.ude.rules cimport rules_interest
from aiomos.ude.slots cimport SLOT_ORPHAN, SLOT_OUT, SLOT_PKT, SLOT_SETUP
from aiomos.wire.numbers cimport PROTO_TCP
from aiomos.wire.pool cimport pool_at
from aiomos.wire.wire cimport ACK, FIN, PacketRecord, RST, SYN, URG

cdef enum:
    TRACKS_TURN = JOINED | RESTARTED | REBASED | RESYNC | DOUBT | EARLY | KEEP_ALIVE


cdef int take_segment(Core core, Decoded* decoded) except -1 nogil:
    cdef const PacketRecord* packet = &decoded.packet
    cdef FlowRecord* flow = flows_find(&core.flows, &decoded.key, decoded.hash)
    cdef FlowRecord* old
    cdef bint wired = core.outlet.may_send
    if flow == NULL:
        first_packet(core, decoded, &flow)
    elif flow.pending and confirms(&core.flows, flow, packet, decoded.from_low):
        old, flow = flow, NULL
        replace_flow(core, old, decoded, &flow)
    if flow == NULL:
        return raise_unbound(core, SLOT_ORPHAN, decoded)
    if wired and is_cut(core, flow, decoded):
        return 0
    if process_segment(core, flow, side_of(flow, decoded.from_low), packet):
        end_flow(core, flow, OPEN)
        return take_segment(core, decoded)         # finds no flow now, so it does not come here again
    if (wired and core.line.hand.dropped and not flow.flags & ENDED
            and flow.halves[0].packets + flow.halves[1].packets == 1):
        return end_flow(core, flow, REASON_DROPPED)  # it was refused: its opener's next try is a new flow
    return 0


cdef bint is_cut(Core core, FlowRecord* flow, Decoded* decoded) except -1 nogil:
    """Take note of the flow of the segment in hand; is it one that apps have cut off?"""
    cdef uint32_t number = flow_index(&core.flows, flow)
    cdef int side = side_of(flow, decoded.from_low)
    if core.line.hand.dropped:                          # with the SYN that it confirms
        end_flow(core, flow, REASON_DROPPED)
        return True
    if flow.flags & RESETTING and decoded.packet.flags & (SYN | ACK | RST) == SYN:
        end_flow(core, flow, OPEN)                 # a new connection on the same ports
        take_segment(core, decoded)
        return True
    if core.outlet.forwards and not flow.flags & (DROPPED | RESETTING):
        if rules_interest(&core.rules, flow).edits:
            core.line.ordering.prepare(flow, number, side)
        if core.line.ordering.wait(flow, number, side):
            flow.last_ns = max(flow.last_ns, decoded.packet.time_ns)
            return True
    core.line.paths.flow_met(flow, number, side, &decoded.packet)
    if not core.line.paths.cut_off(flow, number, side, &decoded.packet):
        return False
    flow.halves[side].packets += 1
    flow.last_ns = max(flow.last_ns, decoded.packet.time_ns)
    return True


cdef int process_segment(Core core, FlowRecord* flow, int side, const PacketRecord* packet) except -1 nogil:
    """A segment's way through its flow; 1 if it opens a new connection, which makes the flow an old one."""
    cdef uint32_t before_nxt = flow.halves[side].nxt if flow.halves[side].flags & SEQ_KNOWN else packet.seq
    cdef uint32_t watched = rules_interest(&core.rules, flow).events & (
        PACKET_EVENTS | (START_EVENTS if packet.flags & SYN else 0))
    cdef Before before
    cdef int outcome
    if watched & NOTED_EVENTS or packet.flags & SYN:       # which may yet bring watchers
        outcome = monitor_watched(core, flow, side, packet, &before)
    else:
        outcome = monitor_segment(flow, side, packet, core.anomalies)
    if outcome & (REOPEN | SYN_DOUBTED):
        if outcome & REOPEN:
            flow.halves[side].packets -= 1
            return 1
        doubt_syn(core, flow, side, packet)
    if not outcome & PAYLOAD_OK and core.outlet.may_send and packet.payload_len:
        core.line.ordering.doubt()
    if packet.time_ns > flow.last_ns:
        flow.last_ns = packet.time_ns
    if outcome & (JOINED | RESTARTED | REBASED):
        before_nxt = packet.seq
        if outcome & JOINED:
            flow.flags &= ~<uint16_t> MIDSTREAM
            join_flow(core, flow)
            watched = rules_interest(&core.rules, flow).events & (PACKET_EVENTS | START_EVENTS)
    if watched & NOTED_EVENTS:
        raise_sender(core, flow, side, packet, &before)
        if core.line.hand.dropped:
            unsee(core, flow, side, &before)
        if core.line.hand.dropped or flow.flags & DROPPED:
            return 0
    if watched & MERGE_EVENTS and flow.halves[0].track:
        raise_merge(core, flow, side, packet, outcome, before_nxt)
        if flow.flags & DROPPED:                   # its streams have ended
            return 0
    if flow.halves[0].track:
        follow_bytes(core, flow, side, packet, outcome, before_nxt)
    if watched == 1 << SLOT_PKT:
        if is_awaited(core, SLOT_PKT, flow, packet):  # in line, as most often nobody does
            raise_event(core, SLOT_PKT, flow, side, packet)
    elif watched:
        raise_receiver(core, flow, side, packet, &before, watched)
    if outcome & SETUP:
        if flow.halves[0].track:
            tracks_set_up(track_at(&core.streams, flow.halves[0].track),
                          track_at(&core.streams, flow.halves[1].track))
        raise_event(core, SLOT_SETUP, flow, side, packet)
    if watched >> SLOT_OUT & 1:
        raise_event(core, SLOT_OUT, flow, side, packet)
    if flow.flags & DROPPED:                       # meanwhile
        return 0
    if flow.flags & (HALF_OPEN | TO_CONNECT) and flow.flags & FLOW_ESTABLISHED:
        if flow.halves[1 - side].packets:
            leave_half_open(core, flow)
        if flow.flags & TO_CONNECT:
            come_about(core, flow)
    if outcome & (SETUP | CLOSED_NOW) or packet.flags & FIN:
        after_segment(core, flow, packet, outcome)
    return 0


cdef int follow_bytes(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int outcome,
                      uint32_t before_nxt) except -1 nogil:
    cdef HalfRecord* snd = &flow.halves[side]
    cdef HalfRecord* rcv = &flow.halves[1 - side]
    cdef Track* sent = track_at(&core.streams, snd.track)
    cdef Track* received = track_at(&core.streams, rcv.track)
    if outcome & TRACKS_TURN or not sent.flags & received.flags & BASED:
        outcome = turn_tracks(core, flow, side, packet, outcome)
    if outcome & ACK_MOVED:
        track_acked(&core.streams, received, rcv, packet.time_ns)
        if outcome & ACK_AHEAD:
            received.nxt_ns = packet.time_ns
    if packet.flags & URG and core.rules.urgent_out and outcome & PAYLOAD_OK:
        track_urgent(sent, packet)
    if packet.payload_len or packet.flags & (SYN | FIN):
        track_payload(&core.streams, sent, snd, packet, flow.overlap,
                      (outcome & PAYLOAD_OK) != 0, before_nxt)
    elif not outcome & ACK_MOVED:
        if is_copy(sent, packet):
            track_copied(&core.streams, sent, packet)
        elif is_pure_ack(packet) and rcv.una != rcv.nxt and packet.ack == rcv.una:
            track_acked_again(received, rcv, packet)
    remember(sent, packet)
    if (sent.flags | received.flags) & HOLED:
        attend_holes(core, flow, side, packet.time_ns)
    if core.streams.incident_count:
        raise_incidents(core, flow, packet)
        return signal_data(core, flow) if flow.halves[0].track else 0  # those told may have wanted no more
    return signal_flow(core, flow) if sent.out_head or received.out_head else 0


cdef int turn_tracks(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int outcome) noexcept nogil:
    """What a segment says of where the streams are, before its bytes are looked at; returns what remains of it."""
    cdef HalfRecord* snd = &flow.halves[side]
    cdef HalfRecord* rcv = &flow.halves[1 - side]
    cdef Track* sent = track_at(&core.streams, snd.track)
    cdef Track* received = track_at(&core.streams, rcv.track)
    cdef bint goes_on = received.flags & BASED
    if not sent.flags & BASED or outcome & (JOINED | RESTARTED):
        if packet.flags & (SYN | ACK) == SYN and sent.flags & HELD_EARLY:
            forget_doubted(&core.streams, sent)    # said behind another SYN
        if sent.flags & HELD_EARLY:
            early_base(&core.streams, sent, snd)
        else:
            track_base(sent, snd)
    if not received.flags & BASED or outcome & REBASED:
        if received.flags & HELD_EARLY:
            early_base(&core.streams, received, rcv)
        else:
            track_base(received, rcv)
        if received.flags & BASED:
            received.nxt_ns = packet.time_ns
            if received.flags & HELD_EARLY:
                early_acked(&core.streams, received, rcv, offset_of(received, rcv.una), packet.time_ns)
        if rcv.packets and sent.flags & HELD_EARLY:
            forget_doubted(&core.streams, sent)    # said behind another SYN-ACK than the one that was taken
    if outcome & RESYNC:
        track_resume(&core.streams, sent, snd, flow.overlap, reach(rcv), packet.time_ns)
        track_resume(&core.streams, received, rcv, flow.overlap, reach(snd), packet.time_ns)
    elif outcome & DOUBT:
        track_doubt(&core.streams, sent, snd, packet)
    if outcome & KEEP_ALIVE and is_missing_byte(sent, packet):  # it but looked like one
        return outcome & ~KEEP_ALIVE | PAYLOAD_OK
    if not outcome & EARLY or core.outlet.forwards:
        return outcome
    if not sent.flags & BASED:
        track_unplaced(&core.streams, sent, snd, packet)
    elif not outcome & PAYLOAD_OK and not snd.flags & ISS_KNOWN:
        track_before(&core.streams, sent, snd, packet)
    elif not outcome & PAYLOAD_OK:
        track_apart(&core.streams, sent, snd, packet)
    elif track_early(&core.streams, sent, snd, packet, goes_on):
        flows_link(&core.flows, flow, next_look(core, flow))
        return outcome & ~PAYLOAD_OK
    return outcome


cdef int attend_holes(Core core, FlowRecord* flow, int first, int64_t now_ns) except -1 nogil:
    """Give up the holes whose time has come, of one half first, and look again when that of the others comes."""
    cdef int64_t due = hole_due(core, flow)
    cdef int side, i
    if due <= now_ns:
        for i in range(2):
            side = first ^ i
            track_tick(&core.streams, track_at(&core.streams, flow.halves[side].track), &flow.halves[side], now_ns)
        due = hole_due(core, flow)
    flows_link(&core.flows, flow, min(due, flow_deadline(core, flow)))
    if core.streams.disturbed:
        signal_disturbed(core)
    return 0


cdef int on_malformed(Core core, Decoded* decoded) except -1 nogil:
    """A broken packet whose flow can still be told."""
    cdef FlowRecord* flow
    if decoded.packet.transport == NULL or decoded.packet.proto != PROTO_TCP:
        return 0
    decoded.from_low = make_key(&decoded.packet, &decoded.key)
    flow = flows_find(&core.flows, &decoded.key, key_hash(&core.flows, &decoded.key, decoded.packet.tunnel))
    if flow != NULL:
        return raise_error(core, flow, side_of(flow, decoded.from_low), &decoded.packet,
                           WHAT_MALFORMED + decoded.kind, 0, 0)
    return 0


cdef int replace_flow(Core core, FlowRecord* old, Decoded* decoded, FlowRecord** flow) except -1 nogil:
    """A doubted SYN has been confirmed: end the old flow and open the new one with it, as by open_flow()."""
    cdef PendingSyn syn = (<PendingSyn*> pool_at(&core.flows.pending, old.pending))[0]
    cdef Decoded opening
    cdef Track* track
    old.halves[syn.side].packets -= syn.count
    if old.halves[syn.side].track and syn.seq == old.halves[syn.side].iss:
        track = track_at(&core.streams, old.halves[syn.side].track)
        track.retransmits -= min(<uint64_t> (syn.count - syn.copies), track.retransmits)
        track.copies -= min(<uint64_t> syn.copies, track.copies)
    if old.last_ns == syn.time_ns:                 # nothing followed it
        old.last_ns = syn.before_ns
    opening.key = decoded.key
    opening.hash = decoded.hash
    opening.from_low = (old.flags & CLIENT_IS_LOW != 0) == (syn.side == 0)
    end_flow(core, old, REASON_TIMEOUT)
    recall_syn(core, &syn, decoded, &opening.packet)
    open_flow(core, &opening, False, opening.from_low, flow)
    if flow[0] == NULL:
        return 0
    process_segment(core, flow[0], 0, &opening.packet)
    flow[0].halves[0].packets = syn.count
    if flow[0].halves[0].track:
        track = track_at(&core.streams, flow[0].halves[0].track)
        track.copies = min(syn.copies, syn.count - 1)
        track.retransmits = syn.count - 1 - track.copies
    return 0


cdef inline bint is_pure_ack(const PacketRecord* packet) noexcept nogil:
    return not packet.payload_len and packet.flags & (ACK | SYN | FIN | RST) == ACK
