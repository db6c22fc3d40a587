"""What may stand between an Ethernet header and IP: tags, label stacks, 802.2, PPPoE, Ethernet in Ethernet.

Every reader checks that its header was captured whole, moves the cursor behind it, and tells what follows; `wire` goes
on from there. Lengths that a header states are obeyed: what is behind them is padding or a trailer.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.layers cimport (
    ENCRYPTED_MACSEC,
    FRAGMENTS_FRAME_RELAY,
    LAYER_ENCRYPTED,
    LAYER_ETHERTYPE,
    LAYER_FRAGMENTS,
    LAYER_MPLS,
    LAYER_NLPID,
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
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_ARISTA,
    ETHERTYPE_BATMAN,
    ETHERTYPE_BRIDGED,
    ETHERTYPE_E_TAG,
    ETHERTYPE_FABRICPATH,
    ETHERTYPE_HSR,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ETHERTYPE_I_TAG,
    ETHERTYPE_JUMBO_LLC,
    ETHERTYPE_MACSEC,
    ETHERTYPE_METADATA,
    ETHERTYPE_MIN,
    ETHERTYPE_MPLS,
    ETHERTYPE_MPLS_UPSTREAM,
    ETHERTYPE_NSH,
    ETHERTYPE_OLDER_QINQ,
    ETHERTYPE_OLD_QINQ,
    ETHERTYPE_PPPOE,
    ETHERTYPE_R_TAG,
    ETHERTYPE_TRILL,
    ETHERTYPE_VN_TAG,
)

cdef enum:
    MAX_LENGTH = 1500          # of an 802.3 frame: IEEE 802.3 section 3.2.6

cdef enum:
    SAP_IP = 0x06
    SAP_SNAP = 0xAA
    SAP_OSI = 0xFE
    UNNUMBERED = 0x03          # the control field of unnumbered information
    SNAP_HEADER = 0xAAAA03

cdef enum:
    OUI_ETHERTYPE = 0x000000   # RFC 1042
    OUI_BRIDGE_TUNNEL = 0x0000F8       # 802.1H
    OUI_BRIDGED = 0x0080C2     # RFC 2684, RFC 2427
    BRIDGED_WITH_FCS = 1
    BRIDGED = 7

cdef enum:                     # network layer protocols of ISO/IEC TR 9577, as RFC 2427 uses them
    NLPID_SNAP = 0x80
    NLPID_IPV6 = 0x8E
    NLPID_FRAGMENT = 0xB1      # FRF.12
    NLPID_IPV4 = 0xCC
    NLPID_PPP = 0xCF


# --- Ethernet ---------------------------------------------------------------------------------------

cdef int read_ethernet(Cursor* at, PacketRecord* out) noexcept nogil:
    if at.captured < ETHERNET_HEADER:
        return WIRE_BAD_LINK
    at.ethertype = be16(at.data + 12)
    if at.ethertype <= MAX_LENGTH and be32(at.data) == 0x01000C00 and at.data[4] == 0:
        return read_isl(at, out)
    cursor_skip(at, ETHERNET_HEADER)
    return NEXT_ETHERTYPE


cdef int read_isl(Cursor* at, PacketRecord* out) noexcept nogil:
    """Cisco Inter-Switch Link: a header of 26 bytes, with the length from the 802.2 header on, before the frame."""
    cdef uint16_t vid
    cursor_skip(at, ETHERNET_HEADER)
    if at.captured < 12 or at.ethertype > at.wire_len or at.ethertype < 12:
        return WIRE_BAD_LINK
    if be32(at.data) >> 8 != SNAP_HEADER:
        return NEXT_ETHERTYPE
    vid = be16(at.data + 6) >> 1
    if vid and out.vlan == NO_VLAN:
        out.vlan = vid & 0x0FFF
    cursor_clip(at, at.ethertype)
    cursor_skip(at, 12)
    return NEXT_ETHERNET


cdef int read_ethertype(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint16_t ethertype = at.ethertype
    if is_vlan(ethertype) or ethertype == ETHERTYPE_OLD_QINQ or ethertype == ETHERTYPE_OLDER_QINQ:
        return read_vlan(at, out)
    if ethertype <= MAX_LENGTH:
        return read_length(at, out)
    if ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_MPLS_UPSTREAM:
        return read_mpls(at, out)
    if ethertype == ETHERTYPE_PPPOE:
        return read_pppoe(at, out)
    if ethertype == ETHERTYPE_VN_TAG or ethertype == ETHERTYPE_HSR or ethertype == ETHERTYPE_R_TAG:
        return read_tag(at, 6)
    if ethertype == ETHERTYPE_E_TAG:
        return read_tag(at, 8)
    if ethertype == ETHERTYPE_METADATA:
        return read_metadata(at, out)
    if ethertype == ETHERTYPE_ARISTA:
        return read_timestamp(at, out)
    if ethertype == ETHERTYPE_I_TAG:
        return read_outer(at, 4)
    if ethertype == ETHERTYPE_FABRICPATH:
        return read_outer(at, 2)
    if ethertype == ETHERTYPE_BRIDGED:
        return NEXT_ETHERNET
    if ethertype == ETHERTYPE_MACSEC:
        return read_macsec(at, out)
    if ethertype == ETHERTYPE_TRILL:
        return read_trill(at, out)
    if ethertype == ETHERTYPE_NSH:
        return read_nsh(at, out)
    if ethertype == ETHERTYPE_BATMAN:
        return read_batman(at, out)
    if ethertype == ETHERTYPE_JUMBO_LLC:
        return NEXT_LLC
    return unread(out, LAYER_ETHERTYPE, ethertype)


cdef int read_length(Cursor* at, PacketRecord* out) noexcept nogil:
    """An 802.3 frame has its length where others have a type."""
    if at.ethertype > at.wire_len:
        return WIRE_BAD_LINK
    if at.ethertype < 3:                               # too short for 802.2: some odd type, of tests for instance
        return unread(out, LAYER_ETHERTYPE, at.ethertype)
    cursor_clip(at, at.ethertype)
    return NEXT_LLC


cdef int read_tag(Cursor* at, size_t size) noexcept nogil:
    """A tag that ends with the type of what follows."""
    if at.captured < size:
        return WIRE_BAD_LINK
    at.ethertype = be16(at.data + size - 2)
    cursor_skip(at, size)
    return NEXT_ETHERTYPE


cdef int read_outer(Cursor* at, size_t size) noexcept nogil:
    """A tag with a frame of its own behind it: 802.1ah, FabricPath."""
    if at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return NEXT_ETHERNET


cdef int read_metadata(Cursor* at, PacketRecord* out) noexcept nogil:
    """Cisco MetaData with a security group tag: version 1, length 1, option, tag, type."""
    if at.captured < 2:
        return WIRE_BAD_LINK
    if be16(at.data) != 0x0101:
        return unread(out, LAYER_ETHERTYPE, ETHERTYPE_METADATA)
    return read_tag(at, 8)


cdef int read_timestamp(Cursor* at, PacketRecord* out) noexcept nogil:
    """Arista's time stamps: sub-type 1, and a version by whose second byte they have 64 or 48 bits."""
    if at.captured < 4:
        return WIRE_BAD_LINK
    if be16(at.data) != 1 or (at.data[3] != 0x10 and at.data[3] != 0x20):
        return unread(out, LAYER_ETHERTYPE, ETHERTYPE_ARISTA)
    return read_tag(at, 14 if at.data[3] == 0x10 else 12)


