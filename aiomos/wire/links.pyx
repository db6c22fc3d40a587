"""Link types of the capture formats other than Ethernet and plain IP: all that stands before Ethernet, PPP or IP.

Every reader checks that its header was captured whole, moves the cursor behind it, and tells what follows; `wire` goes
on from there. The layouts are those of https://www.tcpdump.org/linktypes.html unless said otherwise.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.layers cimport (
    ENCRYPTED_WLAN,
    FRAGMENTS_PPP,
    FRAGMENTS_WLAN,
    LAYER_CONTROL,
    LAYER_ENCRYPTED,
    LAYER_FAMILY,
    LAYER_FRAGMENTS,
    LAYER_LINKTYPE,
    LAYER_PPP,
    NEXT_ETHERNET,
    NEXT_IP,
    NEXT_LINK,
    NEXT_LLC,
    NEXT_MPLS,
    NEXT_PPP,
    NO_VLAN,
    WIRE_AGGREGATE,
    WIRE_BAD_LINK,
    WIRE_UNKNOWN_LINK,
    be16,
    be32,
    cursor_clip,
    cursor_skip,
    next_ethertype,
    unread,
)
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_MIN,
    LINKTYPE_ATM_BSD,
    LINKTYPE_ATM_CLIP,
    LINKTYPE_ATM_RFC1483,
    LINKTYPE_AVS,
    LINKTYPE_C_HDLC,
    LINKTYPE_C_HDLC_WITH_DIR,
    LINKTYPE_DSA_TAG_BRCM,
    LINKTYPE_DSA_TAG_BRCM_PREPEND,
    LINKTYPE_DSA_TAG_EDSA,
    LINKTYPE_ENC,
    LINKTYPE_ENC_OPENBSD,
    LINKTYPE_ERF,
    LINKTYPE_ETHERNET,
    LINKTYPE_FDDI,
    LINKTYPE_FIREWIRE,
    LINKTYPE_FRELAY,
    LINKTYPE_FRELAY_WITH_DIR,
    LINKTYPE_IEEE802_11,
    LINKTYPE_IPNET,
    LINKTYPE_IPOIB,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_IP_OVER_FC,
    LINKTYPE_JUNIPER_ATM1,
    LINKTYPE_JUNIPER_ATM2,
    LINKTYPE_JUNIPER_CHDLC,
    LINKTYPE_JUNIPER_ETHER,
    LINKTYPE_JUNIPER_FRELAY,
    LINKTYPE_JUNIPER_GGSN,
    LINKTYPE_JUNIPER_MLFR,
    LINKTYPE_JUNIPER_MLPPP,
    LINKTYPE_JUNIPER_PPP,
    LINKTYPE_JUNIPER_PPPOE,
    LINKTYPE_JUNIPER_SERVICES,
    LINKTYPE_JUNIPER_VP,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_MPLS,
    LINKTYPE_NETLINK,
    LINKTYPE_NFLOG,
    LINKTYPE_NULL,
    LINKTYPE_PFLOG,
    LINKTYPE_PKTAP,
    LINKTYPE_PKTAP_APPLE,
    LINKTYPE_PPI,
    LINKTYPE_PPP,
    LINKTYPE_PPP_ETHER,
    LINKTYPE_PPP_HDLC,
    LINKTYPE_PPP_PPPD,
    LINKTYPE_PPP_WITH_DIR,
    LINKTYPE_PRISM,
    LINKTYPE_RADIOTAP,
    LINKTYPE_RAW,
    LINKTYPE_RAW_BSD,
    LINKTYPE_RAW_OPENBSD,
    LINKTYPE_SUNATM,
    LINKTYPE_TOKEN_RING,
)
from aiomos.wire.tags cimport read_nlpid, read_pppoe

# LINKTYPE_ numbers; 11 to 14 are what some systems call ATM_RFC1483, RAW, ENC and RAW.

cdef enum:
    LLC_UNNUMBERED = 0x03
    SNAP_HEADER = 0xAAAA03
    OSI_HEADER = 0xFEFE03

cdef enum:
    PPP_IPV4 = 0x0021
    PPP_BRIDGED = 0x0031       # RFC 3518
    PPP_MULTILINK = 0x003D     # RFC 1990
    PPP_IPV6 = 0x0057
    PPP_MPLS = 0x0281
    PPP_MPLS_MULTICAST = 0x0283

cdef enum:                     # linux/if_arp.h, linux/if_ether.h: what stands for an EtherType where there is none
    ARPHRD_IEEE80211_PRISM = 802
    ARPHRD_IEEE80211_RADIOTAP = 803
    ARPHRD_NETLINK = 824
    COOKED_ETHERNET = 0x0003
    COOKED_LLC = 0x0004
    COOKED_PPP = 0x0007

cdef enum:                     # linux/netfilter/nfnetlink_log.h
    NFULA_PACKET_HDR = 1
    NFULA_PAYLOAD = 9
    MAX_ATTRIBUTES = 32

cdef enum:
    MAX_PRESENT_WORDS = 16     # of a radiotap header
    MAX_ERF_EXTENSIONS = 8


cdef inline uint16_t le16(const uint8_t* p) noexcept nogil:
    return <uint16_t> (p[1] << 8 | p[0])


cdef inline uint32_t le32(const uint8_t* p) noexcept nogil:
    return <uint32_t> le16(p + 2) << 16 | le16(p)


cdef inline int pass_to(Cursor* at, size_t size, int next) noexcept nogil:
    """Move behind a header of size bytes to what always follows it."""
    if at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return next


# Which reader has a link type. In parts, by whose formats they are.
cdef int read_link(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint16_t linktype = at.ethertype
    if (linktype == LINKTYPE_RAW or linktype == LINKTYPE_RAW_BSD or linktype == LINKTYPE_RAW_OPENBSD
            or linktype == LINKTYPE_IPV4 or linktype == LINKTYPE_IPV6):
        return NEXT_IP
    if linktype == LINKTYPE_LINUX_SLL:
        return read_cooked(at, 16, 2, 14, out)
    if linktype == LINKTYPE_LINUX_SLL2:
        return read_cooked(at, 20, 8, 0, out)
    if linktype == LINKTYPE_NULL or linktype == LINKTYPE_LOOP:
        return read_loopback(at, 4, out)
    if linktype == LINKTYPE_ETHERNET:                  # within PKTAP or PPI
        return NEXT_ETHERNET
    if linktype == LINKTYPE_ENC or linktype == LINKTYPE_ENC_OPENBSD:
        return read_loopback(at, 12, out)
    if linktype == LINKTYPE_PFLOG:
        return read_pflog(at, out)
    if linktype == LINKTYPE_NFLOG:
        return read_nflog(at, out)
    if linktype == LINKTYPE_IPNET:
        return read_ipnet(at, out)
    if linktype == LINKTYPE_PKTAP or (linktype == LINKTYPE_PKTAP_APPLE and is_pktap(at)):
        return read_pktap(at, out)
    if linktype == LINKTYPE_PPI:
        return read_ppi(at, out)
    if linktype == LINKTYPE_ERF:
        return read_erf(at, out)
    if LINKTYPE_DSA_TAG_BRCM <= linktype <= LINKTYPE_DSA_TAG_EDSA:
        return read_switch(at, linktype, out)
    if LINKTYPE_JUNIPER_MLPPP <= linktype <= LINKTYPE_JUNIPER_VP:
        return read_medium(at, linktype, out)
    return read_wan(at, linktype, out)


cdef int unknown_link(uint16_t linktype, PacketRecord* out) noexcept nogil:
    unread(out, LAYER_LINKTYPE, linktype)
    return WIRE_UNKNOWN_LINK


cdef int read_medium(Cursor* at, uint16_t linktype, PacketRecord* out) noexcept nogil:
    """Numbers from 130 to 183: Juniper's, and some others."""
    if linktype == LINKTYPE_AVS:
        return read_avs(at, out)
    if linktype == LINKTYPE_PPP_PPPD:
        return read_ppp_pppd(at)
    if linktype == LINKTYPE_FIREWIRE:                  # IP over IEEE 1394: two addresses of 8 bytes, type
        return read_typed(at, 18, out)
    if (linktype == LINKTYPE_JUNIPER_MLPPP or linktype == LINKTYPE_JUNIPER_MLFR or linktype == LINKTYPE_JUNIPER_GGSN
            or linktype == LINKTYPE_JUNIPER_ATM1 or linktype == LINKTYPE_JUNIPER_ATM2
            or linktype == LINKTYPE_JUNIPER_SERVICES or linktype == LINKTYPE_JUNIPER_PPPOE
            or linktype == LINKTYPE_JUNIPER_ETHER or linktype == LINKTYPE_JUNIPER_PPP
            or linktype == LINKTYPE_JUNIPER_FRELAY or linktype == LINKTYPE_JUNIPER_CHDLC
            or linktype == LINKTYPE_JUNIPER_VP):
        return read_juniper(at, linktype, out)
    return unknown_link(linktype, out)


