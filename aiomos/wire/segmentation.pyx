"""What a network card does for a frame that has an Offload: cut super-segments into segments, and take sums."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from aiomos.wire.checksums cimport put16, put32
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_PROVIDER_VLAN,
    ETHERTYPE_VLAN,
    LINKTYPE_ETHERNET,
    PROTO_TCP,
    PROTO_UDP,
)
from aiomos.wire.wire cimport be16, be32, checksum_add, checksum_fold

cdef enum:
    VLANS = 4                  # tags looked behind
    FIN_PSH = 0x09
    CWR = 0x80


cdef bint find_network(Segmentation* whole, uint16_t linktype) noexcept nogil:
    """Pass the Ethernet header and VLAN tags; False when no whole IP header follows."""
    cdef uint16_t ethertype
    cdef size_t at = 0
    if linktype == LINKTYPE_ETHERNET:
        at = ETHERNET_HEADER
        for _ in range(VLANS):
            if at > whole.end:
                return False
            ethertype = be16(whole.frame + at - 2)
            if ethertype != ETHERTYPE_VLAN and ethertype != ETHERTYPE_PROVIDER_VLAN:
                break
            at += 4
    if at > whole.end or whole.end - at < 20:
        return False
    whole.network = at
    whole.ipv4 = whole.frame[at] >> 4 == 4
    return whole.ipv4 or whole.frame[at] >> 4 == 6


cdef bint begin_segments(Segmentation* whole, const Frame* frame) noexcept nogil:
    cdef const Offload* offload = frame.offload
    cdef uint8_t kind
    whole.frame = frame.data
    whole.end = frame.caplen
    if offload == NULL or not find_network(whole, frame.linktype):
        return False
    kind = offload.gso_type & ~GSO_ECN
    whole.tcp = kind == GSO_TCPV4 or kind == GSO_TCPV6
    if not whole.tcp and kind != GSO_UDP_L4:
        return False
    # The sum begins where the transport's header does: behind extension headers, too.
    whole.transport = offload.csum_start
    if not offload.flags & OFFLOAD_NEEDS_CSUM or whole.transport < whole.network + (20 if whole.ipv4 else 40):
        return False
    if whole.transport > whole.end or whole.end - whole.transport < <size_t> (20 if whole.tcp else 8):
        return False
    whole.header = whole.transport + ((whole.frame[whole.transport + 12] >> 4) * 4 if whole.tcp else 8)
    if whole.header < whole.transport + 8 or whole.header >= whole.end or offload.gso_size == 0:
        return False
    if whole.tcp and whole.header < whole.transport + 20:
        return False
    whole.next = whole.header
    whole.mss = offload.gso_size
    whole.seq = be32(whole.frame + whole.transport + 4)
    whole.id = be16(whole.frame + whole.network + 4)
    return True


cdef size_t longest_segment(const Segmentation* whole) noexcept nogil:
    return whole.header + min(whole.mss, whole.end - whole.header)


cdef size_t next_segment(Segmentation* whole, uint8_t* out) noexcept nogil:
    cdef size_t payload = min(whole.mss, whole.end - whole.next)
    cdef size_t size = whole.header + payload
    if payload == 0:
        return 0
    memcpy(out, whole.frame, whole.header)
    memcpy(out + whole.header, whole.frame + whole.next, payload)
    put_network(whole, out + whole.network, <uint16_t> (size - whole.network))
    if whole.tcp:
        put_tcp(whole, out + whole.transport, whole.next + payload == whole.end)
    else:
        put16(out + whole.transport + 4, <uint16_t> (size - whole.transport))
    put_checksum(whole, out, size)
    whole.next += payload
    whole.seq += <uint32_t> payload
    whole.id += 1
    return size


cdef void put_network(const Segmentation* whole, uint8_t* ip, uint16_t size) noexcept nogil:
    """Put the length of a segment's IP packet in place; of IPv4 an identification of its own and the sum, too."""
    if not whole.ipv4:
        put16(ip + 4, size - 40)
        return
    put16(ip + 2, size)
    put16(ip + 4, whole.id)
    put16(ip + 10, 0)
    put16(ip + 10, ~checksum_fold(checksum_add(0, ip, whole.transport - whole.network)))


