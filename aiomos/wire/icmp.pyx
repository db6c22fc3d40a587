"""ICMP (RFC 792, RFC 1122) and ICMPv6 (RFC 4443): errors read and made, echo requests answered.

Both versions say the same in other numbers, which one table holds.
"""

from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.wire.building cimport Envelope, envelope_of, envelope_write, ip_header_len
from aiomos.wire.checksums cimport checksum_of_segment, put16, put32
from aiomos.wire.numbers cimport ICMP_HEADER, IPV6_HEADER, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP
from aiomos.wire.rewriting cimport quote_read
from aiomos.wire.wire cimport Address, PacketRecord, WIRE_FRAGMENT, WIRE_ICMP, be16, be32

cdef enum:
    MOST_ICMP = 576                    # RFC 1812 section 4.3.2.3
    MOST_ICMPV6 = 1280                 # RFC 4443 section 2.4 (c)

cdef enum:                             # types
    ECHO_REPLY = 0
    UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO_REQUEST = 8
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    V6_UNREACHABLE = 1
    V6_TOO_BIG = 2
    V6_TIME_EXCEEDED = 3
    V6_PARAMETER_PROBLEM = 4
    V6_FIRST_INFORMATION = 128         # below it, all are errors (RFC 4443 section 2.1)
    V6_ECHO_REQUEST = 128
    V6_ECHO_REPLY = 129
    V6_REDIRECT = 137
    FRAGMENTATION_NEEDED = 4           # code of UNREACHABLE

# By IcmpError: type and code of ICMP, and of ICMPv6.
cdef uint8_t[ICMP_ERRORS][4] NUMBERS
for _what, _numbers in {
    UNREACHABLE_PORT: (3, 3, 1, 4),
    UNREACHABLE_PROHIBITED: (3, 13, 1, 1),
    UNREACHABLE_HOST: (3, 1, 1, 3),
    UNREACHABLE_NETWORK: (3, 0, 1, 0),
    UNREACHABLE_PROTOCOL: (3, 2, 4, 1),
    PACKET_TOO_BIG: (3, 4, 2, 0),
    HOPS_EXCEEDED: (11, 0, 3, 0),
    REASSEMBLY_EXCEEDED: (11, 1, 3, 1),
    BAD_PARAMETER: (12, 0, 4, 0),
}.items():
    for _place in range(4):
        NUMBERS[<int> _what][<int> _place] = _numbers[_place]

# Codes that mean, to the end that is told, what one of the above means (RFC 1812 section 5.2.7.1; RFC 4443 3.1).
cdef int[16] V4_UNREACHABLE
V4_UNREACHABLE[:] = [
    UNREACHABLE_NETWORK, UNREACHABLE_HOST, UNREACHABLE_PROTOCOL, UNREACHABLE_PORT, PACKET_TOO_BIG, UNREACHABLE_NETWORK,
    UNREACHABLE_NETWORK, UNREACHABLE_HOST, UNREACHABLE_HOST, UNREACHABLE_PROHIBITED, UNREACHABLE_PROHIBITED,
    UNREACHABLE_NETWORK, UNREACHABLE_HOST, UNREACHABLE_PROHIBITED, UNREACHABLE_PROHIBITED, UNREACHABLE_PROHIBITED]
cdef int[7] V6_UNREACHABLE_CODES
V6_UNREACHABLE_CODES[:] = [
    UNREACHABLE_NETWORK, UNREACHABLE_PROHIBITED, UNREACHABLE_NETWORK, UNREACHABLE_HOST, UNREACHABLE_PORT,
    UNREACHABLE_PROHIBITED, UNREACHABLE_PROHIBITED]


# --- reading ----------------------------------------------------------------------------------------

cdef bint is_whole(const PacketRecord* packet, int kind) noexcept nogil:
    """A message all of which is there, with a right checksum."""
    return (kind == WIRE_ICMP and packet.payload_len >= ICMP_HEADER and packet.payload_cap == packet.payload_len
            and checksum_of_segment(&packet.src, &packet.dst, packet.ip_version, packet.proto, packet.transport,
                                    packet.payload_len) == 0)


cdef int meaning_of(uint8_t type, uint8_t code, uint8_t ip_version) noexcept nogil:
    """The error of a type and code, ICMP_ERRORS for none that tells an end anything."""
    cdef int what
    cdef int at = 0 if ip_version == 4 else 2
    if ip_version == 4 and type == UNREACHABLE and code < 16:
        return V4_UNREACHABLE[code]
    if ip_version == 6 and type == V6_UNREACHABLE and code < 7:
        return V6_UNREACHABLE_CODES[code]
    if ip_version == 6 and type == V6_TOO_BIG:     # its code is to be ignored (RFC 4443 section 3.2)
        return PACKET_TOO_BIG
    if type == (PARAMETER_PROBLEM if ip_version == 4 else V6_PARAMETER_PROBLEM) and not (ip_version == 6 and code == 1):
        return BAD_PARAMETER
    for what in range(<int> ICMP_ERRORS):
        if NUMBERS[what][at] == type and NUMBERS[what][at + 1] == code:
            return what
    return ICMP_ERRORS


