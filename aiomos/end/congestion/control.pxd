# How much may be in flight, in segments, as Linux counts: docs/design/congestion.md.
#
# congestion_begin() when a connection is set up; congestion_sent() after each sending; congestion_acked() for each ACK
# of new data while recovery does not govern cwnd; congestion_reduce() when recovery begins, which then lowers cwnd to
# what that says; congestion_idle() before something is sent while nothing is in flight; congestion_undone() when a
# reduction has turned out to be wrong, cwnd and ssthresh having been put back.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint8_t

from aiomos.end.congestion.state cimport Acked, Congestion

# A name such as "cubic" (*name* of *n* bytes) is that of an algorithm; ALGORITHMS where there is none.
cdef uint8_t algorithm_named(const char* name, size_t n) noexcept nogil
cdef const char* algorithm_name(uint8_t algorithm) noexcept nogil

# *mss* is that of data; *syn_losses*: how often the SYN or SYN-ACK was sent again.
cdef void congestion_begin(Congestion* c, uint8_t algorithm, uint32_t mss, uint32_t syn_losses,
                           int64_t now_ns) noexcept nogil
# *out* segments are in flight now; *limited*: something more would have left, but for cwnd. Where cwnd is not used for
# an RTO, it falls half the way to what is, if nothing is amiss (*calm*: the state is CA_OPEN).
cdef void congestion_sent(Congestion* c, uint32_t out, uint32_t una, uint32_t nxt, bint limited, bint calm,
                          int64_t rto_ns, int64_t now_ns) noexcept nogil
cdef void congestion_acked(Congestion* c, const Acked* acked) noexcept nogil
# The ssthresh to go down to.
cdef uint32_t congestion_reduce(Congestion* c, int cause) noexcept nogil
# Nothing was sent for *idle_ns*: beyond an RTO, cwnd falls to the restart window, by half for each.
cdef void congestion_idle(Congestion* c, int64_t idle_ns, bint calm, int64_t rto_ns, int64_t now_ns) noexcept nogil
cdef void congestion_undone(Congestion* c) noexcept nogil
