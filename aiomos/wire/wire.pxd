# Frames read from the link layer down to the TCP options. What the readers of wire bytes share is in `layers`.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.frame cimport Frame
from aiomos.wire.layers cimport (
    ACK,
    AE,
    Address,
    CWR,
    Cursor,
    DecodeOptions,
    ECE,
    FIN,
    Kind,
    MAX_LAYERS,
    MAX_SACK_BLOCKS,
    MAX_VXLAN_PORTS,
    MOST_IP_LENGTH,
    NEXT_ETHERNET,
    NEXT_ETHERTYPE,
    NEXT_IP,
    NEXT_LINK,
    NEXT_LLC,
    NEXT_MPLS,
    NEXT_PPP,
    NO_VLAN,
    OPT_BAD,
    OPT_FASTOPEN,
    OPT_MD5,
    OPT_MPTCP,
    OPT_MSS,
    OPT_SACK,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    Option,
    PSH,
    PacketRecord,
    RST,
    SYN,
    Span,
    TcpFlag,
    URG,
    WIRE_AGGREGATE,
    WIRE_BAD_CHECKSUM,
    WIRE_BAD_EXTENSION,
    WIRE_BAD_IP,
    WIRE_BAD_LINK,
    WIRE_BAD_TCP,
    WIRE_BAD_TUNNEL,
    WIRE_FRAGMENT,
    WIRE_ICMP,
    WIRE_IP_CUT,
    WIRE_IP_OTHER,
    WIRE_KINDS,
    WIRE_MALFORMED,
    WIRE_NON_IP,
    WIRE_TCP,
    WIRE_TCP_CUT,
    WIRE_UDP,
    WIRE_UNKNOWN_LINK,
    be16,
    be32,
    be64,
    cursor_clip,
    cursor_skip,
    header_is_cut,
    is_vlan,
    packet_has_payload,
    packet_has_ports,
    packet_has_segment,
    span_skip,
    span_take,
    span_u16,
    span_u32,
    span_u8,
    urgent_is_known,
    window_is_known,
)

# Decode one frame; every field of out the kind promises is set, nothing else may be read.
cdef int decode_frame(const Frame* frame, const DecodeOptions* options, PacketRecord* out) noexcept nogil
# Decode from the IP header on (defragmented datagrams, raw IP), depth tunnels having been entered. What came before,
# time_ns, vlan, tunnel, transient and link_layers of out, is left as it is and must be set.
cdef int decode_ip(const uint8_t* data, size_t captured, size_t wire_len, const DecodeOptions* options,
                   PacketRecord* out, int depth) noexcept nogil
# Follow what a reader of `links`, `tags` or of tunnels returned, to what the frame is. PacketRecord as for decode_ip.
cdef int decode_layers(Cursor* at, int next, const DecodeOptions* options, PacketRecord* out) noexcept nogil
# How frames are to be read by settings; *key*, 16 secret bytes, names tunnels.
cdef int decode_options_of(settings, const uint8_t* key, DecodeOptions* out) except -1
# Decode the next of the frames that a WIRE_AGGREGATE has from its payload on, and move behind it; there is one while
# rest.captured is not 0. PacketRecord as for decode_ip.
cdef int decode_subframe(Cursor* rest, const DecodeOptions* options, PacketRecord* out) noexcept nogil
# Internet checksum over data added to a running sum (RFC 1071).
cdef uint32_t checksum_add(uint32_t total, const uint8_t* data, size_t n) noexcept nogil
cdef uint16_t checksum_fold(uint32_t total) noexcept nogil