cdef void put_tcp(const Segmentation* whole, uint8_t* tcp, bint last) noexcept nogil:
    put32(tcp + 4, whole.seq)
    if not last:
        tcp[13] &= ~<uint8_t> FIN_PSH
    if whole.next > whole.header:
        tcp[13] &= ~<uint8_t> CWR  # RFC 3168 section 6.1.2: in the first segment only


cdef void put_checksum(const Segmentation* whole, uint8_t* out, size_t size) noexcept nogil:
    """Take the sum over pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1), header and payload."""
    cdef const uint8_t* ip = out + whole.network
    cdef uint8_t* field = out + whole.transport + (16 if whole.tcp else 6)
    cdef uint32_t total = <uint32_t> (size - whole.transport) + (PROTO_TCP if whole.tcp else PROTO_UDP)
    cdef uint16_t checksum
    put16(field, 0)
    total = checksum_add(total, ip + 12 if whole.ipv4 else ip + 8, 8 if whole.ipv4 else 32)
    checksum = ~checksum_fold(checksum_add(total, out + whole.transport, size - whole.transport))
    # RFC 768: zero says that there is no sum.
    put16(field, 0xFFFF if checksum == 0 and not whole.tcp else checksum)


cdef bint complete_checksum(uint8_t* frame, size_t size, const Offload* offload) noexcept nogil:
    cdef size_t start = offload.csum_start
    cdef uint16_t checksum
    if start > size or offload.csum_offset > size - start or size - start - offload.csum_offset < 2:
        return False
    # The field holds the sum of the pseudo-header, so it is part of what is summed.
    checksum = ~checksum_fold(checksum_add(0, frame + start, size - start))
    # Minus zero where UDP would take zero for no sum; to all others it is the same.
    put16(frame + start + offload.csum_offset, 0xFFFF if checksum == 0 else checksum)
    return True


# --- for tests ---------------------------------------------------------------------------------------------
def segments(const uint8_t[::1] frame not None, gso_type, gso_size, csum_start, linktype=1):
    """Cut a super-segment; return its segments, or None when it is not one that can be cut.

    Args:
        frame: Its bytes, from the link layer on.
        gso_type: Kind, as in struct virtio_net_hdr.
        gso_size: Payload bytes of a segment.
        csum_start: Where the header of TCP or UDP begins.
        linktype: LINKTYPE_ number of the link layer.
    """
    cdef Frame whole
    cdef Offload offload
    cdef Segmentation cutting
    cdef size_t size
    offload.flags, offload.gso_type, offload.gso_size = OFFLOAD_NEEDS_CSUM, gso_type, gso_size
    offload.csum_start = csum_start
    whole.data, whole.caplen, whole.linktype = (&frame[0] if len(frame) else NULL), <uint32_t> len(frame), linktype
    whole.offload = &offload
    if not begin_segments(&cutting, &whole):
        return None
    room = bytearray(longest_segment(&cutting))
    found = []
    while True:
        size = next_segment(&cutting, <uint8_t*> <char*> room)
        if size == 0:
            return found
        found.append(bytes(room[:size]))


def with_checksum(const uint8_t[::1] frame not None, csum_start, csum_offset):
    """Take the sum that was left to do; return the frame with it, or None when the field lies outside.

    Args:
        frame: Its bytes; the field holds the sum of the pseudo-header.
        csum_start: Where the sum is to begin.
        csum_offset: Where it is to be put, from there.
    """
    cdef Offload offload
    whole = bytearray(frame)
    offload.flags, offload.csum_start, offload.csum_offset = OFFLOAD_NEEDS_CSUM, csum_start, csum_offset
    return bytes(whole) if complete_checksum(<uint8_t*> <char*> whole, len(whole), &offload) else None
