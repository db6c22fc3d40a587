"""Shows the timer wheel to pytest, over records of its own."""

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from aiomos.wire.wheel cimport (
    FEWEST_WHEEL_SLOTS, MOST_WHEEL_SLOTS, WHEEL_UNLINKED, Wheel, WheelLink, wheel_close, wheel_due, wheel_first,
    wheel_link, wheel_link_of, wheel_next_ns, wheel_open, wheel_rests_until, wheel_start, wheel_unlink)

NEVER, AT_ONCE = INT64_MAX, INT64_MIN
BOUNDS = FEWEST_WHEEL_SLOTS, MOST_WHEEL_SLOTS

ctypedef struct Record:
    uint64_t before
    WheelLink link
    uint64_t after             # neither is the wheel's


cdef class Turning:
    """A wheel over so many records, numbered from 1 on.

    Raises:
        ValueError: it cannot be opened so.
    """

    cdef Wheel wheel
    cdef Record* records
    cdef uint32_t count

    def __cinit__(self, int64_t step_ns, uint32_t slots, uint32_t count=100):
        cdef uint32_t index
        self.records = <Record*> calloc(count + 1, sizeof(Record))
        self.count = count
        if not wheel_open(&self.wheel, step_ns, slots, &self.records[0].link, sizeof(Record)):
            raise ValueError("no such wheel")
        for index in range(count + 1):
            self.records[index].before = self.records[index].after = index * <uint64_t> 0x0101010101010101
            self.records[index].link.slot = WHEEL_UNLINKED

    def __dealloc__(self):
        wheel_close(&self.wheel)
        free(self.records)

    def start(self, int64_t now_ns):
        wheel_start(&self.wheel, now_ns)

    def link(self, uint32_t index, int64_t deadline_ns):
        wheel_link(&self.wheel, index, deadline_ns)

    def unlink(self, uint32_t index):
        wheel_unlink(&self.wheel, index)

    def due(self, int64_t now_ns):
        return wheel_due(&self.wheel, now_ns)

    @property
    def first(self):
        return wheel_first(&self.wheel)

    @property
    def next_ns(self):
        return wheel_next_ns(&self.wheel)

    @property
    def rests_until(self):
        return wheel_rests_until(&self.wheel)

    @property
    def lists(self):
        """The records in each slot that holds some; raises where links, marks and bits contradict one another."""
        cdef uint32_t slot, index, previous, linked = 0
        cdef WheelLink* link
        found = {}
        for slot in range(self.wheel.mask + 1):
            index, previous = self.wheel.heads[slot], 0
            assert bool(self.wheel.occupied[slot >> 6] >> (slot & 63) & 1) == (index != 0), slot
            while index:
                link = wheel_link_of(&self.wheel, index)
                assert (link.slot, link.prev) == (slot, previous), index
                found.setdefault(slot, []).append(index)
                linked += 1
                previous, index = index, link.next
        assert linked == self.wheel.linked
        for index in range(self.count + 1):
            assert self.records[index].before == self.records[index].after == index * <uint64_t> 0x0101010101010101
        return found
