# Delivered bytes that are kept, so that apps can look back at them and begin to read a stream late.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.tcp.pool cimport pool_at
from aiomos.tcp.reassembly cimport Streams, Track

cdef enum:                     # sizes of blocks, header included
    KEPT_SMALL = 512
    KEPT_LARGE = 4096

# At the beginning of a block, the bytes behind it. A block is named by its index in the pool, doubled, and one more
# if it is large.
ctypedef struct KeptBlock:
    uint32_t next              # 0: the last
    uint32_t length
    uint64_t start             # stream offset

cdef void track_keep(Streams* s, Track* t) noexcept nogil
cdef void track_forget(Streams* s, Track* t) noexcept nogil

cdef inline KeptBlock* kept_at(const Streams* s, uint32_t name) noexcept nogil:
    return <KeptBlock*> pool_at(&s.kept_large if name & 1 else &s.kept_small, name >> 1)

cdef inline uint8_t* kept_bytes(KeptBlock* block) noexcept nogil:
    return <uint8_t*> (block + 1)

cdef inline uint32_t kept_size(uint32_t name) noexcept nogil:
    return KEPT_LARGE if name & 1 else KEPT_SMALL
