"""Link types of the capture formats other than Ethernet and plain IP: all that stands before Ethernet, PPP or IP.

Every reader checks that its header was captured whole, moves the cursor behind it, and tells what follows; `wire` goes
on from there.
"""

from libc.stdint cimport uint16_t, uint32_t

from aiomos.tcp.layers cimport (
    LAYER_FAMILY,
    LAYER_LINKTYPE,
    LAYER_PPP,
    NEXT_IP,
    NEXT_LLC,
    NEXT_PPP,
    WIRE_BAD_LINK,
    WIRE_UNKNOWN_LINK,
    be16,
    be32,
    cursor_skip,
    next_ethertype,
    unread,
)

# LINKTYPE_ numbers; 12 and 14 are what DLT_RAW is on some systems.
cdef enum:
    LINKTYPE_NULL = 0
    LINKTYPE_PPP = 9
    LINKTYPE_RAW_BSD = 12
    LINKTYPE_RAW_OPENBSD = 14
    LINKTYPE_PPP_HDLC = 50
    LINKTYPE_RAW = 101
    LINKTYPE_LOOP = 108
    LINKTYPE_LINUX_SLL = 113
    LINKTYPE_IPV4 = 228
    LINKTYPE_IPV6 = 229
    LINKTYPE_LINUX_SLL2 = 276

cdef enum:
    PPP_IPV4 = 0x0021
    PPP_IPV6 = 0x0057

cdef enum:                     # linux/if_ether.h: what stands for an EtherType where there is none
    COOKED_LLC = 0x0004


cdef int read_link(Cursor* at, Packet* out) noexcept nogil:
    cdef uint16_t linktype = at.ethertype
    if (linktype == LINKTYPE_RAW or linktype == LINKTYPE_RAW_BSD or linktype == LINKTYPE_RAW_OPENBSD
            or linktype == LINKTYPE_IPV4 or linktype == LINKTYPE_IPV6):
        return NEXT_IP
    if linktype == LINKTYPE_LINUX_SLL:
        return read_cooked(at, 16, 14, out)
    if linktype == LINKTYPE_LINUX_SLL2:
        return read_cooked(at, 20, 0, out)
    if linktype == LINKTYPE_NULL or linktype == LINKTYPE_LOOP:
        return read_loopback(at, out)
    if linktype == LINKTYPE_PPP or linktype == LINKTYPE_PPP_HDLC:
        return read_ppp_framed(at)
    unread(out, LAYER_LINKTYPE, linktype)
    return WIRE_UNKNOWN_LINK


# --- captures of a host -----------------------------------------------------------------------------

cdef int read_cooked(Cursor* at, size_t size, size_t type_at, Packet* out) noexcept nogil:
    """Linux cooked capture: a header of size bytes with the EtherType somewhere in it."""
    cdef uint16_t protocol
    if at.captured < size:
        return WIRE_BAD_LINK
    protocol = be16(at.data + type_at)
    cursor_skip(at, size)
    if protocol == COOKED_LLC:
        return NEXT_LLC
    return next_ethertype(at, protocol, out)


cdef int read_loopback(Cursor* at, Packet* out) noexcept nogil:
    """BSD loopback: an address family in the byte order of the capturing host, or the network's."""
    cdef uint32_t family
    if at.captured < 4:
        return WIRE_BAD_LINK
    family = be32(at.data)
    if family > 0xFFFF:
        family = <uint32_t> at.data[1] << 8 | at.data[0]
    cursor_skip(at, 4)
    return read_family(family, out)


cdef int read_family(uint32_t family, Packet* out) noexcept nogil:
    # AF_INET; AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
    if family == 2 or family == 10 or family == 24 or family == 28 or family == 30:
        return NEXT_IP
    return unread(out, LAYER_FAMILY, family)


# --- PPP ----------------------------------------------------------------------------------------------

cdef int read_ppp_framed(Cursor* at) noexcept nogil:
    """PPP with or without HDLC's address and control bytes (RFC 1662 section 3.1)."""
    if at.captured >= 2 and be16(at.data) == 0xFF03:
        cursor_skip(at, 2)
    return NEXT_PPP


cdef int read_ppp(Cursor* at, Packet* out) noexcept nogil:
    """Read the protocol field, which compression may have shortened to one byte (RFC 1661 section 6.5)."""
    cdef size_t size
    cdef uint16_t protocol
    if at.captured == 0:
        return WIRE_BAD_LINK
    size = 1 if at.data[0] & 1 else 2
    if at.captured < size:
        return WIRE_BAD_LINK
    protocol = at.data[0] if size == 1 else be16(at.data)
    cursor_skip(at, size)
    if protocol == PPP_IPV4 or protocol == PPP_IPV6:
        return NEXT_IP
    return unread(out, LAYER_PPP, protocol)
