# What a filter or predicate sees when an event happens, and how each value of it is read.
#
# A value is read as Python's attribute of the same name would be: GOT with the value, NONE where Python gives None,
# REFUSED where Python raises, such as at an attribute of a packet that is not there.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.tcp.flows cimport (
    ACK_SEEN,
    CLIENT_IS_LOW,
    CLOSED,
    FIN_SEEN,
    FlowKey,
    FlowRecord,
    GUESSED_ROLES,
    HalfRecord,
    ISS_KNOWN,
    MIDSTREAM,
    OFFERS_SCALE,
    SACK_PERMITTED,
    SEQ_KNOWN,
    TIMESTAMPS,
    WINDOW_KNOWN,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport state_of
from aiomos.tcp.tracks cimport BASED, Streams, Track, offset_of, track_at, track_lost
from aiomos.ude.instructions cimport (
    ACK_NUMBER,
    CLIENT_ADDRESS,
    CLIENT_PORT,
    DESTINATION_ADDRESS,
    DONT_FRAGMENT,
    DSCP,
    ECN,
    FIRST_OF_BYTES,
    FIRST_OF_FLOW,
    FIRST_OF_HALF,
    FIRST_OF_PACKET,
    FIRST_OF_SEGMENT,
    FLAG,
    FLAGS,
    FLOW_HAS_GUESSED_ROLES,
    FLOW_IP_VERSION,
    FLOW_IS_CLOSED,
    FLOW_IS_ESTABLISHED,
    FLOW_IS_MIDSTREAM,
    FLOW_VLAN,
    FRAGMENT_OFFSET,
    HALF_ADDRESS,
    HALF_BYTES,
    HALF_CONFLICTS,
    HALF_DUP_ACKS,
    HALF_FIN_SEEN,
    HALF_GAPS,
    HALF_GAP_BYTES,
    HALF_IN_FLIGHT,
    HALF_ISS,
    HALF_LATE_BYTES,
    HALF_LEVEL,
    HALF_LOST,
    HALF_MAX_WINDOW,
    HALF_MSS,
    HALF_NAME,
    HALF_OUT_OF_ORDER,
    HALF_PACKETS,
    HALF_PORT,
    HALF_RETRANSMITS,
    HALF_SACK_PERMITTED,
    HALF_SND_NXT,
    HALF_SND_UNA,
    HALF_STATE,
    HALF_STREAM_BYTES,
    HALF_STREAM_OFFSET,
    HALF_TIMESTAMPS,
    HALF_WINDOW,
    HALF_WINDOW_SCALE,
    HAS_FLOW,
    HAS_PACKET,
    HEADER_LEN,
    IP_ID,
    IP_VERSION,
    MORE_FRAGMENTS,
    OF_SENDER,
    OPTION_MSS,
    OPTION_SACK_PERMITTED,
    OPTION_WINDOW_SCALE,
    PACKET_IP_VERSION,
    PACKET_KNOWN,
    PACKET_LENGTH,
    PACKET_PROTO,
    PACKET_VLAN,
    PAYLOAD_LEN,
    PROTOCOL,
    RAW,
    SEGMENT_WINDOW,
    SEQ,
    SERVER_PORT,
    SOURCE_ADDRESS,
    SPORT,
    TOS,
    TSVAL,
    TTL,
    URGENT,
    VLAN_ID,
)
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.wire cimport (
    Address,
    NO_VLAN,
    OPT_MSS,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    PacketRecord,
    Span,
    WIRE_FRAGMENT,
    be16,
    header_is_cut,
    packet_has_payload,
    packet_has_ports,
    packet_has_segment,
    urgent_is_known,
    window_is_known,
)

ctypedef struct Scene:
    const PacketRecord* packet       # NULL where the event has none
    const FlowRecord* flow           # NULL at RAW, ORPHAN and while a filter picks a new flow
    const FlowKey* key         # both ends (of the flow, or made of the packet); always set
    bint client_is_low         # whether key.low is the client (of a packet without flow: its sender)
    const Streams* streams     # NULL: no bytes are held
    int side                   # flows.Side: sender of the packet, or the half the event is about
    int64_t now_ns
    uint8_t kind               # wire.Kind of the packet: which fields of it mean something

