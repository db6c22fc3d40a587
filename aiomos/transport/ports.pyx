"""Ports, the ends of a wire that frames come in by and leave by, and transports made of them."""

from libc.errno cimport EAGAIN, EBADFD, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV, ENOMEM, ENXIO
from libc.stdint cimport uint16_t
from libc.stdlib cimport calloc, free

from aiomos.errors import TransportError
from aiomos.transport.interfaces import live_interface
from aiomos.transport.links import LinkPoll

from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame

cdef enum:
    # Frames of a batch: few enough that what comes in late waits less than half a millisecond.
    BATCH = 512

TOTALS = ("received", "dropped", "bytes", "truncated", "sent", "sent_bytes", "segmented", "unsent", "outages")
CAUSES = ("queue_full", "too_long", "down", "gone", "refused")


cdef class Port:
    """One end of a wire; opened by its subclasses, and read by the transport that it is given to.

    Attributes:
        interface: Name of the interface.
        linktype: LINKTYPE_ number of its frames.
    """

    def fileno(self):
        """Return the descriptor that is readable when frames wait."""
        raise NotImplementedError(f"{type(self).__name__} has no fileno()")

    def close(self):
        """Let go of the interface and of the memory of frames; may be called again."""

    cdef size_t receive_frames(self, Frame* frames, size_t room) noexcept nogil:
        return 0

    cdef size_t send_frames(self, const Frame* frames, size_t count) noexcept nogil:
        return count

    cdef bint still_there(self) except -1:
        return True

    cdef int update_counters(self) except -1:
        return 0

    cdef bint is_lost(self, int error) noexcept nogil:
        cdef Unsent cause = UNSENT_REFUSED
        if has_no_room(error):
            self.tells_room = error == EAGAIN      # else a queue behind the socket is full, which tells nobody
            return False
        if error == EMSGSIZE:
            cause = UNSENT_TOO_LONG
        elif error == ENETDOWN or error == EIO:
            cause = UNSENT_DOWN
        elif error == ENXIO or error == ENODEV or error == EBADFD:
            cause = UNSENT_GONE
        self.counters.unsent[<int> cause] += 1
        return True

    cdef void count_full(self, size_t count) noexcept nogil:
        """Frames for which there was no room are given up."""
        self.counters.unsent[<int> UNSENT_QUEUE_FULL] += count

    def statistics(self):
        """Return counters by name.

        ``received`` and ``dropped`` frames are the kernel's counts: given to us, and lost because too many waited.
        ``truncated`` ones were longer than there is room for and went no further, ``segmented`` ones were cut
        here because the wire does not take super-segments. ``unsent`` frames are counted by cause, too:
        ``unsent_queue_full``, ``unsent_too_long`` (for the MTU), ``unsent_down``, ``unsent_gone`` (interface),
        ``unsent_refused`` (by the kernel, as malformed). ``outages`` says how often the interface went down.
        """
        self.update_counters()
        counters = self.counters
        causes = {f"unsent_{cause}": counters.unsent[place] for place, cause in enumerate(CAUSES)}
        counts = (counters.received, counters.dropped, counters.bytes, counters.truncated, counters.sent,
                  counters.sent_bytes, counters.segmented, sum(causes.values()), counters.outages)
        return dict(zip(TOTALS, counts, strict=True)) | causes


cdef bint has_no_room(int error) noexcept nogil:
    return error == EAGAIN or error == ENOBUFS or error == ENOMEM


cdef void merge(Frame* merged, size_t count, const Frame* run, size_t more) noexcept nogil:
    """Merge a run of frames into those before it, behind which there is room; all are in order of time."""
    cdef size_t place = count + more
    while more > 0:
        place -= 1
        if count > 0 and merged[count - 1].time_ns > run[more - 1].time_ns:
            count -= 1
            merged[place] = merged[count]
        else:
            more -= 1
            merged[place] = run[more]