cdef int read_wan(Cursor* at, uint16_t linktype, PacketRecord* out) noexcept nogil:
    """Lines, rings, cells and air."""
    if linktype == LINKTYPE_PPP or linktype == LINKTYPE_PPP_HDLC:
        return read_hdlc(at, out)
    if linktype == LINKTYPE_PPP_WITH_DIR:
        return WIRE_BAD_LINK if at.captured == 0 else read_ppp_framed(at, 1)
    if linktype == LINKTYPE_PPP_ETHER:
        return read_pppoe(at, out)
    if linktype == LINKTYPE_C_HDLC:
        return read_typed(at, 4, out)
    if linktype == LINKTYPE_C_HDLC_WITH_DIR:
        return read_typed(at, 5, out)
    if linktype == LINKTYPE_FRELAY:
        return read_frame_relay(at, out)
    if linktype == LINKTYPE_FRELAY_WITH_DIR:
        return read_frame_relay(at, out) if pass_to(at, 1, 0) == 0 else WIRE_BAD_LINK
    if linktype == LINKTYPE_MPLS:
        return NEXT_MPLS
    if linktype == LINKTYPE_IEEE802_11:
        return read_wlan(at, False, out)
    if linktype == LINKTYPE_RADIOTAP:
        return read_radiotap(at, out)
    if linktype == LINKTYPE_PRISM:
        return read_prism(at, out)
    if linktype == LINKTYPE_FDDI:
        return read_fddi(at, out)
    if linktype == LINKTYPE_TOKEN_RING:
        return read_token_ring(at, out)
    if linktype == LINKTYPE_ATM_RFC1483 or linktype == LINKTYPE_ATM_BSD:
        return NEXT_LLC
    if linktype == LINKTYPE_ATM_CLIP:
        return NEXT_LLC if at.captured >= 3 and be16(at.data) == SNAP_HEADER >> 8 else NEXT_IP
    if linktype == LINKTYPE_SUNATM:
        return read_sunatm(at, out)
    if linktype == LINKTYPE_IP_OVER_FC:                # two addresses of 8 bytes (RFC 4338 section 4)
        return pass_to(at, 16, NEXT_LLC)
    if linktype == LINKTYPE_IPOIB:                     # the other end's identifiers, type and two bytes (RFC 4391)
        return read_ipoib(at, out)
    return unknown_link(linktype, out)


