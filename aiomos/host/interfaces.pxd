# What we are on our links: of each its MAC address and MTU, and the addresses that we answer for.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.wire cimport Address

cdef enum:
    MOST_LINKS = 64            # as many as are in line
    MOST_OWN = 65536           # addresses

ctypedef struct Link:
    bint is_ethernet
    bint has_mac
    uint8_t mac[6]
    uint32_t mtu               # bytes of an IP packet

# An address of ours on a link; its number is that of its record, from 1.
ctypedef struct OwnAddress:
    uint32_t chain             # next in its bucket, or of those given back
    Address address
    uint16_t interface
    uint8_t ip_version         # 0: given back
    uint8_t prefix             # bits that are the same of all that are on the link, of 128
    uint8_t mac[6]             # by which it is answered for
    bint is_host               # packets to it end here: echoes are answered; else only where it is

ctypedef struct Interfaces:
    Link links[64]
    OwnAddress* own            # *capacity* + 1 of them
    uint32_t capacity
    uint32_t high_water        # records ever in use
    uint32_t given_back        # first of those
    uint32_t* buckets
    uint32_t mask
    uint64_t keys[2]

cdef bint interfaces_open(Interfaces* s, uint32_t capacity, const uint8_t* key) noexcept nogil
cdef void interfaces_close(Interfaces* s) noexcept nogil

# The address of ours on a link; NULL if it is none.
cdef OwnAddress* own_find(const Interfaces* s, uint16_t interface, const Address* address) noexcept nogil
# Answer for an address, *its* MAC address and prefix, or with others than before. Its number; 0 without room.
cdef uint32_t own_add(Interfaces* s, const OwnAddress* given) noexcept nogil
# Answer for it no longer; false if it was none of ours.
cdef bint own_remove(Interfaces* s, uint16_t interface, const Address* address) noexcept nogil
# The address of ours on a link to ask for, or to send to, a target from: one on whose network it is, else any of its
# version. NULL without one.
cdef OwnAddress* own_source(const Interfaces* s, uint16_t interface, const Address* target,
                            uint8_t ip_version) noexcept nogil

# Are the first *bits* of two addresses the same?
cdef bint same_network(const Address* a, const Address* b, uint8_t bits) noexcept nogil

cdef inline uint32_t own_number(const Interfaces* s, const OwnAddress* own) noexcept nogil:
    return <uint32_t> (own - s.own)
