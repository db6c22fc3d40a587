# Fixed-size records at stable addresses, named by a 32-bit index; index 0 means none.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from aiomos.poison cimport poison, unpoison

ctypedef struct Pool:
    uint8_t* base          # capacity + 1 records; address space is reserved at once, memory used as touched
    size_t item_size
    uint32_t capacity      # the budget
    uint32_t in_use
    uint32_t high_water    # records ever touched; those above it have never been used
    uint32_t free_head     # first record given back; its first four bytes name the next

cdef bint pool_open(Pool* pool, size_t item_size, size_t capacity) noexcept nogil
cdef void pool_close(Pool* pool) noexcept nogil

cdef inline void* pool_at(const Pool* pool, uint32_t index) noexcept nogil:
    return pool.base + index * pool.item_size

cdef inline uint32_t pool_take(Pool* pool) noexcept nogil:
    """Index of a record with unspecified contents, or 0 when the budget is used up."""
    cdef uint32_t index = pool.free_head
    if index:
        unpoison(pool_at(pool, index), pool.item_size)
        pool.free_head = (<uint32_t*> pool_at(pool, index))[0]
    elif pool.high_water < pool.capacity:
        pool.high_water += 1
        index = pool.high_water
    else:
        return 0
    pool.in_use += 1
    return index

cdef inline void pool_give(Pool* pool, uint32_t index) noexcept nogil:
    (<uint32_t*> pool_at(pool, index))[0] = pool.free_head
    pool.free_head = index
    pool.in_use -= 1
    poison(pool_at(pool, index), pool.item_size)
