"""Shows pools, slabs and arenas to pytest: what they give out, and that the sanitizer knows what they took back."""

from libc.stdint cimport uint8_t, uint32_t

from aiomos.line.outlet cimport Outlet, new_outlet
from aiomos.poison cimport POISONS, is_poisoned
from aiomos.transport.source cimport FrameSource
from aiomos.wire.pool cimport Pool, pool_at, pool_close, pool_give, pool_open, pool_take
from aiomos.wire.slabs cimport (
    Slabs,
    block_at,
    block_bytes,
    block_give,
    block_take,
    block_waits,
    slabs_close,
    slabs_open,
)

poisons = bool(POISONS)


cdef class Blocks:
    """Slabs of *memory* bytes, driven by hand."""

    cdef Slabs slabs

    def __cinit__(self, size_t memory):
        assert slabs_open(&self.slabs, memory)

    def __dealloc__(self):
        slabs_close(&self.slabs)

    def take(self, length):
        return block_take(&self.slabs, length)

    def give(self, uint32_t name):
        block_give(&self.slabs, name)

    def waits(self, length):
        return block_waits(&self.slabs, length)

    def place(self, uint32_t name):
        """Where a block begins and ends, in bytes from the first."""
        cdef size_t start = block_at(&self.slabs, name) - self.slabs.memory.base
        return start, start + block_bytes(&self.slabs, name)

    def fill(self, uint32_t name, uint8_t byte):
        cdef uint32_t i
        for i in range(block_bytes(&self.slabs, name)):
            block_at(&self.slabs, name)[i] = byte

    def is_filled(self, uint32_t name, uint8_t byte):
        cdef uint32_t i
        for i in range(block_bytes(&self.slabs, name)):
            if block_at(&self.slabs, name)[i] != byte:
                return False
        return True

    def is_poisoned(self, uint32_t name):
        return bool(is_poisoned(block_at(&self.slabs, name)))

    def touch(self, uint32_t name):
        return block_at(&self.slabs, name)[64]

    @property
    def in_use(self):
        """Blocks, their bytes, and slabs."""
        return self.slabs.blocks, self.slabs.bytes, self.slabs.memory.in_use


cdef class Records:
    """A pool of records of *size* bytes."""

    cdef Pool pool

    def __cinit__(self, size_t size, size_t capacity):
        assert pool_open(&self.pool, size, capacity)

    def __dealloc__(self):
        pool_close(&self.pool)

    def take(self):
        return pool_take(&self.pool)

    def give(self, uint32_t index):
        pool_give(&self.pool, index)

    def is_poisoned(self, uint32_t index):
        return bool(is_poisoned(pool_at(&self.pool, index)))

    def touch(self, uint32_t index):
        return (<uint8_t*> pool_at(&self.pool, index))[self.pool.item_size - 1]


def frame_of_the_batch_before(FrameSource source not None):
    """Whether the first frame of a batch is out of bounds while the batch is there, and after the next has come."""
    assert source.read_batch()
    cdef const uint8_t* data = source.frames.data
    cdef bint at_first = is_poisoned(data)
    assert source.read_batch()
    assert source.frames.data != data
    return bool(at_first), bool(is_poisoned(data))


cdef class Ways:
    """The arena of an outlet."""

    cdef Outlet outlet
    cdef uint8_t* taken

    def __cinit__(self):
        self.outlet = new_outlet()

    def take(self, size_t size):
        self.taken = self.outlet.take(size)
        return self.taken != NULL

    def clear(self):
        self.outlet.clear()

    def is_poisoned(self):
        return bool(is_poisoned(self.taken))

    def touch(self):
        return self.taken[0]
