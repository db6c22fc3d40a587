# IP addresses as text.
from libc.stdint cimport uint8_t

from aiomos.tcp.wire cimport Address

# As ipaddress writes it; of the addresses in use the text is remembered.
cdef str address_text(const Address* address, uint8_t ip_version)
