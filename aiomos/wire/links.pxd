# Link types of the capture formats: what stands before Ethernet, PPP or IP.
from aiomos.wire.layers cimport Cursor, PacketRecord

# Each moves the cursor behind the header that stands there, and returns a Kind or a Next.
cdef int read_link(Cursor* at, PacketRecord* out) noexcept nogil         # of link type at.ethertype
cdef int read_ppp(Cursor* at, PacketRecord* out) noexcept nogil
