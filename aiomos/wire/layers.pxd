# What the readers of wire bytes share: the bounds-checked span, what a frame can turn out to be, a decoded packet.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.numbers cimport ETHERTYPE_MIN, ETHERTYPE_PROVIDER_VLAN, ETHERTYPE_QINQ, ETHERTYPE_VLAN


# --- span: the one way to look at bytes we do not trust -------------------------------------------
ctypedef struct Span:
    const uint8_t* p
    size_t n               # bytes left

cdef inline bint span_take(Span* s, size_t k, Span* out) noexcept nogil:
    """Move the first k bytes into out; false and unchanged when fewer are left."""
    if k > s.n:
        return False
    out.p = s.p
    out.n = k
    s.p += k
    s.n -= k
    return True

cdef inline bint span_skip(Span* s, size_t k) noexcept nogil:
    if k > s.n:
        return False
    s.p += k
    s.n -= k
    return True

# Reads at an offset from the span's start; false when it does not fit.
cdef inline bint span_u8(const Span* s, size_t at, uint8_t* out) noexcept nogil:
    if at >= s.n:
        return False
    out[0] = s.p[at]
    return True

cdef inline bint span_u16(const Span* s, size_t at, uint16_t* out) noexcept nogil:
    if s.n < 2 or at > s.n - 2:
        return False
    out[0] = be16(s.p + at)
    return True

cdef inline bint span_u32(const Span* s, size_t at, uint32_t* out) noexcept nogil:
    if s.n < 4 or at > s.n - 4:
        return False
    out[0] = be32(s.p + at)
    return True

# Big-endian loads for fields whose header was length-checked as a whole.
cdef inline uint16_t be16(const uint8_t* p) noexcept nogil:
    return <uint16_t> ((p[0] << 8) | p[1])

cdef inline uint32_t be32(const uint8_t* p) noexcept nogil:
    return (<uint32_t> p[0] << 24) | (<uint32_t> p[1] << 16) | (<uint32_t> p[2] << 8) | p[3]

cdef inline uint64_t be64(const uint8_t* p) noexcept nogil:
    return (<uint64_t> be32(p) << 32) | be32(p + 4)

# --- what a frame turned out to be ----------------------------------------------------------------
# WIRE_TCP and below WIRE_MALFORMED are well-formed; from WIRE_MALFORMED on, each value is a counted reason.
cdef enum Kind:
    WIRE_TCP = 0
    WIRE_UDP = 1
    WIRE_ICMP = 2
    WIRE_IP_OTHER = 3          # some other IP protocol, or a tunnel not looked into
    WIRE_FRAGMENT = 4          # fragment of an IPv4 or IPv6 packet: give it to the defragmenter
    WIRE_NON_IP = 5            # ARP, LLDP, ...
    WIRE_UNKNOWN_LINK = 6      # a link type this module does not read
    WIRE_AGGREGATE = 7         # several frames in one (802.11 A-MSDU), from payload on: read each by decode_subframe
    WIRE_MALFORMED = 8         # first malformed reason
    WIRE_BAD_LINK = 8          # link header cut short or nested too deep
    WIRE_BAD_IP = 9            # version, header length or total length impossible
    WIRE_IP_CUT = 10           # IP header longer than what was captured
    WIRE_BAD_EXTENSION = 11    # IPv6 extension headers, or AH of IPv4, broken or too many
    WIRE_BAD_TCP = 12          # data offset below 20 or beyond the packet
    WIRE_TCP_CUT = 13          # TCP header cut before its flags; in line, a TCP or UDP header cut at all
    WIRE_BAD_CHECKSUM = 14     # only with verify_checksums
    WIRE_BAD_TUNNEL = 15       # tunnel header broken, or nested too deep
    WIRE_KINDS = 16

cdef enum TcpFlag:
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
    AE = 0x100                 # accurate ECN (RFC 9768), formerly NS

cdef enum Option:              # bits of PacketRecord.options
    OPT_MSS = 1
    OPT_WSCALE = 2
    OPT_SACK_OK = 4
    OPT_SACK = 8
    OPT_TIMESTAMP = 16
    OPT_FASTOPEN = 32
    OPT_MD5 = 64               # MD5 (RFC 2385) or TCP-AO (RFC 5925)
    OPT_MPTCP = 256            # Multipath TCP (RFC 8684)
    OPT_BAD = 128              # option list broken, those before the break were read; or one of a wrong size, left out

cdef enum:
    NO_VLAN = 0xFFFF
    MAX_SACK_BLOCKS = 4
    MAX_VXLAN_PORTS = 8
    # Longest IP packet: what the 16-bit lengths allow, or of TCP beyond them (BIG TCP, jumbograms: RFC 2675), which no
    # system makes longer than half of this. The length on the wire that a capture states is no measure by itself.
    MOST_IP_LENGTH = 1 << 20

