"""The packet in hand: one at a time, from the moment it comes in until it has left.

What apps decide about it is noted here and holds at once; `aiomos.line.passing` lets it leave as what it has become.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t

from aiomos.line.outlet cimport MOST_INTERFACES, NOWHERE, Outlet
from aiomos.sealing cimport seal
from aiomos.wire.building cimport LinkHeader, link_of
from aiomos.wire.frame cimport Frame
from aiomos.wire.rewriting cimport Rewrite, rewrite_begin
from aiomos.wire.wire cimport PacketRecord, WIRE_NON_IP

from aiomos.errors import NotInLineError


@cython.final
cdef class Hand:
    """The frame in hand, and the packet and flow that it belongs to."""

    cdef int in_hand(self, const PacketRecord* packet) except -1:
        """See that a packet is the one in hand, and that its fate is decided here.

        Raises:
            NotInLineError: traffic is only watched, or the packet has left.
        """
        if not self.outlet.decides:
            raise NotInLineError
        if packet == NULL or packet != self.packet:
            raise NotInLineError("this packet is not in hand: it was kept from earlier, or has left already")
        return 0

    cdef Rewrite* begin(self) noexcept nogil:
        """The packet in hand, to be written; one put together in a tunnel has left but for its last fragment."""
        if not self.writable:
            rewrite_begin(&self.rewrite, self.packet, WIRE_NON_IP if self.packet.transient else self.kind, &self.frame,
                          self.link_len)
            self.writable = True
        return &self.rewrite

    cdef uint16_t exit(self) noexcept nogil:
        """The interface by which the frame in hand leaves."""
        if self.turned_back:
            return self.packet.interface
        return self.outlet.peers[self.packet.interface] if self.packet.interface < MOST_INTERFACES else NOWHERE

    cdef bint is_in_tunnel(self) noexcept nogil:
        """Is there more before the packet in hand than a link layer that could be written anew?"""
        cdef LinkHeader link
        return not link_of(self.begin(), &link)

    cdef void let_go(self) noexcept nogil:
        """The packet in hand is another worker's."""
        self.packet = NULL

    cdef void take_in(self, const Frame* frame, PacketRecord* packet, int kind) noexcept nogil:
        """Take the next frame in hand."""
        self.frame = frame[0]
        self.packet = packet
        self.kind = kind
        self.link_len = <size_t> (packet.network - frame.data) if packet.ip_version else frame.caplen
        self.dropped = self.writable = False
        self.moved = self.matched = self.turned_back = self.waits = self.has_waited = self.doubted = False
        self.most = 0
        self.flow = NULL
        self.arrived_ack = packet.ack


cdef Hand new_hand(Outlet outlet):
    cdef Hand hand = Hand.__new__(Hand)
    hand.outlet = outlet
    return hand


seal(Hand)
