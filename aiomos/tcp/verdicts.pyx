"""What becomes of packets in line: dropped, rejected, changed, translated, passed on.

The frame in hand is changed in place, in the transport's memory; what grows, or was put together from fragments, lies
in the arena. The monitor sees a flow as its client does: a session's packets are translated back before the flow is
looked up, and forth when they leave; acknowledgements of edited bytes are put in the sender's numbers before they are
processed, sequence numbers in the receiver's when they leave.
"""

from libc.string cimport memcpy, memset

from aiomos.tcp.addresses cimport address_read
from aiomos.tcp.building cimport (
    MAX_HEADERS,
    MAX_UNREACHABLE,
    UNREACHABLE_PORT,
    UNREACHABLE_PROHIBITED,
    Cut,
    LinkHeader,
    Segment,
    build_ack,
    build_cut,
    build_reset,
    build_segment,
    build_unreachable,
    build_with_payload,
    link_of,
    link_turn,
    link_write,
)
from aiomos.tcp.clock cimport nanoseconds, seconds
from aiomos.tcp.edits cimport (
    EDITS_BUDGET,
    EDITS_NO_PAYLOAD,
    EDITS_NOTED,
    Acknowledgement,
    edits_at,
    edits_close,
    edits_copy,
    edits_cut,
    edits_incoming_ack,
    edits_open,
    edits_outgoing,
    edits_replace,
    edits_store_close,
    edits_store_open,
)
from aiomos.tcp.flows cimport ACK_SEEN, CLIENT_IS_LOW, DROPPED, RESETTING, SEQ_KNOWN, Half
from aiomos.tcp.fragmenting cimport Fragmenter, fragmenter_begin, fragmenter_next
from aiomos.tcp.outlet cimport MOST_INTERFACES, NOWHERE
from aiomos.tcp.pool cimport pool_at, pool_close, pool_open
from aiomos.tcp.rewriting cimport (
    rewrite_ack,
    rewrite_begin,
    rewrite_dport,
    rewrite_dst,
    rewrite_eth_dst,
    rewrite_eth_src,
    rewrite_flags,
    rewrite_mss,
    rewrite_sack,
    rewrite_seq,
    rewrite_sport,
    rewrite_src,
    rewrite_tos,
    rewrite_ttl,
    rewrite_urgent,
    rewrite_window,
)
from aiomos.tcp.sessions cimport (
    BACK,
    FORTH,
    SESSION_BAD,
    SESSION_BUDGET,
    SESSION_CONFLICT,
    SESSION_ENDED,
    SESSION_MADE,
    Tuple,
    session_at,
    sessions_apply,
    sessions_close,
    sessions_end,
    sessions_expire,
    sessions_find,
    sessions_insert,
    sessions_open,
    sessions_rearm,
    sessions_release,
    sessions_take_ended,
    tuple_of,
)
from aiomos.tcp.sessions cimport Session as SessionRecord
from aiomos.tcp.wire cimport (
    ACK,
    FIN,
    RST,
    SYN,
    WIRE_FRAGMENT,
    WIRE_TCP,
    Address,
    decode_frame,
    decode_ip,
)

from aiomos.errors import NotInLineError, SessionError

cdef enum:
    DEFAULT_MSS = 536          # RFC 9293 section 3.7.1, of an end that has not said
    DEFAULT_TTL = 64
    LONGEST_WINDOW = 1 << 30   # RFC 7323 section 2.3
    FRESH_PATH = 63            # a flow's path is noted anew with every packet whose number has these bits 0

cdef tuple LARGEST = (("ttl", 0xFF), ("tos", 0xFF), ("sport", 0xFFFF), ("dport", 0xFFFF), ("seq", 0xFFFFFFFF),
                      ("ack", 0xFFFFFFFF), ("flags", 0x1FF), ("window", 0xFFFF), ("urgent", 0xFFFF), ("mss", 0xFFFF))
cdef dict MOST = dict(LARGEST)


