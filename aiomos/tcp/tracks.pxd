# What is known of the bytes of a half, and the pools that it lies in.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from aiomos.tcp.flows cimport ACK_SEEN, FIN_SEEN, HalfRecord, KEEP, SINK
from aiomos.tcp.past cimport Past, PastClock
from aiomos.tcp.pieces cimport Pieces, Store
from aiomos.wire.pool cimport Pool, pool_at
from aiomos.wire.seq cimport seq_diff, seq_lt
from aiomos.wire.slabs cimport Slabs
from aiomos.wire.wire cimport PacketRecord, SYN

cdef enum TrackFlag:
    BASED = 1                  # edge_seq is set
    HOLED = 2                  # something before a held piece or an acknowledgement is missing
    SYN_DATA = 4               # data of a SYN, not taken by the server yet (RFC 7413)
    TIMING = 8                 # rtt_seq is being timed
    FINISHED = 16              # the end of the stream has been told
    HAS_RTT = 32
    SYN_REFUSED = 128          # the server did not take the SYN's data: it is to come again
    ACKED_HOLE = 64            # the hole was acknowledged at acked_ns
    DISTURBED = 256            # in the list of halves that gave up a hole for the room that another needed
    FIN_TAKEN = 512            # a segment with the FIN was seen
    URGENT = 1024              # `urgent` is where the urgent byte lies, delivered or not
    HELD_EARLY = 2048          # `doubted` has what its sender said before anything captured answered its SYN
    HELD_BEFORE = 4096         # it has what lies before the beginning that an acknowledgement told
    LOSSLESS = 8192            # an end of ours receives this half: it waits for what is missing, however long

cdef enum PartKind:
    PART_DATA = 0
    PART_GAP = 1
    PART_END = 2               # FIN: all bytes are there
    PART_RESET = 3
    PART_TIMEOUT = 4
    PART_EVICTED = 5
    PART_CAPTURE_END = 6

cdef enum:                     # reasons of a gap
    GAP_LOST = 0               # the receiver acknowledged the bytes, they did not arrive within the hold
    GAP_AGE = 1                # nobody acknowledged them, and they did not come for too long
    GAP_BUDGET = 2             # too many bytes held behind the hole
    GAP_SNAPLEN = 3            # on the wire, but cut from the capture
    GAP_END = 4                # still missing when the flow ended
    GAP_UNREAD = 5             # the app did not read them in time
    GAP_REASONS = 6

# Something to hand to the consumers of a half at the end of the batch, in order.
ctypedef struct Part:
    uint64_t offset
    uint64_t length
    int64_t time_ns
    const uint8_t* data        # in the frame, or in `block`
    uint32_t next
    uint32_t block             # given back after delivery
    uint8_t kind               # PartKind
    uint8_t reason             # of a gap; of data, whether it is an urgent byte
    uint64_t serial            # order of parts over all halves

# What finds a part by its offset, and where the run of data ends that it lies in; made when somebody looks.
ctypedef struct PartLink:
    uint32_t before
    uint32_t jump              # the part whose ordinal has one bit less
    uint32_t ordinal           # from 1 on
    uint32_t run               # first part of its run; 0 in what is no data
    uint32_t run_last          # in that first part

# A gap of a half, remembered to take late bytes out of the loss again.
ctypedef struct Missed:
    uint64_t start
    uint64_t end
    uint32_t next              # an older one

ctypedef struct Track:
    uint64_t edge              # stream offset up to which all is delivered or given up
    uint64_t bytes             # payload bytes carried, retransmissions included
    uint64_t stream_bytes      # distinct payload bytes seen
    uint64_t missed_bytes      # given up in gaps and not seen later
    uint64_t missed_end        # end of the last gap
    uint64_t acked_to          # holes below it were acknowledged at acked_ns
    int64_t acked_ns
    int64_t early_ns           # when the first of what came early did
    int64_t nxt_ns             # when the highest sequence number known advanced
    int64_t rtt_ns             # when the timed segment passed
    int64_t handshake_ns       # round trip of the handshake, both ways; 0 when it was not seen
    int64_t srtt               # RFC 6298, nanoseconds
    int64_t rttvar
    int64_t min_rtt            # the least sample
    int64_t dup_ack_ns         # when the last duplicate acknowledgement came
    uint64_t retransmits       # segments
    uint64_t out_of_order      # segments
    uint64_t gaps
    uint64_t conflicts         # segments whose bytes differ from those held, kept or delivered
    Past past                  # chunks handed over, kept by whoever made them
    uint64_t kept_from         # delivered bytes before it are not kept; those up to kept_to are
    uint64_t kept_to
    Pieces held                # beyond a hole
    Pieces doubted             # of segments that are not believed yet (tcp/doubts)
    uint64_t copies            # segments captured more than once: the second time, and further ones (tcp/copies)
    uint64_t copied_bytes      # their payload
    uint64_t urgent            # stream offset
    uint64_t recent[8]         # marks of the latest segments (tcp/copies)
    uint32_t recent_at
    uint32_t edge_seq          # sequence number of `edge`
    uint32_t rtt_seq
    uint32_t dup_acks          # duplicate acknowledgements since half.una moved
    uint32_t sack_high         # highest right edge of the SACK blocks they carried
    uint32_t missed            # list of gaps, newest first
    uint32_t missed_count
    uint32_t out_head          # parts to deliver
    uint32_t out_tail
    uint32_t out_linked        # the last part whose PartLink is made; to be set to 0 when the first is taken
    uint32_t kept_head         # list of blocks of kept bytes, oldest first: retention.pxd
    uint32_t kept_tail
    uint32_t kept_memory       # of those blocks
    uint32_t keeper_before     # list of halves of which bytes are kept, those first that began first
    uint32_t keeper_after
    uint32_t flags             # TrackFlag
    uint32_t late_bytes        # arrived after they were given up
    uint32_t early_late        # with HELD_EARLY: segments held apart that came again, counted once one is believed
    uint32_t early_said        # with HELD_EARLY: segments of its sender that said something new
    uint32_t disturbed         # the next of that list
    uint8_t ending             # with FINISHED: how, a PartKind
    const HalfRecord* half           # what it is the track of

