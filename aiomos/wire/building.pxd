# Frames built from scratch in answer to, or in place of, a packet in hand: RST, ACK, other payloads.
#
# Each build_ function writes a whole frame with full checksums (no offload) to *out* and returns its length, or 0
# when *room* is too small, the packet must not be answered so (said at each function), or its link header cannot be
# built.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.headers cimport Segment
from aiomos.wire.rewriting cimport Rewrite
from aiomos.wire.wire cimport Address

cdef enum:
    MAX_LINK_HEADER = 64
    MAX_HEADERS = 64 + 40 + 60     # room that build_segment() needs besides the payload, at most

# What stands before IP: nothing, or Ethernet with VLAN tags, SNAP, MPLS and PPPoE. Not tunnels.
ctypedef struct LinkHeader:
    uint8_t bytes[64]
    uint16_t length
    uint16_t length_at         # where it states how many bytes follow that field (802.3, PPPoE); 0: nowhere
    uint16_t longest           # that it can state
    uint16_t linktype

cdef bint link_of(const Rewrite* r, LinkHeader* out) noexcept nogil
cdef bint link_bears(const LinkHeader* link, size_t packet_len) noexcept nogil      # can it state that length?
cdef void link_turn(LinkHeader* link) noexcept nogil                      # Ethernet addresses the other way round
# Write it for an IP packet of so many bytes; the room is the caller's to check.
cdef void link_write(const LinkHeader* link, uint8_t* out, size_t packet_len) noexcept nogil

# Everything needed to send one end of a flow a segment; may be kept for later (a flow that is to be reset by a timer).
ctypedef struct Envelope:
    LinkHeader link
    Address src
    Address dst
    uint16_t sport
    uint16_t dport
    uint8_t ip_version
    uint8_t ttl
    uint8_t tos

# The envelope of a packet, or of an answer to it; false when its link header cannot be built.
cdef bint envelope_of(const Rewrite* r, bint answer, Envelope* out) noexcept nogil

cdef inline size_t ip_header_len(const Envelope* envelope) noexcept nogil:
    return 20 if envelope.ip_version == 4 else 40

# Write link and IP header of a packet that carries *n* bytes; where those go, 0 when they do not fit.
cdef size_t envelope_write(const Envelope* envelope, uint8_t proto, size_t n, uint8_t* out, size_t room) noexcept nogil

cdef size_t build_segment(const Envelope* envelope, const Segment* segment, const uint8_t* payload, size_t n,
                          uint8_t* out, size_t room) noexcept nogil

# The RST that a closed port answers a segment with (RFC 9293 section 3.10.7.1); 0 for a RST.
cdef size_t build_reset(const Rewrite* offender, uint8_t* out, size_t room) noexcept nogil
# An ACK without data to the sender of a segment: its own ack number is the sequence number; timestamps are echoed.
cdef size_t build_ack(const Rewrite* segment, uint32_t ack, uint16_t window, uint8_t* out, size_t room) noexcept nogil

# A part of a segment's new payload (line/edits makes them of a plan).
ctypedef struct Cut:
    uint32_t at                # offset in the payload
    uint32_t length
    uint32_t seq
    uint16_t flags
    uint16_t urgent
    uint16_t number            # 0, 1, ...: added to the IPv4 identification
    bint begun                 # for edits_cut

# The same packet, all headers and options kept, with another payload: of ICMP, its whole message. Takes
# link_len + (packet.payload - packet.network) + n bytes. 0 for other protocols, and for what gets too long for IP.
cdef size_t build_with_payload(const Rewrite* model, const uint8_t* payload, size_t n, uint8_t* out,
                               size_t room) noexcept nogil
# A TCP segment with the headers and options of *model* and cut's numbers; *payload* is that of the whole plan.
cdef size_t build_cut(const Rewrite* model, const Cut* cut, const uint8_t* payload, uint8_t* out,
                      size_t room) noexcept nogil
