"""The frame's way out: as it came, as what it has become, in several segments or fragments, or not at all.

The frame in hand is changed in place, in the transport's memory; what grows, or was put together from fragments, lies
in the arena. Of edited bytes, sequence numbers are put in the receiver's when they leave.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.line.edits cimport Plan, edits_copy, edits_cut, edits_outgoing
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport NOWHERE, Outlet
from aiomos.line.paths cimport Path, Paths
from aiomos.line.sessions cimport FORTH
from aiomos.line.translation cimport Translation
from aiomos.sealing cimport seal
from aiomos.wire.building cimport Cut, LinkHeader, MAX_HEADERS, build_ack, build_cut, link_bears, link_of, link_write
from aiomos.wire.fragmenting cimport Fragmenter, fragmenter_begin, fragmenter_next
from aiomos.wire.frame cimport Frame
from aiomos.wire.rewriting cimport Rewrite, rewrite_seq, rewrite_urgent, rewrite_without
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.wire cimport (
    DecodeOptions,
    OPT_FASTOPEN,
    OPT_MPTCP,
    PacketRecord,
    SYN,
    WIRE_FRAGMENT,
    decode_frame,
    decode_ip,
)

cdef enum:
    DEFAULT_MSS = 536          # RFC 9293 section 3.7.1, of an end that has not said

cdef enum:
    OPTION_MPTCP = 30
    OPTION_FASTOPEN = 34
    OPTION_EXPERIMENT = 254
    EXPERIMENT_FASTOPEN = 0xF989       # RFC 7413 appendix A


@cython.final
cdef class Passing:
    """Lets the frame in hand leave."""

    cdef int put_together(self, const uint8_t* data, size_t length, uint32_t most) noexcept nogil:
        """The fragment in hand was the last of its packet: take the whole packet in hand instead; its kind."""
        cdef uint8_t* copy = self.outlet.take(self.hand.link_len + length)
        cdef PacketRecord* packet = self.hand.packet
        cdef LinkHeader link
        if copy == NULL:
            self.hand.dropped = True
            return WIRE_FRAGMENT
        memcpy(copy, self.hand.frame.data, self.hand.link_len)
        memcpy(copy + self.hand.link_len, data, length)
        if link_of(self.hand.begin(), &link) and link_bears(&link, length):
            link_write(&link, copy, length)        # it may state how long the fragment was
        self.hand.frame.data = packet.link = copy
        self.hand.frame.caplen = self.hand.frame.wirelen = packet.frame_len = <uint32_t> (self.hand.link_len + length)
        self.hand.frame.offload = NULL
        self.hand.writable = False
        self.hand.most = most
        self.hand.fragment_id = packet.fragment_id
        self.hand.kind = decode_ip(copy + self.hand.link_len, length, length, &self.translation.decode_options,
                                   packet, 0)
        self.hand.arrived_ack = packet.ack
        return self.hand.kind

    cdef void pass_on(self) noexcept nogil:
        """Let the frame in hand leave, as what it has become."""
        cdef Plan plan
        cdef Path* path = NULL
        cdef bint edited
        if self.hand.flow != NULL and not self.hand.dropped:
            path = self.paths.path(self.hand.flow_number)
        edited = path != NULL and path.edits[self.hand.side] != 0
        if path != NULL and path.editable and self.hand.packet.flags & SYN:
            self.make_plain(path)
        if edited:                                 # first, since an ACK of it goes to where it came from
            self.plan_edited(&plan)
        if path != NULL and not self.hand.dropped:
            if self.hand.packet.payload_len:
                note_passed(path, self.hand.side, self.hand.packet.seq + self.hand.packet.payload_len)
            if path.waiting[0].count or path.waiting[1].count:
                self.due = self.hand.flow_number
        if not self.hand.dropped and self.hand.matched and self.hand.match.direction == FORTH:
            self.translation.pass_session()
        self.hand.frame.interface = self.hand.exit()
        if self.hand.waits:
            self.held += 1
        elif self.hand.dropped:
            self.outlet.drops += 1
        elif self.hand.frame.interface == NOWHERE:
            self.nowhere += 1
        elif edited:
            self.pass_edited(&plan)
        elif self.hand.most:
            self.pass_fragments()
        else:
            self.outlet.pass_frame(&self.hand.frame)
        self.hand.packet, self.hand.flow = NULL, NULL

    cdef void hold(self) noexcept nogil:
        """The fragment in hand waits for the others of its packet."""
        self.held += 1
        self.hand.packet = NULL

    cdef void plan_edited(self, Plan* plan) noexcept nogil:
        """Say how a segment of a half leaves that was edited, and acknowledge what its receiver will not."""
        edits_outgoing(&self.paths.edits, self.paths.path(self.hand.flow_number).edits[self.hand.side],
                       self.hand.packet, plan)
        self.hand.dropped = plan.drop
        if plan.own_ack:
            self.acknowledge(plan)

    cdef void pass_edited(self, const Plan* plan) noexcept nogil:
        """Let it leave: in the receiver's numbers, with the bytes it is to have."""
        if not plan.as_is:
            self.send_plan(plan)
        else:
            if plan.seq != self.hand.packet.seq:
                rewrite_seq(self.hand.begin(), plan.seq)
            if self.hand.packet.urgent != plan.urgent:
                rewrite_urgent(self.hand.begin(), plan.urgent)
            if self.hand.most:
                self.pass_fragments()
            else:
                self.outlet.pass_frame(&self.hand.frame)

    cdef void acknowledge(self, const Plan* plan) noexcept nogil:
        cdef uint8_t* out = self.outlet.take(MAX_HEADERS)
        cdef uint32_t ack = self.hand.packet.ack
        if out != NULL:
            self.hand.packet.ack = self.hand.arrived_ack  # an answer continues in the numbers that its sender knows
            self.translation.answer(out, build_ack(self.hand.begin(), plan.ack, plan.window, out, MAX_HEADERS))
            self.hand.packet.ack = ack

    cdef void send_plan(self, const Plan* plan) noexcept nogil:
        """Send what a segment has become, in as many segments as the receiver's MSS takes."""
        cdef uint8_t* payload = self.outlet.take(plan.length + 1)
        cdef uint8_t* out
        cdef size_t room
        cdef uint32_t most = self.segment_room()
        cdef Frame frame = self.hand.frame
        cdef Cut cut
        if payload == NULL:
            self.give_up()
            return
        edits_copy(&self.paths.edits, plan, self.hand.packet, payload)
        memset(&cut, 0, sizeof(cut))
        while edits_cut(plan, most, &cut):
            room = self.hand.link_len + (self.hand.packet.payload - self.hand.packet.network) + cut.length
            out = self.outlet.take(room)
            frame.caplen = <uint32_t> build_cut(self.hand.begin(), &cut, payload, out, room) if out != NULL else 0
            if not frame.caplen:
                self.give_up()
                return
            frame.data, frame.wirelen, frame.offload = out, frame.caplen, NULL
            self.outlet.pass_frame(&frame)
        self.altered += 1

    cdef uint32_t segment_room(self) noexcept nogil:
        """Bytes of payload that a segment to the receiver may carry, with the options of the one in hand."""
        cdef uint32_t mss = self.hand.flow.halves[1 - self.hand.side].mss
        cdef uint32_t options = self.hand.packet.header_len - 20
        mss = mss if mss else DEFAULT_MSS
        return mss - options if mss > 2 * options else mss

    cdef void pass_fragments(self) noexcept nogil:
        """Let a packet leave that came in fragments: in fragments no larger than those."""
        cdef Fragmenter fragmenter
        cdef LinkHeader link
        cdef Frame frame = self.hand.frame
        cdef uint8_t* out
        cdef size_t length = self.hand.frame.caplen - self.hand.link_len
        if (not link_of(self.hand.begin(), &link)
            or not fragmenter_begin(&fragmenter, self.hand.frame.data + self.hand.link_len, length, self.hand.most,
                                    self.hand.fragment_id)):
            self.give_up()
            return
        while True:
            out = self.outlet.take(self.hand.link_len + self.hand.most)
            if out == NULL:
                self.give_up()
                return
            length = fragmenter_next(&fragmenter, out + self.hand.link_len)
            if not length:
                return
            link_write(&link, out, length)
            frame.data, frame.offload = out, NULL
            frame.caplen = frame.wirelen = <uint32_t> (self.hand.link_len + length)
            self.outlet.pass_frame(&frame)
            self.refragmented += 1

    cdef void give_up(self) noexcept nogil:
        """The packet in hand cannot be passed on as it is to be."""
        self.translation.refused += 1
        self.outlet.drops += 1

    cdef void remake(self, const uint8_t* data, size_t length) noexcept nogil:
        """The packet in hand was built anew: read it again. It is in no tunnel, and does not become one."""
        cdef DecodeOptions options = self.translation.decode_options
        cdef bint known = self.hand.packet.known
        cdef int64_t time_ns = self.hand.packet.time_ns  # as it was judged: the frame's may be wild
        options.decapsulate = False
        self.hand.frame.data, self.hand.frame.offload = data, NULL
        self.hand.frame.caplen = self.hand.frame.wirelen = <uint32_t> length
        self.hand.frame.interface = self.hand.packet.interface
        self.hand.kind = decode_frame(&self.hand.frame, &options, self.hand.packet)
        self.hand.packet.known, self.hand.packet.time_ns = known, time_ns
        self.hand.writable = False
        self.translation.match_anew()

    cdef void make_plain(self, Path* path) noexcept nogil:
        """Take out of the SYN in hand what its end would build upon, and an edit would break."""
        cdef Rewrite* r
        path.plain, path.mptcp = True, False
        if not self.hand.packet.options & (OPT_MPTCP | OPT_FASTOPEN):
            return
        r = self.hand.begin()
        rewrite_without(r, OPTION_MPTCP, 0)
        rewrite_without(r, OPTION_FASTOPEN, 0)
        rewrite_without(r, OPTION_EXPERIMENT, EXPERIMENT_FASTOPEN)
        self.hand.packet.options &= ~<uint16_t> (OPT_MPTCP | OPT_FASTOPEN)
        self.plain_syns += 1


cdef inline void note_passed(Path* path, int side, uint32_t end) noexcept nogil:
    """Bytes up to a number are about to pass."""
    if not path.has_passed[side] or seq_lt(path.passed[side], end):
        path.passed[side], path.has_passed[side] = end, True


cdef Passing new_passing(Outlet outlet, Hand hand, Translation translation, Paths paths):
    cdef Passing passing = Passing.__new__(Passing)
    passing.outlet, passing.hand, passing.translation, passing.paths = outlet, hand, translation, paths
    return passing


seal(Passing)