cdef class Session:
    """A five-tuple and its replies that pass natively, with other addresses where it was made so; see `Packet.session`.

    Attributes, once it has ended, keep their last values.
    """

    def __init__(self):
        raise TypeError("sessions are made by pkt.session()")

    cdef SessionRecord* record(self) except NULL:
        if self.verdicts is None:
            raise SessionError("the session has ended")
        return session_at(&self.verdicts.sessions, self.index)

    cdef tuple values(self):
        cdef const SessionRecord* r
        if self.verdicts is None:
            return self.kept
        r = self.record()
        return (r.packets[0], r.packets[1]), (r.bytes[0], r.bytes[1]), seconds(r.last_ns)

    @property
    def packets(self):
        """Packets ``(forth, back)``."""
        return self.values()[0]

    @property
    def bytes(self):
        """Bytes of IP packets ``(forth, back)``."""
        return self.values()[1]

    @property
    def last(self):
        """When the last packet came that kept it alive, seconds since the epoch."""
        return self.values()[2]

    @property
    def open(self):
        """Whether its packets still pass."""
        return self.verdicts is not None and not self.record().flags & SESSION_ENDED

    @property
    def idle(self):
        """After how many seconds without a packet it ends; may be set."""
        return seconds(self.record().idle_ns)

    @idle.setter
    def idle(self, value):
        self.record().idle_ns = span_of("idle", value)
        sessions_rearm(&self.verdicts.sessions, self.index)

    def close(self):
        """End it; its next packet is one that nothing is known of. Done twice, it does nothing."""
        if self.verdicts is not None:
            sessions_end(&self.verdicts.sessions, self.index)
            self.verdicts.forget_match(self.index)

    def __repr__(self):
        return f"<Session {'open' if self.open else 'ended'} packets={self.packets}>"


