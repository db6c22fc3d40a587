# Fields of a packet set in place: bytes, checksums and what was decoded of them.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.checksums cimport ChecksumField
from aiomos.wire.frame cimport Frame
from aiomos.wire.wire cimport Address, PacketRecord

# A decoded packet whose bytes may be written. Costs nothing to keep but is valid only as long as its frame, and until
# its packet is decoded again.
ctypedef struct Rewrite:
    PacketRecord* packet
    int kind                   # wire's Kind
    uint8_t* link              # first byte of the frame
    size_t frame_len           # bytes there
    size_t link_len            # bytes before the IP header (VLAN tags, MPLS, PPPoE): never assume 14
    uint16_t linktype
    uint8_t* network           # packet.network, writable; NULL without IP
    uint8_t* transport         # packet.transport, writable; NULL when ports and checksums cannot be reached
    ChecksumField checksum     # of the transport

# Make *packet*, decoded from *frame* as *kind*, writable. For a packet put together from fragments the frame is that of
# its last one, and link_len what stood before the IP header there; else link_len is packet.network - frame.data.
cdef void rewrite_begin(Rewrite* r, PacketRecord* packet, int kind, const Frame* frame, size_t link_len) noexcept nogil

# The headers of a packet, and what was decoded of them, as they were.
ctypedef struct Saved:
    PacketRecord packet
    size_t link_len
    size_t network_len
    size_t transport_len
    uint8_t link[14]
    uint8_t network[40]
    uint8_t transport[60]

cdef void rewrite_save(const Rewrite* r, Saved* out) noexcept nogil
cdef void rewrite_restore(Rewrite* r, const Saved* saved) noexcept nogil

# All setters return false, having changed nothing, when the packet has no such field (or not all of it was captured).
# Source and destination take an Address of the packet's IP version; fragments refuse them, and unknown protocols take
# them (of SCTP and the like no checksum covers the addresses).
cdef bint rewrite_src(Rewrite* r, const Address* src) noexcept nogil
cdef bint rewrite_dst(Rewrite* r, const Address* dst) noexcept nogil
cdef bint rewrite_sport(Rewrite* r, uint16_t port) noexcept nogil         # TCP, UDP
cdef bint rewrite_dport(Rewrite* r, uint16_t port) noexcept nogil
cdef bint rewrite_echo_id(Rewrite* r, uint16_t id) noexcept nogil         # ICMP and ICMPv6 echo request and reply
cdef bint rewrite_ttl(Rewrite* r, uint8_t ttl) noexcept nogil
cdef bint rewrite_tos(Rewrite* r, uint8_t tos) noexcept nogil
cdef bint rewrite_eth_src(Rewrite* r, const uint8_t* address) noexcept nogil   # six bytes; Ethernet only
cdef bint rewrite_eth_dst(Rewrite* r, const uint8_t* address) noexcept nogil
# TCP only:
cdef bint rewrite_seq(Rewrite* r, uint32_t seq) noexcept nogil
cdef bint rewrite_ack(Rewrite* r, uint32_t ack) noexcept nogil
cdef bint rewrite_flags(Rewrite* r, uint16_t flags) noexcept nogil        # TcpFlag bits, AE included
cdef bint rewrite_window(Rewrite* r, uint16_t window) noexcept nogil
cdef bint rewrite_urgent(Rewrite* r, uint16_t urgent) noexcept nogil
cdef bint rewrite_mss(Rewrite* r, uint16_t mss) noexcept nogil            # false without the option
cdef bint rewrite_timestamps(Rewrite* r, uint32_t tsval, uint32_t tsecr) noexcept nogil
# Put NOPs in place of the options of a kind; with an experiment, of those that name it (RFC 6994). How many there were.
cdef size_t rewrite_without(Rewrite* r, uint8_t kind, uint16_t experiment) noexcept nogil
# Write *count* blocks over those there are, no more of them; NOPs take the room left.
cdef bint rewrite_sack(Rewrite* r, const uint32_t* edges, uint8_t count) noexcept nogil

# Is dst what checksums cover? Not with segments left in an IPv6 routing header.
cdef bint dst_is_final(const Rewrite* r) noexcept nogil
# Does an authentication header (RFC 4302) cover the transport?
cdef bint is_authenticated(const Rewrite* r) noexcept nogil
# Write an address as an IP header has it; its size.
cdef size_t address_bytes(const Address* address, uint8_t ip_version, uint8_t* out) noexcept nogil

# --- ICMP -----------------------------------------------------------------------------------------
# Is it an echo request or reply? Then its identifier.
cdef bint echo_id(const PacketRecord* packet, int kind, uint16_t* id) noexcept nogil
# Of an echo request or reply: is it the latter?
cdef bint is_echo_reply(const PacketRecord* packet) noexcept nogil

# The packet an ICMP error quotes. Its ports are the identifier twice if it is an ICMP echo.
ctypedef struct Quote:
    Address src
    Address dst
    uint16_t sport
    uint16_t dport
    uint8_t ip_version
    uint8_t proto
    size_t network_at          # offsets from the outer transport header
    size_t transport_at
    size_t quoted              # bytes quoted from transport_at on, 8 at least; RFC 4884 extensions may be among them

# Read the quote of an ICMP error (not of a fragment beyond the first); false when it is none that can be told.
cdef bint quote_read(const PacketRecord* packet, int kind, Quote* out) noexcept nogil
# Set addresses and ports of the quoted packet, its checksums as far as they are quoted, and the outer ICMP checksum.
# The quote must have been read from this packet; it is brought up to date.
cdef void quote_rewrite(Rewrite* r, Quote* quote, const Address* src, const Address* dst, uint16_t sport,
                        uint16_t dport) noexcept nogil