# --- captures of a host -----------------------------------------------------------------------------

cdef int read_typed(Cursor* at, size_t size, PacketRecord* out) noexcept nogil:
    """A header that ends with an EtherType."""
    if at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return next_ethertype(at, be16(at.data - 2), out)


cdef int read_cooked(Cursor* at, size_t size, size_t hardware_at, size_t type_at, PacketRecord* out) noexcept nogil:
    """Linux cooked capture: a header of size bytes with the ARPHRD_ number and the EtherType somewhere in it."""
    cdef uint16_t hardware, protocol
    if at.captured < size:
        return WIRE_BAD_LINK
    hardware, protocol = be16(at.data + hardware_at), be16(at.data + type_at)
    cursor_skip(at, size)
    if hardware == ARPHRD_NETLINK:
        return unread(out, LAYER_LINKTYPE, LINKTYPE_NETLINK)
    if hardware == ARPHRD_IEEE80211_RADIOTAP:
        return read_radiotap(at, out)
    if hardware == ARPHRD_IEEE80211_PRISM:
        return read_prism(at, out)
    if protocol == COOKED_LLC:
        return NEXT_LLC
    if protocol == COOKED_ETHERNET:
        return NEXT_ETHERNET
    if protocol == COOKED_PPP:
        return read_hdlc(at, out)
    return next_ethertype(at, protocol, out)


