"""What becomes of packets in line: dropped, rejected, changed, passed on.

The frame in hand is changed in place, in the transport's memory; what grows, or was put together from fragments, lies
in the arena. Of edited bytes, sequence numbers are put in the receiver's when they leave.
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
    build_ack,
    build_cut,
    build_reset,
    build_unreachable,
    build_with_payload,
    link_of,
    link_write,
)
from aiomos.tcp.edits cimport (
    EDITS_BUDGET,
    EDITS_NO_PAYLOAD,
    EDITS_NOTED,
    edits_copy,
    edits_cut,
    edits_open,
    edits_outgoing,
    edits_replace,
)
from aiomos.tcp.fields cimport link_address, number_of
from aiomos.tcp.flows cimport ACK_SEEN, Half
from aiomos.tcp.fragmenting cimport Fragmenter, fragmenter_begin, fragmenter_next
from aiomos.tcp.outlet cimport MOST_INTERFACES, NOWHERE, Outlet
from aiomos.tcp.paths cimport Path
from aiomos.tcp.rewriting cimport (
    Rewrite,
    rewrite_ack,
    rewrite_dport,
    rewrite_dst,
    rewrite_eth_dst,
    rewrite_eth_src,
    rewrite_flags,
    rewrite_mss,
    rewrite_seq,
    rewrite_sport,
    rewrite_src,
    rewrite_tos,
    rewrite_ttl,
    rewrite_urgent,
    rewrite_window,
)
from aiomos.tcp.sessions cimport FORTH
from aiomos.tcp.wire cimport WIRE_FRAGMENT, WIRE_TCP, Address, decode_frame, decode_ip

cdef enum:
    DEFAULT_MSS = 536          # RFC 9293 section 3.7.1, of an end that has not said
    LONGEST_WINDOW = 1 << 30   # RFC 7323 section 2.3


cdef class Verdicts(Paths):
    """The engine's outlet: what apps decide about packets and flows is done here.

    Args:
        settings: Budgets.
        key: 16 secret bytes for the hash of the session table.
    """

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
        if not self.open_paths(flows) or not self.open_sessions():
            raise MemoryError(f"no address space for the paths of {flows} flows; lower budgets.flows")
        Outlet.open(self, forwards, interfaces)

    # --- the frame's way ------------------------------------------------------------------------------

    cdef void take_in(self, const Frame* frame, Packet* packet, int kind) noexcept nogil:
        """Take the next frame in hand."""
        self.enter(frame, packet, kind)
        self.moved = self.matched = self.turned_back = False
        self.most = 0
        self.flow = NULL
        self.arrived_ack = packet.ack

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

    cdef void let_go(self) noexcept nogil:
        """The packet in hand is another worker's."""
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

    # --- verdicts -------------------------------------------------------------------------------------

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

    def statistics(self):
        """Return counters of frames by name."""
        return Outlet.statistics(self) | {
            "altered": self.altered, "rejected": self.rejected, "resets": self.resets, "refused": self.refused,
            "refragmented": self.refragmented, "held": self.held, "nowhere": self.nowhere,
            "sessions": self.sessions.count, "edited": self.edits.halves.in_use,
        }
