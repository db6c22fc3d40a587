# Round trip times of a half.
from libc.stdint cimport int64_t

from aiomos.tcp.tracks cimport HAS_RTT, Track

cdef inline void add_rtt(Track* t, int64_t sample) noexcept nogil:
    """RFC 6298 section 2."""
    cdef int64_t error
    if sample < 0:                                 # the capture's clock was set back
        return
    if not t.flags & HAS_RTT:
        t.flags |= HAS_RTT
        t.srtt = t.min_rtt = sample
        t.rttvar = sample // 2
        return
    t.min_rtt = min(t.min_rtt, sample)
    error = sample - t.srtt
    t.srtt += error // 8
    t.rttvar += ((error if error > 0 else -error) - t.rttvar) // 4

cdef inline void tracks_set_up(Track* client, Track* server) noexcept nogil:
    """The handshake is complete: its round trip, both ways from where the capture was, is known."""
    if client.flags & server.flags & HAS_RTT:
        client.handshake_ns = server.handshake_ns = client.srtt + server.srtt