# Bytes that were given up, for those who want to know at once.
ctypedef struct Incident:
    const HalfRecord* half
    uint64_t offset
    uint64_t length
    int64_t time_ns
    uint8_t reason             # of the gap

ctypedef struct Streams:
    Pool tracks
    Store store
    Pool parts
    Pool links                 # PartLink, by the same index
    Pool missed
    Slabs kept                 # blocks of kept bytes
    uint64_t kept_memory       # of blocks in use
    uint64_t kept_budget
    uint64_t kept_half_budget
    uint64_t kept_dropped      # how often a half gave kept bytes up for the room that another needed
    uint32_t keepers_head
    uint32_t keepers_tail
    uint32_t disturbed         # first of the halves that gave up a hole; the engine takes them out
    uint64_t held_dropped      # how often a half did, for the room that another needed
    int64_t hold_ns
    int64_t age_ns
    uint64_t serial            # of the next part
    PastClock past
    uint64_t parts_missing     # parts that found no room; stays 0 unless the pool was made too small
    uint64_t gaps[GAP_REASONS]           # by GapReason
    uint64_t gap_bytes[GAP_REASONS]
    uint64_t conflicts
    uint64_t copies
    uint64_t unconfirmed       # segments, or parts of them, that were held around a handshake, and nothing confirmed
    uint64_t unconfirmed_bytes
    uint64_t doubted_memory    # of pieces of doubted segments
    uint64_t doubted_budget
    Incident* incidents        # MAX_INCIDENTS of them
    uint32_t incident_count    # the engine takes them out and sets it to 0
    bint log_incidents         # the engine sets it while somebody wants to know
    uint64_t incidents_missed  # found the log full

cdef enum:
    MAX_INCIDENTS = 8192
    MAX_MISSED = 64            # gaps of one half remembered, to take late bytes out of the loss again
    TAKEN = SINK | KEEP        # somebody takes the bytes, or they are kept

cdef bint streams_open(Streams* s, size_t flows, size_t held_bytes, size_t held_bytes_half, size_t kept_bytes,
                       size_t kept_bytes_half, size_t batch_frames, uint32_t seed) noexcept nogil
cdef void streams_close(Streams* s) noexcept nogil
cdef uint32_t track_open(Streams* s, const HalfRecord* half) noexcept nogil
cdef void track_drop_parts(Streams* s, Track* t) noexcept nogil
cdef void track_base(Track* t, const HalfRecord* half) noexcept nogil
cdef void part_release(Streams* s, uint32_t index) noexcept nogil
cdef void drop_doubted(Streams* s, Track* t) noexcept nogil
cdef void lower_doubted(Streams* s, Track* t) noexcept nogil
cdef void remember_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil
cdef uint64_t recover_missed(Streams* s, Track* t, uint64_t start, uint64_t end) noexcept nogil
cdef uint64_t track_lost(const Streams* s, const Track* t, const HalfRecord* half) noexcept nogil
cdef void note_incident(Streams* s, const Track* t, uint64_t offset, uint64_t length, int reason,
                        int64_t now_ns) noexcept nogil

cdef inline Track* track_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Track*> pool_at(&s.tracks, index)

cdef inline uint32_t track_index(const Streams* s, const Track* t) noexcept nogil:
    return <uint32_t> ((<const uint8_t*> t - s.tracks.base) // sizeof(Track))

cdef inline Part* part_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Part*> pool_at(&s.parts, index)

cdef inline PartLink* link_at(const Streams* s, uint32_t index) noexcept nogil:
    return <PartLink*> pool_at(&s.links, index)

cdef inline Missed* missed_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Missed*> pool_at(&s.missed, index)

cdef inline uint32_t data_seq(const PacketRecord* packet) noexcept nogil:
    """Sequence number of the payload's first byte."""
    return packet.seq + (packet.flags & SYN > 0)

cdef inline int64_t offset_of(const Track* t, uint32_t seq) noexcept nogil:
    """Stream offset of a sequence number near the edge; negative before the stream's start."""
    return <int64_t> t.edge + seq_diff(seq, t.edge_seq)

cdef inline int64_t acked_offset(const Track* t, const HalfRecord* half) noexcept nogil:
    """Stream offset up to which the receiver has acknowledged data (its ACK of a FIN counts one more)."""
    if not half.flags & ACK_SEEN:
        return 0
    if half.flags & FIN_SEEN and seq_lt(half.fin, half.una):
        return offset_of(t, half.fin)
    return offset_of(t, half.una)

cdef inline bint is_only_fin(const Track* t, const HalfRecord* half, int64_t acked) noexcept nogil:
    """Is what is missing one acknowledged number, the last of all?

    It is taken for a FIN that was not captured, until something behind it shows that it was a byte.
    """
    return (acked == <int64_t> t.edge + 1 and half.una == half.nxt and not half.flags & FIN_SEEN
            and t.held.head[0] == 0)

cdef inline void advance(Track* t, uint64_t to) noexcept nogil:
    t.edge_seq += <uint32_t> (to - t.edge)
    t.edge = to
