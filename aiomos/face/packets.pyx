"""Packet: the packet in hand, as callbacks and predicates see it.

A callback is lent its packet: each attribute is read from the decoded headers when it is asked for, and nothing is
computed that nobody asks for. When the callback has returned, the packet is stale. A copy owns its bytes and stays.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from aiomos.line.translation cimport SessionShare
from aiomos.wire.addresses cimport address_text
from aiomos.wire.clock cimport nanoseconds_of, seconds
from aiomos.wire.frame cimport Frame
from aiomos.wire.numbers cimport (
    ETHERNET_HEADER,
    ETHERTYPE_MIN,
    IPV6_HEADER,
    LINKTYPE_ETHERNET,
    LINKTYPE_RAW,
    TCP_HEADER,
)
from aiomos.wire.wire cimport (
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
    WIRE_FRAGMENT,
    WIRE_KINDS,
    WIRE_MALFORMED,
    WIRE_TCP,
    WIRE_UDP,
    DecodeOptions,
    Span,
    be16,
    decode_frame,
    header_is_cut,
    is_vlan,
    packet_has_payload,
    packet_has_ports,
    packet_has_segment,
    span_skip,
    span_take,
    span_u16,
    span_u8,
    urgent_is_known,
    window_is_known,
)

from aiomos.errors import NotInLineError, StalePacketError

cdef enum:
    ETHERNET_ADDRESSES = 12
    VLAN_TAG = 4
    END_OF_OPTIONS = 0
    NO_OPERATION = 1
    DONT_FRAGMENT = 0x4000

# What the engine counts frames under, by wire.Kind.
KIND_NAMES = (
    "tcp", "udp", "icmp", "ip_other", "fragments", "non_ip", "unknown_link", "aggregates", "malformed.link",
    "malformed.ip", "malformed.ip_cut", "malformed.extension", "malformed.tcp", "malformed.tcp_cut",
    "malformed.checksum", "malformed.tunnel")
assert len(KIND_NAMES) == WIRE_KINDS

cdef tuple FLAG_LETTERS = ((FIN, "F"), (SYN, "S"), (RST, "R"), (PSH, "P"), (ACK, "."), (URG, "U"), (ECE, "E"),
                           (CWR, "W"), (AE, "e"))                       # as tcpdump writes them


cdef Packet make_packet(const PacketRecord* p, int kind=WIRE_TCP):
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

    An attribute that the packet does not have is None: at `Hook.RAW`, where UDP, ICMP and fragments come by, at
    `FRAME`, and of malformed packets, whose `ERROR` may name ``pkt``. Everywhere else it is a TCP segment, and only
    those attributes may be None that say so.

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

    cdef inline const PacketRecord* fresh(self) except NULL:
        if self.p == NULL:
            raise StalePacketError
        return self.p

    cdef inline bint has_ethernet(self) except -1:
        cdef const PacketRecord* p = self.fresh()
        return p.link != NULL and p.linktype == LINKTYPE_ETHERNET and p.frame_len >= ETHERNET_HEADER

    cdef inline bint has_ip(self) except -1:
        return self.fresh().ip_version != 0

    cdef inline bint has_ports(self) except -1:
        cdef const PacketRecord* p = self.fresh()
        return packet_has_ports(p, self.kind)

    cdef inline bint is_tcp(self) except -1:
        cdef const PacketRecord* p = self.fresh()
        return packet_has_segment(p, self.kind)

    cdef inline bint has_payload(self) except -1:
        return self.has_ip() and packet_has_payload(self.p, self.kind)

    cdef inline bint is_fragment(self) except -1:
        return self.has_ip() and self.kind == WIRE_FRAGMENT

    # --- frame ----------------------------------------------------------------------------------------

    @property
    def time(self):
        """When it was captured, seconds since the epoch."""
        return seconds(self.fresh().time_ns)

    @property
    def vlan(self):
        """Outermost VLAN id; None without a tag."""
        cdef const PacketRecord* p = self.fresh()
        return None if p.vlan == NO_VLAN else p.vlan

    @property
    def interface(self):
        """Name of the interface it came in by; None where that is not known, as in most captures."""
        cdef const PacketRecord* p = self.fresh()
        return None if self.interfaces is None or p.interface >= len(self.interfaces) else self.interfaces[p.interface]

    @property
    def eth_src(self):
        """Ethernet address of the frame's sender, as ``02:00:00:00:00:01``; None unless it is an Ethernet frame.

        A packet that was put together from fragments has no frame.
        """
        return self.p.link[6:12].hex(":") if self.has_ethernet() else None

    @property
    def eth_dst(self):
        """Ethernet address of the frame's receiver; None as ``eth_src`` is."""
        return self.p.link[:6].hex(":") if self.has_ethernet() else None

    @property
    def ethertype(self):
        """EtherType of the frame, VLAN tags passed: 0x0800 is IPv4, 0x0806 ARP; None as ``eth_src`` is.

        It is None, too, of an IEEE 802.3 frame, which has its length there.
        """
        return read_ethertype(self.p) if self.has_ethernet() else None

    @property
    def frame(self):
        """The whole frame as captured, link layer and padding included; None where there is none, see ``eth_src``."""
        cdef const PacketRecord* p = self.fresh()
        if p.link == NULL:
            return None
        return self.own_bytes if self.own != NULL else p.link[:p.frame_len]

    @property
    def malformed(self):
        """What is wrong with it, as the engine counts it under ``malformed.``: such as ``ip_cut``; None if nothing."""
        self.fresh()
        return None if self.kind < WIRE_MALFORMED else KIND_NAMES[self.kind].removeprefix("malformed.")

    @property
    def known(self):
        """Whether it belongs to a session, or is an ICMP error about one."""
        return self.fresh().known != 0

    # --- IP -------------------------------------------------------------------------------------------

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
        """Receive window as sent, unscaled; `Half.window` is in bytes. None if the snap length cut it off."""
        return self.p.window if self.is_tcp() and window_is_known(self.p) else None

    @property
    def urgent(self):
        """Urgent pointer; it means something only with the URG flag. None if the snap length cut it off."""
        return self.p.urgent if self.is_tcp() and urgent_is_known(self.p) else None

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
        """Whether the option is there that permits selective acknowledgements (RFC 2018).

        None if it may be among options that the snap length cut off.
        """
        if not self.is_tcp():
            return None
        if self.p.options & OPT_SACK_OK:
            return True
        return None if header_is_cut(self.p) else False

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

        A broken list ends before the option that is broken, one that the snap length cut before that which it cut.
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
        return self.p.network[:self.p.network_len]

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

    # --- in line --------------------------------------------------------------------------------------

    cdef Line in_hand(self):
        """Where its fate is decided."""
        self.fresh()
        if self.line is None or self.own != NULL:
            raise NotInLineError
        return self.line

    @property
    def out_interface(self):
        """Name of the interface it is to leave by; None if it goes nowhere, as where traffic is only watched."""
        cdef uint16_t interface
        self.fresh()
        if self.line is None or not self.line.outlet.forwards or self.line.hand.packet != self.p:
            return None
        interface = self.line.hand.exit()
        return None if self.interfaces is None or interface >= len(self.interfaces) else self.interfaces[interface]

    def drop(self):
        """Do not pass it on.

        At `Hook.RAW` its flow never sees it. At `Hook.SENDER` its sender has sent it and its receiver does not get it,
        so that the streams do not have its bytes: they will be sent again. At `Hook.RECEIVER` the flow has seen it. A
        flow whose first packet is dropped ends at once, with reason ``dropped``.

        Raises:
            NotInLineError: the traffic is only watched.
        """
        self.in_hand().changes.drop(self.p)

    def reject(self, why="prohibited"):
        """Drop it, and tell its sender: by RST, or if it is no TCP segment by ICMP destination unreachable.

        Args:
            why: ``"prohibited"``, ICMP 3/13 or ICMPv6 1/1 by an administrator's will; ``"port"``, 3/3 or 1/4.

        Raises:
            NotInLineError: the traffic is only watched.
        """
        self.in_hand().changes.reject(self.p, why)

    def set(self, **fields):
        """Change it before it is passed on; whoever is called later sees it changed. Checksums are kept right.

        Args:
            fields: ``src``, ``dst`` (text or `ipaddress` objects of its IP version), ``sport``, ``dport``, ``ttl``,
                ``tos``, ``eth_src``, ``eth_dst`` (text); of TCP also ``seq``, ``ack``, ``flags``, ``window``,
                ``urgent`` and ``mss``, where it has the option. Before its flow is known, at `Hook.RAW`, addresses and
                ports decide which flow that is; later they only say how this packet leaves. For all of a flow, see
                `session`.

        Raises:
            NotInLineError: the traffic is only watched.
            TypeError: no such field.
            ValueError: a value that cannot be, or a field that this packet does not have.
        """
        self._dpkt = None
        self.in_hand().changes.alter(self.p, fields)

    def replace(self, const uint8_t[::1] payload not None):
        """Have it carry another payload, longer or shorter.

        The rest of a TCP flow is put right: sequence numbers, acknowledgements, SACK blocks, windows and what is
        retransmitted. Flows on which an app may do so are prepared from their start, see ``edits`` of `App.on`. The
        app's own streams have the bytes as they were sent. TCP needs `Hook.SENDER` or later, where the flow is known.
        What is refused changes nothing, but with ``fail="closed"`` the packet does not pass if this raises.

        Args:
            payload: The new bytes; none at all is allowed.

        Returns:
            False if these bytes have been sent before, as something else, which they stay; or if they will come again.

        Raises:
            BufferError: a budget is used up.
            NotInLineError: the traffic is only watched.
            ValueError: it cannot carry another payload: it has none, is a SYN or RST, was not captured whole, is signed
                (TCP-MD5, TCP-AO, an authentication header), is of Multipath TCP, or in a tunnel.
        """
        self._dpkt = None
        return self.in_hand().changes.replace(self.p, &payload[0] if payload.shape[0] else NULL,
                                              <size_t> payload.shape[0])

    def session(self, *, idle, transitory=None, src=None, dst=None, sport=None, dport=None, eth_src=None, eth_dst=None,
                turn_back=False, on_end=None, SessionShare share=None):
        """Let it, what follows it and the replies pass natively, with other addresses if any are given (RFC 2663).

        From this packet on, those with its five-tuple leave with the addresses and ports given; what is addressed to
        those is turned back before its flow is looked up. TCP, UDP and ICMP echo, whose identifier is both ports;
        ICMP errors about them are translated, too. ``pkt.known`` tells that a packet belongs to a session.

        Args:
            idle: Seconds without a packet after which it ends.
            transitory: Of TCP, instead of *idle* until it is established, and once it is closing.
            src, dst: New addresses.
            sport, dport: New ports.
            eth_src, eth_dst: New Ethernet addresses; replies leave with those of this packet.
            turn_back: Whether packets leave by the interface they came in by.
            on_end: Called with the session once it has ended.
            share: What it is counted for, besides `budgets.sessions`. Where that is used up, the oldest session that is
                half open makes way, whoever has made it.

        Returns:
            The `Session`; that which the packet belongs to, if there is one already.

        Raises:
            NotInLineError: the traffic is only watched.
            SessionError: it cannot be; the message says why.
        """
        addresses = {name: value for name, value in (
            ("src", src), ("dst", dst), ("sport", sport), ("dport", dport), ("eth_src", eth_src), ("eth_dst", eth_dst),
        ) if value is not None}
        return self.in_hand().translation.make_session(self.p, addresses, idle, transitory, on_end, turn_back, share)

    # --- keeping --------------------------------------------------------------------------------------

    def copy(self):
        """Return a packet of its own bytes, never stale, that reads the same; a copy returns itself."""
        cdef Packet packet
        if self.own != NULL:
            return self
        packet = copy_packet(self.p, self.kind, self.raw if self.fresh().link == NULL else self.frame)
        packet.interfaces = self.interfaces
        return packet

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, _memo):
        return self.copy()

    def __reduce__(self):
        cdef const PacketRecord* p
        if not self.has_ip() or self.own == NULL or self.kind > WIRE_FRAGMENT:
            raise TypeError("a packet is pickled by its bytes: it must be a copy, pkt.copy(), and whole")
        p = self.own
        linktype = p.linktype if p.link != NULL else None
        start = p.network - <const uint8_t*> PyBytes_AS_STRING(self.own_bytes)
        return restore, (self.own_bytes, linktype, start, p.network_len, wire_length(p, self.kind), p.time_ns, p.vlan,
                         self.interface, self.known)

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
        cdef PacketRecord decoded
        cdef int kind = decode(data, captured, captured if wirelen is None else wirelen, linktype, nanoseconds_of(time),
                               &decoded)
        return make_packet(&decoded, kind).copy()

    def __repr__(self):
        return f"<Packet {describe(self)}>" if self.p != NULL else "<Packet, stale>"


