"""Frames read from the link layer down to the TCP options.

Ethernet, IP and TCP are read here, one reader handing what follows to the next: each takes where its header starts, how
many bytes from there were captured, how many were on the wire (never fewer), the options, the packet to fill in, and
how many tunnels have been entered. All else that may stand before IP is read by `links`, `tags` and `tunnels`, a header
at a time: their readers move a `Cursor` and tell what follows, and `decode_layers` goes on from there.

A length stated by the wire beyond what was on the wire is malformed; beyond what was captured it is
only cut. Neither is ever read.
"""

from libc.stdint cimport SIZE_MAX, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from aiomos.wire.frame cimport Frame
from aiomos.wire.layers cimport LAYER_UDP, LAYERS, unread
from aiomos.wire.links cimport read_link, read_ppp
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_MIN,
    IPV4_HEADER,
    IPV6_HEADER,
    LINKTYPE_ETHERNET,
    PROTO_AH,
    PROTO_DESTINATION,
    PROTO_FRAGMENT,
    PROTO_HIP,
    PROTO_HOP_BY_HOP,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_MOBILITY,
    PROTO_ROUTING,
    PROTO_SHIM6,
    PROTO_TCP,
    PROTO_UDP,
    TCP_HEADER,
    UDP_HEADER,
)
from aiomos.wire.tags cimport read_ethernet, read_ethertype, read_llc, read_mpls, read_vlan
from aiomos.wire.tunnels cimport TUNNEL_PORTS, add_tunnel_port, is_among, read_ip_tunnel, read_udp_tunnel, tunnel_port

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t ntohs(uint16_t)

cdef enum:
    TCP_THROUGH_FLAGS = 14             # ports, numbers, data offset and flags

# What bounds the work on one frame.
cdef enum:
    MAX_TUNNELS = 4
    MAX_EXTENSIONS = 8                 # IPv6 extension headers of one packet; authentication headers of IPv4

cdef enum:
    OPTION_PAD1 = 0                    # of IPv6 (RFC 8200 section 4.2)
    OPTION_JUMBO = 0xC2                # of IPv6 (RFC 2675 section 2)
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_MSS = 2
    OPTION_WSCALE = 3
    OPTION_SACK_PERMITTED = 4
    OPTION_SACK = 5
    OPTION_TIMESTAMPS = 8
    OPTION_MD5 = 19
    OPTION_AO = 29
    OPTION_MPTCP = 30
    OPTION_FASTOPEN = 34
    OPTION_EXPERIMENT = 254
    EXPERIMENT_FASTOPEN = 0xF989       # RFC 7413 appendix A
    ALIGNED_TIMESTAMPS = 0x0101080A    # NOP, NOP, kind 8, length 10: RFC 7323 appendix A
    MAX_WSCALE = 14                    # RFC 7323 section 2.3


# --- checksums ------------------------------------------------------------------------------------

cdef uint32_t checksum_add(uint32_t total, const uint8_t* data, size_t n) noexcept nogil:
    # The sum does not depend on byte order but for a swap at the end (RFC 1071 section 2B), so words are
    # added as the host loads them. Halves of 32 bits leave room for 2**32 of them.
    cdef uint64_t words = 0
    cdef uint64_t word
    while n >= 8:
        memcpy(&word, data, 8)
        words += <uint32_t> word + (word >> 32)
        data += 8
        n -= 8
    if n:
        word = 0
        memcpy(&word, data, n)
        words += <uint32_t> word + (word >> 32)
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return total + ntohs(<uint16_t> words)


cdef uint16_t checksum_fold(uint32_t total) noexcept nogil:
    total = (total & 0xFFFF) + (total >> 16)
    return <uint16_t> (total + (total >> 16))


cdef bint ipv4_checksum_ok(const uint8_t* header, size_t size) noexcept nogil:
    """Whether the sum is right, or zero: left by the sender for its network card to fill in."""
    return be16(header + 10) == 0 or checksum_fold(checksum_add(0, header, size)) == 0xFFFF


