"""Flow and Half: what apps read of a flow's TCP context.

Every attribute is read from the flow record at the moment of asking, so inside a callback it is the value of that
moment of TCP processing. When the flow ends its last values are kept, so an app may go on reading them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stddef cimport size_t
from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from aiomos.sealing cimport seal
from aiomos.tcp.flows cimport (
    ACK_SEEN,
    CLIENT,
    CLIENT_IS_LOW,
    CLOSED,
    FIN_SEEN,
    GUESSED_ROLES,
    ISS_KNOWN,
    MIDSTREAM,
    OFFERS_SCALE,
    REASON_RST,
    RESET_BY_SERVER,
    SACK_PERMITTED,
    SEQ_KNOWN,
    SERVER,
    TIMESTAMPS,
    WINDOW_KNOWN,
)
from aiomos.tcp.flows cimport ESTABLISHED as FLOW_ESTABLISHED
from aiomos.tcp.holdings cimport track_ranges, track_read, track_view
from aiomos.tcp.monitor cimport state_of
from aiomos.tcp.tracks cimport BASED, HAS_RTT, offset_of, track_at, track_lost
from aiomos.wire.addresses cimport address_text
from aiomos.wire.clock cimport seconds
from aiomos.wire.seq cimport seq_lt
from aiomos.wire.wire cimport NO_VLAN

from enum import IntEnum

from aiomos.errors import FlowClosed
from aiomos.levels import Level
from aiomos.tcp.flows import FACT_NAMES, REASON_NAMES


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
cdef tuple LEVELS = (None, *Level)
cdef tuple FACTS = tuple([
    frozenset(name for bit, name in enumerate(FACT_NAMES) if facts >> bit & 1) for facts in range(256)])
cdef tuple REASONS = (None, *REASON_NAMES[1:])
cdef tuple STATE_NAMES = (None, *(state.name for state in State))
cdef tuple HALF_FIELDS = (
    "packets", "bytes", "stream_bytes", "retransmits", "out_of_order", "copies", "lost", "rtt", "mss",
    "window_scale")
cdef tuple CLIENT_NAMES = tuple(f"client_{name}" for name in HALF_FIELDS)
cdef tuple SERVER_NAMES = tuple(f"server_{name}" for name in HALF_FIELDS)
cdef enum:
    FEW_RANGES = 32


cdef object state_named(uint8_t state):
    """The `State` of a number; None for 0."""
    return STATES[state]


cdef object reason_named(uint8_t reason):
    """What apps call the reason for which a flow has ended; None for 0."""
    return REASONS[reason]


cdef Flow make_flow(const FlowRecord* record, const Streams* streams, uint32_t index, object account, object engine):
    cdef Flow flow = Flow.__new__(Flow)
    flow.r = record
    flow.streams = streams
    flow.index = index
    flow.account = account
    flow.engine = engine
    return flow


cdef Half make_half(Flow flow, int side):
    cdef Half half = Half.__new__(Half)
    half.flow = flow
    half.side = side
    return half


@cython.final
cdef class Flow:
    """A TCP connection as the monitor knows it: who, since when, and each half.

    Not made by apps: callbacks receive it, and connections have it as ``conn.flow``.
    """

    def __cinit__(self):
        self.r = &NOTHING

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
        self.engine = self.memory = None

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
    def handshake_rtt(self):
        """Round-trip time of the handshake from end to end, seconds; None if it was not captured as a whole."""
        cdef const Track* t = (<Half> self.client).track()
        return seconds(t.handshake_ns) if t.handshake_ns else None

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
        """How it ended: ``fin``, ``rst``, ``timeout``, ``evicted``, ``end_of_capture``, ``dropped`` by an app; None
        while open."""
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

    @property
    def ctx(self):
        """What the app keeps about the flow: a dict, empty at first, its own for each app."""
        if self._ctx is None:
            self._ctx = {}
        return self._ctx

    @ctx.setter
    def ctx(self, value):
        self._ctx = value

    def timer(self, delay, function=None):
        """Have something happen later, by the engine's clock: packet time offline.

        Args:
            delay: Seconds from now.
            function: Called with the flow then; without it, the app's callbacks of `TIMEOUT` are.

        Returns:
            The timer, which has ``cancel()``, ``due`` and ``active``. It runs out once, before the first packet that is
            later; not at all if the flow, or the capture, ends before. Set by a timer that runs out, it takes a
            millisecond at least, and one of less than that waits until the clock goes on.

        Raises:
            FlowClosed: the flow has ended.
            ValueError: *delay* is negative, or more than 1e9.
        """
        if not 0 <= delay <= 1e9:
            raise ValueError(f"a timer runs out after 0 to 1e9 seconds, not {delay}")
        return self._engine().set_timer(self, delay, function)

    def drop(self):
        """Let nothing of the flow pass any more, in line, and end it with reason ``dropped``.

        That lasts for as long as its ends go on sending, and `Timeouts.closing` seconds more.

        Raises:
            FlowClosed: the flow has ended.
            NotInLineError: the traffic is only watched.
        """
        self._engine().drop_flow(self)

    def reset(self):
        """End the connection: both ends are sent a RST that they must accept, and whatever they send, another.

        Raises:
            FlowClosed: the flow has ended.
            NotInLineError: frames come from a capture; there is no wire to send to.
        """
        self._engine().reset_flow(self)

    def bypass(self):
        """Have the flow forwarded without this app: it gets no further event of it; other apps do. As `stop` does."""
        self._engine().stop(self)

    def stop(self):
        """Watch the flow no more: the app gets no further event of it, and its connections to it are left."""
        self._engine().stop(self)

    def emit(self, event):
        """Raise a user-defined event on the flow; see `App.emit`."""
        self._engine().emit(event, self)

    def _engine(self):
        if self.engine is None:
            raise FlowClosed(flow=self)
        return self.engine

    def record(self):
        """What is known of the flow as a flat dict, as `aiomos.apps.flowlog` writes it.

        Returns:
            ``client``, ``client_port``, ``server``, ``server_port``, ``ip_version``, ``vlan``, ``start``, ``end``
            (epoch seconds), ``reason``, ``client_state``, ``server_state``, ``midstream``, ``guessed_roles``; then for
            ``client_`` and ``server_`` each: ``packets``, ``bytes``, ``stream_bytes``, ``retransmits``,
            ``out_of_order``, ``copies``, ``lost``, ``rtt``, ``mss``, ``window_scale``.
        """
        cdef const FlowRecord* r = self.r
        cdef tuple key = self.key
        cdef dict fields = {
            "client": key[0], "client_port": key[1], "server": key[2], "server_port": key[3],
            "ip_version": r.key.ip_version, "vlan": self.vlan,
            "start": seconds(r.started_ns), "end": seconds(r.last_ns), "reason": REASONS[r.reason],
            "client_state": STATE_NAMES[state_of(r.halves[0].facts)],
            "server_state": STATE_NAMES[state_of(r.halves[1].facts)],
            "midstream": (r.flags & MIDSTREAM) != 0, "guessed_roles": (r.flags & GUESSED_ROLES) != 0,
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


@cython.final
@cython.freelist(16)
cdef class Half:
    """One direction of a flow: the end that sends, and the bytes from it.

    Sequence numbers and options are known at every level. What concerns bytes and times needs `Level.BYTES`; below it
    counters and offsets are 0, and times None. What the other end knows of these bytes is here, too: ``snd_una`` is
    the receiver's RCV.NXT, as far as it has told. The bytes themselves need `Level.STREAM`.
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
        fields[names[5]] = t.copies
        fields[names[6]] = self.lost
        fields[names[7]] = seconds(t.srtt) if t.flags & HAS_RTT else None
        fields[names[8]] = r.mss or None
        fields[names[9]] = r.wscale if r.flags & OFFERS_SCALE else None

    @property
    def name(self):
        """``"client"`` or ``"server"``."""
        return "server" if self.side else "client"

    @property
    def peer(self):
        """The other half."""
        return make_half(self.flow, 1 - self.side)

    @property
    def level(self):
        """The `Level` it is followed at now; None by a flow that the engine has not made."""
        return LEVELS[self.record().level]

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
    def facts(self):
        """What is known of the end, and ``state`` follows from: a frozenset of names.

        ``syn_sent``, ``syn_acked``, ``syn_received``, ``fin_sent``, ``fin_acked``, ``fin_received``,
        ``passive_close`` (its peer's FIN came before its own), ``reset``.
        """
        return FACTS[self.record().facts]

    @property
    def fin_seen(self):
        """Whether its FIN was captured, even if bytes before it are still missing."""
        return (self.record().flags & FIN_SEEN) != 0

    # --- sequence numbers -----------------------------------------------------------------------------

    @property
    def iss(self):
        """Initial sequence number: that of its SYN; None if its SYN was not captured."""
        return self.record().iss if self.record().flags & ISS_KNOWN else None

    @property
    def snd_nxt(self):
        """SND.NXT: sequence number behind the last it has sent; None as long as nothing tells."""
        return self.record().nxt if self.record().flags & SEQ_KNOWN else None

    @property
    def snd_una(self):
        """SND.UNA: the oldest sequence number its peer has not acknowledged; None as long as nothing tells."""
        return self.record().una if self.record().flags & SEQ_KNOWN else None

    @property
    def in_flight(self):
        """Bytes sent and not acknowledged, SYN and FIN counting one each: SND.NXT - SND.UNA; None if not known."""
        cdef const HalfRecord* r = self.record()
        return <uint32_t> (r.nxt - r.una) if r.flags & SEQ_KNOWN else None

    @property
    def acked(self):
        """Stream offset up to which its peer has acknowledged the bytes."""
        cdef const HalfRecord* r = self.record()
        cdef const Track* t = self.track()
        cdef uint32_t una = r.una
        if not (r.flags & ACK_SEEN and t.flags & BASED):
            return 0
        if r.flags & FIN_SEEN and seq_lt(r.fin, una):
            una = r.fin
        return max(offset_of(t, una), 0)

    @property
    def stream_offset(self):
        """Stream offset up to which its bytes are handed over, or given up as gaps."""
        return self.track().edge

    @property
    def dup_acks(self):
        """Duplicate acknowledgements (RFC 5681 section 2) that its peer has sent since it last acknowledged more."""
        return self.track().dup_acks

    # --- counters -------------------------------------------------------------------------------------

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
    def copies(self):
        """Segments that were captured once more, by a mirror port or on another interface."""
        return self.track().copies

    @property
    def copied_bytes(self):
        """Payload bytes of these copies, which `bytes` counts as well."""
        return self.track().copied_bytes

    @property
    def lost(self):
        """Bytes that the peer acknowledged and that were never seen."""
        if self.flow.streams == NULL:
            return self.flow.kept.lost[self.side] if self.flow.kept != NULL else 0
        return track_lost(self.flow.streams, self.track(), self.record())

    @property
    def gaps(self):
        """How often bytes were given up."""
        return self.track().gaps

    @property
    def gap_bytes(self):
        """Bytes given up that did not come later, either."""
        return self.track().missed_bytes

    @property
    def late_bytes(self):
        """Bytes that came after they had been given up, and were not handed over."""
        return self.track().late_bytes

    @property
    def conflicts(self):
        """Segments whose bytes differ from those held, or delivered last, for the same sequence numbers."""
        return self.track().conflicts

    # --- times ----------------------------------------------------------------------------------------

    @property
    def rtt(self):
        """Smoothed time from a segment of this end to its acknowledgement, seconds (RFC 6298); None if not known.

        It is taken where the capture was, so it is the way from there to the peer and back.
        """
        cdef const Track* t = self.track()
        return seconds(t.srtt) if t.flags & HAS_RTT else None

    @property
    def rttvar(self):
        """Variation of ``rtt``, seconds (RFC 6298); None if not known."""
        cdef const Track* t = self.track()
        return seconds(t.rttvar) if t.flags & HAS_RTT else None

    @property
    def min_rtt(self):
        """The least of the times that ``rtt`` was made of, seconds; None if not known."""
        cdef const Track* t = self.track()
        return seconds(t.min_rtt) if t.flags & HAS_RTT else None

    @property
    def last_data(self):
        """When it last sent what it had not sent before (data, SYN, FIN), seconds since the epoch; None if never."""
        cdef const Track* t = self.track()
        return seconds(t.nxt_ns) if t.nxt_ns else None

    # --- options and windows --------------------------------------------------------------------------

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
    def max_window(self):
        """The largest of these windows, in bytes; None before it advertised one."""
        return self.record().max_wnd if self.record().flags & WINDOW_KNOWN else None

    @property
    def sack_permitted(self):
        """Whether its SYN permitted selective acknowledgements (RFC 2018)."""
        return (self.record().flags & SACK_PERMITTED) != 0

    @property
    def timestamps(self):
        """Whether it sends timestamps (RFC 7323)."""
        return (self.record().flags & TIMESTAMPS) != 0

    @property
    def ts_recent(self):
        """TS.Recent that its peer keeps of it (RFC 7323 section 4.3), its latest timestamp; None without any."""
        return self.record().ts_recent if self.record().flags & TIMESTAMPS else None

    # --- bytes ----------------------------------------------------------------------------------------

    def peek(self, int64_t offset, int64_t n):
        """Return bytes of the stream without taking them from anyone.

        At hand are bytes beyond a hole, those of the running batch, and the last that were handed over: see ``held``.

        Args:
            offset: Stream offset of the first byte, 0 for the first the half ever sent.
            n: How many bytes, at most.

        Returns:
            Those at hand from *offset* on without a break; ``b""`` if the first is not, or the flow has ended.

        Raises:
            ValueError: *offset* or *n* is negative.
        """
        cdef const Track* t = self.track()
        cdef const uint8_t* together
        cdef uint64_t available = 0
        cdef bytes data
        if offset < 0 or n < 0:
            raise ValueError(f"peek takes an offset from 0 on and a number of bytes, not {offset} and {n}")
        if t == &NO_TRACK or self.flow.streams == NULL:
            return b""
        together = track_view(self.flow.streams, t, offset, n, &available)
        if together != NULL:
            return together[:available]
        data = PyBytes_FromStringAndSize(NULL, available)
        track_read(self.flow.streams, t, offset, available, <uint8_t*> PyBytes_AS_STRING(data))
        return data

    @property
    def held(self):
        """``(start, end)`` stream offsets of what ``peek`` can read, in order, apart; ``()`` if the flow has ended."""
        return ranges_of(self, 0, UINT64_MAX)

    def held_within(self, int64_t offset, int64_t n):
        """As ``held``, but only what lies within *n* bytes from *offset* on; that takes no time for the rest.

        Raises:
            ValueError: *offset* or *n* is negative.
        """
        if offset < 0 or n < 0:
            raise ValueError(f"held_within takes an offset from 0 on and a number of bytes, not {offset} and {n}")
        return ranges_of(self, <uint64_t> offset, <uint64_t> offset + <uint64_t> n)

    def __eq__(self, other):
        return isinstance(other, Half) and (<Half> other).flow is self.flow and (<Half> other).side == self.side

    def __hash__(self):
        return hash((id(self.flow), self.side))

    def __repr__(self):
        return f"<Half {self.name} {self.address}:{self.port} {self.state.name}>"


cdef tuple ranges_of(Half half, uint64_t start, uint64_t end):
    """What is at hand of a half between two offsets."""
    cdef const Track* t = half.track()
    cdef uint64_t few[2 * FEW_RANGES]
    cdef uint64_t* ranges = few
    cdef size_t most = FEW_RANGES, count, i
    if t == &NO_TRACK or half.flow.streams == NULL:
        return ()
    count = track_ranges(half.flow.streams, t, start, end, ranges, ranges + most, most)
    try:
        while count == most:                       # there may be more
            most *= 4
            if ranges != few:
                free(ranges)
            ranges = <uint64_t*> malloc(2 * most * sizeof(uint64_t))
            if ranges == NULL:
                raise MemoryError(f"no memory to list more than {count} ranges of bytes")
            count = track_ranges(half.flow.streams, t, start, end, ranges, ranges + most, most)
        return tuple([(ranges[i], ranges[most + i]) for i in range(count)])
    finally:
        if ranges != few:
            free(ranges)


seal(Flow)
seal(Half)
