# SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): the keyed hash of every table that
# wire bytes index, so that no sender can aim at one bucket.
from libc.stdint cimport uint64_t

ctypedef struct SipState:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3

cdef inline uint64_t rotate_left(uint64_t x, int bits) noexcept nogil:
    return (x << bits) | (x >> (64 - bits))

cdef inline void sip_round(SipState* s) noexcept nogil:
    s.v0 += s.v1
    s.v2 += s.v3
    s.v1 = rotate_left(s.v1, 13) ^ s.v0
    s.v3 = rotate_left(s.v3, 16) ^ s.v2
    s.v0 = rotate_left(s.v0, 32)
    s.v2 += s.v1
    s.v0 += s.v3
    s.v1 = rotate_left(s.v1, 17) ^ s.v2
    s.v3 = rotate_left(s.v3, 21) ^ s.v0
    s.v2 = rotate_left(s.v2, 32)

cdef inline void sip_compress(SipState* s, uint64_t word) noexcept nogil:
    s.v3 ^= word
    sip_round(s)
    s.v0 ^= word

cdef inline uint64_t siphash13(uint64_t k0, uint64_t k1, const uint64_t* words, int n) noexcept nogil:
    """Hash n words under the 128-bit key k0, k1; on the bytes these words are in little-endian order."""
    return siphash13_ending(k0, k1, words, n, (<uint64_t> n * 8) << 56)

cdef inline uint64_t siphash13_ending(uint64_t k0, uint64_t k1, const uint64_t* words, int n,
                                      uint64_t ending) noexcept nogil:
    """The same with up to 7 bytes behind the words: in *ending*, below the length of it all in bytes, modulo 256."""
    cdef SipState s
    cdef int i
    s.v0 = k0 ^ 0x736F6D6570736575ULL
    s.v1 = k1 ^ 0x646F72616E646F6DULL
    s.v2 = k0 ^ 0x6C7967656E657261ULL
    s.v3 = k1 ^ 0x7465646279746573ULL
    for i in range(n):
        sip_compress(&s, words[i])
    sip_compress(&s, ending)
    s.v2 ^= 0xFF
    sip_round(&s)
    sip_round(&s)
    sip_round(&s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
