"""Shows the hash table to pytest: under hashes that the test chooses, so that they collide."""

from libc.stdint cimport UINT32_MAX, uint32_t

from aiomos.wire.table cimport (
    Table, TableSlot, table_close, table_first, table_insert, table_next, table_open, table_remove, table_reserve)


cdef class Hashed:
    """A table whose entries are numbers of keys, from 1 on in the order in which they were put in."""

    cdef Table table
    cdef list keys

    def __cinit__(self, uint32_t slots=4):
        assert table_open(&self.table, slots)
        self.keys = [None]

    def __dealloc__(self):
        table_close(&self.table)

    def __len__(self):
        return self.table.count

    def insert(self, uint32_t hash, key):
        """Put in a key that is not there; its entry."""
        assert table_reserve(&self.table, 1)
        self.keys.append(key)
        table_insert(&self.table, hash, len(self.keys) - 1)
        return len(self.keys) - 1

    def find(self, uint32_t hash, key):
        """The entry of a key, 0 when there is none; and how many slots were read."""
        cdef const TableSlot* slot = table_first(&self.table, hash)
        read = 1
        while slot.entry and not (slot.hash == hash and self.keys[slot.entry] == key):
            slot = table_next(&self.table, slot)
            read += 1
        return slot.entry, read

    def remove(self, uint32_t hash, uint32_t entry):
        table_remove(&self.table, hash, entry)

    def reserve(self, uint32_t entries):
        """Have room for so many more."""
        return table_reserve(&self.table, entries)

    @property
    def slots(self):
        """What stands in each slot: ``(hash, entry)``, entry 0 for nothing."""
        return [(self.table.slots[at].hash, self.table.slots[at].entry) for at in range(self.table.mask + 1)]


def largest_reserves(uint32_t count, uint32_t entries):
    """Has a table as large as can be, with *count* entries, room for more? It has no slots to look at."""
    cdef Table table
    table.slots, table.mask, table.count = NULL, UINT32_MAX, count
    return table_reserve(&table, entries)
