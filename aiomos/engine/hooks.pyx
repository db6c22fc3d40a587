"""The hook points of TCP processing: which events a segment raises, and at which moment.

A segment first brings its sender up to date, then its bytes are merged, then its receiver is brought up to date; in
between, those who watch are called. docs/reference/events.md has the order as a table.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from aiomos.engine.callbacks cimport WHAT_CONFLICT, WHAT_GAP, WHAT_MALFORMED, Moment, moment_begin
from aiomos.sealing cimport mark_part
from aiomos.tcp.flows cimport CLIENT, CLOSED, DROPPED, KEEP, MIDSTREAM, RESET_BY_SERVER, SINK, flow_of, make_key
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.holdings cimport track_conflict
from aiomos.tcp.monitor cimport ANOMALIES, JOINED, PAYLOAD_OK, REBASED, RESTARTED, monitor_segment, state_of
from aiomos.tcp.reassembly cimport BASED, Incident, Streams, Track, data_seq, offset_of, track_at
from aiomos.tcp.retransmissions cimport track_judge
from aiomos.ude.rules cimport MAX_SETS, Interest, rules_interest, rules_match_packet
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
from aiomos.wire.wire cimport ACK, FIN, SYN, WIRE_TCP

cdef enum:
    ERRORS = 13                # the first so many anomalies are errors, the others only peculiar
    # What a segment sets in a flow's flags; while its sender alone is up to date, they are as they were.
    VERDICTS = FLOW_ESTABLISHED | CLOSED | RESET_BY_SERVER
    SENDER_EVENTS = 1 << SLOT_PKT_SENDER | 1 << SLOT_START_SENDER | 1 << SLOT_STATE_SENDER


cdef class Hooks(Delivery):
    """What is raised of a segment. Not to be made by itself: `aiomos.engine.engine.Engine` is one."""

    cdef int monitor_watched(self, FlowRecord* flow, int side, const Packet* packet, Before* before) noexcept nogil:
        """monitor_segment(), with a note of what was before and of what the segment did wrong."""
        cdef int outcome, i
        before.receiver = flow.halves[1 - side]
        before.flags = flow.flags
        before.reason = flow.reason
        before.states[0] = state_of(flow.halves[0].facts)
        before.states[1] = state_of(flow.halves[1].facts)
        memset(self.noted, 0, sizeof(self.noted))
        outcome = monitor_segment(flow, side, packet, self.noted)
        for i in range(ANOMALIES):
            self.anomalies[i] += self.noted[i]
        return outcome

    cdef int raise_sender(self, FlowRecord* flow, int side, const Packet* packet, const Before* before) except -1 nogil:
        """The sender's state is new; its receiver is shown as it was."""
        cdef uint32_t events = rules_interest(&self.rules, flow).events
        cdef Half receiver = flow.halves[1 - side]
        cdef uint16_t flags = flow.flags
        cdef uint8_t reason = flow.reason
        cdef int i
        if events & SENDER_EVENTS:
            restore_half(&flow.halves[1 - side], &before.receiver)
            flow.flags = flow.flags & ~<uint16_t> VERDICTS | before.flags & VERDICTS
            flow.reason = before.reason
            self.raise_event(SLOT_PKT_SENDER, flow, side, packet)
            if opens(flow, packet):
                self.raise_event(SLOT_START_SENDER, flow, side, packet)
            if side_changed(flow, side, before):
                self.raise_change(SLOT_STATE_SENDER, flow, side, packet, before)
            if flow.flags & DROPPED:               # those who were told have cut it off
                return 0
            restore_half(&flow.halves[1 - side], &receiver)
            flow.flags = flow.flags & ~<uint16_t> VERDICTS | flags & VERDICTS
            flow.reason = reason
        if events >> SLOT_ERROR & 1:
            for i in range(ERRORS):
                if self.noted[i]:
                    self.raise_error(flow, side, packet, i, 0, 0)
        return 0

    cdef void unsee(self, FlowRecord* flow, int side, const Before* before) noexcept nogil:
        """The segment was dropped once its sender was up to date: its receiver will not see it."""
        if not flow.flags & DROPPED:               # else its books are closed
            restore_half(&flow.halves[1 - side], &before.receiver)
            flow.flags = flow.flags & ~<uint16_t> VERDICTS | before.flags & VERDICTS
            flow.reason = before.reason

    cdef int raise_merge(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                         uint32_t before_nxt) except -1 nogil:
        """Before a segment's bytes are merged: was it sent again, and does it say something else than before?"""
        cdef Half* half = &flow.halves[side]
        cdef Track* track = track_at(&self.streams, half.track)
        cdef Moment m
        cdef uint64_t offset = 0, length = 0
        cdef int64_t start
        cdef int what
        if (not track.flags & BASED or outcome & (JOINED | RESTARTED | REBASED)
                or not (packet.payload_len or packet.flags & (SYN | FIN))):
            return 0
        start = offset_of(track, data_seq(packet))
        what = track_judge(&self.streams, track, half, packet, (outcome & PAYLOAD_OK) != 0, before_nxt)
        if what:
            moment_begin(&m, SLOT_REXMIT, flow, side, packet, packet.time_ns)
            m.what = what
            m.offset = <uint64_t> max(start, 0)
            m.segment_offset = <uint64_t> start    # modulo 2**64: it may lie before the first byte
            m.length = <uint64_t> max(start + packet.payload_len - <int64_t> m.offset, 0)
            self.happen(&m)
        if half.track and outcome & PAYLOAD_OK and track_conflict(
                &self.streams, track_at(&self.streams, half.track), packet, &offset, &length):
            self.raise_error(flow, side, packet, WHAT_CONFLICT, offset, length)
        return 0

    cdef int raise_receiver(self, FlowRecord* flow, int side, const Packet* packet, const Before* before,
                            uint32_t watched) except -1 nogil:
        """Both ends are up to date; *before* is there if any of NOTED_EVENTS is watched."""
        self.raise_event(SLOT_PKT, flow, side, packet)
        if watched & START_EVENTS and opens(flow, packet):
            self.raise_event(SLOT_START, flow, side, packet)
        if watched >> SLOT_STATE & 1:
            if side_changed(flow, side, before):
                self.raise_change(SLOT_STATE, flow, side, packet, before)
            if side_changed(flow, 1 - side, before):
                self.raise_change(SLOT_STATE, flow, 1 - side, packet, before)
        return 0

    cdef int raise_change(self, int slot, FlowRecord* flow, int side, const Packet* packet,
                          const Before* before) except -1 nogil:
        cdef Moment m
        moment_begin(&m, slot, flow, side, packet, packet.time_ns)
        m.before = before.states[side]
        m.after = state_of(flow.halves[side].facts)
        return self.happen(&m)

    cdef int raise_error(self, FlowRecord* flow, int side, const Packet* packet, int what, uint64_t offset,
                         uint64_t length) except -1 nogil:
        cdef Moment m
        moment_begin(&m, SLOT_ERROR, flow, side, packet, packet.time_ns if packet != NULL else self.now_ns)
        m.what = what
        m.offset = offset
        m.length = length
        if what == WHAT_CONFLICT:
            m.segment_offset = segment_offset(&self.streams, flow, side, packet)
        elif what >= WHAT_MALFORMED:
            m.scene.kind = what - WHAT_MALFORMED
        return self.happen(&m)

    cdef int raise_incidents(self, FlowRecord* flow, const Packet* packet) except -1 nogil:
        """Tell of the gaps that the reassembly has just made in a flow's streams, or in others' for its sake."""
        cdef uint32_t count = self.streams.incident_count, i
        cdef Incident incident
        cdef FlowRecord* owner
        self.streams.incident_count = 0
        for i in range(count):
            incident = self.streams.incidents[i]
            owner = flow_of(&self.flows, incident.half)
            self.raise_error(owner, 0 if incident.half == &owner.halves[0] else 1, packet if owner == flow else NULL,
                             WHAT_GAP + incident.reason, incident.offset, incident.length)
        return 0

    cdef int raise_unbound(self, int slot, Decoded* decoded) except -1 nogil:
        """Raise an event of a packet that belongs to no flow, or not yet; its sender counts as the client."""
        cdef const Interest* all_rules = &self.rules.interests[MAX_SETS]
        cdef Moment m
        cdef uint64_t rules
        if not all_rules.events >> slot & 1:
            return 0
        if slot == SLOT_FRAME:                     # it has no ends, only a VLAN
            memset(&decoded.key, 0, sizeof(decoded.key))
            decoded.key.vlan = decoded.packet.vlan
            decoded.from_low = True
        elif decoded.kind != WIRE_TCP:
            decoded.from_low = make_key(&decoded.packet, &decoded.key)
        rules = rules_match_packet(&self.rules, &decoded.key, decoded.from_low, slot)
        if not rules:
            return 0
        moment_begin(&m, slot, NULL, CLIENT, &decoded.packet, decoded.packet.time_ns)
        m.scene.key = &decoded.key
        m.scene.client_is_low = decoded.from_low
        m.scene.kind = decoded.kind
        m.rules = rules
        if all_rules.udes[slot]:
            self.judge(&m, all_rules.udes[slot])
        if all_rules.plain >> slot & 1 or m.fired & all_rules.called[slot]:
            return self.call(&m)
        return 0


