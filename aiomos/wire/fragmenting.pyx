"""Whole IP packets cut into fragments, one at a time into a buffer of the caller's."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.wire.checksums cimport put16, put32
from aiomos.wire.numbers cimport (
    FRAGMENT_HEADER,
    IPV4_HEADER,
    IPV6_HEADER,
    PROTO_DESTINATION,
    PROTO_FRAGMENT,
    PROTO_HOP_BY_HOP,
    PROTO_ROUTING,
)
from aiomos.wire.wire cimport be16, checksum_add, checksum_fold

cdef enum:
    MAX_LENGTH = 0xFFFF            # of an IPv4 packet, and of what follows the IPv6 header
    MAX_EXTENSIONS = 8             # as many as the decoder reads
    MORE_FRAGMENTS = 0x2000
    FRAGMENT_BITS = 0x3FFF         # MF and offset
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_COPIED = 0x80           # RFC 791 section 3.1

cdef bint fragmenter_begin(Fragmenter* f, const uint8_t* packet, size_t length, size_t most,
                           uint32_t id) noexcept nogil:
    cdef size_t overhead
    memset(f, 0, sizeof(Fragmenter))
    f.packet = packet
    f.length = length
    f.most = most
    f.id = id
    if length < IPV4_HEADER or not (begin_ipv4(f) if packet[0] >> 4 == 4 else begin_ipv6(f)):
        return False
    overhead = f.header_len + (FRAGMENT_HEADER if packet[0] >> 4 == 6 else 0)
    return length <= most or (most >= overhead and most - overhead >= 8)


cdef bint begin_ipv4(Fragmenter* f) noexcept nogil:
    cdef const uint8_t* header = f.packet
    f.header_len = <size_t> (header[0] & 0x0F) * 4
    if f.header_len < IPV4_HEADER or f.header_len > f.length or f.length > MAX_LENGTH:
        return False
    if be16(header + 6) & FRAGMENT_BITS:
        return False
    memcpy(f.later, header, IPV4_HEADER)
    f.later_len = IPV4_HEADER
    copy_options(f)
    f.later[0] = <uint8_t> (0x40 | f.later_len // 4)
    return True


cdef void copy_options(Fragmenter* f) noexcept nogil:
    """Give later fragments the options that are to be in all of them, padded with zeroes to 32 bits."""
    cdef size_t at = IPV4_HEADER, size
    while at < f.header_len and f.packet[at] != OPTION_END:
        if f.packet[at] == OPTION_NOP:
            at += 1
            continue
        if f.header_len - at < 2 or f.packet[at + 1] < 2 or f.packet[at + 1] > f.header_len - at:
            break                                          # broken: what follows cannot be told
        size = f.packet[at + 1]
        if f.packet[at] & OPTION_COPIED:
            memcpy(f.later + f.later_len, f.packet + at, size)
            f.later_len += size
        at += size
    f.later_len = (f.later_len + 3) // 4 * 4


cdef bint begin_ipv6(Fragmenter* f) noexcept nogil:
    """Find the end of the per-fragment headers: up to the routing header, else to hop-by-hop options."""
    cdef size_t at = IPV6_HEADER, size
    cdef uint8_t proto
    cdef int _
    if f.packet[0] >> 4 != 6 or f.length < IPV6_HEADER or f.length > MAX_LENGTH + IPV6_HEADER:
        return False
    f.header_len = IPV6_HEADER
    f.next_header_at = 6
    proto = f.packet[6]
    for _ in range(MAX_EXTENSIONS):
        if proto == PROTO_FRAGMENT:
            return False
        if proto != PROTO_ROUTING and proto != PROTO_DESTINATION and (proto != PROTO_HOP_BY_HOP or at > IPV6_HEADER):
            break
        if f.length - at < 8:
            return False
        size = (<size_t> f.packet[at + 1] + 1) * 8
        if size > f.length - at:
            return False
        if proto != PROTO_DESTINATION:                     # before a routing header they go with it, else with the rest
            f.header_len = at + size
            f.next_header_at = at
        proto = f.packet[at]
        at += size
    return True


cdef size_t fragmenter_next(Fragmenter* f, uint8_t* out) noexcept nogil:
    cdef size_t left = f.length - f.header_len - f.at
    cdef size_t size
    if f.done:
        return 0
    if f.length <= f.most:
        f.done = True
        memcpy(out, f.packet, f.length)
        return f.length
    size = next_ipv4(f, left, out) if f.packet[0] >> 4 == 4 else next_ipv6(f, left, out)
    f.done = f.at == f.length - f.header_len
    return size


cdef size_t piece_size(const Fragmenter* f, size_t overhead, size_t left) noexcept nogil:
    return left if left <= f.most - overhead else (f.most - overhead) // 8 * 8


cdef size_t next_ipv4(Fragmenter* f, size_t left, uint8_t* out) noexcept nogil:
    cdef size_t header = f.later_len if f.at else f.header_len
    cdef size_t size = piece_size(f, header, left)
    memcpy(out, f.packet if f.at == 0 else <const uint8_t*> f.later, header)
    put16(out + 2, <uint16_t> (header + size))
    put16(out + 6, (be16(out + 6) & ~FRAGMENT_BITS) | (MORE_FRAGMENTS if size < left else 0) | <uint16_t> (f.at // 8))
    put16(out + 10, 0)
    put16(out + 10, 0xFFFF ^ checksum_fold(checksum_add(0, out, header)))
    memcpy(out + header, f.packet + f.header_len + f.at, size)
    f.at += size
    return header + size


cdef size_t next_ipv6(Fragmenter* f, size_t left, uint8_t* out) noexcept nogil:
    cdef size_t header = f.header_len + FRAGMENT_HEADER
    cdef size_t size = piece_size(f, header, left)
    cdef uint8_t* fragment = out + f.header_len
    memcpy(out, f.packet, f.header_len)
    put16(out + 4, <uint16_t> (header + size - IPV6_HEADER))
    out[f.next_header_at] = PROTO_FRAGMENT
    fragment[0] = f.packet[f.next_header_at]
    fragment[1] = 0
    put16(fragment + 2, <uint16_t> (f.at | (1 if size < left else 0)))
    put32(fragment + 4, f.id)
    memcpy(out + header, f.packet + f.header_len + f.at, size)
    f.at += size
    return header + size
