# The same frame captured more than once.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aiomos.tcp.tracks cimport Track
from aiomos.wire.wire cimport PacketRecord

cdef enum:
    RECENT = 8                 # segments of a half that a copy is looked for among
    IP_ID = 4                  # where the fields are in an IPv4 header,
    TCP_CHECKSUM = 16          # and in a TCP header
    TICK_BITS = 10             # a mark's time counts 1,024 nanoseconds
    COPY_NS = 50_000_000       # two paths to one mirror differ by less; a time-out is longer (RFC 6298)

cdef bint is_copy(const Track* t, const PacketRecord* packet) noexcept nogil
cdef bint is_missing_byte(const Track* t, const PacketRecord* packet) noexcept nogil

cdef inline uint16_t raw16(const uint8_t* at) noexcept nogil:
    """Two bytes of a header that was captured, in whatever order: they are only compared."""
    cdef uint16_t value
    memcpy(&value, at, 2)
    return value

cdef inline uint32_t identification(const PacketRecord* packet) noexcept nogil:
    """Of an IPv4 packet; 0 of IPv6, which has none, and where the sender sets none (RFC 6864 section 4.1)."""
    return raw16(packet.network + IP_ID) if packet.ip_version == 4 else 0

cdef inline uint64_t mark_of(const PacketRecord* packet) noexcept nogil:
    """What the copy of a segment has in common with it, and its time; neither TTL, VLAN nor MAC addresses are."""
    cdef uint32_t checksum = 0
    if packet.header_cap >= TCP_CHECKSUM + 2:
        checksum = raw16(packet.transport + TCP_CHECKSUM)
    return (<uint64_t> ((identification(packet) << 16 | checksum) + packet.seq * <uint32_t> 0x9E3779B1) << 32
            | <uint32_t> (<uint64_t> packet.time_ns >> TICK_BITS))

cdef inline void remember(Track* t, const PacketRecord* packet) noexcept nogil:
    """Note a segment, so that its copy is known."""
    t.recent[t.recent_at & (RECENT - 1)] = mark_of(packet)
    t.recent_at += 1
