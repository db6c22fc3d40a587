"""What we are on our links: MAC addresses, MTUs, and the addresses that we answer for.

Addresses are found by a keyed hash, as whoever asks for them chooses them. Which to ask from is found by
looking at all: that is needed only for a neighbour that nobody has named a source for.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from aiomos.wire.siphash cimport siphash13


cdef bint interfaces_open(Interfaces* s, uint32_t capacity, const uint8_t* key) noexcept nogil:
    cdef size_t buckets = 16
    memset(s, 0, sizeof(Interfaces))
    while buckets < capacity:
        buckets *= 2
    memcpy(s.keys, key, 16)
    s.mask = <uint32_t> (buckets - 1)
    s.buckets = <uint32_t*> calloc(buckets, sizeof(uint32_t))
    s.own = <OwnAddress*> calloc(<size_t> capacity + 1, sizeof(OwnAddress))
    s.capacity = capacity
    return s.buckets != NULL and s.own != NULL


cdef void interfaces_close(Interfaces* s) noexcept nogil:
    free(s.own)
    free(s.buckets)
    memset(s, 0, sizeof(Interfaces))


cdef uint32_t* bucket_of(const Interfaces* s, uint16_t interface, const Address* address) noexcept nogil:
    cdef uint64_t words[3]
    words[0], words[1], words[2] = address.hi, address.lo, interface
    return &s.buckets[siphash13(s.keys[0], s.keys[1], words, 3) & s.mask]


cdef OwnAddress* own_find(const Interfaces* s, uint16_t interface, const Address* address) noexcept nogil:
    cdef uint32_t number = bucket_of(s, interface, address)[0]
    cdef OwnAddress* found
    while number:
        found = &s.own[number]
        if found.address.lo == address.lo and found.address.hi == address.hi and found.interface == interface:
            return found
        number = found.chain
    return NULL


cdef uint32_t own_add(Interfaces* s, const OwnAddress* given) noexcept nogil:
    cdef OwnAddress* own = own_find(s, given.interface, &given.address)
    cdef uint32_t* bucket
    cdef uint32_t number, chain
    if own != NULL:
        chain = own.chain
        own[0] = given[0]
        own.chain = chain
        return own_number(s, own)
    number = take_number(s)
    if number:
        bucket = bucket_of(s, given.interface, &given.address)
        s.own[number] = given[0]
        s.own[number].chain, bucket[0] = bucket[0], number
    return number


cdef uint32_t take_number(Interfaces* s) noexcept nogil:
    cdef uint32_t number = s.given_back
    if number:
        s.given_back = s.own[number].chain
    elif s.high_water < s.capacity:
        s.high_water += 1
        number = s.high_water
    return number


cdef bint own_remove(Interfaces* s, uint16_t interface, const Address* address) noexcept nogil:
    cdef OwnAddress* own = own_find(s, interface, address)
    cdef uint32_t* link = bucket_of(s, interface, address)
    cdef uint32_t number
    if own == NULL:
        return False
    number = own_number(s, own)
    while link[0] != number:
        link = &s.own[link[0]].chain
    link[0] = own.chain
    own.ip_version = 0
    own.chain, s.given_back = s.given_back, number
    return True


cdef bint same_network(const Address* a, const Address* b, uint8_t bits) noexcept nogil:
    if bits > 64:
        return a.hi == b.hi and not (a.lo ^ b.lo) >> (128 - bits)
    return bits == 0 or not (a.hi ^ b.hi) >> (64 - bits)


cdef OwnAddress* own_source(const Interfaces* s, uint16_t interface, const Address* target,
                            uint8_t ip_version) noexcept nogil:
    cdef OwnAddress* own
    cdef OwnAddress* fallback = NULL
    cdef uint32_t number
    for number in range(1, s.high_water + 1):
        own = &s.own[number]
        if own.ip_version != ip_version or own.interface != interface:
            continue
        if same_network(&own.address, target, own.prefix):
            return own
        if fallback == NULL:
            fallback = own
    return fallback
