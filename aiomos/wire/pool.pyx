"""Record pools: one reserved stretch of address space each, no allocation after that."""

from libc.stdint cimport UINT32_MAX
from libc.string cimport memset

from aiomos.poison cimport poison, unpoison


cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void* addr, size_t length)
    int madvise(void* addr, size_t length, int advice)
    void* MAP_FAILED
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_HUGEPAGE


cdef enum:
    HUGE_PAGE = 2 << 20        # below this a huge page would waste more than it saves


cdef bint pool_open(Pool* pool, size_t item_size, size_t capacity) noexcept nogil:
    """Reserve room for *capacity* records; false when the address space cannot be had."""
    memset(pool, 0, sizeof(Pool))
    if item_size < sizeof(uint32_t) or capacity >= UINT32_MAX or (capacity + 1) > <size_t> -1 // item_size:
        return False
    cdef size_t length = (capacity + 1) * item_size
    cdef void* base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if base == MAP_FAILED:
        return False
    if length >= HUGE_PAGE:
        madvise(base, length, MADV_HUGEPAGE)   # advice only: a refusal costs speed, nothing else
    pool.base = <uint8_t*> base
    pool.item_size = item_size
    pool.capacity = <uint32_t> capacity
    poison(base, item_size)                    # record 0 is none
    return True


cdef void pool_close(Pool* pool) noexcept nogil:
    if pool.base != NULL:
        unpoison(pool.base, (<size_t> pool.high_water + 1) * pool.item_size)
        munmap(pool.base, (<size_t> pool.capacity + 1) * pool.item_size)
    memset(pool, 0, sizeof(Pool))
