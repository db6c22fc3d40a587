# Counts of what is not read, by the numbers it goes by: as many different ones as there is room for, and the rest.
from libc.stdint cimport uint8_t, uint16_t, uint64_t

cdef enum:
    UNREAD_NUMBERS = 256
    UNREAD_SLOTS = 512         # a power of two, and more than there are numbers

ctypedef struct UnreadNumber:
    uint64_t number
    uint64_t count             # frames
    uint8_t layer              # layers.Layer

ctypedef struct UnreadTable:
    UnreadNumber numbers[UNREAD_NUMBERS]       # in the order in which they were first seen
    uint16_t slots[UNREAD_SLOTS]               # 1 and up: which of them; 0 for none
    uint16_t used
    uint64_t other                             # frames of numbers for which there was no room

# Count one more frame. The table is empty when it is all zeros.
cdef void unread_add(UnreadTable* table, uint8_t layer, uint64_t number) noexcept nogil
