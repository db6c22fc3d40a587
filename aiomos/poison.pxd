# Memory that nobody may touch now, told to AddressSanitizer: it knows malloc(), and nothing of pools and arenas.
# Does nothing in other builds.
from libc.stddef cimport size_t

cdef extern from *:
    """
    #ifndef AIOMOS_POISON
    #if defined(__SANITIZE_ADDRESS__)
    #define AIOMOS_POISON 1
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define AIOMOS_POISON 1
    #endif
    #endif
    #ifdef AIOMOS_POISON
    /* As <sanitizer/asan_interface.h> has them, which not every compiler's package brings. */
    void __asan_poison_memory_region(void const volatile *addr, size_t size);
    void __asan_unpoison_memory_region(void const volatile *addr, size_t size);
    int __asan_address_is_poisoned(void const volatile *addr);
    #define aiomos_poison(at, n) __asan_poison_memory_region((at), (n))
    #define aiomos_unpoison(at, n) __asan_unpoison_memory_region((at), (n))
    #define aiomos_is_poisoned(at) __asan_address_is_poisoned(at)
    #else
    #define AIOMOS_POISON 0
    #define aiomos_poison(at, n) ((void) (at), (void) (n))
    #define aiomos_unpoison(at, n) ((void) (at), (void) (n))
    #define aiomos_is_poisoned(at) ((void) (at), 0)
    #endif
    #endif
    """
    const bint POISONS "AIOMOS_POISON"
    void poison "aiomos_poison"(const void* at, size_t n) noexcept nogil
    void unpoison "aiomos_unpoison"(const void* at, size_t n) noexcept nogil
    bint is_poisoned "aiomos_is_poisoned"(const void* at) noexcept nogil
