"""Shows the reassembly of one half to pytest: what is taken in, kept, at hand and judged, call by call."""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from aiomos.tcp.doubts cimport track_doubt, track_resume
from aiomos.tcp.flows cimport ACK_SEEN, FIN_SEEN, HalfRecord, ISS_KNOWN, KEEP, SEQ_KNOWN, SINK
from aiomos.tcp.holdings cimport track_conflict, track_ranges, track_read, track_unseen, track_view
from aiomos.tcp.past cimport PastRun, past_add
from aiomos.tcp.progress cimport track_acked, track_finish, track_tick
from aiomos.tcp.reassembly cimport track_close, track_deadline, track_payload
from aiomos.tcp.tracks cimport (
    HOLED,
    LOSSLESS,
    MAX_INCIDENTS,
    PART_DATA,
    PART_END,
    PART_GAP,
    Part,
    Streams,
    Track,
    part_at,
    part_release,
    streams_close,
    streams_open,
    track_at,
    track_base,
    track_open,
)
from aiomos.tcp.tracks cimport track_drop_parts as drop_parts
from aiomos.tcp.reassembly cimport track_lower as lower
from aiomos.tcp.retention cimport track_forget, track_keep
from aiomos.tcp.retransmissions cimport REXMIT_KINDS, track_acked_again, track_judge
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.wire cimport FIN, PacketRecord, SYN

REXMITS = (None, "rto", "fast", "spurious", "syn", "fin")
assert len(REXMITS) == REXMIT_KINDS
GAPS = ("lost", "age", "budget", "snaplen", "end", "unread")
POLICIES = ("first", "last", "bsd", "linux", "windows", "solaris")
MOST_INCIDENTS = MAX_INCIDENTS


