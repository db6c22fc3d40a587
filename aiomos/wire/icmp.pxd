# ICMP and ICMPv6: errors read, and made about a packet in hand; echo requests answered.
#
# As in `building`, each build_ function writes a whole frame to *out* and returns its length, or 0 when *room* is too
# small, the packet must not be answered so, or its link header cannot be built.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from aiomos.wire.rewriting cimport Quote, Rewrite
from aiomos.wire.wire cimport Address, PacketRecord

cdef enum:
    MAX_ICMP_ERROR = 64 + 1280     # room that an error needs, at most

# What went wrong: by the names of both versions, as type and code.
cdef enum IcmpError:
    UNREACHABLE_PORT           # ICMP 3/3, ICMPv6 1/4
    UNREACHABLE_PROHIBITED     # ICMP 3/13, ICMPv6 1/1
    UNREACHABLE_HOST           # ICMP 3/1, ICMPv6 1/3
    UNREACHABLE_NETWORK        # ICMP 3/0, ICMPv6 1/0
    UNREACHABLE_PROTOCOL       # ICMP 3/2, ICMPv6 4/1
    PACKET_TOO_BIG             # ICMP 3/4, ICMPv6 2/0; with the MTU of the next hop
    HOPS_EXCEEDED              # ICMP 11/0, ICMPv6 3/0
    REASSEMBLY_EXCEEDED        # ICMP 11/1, ICMPv6 3/1
    BAD_PARAMETER              # ICMP 12/0, ICMPv6 4/0; with a pointer to it
    ICMP_ERRORS

# An error that was received; of several codes that mean the same to an end one is told (RFC 1122 section 3.2.2.1).
ctypedef struct IcmpNotice:
    int what                   # IcmpError
    uint32_t mtu               # of PACKET_TOO_BIG; 0: not told (before RFC 1191)
    uint32_t pointer           # of BAD_PARAMETER, bytes from the quoted IP header on
    uint32_t packet_len        # of the packet that it is about, from its IP header on, as that says
    Quote quote                # what of it is quoted
    bint has_seq               # of TCP:
    uint32_t seq

# Read an error about a TCP or UDP packet or an echo, whole and with a right checksum; false for all else. Whether it is
# to be believed, RFC 5927 tells: the quoted numbers must be such as have been sent.
cdef bint icmp_read(const PacketRecord* packet, int kind, IcmpNotice* out) noexcept nogil

# An error about a packet to its source, from *source*, or where that is NULL from the packet's destination; *word* is
# the MTU, or the pointer. 0 where none may be sent (RFC 1122 section 3.2.2, RFC 4443 section 2.4): about an ICMP error,
# a fragment beyond the first, or what comes from or goes to a group, a broadcast address or none.
cdef size_t build_icmp_error(const Rewrite* offender, int what, uint32_t word, const Address* source, uint8_t* out,
                             size_t room) noexcept nogil
# The answer to an echo request, of the same bytes (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2); takes
# MAX_LINK_HEADER + 40 + packet.payload_len bytes. 0 for all else, and for one that is cut or has a wrong checksum.
cdef size_t build_echo_reply(const Rewrite* request, uint8_t* out, size_t room) noexcept nogil
