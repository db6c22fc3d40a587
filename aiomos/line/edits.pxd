# Payloads replaced within a stream: what one half's sequence numbers are on either side of us, for the rest of the
# flow.
#
# `old` numbers are the sender's, `new` numbers those the receiver sees. A half without edits has no Edits and costs
# nothing.
#
# What is to be called for a segment of the half's sender, after the app's callbacks:
#   - edits_replace() if the app has replaced its payload (before that edits_open(), the first time);
#   - edits_outgoing() once for every segment that is forwarded, in that order, RSTs included; SYNs pass untouched.
# Its plan says how the segment leaves:
#   - drop: not at all;
#   - as_is: with rewrite_seq(plan.seq) and, for urgent data, rewrite_urgent(plan.urgent) in place;
#   - else: edits_copy() into a buffer of plan.length bytes, then build_cut() for each cut of edits_cut(). A length of 0
#     makes one bare segment, which may carry an ACK or FIN that counts;
#   - own_ack, besides: build_ack(segment, plan.ack, plan.window) to the sender.
# For a segment of the receiver: edits_incoming_ack(), and by its result rewrite_ack(), rewrite_window() and
# rewrite_sack().
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.building cimport Cut
from aiomos.wire.pool cimport Pool
from aiomos.wire.wire cimport PacketRecord

cdef enum:
    EDIT_BLOCK = 252           # bytes of a replacement in one block
    MAX_EDITS = 1024           # of a half at a time: bounds every walk
    MAX_AHEAD = 1 << 28        # farther beyond what was seen than this, a segment is not of the stream

ctypedef struct EditBlock:
    uint32_t next
    uint8_t data[252]

# old bytes [old_start, old_start + old_len) are sent as the new_len bytes of its blocks. Edits of a half are disjoint
# and ascending; they are only added at the end, so new_start never changes.
ctypedef struct Edit:
    uint32_t old_start
    uint32_t old_len           # > 0
    uint32_t new_start
    uint32_t new_len
    uint32_t block             # first; 0 when new_len is
    uint32_t next

# Of one half. old + shift = new for what lies behind the last edit.
ctypedef struct Edits:
    uint32_t head              # oldest edit that the receiver has not acknowledged in full
    uint32_t tail
    uint32_t count
    uint32_t held_bytes        # of the budget of a flow's half
    uint32_t shift
    uint32_t floor             # old; bytes before it are acknowledged and what they became is forgotten
    uint32_t nxt               # old; one past the highest sequence number seen: only what lies beyond can be edited
    uint32_t una               # new; highest acknowledgement by the receiver
    uint16_t window            # as the receiver stated it last
    uint8_t wscale             # of the receiver
    bint folded                # floor means something
    bint withhold              # of the segment in hand, only what was seen before is to be sent
    bint ordered               # segments beyond a hole are not forwarded (see edits_open)
    uint32_t start             # old; nxt as it was at first
    # Where the half begins is a guess, its SYN having not been seen: until a byte has come in order, an
    # acknowledgement beyond nxt tells that bytes have passed before we were there.
    bint guessed

# One per engine.
ctypedef struct EditStore:
    Pool halves                # of Edits
    Pool edits                 # of Edit
    Pool blocks                # of EditBlock
    uint32_t half_budget       # bytes

cdef bint edits_store_open(EditStore* store, size_t halves, size_t half_budget, size_t budget) noexcept nogil
cdef void edits_store_close(EditStore* store) noexcept nogil

# Begin to edit a half whose sender has sent up to *nxt* (its nxt, without the segment in hand) and whose receiver
# has acknowledged *una* and last stated *window*, scaled by *wscale*; the index of its Edits, 0 at the budget. An una
# too low does no harm, one too high does: give nxt - 2**30 where no acknowledgement was seen. ordered: a segment that
# arrives beyond a hole is dropped and answered by a duplicate ACK, so that bytes come in order and every new byte can
# be edited. Not ordered: it is forwarded, and the bytes of the hole, when they come, cannot be edited.
cdef uint32_t edits_open(EditStore* store, uint32_t una, uint32_t nxt, uint16_t window, uint8_t wscale,
                         bint ordered) noexcept nogil
cdef void edits_close(EditStore* store, uint32_t index) noexcept nogil

cdef enum EditResult:
    EDITS_NOTED = 0            # or nothing to note: the same bytes
    EDITS_SEEN = 1             # all of it has been sent before: what it became then stays
    # Some of it was sent before, and the replacement says otherwise there: refused. In order, the rest is withheld.
    EDITS_PARTLY_SEEN = 2
    EDITS_BEYOND_HOLE = 3      # ordered, and bytes before it are missing: refused, it will be dropped and come again
    EDITS_NO_PAYLOAD = 4       # nothing to replace: no payload, or that of a SYN, or not captured whole
    EDITS_BUDGET = 5           # of the half or of all: refused
    EDITS_RESULTS = 6

cdef int edits_replace(EditStore* store, uint32_t index, const PacketRecord* packet, const uint8_t* data,
                       size_t n) noexcept nogil

ctypedef struct Plan:
    bint drop                  # not to be forwarded
    bint as_is                 # the payload stays: only seq (and urgent) to set, if they differ
    bint own_ack               # the receiver will not acknowledge what is gone: do it, with ack and window below
    uint32_t seq
    uint32_t length            # bytes of the payload to send
    uint16_t flags
    uint16_t urgent            # urgent pointer of the segment, counted from seq
    uint32_t ack               # of our own ACK, in the sender's numbers
    uint16_t window
    # for edits_copy
    uint32_t start             # old; of the payload's part that is sent
    uint32_t end
    uint32_t edit              # first that ends beyond start
    uint32_t skip              # bytes of the result that the receiver has acknowledged already

cdef void edits_outgoing(EditStore* store, uint32_t index, const PacketRecord* packet, Plan* plan) noexcept nogil
# Write the plan.length bytes to send to *out*; the packet is the one planned for.
cdef void edits_copy(const EditStore* store, const Plan* plan, const PacketRecord* packet, uint8_t* out) noexcept nogil
# Cut a plan into segments of at most *most* payload bytes (the receiver's MSS less the options): call with *cut*
# zeroed, then again with the same until false. FIN and PSH stay on the last, CWR on the first.
cdef bint edits_cut(const Plan* plan, uint32_t most, Cut* cut) noexcept nogil

ctypedef struct Acknowledgement:
    uint32_t ack
    uint16_t window
    uint8_t sack_count         # may be fewer than before
    uint32_t sack[8]

# Translate what the receiver acknowledges to the sender's numbers and let go of edits it has whole.
cdef void edits_incoming_ack(EditStore* store, uint32_t index, const PacketRecord* packet,
                             Acknowledgement* out) noexcept nogil

cdef inline bint edits_unused(const Edits* e) noexcept nogil:
    """Are the numbers on either side the same, and has none been told otherwise?"""
    return e.head == 0 and e.shift == 0 and not e.folded

cdef inline Edits* edits_at(const EditStore* store, uint32_t index) noexcept nogil:
    return <Edits*> (store.halves.base + index * sizeof(Edits))
