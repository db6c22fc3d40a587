"""Segments of a connection that ends here: what all of them share is laid out once, in a template.

The payload is copied into the frame, once, from wherever it lies; its sum is then taken here, or left to the network
card (docs/design/segments.md).
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.wire.building cimport Envelope, envelope_write
from aiomos.wire.checksums cimport address_sum, put16
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Offload
from aiomos.wire.headers cimport Segment, tcp_header_len, tcp_header_write
from aiomos.wire.numbers cimport IPV4_HEADER, IPV6_HEADER, PROTO_TCP
from aiomos.wire.segmentation cimport GSO_ECN, GSO_TCPV4, GSO_TCPV6
from aiomos.wire.wire cimport ACK, CWR, SYN, checksum_add, checksum_fold

cdef enum:
    MOST_CARRIED = 0xFFFF      # bytes of an IPv4 packet, and of what follows the IPv6 header
    CHECKSUM_AT = 16           # in the TCP header


cdef bint template_make(const Envelope* envelope, uint32_t flow_label, bint dont_fragment,
                        Template* out) noexcept nogil:
    cdef uint8_t* ip
    if envelope.link.length > MAX_TEMPLATE_LINK or envelope.link.length_at:
        return False
    memset(out, 0, sizeof(Template))
    if not envelope_write(envelope, PROTO_TCP, 0, out.headers, sizeof(out.headers)):
        return False
    out.link_len = <uint8_t> envelope.link.length
    out.linktype = envelope.link.linktype
    out.ip_version = envelope.ip_version
    out.sport, out.dport = envelope.sport, envelope.dport
    out.pseudo_sum = (address_sum(&envelope.src, envelope.ip_version) + address_sum(&envelope.dst, envelope.ip_version)
                      + PROTO_TCP)
    ip = out.headers + out.link_len
    if envelope.ip_version == 4:
        ip[1] &= <uint8_t> ~<uint8_t> ECN_MASK         # each segment has its own
        put16(ip + 10, 0)
        if not dont_fragment:
            put16(ip + 6, 0)
    else:
        ip[1] = <uint8_t> (ip[1] & ~(ECN_MASK << 4)) | <uint8_t> (flow_label >> 16 & 0xF)
        put16(ip + 2, <uint16_t> flow_label)
    return True


cdef void template_redirect(Template* template, const uint8_t* mac) noexcept nogil:
    if template.link_len:
        memcpy(template.headers, mac, 6)


cdef size_t segment_write(Template* template, const Segment* segment, const Stretch* payload, size_t stretches,
                          uint8_t ecn, uint16_t gso_size, uint8_t* out, size_t room, Offload* offload) noexcept nogil:
    cdef size_t ip_len = IPV4_HEADER if template.ip_version == 4 else IPV6_HEADER
    cdef size_t headers = template.link_len + ip_len + tcp_header_len(segment)
    cdef size_t most, n = 0, i
    cdef uint8_t* at
    if room < headers:
        return 0
    most = MOST_CARRIED - (headers - template.link_len - (0 if template.ip_version == 4 else ip_len))
    most = min(most, room - headers)
    at = out + headers
    for i in range(stretches):
        if payload[i].length > most - n:
            return 0
        memcpy(at + n, payload[i].data, payload[i].length)
        n += payload[i].length
    memcpy(out, template.headers, template.link_len + ip_len)
    write_ip(template, segment, out + template.link_len, headers - template.link_len - ip_len + n, ecn,
             (n + gso_size - 1) // gso_size if gso_size and n else 1)
    write_tcp(template, segment, out + template.link_len + ip_len, n, offload != NULL)
    if offload != NULL:
        tell_card(template, segment, headers, n, gso_size, offload)
    return headers + n


cdef void write_ip(Template* template, const Segment* segment, uint8_t* ip, size_t carried, uint8_t ecn,
                   size_t packets) noexcept nogil:
    """Fill in lengths and the ECN field and, of IPv4, identification and sum."""
    if template.ip_version == 6:
        ip[1] |= <uint8_t> ((ecn & ECN_MASK) << 4)
        put16(ip + 4, <uint16_t> carried)
        return
    ip[1] |= ecn & ECN_MASK
    put16(ip + 2, <uint16_t> (IPV4_HEADER + carried))
    if segment.flags & (SYN | ACK) != SYN | ACK:       # as Linux, whose SYN-ACK is of no socket yet
        put16(ip + 4, template.identification)
        template.identification += <uint16_t> packets
    put16(ip + 10, 0xFFFF ^ checksum_fold(checksum_add(0, ip, IPV4_HEADER)))


cdef void write_tcp(const Template* template, const Segment* segment, uint8_t* tcp, size_t n,
                    bint partial) noexcept nogil:
    """Write the header before *n* bytes of payload, with the sum of all, or that of the pseudo-header alone."""
    cdef size_t length = n + tcp_header_write(segment, template.sport, template.dport, tcp)
    cdef uint32_t total = template.pseudo_sum + <uint32_t> length
    if partial:
        put16(tcp + CHECKSUM_AT, checksum_fold(total))
    else:
        put16(tcp + CHECKSUM_AT, 0xFFFF ^ checksum_fold(checksum_add(total, tcp, length)))


cdef void tell_card(const Template* template, const Segment* segment, size_t headers, size_t n, uint16_t gso_size,
                    Offload* offload) noexcept nogil:
    """Say what is left to do, as linux/virtio_net.h has it."""
    memset(offload, 0, sizeof(Offload))
    offload.flags = OFFLOAD_NEEDS_CSUM
    offload.csum_start = <uint16_t> (template.link_len + (IPV4_HEADER if template.ip_version == 4 else IPV6_HEADER))
    offload.csum_offset = CHECKSUM_AT
    if gso_size and n > gso_size:
        offload.gso_type = <uint8_t> (GSO_TCPV4 if template.ip_version == 4 else GSO_TCPV6)
        if segment.flags & CWR:
            offload.gso_type |= GSO_ECN
        offload.gso_size = gso_size
        offload.hdr_len = <uint16_t> headers
