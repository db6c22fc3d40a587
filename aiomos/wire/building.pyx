"""Frames made natively: answers to a packet in hand, and packets with other payloads.

Answers go back the way the packet came, with its link header turned round, from the address it was sent to: the end
that gets one cannot tell it from its peer's.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.wire.checksums cimport (
    ChecksumField, checksum_of_protocol, checksum_of_segment, put16, put32)
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_MIN,
    ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM,
    ETHERTYPE_PPPOE,
    ICMP_HEADER,
    IPV4_HEADER,
    IPV6_HEADER,
    LINKTYPE_ETHERNET,
    PROTO_TCP,
    TCP_HEADER,
    UDP_HEADER,
)
from aiomos.wire.rewriting cimport address_bytes, dst_is_final
from aiomos.wire.wire cimport (
    ACK,
    FIN,
    OPT_TIMESTAMP,
    PacketRecord,
    RST,
    SYN,
    WIRE_ICMP,
    WIRE_TCP,
    WIRE_UDP,
    be16,
    checksum_add,
    checksum_fold,
    is_vlan,
)

cdef enum:
    MAX_LENGTH = 0xFFFF                # of an IPv4 packet, and of what follows the IPv6 header
    MAX_802_3_LENGTH = 1500            # IEEE 802.3 section 3.2.6: what is more is read as a type
    DONT_FRAGMENT = 0x4000
    TTL = 64                           # RFC 1700

cdef enum:
    ALIGNED_TIMESTAMPS = 0x0101080A    # RFC 7323 appendix A
    TIMESTAMPS_SIZE = 12

# --- link layer -----------------------------------------------------------------------------------------

cdef bint link_of(const Rewrite* r, LinkHeader* out) noexcept nogil:
    memset(out, 0, sizeof(LinkHeader))
    out.linktype = r.linktype
    if r.network == NULL or r.link_len > MAX_LINK_HEADER or r.link_len > r.frame_len:
        return False
    out.length = <uint16_t> r.link_len
    memcpy(out.bytes, r.link, r.link_len)
    if r.linktype != LINKTYPE_ETHERNET:
        return r.link_len == 0
    return r.link_len >= ETHERNET_HEADER and ethernet_end(out) == r.link_len


cdef size_t ethernet_end(LinkHeader* link) noexcept nogil:
    """Where IP begins by what the header says, lengths stated being noted; 0 when it cannot be told."""
    cdef size_t at = ETHERNET_HEADER
    cdef uint16_t ethertype = be16(link.bytes + 12)
    while is_vlan(ethertype):
        if link.length - at < 4:
            return 0
        ethertype = be16(link.bytes + at + 2)
        at += 4
    if ethertype < ETHERTYPE_MIN:              # 802.3, and SNAP behind it, or the decoder would not have read on
        link.length_at, link.longest = <uint16_t> (at - 2), MAX_802_3_LENGTH
        return at + 8
    if ethertype == ETHERTYPE_PPPOE:
        link.length_at, link.longest = <uint16_t> (at + 4), MAX_LENGTH
        return link.length if at + 7 <= link.length <= at + 8 else 0
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_UPSTREAM:
        return labels_end(link, at)
    return at


cdef size_t labels_end(const LinkHeader* link, size_t at) noexcept nogil:
    while link.length - at >= 4:
        at += 4
        if link.bytes[at - 2] & 1:             # bottom of the stack (RFC 3032 section 2.1)
            return at
    return 0


cdef void link_turn(LinkHeader* link) noexcept nogil:
    cdef uint8_t address[6]
    if link.linktype == LINKTYPE_ETHERNET:
        memcpy(address, link.bytes, 6)
        memcpy(link.bytes, link.bytes + 6, 6)
        memcpy(link.bytes + 6, address, 6)


cdef inline size_t length_stated(const LinkHeader* link, size_t packet_len) noexcept nogil:
    return link.length + packet_len - link.length_at - 2


cdef bint link_bears(const LinkHeader* link, size_t packet_len) noexcept nogil:
    return not link.length_at or length_stated(link, packet_len) <= link.longest


cdef void link_write(const LinkHeader* link, uint8_t* out, size_t packet_len) noexcept nogil:
    memcpy(out, link.bytes, link.length)
    if link.length_at:
        put16(out + link.length_at, <uint16_t> length_stated(link, packet_len))


# --- envelopes ------------------------------------------------------------------------------------------

cdef bint is_single_host(const Address* address, uint8_t ip_version) noexcept nogil:
    """Neither a group, nor broadcast, nor unspecified."""
    cdef uint32_t first
    if ip_version == 6:
        return address.hi >> 56 != 0xFF and (address.hi or address.lo)
    first = <uint32_t> address.lo >> 24
    return 0 < first < 224


cdef bint is_answerable(const Rewrite* r) noexcept nogil:
    cdef const PacketRecord* packet = r.packet
    if r.linktype == LINKTYPE_ETHERNET and r.frame_len >= ETHERNET_HEADER and r.link[0] & 1:
        return False                           # sent to a group on the link
    return is_single_host(&packet.src, packet.ip_version) and is_single_host(&packet.dst, packet.ip_version)


cdef bint envelope_of(const Rewrite* r, bint answer, Envelope* out) noexcept nogil:
    cdef const PacketRecord* packet = r.packet
    if not link_of(r, &out.link):
        return False
    out.ip_version = packet.ip_version
    out.ttl = TTL
    out.tos = packet.tos & 0xFC                # not ECN-capable: RFC 3168 section 6.1.4
    if not answer:
        out.src, out.dst = packet.src, packet.dst
        out.sport, out.dport = packet.sport, packet.dport
        return True
    if not is_answerable(r):
        return False
    link_turn(&out.link)
    out.src, out.dst = packet.dst, packet.src
    out.sport, out.dport = packet.dport, packet.sport
    return True


cdef size_t envelope_write(const Envelope* envelope, uint8_t proto, size_t n, uint8_t* out,
                           size_t room) noexcept nogil:
    cdef size_t header = ip_header_len(envelope), begin = envelope.link.length + header
    cdef uint8_t* ip = out + envelope.link.length
    cdef size_t size
    if room < begin or n > room - begin or n > MAX_LENGTH - IPV4_HEADER or not link_bears(&envelope.link, header + n):
        return 0
    link_write(&envelope.link, out, header + n)
    memset(ip, 0, header)
    if envelope.ip_version == 4:
        ip[0] = 0x45
        ip[1] = envelope.tos
        put16(ip + 2, <uint16_t> (header + n))
        put16(ip + 6, DONT_FRAGMENT)           # atomic: needs no identification (RFC 6864 section 4.1)
        ip[8] = envelope.ttl
        ip[9] = proto
        size = address_bytes(&envelope.src, 4, ip + 12)
        address_bytes(&envelope.dst, 4, ip + 12 + size)
        sum_ipv4(ip, header)
    else:
        put16(ip, 0x6000 | <uint16_t> (envelope.tos << 4))
        put16(ip + 4, <uint16_t> n)
        ip[6] = proto
        ip[7] = envelope.ttl
        size = address_bytes(&envelope.src, 6, ip + 8)
        address_bytes(&envelope.dst, 6, ip + 8 + size)
    return begin


cdef void sum_ipv4(uint8_t* header, size_t n) noexcept nogil:
    put16(header + 10, 0)
    put16(header + 10, 0xFFFF ^ checksum_fold(checksum_add(0, header, n)))


# --- TCP ------------------------------------------------------------------------------------------------

cdef size_t build_segment(const Envelope* envelope, const Segment* segment, const uint8_t* payload, size_t n,
                          uint8_t* out, size_t room) noexcept nogil:
    cdef size_t header = TCP_HEADER + (TIMESTAMPS_SIZE if segment.timestamps else 0)
    cdef size_t begin = 0
    cdef uint8_t* tcp
    if n <= MAX_LENGTH:
        begin = envelope_write(envelope, PROTO_TCP, header + n, out, room)
    if begin == 0:
        return 0
    tcp = out + begin
    put16(tcp, envelope.sport)
    put16(tcp + 2, envelope.dport)
    put32(tcp + 4, segment.seq)
    put32(tcp + 8, segment.ack)
    put16(tcp + 12, <uint16_t> (header // 4 << 12) | (segment.flags & 0x1FF))
    put16(tcp + 14, segment.window)
    put32(tcp + 16, 0)                         # checksum, urgent pointer
    if segment.timestamps:
        put32(tcp + 20, ALIGNED_TIMESTAMPS)
        put32(tcp + 24, segment.tsval)
        put32(tcp + 28, segment.tsecr)
    if n:
        memcpy(tcp + header, payload, n)
    put16(tcp + 16, checksum_of_segment(&envelope.src, &envelope.dst, envelope.ip_version, PROTO_TCP, tcp, header + n))
    return begin + header + n


cdef size_t build_reset(const Rewrite* offender, uint8_t* out, size_t room) noexcept nogil:
    cdef const PacketRecord* packet = offender.packet
    cdef Envelope envelope
    cdef Segment segment
    if offender.kind != WIRE_TCP or packet.flags & RST or not envelope_of(offender, True, &envelope):
        return 0
    memset(&segment, 0, sizeof(Segment))
    segment.flags = RST
    if packet.flags & ACK:
        segment.seq = packet.ack
    else:
        segment.flags |= ACK
        segment.ack = packet.seq + packet.payload_len + (packet.flags & SYN != 0) + (packet.flags & FIN != 0)
    return build_segment(&envelope, &segment, NULL, 0, out, room)


cdef size_t build_ack(const Rewrite* segment, uint32_t ack, uint16_t window, uint8_t* out, size_t room) noexcept nogil:
    cdef const PacketRecord* packet = segment.packet
    cdef Envelope envelope
    cdef Segment answer
    if segment.kind != WIRE_TCP or not packet.flags & ACK or not envelope_of(segment, True, &envelope):
        return 0
    answer.seq = packet.ack
    answer.ack = ack
    answer.flags = ACK
    answer.window = window
    answer.timestamps = packet.options & OPT_TIMESTAMP != 0
    answer.tsval = packet.tsecr                # the latest its peer is known to have sent, so PAWS lets it pass
    answer.tsecr = packet.tsval
    return build_segment(&envelope, &answer, NULL, 0, out, room)


# --- other payloads -------------------------------------------------------------------------------------

# A copy of a packet's headers with room for another payload behind them.
ctypedef struct Copy:
    uint8_t* network
    uint8_t* transport
    size_t carried             # bytes from the transport header on
    size_t size                # of the frame


cdef size_t transport_header_len(const Rewrite* model) noexcept nogil:
    if model.kind == WIRE_TCP:
        return model.packet.header_len
    return UDP_HEADER if model.kind == WIRE_UDP else 0             # of ICMP, all is payload


cdef bint copy_headers(const Rewrite* model, size_t n, uint8_t* out, size_t room, Copy* copy) noexcept nogil:
    """Copy headers for *n* bytes of payload and set the lengths; false where that cannot be done."""
    cdef LinkHeader link
    cdef size_t ip_len, kept, total, most
    if model.kind > WIRE_ICMP or not link_of(model, &link) or not dst_is_final(model):
        return False
    ip_len = <size_t> (model.transport - model.network)
    kept = ip_len + transport_header_len(model)
    most = MAX_LENGTH if model.packet.ip_version == 4 else MAX_LENGTH + IPV6_HEADER
    if n > most - kept:
        return False
    total = kept + n
    if room < link.length or room - link.length < total or not link_bears(&link, total):
        return False
    link_write(&link, out, total)
    copy.network = out + link.length
    copy.transport = copy.network + ip_len
    copy.carried = total - ip_len
    copy.size = link.length + total
    memcpy(copy.network, model.network, kept)
    if model.packet.ip_version == 4:
        put16(copy.network + 2, <uint16_t> total)
    else:
        put16(copy.network + 4, <uint16_t> (total - IPV6_HEADER))
    if model.kind == WIRE_UDP:
        put16(copy.transport + 4, <uint16_t> copy.carried)
    return True


cdef size_t sum_copy(const Rewrite* model, const Copy* copy) noexcept nogil:
    """Take the checksums of a copy; its size."""
    cdef const PacketRecord* packet = model.packet
    cdef ChecksumField kind
    cdef size_t offset = 0
    if packet.ip_version == 4:
        sum_ipv4(copy.network, <size_t> (copy.transport - copy.network))
    checksum_of_protocol(packet.proto, packet.ip_version, &offset, &kind)
    if kind.optional and be16(copy.transport + offset) == 0:
        return copy.size
    put16(copy.transport + offset, 0)
    put16(copy.transport + offset, checksum_of_segment(&packet.src, &packet.dst, packet.ip_version, packet.proto,
                                                       copy.transport, copy.carried))
    return copy.size


cdef size_t build_with_payload(const Rewrite* model, const uint8_t* payload, size_t n, uint8_t* out,
                               size_t room) noexcept nogil:
    cdef Copy copy
    if model.kind == WIRE_ICMP and n < ICMP_HEADER:
        return 0
    if not copy_headers(model, n, out, room, &copy):
        return 0
    if n:
        memcpy(out + copy.size - n, payload, n)
    return sum_copy(model, &copy)


cdef size_t build_cut(const Rewrite* model, const Cut* cut, const uint8_t* payload, uint8_t* out,
                      size_t room) noexcept nogil:
    cdef Copy copy
    if model.kind != WIRE_TCP or not copy_headers(model, cut.length, out, room, &copy):
        return 0
    if model.packet.ip_version == 4:
        put16(copy.network + 4, <uint16_t> (be16(copy.network + 4) + cut.number))
    put32(copy.transport + 4, cut.seq)
    put16(copy.transport + 12, (be16(copy.transport + 12) & 0xFE00) | (cut.flags & 0x1FF))
    put16(copy.transport + 18, cut.urgent)
    if cut.length:
        memcpy(out + copy.size - cut.length, payload + cut.at, cut.length)
    return sum_copy(model, &copy)
