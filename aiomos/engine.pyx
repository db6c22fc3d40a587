"""The flow engine of one core: frames and the time go in, connections, their bytes and callbacks come out.

A frame's way: decode (tcp/wire), reassemble fragments (tcp/defrag), find the flow (tcp/flows), bring both ends' state
up to date (tcp/monitor), account for and order its bytes (tcp/reassembly). All that runs without the
interpreter. What Python is to see waits until the batch is done and is handed over then, except callbacks,
which run at their very moment.

The engine does no input or output and reads no clock: time is that of the frames.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, uint8_t, uint16_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from aiomos.callbacks cimport WHAT_EVICTED, WHAT_MALFORMED, is_awaited
from aiomos.hooks cimport MERGE_EVENTS, NOTED_EVENTS, PACKET_EVENTS, START_EVENTS, Before
from aiomos.registry cimport Account, Call
from aiomos.tcp.clock cimport nanoseconds, seconds
from aiomos.tcp.defrag cimport DEFRAG_COMPLETE
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT_IS_LOW,
    CLOSED,
    DROPPED,
    ENDED,
    FIN_SEEN,
    GUESSED_ROLES,
    HALF_OPEN,
    KEEP,
    LINKED,
    MIDSTREAM,
    MOST_SYN_HEADERS,
    OPEN,
    REASON_DROPPED,
    REASON_END_OF_CAPTURE,
    REASON_EVICTED,
    REASON_RST,
    REASON_TIMEOUT,
    RESET,
    RESETTING,
    SEQ_KNOWN,
    SIGNALLED,
    SINK,
    TO_CONNECT,
    FlowKey,
    Flows,
    Half,
    PendingSyn,
    flow_at,
    flow_index,
    flows_find,
    flows_insert,
    flows_open,
    flows_remove,
    key_hash,
    make_key,
    queue_drop,
    queue_push,
    side_of,
    wheel_due,
    wheel_first,
    wheel_link,
    wheel_next,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport (
    ACK_MOVED,
    ANOMALIES,
    CLOSED_NOW,
    JOINED,
    PAYLOAD_OK,
    REBASED,
    REOPEN,
    RESTARTED,
    SETUP,
    SYN_DOUBTED,
    monitor_segment,
)
from aiomos.tcp.pieces cimport LARGE_BLOCK, SMALL_BLOCK
from aiomos.tcp.pool cimport pool_at, pool_take
from aiomos.tcp.reassembly cimport (
    BASED,
    HOLED,
    PART_CAPTURE_END,
    PART_END,
    PART_EVICTED,
    PART_RESET,
    PART_TIMEOUT,
    Track,
    streams_open,
    track_acked,
    track_at,
    track_base,
    track_deadline,
    track_finish,
    track_payload,
    track_tick,
    tracks_set_up,
)
from aiomos.tcp.retransmissions cimport track_acked_again
from aiomos.tcp.rewriting cimport Quote, quote_read
from aiomos.tcp.verdicts cimport Session, Verdicts
from aiomos.tcp.views cimport Flow, make_flow
from aiomos.tcp.wire cimport (
    ACK,
    FIN,
    RST,
    SYN,
    WIRE_FRAGMENT,
    WIRE_ICMP,
    WIRE_MALFORMED,
    WIRE_TCP,
    decode_frame,
    decode_ip,
)
from aiomos.transport.sharding cimport flow_hash
from aiomos.transport.source cimport FrameSource
from aiomos.transport.transport cimport Transport
from aiomos.ude.machine cimport Program
from aiomos.ude.rules cimport (
    ANY_SET,
    MAX_RULES,
    MAX_SETS,
    Need,
    Rule,
    rules_interest,
    rules_match,
    rules_need,
    rules_take,
    rules_watching,
)
from aiomos.ude.slots cimport (
    SLOT_ERROR,
    SLOT_FRAME,
    SLOT_ORPHAN,
    SLOT_OUT,
    SLOT_PKT,
    SLOT_RAW,
    SLOT_SETUP,
    SLOT_TEARDOWN,
)

from aiomos.errors import NotInLineError, RegistrationError
from aiomos.tcp.chunks import GAP_NAMES
from aiomos.tcp.packets import KIND_NAMES
from aiomos.ude.events import Hook


cdef extern from *:
    """
    #define aiomos_prefetch(p) __builtin_prefetch((p), 1, 3)
    """
    void aiomos_prefetch(const void* p) noexcept nogil

cdef enum:
    SECOND = 1_000_000_000
    STATE_LEVEL = 1
    STREAM_LEVEL = 3
    EVICTION_LOOKS = 64        # flows whose deadline is put right in search of the idlest
    FINISH_SLICE = 4096        # flows ended between two deliveries when frames run out
    # More frames than any batch of a transport; the pools of what a batch can bring about are sized by it.
    MOST_BATCH_FRAMES = 65536
    PROTO_TCP = 6
    MOST_IP_LENGTH = 1 << 20   # of a super-frame of segmentation offload, with room to spare

cdef tuple ANOMALY_NAMES = (
    "no_ack", "bad_flags", "out_of_window", "bad_ack", "bad_reset", "syn_in_connection", "bad_synack", "paws",
    "after_fin", "unsigned", "bad_options", "ack_unseen", "keep_alive", "zero_window_probe", "syn_retry",
    "urgent")
OVERLAPS = ("first", "last", "bsd", "linux", "windows", "solaris")
assert len(ANOMALY_NAMES) == ANOMALIES


cdef class Engine(Hooks):
    """One core's flows. Made by the runtime, which feeds it and runs what it hands over.

    Args:
        settings: Budgets, time-outs, how frames are read.
        key: 16 secret bytes that key the hash of the flow table.
        on_callback_error: Called with the function, the flow and the exception a callback raised; what
            it raises itself stops the run.
        shard: Of how many shares of the flows it takes which, ``(index, count)``; all frames are to be fed.

    Raises:
        MemoryError: the address space for the budgets cannot be had.
        ValueError: *key* has another length.
    """

    def __cinit__(self, settings, key, on_callback_error, shard=(0, 1)):
        cdef uint64_t keys[2]
        cdef bytes secret = bytes(key)
        if len(secret) != 16:
            raise ValueError(f"the key is 16 bytes, not {len(secret)}")
        memcpy(keys, <const char*> secret, 16)
        budgets, timeouts = settings.budgets, settings.timeouts
        self.flow_budget = budgets.flows
        self.half_open_budget = min(budgets.half_open, budgets.flows)
        self.timeout_half_open = nanoseconds(timeouts.half_open)
        self.timeout_established = nanoseconds(timeouts.established)
        self.timeout_closing = nanoseconds(timeouts.closing)
        self.timeout_time_wait = nanoseconds(timeouts.time_wait)
        self.timeout_reset = nanoseconds(timeouts.reset)
        self.decode_options.verify_checksums = settings.checksums == "verify"
        self.decode_options.decapsulate = settings.decapsulate
        self.defragmenter = Defragmenter(secret, memory=budgets.fragment_bytes)
        self.on_callback_error = on_callback_error
        self.shard, self.shards = shard
        self.outlet = Verdicts(settings, secret)
        self.fail_closed = settings.fail == "closed"
        self.filters = []
        self.now_ns = self.next_tick_ns = INT64_MIN
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
        free(self.remaining)

    # --- registrations ------------------------------------------------------------------------------

    def add_rule(self, Program program, level, *, account=None, midstream=False, overlap="first", opener=None,
                 keeps=False, unbound=False):
        """Watch the flows that a filter picks.

        Args:
            program: The compiled filter; None picks no flow by itself.
            level: How much of them to follow.
            account: Whose rule it is, from add_account(); None for one that is made now.
            midstream: Whether to take flows whose SYN was not captured.
            overlap: Who wins bytes that two segments share; the first rule to pick a flow decides.
            opener: Called with each `Flow` that has data to read or ends; returns its `MonitorConnection`.
            keeps: Whether delivered bytes are kept for a while, to be looked at.
            unbound: Whether it is only about packets that belong to no flow, or not yet.

        Returns:
            The rule's number, for add_call() and remove_rule().

        Raises:
            RegistrationError: too many rules.
        """
        cdef uint32_t number = rules_take(&self.rules)
        cdef uint64_t bit
        cdef Rule* rule
        if number == MAX_RULES:
            raise RegistrationError(f"one engine takes {MAX_RULES} handlers and callbacks; merge some of them")
        bit = <uint64_t> 1 << number
        while len(self.filters) <= number:
            self.filters.append(None)
            self.openers.append(None)
            self.rule_accounts.append(None)
        self.filters[number], self.openers[number] = program, opener
        self.rule_accounts[number] = account or self.add_account("app")
        (<Account> self.rule_accounts[number]).rules |= bit
        rule = &self.rules.rules[number]
        rule.code = program.code if program is not None else NULL
        rule.code_len = program.n if program is not None else 0
        rule.level = int(level)
        rule.overlap = OVERLAPS.index(overlap)
        rule.midstream = midstream
        rule.connects = opener is not None
        rule.keeps = keeps
        rule.follows = not unbound
        if midstream and not unbound:
            self.rules.midstream |= bit
        if opener is not None:
            self.rules.connecting |= bit
            if level == STREAM_LEVEL:
                self.rules.reading |= bit
        return number

    def start_at(self, uint32_t rule, event, opener):
        """Have a rule's flows given to handlers only once an event has happened on them.

        Args:
            rule: Number of the rule.
            event: `Event` or `UserEvent`.
            opener: As in add_rule().
        """
        cdef Call call
        cdef const Rule* waiting = &self.rules.rules[rule]
        started = self.add_rule(None, waiting.level, account=self.rule_accounts[rule],
                                overlap=OVERLAPS[waiting.overlap], opener=opener)
        call = self.add_call(rule, event, Hook.RECEIVER, None, ())
        call.starts = started
        return started

    def remove_rule(self, uint32_t number):
        """Have a rule pick no more flows and call nothing; its connections are to be left by their app."""
        cdef Call call
        cdef Account account
        if number < self.rules.count and self.rules.rules[number].active:
            account = self.rule_accounts[number]
            for call in list(account.calls):
                if call.rule == number:
                    self.remove_call(call)
            account.rules &= ~(<uint64_t> 1 << number)
            self.rules.rules[number].active = False
            self.rules.retired |= <uint64_t> 1 << number

    def remove_account(self, Account account not None):
        """Forget an app: its rules, calls and timers."""
        cdef uint32_t number
        self.cancel_timers(account)
        for number in range(self.rules.count):
            if account.rules >> number & 1:
                self.remove_rule(number)
        self.accounts.remove(account)
        account.calls = None                       # nothing can be registered on it any more
        if self.current == NULL:                   # else at the end of the batch
            self.sweep()

    # --- feeding --------------------------------------------------------------------------------------

    def feed(self, FrameSource source not None):
        """Process the current batch of a transport and hand over what came of it."""
        self.run_batch(source.frames, source.count)

    cdef int run_batch(self, const Frame* frames, size_t count) except -1:
        self.busy = True
        try:
            if self.chatty:                        # the interpreter is needed at every packet: do not let it go
                self.run(frames, count)
            else:
                with nogil:
                    self.run(frames, count)
            self.deliver()
            self.tell_sessions()
        finally:
            self.busy = False
        return self.raise_fatal()

    cdef int tell_sessions(self) except -1:
        """Tell those who wait for it which sessions have ended."""
        cdef Session session
        if not self.outlet.sessions.ended_head:
            return 0
        for session in self.outlet.take_ended():
            for function in session.listeners:
                try:
                    function(session)
                except Exception as error:
                    self.on_callback_error(function, None, error)
        return 0

    def pass_time(self, int64_t now_ns):
        """Let time pass without frames: what is due until *now_ns*, nanoseconds since the epoch, happens."""
        if now_ns <= self.now_ns:
            return
        self.now_ns = now_ns
        self.outlet.pass_time(now_ns)
        self.busy = True
        try:
            with nogil:
                if now_ns >= self.next_tick_ns:
                    self.advance(now_ns)
            self.deliver()
            self.tell_sessions()
        finally:
            self.busy = False
        self.raise_fatal()

    @property
    def deadline_ns(self):
        """When pass_time() has something to do if no frame comes before, nanoseconds since the epoch; None: never."""
        cdef int64_t due = min(wheel_next(&self.flows), self.timer_ns)
        if self.outlet.sessions.count:             # looked at once a second
            due = min(due, (self.now_ns // SECOND + 1) * SECOND)
        return due if due != INT64_MAX else None

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
                array[count].time_ns = time_ns
                array[count].linktype = linktype
                array[count].interface = 0
                count += 1
            self.run_batch(array, count)
        finally:
            free(array)

    def finish(self):
        """End the next slice of flows for want of frames, oldest first; False when none is left."""
        cdef size_t done = 0
        if self.remaining == NULL:
            self.list_remaining()
        self.busy = True
        try:
            with nogil:
                while self.remaining_count and done < FINISH_SLICE:
                    self.remaining_count -= 1
                    done += 1
                    self.end_flow(self.remaining[self.remaining_count], REASON_END_OF_CAPTURE)
            self.deliver()
            self.tell_sessions()
        finally:
            self.busy = False
        self.raise_fatal()
        return self.remaining_count > 0

    cdef int list_remaining(self) except -1:
        """Note all open flows, the youngest first."""
        cdef uint32_t index
        cdef FlowRecord* flow
        self.remaining = <FlowRecord**> malloc((self.flows.count + 1) * sizeof(FlowRecord*))
        if self.remaining == NULL:
            raise MemoryError("no memory to list the open flows")
        for index in range(1, self.flows.pool.high_water + 1):
            flow = flow_at(&self.flows, index)
            if in_table(flow):
                self.remaining[self.remaining_count] = flow
                self.remaining_count += 1
        qsort(self.remaining, self.remaining_count, sizeof(FlowRecord*), younger_first)
        return 0

    cdef int run(self, const Frame* frames, size_t count) except -1 nogil:
        cdef size_t done = 0, size, i
        cdef Decoded* decoded
        cdef int64_t time_ns
        # The common case: traffic is only watched, all of it is this engine's, and by those who want flows.
        cdef bint plain = (not self.outlet.in_line and self.shards == 1
                           and not self.rules.interests[MAX_SETS].events >> SLOT_RAW & 1)
        while done < count:
            size = count - done
            if size > GROUP:
                size = GROUP
            self.look_ahead(frames + done, size)
            for i in range(size):
                decoded = &self.group[i]
                time_ns = decoded.packet.time_ns
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
        if self.wired:
            self.outlet.pass_time(self.now_ns)
        return 0

    cdef int take(self, const Frame* frame, Decoded* decoded) except -1 nogil:
        """Process a frame of any kind, in line or not."""
        if self.shards > 1 and not self.is_mine(&decoded.packet):
            self.frames -= 1                       # another engine counts it
            return self.on_fragment(decoded) if decoded.kind == WIRE_FRAGMENT else 0   # the whole packet may be ours
        self.kinds[decoded.kind] += 1
        if self.outlet.in_line:
            return self.cross(frame, decoded)
        return self.on_packet(decoded)

    cdef bint is_mine(self, const Packet* packet) noexcept nogil:
        """Is a packet of the share of the flows that is this engine's?"""
        return flow_hash(packet) % self.shards == self.shard

    cdef int cross(self, const Frame* frame, Decoded* decoded) except -1 nogil:
        """A frame's way through in line: in, past everybody, and out again."""
        self.outlet.take_in(frame, &decoded.packet, decoded.kind)
        if decoded.kind == WIRE_FRAGMENT and not self.outlet.is_in_tunnel() and not self.collect(decoded):
            self.outlet.hold()                     # it leaves with the others of its packet
            return 0
        if self.outlet.enter_session():
            self.look_up(decoded)
        elif decoded.kind == WIRE_ICMP and not decoded.packet.known:
            decoded.packet.known = self.is_about_flow(&decoded.packet)
        self.on_packet(decoded)
        self.outlet.pass_on()
        return 0

    cdef bint collect(self, Decoded* decoded) noexcept nogil:
        """Keep a fragment until its packet is whole, as then it is."""
        cdef const uint8_t* data = NULL
        cdef size_t length = 0
        if self.defragmenter.add(&decoded.packet, &data, &length) != DEFRAG_COMPLETE:
            return False
        decoded.kind = self.outlet.put_together(data, length, self.defragmenter.table.largest)
        if decoded.kind == WIRE_TCP:
            self.kinds[decoded.kind] += 1
            self.look_up(decoded)
        return True

    cdef void look_up(self, Decoded* decoded) noexcept nogil:
        """Find out anew to which flow a packet belongs."""
        if decoded.kind == WIRE_TCP:
            decoded.from_low = make_key(&decoded.packet, &decoded.key)
            decoded.hash = key_hash(&self.flows, &decoded.key)

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
        flow = flows_find(&self.flows, &key, key_hash(&self.flows, &key))
        return flow != NULL and not flow.flags & DROPPED

    cdef int on_packet(self, Decoded* decoded) except -1 nogil:
        cdef uint32_t unbound = self.rules.interests[MAX_SETS].events
        if unbound >> SLOT_RAW & 1 and decoded.kind <= WIRE_FRAGMENT:
            self.raise_unbound(SLOT_RAW, decoded)
            if self.outlet.moved:
                self.look_up(decoded)
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
            decoded.packet.time_ns = frames[i].time_ns
            if decoded.kind == WIRE_TCP:
                decoded.from_low = make_key(&decoded.packet, &decoded.key)
                decoded.hash = key_hash(&self.flows, &decoded.key)
                aiomos_prefetch(&self.flows.slots[decoded.hash & self.flows.mask])
        for i in range(count):
            decoded = &self.group[i]
            if decoded.kind == WIRE_TCP:
                index = self.flows.slots[decoded.hash & self.flows.mask].index
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
        if decoded.kind == WIRE_TCP and (self.shards <= 1 or self.is_mine(&decoded.packet)):
            self.kinds[decoded.kind] += 1
            self.look_up(decoded)
            self.on_tcp(decoded)
        return 0

    # --- segments -------------------------------------------------------------------------------------

    cdef int on_tcp(self, Decoded* decoded) except -1 nogil:
        cdef const Packet* packet = &decoded.packet
        cdef FlowRecord* flow = flows_find(&self.flows, &decoded.key, decoded.hash)
        if flow == NULL:
            flow = self.first_packet(decoded)
        elif flow.pending and confirms(&self.flows, flow, packet, decoded.from_low):
            flow = self.replace(flow, decoded)
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
        if outcome & REOPEN:
            flow.halves[side].packets -= 1
            return 1
        if outcome & SYN_DOUBTED:
            self.doubt_syn(flow, side, packet)
        if packet.time_ns > flow.last_ns:
            flow.last_ns = packet.time_ns
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
        if outcome & (JOINED | RESTARTED):
            before_nxt = packet.seq
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
        if flow.flags & HALF_OPEN and flow.flags & FLOW_ESTABLISHED and flow.halves[1 - side].packets:
            leave_half_open(&self.flows, flow)
        if outcome & (SETUP | CLOSED_NOW) or packet.flags & FIN:
            self.after_segment(flow, packet, outcome)
        return 0

    cdef int after_segment(self, FlowRecord* flow, const Packet* packet, int outcome) except -1 nogil:
        """Whatever changes how long the flow is kept."""
        cdef int side
        if outcome & CLOSED_NOW:
            leave_half_open(&self.flows, flow)
            queue_push(&self.flows, &self.flows.closed, flow)
            if flow.reason == REASON_RST and flow.halves[0].track:
                for side in range(2):
                    track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                 &flow.halves[side], PART_RESET, packet.time_ns)
                if self.streams.incident_count:
                    self.raise_incidents(flow, packet)
                self.signal_data(flow)
        if self.deadline(flow) <= packet.time_ns:  # time-outs of 0 seconds
            return self.end_flow(flow, OPEN)
        wheel_link(&self.flows, flow, self.next_look(flow))
        return 0

    cdef int cut(self, FlowRecord* flow, uint16_t flags) except -1 nogil:
        """Let no more of a flow pass: as far as its watchers are concerned, it is closed."""
        cdef int side
        flow.flags |= flags | CLOSED
        flow.reason = <uint8_t> (REASON_RST if flags & RESETTING else REASON_DROPPED)
        flow.last_ns = max(flow.last_ns, self.now_ns)
        for side in range(2):
            flow.halves[side].facts |= RESET
        if self.outlet.packet != NULL and self.outlet.flow == flow:
            self.outlet.dropped = True
        leave_half_open(&self.flows, flow)
        if not flow.flags & LINKED:
            queue_push(&self.flows, &self.flows.closed, flow)
        if flow.halves[0].track:
            for side in range(2):
                track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track), &flow.halves[side],
                             PART_RESET, flow.last_ns)
            if self.streams.incident_count:
                self.raise_incidents(flow, NULL)
            if flow.halves[0].track:
                self.signal_data(flow)
        wheel_link(&self.flows, flow, self.next_look(flow))
        return 0

    def drop_flow(self, Flow view not None):
        """Let nothing of a flow pass any more; see `Flow.drop`."""
        cdef FlowRecord* flow = self.record_of(view)
        if not self.outlet.in_line:
            raise NotInLineError
        if not flow.flags & DROPPED:
            self.cut(flow, DROPPED)
            self.tell_news()

    def reset_flow(self, Flow view not None):
        """End a connection by RST to both ends; see `Flow.reset`."""
        cdef FlowRecord* flow = self.record_of(view)
        if not self.outlet.is_open:
            raise NotInLineError("there is no wire to send a RST to: frames come from a capture")
        if not flow.flags & RESETTING:
            self.outlet.reset_ends(flow, flow_index(&self.flows, flow))
            self.cut(flow, DROPPED | RESETTING)
            self.tell_news()

    cdef int follow_bytes(self, FlowRecord* flow, int side, const Packet* packet, int outcome,
                          uint32_t before_nxt) except -1 nogil:
        cdef Half* snd = &flow.halves[side]
        cdef Half* rcv = &flow.halves[1 - side]
        cdef Track* sent = track_at(&self.streams, snd.track)
        cdef Track* received = track_at(&self.streams, rcv.track)
        if not sent.flags & BASED or outcome & (JOINED | RESTARTED):
            track_base(sent, snd)
        if not received.flags & BASED or outcome & REBASED:
            track_base(received, rcv)
        if outcome & ACK_MOVED:
            track_acked(&self.streams, received, rcv, packet.time_ns)
        elif is_pure_ack(packet) and rcv.una != rcv.nxt and packet.ack == rcv.una:
            track_acked_again(received, rcv, packet)
        if packet.payload_len or packet.flags & (SYN | FIN):
            track_payload(&self.streams, sent, snd, packet, flow.overlap,
                          (outcome & PAYLOAD_OK) != 0, before_nxt)
        if (sent.flags | received.flags) & HOLED:
            if 0 < track_deadline(&self.streams, sent, snd) <= packet.time_ns:
                track_tick(&self.streams, sent, snd, packet.time_ns)
            if 0 < track_deadline(&self.streams, received, rcv) <= packet.time_ns:
                track_tick(&self.streams, received, rcv, packet.time_ns)
            wheel_link(&self.flows, flow, self.next_look(flow))
        if self.streams.incident_count:
            self.raise_incidents(flow, packet)
            if not flow.halves[0].track:           # those who were told wanted no more
                return 0
        return self.signal_data(flow)

    cdef int on_malformed(self, Decoded* decoded) except -1 nogil:
        """A broken packet whose flow can still be told."""
        cdef FlowRecord* flow
        if decoded.packet.transport == NULL or decoded.packet.proto != PROTO_TCP:
            return 0
        decoded.from_low = make_key(&decoded.packet, &decoded.key)
        flow = flows_find(&self.flows, &decoded.key, key_hash(&self.flows, &decoded.key))
        if flow != NULL:
            return self.raise_error(flow, side_of(flow, decoded.from_low), &decoded.packet,
                                    WHAT_MALFORMED + decoded.kind, 0, 0)
        return 0

    # --- flows ----------------------------------------------------------------------------------------

    cdef FlowRecord* first_packet(self, Decoded* decoded) except? NULL nogil:
        """Open a flow for a packet that belongs to none, if some rule wants it."""
        cdef uint32_t control = decoded.packet.flags & (SYN | ACK | RST)
        if control == SYN:
            return self.open_flow(decoded, False, decoded.from_low)
        if control == (SYN | ACK):
            return self.open_flow(decoded, True, not decoded.from_low)
        if not self.rules.midstream:
            self.orphans += 1
            return NULL
        return self.open_flow(decoded, True, guess_client_low(&decoded.key, decoded.from_low))

    cdef FlowRecord* open_flow(self, Decoded* decoded, bint midstream, bint client_is_low) except? NULL nogil:
        """Open a flow if a rule wants it; NULL if none does or there is no room."""
        cdef bint joinable = midstream and decoded.packet.flags & SYN
        cdef uint64_t mask = rules_match(&self.rules, &decoded.key, client_is_low, midstream)
        cdef uint64_t wanted = mask if not joinable else rules_match(&self.rules, &decoded.key, client_is_low, False)
        cdef uint32_t index
        cdef FlowRecord* flow
        if not wanted:
            if midstream:
                self.orphans += 1
            else:
                self.unwatched += 1
            return NULL
        if self.flows.half_open.count >= self.half_open_budget:
            self.evicted += 1
            self.end_flow(flow_at(&self.flows, self.flows.half_open.head), REASON_EVICTED)
        while self.flows.count >= self.flow_budget:
            self.evict()
        index = flows_insert(&self.flows, &decoded.key, decoded.hash)
        if index == 0:
            self.no_memory += 1
            return NULL
        flow = flow_at(&self.flows, index)
        if self.wired:
            self.outlet.flow_begun(index)
        flow.started_ns = flow.last_ns = decoded.packet.time_ns
        flow.flags = (CLIENT_IS_LOW if client_is_low else 0) | HALF_OPEN
        if midstream:
            flow.flags |= MIDSTREAM
            if not joinable:
                flow.flags |= GUESSED_ROLES
        queue_push(&self.flows, &self.flows.half_open, flow)
        wheel_link(&self.flows, flow, self.deadline(flow))
        if mask:
            self.watch(flow, mask)
        self.apply_levels(flow, wanted, mask)      # counting begins now, whoever is told of the flow and when
        return flow

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

        Those of them that were *told* of the flow get its bytes.
        """
        cdef Need need = rules_need(&self.rules, mask, told)
        flow.overlap = need.overlap
        flow.halves[0].level = flow.halves[1].level = need.level
        cdef uint16_t flags = (SINK if need.sink else 0) | (KEEP if need.keep else 0)
        flow.halves[0].flags |= flags
        flow.halves[1].flags |= flags
        if need.level > STATE_LEVEL and not flow.halves[0].track:
            self.open_tracks(flow)

    cdef void doubt_syn(self, FlowRecord* flow, int side, const Packet* packet) noexcept nogil:
        """Remember a SYN in a live connection: both ends may have forgotten the old one."""
        cdef PendingSyn* syn
        cdef bint again = flow.pending != 0
        cdef size_t length = <size_t> (packet.transport - packet.network) + packet.header_len
        if length > MOST_SYN_HEADERS:              # it must do without: no host sends such headers
            return
        if not again:
            flow.pending = pool_take(&self.flows.pending)
        if flow.pending:
            syn = <PendingSyn*> pool_at(&self.flows.pending, flow.pending)
            if again and syn.seq == packet.seq and syn.side == side:
                syn.count += 1
                return
            syn.time_ns = packet.time_ns
            syn.before_ns = flow.last_ns
            syn.count = 1
            syn.seq = packet.seq
            syn.side = <uint8_t> side
            syn.length = <uint16_t> length
            memcpy(syn.headers, packet.network, length)

    cdef FlowRecord* replace(self, FlowRecord* old, Decoded* decoded) except? NULL nogil:
        """A doubted SYN has been confirmed: end the old flow and open the new one with it."""
        cdef PendingSyn syn = (<PendingSyn*> pool_at(&self.flows.pending, old.pending))[0]
        cdef Decoded opening
        cdef FlowRecord* flow
        old.halves[syn.side].packets -= syn.count
        if old.halves[syn.side].track and syn.seq == old.halves[syn.side].iss:
            track_at(&self.streams, old.halves[syn.side].track).retransmits -= syn.count
        if old.last_ns == syn.time_ns:             # nothing followed it
            old.last_ns = syn.before_ns
        opening.key = decoded.key
        opening.hash = decoded.hash
        opening.from_low = (old.flags & CLIENT_IS_LOW != 0) == (syn.side == 0)
        self.end_flow(old, REASON_TIMEOUT)
        self.recall_syn(&syn, decoded, &opening.packet)
        flow = self.open_flow(&opening, False, opening.from_low)
        if flow != NULL:
            self.process(flow, 0, &opening.packet)
            flow.halves[0].packets = syn.count
            if flow.halves[0].track:
                track_at(&self.streams, flow.halves[0].track).retransmits = syn.count - 1
        return flow

    cdef void recall_syn(self, const PendingSyn* syn, const Decoded* decoded, Packet* packet) noexcept nogil:
        """Read the headers of a SYN again that were kept; data that it may have carried is not there any more."""
        memset(packet, 0, sizeof(Packet))
        packet.time_ns = syn.time_ns
        packet.vlan = decoded.packet.vlan
        packet.transient = True
        decode_ip(syn.headers, syn.length, MOST_IP_LENGTH, &self.decode_options, packet, 0)
        packet.payload_len = packet.payload_cap = 0

    # --- time and budgets -----------------------------------------------------------------------------

    cdef int64_t deadline(self, const FlowRecord* flow) noexcept nogil:
        """When the flow is to be forgotten if nothing more is seen of it."""
        cdef int64_t wait
        if flow.flags & CLOSED:
            wait = self.timeout_time_wait
            if flow.reason == REASON_RST:
                wait = self.timeout_reset
            elif flow.reason == REASON_DROPPED:    # longer than a sender waits before it tries again
                wait = self.timeout_closing
        elif (flow.halves[0].flags | flow.halves[1].flags) & FIN_SEEN:
            wait = self.timeout_closing
        elif flow.flags & FLOW_ESTABLISHED:
            wait = self.timeout_established
        else:
            wait = self.timeout_half_open
        return flow.last_ns + wait

    cdef int64_t next_look(self, const FlowRecord* flow) noexcept nogil:
        """When the flow is to be looked at again: its own deadline, or that of a hole in one of its halves."""
        cdef int64_t due = self.deadline(flow), hole
        cdef int side
        if flow.halves[0].track:
            for side in range(2):
                hole = track_deadline(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                      &flow.halves[side])
                if hole and hole < due:
                    due = hole
        return due

    cdef int advance(self, int64_t now_ns) except -1 nogil:
        """Let time pass: timers run out, and flows end, in the order of their times."""
        while self.timer_ns <= now_ns:
            self.now_ns = self.timer_ns
            self.turn_wheel(self.now_ns)
            self.run_timers()
        self.now_ns = now_ns
        self.turn_wheel(now_ns)
        self.next_tick_ns = min((self.flows.tick + 1) * SECOND, self.timer_ns)
        return 0

    cdef int turn_wheel(self, int64_t now_ns) except -1 nogil:
        """Look at every flow whose slot of the wheel has come."""
        cdef uint32_t index = wheel_due(&self.flows, now_ns)
        cdef FlowRecord* flow
        cdef int side
        while index:
            flow = flow_at(&self.flows, index)
            if self.deadline(flow) <= now_ns:
                self.give_up(flow, REASON_TIMEOUT)
            else:
                if flow.halves[0].track:
                    for side in range(2):
                        track_tick(&self.streams, track_at(&self.streams, flow.halves[side].track),
                                   &flow.halves[side], now_ns)
                    if self.streams.incident_count:
                        self.raise_incidents(flow, NULL)
                    if flow.halves[0].track:
                        self.signal_data(flow)
                wheel_link(&self.flows, flow, self.next_look(flow))
            index = wheel_due(&self.flows, now_ns)
        return 0

    cdef int evict(self) except -1 nogil:
        """Make room for one flow: a closed one that only waits for stragglers, else half-open, else idle longest."""
        if self.flows.closed.count:
            self.released_early += 1
            return self.end_flow(flow_at(&self.flows, self.flows.closed.head), OPEN)
        self.evicted += 1
        if self.flows.half_open.count:
            return self.end_flow(flow_at(&self.flows, self.flows.half_open.head), REASON_EVICTED)
        return self.give_up(self.idlest(), REASON_EVICTED)

    cdef FlowRecord* idlest(self) noexcept nogil:
        """The flow nearest to its time-out, to a step of the wheel.

        Slots tell deadlines as they were when a flow was linked. Those found early are linked where they
        belong now; a bounded number of them per call, so that the last one seen may have to do.
        """
        cdef int _look
        cdef FlowRecord* flow = NULL
        cdef FlowRecord* best = NULL
        cdef uint16_t slot
        for _look in range(EVICTION_LOOKS):
            flow = flow_at(&self.flows, wheel_first(&self.flows))
            slot = flow.wheel_slot
            wheel_link(&self.flows, flow, self.deadline(flow))
            if best == NULL or flow.last_ns < best.last_ns:
                best = flow
            if flow.wheel_slot == slot:
                break
        for _look in range(EVICTION_LOOKS):        # among those due in the same second, too, the idlest
            if not flow.wheel_next:
                break
            flow = flow_at(&self.flows, flow.wheel_next)
            if flow.last_ns < best.last_ns:
                best = flow
        return best

    cdef int give_up(self, FlowRecord* flow, int reason) except -1 nogil:
        """End a flow whose ends may go on; but not one whose ends number its bytes differently, untranslated."""
        if self.outlet.in_line and not flow.flags & CLOSED and self.outlet.is_edited(flow_index(&self.flows, flow)):
            self.outlet.reset_ends(flow, flow_index(&self.flows, flow))
        return self.end_flow(flow, reason)

    cdef int end_flow(self, FlowRecord* flow, int reason) except -1 nogil:
        """Close the books of a flow; its record goes once nobody needs it."""
        cdef int side, kind = PART_END
        if flow.reason == OPEN:
            flow.reason = <uint8_t> (reason if reason != OPEN else REASON_TIMEOUT)
        if flow.halves[0].track:
            if flow.reason == REASON_RST or flow.reason == REASON_DROPPED:
                kind = PART_RESET
            elif flow.reason == REASON_TIMEOUT:
                kind = PART_TIMEOUT
            elif flow.reason == REASON_EVICTED:
                kind = PART_EVICTED
            elif flow.reason == REASON_END_OF_CAPTURE:
                kind = PART_CAPTURE_END
            for side in range(2):
                track_finish(&self.streams, track_at(&self.streams, flow.halves[side].track),
                             &flow.halves[side], kind, flow.last_ns)
            if self.streams.incident_count:
                self.raise_incidents(flow, NULL)
        if flow.reason == REASON_EVICTED:
            self.raise_error(flow, 0, NULL, WHAT_EVICTED, 0, 0)
        self.raise_new_data(flow)
        flows_remove(&self.flows, flow)
        if flow.flags & ANNOUNCED:
            self.raise_event(SLOT_TEARDOWN, flow, 0, NULL)
        else:                                      # a SYN-ACK whose SYN never came, and what followed it
            self.orphans += flow.halves[0].packets + flow.halves[1].packets
        if flow.hold or flow.flags & (SIGNALLED | TO_CONNECT) or flow == self.outlet.flow:
            self.signal(flow)                      # its last segment is yet to leave, perhaps in other numbers
        else:
            self.release(flow)
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
        """How many flows each of several apps watches now; one walk through the table for all of them.

        Args:
            accounts: Of the apps.

        Returns:
            As many numbers.
        """
        cdef uint32_t by_set[MAX_SETS]
        cdef uint32_t index
        cdef uint64_t rules
        cdef const FlowRecord* flow
        cdef Account account
        cdef list odd = []                         # sets for which the table has no room
        memset(by_set, 0, sizeof(by_set))
        for index in range(1, self.flows.pool.high_water + 1):
            flow = flow_at(&self.flows, index)
            if in_table(flow):
                if flow.watchers != ANY_SET:
                    by_set[flow.watchers] += 1
                else:
                    odd.append(rules_watching(&self.rules, flow))
        counts = []
        for account in accounts:
            rules = account.rules
            counts.append(sum([by_set[index] for index in range(self.rules.set_count)
                               if self.rules.sets[index] & rules]) + sum([1 for some in odd if some & rules]))
        return counts

    def statistics(self):
        """Counters by name.

        Returns:
            ``frames``; packets by kind (``tcp``, ``udp``, ..., ``malformed.*``); ``anomaly.*``, segments not
            believed, by why; ``flows`` opened, ``midstream`` of them, ``open`` now, ``half_open`` and ``closed`` of
            those, ``evicted``, ``released_early`` (closed flows that made room), ``orphans`` (segments of no flow),
            ``unwatched`` (SYNs no filter picked),
            ``no_memory``, ``watch_sets_full``; ``gap.*`` and ``gap_bytes.*`` by reason; ``conflicts``;
            ``defrag.*``; ``in_line.*``; ``held.*``, records in use; ``held_bytes`` and ``kept_bytes``, memory.
        """
        counters = {"frames": self.frames}
        counters.update({name: self.kinds[i] for i, name in enumerate(KIND_NAMES)})
        counters.update({
            "flows": self.opened, "midstream": self.picked_up, "open": self.flows.count,
            "half_open": self.flows.half_open.count, "closed": self.flows.closed.count, "evicted": self.evicted,
            "released_early": self.released_early, "orphans": self.orphans, "unwatched": self.unwatched,
            "no_memory": self.no_memory, "watch_sets_full": self.rules.sets_full,
            "conflicts": self.streams.conflicts,
            "held.flows": self.flows.pool.in_use, "held.tracks": self.streams.tracks.in_use,
            "held.pieces": self.streams.store.pieces.in_use, "held.parts": self.streams.parts.in_use,
            "held.blocks": self.streams.store.small.in_use + self.streams.store.large.in_use,
            "held.kept": self.streams.kept_small.in_use + self.streams.kept_large.in_use,
            "held_bytes": (self.streams.store.small.in_use * <uint64_t> SMALL_BLOCK
                           + self.streams.store.large.in_use * <uint64_t> LARGE_BLOCK),
            "kept_bytes": self.streams.kept_memory, "kept_dropped": self.streams.kept_dropped})
        counters.update({f"anomaly.{name}": self.anomalies[i] for i, name in enumerate(ANOMALY_NAMES)})
        counters.update({f"gap.{name}": self.streams.gaps[i] for i, name in enumerate(GAP_NAMES)})
        counters.update({f"gap_bytes.{name}": self.streams.gap_bytes[i] for i, name in enumerate(GAP_NAMES)})
        counters.update({f"in_line.{name}": value for name, value in self.outlet.statistics().items()})
        counters.update({f"defrag.{name}": value for name, value in self.defragmenter.statistics().items()})
        return counters


cdef inline bint in_table(const FlowRecord* flow) noexcept nogil:
    """Is this record of the pool a live flow? Given back, it keeps the mark of its end."""
    return not flow.flags & ENDED


cdef int younger_first(const void* a, const void* b) noexcept nogil:
    """Order of two flows, the one that began later first; keys decide among those that began at once."""
    cdef const FlowRecord* one = (<const FlowRecord**> a)[0]
    cdef const FlowRecord* other = (<const FlowRecord**> b)[0]
    if one.started_ns != other.started_ns:
        return -1 if one.started_ns > other.started_ns else 1
    return memcmp(&other.key, &one.key, sizeof(FlowKey))


cdef inline bint is_pure_ack(const Packet* packet) noexcept nogil:
    return not packet.payload_len and packet.flags & (ACK | SYN | FIN | RST) == ACK


cdef void leave_half_open(Flows* flows, FlowRecord* flow) noexcept nogil:
    if flow.flags & HALF_OPEN:
        if flow.flags & LINKED:
            queue_drop(flows, &flows.half_open, flow)
        flow.flags &= ~<uint16_t> HALF_OPEN


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
