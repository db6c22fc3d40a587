# Segments of a connection of ours: headers from a template, options as Linux has them, payload from several places.
#
# `building` makes single answers of an Envelope; a Template is what an end keeps of one, made ready for each segment.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.building cimport Envelope
from aiomos.wire.frame cimport Offload
from aiomos.wire.layers cimport Span

cdef enum:
    TEMPLATE_LINK = 22             # Ethernet and two VLAN tags
    MOST_SEGMENT_OPTIONS = 40
    MOST_SEGMENT_HEADERS = 22 + 40 + 20 + 40   # room that segment_write() needs besides the payload, at most
    NOT_ECT = 0                    # SegmentFields.ecn: RFC 3168 section 5
    ECT_1 = 1
    ECT_0 = 2
    ECN_CE = 3

# The headers of all segments of a connection, as far as they are alike.
ctypedef struct Template:
    uint8_t headers[66]            # link layer, ending at TEMPLATE_LINK; IP; ports
    uint8_t ip_version
    uint8_t link_len
    uint8_t ip_len
    uint16_t pseudo_sum            # of addresses and protocol

# What one segment says. Which options it has are OPT_ bits of wire.layers.
ctypedef struct SegmentFields:
    uint32_t seq
    uint32_t ack
    uint16_t flags                 # TcpFlag bits
    uint16_t window                # as sent, unscaled
    uint16_t options               # of OPT_MSS, OPT_SACK_OK, OPT_TIMESTAMP, OPT_WSCALE, OPT_SACK, OPT_FASTOPEN
    uint16_t mss                   # OPT_MSS
    uint16_t gso_size              # payload of a segment: a longer one is a super-segment; 0: it is not looked at
    uint8_t ecn
    uint8_t wscale                 # OPT_WSCALE
    uint8_t block_count            # OPT_SACK: those that find no room are left out, the last first
    uint8_t cookie_len             # OPT_FASTOPEN: 0 asks for one, else 4 to 16 and even (RFC 7413 section 4.1.1)
    bint cookie_experimental       # in the form of draft-ietf-tcpm-fastopen (option 254, 0xF989)
    uint32_t tsval                 # OPT_TIMESTAMP
    uint32_t tsecr
    const uint32_t* blocks         # left and right edge of each
    const uint8_t* cookie

# Make a template; false when the link header is longer than TEMPLATE_LINK, or states lengths (802.3, PPPoE). Without
# *dont_fragment* routers may fragment IPv4. The flow label (RFC 6437) is that of IPv6.
cdef bint template_open(Template* template, const Envelope* envelope, uint32_t flow_label,
                        bint dont_fragment) noexcept nogil
# Put another link header in front (the neighbour has moved); false, and unchanged, if it is too long.
cdef bint template_link(Template* template, const uint8_t* link, size_t n) noexcept nogil
# Bytes of options, a multiple of 4: of each segment's MSS so many are not for data (RFC 6691).
cdef size_t segment_options_len(const SegmentFields* fields) noexcept nogil
# Write a frame and return its length, 0 when it does not fit in *room* or in IP's lengths, when a super-segment has no
# *offload* to say so, or a cookie is none. The payload is that of *count* stretches, one behind the other.
#
# *ids* is the next identification of IPv4, moved on by one a segment: with DF set the connection's own, else one for
# all that goes to that host (RFC 6864 section 4.2); NULL: 0, as Linux sends SYN-ACKs.
#
# Without *offload* checksums are whole; else TCP's is left to be completed, and *offload* says how, and how to segment.
cdef size_t segment_write(const Template* template, const SegmentFields* fields, const Span* stretches, size_t count,
                          uint16_t* ids, Offload* offload, uint8_t* out, size_t room) noexcept nogil
