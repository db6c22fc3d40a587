"""Neighbour discovery of IPv6 over Ethernet (RFC 4861): messages read and written.

Only what a neighbour can have sent is read: the hop limit of 255, which no router leaves as it is, is what keeps
strangers out (section 11.2), and the checksum is always looked at.
"""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from aiomos.wire.checksums cimport checksum_of_segment, put16
from aiomos.wire.numbers cimport ETHERNET_HEADER, ETHERTYPE_IPV6, IPV6_HEADER, PROTO_ICMPV6
from aiomos.wire.rewriting cimport address_bytes
from aiomos.wire.wire cimport Address, Span, be16, be32, be64, span_skip, span_take, span_u8

cdef enum:
    HOP_LIMIT = 255
    ICMP_START = 4                     # type, code, checksum
    OPTION_SOURCE_MAC = 1              # RFC 4861 section 4.6
    OPTION_TARGET_MAC = 2
    OPTION_MTU = 5
    MOST_OPTIONS = 32                  # that are read of one message


cdef inline bint is_group(const Address* address) noexcept nogil:
    return address.hi >> 56 == 0xFF


cdef inline bint is_unspecified(const Address* address) noexcept nogil:
    return not (address.hi or address.lo)


cdef inline bint is_link_local(const Address* address) noexcept nogil:
    return address.hi >> 54 == 0xFE80 >> 6


cdef void solicited_node(const Address* target, Address* out) noexcept nogil:
    out.hi = 0xFF02ULL << 48
    out.lo = 0x1FFULL << 24 | (target.lo & 0xFFFFFF)


cdef void group_mac(const Address* group, uint8_t* mac) noexcept nogil:
    mac[0] = mac[1] = 0x33
    mac[2], mac[3] = <uint8_t> (group.lo >> 24), <uint8_t> (group.lo >> 16)
    mac[4], mac[5] = <uint8_t> (group.lo >> 8), <uint8_t> group.lo


# --- reading ----------------------------------------------------------------------------------------

cdef bint is_whole(const PacketRecord* packet) noexcept nogil:
    """A message of a neighbour, as it was sent: not cut, not changed, not from beyond a router, not in fragments."""
    if packet.ip_version != 6 or packet.ttl != HOP_LIMIT or packet.transient:
        return False
    if packet.network[6] != PROTO_ICMPV6:          # behind extension headers, of which a fragment's may be one
        return False
    if packet.payload_cap != packet.payload_len or packet.payload_len < ICMP_START + 4 or packet.transport[1] != 0:
        return False
    return message_sum(packet) == 0


cdef uint16_t message_sum(const PacketRecord* packet) noexcept nogil:
    """0 where the checksum is right, since what is summed holds it."""
    return checksum_of_segment(&packet.src, &packet.dst, 6, PROTO_ICMPV6, packet.transport, packet.payload_len)


cdef bint read_option(const Span* option, uint8_t kind, uint8_t wanted, NdpMessage* out) noexcept nogil:
    """Read one of the options that count here; false if it is of a wrong size."""
    if kind == wanted:
        if option.n != 8:                          # of Ethernet addresses (RFC 2464 section 6)
            return False
        out.has_mac = True
        memcpy(out.mac, option.p + 2, 6)
    elif kind == OPTION_MTU:
        if option.n != 8:
            return False
        out.mtu = be32(option.p + 4)
    return True


cdef bint read_options(Span* rest, NdpMessage* out) noexcept nogil:
    """Read all options; false where one has no length, or reaches beyond the message (RFC 4861 section 7.1.1)."""
    cdef uint8_t wanted = OPTION_TARGET_MAC if out.type == NDP_ADVERTISEMENT else OPTION_SOURCE_MAC
    cdef uint8_t kind, units
    cdef Span option
    cdef int _
    for _ in range(MOST_OPTIONS):
        if not rest.n:
            return True
        if not (span_u8(rest, 0, &kind) and span_u8(rest, 1, &units) and units
                and span_take(rest, 8 * <size_t> units, &option) and read_option(&option, kind, wanted, out)):
            return False
    return not rest.n


