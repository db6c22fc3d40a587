# The TCP state of both ends of a flow as seen from the middle.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport FlowRecord, HalfRecord
from aiomos.wire.wire cimport PacketRecord

# RFC 9293 section 3.3.2, in the numbers of Linux' <netinet/tcp.h>.
cdef enum State:
    ESTABLISHED = 1
    SYN_SENT_STATE = 2
    SYN_RECEIVED_STATE = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    STATE_CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11

# Why a segment, or part of what it said, was not believed. One counter each.
cdef enum:                     # anomalies
    A_NO_ACK = 0               # neither SYN nor RST, and no ACK (RFC 9293 section 3.10.7.4, fifth check)
    A_BAD_FLAGS = 1            # SYN with FIN
    A_OUT_OF_WINDOW = 2        # beyond the receiver's window
    A_BAD_ACK = 3              # acknowledges what was never sent, beyond any window
    A_BAD_RESET = 4            # RST at a sequence number its receiver would refuse (RFC 5961 section 3)
    A_SYN_IN_CONNECTION = 5    # SYN in a synchronised state (RFC 5961 section 4)
    A_BAD_SYNACK = 6           # SYN-ACK for another SYN, or with another sequence number
    A_PAWS = 7                 # timestamp older than the last accepted (RFC 7323 section 5)
    A_AFTER_FIN = 8            # data beyond the sender's FIN
    A_UNSIGNED = 9             # MD5 or AO option in an unsigned connection, or missing in a signed one
    A_BAD_OPTIONS = 10         # option list broken
    A_ACK_UNSEEN = 11          # acknowledges data that was not captured
    A_BEFORE_SYNACK = 12       # neither SYN nor RST, to an end in SYN-SENT (RFC 9293 section 3.10.7.3)
    A_KEEP_ALIVE = 13
    A_ZERO_WINDOW_PROBE = 14
    A_SYN_RETRY = 15           # SYN sent again with another initial sequence number
    A_URGENT = 16              # URG with data; delivered in line
    ANOMALIES = 17

# What the engine has to do about a segment.
cdef enum Outcome:
    PAYLOAD_OK = 1             # payload (if any) belongs to the stream
    REOPEN = 2                 # a new connection on this five-tuple starts with this packet
    SYN_DOUBTED = 4            # a SYN in a live connection: believed once its SYN-ACK or what follows it is seen
    SETUP = 8                  # both ends are established now
    CLOSED_NOW = 16            # FIN both ways and acknowledged, or RST
    JOINED = 32                # the SYN that belongs to an earlier SYN-ACK came
    RESTARTED = 64             # a SYN with another ISN, or one that came late, tells where the sender's stream begins
    ACK_MOVED = 128            # the receiver's half (the peer's data) was acknowledged further
    KEEP_ALIVE = 256           # not a retransmission (RFC 9293 section 3.8.4)
    REBASED = 1024             # the receiver's half begins elsewhere than was thought: its stream positions start anew
    RESYNC = 512               # a jump of either end turned out true: what was held of it belongs to its stream
    DOUBT = 2048               # whether the payload belongs to the stream, what follows will tell
    ACK_AHEAD = 4096           # with ACK_MOVED: as far as nothing was captured yet
    # Said before the SYN-ACK, or before that was acknowledged, as far as was captured, or before where its sender was
    # taken to begin: the payload waits for what tells more. With PAYLOAD_OK it is believed after a while.
    EARLY = 8192

cdef int monitor_segment(FlowRecord* flow, int side, const PacketRecord* packet, uint64_t* anomalies) noexcept nogil

cdef uint8_t state_of(uint8_t facts) noexcept nogil

cdef int64_t reach(const HalfRecord* rcv) noexcept nogil
