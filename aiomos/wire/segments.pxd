# Segments of a connection that ends here: what all of them share is laid out once.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t

from aiomos.wire.building cimport Envelope
from aiomos.wire.frame cimport Offload
from aiomos.wire.headers cimport MAX_TCP_HEADER, Segment

cdef enum:
    MAX_TEMPLATE_LINK = 22     # Ethernet with two VLAN tags
    MAX_SEGMENT_HEADERS = MAX_TEMPLATE_LINK + 40 + MAX_TCP_HEADER
    ECN_MASK = 3               # ECN field, of the byte that has DSCP in its upper bits (RFC 3168 section 5)

# Link and IP header of what one end of a connection sends, and its ports.
ctypedef struct Template:
    uint8_t headers[62]        # MAX_TEMPLATE_LINK and an IPv6 header; lengths and sums to be filled in
    uint8_t link_len
    uint8_t ip_version
    uint16_t linktype
    uint16_t sport
    uint16_t dport
    uint16_t identification    # of the next IPv4 packet
    uint32_t pseudo_sum        # of addresses and protocol

# Where some of the payload lies.
ctypedef struct Stretch:
    const uint8_t* data
    size_t length

# Make it of an envelope; false for a link header that states lengths, or is no Ethernet header of at most two tags.
# *flow_label* is IPv6's (RFC 6437), twenty bits; *dont_fragment* IPv4's bit.
cdef bint template_make(const Envelope* envelope, uint32_t flow_label, bint dont_fragment,
                        Template* out) noexcept nogil

# The link-layer address of the next hop has changed.
cdef void template_redirect(Template* template, const uint8_t* mac) noexcept nogil

# Write a frame, and return its length; 0 when it does not fit in *room*, or is longer than IP can say.
#
# With *offload* the network card, or whoever stands for it, takes the sum, and with *gso_size*, the payload of each,
# cuts the frame into segments; *offload is set. Without, gso_size is 0, and the frame is whole. *ecn* is the ECN field.
cdef size_t segment_write(Template* template, const Segment* segment, const Stretch* payload, size_t stretches,
                          uint8_t ecn, uint16_t gso_size, uint8_t* out, size_t room, Offload* offload) noexcept nogil
