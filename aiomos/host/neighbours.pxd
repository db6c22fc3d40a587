# Neighbours: the MAC address of each IP address on our links, found by ARP and neighbour discovery alike.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.frame cimport Frame, Offload
from aiomos.wire.pool cimport Pool, pool_at
from aiomos.wire.slabs cimport Slabs
from aiomos.wire.wire cimport Address

cdef enum NeighbourState:      # RFC 4861 section 7.3.2, and FAILED
    NEIGHBOUR_INCOMPLETE       # asked for, by multicast or broadcast
    NEIGHBOUR_REACHABLE        # has answered lately, or an upper layer has heard of it
    NEIGHBOUR_STALE            # may still be there
    NEIGHBOUR_DELAY            # is used again: an upper layer may confirm it before it is asked
    NEIGHBOUR_PROBE            # is asked, by unicast
    NEIGHBOUR_FAILED           # has not answered: frames are refused at once, for a second
    NEIGHBOUR_STATES

cdef enum:
    MOST_WAITING_FRAMES = 3    # of one neighbour; the oldest makes way (RFC 4861 section 7.2.2)
    MOST_QUESTIONS = 3         # by multicast, and by unicast (RFC 4861 section 10)
    MOST_FRAME_BYTES = 65536   # that wait of one frame

ctypedef struct NeighbourKey:
    Address address
    uint16_t interface

# A frame that waits, in the table's own memory: this, and its bytes behind.
ctypedef struct WaitingFrame:
    Frame frame
    bint offloaded
    Offload offload
    uint32_t next              # block of the one that came after

ctypedef struct Neighbour:
    uint32_t chain             # next in its bucket; of a record given back the pool's
    uint32_t before            # in the list of its state, the oldest first
    uint32_t after
    uint32_t place             # in the heap of those with a timer, from 1; 0: has none
    NeighbourKey key
    int64_t due_ns
    uint32_t waiting           # block of the first frame that waits; 0: none
    uint8_t waiting_count
    uint8_t state
    uint8_t questions          # that had no answer
    bint is_router
    bint has_mac
    uint8_t mac[6]
    uint16_t source            # in whose name it is asked for: the caller's number

cdef enum NeighbourVerdict:
    NEIGHBOUR_KNOWN            # *mac* is set
    NEIGHBOUR_WAITS            # the frame waits
    NEIGHBOUR_GONE             # it does not answer, or there is no room: the frame is the caller's

# What the table has done by others. They are not to call it back, but for neighbours_find().
ctypedef struct NeighbourCalls:
    void* context
    # Ask for a neighbour: one whose MAC address is known by that, else everybody.
    void (*ask)(void* context, const Neighbour* neighbour) noexcept nogil
    # Send a frame that has waited: its destination MAC address is written in. If that is not known after all, the
    # frame does not leave, and its sender may be told. Its bytes are the table's, and are void after this.
    void (*release)(void* context, const Neighbour* neighbour, const Frame* frame) noexcept nogil

ctypedef struct NeighbourCounters:
    uint64_t asked             # questions
    uint64_t resolved          # neighbours that have answered the first question for them
    uint64_t failed            # that have not answered
    uint64_t evicted           # that made room
    uint64_t full              # that there was no room for
    uint64_t overflowed        # frames that made room for later ones, or that there was no room for

ctypedef struct Neighbours:
    Pool pool
    Slabs slabs                # frames that wait
    uint32_t* buckets
    uint32_t mask
    uint64_t keys[2]
    uint32_t first[6]          # by state: the oldest,
    uint32_t last[6]           # and the youngest
    uint32_t counts[6]
    uint32_t* heap             # of those with a timer, the next due first, from 1 on
    uint32_t heap_count
    uint32_t most_unresolved
    uint64_t random            # xorshift64 state
    NeighbourCalls calls
    NeighbourCounters counters

# Set up for at most so many neighbours and bytes of frames; *key*, 16 secret bytes, keys the hash and the jitter.
cdef bint neighbours_open(Neighbours* n, uint32_t capacity, size_t frame_bytes, const uint8_t* key,
                          const NeighbourCalls* calls) noexcept nogil
cdef void neighbours_close(Neighbours* n) noexcept nogil

# Find the MAC address for a frame to a neighbour, and keep the frame where that is not known yet; *frame* may be NULL.
# Whoever is not known, or was not heard of for long, is asked.
cdef int neighbours_find(Neighbours* n, const NeighbourKey* key, uint16_t source, const Frame* frame, int64_t now_ns,
                         uint8_t* mac) noexcept nogil

# A neighbour has told where it is (RFC 4861 section 7.2.5): *mac* may be NULL. Makes no entry.
cdef void neighbours_told(Neighbours* n, const NeighbourKey* key, const uint8_t* mac, bint solicited, bint override,
                          bint is_router, int64_t now_ns) noexcept nogil
# A neighbour has said where it is with something else, a question mostly (RFC 4861 section 7.2.3, RFC 826); if that was
# for us, *make* an entry, since it will be answered.
cdef void neighbours_heard(Neighbours* n, const NeighbourKey* key, const uint8_t* mac, bint make,
                           int64_t now_ns) noexcept nogil
# An upper layer has heard of a neighbour in answer to what it has sent (RFC 4861 section 7.3.1).
cdef void neighbours_confirm(Neighbours* n, const NeighbourKey* key, int64_t now_ns) noexcept nogil

# Let what is due happen; when that is next, INT64_MAX for never.
cdef void neighbours_pass_time(Neighbours* n, int64_t now_ns) noexcept nogil
cdef int64_t neighbours_next_due(const Neighbours* n) noexcept nogil

# Forget all, asking nobody any more: frames that wait are given back.
cdef void neighbours_clear(Neighbours* n) noexcept nogil

cdef Neighbour* neighbours_lookup(const Neighbours* n, const NeighbourKey* key) noexcept nogil

cdef inline Neighbour* neighbour_at(const Neighbours* n, uint32_t index) noexcept nogil:
    return <Neighbour*> pool_at(&n.pool, index)
