"""ARP over Ethernet and IPv4 (RFC 826): messages read and written, and nothing believed or answered here."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aiomos.wire.checksums cimport put16, put32
from aiomos.wire.numbers cimport ETHERNET_HEADER, ETHERTYPE_IPV4
from aiomos.wire.wire cimport Address, Span, be32, span_skip, span_take, span_u8, span_u16

cdef enum:
    HARDWARE_ETHERNET = 1
    HARDWARE_IEEE_802 = 6              # as some hosts say of the same frames (RFC 1042)
    ARP_HEADER = 8
    MAPPED = 0xFFFF                    # IPv4 as ::ffff:a.b.c.d


cdef bint read_header(Span* message, uint16_t* operation) noexcept nogil:
    """Read what kind of message it is; true if it is one between Ethernet and IPv4 addresses."""
    cdef uint16_t hardware, protocol
    cdef uint8_t hardware_size, protocol_size
    if not (span_u16(message, 0, &hardware) and span_u16(message, 2, &protocol) and span_u8(message, 4, &hardware_size)
            and span_u8(message, 5, &protocol_size) and span_u16(message, 6, operation)):
        return False
    return ((hardware == HARDWARE_ETHERNET or hardware == HARDWARE_IEEE_802) and protocol == ETHERTYPE_IPV4
            and hardware_size == MAC_BYTES and protocol_size == 4 and span_skip(message, ARP_HEADER))


cdef bint read_end(Span* message, uint8_t* mac, Address* address) noexcept nogil:
    cdef Span octets, number
    if not (span_take(message, MAC_BYTES, &octets) and span_take(message, 4, &number)):
        return False
    memcpy(mac, octets.p, MAC_BYTES)
    address.hi, address.lo = 0, <uint64_t> MAPPED << 32 | be32(number.p)
    return True


cdef bint arp_read(const uint8_t* frame, size_t n, ArpMessage* out) noexcept nogil:
    cdef Span message
    cdef uint16_t ethertype
    message.p, message.n = frame, n
    if not span_u16(&message, 12, &ethertype) or ethertype != ETHERTYPE_ARP:
        return False
    if not span_skip(&message, ETHERNET_HEADER) or not read_header(&message, &out.operation):
        return False
    if out.operation != ARP_REQUEST and out.operation != ARP_REPLY:
        return False
    return read_end(&message, out.sender_mac, &out.sender) and read_end(&message, out.target_mac, &out.target)


cdef size_t arp_write(const ArpMessage* message, const uint8_t* to, uint8_t* out, size_t room) noexcept nogil:
    if room < ARP_FRAME:
        return 0
    memcpy(out, to, MAC_BYTES)
    memcpy(out + 6, message.sender_mac, MAC_BYTES)
    put16(out + 12, ETHERTYPE_ARP)
    put16(out + 14, HARDWARE_ETHERNET)
    put16(out + 16, ETHERTYPE_IPV4)
    out[18], out[19] = MAC_BYTES, 4
    put16(out + 20, message.operation)
    memcpy(out + 22, message.sender_mac, MAC_BYTES)
    put32(out + 28, <uint32_t> message.sender.lo)
    memcpy(out + 32, message.target_mac, MAC_BYTES)
    put32(out + 38, <uint32_t> message.target.lo)
    return ARP_FRAME
