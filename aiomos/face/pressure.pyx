"""Back-pressure: what nobody has read yet, and whether the engine waits for those who are to read it.

All streams share a `Pressure`. It tells the pump when to stop feeding the engine until slow handlers have caught up
(docs/design/back-pressure.md).
"""

from libc.stdint cimport int64_t, uint64_t


cdef class Pressure:
    """Unread bytes of all streams, and whether the pump has to wait for their readers.

    A stream beyond its limit holds the pump back as long as its handler is busy elsewhere. A handler that itself waits
    for the engine (for the other half, for the end, for the engine's clock) could never catch up if the
    engine waited for it; its unread bytes may grow to ``HARD`` limits. A half that was beyond them when readers
    last had their turn gets no more until it is read: what comes is a gap. Where the engine waits for nobody, as live
    it cannot, that is so beyond one limit.

    Args:
        half_limit: Unread bytes of one half at which its reader is slow.
        total_limit: Unread bytes of all halves at which readers are slow.
        waits: Whether the engine waits for slow readers.
    """

    HARD = 16

    def __cinit__(self, half_limit, total_limit, waits=True):
        self.half_limit = half_limit
        self.total_limit = total_limit
        self.waits = waits
        self.slow = set()

    cpdef bint holds_back(self):
        """Whether the engine is not to be fed now."""
        if self.sleepers:
            return False
        for reader in self.slow:
            if not reader.needs_engine():
                return True
        return False

    def hold(self, reader):
        """Note that a reader is slow: what has ``needs_engine()``, which tells whether waiting for it is any use."""
        self.slow.add(reader)

    def let_go(self, reader):
        """Note that a reader has caught up."""
        if reader in self.slow:
            self.slow.discard(reader)
            self.check()

    def next_turn(self):
        """Note that readers have had their turn since the last batch."""
        self.turn += 1
        self.left_over = self.weight()

    cdef uint64_t weight(self):
        return self.total + ITEM_COST * self.queued

    def sleeper(self, delta):
        """Count a task that begins (1) or ends (-1) waiting for the engine's clock."""
        self.sleepers += <int64_t> delta
        self.check()

    cpdef void check(self):
        """Have the pump look again."""
        if is_pending(self.waiter):
            self.waiter.set_result(None)