cdef int decode(const uint8_t* data, uint32_t captured, uint32_t wire_len, uint16_t linktype, int64_t time_ns,
                PacketRecord* out) except -1:
    """Decode a frame that carries an IP packet; its kind."""
    cdef Frame frame = Frame(data=data, caplen=captured, wirelen=wire_len, time_ns=time_ns, linktype=linktype,
                             interface=0, offload=NULL)
    cdef DecodeOptions options
    cdef int kind
    memset(&options, 0, sizeof(DecodeOptions))
    kind = decode_frame(&frame, &options, out)
    if kind > WIRE_FRAGMENT:
        raise ValueError(f"no packet in these {captured} bytes of link type {linktype}: {KIND_NAMES[kind]}")
    return kind


# --- copies -------------------------------------------------------------------------------------------

cdef Packet copy_packet(const PacketRecord* p, int kind, bytes held):
    """A packet that owns the decoded struct and what it *held*, which the pointers are made to lead into.

    That is its frame, or where there is none, its IP packet; None without either.
    """
    cdef Packet packet = Packet.__new__(Packet)
    cdef const uint8_t* old = p.link if p.link != NULL else p.network
    cdef const uint8_t* new
    cdef PacketRecord* own = <PacketRecord*> malloc(sizeof(PacketRecord))
    if own == NULL:
        raise MemoryError("no memory to copy a packet")
    packet.p = packet.own = own
    packet.own_bytes = held
    packet.kind = kind
    own[0] = p[0]
    own.link = own.network = own.transport = own.payload = own.fragment = own.fragment_link = NULL
    if held is None:
        return packet
    new = <const uint8_t*> PyBytes_AS_STRING(held)
    if p.link != NULL:
        own.link = new
    if p.ip_version == 0:
        return packet
    own.network = new + (p.network - old)
    if kind < WIRE_FRAGMENT or packet_has_ports(p, kind):
        own.transport = new + (p.transport - old)
    if packet.has_payload():
        own.payload = new + (p.payload - old)
    elif kind == WIRE_FRAGMENT:
        own.fragment = new + (p.fragment - old)
        if p.ip_version == 6:
            own.fragment_link = new + (p.fragment_link - old)
    return packet


