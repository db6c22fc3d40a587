"""Predicates judged one occurrence at a time, and flows made by hand for them to look at."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from aiomos.face.packets cimport Packet
from aiomos.face.views cimport Flow, make_flow
from aiomos.tcp.flows cimport CLIENT_IS_LOW, FlowKey, FlowRecord, HalfRecord, make_key
from aiomos.tcp.past cimport PastRun, past_add
from aiomos.tcp.tracks cimport PART_DATA, Part, Streams, Track, part_at, track_at
from aiomos.ude.machine cimport Predicates, predicates_fire, run_predicates
from aiomos.ude.scene cimport Scene
from aiomos.wire.pool cimport pool_close, pool_open, pool_take


cdef class Box:
    """A flow record with a byte context for each half.

    Args:
        key: low, high (128-bit numbers), low_port, high_port, vlan, ip_version, proto.
        flow: flags, reason.
        halves: for each: packets, iss, nxt, una, wnd, max_wnd, ts_recent, fin, mss, flags, wscale, facts, level.
        tracks: for each, or None: bytes, stream_bytes, retransmits, out_of_order, conflicts, gaps, missed_bytes, edge,
            edge_seq, late_bytes, dup_acks, flags.
    """

    cdef FlowRecord record
    cdef Streams streams
    cdef readonly Flow flow
    cdef list held
    cdef PastRun[2] runs

    def __cinit__(self, key, flow, halves, tracks):
        cdef int side
        memset(&self.record, 0, sizeof(FlowRecord))
        memset(&self.streams, 0, sizeof(Streams))
        self.held = []
        if not (pool_open(&self.streams.tracks, sizeof(Track), 2) and pool_open(&self.streams.parts, sizeof(Part), 2)):
            raise MemoryError
        low, high, *rest = key
        self.record.key.low.hi, self.record.key.low.lo = low >> 64, low & 0xFFFF_FFFF_FFFF_FFFF
        self.record.key.high.hi, self.record.key.high.lo = high >> 64, high & 0xFFFF_FFFF_FFFF_FFFF
        self.record.key.low_port, self.record.key.high_port = rest[0], rest[1]
        self.record.key.vlan, self.record.key.ip_version, self.record.key.proto = rest[2], rest[3], rest[4]
        self.record.flags, self.record.reason = flow
        for side in range(2):
            self.fill_half(side, halves[side], tracks[side])
        self.flow = make_flow(&self.record, &self.streams, 0, None, None)

    cdef int fill_half(self, int side, tuple half, object track) except -1:
        cdef HalfRecord* h = &self.record.halves[side]
        cdef Track* t
        (h.packets, h.iss, h.nxt, h.una, h.wnd, h.max_wnd, h.ts_recent, h.fin, h.mss, h.flags, h.wscale, h.facts,
         h.level) = half
        if track is not None:
            h.track = pool_take(&self.streams.tracks)
            t = track_at(&self.streams, h.track)
            memset(t, 0, sizeof(Track))
            (t.bytes, t.stream_bytes, t.retransmits, t.out_of_order, t.conflicts, t.gaps, t.missed_bytes, t.edge,
             t.edge_seq, t.late_bytes, t.dup_acks, t.flags) = track
        return 0

    def hold(self, int side, bytes past, uint64_t past_offset, bytes batch, uint64_t batch_offset):
        """Put bytes at hand: some handed over before, and some of the running batch."""
        cdef Track* t = track_at(&self.streams, self.record.halves[side].track)
        cdef Part* part
        self.held += [past, batch]
        self.runs[side].data = <const uint8_t*> <const char*> past
        self.runs[side].start = past_offset
        self.runs[side].end = past_offset + len(past)
        past_add(&t.past, &self.runs[side], 1)
        t.out_head = t.out_tail = pool_take(&self.streams.parts)
        part = part_at(&self.streams, t.out_head)
        memset(part, 0, sizeof(Part))
        part.kind = PART_DATA
        part.data = <const uint8_t*> <const char*> batch
        part.offset = batch_offset
        part.length = len(batch)
        t.edge = batch_offset + part.length

    def close(self):
        """Give the memory back; the flow must not be looked at any more."""
        self.flow = None
        pool_close(&self.streams.tracks)
        pool_close(&self.streams.parts)


def fire(Predicates predicates not None, Packet pkt=None, Flow flow=None, int side=0,
         uint64_t wanted=0xFFFF_FFFF_FFFF_FFFF, bint guarded=True):
    """Judge one occurrence of the event, as the engine does.

    Args:
        predicates: Those of one event.
        pkt: The packet; None if it comes without one.
        flow: The flow; None if it comes without one.
        side: 0 if it is about the client, 1 about the server.
        wanted: Whom to judge, as bits.
        guarded: Whether to look at the guard first.

    Returns:
        Those that fire, and those that Python has to decide, as bits.
    """
    cdef FlowKey key
    cdef Scene scene
    cdef uint64_t fired, unsure
    memset(&key, 0, sizeof(FlowKey))
    memset(&scene, 0, sizeof(Scene))
    scene.key = &key
    scene.side = side & 1
    if pkt is not None:
        scene.packet = pkt.p
        scene.kind = <uint8_t> pkt.kind
        if pkt.p != NULL:
            scene.client_is_low = make_key(pkt.p, &key)
    if flow is not None:
        scene.flow = flow.r
        scene.key = &flow.r.key
        scene.client_is_low = flow.r.flags & CLIENT_IS_LOW
        scene.streams = flow.streams
    with nogil:
        if guarded:
            fired = predicates_fire(&predicates.c, &scene, wanted, &unsure)
        else:
            fired = run_predicates(predicates.c.code, predicates.c.n, &scene, wanted, &unsure)
    return fired, unsure
