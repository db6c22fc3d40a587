# Blocks of many sizes at stable addresses within one budget of memory, named by 32 bits; 0 means none.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.pool cimport Pool, pool_at

cdef enum:
    UNIT = 128                 # the smallest block; names count units
    SLAB_BYTES = 65536         # the largest
    SLAB_UNITS = 512           # SLAB_BYTES // UNIT
    SLAB_SHIFT = 9             # a slab's index in a block's name
    BLOCK_SIZES = 10           # UNIT << 0 to UNIT << 9
    MOST_SLABS = 1 << 23

# Blocks of one size.
ctypedef struct Slab:
    uint32_t free_head         # block given back; its first four bytes name the next
    uint32_t before            # list of the slabs of a size that have room
    uint32_t after
    uint16_t in_use
    uint16_t touched           # blocks that were ever given out; those behind them have not been
    uint8_t size               # UNIT << size

ctypedef struct Slabs:
    Pool memory                # records of SLAB_BYTES
    Pool table                 # of Slab, by the same index
    uint32_t open[10]          # by size: the first slab that has room
    uint32_t blocks            # in use
    uint64_t bytes             # of those

cdef bint slabs_open(Slabs* slabs, size_t memory) noexcept nogil
cdef void slabs_close(Slabs* slabs) noexcept nogil
cdef uint32_t block_take(Slabs* slabs, uint64_t length) noexcept nogil
cdef void block_give(Slabs* slabs, uint32_t name) noexcept nogil
cdef bint block_waits(const Slabs* slabs, uint64_t length) noexcept nogil

cdef inline uint8_t* block_at(const Slabs* slabs, uint32_t name) noexcept nogil:
    return slabs.memory.base + <size_t> name * UNIT

cdef inline Slab* slab_at(const Slabs* slabs, uint32_t index) noexcept nogil:
    return <Slab*> pool_at(&slabs.table, index)

cdef inline uint32_t block_bytes(const Slabs* slabs, uint32_t name) noexcept nogil:
    return <uint32_t> UNIT << slab_at(slabs, name >> SLAB_SHIFT).size

cdef inline int size_for(uint64_t length) noexcept nogil:
    """Which size of block takes *length* bytes, at most SLAB_BYTES."""
    cdef int size = 0
    while <uint64_t> UNIT << size < length:
        size += 1
    return size
