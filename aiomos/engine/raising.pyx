"""The hook points of TCP processing: which events a segment raises, and at which moment.

A segment first brings its sender up to date, then its bytes are merged, then its receiver is brought up to date; in
between, those who watch are called. docs/reference/events.md has the order as a table.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from aiomos.engine.core cimport Core, Decoded, Moment, WHAT_CONFLICT, WHAT_GAP, WHAT_MALFORMED, call_apps, moment_begin
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT,
    CLIENT_IS_LOW,
    CLOSED,
    DROPPED,
    FlowRecord,
    HalfRecord,
    KEEP,
    MIDSTREAM,
    RESET_BY_SERVER,
    SINK,
    flow_of,
    make_key,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.holdings cimport track_conflict
from aiomos.tcp.monitor cimport ANOMALIES, JOINED, PAYLOAD_OK, REBASED, RESTARTED, monitor_segment, state_of
from aiomos.tcp.tracks cimport BASED, Incident, Streams, Track, data_seq, offset_of, track_at
from aiomos.tcp.retransmissions cimport track_judge
from aiomos.ude.machine cimport predicates_fire
from aiomos.ude.rules cimport Interest, MAX_SETS, rules_interest, rules_match_packet, rules_watching
from aiomos.ude.slots cimport (
    SLOT_ERROR,
    SLOT_FRAME,
    SLOT_PKT,
    SLOT_PKT_SENDER,
    SLOT_REXMIT,
    SLOT_START,
    SLOT_START_SENDER,
    SLOT_STATE,
    SLOT_STATE_SENDER,
)
from aiomos.wire.wire cimport ACK, FIN, PacketRecord, SYN, WIRE_TCP

cdef enum:
    ERRORS = 13                # the first so many anomalies are errors, the others only peculiar
    # What a segment sets in a flow's flags; while its sender alone is up to date, they are as they were.
    VERDICTS = FLOW_ESTABLISHED | CLOSED | RESET_BY_SERVER
    SENDER_EVENTS = 1 << SLOT_PKT_SENDER | 1 << SLOT_START_SENDER | 1 << SLOT_STATE_SENDER


cdef int raise_event(Core core, int slot, FlowRecord* flow, int side, const PacketRecord* packet) except -1 nogil:
    """Raise an event that has no facts of its own."""
    cdef Moment m
    if packet != NULL and not is_awaited(core, slot, flow, packet):
        return 0
    moment_begin(&m, slot, flow, side, packet, packet.time_ns if packet != NULL else core.now_ns)
    return happen(core, &m)


cdef int happen(Core core, Moment* m) except -1 nogil:
    """Judge the user-defined events of a moment, and call whoever waits for what has happened."""
    cdef const Interest* interest = rules_interest(&core.rules, m.flow)
    if not interest.events >> m.slot & 1 or not m.flow.flags & ANNOUNCED:
        return 0
    if interest.udes[m.slot]:
        m.scene.flow = m.flow
        m.scene.key = &m.flow.key
        m.scene.client_is_low = (m.flow.flags & CLIENT_IS_LOW) != 0
        judge_events(core, m, interest.udes[m.slot])
    if interest.plain >> m.slot & 1 or m.fired & interest.called[m.slot]:
        m.rules = rules_watching(&core.rules, m.flow)
        if m.only:
            m.rules &= m.only
        return call_apps(core, m)
    return 0


cdef void judge_events(Core core, Moment* m, uint64_t wanted) noexcept nogil:
    m.scene.streams = &core.streams
    m.fired = predicates_fire(core.programs[m.slot], &m.scene, wanted, &m.unsure) | m.unsure


cdef int monitor_watched(Core core, FlowRecord* flow, int side, const PacketRecord* packet,
                         Before* before) noexcept nogil:
    """monitor_segment(), with a note of what was before and of what the segment did wrong."""
    cdef int outcome, i
    before.receiver = flow.halves[1 - side]
    before.flags = flow.flags
    before.reason = flow.reason
    before.states[0] = state_of(flow.halves[0].facts)
    before.states[1] = state_of(flow.halves[1].facts)
    memset(core.noted, 0, sizeof(core.noted))
    outcome = monitor_segment(flow, side, packet, core.noted)
    for i in range(ANOMALIES):
        core.anomalies[i] += core.noted[i]
    return outcome


cdef int raise_sender(Core core, FlowRecord* flow, int side, const PacketRecord* packet,
                      const Before* before) except -1 nogil:
    """The sender's state is new; its receiver is shown as it was."""
    cdef uint32_t events = rules_interest(&core.rules, flow).events
    cdef HalfRecord receiver = flow.halves[1 - side]
    cdef uint16_t flags = flow.flags
    cdef uint8_t reason = flow.reason
    cdef int i
    if events & SENDER_EVENTS:
        restore_half(&flow.halves[1 - side], &before.receiver)
        flow.flags = flow.flags & ~<uint16_t> VERDICTS | before.flags & VERDICTS
        flow.reason = before.reason
        raise_event(core, SLOT_PKT_SENDER, flow, side, packet)
        if opens(flow, packet):
            raise_event(core, SLOT_START_SENDER, flow, side, packet)
        if side_changed(flow, side, before):
            raise_change(core, SLOT_STATE_SENDER, flow, side, packet, before)
        if flow.flags & DROPPED:                   # those who were told have cut it off
            return 0
        restore_half(&flow.halves[1 - side], &receiver)
        flow.flags = flow.flags & ~<uint16_t> VERDICTS | flags & VERDICTS
        flow.reason = reason
    if events >> SLOT_ERROR & 1:
        for i in range(ERRORS):
            if core.noted[i]:
                raise_error(core, flow, side, packet, i, 0, 0)
    return 0


