# Internet checksums kept right through changes (RFC 1624), partial ones included, and taken of whole segments.
#
# A *change* is what eqn. 3 of RFC 1624 adds to a sum, ~m + m', of any number of words: changes are simply added up (a
# few thousand of them fit) and then applied to a field at once.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.wire cimport Address, checksum_fold

# A transport checksum in a packet, and how it is to be kept.
ctypedef struct ChecksumField:
    uint8_t* at                # NULL: there is none
    bint partial               # holds the sum of the pseudo-header, not complemented; the network card does the rest
    bint optional              # UDP: 0 says there is none, and a sum of 0 is written as 0xFFFF (RFC 768)
    bint pseudo_header         # addresses, length and protocol are summed: TCP, UDP, ICMPv6, not ICMPv4

# Big-endian stores.
cdef inline void put16(uint8_t* p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t> (value >> 8)
    p[1] = <uint8_t> value

cdef inline void put32(uint8_t* p, uint32_t value) noexcept nogil:
    put16(p, <uint16_t> (value >> 16))
    put16(p + 2, <uint16_t> value)

cdef inline uint32_t change16(uint16_t old, uint16_t new) noexcept nogil:
    return <uint32_t> (0xFFFF ^ old) + new

cdef inline uint32_t change32(uint32_t old, uint32_t new) noexcept nogil:
    return (change16(<uint16_t> (old >> 16), <uint16_t> (new >> 16)) + change16(<uint16_t> old, <uint16_t> new))

# Of the addresses, as the pseudo-header has them.
cdef uint32_t address_sum(const Address* address, uint8_t ip_version) noexcept nogil

# The change of *n* bytes at *at* bytes from the start of what is summed, which may be an odd number.
cdef uint32_t change_bytes(const uint8_t* old, const uint8_t* new, size_t n, size_t at) noexcept nogil
cdef uint32_t change_address(const Address* old, const Address* new, uint8_t ip_version) noexcept nogil

# Apply a change to a complemented sum, such as that of an IPv4 header.
cdef inline void checksum_apply(uint8_t* field, uint32_t change) noexcept nogil:
    cdef uint32_t total = <uint16_t> ~<uint32_t> ((field[0] << 8) | field[1])
    put16(field, 0xFFFF ^ checksum_fold(total + (change & 0xFFFF) + (change >> 16)))

# Apply a change of the bytes summed (ports, flags, payload), or of the pseudo-header (addresses, length, protocol).
cdef void checksum_content_changed(const ChecksumField* field, uint32_t change) noexcept nogil
cdef void checksum_pseudo_changed(const ChecksumField* field, uint32_t change) noexcept nogil

# Offset of the checksum in the header of a protocol, and what kind of checksum that is (`at` is left alone); false
# for a protocol without a checksum that is known here.
cdef bint checksum_of_protocol(uint8_t proto, uint8_t ip_version, size_t* offset, ChecksumField* kind) noexcept nogil

# The complement of the sum, as it is written, of *n* bytes of a segment whose own checksum field is zero.
cdef uint16_t checksum_of_segment(const Address* src, const Address* dst, uint8_t ip_version, uint8_t proto,
                                  const uint8_t* data, size_t n) noexcept nogil
