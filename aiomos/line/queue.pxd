# Frames of our making for which a wire had no room: copies, in order, until it takes them.
from libc.stddef cimport size_t

from aiomos.wire.frame cimport Frame, Offload

cdef enum:
    MOST_QUEUED = 4096                 # frames that wait for one interface, at most,
    MOST_QUEUED_BYTES = 4 << 20        # and their bytes

ctypedef struct Queued:
    Queued* next
    Frame frame                        # its bytes lie behind this record
    Offload offload                    # what frame.offload leads to, if anywhere

# All that leaves by one interface.
ctypedef struct SendQueue:
    Queued* head
    Queued* tail
    size_t frames                      # that wait,
    size_t bytes                       # and theirs
    size_t new_frames                  # of our making, which the wire has not been offered yet,
    size_t new_bytes                   # and theirs
    bint full                          # the wire had no room when it was last offered a frame
    bint asked                         # since then somebody has asked for room

# Put a copy of a frame at the end; false, it being lost, beyond what may wait, or without memory.
cdef bint queue_put(SendQueue* queue, const Frame* frame) noexcept nogil
# The first frames, not taken out; how many there are.
cdef size_t queue_peek(const SendQueue* queue, Frame* out, size_t room) noexcept nogil
# The first are done with.
cdef void queue_drop(SendQueue* queue, size_t count) noexcept nogil
