# Arithmetic modulo 2**32 (RFC 9293 section 3.4): the only place that compares or measures sequence numbers.
from libc.stdint cimport int32_t, uint32_t

cdef inline int32_t seq_diff(uint32_t a, uint32_t b) noexcept nogil:
    """a - b as a signed distance; positive when a is later than b."""
    return <int32_t> (a - b)

cdef inline bint seq_lt(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t> (a - b) < 0

cdef inline bint seq_leq(uint32_t a, uint32_t b) noexcept nogil:
    """Exactly where b is not before a: of two numbers half the space apart each is before the other."""
    return <int32_t> (b - a) >= 0

cdef inline uint32_t seq_max(uint32_t a, uint32_t b) noexcept nogil:
    return a if <int32_t> (a - b) > 0 else b
