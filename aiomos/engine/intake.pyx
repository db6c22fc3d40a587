"""The way of a frame, from the transport to its flow.

A frame's way: decode (wire/wire), reassemble fragments (wire/defrag), find the flow (tcp/flows), bring both ends' state
up to date (tcp/monitor), account for and order its bytes (tcp/reassembly). All that runs without the
interpreter. What Python is to see waits until the batch is done and is handed over then, except callbacks,
which run at their very moment.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos.engine.clock cimport Clock
from aiomos.engine.core cimport Core, Decoded
from aiomos.engine.flow_timers cimport FlowTimers
from aiomos.engine.raising cimport raise_unbound
from aiomos.engine.segments cimport look_up, on_malformed, take_segment
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport DROPPED, FlowKey, FlowRecord, flow_at, flows_find, key_hash, make_key
from aiomos.ude.rules cimport MAX_SETS
from aiomos.ude.slots cimport SLOT_ERROR, SLOT_FRAME, SLOT_RAW
from aiomos.wire.defrag cimport DEFRAG_COMPLETE, Defragmenter
from aiomos.wire.frame cimport Frame
from aiomos.wire.layers cimport LAYERS, LAYER_IP
from aiomos.wire.numbers cimport PROTO_TCP
from aiomos.wire.rewriting cimport Quote, quote_read
from aiomos.wire.sharding cimport flow_hash
from aiomos.wire.table cimport table_first
from aiomos.wire.times cimport FAR_SECONDS, held_within, is_far, is_pause, judge_time
from aiomos.wire.unread cimport UnreadNumber, unread_add
from aiomos.wire.wire cimport (
    Cursor,
    DecodeOptions,
    PacketRecord,
    WIRE_AGGREGATE,
    WIRE_FRAGMENT,
    WIRE_ICMP,
    WIRE_IP_OTHER,
    WIRE_MALFORMED,
    WIRE_NON_IP,
    WIRE_TCP,
    WIRE_TCP_CUT,
    WIRE_UDP,
    WIRE_UNKNOWN_LINK,
    decode_frame,
    decode_ip,
    decode_subframe,
    header_is_cut,
)

from aiomos.wire.protocols import may_hide_flows

cdef extern from *:
    """
    #define aiomos_prefetch(p) __builtin_prefetch((p), 1, 3)
    """
    void aiomos_prefetch(const void* p) noexcept nogil

cdef uint64_t FAR_NS = FAR_SECONDS * <uint64_t> 1_000_000_000

cdef enum:
    UNBOUND_EVENTS = 1 << SLOT_RAW | 1 << SLOT_FRAME | 1 << SLOT_ERROR
    MAX_SUBFRAMES = 64         # of an 802.11 A-MSDU of 11,454 bytes at most, no more hold anything


@cython.final
cdef class Intake:
    """The way of frames, up to the flow they belong to."""

    def __dealloc__(self):
        free(self.group)
        free_kept(self.kept_frames)
        if self.holds_frame:
            free(kept_of(&self.held))

    cdef int run(self, const Frame* frames, size_t count) except -1 nogil:
        return self.run_frames(frames, count, count, False) if not self.holds_frame else self.run_held(frames, count)

    cdef int run_held(self, const Frame* frames, size_t count) except -1 nogil:
        """Process the frame that was held, and *frames* behind it; with none it is the last."""
        cdef Frame[2] pair
        cdef bint last = count == 0
        pair[0] = self.held
        if not last:
            pair[1] = frames[0]
        self.holds_frame = False
        # What is delivered, and sent, is read from a frame's bytes after its batch: they stay until all that is done.
        if not self.core.outlet.count:
            free_kept(self.kept_frames)
            self.kept_frames = NULL
        kept_of(&pair[0])[0] = self.kept_frames
        self.kept_frames = kept_of(&pair[0])
        self.run_frames(pair, 1, 1 if last else 2, last)
        return self.run_frames(frames, count, count, False)

    cdef int run_frames(self, const Frame* frames, size_t count, size_t ahead, bint last) except -1 nogil:
        """Process *count* of *ahead* frames; the last may be held until it is known what follows it, if anything."""
        cdef size_t done = 0, size, i
        cdef Decoded* decoded
        cdef int64_t time_ns
        # The common case: traffic is only watched, all of it is this engine's, and by those who want flows.
        cdef bint plain = (not self.core.outlet.forwards and not self.partial
                           and not self.core.rules.interests[MAX_SETS].events >> SLOT_RAW & 1)
        while done < count:
            size = count - done
            if size > GROUP:
                size = GROUP
            self.look_ahead(frames + done, size)
            for i in range(size):
                decoded = &self.group[i]
                time_ns = decoded.packet.time_ns
                if <uint64_t> time_ns - <uint64_t> self.core.now_ns > FAR_NS and is_far(time_ns, self.core.now_ns):
                    if not self.date(&frames[done + i], done + i, ahead - done - i - 1, last, &time_ns):
                        if self.hold(&frames[done + i]):  # it is the last of them
                            count -= 1
                            break
                        time_ns = self.core.now_ns
                    decoded.packet.time_ns = time_ns
                if time_ns > self.core.now_ns:
                    self.core.now_ns = time_ns
                    if time_ns >= self.core.next_tick_ns:
                        self.flow_timers.advance(time_ns)
                if plain and decoded.kind == WIRE_TCP:
                    self.kinds[decoded.kind] += 1
                    take_segment(self.core, decoded)
                else:
                    self.take(&frames[done + i], decoded)
            done += size
        self.frames += count
        self.dated += count
        if self.core.outlet.may_send:
            self.core.line.translation.pass_time(self.core.now_ns)
        return 0

    cdef bint date(self, const Frame* frame, size_t at, size_t following, bint last,
                   int64_t* time_ns) except -1 nogil:
        """Judge the time of the frame *at* this place, far from the clock; false if what follows is to tell."""
        if self.clock.read_clock is not None:
            time_ns[0] = self.ask_clock()
            if not is_far(frame.time_ns, time_ns[0]):
                time_ns[0] = frame.time_ns
        elif not judge_time(frame, following, self.core.now_ns, &self.elsewhere_ns, time_ns):
            if not last:
                return False
            time_ns[0] = self.core.now_ns
        if time_ns[0] != frame.time_ns:
            self.wild_times += 1
        elif self.dated + at == 1 and not is_pause(self.core.now_ns, frame.time_ns):
            self.wild_times += 1                   # the first frame it was
            self.flow_timers.set_back(frame.time_ns)
        return True

    cdef int64_t ask_clock(self) except? -1 with gil:
        return held_within(self.clock.read_clock())

    cdef bint hold(self, const Frame* frame) noexcept nogil:
        """Keep the last frame of a batch until the next comes; false without memory."""
        cdef void** kept = <void**> malloc(sizeof(void*) + frame.caplen)
        if kept == NULL:
            return False
        memcpy(kept + 1, frame.data, frame.caplen)
        self.held = frame[0]
        self.held.data = <const uint8_t*> (kept + 1)
        self.held.offload = NULL
        self.holds_frame = True
        return True

    cdef int take(self, const Frame* frame, Decoded* decoded) except -1 nogil:
        """Process a frame of any kind, in line or not."""
        if self.core.outlet.forwards:
            if decoded.kind <= WIRE_UDP and header_is_cut(&decoded.packet):
                decoded.kind = WIRE_TCP_CUT        # an edit would have to reach beyond what is there
        elif decoded.kind == WIRE_AGGREGATE:
            return self.on_aggregate(decoded)
        if self.partial and not self.is_mine(&decoded.packet):
            self.frames -= 1                       # another engine counts it
            if decoded.kind != WIRE_FRAGMENT:
                return 0
            if not self.core.outlet.forwards:
                return self.on_fragment(decoded)   # the whole packet may be ours
        else:
            self.kinds[decoded.kind] += 1
            if decoded.kind != WIRE_UDP or decoded.packet.unread_layer != LAYERS:
                self.note_unread(decoded)
        if self.core.outlet.forwards:
            return self.cross(frame, decoded)
        if self.core.outlet.may_send:
            self.is_for_host(frame, decoded)
        if decoded.kind > WIRE_TCP and decoded.kind != WIRE_FRAGMENT and not (
                self.core.rules.interests[MAX_SETS].events & UNBOUND_EVENTS):
            return 0                               # nobody asks for what is of no flow
        return self.on_packet(decoded)

    cdef int on_aggregate(self, Decoded* decoded) except -1 nogil:
        """Process the frames within one, each as one that came by itself."""
        cdef Cursor rest
        cdef int _
        rest.data, rest.captured = decoded.packet.payload, decoded.packet.payload_cap
        rest.wire_len, rest.ethertype, rest.depth = decoded.packet.payload_len, 0, 0
        if self.shard:
            self.frames -= 1                       # another engine counts it
        else:
            self.kinds[decoded.kind] += 1
        for _ in range(MAX_SUBFRAMES):
            if not rest.captured:
                break
            decoded.kind = decode_subframe(&rest, &self.core.decode_options, &decoded.packet)
            if self.shards > 1 and not self.is_mine(&decoded.packet):
                if decoded.kind == WIRE_FRAGMENT:
                    self.on_fragment(decoded)
                continue
            self.kinds[decoded.kind] += 1
            if WIRE_TCP < decoded.kind < WIRE_MALFORMED:
                self.note_unread(decoded)
            look_up(&self.core.flows, decoded)
            self.on_packet(decoded)
        return 0

    cdef void note_unread(self, const Decoded* decoded) noexcept nogil:
        """Count a frame by what of it is not read."""
        cdef const PacketRecord* packet = &decoded.packet
        if decoded.kind == WIRE_IP_OTHER:
            unread_add(&self.unread_table, LAYER_IP, packet.proto)
        elif (decoded.kind == WIRE_NON_IP or decoded.kind == WIRE_UNKNOWN_LINK
              or (decoded.kind == WIRE_UDP and packet.unread_layer != LAYERS)):
            unread_add(&self.unread_table, packet.unread_layer, packet.unread_number)

    cdef int tell_unread(self) except -1:
        """Tell of what is not read, and may hide connections, that it was seen; once each."""
        cdef UnreadNumber* known
        while self.unread_told < self.unread_table.used:
            known = &self.unread_table.numbers[self.unread_told]
            self.unread_told += 1
            if self.on_unread is not None and may_hide_flows(known.layer, known.number):
                self.on_unread(known.layer, known.number)
        return 0

    cdef bint is_mine(self, const PacketRecord* packet) noexcept nogil:
        """Is a packet of the share of the flows that is this engine's?"""
        return flow_hash(packet) % self.shards == self.shard

    cdef bint is_whole_mine(self, const PacketRecord* packet) noexcept nogil:
        """Is the packet in hand, put together of fragments that all workers hear, of our share of the rest?

        Those were shared out by the kernel, which looks into no tunnel.
        """
        cdef DecodeOptions options
        cdef PacketRecord outermost
        cdef const Frame* frame = &self.core.line.hand.frame
        cdef size_t length = frame.caplen - self.core.line.hand.link_len
        if not self.core.decode_options.decapsulate:
            return self.is_mine(packet)
        options.verify_checksums = options.decapsulate = False
        outermost.link_layers = 0
        decode_ip(frame.data + self.core.line.hand.link_len, length, length, &options, &outermost, 0)
        return self.is_mine(&outermost)

    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil:
        """A frame's way through in line: in, past everybody, and out again."""
        self.core.line.hand.take_in(frame, &decoded.packet, decoded.kind)
        if decoded.kind == WIRE_FRAGMENT and not self.core.line.hand.is_in_tunnel():
            if not self.collect(decoded):
                self.core.line.passing.hold()              # it leaves with the others of its packet
                return 0
            if self.partial and not self.is_whole_mine(&decoded.packet):
                self.core.line.hand.let_go()            # another worker, which has put it together as well, sends it on
                return 0
            self.found_whole(decoded)
        if self.core.line.translation.enter_session():
            look_up(&self.core.flows, decoded)
        elif decoded.kind != WIRE_TCP:
            if self.is_for_host(frame, decoded):
                self.core.line.hand.dropped = True
            elif decoded.kind == WIRE_ICMP and not decoded.packet.known:
                decoded.packet.known = self.is_about_flow(&decoded.packet)
        self.on_packet(decoded)
        self.core.line.passing.pass_on()
        while self.core.line.passing.due and self.core.line.ordering.take_waiting(&decoded.packet, &decoded.kind):
            look_up(&self.core.flows, decoded)     # what has waited for what has just passed
            take_segment(self.core, decoded)
            self.core.line.passing.pass_on()
        return 0

    cdef bint is_for_host(self, const Frame* frame, Decoded* decoded) noexcept nogil:
        """Is it for an address of ours? That has answered then, if it was asked."""
        return ((decoded.kind == WIRE_ICMP or decoded.kind == WIRE_NON_IP) and self.core.host.on
                and self.core.host.take(frame, &decoded.packet, decoded.kind, self.core.now_ns))

    cdef bint collect(self, Decoded* decoded) noexcept nogil:
        """Keep a fragment until its packet is whole, as then it is."""
        cdef const uint8_t* data = NULL
        cdef size_t length = 0
        if self.defragmenter.add(&decoded.packet, &data, &length) != DEFRAG_COMPLETE:
            return False
        decoded.kind = self.core.line.passing.put_together(data, length, self.defragmenter.table.largest)
        return True

    cdef void found_whole(self, Decoded* decoded) noexcept nogil:
        """A packet was put together that is ours."""
        if decoded.kind == WIRE_TCP:
            self.kinds[decoded.kind] += 1
            look_up(&self.core.flows, decoded)

    cdef bint is_about_flow(self, const PacketRecord* packet) noexcept nogil:
        """Is it an ICMP error about a segment of a flow that passes?"""
        cdef Quote quote
        cdef PacketRecord quoted
        cdef FlowKey key
        cdef FlowRecord* flow
        if not quote_read(packet, WIRE_ICMP, &quote) or quote.proto != PROTO_TCP:
            return False
        memset(&quoted, 0, sizeof(quoted))
        quoted.src, quoted.dst, quoted.sport, quoted.dport = quote.src, quote.dst, quote.sport, quote.dport
        quoted.ip_version, quoted.proto, quoted.vlan = quote.ip_version, quote.proto, packet.vlan
        make_key(&quoted, &key)
        flow = flows_find(&self.core.flows, &key, key_hash(&self.core.flows, &key, packet.tunnel))
        return flow != NULL and not flow.flags & DROPPED

    cdef int on_packet(self, Decoded* decoded) except -1 nogil:
        cdef uint32_t unbound = self.core.rules.interests[MAX_SETS].events
        if unbound >> SLOT_RAW & 1 and decoded.kind <= WIRE_FRAGMENT:
            raise_unbound(self.core, SLOT_RAW, decoded)
            if self.core.line.hand.moved:
                look_up(&self.core.flows, decoded)
        elif unbound >> SLOT_FRAME & 1 and decoded.kind > WIRE_FRAGMENT:
            raise_unbound(self.core, SLOT_FRAME, decoded)
        if self.core.line.hand.dropped:
            return 0
        if decoded.kind == WIRE_TCP:
            return take_segment(self.core, decoded)
        if decoded.kind == WIRE_FRAGMENT:
            return self.on_fragment(decoded)
        if decoded.kind >= WIRE_MALFORMED and unbound >> SLOT_ERROR & 1:
            return on_malformed(self.core, decoded)
        return 0

    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil:
        """Decode a group of frames and ask memory for what they will need."""
        cdef size_t i
        cdef Decoded* decoded
        cdef uint32_t index
        cdef const char* record
        for i in range(count):
            decoded = &self.group[i]
            decoded.kind = decode_frame(&frames[i], &self.core.decode_options, &decoded.packet)
            if decoded.kind == WIRE_TCP:
                look_up(&self.core.flows, decoded)
                aiomos_prefetch(table_first(&self.core.flows.table, decoded.hash))
        for i in range(count):
            decoded = &self.group[i]
            if decoded.kind == WIRE_TCP:
                index = table_first(&self.core.flows.table, decoded.hash).entry
                if index:
                    record = <const char*> flow_at(&self.core.flows, index)
                    aiomos_prefetch(record)
                    aiomos_prefetch(record + 64)
                    aiomos_prefetch(record + 128)

    cdef int on_fragment(self, Decoded* decoded) except -1 nogil:
        cdef const uint8_t* data = NULL
        cdef size_t captured = 0
        if self.defragmenter.add(&decoded.packet, &data, &captured) != DEFRAG_COMPLETE:
            return 0
        decoded.kind = decode_ip(data, captured, captured, &self.core.decode_options, &decoded.packet, 0)
        decoded.packet.transient = True
        decoded.packet.link = NULL
        self.core.line.hand.writable = False            # what could be written was the fragment
        if decoded.kind == WIRE_TCP and (not self.partial or self.is_mine(&decoded.packet)):
            self.found_whole(decoded)
            take_segment(self.core, decoded)
        return 0

    cdef list unread(self):
        """Tell what was not read.

        Returns:
            ``(layer, number, frames)`` in the order in which they were first seen, at most 256: the number of a
            `aiomos.wire.protocols.Layer`, and in it. Frames of others are counted as ``unread_other`` alone.
        """
        return [(self.unread_table.numbers[i].layer, self.unread_table.numbers[i].number,
                 self.unread_table.numbers[i].count) for i in range(self.unread_table.used)]


cdef Intake new_intake(Core core, Clock clock, FlowTimers flow_timers, Defragmenter defragmenter, tuple shard):
    """The intake of an engine that takes of *shard*, ``(index, count)``, how many shares of the flows which."""
    cdef Intake intake = Intake.__new__(Intake)
    intake.core, intake.clock, intake.flow_timers, intake.defragmenter = core, clock, flow_timers, defragmenter
    intake.shard, intake.shards = shard
    intake.elsewhere_ns = INT64_MIN
    intake.group = <Decoded*> malloc(GROUP * sizeof(Decoded))
    if intake.group == NULL:
        raise MemoryError
    return intake


cdef inline void** kept_of(const Frame* frame) noexcept nogil:
    """The block that a held frame lies in: first the next such block, then its bytes."""
    return <void**> frame.data - 1


cdef void free_kept(void* block) noexcept nogil:
    cdef void* following
    while block != NULL:
        following = (<void**> block)[0]
        free(block)
        block = following


seal(Intake)
