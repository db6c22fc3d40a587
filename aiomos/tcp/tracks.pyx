"""Tracks: what is known of the bytes of a half, and the memory that it takes."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from aiomos.tcp.flows cimport ACK_SEEN, HalfRecord, ISS_KNOWN, SEQ_KNOWN
from aiomos.tcp.pieces cimport drop_blocks, drop_pieces, store_close, store_open
from aiomos.wire.pool cimport pool_close, pool_give, pool_open, pool_take
from aiomos.wire.slabs cimport UNIT, block_give, slabs_close, slabs_open

cdef enum:
    DOUBTED_SHARE = 8          # of the budget of held bytes, one part


cdef bint streams_open(Streams* s, size_t flows, size_t held_bytes, size_t held_bytes_half, size_t kept_bytes,
                       size_t kept_bytes_half, size_t batch_frames, uint32_t seed) noexcept nogil:
    """Set up the pools for *flows* flows, *held_bytes* bytes behind holes and *kept_bytes* kept ones.

    False without memory.
    """
    memset(s, 0, sizeof(Streams))
    s.kept_budget = kept_bytes
    s.doubted_budget = held_bytes // DOUBTED_SHARE
    s.kept_half_budget = min(kept_bytes_half, <size_t> 1 << 31)
    s.incidents = <Incident*> malloc(MAX_INCIDENTS * sizeof(Incident))
    cdef size_t parts = 4 * batch_frames + 2 * (held_bytes // UNIT) + 4 * flows
    return (s.incidents != NULL
            and store_open(&s.store, held_bytes, held_bytes_half, seed)
            and slabs_open(&s.kept, kept_bytes)
            and pool_open(&s.tracks, sizeof(Track), 2 * flows)
            and pool_open(&s.missed, sizeof(Missed), flows + MAX_MISSED)
            and pool_open(&s.parts, sizeof(Part), parts)
            and pool_open(&s.links, sizeof(PartLink), parts))


cdef void streams_close(Streams* s) noexcept nogil:
    store_close(&s.store)
    slabs_close(&s.kept)
    pool_close(&s.tracks)
    pool_close(&s.missed)
    pool_close(&s.parts)
    pool_close(&s.links)
    free(s.incidents)
    s.incidents = NULL


cdef uint32_t track_open(Streams* s, const HalfRecord* half) noexcept nogil:
    """A track for a half, whose record stays where it is."""
    cdef uint32_t index = pool_take(&s.tracks)
    if index:
        memset(track_at(s, index), 0, sizeof(Track))
        track_at(s, index).half = half
    return index


cdef void track_drop_parts(Streams* s, Track* t) noexcept nogil:
    """Drop what waits for delivery: nobody takes it."""
    cdef uint32_t at = t.out_head, after
    while at:
        after = part_at(s, at).next
        part_release(s, at)
        at = after
    t.out_head = t.out_tail = t.out_linked = 0


cdef void track_base(Track* t, const HalfRecord* half) noexcept nogil:
    """Fix which sequence number is offset 0: the one after the SYN, or where the half was picked up."""
    if t.edge == 0 and not t.held.head[0] and half.flags & SEQ_KNOWN:
        t.edge_seq = half.iss + 1 if half.flags & ISS_KNOWN else half.una
        t.flags = t.flags & ~<uint32_t> ACKED_HOLE | BASED


cdef void part_release(Streams* s, uint32_t index) noexcept nogil:
    cdef Part* part = part_at(s, index)
    if part.block:
        block_give(&s.store.blocks, part.block)
    pool_give(&s.parts, index)


cdef void drop_doubted(Streams* s, Track* t) noexcept nogil:
    s.doubted_memory -= t.doubted.bytes
    drop_pieces(&s.store, &t.doubted)
    t.flags &= ~<uint32_t> (HELD_EARLY | HELD_BEFORE)
    t.early_late = t.early_said = 0


cdef void lower_doubted(Streams* s, Track* t) noexcept nogil:
    """Drop the bytes, and keep account of them."""
    s.doubted_memory -= t.doubted.bytes
    drop_blocks(&s.store, &t.doubted)
    s.doubted_memory += t.doubted.bytes


cdef void remember_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil:
    cdef uint32_t index
    t.missed_bytes += end - start
    if end > t.missed_end:
        t.missed_end = end
    if t.missed_count < MAX_MISSED:
        index = pool_take(&s.missed)
        if index:
            t.missed_count += 1
            missed_at(s, index).start = start
            missed_at(s, index).end = end
            missed_at(s, index).next = t.missed
            t.missed = index


cdef uint64_t recover_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil:
    """Bytes of a late segment that had been given up: seen after all, though not delivered."""
    cdef uint32_t* link = &t.missed
    cdef uint32_t index
    cdef uint64_t found = 0, left, right, tail
    cdef Missed* gap
    while link[0]:
        index = link[0]
        gap = missed_at(s, index)
        left = gap.start if gap.start > start else start
        right = gap.end if gap.end < end else end
        if left >= right:
            link = &gap.next
            continue
        found += right - left
        tail = gap.end
        if left > gap.start:
            gap.end = left
            if right < tail:
                t.missed_bytes -= tail - right     # remember_missed() counts it again
                remember_missed(s, t, right, tail)
            link = &gap.next
        elif right < gap.end:
            gap.start = right
            link = &gap.next
        else:
            link[0] = gap.next
            t.missed_count -= 1
            pool_give(&s.missed, index)
    t.missed_bytes -= found
    t.late_bytes += <uint32_t> found
    return found


cdef uint64_t track_lost(const Streams* s, const Track* t, const HalfRecord* half) noexcept nogil:
    """Bytes acknowledged by the receiver and never seen."""
    cdef int64_t acked = acked_offset(t, half)
    cdef uint64_t beyond = 0
    cdef uint32_t at = t.missed
    cdef Missed* gap
    if not half.flags & ACK_SEEN:
        return 0
    if acked < <int64_t> t.missed_end:
        while at:
            gap = missed_at(s, at)
            if <int64_t> gap.end > acked:
                beyond += gap.end - (gap.start if <int64_t> gap.start > acked else <uint64_t> acked)
            at = gap.next
    return t.missed_bytes - beyond if beyond < t.missed_bytes else 0


cdef void note_incident(Streams* s, const Track* t, uint64_t offset, uint64_t length, int reason,
                        int64_t now_ns) noexcept nogil:
    cdef Incident* incident
    if s.incident_count == MAX_INCIDENTS:
        s.incidents_missed += 1
        return
    incident = &s.incidents[s.incident_count]
    s.incident_count += 1
    incident.half = t.half
    incident.offset = offset
    incident.length = length
    incident.time_ns = now_ns
    incident.reason = <uint8_t> reason
