# Entering and leaving recovery, and how much may leave meanwhile; states are those of Linux' TCP_INFO.
#
# For each ACK: board_ack(); recovery_ack(), which asks rack.pyx; if it says RECOVERY_REDUCE, recovery_reduce() with the
# ssthresh that congestion control wants; recovery_cwnd(), and if that is False, growth is congestion control's. Then
# what is lost leaves again (recovery_resent()), and what is new (recovery_sent()), while in flight is less than cwnd.
# An ACK of what was never sent (ACK_BEYOND) ends with board_ack(): no timer is moved by it.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from aiomos.end.rack cimport Rack
from aiomos.end.scoreboard cimport Ack, AckResult, Scoreboard
from aiomos.wire.pool cimport Pool

cdef enum:                     # Recovery.state, tcpi_ca_state
    CA_OPEN = 0
    CA_DISORDER = 1            # something arrived out of order, or was sent again
    CA_CWR = 2                 # congestion was told by ECN, or repaired by a probe
    CA_RECOVERY = 3
    CA_LOSS = 4                # the RTO has expired

cdef enum:                     # Recovery.flags
    RECOVERY_SACK = 1          # both ends know SACK
    RECOVERY_UNDO = 2          # undo_marker is set: the reduction may turn out to be wrong
    RECOVERY_RESENT = 4        # something was sent again in this recovery, first at first_again_ns
    RECOVERY_FRTO = 8          # the RTO may have been spurious (RFC 5682)
    RECOVERY_ECE = 16          # ECN told of congestion: the reduction asked for is right, whatever arrives

cdef enum:                     # Advice.flags
    RECOVERY_REDUCE = 1        # call recovery_reduce()
    RECOVERY_UNDONE = 2        # cwnd and ssthresh are as they were before, and congestion control is to be told
    RECOVERY_ENDED = 4
    RECOVERY_NEW_ONLY = 8      # send what is new, and nothing again

ctypedef struct Recovery:
    uint32_t high_seq          # snd_nxt when it began: it ends when that is acknowledged
    uint32_t undo_marker       # snd_una when it began
    int32_t undo_retrans       # segments sent again and not told by a DSACK; -1: none was sent
    uint32_t prior_cwnd
    uint32_t prior_ssthresh    # 0: no undo
    uint32_t prr_delivered
    uint32_t prr_out
    uint32_t recover_fs
    int64_t first_again_ns
    uint8_t state
    uint8_t flags
    uint8_t wanted             # of enum below: why recovery_reduce() is to be called

cdef enum:                     # Recovery.wanted
    REDUCE_NOT = 0
    REDUCE_AT_ONCE = 1         # a probe repaired a loss
    REDUCE_CWR = 2
    REDUCE_RECOVERY = 3

ctypedef struct Advice:
    uint32_t flags
    uint32_t newly_lost        # segments
    int64_t wait_ns            # call recovery_reordered() in that time, if nothing arrives; 0: no need

cdef void recovery_open(Recovery* recovery, bint sack) noexcept nogil
cdef void recovery_ack(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, const Ack* ack, AckResult* out,
                       bint duplicate, bint more, int64_t srtt_ns, uint32_t* cwnd, uint32_t* ssthresh,
                       Advice* advice) noexcept nogil
cdef void recovery_reordered(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, int64_t min_rtt_ns,
                             int64_t srtt_ns, int64_t now_ns, Advice* advice) noexcept nogil
cdef void recovery_reduce(Recovery* recovery, Scoreboard* board, Rack* rack, const AckResult* out, uint32_t reduced,
                          uint32_t* cwnd, uint32_t* ssthresh) noexcept nogil
cdef bint recovery_ece(Recovery* recovery) noexcept nogil
cdef bint recovery_timeout(Recovery* recovery, Scoreboard* board, Rack* rack, Pool* pool, bint again,
                           int64_t min_rtt_ns, int64_t srtt_ns, int64_t now_ns) noexcept nogil
cdef void recovery_timed_out(Recovery* recovery, Scoreboard* board, bint reduce, uint32_t reduced, uint32_t* cwnd,
                             uint32_t* ssthresh) noexcept nogil
cdef void recovery_resized(Recovery* recovery, const Scoreboard* board, uint32_t cwnd,
                           uint32_t* ssthresh) noexcept nogil
cdef bint recovery_cwnd(Recovery* recovery, const Scoreboard* board, const AckResult* out, uint32_t newly_lost,
                        uint32_t ssthresh, uint32_t* cwnd) noexcept nogil
cdef void recovery_sent(Recovery* recovery, uint32_t segments) noexcept nogil
cdef void recovery_resent(Recovery* recovery, uint32_t segments, int64_t now_ns) noexcept nogil
