# TCP headers as they are sent, options in the order and with the padding of Linux.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t

from aiomos.wire.wire cimport MAX_SACK_BLOCKS

cdef enum:
    MAX_TCP_OPTIONS = 40
    MAX_TCP_HEADER = 60
    LEAST_COOKIE = 4           # bytes of a Fast Open cookie (RFC 7413 section 2)
    MOST_COOKIE = 16

# What a segment says besides its data.
ctypedef struct Segment:
    uint32_t seq
    uint32_t ack
    uint16_t flags             # nine bits
    uint16_t window            # as sent, unscaled
    uint16_t urgent
    uint16_t options           # bits of Option (wire/layers): which of these it has
    uint16_t mss               # OPT_MSS
    uint8_t wscale             # OPT_WSCALE
    uint8_t sack_count         # OPT_SACK: of the blocks below; as many of them as there is room for
    uint8_t cookie_len         # OPT_FASTOPEN: 0 asks for one
    uint32_t tsval             # OPT_TIMESTAMP
    uint32_t tsecr
    uint32_t sack[MAX_SACK_BLOCKS][2]    # begin, end; the most important first
    uint8_t cookie[MOST_COOKIE]

# Bytes of its TCP header; a multiple of four, at most MAX_TCP_HEADER.
cdef size_t tcp_header_len(const Segment* segment) noexcept nogil
# Write that header, checksum 0, and return its length.
cdef size_t tcp_header_write(const Segment* segment, uint16_t sport, uint16_t dport, uint8_t* out) noexcept nogil
