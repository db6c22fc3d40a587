"""Flow and Half: what apps read of a flow's TCP context.

Every attribute is read from the flow record at the moment of asking, so inside a callback it is the value of that
moment of TCP processing. When the flow ends its last values are kept, so an app may go on reading them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from aiomos.tcp.clock cimport seconds
from aiomos.tcp.flows cimport (
    CLIENT,
    CLIENT_IS_LOW,
    CLOSED,
    GUESSED_ROLES,
    MIDSTREAM,
    OFFERS_SCALE,
    REASON_RST,
    RESET_BY_SERVER,
    SACK_PERMITTED,
    SERVER,
    TIMESTAMPS,
    WINDOW_KNOWN,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.monitor cimport state_of
from aiomos.tcp.reassembly cimport HAS_RTT, track_at, track_lost
from aiomos.tcp.wire cimport NO_VLAN, Address

from enum import IntEnum
from ipaddress import IPv6Address


class State(IntEnum):
    """TCP state of one end (RFC 9293 section 3.3.2), numbered as Linux does."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


cdef FlowRecord NOTHING       # what there is to read of a flow without a record, and of a half without a track
cdef Track NO_TRACK

cdef tuple STATES = (None, *State)
cdef tuple REASONS = (None, "fin", "rst", "timeout", "evicted", "end_of_capture")
cdef tuple STATE_NAMES = (None, *(state.name for state in State))
cdef tuple HALF_FIELDS = (
    "packets", "bytes", "stream_bytes", "retransmits", "out_of_order", "lost", "rtt", "mss", "window_scale")
cdef tuple CLIENT_NAMES = tuple(f"client_{name}" for name in HALF_FIELDS)
cdef tuple SERVER_NAMES = tuple(f"server_{name}" for name in HALF_FIELDS)
cdef dict IPV6_TEXT = {}
cdef enum:
    MOST_IPV6_TEXT = 65536     # addresses whose text is remembered


cdef object address_text(const Address* address, uint8_t version):
    cdef uint64_t lo = address.lo
    if version == 4:
        return f"{(lo >> 24) & 0xFF}.{(lo >> 16) & 0xFF}.{(lo >> 8) & 0xFF}.{lo & 0xFF}"
    number = (<object> address.hi << 64) | lo
    text = IPV6_TEXT.get(number)
    if text is None:
        if len(IPV6_TEXT) >= MOST_IPV6_TEXT:
            IPV6_TEXT.clear()
        text = IPV6_TEXT[number] = str(IPv6Address(number))
    return text


cdef Flow make_flow(const FlowRecord* record, const Streams* streams, uint32_t index):
    cdef Flow flow = Flow.__new__(Flow)
    flow.r = record
    flow.streams = streams
    flow.index = index
    return flow


cdef Half make_half(Flow flow, int side):
    cdef Half half = Half.__new__(Half)
    half.flow = flow
    half.side = side
    return half


