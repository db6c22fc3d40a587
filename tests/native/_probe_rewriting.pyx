"""Shows the rewriting of packets, the frames built natively and the fragmenter to pytest."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos.wire.building cimport (
    Cut, Envelope, Segment, build_ack, build_cut, build_reset, build_segment, build_with_payload, envelope_of)
from aiomos.wire.checksums cimport checksum_of_segment
from aiomos.wire.fragmenting cimport Fragmenter, fragmenter_begin, fragmenter_next
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload
from aiomos.wire.icmp cimport (
    BAD_PARAMETER, HOPS_EXCEEDED, ICMP_ERRORS, PACKET_TOO_BIG, REASSEMBLY_EXCEEDED, UNREACHABLE_HOST,
    UNREACHABLE_NETWORK, UNREACHABLE_PORT, UNREACHABLE_PROHIBITED, UNREACHABLE_PROTOCOL, IcmpNotice, build_echo_reply,
    build_icmp_error, icmp_read)
from aiomos.wire.rewriting cimport (
    Quote, Rewrite, echo_id, quote_read, quote_rewrite, rewrite_ack, rewrite_begin, rewrite_dport, rewrite_dst,
    rewrite_echo_id, rewrite_eth_dst, rewrite_eth_src, rewrite_flags, rewrite_mss, rewrite_sack, rewrite_seq,
    rewrite_sport, rewrite_src, rewrite_timestamps, rewrite_tos, rewrite_ttl, rewrite_urgent, rewrite_window)
from aiomos.wire.wire cimport Address, DecodeOptions, PacketRecord, WIRE_TCP, decode_frame

from ipaddress import ip_address

WHYS = {
    "port": UNREACHABLE_PORT, "prohibited": UNREACHABLE_PROHIBITED, "host": UNREACHABLE_HOST,
    "network": UNREACHABLE_NETWORK, "protocol": UNREACHABLE_PROTOCOL, "too_big": PACKET_TOO_BIG, "hops": HOPS_EXCEEDED,
    "reassembly": REASSEMBLY_EXCEEDED, "parameter": BAD_PARAMETER,
}
assert sorted(WHYS.values()) == list(range(ICMP_ERRORS))
WORDS = {number: word for word, number in WHYS.items()}
ROOM = 1 << 17


cdef Address address_of(text):
    cdef Address address
    number = int(ip_address(text))
    if ip_address(text).version == 4:
        number |= 0xFFFF << 32
    address.hi = number >> 64
    address.lo = number & 0xFFFF_FFFF_FFFF_FFFF
    return address


cdef str address_text(Address address, int version):
    number = int(address.hi) << 64 | int(address.lo)
    return str(ip_address((number & 0xFFFF_FFFF).to_bytes(4, "big") if version == 4 else number.to_bytes(16, "big")))


cdef class Writable:
    """A frame that may be rewritten.

    Args:
        frame: Its bytes.
        linktype: LINKTYPE_ number.
        partial: Whether the checksum at this place, ``(csum_start, csum_offset)``, is left to the network card.
        flags: Of the Offload that says so.
    """

    cdef bytearray data
    cdef Frame native
    cdef Offload offload
    cdef PacketRecord packet
    cdef Rewrite rewrite
    cdef readonly int kind

    def __init__(self, bytes frame not None, int linktype=1, *, partial=None, flags=OFFLOAD_NEEDS_CSUM):
        cdef DecodeOptions options
        self.data = bytearray(frame)
        memset(&self.native, 0, sizeof(Frame))
        self.native.data = <const uint8_t*> <char*> self.data
        self.native.caplen = self.native.wirelen = <uint32_t> len(frame)
        self.native.linktype = linktype
        if partial is not None:
            memset(&self.offload, 0, sizeof(Offload))
            self.offload.flags = flags
            self.offload.csum_start, self.offload.csum_offset = partial
            self.native.offload = &self.offload
        options.verify_checksums = options.decapsulate = False
        memset(&self.packet, 0xA5, sizeof(PacketRecord))
        self.kind = decode_frame(&self.native, &options, &self.packet)
        link_len = 0 if self.packet.ip_version == 0 else self.packet.network - self.native.data
        rewrite_begin(&self.rewrite, &self.packet, self.kind, &self.native, link_len)

    @property
    def frame(self):
        return bytes(self.data)

    def set(self, name, value):
        """Set one field; whether the packet has it."""
        cdef Address address
        cdef uint32_t edges[8]
        cdef bytes mac
        if name in ("src", "dst"):
            address = address_of(value)
            return (rewrite_src if name == "src" else rewrite_dst)(&self.rewrite, &address)
        if name in ("eth_src", "eth_dst"):
            mac = bytes.fromhex(value.replace(":", ""))
            return (rewrite_eth_src if name == "eth_src" else rewrite_eth_dst)(&self.rewrite, mac)
        if name == "timestamps":
            return rewrite_timestamps(&self.rewrite, value[0], value[1])
        if name == "sack":
            for i, edge in enumerate(edge for block in value for edge in block):
                edges[i] = edge
            return rewrite_sack(&self.rewrite, edges, len(value))
        if name in ("ttl", "tos"):
            return (rewrite_ttl if name == "ttl" else rewrite_tos)(&self.rewrite, value)
        if name in ("seq", "ack"):
            return (rewrite_seq if name == "seq" else rewrite_ack)(&self.rewrite, value)
        return self.set16(name, value)

    cdef bint set16(self, name, uint16_t value) except? False:
        if name == "sport":
            return rewrite_sport(&self.rewrite, value)
        if name == "dport":
            return rewrite_dport(&self.rewrite, value)
        if name == "echo_id":
            return rewrite_echo_id(&self.rewrite, value)
        if name == "flags":
            return rewrite_flags(&self.rewrite, value)
        if name == "window":
            return rewrite_window(&self.rewrite, value)
        if name == "urgent":
            return rewrite_urgent(&self.rewrite, value)
        if name == "mss":
            return rewrite_mss(&self.rewrite, value)
        raise ValueError(name)

    def decoded(self):
        """What the decoded packet says now."""
        cdef const PacketRecord* packet = &self.packet
        blocks = packet.sack_count if self.kind == WIRE_TCP else 0
        return {
            "src": ip_address(address_text(packet.src, packet.ip_version)).packed,
            "dst": ip_address(address_text(packet.dst, packet.ip_version)).packed,
            "sport": packet.sport, "dport": packet.dport, "ttl": packet.ttl, "tos": packet.tos,
            "seq": packet.seq, "ack": packet.ack, "flags": packet.flags, "window": packet.window,
            "urgent": packet.urgent, "mss": packet.mss, "tsval": packet.tsval, "tsecr": packet.tsecr,
            "options": packet.options,
            "sack": [(packet.sack[2 * i], packet.sack[2 * i + 1]) for i in range(blocks)],
        }

    def echo_id(self):
        cdef uint16_t id = 0
        return id if echo_id(&self.packet, self.kind, &id) else None

    def quote(self):
        """The quoted packet as ``(src, dst, sport, dport, proto)``, None when there is none."""
        cdef Quote quote
        if not quote_read(&self.packet, self.kind, &quote):
            return None
        version = quote.ip_version
        return address_text(quote.src, version), address_text(quote.dst, version), quote.sport, quote.dport, quote.proto

    def set_quote(self, src, dst, uint16_t sport, uint16_t dport):
        cdef Quote quote
        cdef Address source = address_of(src), destination = address_of(dst)
        assert quote_read(&self.packet, self.kind, &quote)
        quote_rewrite(&self.rewrite, &quote, &source, &destination, sport, dport)

    def reset(self, size_t room=ROOM):
        cdef bytearray out = bytearray(room)
        return bytes(out[:build_reset(&self.rewrite, <uint8_t*> <char*> out, room)])

    def ack(self, uint32_t ack, uint16_t window, size_t room=ROOM):
        cdef bytearray out = bytearray(room)
        return bytes(out[:build_ack(&self.rewrite, ack, window, <uint8_t*> <char*> out, room)])

    def unreachable(self, why, size_t room=ROOM, word=0, source=None):
        """An ICMP error, about what *why* says, with a word, and from another address."""
        cdef bytearray out = bytearray(room)
        cdef Address address
        if source is not None:
            address = address_of(source)
        return bytes(out[:build_icmp_error(&self.rewrite, WHYS[why], word, NULL if source is None else &address,
                                           <uint8_t*> <char*> out, room)])

    def notice(self):
        """What an ICMP error tells: why, MTU, pointer, length of the packet, its ports, its sequence number."""
        cdef IcmpNotice notice
        if not icmp_read(&self.packet, self.kind, &notice):
            return None
        return (WORDS[notice.what], notice.mtu, notice.pointer, notice.packet_len,
                (notice.quote.sport, notice.quote.dport), notice.seq if notice.has_seq else None)

    def echo_reply(self, size_t room=ROOM):
        cdef bytearray out = bytearray(room)
        return bytes(out[:build_echo_reply(&self.rewrite, <uint8_t*> <char*> out, room)])

    def with_payload(self, bytes payload not None, size_t room=ROOM):
        cdef bytearray out = bytearray(room)
        cdef size_t size = build_with_payload(&self.rewrite, payload, len(payload), <uint8_t*> <char*> out, room)
        return bytes(out[:size])

    def cut(self, bytes payload not None, at, length, seq, flags, urgent=0, number=0, size_t room=ROOM):
        cdef bytearray out = bytearray(room)
        cdef Cut cut
        cut.at, cut.length, cut.seq, cut.flags, cut.urgent, cut.number = at, length, seq, flags, urgent, number
        return bytes(out[:build_cut(&self.rewrite, &cut, payload, <uint8_t*> <char*> out, room)])

    def segment(self, seq, ack, flags, window, bytes payload not None=b"", timestamps=None, bint answer=False,
                size_t room=ROOM):
        """A segment in the packet's envelope; None where that cannot be had."""
        cdef bytearray out = bytearray(room)
        cdef Envelope envelope
        cdef Segment segment
        segment.seq, segment.ack, segment.flags, segment.window = seq, ack, flags, window
        segment.timestamps = timestamps is not None
        segment.tsval, segment.tsecr = timestamps or (0, 0)
        if not envelope_of(&self.rewrite, answer, &envelope):
            return None
        return bytes(out[:build_segment(&envelope, &segment, payload, len(payload), <uint8_t*> <char*> out, room)])


def segment_checksum(src, dst, uint8_t proto, bytes data not None):
    """The checksum of a segment whose field is zero, as it is written."""
    cdef Address source = address_of(src), destination = address_of(dst)
    return checksum_of_segment(&source, &destination, ip_address(src).version, proto, data, len(data))


def fragments(bytes packet not None, size_t most, uint32_t id=0):
    """Cut an IP packet; None when it cannot be cut."""
    cdef Fragmenter fragmenter
    cdef bytearray out = bytearray(max(most, <size_t> len(packet)))
    if not fragmenter_begin(&fragmenter, packet, len(packet), most, id):
        return None
    pieces = []
    while size := fragmenter_next(&fragmenter, <uint8_t*> <char*> out):
        pieces.append(bytes(out[:size]))
    return pieces
