# What stands between an Ethernet header and IP: tags, label stacks, 802.2, session headers.
from libc.stdint cimport uint16_t

from aiomos.wire.layers cimport (
    Cursor, NEXT_ETHERTYPE, NO_VLAN, PacketRecord, WIRE_BAD_LINK, be16, cursor_skip)

cdef inline int read_vlan(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint16_t vid
    if at.captured < 4:
        return WIRE_BAD_LINK
    vid = be16(at.data) & 0x0FFF
    if vid and out.vlan == NO_VLAN:                # VLAN 0 only carries a priority (802.1Q section 9.6)
        out.vlan = vid
    at.ethertype = be16(at.data + 2)
    cursor_skip(at, 4)
    return NEXT_ETHERTYPE

# Each moves the cursor behind the header that stands there, and returns a Kind or a Next.
cdef int read_ethernet(Cursor* at, PacketRecord* out) noexcept nogil
cdef int read_ethertype(Cursor* at, PacketRecord* out) noexcept nogil    # all but IP
cdef int read_mpls(Cursor* at, PacketRecord* out) noexcept nogil         # one label
cdef int read_pppoe(Cursor* at, PacketRecord* out) noexcept nogil
cdef int read_llc(Cursor* at, PacketRecord* out) noexcept nogil
cdef int read_nlpid(Cursor* at, PacketRecord* out) noexcept nogil