cdef inline bint is_vlan(uint16_t ethertype) noexcept nogil:
    return ethertype == ETHERTYPE_VLAN or ethertype == ETHERTYPE_PROVIDER_VLAN or ethertype == ETHERTYPE_QINQ

# An address as a 128-bit number in host order; IPv4 as ::ffff:a.b.c.d.
ctypedef struct Address:
    uint64_t hi
    uint64_t lo

# One decoded packet. Pointers borrow from the frame. Which fields are set:
#   - Always: time_ns, vlan, tunnel, link to transient, link_layers, ip_version, transport (NULL where there is none).
#   - ip_version is 0 where no IP header was read, or none behind the last tunnel that was entered: WIRE_NON_IP,
#     WIRE_UNKNOWN_LINK, WIRE_BAD_LINK, WIRE_BAD_IP, and WIRE_IP_CUT or WIRE_BAD_TUNNEL as the case may be. Else src,
#     dst, proto, ttl, tos, network and network_len are those of the innermost IP header.
#   - Up to WIRE_IP_OTHER: sport and dport (0 but for TCP and UDP), transport, payload, payload_len, payload_cap.
#     Transport and payload are what IP carries; of TCP and UDP, payload is what is behind their header, header_len and
#     header_cap are set, and of TCP seq to sack.
#   - WIRE_FRAGMENT: the ports, 0, and what is under "fragments"; transport is NULL.
#   - Malformed: transport is NULL unless packet_has_ports(), which then are set; or packet_has_segment(), with all of a
#     segment. Of WIRE_BAD_TUNNEL with an ip_version, transport is that of the packet around the tunnel.
ctypedef struct PacketRecord:
    int64_t time_ns
    Address src
    Address dst
    uint16_t sport
    uint16_t dport
    uint16_t vlan              # outermost VLAN id, or NO_VLAN; VLAN 0 only carries a priority and is passed over
    uint64_t tunnel            # where tunnels separate flows, a keyed hash of those entered; else, and outside, 0
    uint8_t ip_version         # 4, 6; 0 when there is no IP header
    uint8_t proto              # upper-layer protocol number after extension headers
    uint8_t ttl
    uint8_t tos                # TOS or traffic class, DSCP and ECN
    const uint8_t* link        # first byte of the frame; NULL for a packet that was put together from fragments
    uint32_t frame_len         # bytes captured of the frame
    uint16_t linktype
    uint16_t interface         # of the frame
    bint known                 # came as part of a session (line/sessions), or tells of an error of one
    bint transient             # bytes are not from the frame (defragmented): copy what must last beyond this packet
    uint32_t seq
    uint32_t ack
    uint16_t flags             # TcpFlag bits, AE included
    uint16_t window            # as sent, unscaled
    uint16_t urgent
    uint16_t options           # Option bits
    uint16_t mss
    uint8_t wscale             # shift as sent, capped at 14 (RFC 7323 section 2.3)
    uint8_t sack_count
    uint32_t tsval
    uint32_t tsecr
    uint32_t sack[8]           # left, right edges of up to 4 blocks
    const uint8_t* payload
    uint32_t payload_len       # payload bytes on the wire, by the IP length (padding excluded)
    uint32_t payload_cap       # of these, captured
    const uint8_t* network     # IP header
    uint32_t network_len       # captured bytes from the IP header on, padding excluded
    const uint8_t* transport   # what IP carries, from its first byte on; or NULL
    uint16_t header_len        # TCP header length, options included; of UDP 8
    uint16_t header_cap        # of these bytes, captured; where these are fewer, the snap length cut the header
    # fragments
    uint32_t fragment_id
    uint32_t fragment_offset   # bytes
    bint more_fragments
    const uint8_t* fragment    # fragment payload
    uint32_t fragment_len      # bytes captured (a fragment cut by the snap length has fragment_len < fragment_wire_len)
    uint32_t fragment_wire_len
    const uint8_t* fragment_link  # IPv6: the next-header byte that names the fragment header
    uint8_t link_layers        # headers passed before IP, but a plain Ethernet header; tunnels too
    uint8_t unread_layer       # of WIRE_NON_IP, WIRE_UNKNOWN_LINK, WIRE_UDP: by which numbers goes what was not read,
    uint64_t unread_number     # and its number; LAYERS where there is nothing such

# Of a malformed packet its ports, and with a wrong checksum all of its segment, may have been read.
cdef inline bint packet_has_ports(const PacketRecord* packet, int kind) noexcept nogil:
    return kind == WIRE_TCP or kind == WIRE_UDP or (
        (kind == WIRE_BAD_CHECKSUM or kind == WIRE_BAD_TCP or kind == WIRE_TCP_CUT) and packet.transport != NULL)

cdef inline bint packet_has_segment(const PacketRecord* packet, int kind) noexcept nogil:
    return kind == WIRE_TCP or (kind == WIRE_BAD_CHECKSUM and packet.transport != NULL)

cdef inline bint packet_has_payload(const PacketRecord* packet, int kind) noexcept nogil:
    return kind < WIRE_FRAGMENT or packet_has_segment(packet, kind)

