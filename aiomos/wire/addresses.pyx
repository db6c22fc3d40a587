"""IP addresses as text, the same as `ipaddress` writes.

A capture has many packets and few addresses, so texts are remembered: in a table of fixed size, in which the bits of an
address say where it stands, and a newer one takes the place of an older.
"""

from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport strlen

from ipaddress import IPv6Address, ip_address


cdef extern from "<arpa/inet.h>" nogil:
    enum:
        AF_INET6
        INET6_ADDRSTRLEN
    const char* inet_ntop(int family, const void* address, char* text, unsigned int size)

cdef enum:
    SLOT_BITS = 12
    SLOTS = 4096
    MIX = 0x9E3779B97F4A7C15   # 2**64 divided by the golden ratio: its products differ in their high bits

ctypedef struct Slot:
    Address address
    uint8_t ip_version         # 0: nothing here

cdef Slot slots[SLOTS]
cdef list texts = [None] * SLOTS


cdef str address_text(const Address* address, uint8_t ip_version):
    cdef Py_ssize_t at = ((address.lo ^ address.hi * 31 ^ ip_version) * <uint64_t> MIX) >> (64 - SLOT_BITS)
    cdef Slot* slot = &slots[at]
    if slot.address.lo != address.lo or slot.address.hi != address.hi or slot.ip_version != ip_version:
        texts[at] = ipv4_text(address) if ip_version == 4 else ipv6_text(address)
        slot.address = address[0]
        slot.ip_version = ip_version
    return texts[at]


cdef str ipv4_text(const Address* address):
    cdef char text[16]
    cdef Py_ssize_t size = 0
    cdef int shift
    cdef uint8_t octet
    for shift in range(24, -8, -8):
        octet = <uint8_t> (address.lo >> shift)
        if octet >= 100:
            text[size] = 48 + octet // 100
            size += 1
        if octet >= 10:
            text[size] = 48 + octet // 10 % 10
            size += 1
        text[size] = 48 + octet % 10
        text[size + 1] = 46
        size += 2
    return PyUnicode_DecodeASCII(text, size - 1, NULL)


cdef str ipv6_text(const Address* address):
    cdef uint8_t packed[16]
    cdef char text[INET6_ADDRSTRLEN]
    cdef int i
    # Those that hold an IPv4 address inet_ntop writes with dots, ipaddress in Python before 3.13 without.
    if address.hi == 0 and address.lo >> 48 == 0:
        return str(IPv6Address(<object> address.lo))
    for i in range(8):
        packed[i] = <uint8_t> (address.hi >> (56 - 8 * i))
        packed[8 + i] = <uint8_t> (address.lo >> (56 - 8 * i))
    inet_ntop(AF_INET6, packed, text, INET6_ADDRSTRLEN)
    return PyUnicode_DecodeASCII(text, <Py_ssize_t> strlen(text), NULL)


cdef int address_read(object text, Address* out) except -1:
    address = ip_address(text)
    number = int(address)
    if address.version == 4:
        number |= 0xFFFF << 32                     # as ::ffff:a.b.c.d
    out.hi, out.lo = number >> 64, number & 0xFFFFFFFFFFFFFFFF
    return address.version
