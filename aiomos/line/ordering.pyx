"""Flows that may be edited: kept in order from their start, so that no byte passes that could still be replaced."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from aiomos.line.edits cimport Edits, MAX_AHEAD, Plan, edits_at, edits_close, edits_open, edits_outgoing, edits_unused
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.passing cimport Passing
from aiomos.line.paths cimport Path, Paths
from aiomos.line.sessions cimport BACK, FORTH, SessionMatch, Sessions, session_at, sessions_find
from aiomos.line.translation cimport Translation
from aiomos.line.waiting cimport Waiting, WaitingQueue, waiting_cost, waiting_make, waiting_put, waiting_take
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport ACK_SEEN, FlowRecord, HalfRecord, ISS_KNOWN, MD5_SIGNED, OFFERS_SCALE, TIMESTAMPS
from aiomos.wire.building cimport Cut, LinkHeader, build_cut, link_bears, link_of
from aiomos.wire.frame cimport Frame, Offload
from aiomos.wire.rewriting cimport is_authenticated, rewrite_timestamps
from aiomos.wire.seq cimport seq_diff, seq_lt
from aiomos.wire.wire cimport DecodeOptions, FIN, OPT_MD5, OPT_TIMESTAMP, PacketRecord, RST, SYN, decode_frame

cdef enum:
    LONGEST_WINDOW = 1 << 30   # RFC 7323 section 2.3


@cython.final
cdef class Ordering:
    """Keeps segments beyond a hole until their turn."""

    cdef void prepare(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil:
        """Have the half of the segment in hand be edited from its start, and what would not bear it be left out."""
        cdef Path* path = self.paths.path(number)
        cdef const HalfRecord* half = &flow.halves[side]
        cdef const Edits* e
        cdef PacketRecord* packet = self.hand.packet
        if packet.flags & RST or path.mptcp or is_signed(flow, side, packet):
            return
        if packet.flags & SYN:
            path.editable = not self.hand.is_in_tunnel() and not is_authenticated(self.hand.begin())
            if path.editable and packet.payload_len:
                self.take_syn_data()
            return
        if path.edits[side]:
            e = edits_at(&self.paths.edits, path.edits[side])
            if e.start == half.iss + 1 or not half.flags & ISS_KNOWN or path.has_passed[side] or not edits_unused(e):
                return
            edits_close(&self.paths.edits, path.edits[side])  # the SYN that counts was another
            path.edits[side] = 0
        if not path.editable:
            path.editable = not self.hand.is_in_tunnel() and not is_authenticated(self.hand.begin())
        if path.editable and (half.flags & ISS_KNOWN or packet.payload_len):
            path.edits[side] = self.open_edits(flow, path, side)

    cdef uint32_t open_edits(self, const FlowRecord* flow, const Path* path, int side) noexcept nogil:
        """Begin to edit a half: from the first of its bytes that has not passed, as far as that can be told."""
        cdef const HalfRecord* sender = &flow.halves[side]
        cdef const HalfRecord* receiver = &flow.halves[1 - side]
        cdef uint32_t nxt, una, edits
        cdef uint8_t wscale = receiver.wscale
        if sender.flags & ISS_KNOWN and not sender.flags & OFFERS_SCALE:
            wscale = 0                             # RFC 7323 section 2.2: both or none
        if path.has_passed[side]:
            nxt = path.passed[side]
        elif sender.flags & ISS_KNOWN:
            nxt = sender.iss + 1
        else:
            nxt = sender.una if sender.flags & ACK_SEEN else self.hand.packet.seq
        una = sender.una if sender.flags & ACK_SEEN else nxt - LONGEST_WINDOW
        edits = edits_open(&self.paths.edits, una, nxt, <uint16_t> min(receiver.wnd >> wscale, <uint32_t> 0xFFFF),
                           wscale, True)
        if edits and not sender.flags & ISS_KNOWN and not path.has_passed[side]:
            edits_at(&self.paths.edits, edits).guessed = True
        return edits

    cdef void take_syn_data(self) noexcept nogil:
        """Take the data out of the SYN in hand: it is sent again behind the handshake (RFC 7413 section 4.2)."""
        cdef size_t room = self.hand.link_len + (self.hand.packet.payload - self.hand.packet.network)
        cdef uint8_t* out = self.outlet.take(room)
        cdef Cut cut
        memset(&cut, 0, sizeof(cut))
        cut.seq, cut.flags, cut.urgent = self.hand.packet.seq, self.hand.packet.flags, self.hand.packet.urgent
        room = build_cut(self.hand.begin(), &cut, NULL, out, room) if out != NULL else 0
        if not room:
            self.hand.dropped = True               # it comes again
            return
        self.passing.remake(out, room)
        self.bare_syns += 1

    cdef bint wait(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil:
        """Keep the segment in hand for later, or have it sent again, if it comes beyond a hole; true if it does."""
        cdef Path* path = self.paths.path(number)
        cdef const Edits* e
        cdef PacketRecord* packet = self.hand.packet
        cdef Plan plan
        if packet.transient and self.paths.is_edited(number):
            self.hand.dropped = True               # all but its last fragment has left in its sender's numbers
            return True
        if not path.edits[side] or packet.flags & (SYN | RST) or not (packet.payload_len or packet.flags & FIN):
            return False
        e = edits_at(&self.paths.edits, path.edits[side])
        if not seq_lt(e.nxt, packet.seq):
            if self.hand.has_waited:
                self.freshen(&flow.halves[side])
            return False
        self.hand.dropped = True
        self.hand.waits = (0 < seq_diff(packet.seq, e.nxt) <= MAX_AHEAD
                           and not self.hand.has_waited    # its turn comes but once
                           and self.keep_waiting(&path.waiting[side]))
        edits_outgoing(&self.paths.edits, path.edits[side], packet, &plan)
        if plan.own_ack:
            self.passing.acknowledge(&plan)
        return True

    cdef void freshen(self, const HalfRecord* sender) noexcept nogil:
        """Give what has waited, and comes behind what was sent later, a timestamp that PAWS lets pass (RFC 7323)."""
        cdef PacketRecord* packet = self.hand.packet
        if packet.options & OPT_TIMESTAMP and sender.flags & TIMESTAMPS and seq_lt(packet.tsval, sender.ts_recent):
            rewrite_timestamps(self.hand.begin(), sender.ts_recent, packet.tsecr)

    cdef void doubt(self) noexcept nogil:
        """The receiver will not take the payload in hand: in a half that may be edited, no byte that is new passes so.

        It would count as passed, and the same bytes could not be replaced when they come in a segment that is believed.
        """
        cdef uint32_t edits = 0
        if self.hand.flow != NULL:
            edits = self.paths.path(self.hand.flow_number).edits[self.hand.side]
        if edits and seq_lt(edits_at(&self.paths.edits, edits).nxt,
                            self.hand.packet.seq + self.hand.packet.payload_len):
            self.hand.dropped = self.hand.doubted = True
            self.doubts += 1

    cdef bint keep_waiting(self, WaitingQueue* queue) noexcept nogil:
        cdef PacketRecord* packet = self.hand.packet
        cdef Waiting* waiting
        cdef LinkHeader link
        cdef size_t cost = waiting_cost(&self.hand.frame)
        if (cost > self.paths.waiting_room - self.paths.waiting_bytes
                or queue.bytes + cost > self.paths.waiting_room_half):
            return False
        if packet.transient or (self.hand.most and link_of(self.hand.begin(), &link)
                                and not link_bears(&link, self.hand.frame.caplen - self.hand.link_len)):
            return False                           # no frame that is in hand, or could be, is read as that segment
        waiting = waiting_make(&self.hand.frame, packet.seq,
                               packet.seq + packet.payload_len + (packet.flags & FIN != 0))
        if waiting == NULL:
            return False
        waiting.frame.interface, waiting.frame.time_ns = packet.interface, packet.time_ns
        waiting.known, waiting.turned_back = packet.known, self.hand.turned_back
        waiting.replies = self.hand.matched and self.hand.match.direction == BACK
        if waiting.replies:
            waiting.match = self.hand.match
            waiting.begun_ns = session_at(&self.translation.sessions, self.hand.match.index).started_ns
        waiting.most, waiting.fragment_id = self.hand.most, self.hand.fragment_id
        if not waiting_put(queue, waiting):
            return False
        self.paths.waiting_bytes += cost
        return True

    cdef bint take_waiting(self, PacketRecord* packet, int* kind) noexcept nogil:
        """Take in hand what has waited and has its turn now, in a flow that is due; false if there is nothing."""
        cdef Path* path = self.paths.path(self.passing.due)
        cdef Waiting* waiting = NULL
        cdef DecodeOptions options = self.translation.decode_options
        cdef Frame frame
        cdef int side
        for side in range(2):
            if path.waiting[side].count and path.edits[side] and waiting == NULL:
                waiting = waiting_take(&path.waiting[side], edits_at(&self.paths.edits, path.edits[side]).nxt)
        if waiting == NULL:
            self.passing.due = 0
            return False
        self.paths.waiting_bytes -= waiting_cost(&waiting.frame)
        if self.to_arena(waiting, &frame) == NULL:
            self.paths.given_up += 1
            free(waiting)
            return self.take_waiting(packet, kind)  # one fewer each time
        options.verify_checksums = False           # they were; one left for the network card has been changed since
        kind[0] = decode_frame(&frame, &options, packet)
        self.hand.take_in(&frame, packet, kind[0])
        packet.known, packet.time_ns = waiting.known, max(packet.time_ns, self.translation.now_ns)
        self.hand.most, self.hand.fragment_id = waiting.most, waiting.fragment_id
        self.hand.turned_back = waiting.turned_back
        self.hand.has_waited = True
        if not waiting.replies:
            self.translation.enter_session()
        elif (session_of_reply(&self.translation.sessions, packet, kind[0]) == waiting.match.index
              and session_at(&self.translation.sessions, waiting.match.index).started_ns == waiting.begun_ns):
            self.hand.match, self.hand.matched = waiting.match, True
        free(waiting)
        return True

    cdef Frame* to_arena(self, const Waiting* waiting, Frame* out) noexcept nogil:
        """A frame that has waited, where it may lie until it is sent; NULL without room."""
        cdef uint8_t* data = self.outlet.take(waiting.frame.caplen + sizeof(Offload))
        if data == NULL:
            return NULL
        out[0] = waiting.frame
        memcpy(data, &waiting.offload, sizeof(Offload))
        memcpy(data + sizeof(Offload), waiting.frame.data, waiting.frame.caplen)
        out.data = data + sizeof(Offload)
        if out.offload != NULL:
            out.offload = <const Offload*> data
        return out


cdef uint32_t session_of_reply(const Sessions* sessions, const PacketRecord* packet, int kind) noexcept nogil:
    """The session whose packets arrive as the reverse of one that has been translated; 0 if none is left."""
    cdef PacketRecord question = packet[0]
    cdef SessionMatch match
    question.src, question.dst, question.sport, question.dport = packet.dst, packet.src, packet.dport, packet.sport
    return match.index if sessions_find(sessions, &question, kind, &match) and match.direction == FORTH else 0


cdef bint is_signed(const FlowRecord* flow, int side, const PacketRecord* packet) noexcept nogil:
    """Is a segment signed by TCP-MD5 (RFC 2385) or TCP-AO (RFC 5925), or is its flow?

    Of a flow whose SYNs were seen those tell: its receiver does not believe a single segment that carries one.
    """
    cdef uint16_t seen = flow.halves[side].flags
    if packet.flags & SYN or not seen & ISS_KNOWN:
        return packet.options & OPT_MD5 != 0
    return seen & MD5_SIGNED != 0


cdef Ordering new_ordering(Outlet outlet, Hand hand, Translation translation, Paths paths, Passing passing):
    cdef Ordering ordering = Ordering.__new__(Ordering)
    ordering.outlet, ordering.hand, ordering.translation = outlet, hand, translation
    ordering.paths, ordering.passing = paths, passing
    return ordering


seal(Ordering)