cdef int read_macsec(Cursor* at, PacketRecord* out) noexcept nogil:
    """IEEE 802.1AE section 9.3. With integrity alone the frame goes on as it was, and has the ICV as a trailer."""
    cdef uint8_t control, length
    cdef size_t size
    if at.captured < 6:
        return WIRE_BAD_LINK
    control, length = at.data[0], at.data[1] & 0x3F
    if control & 0x8C:                                 # another version, encrypted, or changed
        return unread(out, LAYER_ENCRYPTED, ENCRYPTED_MACSEC)
    size = 14 if control & 0x20 else 6                 # with the channel identifier
    if at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    if length:                                         # of frames below 48 bytes
        if length > at.wire_len:
            return WIRE_BAD_LINK
        cursor_clip(at, length)
    return read_tag(at, 2)


cdef int read_trill(Cursor* at, PacketRecord* out) noexcept nogil:
    """RFC 6325 section 3: six bytes and options, then the frame."""
    cdef size_t size
    if at.captured < 6:
        return WIRE_BAD_LINK
    if at.data[0] >> 6:                                # another version
        return unread(out, LAYER_ETHERTYPE, ETHERTYPE_TRILL)
    size = 6 + <size_t> ((be16(at.data) >> 6) & 0x1F) * 4
    return read_outer(at, size)


cdef int read_nsh(Cursor* at, PacketRecord* out) noexcept nogil:
    """RFC 8300 section 2.2: length in words of four bytes, and a protocol of its own numbering."""
    cdef size_t size
    cdef uint8_t protocol
    if at.captured < 8:
        return WIRE_BAD_LINK
    size = <size_t> (at.data[1] & 0x3F) * 4
    protocol = at.data[3]
    if at.data[0] >> 6 or size < 8 or size > at.wire_len:
        return WIRE_BAD_LINK
    if size > at.captured:
        return WIRE_BAD_LINK
    if protocol == 1 or protocol == 2:
        cursor_skip(at, size)
        return NEXT_IP
    if protocol == 3:
        cursor_skip(at, size)
        return NEXT_ETHERNET
    if protocol == 4:
        cursor_skip(at, size)
        at.ethertype = ETHERTYPE_NSH
        return NEXT_ETHERTYPE
    if protocol == 5:
        cursor_skip(at, size)
        return NEXT_MPLS
    return unread(out, LAYER_ETHERTYPE, ETHERTYPE_NSH)