cdef inline uint32_t address_sum(const PacketRecord* packet) noexcept nogil:
    """Addresses as they count in the pseudo-header of TCP."""
    cdef size_t at = 12 if packet.ip_version == 4 else 8
    cdef size_t size = 8 if packet.ip_version == 4 else 32
    return checksum_add(0, packet.network + at, size)


cdef bint tcp_checksum_ok(const uint8_t* data, size_t length, const PacketRecord* packet) noexcept nogil:
    """Whether the sum is right, or one that a sender leaves for its network card to complete."""
    cdef uint16_t stated = be16(data + 16)
    cdef uint32_t without_length = address_sum(packet) + PROTO_TCP
    cdef uint32_t pseudo = without_length + <uint32_t> (length & 0xFFFF) + <uint32_t> (length >> 16)
    if checksum_fold(checksum_add(pseudo, data, length)) == 0xFFFF:
        return True
    # Transmit offload: nothing yet, the pseudo-header's sum, or for segmentation offload that without length.
    return stated == 0 or stated == checksum_fold(pseudo) or stated == checksum_fold(without_length)


# --- TCP ------------------------------------------------------------------------------------------

cdef bint read_option(const uint8_t* option, size_t size, PacketRecord* out) noexcept nogil:
    """Read one option of size bytes, kind and length included; false when that is no size for its kind."""
    cdef uint8_t kind = option[0]
    cdef uint8_t i
    if kind == OPTION_MSS:
        if size != 4:
            return False
        out.mss = be16(option + 2)
        out.options |= OPT_MSS
    elif kind == OPTION_WSCALE:
        if size != 3:
            return False
        out.wscale = min(option[2], <uint8_t> MAX_WSCALE)
        out.options |= OPT_WSCALE
    elif kind == OPTION_SACK_PERMITTED:
        if size != 2:
            return False
        out.options |= OPT_SACK_OK
    elif kind == OPTION_SACK:
        if size < 10 or size > 2 + 8 * MAX_SACK_BLOCKS or (size - 2) % 8:
            return False
        out.sack_count = <uint8_t> ((size - 2) / 8)
        for i in range(2 * out.sack_count):
            out.sack[i] = be32(option + 2 + 4 * i)
        out.options |= OPT_SACK
    elif kind == OPTION_TIMESTAMPS:
        if size != 10:
            return False
        out.tsval = be32(option + 2)
        out.tsecr = be32(option + 6)
        out.options |= OPT_TIMESTAMP
    elif kind == OPTION_FASTOPEN:
        out.options |= OPT_FASTOPEN
    elif kind == OPTION_EXPERIMENT:
        if size >= 4 and be16(option + 2) == EXPERIMENT_FASTOPEN:
            out.options |= OPT_FASTOPEN
    elif kind == OPTION_MD5 or kind == OPTION_AO:
        out.options |= OPT_MD5
    elif kind == OPTION_MPTCP:
        out.options |= OPT_MPTCP
    return True


cdef void read_options(const uint8_t* option, size_t captured, size_t left, PacketRecord* out) noexcept nogil:
    """Walk an option list of *left* bytes as far as it was captured; at most 40 steps, since data offset allows 40."""
    cdef size_t size
    while captured:
        if option[0] == OPTION_END:
            return
        if option[0] == OPTION_NOP:
            size = 1
        elif captured == 1 and left > 1:
            return                                 # its length was cut off
        elif left < 2 or option[1] < 2 or option[1] > left:
            out.options |= OPT_BAD
            return
        else:
            size = option[1]
            if size > captured:
                return
            if not read_option(option, size, out):
                out.options |= OPT_BAD
        option += size
        captured -= size
        left -= size


cdef inline void clear_options(PacketRecord* out) noexcept nogil:
    out.options = 0
    out.mss = 0
    out.wscale = 0
    out.sack_count = 0
    out.tsval = 0
    out.tsecr = 0


