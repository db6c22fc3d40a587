"""Fields of packets set in place: the bytes, the checksums over them and what was decoded of them stay one.

Every write to a transport goes through `patch`, `set16` or `set32`, which keep its checksum. What an ICMP error
quotes is content of that error: each change of the quoted packet, its checksums included, is a change under the outer
checksum.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.wire.checksums cimport (
    change16, change32, change_address, change_bytes, checksum_apply, checksum_content_changed, checksum_of_protocol,
    checksum_pseudo_changed, put16, put32)
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ICMP_HEADER,
    IPV6_HEADER,
    LINKTYPE_ETHERNET,
    PROTO_AH,
    PROTO_FRAGMENT,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_ROUTING,
    PROTO_TCP,
    PROTO_UDP,
    TCP_HEADER,
)
from aiomos.wire.wire cimport (
    OPT_SACK, WIRE_FRAGMENT, WIRE_ICMP, WIRE_IP_OTHER, WIRE_TCP, WIRE_TCP_CUT, WIRE_UDP,
    DecodeOptions, be16, be32, decode_ip)

cdef enum:
    OPTION_END = 0
    OPTION_NOP = 1
    OPTION_MSS = 2
    OPTION_SACK = 5
    OPTION_TIMESTAMPS = 8

cdef enum:
    ECHO_REPLY = 0
    DESTINATION_UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO_REQUEST = 8
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    ICMPV6_FIRST_ERROR = 1
    ICMPV6_LAST_ERROR = 4
    ICMPV6_ECHO_REQUEST = 128
    ICMPV6_ECHO_REPLY = 129

cdef enum:
    LONGEST_PACKET = 1 << 17   # what a quoted packet may say it was: a super-segment at most


cdef void rewrite_begin(Rewrite* r, PacketRecord* packet, int kind, const Frame* frame, size_t link_len) noexcept nogil:
    cdef size_t offset
    memset(r, 0, sizeof(Rewrite))
    r.packet = packet
    r.kind = kind
    r.link_len = link_len
    r.frame_len = frame.caplen
    r.linktype = frame.linktype
    # The one place where const goes: frames in line lie in memory that may be written.
    r.link = <uint8_t*> frame.data
    if kind > WIRE_FRAGMENT:
        return
    r.network = <uint8_t*> packet.network
    if kind == WIRE_FRAGMENT:
        return
    r.transport = <uint8_t*> packet.transport
    if not checksum_of_protocol(packet.proto, packet.ip_version, &offset, &r.checksum):
        return
    if transport_captured(r) >= offset + 2:
        r.checksum.at = r.transport + offset
    if frame.offload != NULL and frame.offload.flags & OFFLOAD_NEEDS_CSUM and not packet.transient:
        r.checksum.partial = (
            r.checksum.at == r.link + <size_t> frame.offload.csum_start + frame.offload.csum_offset)


cdef inline size_t transport_captured(const Rewrite* r) noexcept nogil:
    return r.packet.network_len - <size_t> (r.transport - r.network)


# --- taken back -----------------------------------------------------------------------------------------

cdef void rewrite_save(const Rewrite* r, Saved* out) noexcept nogil:
    memset(out, 0, sizeof(Saved))
    out.packet = r.packet[0]
    out.link_len = min(r.frame_len, sizeof(out.link))
    memcpy(out.link, r.link, out.link_len)
    if r.network != NULL:
        out.network_len = min(<size_t> r.packet.network_len, sizeof(out.network))
        memcpy(out.network, r.network, out.network_len)
    if r.transport != NULL:
        out.transport_len = min(transport_captured(r), sizeof(out.transport))
        memcpy(out.transport, r.transport, out.transport_len)


cdef void rewrite_restore(Rewrite* r, const Saved* saved) noexcept nogil:
    r.packet[0] = saved.packet
    memcpy(r.link, saved.link, saved.link_len)
    if saved.network_len:
        memcpy(r.network, saved.network, saved.network_len)
    if saved.transport_len:
        memcpy(r.transport, saved.transport, saved.transport_len)


# --- writes under the transport's checksum ------------------------------------------------------------

cdef void set16(Rewrite* r, size_t at, uint16_t value) noexcept nogil:
    checksum_content_changed(&r.checksum, change16(be16(r.transport + at), value))
    put16(r.transport + at, value)


cdef void set32(Rewrite* r, size_t at, uint32_t value) noexcept nogil:
    checksum_content_changed(&r.checksum, change32(be32(r.transport + at), value))
    put32(r.transport + at, value)


cdef void patch(Rewrite* r, size_t at, const uint8_t* data, size_t n) noexcept nogil:
    """Write bytes anywhere in the transport, at odd places too."""
    checksum_content_changed(&r.checksum, change_bytes(r.transport + at, data, n, at))
    memcpy(r.transport + at, data, n)


# --- IP -------------------------------------------------------------------------------------------------

cdef bint is_of_version(const Address* address, uint8_t ip_version) noexcept nogil:
    return (address.hi == 0 and address.lo >> 32 == 0xFFFF) == (ip_version == 4)


cdef size_t address_bytes(const Address* address, uint8_t ip_version, uint8_t* out) noexcept nogil:
    """Write an address as its IP version does; its size."""
    if ip_version == 4:
        put32(out, <uint32_t> address.lo)
        return 4
    put32(out, <uint32_t> (address.hi >> 32))
    put32(out + 4, <uint32_t> address.hi)
    put32(out + 8, <uint32_t> (address.lo >> 32))
    put32(out + 12, <uint32_t> address.lo)
    return 16


cdef bint set_address(Rewrite* r, Address* old, size_t at, const Address* new, bint summed) noexcept nogil:
    cdef uint8_t version = r.packet.ip_version
    cdef uint32_t change
    if r.transport == NULL or not is_of_version(new, version):
        return False
    change = change_address(old, new, version)
    address_bytes(new, version, r.network + at)
    if version == 4:
        checksum_apply(r.network + 10, change)
    if summed:
        checksum_pseudo_changed(&r.checksum, change)
    old[0] = new[0]
    return True


cdef bint rewrite_src(Rewrite* r, const Address* src) noexcept nogil:
    return set_address(r, &r.packet.src, 12 if r.packet.ip_version == 4 else 8, src, True)


cdef bint rewrite_dst(Rewrite* r, const Address* dst) noexcept nogil:
    if r.transport == NULL:
        return False
    return set_address(r, &r.packet.dst, 16 if r.packet.ip_version == 4 else 24, dst, dst_is_final(r))


cdef bint dst_is_final(const Rewrite* r) noexcept nogil:
    """Is dst what checksums cover? Not with segments left in an IPv6 routing header (RFC 8200 section 8.1)."""
    return r.packet.ip_version == 4 or not has_extension(r, PROTO_ROUTING)


cdef bint is_authenticated(const Rewrite* r) noexcept nogil:
    if r.packet.ip_version == 4:
        return r.network[9] == PROTO_AH
    return has_extension(r, PROTO_AH)


cdef bint has_extension(const Rewrite* r, uint8_t wanted) noexcept nogil:
    """Has an IPv6 packet a header of a protocol before its transport? Of routing headers, one with segments left."""
    cdef const uint8_t* header = r.network + IPV6_HEADER
    cdef uint8_t proto = r.network[6]
    cdef size_t size
    while header < r.transport:                # as the decoder has walked, within its bounds
        if proto == wanted and (proto != PROTO_ROUTING or header[3]):
            return True
        if proto == PROTO_FRAGMENT:
            size = 8
        else:
            size = (<size_t> header[1] + 2) * 4 if proto == PROTO_AH else (<size_t> header[1] + 1) * 8
        proto = header[0]
        header += size
    return False


cdef bint rewrite_ttl(Rewrite* r, uint8_t ttl) noexcept nogil:
    if r.network == NULL:
        return False
    if r.packet.ip_version == 4:
        checksum_apply(r.network + 10, change16(<uint16_t> (r.packet.ttl << 8), <uint16_t> (ttl << 8)))
        r.network[8] = ttl
    else:
        r.network[7] = ttl
    r.packet.ttl = ttl
    return True


cdef bint rewrite_tos(Rewrite* r, uint8_t tos) noexcept nogil:
    if r.network == NULL:
        return False
    if r.packet.ip_version == 4:
        checksum_apply(r.network + 10, change16(r.packet.tos, tos))
        r.network[1] = tos
    else:
        put16(r.network, (be16(r.network) & 0xF00F) | <uint16_t> (tos << 4))
    r.packet.tos = tos
    return True


cdef bint rewrite_eth_src(Rewrite* r, const uint8_t* address) noexcept nogil:
    return set_eth(r, 6, address)


cdef bint rewrite_eth_dst(Rewrite* r, const uint8_t* address) noexcept nogil:
    return set_eth(r, 0, address)


cdef bint set_eth(Rewrite* r, size_t at, const uint8_t* address) noexcept nogil:
    if r.linktype != LINKTYPE_ETHERNET or r.frame_len < ETHERNET_HEADER:
        return False
    memcpy(r.link + at, address, 6)
    return True


# --- ports and TCP --------------------------------------------------------------------------------------

cdef inline bint has_ports(const Rewrite* r) noexcept nogil:
    return r.kind == WIRE_TCP or r.kind == WIRE_UDP


cdef bint rewrite_sport(Rewrite* r, uint16_t port) noexcept nogil:
    if not has_ports(r):
        return False
    set16(r, 0, port)
    r.packet.sport = port
    return True


cdef bint rewrite_dport(Rewrite* r, uint16_t port) noexcept nogil:
    if not has_ports(r):
        return False
    set16(r, 2, port)
    r.packet.dport = port
    return True


cdef bint rewrite_seq(Rewrite* r, uint32_t seq) noexcept nogil:
    if r.kind != WIRE_TCP:
        return False
    set32(r, 4, seq)
    r.packet.seq = seq
    return True


cdef bint rewrite_ack(Rewrite* r, uint32_t ack) noexcept nogil:
    if r.kind != WIRE_TCP:
        return False
    set32(r, 8, ack)
    r.packet.ack = ack
    return True


cdef bint rewrite_flags(Rewrite* r, uint16_t flags) noexcept nogil:
    if r.kind != WIRE_TCP:
        return False
    flags &= 0x1FF
    set16(r, 12, (be16(r.transport + 12) & 0xFE00) | flags)
    r.packet.flags = flags
    return True


cdef bint rewrite_window(Rewrite* r, uint16_t window) noexcept nogil:
    if r.kind != WIRE_TCP:
        return False
    set16(r, 14, window)
    r.packet.window = window
    return True


cdef bint rewrite_urgent(Rewrite* r, uint16_t urgent) noexcept nogil:
    if r.kind != WIRE_TCP:
        return False
    set16(r, 18, urgent)
    r.packet.urgent = urgent
    return True


# --- TCP options ----------------------------------------------------------------------------------------

cdef size_t next_option(const Rewrite* r, uint8_t kind, size_t at) noexcept nogil:
    """Offset in the header of the first option of a kind at or after the option at *at*; 0 when there is none."""
    cdef size_t end = r.packet.header_len
    cdef const uint8_t* option
    while at < end:
        option = r.transport + at
        if option[0] == OPTION_END:
            return 0
        if option[0] == OPTION_NOP:
            at += 1
            continue
        if end - at < 2 or option[1] < 2 or option[1] > end - at:
            return 0
        if option[0] == kind:
            return at
        at += option[1]
    return 0


cdef size_t set_option(Rewrite* r, uint8_t kind, const uint8_t* value, uint8_t n) noexcept nogil:
    """Set the value of each option of a kind and of that size; how many there are."""
    cdef size_t count = 0, at
    if r.kind != WIRE_TCP:
        return 0
    at = next_option(r, kind, TCP_HEADER)
    while at:
        if r.transport[at + 1] == 2 + n:
            patch(r, at + 2, value, n)
            count += 1
        at = next_option(r, kind, at + r.transport[at + 1])
    return count


cdef size_t rewrite_without(Rewrite* r, uint8_t kind, uint16_t experiment) noexcept nogil:
    cdef uint8_t nops[40]                      # no option is longer
    cdef size_t count = 0, at, size
    if r.kind != WIRE_TCP:
        return 0
    memset(nops, OPTION_NOP, sizeof(nops))
    at = next_option(r, kind, TCP_HEADER)
    while at:
        size = r.transport[at + 1]
        if not experiment or (size >= 4 and be16(r.transport + at + 2) == experiment):
            patch(r, at, nops, size)
            count += 1
        at = next_option(r, kind, at + size)
    return count


cdef bint rewrite_mss(Rewrite* r, uint16_t mss) noexcept nogil:
    cdef uint8_t value[2]
    put16(value, mss)
    if not set_option(r, OPTION_MSS, value, 2):
        return False
    r.packet.mss = mss
    return True


cdef bint rewrite_timestamps(Rewrite* r, uint32_t tsval, uint32_t tsecr) noexcept nogil:
    cdef uint8_t value[8]
    put32(value, tsval)
    put32(value + 4, tsecr)
    if not set_option(r, OPTION_TIMESTAMPS, value, 8):
        return False
    r.packet.tsval = tsval
    r.packet.tsecr = tsecr
    return True


cdef bint rewrite_sack(Rewrite* r, const uint32_t* edges, uint8_t count) noexcept nogil:
    cdef size_t at
    if r.kind != WIRE_TCP or not r.packet.options & OPT_SACK or count > r.packet.sack_count:
        return False
    at = next_option(r, OPTION_SACK, TCP_HEADER)
    while at:                                  # a packet may have several; the last is what was decoded
        write_sack(r, at, edges, count)
        at = next_option(r, OPTION_SACK, at + r.transport[at + 1] if count else at)
    r.packet.sack_count = count
    memcpy(r.packet.sack, edges, 8 * <size_t> count)
    if count == 0:
        r.packet.options &= ~<uint16_t> OPT_SACK
    return True


cdef void write_sack(Rewrite* r, size_t at, const uint32_t* edges, uint8_t count) noexcept nogil:
    cdef uint8_t option[255]
    cdef size_t size = r.transport[at + 1]
    cdef size_t room = (size - 2) // 8
    cdef size_t i
    memset(option, OPTION_NOP, size)
    count = <uint8_t> min(<size_t> count, room)
    if count:
        option[0] = OPTION_SACK
        option[1] = 2 + 8 * count
        for i in range(2 * <size_t> count):
            put32(option + 2 + 4 * i, edges[i])
    patch(r, at, option, size)


# --- ICMP -----------------------------------------------------------------------------------------------

cdef inline bint is_echo(uint8_t type, uint8_t proto) noexcept nogil:
    if proto == PROTO_ICMP:
        return type == ECHO_REQUEST or type == ECHO_REPLY
    return type == ICMPV6_ECHO_REQUEST or type == ICMPV6_ECHO_REPLY


cdef bint is_echo_reply(const PacketRecord* packet) noexcept nogil:
    return packet.transport[0] == (ECHO_REPLY if packet.proto == PROTO_ICMP else ICMPV6_ECHO_REPLY)


cdef bint echo_id(const PacketRecord* packet, int kind, uint16_t* id) noexcept nogil:
    if kind != WIRE_ICMP or packet.payload_cap < ICMP_HEADER or not is_echo(packet.transport[0], packet.proto):
        return False
    id[0] = be16(packet.transport + 4)
    return True


cdef bint rewrite_echo_id(Rewrite* r, uint16_t id) noexcept nogil:
    cdef uint16_t old
    if not echo_id(r.packet, r.kind, &old):
        return False
    set16(r, 4, id)
    return True


cdef bint is_error(uint8_t type, uint8_t proto) noexcept nogil:
    if proto == PROTO_ICMPV6:
        return ICMPV6_FIRST_ERROR <= type <= ICMPV6_LAST_ERROR
    return (type == DESTINATION_UNREACHABLE or type == SOURCE_QUENCH or type == REDIRECT or type == TIME_EXCEEDED
            or type == PARAMETER_PROBLEM)


cdef bint is_icmp_error(const PacketRecord* packet, int kind) noexcept nogil:
    return kind == WIRE_ICMP and packet.payload_cap >= ICMP_HEADER and is_error(packet.transport[0], packet.proto)


cdef bint quote_read(const PacketRecord* packet, int kind, Quote* out) noexcept nogil:
    cdef DecodeOptions options
    cdef PacketRecord inner
    cdef const uint8_t* transport
    if not is_icmp_error(packet, kind):
        return False
    options.verify_checksums = False
    options.decapsulate = False
    inner.link_layers = 0
    kind = decode_ip(packet.transport + ICMP_HEADER, packet.payload_cap - ICMP_HEADER, LONGEST_PACKET, &options, &inner,
                     0)
    if kind == WIRE_FRAGMENT and inner.fragment_offset == 0:
        transport = inner.fragment
    elif kind <= WIRE_IP_OTHER or kind == WIRE_TCP_CUT:
        transport = inner.transport
    else:
        return False
    if transport == NULL:                      # of a TCP header so little is quoted that the decoder has none
        return False
    out.network_at = ICMP_HEADER
    out.transport_at = <size_t> (transport - packet.transport)
    out.quoted = inner.network_len - <size_t> (transport - inner.network)
    if inner.ip_version != packet.ip_version or out.quoted < 8:        # RFC 792: 64 bits of its data at least
        return False
    out.src = inner.src
    out.dst = inner.dst
    out.ip_version = inner.ip_version
    out.proto = inner.proto
    return quote_ports(transport, out)


cdef bint quote_ports(const uint8_t* transport, Quote* out) noexcept nogil:
    if out.proto == PROTO_TCP or out.proto == PROTO_UDP:
        out.sport = be16(transport)
        out.dport = be16(transport + 2)
        return True
    if out.proto != (PROTO_ICMP if out.ip_version == 4 else PROTO_ICMPV6) or not is_echo(transport[0], out.proto):
        return False
    out.sport = out.dport = be16(transport + 4)
    return True


cdef void quote_rewrite(Rewrite* r, Quote* quote, const Address* src, const Address* dst, uint16_t sport,
                        uint16_t dport) noexcept nogil:
    cdef bint echo = quote.proto != PROTO_TCP and quote.proto != PROTO_UDP
    cdef uint32_t pseudo = (change_address(&quote.src, src, quote.ip_version)
                            + change_address(&quote.dst, dst, quote.ip_version))
    cdef uint32_t content = change16(quote.sport, sport) + (0 if echo else change16(quote.dport, dport))
    quote_addresses(r, quote, src, dst, pseudo)
    quote_checksum(r, quote, pseudo, content)
    if echo:
        set_quoted16(r, quote.transport_at + 4, sport)
    else:
        set_quoted16(r, quote.transport_at, sport)
        set_quoted16(r, quote.transport_at + 2, dport)
    quote.src = src[0]
    quote.dst = dst[0]
    quote.sport = sport
    quote.dport = sport if echo else dport


cdef void set_quoted16(Rewrite* r, size_t at, uint16_t value) noexcept nogil:
    cdef uint8_t data[2]
    put16(data, value)
    patch(r, at, data, 2)


cdef void quote_addresses(Rewrite* r, const Quote* quote, const Address* src, const Address* dst,
                          uint32_t change) noexcept nogil:
    cdef uint8_t data[32]
    cdef size_t size = address_bytes(src, quote.ip_version, data)
    size += address_bytes(dst, quote.ip_version, data + size)
    if quote.ip_version == 6:
        patch(r, quote.network_at + 8, data, size)
        return
    patch(r, quote.network_at + 12, data, size)
    memcpy(data, r.transport + quote.network_at + 10, 2)
    checksum_apply(data, change)
    patch(r, quote.network_at + 10, data, 2)


cdef void quote_checksum(Rewrite* r, const Quote* quote, uint32_t pseudo, uint32_t content) noexcept nogil:
    """Put the quoted transport's checksum right, if that was quoted."""
    cdef ChecksumField field
    cdef uint8_t data[2]
    cdef size_t offset
    if not checksum_of_protocol(quote.proto, quote.ip_version, &offset, &field) or quote.quoted < offset + 2:
        return
    memcpy(data, r.transport + quote.transport_at + offset, 2)
    field.at = data
    field.partial = False
    checksum_pseudo_changed(&field, pseudo)
    checksum_content_changed(&field, content)
    patch(r, quote.transport_at + offset, data, 2)