cdef void unsee(Core core, FlowRecord* flow, int side, const Before* before) noexcept nogil:
    """The segment was dropped once its sender was up to date: its receiver will not see it."""
    if not flow.flags & DROPPED:                   # else its books are closed
        restore_half(&flow.halves[1 - side], &before.receiver)
        flow.flags = flow.flags & ~<uint16_t> VERDICTS | before.flags & VERDICTS
        flow.reason = before.reason


cdef int raise_merge(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int outcome,
                     uint32_t before_nxt) except -1 nogil:
    """Before a segment's bytes are merged: was it sent again, and does it say something else than before?"""
    cdef HalfRecord* half = &flow.halves[side]
    cdef Track* track = track_at(&core.streams, half.track)
    cdef Moment m
    cdef uint64_t offset = 0, length = 0
    cdef int64_t start
    cdef int what
    if (not track.flags & BASED or outcome & (JOINED | RESTARTED | REBASED)
            or not (packet.payload_len or packet.flags & (SYN | FIN))):
        return 0
    start = offset_of(track, data_seq(packet))
    what = track_judge(&core.streams, track, half, packet, (outcome & PAYLOAD_OK) != 0, before_nxt)
    if what:
        moment_begin(&m, SLOT_REXMIT, flow, side, packet, packet.time_ns)
        m.what = what
        m.offset = <uint64_t> max(start, 0)
        m.segment_offset = <uint64_t> start        # modulo 2**64: it may lie before the first byte
        m.length = <uint64_t> max(start + packet.payload_len - <int64_t> m.offset, 0)
        happen(core, &m)
    if half.track and outcome & PAYLOAD_OK and track_conflict(
            &core.streams, track_at(&core.streams, half.track), packet, &offset, &length):
        raise_error(core, flow, side, packet, WHAT_CONFLICT, offset, length)
    return 0


cdef int raise_receiver(Core core, FlowRecord* flow, int side, const PacketRecord* packet, const Before* before,
                        uint32_t watched) except -1 nogil:
    """Both ends are up to date; *before* is there if any of NOTED_EVENTS is watched."""
    raise_event(core, SLOT_PKT, flow, side, packet)
    if watched & START_EVENTS and opens(flow, packet):
        raise_event(core, SLOT_START, flow, side, packet)
    if watched >> SLOT_STATE & 1:
        if side_changed(flow, side, before):
            raise_change(core, SLOT_STATE, flow, side, packet, before)
        if side_changed(flow, 1 - side, before):
            raise_change(core, SLOT_STATE, flow, 1 - side, packet, before)
    return 0