cdef enum Reading:
    GOT = 0
    NONE = 1
    REFUSED = 2

# An address with its version: IPv6 packets may carry ::ffff:a.b.c.d, the number of an IPv4 address.
ctypedef struct Host:
    const Address* number
    uint8_t version


# --- numbers --------------------------------------------------------------------------------------

cdef inline int got(int64_t* out, int64_t value) noexcept nogil:
    out[0] = value
    return GOT


cdef inline int got_if(bint there, int64_t* out, int64_t value) noexcept nogil:
    out[0] = value
    return GOT if there else NONE


cdef inline int load_setting(const Scene* scene, uint8_t field, int64_t* out) noexcept nogil:
    cdef const FlowKey* key = scene.key
    if field == CLIENT_PORT:
        return got(out, key.low_port if scene.client_is_low else key.high_port)
    elif field == SERVER_PORT:
        return got(out, key.high_port if scene.client_is_low else key.low_port)
    elif field == VLAN_ID:
        return got_if(key.vlan != NO_VLAN, out, key.vlan)
    elif field == IP_VERSION:
        return got(out, key.ip_version)
    elif field == PROTOCOL:
        return got(out, key.proto)
    elif field == HAS_PACKET:
        return got_if(scene.packet != NULL, out, 1)
    elif field == HAS_FLOW:
        return got_if(scene.flow != NULL, out, 1)
    else:
        return got(out, scene.side)


cdef inline int load_of_packet(const PacketRecord* packet, uint8_t kind, uint8_t field, int64_t* out) noexcept nogil:
    cdef bint is_fragment = kind == WIRE_FRAGMENT
    if field == PACKET_VLAN:
        return got_if(packet.vlan != NO_VLAN, out, packet.vlan)
    elif field == PACKET_KNOWN:
        return got(out, packet.known != 0)
    if packet.ip_version == 0:
        return NONE
    if field == PACKET_IP_VERSION:
        return got(out, packet.ip_version)
    elif field == PACKET_PROTO:
        return got(out, packet.proto)
    elif field == TTL:
        return got(out, packet.ttl)
    elif field == TOS:
        return got(out, packet.tos)
    elif field == DSCP:
        return got(out, packet.tos >> 2)
    elif field == ECN:
        return got(out, packet.tos & 3)
    elif field == IP_ID:
        if packet.ip_version == 4:
            return got(out, be16(packet.network + 4))          # the decoder has checked the header's length
        return got_if(is_fragment, out, packet.fragment_id)
    elif field == DONT_FRAGMENT:
        return NONE if packet.ip_version != 4 else got(out, (packet.network[6] & 0x40) != 0)
    elif field == PACKET_LENGTH:
        return got(out, packet.network_len)
    elif field == FRAGMENT_OFFSET:
        return got_if(is_fragment, out, packet.fragment_offset)
    elif field == MORE_FRAGMENTS:
        return got_if(is_fragment, out, packet.more_fragments != 0)
    elif field == PAYLOAD_LEN:
        return got_if(is_fragment or packet_has_payload(packet, kind), out,
                      packet.fragment_wire_len if is_fragment else packet.payload_len)
    elif field == SPORT:
        return got_if(packet_has_ports(packet, kind), out, packet.sport)
    else:
        return got_if(packet_has_ports(packet, kind), out, packet.dport)


cdef inline int load_of_segment(const PacketRecord* packet, uint8_t field, uint8_t bit, int64_t* out) noexcept nogil:
    if field == SEQ:
        return got(out, packet.seq)
    elif field == ACK_NUMBER:
        return got(out, packet.ack)
    elif field == FLAGS:
        return got(out, packet.flags)
    elif field == FLAG:
        return got(out, packet.flags >> bit & 1)
    elif field == SEGMENT_WINDOW:
        return got_if(window_is_known(packet), out, packet.window)
    elif field == URGENT:
        return got_if(urgent_is_known(packet), out, packet.urgent)
    elif field == HEADER_LEN:
        return got(out, packet.header_len)
    elif field == OPTION_MSS:
        return got_if(packet.options & OPT_MSS, out, packet.mss)
    elif field == OPTION_WINDOW_SCALE:
        return got_if(packet.options & OPT_WSCALE, out, packet.wscale)
    elif field == OPTION_SACK_PERMITTED:
        return got_if(packet.options & OPT_SACK_OK or not header_is_cut(packet), out,
                      (packet.options & OPT_SACK_OK) != 0)
    elif field == TSVAL:
        return got_if(packet.options & OPT_TIMESTAMP, out, packet.tsval)
    else:
        return got_if(packet.options & OPT_TIMESTAMP, out, packet.tsecr)


