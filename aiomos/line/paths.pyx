"""What the line knows of flows: the paths of their frames, and in which numbers each end counts.

Segments reach an end as those of the other do, so the link layer and the interface of each are noted: RSTs are sent
along them, in the numbers that their receiver knows. Acknowledgements of edited bytes are put in the sender's numbers
before they are processed.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.line.edits cimport (
    Acknowledgement,
    edits_at,
    edits_close,
    edits_incoming_ack,
    edits_store_close,
    edits_store_open,
)
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport MOST_INTERFACES, NOWHERE, Outlet
from aiomos.line.translation cimport Translation
from aiomos.line.waiting cimport WaitingQueue, waiting_clear
from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport ACK_SEEN, CLIENT_IS_LOW, DROPPED, FlowRecord, HalfRecord, RESETTING, SEQ_KNOWN
from aiomos.wire.building cimport Envelope, MAX_HEADERS, Segment, build_segment, link_of, link_turn
from aiomos.wire.pool cimport pool_at, pool_close, pool_open
from aiomos.wire.rewriting cimport Rewrite, rewrite_ack, rewrite_sack, rewrite_window
from aiomos.wire.wire cimport ACK, FIN, OPT_MPTCP, PacketRecord, RST, SYN

cdef enum:
    DEFAULT_TTL = 64
    FRESH_PATH = 63            # a flow's path is noted anew with every packet whose number has these bits 0


@cython.final
cdef class Paths:
    """The ways of flows' frames, and the numbers of their ends."""

    def __dealloc__(self):
        cdef uint32_t number
        for number in range(1, self.flows_begun + 1):
            waiting_clear(&self.path(number).waiting[0])
            waiting_clear(&self.path(number).waiting[1])
        pool_close(&self.paths)
        edits_store_close(&self.edits)

    cdef bint open_paths(self, size_t flows) noexcept:
        """Get room for as many flows; false if there is none."""
        return (pool_open(&self.paths, sizeof(Path), flows)
                and edits_store_open(&self.edits, 2 * flows, self.edit_room_half, self.edit_room))

    cdef Path* path(self, uint32_t number) noexcept nogil:
        return <Path*> pool_at(&self.paths, number)

    cdef void flow_begun(self, uint32_t number) noexcept nogil:
        """A flow record was taken."""
        memset(self.path(number), 0, sizeof(Path))
        self.flows_begun = max(self.flows_begun, number)

    cdef void flow_gone(self, uint32_t number) noexcept nogil:
        """A flow record is given back."""
        cdef Path* path = self.path(number)
        cdef int side
        for side in range(2):
            if path.edits[side]:
                edits_close(&self.edits, path.edits[side])
                path.edits[side] = 0
            if path.waiting[side].count:
                self.clear_waiting(&path.waiting[side])

    cdef void clear_waiting(self, WaitingQueue* queue) noexcept nogil:
        self.waiting_bytes -= queue.bytes
        self.given_up += waiting_clear(queue)

    cdef bint is_edited(self, uint32_t number) noexcept nogil:
        """Do the two ends of a flow number its bytes differently?"""
        cdef const Path* path = self.path(number)
        cdef int side
        for side in range(2):
            if path.edits[side] and edits_at(&self.edits, path.edits[side]).shift:
                return True
        return False

    cdef void flow_met(self, FlowRecord* flow, uint32_t number, int side, PacketRecord* packet) noexcept nogil:
        """The flow of the segment in hand is known: note its way, and read its acknowledgement as its receiver must."""
        cdef Path* path = self.path(number)
        cdef Acknowledgement translated
        self.hand.flow, self.hand.flow_number, self.hand.side = flow, number, side
        self.hand.before_nxt = flow.halves[side].nxt if flow.halves[side].flags & SEQ_KNOWN else packet.seq
        if not path.known[side] or not flow.halves[side].packets & FRESH_PATH:
            self.note_path(path, side, packet)
        if packet.options & OPT_MPTCP and packet.flags & ACK and not path.plain:
            path.mptcp = True
        if path.edits[1 - side] and packet.flags & ACK and self.outlet.forwards and not flow.flags & DROPPED:
            edits_incoming_ack(&self.edits, path.edits[1 - side], packet, &translated)
            if translated.ack != packet.ack:
                rewrite_ack(self.hand.begin(), translated.ack)
            if translated.window != packet.window:
                rewrite_window(self.hand.begin(), translated.window)
            if packet.sack_count:
                rewrite_sack(self.hand.begin(), translated.sack, translated.sack_count)

    cdef void note_path(self, Path* path, int side, const PacketRecord* packet) noexcept nogil:
        cdef size_t length = <size_t> (packet.network - packet.link) if packet.link != NULL else PATH_HEADER + 1
        if length > PATH_HEADER:
            return
        memcpy(path.header[side], packet.link, length)
        path.header_len[side] = <uint8_t> length
        path.interface[side] = packet.interface
        path.linktype[side] = packet.linktype
        path.known[side] = True

    cdef bint envelope_to(self, const FlowRecord* flow, const Path* path, int side, Envelope* out) noexcept nogil:
        """What a segment to one end of a flow is to be sent in, as from the other end; false if no way is known."""
        cdef int from_side = 1 - side
        cdef bint to_low = (side == 0) == (flow.flags & CLIENT_IS_LOW != 0)
        cdef Rewrite model
        memset(out, 0, sizeof(Envelope))
        if not path.known[from_side] or (path.known[side] and path.linktype[side] != path.linktype[from_side]):
            from_side = side
        if not path.known[from_side]:
            return False
        memset(&model, 0, sizeof(model))
        model.link = model.network = <uint8_t*> path.header[from_side]
        model.link_len = model.frame_len = path.header_len[from_side]
        model.linktype = path.linktype[from_side]
        if not link_of(&model, &out.link):
            return False
        if from_side == side:
            link_turn(&out.link)
        out.ip_version, out.ttl = flow.key.ip_version, DEFAULT_TTL
        out.src, out.sport = flow.key.high, flow.key.high_port
        out.dst, out.dport = flow.key.low, flow.key.low_port
        if not to_low:
            out.src, out.sport, out.dst, out.dport = out.dst, out.dport, out.src, out.sport
        return True

    cdef void send_reset(self, const FlowRecord* flow, uint32_t number, int side, uint32_t seq, uint32_t ack,
                         uint16_t flags) noexcept nogil:
        """Send one end of a flow a RST that seems to come from the other."""
        cdef const Path* path = self.path(number)
        cdef Envelope envelope
        cdef Segment segment
        cdef uint8_t* out
        cdef size_t length
        if not self.envelope_to(flow, path, side, &envelope):
            return
        memset(&segment, 0, sizeof(segment))
        segment.seq, segment.ack, segment.flags = seq, ack, flags
        out = self.outlet.take(MAX_HEADERS)
        if out == NULL:
            return
        length = build_segment(&envelope, &segment, NULL, 0, out, MAX_HEADERS)
        if length:
            self.send_to_end(out, length, envelope.link.linktype, path, side)
            self.resets += 1

    cdef void send_to_end(self, const uint8_t* data, size_t length, uint16_t linktype, const Path* path,
                          int side) noexcept nogil:
        """Send a frame to one end of a flow, translated if the flow belongs to a session."""
        cdef uint16_t interface = path.interface[side]
        if not path.known[side]:
            interface = path.interface[1 - side]
            if self.outlet.forwards:
                interface = self.outlet.peers[interface] if interface < MOST_INTERFACES else NOWHERE
        if interface == NOWHERE:
            return
        self.translation.translate_forth(data, length, linktype)
        self.outlet.originate(data, length, interface, linktype)

    cdef bint cut_off(self, const FlowRecord* flow, uint32_t number, int side,
                      const PacketRecord* packet) noexcept nogil:
        """Keep a segment from a flow that apps have cut; true if it was. One that was reset says so again."""
        if not flow.flags & (DROPPED | RESETTING):
            return False
        self.hand.dropped = self.outlet.decides
        if flow.flags & RESETTING and not packet.flags & RST:
            if packet.flags & ACK:
                self.send_reset(flow, number, side, packet.ack, 0, RST)
            else:
                self.send_reset(flow, number, side, 0, segment_end(packet), RST | ACK)
        return True

    cdef void reset_ends(self, const FlowRecord* flow, uint32_t number) noexcept nogil:
        """Send both ends a RST each that they must accept (RFC 5961 section 3.2): at what they wait for next."""
        cdef const HalfRecord* other
        cdef const Path* path = self.path(number)
        cdef uint32_t una, nxt, ack
        cdef int side
        for side in range(2):
            other = &flow.halves[1 - side]         # whose bytes this end waits for
            ack = flow.halves[side].nxt            # it numbers its own as it always has
            una, nxt = other.una if other.flags & ACK_SEEN else other.nxt, other.nxt
            if path.edits[1 - side]:
                nxt += edits_at(&self.edits, path.edits[1 - side]).shift
                una = edits_at(&self.edits, path.edits[1 - side]).una
            if not other.flags & SEQ_KNOWN:        # it has only sent a SYN
                una = nxt = 0
            self.send_reset(flow, number, side, una, ack, RST | ACK)
            if nxt != una:
                self.send_reset(flow, number, side, nxt, ack, RST | ACK)


cdef inline uint32_t segment_end(const PacketRecord* packet) noexcept nogil:
    return packet.seq + packet.payload_len + ((packet.flags & SYN) != 0) + ((packet.flags & FIN) != 0)


cdef Paths new_paths(Outlet outlet, Hand hand, Translation translation, settings):
    cdef Paths paths = Paths.__new__(Paths)
    paths.outlet, paths.hand, paths.translation = outlet, hand, translation
    paths.edit_room = settings.budgets.edited_bytes
    paths.edit_room_half = settings.budgets.edited_bytes_half
    paths.waiting_room = settings.budgets.held_bytes
    paths.waiting_room_half = settings.budgets.held_bytes_half
    paths.fail_closed = settings.fail == "closed"
    return paths


seal(Paths)
