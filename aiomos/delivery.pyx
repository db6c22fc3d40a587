"""Delivery: what Python is told of a batch, once it is done, and callbacks at their very moment.

The base of the engine: it owns the flow and stream records, knows the rules, and keeps the Python side of those flows
that have one. A flow with news is signalled; deliver() goes through the signals, makes connections, pushes
bytes and gaps to them, and ends them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_REFCNT
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from aiomos.tcp.chunks cimport chunk_offset, new_chunk, new_gap
from aiomos.tcp.clock cimport seconds
from aiomos.tcp.flows cimport (
    ENDED,
    SIGNALLED,
    SINK,
    TO_CONNECT,
    flow_at,
    flow_index,
    flows_close,
    flows_release,
)
from aiomos.tcp.reassembly cimport (
    PART_DATA,
    PART_EVICTED,
    PART_GAP,
    PART_RESET,
    PART_TIMEOUT,
    Part,
    part_at,
    part_release,
    streams_close,
    track_at,
    track_close,
    track_lower,
)
from aiomos.tcp.views cimport make_flow
from aiomos.ude.rules cimport ANY_SET, CALL_SETUP, CALL_TEARDOWN, rules_intern, rules_open, rules_watching

from collections import deque

from aiomos.errors import ConnectionEvicted, ConnectionReset, ConnectionTimedOut, EngineBug

cdef enum:
    STATE_LEVEL = 1
    BYTES_LEVEL = 2
    STREAM_LEVEL = 3
    HISTORY_BYTES = 16 << 20   # delivered bytes kept, over all flows, to compare retransmissions with
    HISTORY_CHUNKS = 65536

cdef tuple GAP_NAMES = ("lost", "age", "budget", "snaplen", "end", "unread")
cdef tuple REASON_NAMES = (None, "fin", "rst", "timeout", "evicted", "end_of_capture")


cdef class Past:
    """A chunk that a stream was given, kept to compare retransmissions with; empty once forgotten."""


cdef class Delivery:
    """The Python side of flows. Not to be made by itself: `aiomos.engine.Engine` is one."""

    def __cinit__(self):
        rules_open(&self.rules)
        self.openers, self.calls = [], []
        self.views, self.free_views = [None], []
        self.history = deque()

    def __dealloc__(self):
        flows_close(&self.flows)
        streams_close(&self.streams)
        free(self.signals)

    # --- records --------------------------------------------------------------------------------------

    cdef void free_tracks(self, FlowRecord* flow) noexcept nogil:
        cdef int side
        for side in range(2):
            if flow.halves[side].track:
                track_close(&self.streams, flow.halves[side].track)
                flow.halves[side].track = 0

    cdef void release(self, FlowRecord* flow) noexcept nogil:
        self.free_tracks(flow)
        flows_release(&self.flows, flow)

    # --- signals and callbacks ------------------------------------------------------------------------

    cdef int signal(self, FlowRecord* flow) except -1 nogil:
        """Have the flow looked at when the batch is delivered; its record stays until then."""
        cdef size_t capacity
        cdef uint32_t* signals
        if flow.flags & SIGNALLED:
            return 0
        if self.signal_count == self.signal_capacity:
            capacity = self.signal_capacity * 2 + 1024
            signals = <uint32_t*> realloc(self.signals, capacity * sizeof(uint32_t))
            if signals == NULL:
                with gil:
                    raise MemoryError("no memory to note which flows have news")
            self.signals = signals
            self.signal_capacity = capacity
        self.signals[self.signal_count] = flow_index(&self.flows, flow)
        self.signal_count += 1
        flow.flags |= SIGNALLED
        return 0

    cdef int signal_data(self, FlowRecord* flow) except -1 nogil:
        if (track_at(&self.streams, flow.halves[0].track).out_head
                or track_at(&self.streams, flow.halves[1].track).out_head):
            return self.signal(flow)
        return 0

    cdef int call(self, FlowRecord* flow, int what) except -1 with gil:
        """The gate to callbacks: those of the flow's watchers, in the order of registration."""
        cdef uint64_t mask = rules_watching(&self.rules, flow)
        cdef uint32_t number
        cdef Flow view
        event = "conn_setup" if what == CALL_SETUP else "conn_teardown"
        view = None
        for number in range(self.rules.count):
            if mask >> number & 1 and self.rules.rules[number].calls & what:
                if view is None:
                    # What will be asked about again keeps its Python side; a flow that ends needs none.
                    if what == CALL_TEARDOWN and not flow.hold:
                        view = make_flow(flow, &self.streams, 0)
                    else:
                        view = self.view_of(flow)
                if not self.call_rule(number, event, view) and flow.watchers != ANY_SET:
                    mask &= ~(<uint64_t> 1 << number)   # it has failed: no more of this flow for it
                    flow.watchers = rules_intern(&self.rules, mask)
        if view is not None and what == CALL_TEARDOWN and not flow.hold and Py_REFCNT(view) > 1:
            view.detach()                          # a callback has kept it
        return 0

    def call_rule(self, number, event, view):
        """Call a rule's callbacks for an event; False if one raised, which is for on_callback_error."""
        for name, function, parameters in self.calls[number]:
            if name != event:
                continue
            try:
                if parameters == ("flow",):
                    function(view)
                else:
                    values = {"flow": view, "time": seconds(self.now_ns)}
                    function(*[values[parameter] for parameter in parameters])
            except Exception as error:
                self.on_callback_error(function, view, error)
                return False
        return True

    cdef Flow view_of(self, FlowRecord* flow):
        """The Python side of a flow, made when first needed."""
        cdef Flow view
        if flow.hold:
            return self.views[flow.hold]
        view = make_flow(flow, &self.streams, flow_index(&self.flows, flow))
        view.connections = []
        if self.free_views:
            flow.hold = self.free_views.pop()
            self.views[flow.hold] = view
        else:
            flow.hold = <uint32_t> len(self.views)
            self.views.append(view)
        return view

    cdef int deliver(self) except -1:
        """Hand over what the batch brought about: new connections, bytes, ends; flow by flow."""
        cdef size_t i = 0
        cdef FlowRecord* flow
        cdef Flow view
        try:
            while i < self.signal_count:
                flow = flow_at(&self.flows, self.signals[i])
                i += 1
                flow.flags &= ~<uint16_t> SIGNALLED
                view = self.view_of(flow)
                if flow.flags & TO_CONNECT:
                    self.connect(flow, view)
                if flow.halves[0].track:
                    self.hand_over(flow, view)
                if flow.flags & ENDED:
                    self.end_view(flow, view)
        finally:
            self.signal_count = 0
        if self.streams.parts_missing:
            raise EngineBug(f"a batch brought about {self.streams.parts_missing} parts more than its pool holds")
        return 0

    cdef int connect(self, FlowRecord* flow, Flow view) except -1:
        """Make the connections of the rules that watch the flow and have none yet."""
        cdef uint64_t mask = rules_watching(&self.rules, flow) & self.rules.connecting
        cdef uint32_t number
        cdef MonitorConnection connection
        flow.flags &= ~<uint16_t> TO_CONNECT
        for connection in view.connections:
            mask &= ~(<uint64_t> 1 << connection.rule)
        for number in range(self.rules.count):
            if mask >> number & 1 and self.rules.rules[number].active:
                connection = self.openers[number](view)
                connection.rule = number
                view.connections.append(connection)
        if not view.connections:                   # whoever wanted it has gone meanwhile
            self.lower(flow, view)

    cdef int hand_over(self, FlowRecord* flow, Flow view) except -1:
        """Push each half's bytes of this batch to every connection.

        Where both halves have some, they are pushed in runs, so that a merged reader gets them in the order in
        which they became readable.
        """
        cdef bint client = track_at(&self.streams, flow.halves[0].track).out_head != 0
        cdef bint server = track_at(&self.streams, flow.halves[1].track).out_head != 0
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
        while track.out_head:
            index = track.out_head
            part = part_at(&self.streams, index)
            kind = part.kind
            order = part.serial
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
            for connection in view.connections:
                stream = connection.server if side else connection.client
                if kind <= PART_GAP:
                    stream.push(item, order)
                else:
                    stream.end(item)
        track.out_tail = 0
        return 0

    cdef object take_run(self, Track* track, bint both):
        """The data parts at the head as one chunk: all of them, or those the peer's bytes do not come between."""
        cdef uint32_t index = track.out_head
        cdef Part* part = part_at(&self.streams, index)
        cdef Part* first = part
        cdef uint64_t length = 0, serial = part.serial
        cdef uint8_t* target = NULL
        while part.kind == PART_DATA and (not both or part.serial == serial):
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

    cdef int end_view(self, FlowRecord* flow, Flow view) except -1:
        cdef MonitorConnection connection
        for past in (view.past_client, view.past_server):
            if past is not None:
                self.forget(past)
        view.detach()
        for connection in view.connections:
            connection.client.end(None)
            connection.server.end(None)
            connection.close(REASON_NAMES[flow.reason])
        view.connections = None                    # they know the flow: no cycle is left behind
        self.views[flow.hold] = None
        self.free_views.append(flow.hold)
        self.release(flow)
        return 0

    def released(self, Flow view not None):
        """Lower a flow's level to what its connections still want; called when one gives a half or all up."""
        if view.connections is not None:           # else the flow has ended
            self.lower(<FlowRecord*> view.r, view)

    cdef void lower(self, FlowRecord* flow, Flow view) noexcept:
        cdef uint64_t mask = rules_watching(&self.rules, flow) & ~self.rules.connecting
        cdef MonitorConnection connection
        cdef Stream stream
        cdef uint8_t base = 1, level
        cdef uint32_t number
        cdef int side
        cdef bint sink
        for number in range(self.rules.count):
            if mask >> number & 1:
                base = max(base, self.rules.rules[number].level)
        for side in range(2):
            level = base
            sink = False
            for connection in view.connections:
                if connection.left:
                    continue
                stream = connection.server if side else connection.client
                if stream.wanted:
                    sink = True
                level = max(level, self.rules.rules[connection.rule].level if stream.wanted
                            else min(self.rules.rules[connection.rule].level, <uint8_t> BYTES_LEVEL))
            flow.halves[side].level = level
            if not sink and flow.halves[side].flags & SINK:
                flow.halves[side].flags &= ~<uint16_t> SINK
                if flow.halves[side].track:
                    track_lower(&self.streams, track_at(&self.streams, flow.halves[side].track))
        if flow.halves[0].level == STATE_LEVEL and flow.halves[1].level == STATE_LEVEL:
            self.free_tracks(flow)


cdef object stream_error(uint8_t kind, Flow view):
    """What reading past the last byte raises, by how the half ended; None where it just ends."""
    if kind == PART_RESET:
        return ConnectionReset(flow=view)
    if kind == PART_TIMEOUT:
        return ConnectionTimedOut(flow=view)
    if kind == PART_EVICTED:
        return ConnectionEvicted(flow=view)
    return None
