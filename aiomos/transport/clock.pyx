"""The clock of a live run: the wall's when the run began, and monotonic from then on.

The wall's clock is set: by NTP, by hand, by the host of a virtual machine. Time-outs, timers and the order of records
must not go by that. What frames bring, though, was stamped by the wall's clock: by the kernel as they came in, or by a
transport in Python.

Monotonic is CLOCK_MONOTONIC, which stands still while the machine is suspended, as do asyncio's timers and the
kernel's own for connections: upon waking no flow has been idle for longer than it could have been heard.
CLOCK_BOOTTIME would end them all before their next packet.
"""

cimport cython
from libc.stdint cimport INT64_MAX
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, clockid_t, timespec

from aiomos.logging import get_logger

cdef enum:
    SECOND = 1_000_000_000
    STEP_NS = 100_000_000      # what the wall's clock must be off at once for a step,
    SLEW = 8                   # beyond one part in so many, faster than which no daemon slews it
    TRIES = 3                  # to read both clocks without being interrupted,
    CLOSE_NS = 1_000           # which is so if it took no longer than this


cdef inline int64_t read_clock(clockid_t clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t> now.tv_sec * SECOND + now.tv_nsec


@cython.final
cdef class LiveClock:
    """Tell a time that begins with the wall's and never steps.

    Args:
        base_ns: That of another clock, to tell the same time: the monotonic clock is the same in all processes. None to
            begin now.
        wall: What tells the wall's time, instead of CLOCK_REALTIME, in nanoseconds since the epoch.
        monotonic: What tells a monotonic time, instead of CLOCK_MONOTONIC, in nanoseconds.

    Attributes:
        base_ns: What is added to the monotonic time.
        steps: How often the wall's clock was found to have been set.
    """

    def __init__(self, base_ns=None, *, wall=None, monotonic=None):
        if (wall is None) != (monotonic is None):
            raise TypeError("wall and monotonic go together")
        self.wall, self.monotonic = wall, monotonic
        if base_ns is not None:
            self.base_ns = base_ns
        else:
            self.look()                            # from a base of 0: the shift is what the base is to make up for
            self.base_ns, self.steps = -self.shift_ns, 0
        self.shift_ns = self.before_ns = 0
        self.looked_ns = self.time()

    def now(self):
        """Return the time, in nanoseconds since the epoch."""
        return self.time()

    cdef int64_t time(self) except? -1:
        if self.monotonic is not None:
            return <int64_t> self.monotonic() + self.base_ns
        return read_clock(CLOCK_MONOTONIC) + self.base_ns

    cdef int look(self) except -1:
        cdef int64_t early, wall = 0, now, off, took = INT64_MAX, shift_ns = 0
        for _ in range(TRIES):
            early = self.time()
            wall = <int64_t> self.wall() if self.wall is not None else read_clock(CLOCK_REALTIME)
            now = self.time()
            if now - early < took:
                took = now - early
                shift_ns = early + took // 2 - wall
            if took <= CLOSE_NS:
                break
        off = shift_ns - self.shift_ns
        if (off if off > 0 else -off) > STEP_NS + (now - self.looked_ns) // SLEW and self.looked_ns:
            self.steps += 1
            self.before_ns = self.shift_ns
            get_logger("aiomos.transport").warning(
                "clock_stepped", seconds=round(-off * 1e-9, 3), off=round(-shift_ns * 1e-9, 3),
                note="the time of the run goes on as if it had not")
        self.shift_ns, self.looked_ns = shift_ns, now
        return 0

    cdef int64_t brought(self, int64_t stamp_ns) noexcept nogil:
        """Bring a time of the wall's clock onto this one."""
        cdef int64_t now = stamp_ns + self.shift_ns, before = stamp_ns + self.before_ns
        # Either it was stamped since the last step, or before that: the later, unless it is still to come.
        if now > self.looked_ns or now < before <= self.looked_ns:
            now = before
        return now if now <= self.looked_ns else self.looked_ns

    cdef void bring(self, Frame* frames, size_t count, int64_t* latest_ns) noexcept nogil:
        cdef size_t i
        cdef int64_t time_ns
        for i in range(count):
            time_ns = self.brought(frames[i].time_ns)
            if time_ns > latest_ns[0]:
                latest_ns[0] = time_ns
            frames[i].time_ns = latest_ns[0]
