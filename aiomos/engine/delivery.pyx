"""Delivery: what Python is told of a batch, once it is done.

A flow with news is signalled. deliver() goes through the signals: it raises CONN_NEW_DATA, makes connections, keeps
bytes for those who look at them later, pushes bytes and gaps to connections, and ends them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.engine.callbacks cimport WHAT_GAP, Callbacks, Moment, is_open, moment_begin
from aiomos.engine.registry cimport Account, Call, new_call
from aiomos.face.chunks cimport Gap, chunk_offset, new_chunk, new_gap
from aiomos.face.views cimport reason_named
from aiomos.levels cimport BYTES_LEVEL, STATE_LEVEL, STREAM_LEVEL
from aiomos.sealing cimport mark_part, seal
from aiomos.tcp.flows cimport (
    ANNOUNCED,
    CLIENT_IS_LOW,
    ENDED,
    FIN_SEEN,
    ISS_KNOWN,
    KEEP,
    MIDSTREAM,
    SEQ_KNOWN,
    SIGNALLED,
    SINK,
    TO_CONNECT,
    Half,
    flow_at,
    flow_index,
    flow_of,
    flows_release,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.holdings cimport track_ranges, track_read
from aiomos.tcp.reassembly cimport (
    BASED,
    GAP_UNREAD,
    PART_DATA,
    PART_EVICTED,
    PART_GAP,
    PART_RESET,
    PART_TIMEOUT,
    Part,
    part_at,
    part_release,
    take_disturbed,
    track_at,
    track_close,
    track_drop_parts,
    track_lower,
    track_open,
)
from aiomos.tcp.retention cimport track_forget, track_keep
from aiomos.ude.rules cimport (
    ANY_SET,
    MAX_RULES,
    MAX_SETS,
    Need,
    Rule,
    rules_assign,
    rules_count,
    rules_forget,
    rules_intern,
    rules_interest,
    rules_match,
    rules_need,
    rules_watching,
)
from aiomos.ude.slots cimport SLOT_ERROR, SLOT_NEW_DATA

from collections import deque

from aiomos.errors import ConnectionEvicted, ConnectionReset, ConnectionTimedOut, EngineBug, RegistrationError
from aiomos.face.chunks import GAP_NAMES, URGENT_GAP

cdef enum:
    HISTORY_BYTES = 16 << 20   # delivered bytes kept, over all flows, to compare retransmissions with
    HISTORY_CHUNKS = 65536
    MOST_RANGES = 64           # stretches of kept bytes that a late reader is given
    PICK_FLOWS = 8192          # looked at in one turn for a rule that is new: a millisecond


cdef class Past:
    """A chunk that a stream was given, kept to compare retransmissions with; empty once forgotten."""


cdef class Delivery:
    """The Python side of flows. Not to be made by itself: `aiomos.engine.engine.Engine` is one."""

    def __cinit__(self):
        self.own_calls = {}
        self.history = deque()

    def start_at(self, uint32_t rule, event, opener):
        """Have a rule's flows given to handlers only once an event has happened on them.

        Args:
            rule: Number of the rule.
            event: `Event` or `UserEvent`.
            opener: As in add_rule().
        """
        started = Callbacks.start_at(self, rule, event, opener)
        self.on_event |= <uint64_t> 1 << <uint32_t> started
        return started

    def remove_rule(self, uint32_t number):
        """Have a rule pick no more flows and call nothing; its connections are to be left by their app."""
        Callbacks.remove_rule(self, number)
        if number < MAX_RULES:
            self.on_event &= ~(<uint64_t> 1 << number)

    # --- records --------------------------------------------------------------------------------------

    cdef void open_tracks(self, FlowRecord* flow) noexcept nogil:
        """Follow the bytes of a flow, from here on if it has been running."""
        cdef Half* half
        cdef Track* track
        cdef int side
        for side in range(2):                      # the pool holds two tracks for every flow record there can be
            half = &flow.halves[side]
            half.track = track_open(&self.streams, half)
            if half.packets and half.flags & SEQ_KNOWN:
                track = track_at(&self.streams, half.track)
                track.edge_seq = half.fin if half.flags & FIN_SEEN else half.nxt
                track.edge = track.edge_seq - (half.iss + 1) if half.flags & ISS_KNOWN else 0
                track.flags |= BASED

    cdef void free_tracks(self, FlowRecord* flow) noexcept nogil:
        cdef int side
        for side in range(2):
            if flow.halves[side].track:
                track_close(&self.streams, flow.halves[side].track)
                flow.halves[side].track = 0

    cdef void release(self, FlowRecord* flow) noexcept nogil:
        self.free_tracks(flow)
        if self.outlet.is_open:
            self.outlet.flow_gone(flow_index(&self.flows, flow))
        flows_release(&self.flows, flow)

    cdef int signal_data(self, FlowRecord* flow) except -1 nogil:
        if (track_at(&self.streams, flow.halves[0].track).out_head
                or track_at(&self.streams, flow.halves[1].track).out_head):
            return self.signal(flow)
        return 0

    cdef int signal_disturbed(self) except -1 nogil:
        """Have those told, too, whose halves gave up a hole for the room that the segment at hand needed."""
        cdef const Half* half = take_disturbed(&self.streams)
        while half != NULL:
            self.signal_data(flow_of(&self.flows, half))
            half = take_disturbed(&self.streams)
        return 0

    cdef int raise_new_data(self, FlowRecord* flow) except -1 nogil:
        """Tell of each contiguous run of bytes that this batch has added to a half."""
        cdef Moment m
        cdef uint32_t index
        cdef int side
        if not rules_interest(&self.rules, flow).events >> SLOT_NEW_DATA & 1:
            return 0
        for side in range(2):
            index = track_at(&self.streams, flow.halves[side].track).out_head if flow.halves[side].track else 0
            while index:
                moment_begin(&m, SLOT_NEW_DATA, flow, side, NULL, self.now_ns)
                index = self.find_run(index, &m)
                if not m.length:
                    break
                self.happen(&m)
                if not flow.halves[side].track or not track_at(&self.streams, flow.halves[side].track).out_head:
                    break                          # those who were told want no more
        return 0

    cdef uint32_t find_run(self, uint32_t index, Moment* m) noexcept nogil:
        """Put the first run of bytes from a part on into a moment; returns the part behind it."""
        cdef const Part* part
        while index:
            part = part_at(&self.streams, index)
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

    # --- who watches a running flow -------------------------------------------------------------------

    cdef bint has_come_about(self, const FlowRecord* flow) noexcept nogil:
        """Is there more to a flow than the try to open it: was it established, or has it carried a byte?

        Else no handler is started for it, so that scans and floods of SYNs cost none.
        """
        cdef const Half* half
        cdef int side
        if flow.flags & FLOW_ESTABLISHED:
            return True
        for side in range(2):
            half = &flow.halves[side]
            if half.track:
                if track_at(&self.streams, half.track).bytes:
                    return True
            elif half.flags & ISS_KNOWN and half.nxt - half.iss > <uint32_t> (2 if half.flags & FIN_SEEN else 1):
                return True
        return False

    cdef int come_about(self, FlowRecord* flow) except -1 nogil:
        """A flow that handlers wait for is established: who reads bytes is told when there are some, others now."""
        if rules_watching(&self.rules, flow) & self.rules.connecting & ~self.rules.reading:
            return self.signal(flow)
        return 0

    cdef int watch(self, FlowRecord* flow, uint64_t mask) except -1 nogil:
        """Fix who watches a flow; those who connect are told at the end of the batch."""
        cdef uint64_t connecting = mask & self.rules.connecting
        if flow.flags & ANNOUNCED:
            connecting &= ~rules_watching(&self.rules, flow)
        else:
            flow.flags |= ANNOUNCED
            self.opened += 1
            if flow.flags & MIDSTREAM:
                self.picked_up += 1
        rules_assign(&self.rules, flow, rules_intern(&self.rules, mask))
        if connecting:
            flow.flags |= TO_CONNECT
            if self.has_come_about(flow):
                return self.come_about(flow)
        return 0

    def pick_up(self, rules):
        """Show running flows to rules that were added meanwhile and take flows in mid-stream.

        Args:
            rules: Their numbers.

        Returns:
            Whether there are so many flows that pick_on() is to be called for the rest.
        """
        cdef uint32_t index
        cdef uint64_t added = 0
        for index in rules:
            self.owner(index)
            added |= <uint64_t> 1 << index
        self.picking |= added
        self.picked_to = 0
        return self.pick_on()

    def pick_on(self):
        """Go on with what pick_up() began, between batches; whether there are more flows."""
        cdef uint64_t matching
        cdef uint32_t index
        cdef FlowRecord* flow
        cdef uint32_t last = min(self.picked_to + PICK_FLOWS, <uint32_t> self.flows.pool.high_water)
        for index in range(self.picked_to + 1, last + 1 if self.picking else 0):
            flow = flow_at(&self.flows, index)
            if flow.flags & ENDED or flow.watchers == ANY_SET:
                continue
            matching = self.picking & rules_match(&self.rules, &flow.key, (flow.flags & CLIENT_IS_LOW) != 0, True)
            if matching & ~self.rules.sets[flow.watchers]:         # else it began with the rule there
                self.watch(flow, self.rules.sets[flow.watchers] | matching)
                self.relevel(flow)
        self.picked_to = last
        if last == self.flows.pool.high_water:
            self.picking = 0
        return self.picking != 0

    def stop(self, Flow view not None):
        """Have an app watch a flow no more."""
        cdef FlowRecord* flow = <FlowRecord*> view.r
        cdef Account account = view.account
        cdef Moment* moment = self.current
        cdef MonitorConnection connection
        if view.streams == NULL or view.index == 0 or account is None:     # gone, or made for its last callbacks
            return
        while moment != NULL:
            if moment.flow == flow:
                moment.rules &= ~account.rules
            moment = moment.outer
        rules_assign(&self.rules, flow, rules_intern(&self.rules, rules_watching(&self.rules, flow) & ~account.rules))
        for connection in list((<Flow> self.views[flow.hold]).connections):
            if connection.wiring.flow is view:
                connection.leave()
        self.relevel(flow)

    def listen(self, Flow view not None, event, hook, function, parameters):
        """Have a function called at an event for one flow only.

        Returns:
            The call, for ignore().

        Raises:
            FlowClosed: the flow has ended.
            RegistrationError: as add_call() does.
        """
        cdef FlowRecord* flow = self.record_of(view)
        cdef Account account = view.account
        cdef uint16_t watchers
        cdef Call shared = self.own_call(account, event, hook)
        cdef Call own = new_call(account, event, function, parameters, shared.node, shared.rule)
        if not shared.edits and self.may_edit(self.slot_of(event, hook), function, parameters):
            shared.edits = True
            self.refresh()
        watchers = rules_intern(&self.rules, rules_watching(&self.rules, flow) | own.rule_bit)
        if watchers == ANY_SET:
            raise RegistrationError("too many different sets of registrations watch the flows of this engine")
        rules_assign(&self.rules, flow, watchers)
        if view.own is None:
            view.own = {}
        view.own[shared] = [*view.own.get(shared, ()), own]
        self.relevel(flow)
        return own

    def own_call(self, Account account not None, event, hook):
        """The call that stands for those that single connections of an app have registered for an event."""
        cdef Call shared
        if account.detached:
            raise RegistrationError(f"the app {account.name} is detached")
        key = account, event, self.slot_of(event, hook)
        shared = self.own_calls.get(key)
        if shared is None:
            rule = self.add_rule(None, event.level, account=account, keeps=event.level == STREAM_LEVEL)
            shared = self.own_calls[key] = self.add_call(rule, event, hook, None, ())
        return shared

    def remove_event(self, event):
        """Have a user-defined event, and those upon it, never be raised again."""
        Callbacks.remove_event(self, event)
        for key, shared in list(self.own_calls.items()):
            if not (<Call> shared).active:
                del self.own_calls[key]
                self.remove_rule((<Call> shared).rule)

    def remove_account(self, Account account not None):
        """Forget an app: its rules, calls and timers."""
        cdef uint32_t number
        if account.detached:
            return
        self.cancel_timers(account)
        for number in range(self.rules.count):
            if account.rules >> number & 1:
                self.remove_rule(number)
        self.accounts.remove(account)
        account.detached = True
        if self.current == NULL:                   # else at the end of the batch
            self.sweep()

    def ignore(self, Flow view not None, Call own not None):
        """Take back what listen() did."""
        cdef Call shared
        own.active = False
        for shared, calls in (view.own or {}).items():
            if own in calls:
                view.own[shared] = [call for call in calls if call is not own]
                if not view.own[shared]:
                    del view.own[shared]
                    self.watch_less(view, shared)
                return

    cdef int watch_less(self, Flow view, Call shared) except -1:
        """The last of an app's calls that one call stands for on a flow has gone."""
        cdef FlowRecord* flow = <FlowRecord*> view.r
        cdef uint16_t watchers
        if not shared.active or not is_open(view):     # its rule's number may be another one's by now
            return 0
        watchers = rules_intern(&self.rules, rules_watching(&self.rules, flow) & ~shared.rule_bit)
        if watchers != ANY_SET:                    # else what it costs stays as it is
            rules_assign(&self.rules, flow, watchers)
            self.relevel(flow)
        return 0

    cdef int sweep(self) except -1:
        """Rules were removed: have every flow do no more than those that are left need."""
        cdef uint64_t retired = self.rules.retired
        cdef uint64_t sets[MAX_SETS]
        cdef uint32_t index
        cdef FlowRecord* flow
        cdef Flow view
        self.picking &= ~retired
        rules_forget(&self.rules)
        memcpy(sets, self.rules.sets, sizeof(sets))
        self.rules.set_count = 1                   # those that flows still have are made anew
        self.prune()
        for key, shared in list(self.own_calls.items()):
            if retired & (<Call> shared).rule_bit:
                del self.own_calls[key]
        memset(self.rules.flows, 0, sizeof(self.rules.flows))
        for index in range(1, self.flows.pool.high_water + 1):
            flow = flow_at(&self.flows, index)
            if flow.flags & ENDED:
                continue
            flow.watchers = rules_intern(&self.rules, sets[flow.watchers] if flow.watchers != ANY_SET
                                         else rules_watching(&self.rules, flow))
            rules_count(&self.rules, flow, 1)
            view = self.views[flow.hold]
            if view is not None:
                view.connections = [connection for connection in view.connections
                                    if not retired >> (<MonitorConnection> connection).rule & 1]
            self.relevel(flow)

    def released(self, Flow view not None):
        """Lower a flow's level to what its connections still want; called when one gives a half or all up."""
        if is_open(view):
            self.relevel(<FlowRecord*> view.r)

    cdef void relevel(self, FlowRecord* flow):
        """Run a flow at the highest level that those who watch it need now, per half."""
        cdef uint64_t mask = rules_watching(&self.rules, flow)
        cdef uint64_t connected = 0 if flow.flags & TO_CONNECT else self.rules.connecting
        cdef Flow view = self.views[flow.hold]
        cdef MonitorConnection connection
        cdef Need needs[2]
        cdef int side
        if view is not None:
            for connection in view.connections:
                connected |= <uint64_t> 1 << connection.rule
        for side in range(2):
            needs[side] = rules_need(&self.rules, mask & ~connected, mask & ~connected)
            for connection in (view.connections if view is not None else ()):
                add_need(&needs[side], &self.rules.rules[connection.rule], connection, side)
            if flow.flags & TO_CONNECT and flow.halves[side].flags & KEEP:
                needs[side].keep = True            # until whoever begins late has been given it: replay()
        if max(needs[0].level, needs[1].level) == STATE_LEVEL:
            self.free_tracks(flow)
        elif not flow.halves[0].track:
            self.open_tracks(flow)
        for side in range(2):
            self.settle(&flow.halves[side], &needs[side])

    cdef void settle(self, Half* half, const Need* need) noexcept:
        """Have a half run as it is needed now, and drop what nobody takes any more."""
        cdef uint16_t before = half.flags
        half.level = need.level
        half.flags = before & ~<uint16_t> (SINK | KEEP) | (SINK if need.sink else 0) | (KEEP if need.keep else 0)
        if half.track:
            if before & (SINK | KEEP) and not half.flags & (SINK | KEEP):
                track_lower(&self.streams, track_at(&self.streams, half.track))
            if before & KEEP and not half.flags & KEEP:
                track_forget(&self.streams, track_at(&self.streams, half.track))

    # --- the end of a batch ---------------------------------------------------------------------------

    cdef int deliver(self) except -1:
        """Hand over what the batch brought about: new connections, bytes, ends; flow by flow."""
        cdef size_t done = 0
        try:
            while done < self.signal_count:
                self.tell(flow_at(&self.flows, self.signals[done]))
                done += 1
                self.told(flow_at(&self.flows, self.signals[done - 1]))
        finally:
            while done < self.signal_count:        # an error came between: their news lie in frames that go now
                done += 1
                try:
                    self.told(flow_at(&self.flows, self.signals[done - 1]))
                except BaseException as error:
                    self.end_run(error)
            self.signal_count = 0
        if self.rules.retired:
            self.sweep()
        if self.streams.parts_missing:
            raise EngineBug(f"a batch brought about {self.streams.parts_missing} parts more than its pool holds")
        return 0

    cdef int tell(self, FlowRecord* flow) except -1:
        """Hand over the news of a flow."""
        if not flow.flags & ENDED:                 # of an ended one it was told in time
            self.raise_new_data(flow)
        if flow.flags & TO_CONNECT:
            self.connect(flow)
        if flow.halves[0].track:
            self.hand_over(flow)
        if flow.flags & TO_CONNECT:                # what was handed over has had a handler start
            self.connect(flow)
        return 0

    cdef int told(self, FlowRecord* flow) except -1:
        """Be done with the news of a flow, and with the flow if that has ended."""
        cdef int side
        if flow.halves[0].track:
            for side in range(2):
                track_drop_parts(&self.streams, track_at(&self.streams, flow.halves[side].track))
        flow.flags &= ~<uint16_t> SIGNALLED
        return self.end_view(flow) if flow.flags & ENDED else 0

    cdef int connect(self, FlowRecord* flow) except -1:
        """Make the connections of the rules that watch the flow and have none yet."""
        cdef uint64_t mask = rules_watching(&self.rules, flow) & self.rules.connecting
        cdef uint32_t number
        cdef Flow view = self.views[flow.hold]
        cdef MonitorConnection connection
        if self.has_come_about(flow):
            flow.flags &= ~<uint16_t> TO_CONNECT
        else:
            mask &= self.on_event
            if not mask:
                return 0
        if view is not None:
            for connection in view.connections:
                mask &= ~(<uint64_t> 1 << connection.rule)
        for number in range(self.rules.count):
            if mask >> number & 1 and self.rules.rules[number].active:
                connection = <MonitorConnection?> self.openers[number](self.view_of(flow, self.rule_accounts[number]))
                connection.rule = number
                (<Flow> self.views[flow.hold]).connections.append(connection)
                if flow.halves[0].track:
                    self.replay(flow, 0, connection)
                    self.replay(flow, 1, connection)
        if flow.halves[0].flags & KEEP or not flow.hold or not (<Flow> self.views[flow.hold]).connections:
            self.relevel(flow)                     # a handler has begun late, or whoever wanted the flow has gone
        return 0

    cdef int replay(self, FlowRecord* flow, int side, MonitorConnection connection) except -1:
        """Give a stream that begins late what is kept of the bytes that went by, and a gap for what is not."""
        cdef Stream stream = connection.server if side else connection.client
        cdef uint32_t index = flow.halves[side].track
        cdef Track* track = track_at(&self.streams, index)
        cdef uint64_t starts[MOST_RANGES]
        cdef uint64_t ends[MOST_RANGES]
        cdef uint64_t at = 0, due, end
        cdef size_t count, i
        cdef uint8_t* target = NULL
        if not index or not stream.wanted:
            return 0
        due = part_at(&self.streams, track.out_head).offset if track.out_head else track.edge
        if due == 0:
            return 0
        count = track_ranges(&self.streams, track, 0, due, starts, ends, MOST_RANGES)
        for i in range(count):
            end = ends[i]
            if starts[i] > at:
                self.push_missed(stream, at, starts[i])
                at = starts[i]
            chunk = new_chunk(at, self.now_ns, <Py_ssize_t> (end - at), &target)
            if (flow.halves[side].track != index
                    or track_read(&self.streams, track, at, end - at, target) < end - at):
                break                              # told of an unread chunk, the app has had them let go
            self.push(flow, side, self.rule_accounts[connection.rule], stream, chunk, 0)
            at = end
        if at < due:
            self.push_missed(stream, at, due)
        return 0

    cdef int push_missed(self, Stream stream, uint64_t start, uint64_t end) except -1:
        if not stream.wanted:
            return 0
        self.streams.gaps[GAP_UNREAD] += 1
        self.streams.gap_bytes[GAP_UNREAD] += end - start
        stream.push(new_gap(start, end - start, self.now_ns, "unread"), 0)
        return 0

    cdef int hand_over(self, FlowRecord* flow) except -1:
        """Push each half's bytes of this batch to every connection.

        Where both halves have some, they are pushed in runs, so that a merged reader gets them in the order in
        which they became readable.
        """
        cdef Flow view = self.views[flow.hold]
        cdef Track* tracks[2]
        cdef int side
        for side in range(2):
            tracks[side] = track_at(&self.streams, flow.halves[side].track)
            if flow.halves[side].flags & KEEP and tracks[side].out_head:
                track_keep(&self.streams, tracks[side])
            if view is None or not view.connections:
                track_drop_parts(&self.streams, tracks[side])
        cdef bint client = tracks[0].out_head != 0
        cdef bint server = tracks[1].out_head != 0
        if client:
            self.push_parts(flow, view, 0, server)
        if server:
            self.push_parts(flow, view, 1, client)
        return 0

    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1:
        cdef Track* track = track_at(&self.streams, flow.halves[side].track)
        cdef MonitorConnection connection
        cdef Stream stream
        cdef Part* part
        cdef uint32_t index
        cdef uint64_t order
        cdef uint8_t kind
        cdef bint urgent
        while track.out_head:
            index = track.out_head
            track.out_linked = 0
            part = part_at(&self.streams, index)
            kind = part.kind
            order = part.serial
            urgent = kind == PART_DATA and part.reason
            if kind == PART_DATA:
                item = self.take_run(track, both)
                self.remember(flow, view, side, item)
            else:
                if kind == PART_GAP:
                    item = new_gap(part.offset, part.length, part.time_ns, GAP_NAMES[<int> part.reason])
                else:
                    item = stream_error(kind, view)
                track.out_head = part.next
                part_release(&self.streams, index)
            if not track.out_head:
                track.out_tail = 0
            for connection in view.connections:
                stream = connection.server if side else connection.client
                if urgent and self.rules.urgent_out >> connection.rule & 1:
                    if stream.wanted:
                        stream.push(new_gap(chunk_offset(item), 1, self.now_ns, URGENT_GAP), order)
                elif kind <= PART_GAP:
                    self.push(flow, side, self.rule_accounts[connection.rule], stream, item, order)
                else:
                    stream.end(item)
        return 0

    cdef int push(self, FlowRecord* flow, int side, Account account, Stream stream, object item,
                  uint64_t order) except -1:
        """Give a chunk or gap to a stream, on its app's account."""
        if not stream.wanted:
            return 0
        if type(item) is not Gap:
            account.bytes += <uint64_t> PyBytes_GET_SIZE(item)
        if stream.push(item, order):
            self.raise_unread(flow, side, account, item)
        return 0

    cdef int raise_unread(self, FlowRecord* flow, int side, Account account, object chunk) except -1:
        """Tell an app that its handler has been too slow for a chunk."""
        cdef Moment m
        moment_begin(&m, SLOT_ERROR, flow, side, NULL, self.now_ns)
        m.what = WHAT_GAP + GAP_UNREAD
        m.offset = chunk_offset(chunk)
        m.length = <uint64_t> PyBytes_GET_SIZE(chunk)
        m.only = account.rules
        return self.happen(&m)

    cdef object take_run(self, Track* track, bint both):
        """The data parts at the head as one chunk: all of them, or those the peer's bytes do not come between."""
        cdef uint32_t index = track.out_head
        cdef Part* part = part_at(&self.streams, index)
        cdef Part* first = part
        cdef uint64_t length = 0, serial = part.serial
        cdef uint8_t* target = NULL
        while part.kind == PART_DATA and part.reason == first.reason and (not both or part.serial == serial):
            length += part.length
            serial += 1
            if not part.next:
                break
            part = part_at(&self.streams, part.next)
        chunk = new_chunk(first.offset, first.time_ns, <Py_ssize_t> length, &target)
        while length:
            part = part_at(&self.streams, index)
            memcpy(target, part.data, part.length)
            target += part.length
            length -= part.length
            track.out_head = part.next
            part_release(&self.streams, index)
            index = track.out_head
        return chunk

    cdef int remember(self, FlowRecord* flow, Flow view, int side, object chunk) except -1:
        """Keep what a stream was given last, so that a retransmission that says something else is noticed."""
        cdef Track* track = track_at(&self.streams, flow.halves[side].track)
        cdef Past past = Past.__new__(Past)
        past.view = view
        past.side = side
        past.chunk = chunk
        if side:
            view.past_server = past
        else:
            view.past_client = past
        track.past = <const uint8_t*> PyBytes_AS_STRING(chunk)
        track.past_offset = chunk_offset(chunk)
        track.past_length = <uint64_t> PyBytes_GET_SIZE(chunk)
        self.history.append(past)
        self.history_bytes += track.past_length
        while self.history_bytes > HISTORY_BYTES or len(self.history) > HISTORY_CHUNKS:
            self.forget(self.history.popleft())
        return 0

    cdef int forget(self, Past past) except -1:
        """Let a remembered chunk go, and the track no longer look at it."""
        cdef Flow view = past.view
        cdef FlowRecord* flow
        if view is None:
            return 0
        self.history_bytes -= <uint64_t> PyBytes_GET_SIZE(past.chunk)
        past.view = past.chunk = None
        if (view.past_server if past.side else view.past_client) is not past:
            return 0                               # there is a newer one
        flow = <FlowRecord*> view.r
        if flow.halves[past.side].track:
            track_at(&self.streams, flow.halves[past.side].track).past = NULL
        if past.side:
            view.past_server = None
        else:
            view.past_client = None
        return 0

    cdef int end_view(self, FlowRecord* flow) except -1:
        """Be done with an ended flow; its record goes, whatever its handlers' event loop raises."""
        cdef Flow first = self.views[flow.hold]
        try:
            if first is not None:
                self.end_views(first, flow.reason)
        finally:
            if first is not None:
                first.connections = None           # they know the flow: no cycle is left behind
                self.views[flow.hold] = None
                self.free_views.append(flow.hold)
            self.release(flow)
        return 0

    cdef int end_views(self, Flow first, uint8_t reason) except -1:
        """Tell those who have views of a flow that it has ended, each of them whatever another raises."""
        cdef Flow view = first
        cdef MonitorConnection connection
        failure = None
        for past in (first.past_client, first.past_server):
            if past is not None:
                self.forget(past)
        while view is not None:
            for timer in view.timers or ():
                timer.cancel()                     # it holds what the app keeps on the flow
            view.timers = None
            view.detach()
            view = view.sibling
        for connection in first.connections:
            try:
                connection.client.end(None)
                connection.server.end(None)
                connection.close(reason_named(reason))
            except BaseException as error:         # its event loop is closed
                failure = failure or error
        if failure is not None:
            raise failure
        return 0


cdef void add_need(Need* need, const Rule* rule, MonitorConnection connection, int side):
    """Add what a connection still wants of a half."""
    cdef Stream stream = connection.server if side else connection.client
    if connection.left or not rule.active:
        return
    if stream.wanted:
        need.sink = True
        need.level = max(need.level, rule.level)
    else:
        need.level = max(need.level, min(rule.level, <uint8_t> BYTES_LEVEL))


cdef object stream_error(uint8_t kind, Flow view):
    """What reading past the last byte raises, by how the half ended; None where it just ends."""
    if kind == PART_RESET:
        return ConnectionReset(flow=view)
    if kind == PART_TIMEOUT:
        return ConnectionTimedOut(flow=view)
    if kind == PART_EVICTED:
        return ConnectionEvicted(flow=view)
    return None


seal(Past)
mark_part(Delivery)