cdef int read_cut_header(const uint8_t* data, size_t captured, size_t wire_len, size_t size,
                         PacketRecord* out) noexcept nogil:
    """Read what the snap length has left of a TCP header of *size* bytes, which is at least its flags."""
    out.seq = be32(data + 4)
    out.ack = be32(data + 8)
    out.flags = be16(data + 12) & 0x1FF
    out.window = be16(data + 14) if captured >= 16 else 0
    out.urgent = be16(data + 18) if captured >= 20 else 0
    clear_options(out)
    if captured > TCP_HEADER:
        read_options(data + TCP_HEADER, captured - TCP_HEADER, size - TCP_HEADER, out)
    out.header_len = <uint16_t> size
    out.header_cap = <uint16_t> captured
    out.payload = data + captured
    out.payload_len = <uint32_t> (wire_len - size)
    out.payload_cap = 0
    return WIRE_TCP


cdef inline int decode_tcp(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                           PacketRecord* out, bint final_destination) noexcept nogil:
    cdef size_t size
    cdef uint16_t offset_and_flags
    if captured >= 4:                              # enough to tell the flow of a broken segment
        out.sport = be16(data)
        out.dport = be16(data + 2)
        out.transport = data
    if captured < TCP_THROUGH_FLAGS:
        return WIRE_BAD_TCP if wire_len < TCP_HEADER else WIRE_TCP_CUT
    offset_and_flags = be16(data + 12)
    size = <size_t> (offset_and_flags >> 12) * 4
    if size < TCP_HEADER or size > wire_len:
        return WIRE_BAD_TCP
    if size > captured:
        return read_cut_header(data, captured, wire_len, size, out)
    out.seq = be32(data + 4)
    out.ack = be32(data + 8)
    out.flags = offset_and_flags & 0x1FF
    out.window = be16(data + 14)
    out.urgent = be16(data + 18)
    clear_options(out)
    if size == TCP_HEADER + 12 and be32(data + 20) == ALIGNED_TIMESTAMPS:
        out.options = OPT_TIMESTAMP
        out.tsval = be32(data + 24)
        out.tsecr = be32(data + 28)
    elif size != TCP_HEADER:
        read_options(data + TCP_HEADER, size - TCP_HEADER, size - TCP_HEADER, out)
    out.header_len = out.header_cap = <uint16_t> size
    out.payload = data + size
    out.payload_len = <uint32_t> (wire_len - size)
    out.payload_cap = <uint32_t> (captured - size)
    if options.verify_checksums and final_destination and captured == wire_len:
        if not tcp_checksum_ok(data, wire_len, out):
            return WIRE_BAD_CHECKSUM
    return WIRE_TCP


# --- tunnels --------------------------------------------------------------------------------------