cdef int read_loopback(Cursor* at, size_t size, PacketRecord* out) noexcept nogil:
    """BSD loopback: an address family first, in the byte order of the capturing host, or the network's."""
    cdef uint32_t family
    if at.captured < size:
        return WIRE_BAD_LINK
    family = be32(at.data)
    if family > 0xFFFF:
        family = <uint32_t> at.data[1] << 8 | at.data[0]
    cursor_skip(at, size)
    return read_family(family, out)


cdef int read_family(uint32_t family, PacketRecord* out) noexcept nogil:
    # AF_INET; AF_INET6 of Linux, NetBSD and OpenBSD, Solaris, FreeBSD, macOS.
    if family == 2 or family == 10 or family == 24 or family == 26 or family == 28 or family == 30:
        return NEXT_IP
    return unread(out, LAYER_FAMILY, family)


cdef int read_pflog(Cursor* at, PacketRecord* out) noexcept nogil:
    """OpenBSD's pf: its length without the padding to words, an address family."""
    cdef size_t size
    cdef uint8_t family
    if at.captured < 2:
        return WIRE_BAD_LINK
    size = (<size_t> at.data[0] + 3) & ~<size_t> 3
    family = at.data[1]
    if size < 4 or at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return read_family(family, out)


cdef int read_ipnet(Cursor* at, PacketRecord* out) noexcept nogil:
    """Solaris: version, family, hook, length of the packet, interfaces and zones."""
    cdef uint32_t length
    cdef uint8_t family
    if at.captured < 24:
        return WIRE_BAD_LINK
    family, length = at.data[1], be32(at.data + 4)
    cursor_skip(at, 24)
    if length > at.wire_len:
        return WIRE_BAD_LINK
    cursor_clip(at, length)
    return read_family(family, out)


cdef int read_nflog(Cursor* at, PacketRecord* out) noexcept nogil:
    """Linux netfilter: family, version, resource, then attributes in the byte order of the host; one is the packet."""
    cdef uint8_t family
    cdef uint16_t ethertype = 0
    cdef uint16_t kind
    cdef size_t length
    cdef bint little
    cdef int _
    if at.captured < 8:
        return WIRE_BAD_LINK
    family = at.data[0]
    cursor_skip(at, 4)
    little = at.data[3] == 0                           # no attribute has a number above 255
    for _ in range(MAX_ATTRIBUTES):
        if at.captured < 4:
            return WIRE_BAD_LINK
        length = le16(at.data) if little else be16(at.data)
        kind = le16(at.data + 2) if little else be16(at.data + 2)
        if length < 4 or length > at.wire_len:
            return WIRE_BAD_LINK
        if kind == NFULA_PAYLOAD:
            cursor_clip(at, length)
            cursor_skip(at, 4)
            # What is logged at a bridge or by ingress rules says itself what it is.
            return NEXT_IP if family == 2 or family == 10 or ethertype == 0 else next_ethertype(at, ethertype, out)
        if kind == NFULA_PACKET_HDR and length >= 6 and at.captured >= 6:
            ethertype = be16(at.data + 4)
        length = (length + 3) & ~<size_t> 3
        if length > at.captured:
            return WIRE_BAD_LINK
        cursor_skip(at, length)
    return WIRE_BAD_LINK


cdef bint is_pktap(const Cursor* at) noexcept nogil:
    """Whether a frame of a number for private use is one of PKTAP: its fixed fields, and a name."""
    cdef int i
    if at.captured < 52 or le32(at.data + 4) != 1 or not 52 <= le32(at.data) <= 512:
        return False
    for i in range(12, 36):
        if at.data[i] == 0:
            return i > 12
        if not 0x20 < at.data[i] < 0x7F:
            return False
    return False


cdef int read_pktap(Cursor* at, PacketRecord* out) noexcept nogil:
    """macOS, little-endian: length, record type, link type of the frame, name, ..., length of its trailer."""
    cdef uint32_t size, linktype, trailer
    if at.captured < 52:
        return WIRE_BAD_LINK
    size, linktype, trailer = le32(at.data), le32(at.data + 8), le32(at.data + 48)
    if size < 52 or size > at.captured:
        return WIRE_BAD_LINK
    if le32(at.data + 4) != 1:                         # not a packet
        return unread(out, LAYER_CONTROL, LINKTYPE_PKTAP)
    cursor_skip(at, size)
    if trailer > at.wire_len:
        return WIRE_BAD_LINK
    cursor_clip(at, at.wire_len - trailer)
    return next_link(at, linktype, out)