cdef class Reassembly:
    """One half whose sender is driven by hand; its peer is there only in what acknowledged() is told.

    Args:
        isn: Its initial sequence number.
        policy: Who wins overlaps.
        keep: Whether delivered bytes are kept.
        sink: Whether somebody takes them.
        lossless: Whether an end of ours receives them.
    """

    cdef Streams streams
    cdef HalfRecord half
    cdef uint32_t index
    cdef int policy
    cdef list payloads         # of this batch, which its parts point to
    cdef bytes past
    cdef HalfRecord crowd      # another half, that holds what comes to it
    cdef uint32_t crowd_index
    cdef PastRun run

    def __cinit__(self, uint32_t isn=0xFFFF_FFF0, policy="first", *, bint keep=True, bint sink=False,
                  bint lossless=False, held=1 << 20, held_half=1 << 20, kept=1 << 20, kept_half=1 << 16):
        assert streams_open(&self.streams, 4, held, held_half, kept, kept_half, 4096, 1)
        memset(&self.half, 0, sizeof(HalfRecord))
        self.streams.hold_ns = 1_000_000_000
        self.streams.age_ns = 30_000_000_000
        self.policy = POLICIES.index(policy)
        self.payloads = []
        self.half.iss = isn
        self.half.nxt = self.half.una = isn + 1
        self.half.flags = SEQ_KNOWN | ISS_KNOWN | ACK_SEEN | (KEEP if keep else 0) | (SINK if sink else 0)
        self.half.level = 3
        self.index = track_open(&self.streams, &self.half)
        track_base(self.track(), &self.half)
        if lossless:
            self.track().flags |= LOSSLESS
        self.crowd = self.half

    def __dealloc__(self):
        streams_close(&self.streams)

    cdef Track* track(self) noexcept:
        return track_at(&self.streams, self.index)

    cdef PacketRecord packet(self, int64_t at, bytes data, flags, int64_t time_ns, captured):
        cdef PacketRecord packet
        memset(&packet, 0, sizeof(PacketRecord))
        packet.flags = (SYN if "S" in flags else 0) | (FIN if "F" in flags else 0)
        packet.seq = self.half.iss + 1 + <uint32_t> at - (1 if "S" in flags else 0)
        packet.payload = <const uint8_t*> <const char*> data
        packet.payload_len = <uint32_t> len(data)
        packet.payload_cap = packet.payload_len if captured is None else captured
        packet.time_ns = time_ns
        self.payloads.append(data)
        return packet

    def send(self, int64_t at, bytes data=b"", *, flags="", int64_t time_ns=0, captured=None, bint transient=False):
        """Take in a segment; tell first what is thought of it.

        Returns:
            Kind of retransmission or None, the conflict ``(offset, length)`` or None, how many bytes were not seen.
        """
        cdef PacketRecord packet = self.packet(at, data, flags, time_ns, captured)
        cdef uint32_t before = self.half.nxt
        cdef uint32_t end = packet.seq + packet.payload_len + ("S" in flags) + ("F" in flags)
        cdef uint64_t offset = 0, length = 0, unseen
        packet.transient = transient
        if "F" in flags:
            self.half.fin = end - 1
            self.half.flags |= FIN_SEEN
        if seq_lt(self.half.nxt, end):
            self.half.nxt = end
        kind = REXMITS[track_judge(&self.streams, self.track(), &self.half, &packet, True, before)]
        differs = track_conflict(&self.streams, self.track(), &packet, &offset, &length)
        unseen = track_unseen(&self.streams, self.track(), max(at, 0), max(at + <int64_t> len(data), 0))
        track_payload(&self.streams, self.track(), &self.half, &packet, self.policy, True, before)
        return kind, (offset, length) if differs else None, unseen

    def crowd_out(self, int64_t at, bytes data not None, *, int64_t time_ns=0):
        """Another half, whose first byte never comes, takes in a segment; returns how much memory it holds."""
        cdef PacketRecord packet = self.packet(at, data, "", time_ns, None)
        cdef Track* t
        cdef uint32_t before = self.crowd.nxt
        if not self.crowd_index:
            self.crowd_index = track_open(&self.streams, &self.crowd)
            track_base(track_at(&self.streams, self.crowd_index), &self.crowd)
        t = track_at(&self.streams, self.crowd_index)
        if seq_lt(self.crowd.nxt, packet.seq + packet.payload_len):
            self.crowd.nxt = packet.seq + packet.payload_len
        track_payload(&self.streams, t, &self.crowd, &packet, self.policy, True, before)
        return t.held.bytes

    @property
    def deadline(self):
        """When what is missing is to be given up; None: nothing is, or never."""
        cdef Track* t = self.track()
        cdef int64_t due = track_deadline(&self.streams, t, &self.half)
        return None if not t.flags & HOLED or due == INT64_MAX else due

    def acknowledge(self, int64_t to, *, int64_t time_ns=0):
        """The peer acknowledges further."""
        self.half.una = self.half.iss + 1 + <uint32_t> to
        track_acked(&self.streams, self.track(), &self.half, time_ns)

    def acknowledge_again(self, int64_t to, *, sack=(), int64_t time_ns=0):
        """The peer sends a duplicate acknowledgement with SACK blocks."""
        cdef PacketRecord packet
        memset(&packet, 0, sizeof(PacketRecord))
        packet.ack = self.half.iss + 1 + <uint32_t> to
        packet.time_ns = time_ns
        packet.sack_count = len(sack)
        for i, (left, right) in enumerate(sack):
            packet.sack[2 * i] = self.half.iss + 1 + <uint32_t> left
            packet.sack[2 * i + 1] = self.half.iss + 1 + <uint32_t> right
        track_acked_again(self.track(), &self.half, &packet)

    def tick(self, int64_t time_ns):
        track_tick(&self.streams, self.track(), &self.half, time_ns)

    def end(self, int64_t time_ns=0):
        track_finish(&self.streams, self.track(), &self.half, PART_END, time_ns)

    def end_batch(self):
        """Keep what is to be kept, and take the parts: bytes, ``(offset, length, reason)`` of gaps, or None at the end.

        A half with a sink remembers what it was given last.
        """
        cdef Track* t = self.track()
        cdef Part* part
        cdef uint32_t index
        items = []
        if self.half.flags & KEEP:
            track_keep(&self.streams, t)
        while t.out_head:
            index = t.out_head
            part = part_at(&self.streams, index)
            if part.kind == PART_DATA:
                data = (<const char*> part.data)[:part.length]
                items.append(data)
                if self.half.flags & SINK:
                    self.past = data
                    self.run.data = <const uint8_t*> <const char*> self.past
                    self.run.start = part.offset
                    self.run.end = part.offset + part.length
                    t.past.last = NULL
                    past_add(&t.past, &self.run, 1)
            else:
                items.append((part.offset, part.length, GAPS[part.reason]) if part.kind == PART_GAP else None)
            t.out_head = part.next
            part_release(&self.streams, index)
        t.out_tail = t.out_linked = 0
        self.end_batch_of_crowd()
        self.payloads.clear()
        return items

    cdef int end_batch_of_crowd(self) except -1:
        """Nobody takes the other half's parts; they point to what goes with the batch."""
        cdef Track* t = track_at(&self.streams, self.crowd_index)
        if self.crowd_index:
            if self.crowd.flags & KEEP:
                track_keep(&self.streams, t)
            drop_parts(&self.streams, t)
        return 0

    def keep_from_now(self):
        self.half.flags |= KEEP

    def drop_batch(self):
        """Keep what is to be kept; nobody takes the parts."""
        if self.half.flags & KEEP:
            track_keep(&self.streams, self.track())
        drop_parts(&self.streams, self.track())
        self.end_batch_of_crowd()
        self.payloads.clear()

    def forget(self):
        track_forget(&self.streams, self.track())

    def lower(self):
        lower(&self.streams, self.track())

    def close(self):
        """Free the track; returns how many records of all pools are in use then."""
        cdef Streams* s = &self.streams
        track_close(s, self.index)
        if self.crowd_index:
            track_close(s, self.crowd_index)
        return (s.tracks.in_use + s.missed.in_use + s.store.count + s.store.bytes + s.store.blocks.blocks
                + s.store.blocks.memory.in_use + s.parts.in_use + s.kept.blocks + s.kept.memory.in_use + s.kept_memory)

    def read(self, uint64_t offset, uint64_t n):
        """Return what both ways of reading give, which must be the same."""
        cdef uint8_t* out = <uint8_t*> malloc(n + 1)
        cdef const uint8_t* view
        cdef uint64_t length, available = 0
        try:
            length = track_read(&self.streams, self.track(), offset, n, out)
            data = (<const char*> out)[:length]
            view = track_view(&self.streams, self.track(), offset, n, &available)
            assert available == length
            assert view == NULL or (<const char*> view)[:available] == data
            return data
        finally:
            free(out)

    def in_one(self, uint64_t offset, uint64_t n):
        """Whether the bytes can be seen without a copy."""
        cdef uint64_t available = 0
        return track_view(&self.streams, self.track(), offset, n, &available) != NULL

    def ranges(self, size_t most=4096, uint64_t start=0, uint64_t end=1 << 63):
        cdef uint64_t starts[4096]
        cdef uint64_t ends[4096]
        cdef size_t i, count = track_ranges(&self.streams, self.track(), start, end, starts, ends,
                                            min(most, <size_t> 4096))
        return [(starts[i], ends[i]) for i in range(count)]

    def unseen(self, uint64_t start, uint64_t end):
        return track_unseen(&self.streams, self.track(), start, end)

    def log_incidents(self):
        self.streams.log_incidents = True

    def incidents(self):
        """Take the log out."""
        cdef uint32_t i
        taken = []
        for i in range(self.streams.incident_count):
            assert self.streams.incidents[i].half == &self.half
            taken.append((self.streams.incidents[i].offset, self.streams.incidents[i].length,
                          GAPS[self.streams.incidents[i].reason], self.streams.incidents[i].time_ns))
        self.streams.incident_count = 0
        return taken

    @property
    def incidents_missed(self):
        return self.streams.incidents_missed

    @property
    def edge(self):
        return self.track().edge

    @property
    def kept_from(self):
        return self.track().kept_from

    @property
    def kept_memory(self):
        return self.track().kept_memory

    @property
    def kept_dropped(self):
        return self.streams.kept_dropped

    @property
    def retransmits(self):
        return self.track().retransmits

    @property
    def out_of_order(self):
        return self.track().out_of_order

    @property
    def conflicts(self):
        assert self.track().conflicts == self.streams.conflicts
        return self.track().conflicts

    @property
    def stream_bytes(self):
        return self.track().stream_bytes

    @property
    def min_rtt(self):
        return self.track().min_rtt

    @property
    def track_size(self):
        return sizeof(Track)

    def doubt(self, int64_t at, bytes data, *, int64_t time_ns=0):
        """Take in a segment that is not believed; tells how many are held, and the memory of all halves' for it."""
        cdef PacketRecord packet = self.packet(at, data, "", time_ns, None)
        track_doubt(&self.streams, self.track(), &self.half, &packet)
        return self.doubted

    def resume(self, int64_t at, int64_t reach, *, int64_t time_ns=0):
        """A jump is believed: *at* comes next; tells where that is once what was doubted is part of it."""
        self.half.nxt = self.half.iss + 1 + <uint32_t> at
        track_resume(&self.streams, self.track(), &self.half, self.policy, reach, time_ns)
        return self.half.nxt - self.half.iss - 1

    @property
    def doubted(self):
        assert self.track().doubted.bytes == self.streams.doubted_memory
        return self.track().doubted.count, self.streams.doubted_memory

    @property
    def doubted_budget(self):
        return self.streams.doubted_budget

    @property
    def held(self):
        """Pieces and memory behind holes: of this half, and of all."""
        cdef Track* t = self.track()
        return (t.held.count, t.held.bytes), (self.streams.store.count, self.streams.store.bytes)