# Of a TCP or UDP header that the snap length cut, what was captured counts. A field that was not is 0 and means
# nothing: of TCP, where at least the flags are there, this may be the window, the urgent pointer and some or all of the
# options.
cdef inline bint header_is_cut(const PacketRecord* packet) noexcept nogil:
    return packet.header_cap < packet.header_len

cdef inline bint window_is_known(const PacketRecord* packet) noexcept nogil:
    return packet.header_cap >= 16

cdef inline bint urgent_is_known(const PacketRecord* packet) noexcept nogil:
    return packet.header_cap >= 20

ctypedef struct DecodeOptions:
    bint verify_checksums      # IPv4 header and TCP; zero, and TCP's of the pseudo-header only, pass (transmit offload)
    bint decapsulate           # look into tunnels
    bint separate_tunnels      # set PacketRecord.tunnel
    uint64_t tunnel_keys[2]    # for that; secret
    uint16_t vxlan_ports[8]    # UDP ports of VXLAN; 0 for none

# What is not read is told by number. These are the kinds of numbers; `aiomos.wire.protocols` has the names.
cdef enum Layer:
    LAYER_LINKTYPE = 0         # LINKTYPE_ of the capture formats
    LAYER_ETHERTYPE = 1
    LAYER_SAP = 2              # 802.2: destination and source service access point, 8 bits each
    LAYER_SNAP = 3             # 802.2 with SNAP: organisation, 24 bits, and its protocol, 16
    LAYER_PPP = 4              # PPP protocol
    LAYER_NLPID = 5            # network layer protocol of frame relay (ISO/IEC TR 9577)
    LAYER_FAMILY = 6           # address family of the capturing host
    LAYER_MPLS = 7             # first four bits behind a label stack
    LAYER_CONTROL = 8          # LINKTYPE_ number, of a frame by which the link manages itself
    LAYER_ENCRYPTED = 9        # Encrypted
    LAYER_FRAGMENTS = 10       # Fragments: of a frame; the link layers' are not put together
    LAYER_IP = 11              # IP protocol
    LAYER_UDP = 12             # UDP port of a tunnel that was not to be looked into
    LAYERS = 13

cdef enum Encrypted:
    ENCRYPTED_WLAN = 0
    ENCRYPTED_MACSEC = 1
    ENCRYPTED_ESP = 2          # in UDP

cdef enum Fragments:
    FRAGMENTS_WLAN = 0
    FRAGMENTS_PPP = 1
    FRAGMENTS_FRAME_RELAY = 2

cdef inline int unread(PacketRecord* out, int layer, uint64_t number) noexcept nogil:
    """Note what is not read, and that it is no IP."""
    out.unread_layer = <uint8_t> layer
    out.unread_number = number
    return WIRE_NON_IP

# --- from one header to the next ------------------------------------------------------------------
# What is left of a frame where a reader stands. A length stated by the wire beyond `wire_len` is malformed, beyond
# `captured` only cut; neither is ever read.
ctypedef struct Cursor:
    const uint8_t* data
    size_t captured            # bytes from data on that were captured
    size_t wire_len            # bytes from data on that were on the wire; never fewer
    uint16_t ethertype         # of what stands at data, for NEXT_ETHERTYPE; its link type, for NEXT_LINK
    uint8_t depth              # tunnels entered

# A reader of one header moves the cursor behind it and returns either what the frame turned out to be (a Kind), or
# which header stands there now, for `wire` to go on with. So readers need not know each other.
cdef enum Next:
    NEXT_IP = 100              # IPv4 or IPv6, by its version
    NEXT_ETHERTYPE = 101       # whatever cursor.ethertype names
    NEXT_ETHERNET = 102
    NEXT_PPP = 103             # a PPP protocol field
    NEXT_MPLS = 104            # a label stack
    NEXT_LLC = 105             # an 802.2 header
    NEXT_LINK = 106            # that of link type cursor.ethertype

cdef enum:
    MAX_LAYERS = 16                    # what PacketRecord.link_layers counts; bounds the work on one frame

cdef inline int next_ethertype(Cursor* at, uint16_t ethertype, PacketRecord* out) noexcept nogil:
    """What an EtherType names follows, where none of these numbers is a length."""
    if ethertype < ETHERTYPE_MIN:
        return unread(out, LAYER_ETHERTYPE, ethertype)
    at.ethertype = ethertype
    return NEXT_ETHERTYPE

cdef inline void cursor_skip(Cursor* at, size_t size) noexcept nogil:
    """Move behind a header that was checked to be captured whole."""
    at.data += size
    at.captured -= size
    at.wire_len -= size

cdef inline void cursor_clip(Cursor* at, size_t size) noexcept nogil:
    """Obey a length that the wire states, where it is below what was there: behind it is padding or a trailer."""
    if size < at.wire_len:
        at.wire_len = size
        if size < at.captured:
            at.captured = size