cdef int read_ppi(Cursor* at, PacketRecord* out) noexcept nogil:
    """Per-packet information, little-endian: version and flags, length, link type of the frame, fields."""
    cdef uint16_t size
    cdef uint32_t linktype
    if at.captured < 8:
        return WIRE_BAD_LINK
    size, linktype = le16(at.data + 2), le32(at.data + 4)
    if size < 8 or size > at.captured:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return next_link(at, linktype, out)


cdef int next_link(Cursor* at, uint32_t linktype, PacketRecord* out) noexcept nogil:
    if linktype > 0xFFFF:
        unread(out, LAYER_LINKTYPE, linktype)
        return WIRE_UNKNOWN_LINK
    at.ethertype = <uint16_t> linktype
    return NEXT_LINK


cdef int read_erf(Cursor* at, PacketRecord* out) noexcept nogil:
    """Endace: time, type, flags, length of the record and of the frame; extension headers of 8 bytes."""
    cdef uint8_t kind, more
    cdef uint16_t length
    cdef int _
    if at.captured < 16:
        return WIRE_BAD_LINK
    kind, length = at.data[8] & 0x7F, be16(at.data + 14)
    more = at.data[8]
    cursor_skip(at, 16)
    for _ in range(MAX_ERF_EXTENSIONS):
        if not more & 0x80:
            break
        if at.captured < 8:
            return WIRE_BAD_LINK
        more = at.data[0]
        cursor_skip(at, 8)
    if more & 0x80:
        return WIRE_BAD_LINK
    if kind == 2 or kind == 11 or kind == 16 or kind == 20:        # Ethernet, coloured in several ways
        if at.captured < 2:
            return WIRE_BAD_LINK
        cursor_skip(at, 2)
        trust_length(at, length)
        return NEXT_ETHERNET
    trust_length(at, length)
    if kind == 22 or kind == 23:
        return NEXT_IP
    if kind == 1 or kind == 10 or kind == 15 or kind == 19:        # packet over SONET, likewise
        return read_hdlc(at, out)
    return unread(out, LAYER_CONTROL, LINKTYPE_ERF)


cdef inline void trust_length(Cursor* at, size_t length) noexcept nogil:
    """Take the length on the wire from a header that the capture wrote, not a sender; the record may be padded."""
    cursor_clip(at, length)
    if length > at.wire_len:
        at.wire_len = length


cdef int read_switch(Cursor* at, uint16_t linktype, PacketRecord* out) noexcept nogil:
    """Ethernet on the way to a switch chip, with the chip's tag (Linux net/dsa)."""
    cdef size_t size = ETHERNET_HEADER + (8 if linktype == LINKTYPE_DSA_TAG_EDSA else 4)
    cdef uint16_t vid
    if linktype == LINKTYPE_DSA_TAG_BRCM_PREPEND:
        return pass_to(at, 4, NEXT_ETHERNET)
    if linktype == LINKTYPE_DSA_TAG_EDSA - 2:          # 283 is another's
        return unknown_link(linktype, out)
    if at.captured < size:
        return WIRE_BAD_LINK
    if linktype != LINKTYPE_DSA_TAG_BRCM and at.data[size - 6] & 0x20:     # of a tagged frame
        vid = be16(at.data + size - 4) & 0x0FFF
        if vid and out.vlan == NO_VLAN:
            out.vlan = vid
    return read_typed(at, size, out)


# --- PPP and other lines ------------------------------------------------------------------------------

cdef int read_ppp_framed(Cursor* at, size_t before) noexcept nogil:
    """PPP with or without HDLC's address and control bytes (RFC 1662 section 3.1), after some of the capture."""
    cursor_skip(at, before)
    if at.captured >= 2 and be16(at.data) == 0xFF03:
        cursor_skip(at, 2)
    return NEXT_PPP


cdef int read_hdlc(Cursor* at, PacketRecord* out) noexcept nogil:
    """PPP, or Cisco's HDLC by its address (unicast, broadcast) and control."""
    if at.captured >= 2 and (be16(at.data) == 0x0F00 or be16(at.data) == 0x8F00):
        return read_typed(at, 4, out)
    return read_ppp_framed(at, 0)


