"""Internet checksums: changed along with what they cover, or taken anew.

Eqn. 3 of RFC 1624, HC' = ~(~HC + ~m + m'), never leaves the other zero of one's complement behind, which the older
formula of RFC 1141 does. Where the network card has yet to sum a segment, the field holds the sum of the pseudo-header,
not complemented: changed content is none of its business then, and changed addresses count with the other sign.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.numbers cimport PROTO_DCCP, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP, PROTO_UDPLITE
from aiomos.wire.wire cimport Address, be16, checksum_add, checksum_fold

cdef uint32_t change_bytes(const uint8_t* old, const uint8_t* new, size_t n, size_t at) noexcept nogil:
    cdef uint32_t total = (0xFFFF ^ checksum_fold(checksum_add(0, old, n))) + checksum_fold(checksum_add(0, new, n))
    cdef uint16_t folded = checksum_fold(total)
    # Bytes at an odd place are the other halves of their words (RFC 1071 section 2B).
    return <uint16_t> (folded << 8 | folded >> 8) if at & 1 else folded


cdef uint32_t address_sum(const Address* address, uint8_t ip_version) noexcept nogil:
    cdef uint32_t low = <uint32_t> address.lo
    cdef uint32_t total = (low >> 16) + (low & 0xFFFF)
    if ip_version == 6:
        total += <uint32_t> (address.lo >> 48) + <uint16_t> (address.lo >> 32) + <uint32_t> (address.hi >> 48)
        total += <uint32_t> <uint16_t> (address.hi >> 32) + <uint16_t> (address.hi >> 16) + <uint16_t> address.hi
    return total


cdef uint32_t change_address(const Address* old, const Address* new, uint8_t ip_version) noexcept nogil:
    return (0xFFFF ^ checksum_fold(address_sum(old, ip_version))) + address_sum(new, ip_version)


# --- changes applied --------------------------------------------------------------------------------

cdef void apply_full(const ChecksumField* field, uint32_t change) noexcept nogil:
    if field.optional:
        if be16(field.at) == 0:
            return
        checksum_apply(field.at, change)
        if be16(field.at) == 0:
            put16(field.at, 0xFFFF)
    else:
        checksum_apply(field.at, change)


cdef void checksum_content_changed(const ChecksumField* field, uint32_t change) noexcept nogil:
    if field.at != NULL and not field.partial:
        apply_full(field, change)


cdef void checksum_pseudo_changed(const ChecksumField* field, uint32_t change) noexcept nogil:
    if field.at == NULL or not field.pseudo_header:
        return
    if field.partial:
        put16(field.at, checksum_fold(be16(field.at) + (change & 0xFFFF) + (change >> 16)))
    else:
        apply_full(field, change)


# --- whole segments -----------------------------------------------------------------------------------

cdef bint checksum_of_protocol(uint8_t proto, uint8_t ip_version, size_t* offset, ChecksumField* kind) noexcept nogil:
    kind.optional = proto == PROTO_UDP
    kind.pseudo_header = True
    if proto == PROTO_TCP:
        offset[0] = 16
    elif proto == PROTO_UDP or proto == PROTO_UDPLITE or proto == PROTO_DCCP:
        offset[0] = 6
    elif proto == (PROTO_ICMP if ip_version == 4 else PROTO_ICMPV6):
        offset[0] = 2
        kind.pseudo_header = ip_version == 6           # RFC 792; RFC 4443 section 2.3
    else:
        return False
    return True


cdef uint16_t checksum_of_segment(const Address* src, const Address* dst, uint8_t ip_version, uint8_t proto,
                                  const uint8_t* data, size_t n) noexcept nogil:
    cdef uint32_t total = 0
    cdef uint16_t result
    if not (proto == PROTO_ICMP and ip_version == 4):
        total = address_sum(src, ip_version) + address_sum(dst, ip_version) + proto
        total += <uint16_t> n + <uint32_t> <uint16_t> (n >> 16)
    result = 0xFFFF ^ checksum_fold(checksum_add(total, data, n))
    return 0xFFFF if result == 0 and proto == PROTO_UDP else result
