"""What apps decide about the packet in hand: dropped, rejected, changed, given another payload."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t

from aiomos.line.edits cimport EDITS_BUDGET, EDITS_NOTED, EDITS_SEEN, edits_close, edits_replace
from aiomos.line.fields cimport link_address, number_of
from aiomos.line.hand cimport Hand
from aiomos.line.ordering cimport Ordering, is_signed
from aiomos.line.outlet cimport Outlet
from aiomos.line.passing cimport Passing
from aiomos.line.paths cimport Path, Paths
from aiomos.line.translation cimport Translation
from aiomos.sealing cimport seal
from aiomos.wire.addresses cimport address_read
from aiomos.wire.building cimport build_reset, build_with_payload
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
    rewrite_tos,
    rewrite_ttl,
    rewrite_urgent,
    rewrite_window,
)
from aiomos.wire.wire cimport Address, PacketRecord, RST, SYN, WIRE_TCP


REFUSAL_NAMES = ("no_payload", "cut", "hook", "signed", "mptcp", "tunnel", "budget", "seen", "early")
assert len(REFUSAL_NAMES) == REFUSALS
cdef tuple REFUSAL_TEXTS = (
    "a segment without payload, a SYN or a RST",
    "a segment that was not captured whole",
    "at this hook it is not known yet to which flow a segment belongs; use Hook.SENDER",
    "the segment is signed (TCP-MD5, TCP-AO or an authentication header), and its receiver would not take another",
    "the connection is of Multipath TCP, which says elsewhere how long its payload is",
    "inside a tunnel payload stays as it is")


@cython.final
cdef class Changes:
    """Verdicts, done at the moment of the call."""

    cdef int drop(self, const PacketRecord* packet) except -1:
        self.hand.in_hand(packet)
        self.hand.dropped = True
        return 0

    cdef int reject(self, const PacketRecord* packet, object why) except -1:
        """Drop the packet in hand and tell its sender: by RST, or that its destination cannot be reached."""
        cdef uint8_t* out
        cdef size_t length
        cdef uint32_t ack
        self.hand.in_hand(packet)
        if why not in ("prohibited", "port"):
            raise ValueError(f"a packet is rejected as 'prohibited' or 'port', not {why!r}")
        self.hand.dropped = True
        out = self.outlet.take(MAX_ICMP_ERROR)
        if out == NULL:
            return 0
        if self.hand.kind == WIRE_TCP:
            ack = self.hand.packet.ack
            self.hand.packet.ack = self.hand.arrived_ack  # as in acknowledge()
            length = build_reset(self.hand.begin(), out, MAX_ICMP_ERROR)
            self.hand.packet.ack = ack
        else:
            length = build_icmp_error(self.hand.begin(),
                                      UNREACHABLE_PORT if why == "port" else UNREACHABLE_PROHIBITED,
                                      0, NULL, out, MAX_ICMP_ERROR)
        self.rejected += self.translation.answer(out, length)
        return 0

    cdef int alter(self, const PacketRecord* packet, dict fields) except -1:
        """Set fields of the packet in hand: all of them, or none."""
        cdef Saved before
        cdef bint moved = self.hand.moved
        self.hand.in_hand(packet)
        rewrite_save(self.hand.begin(), &before)
        try:
            for name, value in fields.items():
                if not self.alter_one(name, value):
                    raise ValueError(
                        f"pkt.set({name}=...): this packet has no such field, or not all of it was captured")
        except BaseException:
            rewrite_restore(self.hand.begin(), &before)
            self.hand.moved = moved
            raise
        self.passing.altered += 1
        return 0

    cdef bint alter_one(self, str name, object value) except -1:
        cdef Rewrite* r = self.hand.begin()
        cdef uint32_t number
        cdef Address address
        cdef bytes link
        if name == "eth_src" or name == "eth_dst":
            link = link_address(value)
            return rewrite_eth_src(r, link) if name == "eth_src" else rewrite_eth_dst(r, link)
        if name == "src" or name == "dst":
            if address_read(value, &address) != self.hand.packet.ip_version:
                raise ValueError(f"pkt.set({name}={value!r}): the packet is of IPv{self.hand.packet.ip_version}")
            self.hand.moved = True
            return rewrite_src(r, &address) if name == "src" else rewrite_dst(r, &address)
        number = number_of(name, value)
        if name == "sport" or name == "dport":
            self.hand.moved = True
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

    cdef bint replace(self, const PacketRecord* packet, const uint8_t* data, size_t n) except -1:
        """Have the packet in hand carry other bytes; false if it has been sent otherwise before, and stays so."""
        cdef Path* path
        cdef uint32_t edits
        cdef int result, why
        self.hand.in_hand(packet)
        if self.hand.kind != WIRE_TCP:
            return self.replace_datagram(data, n)
        path = self.paths.path(self.hand.flow_number) if self.hand.flow != NULL else NULL
        why = self.bars(path)
        if why >= 0:
            self.refuse(why)
        if self.hand.doubted:
            self.edits_refused[<int> REFUSED_EARLY] += 1
            return False
        edits = path.edits[self.hand.side]
        if not edits:
            edits = self.ordering.open_edits(self.hand.flow, path, self.hand.side)
            if not edits:
                self.refuse(REFUSED_BUDGET)
        result = edits_replace(&self.paths.edits, edits, self.hand.packet, data, n)
        if not path.edits[self.hand.side]:
            if result == EDITS_BUDGET or result == EDITS_SEEN:
                edits_close(&self.paths.edits, edits)  # refused: all is as it was
            else:
                path.edits[self.hand.side] = edits
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
        cdef const PacketRecord* packet = self.hand.packet
        if path == NULL:
            return REFUSED_HOOK
        if not packet.payload_len or packet.flags & (SYN | RST):
            return REFUSED_NO_PAYLOAD
        if packet.payload_cap < packet.payload_len:
            return REFUSED_CUT
        if is_signed(self.hand.flow, self.hand.side, packet) or is_authenticated(self.hand.begin()):
            return REFUSED_SIGNED
        if path.mptcp:
            return REFUSED_MPTCP
        return REFUSED_TUNNEL if self.hand.is_in_tunnel() else -1

    cdef int refuse(self, int why) except -1:
        """Say that a payload is not replaced. Failing closed, what an app would not have pass as it is does not."""
        self.edits_refused[why] += 1
        if self.paths.fail_closed and self.hand.packet.payload_len:
            self.hand.dropped = True
        if why == REFUSED_BUDGET:
            raise BufferError("pkt.replace(): too many bytes are not acknowledged yet; see budgets.edited_bytes and "
                              "budgets.edited_bytes_half")
        raise ValueError(f"pkt.replace(): {REFUSAL_TEXTS[why]}")

    cdef bint replace_datagram(self, const uint8_t* data, size_t n) except -1:
        cdef size_t room = self.hand.frame.caplen + n
        cdef uint8_t* out = self.outlet.take(room)
        cdef size_t length = build_with_payload(self.hand.begin(), data, n, out, room) if out != NULL else 0
        if not length:
            raise ValueError("pkt.replace(): this packet cannot carry that, or was not captured whole")
        self.passing.remake(out, length)
        self.passing.altered += 1
        return True


cdef Changes new_changes(Outlet outlet, Hand hand, Translation translation, Paths paths, Passing passing,
                         Ordering ordering):
    cdef Changes changes = Changes.__new__(Changes)
    changes.outlet, changes.hand, changes.translation = outlet, hand, translation
    changes.paths, changes.passing, changes.ordering = paths, passing, ordering
    return changes


seal(Changes)
