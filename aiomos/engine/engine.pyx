"""The flow engine of one core: frames and the time go in, connections, their bytes and callbacks come out.

A frame's way: decode (wire/wire), reassemble fragments (wire/defrag), find the flow (tcp/flows), bring both ends' state
up to date (tcp/monitor), account for and order its bytes (tcp/reassembly). All that runs without the
interpreter. What Python is to see waits until the batch is done and is handed over then, except callbacks,
which run at their very moment.

The engine does no input or output and reads no clock: time is that of the frames.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from aiomos.engine.admission cimport confirms
from aiomos.engine.callbacks cimport WHAT_MALFORMED, is_awaited
from aiomos.engine.hooks cimport MERGE_EVENTS, NOTED_EVENTS, PACKET_EVENTS, START_EVENTS, Before
from aiomos.engine.lifetimes cimport in_table
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow, make_flow, reason_named
from aiomos.line.verdicts cimport Verdicts
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
    ANNOUNCED,
    DROPPED,
    ENDED,
    HALF_OPEN,
    ISS_KNOWN,
    MIDSTREAM,
    OPEN,
    REASON_DROPPED,
    REASON_FIN,
    RESETTING,
    SEQ_KNOWN,
    TO_CONNECT,
    FlowKey,
    Flows,
    Half,
    flow_at,
    flow_index,
    flows_find,
    flows_link,
    flows_open,
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
from aiomos.tcp.reassembly cimport (
    BASED,
    HELD_EARLY,
    HOLED,
    Track,
    offset_of,
    streams_open,
    track_acked,
    track_at,
    track_base,
    track_copied,
    track_payload,
    track_tick,
    track_urgent,
    tracks_set_up,
)
from aiomos.tcp.retransmissions cimport track_acked_again
from aiomos.transport.source cimport FrameSource
from aiomos.transport.transport cimport Transport
from aiomos.ude.rules cimport ANY_SET, MAX_SETS, rules_interest, rules_watching
from aiomos.ude.slots cimport SLOT_ERROR, SLOT_FRAME, SLOT_ORPHAN, SLOT_OUT, SLOT_PKT, SLOT_RAW, SLOT_SETUP
from aiomos.wire.clock cimport nanoseconds, seconds
from aiomos.wire.defrag cimport DEFRAG_COMPLETE
from aiomos.wire.layers cimport LAYER_IP, LAYERS
from aiomos.wire.numbers cimport PROTO_TCP
from aiomos.wire.rewriting cimport Quote, quote_read
from aiomos.wire.sharding cimport flow_hash
from aiomos.wire.table cimport table_first
from aiomos.wire.times cimport FAR_SECONDS, held_within, is_far, is_pause, judge_time
from aiomos.wire.unread cimport UnreadNumber, unread_add
from aiomos.wire.wire cimport (
    ACK,
    FIN,
    RST,
    SYN,
    Cursor,
    URG,
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
    DecodeOptions,
    decode_frame,
    decode_ip,
    decode_subframe,
    header_is_cut,
)

from aiomos.face.chunks import GAP_NAMES
from aiomos.face.packets import KIND_NAMES
from aiomos.tcp.monitor import ANOMALY_NAMES
from aiomos.wire.protocols import may_hide_flows, unread_name


cdef extern from *:
    """
    #define aiomos_prefetch(p) __builtin_prefetch((p), 1, 3)
    """
    void aiomos_prefetch(const void* p) noexcept nogil

cdef uint64_t FAR_NS = FAR_SECONDS * <uint64_t> 1_000_000_000

cdef enum:
    # More frames than any batch of a transport; the pools of what a batch can bring about are sized by it.
    MOST_BATCH_FRAMES = 65536
    TRACKS_TURN = JOINED | RESTARTED | REBASED | RESYNC | DOUBT | EARLY | KEEP_ALIVE
    UNBOUND_EVENTS = 1 << SLOT_RAW | 1 << SLOT_FRAME | 1 << SLOT_ERROR
    MAX_SUBFRAMES = 64         # of an 802.11 A-MSDU of 11,454 bytes at most, no more hold anything


cdef class Engine(Admission):
    """One core's flows. Made by the runtime, which feeds it and runs what it hands over.

    Args:
        settings: Budgets, time-outs, how frames are read.
        key: 16 secret bytes that key the hash of the flow table.
        on_callback_error: Called with the function, the flow and the exception a callback raised; what
            it raises itself stops the run.
        shard: Of how many shares of the flows it takes which, ``(index, count)``, from batches that all workers get.

    Raises:
        MemoryError: the address space for the budgets cannot be had.
        ValueError: *key* has another length.
    """

    def __cinit__(self, settings, key, on_callback_error, shard=(0, 1)):
        cdef uint64_t keys[2]
        cdef bytes secret = bytes(key)
        memcpy(keys, <const char*> secret, 16)
        budgets, timeouts = settings.budgets, settings.timeouts
        self.defragmenter = Defragmenter(secret, memory=budgets.fragment_bytes)
        self.on_callback_error = on_callback_error
        self.shard, self.shards = shard
        self.outlet = Verdicts(settings, secret)
        self.fail_closed = settings.fail == "closed"
        self.elsewhere_ns = INT64_MIN
        self.group = <Decoded*> malloc(GROUP * sizeof(Decoded))
        # Flows that ended keep their record until the batch is delivered.
        if (self.group == NULL
                or not flows_open(&self.flows, self.flow_budget + MOST_BATCH_FRAMES, keys[0], keys[1])
                or not streams_open(&self.streams, self.flow_budget + MOST_BATCH_FRAMES, budgets.held_bytes,
                                    budgets.held_bytes_half, budgets.kept_bytes, budgets.kept_bytes_half,
                                    MOST_BATCH_FRAMES, <uint32_t> keys[0])):
            raise MemoryError(f"no address space for {self.flow_budget} flows; lower budgets.flows")
        self.flows.vlan_mask = 0xFFFF if settings.separate_vlans else 0
        self.streams.hold_ns = nanoseconds(timeouts.gap_hold)
        self.streams.age_ns = nanoseconds(timeouts.gap_age)

    def __dealloc__(self):
        free(self.group)
        free_kept(self.released)
        if self.holds_frame:
            free(kept_of(&self.held))

    # --- feeding --------------------------------------------------------------------------------------

    def feed(self, FrameSource source not None):
        """Process the current batch of a transport and hand over what came of it.

        Raises:
            RuntimeError: from inside a callback.
        """
        self.partial = self.shards > 1 and source.heard_by_all
        self.run_batch(source.frames, source.count)

    cdef int run_batch(self, const Frame* frames, size_t count) except -1:
        self.begin()
        try:
            if self.chatty:                        # the interpreter is needed at every packet: do not let it go
                self.run(frames, count)
            else:
                with nogil:
                    self.run(frames, count)
            self.deliver()
            self.tell_sessions()
            if self.unread_told != self.unread_table.used:
                self.tell_unread()
        finally:
            self.busy = False
        return self.raise_fatal()

    def pass_time(self, time_ns):
        """Let time pass without frames: what is due until *time_ns*, nanoseconds since the epoch, happens."""
        if self.holds_frame:
            self.run_batch(NULL, 0)
        Admission.pass_time(self, time_ns)

    def finish(self):
        """End the next slice of flows for want of frames, oldest first; False when none is left."""
        if self.holds_frame:
            self.run_batch(NULL, 0)
        return Admission.finish(self)

    # --- sending --------------------------------------------------------------------------------------

    def open(self, forwards, interfaces):
        """Have frames sent, and in line passed on; before the first is fed.

        Args:
            forwards: For each interface that by which its frames go on; empty where they are only watched.
            interfaces: Their names.
        """
        self.outlet.open(forwards, interfaces, self.flow_budget + MOST_BATCH_FRAMES)
        self.wired = True

    def flush(self, Transport transport not None):
        """Have a transport send what is to be sent."""
        if self.outlet.count:
            try:
                transport.send_frames(self.outlet.frames, self.outlet.count)
            finally:
                self.outlet.clear()

    def send(self, frame, interface, linktype):
        """Send a frame of an app's making: after those before it, or between batches at once."""
        self.outlet.send(frame, interface, linktype)
        self.tell_news()

    def feed_frames(self, frames):
        """Process ``(time_ns, data, linktype, wirelen)`` tuples as one batch; for tests and small tools."""
        cdef list kept = [(time_ns, bytes(data), linktype, wirelen) for time_ns, data, linktype, wirelen in frames]
        cdef Frame* array = <Frame*> malloc((len(kept) + 1) * sizeof(Frame))
        cdef size_t count = 0
        cdef bytes data
        if array == NULL:
            raise MemoryError
        try:
            for time_ns, data, linktype, wirelen in kept:
                array[count].data = <const uint8_t*> <const char*> data
                array[count].caplen = <uint32_t> len(data)
                array[count].wirelen = wirelen
                array[count].time_ns = held_within(time_ns)
                array[count].linktype = linktype
                array[count].interface = 0
                array[count].offload = NULL
                count += 1
            self.partial = self.shards > 1
            self.run_batch(array, count)
        finally:
            free(array)

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
        if not self.outlet.count:
            free_kept(self.released)
            self.released = NULL
        kept_of(&pair[0])[0] = self.released
        self.released = kept_of(&pair[0])
        self.run_frames(pair, 1, 1 if last else 2, last)
        return self.run_frames(frames, count, count, False)

    cdef int run_frames(self, const Frame* frames, size_t count, size_t ahead, bint last) except -1 nogil:
        """Process *count* of *ahead* frames; the last may be held until it is known what follows it, if anything."""
        cdef size_t done = 0, size, i
        cdef Decoded* decoded
        cdef int64_t time_ns
        # The common case: traffic is only watched, all of it is this engine's, and by those who want flows.
        cdef bint plain = (not self.outlet.in_line and not self.partial
                           and not self.rules.interests[MAX_SETS].events >> SLOT_RAW & 1)
        while done < count:
            size = count - done
            if size > GROUP:
                size = GROUP
            self.look_ahead(frames + done, size)
            for i in range(size):
                decoded = &self.group[i]
                time_ns = decoded.packet.time_ns
                if <uint64_t> time_ns - <uint64_t> self.now_ns > FAR_NS and is_far(time_ns, self.now_ns):
                    if not self.date(&frames[done + i], done + i, ahead - done - i - 1, last, &time_ns):
                        if self.hold(&frames[done + i]):       # it is the last of them
                            count -= 1
                            break
                        time_ns = self.now_ns
                    decoded.packet.time_ns = time_ns
                if time_ns > self.now_ns:
                    self.now_ns = time_ns
                    if time_ns >= self.next_tick_ns:
                        self.advance(time_ns)
                if plain and decoded.kind == WIRE_TCP:
                    self.kinds[decoded.kind] += 1
                    self.on_tcp(decoded)
                else:
                    self.take(&frames[done + i], decoded)
            done += size
        self.frames += count
        self.dated += count
        if self.wired:
            self.outlet.pass_time(self.now_ns)
        return 0

    cdef bint date(self, const Frame* frame, size_t at, size_t following, bint last,
                   int64_t* time_ns) except -1 nogil:
        """Judge the time of the frame *at* this place, far from the clock; false if what follows is to tell."""
        if self.read_clock is not None:
            time_ns[0] = self.ask_clock()
            if not is_far(frame.time_ns, time_ns[0]):
                time_ns[0] = frame.time_ns
        elif not judge_time(frame, following, self.now_ns, &self.elsewhere_ns, time_ns):
            if not last:
                return False
            time_ns[0] = self.now_ns
        if time_ns[0] != frame.time_ns:
            self.wild_times += 1
        elif self.dated + at == 1 and not is_pause(self.now_ns, frame.time_ns):
            self.wild_times += 1                   # the first frame it was
            self.set_back(frame.time_ns)
        return True

    cdef int64_t ask_clock(self) except? -1 with gil:
        return held_within(self.read_clock())

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
        if self.outlet.in_line:
            if decoded.kind <= WIRE_UDP and header_is_cut(&decoded.packet):
                decoded.kind = WIRE_TCP_CUT        # an edit would have to reach beyond what is there
        elif decoded.kind == WIRE_AGGREGATE:
            return self.on_aggregate(decoded)
        if self.partial and not self.is_mine(&decoded.packet):
            self.frames -= 1                       # another engine counts it
            if decoded.kind != WIRE_FRAGMENT:
                return 0
            if not self.outlet.in_line:
                return self.on_fragment(decoded)   # the whole packet may be ours
        else:
            self.kinds[decoded.kind] += 1
            if decoded.kind != WIRE_UDP or decoded.packet.unread_layer != LAYERS:
                self.note_unread(decoded)
        if self.outlet.in_line:
            return self.cross(frame, decoded)
        if decoded.kind > WIRE_TCP and decoded.kind != WIRE_FRAGMENT and not (
                self.rules.interests[MAX_SETS].events & UNBOUND_EVENTS):
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
            decoded.kind = decode_subframe(&rest, &self.decode_options, &decoded.packet)
            if self.shards > 1 and not self.is_mine(&decoded.packet):
                if decoded.kind == WIRE_FRAGMENT:
                    self.on_fragment(decoded)
                continue
            self.kinds[decoded.kind] += 1
            if WIRE_TCP < decoded.kind < WIRE_MALFORMED:
                self.note_unread(decoded)
            look_up(&self.flows, decoded)
            self.on_packet(decoded)
        return 0

    cdef void note_unread(self, const Decoded* decoded) noexcept nogil:
        """Count a frame by what of it is not read."""
        cdef const Packet* packet = &decoded.packet
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

    cdef bint is_mine(self, const Packet* packet) noexcept nogil:
        """Is a packet of the share of the flows that is this engine's?"""
        return flow_hash(packet) % self.shards == self.shard

    cdef bint is_whole_mine(self, const Packet* packet) noexcept nogil:
        """Is the packet in hand, put together of fragments that all workers hear, of our share of the rest?

        Those were shared out by the kernel, which looks into no tunnel.
        """
        cdef DecodeOptions options
        cdef Packet outermost
        cdef const Frame* frame = &self.outlet.frame
        cdef size_t length = frame.caplen - self.outlet.link_len
        if not self.decode_options.decapsulate:
            return self.is_mine(packet)
        options.verify_checksums = options.decapsulate = False
        outermost.link_layers = 0
        decode_ip(frame.data + self.outlet.link_len, length, length, &options, &outermost, 0)
        return self.is_mine(&outermost)

    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil:
        """A frame's way through in line: in, past everybody, and out again."""
        self.outlet.take_in(frame, &decoded.packet, decoded.kind)
        if decoded.kind == WIRE_FRAGMENT and not self.outlet.is_in_tunnel():
            if not self.collect(decoded):
                self.outlet.hold()                 # it leaves with the others of its packet
                return 0
            if self.partial and not self.is_whole_mine(&decoded.packet):
                self.outlet.let_go()               # another worker, which has put it together as well, sends it on
                return 0
            self.found_whole(decoded)
        if self.outlet.enter_session():
            look_up(&self.flows, decoded)
        elif decoded.kind == WIRE_ICMP and not decoded.packet.known:
            decoded.packet.known = self.is_about_flow(&decoded.packet)
        self.on_packet(decoded)
        self.outlet.pass_on()
        while self.outlet.due and self.outlet.take_waiting(&decoded.packet, &decoded.kind):
            look_up(&self.flows, decoded)                  # what has waited for what has just passed
            self.on_tcp(decoded)
            self.outlet.pass_on()
        return 0

    cdef bint collect(self, Decoded* decoded) noexcept nogil:
        """Keep a fragment until its packet is whole, as then it is."""
        cdef const uint8_t* data = NULL
        cdef size_t length = 0
        if self.defragmenter.add(&decoded.packet, &data, &length) != DEFRAG_COMPLETE:
            return False
        decoded.kind = self.outlet.put_together(data, length, self.defragmenter.table.largest)
        return True

    cdef void found_whole(self, Decoded* decoded) noexcept nogil:
        """A packet was put together that is ours."""
        if decoded.kind == WIRE_TCP:
            self.kinds[decoded.kind] += 1
            look_up(&self.flows, decoded)

    cdef bint is_about_flow(self, const Packet* packet) noexcept nogil:
        """Is it an ICMP error about a segment of a flow that passes?"""
        cdef Quote quote
        cdef Packet quoted
        cdef FlowKey key
        cdef FlowRecord* flow
        if not quote_read(packet, WIRE_ICMP, &quote) or quote.proto != PROTO_TCP:
            return False
        memset(&quoted, 0, sizeof(quoted))
        quoted.src, quoted.dst, quoted.sport, quoted.dport = quote.src, quote.dst, quote.sport, quote.dport
        quoted.ip_version, quoted.proto, quoted.vlan = quote.ip_version, quote.proto, packet.vlan
        make_key(&quoted, &key)
        flow = flows_find(&self.flows, &key, key_hash(&self.flows, &key, packet.tunnel))
        return flow != NULL and not flow.flags & DROPPED

    cdef int on_packet(self, Decoded* decoded) except -1 nogil:
        cdef uint32_t unbound = self.rules.interests[MAX_SETS].events
        if unbound >> SLOT_RAW & 1 and decoded.kind <= WIRE_FRAGMENT:
            self.raise_unbound(SLOT_RAW, decoded)
            if self.outlet.moved:
                look_up(&self.flows, decoded)
        elif unbound >> SLOT_FRAME & 1 and decoded.kind > WIRE_FRAGMENT:
            self.raise_unbound(SLOT_FRAME, decoded)
        if self.outlet.dropped:
            return 0
        if decoded.kind == WIRE_TCP:
            return self.on_tcp(decoded)
        if decoded.kind == WIRE_FRAGMENT:
            return self.on_fragment(decoded)
        if decoded.kind >= WIRE_MALFORMED and unbound >> SLOT_ERROR & 1:
            return self.on_malformed(decoded)
        return 0

    cdef void look_ahead(self, const Frame* frames, size_t count) noexcept nogil:
        """Decode a group of frames and ask memory for what they will need."""
        cdef size_t i
        cdef Decoded* decoded
        cdef uint32_t index
        cdef const char* record
        for i in range(count):
            decoded = &self.group[i]
            decoded.kind = decode_frame(&frames[i], &self.decode_options, &decoded.packet)
            if decoded.kind == WIRE_TCP:
                look_up(&self.flows, decoded)
                aiomos_prefetch(table_first(&self.flows.table, decoded.hash))
        for i in range(count):
            decoded = &self.group[i]
            if decoded.kind == WIRE_TCP:
                index = table_first(&self.flows.table, decoded.hash).entry
                if index:
                    record = <const char*> flow_at(&self.flows, index)
                    aiomos_prefetch(record)
                    aiomos_prefetch(record + 64)
                    aiomos_prefetch(record + 128)

    cdef int on_fragment(self, Decoded* decoded) except -1 nogil:
        cdef const uint8_t* data = NULL
        cdef size_t captured = 0
        if self.defragmenter.add(&decoded.packet, &data, &captured) != DEFRAG_COMPLETE:
            return 0
        decoded.kind = decode_ip(data, captured, captured, &self.decode_options, &decoded.packet, 0)
        decoded.packet.transient = True
        decoded.packet.link = NULL
        self.outlet.writable = False               # what could be written was the fragment
        if decoded.kind == WIRE_TCP and (not self.partial or self.is_mine(&decoded.packet)):
            self.found_whole(decoded)
            self.on_tcp(decoded)
        return 0

    # --- segments -------------------------------------------------------------------------------------

    cdef int on_tcp(self, Decoded* decoded) except -1 nogil:
        cdef const Packet* packet = &decoded.packet
        cdef FlowRecord* flow = flows_find(&self.flows, &decoded.key, decoded.hash)
        cdef FlowRecord* old
        if flow == NULL:
            self.first_packet(decoded, &flow)
        elif flow.pending and confirms(&self.flows, flow, packet, decoded.from_low):
            old, flow = flow, NULL
            self.replace(old, decoded, &flow)
        if flow == NULL:
            return self.raise_unbound(SLOT_ORPHAN, decoded)
        if self.wired and self.is_cut(flow, decoded):
            return 0
        if self.process(flow, side_of(flow, decoded.from_low), packet):
            self.end_flow(flow, OPEN)
            return self.on_tcp(decoded)            # finds no flow now, so it does not come here again
        if (self.wired and self.outlet.dropped and not flow.flags & ENDED
                and flow.halves[0].packets + flow.halves[1].packets == 1):
            return self.end_flow(flow, REASON_DROPPED)     # it was refused: its opener's next try is a new flow
        return 0

    cdef bint is_cut(self, FlowRecord* flow, Decoded* decoded) except -1 nogil:
        """Take note of the flow of the segment in hand; is it one that apps have cut off?"""
        cdef uint32_t number = flow_index(&self.flows, flow)
        cdef int side = side_of(flow, decoded.from_low)
        if self.outlet.dropped:                    # with the SYN that it confirms
            self.end_flow(flow, REASON_DROPPED)
            return True
        if flow.flags & RESETTING and decoded.packet.flags & (SYN | ACK | RST) == SYN:
            self.end_flow(flow, OPEN)              # a new connection on the same ports
            self.on_tcp(decoded)
            return True
        if self.outlet.in_line and not flow.flags & (DROPPED | RESETTING):
            if rules_interest(&self.rules, flow).edits:
                self.outlet.prepare(flow, number, side)
            if self.outlet.wait(flow, number, side):
                flow.last_ns = max(flow.last_ns, decoded.packet.time_ns)
                return True
        self.outlet.flow_met(flow, number, side, &decoded.packet)
        if not self.outlet.cut_off(flow, number, side, &decoded.packet):
            return False
        flow.halves[side].packets += 1
        flow.last_ns = max(flow.last_ns, decoded.packet.time_ns)
        return True

    cdef int process(self, FlowRecord* flow, int side, const Packet* packet) except -1 nogil:
        """A segment's way through its flow; 1 if it opens a new connection, which makes the flow an old one."""
        cdef uint32_t before_nxt = flow.halves[side].nxt if flow.halves[side].flags & SEQ_KNOWN else packet.seq
        cdef uint32_t watched = rules_interest(&self.rules, flow).events & (
            PACKET_EVENTS | (START_EVENTS if packet.flags & SYN else 0))
        cdef Before before
        cdef int outcome
        if watched & NOTED_EVENTS or (packet.flags & SYN and flow.flags & MIDSTREAM):   # it may yet bring watchers
            outcome = self.monitor_watched(flow, side, packet, &before)
        else:
            outcome = monitor_segment(flow, side, packet, self.anomalies)
        if outcome & (REOPEN | SYN_DOUBTED):
            if outcome & REOPEN:
                flow.halves[side].packets -= 1
                return 1
            self.doubt_syn(flow, side, packet)
        if not outcome & PAYLOAD_OK and self.wired and packet.payload_len:
            self.outlet.doubt()
        if packet.time_ns > flow.last_ns:
            flow.last_ns = packet.time_ns
        if outcome & (JOINED | RESTARTED | REBASED):
            before_nxt = packet.seq
            if outcome & JOINED:
                flow.flags &= ~<uint16_t> MIDSTREAM
                self.join(flow)
                watched = rules_interest(&self.rules, flow).events & (PACKET_EVENTS | START_EVENTS)
        if watched & NOTED_EVENTS:
            self.raise_sender(flow, side, packet, &before)
            if self.outlet.dropped:
                self.unsee(flow, side, &before)
            if self.outlet.dropped or flow.flags & DROPPED:
                return 0
        if watched & MERGE_EVENTS and flow.halves[0].track:
            self.raise_merge(flow, side, packet, outcome, before_nxt)
            if flow.flags & DROPPED:               # its streams have ended
                return 0
        if flow.halves[0].track:
            self.follow_bytes(flow, side, packet, outcome, before_nxt)
        if watched == 1 << SLOT_PKT:
            if is_awaited(self, SLOT_PKT, flow, packet):       # in line, as most often nobody does
                self.raise_event(SLOT_PKT, flow, side, packet)
        elif watched:
            self.raise_receiver(flow, side, packet, &before, watched)
        if outcome & SETUP:
            if flow.halves[0].track:
                tracks_set_up(track_at(&self.streams, flow.halves[0].track),
                              track_at(&self.streams, flow.halves[1].track))
            self.raise_event(SLOT_SETUP, flow, side, packet)
        if watched >> SLOT_OUT & 1:
            self.raise_event(SLOT_OUT, flow, side, packet)
        if flow.flags & DROPPED:                   # meanwhile
            return 0
        if flow.flags & (HALF_OPEN | TO_CONNECT) and flow.flags & FLOW_ESTABLISHED:
            if flow.halves[1 - side].packets:
                self.leave_half_open(flow)
            if flow.flags & TO_CONNECT:
                self.come_about(flow)
        if outcome & (SETUP | CLOSED_NOW) or packet.flags & FIN:
            self.after_segment(flow, packet, outcome)
        return 0

    cdef int follow_bytes(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                          uint32_t before_nxt) except -1 nogil:
        cdef Half* snd = &flow.halves[side]
        cdef Half* rcv = &flow.halves[1 - side]
        cdef Track* sent = track_at(&self.streams, snd.track)
        cdef Track* received = track_at(&self.streams, rcv.track)
        if outcome & TRACKS_TURN or not sent.flags & received.flags & BASED:
            outcome = self.turn_tracks(flow, side, packet, outcome)
        if outcome & ACK_MOVED:
            track_acked(&self.streams, received, rcv, packet.time_ns)
            if outcome & ACK_AHEAD:
                received.nxt_ns = packet.time_ns
        if packet.flags & URG and self.rules.urgent_out and outcome & PAYLOAD_OK:
            track_urgent(sent, packet)
        if packet.payload_len or packet.flags & (SYN | FIN):
            track_payload(&self.streams, sent, snd, packet, flow.overlap,
                          (outcome & PAYLOAD_OK) != 0, before_nxt)
        elif not outcome & ACK_MOVED:
            if is_copy(sent, packet):
                track_copied(&self.streams, sent, packet)
            elif is_pure_ack(packet) and rcv.una != rcv.nxt and packet.ack == rcv.una:
                track_acked_again(received, rcv, packet)
        remember(sent, packet)
        if (sent.flags | received.flags) & HOLED:
            self.attend_holes(flow, side, packet.time_ns)
        if self.streams.incident_count:
            self.raise_incidents(flow, packet)
            return self.signal_data(flow) if flow.halves[0].track else 0       # those told may have wanted no more
        return self.signal(flow) if sent.out_head or received.out_head else 0

    cdef int turn_tracks(self, FlowRecord* flow, int side, const Packet* packet, int outcome) noexcept nogil:
        """What a segment says of where the streams are, before its bytes are looked at; returns what remains of it."""
        cdef Half* snd = &flow.halves[side]
        cdef Half* rcv = &flow.halves[1 - side]
        cdef Track* sent = track_at(&self.streams, snd.track)
        cdef Track* received = track_at(&self.streams, rcv.track)
        cdef bint goes_on = received.flags & BASED
        if not sent.flags & BASED or outcome & (JOINED | RESTARTED):
            if packet.flags & (SYN | ACK) == SYN and sent.flags & HELD_EARLY:
                forget_doubted(&self.streams, sent)        # said behind another SYN
            if sent.flags & HELD_EARLY:
                early_base(&self.streams, sent, snd)
            else:
                track_base(sent, snd)
        if not received.flags & BASED or outcome & REBASED:
            if received.flags & HELD_EARLY:
                early_base(&self.streams, received, rcv)
            else:
                track_base(received, rcv)
            if received.flags & BASED:
                received.nxt_ns = packet.time_ns
                if received.flags & HELD_EARLY:
                    early_acked(&self.streams, received, rcv, offset_of(received, rcv.una), packet.time_ns)
            if rcv.packets and sent.flags & HELD_EARLY:
                forget_doubted(&self.streams, sent)        # said behind another SYN-ACK than the one that was taken
        if outcome & RESYNC:
            track_resume(&self.streams, sent, snd, flow.overlap, reach(rcv), packet.time_ns)
            track_resume(&self.streams, received, rcv, flow.overlap, reach(snd), packet.time_ns)
        elif outcome & DOUBT:
            track_doubt(&self.streams, sent, snd, packet)
        if outcome & KEEP_ALIVE and is_missing_byte(sent, packet):     # it but looked like one
            return outcome & ~KEEP_ALIVE | PAYLOAD_OK
        if not outcome & EARLY or self.outlet.in_line:
            return outcome
        if not sent.flags & BASED:
            track_unplaced(&self.streams, sent, snd, packet)
        elif not outcome & PAYLOAD_OK and not snd.flags & ISS_KNOWN:
            track_before(&self.streams, sent, snd, packet)
        elif not outcome & PAYLOAD_OK:
            track_apart(&self.streams, sent, snd, packet)
        elif track_early(&self.streams, sent, snd, packet, goes_on):
            flows_link(&self.flows, flow, self.next_look(flow))
            return outcome & ~PAYLOAD_OK
        return outcome

    cdef int attend_holes(self, FlowRecord* flow, int first, int64_t now_ns) except -1 nogil:
        """Give up the holes whose time has come, of one half first, and look again when that of the others comes."""
        cdef int64_t due = self.hole_due(flow)
        cdef int side, i
        if due <= now_ns:
            for i in range(2):
                side = first ^ i
                track_tick(&self.streams, track_at(&self.streams, flow.halves[side].track), &flow.halves[side], now_ns)
            due = self.hole_due(flow)
        flows_link(&self.flows, flow, min(due, self.deadline(flow)))
        if self.streams.disturbed:
            self.signal_disturbed()
        return 0

    cdef int on_malformed(self, Decoded* decoded) except -1 nogil:
        """A broken packet whose flow can still be told."""
        cdef FlowRecord* flow
        if decoded.packet.transport == NULL or decoded.packet.proto != PROTO_TCP:
            return 0
        decoded.from_low = make_key(&decoded.packet, &decoded.key)
        flow = flows_find(&self.flows, &decoded.key, key_hash(&self.flows, &decoded.key, decoded.packet.tunnel))
        if flow != NULL:
            return self.raise_error(flow, side_of(flow, decoded.from_low), &decoded.packet,
                                    WHAT_MALFORMED + decoded.kind, 0, 0)
        return 0

    # --- what it knows --------------------------------------------------------------------------------

    @property
    def now(self):
        """Time of the latest frame, or live the time, seconds since the epoch; 0.0 before the first."""
        return seconds(self.clock_ns)

    @property
    def clock_ns(self):
        """The same in nanoseconds."""
        cdef int64_t now_ns = self.clock()
        return now_ns if now_ns != INT64_MIN else 0

    def open_flows(self):
        """Yield what is known of each flow that has not ended, as a `Flow` that stays as it is."""
        cdef uint32_t index = 1
        cdef FlowRecord* flow
        cdef Flow view
        while index <= self.flows.pool.high_water:
            flow = flow_at(&self.flows, index)
            if in_table(flow) and flow.flags & ANNOUNCED:
                view = make_flow(flow, &self.streams, 0, None, None)
                view.detach()
                yield view
            index += 1

    def count_flows(self, accounts):
        """How many flows each of several apps watches now.

        They are counted as they come and go; only of those whose set of watchers found no room, the table is looked
        through.

        Args:
            accounts: Of the apps.

        Returns:
            As many numbers.
        """
        cdef uint32_t index
        cdef uint64_t rules
        cdef const FlowRecord* flow
        cdef list odd = []                         # sets for which the table has no room
        if self.rules.flows[MAX_SETS]:
            for index in range(1, self.flows.pool.high_water + 1):
                flow = flow_at(&self.flows, index)
                if in_table(flow) and flow.watchers == ANY_SET:
                    odd.append(rules_watching(&self.rules, flow))
        counts = []
        for account in accounts:
            rules = (<Account?> account).rules
            counts.append(sum([self.rules.flows[index] for index in range(self.rules.set_count)
                               if self.rules.sets[index] & rules]) + sum([1 for some in odd if some & rules]))
        return counts

    def unread(self):
        """Tell what was not read.

        Returns:
            ``(layer, number, frames)`` in the order in which they were first seen, at most 256: the number of a
            `aiomos.wire.protocols.Layer`, and in it. Frames of others are counted as ``unread_other`` alone.
        """
        return [(self.unread_table.numbers[i].layer, self.unread_table.numbers[i].number,
                 self.unread_table.numbers[i].count) for i in range(self.unread_table.used)]

    def statistics(self):
        """Counters by name.

        Returns:
            ``frames``; ``wild_times``, of them those whose time was not believed; packets by kind (``tcp``, ``udp``,
            ..., ``malformed.*``); ``anomaly.*``, segments not believed, by why; ``flows`` opened, ``midstream`` of
            them, ``open`` now, ``half_open`` and ``closed`` of those, ``evicted``, ``released_early`` (closed flows
            that made room), ``orphans`` (segments of no flow), ``without_syn`` (of these, of flows whose SYN was not
            seen), ``unwatched`` (SYNs no filter picked),
            ``no_memory``, ``watch_sets_full``; ``gap.*`` and ``gap_bytes.*`` by reason; ``conflicts``; ``copies``;
            ``unconfirmed`` segments around handshakes, ``unconfirmed_bytes`` of them;
            ``unread.*.*``, frames by what of them is not read, ``unread_other``;
            ``defrag.*``; ``in_line.*``; ``held.*``, records in use; ``held_bytes`` and ``kept_bytes``, memory.
        """
        counters = {"frames": self.frames, "wild_times": self.wild_times}
        counters.update({name: self.kinds[i] for i, name in enumerate(KIND_NAMES)})
        counters.update({
            "flows": self.opened, "midstream": self.picked_up, "open": self.flows.table.count,
            "half_open": self.flows.half_open.count, "closed": self.flows.closed.count, "evicted": self.evicted,
            "released_early": self.released_early, "orphans": self.orphans, "without_syn": self.without_syn,
            "unwatched": self.unwatched,
            "no_memory": self.no_memory, "watch_sets_full": self.rules.sets_full,
            "conflicts": self.streams.conflicts, "copies": self.streams.copies,
            "held.flows": self.flows.pool.in_use, "held.tracks": self.streams.tracks.in_use,
            "held.pieces": self.streams.store.count, "held.parts": self.streams.parts.in_use,
            "held.blocks": self.streams.store.blocks.blocks, "held.kept": self.streams.kept.blocks,
            "held_bytes": self.streams.store.blocks.bytes, "held_dropped": self.streams.held_dropped,
            "unconfirmed": self.streams.unconfirmed, "unconfirmed_bytes": self.streams.unconfirmed_bytes,
            "kept_bytes": self.streams.kept_memory, "kept_dropped": self.streams.kept_dropped})
        counters.update({f"ended.{reason_named(<uint8_t> reason)}": self.ended[reason]
                         for reason in range(REASON_FIN, REASON_DROPPED + 1)})
        counters.update({f"anomaly.{name}": self.anomalies[i] for i, name in enumerate(ANOMALY_NAMES)})
        counters.update({f"gap.{name}": self.streams.gaps[i] for i, name in enumerate(GAP_NAMES)})
        counters.update({f"gap_bytes.{name}": self.streams.gap_bytes[i] for i, name in enumerate(GAP_NAMES)})
        counters.update({unread_name(layer, number): count for layer, number, count in self.unread()})
        counters["unread_other"] = self.unread_table.other
        counters.update({f"in_line.{name}": value for name, value in self.outlet.statistics().items()})
        counters.update({f"defrag.{name}": value for name, value in self.defragmenter.statistics().items()})
        return counters


cdef inline bint is_pure_ack(const Packet* packet) noexcept nogil:
    return not packet.payload_len and packet.flags & (ACK | SYN | FIN | RST) == ACK


cdef inline void** kept_of(const Frame* frame) noexcept nogil:
    """The block that a held frame lies in: first the next such block, then its bytes."""
    return <void**> frame.data - 1


cdef void free_kept(void* block) noexcept nogil:
    cdef void* following
    while block != NULL:
        following = (<void**> block)[0]
        free(block)
        block = following


cdef inline void look_up(const Flows* flows, Decoded* decoded) noexcept nogil:
    """Find out to which flow a packet belongs."""
    if decoded.kind == WIRE_TCP:
        decoded.from_low = make_key(&decoded.packet, &decoded.key)
        decoded.hash = key_hash(flows, &decoded.key, decoded.packet.tunnel)
