"""Segments of a connection of ours, with what differs from one to the next written over a template.

Options come in the order, and with the padding, that Linux gives them (net/ipv4/tcp_output.c, tcp_options_write()):
firewalls and fingerprints expect it.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from aiomos.wire.building cimport envelope_write, ip_header_len
from aiomos.wire.checksums cimport change16, checksum_apply, checksum_of_segment, put16, put32
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM
from aiomos.wire.layers cimport (
    CWR,
    MAX_SACK_BLOCKS,
    OPT_FASTOPEN,
    OPT_MSS,
    OPT_SACK,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    be16,
)
from aiomos.wire.numbers cimport PROTO_TCP, TCP_HEADER
from aiomos.wire.segmentation cimport GSO_ECN, GSO_TCPV4, GSO_TCPV6
from aiomos.wire.wire cimport checksum_add, checksum_fold

cdef enum:
    MOST_IP = 0xFFFF               # what the length field of IP states: IPv4's whole packet, what follows IPv6's header
    PORTS = 4
    FEWEST_COOKIE = 4
    MOST_COOKIE = 16
    FASTOPEN_MAGIC = 0xF989        # RFC 7413 appendix

cdef enum:                         # kinds, lengths and padding, four bytes at a time
    NOP = 1
    TCP_MSS = 0x02040000
    NOP_NOP_SACK_OK = 0x01010402
    NOP_NOP_TIMESTAMP = 0x0101080A
    SACK_OK_TIMESTAMP = 0x0402080A
    NOP_WSCALE = 0x01030300
    NOP_NOP_SACK = 0x01010500
    KIND_FASTOPEN = 34
    KIND_EXPERIMENT = 254


# --- template -------------------------------------------------------------------------------------------

cdef bint template_open(Template* template, const Envelope* envelope, uint32_t flow_label,
                        bint dont_fragment) noexcept nogil:
    cdef Envelope bare = envelope[0]
    cdef uint8_t* ip = template.headers + TEMPLATE_LINK
    cdef size_t ip_len = ip_header_len(envelope)
    memset(template, 0, sizeof(Template))
    if envelope.link.length_at or not template_link(template, envelope.link.bytes, envelope.link.length):
        return False
    bare.link.length = 0
    bare.tos &= 0xFC               # ECN is each segment's own
    envelope_write(&bare, PROTO_TCP, 0, ip, sizeof(template.headers) - TEMPLATE_LINK)
    if envelope.ip_version == 4:
        if not dont_fragment:
            checksum_apply(ip + 10, change16(be16(ip + 6), 0))
            put16(ip + 6, 0)
    else:
        ip[1] |= <uint8_t> (flow_label >> 16 & 0x0F)
        put16(ip + 2, <uint16_t> flow_label)
    put16(ip + ip_len, envelope.sport)
    put16(ip + ip_len + 2, envelope.dport)
    template.ip_version = envelope.ip_version
    template.ip_len = <uint8_t> ip_len
    template.pseudo_sum = 0xFFFF ^ checksum_of_segment(&envelope.src, &envelope.dst, envelope.ip_version, PROTO_TCP,
                                                       ip, 0)
    return True


cdef bint template_link(Template* template, const uint8_t* link, size_t n) noexcept nogil:
    if n > TEMPLATE_LINK:
        return False
    memcpy(template.headers + TEMPLATE_LINK - n, link, n)
    template.link_len = <uint8_t> n
    return True


# --- options --------------------------------------------------------------------------------------------

cdef inline size_t fastopen_len(const SegmentFields* fields) noexcept nogil:
    """Bytes of the option, and NOPs up to a multiple of 4."""
    if not fields.options & OPT_FASTOPEN:
        return 0
    return (<size_t> (4 if fields.cookie_experimental else 2) + fields.cookie_len + 3) & ~<size_t> 3


cdef inline size_t handshake_len(const SegmentFields* fields) noexcept nogil:
    """Bytes of all options but SACK blocks."""
    cdef size_t n = fastopen_len(fields)
    if fields.options & OPT_MSS:
        n += 4
    if fields.options & OPT_TIMESTAMP:
        n += 12
    elif fields.options & OPT_SACK_OK:
        n += 4
    if fields.options & OPT_WSCALE:
        n += 4
    return n


cdef inline size_t blocks_that_fit(const SegmentFields* fields, size_t before) noexcept nogil:
    """How many blocks are told: four fit behind nothing, three behind timestamps (RFC 2018 section 3)."""
    if not fields.options & OPT_SACK or before + 4 > MOST_SEGMENT_OPTIONS:
        return 0
    return min(min(<size_t> fields.block_count, <size_t> MAX_SACK_BLOCKS), (MOST_SEGMENT_OPTIONS - before - 4) // 8)


cdef size_t segment_options_len(const SegmentFields* fields) noexcept nogil:
    cdef size_t n = handshake_len(fields)
    cdef size_t blocks = blocks_that_fit(fields, n)
    return n + (4 + 8 * blocks if blocks else 0)


cdef uint8_t* write_fastopen(const SegmentFields* fields, uint8_t* p) noexcept nogil:
    cdef size_t head = 4 if fields.cookie_experimental else 2
    cdef size_t n = head + fields.cookie_len
    p[0] = KIND_EXPERIMENT if fields.cookie_experimental else KIND_FASTOPEN
    p[1] = <uint8_t> n
    if fields.cookie_experimental:
        put16(p + 2, FASTOPEN_MAGIC)
    if fields.cookie_len:
        memcpy(p + head, fields.cookie, fields.cookie_len)
    p += n
    while n & 3:
        p[0] = NOP
        p += 1
        n += 1
    return p


cdef void write_options(const SegmentFields* fields, uint8_t* p) noexcept nogil:
    """Write the options; *p* has room for segment_options_len()."""
    cdef size_t blocks = blocks_that_fit(fields, handshake_len(fields)), i
    if fields.options & OPT_MSS:
        put32(p, TCP_MSS | fields.mss)
        p += 4
    if fields.options & OPT_TIMESTAMP:
        put32(p, SACK_OK_TIMESTAMP if fields.options & OPT_SACK_OK else NOP_NOP_TIMESTAMP)
        put32(p + 4, fields.tsval)
        put32(p + 8, fields.tsecr)
        p += 12
    elif fields.options & OPT_SACK_OK:
        put32(p, NOP_NOP_SACK_OK)
        p += 4
    if fields.options & OPT_WSCALE:
        put32(p, NOP_WSCALE | fields.wscale)
        p += 4
    if blocks:
        put32(p, NOP_NOP_SACK | <uint32_t> (2 + 8 * blocks))
        p += 4
        for i in range(2 * blocks):
            put32(p, fields.blocks[i])
            p += 4
    if fields.options & OPT_FASTOPEN:
        write_fastopen(fields, p)


cdef inline bint is_cookie(const SegmentFields* fields) noexcept nogil:
    """RFC 7413 section 4.1.1."""
    if not fields.options & OPT_FASTOPEN or fields.cookie_len == 0:
        return True
    return FEWEST_COOKIE <= fields.cookie_len <= MOST_COOKIE and not fields.cookie_len & 1


# --- whole segments -------------------------------------------------------------------------------------

cdef inline bint total_of(const Span* stretches, size_t count, size_t most, size_t* total) noexcept nogil:
    """Add up the stretches; false when they are more than *most* bytes."""
    cdef size_t i
    total[0] = 0
    for i in range(count):
        if stretches[i].n > most - total[0]:
            return False
        total[0] += stretches[i].n
    return True


cdef inline void put_payload(const Span* stretches, size_t count, uint8_t* out) noexcept nogil:
    """Copy the payload behind its headers: the one place where it is copied."""
    cdef size_t i
    for i in range(count):
        if stretches[i].n:
            memcpy(out, stretches[i].p, stretches[i].n)
            out += stretches[i].n


cdef inline void put_ip(const Template* template, uint8_t ecn, size_t n, uint16_t number, uint8_t* ip) noexcept nogil:
    """Write into the IP header what differs: how much it carries, ECN, and of IPv4 the identification."""
    cdef uint32_t change
    if template.ip_version == 6:
        ip[1] |= <uint8_t> (ecn << 4)
        put16(ip + 4, <uint16_t> n)
        return
    n += template.ip_len
    # In the template both fields of ECN and the identification are 0.
    change = change16(template.ip_len, <uint16_t> n) + change16(0, number) + change16(0, ecn)
    ip[1] |= ecn
    put16(ip + 2, <uint16_t> n)
    put16(ip + 4, number)
    checksum_apply(ip + 10, change)


cdef inline void describe(const Template* template, const SegmentFields* fields, size_t transport, size_t headers,
                          size_t payload, Offload* offload) noexcept nogil:
    """Say what the network card has yet to do."""
    memset(offload, 0, sizeof(Offload))
    offload.flags = OFFLOAD_NEEDS_CSUM
    offload.hdr_len = <uint16_t> headers
    offload.csum_start = <uint16_t> transport
    offload.csum_offset = 16
    if fields.gso_size and payload > fields.gso_size:
        offload.gso_size = fields.gso_size
        offload.gso_type = GSO_TCPV4 if template.ip_version == 4 else GSO_TCPV6
        if fields.flags & CWR:
            offload.gso_type |= GSO_ECN


cdef size_t segment_write(const Template* template, const SegmentFields* fields, const Span* stretches, size_t count,
                          uint16_t* ids, Offload* offload, uint8_t* out, size_t room) noexcept nogil:
    cdef size_t transport = template.link_len + template.ip_len
    cdef size_t header = TCP_HEADER + segment_options_len(fields), payload, carried
    cdef size_t most = MOST_IP - header - (template.ip_len if template.ip_version == 4 else 0)
    cdef uint8_t* tcp = out + transport
    cdef uint32_t segments = 1, pseudo
    if header > TCP_HEADER + MOST_SEGMENT_OPTIONS or not is_cookie(fields):
        return 0
    if not total_of(stretches, count, most, &payload):
        return 0
    carried = header + payload
    if room < transport or room - transport < carried:
        return 0
    if fields.gso_size and payload > fields.gso_size:
        if offload == NULL:
            return 0
        segments = <uint32_t> ((payload + fields.gso_size - 1) // fields.gso_size)

    memcpy(out, template.headers + TEMPLATE_LINK - template.link_len, transport + PORTS)
    put_ip(template, fields.ecn & ECN_CE, carried, ids[0] if ids != NULL else 0, out + template.link_len)
    if ids != NULL:
        ids[0] += <uint16_t> segments
    put32(tcp + 4, fields.seq)
    put32(tcp + 8, fields.ack)
    put16(tcp + 12, <uint16_t> (header // 4 << 12) | (fields.flags & 0x1FF))
    put16(tcp + 14, fields.window)
    put32(tcp + 16, 0)             # checksum, urgent pointer
    write_options(fields, tcp + TCP_HEADER)
    put_payload(stretches, count, tcp + header)

    pseudo = template.pseudo_sum + <uint32_t> carried
    if offload == NULL:
        put16(tcp + 16, 0xFFFF ^ checksum_fold(checksum_add(pseudo, tcp, carried)))
    else:
        put16(tcp + 16, checksum_fold(pseudo))
        describe(template, fields, transport, transport + header, payload, offload)
    return transport + carried