cdef int read_ppp_pppd(Cursor* at) noexcept nogil:
    """pppd has the direction, 0 or 1, where the address is, or before it."""
    if at.captured < 2:
        return WIRE_BAD_LINK
    if at.data[0] > 1:
        return read_ppp_framed(at, 0)
    return read_ppp_framed(at, 2 if at.data[1] == 0x03 else 1)


cdef int read_ppp(Cursor* at, PacketRecord* out) noexcept nogil:
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
    if protocol == PPP_MPLS or protocol == PPP_MPLS_MULTICAST:
        return NEXT_MPLS
    if protocol == PPP_BRIDGED:
        return read_bridged(at, out)
    if protocol == PPP_MULTILINK:
        return read_multilink(at, out)
    return unread(out, LAYER_PPP, protocol)


cdef int read_bridged(Cursor* at, PacketRecord* out) noexcept nogil:
    """RFC 3518 section 4.1: flags and the count of padding, kind of frame."""
    if at.captured < 2:
        return WIRE_BAD_LINK
    if at.data[1] != 1:                                # not Ethernet
        return unread(out, LAYER_PPP, PPP_BRIDGED)
    return pass_to(at, 2, NEXT_ETHERNET)


cdef int read_multilink(Cursor* at, PacketRecord* out) noexcept nogil:
    """RFC 1990 section 3, with the long sequence number: what is in one piece is read."""
    if at.captured < 4:
        return WIRE_BAD_LINK
    if at.data[0] & 0xC0 != 0xC0:
        return unread(out, LAYER_FRAGMENTS, FRAGMENTS_PPP)
    cursor_skip(at, 4)
    return NEXT_PPP


cdef int read_frame_relay(Cursor* at, PacketRecord* out) noexcept nogil:
    """Q.922: an address of two to four bytes, then as RFC 2427 has it, or an EtherType as Cisco does."""
    cdef size_t size = 2
    cdef uint16_t protocol
    while size < 5:
        if at.captured < size:
            return WIRE_BAD_LINK
        if at.data[size - 1] & 1:                      # the address ends
            break
        size += 1
    else:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    if at.captured < 2:
        return WIRE_BAD_LINK
    protocol = be16(at.data)
    if protocol >> 8 == LLC_UNNUMBERED:
        cursor_skip(at, 2 if protocol & 0xFF == 0 else 1)          # padding
        return read_nlpid(at, out)
    if protocol < ETHERTYPE_MIN:
        return unread(out, LAYER_CONTROL, LINKTYPE_FRELAY)
    return read_typed(at, 2, out)


# --- rings, cells, fabrics ------------------------------------------------------------------------------

cdef int read_fddi(Cursor* at, PacketRecord* out) noexcept nogil:
    """Frame control and two addresses; asynchronous 802.2 frames have 0101 first."""
    if at.captured < 13:
        return WIRE_BAD_LINK
    if at.data[0] >> 4 != 5:
        return unread(out, LAYER_CONTROL, LINKTYPE_FDDI)
    return pass_to(at, 13, NEXT_LLC)


cdef int read_token_ring(Cursor* at, PacketRecord* out) noexcept nogil:
    """Access and frame control, two addresses; where the source's first bit is set, a route with its length."""
    cdef size_t route = 0
    if at.captured < 14:
        return WIRE_BAD_LINK
    if at.data[1] >> 6 != 1:
        return unread(out, LAYER_CONTROL, LINKTYPE_TOKEN_RING)
    if at.data[8] & 0x80:
        if at.captured < 15:
            return WIRE_BAD_LINK
        route = at.data[14] & 0x1F
        if route < 2 or route & 1:
            return WIRE_BAD_LINK
    return pass_to(at, 14 + route, NEXT_LLC)


cdef int read_sunatm(Cursor* at, PacketRecord* out) noexcept nogil:
    """What the cells carry, virtual path and channel."""
    if at.captured < 4:
        return WIRE_BAD_LINK
    if at.data[0] & 0x0F != 2:                         # LAN emulation, signalling, ...
        return unread(out, LAYER_CONTROL, LINKTYPE_SUNATM)
    return pass_to(at, 4, NEXT_LLC)