cdef int raise_change(Core core, int slot, FlowRecord* flow, int side, const PacketRecord* packet,
                      const Before* before) except -1 nogil:
    cdef Moment m
    moment_begin(&m, slot, flow, side, packet, packet.time_ns)
    m.before = before.states[side]
    m.after = state_of(flow.halves[side].facts)
    return happen(core, &m)


cdef int raise_error(Core core, FlowRecord* flow, int side, const PacketRecord* packet, int what, uint64_t offset,
                     uint64_t length) except -1 nogil:
    cdef Moment m
    moment_begin(&m, SLOT_ERROR, flow, side, packet, packet.time_ns if packet != NULL else core.now_ns)
    m.what = what
    m.offset = offset
    m.length = length
    if what == WHAT_CONFLICT:
        m.segment_offset = segment_offset(&core.streams, flow, side, packet)
    elif what >= WHAT_MALFORMED:
        m.scene.kind = what - WHAT_MALFORMED
    return happen(core, &m)


cdef int raise_incidents(Core core, FlowRecord* flow, const PacketRecord* packet) except -1 nogil:
    """Tell of the gaps that the reassembly has just made in a flow's streams, or in others' for its sake."""
    cdef uint32_t count = core.streams.incident_count, i
    cdef Incident incident
    cdef FlowRecord* owner
    core.streams.incident_count = 0
    for i in range(count):
        incident = core.streams.incidents[i]
        owner = flow_of(&core.flows, incident.half)
        raise_error(core, owner, 0 if incident.half == &owner.halves[0] else 1, packet if owner == flow else NULL,
                    WHAT_GAP + incident.reason, incident.offset, incident.length)
    return 0


cdef int raise_unbound(Core core, int slot, Decoded* decoded) except -1 nogil:
    """Raise an event of a packet that belongs to no flow, or not yet; its sender counts as the client."""
    cdef const Interest* all_rules = &core.rules.interests[MAX_SETS]
    cdef Moment m
    cdef uint64_t rules
    if not all_rules.events >> slot & 1:
        return 0
    if slot == SLOT_FRAME:                         # it has no ends, only a VLAN
        memset(&decoded.key, 0, sizeof(decoded.key))
        decoded.key.vlan = decoded.packet.vlan
        decoded.from_low = True
    elif decoded.kind != WIRE_TCP:
        decoded.from_low = make_key(&decoded.packet, &decoded.key)
    rules = rules_match_packet(&core.rules, &decoded.key, decoded.from_low, slot)
    if not rules:
        return 0
    moment_begin(&m, slot, NULL, CLIENT, &decoded.packet, decoded.packet.time_ns)
    m.scene.key = &decoded.key
    m.scene.client_is_low = decoded.from_low
    m.scene.kind = decoded.kind
    m.rules = rules
    if all_rules.udes[slot]:
        judge_events(core, &m, all_rules.udes[slot])
    if all_rules.plain >> slot & 1 or m.fired & all_rules.called[slot]:
        return call_apps(core, &m)
    return 0


cdef inline bint opens(const FlowRecord* flow, const PacketRecord* packet) noexcept nogil:
    """Is this the SYN that began the flow?"""
    return (packet.flags & (SYN | ACK) == SYN and flow.halves[0].packets == 1
            and not flow.flags & MIDSTREAM and flow.halves[0].iss == packet.seq)


cdef inline bint side_changed(const FlowRecord* flow, int side, const Before* before) noexcept nogil:
    return state_of(flow.halves[side].facts) != before.states[side]


cdef void restore_half(HalfRecord* half, const HalfRecord* values) noexcept nogil:
    """Put an end's TCP state back; how much of its bytes is followed, callbacks may have changed meanwhile."""
    cdef uint32_t track = half.track
    cdef uint16_t followed = half.flags & (SINK | KEEP)
    cdef uint8_t level = half.level
    half[0] = values[0]
    half.track = track
    half.flags = half.flags & ~<uint16_t> (SINK | KEEP) | followed
    half.level = level


cdef uint64_t segment_offset(const Streams* streams, const FlowRecord* flow, int side,
                             const PacketRecord* packet) noexcept nogil:
    """Stream offset of a segment's first byte, modulo 2**64: it may lie before the stream."""
    return <uint64_t> offset_of(track_at(streams, flow.halves[side].track), data_seq(packet))
