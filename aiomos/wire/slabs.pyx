"""Slabs: blocks of ten sizes that share one budget of memory, whichever sizes are wanted.

Memory is had in slabs of 64 KiB. A slab is cut into blocks of one size, each twice the next smaller, as long as one
of them is in use; then it is free for any size. So small things cost little, and memory that was full of small blocks
can be full of large ones later.
"""

from libc.string cimport memset

from aiomos.poison cimport poison, unpoison
from aiomos.wire.pool cimport pool_close, pool_give, pool_open, pool_take


cdef bint slabs_open(Slabs* slabs, size_t memory) noexcept nogil:
    """Set up blocks of *memory* bytes together, and a slab more for each size; false without address space."""
    cdef size_t count = memory // SLAB_BYTES + BLOCK_SIZES
    memset(slabs, 0, sizeof(Slabs))
    return (count < MOST_SLABS and pool_open(&slabs.memory, SLAB_BYTES, count)
            and pool_open(&slabs.table, sizeof(Slab), count))


cdef void slabs_close(Slabs* slabs) noexcept nogil:
    pool_close(&slabs.memory)
    pool_close(&slabs.table)


cdef uint32_t block_take(Slabs* slabs, uint64_t length) noexcept nogil:
    """Name of a block for *length* bytes, at most SLAB_BYTES, its contents unspecified; 0 when there is none."""
    cdef int size = size_for(length)
    cdef uint32_t index = slabs.open[size], name
    cdef Slab* slab
    if not index:
        index = begin_slab(slabs, size)
        if not index:
            return 0
    slab = slab_at(slabs, index)
    name = slab.free_head
    if name:
        unpoison(block_at(slabs, name), <size_t> UNIT << size)
        slab.free_head = (<uint32_t*> block_at(slabs, name))[0]
    else:
        name = index << SLAB_SHIFT | <uint32_t> slab.touched << size
        slab.touched += 1
        unpoison(block_at(slabs, name), <size_t> UNIT << size)
    slab.in_use += 1
    if slab.in_use == SLAB_UNITS >> size:
        leave_open(slabs, slab)
    slabs.blocks += 1
    slabs.bytes += <uint64_t> UNIT << size
    return name


cdef void block_give(Slabs* slabs, uint32_t name) noexcept nogil:
    cdef uint32_t index = name >> SLAB_SHIFT
    cdef Slab* slab = slab_at(slabs, index)
    cdef int size = slab.size
    slabs.blocks -= 1
    slabs.bytes -= <uint64_t> UNIT << size
    if slab.in_use == SLAB_UNITS >> size:
        enter_open(slabs, slab, index)
    slab.in_use -= 1
    if not slab.in_use:
        leave_open(slabs, slab)
        unpoison(pool_at(&slabs.memory, index), SLAB_BYTES)
        pool_give(&slabs.memory, index)
        return
    (<uint32_t*> block_at(slabs, name))[0] = slab.free_head
    slab.free_head = name
    poison(block_at(slabs, name), <size_t> UNIT << size)


cdef bint block_waits(const Slabs* slabs, uint64_t length) noexcept nogil:
    """Would block_take() find one?"""
    return slabs.open[size_for(length)] != 0 or slabs.memory.in_use < slabs.memory.capacity


cdef uint32_t begin_slab(Slabs* slabs, int size) noexcept nogil:
    cdef uint32_t index = pool_take(&slabs.memory)
    cdef Slab* slab
    if index:
        poison(pool_at(&slabs.memory, index), SLAB_BYTES)
        slab = slab_at(slabs, index)
        memset(slab, 0, sizeof(Slab))
        slab.size = <uint8_t> size
        enter_open(slabs, slab, index)
    return index


cdef void enter_open(Slabs* slabs, Slab* slab, uint32_t index) noexcept nogil:
    slab.before = 0
    slab.after = slabs.open[slab.size]
    if slab.after:
        slab_at(slabs, slab.after).before = index
    slabs.open[slab.size] = index


cdef void leave_open(Slabs* slabs, Slab* slab) noexcept nogil:
    if slab.before:
        slab_at(slabs, slab.before).after = slab.after
    else:
        slabs.open[slab.size] = slab.after
    if slab.after:
        slab_at(slabs, slab.after).before = slab.before