cdef int enter_tunnel(Cursor* at, int next, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """Go on behind the header of a tunnel, if there was one and not too many before it."""
    if next < NEXT_IP:
        return next
    if at.depth >= MAX_TUNNELS or out.link_layers >= MAX_LAYERS:
        return WIRE_BAD_TUNNEL
    out.link_layers += 1
    at.depth += 1
    return decode_layers(at, next, options, out)


# --- upper layers ---------------------------------------------------------------------------------

cdef int read_cut_datagram(const uint8_t* data, size_t captured, size_t wire_len, PacketRecord* out) noexcept nogil:
    """Read what the snap length has left of a UDP header; without the ports there is nothing to it."""
    cdef size_t length
    if captured < 4 or wire_len < UDP_HEADER:
        return WIRE_IP_OTHER
    length = be16(data + 4) if captured >= 6 else 0
    if length < UDP_HEADER or length > wire_len:
        length = wire_len
    out.sport = be16(data)
    out.dport = be16(data + 2)
    out.header_cap = <uint16_t> captured
    out.payload = data + captured
    out.payload_len = <uint32_t> (length - UDP_HEADER)
    out.payload_cap = 0
    return WIRE_UDP


cdef int decode_udp(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                    PacketRecord* out, int depth) noexcept nogil:
    cdef Cursor at
    cdef size_t length
    cdef uint16_t port
    cdef int next
    out.header_len = out.header_cap = UDP_HEADER
    out.unread_layer = LAYERS
    if captured < UDP_HEADER:
        return read_cut_datagram(data, captured, wire_len, out)
    length = be16(data + 4)
    if length >= UDP_HEADER and length < wire_len:
        wire_len = length
        captured = min(captured, wire_len)
    out.sport = be16(data)
    out.dport = be16(data + 2)
    out.payload = data + UDP_HEADER
    out.payload_len = <uint32_t> (wire_len - UDP_HEADER)
    out.payload_cap = <uint32_t> (captured - UDP_HEADER)
    if not (is_among(&TUNNEL_PORTS, out.dport) or is_among(&TUNNEL_PORTS, out.sport)):
        return WIRE_UDP
    port = tunnel_port(options, out)
    if not port:
        return WIRE_UDP
    at.data, at.captured, at.wire_len, at.depth = out.payload, out.payload_cap, out.payload_len, <uint8_t> depth
    next = read_udp_tunnel(&at, port, options, out)
    if options.decapsulate:
        return enter_tunnel(&at, next, options, out)
    if next >= NEXT_IP:
        unread(out, LAYER_UDP, port)
    return WIRE_UDP


cdef int decode_authenticated(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                              PacketRecord* out, int depth) noexcept nogil:
    """Pass the authentication header of an IPv4 packet (RFC 4302 section 3.1.1), to what it says is behind it."""
    cdef size_t size
    cdef int _
    out.transport = NULL
    for _ in range(MAX_EXTENSIONS):
        if wire_len < 8:
            return WIRE_BAD_EXTENSION
        if captured < 8:
            return WIRE_IP_CUT
        size = (<size_t> data[1] + 2) * 4
        if size > wire_len:
            return WIRE_BAD_EXTENSION
        if size > captured:
            return WIRE_IP_CUT
        out.proto = data[0]
        data += size
        captured -= size
        wire_len -= size
        if out.proto == PROTO_TCP:
            return decode_tcp(data, captured, wire_len, options, out, True)
        if out.proto != PROTO_AH:
            return decode_other(data, captured, wire_len, options, out, depth)
    return WIRE_BAD_EXTENSION


cdef int decode_other(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                      PacketRecord* out, int depth) noexcept nogil:
    """All that IP carries but TCP."""
    cdef Cursor at
    out.sport = 0
    out.dport = 0
    out.transport = data
    out.payload = data
    out.payload_len = <uint32_t> wire_len
    out.payload_cap = <uint32_t> captured
    if out.proto == PROTO_UDP:
        return decode_udp(data, captured, wire_len, options, out, depth)
    if out.proto == (PROTO_ICMP if out.ip_version == 4 else PROTO_ICMPV6):
        return WIRE_ICMP
    if out.proto == PROTO_AH:                          # of IPv4; of IPv6 it is an extension header
        return decode_authenticated(data, captured, wire_len, options, out, depth)
    if not options.decapsulate:
        return WIRE_IP_OTHER
    at.data, at.captured, at.wire_len, at.depth = data, captured, wire_len, <uint8_t> depth
    return enter_tunnel(&at, read_ip_tunnel(&at, options, out), options, out)


cdef int keep_fragment(const uint8_t* data, size_t captured, size_t wire_len, PacketRecord* out) noexcept nogil:
    out.sport = 0
    out.dport = 0
    out.fragment = data
    out.fragment_len = <uint32_t> captured
    out.fragment_wire_len = <uint32_t> wire_len
    return WIRE_FRAGMENT


# --- IP -------------------------------------------------------------------------------------------

cdef inline int decode_ipv4(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                            PacketRecord* out, int depth) noexcept nogil:
    cdef size_t size, total
    cdef uint16_t fragment
    out.transport = NULL                           # of an outer packet, it may be set
    if captured < IPV4_HEADER:
        return WIRE_BAD_IP if wire_len < IPV4_HEADER else WIRE_IP_CUT
    size = <size_t> (data[0] & 0x0F) * 4
    total = be16(data + 2)
    if total == 0 and wire_len <= MOST_IP_LENGTH:  # a super-frame of segmentation offload, too long for the field
        total = wire_len
    if data[0] >> 4 != 4 or size < IPV4_HEADER or size > total or total > wire_len:
        return WIRE_BAD_IP
    captured = min(captured, total)
    if size > captured:
        return WIRE_IP_CUT
    out.ip_version = 4
    out.tos = data[1]
    out.ttl = data[8]
    out.proto = data[9]
    out.src.hi = 0
    out.src.lo = 0xFFFF00000000ULL | be32(data + 12)
    out.dst.hi = 0
    out.dst.lo = 0xFFFF00000000ULL | be32(data + 16)
    out.network = data
    out.network_len = <uint32_t> captured
    if options.verify_checksums and not ipv4_checksum_ok(data, size):
        return WIRE_BAD_CHECKSUM
    fragment = be16(data + 6)
    if fragment & 0x3FFF:
        out.fragment_id = be16(data + 4)
        out.fragment_offset = <uint32_t> (fragment & 0x1FFF) * 8
        out.more_fragments = fragment & 0x2000 != 0
        return keep_fragment(data + size, captured - size, total - size, out)
    if out.proto == PROTO_TCP:
        return decode_tcp(data + size, captured - size, total - size, options, out, True)
    return decode_other(data + size, captured - size, total - size, options, out, depth)


cdef inline bint is_extension(uint8_t proto) noexcept nogil:
    return (proto == PROTO_HOP_BY_HOP or proto == PROTO_ROUTING or proto == PROTO_FRAGMENT or proto == PROTO_AH
            or proto == PROTO_DESTINATION or proto == PROTO_MOBILITY or proto == PROTO_HIP or proto == PROTO_SHIM6)


cdef int decode_extensions(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                           PacketRecord* out, int depth) noexcept nogil:
    """Walk IPv6 extension headers (RFC 8200 section 4); out.proto names the first."""
    cdef const uint8_t* link = out.network + 6
    cdef bint final_destination = True
    cdef size_t size
    cdef uint16_t fragment
    cdef int i
    for i in range(MAX_EXTENSIONS):
        if wire_len < 8 or (out.proto == PROTO_HOP_BY_HOP and i > 0):
            return WIRE_BAD_EXTENSION
        if captured < 8:
            return WIRE_IP_CUT
        if out.proto == PROTO_FRAGMENT:
            size = 8
        elif out.proto == PROTO_AH:
            size = (<size_t> data[1] + 2) * 4          # RFC 4302 section 2.2
        else:
            size = (<size_t> data[1] + 1) * 8
        if size > wire_len:
            return WIRE_BAD_EXTENSION
        if size > captured:
            return WIRE_IP_CUT
        if out.proto == PROTO_ROUTING and data[3]:
            final_destination = False                  # segments left: the pseudo-header has another address
        fragment = be16(data + 2) & 0xFFF9 if out.proto == PROTO_FRAGMENT else 0
        out.proto = data[0]
        if fragment:                                   # else atomic: RFC 6946, a packet like any other
            out.fragment_id = be32(data + 4)
            out.fragment_offset = fragment & 0xFFF8
            out.more_fragments = fragment & 1
            out.fragment_link = link
            return keep_fragment(data + 8, captured - 8, wire_len - 8, out)
        link = data
        data += size
        captured -= size
        wire_len -= size
        if out.proto == PROTO_TCP:
            return decode_tcp(data, captured, wire_len, options, out, final_destination)
        if not is_extension(out.proto):
            return decode_other(data, captured, wire_len, options, out, depth)
    return WIRE_BAD_EXTENSION


cdef size_t ipv6_long(const uint8_t* data, size_t captured, size_t wire_len) noexcept nogil:
    """Length of a packet whose payload length is 0; SIZE_MAX if it cannot be.

    A jumbogram's is in its hop-by-hop header (RFC 2675 section 2). A super-frame of segmentation offload, whose option
    was left out, goes to the end of the frame.
    """
    cdef const uint8_t* option = data + IPV6_HEADER + 2
    cdef size_t left = 0, size, jumbo
    if data[6] == PROTO_HOP_BY_HOP and captured >= IPV6_HEADER + 8:
        left = min((<size_t> data[IPV6_HEADER + 1] + 1) * 8, captured - IPV6_HEADER) - 2
    while left >= 6:                               # at most 2 KiB of them
        if option[0] == OPTION_PAD1:
            size = 1
        elif option[0] == OPTION_JUMBO and option[1] == 4:
            jumbo = be32(option + 2)
            # Section 3: no jumbogram is as short as other packets.
            return IPV6_HEADER + jumbo if 0xFFFF < jumbo <= MOST_IP_LENGTH - IPV6_HEADER else SIZE_MAX
        else:
            size = 2 + <size_t> option[1]
        if size > left:
            break
        option += size
        left -= size
    return wire_len if wire_len <= MOST_IP_LENGTH else SIZE_MAX


cdef inline int decode_ipv6(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                            PacketRecord* out, int depth) noexcept nogil:
    cdef size_t total
    out.transport = NULL
    if captured < IPV6_HEADER:
        return WIRE_BAD_IP if wire_len < IPV6_HEADER else WIRE_IP_CUT
    out.proto = data[6]
    total = IPV6_HEADER + <size_t> be16(data + 4)
    if total == IPV6_HEADER and (out.proto == PROTO_TCP or out.proto == PROTO_HOP_BY_HOP):
        total = ipv6_long(data, captured, wire_len)
    if data[0] >> 4 != 6 or total > wire_len:
        return WIRE_BAD_IP
    captured = min(captured, total)
    out.ip_version = 6
    out.tos = <uint8_t> (be16(data) >> 4)
    out.ttl = data[7]
    out.src.hi = be64(data + 8)
    out.src.lo = be64(data + 16)
    out.dst.hi = be64(data + 24)
    out.dst.lo = be64(data + 32)
    out.network = data
    out.network_len = <uint32_t> captured
    data += IPV6_HEADER
    captured -= IPV6_HEADER
    total -= IPV6_HEADER
    if out.proto == PROTO_TCP:
        return decode_tcp(data, captured, total, options, out, True)
    if is_extension(out.proto):
        return decode_extensions(data, captured, total, options, out, depth)
    return decode_other(data, captured, total, options, out, depth)


cdef int decode_ip(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                   PacketRecord* out, int depth) noexcept nogil:
    out.ip_version = 0
    if captured == 0:
        return WIRE_BAD_IP if wire_len == 0 else WIRE_IP_CUT
    if data[0] >> 4 == 6:
        return decode_ipv6(data, captured, wire_len, options, out, depth)
    return decode_ipv4(data, captured, wire_len, options, out, depth)


# --- link layers ----------------------------------------------------------------------------------

cdef int decode_layers(Cursor* at, int next, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    out.ip_version = 0
    out.transport = NULL
    while next >= NEXT_IP:
        if next == NEXT_IP or (next == NEXT_ETHERTYPE and is_ip(at.ethertype)):
            return decode_ip(at.data, at.captured, at.wire_len, options, out, at.depth)
        if out.link_layers >= MAX_LAYERS:              # every turn is one more
            return WIRE_BAD_TUNNEL if at.depth else WIRE_BAD_LINK
        out.link_layers += 1
        next = read_layer(at, next, out)
    return next


cdef inline bint is_ip(uint16_t ethertype) noexcept nogil:
    return ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6


cdef inline int read_layer(Cursor* at, int next, PacketRecord* out) noexcept nogil:
    if next == NEXT_ETHERTYPE:
        return read_vlan(at, out) if is_vlan(at.ethertype) else read_ethertype(at, out)
    if next == NEXT_ETHERNET:
        return read_ethernet(at, out)
    if next == NEXT_PPP:
        return read_ppp(at, out)
    if next == NEXT_MPLS:
        return read_mpls(at, out)
    if next == NEXT_LLC:
        return read_llc(at, out)
    return read_link(at, out)


cdef int decode_tagged(const uint8_t* data, size_t captured, size_t wire_len, uint16_t ethertype,
                       const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """An Ethernet frame with something else than IPv4, from behind its header on."""
    cdef Cursor at
    if ethertype == ETHERTYPE_IPV6:
        return decode_ipv6(data, captured, wire_len, options, out, 0)
    at.data, at.captured, at.wire_len, at.ethertype, at.depth = data, captured, wire_len, ethertype, 0
    if is_vlan(ethertype):                             # one tag is nearly as common as none
        out.link_layers = 1
        if read_vlan(&at, out) == NEXT_ETHERTYPE:
            if at.ethertype == ETHERTYPE_IPV4:
                return decode_ipv4(at.data, at.captured, at.wire_len, options, out, 0)
            return decode_layers(&at, NEXT_ETHERTYPE, options, out)
        return WIRE_BAD_LINK
    if ethertype >= ETHERTYPE_MIN:
        return decode_layers(&at, NEXT_ETHERTYPE, options, out)
    at.data -= ETHERNET_HEADER                         # with a length, its addresses may mean something
    at.captured += ETHERNET_HEADER
    at.wire_len += ETHERNET_HEADER
    return decode_layers(&at, NEXT_ETHERNET, options, out)


cdef inline int decode_ethernet(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                                PacketRecord* out) noexcept nogil:
    cdef uint16_t ethertype
    if captured < ETHERNET_HEADER:
        return WIRE_BAD_LINK
    ethertype = be16(data + 12)
    data += ETHERNET_HEADER
    captured -= ETHERNET_HEADER
    wire_len -= ETHERNET_HEADER
    if ethertype == ETHERTYPE_IPV4:                    # nearly every frame: keep it in line
        return decode_ipv4(data, captured, wire_len, options, out, 0)
    return decode_tagged(data, captured, wire_len, ethertype, options, out)


cdef int decode_link(const Frame* frame, size_t wire_len, const DecodeOptions* options,
                     PacketRecord* out) noexcept nogil:
    """Every link type but Ethernet."""
    cdef Cursor at
    at.data, at.captured, at.wire_len, at.ethertype, at.depth = frame.data, frame.caplen, wire_len, frame.linktype, 0
    return decode_layers(&at, NEXT_LINK, options, out)


cdef int decode_frame(const Frame* frame, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    # A capture that states fewer bytes on the wire than it holds is believed in what it holds.
    cdef size_t wire_len = max(frame.wirelen, frame.caplen)
    out.time_ns = frame.time_ns
    out.link = frame.data
    out.frame_len = frame.caplen
    out.linktype = frame.linktype
    out.interface = frame.interface
    out.known = False
    out.vlan = NO_VLAN
    out.link_layers = 0
    out.tunnel = 0
    out.transient = False
    out.ip_version = 0
    out.transport = NULL
    if frame.linktype == LINKTYPE_ETHERNET:
        return decode_ethernet(frame.data, frame.caplen, wire_len, options, out)
    return decode_link(frame, wire_len, options, out)


cdef int decode_subframe(Cursor* rest, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """IEEE 802.11 section 9.3.2.2: two addresses, a length, 802.2; padded to four bytes but for the last."""
    cdef Cursor at
    cdef size_t length
    out.vlan = NO_VLAN
    out.link_layers = 0
    out.tunnel = 0
    out.ip_version = 0
    out.transport = NULL
    if rest.captured < ETHERNET_HEADER:
        rest.captured = 0
        return WIRE_BAD_LINK
    length = be16(rest.data + 12)
    cursor_skip(rest, ETHERNET_HEADER)
    if length > rest.wire_len:
        rest.captured = 0
        return WIRE_BAD_LINK
    at = rest[0]
    cursor_clip(&at, length)
    length = min((length + ETHERNET_HEADER + 3 & ~<size_t> 3) - ETHERNET_HEADER, rest.captured)
    cursor_skip(rest, length)
    return decode_layers(&at, NEXT_LLC, options, out)


cdef int decode_options_of(settings, const uint8_t* key, DecodeOptions* out) except -1:
    cdef int i
    memset(out, 0, sizeof(DecodeOptions))
    out.verify_checksums = settings.checksums == "verify"
    out.decapsulate = settings.decapsulate
    out.separate_tunnels = settings.decapsulate and settings.separate_tunnels
    memcpy(out.tunnel_keys, key, sizeof(out.tunnel_keys))
    for i, port in enumerate(settings.vxlan_ports):
        out.vxlan_ports[i] = port
        add_tunnel_port(port)
    return 0
