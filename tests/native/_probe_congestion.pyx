"""Shows congestion control to pytest."""

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t
from libc.string cimport memset

from aiomos.end.congestion.control cimport (
    algorithm_name, algorithm_named, congestion_acked, congestion_begin, congestion_idle, congestion_reduce,
    congestion_sent, congestion_undone)
from aiomos.end.congestion.hystart cimport HyStart, hystart_acked, hystart_begin, hystart_conservative, hystart_growth
from aiomos.end.congestion.rate cimport Rate, RateSample, delivery_rate, pacing_rate, rate_add
from aiomos.end.congestion.state cimport (
    ALGORITHMS, CAUSE_ECN, CAUSE_LOSS, CAUSE_TIMEOUT, INFINITE_SSTHRESH, MOST_WINDOW, Acked, Congestion,
    congestion_limited)

CAUSES = {"loss": CAUSE_LOSS, "ecn": CAUSE_ECN, "timeout": CAUSE_TIMEOUT}
NAMES = [algorithm_name(number).decode() for number in range(ALGORITHMS)]
INFINITE, MOST, UNLIMITED = INFINITE_SSTHRESH, MOST_WINDOW, UINT64_MAX
SIZE = sizeof(Congestion)


def named(bytes name not None):
    """The number of an algorithm, or None."""
    number = algorithm_named(name, len(name))
    return number if number < ALGORITHMS else None


cdef class Control:
    """The congestion control of one connection."""

    cdef Congestion c

    def __init__(self, name="cubic", *, uint32_t mss=1448, uint32_t syn_losses=0, int64_t now_ns=0, bint paced=False):
        memset(&self.c, 0xA5, sizeof(Congestion))
        congestion_begin(&self.c, algorithm_named(name.encode(), len(name)), mss, syn_losses, now_ns)
        self.c.paced = paced

    def sent(self, uint32_t out, *, uint32_t una=0, uint32_t nxt=0, bint limited=True, bint calm=True,
             int64_t rto_ns=200_000_000, int64_t now_ns=0):
        congestion_sent(&self.c, out, una, nxt, limited, calm, rto_ns, now_ns)

    def acked(self, uint32_t segments, *, uint32_t una=0, uint32_t nxt=0, int64_t rtt_ns=-1, int64_t srtt_ns=0,
              int64_t now_ns=0):
        cdef Acked acked = Acked(segments, una, nxt, rtt_ns, srtt_ns, now_ns)
        congestion_acked(&self.c, &acked)

    def reduce(self, cause="loss"):
        return congestion_reduce(&self.c, CAUSES[cause])

    def idle(self, int64_t idle_ns, *, bint calm=True, int64_t rto_ns=200_000_000, int64_t now_ns=0):
        congestion_idle(&self.c, idle_ns, calm, rto_ns, now_ns)

    def undone(self):
        congestion_undone(&self.c)

    @property
    def cwnd(self):
        return self.c.cwnd

    @cwnd.setter
    def cwnd(self, uint32_t value):
        self.c.cwnd = value

    @property
    def ssthresh(self):
        return self.c.ssthresh

    @ssthresh.setter
    def ssthresh(self, uint32_t value):
        self.c.ssthresh = value

    @property
    def limited(self):
        return congestion_limited(&self.c)

    @property
    def conservative(self):
        return hystart_conservative(&self.c.hystart)

    @property
    def curve(self):
        """W_max and cwnd_prior in segments, K in seconds, and whether a stretch of congestion avoidance has begun."""
        return (self.c.cubic.curve.wmax_10 / 1024.0, self.c.cubic.curve.prior, self.c.cubic.curve.k_us / 1e6,
                self.c.cubic.curve.begun)


cdef class Start:
    """HyStart++ alone."""

    cdef HyStart h

    def __init__(self):
        memset(&self.h, 0xA5, sizeof(HyStart))
        hystart_begin(&self.h)

    def growth(self, uint32_t segments, bint paced=False):
        return hystart_growth(&self.h, segments, paced)

    def acked(self, uint32_t una, uint32_t nxt, int64_t rtt_ns=-1):
        return bool(hystart_acked(&self.h, una, nxt, rtt_ns))

    @property
    def conservative(self):
        return bool(hystart_conservative(&self.h))

    @property
    def rounds(self):
        return self.h.rounds


cdef class Rates:
    """The delivery rate of one connection."""

    cdef Rate rate

    def __init__(self):
        memset(&self.rate, 0, sizeof(Rate))

    def add(self, uint32_t delivered, uint32_t prior_delivered, int64_t prior_delivered_ns, int64_t first_sent_ns,
            int64_t sent_ns, int64_t now_ns, *, bint app_limited=False, int64_t min_rtt_ns=0):
        cdef RateSample sample = RateSample(delivered, prior_delivered, prior_delivered_ns, first_sent_ns, sent_ns,
                                            now_ns, app_limited)
        return bool(rate_add(&self.rate, &sample, min_rtt_ns))

    def bytes_a_second(self, uint32_t mss):
        return delivery_rate(&self.rate, mss)

    @property
    def app_limited(self):
        return bool(self.rate.app_limited)


def pace(uint32_t cwnd, uint32_t ssthresh, uint32_t out, uint32_t mss, int64_t srtt_ns):
    return pacing_rate(cwnd, ssthresh, out, mss, srtt_ns)
