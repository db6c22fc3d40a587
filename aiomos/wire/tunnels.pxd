# Tunnels: what may stand between one IP header and the next.
from libc.stdint cimport uint8_t, uint16_t

from aiomos.wire.layers cimport Cursor, DecodeOptions, PacketRecord

# A bit a port: most datagrams are of no tunnel, and have to be told from one quickly.
ctypedef struct PortSet:
    uint8_t[8192] bits

cdef PortSet TUNNEL_PORTS              # of every tunnel over UDP, VXLAN's of all engines among them

cdef inline bint is_among(const PortSet* ports, uint16_t port) noexcept nogil:
    return ports.bits[port >> 3] >> (port & 7) & 1

cdef void add_tunnel_port(uint16_t port) noexcept nogil
# The port that tells which tunnel a UDP datagram may be of, or 0; for VXLAN, whichever it uses, 4789.
cdef uint16_t tunnel_port(const DecodeOptions* options, const PacketRecord* out) noexcept nogil
# Each takes the cursor behind the header that names the tunnel, by IP protocol out.proto or by that port, and out as
# that header's packet. It moves the cursor behind the tunnel's header and returns what stands there, a Next; or a Kind,
# with the cursor anywhere and out as it was, but for what is noted as unread.
cdef int read_ip_tunnel(Cursor* at, const DecodeOptions* options, PacketRecord* out) noexcept nogil
cdef int read_udp_tunnel(Cursor* at, uint16_t port, const DecodeOptions* options, PacketRecord* out) noexcept nogil
