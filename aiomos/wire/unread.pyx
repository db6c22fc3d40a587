"""Counts of what is not read: a table of fixed size, since whoever sends frames chooses their numbers."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    HASH_BITS = 9              # of UNREAD_SLOTS

# 2**64 divided by the golden ratio: neighbouring numbers fall far apart (Knuth, TAOCP 6.4).
cdef uint64_t GOLDEN = 0x9E3779B97F4A7C15ULL


cdef void unread_add(UnreadTable* table, uint8_t layer, uint64_t number) noexcept nogil:
    cdef uint32_t slot = <uint32_t> ((number << 8 | layer) * GOLDEN >> 64 - HASH_BITS)
    cdef UnreadNumber* known
    while table.slots[slot]:                           # half of the slots are free, always
        known = &table.numbers[table.slots[slot] - 1]
        if known.number == number and known.layer == layer:
            known.count += 1
            return
        slot = (slot + 1) % UNREAD_SLOTS
    if table.used == UNREAD_NUMBERS:
        table.other += 1
        return
    known = &table.numbers[table.used]
    known.number, known.count, known.layer = number, 1, layer
    table.used += 1
    table.slots[slot] = table.used
