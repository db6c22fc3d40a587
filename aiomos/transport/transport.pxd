# What every transport looks like that takes frames from a wire as they come, and sends some.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t

from aiomos.transport.clock cimport LiveClock
from aiomos.transport.source cimport FrameSource
from aiomos.wire.frame cimport Frame

cdef class Transport(FrameSource):
    cdef bint by_interface             # it sends best what has those of one interface after those of another
    cdef list held                     # bytes of a batch that was received as Python objects
    cdef Frame* room                   # its frames
    cdef size_t room_size
    cdef public LiveClock clock        # to which the times of its frames are brought; None: they are as they are to be
    cdef dict latest                   # times that a transport in Python has had, by interface

    # Bring the times of frames that a transport in Python has received onto the clock.
    cdef int bring(self, size_t count) except -1

    cdef uint16_t linktype_of(self, size_t interface) except? 0
    cdef int reserve(self, size_t count) except -1

    # Send one frame of bytes through send_frames(); for send() of a native transport.
    cdef int send_one(self, bytes data, object interface) except -1

    # Send frames in order, each by its `interface`, and never wait for room; their bytes are borrowed until this
    # returns. Returns how many the wire took: all that were before the first it has no room for. That one is the first
    # of its interface to be offered the next time, unless it is given up by count_unsent(). One that the wire will
    # never take, such as one longer than its MTU, is counted, and taken.
    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1

    # Frames for which an interface had no room will not be offered again: count them.
    cdef void count_unsent(self, size_t interface, size_t count) noexcept
