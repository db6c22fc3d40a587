# Bytes of one half in order, once: coverage, held segments, gaps. Levels BYTES (no payload) and STREAM.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport Half
from aiomos.tcp.pool cimport Pool, pool_at
from aiomos.tcp.wire cimport Packet

cdef enum Policy:              # who wins bytes that two held segments share: docs/reference/overlap.md
    OVERLAP_FIRST = 0
    OVERLAP_LAST = 1
    OVERLAP_BSD = 2
    OVERLAP_LINUX = 3
    OVERLAP_WINDOWS = 4
    OVERLAP_SOLARIS = 5

cdef enum TrackFlag:
    BASED = 1                  # edge_seq is set
    HOLED = 2                  # something before a held piece or an acknowledgement is missing
    SYN_DATA = 4               # data of a SYN, not taken by the server yet (RFC 7413)
    TIMING = 8                 # rtt_seq is being timed
    FINISHED = 16              # the end of the stream has been told
    HAS_RTT = 32
    SYN_REFUSED = 128          # the server did not take the SYN's data: it is to come again
    ACKED_HOLE = 64            # the hole was acknowledged at acked_ns

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

# A held stretch of bytes beyond a hole; ordered by start, disjoint, in a skip list.
ctypedef struct Piece:
    uint64_t start             # stream offsets
    uint64_t end
    uint64_t seg_start         # edges of the segment it came in
    uint64_t seg_end
    int64_t time_ns
    const uint8_t* data        # byte `start`; NULL at level BYTES, and where the snap length cut the bytes off
    uint64_t captured_end      # of a segment being held: data reaches to here; in a piece, `end`
    uint32_t next[4]
    uint32_t block             # where data lives
    bint large                 # of the pool of large blocks
    bint cut                   # its bytes were on the wire, but are not in the capture

# Something to hand to the consumers of a half at the end of the batch, in order.
ctypedef struct Part:
    uint64_t offset
    uint64_t length
    int64_t time_ns
    const uint8_t* data        # in the frame, or in `block`
    uint32_t next
    uint32_t block             # given back after delivery
    bint large
    uint8_t kind               # PartKind
    uint8_t reason             # of a gap
    uint64_t serial            # order of parts over all halves

ctypedef struct Track:
    uint64_t edge              # stream offset up to which all is delivered or given up
    uint64_t bytes             # payload bytes carried, retransmissions included
    uint64_t stream_bytes      # distinct payload bytes seen
    uint64_t missed_bytes      # given up in gaps and not seen later
    uint64_t missed_end        # end of the last gap
    uint64_t acked_to          # holes below it were acknowledged at acked_ns
    int64_t acked_ns
    int64_t nxt_ns             # when the highest sequence number advanced
    int64_t rtt_ns             # when the timed segment passed
    int64_t handshake_ns       # round trip of the handshake, both ways; 0 when it was not seen
    int64_t srtt               # RFC 6298, nanoseconds
    int64_t rttvar
    uint64_t retransmits       # segments
    uint64_t out_of_order      # segments
    uint64_t gaps
    uint64_t conflicts         # segments whose bytes differ from those held or delivered
    const uint8_t* past        # bytes last delivered, kept by whoever took them; NULL when there are none
    uint64_t past_offset
    uint64_t past_length
    uint32_t edge_seq          # sequence number of `edge`
    uint32_t rtt_seq
    uint32_t head[4]           # skip list of pieces
    uint32_t pieces
    uint32_t held_bytes        # memory of those pieces
    uint32_t missed            # list of gaps, newest first (Piece.next[0])
    uint32_t missed_count
    uint32_t out_head          # parts to deliver
    uint32_t out_tail
    uint32_t flags             # TrackFlag
    uint32_t late_bytes        # arrived after they were given up

ctypedef struct Streams:
    Pool tracks
    Pool pieces
    Pool small                 # blocks of SMALL_BLOCK bytes
    Pool large                 # blocks of LARGE_BLOCK bytes
    Pool parts
    int64_t hold_ns
    int64_t age_ns
    uint32_t half_budget       # held_bytes of one track
    uint32_t random            # state of the skip list's coin
    uint64_t serial            # of the next part
    uint64_t parts_missing     # parts that found no room; stays 0 unless the pool was made too small
    uint64_t gaps[6]           # by GapReason
    uint64_t gap_bytes[6]
    uint64_t conflicts

cdef enum:
    SMALL_BLOCK = 2048
    LARGE_BLOCK = 65536

cdef bint streams_open(Streams* s, size_t flows, size_t held_bytes, size_t half_budget, size_t batch_frames,
                       uint32_t seed) noexcept nogil
cdef void streams_close(Streams* s) noexcept nogil
cdef uint32_t track_open(Streams* s) noexcept nogil
cdef void track_close(Streams* s, uint32_t index) noexcept nogil
cdef void track_base(Track* t, const Half* half) noexcept nogil
cdef void track_begin_late(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil
cdef void track_payload(Streams* s, Track* t, const Half* half, const Packet* packet, int policy,
                        bint payload_ok, uint32_t before_nxt) noexcept nogil
cdef void track_acked(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil
cdef void track_tick(Streams* s, Track* t, const Half* half, int64_t now_ns) noexcept nogil
cdef int64_t track_deadline(const Streams* s, const Track* t, const Half* half) noexcept nogil
cdef void tracks_set_up(Track* client, Track* server) noexcept nogil
cdef void track_finish(Streams* s, Track* t, const Half* half, int kind, int64_t now_ns) noexcept nogil
cdef void track_lower(Streams* s, Track* t) noexcept nogil
cdef void part_release(Streams* s, uint32_t index) noexcept nogil
cdef uint64_t track_lost(const Streams* s, const Track* t, const Half* half) noexcept nogil

cdef inline Track* track_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Track*> pool_at(&s.tracks, index)

cdef inline Part* part_at(const Streams* s, uint32_t index) noexcept nogil:
    return <Part*> pool_at(&s.parts, index)
