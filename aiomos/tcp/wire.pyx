"""Frames read from the link layer down to the TCP options.

Ethernet, IP and TCP are read here, one reader handing what follows to the next: each takes where its header starts, how
many bytes from there were captured, how many were on the wire (never fewer), the options, the packet to fill in, and
how many tunnels have been entered. All else that may stand before IP is read by `links` and `tags`, a header at a time:
their readers move a `Cursor` and tell what follows, and `decode_layers` goes on from there.

A length stated by the wire beyond what was on the wire is malformed; beyond what was captured it is
only cut. Neither is ever read.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aiomos.tcp.links cimport read_link, read_ppp
from aiomos.tcp.tags cimport read_ethernet, read_ethertype, read_llc, read_mpls, read_vlan
from aiomos.transport.frame cimport Frame

cdef extern from "<arpa/inet.h>" nogil:
    uint16_t ntohs(uint16_t)

cdef enum:
    LINKTYPE_ETHERNET = 1

cdef enum:
    PROTO_HOP_BY_HOP = 0
    PROTO_ICMP = 1
    PROTO_IPV4 = 4
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_IPV6 = 41
    PROTO_ROUTING = 43
    PROTO_FRAGMENT = 44
    PROTO_GRE = 47
    PROTO_AH = 51
    PROTO_ICMPV6 = 58
    PROTO_DESTINATION = 60
    PROTO_MOBILITY = 135
    PROTO_HIP = 139
    PROTO_SHIM6 = 140

cdef enum:
    PORT_GTP_U = 2152
    PORT_VXLAN = 4789
    PORT_GENEVE = 6081

cdef enum:
    ETHERNET_HEADER = 14
    IPV4_HEADER = 20
    IPV6_HEADER = 40
    TCP_HEADER = 20
    UDP_HEADER = 8

# What bounds the work on one frame.
cdef enum:
    MAX_TUNNELS = 4
    MAX_EXTENSIONS = 8                 # IPv6 extension headers of one packet; also GTP-U's

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_MSS = 2
    OPTION_WSCALE = 3
    OPTION_SACK_PERMITTED = 4
    OPTION_SACK = 5
    OPTION_TIMESTAMPS = 8
    OPTION_MD5 = 19
    OPTION_AO = 29
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


cdef inline uint32_t address_sum(const Packet* packet) noexcept nogil:
    """Addresses as they count in the pseudo-header of TCP."""
    cdef size_t at = 12 if packet.ip_version == 4 else 8
    cdef size_t size = 8 if packet.ip_version == 4 else 32
    return checksum_add(0, packet.network + at, size)


cdef bint tcp_checksum_ok(const uint8_t* data, size_t length, const Packet* packet) noexcept nogil:
    """Whether the sum is right, or one that a sender leaves for its network card to complete."""
    cdef uint16_t stated = be16(data + 16)
    cdef uint32_t without_length = address_sum(packet) + PROTO_TCP
    cdef uint32_t pseudo = without_length + <uint32_t> (length & 0xFFFF) + <uint32_t> (length >> 16)
    if checksum_fold(checksum_add(pseudo, data, length)) == 0xFFFF:
        return True
    # Transmit offload: nothing yet, the pseudo-header's sum, or for segmentation offload that without length.
    return stated == 0 or stated == checksum_fold(pseudo) or stated == checksum_fold(without_length)


# --- TCP ------------------------------------------------------------------------------------------

cdef bint read_option(const uint8_t* option, size_t size, Packet* out) noexcept nogil:
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
    return True


cdef void read_options(const uint8_t* option, size_t left, Packet* out) noexcept nogil:
    """Walk an option list; at most 40 steps, since data offset allows 40 bytes."""
    cdef size_t size
    while left:
        if option[0] == OPTION_END:
            return
        if option[0] == OPTION_NOP:
            size = 1
        elif left < 2 or option[1] < 2 or option[1] > left:
            out.options |= OPT_BAD
            return
        else:
            size = option[1]
            if not read_option(option, size, out):
                out.options |= OPT_BAD
        option += size
        left -= size


cdef inline int decode_tcp(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                           Packet* out, bint final_destination) noexcept nogil:
    cdef size_t size
    cdef uint16_t offset_and_flags
    if captured >= 4:                              # enough to tell the flow of a broken segment
        out.sport = be16(data)
        out.dport = be16(data + 2)
        out.transport = data
    if captured < TCP_HEADER:
        return WIRE_BAD_TCP if wire_len < TCP_HEADER else WIRE_TCP_CUT
    offset_and_flags = be16(data + 12)
    size = <size_t> (offset_and_flags >> 12) * 4
    if size < TCP_HEADER or size > wire_len:
        return WIRE_BAD_TCP
    if size > captured:
        return WIRE_TCP_CUT
    out.seq = be32(data + 4)
    out.ack = be32(data + 8)
    out.flags = offset_and_flags & 0x1FF
    out.window = be16(data + 14)
    out.urgent = be16(data + 18)
    out.options = 0
    out.mss = 0
    out.wscale = 0
    out.sack_count = 0
    out.tsval = 0
    out.tsecr = 0
    if size == TCP_HEADER + 12 and be32(data + 20) == ALIGNED_TIMESTAMPS:
        out.options = OPT_TIMESTAMP
        out.tsval = be32(data + 24)
        out.tsecr = be32(data + 28)
    elif size != TCP_HEADER:
        read_options(data + TCP_HEADER, size - TCP_HEADER, out)
    out.header_len = <uint16_t> size
    out.payload = data + size
    out.payload_len = <uint32_t> (wire_len - size)
    out.payload_cap = <uint32_t> (captured - size)
    if options.verify_checksums and final_destination and captured == wire_len:
        if not tcp_checksum_ok(data, wire_len, out):
            return WIRE_BAD_CHECKSUM
    return WIRE_TCP


# --- tunnels --------------------------------------------------------------------------------------

cdef inline bint enter_tunnel(Packet* out, int depth) noexcept nogil:
    """Count one more tunnel; false when there are too many."""
    if depth >= MAX_TUNNELS or out.link_layers >= MAX_LAYERS:
        return False
    out.link_layers += 1
    return True


cdef int decode_inner_frame(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                            Packet* out, int depth) noexcept nogil:
    cdef Cursor at
    if not enter_tunnel(out, depth):
        return WIRE_BAD_TUNNEL
    at.data, at.captured, at.wire_len, at.depth = data, captured, wire_len, <uint8_t> (depth + 1)
    return decode_layers(&at, NEXT_ETHERNET, options, out)


cdef int decode_inner_ip(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                         Packet* out, int depth) noexcept nogil:
    if not enter_tunnel(out, depth):
        return WIRE_BAD_TUNNEL
    return decode_ip(data, captured, wire_len, options, out, depth + 1)


cdef int decode_gre(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                    Packet* out, int depth) noexcept nogil:
    """RFC 2784 and RFC 2890; other versions (PPTP) and source routes stay closed."""
    cdef uint16_t flags, ethertype
    cdef size_t size = 4
    if captured < size:
        return WIRE_BAD_TUNNEL
    flags = be16(data)
    ethertype = be16(data + 2)
    if flags & 0x4007:
        return WIRE_IP_OTHER
    if flags & 0x8000:         # checksum, reserved
        size += 4
    if flags & 0x2000:         # key
        size += 4
    if flags & 0x1000:         # sequence number
        size += 4
    if captured < size:
        return WIRE_BAD_TUNNEL
    if ethertype == ETHERTYPE_BRIDGED:
        return decode_inner_frame(data + size, captured - size, wire_len - size, options, out, depth)
    if ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6:
        return decode_inner_ip(data + size, captured - size, wire_len - size, options, out, depth)
    return WIRE_IP_OTHER


cdef int decode_vxlan(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                      Packet* out, int depth) noexcept nogil:
    """RFC 7348 section 5; without the I flag the datagram only happens to use the port."""
    if captured < 8 or not data[0] & 0x08:
        return WIRE_UDP
    return decode_inner_frame(data + 8, captured - 8, wire_len - 8, options, out, depth)


cdef int decode_geneve(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                       Packet* out, int depth) noexcept nogil:
    """RFC 8926 section 3.4."""
    cdef size_t size
    cdef uint16_t ethertype
    if captured < 8 or data[0] >> 6 != 0:
        return WIRE_UDP
    size = 8 + <size_t> (data[0] & 0x3F) * 4
    ethertype = be16(data + 2)
    if captured < size:
        return WIRE_BAD_TUNNEL
    if ethertype == ETHERTYPE_BRIDGED:
        return decode_inner_frame(data + size, captured - size, wire_len - size, options, out, depth)
    if ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6:
        return decode_inner_ip(data + size, captured - size, wire_len - size, options, out, depth)
    return WIRE_UDP


cdef int decode_gtp_u(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                      Packet* out, int depth) noexcept nogil:
    """3GPP TS 29.281 section 5: G-PDU of version 1 with its extension headers, carrying IP."""
    cdef size_t at = 8
    cdef size_t size
    cdef uint8_t extension = 0
    cdef int _
    if captured < at or data[0] & 0xF0 != 0x30 or data[1] != 255:
        return WIRE_UDP
    if data[0] & 0x07:         # any of E, S, PN: sequence number, N-PDU number, first extension type
        at = 12
        if captured < at:
            return WIRE_BAD_TUNNEL
        extension = data[11] if data[0] & 0x04 else 0
    for _ in range(MAX_EXTENSIONS):
        if extension == 0:
            break
        if captured - at < 4:
            return WIRE_BAD_TUNNEL
        size = <size_t> data[at] * 4
        if size == 0 or size > captured - at:
            return WIRE_BAD_TUNNEL
        at += size
        extension = data[at - 1]
    else:
        return WIRE_BAD_TUNNEL
    if captured == at or (data[at] >> 4 != 4 and data[at] >> 4 != 6):
        return WIRE_UDP
    return decode_inner_ip(data + at, captured - at, wire_len - at, options, out, depth)


# --- upper layers ---------------------------------------------------------------------------------

cdef int decode_udp(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                    Packet* out, int depth) noexcept nogil:
    cdef size_t length
    if captured < UDP_HEADER:
        return WIRE_IP_OTHER
    length = be16(data + 4)
    if length >= UDP_HEADER and length < wire_len:
        wire_len = length
        captured = min(captured, wire_len)
    out.sport = be16(data)
    out.dport = be16(data + 2)
    out.payload = data + UDP_HEADER
    out.payload_len = <uint32_t> (wire_len - UDP_HEADER)
    out.payload_cap = <uint32_t> (captured - UDP_HEADER)
    if not options.decapsulate:
        return WIRE_UDP
    if out.dport == PORT_VXLAN:
        return decode_vxlan(out.payload, out.payload_cap, out.payload_len, options, out, depth)
    if out.dport == PORT_GENEVE:
        return decode_geneve(out.payload, out.payload_cap, out.payload_len, options, out, depth)
    if out.dport == PORT_GTP_U:
        return decode_gtp_u(out.payload, out.payload_cap, out.payload_len, options, out, depth)
    return WIRE_UDP


cdef int decode_other(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                      Packet* out, int depth) noexcept nogil:
    """All that IP carries but TCP."""
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
    if options.decapsulate:
        if out.proto == PROTO_IPV4 or out.proto == PROTO_IPV6:
            return decode_inner_ip(data, captured, wire_len, options, out, depth)
        if out.proto == PROTO_GRE:
            return decode_gre(data, captured, wire_len, options, out, depth)
    return WIRE_IP_OTHER


cdef int keep_fragment(const uint8_t* data, size_t captured, size_t wire_len, Packet* out) noexcept nogil:
    out.sport = 0
    out.dport = 0
    out.fragment = data
    out.fragment_len = <uint32_t> captured
    out.fragment_wire_len = <uint32_t> wire_len
    return WIRE_FRAGMENT


# --- IP -------------------------------------------------------------------------------------------

cdef inline int decode_ipv4(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                            Packet* out, int depth) noexcept nogil:
    cdef size_t size, total
    cdef uint16_t fragment
    out.transport = NULL                           # of an outer packet, it may be set
    if captured < IPV4_HEADER:
        return WIRE_BAD_IP if wire_len < IPV4_HEADER else WIRE_IP_CUT
    size = <size_t> (data[0] & 0x0F) * 4
    total = be16(data + 2)
    if total == 0:             # a super-frame of segmentation offload, too long for the field
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
                           Packet* out, int depth) noexcept nogil:
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


cdef inline int decode_ipv6(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                            Packet* out, int depth) noexcept nogil:
    cdef size_t total
    out.transport = NULL
    if captured < IPV6_HEADER:
        return WIRE_BAD_IP if wire_len < IPV6_HEADER else WIRE_IP_CUT
    out.proto = data[6]
    total = IPV6_HEADER + <size_t> be16(data + 4)
    # Zero length: a jumbogram (RFC 2675), or a super-frame of segmentation offload, whose option is left out.
    if total == IPV6_HEADER and (out.proto == PROTO_TCP or out.proto == PROTO_HOP_BY_HOP):
        total = wire_len
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
                   Packet* out, int depth) noexcept nogil:
    out.ip_version = 0
    if captured == 0:
        return WIRE_BAD_IP if wire_len == 0 else WIRE_IP_CUT
    if data[0] >> 4 == 6:
        return decode_ipv6(data, captured, wire_len, options, out, depth)
    return decode_ipv4(data, captured, wire_len, options, out, depth)


# --- link layers ----------------------------------------------------------------------------------

cdef int decode_layers(Cursor* at, int next, const DecodeOptions* options, Packet* out) noexcept nogil:
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


cdef inline int read_layer(Cursor* at, int next, Packet* out) noexcept nogil:
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
                       const DecodeOptions* options, Packet* out) noexcept nogil:
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
                                Packet* out) noexcept nogil:
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


cdef int decode_link(const Frame* frame, size_t wire_len, const DecodeOptions* options, Packet* out) noexcept nogil:
    """Every link type but Ethernet."""
    cdef Cursor at
    at.data, at.captured, at.wire_len, at.ethertype, at.depth = frame.data, frame.caplen, wire_len, frame.linktype, 0
    return decode_layers(&at, NEXT_LINK, options, out)


cdef int decode_frame(const Frame* frame, const DecodeOptions* options, Packet* out) noexcept nogil:
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
    out.transient = False
    out.ip_version = 0
    out.transport = NULL
    if frame.linktype == LINKTYPE_ETHERNET:
        return decode_ethernet(frame.data, frame.caplen, wire_len, options, out)
    return decode_link(frame, wire_len, options, out)


cdef int decode_subframe(Cursor* rest, const DecodeOptions* options, Packet* out) noexcept nogil:
    """IEEE 802.11 section 9.3.2.2: two addresses, a length, 802.2; padded to four bytes but for the last."""
    cdef Cursor at
    cdef size_t length
    out.vlan = NO_VLAN
    out.link_layers = 0
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
