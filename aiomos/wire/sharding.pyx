"""Which worker has a flow: a symmetric hash of its two ends, in software and as a program for the kernel.

Both directions of a TCP or UDP flow over IPv4 or IPv6 have one hash, and so have the ICMP errors about it, which quote
a packet of it. Fragments, and what is neither TCP nor UDP, go by their addresses alone; frames without IP have 0. The
shard is the hash modulo the number of shards, as the kernel takes
it for a group of sockets of PACKET_FANOUT_CBPF.

The hash has no key: traffic can be made up that all falls to one worker.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.frame cimport Frame
from aiomos.wire.numbers cimport ICMP_HEADER, IPV4_HEADER, IPV6_HEADER
from aiomos.wire.wire cimport (
    Address,
    DecodeOptions,
    PacketRecord,
    Span,
    be16,
    be32,
    be64,
    decode_frame,
    span_skip,
    span_u16,
)

from ipaddress import ip_address


cdef enum:
    MAX_EXTENSIONS = 8         # as in aiomos.wire.wire
    HOP_BY_HOP = 0
    ROUTING = 43
    FRAGMENT = 44
    AUTHENTICATION = 51
    DESTINATION = 60
    MOBILITY = 135
    HIP = 139
    SHIM6 = 140
    LEAST_EXTENSION = 8


# --- what an ICMP error is about -------------------------------------------------------------------------
cdef bint quoted_ends(const PacketRecord* packet, Quoted* out) noexcept nogil:
    cdef Span quote
    cdef uint8_t kind
    if packet.transport == NULL or packet.proto != (SHARD_ICMP if packet.ip_version == 4 else SHARD_ICMPV6):
        return False
    quote.p, quote.n = packet.transport, packet.payload_cap
    if quote.n < ICMP_HEADER:
        return False
    kind = quote.p[0]
    span_skip(&quote, ICMP_HEADER)
    out.sport = out.dport = 0
    if packet.ip_version == 6:
        return kind < 128 and quoted_ipv6(&quote, out)             # RFC 4443 section 2.1
    # RFC 792: unreachable, source quench, redirect, time exceeded, parameter problem.
    return (kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12) and quoted_ipv4(&quote, out)


cdef bint quoted_ipv4(Span* quote, Quoted* out) noexcept nogil:
    cdef const uint8_t* header = quote.p
    if quote.n < IPV4_HEADER or header[0] >> 4 != 4 or header[0] & 0x0F < 5:
        return False
    out.src.hi = out.dst.hi = 0
    out.src.lo = 0xFFFF00000000ULL | be32(header + 12)
    out.dst.lo = 0xFFFF00000000ULL | be32(header + 16)
    if be16(header + 6) & 0x1FFF == 0 and span_skip(quote, <size_t> (header[0] & 0x0F) * 4):
        read_ports(quote, header[9], out)
    return True


cdef bint quoted_ipv6(Span* quote, Quoted* out) noexcept nogil:
    cdef const uint8_t* header = quote.p
    cdef uint8_t proto
    cdef size_t size
    cdef int _
    if quote.n < IPV6_HEADER or header[0] >> 4 != 6:
        return False
    out.src.hi, out.src.lo = be64(header + 8), be64(header + 16)
    out.dst.hi, out.dst.lo = be64(header + 24), be64(header + 32)
    proto = header[6]
    span_skip(quote, IPV6_HEADER)
    for _ in range(MAX_EXTENSIONS):
        size = extension_size(quote, proto)
        if size == 0:
            break
        proto = quote.p[0]
        if not span_skip(quote, size):
            return True
    read_ports(quote, proto, out)
    return True


cdef size_t extension_size(const Span* quote, uint8_t proto) noexcept nogil:
    """Tell the size of an IPv6 extension header; 0 where there is none, or nothing known behind it."""
    if quote.n < LEAST_EXTENSION:
        return 0
    if proto == FRAGMENT:
        return 8 if be16(quote.p + 2) & 0xFFF8 == 0 else 0
    if proto == AUTHENTICATION:
        return (<size_t> quote.p[1] + 2) * 4                       # RFC 4302 section 2.2
    if (proto == HOP_BY_HOP or proto == ROUTING or proto == DESTINATION or proto == MOBILITY or proto == HIP
            or proto == SHIM6):
        return (<size_t> quote.p[1] + 1) * 8
    return 0


cdef void read_ports(const Span* quote, uint8_t proto, Quoted* out) noexcept nogil:
    if (proto == SHARD_TCP or proto == SHARD_UDP) and quote.n >= 4:
        span_u16(quote, 0, &out.sport)
        span_u16(quote, 2, &out.dport)


# --- shards ----------------------------------------------------------------------------------------------
def shard_of(const uint8_t[::1] frame not None, uint32_t count, *, uint16_t linktype=1):
    """Tell which of *count* shards a frame belongs to.

    The kernel's program (`aiomos.transport.fanout`) says the same of Ethernet with IP in it, behind PPPoE
    and up to five tags (VLAN, VN-Tag, E-Tag, HSR, R-TAG). It does not look into MPLS, SNAP and the rest, which all have
    hash 0 there.

    Args:
        frame: Bytes from the link layer on.
        count: How many shards there are, at least 1.
        linktype: LINKTYPE_ number of the frame.

    Returns:
        0 to *count* - 1.

    Raises:
        ValueError: *count* is 0.
    """
    cdef Frame native
    cdef PacketRecord packet
    cdef DecodeOptions options
    native.data = &frame[0] if frame.shape[0] else NULL
    native.caplen = native.wirelen = <uint32_t> frame.shape[0]
    native.time_ns = 0
    native.linktype = linktype
    native.interface = 0
    native.offload = NULL
    options.verify_checksums = False
    options.decapsulate = False
    decode_frame(&native, &options, &packet)
    return flow_hash(&packet) % at_least_one(count)


def shard_of_ends(source, destination, uint32_t count):
    """Tell which of *count* shards a TCP or UDP flow belongs to.

    Args:
        source: Address, as text, and port of an end.
        destination: Those of the other end, of the same family.
        count: How many shards there are, at least 1.

    Returns:
        0 to *count* - 1; the same with the ends exchanged.

    Raises:
        ValueError: *count* is 0, an address is none, or they are not of one family.
    """
    cdef Address src, dst
    first, second = ip_address(source[0]), ip_address(destination[0])
    if first.version != second.version:
        raise ValueError(f"{first} and {second} are not of one family")
    src, dst = native_address(int(first)), native_address(int(second))
    return ends_hash(&src, source[1], &dst, destination[1], first.version) % at_least_one(count)


cdef Address native_address(number):
    return Address(hi=<uint64_t> (number >> 64), lo=<uint64_t> (number & 0xFFFFFFFFFFFFFFFF))


cdef uint32_t at_least_one(uint32_t count) except 0:
    if count == 0:
        raise ValueError("there must be at least one shard")
    return count
