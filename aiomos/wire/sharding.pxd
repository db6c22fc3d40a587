# The symmetric hash by which flows are shared out among workers; the kernel runs the same as a BPF program.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.wire cimport Address, PacketRecord

cpdef enum Mix:
    MIX_WORD = 0xCC9E2D51      # odd, with about as many ones as zeros (Appleby, MurmurHash3)
    MIX_END = 0x85EBCA6B
    MIX_ENDS = 0xC2B2AE35

cdef enum:
    SHARD_ICMP = 1
    SHARD_TCP = 6
    SHARD_UDP = 17
    SHARD_ICMPV6 = 58

# The ends of the packet that an ICMP error quotes; ports are 0 where it has none, or they were cut off.
ctypedef struct Quoted:
    Address src
    Address dst
    uint16_t sport
    uint16_t dport

# Read them; false where it is no error, or quotes no IP header.
cdef bint quoted_ends(const PacketRecord* packet, Quoted* out) noexcept nogil

cdef inline uint32_t end_hash(const Address* address, bint is_ipv4, uint16_t port) noexcept nogil:
    """Hash one end: its address as four words, those before an IPv4 address zero, and its port."""
    cdef uint32_t h = <uint32_t> address.lo
    if not is_ipv4:
        h = <uint32_t> (address.hi >> 32)
        h = h * <uint32_t> MIX_WORD + <uint32_t> address.hi
        h = h * <uint32_t> MIX_WORD + <uint32_t> (address.lo >> 32)
        h = h * <uint32_t> MIX_WORD + <uint32_t> address.lo
    h = h * <uint32_t> MIX_WORD + port
    return (h ^ h >> 16) * <uint32_t> MIX_END

cdef inline uint32_t ends_hash(const Address* src, uint16_t sport, const Address* dst, uint16_t dport,
                               uint8_t ip_version) noexcept nogil:
    """Hash two ends; the same whichever is the source. The shard is this modulo the number of shards."""
    cdef uint32_t h = end_hash(src, ip_version == 4, sport) + end_hash(dst, ip_version == 4, dport)
    h = (h ^ h >> 16) * <uint32_t> MIX_ENDS
    return h ^ h >> 15

cdef inline uint32_t flow_hash(const PacketRecord* packet) noexcept nogil:
    """Hash a decoded packet of any kind.

    TCP and UDP go by their ends, ICMP errors by those that they quote, fragments and others by the addresses. What is
    not IP has 0.
    """
    cdef bint has_ports
    cdef Quoted quoted
    if packet.ip_version == 0:
        return 0
    if quoted_ends(packet, &quoted):
        return ends_hash(&quoted.src, quoted.sport, &quoted.dst, quoted.dport, packet.ip_version)
    has_ports = packet.transport != NULL and (packet.proto == SHARD_TCP or packet.proto == SHARD_UDP)
    return ends_hash(&packet.src, packet.sport if has_ports else 0, &packet.dst, packet.dport if has_ports else 0,
                     packet.ip_version)
