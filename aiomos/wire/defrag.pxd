# Reassembly of IPv4 and IPv6 fragments.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.wire.wire cimport PacketRecord

# What became of a fragment.
cdef enum DefragResult:
    DEFRAG_PENDING = 0             # kept; the datagram is not whole yet
    DEFRAG_COMPLETE = 1            # the last one missing: here is the whole packet
    DEFRAG_DUPLICATE = 2           # had arrived before: nothing of it was kept
    DEFRAG_DROPPED_CUT = 3         # the capture does not hold all of it
    DEFRAG_DROPPED_BAD = 4         # empty, of a size that leaves a hole, or contradicting the datagram's end
    DEFRAG_DROPPED_TOO_BIG = 5     # reaches beyond 65535 bytes
    DEFRAG_DROPPED_OVERLAP = 6     # IPv6: overlaps another (RFC 5722 section 4)
    DEFRAG_DROPPED_TOO_MANY = 7    # one datagram in more fragments than the budget allows
    DEFRAG_DROPPED_MEMORY = 8      # no memory within the budget, or none at all
    DEFRAG_DROPPED_CONDEMNED = 9   # belongs to a datagram dropped before
    DEFRAG_RESULTS = 10

# A run of a datagram's bytes; the runs of one datagram are disjoint and ascending.
ctypedef struct Piece:
    Piece* next
    uint32_t start                 # offset in the datagram of data[0]
    uint32_t end
    const uint8_t* data            # within this allocation; moves when the front is trimmed
    size_t size                    # of this allocation

ctypedef struct Datagram:
    uint64_t key[6]                # addresses; identification, VLAN, IP version, protocol (IPv4 only); tunnel
    Datagram* chain                # next in the hash bucket
    Datagram* older
    Datagram* newer
    int64_t started_ns             # arrival of the first fragment to come
    Piece* pieces
    uint8_t* header                # what goes before the payload, from the fragment at offset 0; NULL until then
    uint32_t header_len
    uint32_t link                  # IPv6: offset in the header of the next-header byte to set
    uint32_t held                  # bytes in pieces
    uint32_t highest               # end of the bytes seen
    uint32_t total                 # payload length, 0 until the last fragment has come
    uint32_t fragments
    uint32_t largest               # of its fragments, as an IP packet
    uint8_t ip_version
    uint8_t proto                  # what the reassembled payload is
    bint condemned                 # dropped: holds nothing, swallows what is still to come

ctypedef struct DefragTable:
    Datagram** buckets
    size_t mask                    # buckets - 1
    Datagram* oldest[2]            # by age, IPv4 and IPv6, whose time-outs differ
    Datagram* newest[2]
    uint64_t key0                  # of the hash
    uint64_t key1
    int policy
    int64_t timeout_ns[2]
    size_t memory_budget           # bytes
    size_t memory                  # bytes in use
    uint32_t datagram_budget
    uint32_t datagrams
    uint32_t fragment_budget       # of one datagram
    uint8_t* output                # the last complete packet
    uint32_t largest               # of the fragments that it came in
    # counters
    uint64_t fragments
    uint64_t started
    uint64_t overlaps
    uint64_t timeouts
    uint64_t evicted
    uint64_t results[DEFRAG_RESULTS]

cdef class Defragmenter:
    cdef DefragTable table
    # Take in one fragment. On DEFRAG_COMPLETE data and captured are a whole IP packet, valid until the next add.
    cdef int add(self, const PacketRecord* packet, const uint8_t** data, size_t* captured) noexcept nogil
    # Give up datagrams whose time has run out; the number given up. Adding does this too, by packet time.
    cdef size_t expire(self, int64_t now_ns) noexcept nogil
