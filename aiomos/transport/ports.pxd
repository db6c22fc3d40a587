# The ends of a wire that frames come in by and leave by.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint64_t

from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame

cdef enum:
    # Bytes before and behind each received frame that may be written to, so that its headers can grow.
    HEADROOM = 64
    TAILROOM = 64

# Why a frame did not leave.
cdef enum Unsent:
    UNSENT_QUEUE_FULL      # the interface's queue, or the memory for sending, was used up
    UNSENT_TOO_LONG        # longer than its MTU
    UNSENT_DOWN            # it is down
    UNSENT_GONE            # it was removed
    UNSENT_REFUSED         # the kernel makes no sense of the frame or of its Offload
    UNSENT_CAUSES

ctypedef struct PortCounters:
    uint64_t received      # as the kernel counts
    uint64_t dropped
    uint64_t bytes         # of what was read
    uint64_t truncated     # longer than there was room for, not read
    uint64_t sent
    uint64_t sent_bytes
    uint64_t segmented     # super-segments that were cut here
    uint64_t unsent[<int> UNSENT_CAUSES]
    uint64_t outages

cdef class Port:
    cdef readonly str interface
    cdef readonly uint16_t linktype
    cdef PortCounters counters
    cdef int64_t latest_ns     # the latest time of its frames
    cdef bint tells_room       # its descriptor is writable once there is room again for the frame it had none for

    # Receive frames that wait, in order; those of the call before are void. Their bytes may be written to.
    cdef size_t receive_frames(self, Frame* frames, size_t room) noexcept nogil
    # Send frames in order, as Transport.send_frames does.
    cdef size_t send_frames(self, const Frame* frames, size_t count) noexcept nogil
    # Asked when nothing waits and the interface may have changed: clear what keeps the descriptor readable. False once
    # the interface is gone.
    cdef bint still_there(self) except -1
    cdef int update_counters(self) except -1
    # Count a frame by the errno of the call that was to send it. False, and not counted: there is no room for it now.
    cdef bint is_lost(self, int error) noexcept nogil
    cdef void count_full(self, size_t count) noexcept nogil

# Is an errno that of a call that was to send, and found no room?
cdef bint has_no_room(int error) noexcept nogil

cdef class PortTransport(Transport):
    cdef readonly tuple ports
    cdef readonly tuple fragment_ports  # those by which all workers hear fragments, of the same interfaces; mostly none
    cdef readonly bint ended
    cdef Frame* run            # frames of one port, to be merged with those of the others
    cdef size_t turn           # port to start the next batch with
    cdef bint quiet            # nothing waited when last looked
    cdef object poll           # LinkPoll over the ports

    cdef size_t take_from(self, tuple ports) except? 0
    cdef int _look_around(self) except -1