cdef int read_ipoib(Cursor* at, PacketRecord* out) noexcept nogil:
    if at.captured < 44:
        return WIRE_BAD_LINK
    cursor_skip(at, 44)
    return next_ethertype(at, be16(at.data - 4), out)


# --- 802.11 ----------------------------------------------------------------------------------------------

cdef int read_radiotap(Cursor* at, PacketRecord* out) noexcept nogil:
    """Version 0, length, words of which fields are there; one of these says that data is aligned behind a header."""
    cdef size_t size, flags_at
    cdef uint32_t present
    cdef uint8_t flags = 0
    cdef int _
    if at.captured < 8:
        return WIRE_BAD_LINK
    size, present = le16(at.data + 2), le32(at.data + 4)
    if at.data[0] or size < 8 or size > at.captured:
        return WIRE_BAD_LINK
    flags_at = 8
    if present & 2:                                    # flags; before them, if anything, the time
        for _ in range(MAX_PRESENT_WORDS):
            if size < flags_at:
                return WIRE_BAD_LINK
            if not le32(at.data + flags_at - 4) & 0x80000000U:     # another word
                break
            flags_at += 4
        else:
            return WIRE_BAD_LINK
        if present & 1:
            flags_at = ((flags_at + 7) & ~<size_t> 7) + 8
        if size <= flags_at:
            return WIRE_BAD_LINK
        flags = at.data[flags_at]
    cursor_skip(at, size)
    return read_wlan(at, flags & 0x20 != 0, out)


cdef int read_prism(Cursor* at, PacketRecord* out) noexcept nogil:
    """144 bytes; or, with the same number, AVS's header, which has a magic number."""
    if at.captured >= 4 and be32(at.data) >> 12 == 0x80211:
        return read_avs(at, out)
    if at.captured < 144:
        return WIRE_BAD_LINK
    cursor_skip(at, 144)
    return read_wlan(at, False, out)


cdef int read_avs(Cursor* at, PacketRecord* out) noexcept nogil:
    cdef uint32_t size
    if at.captured < 8:
        return WIRE_BAD_LINK
    size = be32(at.data + 4)
    if be32(at.data) >> 12 != 0x80211 or size < 8 or size > at.captured:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    return read_wlan(at, False, out)


cdef int read_wlan(Cursor* at, bint aligned, PacketRecord* out) noexcept nogil:
    """IEEE 802.11 section 9.3.2: frame control, duration, three addresses, sequence control; data have more."""
    cdef size_t size = 24
    cdef uint8_t kind, flags
    cdef uint16_t qos = 0
    if at.captured < 2:
        return WIRE_BAD_LINK
    kind, flags = at.data[0], at.data[1]
    if kind & 0x4F != 0x08:                            # version 0, type 2, and a subtype with a body
        return unread(out, LAYER_CONTROL, LINKTYPE_IEEE802_11)
    if flags & 0x03 == 0x03:                           # from one distribution system to another: a fourth address
        size += 6
    if kind & 0x80:
        if at.captured < size + 2:
            return WIRE_BAD_LINK
        qos = le16(at.data + size)
        size += 6 if flags & 0x80 else 2               # high throughput control
    if at.captured < size:
        return WIRE_BAD_LINK
    if flags & 0x40:
        return unread(out, LAYER_ENCRYPTED, ENCRYPTED_WLAN)
    if flags & 0x04 or at.data[22] & 0x0F:             # more fragments, or not the first
        return unread(out, LAYER_FRAGMENTS, FRAGMENTS_WLAN)
    if aligned:
        size = (size + 3) & ~<size_t> 3
        if at.captured < size:
            return WIRE_BAD_LINK
    cursor_skip(at, size)
    if flags & 0x03 == 0x03 and qos & 0x0100:
        skip_mesh_control(at)
    if qos & 0x80:                                     # several frames, each with a header of its own
        out.payload = at.data
        out.payload_cap = <uint32_t> at.captured
        out.payload_len = <uint32_t> at.wire_len
        return WIRE_AGGREGATE
    return NEXT_LLC


