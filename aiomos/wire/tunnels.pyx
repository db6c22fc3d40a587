"""Headers that stand between an outer IP header and what it carries: IP, Ethernet, PPP, a label stack.

Every reader checks that its header was captured whole, moves the cursor behind it, and tells what follows; `wire` goes
on from there. Lengths that a header states are obeyed.

A UDP port is no proof: a client may have got it by chance. A datagram that is not what its port says is WIRE_UDP, and
never malformed, so a reader whose header has no mark to know it by looks at what is behind it as well.

Where tunnels separate flows, a reader notes which one it was (`note_number`, `note_ends`); docs/design/tunnels.md
says what names a tunnel and what does not.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.layers cimport (
    ENCRYPTED_ESP,
    ENCRYPTED_WLAN,
    LAYER_ENCRYPTED,
    MAX_VXLAN_PORTS,
    NEXT_ETHERNET,
    NEXT_ETHERTYPE,
    NEXT_IP,
    NEXT_LINK,
    NEXT_LLC,
    NEXT_MPLS,
    NEXT_PPP,
    WIRE_BAD_TUNNEL,
    WIRE_IP_OTHER,
    WIRE_UDP,
    Address,
    be16,
    be32,
    cursor_clip,
    cursor_skip,
    is_vlan,
    unread,
)
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_BRIDGED,
    ETHERTYPE_EOIP,
    ETHERTYPE_ERSPAN,
    ETHERTYPE_ERSPAN_III,
    ETHERTYPE_FRAME_RELAY,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM,
    ETHERTYPE_NSH,
    ETHERTYPE_PPP,
    ETHERTYPE_WCCP,
    IPV4_HEADER,
    IPV6_HEADER,
    LINKTYPE_FRELAY,
    LINKTYPE_IEEE802_11,
    PROTO_ETHERIP,
    PROTO_GRE,
    PROTO_IPV4,
    PROTO_IPV6,
    PROTO_L2TP,
    PROTO_MPLS,
)
from aiomos.wire.siphash cimport siphash13

cdef enum:
    PORT_L2TP = 1701
    PORT_GTP_U = 2152
    PORT_TEREDO = 3544
    PORT_VXLAN = 4789              # whichever of its ports it is
    PORT_ESP = 4500
    PORT_LISP = 4341
    PORT_GRE = 4754
    PORT_VXLAN_GPE = 4790
    PORT_AYIYA = 5072
    PORT_CAPWAP = 5247
    PORT_GENEVE = 6081
    PORT_MPLS = 6635
    PORT_TZSP = 37008

cdef enum:
    WLAN_DATA = 0x08           # version 0, type 2: IEEE 802.11 section 9.2.4.1

cdef enum:
    MAX_EXTENSIONS = 8         # GTP-U extension headers, GRE source routes, labels behind UDP
    MAX_TAGS = 32              # of TZSP

# By what kind of name a tunnel is told from others.
cdef enum Name:
    NAME_VNI = 1
    NAME_GRE_KEY = 2
    NAME_VSID = 3
    NAME_INSTANCE = 4          # of LISP
    NAME_EOIP = 5
    NAME_ENDS = 6


# --- which tunnel ---------------------------------------------------------------------------------

cdef void note_number(const DecodeOptions* options, PacketRecord* out, int name, uint64_t number) noexcept nogil:
    """A number names the tunnel, the same in both directions and wherever its ends are."""
    cdef uint64_t words[3]
    if options.separate_tunnels:
        words[0], words[1], words[2] = out.tunnel, name, number
        out.tunnel = siphash13(options.tunnel_keys[0], options.tunnel_keys[1], words, 3)


cdef void note_ends(const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """Nothing but its two ends tell the tunnel from others."""
    cdef uint64_t words[6]
    cdef Address low = out.src, high = out.dst
    if options.separate_tunnels:
        if high.hi < low.hi or (high.hi == low.hi and high.lo < low.lo):
            low, high = high, low
        words[0], words[1] = out.tunnel, NAME_ENDS
        words[2], words[3], words[4], words[5] = low.hi, low.lo, high.hi, high.lo
        out.tunnel = siphash13(options.tunnel_keys[0], options.tunnel_keys[1], words, 6)


# --- what stands there ----------------------------------------------------------------------------

cdef bint is_ip(const Cursor* at, size_t skip) noexcept nogil:
    """Does an IP packet stand there, as far as its first bytes tell?"""
    cdef const uint8_t* data = at.data + skip
    cdef size_t left = at.wire_len - skip
    cdef uint16_t length
    if at.captured < skip + 6:
        return False
    if data[0] >> 4 == 6:
        return left >= IPV6_HEADER and be16(data + 4) <= left - IPV6_HEADER
    length = be16(data + 2)
    return data[0] >> 4 == 4 and data[0] & 0x0F >= 5 and IPV4_HEADER <= length <= left


cdef bint is_ethernet(const Cursor* at, size_t skip) noexcept nogil:
    """Does an Ethernet frame with IP in it stand there?"""
    cdef uint16_t ethertype
    cdef int _
    skip += ETHERNET_HEADER
    for _ in range(2):                                 # one VLAN tag, or none
        if at.captured < skip:
            return False
        ethertype = be16(at.data + skip - 2)
        if not is_vlan(ethertype):
            break
        skip += 4
    return (ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6) and is_ip(at, skip)


cdef void skip_hdlc(Cursor* at) noexcept nogil:
    """PPP may have HDLC's address and control bytes (RFC 1662 section 3.1)."""
    if at.captured >= 2 and be16(at.data) == 0xFF03:
        cursor_skip(at, 2)


