"""Shows the wire reader, the keyed hash and the defragmenter to pytest."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from aiomos.tcp.flows cimport FlowKey, Flows, key_hash, make_key
from aiomos.wire.defrag cimport DEFRAG_COMPLETE, DEFRAG_RESULTS, Defragmenter
from aiomos.wire.frame cimport Frame
from aiomos.wire.seq cimport seq_diff, seq_leq, seq_lt, seq_max
from aiomos.wire.siphash cimport siphash13
from aiomos.wire.tunnels cimport add_tunnel_port
from aiomos.wire.wire cimport (
    Address,
    Cursor,
    DecodeOptions,
    PacketRecord,
    WIRE_AGGREGATE,
    WIRE_FRAGMENT,
    WIRE_KINDS,
    WIRE_NON_IP,
    WIRE_TCP,
    WIRE_UDP,
    WIRE_UNKNOWN_LINK,
    checksum_add,
    checksum_fold,
    decode_frame,
    decode_ip,
    decode_subframe,
)

KIND_NAMES = (
    "tcp", "udp", "icmp", "ip_other", "fragment", "non_ip", "unknown_link", "aggregate", "bad_link", "bad_ip",
    "ip_cut", "bad_extension", "bad_tcp", "tcp_cut", "bad_checksum", "bad_tunnel")
assert len(KIND_NAMES) == WIRE_KINDS

OUTCOMES = (
    "pending", "complete", "duplicate", "cut", "bad", "too_big", "overlap", "too_many", "memory", "condemned")
assert len(OUTCOMES) == DEFRAG_RESULTS


cdef bytes address_bytes(Address address, int version):
    packed = (int(address.hi) << 64 | int(address.lo)).to_bytes(16, "big")
    return packed[12:] if version == 4 else packed


cdef dict packet_fields(int kind, const PacketRecord* packet):
    """The fields that this kind promises."""
    fields = {"kind": KIND_NAMES[kind]}
    if kind == WIRE_NON_IP or kind == WIRE_UNKNOWN_LINK or kind == WIRE_UDP:
        fields["unread"] = (packet.unread_layer, packet.unread_number)
    if kind > WIRE_FRAGMENT:
        return fields
    fields |= {
        "time_ns": packet.time_ns,
        "vlan": packet.vlan,
        "link_layers": packet.link_layers,
        "tunnel": packet.tunnel,
        "transient": packet.transient,
        "ip_version": packet.ip_version,
        "src": address_bytes(packet.src, packet.ip_version),
        "dst": address_bytes(packet.dst, packet.ip_version),
        "proto": packet.proto,
        "ttl": packet.ttl,
        "tos": packet.tos,
        "sport": packet.sport,
        "dport": packet.dport,
        "network": (<const char*> packet.network)[:packet.network_len],
    }
    if kind == WIRE_FRAGMENT:
        return fields | {
            "fragment_id": packet.fragment_id,
            "fragment_offset": packet.fragment_offset,
            "more_fragments": packet.more_fragments,
            "fragment": (<const char*> packet.fragment)[:packet.fragment_len],
            "fragment_wire_len": packet.fragment_wire_len,
        }
    fields |= {
        "transport_at": packet.transport - packet.network,
        "payload": (<const char*> packet.payload)[:packet.payload_cap],
        "payload_len": packet.payload_len,
    }
    if kind == WIRE_TCP:
        fields |= {
            "seq": packet.seq,
            "ack": packet.ack,
            "flags": packet.flags,
            "window": packet.window,
            "urgent": packet.urgent,
            "options": packet.options,
            "mss": packet.mss,
            "wscale": packet.wscale,
            "tsval": packet.tsval,
            "tsecr": packet.tsecr,
            "sack": [(packet.sack[2 * i], packet.sack[2 * i + 1]) for i in range(packet.sack_count)],
            "header_len": packet.header_len,
            "header_cap": packet.header_cap,
        }
    return fields


cdef Frame make_frame(const uint8_t[::1] data, int linktype, object wirelen, int64_t time_ns):
    cdef Frame frame
    memset(&frame, 0, sizeof(Frame))
    frame.data = &data[0] if data.shape[0] else NULL
    frame.caplen = <unsigned int> data.shape[0]
    frame.wirelen = frame.caplen if wirelen is None else wirelen
    frame.linktype = linktype
    frame.time_ns = time_ns
    return frame


def decode(const uint8_t[::1] frame not None, int linktype=1, *, wirelen=None, bint verify=False,
           bint decapsulate=False, int64_t time_ns=0, bint separate=False, vxlan_ports=(4789, 8472)):
    """Decode one frame into a dict of the fields its kind promises."""
    cdef DecodeOptions options
    cdef PacketRecord packet
    cdef int i
    cdef Frame native = make_frame(frame, linktype, wirelen, time_ns)
    memset(&packet, 0xA5, sizeof(PacketRecord))              # what is not set must show
    memset(&options, 0, sizeof(DecodeOptions))
    options.verify_checksums = verify
    options.decapsulate = decapsulate
    options.separate_tunnels = separate
    for i, port in enumerate(vxlan_ports):
        options.vxlan_ports[i] = port
        add_tunnel_port(port)
    kind = decode_frame(&native, &options, &packet)
    return packet_fields(kind, &packet)


def decode_aggregate(const uint8_t[::1] frame not None, int linktype=105, *, wirelen=None):
    """Decode the frames within one."""
    cdef DecodeOptions options
    cdef PacketRecord packet
    cdef Cursor rest
    cdef Frame native = make_frame(frame, linktype, wirelen, 0)
    memset(&packet, 0xA5, sizeof(PacketRecord))
    options.verify_checksums = options.decapsulate = False
    assert decode_frame(&native, &options, &packet) == WIRE_AGGREGATE
    rest.data, rest.captured, rest.wire_len = packet.payload, packet.payload_cap, packet.payload_len
    rest.ethertype, rest.depth = 0, 0
    found = []
    while rest.captured:
        kind = decode_subframe(&rest, &options, &packet)
        found.append(packet_fields(kind, &packet))
    return found


def repeat(const uint8_t[::1] frame not None, Py_ssize_t times, bint verify=False):
    """Decode one Ethernet frame many times, to measure."""
    cdef DecodeOptions options
    cdef PacketRecord packet
    cdef Frame native = make_frame(frame, 1, None, 0)
    cdef Py_ssize_t _
    cdef int kind = 0
    options.verify_checksums = verify
    options.decapsulate = False
    with nogil:
        for _ in range(times):
            kind += decode_frame(&native, &options, &packet)
    return kind


def checksum(const uint8_t[::1] data not None):
    """The Internet checksum, complemented as it is written."""
    return 0xFFFF ^ checksum_fold(checksum_add(0, &data[0] if data.shape[0] else NULL, data.shape[0]))


def siphash(uint64_t k0, uint64_t k1, words):
    """SipHash-1-3 of 64-bit words."""
    cdef uint64_t native[16]
    for i, word in enumerate(words):
        native[i] = word
    return siphash13(k0, k1, native, len(words))


def compare_sequence(uint32_t a, uint32_t b):
    """What is said of two sequence numbers: seq_diff(), seq_lt(), seq_leq() and seq_max()."""
    return seq_diff(a, b), bool(seq_lt(a, b)), bool(seq_leq(a, b)), seq_max(a, b)


def flow_hash(uint64_t k0, uint64_t k1, bytes frame not None, uint64_t tunnel=0, *, uint16_t vlan_mask=0xFFFF):
    """The hash of the flow that an Ethernet frame belongs to, in a tunnel of that number."""
    cdef Flows flows
    cdef FlowKey key
    cdef DecodeOptions options
    cdef PacketRecord packet
    cdef Frame native
    memset(&flows, 0, sizeof(flows))
    memset(&options, 0, sizeof(options))
    memset(&native, 0, sizeof(native))
    flows.key0, flows.key1, flows.vlan_mask = k0, k1, vlan_mask
    native.data, native.linktype = <const uint8_t*> <const char*> frame, 1
    native.caplen = native.wirelen = <uint32_t> len(frame)
    assert decode_frame(&native, &options, &packet) == WIRE_TCP
    make_key(&packet, &key)
    return key_hash(&flows, &key, tunnel)


cdef class Reassembler:
    """A Defragmenter driven with frames."""

    cdef readonly Defragmenter defragmenter

    def __init__(self, Defragmenter defragmenter not None):
        self.defragmenter = defragmenter

    def add(self, const uint8_t[::1] frame not None, int linktype=1, *, wirelen=None, int64_t time_ns=0):
        """Give it one fragment; what became of it, and the whole packet if it completed one."""
        cdef DecodeOptions options
        cdef PacketRecord packet
        cdef Frame native = make_frame(frame, linktype, wirelen, time_ns)
        cdef const uint8_t* data = NULL
        cdef size_t captured = 0
        options.verify_checksums = False
        options.decapsulate = False
        assert decode_frame(&native, &options, &packet) == WIRE_FRAGMENT
        outcome = self.defragmenter.add(&packet, &data, &captured)
        return OUTCOMES[outcome], (<const char*> data)[:captured] if outcome == DEFRAG_COMPLETE else None

    def expire(self, int64_t now_ns):
        return self.defragmenter.expire(now_ns)


def decode_packet(const uint8_t[::1] data not None, *, bint verify=False):
    """Decode from the IP header on, as is done with reassembled packets."""
    cdef DecodeOptions options
    cdef PacketRecord packet
    memset(&packet, 0, sizeof(PacketRecord))
    options.verify_checksums = verify
    options.decapsulate = False
    kind = decode_ip(&data[0], data.shape[0], data.shape[0], &options, &packet, 0)
    return packet_fields(kind, &packet)
