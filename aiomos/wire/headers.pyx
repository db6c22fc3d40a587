"""TCP headers as they are sent (RFC 9293 section 3.1), options in the order and with the padding of Linux.

Peers, firewalls and tests expect that order. Options are written whole or not at all: what has no room left is left
out, blocks of SACK (RFC 2018) from the last, then the cookie of Fast Open (RFC 7413). All others fit together.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint8_t
from libc.string cimport memcpy

from aiomos.wire.checksums cimport put16, put32
from aiomos.wire.numbers cimport TCP_HEADER
from aiomos.wire.wire cimport (
    MAX_SACK_BLOCKS,
    OPT_FASTOPEN,
    OPT_MSS,
    OPT_SACK,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
)

cdef enum:                     # kinds of options (IANA)
    KIND_NOP = 1
    KIND_MSS = 2
    KIND_WSCALE = 3
    KIND_SACK_OK = 4
    KIND_SACK = 5
    KIND_TIMESTAMP = 8
    KIND_FASTOPEN = 34

cdef enum:                     # bytes, as they are written
    MSS_LEN = 4
    WSCALE_LEN = 4
    SACK_OK_LEN = 4            # nothing, where the padding of a timestamp holds it
    TIMESTAMP_LEN = 12
    SACK_LEN = 4               # and for each block
    SACK_BLOCK = 8


cdef inline size_t cookie_option_len(const Segment* segment) noexcept nogil:
    return (2 + min(segment.cookie_len, <uint8_t> MOST_COOKIE) + 3) // 4 * 4


cdef size_t fixed_options_len(const Segment* segment) noexcept nogil:
    """Bytes of the options that always fit."""
    cdef uint16_t options = segment.options
    cdef size_t n = 0
    if options & OPT_MSS:
        n += MSS_LEN
    if options & OPT_TIMESTAMP:
        n += TIMESTAMP_LEN
    elif options & OPT_SACK_OK:
        n += SACK_OK_LEN
    if options & OPT_WSCALE:
        n += WSCALE_LEN
    return n


cdef size_t sack_blocks(const Segment* segment, size_t used) noexcept nogil:
    """How many blocks there is room for."""
    if not segment.options & OPT_SACK:
        return 0
    return min(min(<size_t> segment.sack_count, <size_t> MAX_SACK_BLOCKS),
               (MAX_TCP_OPTIONS - used - SACK_LEN) // SACK_BLOCK)


cdef size_t tcp_header_len(const Segment* segment) noexcept nogil:
    cdef size_t n = fixed_options_len(segment)
    cdef size_t blocks = sack_blocks(segment, n)
    if blocks:
        n += SACK_LEN + SACK_BLOCK * blocks
    if segment.options & OPT_FASTOPEN and n + cookie_option_len(segment) <= MAX_TCP_OPTIONS:
        n += cookie_option_len(segment)
    return TCP_HEADER + n


cdef size_t tcp_header_write(const Segment* segment, uint16_t sport, uint16_t dport, uint8_t* out) noexcept nogil:
    cdef size_t header = tcp_header_len(segment)
    put16(out, sport)
    put16(out + 2, dport)
    put32(out + 4, segment.seq)
    put32(out + 8, segment.ack)
    put16(out + 12, <uint16_t> (header // 4 << 12) | (segment.flags & 0x1FF))
    put16(out + 14, segment.window)
    put16(out + 16, 0)
    put16(out + 18, segment.urgent)
    if header > TCP_HEADER:
        write_options(segment, out + TCP_HEADER, header - TCP_HEADER)
    return header


cdef void write_options(const Segment* segment, uint8_t* out, size_t room) noexcept nogil:
    """Write the options, *room* being what tcp_header_len() counted for them."""
    cdef uint16_t options = segment.options
    cdef size_t blocks = sack_blocks(segment, fixed_options_len(segment)), i
    cdef uint8_t* at = out
    if options & OPT_MSS:
        at = put_option(at, KIND_MSS, MSS_LEN)
        put16(at, segment.mss)
        at += 2
    if options & OPT_TIMESTAMP:
        at = put_option(at, KIND_SACK_OK, 2) if options & OPT_SACK_OK else put_nops(at, 2)
        at = put_option(at, KIND_TIMESTAMP, 10)
        put32(at, segment.tsval)
        put32(at + 4, segment.tsecr)
        at += 8
    elif options & OPT_SACK_OK:
        at = put_option(put_nops(at, 2), KIND_SACK_OK, 2)
    if options & OPT_WSCALE:
        at = put_option(put_nops(at, 1), KIND_WSCALE, 3)
        at[0] = segment.wscale
        at += 1
    if blocks:
        at = put_option(put_nops(at, 2), KIND_SACK, <uint8_t> (2 + SACK_BLOCK * blocks))
        for i in range(blocks):
            put32(at, segment.sack[i][0])
            put32(at + 4, segment.sack[i][1])
            at += SACK_BLOCK
    if at < out + room:
        i = min(<size_t> segment.cookie_len, <size_t> MOST_COOKIE)
        at = put_option(at, KIND_FASTOPEN, <uint8_t> (2 + i))
        memcpy(at, segment.cookie, i)
        at += i
        put_nops(at, <size_t> (out + room - at))


cdef inline uint8_t* put_option(uint8_t* out, uint8_t kind, uint8_t length) noexcept nogil:
    out[0], out[1] = kind, length
    return out + 2


cdef inline uint8_t* put_nops(uint8_t* out, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        out[i] = KIND_NOP
    return out + n