cdef class PortTransport(Transport):
    """A transport over ports, whose place among them is the index of their interface.

    Args:
        ports: The ports; closed together with the transport.
        fragment_ports: Of several workers that share the interfaces out: further ports of the same, by which all of
            them hear the fragments that those of *ports* leave out.
    """

    def __cinit__(self, *args, **kwargs):
        self.ports = self.fragment_ports = ()
        self.by_interface = True
        self.reserve(BATCH)
        self.run = <Frame*> calloc(BATCH, sizeof(Frame))
        if self.run == NULL:
            raise MemoryError(f"no memory for a batch of {BATCH} frames")

    def __init__(self, ports, fragment_ports=()):
        cdef Port port
        if self.ports:
            raise RuntimeError(f"a {type(self).__name__} cannot be initialised twice")
        self.ports = tuple([<Port?> given for given in ports])
        self.fragment_ports = tuple([<Port?> given for given in fragment_ports])
        self.poll = LinkPoll()
        for port in self.ports:
            self.interfaces.append(live_interface(port.interface, port.linktype))
        for port in (*self.ports, *self.fragment_ports):
            self.poll.register(port.fileno())

    def __dealloc__(self):
        free(self.run)

    def fileno(self):
        """Return the descriptor that is readable when frames wait: that of an epoll."""
        return self.poll.fileno()

    cpdef bint read_batch(self) except -1:
        """Make the frames that wait the current batch, some of each port in order of time; the one before is void.

        Returns:
            False when none waits.

        Raises:
            TransportError: an interface was removed.
        """
        cdef size_t count = 0
        self.count = 0
        if self.ended:
            return False
        # Each kind has its turn, so that one does not keep the other waiting.
        self.heard_by_all = len(self.fragment_ports) > 0 and self.turn & 1
        if self.heard_by_all:
            count = self.take_from(self.fragment_ports)
            self.heard_by_all = count > 0
        if count == 0:
            count = self.take_from(self.ports)
        if count == 0 and self.fragment_ports:
            count = self.take_from(self.fragment_ports)
            self.heard_by_all = count > 0
        if count > 0:
            self.turn += 1
            self.quiet = False
            return self.deliver(self.room, count)
        # Woken up, and there is nothing: only then it is worth asking why.
        if self.quiet:
            self._look_around()
        self.quiet = True
        return False

    cdef size_t take_from(self, tuple ports) except? 0:
        """Take the frames that wait at ports, some of each in order of time; how many there are."""
        cdef size_t count = 0, more, number, place, all_ports = len(ports)
        cdef Port port
        for place in range(all_ports):
            number = (self.turn + place) % all_ports
            port = <Port> ports[number]
            # The last ones may use what the first left.
            more = port.receive_frames(self.run, (BATCH - count) // (all_ports - place))
            set_interface(self.run, more, <uint16_t> number)
            if more > 0 and self.clock is not None:
                self.clock.look()
                self.clock.bring(self.run, more, &port.latest_ns)
            merge(self.room, count, self.run, more)
            count += more
        return count

    cdef int _look_around(self) except -1:
        """See what makes the epoll readable without frames: an interface went down or away."""
        cdef Port port
        suspects = self.poll.suspects()
        for port in (*self.ports, *self.fragment_ports):
            if port.fileno() in suspects and not port.still_there():
                self.ended = True
                raise TransportError(f"{port.interface}: the interface was removed; start again once it is back")
        return 0

    def send(self, frame, interface=0):
        """Send a frame now; one that the wire does not take is counted, not raised.

        Args:
            frame: Its bytes, from the link layer on.
            interface: Index of the interface by which it is to leave.
        """
        self.send_one(bytes(frame), interface)

    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1:
        cdef Port port
        cdef size_t i = 0, run, taken
        while i < count:
            run = run_of(frames + i, count - i)
            if frames[i].interface < <size_t> len(self.ports):  # else it leads nowhere
                port = <Port> self.ports[frames[i].interface]
                with nogil:
                    taken = port.send_frames(frames + i, run)
                if taken < run:
                    return <Py_ssize_t> (i + taken)
            i += run
        return <Py_ssize_t> count

    cdef void count_unsent(self, size_t interface, size_t count) noexcept:
        if interface < <size_t> len(self.ports):
            (<Port> self.ports[interface]).count_full(count)

    def write_fileno(self, interface):
        """Return the descriptor of a port that is writable once it has room again; None if nothing tells."""
        cdef Port port = self.ports[interface]
        return port.fileno() if port.tells_room else None

    def statistics(self):
        """Return counters by name, those of `Port.statistics`: sums; of several ports also each as ``NAME.counter``."""
        cdef Port port
        totals = {}
        each = {}
        for port in (*self.ports, *self.fragment_ports):
            for counter, count in port.statistics().items():
                name = f"{port.interface}.{counter}"
                totals[counter] = totals.get(counter, 0) + count
                each[name] = each.get(name, 0) + count
        return totals | each if len(self.ports) > 1 else totals

    cpdef close(self):
        """Close the ports; the current batch is void. May be called again; counters can still be asked for."""
        Transport.close(self)
        self.ended = True
        if self.poll is not None:
            self.poll.close()
        for port in (*self.ports, *self.fragment_ports):
            port.close()


cdef inline size_t run_of(const Frame* frames, size_t count) noexcept nogil:
    """How many frames, from the first on, leave by the same interface."""
    cdef size_t i
    for i in range(1, count):
        if frames[i].interface != frames[0].interface:
            return i
    return count


cdef inline void set_interface(Frame* frames, size_t count, uint16_t number) noexcept nogil:
    cdef size_t i
    for i in range(count):
        frames[i].interface = number
