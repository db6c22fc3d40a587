# ARP over Ethernet and IPv4 (RFC 826), read and written as whole frames.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

from aiomos.wire.wire cimport Address

cdef enum:
    ETHERTYPE_ARP = 0x0806
    MAC_BYTES = 6
    ARP_FRAME = 42             # bytes of a frame with an ARP message
    ARP_REQUEST = 1
    ARP_REPLY = 2

# A message. Who probes (RFC 5227 section 1.1) is 0.0.0.0; who announces an address asks for the own one (section 3).
ctypedef struct ArpMessage:
    uint16_t operation         # ARP_REQUEST, ARP_REPLY
    uint8_t sender_mac[6]
    uint8_t target_mac[6]      # of a request, mostly 0
    Address sender
    Address target

# Read an untagged Ethernet frame; false for what is no ARP request or reply of Ethernet and IPv4, or is cut.
cdef bint arp_read(const uint8_t* frame, size_t n, ArpMessage* out) noexcept nogil
# Write a frame from the sender's MAC address to *to*; its size, 0 without room.
cdef size_t arp_write(const ArpMessage* message, const uint8_t* to, uint8_t* out, size_t room) noexcept nogil