cdef class Flow:
    """A TCP connection as the monitor knows it: who, since when, and each half.

    Not made by apps: callbacks receive it, and connections have it as ``conn.flow``.
    """

    def __cinit__(self):
        self.r = &NOTHING                          # made by hand, it reads as an empty flow

    def __dealloc__(self):
        free(self.kept)

    cdef void detach(self) noexcept:
        """Keep the last values: the engine is about to reuse the record. Without memory they read as nothing."""
        cdef int side
        cdef Kept* kept = <Kept*> calloc(1, sizeof(Kept))
        if kept != NULL:
            kept.record = self.r[0]
            for side in range(2):
                if kept.record.halves[side].track:
                    kept.tracks[side] = track_at(self.streams, kept.record.halves[side].track)[0]
                    kept.lost[side] = track_lost(self.streams, &kept.tracks[side], &kept.record.halves[side])
        self.kept = kept
        self.r = &kept.record if kept != NULL else &NOTHING
        self.streams = NULL

    @property
    def key(self):
        """``(client, client_port, server, server_port)``, addresses as text."""
        cdef const FlowRecord* r = self.r
        cdef tuple low, high
        if self._key is None:
            low = (address_text(&r.key.low, r.key.ip_version), r.key.low_port)
            high = (address_text(&r.key.high, r.key.ip_version), r.key.high_port)
            self._key = low + high if r.flags & CLIENT_IS_LOW else high + low
        return self._key

    @property
    def client(self):
        """The end that sent the first SYN, and the bytes from it."""
        return make_half(self, CLIENT)

    @property
    def server(self):
        """The other end, and the bytes from it."""
        return make_half(self, SERVER)

    @property
    def ip_version(self):
        """4 or 6."""
        return self.r.key.ip_version

    @property
    def vlan(self):
        """Outermost VLAN id of the first packet; None without a tag."""
        return None if self.r.key.vlan == NO_VLAN else self.r.key.vlan

    @property
    def started(self):
        """Time of the first packet, seconds since the epoch."""
        return seconds(self.r.started_ns)

    @property
    def last(self):
        """Time of the latest packet, seconds since the epoch."""
        return seconds(self.r.last_ns)

    @property
    def established(self):
        """Whether both ends are synchronised, as far as the capture tells."""
        return (self.r.flags & FLOW_ESTABLISHED) != 0

    @property
    def closed(self):
        """Whether both FINs are acknowledged, or a valid RST was seen."""
        return (self.r.flags & CLOSED) != 0

    @property
    def reason(self):
        """How it ended: ``fin``, ``rst``, ``timeout``, ``evicted``, ``end_of_capture``; None while open."""
        return REASONS[self.r.reason]

    @property
    def reset_by(self):
        """The half whose end sent the RST; None if the flow was not reset."""
        if self.r.reason != REASON_RST:
            return None
        return self.server if self.r.flags & RESET_BY_SERVER else self.client

    @property
    def midstream(self):
        """Whether it was picked up without its SYN."""
        return (self.r.flags & MIDSTREAM) != 0

    @property
    def guessed_roles(self):
        """Whether client and server were judged by their ports, no SYN telling."""
        return (self.r.flags & GUESSED_ROLES) != 0

    def record(self):
        """What is known of the flow as a flat dict, as `aiomos.apps.flowlog` writes it.

        Returns:
            ``client``, ``client_port``, ``server``, ``server_port``, ``ip_version``, ``vlan``, ``start``, ``end``
            (epoch seconds), ``reason``, ``client_state``, ``server_state``, ``midstream``; then for ``client_`` and
            ``server_`` each: ``packets``, ``bytes``, ``stream_bytes``, ``retransmits``, ``out_of_order``, ``lost``,
            ``rtt``, ``mss``, ``window_scale``.
        """
        cdef const FlowRecord* r = self.r
        cdef tuple key = self.key
        cdef dict fields = {
            "client": key[0], "client_port": key[1], "server": key[2], "server_port": key[3],
            "ip_version": r.key.ip_version, "vlan": self.vlan,
            "start": seconds(r.started_ns), "end": seconds(r.last_ns), "reason": REASONS[r.reason],
            "client_state": STATE_NAMES[state_of(r.halves[0].facts)],
            "server_state": STATE_NAMES[state_of(r.halves[1].facts)],
            "midstream": (r.flags & MIDSTREAM) != 0,
        }
        make_half(self, CLIENT).add_to(fields, CLIENT_NAMES)
        make_half(self, SERVER).add_to(fields, SERVER_NAMES)
        return fields

    def half(self, name):
        """Return the half called ``"client"`` or ``"server"``.

        Raises:
            ValueError: any other name.
        """
        if name == "client":
            return self.client
        if name == "server":
            return self.server
        raise ValueError(f"a half is 'client' or 'server', not {name!r}")

    def __str__(self):
        client, client_port, server, server_port = self.key
        form = "[{}]:{} -> [{}]:{}" if self.r.key.ip_version == 6 else "{}:{} -> {}:{}"
        return form.format(client, client_port, server, server_port)

    def __repr__(self):
        return f"<Flow {self}{' ' + self.reason if self.reason else ''}>"


