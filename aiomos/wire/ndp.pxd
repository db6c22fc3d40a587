# Neighbour discovery of IPv6 over Ethernet (RFC 4861): read of packets, written as whole frames.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.wire cimport Address, PacketRecord

cdef enum:
    NDP_ROUTER_SOLICITATION = 133
    NDP_ROUTER_ADVERTISEMENT = 134
    NDP_SOLICITATION = 135
    NDP_ADVERTISEMENT = 136

cdef enum:
    NDP_ROUTER = 0x80          # flags of an advertisement
    NDP_SOLICITED = 0x40
    NDP_OVERRIDE = 0x20

cdef enum:
    NDP_FRAME = 86             # room that ndp_write() needs, at most

ctypedef struct NdpMessage:
    uint8_t type
    Address src                # of the packet; unspecified of who tries whether an address is free (RFC 4862 5.4.2)
    Address dst
    Address target             # of solicitations and advertisements of neighbours
    uint8_t flags              # of an advertisement of a neighbour
    bint has_mac               # with a link-layer address: of an advertisement the target's, else the source's
    uint8_t mac[6]
    # Of a router's advertisement; 0 where it does not say.
    uint8_t hop_limit
    uint16_t lifetime_s        # for how long it is a default router; 0: it is none
    uint32_t reachable_ms
    uint32_t retransmit_ms
    uint32_t mtu

# Read a packet that is WIRE_ICMP; false for what is no such message, or is not to be believed: changed on its way, come
# through a router, or in fragments (RFC 4861 sections 6.1.1, 6.1.2, 7.1.1 and 7.1.2; RFC 6980).
cdef bint ndp_read(const PacketRecord* packet, NdpMessage* out) noexcept nogil
# Write a solicitation of a neighbour or router, or a neighbour's advertisement, from MAC address *own* to *to*; its
# size, 0 without room. The link-layer address that it tells is *own*, if has_mac says so.
cdef size_t ndp_write(const NdpMessage* message, const uint8_t* own, const uint8_t* to, uint8_t* out,
                      size_t room) noexcept nogil
# Where a solicitation for a target goes (RFC 4291 section 2.7.1), and the MAC address of a group (RFC 2464 section 7).
cdef void solicited_node(const Address* target, Address* out) noexcept nogil
cdef void group_mac(const Address* group, uint8_t* mac) noexcept nogil