cdef class Verdicts(Outlet):
    """The engine's outlet: what apps decide about packets and flows is done here.

    Args:
        settings: Budgets.
        key: 16 secret bytes for the hash of the session table.
    """

    def __cinit__(self, settings, const uint8_t[::1] key not None):
        cdef uint64_t keys[2]
        budgets = settings.budgets
        memcpy(keys, &key[0], 16)
        self.handles, self.free_handles = [None], []
        self.decode_options.verify_checksums = settings.checksums == "verify"
        self.decode_options.decapsulate = settings.decapsulate
        self.session_room = budgets.sessions
        self.edit_room = budgets.edited_bytes
        self.edit_room_half = budgets.edited_bytes_half
        self.keys[0], self.keys[1] = keys[0], keys[1]

    def __dealloc__(self):
        pool_close(&self.paths)
        pool_close(&self.links)
        edits_store_close(&self.edits)
        sessions_close(&self.sessions)

    def open(self, forwards, interfaces, flows):
        """Have frames sent; in line, if *forwards* says by which interface those of each go on.

        Args:
            forwards: As `Transport.forwards`.
            interfaces: Their names.
            flows: Most flow records there can be.

        Raises:
            MemoryError: the address space for the budgets cannot be had.
        """
        if self.is_open:
            raise ValueError("the outlet is open already")
        if (not pool_open(&self.paths, sizeof(Path), flows)
                or not pool_open(&self.links, sizeof(SessionLink), self.session_room)
                or not sessions_open(&self.sessions, self.session_room, self.keys[0], self.keys[1])
                or not edits_store_open(&self.edits, 2 * <size_t> flows, self.edit_room_half, self.edit_room)):
            raise MemoryError(f"no address space for the paths of {flows} flows; lower budgets.flows")
        Outlet.open(self, forwards, interfaces)

    # --- the frame's way ------------------------------------------------------------------------------

    cdef void take_in(self, const Frame* frame, Packet* packet, int kind) noexcept nogil:
        """Take the next frame in hand."""
        self.enter(frame, packet)
        self.kind = kind
        self.writable = self.moved = self.matched = self.turned_back = False
        self.most = 0
        self.flow = NULL
        self.arrived_ack = packet.ack
        self.link_len = <size_t> (packet.network - frame.data) if packet.ip_version else frame.caplen

    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil:
        """The fragment in hand was the last of its packet: take the whole packet in hand instead; its kind."""
        cdef uint8_t* copy = self.take(self.link_len + length)
        cdef Packet* packet = self.packet
        if copy == NULL:
            self.dropped = True
            return WIRE_FRAGMENT
        memcpy(copy, self.frame.data, self.link_len)
        memcpy(copy + self.link_len, data, length)
        self.frame.data = packet.link = copy
        self.frame.caplen = self.frame.wirelen = packet.frame_len = <uint32_t> (self.link_len + length)
        self.frame.offload = NULL
        self.writable = False
        self.most = most
        self.fragment_id = packet.fragment_id
        self.kind = decode_ip(copy + self.link_len, length, length, &self.decode_options, packet, 0)
        self.arrived_ack = packet.ack
        return self.kind

    cdef bint enter_session(self) noexcept nogil:
        """Find the session of the packet in hand, and translate it if it is a reply; true if its addresses changed."""
        if not self.sessions.count or not sessions_find(&self.sessions, self.packet, self.kind, &self.match):
            return False
        self.matched = self.packet.known = True
        if self.match.direction == FORTH:
            return False
        self.pass_session()
        return True

    cdef void pass_session(self) noexcept nogil:
        """Count the packet in hand for its session, and have it leave as it should."""
        cdef const SessionLink* link = <const SessionLink*> pool_at(&self.links, self.match.index)
        cdef int direction = self.match.direction
        if not sessions_apply(&self.sessions, &self.match, self.begin(), self.packet.time_ns):
            self.dropped = True
            self.refused += 1
            return
        if link.set_source[direction]:
            rewrite_eth_src(&self.rewrite, link.source[direction])
        if link.set_target[direction]:
            rewrite_eth_dst(&self.rewrite, link.target[direction])
        if link.turn_back:
            self.turned_back = True

    cdef void pass_on(self) noexcept nogil:
        """Let the frame in hand leave, as what it has become."""
        cdef Plan plan
        cdef bint edited = (not self.dropped and self.flow != NULL
                            and self.path(self.flow_number).edits[self.side] != 0)
        if edited:                                 # first, since an ACK of it goes to where it came from
            self.plan_edited(&plan)
        if not self.dropped and self.matched and self.match.direction == FORTH:
            self.pass_session()
        self.frame.interface = self.exit()
        if self.dropped:
            self.drops += 1
        elif self.frame.interface == NOWHERE:
            self.nowhere += 1
        elif edited:
            self.pass_edited(&plan)
        elif self.most:
            self.pass_fragments()
        else:
            self.pass_frame(&self.frame)
        self.packet, self.flow = NULL, NULL

    cdef void hold(self) noexcept nogil:
        """The fragment in hand waits for the others of its packet."""
        self.held += 1
        self.packet = NULL

    cdef uint16_t exit(self) noexcept nogil:
        """The interface by which the frame in hand leaves."""
        if self.turned_back:
            return self.packet.interface
        return self.peers[self.packet.interface] if self.packet.interface < MOST_INTERFACES else NOWHERE

    cdef void plan_edited(self, Plan* plan) noexcept nogil:
        """Say how a segment of a half leaves that was edited, and acknowledge what its receiver will not."""
        edits_outgoing(&self.edits, self.path(self.flow_number).edits[self.side], self.packet, plan)
        self.dropped = plan.drop
        if plan.own_ack:
            self.acknowledge(plan)

    cdef void pass_edited(self, const Plan* plan) noexcept nogil:
        """Let it leave: in the receiver's numbers, with the bytes it is to have."""
        if not plan.as_is:
            self.send_plan(plan)
        else:
            if plan.seq != self.packet.seq:
                rewrite_seq(self.begin(), plan.seq)
            if self.packet.urgent != plan.urgent:
                rewrite_urgent(self.begin(), plan.urgent)
            if self.most:
                self.pass_fragments()
            else:
                self.pass_frame(&self.frame)

    cdef void acknowledge(self, const Plan* plan) noexcept nogil:
        cdef uint8_t* out = self.take(MAX_HEADERS)
        cdef uint32_t ack = self.packet.ack
        if out != NULL:
            self.packet.ack = self.arrived_ack     # an answer continues in the numbers that its sender knows
            self.answer(out, build_ack(self.begin(), plan.ack, plan.window, out, MAX_HEADERS))
            self.packet.ack = ack

    cdef void send_plan(self, const Plan* plan) noexcept nogil:
        """Send what a segment has become, in as many segments as the receiver's MSS takes."""
        cdef uint8_t* payload = self.take(plan.length + 1)
        cdef uint8_t* out
        cdef size_t room
        cdef uint32_t most = self.segment_room()
        cdef Frame frame = self.frame
        cdef Cut cut
        if payload == NULL:
            self.give_up()
            return
        edits_copy(&self.edits, plan, self.packet, payload)
        memset(&cut, 0, sizeof(cut))
        while edits_cut(plan, most, &cut):
            room = self.link_len + (self.packet.payload - self.packet.network) + cut.length
            out = self.take(room)
            frame.caplen = <uint32_t> build_cut(self.begin(), &cut, payload, out, room) if out != NULL else 0
            if not frame.caplen:
                self.give_up()
                return
            frame.data, frame.wirelen, frame.offload = out, frame.caplen, NULL
            self.pass_frame(&frame)
        self.altered += 1

    cdef uint32_t segment_room(self) noexcept nogil:
        """Bytes of payload that a segment to the receiver may carry, with the options of the one in hand."""
        cdef uint32_t mss = self.flow.halves[1 - self.side].mss
        cdef uint32_t options = self.packet.header_len - 20
        mss = mss if mss else DEFAULT_MSS
        return mss - options if mss > 2 * options else mss

    cdef void pass_fragments(self) noexcept nogil:
        """Let a packet leave that came in fragments: in fragments no larger than those."""
        cdef Fragmenter fragmenter
        cdef LinkHeader link
        cdef Frame frame = self.frame
        cdef uint8_t* out
        cdef size_t length = self.frame.caplen - self.link_len
        if (not link_of(self.begin(), &link)
                or not fragmenter_begin(&fragmenter, self.frame.data + self.link_len, length, self.most,
                                        self.fragment_id)):
            self.give_up()
            return
        while True:
            out = self.take(self.link_len + self.most)
            if out == NULL:
                return
            length = fragmenter_next(&fragmenter, out + self.link_len)
            if not length:
                return
            link_write(&link, out, length)
            frame.data, frame.offload = out, NULL
            frame.caplen = frame.wirelen = <uint32_t> (self.link_len + length)
            self.pass_frame(&frame)
            self.refragmented += 1

    cdef void give_up(self) noexcept nogil:
        """The packet in hand cannot be passed on as it is to be."""
        self.refused += 1
        self.drops += 1

    cdef bint is_in_tunnel(self) noexcept nogil:
        """Is there more before the packet in hand than a link layer that could be written anew?"""
        cdef LinkHeader link
        return not link_of(self.begin(), &link)

    cdef Rewrite* begin(self) noexcept nogil:
        """The packet in hand, to be written."""
        if not self.writable:
            rewrite_begin(&self.rewrite, self.packet, self.kind, &self.frame, self.link_len)
            self.writable = True
        return &self.rewrite

    cdef bint answer(self, const uint8_t* data, size_t length) noexcept nogil:
        """Send a frame that was built back to where the one in hand came from; false if there is none."""
        self.translate_forth(data, length, self.packet.linktype)
        return self.originate(data, length, self.packet.interface, self.packet.linktype)

    cdef void translate_forth(self, const uint8_t* data, size_t length, uint16_t linktype) noexcept nogil:
        """Have a frame that was built leave as those of its session do, if it belongs to one."""
        cdef Frame frame
        cdef Packet packet
        cdef Rewrite rewrite
        cdef SessionMatch match
        cdef const SessionLink* link
        cdef int kind
        if not self.sessions.count or not length:
            return
        memset(&frame, 0, sizeof(frame))
        frame.data, frame.linktype = data, linktype
        frame.caplen = frame.wirelen = <uint32_t> length
        kind = decode_frame(&frame, &self.decode_options, &packet)
        if not sessions_find(&self.sessions, &packet, kind, &match) or match.direction != FORTH:
            return
        rewrite_begin(&rewrite, &packet, kind, &frame, <size_t> (packet.network - data))
        sessions_apply(&self.sessions, &match, &rewrite, self.now_ns)
        link = <const SessionLink*> pool_at(&self.links, match.index)
        if link.set_source[<int> FORTH]:
            rewrite_eth_src(&rewrite, link.source[<int> FORTH])
        if link.set_target[<int> FORTH]:
            rewrite_eth_dst(&rewrite, link.target[<int> FORTH])

    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil:
        cdef Frame frame
        if not length:
            return False
        memset(&frame, 0, sizeof(frame))
        frame.data, frame.interface, frame.linktype = data, interface, linktype
        frame.caplen = frame.wirelen = <uint32_t> length
        self.originated += self.emit(&frame)
        return True

    # --- flows ----------------------------------------------------------------------------------------

    cdef Path* path(self, uint32_t number) noexcept nogil:
        return <Path*> pool_at(&self.paths, number)

    cdef void flow_begun(self, uint32_t number) noexcept nogil:
        """A flow record was taken."""
        memset(self.path(number), 0, sizeof(Path))

    cdef void flow_gone(self, uint32_t number) noexcept nogil:
        """A flow record is given back."""
        cdef Path* path = self.path(number)
        cdef int side
        for side in range(2):
            if path.edits[side]:
                edits_close(&self.edits, path.edits[side])
                path.edits[side] = 0

    cdef bint is_edited(self, uint32_t number) noexcept nogil:
        """Do the two ends of a flow number its bytes differently?"""
        cdef const Path* path = self.path(number)
        cdef int side
        for side in range(2):
            if path.edits[side] and edits_at(&self.edits, path.edits[side]).shift:
                return True
        return False

    cdef void flow_met(self, FlowRecord* flow, uint32_t number, int side, Packet* packet) noexcept nogil:
        """The flow of the segment in hand is known: note its way, and read its acknowledgement as its receiver must."""
        cdef Path* path = self.path(number)
        cdef Acknowledgement translated
        self.flow, self.flow_number, self.side = flow, number, side
        self.before_nxt = flow.halves[side].nxt if flow.halves[side].flags & SEQ_KNOWN else packet.seq
        if not path.known[side] or not flow.halves[side].packets & FRESH_PATH:
            self.note_path(path, side, packet)
        if path.edits[1 - side] and packet.flags & ACK and self.in_line and not flow.flags & DROPPED:
            edits_incoming_ack(&self.edits, path.edits[1 - side], packet, &translated)
            if translated.ack != packet.ack:
                rewrite_ack(self.begin(), translated.ack)
            if translated.window != packet.window:
                rewrite_window(self.begin(), translated.window)
            if packet.sack_count:
                rewrite_sack(self.begin(), translated.sack, translated.sack_count)

    cdef void note_path(self, Path* path, int side, const Packet* packet) noexcept nogil:
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
        out = self.take(MAX_HEADERS)
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
            if self.in_line:
                interface = self.peers[interface] if interface < MOST_INTERFACES else NOWHERE
        if interface == NOWHERE:
            return
        self.translate_forth(data, length, linktype)
        self.originate(data, length, interface, linktype)

    cdef bint cut_off(self, const FlowRecord* flow, uint32_t number, int side, const Packet* packet) noexcept nogil:
        """Keep a segment from a flow that apps have cut; true if it was. One that was reset says so again."""
        if not flow.flags & (DROPPED | RESETTING):
            return False
        self.dropped = self.in_line
        if flow.flags & RESETTING and not packet.flags & RST:
            if packet.flags & ACK:
                self.send_reset(flow, number, side, packet.ack, 0, RST)
            else:
                self.send_reset(flow, number, side, 0, segment_end(packet), RST | ACK)
        return True

    cdef void reset_ends(self, const FlowRecord* flow, uint32_t number) noexcept nogil:
        """Send both ends a RST each that they must accept (RFC 5961 section 3.2): at what they wait for next."""
        cdef const Half* other
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

    # --- verdicts -------------------------------------------------------------------------------------

    cdef int in_hand(self, const Packet* packet) except -1:
        """See that a packet is the one in hand, and in line.

        Raises:
            NotInLineError: traffic is only watched, or the packet has left.
        """
        if not self.in_line:
            raise NotInLineError
        if packet == NULL or packet != self.packet:
            raise NotInLineError("this packet is not in hand: it was kept from earlier, or has left already")
        return 0

    cdef int drop(self, const Packet* packet) except -1:
        self.in_hand(packet)
        self.dropped = True
        return 0

    cdef int reject(self, const Packet* packet, object why) except -1:
        """Drop the packet in hand and tell its sender: by RST, or that its destination cannot be reached."""
        cdef uint8_t* out
        cdef size_t length
        cdef uint32_t ack
        self.in_hand(packet)
        if why not in ("prohibited", "port"):
            raise ValueError(f"a packet is rejected as 'prohibited' or 'port', not {why!r}")
        self.dropped = True
        out = self.take(MAX_UNREACHABLE)
        if out == NULL:
            return 0
        if self.kind == WIRE_TCP:
            ack = self.packet.ack
            self.packet.ack = self.arrived_ack     # as in acknowledge()
            length = build_reset(self.begin(), out, MAX_UNREACHABLE)
            self.packet.ack = ack
        else:
            length = build_unreachable(self.begin(), UNREACHABLE_PORT if why == "port" else UNREACHABLE_PROHIBITED,
                                       out, MAX_UNREACHABLE)
        self.rejected += self.answer(out, length)
        return 0

    cdef int alter(self, const Packet* packet, dict fields) except -1:
        """Set fields of the packet in hand."""
        self.in_hand(packet)
        for name, value in fields.items():
            if not self.alter_one(name, value):
                raise ValueError(f"pkt.set({name}=...): this packet has no such field, or not all of it was captured")
        self.altered += 1
        return 0

    cdef bint alter_one(self, str name, object value) except -1:
        cdef Rewrite* r = self.begin()
        cdef uint32_t number
        cdef Address address
        cdef bytes link
        if name == "eth_src" or name == "eth_dst":
            link = link_address(value)
            return rewrite_eth_src(r, link) if name == "eth_src" else rewrite_eth_dst(r, link)
        if name == "src" or name == "dst":
            if address_read(value, &address) != self.packet.ip_version:
                raise ValueError(f"pkt.set({name}={value!r}): the packet is of IPv{self.packet.ip_version}")
            self.moved = True
            return rewrite_src(r, &address) if name == "src" else rewrite_dst(r, &address)
        number = number_of(name, value)
        if name == "sport" or name == "dport":
            self.moved = True
            return rewrite_sport(r, <uint16_t> number) if name == "sport" else rewrite_dport(r, <uint16_t> number)
        if name == "ttl":
            return rewrite_ttl(r, <uint8_t> number)
        if name == "tos":
            return rewrite_tos(r, <uint8_t> number)
        if name == "seq":
            return rewrite_seq(r, number)
        if name == "ack":
            return rewrite_ack(r, number)
        if name == "flags":
            return rewrite_flags(r, <uint16_t> number)
        if name == "window":
            return rewrite_window(r, <uint16_t> number)
        if name == "urgent":
            return rewrite_urgent(r, <uint16_t> number)
        return rewrite_mss(r, <uint16_t> number)

    cdef bint replace(self, const Packet* packet, const uint8_t* data, size_t n) except -1:
        """Have the packet in hand carry other bytes; false if it has been sent otherwise before, and stays so."""
        cdef Path* path
        cdef Half* receiver
        cdef int result
        self.in_hand(packet)
        if self.kind != WIRE_TCP:
            return self.replace_datagram(data, n)
        if self.flow == NULL:
            raise ValueError(
                "pkt.replace(): at this hook it is not known yet to which flow a segment belongs; use Hook.SENDER")
        path = self.path(self.flow_number)
        if not path.edits[self.side]:
            receiver = &self.flow.halves[1 - self.side]
            path.edits[self.side] = edits_open(
                &self.edits, self.acknowledged(), self.before_nxt,
                <uint16_t> min(receiver.wnd >> receiver.wscale, <uint32_t> 0xFFFF), receiver.wscale, True)
            if not path.edits[self.side]:
                raise BufferError("pkt.replace(): too many flows are edited; see budgets.edited_bytes")
        result = edits_replace(&self.edits, path.edits[self.side], self.packet, data, n)
        if result == EDITS_BUDGET:
            raise BufferError(
                "pkt.replace(): too many bytes are not acknowledged yet; see budgets.edited_bytes_half")
        if result == EDITS_NO_PAYLOAD:
            raise ValueError("pkt.replace(): a segment without payload, a SYN, or not captured whole")
        return result == EDITS_NOTED

    cdef uint32_t acknowledged(self) noexcept:
        """What the receiver has acknowledged of the sender in hand, before anything of it was edited."""
        cdef const Half* sender = &self.flow.halves[self.side]
        return sender.una if sender.flags & ACK_SEEN else self.before_nxt - LONGEST_WINDOW

    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1:
        cdef size_t room = self.frame.caplen + n
        cdef uint8_t* out = self.take(room)
        cdef size_t length = build_with_payload(self.begin(), data, n, out, room) if out != NULL else 0
        cdef bint known = self.packet.known
        if not length:
            raise ValueError("pkt.replace(): this packet cannot carry that, or was not captured whole")
        self.frame.data, self.frame.offload = out, NULL
        self.frame.caplen = self.frame.wirelen = <uint32_t> length
        self.frame.interface = self.packet.interface
        self.kind = decode_frame(&self.frame, &self.decode_options, self.packet)
        self.packet.known = known
        self.writable = False
        self.altered += 1
        return True

    # --- sessions -------------------------------------------------------------------------------------

    cdef Session make_session(self, const Packet* packet, dict addresses, idle, transitory, on_end, bint turn_back):
        """Have the packet in hand begin a session, or join that which it belongs to."""
        cdef Session session
        cdef int64_t idle_ns = span_of("idle", idle)
        self.in_hand(packet)
        if self.matched and self.match.direction == BACK:
            raise SessionError("the packet is a reply, or an error, of a session")
        if self.matched:
            session = self.handles[session_at(&self.sessions, self.match.index).hold]
            if not addresses and not turn_back:
                session.idle = min(idle, session.idle)
            else:
                self.lay_over(session, addresses, idle_ns, transitory, turn_back)
        else:
            session = Session.__new__(Session)
            session.listeners = []
            self.lay_under(session, addresses, idle_ns, transitory, turn_back)
        if on_end is not None:
            session.listeners.append(on_end)
        return session

    cdef int lay_over(self, Session session, dict addresses, int64_t idle_ns, transitory, bint turn_back) except -1:
        """Have a session that only lets pass translate, too."""
        cdef uint32_t old = session.index
        cdef SessionRecord before = session_at(&self.sessions, old)[0]
        cdef const SessionLink* link = <const SessionLink*> pool_at(&self.links, old)
        cdef Tuple arrives, leaves
        self.read_tuples(addresses, &arrives, &leaves)         # bad ones leave it as it is
        if (translates(&before.arrives[<int> FORTH], &before.arrives[<int> BACK]) or link.turn_back
                or link.set_source[<int> FORTH] or link.set_target[<int> FORTH]):
            raise SessionError("the packet's session is translated already")
        session.close()                            # and that is its end, if it cannot be made anew
        self.lay_under(session, addresses, min(idle_ns, before.idle_ns), transitory, turn_back)
        session_at(&self.sessions, old).hold = 0
        self.handles[before.hold] = None
        self.free_handles.append(before.hold)

    cdef int lay_under(self, Session session, dict addresses, int64_t idle_ns, transitory, bint turn_back) except -1:
        """Enter a session in the table."""
        cdef Tuple arrives, leaves
        cdef SessionLink link
        cdef uint32_t index = 0
        cdef int result
        cdef int64_t transitory_ns = 0 if transitory is None else span_of("transitory", transitory)
        self.read_tuples(addresses, &arrives, &leaves)
        self.read_link(addresses, turn_back, &link)
        result = sessions_insert(&self.sessions, &arrives, &leaves, self.packet.time_ns, idle_ns, transitory_ns, &index)
        if result != SESSION_MADE:
            raise SessionError(session_refusal(result))
        memcpy(pool_at(&self.links, index), &link, sizeof(SessionLink))
        session.verdicts, session.index = self, index
        if self.free_handles:
            session_at(&self.sessions, index).hold = self.free_handles.pop()
            self.handles[session_at(&self.sessions, index).hold] = session
        else:
            session_at(&self.sessions, index).hold = <uint32_t> len(self.handles)
            self.handles.append(session)
        self.matched = True
        memset(&self.match, 0, sizeof(self.match))
        self.match.index, self.match.direction = index, FORTH
        return 0

    cdef int read_tuples(self, dict addresses, Tuple* arrives, Tuple* leaves) except -1:
        """What the packet in hand arrives as, and is to leave as."""
        if not tuple_of(self.packet, self.kind, arrives):
            raise SessionError("a session is of TCP, UDP or ICMP echo; this packet is none, or a fragment")
        leaves[0] = arrives[0]
        for name in ("src", "dst"):
            if addresses.get(name) is not None and address_read(
                    addresses[name], &leaves.src if name == "src" else &leaves.dst) != arrives.ip_version:
                raise ValueError(f"pkt.session({name}={addresses[name]!r}): the packet is of IPv{arrives.ip_version}")
        if addresses.get("sport") is not None:
            leaves.sport = <uint16_t> number_of("sport", addresses["sport"])
        if addresses.get("dport") is not None:
            leaves.dport = <uint16_t> number_of("dport", addresses["dport"])
        return 0

    cdef int read_link(self, dict addresses, bint turn_back, SessionLink* link) except -1:
        """Link-layer addresses of a session; replies get those of its first packet back."""
        cdef const uint8_t* ethernet = self.packet.link
        memset(link, 0, sizeof(SessionLink))
        link.turn_back = turn_back
        for name in ("eth_src", "eth_dst"):
            if addresses.get(name) is None:
                continue
            if ethernet == NULL or self.packet.linktype != 1 or self.link_len < 14:
                raise SessionError(f"pkt.session({name}=...): the packet has no Ethernet header")
            wanted = link_address(addresses[name])
            if name == "eth_src":
                memcpy(link.source[<int> FORTH], <const uint8_t*> <bytes> wanted, 6)
                memcpy(link.target[<int> BACK], ethernet + 6, 6)
                link.set_source[<int> FORTH] = link.set_target[<int> BACK] = True
            else:
                memcpy(link.target[<int> FORTH], <const uint8_t*> <bytes> wanted, 6)
                memcpy(link.source[<int> BACK], ethernet, 6)
                link.set_target[<int> FORTH] = link.set_source[<int> BACK] = True
        return 0

    cdef void forget_match(self, uint32_t index) noexcept:
        """A session was closed while a packet of it is in hand."""
        if self.packet != NULL and self.matched and self.match.index == index:
            self.matched = False

    cdef void pass_time(self, int64_t now_ns) noexcept nogil:
        """End the sessions that have been idle for too long."""
        self.now_ns = now_ns
        if self.sessions.count:
            sessions_expire(&self.sessions, now_ns)

    cdef list take_ended(self):
        """The sessions that have ended since, each with its last values."""
        cdef list ended = []
        cdef uint32_t index = sessions_take_ended(&self.sessions)
        cdef uint32_t hold
        cdef Session session
        while index:
            hold = session_at(&self.sessions, index).hold
            if hold:
                session = self.handles[hold]
                session.kept = session.values()
                session.verdicts = None
                self.handles[hold] = None
                self.free_handles.append(hold)
                ended.append(session)
            sessions_release(&self.sessions, index)
            index = sessions_take_ended(&self.sessions)
        return ended

    def statistics(self):
        """Return counters of frames by name."""
        return Outlet.statistics(self) | {
            "altered": self.altered, "rejected": self.rejected, "resets": self.resets, "refused": self.refused,
            "refragmented": self.refragmented, "held": self.held, "nowhere": self.nowhere,
            "sessions": self.sessions.count, "edited": self.edits.halves.in_use,
        }