cdef int read_batman(Cursor* at, PacketRecord* out) noexcept nogil:
    """Unicast frames of batman-adv, compatibility version 15 (linux/batadv_packet.h)."""
    if at.captured < 2:
        return WIRE_BAD_LINK
    if be16(at.data) != 0x400F:
        return unread(out, LAYER_ETHERTYPE, ETHERTYPE_BATMAN)
    return read_outer(at, 10)


cdef int read_pppoe(Cursor* at, PacketRecord* out) noexcept nogil:
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

cdef int read_llc(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint16_t saps
    if at.captured < 3:
        return WIRE_BAD_LINK
    saps = be16(at.data)
    if at.data[2] == UNNUMBERED:
        if saps == (SAP_SNAP << 8 | SAP_SNAP):
            cursor_skip(at, 3)
            return read_snap(at, 2, out)
        if saps == (SAP_IP << 8 | SAP_IP):
            cursor_skip(at, 3)
            return NEXT_IP
        if saps == (SAP_OSI << 8 | SAP_OSI):
            cursor_skip(at, 3)
            return read_nlpid(at, out)
    return unread(out, LAYER_SAP, saps)


cdef int read_snap(Cursor* at, size_t padding, PacketRecord* out) noexcept nogil:
    """RFC 1042: an organisation, and a protocol of its choice; bridged frames have padding before them."""
    cdef uint32_t organisation
    cdef uint16_t protocol
    if at.captured < 5:
        return WIRE_BAD_LINK
    organisation = be32(at.data) >> 8
    protocol = be16(at.data + 3)
    if organisation == OUI_BRIDGED and (protocol == BRIDGED or protocol == BRIDGED_WITH_FCS):
        return read_outer(at, 5 + padding)
    if (organisation != OUI_ETHERTYPE and organisation != OUI_BRIDGE_TUNNEL) or protocol < ETHERTYPE_MIN:
        return unread(out, LAYER_SNAP, <uint64_t> organisation << 16 | protocol)
    cursor_skip(at, 5)
    return next_ethertype(at, protocol, out)


cdef int read_nlpid(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint8_t protocol
    if at.captured < 1:
        return WIRE_BAD_LINK
    protocol = at.data[0]
    cursor_skip(at, 1)
    if protocol == NLPID_IPV4 or protocol == NLPID_IPV6:
        return NEXT_IP
    if protocol == NLPID_SNAP:
        return read_snap(at, 0, out)
    if protocol == NLPID_PPP:
        return NEXT_PPP
    if protocol == NLPID_FRAGMENT:
        return unread(out, LAYER_FRAGMENTS, FRAGMENTS_FRAME_RELAY)
    return unread(out, LAYER_NLPID, protocol)


# --- MPLS -----------------------------------------------------------------------------------------

cdef int read_mpls(Cursor* at, PacketRecord* out) noexcept nogil:
    """One label (RFC 3032), and behind the last what a label does not tell: IP or Ethernet."""
    cdef bint bottom
    if at.captured < 4:
        return WIRE_BAD_LINK
    bottom = at.data[2] & 1
    cursor_skip(at, 4)
    if not bottom:
        return NEXT_MPLS
    if at.captured == 0 or is_ip(at):                  # by the first nibble, RFC 4928 section 3
        return NEXT_IP
    if at.data[0] >> 4 == 0 and is_ethernet(at, 4):    # behind a control word, RFC 4448 section 4.6
        cursor_skip(at, 4)
        return NEXT_ETHERNET
    if is_ethernet(at, 0):
        return NEXT_ETHERNET
    if at.data[0] >> 4 == 4 or at.data[0] >> 4 == 6:   # broken, and IP if anything
        return NEXT_IP
    return unread(out, LAYER_MPLS, at.data[0] >> 4)


cdef bint is_ip(const Cursor* at) noexcept nogil:
    """Does an IP header stand there? A MAC address may begin like one, but its length would not fit."""
    cdef uint8_t version = at.data[0] >> 4
    if version == 4 and at.captured >= 4:
        return at.data[0] & 0x0F >= 5 and be16(at.data + 2) <= at.wire_len
    if version == 6 and at.captured >= 6:
        return at.wire_len >= 40 and be16(at.data + 4) <= at.wire_len - 40
    return version == 4 or version == 6


cdef bint is_ethernet(const Cursor* at, size_t skipped) noexcept nogil:
    """Does an Ethernet frame with something that is read stand there?"""
    cdef const uint8_t* frame = at.data + skipped
    cdef uint16_t ethertype
    if at.captured < skipped + ETHERNET_HEADER + 4:
        return False
    ethertype = be16(frame + 12)
    if ethertype == ETHERTYPE_IPV4:
        return frame[ETHERNET_HEADER] >> 4 == 4
    if ethertype == ETHERTYPE_IPV6:
        return frame[ETHERNET_HEADER] >> 4 == 6
    if ethertype <= MAX_LENGTH:
        return be32(frame + ETHERNET_HEADER) >> 8 == SNAP_HEADER
    return (is_vlan(ethertype) or ethertype == ETHERTYPE_MPLS or ethertype == ETHERTYPE_PPPOE
            or ethertype == ETHERTYPE_I_TAG)
