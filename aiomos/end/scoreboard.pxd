# What is in flight: docs/design/in-flight.md tells why it is kept so.
#
# One Scoreboard for each end, its records (sent.pxd) in a pool that all ends share. Whoever embeds one zeroes it or
# calls board_open(), and calls board_close() when it goes. Counts are in segments of at most `mss` bytes of data.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.end.sent cimport SENT_SACKED, sent_at
from aiomos.wire.pool cimport Pool

cdef enum:
    MOST_IN_FLIGHT = 1 << 30   # bytes; no window is larger (RFC 7323 section 2.3)
    FORM_BLOCKS = 4            # SACK blocks in an option, at most

cdef enum:                     # AckResult.flags
    ACK_ADVANCED = 1           # snd_una moved
    ACK_SACKED = 2             # something was newly SACKed
    ACK_DSACK = 4              # a duplicate arrived at the receiver (RFC 2883): dsack_start, dsack_end, duplicates
    ACK_ORIGINAL = 8           # something never sent again arrived; the least end of that: original_end
    ACK_AGAIN = 16             # cumulatively acknowledged something that had been sent again
    ACK_REORDERED = 32         # something never sent again arrived after what was sent behind it
    ACK_LATEST = 64            # latest_* are set
    ACK_LATEST_AGAIN = 128     # that had been sent again
    ACK_RATE = 256             # rate_* are set
    ACK_RATE_LIMITED = 512     # when that was sent, the application had no more
    ACK_RATE_AGAIN = 1024
    ACK_BEYOND = 2048          # of what was never sent: nothing of it was believed
    ACK_HAD_SACK = 4096        # carried SACK blocks, good or bad

# What an ACK says.
ctypedef struct Ack:
    uint32_t ack
    const uint32_t* blocks     # left and right edge of each
    uint8_t block_count
    int64_t now_ns             # when it arrived
    int64_t echo_ns            # the latest time at which a segment with the TSval that it echoes left; INT64_MAX: no TS
    int64_t min_rtt_ns         # 0: not known

ctypedef struct AckResult:
    uint32_t flags
    uint32_t prior_una
    uint32_t prior_in_flight   # segments
    uint32_t prior_flight      # packets_out less what had arrived: what recovery may hear of (RFC 9937 section 6)
    uint32_t acked             # segments, cumulatively, of which some were SACKed before
    uint32_t delivered         # segments that arrived by all we know now, and not by what we knew before
    uint32_t newly_sacked      # of these, by a SACK block
    uint32_t bytes             # by which snd_una moved
    uint32_t sacked_bytes
    uint32_t bad_blocks        # out of range, reversed, or a DSACK of what was never sent twice
    uint32_t unsplit           # blocks not believed as a whole, since the pool is used up
    uint32_t touched           # records looked at
    uint32_t duplicates        # segments
    uint32_t dsack_start
    uint32_t dsack_end
    uint32_t original_end
    int64_t rtt_ns             # of the first of what arrived, as Linux' seq_rtt and sack_rtt; -1: none (Karn)
    int64_t latest_rtt_ns      # of the last of it, as Linux' ca_rtt: what to take for congestion control and min_RTT
    uint32_t latest_end        # what was sent last of all that arrived, unless by its first transmission (RFC 8985)
    int64_t latest_sent_ns
    uint32_t rate_delivered    # of what was sent last of all that arrived: its counters when it was sent
    int64_t rate_delivered_ns
    int64_t rate_first_sent_ns
    int64_t rate_sent_ns
    uint32_t rate_end

ctypedef struct Scoreboard:
    uint32_t una
    uint32_t nxt               # records cover [una, nxt) without holes
    uint32_t first             # by sequence number
    uint32_t last
    uint32_t oldest            # by time of latest transmission: what is in flight
    uint32_t newest
    uint32_t tree              # of all
    uint32_t lost_tree         # of what is to be sent again
    uint32_t packets_out       # segments in [una, nxt)
    uint32_t sacked_out
    uint32_t lost_out          # whether sent again or not
    uint32_t retrans_out       # sent again, and in flight
    uint32_t dupacks           # without SACK: segments that duplicate ACKs say have arrived
    uint32_t fack              # highest number that arrived
    uint32_t delivered         # segments that arrived, ever
    uint32_t app_limited       # `delivered` at which what was sent for want of data has arrived; 0: not so
    uint32_t resent            # segments sent again, ever
    uint32_t duplicates        # segments that DSACKs spoke of, ever
    uint32_t widest            # most bytes that were in flight
    uint32_t mss               # of data, options not counted
    int64_t delivered_ns       # when `delivered` last grew
    int64_t first_sent_ns      # when what arrived last was sent

cdef inline uint32_t board_in_flight(const Scoreboard* board) noexcept nogil:
    """RFC 6675's pipe, in segments; Linux' tcp_packets_in_flight()."""
    cdef uint32_t there = board.packets_out - board.sacked_out - board.lost_out
    return there - min(there, board.dupacks) + board.retrans_out

cdef inline bint board_reneging(const Scoreboard* board, const Pool* pool) noexcept nogil:
    """Is the first that is not acknowledged SACKed? Then the receiver has thrown it away, or its ACK is on the way.

    RFC 2018 section 8: wait for that, but not for long (Linux: half a round trip, and 10 ms at least), and time out.
    """
    return board.first and sent_at(pool, board.first).flags & SENT_SACKED

cdef void board_open(Scoreboard* board, uint32_t seq, uint32_t mss) noexcept nogil
cdef void board_close(Scoreboard* board, Pool* pool) noexcept nogil
cdef bint board_sent(Scoreboard* board, Pool* pool, uint32_t end, uint32_t flags, int64_t now_ns) noexcept nogil
cdef void board_ack(Scoreboard* board, Pool* pool, const Ack* ack, AckResult* out) noexcept nogil
cdef uint32_t board_lose(Scoreboard* board, Pool* pool, uint32_t index) noexcept nogil
cdef void board_forgive(Scoreboard* board, Pool* pool) noexcept nogil
cdef uint32_t board_next_lost(const Scoreboard* board, const Pool* pool) noexcept nogil
cdef bint board_split(Scoreboard* board, Pool* pool, uint32_t index, uint32_t segments) noexcept nogil
cdef void board_retransmitted(Scoreboard* board, Pool* pool, uint32_t index, int64_t now_ns) noexcept nogil
cdef bint board_timeout(Scoreboard* board, Pool* pool, int64_t sent_by_ns) noexcept nogil
cdef uint32_t board_resize(Scoreboard* board, Pool* pool, uint32_t mss) noexcept nogil
cdef void board_app_limited(Scoreboard* board) noexcept nogil