cdef bint icmp_read(const PacketRecord* packet, int kind, IcmpNotice* out) noexcept nogil:
    cdef const uint8_t* message = packet.transport
    cdef bint v4 = packet.ip_version == 4
    if not is_whole(packet, kind):
        return False
    memset(out, 0, sizeof(IcmpNotice))
    out.what = meaning_of(message[0], message[1], packet.ip_version)
    if out.what == ICMP_ERRORS or not quote_read(packet, kind, &out.quote):
        return False
    if out.what == PACKET_TOO_BIG:
        out.mtu = be16(message + 6) if v4 else be32(message + 4)
    elif out.what == BAD_PARAMETER:
        out.pointer = message[4] if v4 else be32(message + 4)
    # quote_read() has seen the header, or there would be no ports.
    out.packet_len = be16(message + ICMP_HEADER + 2) if v4 else IPV6_HEADER + be16(message + ICMP_HEADER + 4)
    if out.quote.proto == PROTO_TCP:               # 8 bytes are quoted at least
        out.has_seq, out.seq = True, be32(message + out.quote.transport_at + 4)
    return True


# --- errors ------------------------------------------------------------------------------------------

cdef bint is_error_itself(const PacketRecord* packet, int kind) noexcept nogil:
    """Is the packet an ICMP error, or may it be one?"""
    cdef const uint8_t* message = packet.payload if kind == WIRE_ICMP else packet.fragment
    cdef uint32_t there = packet.payload_cap if kind == WIRE_ICMP else packet.fragment_len
    if kind != WIRE_ICMP and not (kind == WIRE_FRAGMENT
                                  and packet.proto == (PROTO_ICMP if packet.ip_version == 4 else PROTO_ICMPV6)):
        return False
    if not there:
        return True
    if packet.ip_version == 6:
        return message[0] < V6_FIRST_INFORMATION or message[0] == V6_REDIRECT
    return (message[0] == UNREACHABLE or message[0] == SOURCE_QUENCH or message[0] == REDIRECT
            or message[0] == TIME_EXCEEDED or message[0] == PARAMETER_PROBLEM)


cdef void write_word(int what, uint8_t ip_version, uint32_t word, uint8_t* icmp) noexcept nogil:
    if what == PACKET_TOO_BIG and ip_version == 4:
        put16(icmp + 6, <uint16_t> min(word, <uint32_t> 0xFFFF))       # RFC 1191 section 4
    elif what == BAD_PARAMETER and ip_version == 4:
        icmp[4] = <uint8_t> word
    elif what == PACKET_TOO_BIG or what == BAD_PARAMETER or (what == UNREACHABLE_PROTOCOL and ip_version == 6):
        put32(icmp + 4, word)


cdef size_t build_icmp_error(const Rewrite* offender, int what, uint32_t word, const Address* source, uint8_t* out,
                             size_t room) noexcept nogil:
    cdef const PacketRecord* packet = offender.packet
    cdef bint v4 = packet.ip_version == 4
    cdef uint8_t proto = PROTO_ICMP if v4 else PROTO_ICMPV6
    cdef size_t quoted, begin, most
    cdef Envelope envelope
    cdef uint8_t* icmp
    if offender.network == NULL or is_error_itself(packet, offender.kind):
        return 0
    if offender.kind == WIRE_FRAGMENT and packet.fragment_offset:
        return 0
    if not envelope_of(offender, True, &envelope):
        return 0
    if source != NULL:
        envelope.src = source[0]
    most = (MOST_ICMP if v4 else MOST_ICMPV6) - ip_header_len(&envelope) - ICMP_HEADER
    quoted = min(<size_t> packet.network_len, most)
    begin = envelope_write(&envelope, proto, ICMP_HEADER + quoted, out, room)
    if begin == 0:
        return 0
    icmp = out + begin
    memset(icmp, 0, ICMP_HEADER)
    icmp[0], icmp[1] = NUMBERS[what][0 if v4 else 2], NUMBERS[what][1 if v4 else 3]
    write_word(what, packet.ip_version, word, icmp)
    memcpy(icmp + ICMP_HEADER, offender.network, quoted)
    put16(icmp + 2, checksum_of_segment(&envelope.src, &envelope.dst, envelope.ip_version, proto, icmp,
                                        ICMP_HEADER + quoted))
    return begin + ICMP_HEADER + quoted


# --- echo --------------------------------------------------------------------------------------------

cdef size_t build_echo_reply(const Rewrite* request, uint8_t* out, size_t room) noexcept nogil:
    cdef const PacketRecord* packet = request.packet
    cdef bint v4 = packet.ip_version == 4
    cdef size_t n = packet.payload_len, begin
    cdef Envelope envelope
    cdef uint8_t* icmp
    if not is_whole(packet, request.kind) or packet.transport[1] != 0:
        return 0
    if packet.transport[0] != (ECHO_REQUEST if v4 else V6_ECHO_REQUEST) or not envelope_of(request, True, &envelope):
        return 0
    begin = envelope_write(&envelope, packet.proto, n, out, room)
    if begin == 0:
        return 0
    icmp = out + begin
    memcpy(icmp, packet.transport, n)
    icmp[0] = ECHO_REPLY if v4 else V6_ECHO_REPLY
    put16(icmp + 2, 0)
    put16(icmp + 2, checksum_of_segment(&envelope.src, &envelope.dst, envelope.ip_version, packet.proto, icmp, n))
    return begin + n