cdef size_t wire_length(const PacketRecord* p, int kind) noexcept:
    """Length of an IP packet on the wire: what it states, unless that is 0; or to the end of its payload."""
    cdef size_t stated = be16(p.network + 2) if p.ip_version == 4 else IPV6_HEADER + be16(p.network + 4)
    if kind == WIRE_FRAGMENT:
        return stated
    if kind == WIRE_TCP or kind == WIRE_UDP:
        return max(stated, <size_t> (p.transport - p.network) + p.header_len + p.payload_len)
    return max(stated, <size_t> (p.payload - p.network) + p.payload_len)


def restore(bytes held not None, linktype, size_t start, uint32_t length, uint32_t wire_len, int64_t time_ns,
            uint16_t vlan, interface, bint known):
    """Make a copy of what its pickle holds: the bytes, the link type if they are a frame, and where in them IP is."""
    cdef const uint8_t* data = <const uint8_t*> PyBytes_AS_STRING(held)
    cdef PacketRecord decoded
    cdef Packet packet
    cdef int kind = decode(data + start, length, wire_len, LINKTYPE_RAW, time_ns, &decoded)
    decoded.link = NULL
    if linktype is not None:
        decoded.link = data
        decoded.frame_len = <uint32_t> len(held)
        decoded.linktype = linktype
    decoded.vlan = vlan
    decoded.known = known
    packet = copy_packet(&decoded, kind, held)
    packet.interfaces = None if interface is None else (interface,)
    return packet


# --- readings -----------------------------------------------------------------------------------------

cdef object read_ethertype(const PacketRecord* p):
    """The EtherType behind the VLAN tags; None where that is cut off, or is a length (IEEE 802.3 section 3.2.6)."""
    cdef Span rest = Span(p=p.link + ETHERNET_ADDRESSES, n=p.frame_len - ETHERNET_ADDRESSES)
    cdef uint16_t ethertype
    while span_u16(&rest, 0, &ethertype):
        if not is_vlan(ethertype):
            return ethertype if ethertype >= ETHERTYPE_MIN else None
        if not span_skip(&rest, VLAN_TAG):
            break
    return None


cdef list option_list(const PacketRecord* p):
    """TCP options as (kind, value); the header was length-checked as a whole."""
    cdef Span rest = Span(p=p.transport, n=p.header_cap)
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
    cdef const PacketRecord* p = packet.p
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
    window = f", win {p.window}" if window_is_known(p) else ""
    return f"{text}: Flags [{flags}], seq {p.seq}{ack}{window}{length}"