cdef bint read_target(Span* rest, NdpMessage* out) noexcept nogil:
    cdef Span target
    if not span_skip(rest, 4) or not span_take(rest, 16, &target):
        return False
    out.target.hi, out.target.lo = be64(target.p), be64(target.p + 8)
    return not is_group(&out.target)


cdef bint read_router(Span* rest, NdpMessage* out) noexcept nogil:
    cdef Span fields
    if not span_take(rest, 12, &fields):
        return False
    out.hop_limit = fields.p[0]
    out.lifetime_s = be16(fields.p + 2)
    out.reachable_ms, out.retransmit_ms = be32(fields.p + 4), be32(fields.p + 8)
    return is_link_local(&out.src)


cdef bint is_sound(const NdpMessage* m) noexcept nogil:
    """Do its addresses go together?"""
    cdef Address group
    if m.type == NDP_ADVERTISEMENT:                # RFC 4861 section 7.1.2
        return not (is_group(&m.dst) and m.flags & NDP_SOLICITED) and not is_unspecified(&m.src)
    if not is_unspecified(&m.src):
        return not is_group(&m.src)
    if m.has_mac or m.type == NDP_ROUTER_ADVERTISEMENT:                # 7.1.1, 6.1.1
        return False
    if m.type == NDP_ROUTER_SOLICITATION:
        return True
    solicited_node(&m.target, &group)
    return m.dst.hi == group.hi and m.dst.lo == group.lo


cdef bint ndp_read(const PacketRecord* packet, NdpMessage* out) noexcept nogil:
    cdef Span rest
    cdef bint read = False
    if not is_whole(packet):
        return False
    memset(out, 0, sizeof(NdpMessage))
    rest.p, rest.n = packet.transport, packet.payload_cap
    out.type = packet.transport[0]
    out.src, out.dst = packet.src, packet.dst
    if not span_skip(&rest, ICMP_START):
        return False
    if out.type == NDP_SOLICITATION or out.type == NDP_ADVERTISEMENT:
        if out.type == NDP_ADVERTISEMENT:
            out.flags = rest.p[0] & (NDP_ROUTER | NDP_SOLICITED | NDP_OVERRIDE)
        read = read_target(&rest, out)
    elif out.type == NDP_ROUTER_SOLICITATION:
        read = span_skip(&rest, 4)
    elif out.type == NDP_ROUTER_ADVERTISEMENT:
        read = read_router(&rest, out)
    return read and read_options(&rest, out) and is_sound(out)


# --- writing ----------------------------------------------------------------------------------------

cdef size_t ndp_write(const NdpMessage* message, const uint8_t* own, const uint8_t* to, uint8_t* out,
                      size_t room) noexcept nogil:
    cdef bint of_neighbour = message.type != NDP_ROUTER_SOLICITATION
    cdef size_t size = 8 + (16 if of_neighbour else 0) + (8 if message.has_mac else 0)
    cdef uint8_t* ip = out + ETHERNET_HEADER
    cdef uint8_t* icmp = ip + IPV6_HEADER
    cdef uint8_t* option = icmp + size - 8
    if room < ETHERNET_HEADER + IPV6_HEADER + size:
        return 0
    memset(out, 0, ETHERNET_HEADER + IPV6_HEADER + size)
    memcpy(out, to, 6)
    memcpy(out + 6, own, 6)
    put16(out + 12, ETHERTYPE_IPV6)
    ip[0] = 0x60
    put16(ip + 4, <uint16_t> size)
    ip[6], ip[7] = PROTO_ICMPV6, HOP_LIMIT
    address_bytes(&message.src, 6, ip + 8)
    address_bytes(&message.dst, 6, ip + 24)
    icmp[0], icmp[4] = message.type, message.flags
    if of_neighbour:
        address_bytes(&message.target, 6, icmp + 8)
    if message.has_mac:
        option[0] = OPTION_TARGET_MAC if message.type == NDP_ADVERTISEMENT else OPTION_SOURCE_MAC
        option[1] = 1
        memcpy(option + 2, own, 6)
    put16(icmp + 2, checksum_of_segment(&message.src, &message.dst, 6, PROTO_ICMPV6, icmp, size))
    return ETHERNET_HEADER + IPV6_HEADER + size