cdef inline bint opens(const FlowRecord* flow, const Packet* packet) noexcept nogil:
    """Is this the SYN that began the flow?"""
    return (packet.flags & (SYN | ACK) == SYN and flow.halves[0].packets == 1
            and not flow.flags & MIDSTREAM and flow.halves[0].iss == packet.seq)


cdef inline bint side_changed(const FlowRecord* flow, int side, const Before* before) noexcept nogil:
    return state_of(flow.halves[side].facts) != before.states[side]


cdef void restore_half(Half* half, const Half* values) noexcept nogil:
    """Put an end's TCP state back; how much of its bytes is followed, callbacks may have changed meanwhile."""
    cdef uint32_t track = half.track
    cdef uint16_t followed = half.flags & (SINK | KEEP)
    cdef uint8_t level = half.level
    half[0] = values[0]
    half.track = track
    half.flags = half.flags & ~<uint16_t> (SINK | KEEP) | followed
    half.level = level


cdef uint64_t segment_offset(const Streams* streams, const FlowRecord* flow, int side,
                             const Packet* packet) noexcept nogil:
    """Stream offset of a segment's first byte, modulo 2**64: it may lie before the stream."""
    return <uint64_t> offset_of(track_at(streams, flow.halves[side].track), data_seq(packet))


mark_part(Hooks)
