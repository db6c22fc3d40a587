"""Who watches a flow, as far as TCP processing needs it: flows that come about, their tracks, their news."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from aiomos.engine.core cimport Core, Moment, moment_begin, signal_flow
from aiomos.engine.raising cimport happen
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    FIN_SEEN,
    FlowRecord,
    HalfRecord,
    ISS_KNOWN,
    KEEP,
    MIDSTREAM,
    SEQ_KNOWN,
    SINK,
    TO_CONNECT,
    flow_index,
    flow_of,
    flows_release,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.reassembly cimport take_disturbed, track_close, track_lower
from aiomos.tcp.tracks cimport BASED, PART_DATA, Part, Track, part_at, track_at, track_open
from aiomos.tcp.retention cimport track_forget
from aiomos.ude.rules cimport Need, rules_assign, rules_interest, rules_intern, rules_watching
from aiomos.ude.slots cimport SLOT_NEW_DATA


cdef void open_tracks(Core core, FlowRecord* flow) noexcept nogil:
    """Follow the bytes of a flow, from here on if it has been running."""
    cdef HalfRecord* half
    cdef Track* track
    cdef int side
    for side in range(2):                          # the pool holds two tracks for every flow record there can be
        half = &flow.halves[side]
        half.track = track_open(&core.streams, half)
        if half.packets and half.flags & SEQ_KNOWN:
            track = track_at(&core.streams, half.track)
            track.edge_seq = half.fin if half.flags & FIN_SEEN else half.nxt
            track.edge = track.edge_seq - (half.iss + 1) if half.flags & ISS_KNOWN else 0
            track.flags |= BASED


cdef void free_tracks(Core core, FlowRecord* flow) noexcept nogil:
    cdef int side
    for side in range(2):
        if flow.halves[side].track:
            track_close(&core.streams, flow.halves[side].track)
            flow.halves[side].track = 0


cdef void release_flow(Core core, FlowRecord* flow) noexcept nogil:
    free_tracks(core, flow)
    if core.outlet.may_send:
        core.line.paths.flow_gone(flow_index(&core.flows, flow))
    flows_release(&core.flows, flow)


cdef int signal_data(Core core, FlowRecord* flow) except -1 nogil:
    if (track_at(&core.streams, flow.halves[0].track).out_head
            or track_at(&core.streams, flow.halves[1].track).out_head):
        return signal_flow(core, flow)
    return 0


cdef int signal_disturbed(Core core) except -1 nogil:
    """Have those told, too, whose halves gave up a hole for the room that the segment at hand needed."""
    cdef const HalfRecord* half = take_disturbed(&core.streams)
    while half != NULL:
        signal_data(core, flow_of(&core.flows, half))
        half = take_disturbed(&core.streams)
    return 0


cdef int raise_new_data(Core core, FlowRecord* flow) except -1 nogil:
    """Tell of each contiguous run of bytes that this batch has added to a half."""
    cdef Moment m
    cdef uint32_t index
    cdef int side
    if not rules_interest(&core.rules, flow).events >> SLOT_NEW_DATA & 1:
        return 0
    for side in range(2):
        index = track_at(&core.streams, flow.halves[side].track).out_head if flow.halves[side].track else 0
        while index:
            moment_begin(&m, SLOT_NEW_DATA, flow, side, NULL, core.now_ns)
            index = find_run(core, index, &m)
            if not m.length:
                break
            happen(core, &m)
            if not flow.halves[side].track or not track_at(&core.streams, flow.halves[side].track).out_head:
                break                              # those who were told want no more
    return 0


cdef uint32_t find_run(Core core, uint32_t index, Moment* m) noexcept nogil:
    """Put the first run of bytes from a part on into a moment; returns the part behind it."""
    cdef const Part* part
    while index:
        part = part_at(&core.streams, index)
        if part.kind != PART_DATA:
            if m.length:
                break
        elif m.length and part.offset != m.offset + m.length:
            break
        else:
            if not m.length:
                m.offset = part.offset
            m.length += part.length
        index = part.next
    return index


cdef bint has_come_about(Core core, const FlowRecord* flow) noexcept nogil:
    """Is there more to a flow than the try to open it: was it established, or has it carried a byte?

    Else no handler is started for it, so that scans and floods of SYNs cost none.
    """
    cdef const HalfRecord* half
    cdef int side
    if flow.flags & FLOW_ESTABLISHED:
        return True
    for side in range(2):
        half = &flow.halves[side]
        if half.track:
            if track_at(&core.streams, half.track).bytes:
                return True
        elif half.flags & ISS_KNOWN and half.nxt - half.iss > <uint32_t> (2 if half.flags & FIN_SEEN else 1):
            return True
    return False


cdef int come_about(Core core, FlowRecord* flow) except -1 nogil:
    """A flow that handlers wait for is established: who reads bytes is told when there are some, others now."""
    if rules_watching(&core.rules, flow) & core.rules.connecting & ~core.rules.reading:
        return signal_flow(core, flow)
    return 0


cdef int watch_flow(Core core, FlowRecord* flow, uint64_t mask) except -1 nogil:
    """Fix who watches a flow; those who connect are told at the end of the batch."""
    cdef uint64_t connecting = mask & core.rules.connecting
    if flow.flags & ANNOUNCED:
        connecting &= ~rules_watching(&core.rules, flow)
    else:
        flow.flags |= ANNOUNCED
        core.opened += 1
        if flow.flags & MIDSTREAM:
            core.picked_up += 1
    rules_assign(&core.rules, flow, rules_intern(&core.rules, mask))
    if connecting:
        flow.flags |= TO_CONNECT
        if has_come_about(core, flow):
            return come_about(core, flow)
    return 0


cdef void settle_half(Core core, HalfRecord* half, const Need* need) noexcept:
    """Have a half run as it is needed now, and drop what nobody takes any more."""
    cdef uint16_t before = half.flags
    half.level = need.level
    half.flags = before & ~<uint16_t> (SINK | KEEP) | (SINK if need.sink else 0) | (KEEP if need.keep else 0)
    if half.track:
        if before & (SINK | KEEP) and not half.flags & (SINK | KEEP):
            track_lower(&core.streams, track_at(&core.streams, half.track))
        if before & KEEP and not half.flags & KEEP:
            track_forget(&core.streams, track_at(&core.streams, half.track))