cdef int next_of_ethertype(Cursor* at, uint16_t ethertype, int otherwise) noexcept nogil:
    """What stands behind a header whose protocol is an EtherType, whichever tunnel it is of."""
    if ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6:
        return NEXT_IP
    if ethertype == ETHERTYPE_BRIDGED:
        return NEXT_ETHERNET
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_UPSTREAM:
        return NEXT_MPLS
    if ethertype == ETHERTYPE_NSH:
        at.ethertype = ETHERTYPE_NSH
        return NEXT_ETHERTYPE
    return otherwise


# --- over IP --------------------------------------------------------------------------------------

cdef int read_ip_tunnel(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    if out.proto == PROTO_IPV4 or out.proto == PROTO_IPV6:
        note_ends(options, out)
        return NEXT_IP
    if out.proto == PROTO_GRE:
        return read_gre(at, options, out)
    if out.proto == PROTO_MPLS:                        # RFC 4023
        note_ends(options, out)
        return NEXT_MPLS
    if out.proto == PROTO_ETHERIP:
        return read_etherip(at, options, out)
    if out.proto == PROTO_L2TP:
        return read_l2tp_session(at, options, out, WIRE_IP_OTHER)
    return WIRE_IP_OTHER


cdef int read_etherip(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 3378 section 3: version 3, the rest zero."""
    if at.captured < 2:
        return WIRE_BAD_TUNNEL
    if be16(at.data) != 0x3000:
        return WIRE_IP_OTHER
    cursor_skip(at, 2)
    note_ends(options, out)
    return NEXT_ETHERNET


cdef int read_l2tp_session(Cursor* at, const DecodeOptions* options, PacketRecord* out, int otherwise) noexcept nogil:
    """L2TPv3 data (RFC 3931 section 4.1): a session, and behind it what only both ends know the length of.

    That is a cookie of 0, 4 or 8 bytes and a sublayer of 0 or 4. An Ethernet frame with IP tells where it begins.
    """
    cdef size_t size
    if at.captured < 4 or be32(at.data) == 0:          # session 0: a control message
        return otherwise
    for size in range(4, 17, 4):
        if is_ethernet(at, size):
            cursor_skip(at, size)
            note_ends(options, out)
            return NEXT_ETHERNET
    return otherwise


# --- GRE ------------------------------------------------------------------------------------------

cdef enum:
    GRE_CHECKSUM = 0x8000
    GRE_ROUTING = 0x4000
    GRE_KEY = 0x2000
    GRE_SEQUENCE = 0x1000
    GRE_ACKNOWLEDGEMENT = 0x0080       # of version 1
    GRE_VERSION = 0x0007


cdef int read_gre(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 2784 and RFC 2890, with the source routes of RFC 1701."""
    cdef uint16_t flags, ethertype
    cdef uint32_t key = 0
    cdef size_t size = 4
    cdef int next
    if at.captured < size:
        return WIRE_BAD_TUNNEL
    flags = be16(at.data)
    ethertype = be16(at.data + 2)
    if flags & GRE_VERSION:
        return read_enhanced_gre(at, flags, ethertype, options, out)
    if flags & (GRE_CHECKSUM | GRE_ROUTING):           # checksum, offset
        size += 4
    if flags & GRE_KEY:
        size += 4
        if at.captured < size:
            return WIRE_BAD_TUNNEL
        key = be32(at.data + size - 4)
    if flags & GRE_SEQUENCE:
        size += 4
    if at.captured < size:
        return WIRE_BAD_TUNNEL
    cursor_skip(at, size)
    if flags & GRE_ROUTING and not skip_routes(at):
        return WIRE_BAD_TUNNEL
    if ethertype == ETHERTYPE_ERSPAN or ethertype == ETHERTYPE_ERSPAN_III:
        return read_erspan(at, ethertype, flags)
    next = next_of_gre(at, ethertype)
    if next >= NEXT_IP:
        note_gre(options, out, flags, ethertype, key)
    return next


cdef void note_gre(const DecodeOptions* options, PacketRecord* out, uint16_t flags, uint16_t ethertype,
                   uint32_t key) noexcept nogil:
    if not flags & GRE_KEY:
        note_ends(options, out)
    elif ethertype == ETHERTYPE_BRIDGED and key >> 8 >= 0x1000:
        # NVGRE: RFC 7637 section 3.2. What is below its virtual subnet differs by flow, and lower ones do not exist.
        note_number(options, out, NAME_VSID, key >> 8)
    else:
        note_number(options, out, NAME_GRE_KEY, key)


cdef int next_of_gre(Cursor* at, uint16_t ethertype) noexcept nogil:
    if ethertype == ETHERTYPE_WCCP:
        # WCCPv2 puts a redirect header of 4 bytes before IP, version 1 none (draft-mclaggan-wccp-v2rev1 section 4.12).
        if at.captured >= 4 and at.data[0] >> 4 != 4 and at.data[0] >> 4 != 6:
            cursor_skip(at, 4)
        return NEXT_IP
    if ethertype == ETHERTYPE_PPP:
        skip_hdlc(at)
        return NEXT_PPP
    if ethertype == ETHERTYPE_FRAME_RELAY:
        at.ethertype = LINKTYPE_FRELAY
        return NEXT_LINK
    return next_of_ethertype(at, ethertype, WIRE_IP_OTHER)


cdef bint skip_routes(Cursor* at) noexcept nogil:
    """RFC 1701: address family, offset, length and that many bytes each; the last is empty."""
    cdef uint8_t length
    cdef int _
    for _ in range(MAX_EXTENSIONS):
        if at.captured < 4:
            return False
        length = at.data[3]
        if length > at.captured - 4:
            return False
        if length == 0:
            cursor_skip(at, 4)
            return True
        cursor_skip(at, 4 + <size_t> length)
    return False


cdef int read_enhanced_gre(Cursor* at, uint16_t flags, uint16_t ethertype, const DecodeOptions* options,
                           PacketRecord* out) noexcept nogil:
    if flags & GRE_VERSION == 1 and flags & GRE_KEY:
        if ethertype == ETHERTYPE_PPP:
            return read_pptp(at, flags, options, out)
        if ethertype == ETHERTYPE_EOIP and flags == (GRE_KEY | 1):
            return read_eoip(at, options, out)
    return WIRE_IP_OTHER


cdef int read_eoip(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """MikroTik's Ethernet over IP: the key is a length and, in little-endian order, a tunnel."""
    cdef uint16_t length, number
    if at.captured < 8:
        return WIRE_BAD_TUNNEL
    length = be16(at.data + 4)
    number = at.data[7] << 8 | at.data[6]
    cursor_skip(at, 8)
    if length == 0:                                    # a keep-alive
        return WIRE_IP_OTHER
    if length > at.wire_len:
        return WIRE_BAD_TUNNEL
    cursor_clip(at, length)
    note_number(options, out, NAME_EOIP, number)
    return NEXT_ETHERNET


cdef int read_pptp(Cursor* at, uint16_t flags, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 2637 section 4.1: PPP with its length; without a sequence number there is none, only an acknowledgement."""
    cdef size_t size = 8
    cdef uint16_t length
    if not flags & GRE_SEQUENCE:
        return WIRE_IP_OTHER
    size += 8 if flags & GRE_ACKNOWLEDGEMENT else 4
    if at.captured < size:
        return WIRE_BAD_TUNNEL
    length = be16(at.data + 4)
    cursor_skip(at, size)
    if length > at.wire_len:
        return WIRE_BAD_TUNNEL
    cursor_clip(at, length)
    skip_hdlc(at)
    note_ends(options, out)
    return NEXT_PPP


cdef int read_erspan(Cursor* at, uint16_t ethertype, uint16_t flags) noexcept nogil:
    """draft-foschiano-erspan: what a switch mirrors. A mirror is no network, so it does not separate flows."""
    cdef uint16_t bits
    cdef bint platform
    if ethertype == ETHERTYPE_ERSPAN:
        if not flags & GRE_SEQUENCE:                   # type I has no header of its own
            return NEXT_ETHERNET
        if at.captured < 8:
            return WIRE_BAD_TUNNEL
        if at.data[0] >> 4 != 1:
            return WIRE_IP_OTHER
        cursor_skip(at, 8)
        return NEXT_ETHERNET
    if at.captured < 12:
        return WIRE_BAD_TUNNEL
    bits = be16(at.data + 10)                          # P, frame type, hardware, direction, granularity, O
    if at.data[0] >> 4 != 2:
        return WIRE_IP_OTHER
    platform = bits & 1
    if platform and at.captured < 20:
        return WIRE_BAD_TUNNEL
    cursor_skip(at, 20 if platform else 12)
    if bits >> 10 & 0x1F == 0:
        return NEXT_ETHERNET
    if bits >> 10 & 0x1F == 2:
        return NEXT_IP
    return WIRE_IP_OTHER


# --- over UDP -------------------------------------------------------------------------------------


cdef void add_tunnel_port(uint16_t port) noexcept nogil:
    TUNNEL_PORTS.bits[port >> 3] |= <uint8_t> (1 << (port & 7))


for _port in (PORT_GTP_U, PORT_VXLAN_GPE, PORT_GENEVE, PORT_MPLS, PORT_TZSP, PORT_LISP, PORT_GRE, PORT_L2TP,
              PORT_TEREDO, PORT_ESP, PORT_AYIYA, PORT_CAPWAP):
    add_tunnel_port(_port)


cdef uint16_t tunnel_port(const DecodeOptions* options, const PacketRecord* out) noexcept nogil:
    cdef uint16_t port = out.dport
    cdef int i
    for i in range(MAX_VXLAN_PORTS):
        if options.vxlan_ports[i] == 0:
            break
        if port == options.vxlan_ports[i]:
            return PORT_VXLAN
    if (port == PORT_GTP_U or port == PORT_VXLAN_GPE or port == PORT_GENEVE or port == PORT_MPLS or port == PORT_TZSP
            or port == PORT_LISP or port == PORT_GRE or is_either_way(port)):
        return port
    return out.sport if is_either_way(out.sport) else 0


cdef inline bint is_either_way(uint16_t port) noexcept nogil:
    """Of these tunnels one end has the port, and the other may have any."""
    return port == PORT_L2TP or port == PORT_TEREDO or port == PORT_ESP or port == PORT_AYIYA or port == PORT_CAPWAP


cdef int read_udp_tunnel(Cursor* at, uint16_t port, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    if port == PORT_VXLAN:
        return read_vxlan(at, options, out)
    if port == PORT_VXLAN_GPE:
        return read_vxlan_gpe(at, options, out)
    if port == PORT_GENEVE:
        return read_geneve(at, options, out)
    if port == PORT_GTP_U:
        return read_gtp_u(at)
    if port == PORT_MPLS:
        return read_mpls_in_udp(at, options, out)
    if port == PORT_TZSP:
        return read_tzsp(at)
    if port == PORT_LISP:
        return read_lisp(at, options, out)
    if port == PORT_GRE:
        return read_gre_in_udp(at, options, out)
    if port == PORT_L2TP:
        return read_l2tp(at, options, out)
    if port == PORT_TEREDO:
        return read_teredo(at)
    if port == PORT_CAPWAP:
        return read_capwap(at, out)
    if port == PORT_AYIYA:
        return read_ayiya(at)
    return read_esp(at, out)


cdef int read_esp(const Cursor* at, PacketRecord* out) noexcept nogil:
    """RFC 3948 section 2: with a security index of 0 it is IKE, and one byte is a keep-alive."""
    if at.captured >= 8 and be32(at.data):
        unread(out, LAYER_ENCRYPTED, ENCRYPTED_ESP)
    return WIRE_UDP


cdef int read_vxlan(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 7348 section 5; without the I flag, or with the last byte not zero, it only happens to use the port."""
    cdef uint32_t vni
    if at.captured < 8 or not at.data[0] & 0x08 or at.data[7] or at.wire_len < 8 + ETHERNET_HEADER:
        return WIRE_UDP
    vni = be32(at.data + 4) >> 8
    cursor_skip(at, 8)
    note_number(options, out, NAME_VNI, vni)
    return NEXT_ETHERNET


cdef int next_of_gpe(Cursor* at, uint8_t protocol) noexcept nogil:
    if protocol == 1 or protocol == 2:
        return NEXT_IP
    if protocol == 3:
        return NEXT_ETHERNET
    if protocol == 4:
        at.ethertype = ETHERTYPE_NSH
        return NEXT_ETHERTYPE
    if protocol == 5:
        return NEXT_MPLS
    return WIRE_UDP


cdef int read_vxlan_gpe(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """draft-ietf-nvo3-vxlan-gpe section 3: with the P flag it names what it carries, else it is VXLAN."""
    cdef uint32_t vni
    cdef int next
    if at.captured < 8 or at.data[0] & 0x30 or at.data[7]:     # version 0; reserved
        return WIRE_UDP
    if not at.data[0] & 0x04:
        return read_vxlan(at, options, out)
    next = next_of_gpe(at, at.data[3])
    if next == NEXT_IP and not is_ip(at, 8):
        return WIRE_UDP
    if next >= NEXT_IP:
        vni = be32(at.data + 4) >> 8
        cursor_skip(at, 8)
        note_number(options, out, NAME_VNI, vni)
    return next


cdef int read_geneve(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 8926 section 3.4."""
    cdef size_t size
    cdef uint32_t vni
    cdef int next
    if at.captured < 8 or at.data[0] >> 6 != 0:
        return WIRE_UDP
    next = next_of_ethertype(at, be16(at.data + 2), WIRE_UDP)
    if next < NEXT_IP:
        return next
    size = 8 + <size_t> (at.data[0] & 0x3F) * 4
    if at.captured < size:
        return WIRE_BAD_TUNNEL
    vni = be32(at.data + 4) >> 8
    cursor_skip(at, size)
    note_number(options, out, NAME_VNI, vni)
    return next


cdef int read_gtp_u(Cursor* at) noexcept nogil:
    """3GPP TS 29.281 section 5: G-PDU of version 1 with its extension headers, carrying IP or Ethernet.

    Its endpoint identifiers differ by direction, and its ends change as a phone moves: neither separates flows.
    """
    cdef size_t size, length
    cdef uint8_t flags, extension = 0
    cdef int _
    if at.captured < 8 or at.data[0] & 0xF0 != 0x30 or at.data[1] != 255:
        return WIRE_UDP
    flags = at.data[0]
    length = be16(at.data + 2)
    if length > at.wire_len - 8:
        return WIRE_UDP
    cursor_skip(at, 8)
    cursor_clip(at, length)
    if flags & 0x07:           # any of E, S, PN: sequence number, N-PDU number, first extension type
        if at.captured < 4:
            return WIRE_BAD_TUNNEL
        extension = at.data[3] if flags & 0x04 else 0
        cursor_skip(at, 4)
    for _ in range(MAX_EXTENSIONS):
        if extension == 0:
            break
        if at.captured < 4:
            return WIRE_BAD_TUNNEL
        size = <size_t> at.data[0] * 4
        if size == 0 or size > at.captured:
            return WIRE_BAD_TUNNEL
        extension = at.data[size - 1]
        cursor_skip(at, size)
    else:
        return WIRE_BAD_TUNNEL
    if at.captured and (at.data[0] >> 4 == 4 or at.data[0] >> 4 == 6):
        return NEXT_IP
    if is_ethernet(at, 0):
        return NEXT_ETHERNET
    return WIRE_UDP


cdef int read_mpls_in_udp(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 7510: a label stack, which has no mark; behind it IP or a pseudowire must stand."""
    cdef size_t size = 0
    cdef int _
    for _ in range(MAX_EXTENSIONS):
        if at.captured < size + 4:
            return WIRE_UDP
        size += 4
        if at.data[size - 2] & 1:
            break
    else:
        return WIRE_UDP
    if not is_ip(at, size) and not is_ethernet(at, size + 4):
        return WIRE_UDP
    note_ends(options, out)
    return NEXT_MPLS


cdef int read_gre_in_udp(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 8086: GRE of version 0 without source routes."""
    cdef int next
    if at.captured < 4 or be16(at.data) & ~(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE):
        return WIRE_UDP
    next = read_gre(at, options, out)
    return next if next >= NEXT_IP else WIRE_UDP


cdef int read_lisp(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """RFC 9300 section 5.3: flags, nonce or versions, instance or locator bits; IP."""
    if at.captured < 8 or not is_ip(at, 8):
        return WIRE_UDP
    if at.data[0] & 0x08:                              # I: an instance
        note_number(options, out, NAME_INSTANCE, be32(at.data + 4) >> 8)
    cursor_skip(at, 8)
    return NEXT_IP


cdef int read_l2tp(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil:
    """Data over UDP: PPP of version 2 (RFC 2661 section 3.1), or a session of version 3 (RFC 3931 section 4.1.2)."""
    cdef uint16_t flags
    cdef size_t size = 6
    if at.captured < 8:
        return WIRE_UDP
    flags = be16(at.data)
    if flags == 0x0003:
        cursor_skip(at, 4)
        return read_l2tp_session(at, options, out, WIRE_UDP)
    if flags & 0xB4FF != 0x0002:                       # no control message, nothing reserved, version 2
        return WIRE_UDP
    if flags & 0x4000:                                 # length
        if not 6 <= be16(at.data + 2) <= at.wire_len:
            return WIRE_UDP
        cursor_clip(at, be16(at.data + 2))
        size += 2
    if flags & 0x0800:                                 # sequence numbers
        size += 4
    if flags & 0x0200:                                 # offset, and as many bytes
        size += 2
        if at.captured < size:
            return WIRE_UDP
        size += be16(at.data + size - 2)
    if at.captured < size or at.captured - size < 2:
        return WIRE_UDP
    cursor_skip(at, size)
    skip_hdlc(at)
    if at.captured < 2:
        return WIRE_UDP
    note_ends(options, out)
    return NEXT_PPP


cdef int read_teredo(Cursor* at) noexcept nogil:
    """RFC 4380 section 5.1.1: IPv6, with an authentication header, an origin or both before it."""
    cdef size_t size = 0
    if at.captured >= 4 and be16(at.data) == 0x0001:
        size = 13 + <size_t> at.data[2] + at.data[3]
    if at.captured >= size + 8 and be16(at.data + size) == 0x0000:
        size += 8
    if at.captured <= size or at.data[size] >> 4 != 6 or not is_ip(at, size):
        return WIRE_UDP
    cursor_skip(at, size)
    return NEXT_IP


cdef int read_tzsp(Cursor* at) noexcept nogil:
    """What a sniffer saw: version 1, what for, what is encapsulated, tags that end with 1."""
    cdef uint16_t encapsulated
    cdef size_t size = 4
    cdef uint8_t tag
    cdef int _
    if at.captured < 5 or at.data[0] != 1 or at.data[1] > 1:   # a packet received, or one to be sent
        return WIRE_UDP
    encapsulated = be16(at.data + 2)
    for _ in range(MAX_TAGS):
        if at.captured <= size:
            return WIRE_UDP
        tag = at.data[size]
        size += 1
        if tag == 1:
            break
        if tag:                                        # 0 is padding
            if at.captured <= size:
                return WIRE_UDP
            size += 1 + <size_t> at.data[size]
    else:
        return WIRE_UDP
    if at.captured < size or at.captured - size < ETHERNET_HEADER:
        return WIRE_UDP
    cursor_skip(at, size)
    if encapsulated == 1:
        return NEXT_ETHERNET
    if encapsulated != 18:
        return WIRE_UDP
    at.ethertype = LINKTYPE_IEEE802_11
    return NEXT_LINK


cdef int read_capwap(Cursor* at, PacketRecord* out) noexcept nogil:
    """CAPWAP data (RFC 5415 section 4.3), not encrypted and no fragment: Ethernet, or what WBID 1 means, 802.11."""
    cdef uint32_t bits
    cdef size_t size
    if at.captured < 8:
        return WIRE_UDP
    bits = be32(at.data)
    size = <size_t> (bits >> 19 & 0x1F) * 4
    if bits >> 24 or size < 8 or size > at.captured or at.captured - size < ETHERNET_HEADER:
        return WIRE_UDP
    if bits & 0x88:                                    # F: a fragment; K: keep-alive
        return WIRE_UDP
    if not bits & 0x100:                               # T: the frame is as it was on the air
        if not is_ethernet(at, size):
            return WIRE_UDP
        cursor_skip(at, size)
        return NEXT_ETHERNET
    if bits >> 9 & 0x1F != 1:
        return WIRE_UDP
    cursor_skip(at, size)
    if at.data[0] & 0x0F != WLAN_DATA and at.data[1] & 0x0F == WLAN_DATA:
        return read_swapped_wlan(at, out)
    at.ethertype = LINKTYPE_IEEE802_11
    return NEXT_LINK


cdef int read_swapped_wlan(Cursor* at, PacketRecord* out) noexcept nogil:
    """An 802.11 data frame whose two bytes of frame control are exchanged, as controllers of Cisco do."""
    cdef uint8_t flags = at.data[0], kind = at.data[1]
    cdef size_t size = 24
    if flags & 0x03 == 0x03:                           # from one distribution system to another: a fourth address
        size += 6
    if kind & 0x80:                                    # quality of service
        size += 2
    if kind & 0x40 or at.captured < size:              # it carries no data
        return WIRE_UDP
    if flags & 0x40:
        unread(out, LAYER_ENCRYPTED, ENCRYPTED_WLAN)
        return WIRE_UDP
    cursor_skip(at, size)
    return NEXT_LLC


cdef int read_ayiya(Cursor* at) noexcept nogil:
    """draft-massar-v6ops-ayiya section 3: identity and signature of stated sizes, then IPv6 or IPv4."""
    cdef size_t size
    if at.captured < 8 or at.data[2] & 0x0F != 1:      # to be forwarded
        return WIRE_UDP
    if at.data[3] != PROTO_IPV6 and at.data[3] != PROTO_IPV4:
        return WIRE_UDP
    size = 8 + (<size_t> 1 << (at.data[0] >> 4)) + <size_t> (at.data[1] >> 4) * 4
    if size > at.captured or not is_ip(at, size):
        return WIRE_UDP
    cursor_skip(at, size)
    return NEXT_IP
