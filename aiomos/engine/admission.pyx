"""Admission: which packets open a flow, and for whom.

A SYN opens one if a filter picks it; other packets where a registration takes connections in mid-stream. A SYN within a
live connection is doubted: it opens the next one once the other end has agreed.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from aiomos.levels cimport STATE_LEVEL, STREAM_LEVEL
from aiomos.sealing cimport mark_part
from aiomos.tcp.copies cimport is_copy
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT_IS_LOW,
    GUESSED_ROLES,
    HALF_OPEN,
    KEEP,
    MIDSTREAM,
    MOST_SYN_HEADERS,
    REASON_EVICTED,
    REASON_TIMEOUT,
    SINK,
    FlowKey,
    flow_at,
    flows_insert,
    flows_link,
    queue_push,
    side_of,
    take_pending,
)
from aiomos.tcp.reassembly cimport Track, track_at
from aiomos.ude.rules cimport Need, rules_count, rules_match, rules_need, rules_watching
from aiomos.wire.pool cimport pool_at
from aiomos.wire.wire cimport ACK, MOST_IP_LENGTH, RST, SYN, decode_ip, decode_options_of


cdef class Admission(Lifetimes):
    """The beginnings of flows. Not to be made by itself: `aiomos.engine.engine.Engine` is one."""

    def __cinit__(self, settings, const uint8_t[::1] key not None, *_others, **_named):
        budgets = settings.budgets
        self.flow_budget = budgets.flows
        self.half_open_budget = min(budgets.half_open, budgets.flows)
        if key.shape[0] != 16:
            raise ValueError(f"the key is 16 bytes, not {key.shape[0]}")
        decode_options_of(settings, &key[0], &self.decode_options)

    cdef int first_packet(self, Decoded* decoded, FlowRecord** flow) except -1 nogil:
        """Open a flow for a packet that belongs to none, if some rule wants it; else it stays NULL."""
        cdef uint32_t control = decoded.packet.flags & (SYN | ACK | RST)
        if control == SYN:
            return self.open_flow(decoded, False, decoded.from_low, flow)
        if control == (SYN | ACK):
            return self.open_flow(decoded, True, not decoded.from_low, flow)
        if not self.rules.midstream:
            self.pass_over(decoded)
            return 0
        return self.open_flow(decoded, True, guess_client_low(&decoded.key, decoded.from_low), flow)

    cdef void pass_over(self, const Decoded* decoded) noexcept nogil:
        """Count a segment of a flow that is not followed: no filter picked its SYN, or that was not captured.

        Two flows may share a bit, so the latter are counted too low rather than claimed wrongly.
        """
        self.orphans += 1
        if not self.unpicked[(decoded.hash % UNPICKED_BITS) >> 6] >> (decoded.hash & 63) & 1:
            self.without_syn += 1

    cdef int open_flow(self, Decoded* decoded, bint midstream, bint client_is_low,
                       FlowRecord** opened) except -1 nogil:
        """Open a flow if a rule wants it; *opened* stays NULL if none does or there is no room.

        It is not returned: the interpreter would have to be asked at each NULL whether that is an error.
        """
        cdef bint joinable = midstream and decoded.packet.flags & SYN
        cdef uint64_t mask = rules_match(&self.rules, &decoded.key, client_is_low, midstream)
        cdef uint64_t wanted = mask if not joinable else rules_match(&self.rules, &decoded.key, client_is_low, False)
        cdef uint32_t index
        cdef FlowRecord* flow
        if not wanted:
            if midstream:
                self.pass_over(decoded)
            else:
                self.unwatched += 1
                self.unpicked[(decoded.hash % UNPICKED_BITS) >> 6] |= <uint64_t> 1 << (decoded.hash & 63)
            return 0
        if self.flows.half_open.count >= self.half_open_budget:
            self.evicted += 1
            self.end_flow(flow_at(&self.flows, self.flows.half_open.head), REASON_EVICTED)
        while self.flows.table.count >= self.flow_budget:
            self.evict()
        index = flows_insert(&self.flows, &decoded.key, decoded.hash)
        if index == 0:
            self.no_memory += 1
            return 0
        flow = opened[0] = flow_at(&self.flows, index)
        if self.wired:
            self.outlet.flow_begun(index)
        rules_count(&self.rules, flow, 1)
        flow.started_ns = flow.last_ns = decoded.packet.time_ns
        flow.flags = (CLIENT_IS_LOW if client_is_low else 0) | HALF_OPEN
        if midstream:
            flow.flags |= MIDSTREAM
            if not joinable:
                flow.flags |= GUESSED_ROLES
        queue_push(&self.flows, &self.flows.half_open, flow)
        flows_link(&self.flows, flow, self.deadline(flow))
        if mask:
            self.watch(flow, mask)
        self.apply_levels(flow, wanted, mask)      # counting begins now, whoever is told of the flow and when
        return 0

    cdef int join(self, FlowRecord* flow) except -1 nogil:
        """The SYN of a connection came after its SYN-ACK: those who do not take pick-ups get it now."""
        cdef bint client_is_low = (flow.flags & CLIENT_IS_LOW) != 0
        cdef uint64_t mask = rules_match(&self.rules, &flow.key, client_is_low, False)
        if flow.flags & ANNOUNCED:                 # those who have seen it may have left, or come to want more
            self.picked_up -= 1
            mask &= ~rules_match(&self.rules, &flow.key, client_is_low, True)
            mask |= rules_watching(&self.rules, flow)
        self.watch(flow, mask)
        self.apply_levels(flow, mask, mask)
        return 0

    cdef void apply_levels(self, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil:
        """Run the flow at the highest level the rules of *mask* need, and open what that takes.

        Those of them that were *told* of the flow get its bytes; for the others, who may yet be, they are kept.
        """
        cdef Need need = rules_need(&self.rules, mask, told)
        cdef bint keep = need.keep or (need.level == STREAM_LEVEL and mask & ~told)
        flow.overlap = need.overlap
        flow.halves[0].level = flow.halves[1].level = need.level
        cdef uint16_t flags = (SINK if need.sink else 0) | (KEEP if keep else 0)
        flow.halves[0].flags |= flags
        flow.halves[1].flags |= flags
        if need.level > STATE_LEVEL and not flow.halves[0].track:
            self.open_tracks(flow)

    # --- SYNs in a live connection --------------------------------------------------------------------

    cdef int process(self, FlowRecord* flow, int side, const Packet* packet) except -1 nogil:
        """Take a segment through its flow; `aiomos.engine.engine.Engine` knows how."""
        return 0

    cdef void doubt_syn(self, FlowRecord* flow, int side, const Packet* packet) noexcept nogil:
        """Remember a SYN in a live connection: both ends may have forgotten the old one."""
        cdef PendingSyn* syn
        cdef bint again = flow.pending != 0
        cdef uint32_t track = flow.halves[side].track
        cdef bint copy = track and is_copy(track_at(&self.streams, track), packet)
        cdef size_t length = <size_t> (packet.transport - packet.network) + packet.header_cap
        if length > MOST_SYN_HEADERS:              # it must do without: no host sends such headers
            return
        if again:
            syn = <PendingSyn*> pool_at(&self.flows.pending, flow.pending)
            if syn.seq == packet.seq and syn.side == side:
                syn.count += 1
                syn.copies += copy
                return
        else:
            syn = take_pending(&self.flows, flow)
        syn.time_ns = packet.time_ns
        syn.before_ns = flow.last_ns
        syn.count = 1
        syn.copies = copy
        syn.seq = packet.seq
        syn.side = <uint8_t> side
        syn.length = <uint16_t> length
        memcpy(syn.headers, packet.network, length)

    cdef int replace(self, FlowRecord* old, Decoded* decoded, FlowRecord** flow) except -1 nogil:
        """A doubted SYN has been confirmed: end the old flow and open the new one with it, as by open_flow()."""
        cdef PendingSyn syn = (<PendingSyn*> pool_at(&self.flows.pending, old.pending))[0]
        cdef Decoded opening
        cdef Track* track
        old.halves[syn.side].packets -= syn.count
        if old.halves[syn.side].track and syn.seq == old.halves[syn.side].iss:
            track = track_at(&self.streams, old.halves[syn.side].track)
            track.retransmits -= min(<uint64_t> (syn.count - syn.copies), track.retransmits)
            track.copies -= min(<uint64_t> syn.copies, track.copies)
        if old.last_ns == syn.time_ns:             # nothing followed it
            old.last_ns = syn.before_ns
        opening.key = decoded.key
        opening.hash = decoded.hash
        opening.from_low = (old.flags & CLIENT_IS_LOW != 0) == (syn.side == 0)
        self.end_flow(old, REASON_TIMEOUT)
        self.recall_syn(&syn, decoded, &opening.packet)
        self.open_flow(&opening, False, opening.from_low, flow)
        if flow[0] == NULL:
            return 0
        self.process(flow[0], 0, &opening.packet)
        flow[0].halves[0].packets = syn.count
        if flow[0].halves[0].track:
            track = track_at(&self.streams, flow[0].halves[0].track)
            track.copies = min(syn.copies, syn.count - 1)
            track.retransmits = syn.count - 1 - track.copies
        return 0

    cdef void recall_syn(self, const PendingSyn* syn, const Decoded* decoded, Packet* packet) noexcept nogil:
        """Read the headers of a SYN again that were kept; data that it may have carried is not there any more."""
        memset(packet, 0, sizeof(Packet))
        packet.time_ns = syn.time_ns
        packet.vlan = decoded.packet.vlan
        packet.tunnel = decoded.packet.tunnel
        packet.transient = True
        decode_ip(syn.headers, syn.length, MOST_IP_LENGTH, &self.decode_options, packet, 0)
        packet.payload_len = packet.payload_cap = 0


cdef bint confirms(const Flows* flows, const FlowRecord* flow, const Packet* packet, bint from_low) noexcept nogil:
    """Does this packet show that the doubted SYN has opened a new connection?

    Its SYN-ACK does, and so does its sender going on from there (one-sided captures).
    """
    cdef const PendingSyn* syn = <const PendingSyn*> pool_at(&flows.pending, flow.pending)
    if packet.flags & RST:
        return False
    if side_of(flow, from_low) == syn.side:
        return (not packet.flags & SYN and packet.flags & ACK and packet.seq == syn.seq + 1
                and not flow.halves[1 - syn.side].packets and packet.seq != flow.halves[syn.side].nxt)
    return packet.flags & SYN and packet.flags & ACK and packet.ack == syn.seq + 1


cdef bint guess_client_low(const FlowKey* key, bint from_low) noexcept nogil:
    """Judge the client of a flow picked up in mid-stream: the end with the ephemeral port, else who spoke first."""
    cdef bint low_known = key.low_port < 1024, high_known = key.high_port < 1024
    if low_known != high_known:
        return high_known
    if key.low_port != key.high_port:
        return key.low_port > key.high_port
    return from_low


mark_part(Admission)
