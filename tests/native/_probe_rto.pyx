"""Shows the retransmission time-out and the least RTT to pytest."""

from libc.stdint cimport int64_t, uint32_t

from aiomos.end.rto cimport (
    MinRtt, Rto, min_rtt_add, min_rtt_ns, min_rtt_open, rto_established, rto_expired, rto_ns, rto_open, rto_progress,
    rto_sample, rto_srtt_ns)

SIZE = sizeof(Rto)


cdef class Timeout:
    """The time-out of one connection."""

    cdef Rto rto

    def __cinit__(self):
        rto_open(&self.rto)

    def established(self):
        rto_established(&self.rto)

    def sample(self, int64_t rtt_ns, uint32_t una=0, uint32_t nxt=0):
        rto_sample(&self.rto, rtt_ns, una, nxt)

    def progress(self):
        rto_progress(&self.rto)

    def expire(self, bint opening=False):
        rto_expired(&self.rto, opening)

    @property
    def ns(self):
        return rto_ns(&self.rto)

    @property
    def srtt_ns(self):
        return rto_srtt_ns(&self.rto)

    @property
    def backoff(self):
        return self.rto.backoff

    @property
    def expired(self):
        return self.rto.expired

    @property
    def variance_ns(self):
        """What is added to the smoothed RTT."""
        return self.rto.rttvar_4

    @property
    def deviation_ns(self):
        """Mean deviation, times 4."""
        return self.rto.mdev_4


cdef class Least:
    """The least RTT of one connection."""

    cdef MinRtt least

    def __cinit__(self):
        min_rtt_open(&self.least)

    def add(self, int64_t rtt_ns, int64_t now_ns, bint delayed=False):
        min_rtt_add(&self.least, rtt_ns, delayed, now_ns)
        return min_rtt_ns(&self.least)

    @property
    def ns(self):
        return min_rtt_ns(&self.least)
