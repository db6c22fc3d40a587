"""A search tree of records by sequence number, without recursion or memory of its own (Seidel and Aragon, 1996)."""

from aiomos.end.sent cimport Sent, sent_at
from aiomos.wire.seq cimport seq_lt


cdef inline uint32_t rank(uint32_t index) noexcept nogil:
    """Of parent and child the parent's is not lower; the finaliser of MurmurHash3."""
    index = (index ^ index >> 16) * <uint32_t> 0x85EBCA6B
    index = (index ^ index >> 13) * <uint32_t> 0xC2B2AE35
    return index ^ index >> 16


cdef void treap_add(const Pool* pool, uint32_t* root, uint32_t which, uint32_t index) noexcept nogil:
    """Put a record in, whose sequence number none of the others has."""
    cdef Sent* new = sent_at(pool, index)
    cdef Sent* other
    cdef uint32_t* link = root
    cdef uint32_t* below
    cdef uint32_t* above
    cdef uint32_t high = rank(index), rest
    while link[0] and rank(link[0]) >= high:
        other = sent_at(pool, link[0])
        link = &other.links[which + seq_lt(other.seq, new.seq)]
    rest, link[0] = link[0], index
    below, above = &new.links[which], &new.links[which + 1]
    while rest:                # what was here falls into those before the new one and those behind it
        other = sent_at(pool, rest)
        if seq_lt(other.seq, new.seq):
            below[0] = rest
            below = &other.links[which + 1]
            rest = below[0]
        else:
            above[0] = rest
            above = &other.links[which]
            rest = above[0]
    below[0] = above[0] = 0


cdef void treap_remove(const Pool* pool, uint32_t* root, uint32_t which, uint32_t index) noexcept nogil:
    """Take a record out; does nothing when it is not in."""
    cdef Sent* gone = sent_at(pool, index)
    cdef Sent* other
    cdef uint32_t* link = root
    cdef uint32_t low, high
    while link[0] != index:
        if not link[0]:
            return
        other = sent_at(pool, link[0])
        link = &other.links[which + seq_lt(other.seq, gone.seq)]
    low, high = gone.links[which], gone.links[which + 1]
    while low and high:
        if rank(low) >= rank(high):
            link[0] = low
            link = &sent_at(pool, low).links[which + 1]
            low = link[0]
        else:
            link[0] = high
            link = &sent_at(pool, high).links[which]
            high = link[0]
    link[0] = low | high


cdef uint32_t treap_find(const Pool* pool, uint32_t root, uint32_t which, uint32_t seq) noexcept nogil:
    """The last record that begins at *seq* or before; 0 when there is none."""
    cdef uint32_t found = 0
    cdef Sent* record
    while root:
        record = sent_at(pool, root)
        if seq_lt(seq, record.seq):
            root = record.links[which]
        else:
            found = root
            root = record.links[which + 1]
    return found


cdef uint32_t treap_first(const Pool* pool, uint32_t root, uint32_t which) noexcept nogil:
    """The record with the lowest sequence number; 0 when there is none."""
    cdef uint32_t found = 0
    while root:
        found = root
        root = sent_at(pool, root).links[which]
    return found
