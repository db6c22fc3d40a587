"""Delivery: what Python is told of a batch, once it is done.

A flow with news is signalled. deliver() goes through the signals: it raises CONN_NEW_DATA, makes connections, keeps
bytes for those who look at them later, pushes bytes and gaps to connections, and ends them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from aiomos.engine.attention cimport Attention
from aiomos.engine.core cimport Core, Moment, WHAT_GAP, moment_begin
from aiomos.engine.gate cimport Gate
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.raising cimport happen
from aiomos.engine.registry cimport Account, Registry
from aiomos.engine.watching cimport has_come_about, raise_new_data, release_flow
from aiomos.face.chunks cimport Gap, chunk_offset, new_chunk, new_gap
from aiomos.face.streams cimport MonitorConnection, Stream
from aiomos.face.views cimport Flow, reason_named
from aiomos.line.translation cimport Session
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport ENDED, FlowRecord, KEEP, SIGNALLED, TO_CONNECT, flow_at
from aiomos.tcp.holdings cimport track_ranges, track_read
from aiomos.tcp.past cimport past_add, past_drop
from aiomos.tcp.tracks cimport (
    FINISHED,
    GAP_UNREAD,
    PART_DATA,
    PART_EVICTED,
    PART_GAP,
    PART_RESET,
    PART_TIMEOUT,
    Part,
    Track,
    part_at,
    part_release,
    track_at,
    track_drop_parts,
)
from aiomos.tcp.retention cimport track_keep
from aiomos.ude.rules cimport rules_blocked, rules_reclaim, rules_watching
from aiomos.ude.slots cimport SLOT_ERROR

from collections import deque

from aiomos.errors import ConnectionEvicted, ConnectionReset, ConnectionTimedOut, EngineBug
from aiomos.face.chunks import GAP_NAMES, URGENT_GAP

cdef enum:
    MOST_RANGES = 64           # stretches of kept bytes that a late reader is given


@cython.final
cdef class Past:
    """A chunk that a stream was given, kept to compare retransmissions with; empty once forgotten."""


@cython.final
cdef class Delivery:
    """What Python is told of a batch, once it is done."""

    cdef int deliver(self) except -1:
        """Hand over what the batch brought about: new connections, bytes, ends; flow by flow."""
        cdef size_t done = 0
        try:
            while done < self.core.signal_count:
                self.tell(flow_at(&self.core.flows, self.core.signals[done]))
                done += 1
                self.told(flow_at(&self.core.flows, self.core.signals[done - 1]))
        finally:
            while done < self.core.signal_count:   # an error came between: their news lie in frames that go now
                done += 1
                try:
                    self.told(flow_at(&self.core.flows, self.core.signals[done - 1]))
                except BaseException as error:
                    self.gate.end_run(error)
            self.core.signal_count = 0
        if rules_blocked(&self.core.rules):
            self.attention.sweep()
        if self.core.rules.sets_wanted:
            rules_reclaim(&self.core.rules)
        if self.core.streams.parts_missing:
            raise EngineBug(f"a batch brought about {self.core.streams.parts_missing} parts more than its pool holds")
        return 0

    cdef int tell(self, FlowRecord* flow) except -1:
        """Hand over the news of a flow."""
        if not flow.flags & ENDED:                 # of an ended one it was told in time
            raise_new_data(self.core, flow)
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
                track_drop_parts(&self.core.streams, track_at(&self.core.streams, flow.halves[side].track))
        flow.flags &= ~<uint16_t> SIGNALLED
        return self.end_view(flow) if flow.flags & ENDED else 0

    cdef int connect(self, FlowRecord* flow) except -1:
        """Make the connections of the rules that watch the flow and have none yet."""
        cdef uint64_t mask = rules_watching(&self.core.rules, flow) & self.core.rules.connecting
        cdef uint32_t number
        cdef Flow view = self.holdings.views[flow.hold]
        cdef MonitorConnection connection
        if has_come_about(self.core, flow):
            flow.flags &= ~<uint16_t> TO_CONNECT
        else:
            mask &= self.registry.on_event
            if not mask:
                return 0
        if view is not None:
            for connection in view.connections:
                mask &= ~(<uint64_t> 1 << connection.rule)
        for number in range(self.core.rules.count):
            if mask >> number & 1 and self.core.rules.rules[number].active:
                account = self.registry.rule_accounts[number]
                connection = <MonitorConnection?> self.registry.openers[number](self.holdings.view_of(flow, account))
                connection.rule = number
                (<Flow> self.holdings.views[flow.hold]).connections.append(connection)
                if flow.halves[0].track:
                    self.begin_late(flow, 0, connection)
                    self.begin_late(flow, 1, connection)
        if flow.halves[0].flags & KEEP or not flow.hold or not (<Flow> self.holdings.views[flow.hold]).connections:
            self.attention.relevel(flow)           # a handler has begun late, or whoever wanted the flow has gone
        return 0

    cdef int begin_late(self, FlowRecord* flow, int side, MonitorConnection connection) except -1:
        """Bring a stream that begins late to where its half is, if that is its end."""
        cdef Stream stream = connection.server if side else connection.client
        self.replay(flow, side, connection)
        if flow.halves[side].track and not track_at(&self.core.streams, flow.halves[side].track).out_head:
            self.end_stream(flow, side, stream)
        return 0

    cdef int replay(self, FlowRecord* flow, int side, MonitorConnection connection) except -1:
        """Give a stream that begins late what is kept of the bytes that went by, and a gap for what is not."""
        cdef Stream stream = connection.server if side else connection.client
        cdef uint32_t index = flow.halves[side].track
        cdef Track* track = track_at(&self.core.streams, index)
        cdef uint64_t starts[MOST_RANGES]
        cdef uint64_t ends[MOST_RANGES]
        cdef uint64_t at = 0, due, end
        cdef size_t count, i
        cdef uint8_t* target = NULL
        if not index or not stream.wanted:
            return 0
        due = part_at(&self.core.streams, track.out_head).offset if track.out_head else track.edge
        if due == 0:
            return 0
        count = track_ranges(&self.core.streams, track, 0, due, starts, ends, MOST_RANGES)
        for i in range(count):
            end = ends[i]
            if starts[i] > at:
                self.push_missed(stream, at, starts[i])
                at = starts[i]
            chunk = new_chunk(at, self.core.now_ns, <Py_ssize_t> (end - at), &target)
            if (flow.halves[side].track != index
                    or track_read(&self.core.streams, track, at, end - at, target) < end - at):
                break                              # told of an unread chunk, the app has had them let go
            self.push(flow, side, self.registry.rule_accounts[connection.rule], stream, chunk, 0)
            at = end
        if at < due:
            self.push_missed(stream, at, due)
        return 0

    cdef int push_missed(self, Stream stream, uint64_t start, uint64_t end) except -1:
        if not stream.wanted:
            return 0
        self.core.streams.gaps[GAP_UNREAD] += 1
        self.core.streams.gap_bytes[GAP_UNREAD] += end - start
        stream.push(new_gap(start, end - start, self.core.now_ns, "unread"), 0)
        return 0

    cdef int hand_over(self, FlowRecord* flow) except -1:
        """Push each half's bytes of this batch to every connection.

        Where both halves have some, they are pushed in runs, so that a merged reader gets them in the order in
        which they became readable.
        """
        cdef Flow view = self.holdings.views[flow.hold]
        cdef Track* tracks[2]
        cdef int side
        for side in range(2):
            tracks[side] = track_at(&self.core.streams, flow.halves[side].track)
            if flow.halves[side].flags & KEEP and tracks[side].out_head:
                track_keep(&self.core.streams, tracks[side])
            if view is None or not view.connections:
                track_drop_parts(&self.core.streams, tracks[side])
        cdef bint client = tracks[0].out_head != 0
        cdef bint server = tracks[1].out_head != 0
        if client:
            self.push_parts(flow, view, 0, server)
        if server:
            self.push_parts(flow, view, 1, client)
        return 0

    cdef int push_parts(self, FlowRecord* flow, Flow view, int side, bint both) except -1:
        cdef Track* track = track_at(&self.core.streams, flow.halves[side].track)
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
            part = part_at(&self.core.streams, index)
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
                part_release(&self.core.streams, index)
            if not track.out_head:
                track.out_tail = 0
            for connection in view.connections:
                stream = connection.server if side else connection.client
                if urgent and self.core.rules.urgent_out >> connection.rule & 1:
                    if stream.wanted:
                        stream.push(new_gap(chunk_offset(item), 1, self.core.now_ns, URGENT_GAP), order)
                elif kind <= PART_GAP:
                    self.push(flow, side, self.registry.rule_accounts[connection.rule], stream, item, order)
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
        moment_begin(&m, SLOT_ERROR, flow, side, NULL, self.core.now_ns)
        m.what = WHAT_GAP + GAP_UNREAD
        m.offset = chunk_offset(chunk)
        m.length = <uint64_t> PyBytes_GET_SIZE(chunk)
        m.only = account.rules
        return happen(self.core, &m)

    cdef object take_run(self, Track* track, bint both):
        """The data parts at the head as one chunk: all of them, or those the peer's bytes do not come between."""
        cdef uint32_t index = track.out_head
        cdef Part* part = part_at(&self.core.streams, index)
        cdef Part* first = part
        cdef uint64_t length = 0, serial = part.serial
        cdef uint8_t* target = NULL
        while part.kind == PART_DATA and part.reason == first.reason and (not both or part.serial == serial):
            length += part.length
            serial += 1
            if not part.next:
                break
            part = part_at(&self.core.streams, part.next)
        chunk = new_chunk(first.offset, first.time_ns, <Py_ssize_t> length, &target)
        while length:
            part = part_at(&self.core.streams, index)
            memcpy(target, part.data, part.length)
            target += part.length
            length -= part.length
            track.out_head = part.next
            part_release(&self.core.streams, index)
            index = track.out_head
        return chunk

    cdef int remember(self, FlowRecord* flow, Flow view, int side, object chunk) except -1:
        """Keep what a stream was given last, so that a retransmission that says something else is noticed."""
        cdef Track* track = track_at(&self.core.streams, flow.halves[side].track)
        cdef Past past = Past.__new__(Past)
        cdef Past newest = view.past_server if side else view.past_client
        past.view = view
        past.side = side
        past.chunk = chunk
        past.epoch = track.past.epoch
        past.run.data = <const uint8_t*> PyBytes_AS_STRING(chunk)
        past.run.start = chunk_offset(chunk)
        past.run.end = past.run.start + <uint64_t> PyBytes_GET_SIZE(chunk)
        past_add(&track.past, &past.run, newest.run.ordinal + 1 if newest is not None else 1)
        if side:
            view.past_server = past
        else:
            view.past_client = past
        self.history.append(past)
        while self.history and (<Past> self.history[0]).epoch + 1 < self.core.streams.past.epoch:
            self.forget(self.history.popleft())
        return 0

    cdef int forget(self, Past past) except -1:
        """Let a remembered chunk go, and the track no longer look at it."""
        cdef Flow view = past.view
        cdef FlowRecord* flow
        newest = (view.past_server if past.side else view.past_client) if view is not None else None
        past.view = past.chunk = None
        if newest is None:                         # the flow has ended
            return 0
        flow = <FlowRecord*> view.r
        if flow.halves[past.side].track:
            past_drop(&track_at(&self.core.streams, flow.halves[past.side].track).past, &past.run)
        if newest is past and past.side:
            view.past_server = None
        elif newest is past:
            view.past_client = None
        return 0

    cdef int end_view(self, FlowRecord* flow) except -1:
        """Be done with an ended flow; its record goes, whatever its handlers' event loop raises."""
        cdef Flow first = self.holdings.views[flow.hold]
        try:
            if first is not None:
                self.end_views(flow, first)
        finally:
            if first is not None:
                first.connections = None           # they know the flow: no cycle is left behind
                self.holdings.views[flow.hold] = None
                self.holdings.free_views.append(flow.hold)
            release_flow(self.core, flow)
        return 0

    cdef int end_stream(self, const FlowRecord* flow, int side, Stream stream) except -1:
        """End a stream as its half has ended, if it has: a part that told so is gone by now."""
        cdef uint32_t index = flow.halves[side].track
        if stream.wanted and index and track_at(&self.core.streams, index).flags & FINISHED:
            stream.end(stream_error(track_at(&self.core.streams, index).ending, self.holdings.views[flow.hold]))
        return 0

    cdef int end_views(self, const FlowRecord* flow, Flow first) except -1:
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
                self.end_stream(flow, 0, connection.client)
                self.end_stream(flow, 1, connection.server)
                connection.client.end(None)
                connection.server.end(None)
                connection.close(reason_named(flow.reason))
            except BaseException as error:         # its event loop is closed
                failure = failure or error
        if failure is not None:
            raise failure
        return 0

    cdef int tell_sessions(self) except -1:
        """Tell those who wait for it which sessions have ended."""
        cdef Session session
        if not self.core.line.translation.sessions.ended_head and not self.core.line.translation.gone:
            return 0
        for session in self.core.line.translation.take_ended():
            for function in session.listeners:
                try:
                    try:
                        function(session)
                    except Exception as error:
                        self.gate.on_callback_error(function, None, error)
                except BaseException as error:
                    self.gate.end_run(error)
        return 0


cdef object stream_error(uint8_t kind, Flow view):
    """What reading past the last byte raises, by how the half ended; None where it just ends."""
    if kind == PART_RESET:
        return ConnectionReset(flow=view)
    if kind == PART_TIMEOUT:
        return ConnectionTimedOut(flow=view)
    if kind == PART_EVICTED:
        return ConnectionEvicted(flow=view)
    return None


cdef Delivery new_delivery(Core core, Registry registry, Holdings holdings, Gate gate, Attention attention):
    cdef Delivery delivery = Delivery.__new__(Delivery)
    delivery.core, delivery.registry, delivery.holdings = core, registry, holdings
    delivery.gate, delivery.attention = gate, attention
    delivery.history = deque()
    return delivery


seal(Past)
seal(Delivery)