cdef inline uint32_t segment_end(const Packet* packet) noexcept nogil:
    return packet.seq + packet.payload_len + ((packet.flags & SYN) != 0) + ((packet.flags & FIN) != 0)


cdef bint translates(const Tuple* forth, const Tuple* back) noexcept:
    """Does a session translate, by what packets of its two directions arrive as?"""
    return (forth.src.hi != back.dst.hi or forth.src.lo != back.dst.lo or forth.dst.hi != back.src.hi
            or forth.dst.lo != back.src.lo or forth.sport != back.dport or forth.dport != back.sport)


cdef str session_refusal(int result):
    if result == SESSION_CONFLICT:
        return "the replies of such a session would be those of another: choose another port"
    if result == SESSION_BUDGET:
        return "too many sessions; see budgets.sessions"
    if result == SESSION_BAD:
        return "the packet's two directions would look the same"
    return "the packet belongs to a session already"


cdef int64_t span_of(str name, object value) except -1:
    if not 0 < value <= 1e9:
        raise ValueError(f"{name}: a session ends after some seconds, up to 1e9, not {value}")
    return nanoseconds(value)


cdef uint32_t number_of(str name, object value) except? 0xFFFFFFFF:
    if name not in MOST:
        raise TypeError(
            f"packets have no field {name!r} to set; they have eth_src, eth_dst, src, dst, {', '.join(MOST)}")
    if not 0 <= value <= MOST[name]:
        raise ValueError(f"{name} is from 0 to {MOST[name]}, not {value}")
    return value


cdef bytes link_address(object text):
    """Six bytes of a text such as 02:00:00:00:00:01."""
    try:
        address = bytes.fromhex(text.replace(":", ""))
    except (ValueError, AttributeError):
        address = b""
    if len(address) != 6:
        raise ValueError(f"a link-layer address is such as 02:00:00:00:00:01, not {text!r}")
    return address
