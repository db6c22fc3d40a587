# A hash table of 32-bit names: open addressing over eight-byte slots, each a stored hash and an entry.
#
# An entry is whatever its owner calls a record, 0 aside; the owner compares keys and keeps the hash of what it puts in.
# Growing and removing move slots by their stored hash and touch no record. Linear probing, and the load stays at or
# below one half, so probes end soon; the hash has to be one that whoever sends packets cannot aim (siphash.pxd).
#
#     slot = table_first(&table, hash)
#     while slot.entry and not (slot.hash == hash and <the keys are the same>):
#         slot = table_next(&table, slot)
from libc.stddef cimport size_t
from libc.stdint cimport UINT32_MAX, uint32_t
from libc.stdlib cimport calloc, free

ctypedef struct TableSlot:
    uint32_t hash
    uint32_t entry             # 0: empty

ctypedef struct Table:
    TableSlot* slots           # mask + 1 of them, a power of two
    uint32_t mask
    uint32_t count             # entries; at most mask >> 1

cdef inline bint table_open(Table* table, uint32_t slots) noexcept nogil:
    """Set up an empty table of so many slots, a power of two and at least 4; false when memory cannot be had."""
    table.mask = slots - 1
    table.count = 0
    table.slots = <TableSlot*> calloc(slots, sizeof(TableSlot))
    return table.slots != NULL

cdef inline void table_close(Table* table) noexcept nogil:
    free(table.slots)
    table.slots = NULL
    table.count = 0

cdef inline const TableSlot* table_first(const Table* table, uint32_t hash) noexcept nogil:
    """The slot where a search for a hash begins. It ends at the first one that is empty."""
    return &table.slots[hash & table.mask]

cdef inline const TableSlot* table_next(const Table* table, const TableSlot* slot) noexcept nogil:
    """The slot behind one; behind the last stands the first."""
    return &table.slots[<uint32_t> (slot - table.slots + 1) & table.mask]

cdef inline void table_place(TableSlot* slots, uint32_t mask, uint32_t hash, uint32_t entry) noexcept nogil:
    """Put an entry into the first free slot from its home on; there is one."""
    cdef uint32_t at = hash & mask
    while slots[at].entry:
        at = (at + 1) & mask
    slots[at].hash = hash
    slots[at].entry = entry

cdef inline bint table_reserve(Table* table, uint32_t entries) noexcept nogil:
    """Have room for so many more entries, 1 or 2, twice the slots if need be; false when memory cannot be had."""
    cdef size_t size = (<size_t> table.mask + 1) * 2, at
    cdef TableSlot* slots
    if <size_t> table.count + entries <= table.mask >> 1:
        return True
    if table.mask == UINT32_MAX:
        return False
    slots = <TableSlot*> calloc(size, sizeof(TableSlot))
    if slots == NULL:
        return False
    for at in range(<size_t> table.mask + 1):
        if table.slots[at].entry:
            table_place(slots, <uint32_t> (size - 1), table.slots[at].hash, table.slots[at].entry)
    free(table.slots)
    table.slots = slots
    table.mask = <uint32_t> (size - 1)
    return True

cdef inline void table_insert(Table* table, uint32_t hash, uint32_t entry) noexcept nogil:
    """Put in an entry that is not in the table; table_reserve() has made room for it."""
    table_place(table.slots, table.mask, hash, entry)
    table.count += 1

cdef inline void table_remove(Table* table, uint32_t hash, uint32_t entry) noexcept nogil:
    """Take out an entry that is in the table, put in under this hash."""
    cdef uint32_t mask = table.mask, hole = hash & mask, at, home
    while table.slots[hole].entry != entry:
        hole = (hole + 1) & mask
    # Close the hole: pull back every later slot of the run whose home is not beyond it (Knuth 6.4, algorithm R).
    at = (hole + 1) & mask
    while table.slots[at].entry:
        home = table.slots[at].hash & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            table.slots[hole] = table.slots[at]
            hole = at
        at = (at + 1) & mask
    table.slots[hole].entry = 0
    table.count -= 1
