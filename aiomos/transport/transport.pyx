"""Transports: where frames come from as they arrive, and where they go to.

A transport owns descriptors and knows nothing of flows; the runtime waits on it, the engine takes its batches and
gives it frames to send. It is also all that another kind of wire has to be: `Transport` says how.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc

from aiomos.wire.numbers cimport LINKTYPE_ETHERNET
from aiomos.wire.times cimport held_within

cdef class Transport(FrameSource):
    """Take frames from a wire as they come, and send some.

    To make one in Python, give a subclass `fileno`, `receive` and, where frames can be sent, `send`. The transports of
    aiomos do the same natively: `read_batch` fills the batch, and frames are sent without a copy.

    Attributes:
        forwards: For each interface the one by which its frames go on, in line; empty for one that only watches.
        virtual: Whether its time is its own, as that of a simulation: nobody waits for it, `pass_time` moves it on.
        ended: Whether no frame will ever come again.
        clock: The `LiveClock` of the run, to which the times of frames, those of the wall's clock, are brought. None
            where they are those of a clock that `now` tells.
    """

    forwards = ()
    virtual = False
    ended = False

    def __cinit__(self, *args, **kwargs):
        self.heard_by_all = False                  # whoever gave us a frame has given it to nobody else
        self.clock = None if self.virtual else LiveClock()
        self.latest = {}

    def __dealloc__(self):
        free(self.room)

    def fileno(self):
        """Return the descriptor that is readable when frames wait; that of an epoll, where there are several."""
        raise NotImplementedError(f"{type(self).__name__} has no fileno()")

    def receive(self):
        """Return the frames that wait now, some thousand at most, as ``(time_ns, data, interface)``; never block.

        Times are those of `time.time_ns` when they came, in order for each interface: they are brought onto `clock`,
        which is not set as the wall's is.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither receive() nor read_batch()")

    def send(self, frame, interface=0):
        """Send a frame now, and never wait; one that the wire will not take is counted, not raised.

        Args:
            frame: Its bytes, from the link layer on.
            interface: Index of the interface by which it is to leave.

        Returns:
            False if there is no room now. A frame of an app's or the engine's making is then given again, before any
            other of the interface; one that was to pass is not. Anything else: it is done with.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot send")

    def write_fileno(self, interface):
        """Return the descriptor that is writable once an interface has room again; it had none for the last frame.

        Returns:
            None if no descriptor tells: frames are given again after a millisecond.
        """
        return None

    def set_prefilter(self, prefilter):
        """Leave out frames that no app can need, if that is cheaper than to receive them; by default nothing is.

        Args:
            prefilter: Classic BPF, `aiomos.transport.bpf.Program`, that keeps them; None for all frames.
        """

    def now(self):
        """Return its time, in nanoseconds since the epoch; it never runs back, nor leaps as the wall's clock may."""
        if self.clock is None:
            raise NotImplementedError(f"{type(self).__name__} has no clock, and no now() of its own")
        return self.clock.time()

    def pass_time(self, until):
        """Of a virtual transport: let time pass until the next frame arrives, yet not beyond *until*.

        Args:
            until: Nanoseconds since the epoch; None for no bound.
        """
        raise NotImplementedError(f"{type(self).__name__} has no time of its own")

    def statistics(self):
        """Return counters by name; those of the kernel, such as ``received`` and ``dropped``, among them."""
        return {}

    cpdef bint read_batch(self) except -1:
        """Make the frames that wait the current batch, without blocking; the one before is void.

        Returns:
            False when none waits.

        Raises:
            TransportError: the wire is gone for good.
        """
        cdef bytearray data
        cdef size_t count = 0
        cdef Frame* frame
        self.count = 0
        # In line they are written to.
        self.held = [(time_ns, bytearray(frame_bytes), interface) for time_ns, frame_bytes, interface in self.receive()]
        if not self.held:
            return False
        self.reserve(len(self.held))
        for time_ns, data, interface in self.held:
            frame = &self.room[count]
            frame.data = <const uint8_t*> <const char*> data
            frame.caplen = frame.wirelen = <uint32_t> len(data)
            frame.time_ns = held_within(time_ns)
            frame.linktype = self.linktype_of(interface)
            frame.interface = <uint16_t> interface
            frame.offload = NULL
            count += 1
        if self.clock is not None:
            self.bring(count)
        return self.deliver(self.room, count)

    cdef int bring(self, size_t count) except -1:
        cdef size_t i
        cdef int64_t latest_ns
        self.clock.look()
        for i in range(count):
            latest_ns = self.latest.get(self.room[i].interface, INT64_MIN)
            self.clock.bring(&self.room[i], 1, &latest_ns)
            self.latest[self.room[i].interface] = latest_ns
        return 0

    cdef uint16_t linktype_of(self, size_t interface) except? 0:
        if interface < <size_t> len(self.interfaces):
            return self.interfaces[interface].linktype
        return LINKTYPE_ETHERNET

    cdef int reserve(self, size_t count) except -1:
        cdef Frame* room
        if count > self.room_size:
            room = <Frame*> realloc(self.room, count * sizeof(Frame))
            if room == NULL:
                raise MemoryError(f"no memory for a batch of {count} frames")
            self.room, self.room_size = room, count
        return 0

    cdef int send_one(self, bytes data, object interface) except -1:
        cdef Frame frame
        if not 0 <= interface < len(self.interfaces):
            raise ValueError(f"no interface {interface}: there are {len(self.interfaces)}")
        frame.data = <const uint8_t*> <const char*> data
        frame.caplen = frame.wirelen = <uint32_t> len(data)
        frame.time_ns = 0
        frame.linktype = self.linktype_of(interface)
        frame.interface = <uint16_t> interface
        frame.offload = NULL
        if self.send_frames(&frame, 1) == 0:
            self.count_unsent(frame.interface, 1)
        return 0

    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1:
        cdef size_t i
        for i in range(count):
            if self.send(<bytes> frames[i].data[:frames[i].caplen], frames[i].interface) is False:
                return <Py_ssize_t> i
        return <Py_ssize_t> count

    cdef void count_unsent(self, size_t interface, size_t count) noexcept:
        """One in Python knows itself what it has refused."""

    cpdef close(self):
        """Let go of descriptors and memory; the current batch is void. May be called again."""
        FrameSource.close(self)
        self.held = None
