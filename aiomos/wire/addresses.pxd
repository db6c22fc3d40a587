# IP addresses as text.
from libc.stdint cimport uint8_t

from aiomos.wire.wire cimport Address

# As ipaddress writes it; of the addresses in use the text is remembered.
cdef str address_text(const Address* address, uint8_t ip_version)
# Read a text, or an object of ipaddress; its IP version. ValueError says what an address is.
cdef int address_read(object text, Address* out) except -1
