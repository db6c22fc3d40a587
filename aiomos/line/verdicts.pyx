"""What becomes of packets in line: dropped, rejected, changed, passed on.

The frame in hand is changed in place, in the transport's memory; what grows, or was put together from fragments, lies
in the arena. Of edited bytes, sequence numbers are put in the receiver's when they leave.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from aiomos.line.edits cimport (
    EDITS_BUDGET,
    EDITS_NOTED,
    EDITS_SEEN,
    MAX_AHEAD,
    Edits,
    edits_at,
    edits_close,
    edits_copy,
    edits_cut,
    edits_open,
    edits_outgoing,
    edits_replace,
    edits_unused,
)
from aiomos.line.fields cimport link_address, number_of
from aiomos.line.outlet cimport MOST_INTERFACES, NOWHERE, Outlet
from aiomos.line.paths cimport Path
from aiomos.line.sessions cimport BACK, FORTH, SessionMatch, Sessions, session_at, sessions_find
from aiomos.line.waiting cimport waiting_cost, waiting_make, waiting_put, waiting_take
from aiomos.tcp.flows cimport ACK_SEEN, ISS_KNOWN, MD5_SIGNED, OFFERS_SCALE, TIMESTAMPS, Half
from aiomos.wire.addresses cimport address_read
from aiomos.wire.building cimport (
    MAX_HEADERS,
    Cut,
    LinkHeader,
    build_ack,
    build_cut,
    build_reset,
    build_with_payload,
    link_bears,
    link_of,
    link_write,
)
from aiomos.wire.fragmenting cimport Fragmenter, fragmenter_begin, fragmenter_next
from aiomos.wire.frame cimport Offload
from aiomos.wire.icmp cimport MAX_ICMP_ERROR, UNREACHABLE_PORT, UNREACHABLE_PROHIBITED, build_icmp_error
from aiomos.wire.rewriting cimport (
    Rewrite,
    Saved,
    is_authenticated,
    rewrite_ack,
    rewrite_dport,
    rewrite_dst,
    rewrite_eth_dst,
    rewrite_eth_src,
    rewrite_flags,
    rewrite_mss,
    rewrite_restore,
    rewrite_save,
    rewrite_seq,
    rewrite_sport,
    rewrite_src,
    rewrite_timestamps,
    rewrite_tos,
    rewrite_ttl,
    rewrite_urgent,
    rewrite_window,
    rewrite_without,
)
from aiomos.wire.seq cimport seq_diff, seq_lt
from aiomos.wire.wire cimport (
    FIN,
    OPT_FASTOPEN,
    OPT_MD5,
    OPT_MPTCP,
    OPT_TIMESTAMP,
    RST,
    SYN,
    WIRE_FRAGMENT,
    WIRE_TCP,
    Address,
    DecodeOptions,
    decode_frame,
    decode_ip,
)

cdef enum:
    DEFAULT_MSS = 536          # RFC 9293 section 3.7.1, of an end that has not said
    LONGEST_WINDOW = 1 << 30   # RFC 7323 section 2.3

cdef enum:
    OPTION_MPTCP = 30
    OPTION_FASTOPEN = 34
    OPTION_EXPERIMENT = 254
    EXPERIMENT_FASTOPEN = 0xF989       # RFC 7413 appendix A

REFUSAL_NAMES = ("no_payload", "cut", "hook", "signed", "mptcp", "tunnel", "budget", "seen", "early")
assert len(REFUSAL_NAMES) == REFUSALS
cdef tuple REFUSAL_TEXTS = (
    "a segment without payload, a SYN or a RST",
    "a segment that was not captured whole",
    "at this hook it is not known yet to which flow a segment belongs; use Hook.SENDER",
    "the segment is signed (TCP-MD5, TCP-AO or an authentication header), and its receiver would not take another",
    "the connection is of Multipath TCP, which says elsewhere how long its payload is",
    "inside a tunnel payload stays as it is")


cdef uint32_t session_of_reply(const Sessions* sessions, const Packet* packet, int kind) noexcept nogil:
    """The session whose packets arrive as the reverse of one that has been translated; 0 if none is left."""
    cdef Packet question = packet[0]
    cdef SessionMatch match
    question.src, question.dst, question.sport, question.dport = packet.dst, packet.src, packet.dport, packet.sport
    return match.index if sessions_find(sessions, &question, kind, &match) and match.direction == FORTH else 0


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
        self.moved = self.matched = self.turned_back = self.waits = self.has_waited = self.doubted = False
        self.most = 0
        self.flow = NULL
        self.arrived_ack = packet.ack

    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil:
        """The fragment in hand was the last of its packet: take the whole packet in hand instead; its kind."""
        cdef uint8_t* copy = self.take(self.link_len + length)
        cdef Packet* packet = self.packet
        cdef LinkHeader link
        if copy == NULL:
            self.dropped = True
            return WIRE_FRAGMENT
        memcpy(copy, self.frame.data, self.link_len)
        memcpy(copy + self.link_len, data, length)
        if link_of(self.begin(), &link) and link_bears(&link, length):
            link_write(&link, copy, length)        # it may state how long the fragment was
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
        cdef Path* path = self.path(self.flow_number) if self.flow != NULL and not self.dropped else NULL
        cdef bint edited = path != NULL and path.edits[self.side] != 0
        if path != NULL and path.editable and self.packet.flags & SYN:
            self.make_plain(path)
        if edited:                                 # first, since an ACK of it goes to where it came from
            self.plan_edited(&plan)
        if path != NULL and not self.dropped:
            if self.packet.payload_len:
                note_passed(path, self.side, self.packet.seq + self.packet.payload_len)
            if path.waiting[0].count or path.waiting[1].count:
                self.due = self.flow_number
        if not self.dropped and self.matched and self.match.direction == FORTH:
            self.pass_session()
        self.frame.interface = self.exit()
        if self.waits:
            self.held += 1
        elif self.dropped:
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
                self.give_up()
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
        out = self.take(MAX_ICMP_ERROR)
        if out == NULL:
            return 0
        if self.kind == WIRE_TCP:
            ack = self.packet.ack
            self.packet.ack = self.arrived_ack     # as in acknowledge()
            length = build_reset(self.begin(), out, MAX_ICMP_ERROR)
            self.packet.ack = ack
        else:
            length = build_icmp_error(self.begin(), UNREACHABLE_PORT if why == "port" else UNREACHABLE_PROHIBITED,
                                      0, NULL, out, MAX_ICMP_ERROR)
        self.rejected += self.answer(out, length)
        return 0

    cdef int alter(self, const Packet* packet, dict fields) except -1:
        """Set fields of the packet in hand: all of them, or none."""
        cdef Saved before
        cdef bint moved = self.moved
        self.in_hand(packet)
        rewrite_save(self.begin(), &before)
        try:
            for name, value in fields.items():
                if not self.alter_one(name, value):
                    raise ValueError(
                        f"pkt.set({name}=...): this packet has no such field, or not all of it was captured")
        except BaseException:
            rewrite_restore(self.begin(), &before)
            self.moved = moved
            raise
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
        cdef uint32_t edits
        cdef int result, why
        self.in_hand(packet)
        if self.kind != WIRE_TCP:
            return self.replace_datagram(data, n)
        path = self.path(self.flow_number) if self.flow != NULL else NULL
        why = self.bars(path)
        if why >= 0:
            self.refuse(why)
        if self.doubted:
            self.edits_refused[<int> REFUSED_EARLY] += 1
            return False
        edits = path.edits[self.side]
        if not edits:
            edits = self.open_edits(self.flow, path, self.side)
            if not edits:
                self.refuse(REFUSED_BUDGET)
        result = edits_replace(&self.edits, edits, self.packet, data, n)
        if not path.edits[self.side]:
            if result == EDITS_BUDGET or result == EDITS_SEEN:
                edits_close(&self.edits, edits)        # refused: all is as it was
            else:
                path.edits[self.side] = edits
        if not path.editable:
            self.unprepared = True
            self.unprepared_edits += 1
        if result == EDITS_BUDGET:
            self.refuse(REFUSED_BUDGET)
        if result != EDITS_NOTED:
            self.edits_refused[<int> (REFUSED_SEEN if result == EDITS_SEEN else REFUSED_EARLY)] += 1
        return result == EDITS_NOTED

    cdef int bars(self, const Path* path) noexcept nogil:
        """Why the payload in hand cannot be replaced, a Refusal; or -1."""
        cdef const Packet* packet = self.packet
        if path == NULL:
            return REFUSED_HOOK
        if not packet.payload_len or packet.flags & (SYN | RST):
            return REFUSED_NO_PAYLOAD
        if packet.payload_cap < packet.payload_len:
            return REFUSED_CUT
        if is_signed(self.flow, self.side, packet) or is_authenticated(self.begin()):
            return REFUSED_SIGNED
        if path.mptcp:
            return REFUSED_MPTCP
        return REFUSED_TUNNEL if self.is_in_tunnel() else -1

    cdef int refuse(self, int why) except -1:
        """Say that a payload is not replaced. Failing closed, what an app would not have pass as it is does not."""
        self.edits_refused[why] += 1
        if self.fail_closed and self.packet.payload_len:
            self.dropped = True
        if why == REFUSED_BUDGET:
            raise BufferError("pkt.replace(): too many bytes are not acknowledged yet; see budgets.edited_bytes and "
                              "budgets.edited_bytes_half")
        raise ValueError(f"pkt.replace(): {REFUSAL_TEXTS[why]}")

    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1:
        cdef size_t room = self.frame.caplen + n
        cdef uint8_t* out = self.take(room)
        cdef size_t length = build_with_payload(self.begin(), data, n, out, room) if out != NULL else 0
        if not length:
            raise ValueError("pkt.replace(): this packet cannot carry that, or was not captured whole")
        self.remake(out, length)
        self.altered += 1
        return True

    cdef void remake(self, const uint8_t* data, size_t length) noexcept nogil:
        """The packet in hand was built anew: read it again. It is in no tunnel, and does not become one."""
        cdef DecodeOptions options = self.decode_options
        cdef bint known = self.packet.known
        cdef int64_t time_ns = self.packet.time_ns     # as it was judged: the frame's may be wild
        options.decapsulate = False
        self.frame.data, self.frame.offload = data, NULL
        self.frame.caplen = self.frame.wirelen = <uint32_t> length
        self.frame.interface = self.packet.interface
        self.kind = decode_frame(&self.frame, &options, self.packet)
        self.packet.known, self.packet.time_ns = known, time_ns
        self.writable = False
        self.match_anew()

    # --- flows that may be edited ---------------------------------------------------------------------

    cdef void prepare(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil:
        """Have the half of the segment in hand be edited from its start, and what would not bear it be left out."""
        cdef Path* path = self.path(number)
        cdef const Half* half = &flow.halves[side]
        cdef const Edits* e
        cdef Packet* packet = self.packet
        if packet.flags & RST or path.mptcp or is_signed(flow, side, packet):
            return
        if packet.flags & SYN:
            path.editable = not self.is_in_tunnel() and not is_authenticated(self.begin())
            if path.editable and packet.payload_len:
                self.take_syn_data()
            return
        if path.edits[side]:
            e = edits_at(&self.edits, path.edits[side])
            if e.start == half.iss + 1 or not half.flags & ISS_KNOWN or path.has_passed[side] or not edits_unused(e):
                return
            edits_close(&self.edits, path.edits[side])     # the SYN that counts was another
            path.edits[side] = 0
        if not path.editable:
            path.editable = not self.is_in_tunnel() and not is_authenticated(self.begin())
        if path.editable and (half.flags & ISS_KNOWN or packet.payload_len):
            path.edits[side] = self.open_edits(flow, path, side)

    cdef uint32_t open_edits(self, const FlowRecord* flow, const Path* path, int side) noexcept nogil:
        """Begin to edit a half: from the first of its bytes that has not passed, as far as that can be told."""
        cdef const Half* sender = &flow.halves[side]
        cdef const Half* receiver = &flow.halves[1 - side]
        cdef uint32_t nxt, una, edits
        cdef uint8_t wscale = receiver.wscale
        if sender.flags & ISS_KNOWN and not sender.flags & OFFERS_SCALE:
            wscale = 0                             # RFC 7323 section 2.2: both or none
        if path.has_passed[side]:
            nxt = path.passed[side]
        elif sender.flags & ISS_KNOWN:
            nxt = sender.iss + 1
        else:
            nxt = sender.una if sender.flags & ACK_SEEN else self.packet.seq
        una = sender.una if sender.flags & ACK_SEEN else nxt - LONGEST_WINDOW
        edits = edits_open(&self.edits, una, nxt, <uint16_t> min(receiver.wnd >> wscale, <uint32_t> 0xFFFF), wscale,
                           True)
        if edits and not sender.flags & ISS_KNOWN and not path.has_passed[side]:
            edits_at(&self.edits, edits).guessed = True
        return edits

    cdef void take_syn_data(self) noexcept nogil:
        """Take the data out of the SYN in hand: it is sent again behind the handshake (RFC 7413 section 4.2)."""
        cdef size_t room = self.link_len + (self.packet.payload - self.packet.network)
        cdef uint8_t* out = self.take(room)
        cdef Cut cut
        memset(&cut, 0, sizeof(cut))
        cut.seq, cut.flags, cut.urgent = self.packet.seq, self.packet.flags, self.packet.urgent
        room = build_cut(self.begin(), &cut, NULL, out, room) if out != NULL else 0
        if not room:
            self.dropped = True                    # it comes again
            return
        self.remake(out, room)
        self.bare_syns += 1

    cdef void make_plain(self, Path* path) noexcept nogil:
        """Take out of the SYN in hand what its end would build upon, and an edit would break."""
        cdef Rewrite* r
        path.plain, path.mptcp = True, False
        if not self.packet.options & (OPT_MPTCP | OPT_FASTOPEN):
            return
        r = self.begin()
        rewrite_without(r, OPTION_MPTCP, 0)
        rewrite_without(r, OPTION_FASTOPEN, 0)
        rewrite_without(r, OPTION_EXPERIMENT, EXPERIMENT_FASTOPEN)
        self.packet.options &= ~<uint16_t> (OPT_MPTCP | OPT_FASTOPEN)
        self.plain_syns += 1

    # --- segments beyond a hole -----------------------------------------------------------------------

    cdef bint wait(self, FlowRecord* flow, uint32_t number, int side) noexcept nogil:
        """Keep the segment in hand for later, or have it sent again, if it comes beyond a hole; true if it does."""
        cdef Path* path = self.path(number)
        cdef const Edits* e
        cdef Packet* packet = self.packet
        cdef Plan plan
        if packet.transient and self.is_edited(number):
            self.dropped = True                    # all but its last fragment has left in its sender's numbers
            return True
        if not path.edits[side] or packet.flags & (SYN | RST) or not (packet.payload_len or packet.flags & FIN):
            return False
        e = edits_at(&self.edits, path.edits[side])
        if not seq_lt(e.nxt, packet.seq):
            if self.has_waited:
                self.freshen(&flow.halves[side])
            return False
        self.dropped = True
        self.waits = (0 < seq_diff(packet.seq, e.nxt) <= MAX_AHEAD and not self.has_waited   # its turn comes but once
                      and self.keep_waiting(&path.waiting[side]))
        edits_outgoing(&self.edits, path.edits[side], packet, &plan)
        if plan.own_ack:
            self.acknowledge(&plan)
        return True

    cdef void freshen(self, const Half* sender) noexcept nogil:
        """Give what has waited, and comes behind what was sent later, a timestamp that PAWS lets pass (RFC 7323)."""
        cdef Packet* packet = self.packet
        if packet.options & OPT_TIMESTAMP and sender.flags & TIMESTAMPS and seq_lt(packet.tsval, sender.ts_recent):
            rewrite_timestamps(self.begin(), sender.ts_recent, packet.tsecr)

    cdef void doubt(self) noexcept nogil:
        """The receiver will not take the payload in hand: in a half that may be edited, no byte that is new passes so.

        It would count as passed, and the same bytes could not be replaced when they come in a segment that is believed.
        """
        cdef uint32_t edits = self.path(self.flow_number).edits[self.side] if self.flow != NULL else 0
        if edits and seq_lt(edits_at(&self.edits, edits).nxt, self.packet.seq + self.packet.payload_len):
            self.dropped = self.doubted = True
            self.doubts += 1

    cdef bint keep_waiting(self, WaitingQueue* queue) noexcept nogil:
        cdef Packet* packet = self.packet
        cdef Waiting* waiting
        cdef LinkHeader link
        cdef size_t cost = waiting_cost(&self.frame)
        if cost > self.waiting_room - self.waiting_bytes or queue.bytes + cost > self.waiting_room_half:
            return False
        if packet.transient or (self.most and link_of(self.begin(), &link)
                                and not link_bears(&link, self.frame.caplen - self.link_len)):
            return False                           # no frame that is in hand, or could be, is read as that segment
        waiting = waiting_make(&self.frame, packet.seq, packet.seq + packet.payload_len + (packet.flags & FIN != 0))
        if waiting == NULL:
            return False
        waiting.frame.interface, waiting.frame.time_ns = packet.interface, packet.time_ns
        waiting.known, waiting.turned_back = packet.known, self.turned_back
        waiting.replies = self.matched and self.match.direction == BACK
        if waiting.replies:
            waiting.match = self.match
            waiting.begun_ns = session_at(&self.sessions, self.match.index).started_ns
        waiting.most, waiting.fragment_id = self.most, self.fragment_id
        if not waiting_put(queue, waiting):
            return False
        self.waiting_bytes += cost
        return True

    cdef bint take_waiting(self, Packet* packet, int* kind) noexcept nogil:
        """Take in hand what has waited and has its turn now, in a flow that is due; false if there is nothing."""
        cdef Path* path = self.path(self.due)
        cdef Waiting* waiting = NULL
        cdef DecodeOptions options = self.decode_options
        cdef Frame frame
        cdef int side
        for side in range(2):
            if path.waiting[side].count and path.edits[side] and waiting == NULL:
                waiting = waiting_take(&path.waiting[side], edits_at(&self.edits, path.edits[side]).nxt)
        if waiting == NULL:
            self.due = 0
            return False
        self.waiting_bytes -= waiting_cost(&waiting.frame)
        if self.to_arena(waiting, &frame) == NULL:
            self.given_up += 1
            free(waiting)
            return self.take_waiting(packet, kind)         # one fewer each time
        options.verify_checksums = False           # they were; one left for the network card has been changed since
        kind[0] = decode_frame(&frame, &options, packet)
        self.take_in(&frame, packet, kind[0])
        packet.known, packet.time_ns = waiting.known, max(packet.time_ns, self.now_ns)
        self.most, self.fragment_id = waiting.most, waiting.fragment_id
        self.turned_back = waiting.turned_back
        self.has_waited = True
        if not waiting.replies:
            self.enter_session()
        elif (session_of_reply(&self.sessions, packet, kind[0]) == waiting.match.index
                and session_at(&self.sessions, waiting.match.index).started_ns == waiting.begun_ns):
            self.match, self.matched = waiting.match, True
        free(waiting)
        return True

    cdef Frame* to_arena(self, const Waiting* waiting, Frame* out) noexcept nogil:
        """A frame that has waited, where it may lie until it is sent; NULL without room."""
        cdef uint8_t* data = self.take(waiting.frame.caplen + sizeof(Offload))
        if data == NULL:
            return NULL
        out[0] = waiting.frame
        memcpy(data, &waiting.offload, sizeof(Offload))
        memcpy(data + sizeof(Offload), waiting.frame.data, waiting.frame.caplen)
        out.data = data + sizeof(Offload)
        if out.offload != NULL:
            out.offload = <const Offload*> data
        return out

    def statistics(self):
        """Return counters of frames by name."""
        return Outlet.statistics(self) | {
            "altered": self.altered, "rejected": self.rejected, "resets": self.resets, "refused": self.refused,
            "refragmented": self.refragmented, "held": self.held, "nowhere": self.nowhere,
            "sessions": self.sessions.count, "sessions_evicted": self.evicted, "edited": self.edits.halves.in_use,
            "waiting_bytes": self.waiting_bytes, "given_up": self.given_up, "bare_syns": self.bare_syns,
            "plain_syns": self.plain_syns, "doubted": self.doubts, "unprepared_edits": self.unprepared_edits,
        } | {f"edits_refused.{name}": self.edits_refused[i] for i, name in enumerate(REFUSAL_NAMES)}


cdef inline void note_passed(Path* path, int side, uint32_t end) noexcept nogil:
    """Bytes up to a number are about to pass."""
    if not path.has_passed[side] or seq_lt(path.passed[side], end):
        path.passed[side], path.has_passed[side] = end, True


cdef bint is_signed(const FlowRecord* flow, int side, const Packet* packet) noexcept nogil:
    """Is a segment signed by TCP-MD5 (RFC 2385) or TCP-AO (RFC 5925), or is its flow?

    Of a flow whose SYNs were seen those tell: its receiver does not believe a single segment that carries one.
    """
    cdef uint16_t seen = flow.halves[side].flags
    if packet.flags & SYN or not seen & ISS_KNOWN:
        return packet.options & OPT_MD5 != 0
    return seen & MD5_SIGNED != 0