cdef void skip_mesh_control(Cursor* at) noexcept nogil:
    """Flags, time to live, sequence number, up to two addresses; outside a mesh the bit means something else."""
    cdef size_t size
    if at.captured < 3 or be24(at.data) == SNAP_HEADER:
        return
    size = 6 + <size_t> (at.data[0] & 0x03) * 6
    if at.captured >= size + 3 and be24(at.data + size) == SNAP_HEADER:
        cursor_skip(at, size)


cdef inline uint32_t be24(const uint8_t* p) noexcept nogil:
    return <uint32_t> be16(p) << 8 | p[2]


# --- Juniper ---------------------------------------------------------------------------------------------

cdef int read_juniper(Cursor* at, uint16_t linktype, PacketRecord* out) noexcept nogil:
    """JunOS: "MGC", flags, with one of them extensions with their length; then the interface's own, or a protocol."""
    cdef uint8_t flags
    cdef size_t size = 4
    cdef uint32_t protocol
    if at.captured < 4 or be24(at.data) != 0x4D4743:
        return WIRE_BAD_LINK
    flags = at.data[3]
    if flags & 0x80:
        if at.captured < 6:
            return WIRE_BAD_LINK
        size = 6 + <size_t> be16(at.data + 4)
    if at.captured < size:
        return WIRE_BAD_LINK
    cursor_skip(at, size)
    if flags & 0x02:                                   # no link header
        if at.captured < 4:
            return WIRE_BAD_LINK
        protocol = le32(at.data)
        cursor_skip(at, 4)
        if protocol == 2 or protocol == 6:
            return NEXT_IP
        if 3 <= protocol <= 8:                         # MPLS, alone and with IP
            return NEXT_MPLS
        return unread(out, LAYER_CONTROL, linktype)
    if linktype == LINKTYPE_JUNIPER_ETHER or linktype == LINKTYPE_JUNIPER_PPPOE:
        return NEXT_ETHERNET
    if linktype == LINKTYPE_JUNIPER_PPP:
        return pass_to(at, 2, NEXT_PPP)
    if linktype == LINKTYPE_JUNIPER_FRELAY:
        return read_frame_relay(at, out)
    if linktype == LINKTYPE_JUNIPER_CHDLC:
        return read_typed(at, 4, out)
    if linktype == LINKTYPE_JUNIPER_VP:
        return pass_to(at, 18, NEXT_IP)
    if linktype == LINKTYPE_JUNIPER_ATM1:
        return read_juniper_cells(at, 4, linktype, out)
    if linktype == LINKTYPE_JUNIPER_ATM2:
        return read_juniper_cells(at, 8, linktype, out)
    if linktype == LINKTYPE_JUNIPER_MLPPP:
        return pass_to(at, bundle_cookie(at), NEXT_PPP)
    if linktype == LINKTYPE_JUNIPER_MLFR:
        return read_juniper_frame_relay(at, bundle_cookie(at), out)
    return unread(out, LAYER_CONTROL, linktype)


cdef inline size_t bundle_cookie(const Cursor* at) noexcept nogil:
    """Size of what the line card puts before a frame of a bundle."""
    return 4 if at.captured and at.data[0] == 0x54 else 2


cdef int read_juniper_frame_relay(Cursor* at, size_t cookie, PacketRecord* out) noexcept nogil:
    if at.captured < cookie + 1:
        return WIRE_BAD_LINK
    cursor_skip(at, cookie)
    if at.data[0] != LLC_UNNUMBERED:
        return unread(out, LAYER_CONTROL, LINKTYPE_JUNIPER_MLFR)
    cursor_skip(at, 1)
    return read_nlpid(at, out)


cdef int read_juniper_cells(Cursor* at, size_t cookie, uint16_t linktype, PacketRecord* out) noexcept nogil:
    """AAL 5: behind the cookie there is nothing that says which of these it is."""
    cdef uint32_t first
    if at.captured < cookie + 3:
        return WIRE_BAD_LINK
    if at.data[0] & 0x80:                              # a cell of operations
        return unread(out, LAYER_CONTROL, linktype)
    cursor_skip(at, cookie)
    first = be24(at.data)
    if first == SNAP_HEADER or first == OSI_HEADER:
        return NEXT_LLC
    if first >> 20 == 4 or first >> 20 == 6:
        return NEXT_IP
    if first >> 16 == LLC_UNNUMBERED:
        cursor_skip(at, 1)
        return read_nlpid(at, out)
    return NEXT_PPP
