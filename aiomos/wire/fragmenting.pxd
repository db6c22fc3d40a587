# A whole IP packet cut into fragments (RFC 791 section 3.2, RFC 8200 section 4.5).
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

ctypedef struct Fragmenter:
    const uint8_t* packet
    size_t length
    size_t header_len          # what every fragment begins with: IPv4 header, or IPv6's per-fragment headers
    size_t most                # bytes of a fragment, IP header included
    size_t at                  # payload bytes that have left
    bint done
    uint32_t id                # IPv6
    size_t next_header_at      # IPv6: of the byte that is to name the fragment header
    uint8_t later[60]          # IPv4: header of all fragments but the first, which has all options
    size_t later_len

# Begin to cut the packet of *length* bytes from its IP header on into fragments of at most *most* bytes, their IP
# headers included. The id is used for IPv6 only: that of the fragments the packet came in; IPv4 headers keep theirs,
# and DF. False when it cannot be cut: headers broken, a fragment itself, or *most* leaves no room for 8 bytes.
cdef bint fragmenter_begin(Fragmenter* f, const uint8_t* packet, size_t length, size_t most,
                           uint32_t id) noexcept nogil
# Write the next fragment, from its IP header on, to *out*, which has room for `most` bytes; its length, 0 after the
# last. A packet of at most `most` bytes gives one piece, as it is.
cdef size_t fragmenter_next(Fragmenter* f, uint8_t* out) noexcept nogil
