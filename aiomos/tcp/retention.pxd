# Delivered bytes that are kept, so that apps can look back at them and begin to read a stream late.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.tcp.tracks cimport Streams, Track
from aiomos.wire.slabs cimport block_at, block_bytes

# At the beginning of a block, the bytes behind it.
ctypedef struct KeptBlock:
    uint32_t next              # 0: the last
    uint32_t length
    uint64_t start             # stream offset

cdef void track_keep(Streams* s, Track* t) noexcept nogil
cdef void track_forget(Streams* s, Track* t) noexcept nogil

cdef inline KeptBlock* kept_at(const Streams* s, uint32_t name) noexcept nogil:
    return <KeptBlock*> block_at(&s.kept, name)

cdef inline uint8_t* kept_bytes(KeptBlock* block) noexcept nogil:
    return <uint8_t*> (block + 1)

cdef inline uint32_t kept_size(const Streams* s, uint32_t name) noexcept nogil:
    return block_bytes(&s.kept, name)
