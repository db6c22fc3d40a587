# Frames of one half that arrived beyond a hole, kept until it is filled: in order of their sequence numbers.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t

from aiomos.line.sessions cimport SessionMatch
from aiomos.wire.frame cimport Frame, Offload

cdef enum:
    MOST_WAITING = 1024        # of a half: bounds every walk

# A frame as it was when it had come to its flow, and what was known of it by then.
ctypedef struct Waiting:
    Waiting* next
    uint32_t seq
    uint32_t end               # one past its bytes and FIN
    Frame frame                # its bytes lie behind this record
    Offload offload            # what frame.offload leads to, if anywhere
    bint known                 # PacketRecord.known
    bint turned_back           # it leaves by the interface it came in by
    bint replies               # it was translated as a reply of a session,
    SessionMatch match         # this one,
    int64_t begun_ns           # which began then
    uint32_t most              # if put together from fragments: what those may have; else 0
    uint32_t fragment_id

ctypedef struct WaitingQueue:
    Waiting* head
    Waiting* tail
    uint32_t count
    uint32_t bytes             # memory

# What a frame costs in memory.
cdef size_t waiting_cost(const Frame* frame) noexcept nogil
# A record with a copy of a frame; NULL without memory.
cdef Waiting* waiting_make(const Frame* frame, uint32_t seq, uint32_t end) noexcept nogil
# Put a record into its place; false, it being given up, if there is one that has all of it, or there are too many.
cdef bint waiting_put(WaitingQueue* queue, Waiting* waiting) noexcept nogil
# The first, out of the queue, if it begins at or before a number; else NULL. To be given up by free().
cdef Waiting* waiting_take(WaitingQueue* queue, uint32_t nxt) noexcept nogil
# Give all up; how many there were.
cdef uint32_t waiting_clear(WaitingQueue* queue) noexcept nogil
