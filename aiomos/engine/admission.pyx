"""Admission: which packets open a flow, and for whom.

A SYN opens one if a filter picks it; other packets where a registration takes connections in mid-stream. A SYN within a
live connection is doubted: it opens the next one once the other end has agreed.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.engine.core cimport Core, Decoded, UNPICKED_BITS
from aiomos.engine.lifetimes cimport end_flow, evict_flow, flow_deadline
from aiomos.engine.watching cimport open_tracks, watch_flow
from aiomos.levels cimport STATE_LEVEL, STREAM_LEVEL
from aiomos.tcp.copies cimport is_copy
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT_IS_LOW,
    FlowKey,
    FlowRecord,
    Flows,
    GUESSED_ROLES,
    HALF_OPEN,
    KEEP,
    MIDSTREAM,
    MOST_SYN_HEADERS,
    PendingSyn,
    REASON_EVICTED,
    SINK,
    flow_at,
    flows_insert,
    flows_link,
    queue_push,
    side_of,
    take_pending,
)
from aiomos.tcp.tracks cimport track_at
from aiomos.ude.rules cimport Need, rules_count, rules_match, rules_need, rules_watching
from aiomos.wire.pool cimport pool_at
from aiomos.wire.wire cimport ACK, MOST_IP_LENGTH, PacketRecord, RST, SYN, decode_ip


cdef int first_packet(Core core, Decoded* decoded, FlowRecord** flow) except -1 nogil:
    """Open a flow for a packet that belongs to none, if some rule wants it; else it stays NULL."""
    cdef uint32_t control = decoded.packet.flags & (SYN | ACK | RST)
    if control == SYN:
        return open_flow(core, decoded, False, decoded.from_low, flow)
    if control == (SYN | ACK):
        return open_flow(core, decoded, True, not decoded.from_low, flow)
    if not core.rules.midstream:
        pass_over(core, decoded)
        return 0
    return open_flow(core, decoded, True, guess_client_low(&decoded.key, decoded.from_low), flow)


cdef void pass_over(Core core, const Decoded* decoded) noexcept nogil:
    """Count a segment of a flow that is not followed: no filter picked its SYN, or that was not captured.

    Two flows may share a bit, so the latter are counted too low rather than claimed wrongly.
    """
    core.orphans += 1
    if not core.unpicked[(decoded.hash % UNPICKED_BITS) >> 6] >> (decoded.hash & 63) & 1:
        core.without_syn += 1


cdef int open_flow(Core core, Decoded* decoded, bint midstream, bint client_is_low,
                   FlowRecord** opened) except -1 nogil:
    """Open a flow if a rule wants it; *opened* stays NULL if none does or there is no room.

    It is not returned: the interpreter would have to be asked at each NULL whether that is an error.
    """
    cdef bint joinable = midstream and decoded.packet.flags & SYN
    cdef uint64_t mask = rules_match(&core.rules, &decoded.key, client_is_low, midstream)
    cdef uint64_t wanted = mask if not joinable else rules_match(&core.rules, &decoded.key, client_is_low, False)
    cdef uint32_t index
    cdef FlowRecord* flow
    if not wanted:
        if midstream:
            pass_over(core, decoded)
        else:
            core.unwatched += 1
            core.unpicked[(decoded.hash % UNPICKED_BITS) >> 6] |= <uint64_t> 1 << (decoded.hash & 63)
        return 0
    if core.flows.half_open.count >= core.half_open_budget:
        core.evicted += 1
        end_flow(core, flow_at(&core.flows, core.flows.half_open.head), REASON_EVICTED)
    while core.flows.table.count >= core.flow_budget:
        evict_flow(core)
    index = flows_insert(&core.flows, &decoded.key, decoded.hash)
    if index == 0:
        core.no_memory += 1
        return 0
    flow = opened[0] = flow_at(&core.flows, index)
    if core.outlet.may_send:
        core.line.paths.flow_begun(index)
    rules_count(&core.rules, flow, 1)
    flow.started_ns = flow.last_ns = decoded.packet.time_ns
    flow.flags = (CLIENT_IS_LOW if client_is_low else 0) | HALF_OPEN
    if midstream:
        flow.flags |= MIDSTREAM
        if not joinable:
            flow.flags |= GUESSED_ROLES
    queue_push(&core.flows, &core.flows.half_open, flow)
    flows_link(&core.flows, flow, flow_deadline(core, flow))
    if mask:
        watch_flow(core, flow, mask)
    apply_levels(core, flow, wanted, mask)         # counting begins now, whoever is told of the flow and when
    return 0


cdef int join_flow(Core core, FlowRecord* flow) except -1 nogil:
    """The SYN of a connection came after its SYN-ACK: those who do not take pick-ups get it now."""
    cdef bint client_is_low = (flow.flags & CLIENT_IS_LOW) != 0
    cdef uint64_t mask = rules_match(&core.rules, &flow.key, client_is_low, False)
    if flow.flags & ANNOUNCED:                     # those who have seen it may have left, or come to want more
        core.picked_up -= 1
        mask &= ~rules_match(&core.rules, &flow.key, client_is_low, True)
        mask |= rules_watching(&core.rules, flow)
    watch_flow(core, flow, mask)
    apply_levels(core, flow, mask, mask)
    return 0


cdef void apply_levels(Core core, FlowRecord* flow, uint64_t mask, uint64_t told) noexcept nogil:
    """Run the flow at the highest level the rules of *mask* need, and open what that takes.

    Those of them that were *told* of the flow get its bytes; for the others, who may yet be, they are kept.
    """
    cdef Need need = rules_need(&core.rules, mask, told)
    cdef bint keep = need.keep or (need.level == STREAM_LEVEL and mask & ~told)
    flow.overlap = need.overlap
    flow.halves[0].level = flow.halves[1].level = need.level
    cdef uint16_t flags = (SINK if need.sink else 0) | (KEEP if keep else 0)
    flow.halves[0].flags |= flags
    flow.halves[1].flags |= flags
    if need.level > STATE_LEVEL and not flow.halves[0].track:
        open_tracks(core, flow)


cdef void doubt_syn(Core core, FlowRecord* flow, int side, const PacketRecord* packet) noexcept nogil:
    """Remember a SYN in a live connection: both ends may have forgotten the old one."""
    cdef PendingSyn* syn
    cdef bint again = flow.pending != 0
    cdef uint32_t track = flow.halves[side].track
    cdef bint copy = track and is_copy(track_at(&core.streams, track), packet)
    cdef size_t length = <size_t> (packet.transport - packet.network) + packet.header_cap
    if length > MOST_SYN_HEADERS:                  # it must do without: no host sends such headers
        return
    if again:
        syn = <PendingSyn*> pool_at(&core.flows.pending, flow.pending)
        if syn.seq == packet.seq and syn.side == side:
            syn.count += 1
            syn.copies += copy
            return
    else:
        syn = take_pending(&core.flows, flow)
    syn.time_ns = packet.time_ns
    syn.before_ns = flow.last_ns
    syn.count = 1
    syn.copies = copy
    syn.seq = packet.seq
    syn.side = <uint8_t> side
    syn.length = <uint16_t> length
    memcpy(syn.headers, packet.network, length)


cdef void recall_syn(Core core, const PendingSyn* syn, const Decoded* decoded, PacketRecord* packet) noexcept nogil:
    """Read the headers of a SYN again that were kept; data that it may have carried is not there any more."""
    memset(packet, 0, sizeof(PacketRecord))
    packet.time_ns = syn.time_ns
    packet.vlan = decoded.packet.vlan
    packet.tunnel = decoded.packet.tunnel
    packet.transient = True
    decode_ip(syn.headers, syn.length, MOST_IP_LENGTH, &core.decode_options, packet, 0)
    packet.payload_len = packet.payload_cap = 0


cdef bint confirms(const Flows* flows, const FlowRecord* flow, const PacketRecord* packet,
                   bint from_low) noexcept nogil:
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