cdef inline int load_of_flow(const FlowRecord* flow, uint8_t field, int64_t* out) noexcept nogil:
    if field == FLOW_VLAN:
        return got_if(flow.key.vlan != NO_VLAN, out, flow.key.vlan)
    elif field == FLOW_IP_VERSION:
        return got(out, flow.key.ip_version)
    elif field == FLOW_IS_ESTABLISHED:
        return got(out, (flow.flags & FLOW_ESTABLISHED) != 0)
    elif field == FLOW_IS_CLOSED:
        return got(out, (flow.flags & CLOSED) != 0)
    elif field == FLOW_IS_MIDSTREAM:
        return got(out, (flow.flags & MIDSTREAM) != 0)
    elif field == FLOW_HAS_GUESSED_ROLES:
        return got(out, (flow.flags & GUESSED_ROLES) != 0)
    else:
        return got_if(flow.reason != 0, out, flow.reason)


cdef inline bint end_is_low(const FlowRecord* flow, int side) noexcept nogil:
    return ((flow.flags & CLIENT_IS_LOW) != 0) == (side == 0)


cdef inline int load_of_half(const FlowRecord* flow, int side, uint8_t field, int64_t* out) noexcept nogil:
    cdef const HalfRecord* half = &flow.halves[side]
    if field == HALF_NAME:
        return got(out, side)
    elif field == HALF_PORT:
        return got(out, flow.key.low_port if end_is_low(flow, side) else flow.key.high_port)
    elif field == HALF_STATE:
        return got(out, state_of(half.facts))
    elif field == HALF_PACKETS:
        return got(out, <int64_t> half.packets)
    elif field == HALF_MSS:
        return got_if(half.mss != 0, out, half.mss)
    elif field == HALF_WINDOW_SCALE:
        return got_if(half.flags & OFFERS_SCALE, out, half.wscale)
    elif field == HALF_WINDOW:
        return got_if(half.flags & WINDOW_KNOWN, out, half.wnd)
    elif field == HALF_SACK_PERMITTED:
        return got(out, (half.flags & SACK_PERMITTED) != 0)
    elif field == HALF_TIMESTAMPS:
        return got(out, (half.flags & TIMESTAMPS) != 0)
    elif field == HALF_LEVEL:
        return got_if(half.level != 0, out, half.level)
    elif field == HALF_FIN_SEEN:
        return got(out, (half.flags & FIN_SEEN) != 0)
    elif field == HALF_ISS:
        return got_if(half.flags & ISS_KNOWN, out, half.iss)
    elif field == HALF_SND_NXT:
        return got_if(half.flags & SEQ_KNOWN, out, half.nxt)
    elif field == HALF_SND_UNA:
        return got_if(half.flags & SEQ_KNOWN, out, half.una)
    elif field == HALF_IN_FLIGHT:
        return got_if(half.flags & SEQ_KNOWN, out, <uint32_t> (half.nxt - half.una))
    elif field == HALF_MAX_WINDOW:
        return got_if(half.flags & WINDOW_KNOWN, out, half.max_wnd)
    else:
        return got_if(half.flags & TIMESTAMPS, out, half.ts_recent)


# How far the peer has acknowledged the stream; a FIN counts as no byte.
cdef inline int64_t acked(const Track* track, const HalfRecord* half) noexcept nogil:
    cdef uint32_t una = half.una
    if not (half.flags & ACK_SEEN and track.flags & BASED):
        return 0
    if half.flags & FIN_SEEN and seq_lt(half.fin, una):
        una = half.fin
    return max(offset_of(track, una), 0)


