"""Packet: the packet in hand, as callbacks and predicates see it.

A callback is lent its packet: each attribute is read from the decoded headers when it is asked for, and nothing is
computed that nobody asks for. When the callback has returned, the packet is stale. A copy owns its bytes and stays.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc

from aiomos.tcp.addresses cimport address_text
from aiomos.tcp.clock cimport nanoseconds, seconds
from aiomos.tcp.wire cimport (
    ACK,
    AE,
    CWR,
    ECE,
    FIN,
    NO_VLAN,
    OPT_MSS,
    OPT_SACK_OK,
    OPT_TIMESTAMP,
    OPT_WSCALE,
    PSH,
    RST,
    SYN,
    URG,
    WIRE_BAD_CHECKSUM,
    WIRE_BAD_TCP,
    WIRE_FRAGMENT,
    WIRE_KINDS,
    WIRE_TCP,
    WIRE_TCP_CUT,
    WIRE_UDP,
    DecodeOptions,
    Span,
    be16,
    decode_frame,
    span_skip,
    span_take,
    span_u8,
)
from aiomos.transport.frame cimport Frame

from aiomos.errors import StalePacketError

cdef enum:
    LINKTYPE_RAW = 101
    IPV6_HEADER = 40
    TCP_HEADER = 20            # without options
    END_OF_OPTIONS = 0
    NO_OPERATION = 1
    DONT_FRAGMENT = 0x4000

# What the engine counts frames under, by wire.Kind.
KIND_NAMES = (
    "tcp", "udp", "icmp", "ip_other", "fragments", "non_ip", "unknown_link", "malformed.link", "malformed.ip",
    "malformed.ip_cut", "malformed.extension", "malformed.tcp", "malformed.tcp_cut", "malformed.checksum",
    "malformed.tunnel")
assert len(KIND_NAMES) == WIRE_KINDS

cdef tuple FLAG_LETTERS = ((FIN, "F"), (SYN, "S"), (RST, "R"), (PSH, "P"), (ACK, "."), (URG, "U"), (ECE, "E"),
                           (CWR, "W"), (AE, "e"))                       # as tcpdump writes them


cdef inline bint is_broken_tcp(const WirePacket* p, int kind) noexcept nogil:
    """Malformed, but its ports, and with a wrong checksum all its TCP header, were read."""
    return (kind == WIRE_BAD_CHECKSUM or kind == WIRE_BAD_TCP or kind == WIRE_TCP_CUT) and p.transport != NULL


cdef Packet make_packet(const WirePacket* p, int kind=WIRE_TCP):
    cdef Packet packet = Packet.__new__(Packet)
    packet.p = p
    packet.kind = kind
    return packet


@cython.final
@cython.freelist(16)
@cython.no_gc
cdef class Packet:
    """One packet, with its headers as attributes.

    Callbacks and predicates that name ``pkt`` receive it. It is lent: once the callback has returned, it is stale, and
    whatever is asked of it raises `StalePacketError`. `copy()` keeps it.

    An attribute that the packet does not have is None: at `Hook.RAW`, where UDP, ICMP and fragments come by, and of
    malformed packets, whose `ERROR` may name ``pkt``. Everywhere else it is a TCP segment, and only those attributes
    may be None that say so.

    Raises:
        StalePacketError: by every attribute and method, once the callback has returned.
    """

    def __init__(self):
        raise TypeError("packets are made by the engine; Packet.decode(frame) reads one from bytes")

    def __dealloc__(self):
        free(self.own)

    cdef void expire(self) noexcept:
        if self.own == NULL:
            self.p = NULL
            self._dpkt = None

    # --- what it has ----------------------------------------------------------------------------------

    cdef inline const WirePacket* fresh(self) except NULL:
        if self.p == NULL:
            raise StalePacketError
        return self.p

    cdef inline bint has_ip(self) except -1:
        return self.fresh().ip_version != 0

    cdef inline bint has_ports(self) except -1:
        cdef const WirePacket* p = self.fresh()
        return self.kind == WIRE_TCP or self.kind == WIRE_UDP or is_broken_tcp(p, self.kind)

    cdef inline bint is_tcp(self) except -1:
        cdef const WirePacket* p = self.fresh()
        return self.kind == WIRE_TCP or self.kind == WIRE_BAD_CHECKSUM and is_broken_tcp(p, self.kind)

    cdef inline bint has_payload(self) except -1:
        return self.has_ip() and (self.kind < WIRE_FRAGMENT or self.is_tcp())

    cdef inline bint is_fragment(self) except -1:
        return self.has_ip() and self.kind == WIRE_FRAGMENT

    # --- frame and IP ---------------------------------------------------------------------------------

    @property
    def time(self):
        """When it was captured, seconds since the epoch."""
        return seconds(self.fresh().time_ns)

    @property
    def vlan(self):
        """Outermost VLAN id; None without a tag."""
        cdef const WirePacket* p = self.fresh()
        return None if p.vlan == NO_VLAN else p.vlan

    @property
    def ip_version(self):
        """4 or 6."""
        return self.p.ip_version if self.has_ip() else None

    @property
    def proto(self):
        """Protocol number of what IP carries, extension headers passed: 6 is TCP, 17 UDP."""
        return self.p.proto if self.has_ip() else None

    @property
    def ttl(self):
        """Time to live; the hop limit of IPv6."""
        return self.p.ttl if self.has_ip() else None

    @property
    def tos(self):
        """Byte of DSCP and ECN: type of service, or the traffic class of IPv6."""
        return self.p.tos if self.has_ip() else None

    @property
    def dscp(self):
        """Differentiated services code point, 0 to 63 (RFC 2474)."""
        return self.p.tos >> 2 if self.has_ip() else None

    @property
    def ecn(self):
        """Congestion notification of the IP header, 0 to 3 (RFC 3168): 0 not capable, 3 congestion experienced."""
        return self.p.tos & 3 if self.has_ip() else None

    @property
    def ip_id(self):
        """Identification that joins fragments; of IPv6 only fragments have one, else None."""
        if not self.has_ip():
            return None
        if self.p.ip_version == 4:
            return be16(self.p.network + 4)
        return self.p.fragment_id if self.is_fragment() else None

    @property
    def dont_fragment(self):
        """Whether routers must not fragment it (DF); None for IPv6, where they never do."""
        if not self.has_ip() or self.p.ip_version != 4:
            return None
        return (be16(self.p.network + 6) & DONT_FRAGMENT) != 0

    @property
    def fragment_offset(self):
        """Where a fragment's bytes belong in the whole, bytes; None if it is no fragment.

        A packet that was put together from fragments is none.
        """
        return self.p.fragment_offset if self.is_fragment() else None

    @property
    def more_fragments(self):
        """Whether other fragments belong behind this one; None if it is no fragment."""
        return self.p.more_fragments != 0 if self.is_fragment() else None

    @property
    def src(self):
        """IP address of the sender, as text."""
        return address_text(&self.p.src, self.p.ip_version) if self.has_ip() else None

    @property
    def dst(self):
        """IP address of the receiver, as text."""
        return address_text(&self.p.dst, self.p.ip_version) if self.has_ip() else None

    # --- TCP ------------------------------------------------------------------------------------------

    @property
    def sport(self):
        """Port of the sender, of TCP or UDP."""
        return self.p.sport if self.has_ports() else None

    @property
    def dport(self):
        """Port of the receiver, of TCP or UDP."""
        return self.p.dport if self.has_ports() else None

    @property
    def seq(self):
        """Sequence number, 0 to 2**32 - 1."""
        return self.p.seq if self.is_tcp() else None

    @property
    def ack(self):
        """Acknowledgement number, 0 to 2**32 - 1; it means something only with the ACK flag, ``ack_flag``."""
        return self.p.ack if self.is_tcp() else None

    @property
    def flags(self):
        """TCP flags as a number: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128, AE 256."""
        return self.p.flags if self.is_tcp() else None

    cdef inline object flag(self, int bit):
        return (self.p.flags & bit) != 0 if self.is_tcp() else None

    @property
    def fin(self):
        """Whether FIN is set: the sender has sent all."""
        return self.flag(FIN)

    @property
    def syn(self):
        """Whether SYN is set."""
        return self.flag(SYN)

    @property
    def rst(self):
        """Whether RST is set."""
        return self.flag(RST)

    @property
    def psh(self):
        """Whether PSH is set."""
        return self.flag(PSH)

    @property
    def ack_flag(self):
        """Whether ACK is set: ``ack`` is the acknowledgement number."""
        return self.flag(ACK)

    @property
    def urg(self):
        """Whether URG is set."""
        return self.flag(URG)

    @property
    def ece(self):
        """Whether ECE is set (RFC 3168)."""
        return self.flag(ECE)

    @property
    def cwr(self):
        """Whether CWR is set (RFC 3168)."""
        return self.flag(CWR)

    @property
    def ae(self):
        """Whether AE, once NS, is set (RFC 9768)."""
        return self.flag(AE)

    @property
    def window(self):
        """Receive window as sent, unscaled; `Half.window` is in bytes."""
        return self.p.window if self.is_tcp() else None

    @property
    def urgent(self):
        """Urgent pointer; it means something only with the URG flag."""
        return self.p.urgent if self.is_tcp() else None

    @property
    def mss(self):
        """Maximum segment size option, bytes; None without."""
        return self.p.mss if self.is_tcp() and self.p.options & OPT_MSS else None

    @property
    def window_scale(self):
        """Window scale option, a shift of at most 14 (RFC 7323 section 2.3); None without."""
        return self.p.wscale if self.is_tcp() and self.p.options & OPT_WSCALE else None

    @property
    def sack_permitted(self):
        """Whether the option is there that permits selective acknowledgements (RFC 2018)."""
        return (self.p.options & OPT_SACK_OK) != 0 if self.is_tcp() else None

    @property
    def sack(self):
        """``(left, right)`` edges of the blocks selectively acknowledged, at most 4; ``()`` without."""
        cdef int i
        if not self.is_tcp():
            return None
        if not self.p.sack_count:
            return ()
        return tuple([(self.p.sack[2 * i], self.p.sack[2 * i + 1]) for i in range(self.p.sack_count)])

    @property
    def tsval(self):
        """Value of the timestamps option (RFC 7323); None without."""
        return self.p.tsval if self.is_tcp() and self.p.options & OPT_TIMESTAMP else None

    @property
    def tsecr(self):
        """Echo reply of the timestamps option (RFC 7323); None without."""
        return self.p.tsecr if self.is_tcp() and self.p.options & OPT_TIMESTAMP else None

    @property
    def options(self):
        """All TCP options as ``(kind, value)`` in their order, NOPs (kind 1) and the end of the list (0) among them.

        A broken list ends before the option that is broken.
        """
        return tuple(option_list(self.p)) if self.is_tcp() else None

    @property
    def header_len(self):
        """Length of the TCP header, its options included, bytes."""
        return self.p.header_len if self.is_tcp() else None

    # --- bytes ----------------------------------------------------------------------------------------

    @property
    def payload(self):
        """What TCP, UDP or, of other packets, IP carries, as far as it was captured."""
        if self.has_payload():
            return self.p.payload[:self.p.payload_cap]
        return self.p.fragment[:self.p.fragment_len] if self.is_fragment() else None

    @property
    def payload_len(self):
        """Length of the payload on the wire, bytes; more than ``len(payload)`` if the capture cut it off."""
        if self.has_payload():
            return self.p.payload_len
        return self.p.fragment_wire_len if self.is_fragment() else None

    @property
    def length(self):
        """Length of the IP packet as captured, its header included, bytes: that of ``raw``."""
        return self.p.network_len if self.has_ip() else None

    @property
    def raw(self):
        """The IP packet as captured: header and payload, without what frames are padded with."""
        if not self.has_ip():
            return None
        return self.own_bytes if self.own != NULL else self.p.network[:self.p.network_len]

    @property
    def dpkt(self):
        """The IP packet as a `dpkt.ip.IP` or `dpkt.ip6.IP6`, parsed when first asked for.

        What the capture cut off it lacks, and below IP it holds plain bytes where dpkt can make nothing of them.

        Raises:
            ValueError: dpkt cannot read its IP header.
        """
        if self._dpkt is None and self.has_ip():
            self._dpkt = parse_with_dpkt(self.raw, self.p.ip_version)
        return self._dpkt

    # --- keeping --------------------------------------------------------------------------------------

    def copy(self):
        """Return a packet of its own bytes, never stale, that reads the same; a copy returns itself."""
        if self.own != NULL:
            return self
        return copy_packet(self.p, self.kind, self.raw)

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, _memo):
        return self.copy()

    def __reduce__(self):
        if not self.has_ip() or self.own == NULL or self.kind > WIRE_FRAGMENT:
            raise TypeError("a packet is pickled by its bytes: it must be a copy, pkt.copy(), and whole")
        return restore, (self.own_bytes, wire_length(self.own, self.kind), self.own.time_ns, self.own.vlan)

    @classmethod
    def decode(cls, const uint8_t[::1] frame not None, uint16_t linktype=1, *, time=0.0, wirelen=None):
        """Decode one frame, as it stands in a capture; tunnels stay closed, and checksums are not looked at.

        Args:
            frame: Its bytes, from the link layer on.
            linktype: ``LINKTYPE_`` number of the link layer: 1 is Ethernet, 101 raw IP.
            time: When it was captured, seconds since the epoch.
            wirelen: Its length on the wire, bytes, if the capture has cut it; by default, that of *frame*.

        Returns:
            A packet of its own bytes, as a copy is.

        Raises:
            ValueError: It is not an IP packet, or malformed; the message says which, as the engine's counters do.
        """
        cdef const uint8_t* data = &frame[0] if frame.shape[0] else NULL
        cdef uint32_t captured = <uint32_t> frame.shape[0]
        return decode(data, captured, captured if wirelen is None else wirelen, linktype, nanoseconds(time), NO_VLAN)

    def __repr__(self):
        return f"<Packet {describe(self)}>" if self.p != NULL else "<Packet, stale>"


cdef Packet decode(const uint8_t* data, uint32_t captured, uint32_t wire_len, uint16_t linktype, int64_t time_ns,
                   uint16_t vlan):
    """A packet that owns the bytes of a frame; *vlan* is that of a tag which the frame has lost."""
    cdef WirePacket decoded
    cdef Frame frame = Frame(data=data, caplen=captured, wirelen=wire_len, time_ns=time_ns, linktype=linktype,
                             interface=0, offload=NULL)
    cdef DecodeOptions options = DecodeOptions(verify_checksums=False, decapsulate=False)
    cdef int kind = decode_frame(&frame, &options, &decoded)
    if kind > WIRE_FRAGMENT:
        raise ValueError(f"no packet in these {captured} bytes of link type {linktype}: {KIND_NAMES[kind]}")
    if vlan != NO_VLAN:
        decoded.vlan = vlan
    return make_packet(&decoded, kind).copy()


# --- copies -------------------------------------------------------------------------------------------

cdef Packet copy_packet(const WirePacket* p, int kind, bytes raw):
    """A packet that owns the decoded struct and *raw*, its IP packet, which the pointers are made to lead into."""
    cdef Packet packet = Packet.__new__(Packet)
    cdef WirePacket* own = <WirePacket*> malloc(sizeof(WirePacket))
    if own == NULL:
        raise MemoryError("no memory to copy a packet")
    packet.p = packet.own = own
    packet.own_bytes = raw
    packet.kind = kind
    own[0] = p[0]
    own.transient = False
    own.network = own.transport = own.payload = own.fragment = own.fragment_link = NULL
    if raw is None:                                    # no IP packet
        return packet
    own.network = <const uint8_t*> PyBytes_AS_STRING(raw)
    if kind < WIRE_FRAGMENT or is_broken_tcp(p, kind):
        own.transport = own.network + (p.transport - p.network)
    if packet.has_payload():
        own.payload = own.network + (p.payload - p.network)
    elif kind == WIRE_FRAGMENT:
        own.fragment = own.network + (p.fragment - p.network)
        if p.ip_version == 6:
            own.fragment_link = own.network + (p.fragment_link - p.network)
    return packet


cdef size_t wire_length(const WirePacket* p, int kind) noexcept:
    """Length of an IP packet on the wire: what it states, unless that is 0; or to the end of its payload."""
    cdef size_t stated = be16(p.network + 2) if p.ip_version == 4 else IPV6_HEADER + be16(p.network + 4)
    if kind == WIRE_FRAGMENT:
        return stated
    return max(stated, <size_t> (p.payload - p.network) + p.payload_len)


def restore(bytes raw not None, uint32_t wire_len, int64_t time_ns, uint16_t vlan):
    """Make a copy of what its pickle holds."""
    return decode(<const uint8_t*> PyBytes_AS_STRING(raw), <uint32_t> len(raw), wire_len, LINKTYPE_RAW, time_ns, vlan)


# --- readings -----------------------------------------------------------------------------------------

cdef list option_list(const WirePacket* p):
    """TCP options as (kind, value); the header was length-checked as a whole."""
    cdef Span rest = Span(p=p.transport, n=p.header_len)
    cdef Span option
    cdef uint8_t kind, size
    cdef list found = []
    span_skip(&rest, TCP_HEADER)
    while span_u8(&rest, 0, &kind):                    # at most 40 bytes
        if kind == END_OF_OPTIONS or kind == NO_OPERATION:
            found.append((kind, b""))
            if kind == END_OF_OPTIONS:
                break
            span_skip(&rest, 1)
        elif span_u8(&rest, 1, &size) and size >= 2 and span_take(&rest, size, &option):
            found.append((kind, option.p[2:size]))
        else:
            break
    return found


cdef object parse_with_dpkt(bytes raw, int ip_version):
    import dpkt                                        # slow to import, and few ask for it
    try:
        return dpkt.ip.IP(raw) if ip_version == 4 else dpkt.ip6.IP6(raw)
    except Exception as error:                         # it raises much, not only its own
        raise ValueError(
            f"dpkt {dpkt.__version__} cannot read this IPv{ip_version} packet of {len(raw)} bytes ({error!r}); "
            f"pkt.raw has its bytes") from error


cdef str describe(Packet packet):
    """A packet in a line, much as tcpdump writes it."""
    cdef const WirePacket* p = packet.p
    if not packet.has_ip():
        return KIND_NAMES[packet.kind]
    length = "" if packet.payload_len is None else f", length {packet.payload_len}"
    if packet.kind != WIRE_TCP and packet.kind != WIRE_UDP:
        what = f"fragment at {p.fragment_offset}" if packet.is_fragment() else KIND_NAMES[packet.kind]
        return f"{packet.src} > {packet.dst}: {what}, protocol {p.proto}{length}"
    ends = "[{}]:{} > [{}]:{}" if p.ip_version == 6 else "{}:{} > {}:{}"
    text = ends.format(packet.src, p.sport, packet.dst, p.dport)
    if packet.kind == WIRE_UDP:
        return f"{text}: UDP{length}"
    flags = "".join([letter for bit, letter in FLAG_LETTERS if p.flags & bit]) or "none"
    ack = f", ack {p.ack}" if p.flags & ACK else ""
    return f"{text}: Flags [{flags}], seq {p.seq}{ack}, win {p.window}{length}"
