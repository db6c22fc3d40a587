# Loss by time, and the probe for the loss of a tail: RFC 8985. Needs SACK.
#
# recovery_ack() takes in ACKs. A probe is the end's to send: probe_wait_ns() after each ACK and each sending while the
# state is CA_OPEN or CA_CWR tells when; then either something new leaves (board_sent(), recovery_sent()) or what
# probe_record() names (board_retransmitted(), recovery_resent()), whatever cwnd is; and then probe_sent().
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.end.scoreboard cimport Ack, AckResult, Scoreboard
from aiomos.wire.pool cimport Pool

cdef enum:
    DUPTHRESH = 3              # RFC 5681 section 2
    DSACK_FREE_RECOVERIES = 16
    FLOOR_NS = 2_000_000       # no timer is shorter
    FIRST_PROBE_NS = 1_000_000_000     # where no RTT is known

cdef enum:                     # Rack.flags
    RACK_KNOWS = 1             # something arrived: sent_ns, end, rtt_ns
    RACK_REORDERING = 2        # was seen, ever
    RACK_ROUND = 4             # a DSACK has grown the window, until dsack_round is acknowledged
    RACK_PROBE = 8             # a probe is out, until probe_end is acknowledged
    RACK_PROBE_AGAIN = 16      # it was a retransmission

ctypedef struct Rack:
    int64_t sent_ns            # RACK.xmit_ts: of what was sent last of all that arrived
    int64_t rtt_ns             # RACK.rtt
    uint32_t end               # RACK.end_seq
    uint32_t dsack_round
    uint32_t probe_end         # TLP.end_seq
    uint8_t flags
    uint8_t multiple           # RACK.reo_wnd_mult
    uint8_t persist            # RACK.reo_wnd_persist

cdef void rack_open(Rack* rack) noexcept nogil
cdef void rack_ack(Rack* rack, const Scoreboard* board, const Ack* ack, const AckResult* out) noexcept nogil
cdef int64_t rack_window(const Rack* rack, const Scoreboard* board, int64_t min_rtt_ns, int64_t srtt_ns,
                         bint recovering) noexcept nogil
cdef uint32_t rack_detect(const Rack* rack, Scoreboard* board, Pool* pool, int64_t window_ns, int64_t now_ns,
                          int64_t* wait_ns) noexcept nogil
cdef int64_t rack_expired_ns(const Rack* rack, int64_t window_ns, int64_t now_ns) noexcept nogil
cdef void rack_recovered(Rack* rack) noexcept nogil

cdef int64_t probe_wait_ns(const Rack* rack, const Scoreboard* board, int64_t srtt_ns, int64_t rto_min_ns,
                           int64_t rto_left_ns) noexcept nogil
cdef uint32_t probe_record(Scoreboard* board, Pool* pool) noexcept nogil
cdef void probe_sent(Rack* rack, const Scoreboard* board, bint again) noexcept nogil
cdef bint probe_ack(Rack* rack, const Ack* ack, const AckResult* out, bint duplicate) noexcept nogil