# Counters of bytes never reach 2**63.
cdef inline int load_of_bytes(const Streams* streams, const HalfRecord* half, uint8_t field,
                              int64_t* out) noexcept nogil:
    cdef const Track* track
    if streams == NULL or half.track == 0:                     # no byte context, as at Level.STATE: all counters are 0
        return got(out, 0)
    track = track_at(streams, half.track)
    if field == HALF_BYTES:
        return got(out, <int64_t> track.bytes)
    elif field == HALF_STREAM_BYTES:
        return got(out, <int64_t> track.stream_bytes)
    elif field == HALF_RETRANSMITS:
        return got(out, <int64_t> track.retransmits)
    elif field == HALF_OUT_OF_ORDER:
        return got(out, <int64_t> track.out_of_order)
    elif field == HALF_LOST:
        return got(out, <int64_t> track_lost(streams, track, half))
    elif field == HALF_CONFLICTS:
        return got(out, <int64_t> track.conflicts)
    elif field == HALF_GAPS:
        return got(out, <int64_t> track.gaps)
    elif field == HALF_GAP_BYTES:
        return got(out, <int64_t> track.missed_bytes)
    elif field == HALF_LATE_BYTES:
        return got(out, track.late_bytes)
    elif field == HALF_STREAM_OFFSET:
        return got(out, <int64_t> track.edge)
    elif field == HALF_DUP_ACKS:
        return got(out, track.dup_acks)
    else:
        return got(out, acked(track, half))


cdef inline int side_of_scene(const Scene* scene, uint8_t which) noexcept nogil:
    if which < OF_SENDER:
        return which
    return scene.side if which == OF_SENDER else 1 - scene.side


cdef inline int load_number(const Scene* scene, uint8_t field, uint8_t which, int64_t* out) noexcept nogil:
    """Read a number; *which* is the half, or the bit of FLAG."""
    if field < FIRST_OF_PACKET:
        return load_setting(scene, field, out)
    if field < FIRST_OF_FLOW:
        if scene.packet == NULL:
            return REFUSED
        if field < FIRST_OF_SEGMENT:
            return load_of_packet(scene.packet, scene.kind, field, out)
        if not packet_has_segment(scene.packet, scene.kind):
            return NONE
        return load_of_segment(scene.packet, field, which, out)
    if scene.flow == NULL:
        return REFUSED
    if field < FIRST_OF_HALF:
        return load_of_flow(scene.flow, field, out)
    which = <uint8_t> side_of_scene(scene, which)
    if field < FIRST_OF_BYTES:
        return load_of_half(scene.flow, which, field, out)
    return load_of_bytes(scene.streams, &scene.flow.halves[which], field, out)


# --- addresses and bytes --------------------------------------------------------------------------

cdef inline int load_address(const Scene* scene, uint8_t field, uint8_t which, Host* out) noexcept nogil:
    cdef bint low
    if field == SOURCE_ADDRESS or field == DESTINATION_ADDRESS:
        if scene.packet == NULL:
            return REFUSED
        out.number = &scene.packet.src if field == SOURCE_ADDRESS else &scene.packet.dst
        out.version = scene.packet.ip_version
        return GOT if out.version else NONE
    if field == HALF_ADDRESS:
        if scene.flow == NULL:
            return REFUSED
        low = end_is_low(scene.flow, side_of_scene(scene, which))
        out.number = &scene.flow.key.low if low else &scene.flow.key.high
        out.version = scene.flow.key.ip_version
        return GOT
    low = (scene.client_is_low != 0) == (field == CLIENT_ADDRESS)
    out.number = &scene.key.low if low else &scene.key.high
    out.version = scene.key.ip_version
    return GOT


cdef inline int load_bytes(const Scene* scene, uint8_t field, Span* out) noexcept nogil:
    cdef const PacketRecord* packet = scene.packet
    if packet == NULL:
        return REFUSED
    if packet.ip_version == 0:
        return NONE
    if field == RAW:
        out.p = packet.network
        out.n = packet.network_len
    elif packet_has_payload(packet, scene.kind):
        out.p = packet.payload
        out.n = packet.payload_cap
    elif scene.kind == WIRE_FRAGMENT:
        out.p = packet.fragment
        out.n = packet.fragment_len
    else:
        return NONE
    return GOT
