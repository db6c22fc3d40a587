"""What may stand between an Ethernet header and IP: tags, label stacks, 802.2, PPPoE.

Every reader checks that its header was captured whole, moves the cursor behind it, and tells what follows; `wire` goes
on from there. Lengths that a header states are obeyed: what is behind them is padding or a trailer.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from aiomos.tcp.layers cimport (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_MIN,
    ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM,
    ETHERTYPE_PPPOE,
    LAYER_ETHERTYPE,
    LAYER_MPLS,
    LAYER_SAP,
    LAYER_SNAP,
    NEXT_ETHERNET,
    NEXT_ETHERTYPE,
    NEXT_IP,
    NEXT_LLC,
    NEXT_MPLS,
    NEXT_PPP,
    WIRE_BAD_LINK,
    be16,
    be32,
    cursor_clip,
    is_vlan,
    next_ethertype,
    unread,
)

cdef enum:
    ETHERNET_HEADER = 14
    MAX_LENGTH = 1500          # of an 802.3 frame: IEEE 802.3 section 3.2.6

cdef enum:
    SAP_IP = 0x06
    SAP_SNAP = 0xAA
    UNNUMBERED = 0x03          # the control field of unnumbered information

cdef enum:
    OUI_ETHERTYPE = 0x000000   # RFC 1042
    OUI_BRIDGE_TUNNEL = 0x0000F8       # 802.1H


cdef int read_ethernet(Cursor* at, Packet* out) noexcept nogil:
    if at.captured < ETHERNET_HEADER:
        return WIRE_BAD_LINK
    at.ethertype = be16(at.data + 12)
    cursor_skip(at, ETHERNET_HEADER)
    return NEXT_ETHERTYPE


cdef int read_ethertype(Cursor* at, Packet* out) noexcept nogil:
    cdef uint16_t ethertype = at.ethertype
    if is_vlan(ethertype):
        return read_vlan(at, out)
    if ethertype <= MAX_LENGTH:
        return read_length(at)
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_UPSTREAM:
        return read_mpls(at, out)
    if ethertype == ETHERTYPE_PPPOE:
        return read_pppoe(at, out)
    return unread(out, LAYER_ETHERTYPE, ethertype)


cdef int read_length(Cursor* at) noexcept nogil:
    """An 802.3 frame has its length where others have a type."""
    if at.ethertype > at.wire_len:
        return WIRE_BAD_LINK
    cursor_clip(at, at.ethertype)
    return NEXT_LLC


cdef int read_pppoe(Cursor* at, Packet* out) noexcept nogil:
    """RFC 2516 section 4: version 1, type 1, code 0, session, length."""
    cdef uint16_t length
    if at.captured < 6:
        return WIRE_BAD_LINK
    if be16(at.data) != 0x1100:
        return unread(out, LAYER_ETHERTYPE, ETHERTYPE_PPPOE)
    length = be16(at.data + 4)
    cursor_skip(at, 6)
    if length > at.wire_len:
        return WIRE_BAD_LINK
    cursor_clip(at, length)
    return NEXT_PPP


# --- 802.2 ----------------------------------------------------------------------------------------

cdef int read_llc(Cursor* at, Packet* out) noexcept nogil:
    cdef uint16_t saps
    if at.captured < 3:
        return WIRE_BAD_LINK
    saps = be16(at.data)
    if at.data[2] == UNNUMBERED:
        if saps == (SAP_SNAP << 8 | SAP_SNAP):
            return read_snap(at, out)
        if saps == (SAP_IP << 8 | SAP_IP):
            cursor_skip(at, 3)
            return NEXT_IP
    return unread(out, LAYER_SAP, saps)


cdef int read_snap(Cursor* at, Packet* out) noexcept nogil:
    """RFC 1042: an organisation, and a protocol of its choice."""
    cdef uint32_t organisation
    cdef uint16_t protocol
    if at.captured < 8:
        return WIRE_BAD_LINK
    organisation = be32(at.data + 2) & 0xFFFFFF
    protocol = be16(at.data + 6)
    if (organisation != OUI_ETHERTYPE and organisation != OUI_BRIDGE_TUNNEL) or protocol < ETHERTYPE_MIN:
        return unread(out, LAYER_SNAP, <uint64_t> organisation << 16 | protocol)
    cursor_skip(at, 8)
    return next_ethertype(at, protocol, out)


# --- MPLS -----------------------------------------------------------------------------------------

cdef int read_mpls(Cursor* at, Packet* out) noexcept nogil:
    """One label (RFC 3032), and behind the last IP, or Ethernet behind a control word (RFC 4448 section 4.6)."""
    cdef bint bottom
    if at.captured < 4:
        return WIRE_BAD_LINK
    bottom = at.data[2] & 1
    cursor_skip(at, 4)
    if not bottom:
        return NEXT_MPLS
    if at.captured == 0:
        return NEXT_IP
    # Nothing in a label says what follows; by RFC 4928 section 3 the first nibble does.
    if at.data[0] >> 4 == 4 or at.data[0] >> 4 == 6:
        return NEXT_IP
    if at.data[0] >> 4 == 0 and is_ethernet(at, 4):
        cursor_skip(at, 4)
        return NEXT_ETHERNET
    return unread(out, LAYER_MPLS, at.data[0] >> 4)


cdef bint is_ethernet(const Cursor* at, size_t skipped) noexcept nogil:
    """Does an Ethernet frame with IP in it stand there?"""
    cdef uint16_t ethertype
    if at.captured < skipped + ETHERNET_HEADER:
        return False
    ethertype = be16(at.data + skipped + 12)
    return ethertype == ETHERTYPE_IPV4 or ethertype == ETHERTYPE_IPV6 or is_vlan(ethertype)
