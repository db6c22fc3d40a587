"""Links of a simulation on a real wire: a bridge that delays and loses frames."""

cimport cython
from libc.errno cimport errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from posix.time cimport CLOCK_MONOTONIC, itimerspec
from posix.unistd cimport close as close_descriptor

import heapq
import os
import select
import time

from aiomos.transport.sim import Wire

from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame

cdef extern from "<sys/timerfd.h>" nogil:
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC
        TFD_TIMER_ABSTIME
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int descriptor, int flags, const itimerspec* new, itimerspec* old)

cdef enum:
    SECOND = 1000000000


@cython.final
cdef class Delayed:
    """A frame that is on its way."""

    cdef int take(self, const Frame* frame, bytes data) except -1:
        """Copy a frame, with its bytes as they arrive."""
        self.data = data
        self.frame = frame[0]
        self.frame.data = <const uint8_t*> <const char*> self.data
        if frame.offload != NULL:
            self.offload = frame.offload[0]
            self.frame.offload = &self.offload
        return 0


@cython.final
cdef class Impaired(Transport):
    """Send what another transport sends, but over links: late, lost, in other order, twice.

    The engine sees frames as they come in; they are impaired as they leave. A super-segment of segmentation offload is
    one frame here, lost or late as a whole, and longer than an MTU: switch the offloads off to have a link act on what
    would be on a wire. Outages are counted from when this was made.

    Args:
        transport: Where frames come from, and go to; it is closed with this one.
        links: The `Link` of each of its interfaces, for what leaves by it.
        seed: Of what is random. The times at which frames come are the world's, so nothing is repeated exactly.

    Attributes:
        transport: The other transport.
        wires: The `Wire` of each interface, with its counts.
    """

    def __cinit__(self, Transport transport not None, *links, seed=0):
        self.timer = -1
        if len(links) != len(transport.interfaces):
            raise ValueError(f"{len(transport.interfaces)} interfaces need as many links, not {len(links)}")
        self.transport = transport
        self.clock = None                          # frames have the other's time
        self.interfaces = transport.interfaces
        now_ns = time.monotonic_ns()
        self.wires = tuple(Wire(link, f"{seed}/{number}", now_ns) for number, link in enumerate(links))
        self.on_the_way = []
        self.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.timer < 0:
            raise OSError(errno, f"timerfd_create: {os.strerror(errno)}")
        self.waiter = select.epoll()
        self.waiter.register(self.timer, select.EPOLLIN)
        self.waiter.register(transport.fileno(), select.EPOLLIN)

    def __dealloc__(self):
        if self.timer >= 0:
            close_descriptor(self.timer)

    @property
    def forwards(self):
        """For each interface the one by which its frames go on."""
        return self.transport.forwards

    @property
    def ended(self):
        """Whether no frame will ever come again, and none is on its way."""
        return self.transport.ended and not self.on_the_way

    def fileno(self):
        """Return the descriptor of an epoll: readable when frames wait, or some on their way are due."""
        return self.waiter.fileno()

    cpdef bint read_batch(self) except -1:
        """Send what is due; then make the frames that wait the current batch, without blocking."""
        self.count = 0
        self.send_due()
        if not self.transport.read_batch():
            return False
        return self.deliver(self.transport.frames, self.transport.count)

    def send(self, frame, interface=0):
        """Send a frame by a link."""
        self.send_one(bytes(frame), interface)

    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1:
        cdef size_t i
        for i in range(count):
            self.carry(&frames[i])
        self.send_due()
        return <Py_ssize_t> count

    cdef int carry(self, const Frame* frame) except -1:
        """Put a copy of a frame on its way, or none, or two."""
        cdef Delayed delayed
        wire = self.wires[frame.interface]
        for due_ns, data in wire.convey(time.monotonic_ns(), <bytes> frame.data[:frame.caplen]):
            delayed = Delayed()
            delayed.take(frame, data)
            heapq.heappush(self.on_the_way, (due_ns, self.ticket, delayed))
            self.ticket += 1
        return 0

    cdef int send_due(self) except -1:
        """Send what has come to the end of its way, and set the timer for what comes next."""
        cdef Delayed delayed
        cdef int64_t now_ns = time.monotonic_ns()
        while self.on_the_way and self.on_the_way[0][0] <= now_ns:
            delayed = heapq.heappop(self.on_the_way)[2]
            if self.transport.send_frames(&delayed.frame, 1) == 0:
                self.transport.count_unsent(delayed.frame.interface, 1)  # a link keeps nothing at its end
        self.arm()
        return 0

    cdef int arm(self) except -1:
        """Have the timer ring when the next frame is due, or not at all; that it has rung is forgotten."""
        cdef itimerspec when
        cdef int64_t due_ns = self.on_the_way[0][0] if self.on_the_way else 0
        if due_ns == self.armed_ns:
            return 0
        when.it_interval.tv_sec = when.it_interval.tv_nsec = 0
        when.it_value.tv_sec = due_ns // SECOND
        when.it_value.tv_nsec = due_ns % SECOND
        if timerfd_settime(self.timer, TFD_TIMER_ABSTIME, &when, NULL) < 0:
            raise OSError(errno, f"timerfd_settime: {os.strerror(errno)}")
        self.armed_ns = due_ns
        return 0

    def now(self):
        """Return the other transport's time, in nanoseconds since the epoch."""
        return self.transport.now()

    def statistics(self):
        """Return the other transport's counters, and those of the links: ``link0_lost`` of that at interface 0."""
        counters = dict(self.transport.statistics())
        for number, wire in enumerate(self.wires):
            counters.update({f"link{number}_{name}": count for name, count in wire.counts.items()})
        return counters

    cpdef close(self):
        """Let go of descriptors and memory; what is on its way is lost. May be called again."""
        Transport.close(self)
        self.on_the_way = []
        self.waiter.close()
        if self.timer >= 0:
            close_descriptor(self.timer)
            self.timer = -1
        self.transport.close()
