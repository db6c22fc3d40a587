# Records in the order of their sequence numbers, found in a time that grows with the logarithm of their number.
#
# A treap: a search tree by sequence number, and a heap by a hash of the record's index, which nobody outside knows.
# `which` names the pair of links: BY_SEQ or BY_LOSS.
from libc.stdint cimport uint32_t

from aiomos.wire.pool cimport Pool

cdef void treap_add(const Pool* pool, uint32_t* root, uint32_t which, uint32_t index) noexcept nogil
cdef void treap_remove(const Pool* pool, uint32_t* root, uint32_t which, uint32_t index) noexcept nogil
cdef uint32_t treap_find(const Pool* pool, uint32_t root, uint32_t which, uint32_t seq) noexcept nogil
cdef uint32_t treap_first(const Pool* pool, uint32_t root, uint32_t which) noexcept nogil
