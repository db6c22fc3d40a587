# Who we are on our links, joined.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t

from aiomos.host.interfaces cimport Interfaces, OwnAddress
from aiomos.host.neighbours cimport Neighbour, Neighbours
from aiomos.host.replies cimport Replies
from aiomos.host.routes cimport Routes
from aiomos.line.outlet cimport Outlet
from aiomos.wire.arp cimport ArpMessage
from aiomos.wire.frame cimport Frame
from aiomos.wire.ndp cimport NdpMessage
from aiomos.wire.wire cimport Address, PacketRecord

cdef class Host:
    cdef Outlet line
    cdef bint on               # there is an address of ours
    cdef Interfaces interfaces
    cdef Neighbours neighbours
    cdef Routes routes
    cdef Replies replies
    cdef uint64_t given_up     # frames to neighbours that have not answered

    # Take in a frame that is WIRE_NON_IP or WIRE_ICMP; true if it was for us, and is not to go on.
    cdef bint take(self, const Frame* frame, PacketRecord* packet, int kind, int64_t now_ns) noexcept nogil
    cdef void pass_time(self, int64_t now_ns) noexcept nogil
    cdef int64_t next_due(self) noexcept nogil
    cdef void end(self) noexcept nogil
    cdef const OwnAddress* asker(self, const Neighbour* neighbour, uint8_t ip_version) noexcept nogil
    cdef const uint8_t* any_mac(self, uint16_t interface, const Address* target) noexcept nogil
    cdef void ask_arp(self, const Neighbour* neighbour) noexcept nogil
    cdef void send_arp(self, const ArpMessage* message, const uint8_t* to, uint16_t interface) noexcept nogil
    cdef void ask_ndp(self, const Neighbour* neighbour) noexcept nogil
    cdef void send_ndp(self, const NdpMessage* message, const uint8_t* own, const uint8_t* to,
                       uint16_t interface) noexcept nogil
    cdef void send_waiting(self, const Frame* frame) noexcept nogil
