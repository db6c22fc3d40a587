# Tunnels: what may stand between one IP header and the next.
from aiomos.tcp.layers cimport Cursor, DecodeOptions, Packet

# Each takes the cursor behind the header that names the tunnel, and out as that header's packet. It moves the cursor
# behind the tunnel's header and returns what stands there, a Next; or a Kind, with the cursor anywhere and out as it
# was. By IP protocol out.proto; by the ports of UDP.
cdef int read_ip_tunnel(Cursor* at, const DecodeOptions* options, Packet* out) noexcept nogil
cdef int read_udp_tunnel(Cursor* at, const DecodeOptions* options, Packet* out) noexcept nogil
# For NEXT_NSH.
cdef int read_nsh(Cursor* at, Packet* out) noexcept nogil