cdef class Half:
    """One direction of a flow: the end that sends, and the bytes from it.

    Counters of bytes need `Level.BYTES`; below it they read 0, and the round-trip time None.
    """

    cdef const HalfRecord* record(self) noexcept:
        return &self.flow.r.halves[self.side]

    cdef const Track* track(self) noexcept:
        """Its byte context, or an empty one."""
        if self.flow.kept != NULL:
            return &self.flow.kept.tracks[self.side]
        if self.flow.streams == NULL or self.record().track == 0:
            return &NO_TRACK
        return track_at(self.flow.streams, self.record().track)

    cdef void add_to(self, dict fields, tuple names):
        cdef const HalfRecord* r = self.record()
        cdef const Track* t = self.track()
        fields[names[0]] = r.packets
        fields[names[1]] = t.bytes
        fields[names[2]] = t.stream_bytes
        fields[names[3]] = t.retransmits
        fields[names[4]] = t.out_of_order
        fields[names[5]] = self.lost
        fields[names[6]] = seconds(t.srtt) if t.flags & HAS_RTT else None
        fields[names[7]] = r.mss or None
        fields[names[8]] = r.wscale if r.flags & OFFERS_SCALE else None

    @property
    def name(self):
        """``"client"`` or ``"server"``."""
        return "server" if self.side else "client"

    @property
    def address(self):
        """IP address of the sending end."""
        return self.flow.key[2 * self.side]

    @property
    def port(self):
        """TCP port of the sending end."""
        return self.flow.key[2 * self.side + 1]

    @property
    def state(self):
        """TCP state of the sending end."""
        return STATES[state_of(self.record().facts)]

    @property
    def packets(self):
        """Segments seen from this end."""
        return self.record().packets

    @property
    def bytes(self):
        """Payload bytes carried, retransmissions included."""
        return self.track().bytes

    @property
    def stream_bytes(self):
        """Distinct payload bytes seen, by sequence number."""
        return self.track().stream_bytes

    @property
    def retransmits(self):
        """Segments sent again: data, SYN or FIN seen before, or filling an old hole. Keep-alives are not."""
        return self.track().retransmits

    @property
    def out_of_order(self):
        """Segments that filled a hole so soon that they were overtaken, not sent again."""
        return self.track().out_of_order

    @property
    def lost(self):
        """Bytes that the peer acknowledged and that were never seen."""
        if self.flow.streams == NULL:
            return self.flow.kept.lost[self.side] if self.flow.kept != NULL else 0
        return track_lost(self.flow.streams, self.track(), self.record())

    @property
    def conflicts(self):
        """Segments whose bytes differ from those held, or delivered last, for the same sequence numbers."""
        return self.track().conflicts

    @property
    def rtt(self):
        """Smoothed time from a segment of this end to its acknowledgement, seconds (RFC 6298); None if not known.

        It is taken where the capture was, so it is the way from there to the peer and back.
        """
        cdef const Track* t = self.track()
        return seconds(t.srtt) if t.flags & HAS_RTT else None

    @property
    def mss(self):
        """Maximum segment size its SYN announced; None without one."""
        return self.record().mss or None

    @property
    def window_scale(self):
        """Window scale shift its SYN announced; None without one."""
        return self.record().wscale if self.record().flags & OFFERS_SCALE else None

    @property
    def window(self):
        """Receive window this end last advertised, in bytes; None before it did."""
        return self.record().wnd if self.record().flags & WINDOW_KNOWN else None

    @property
    def sack_permitted(self):
        """Whether its SYN permitted selective acknowledgements (RFC 2018)."""
        return (self.record().flags & SACK_PERMITTED) != 0

    @property
    def timestamps(self):
        """Whether it sends timestamps (RFC 7323)."""
        return (self.record().flags & TIMESTAMPS) != 0

    def __eq__(self, other):
        return isinstance(other, Half) and (<Half> other).flow is self.flow and (<Half> other).side == self.side

    def __hash__(self):
        return hash((id(self.flow), self.side))

    def __repr__(self):
        return f"<Half {self.name} {self.address}:{self.port} {self.state.name}>"
