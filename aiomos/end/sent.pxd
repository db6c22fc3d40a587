# What an end has sent and not yet seen acknowledged: a record for each stretch that left together.
#
# A record is in the list and the tree of all records, by sequence number; and, by what is known of it:
#   in flight (not SACKed, and not lost or sent again since)   in the list by time of latest transmission
#   lost, and not sent again since                             in the tree of lost ones
#   SACKed                                                     in neither; two of these are never neighbours
from libc.stdint cimport int64_t, uint32_t

from aiomos.wire.pool cimport Pool, pool_at
from aiomos.wire.seq cimport seq_lt

cdef enum:
    SENT_SYN = 1               # its first number is a SYN's
    SENT_FIN = 2               # its last number is a FIN's
    SENT_SACKED = 4
    SENT_LOST = 8              # stays when it is sent again, until it arrives
    SENT_AGAIN = 16            # sent again, and that is not lost yet
    SENT_EVER_AGAIN = 32       # was sent more than once: no RTT by it (Karn)
    SENT_LIMITED = 64          # when it was sent the application had no more

cdef enum:                     # in Sent.links
    BY_SEQ = 0                 # left, right in the tree of all
    BY_LOSS = 2                # left, right in the tree of lost ones; or
    OLDER = 2                  # neighbours in the list by time
    NEWER = 3

ctypedef struct Sent:
    uint32_t next              # by sequence number; 0: none
    uint32_t prev
    uint32_t[4] links
    uint32_t seq               # the stretch [seq, end): SYN and FIN count one each
    uint32_t end
    uint32_t segments
    uint32_t delivered         # Scoreboard.delivered, and the two times below, when it was sent
    uint32_t flags
    int64_t sent_ns            # latest transmission; the list by time rises, but for parts of one
    int64_t first_sent_ns
    int64_t delivered_ns

cdef inline Sent* sent_at(const Pool* pool, uint32_t index) noexcept nogil:
    return <Sent*> pool_at(pool, index)

cdef inline bint sent_after(int64_t ns_a, uint32_t end_a, int64_t ns_b, uint32_t end_b) noexcept nogil:
    """Was the stretch to *end_a* sent after that to *end_b*? RFC 8985 section 6.2 step 2, RACK_sent_after()."""
    return ns_a > ns_b or (ns_a == ns_b and seq_lt(end_b, end_a))
