"""Sessions: five-tuples whose packets pass natively, translated where an app wants it so.

The monitor sees a flow as its client does: a session's packets are translated back before the flow is looked up, and
forth when they leave, like those that are built for its server.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from aiomos.line.fields cimport link_address, number_of
from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.sessions cimport (
    BACK,
    FORTH,
    MOST_SHARES,
    SESSION_BAD,
    SESSION_BUDGET,
    SESSION_CONFLICT,
    SESSION_ENDED,
    SESSION_MADE,
    SessionMatch,
    SessionRecord,
    Tuple,
    session_at,
    sessions_apply,
    sessions_check,
    sessions_close,
    sessions_count,
    sessions_end,
    sessions_expire,
    sessions_find,
    sessions_insert,
    sessions_oldest,
    sessions_open,
    sessions_rearm,
    sessions_release,
    sessions_set_back,
    sessions_take_ended,
    sessions_transitory,
    tuple_of,
)
from aiomos.sealing cimport seal
from aiomos.wire.addresses cimport address_read
from aiomos.wire.clock cimport nanoseconds, seconds
from aiomos.wire.frame cimport Frame
from aiomos.wire.pool cimport pool_at, pool_close, pool_open
from aiomos.wire.rewriting cimport Rewrite, rewrite_begin, rewrite_eth_dst, rewrite_eth_src
from aiomos.wire.wheel cimport wheel_next_ns
from aiomos.wire.wire cimport PacketRecord, WIRE_ICMP, decode_frame, decode_options_of

from aiomos.errors import SessionError


cdef class SessionShare:
    """A share of the room for sessions: those made with it are counted, and make way for one another.

    At its limit the oldest in it that is half open makes way for the next: of TCP one that was not established yet, of
    anything else one that was never answered.

    Args:
        limit: Sessions that there may be in it at once.

    Raises:
        ValueError: *limit* is below 1.
    """

    def __cinit__(self, Py_ssize_t limit):
        if limit < 1:
            raise ValueError(f"limit: a share has room for a session at least, not for {limit}")
        self.limit = limit

    def __del__(self):
        if self.translation is not None:           # each session that is open knows its share: there is none
            self.translation.shares_used &= ~<uint16_t> (1 << self.number)

    def __len__(self):
        return 0 if self.translation is None else self.translation.sessions.shares[self.number].count

    @property
    def full(self):
        """Whether it has no room for a session, as none in it would make way."""
        return len(self) >= self.limit and not self.translation.sessions.shares[self.number].oldest

    cdef int enter(self, Translation translation, uint32_t besides) except -1:
        """Have room for a session of this run, other than one that is there.

        Raises:
            SessionError: there is none.
        """
        cdef int number
        if self.translation is None:
            for number in range(1, MOST_SHARES):
                if not translation.shares_used >> number & 1:
                    break
            else:
                raise SessionError(f"a run has room for {MOST_SHARES - 1} shares of sessions")
            translation.shares_used |= <uint16_t> (1 << number)
            self.translation, self.number = translation, <uint8_t> number
        elif self.translation is not translation:
            raise SessionError("the share is of another run")
        if len(self) >= self.limit and not translation.make_way(
                translation.sessions.shares[self.number].oldest, besides):
            raise SessionError(f"all {self.limit} sessions of the share are open")
        return 0

    def __repr__(self):
        return f"<SessionShare {len(self)} of {self.limit}>"


cdef class Session:
    """A five-tuple and its replies that pass natively, with other addresses where it was made so; see `Packet.session`.

    Attributes, once it has ended, keep their last values.
    """

    cdef SessionRecord* record(self) except NULL:
        if self.translation is None:
            raise SessionError("the session has ended")
        return session_at(&self.translation.sessions, self.index)

    cdef tuple values(self):
        cdef const SessionRecord* r
        if self.translation is None:
            return self.kept
        r = self.record()
        return (r.packets[0], r.packets[1]), (r.bytes[0], r.bytes[1]), seconds(r.last_ns)

    @property
    def packets(self):
        """Packets ``(forth, back)``."""
        return self.values()[0]

    @property
    def bytes(self):
        """Bytes of IP packets ``(forth, back)``."""
        return self.values()[1]

    @property
    def last(self):
        """When the last packet came that kept it alive, seconds since the epoch."""
        return self.values()[2]

    @property
    def open(self):
        """Whether its packets still pass."""
        return self.translation is not None and not self.record().flags & SESSION_ENDED

    @property
    def transitory(self):
        """Whether it is a TCP connection that opens or closes (RFC 5382), or anything else not answered yet."""
        return self.translation is not None and sessions_transitory(self.record())

    @property
    def idle(self):
        """After how many seconds without a packet it ends; may be set."""
        return seconds(self.record().idle_ns)

    @idle.setter
    def idle(self, value):
        self.record().idle_ns = span_of("idle", value)
        sessions_rearm(&self.translation.sessions, self.index)
        self.translation.tell_changed()

    def close(self):
        """End it; its next packet is one that nothing is known of. Done twice, it does nothing."""
        if self.translation is not None:
            sessions_end(&self.translation.sessions, self.index)
            self.translation.forget_match(self.index)
            self.translation.tell_changed()

    def __repr__(self):
        return f"<Session {'open' if self.open else 'ended'} packets={self.packets}>"


@cython.final
cdef class Translation:
    """Sessions, and the packet in hand as one of theirs."""

    def __dealloc__(self):
        pool_close(&self.links)
        sessions_close(&self.sessions)

    @property
    def session_count(self):
        """How many sessions are open."""
        return sessions_count(&self.sessions)

    cdef bint open_sessions(self) noexcept:
        """Get room for sessions; false if there is none."""
        return (pool_open(&self.links, sizeof(SessionLink), self.session_room)
                and sessions_open(&self.sessions, self.session_room, self.keys[0], self.keys[1]))

    cdef int tell_changed(self) except -1:
        """A session is due at another time, or has ended: at the end of the batch that is told, if there is one."""
        return self.outlet.tell_news() if self.hand.packet == NULL else 0

    cdef bint enter_session(self) noexcept nogil:
        """Find the session of the packet in hand, and translate it if it is a reply; true if its addresses changed."""
        if not self.sessions.table.count or not sessions_find(&self.sessions, self.hand.packet, self.hand.kind,
                                                              &self.hand.match):
            return False
        self.hand.matched = self.hand.packet.known = True
        if self.hand.match.direction == FORTH:
            return False
        self.pass_session()
        return True

    cdef void match_anew(self) noexcept nogil:
        """The packet in hand was built anew: an ICMP error of a session may quote otherwise now, or nothing of it."""
        if self.hand.matched and self.hand.match.quoted and self.hand.match.direction == FORTH and not (
                sessions_find(&self.sessions, self.hand.packet, self.hand.kind, &self.hand.match)
                and self.hand.match.quoted and self.hand.match.direction == FORTH):
            self.hand.match.index, self.hand.match.direction = 0, FORTH  # of no session, it does not leave

    cdef void pass_session(self) noexcept nogil:
        """Count the packet in hand for its session, and have it leave as it should."""
        cdef const SessionLink* link = <const SessionLink*> pool_at(&self.links, self.hand.match.index)
        cdef int direction = self.hand.match.direction
        if (self.hand.kind > WIRE_ICMP or not self.hand.match.index
                or not sessions_apply(&self.sessions, &self.hand.match, self.hand.begin(), self.hand.packet.time_ns)):
            self.hand.dropped = True
            self.refused += 1
            return
        if link.set_source[direction]:
            rewrite_eth_src(&self.hand.rewrite, link.source[direction])
        if link.set_target[direction]:
            rewrite_eth_dst(&self.hand.rewrite, link.target[direction])
        if link.turn_back:
            self.hand.turned_back = True

    cdef void forget_match(self, uint32_t index) noexcept:
        """A session was closed while a packet of it is in hand."""
        if self.hand.packet != NULL and self.hand.matched and self.hand.match.index == index:
            self.hand.matched = False

    cdef bint answer(self, const uint8_t* data, size_t length) noexcept nogil:
        """Send a frame that was built back to where the one in hand came from; false if there is none."""
        self.translate_forth(data, length, self.hand.packet.linktype)
        return self.outlet.originate(data, length, self.hand.packet.interface, self.hand.packet.linktype)

    cdef void translate_forth(self, const uint8_t* data, size_t length, uint16_t linktype) noexcept nogil:
        """Have a frame that was built leave as those of its session do, if it belongs to one."""
        cdef Frame frame
        cdef PacketRecord packet
        cdef Rewrite rewrite
        cdef SessionMatch match
        cdef const SessionLink* link
        cdef int kind
        if not self.sessions.table.count or not length:
            return
        memset(&frame, 0, sizeof(frame))
        frame.data, frame.linktype = data, linktype
        frame.caplen = frame.wirelen = <uint32_t> length
        kind = decode_frame(&frame, &self.decode_options, &packet)
        if not sessions_find(&self.sessions, &packet, kind, &match) or match.direction != FORTH:
            return
        rewrite_begin(&rewrite, &packet, kind, &frame, <size_t> (packet.network - data))
        sessions_apply(&self.sessions, &match, &rewrite, self.now_ns)  # of what it found, it can do all
        link = <const SessionLink*> pool_at(&self.links, match.index)
        if link.set_source[<int> FORTH]:
            rewrite_eth_src(&rewrite, link.source[<int> FORTH])
        if link.set_target[<int> FORTH]:
            rewrite_eth_dst(&rewrite, link.target[<int> FORTH])

    cdef Session make_session(self, const PacketRecord* packet, dict addresses, idle, transitory, on_end,
                              bint turn_back,
                              SessionShare share):
        """Have the packet in hand begin a session, or join that which it belongs to."""
        cdef Session session
        cdef int64_t idle_ns = span_of("idle", idle), transitory_ns = 0
        if transitory is not None:
            transitory_ns = span_of("transitory", transitory)
        self.hand.in_hand(packet)
        if self.hand.matched and (self.hand.match.direction == BACK or not self.hand.match.index):
            raise SessionError("the packet is a reply, or an error, of a session")
        if self.hand.matched:
            session = self.handles[session_at(&self.sessions, self.hand.match.index).hold]
            if not addresses and not turn_back:
                session.idle = min(idle, session.idle)
            else:
                self.lay_over(session, addresses, idle_ns, transitory_ns, turn_back, share)
        else:
            session = Session.__new__(Session)
            session.listeners = []
            if share is not None:
                share.enter(self, 0)
                session.share = share
            self.lay_under(session, addresses, idle_ns, transitory_ns, turn_back)
        if on_end is not None:
            session.listeners.append(on_end)
        return session

    cdef int lay_over(self, Session session, dict addresses, int64_t idle_ns, int64_t transitory_ns, bint turn_back,
                      SessionShare share) except -1:
        """Have a session that only lets pass translate, too; what cannot be leaves it as it is."""
        cdef uint32_t old = session.index
        cdef SessionRecord before = session_at(&self.sessions, old)[0]
        cdef const SessionLink* link = <const SessionLink*> pool_at(&self.links, old)
        cdef SessionLink wanted
        cdef Tuple arrives, leaves
        cdef int result
        self.read_tuples(addresses, &arrives, &leaves)
        self.read_link(addresses, turn_back, &wanted)
        if (translates(&before.arrives[<int> FORTH], &before.arrives[<int> BACK]) or link.turn_back
                or link.set_source[<int> FORTH] or link.set_target[<int> FORTH]):
            raise SessionError("the packet's session is translated already")
        result = sessions_check(&self.sessions, &arrives, &leaves, old)
        if result == SESSION_BUDGET and self.make_way(sessions_oldest(&self.sessions), old):
            result = SESSION_MADE
        if result != SESSION_MADE:
            raise SessionError(session_refusal(result))
        if share is not None and share is not session.share:
            share.enter(self, old)
            session.share = share
        session.close()
        session_at(&self.sessions, old).hold = 0
        self.handles[before.hold] = None
        self.free_handles.append(before.hold)
        self.lay_under(session, addresses, min(idle_ns, before.idle_ns), transitory_ns, turn_back)

    cdef int lay_under(self, Session session, dict addresses, int64_t idle_ns, int64_t transitory_ns,
                       bint turn_back) except -1:
        """Enter a session in the table."""
        cdef Tuple arrives, leaves
        cdef SessionLink link
        cdef uint32_t index = 0
        cdef uint8_t share = 0 if session.share is None else session.share.number
        cdef int result = SESSION_BUDGET
        self.read_tuples(addresses, &arrives, &leaves)
        self.read_link(addresses, turn_back, &link)
        for _ in range(2):
            result = sessions_insert(&self.sessions, &arrives, &leaves, self.hand.packet.time_ns, idle_ns,
                                     transitory_ns, share, &index)
            if result != SESSION_BUDGET or not self.make_way(sessions_oldest(&self.sessions), 0):
                break
        if result != SESSION_MADE:
            raise SessionError(session_refusal(result))
        memcpy(pool_at(&self.links, index), &link, sizeof(SessionLink))
        session.translation, session.index = self, index
        if self.free_handles:
            session_at(&self.sessions, index).hold = self.free_handles.pop()
            self.handles[session_at(&self.sessions, index).hold] = session
        else:
            session_at(&self.sessions, index).hold = <uint32_t> len(self.handles)
            self.handles.append(session)
        self.hand.matched = True
        memset(&self.hand.match, 0, sizeof(self.hand.match))
        self.hand.match.index, self.hand.match.direction = index, FORTH
        return 0

    cdef bint make_way(self, uint32_t index, uint32_t besides) except -1:
        """End a session that is half open for another, at once; false if there is none, or but *besides*."""
        if not index or index == besides:
            return False
        sessions_end(&self.sessions, index)
        self.evicted += 1
        self.gone = self.take_ended()
        return True

    cdef int read_tuples(self, dict addresses, Tuple* arrives, Tuple* leaves) except -1:
        """What the packet in hand arrives as, and is to leave as."""
        if not tuple_of(self.hand.packet, self.hand.kind, arrives):
            raise SessionError("a session is of TCP, UDP or ICMP echo; this packet is none, or a fragment")
        leaves[0] = arrives[0]
        for name in ("src", "dst"):
            if addresses.get(name) is not None and address_read(
                    addresses[name], &leaves.src if name == "src" else &leaves.dst) != arrives.ip_version:
                raise ValueError(f"pkt.session({name}={addresses[name]!r}): the packet is of IPv{arrives.ip_version}")
        if addresses.get("sport") is not None:
            leaves.sport = <uint16_t> number_of("sport", addresses["sport"])
        if addresses.get("dport") is not None:
            leaves.dport = <uint16_t> number_of("dport", addresses["dport"])
        return 0

    cdef int read_link(self, dict addresses, bint turn_back, SessionLink* link) except -1:
        """Link-layer addresses of a session; replies get those of its first packet back."""
        cdef const uint8_t* ethernet = self.hand.packet.link
        memset(link, 0, sizeof(SessionLink))
        link.turn_back = turn_back
        for name in ("eth_src", "eth_dst"):
            if addresses.get(name) is None:
                continue
            if ethernet == NULL or self.hand.packet.linktype != 1 or self.hand.link_len < 14:
                raise SessionError(f"pkt.session({name}=...): the packet has no Ethernet header")
            wanted = link_address(addresses[name])
            if name == "eth_src":
                memcpy(link.source[<int> FORTH], <const uint8_t*> <bytes> wanted, 6)
                memcpy(link.target[<int> BACK], ethernet + 6, 6)
                link.set_source[<int> FORTH] = link.set_target[<int> BACK] = True
            else:
                memcpy(link.target[<int> FORTH], <const uint8_t*> <bytes> wanted, 6)
                memcpy(link.source[<int> BACK], ethernet, 6)
                link.set_target[<int> FORTH] = link.set_source[<int> BACK] = True
        return 0

    cdef int64_t due_ns(self) noexcept:
        """When a session is to be looked at, or now if the end of one is to be told; INT64_MAX: never."""
        return self.now_ns if self.sessions.ended_head or self.gone else wheel_next_ns(&self.sessions.wheel)

    cdef void pass_time(self, int64_t now_ns) noexcept nogil:
        """End the sessions that have been idle for too long."""
        self.now_ns = now_ns
        if self.sessions.table.count:
            sessions_expire(&self.sessions, now_ns)

    cdef void set_back(self, int64_t now_ns) noexcept nogil:
        """Set the clock to another time: that of the only frame so far was wild."""
        self.now_ns = now_ns
        sessions_set_back(&self.sessions, now_ns)

    cdef list take_ended(self):
        """The sessions that have ended since, each with its last values."""
        cdef list ended = self.gone
        cdef uint32_t index = sessions_take_ended(&self.sessions)
        cdef uint32_t hold
        cdef Session session
        self.gone = []
        while index:
            hold = session_at(&self.sessions, index).hold
            if hold:
                session = self.handles[hold]
                session.kept = session.values()
                session.translation = None
                self.handles[hold] = None
                self.free_handles.append(hold)
                ended.append(session)
            sessions_release(&self.sessions, index)
            index = sessions_take_ended(&self.sessions)
        return ended


cdef bint translates(const Tuple* forth, const Tuple* back) noexcept:
    """Does a session translate, by what packets of its two directions arrive as?"""
    return (forth.src.hi != back.dst.hi or forth.src.lo != back.dst.lo or forth.dst.hi != back.src.hi
            or forth.dst.lo != back.src.lo or forth.sport != back.dport or forth.dport != back.sport)


cdef str session_refusal(int result):
    if result == SESSION_CONFLICT:
        return "the replies of such a session would be those of another: choose another port"
    if result == SESSION_BUDGET:
        return "too many sessions; see budgets.sessions"
    if result == SESSION_BAD:
        return "the packet's two directions would look the same"
    return "the packet belongs to a session already"


cdef int64_t span_of(str name, object value) except -1:
    if not 0 < value <= 1e9:
        raise ValueError(f"{name}: a session ends after some seconds, up to 1e9, not {value}")
    return nanoseconds(value)


cdef Translation new_translation(Outlet outlet, Hand hand, settings, bytes key):
    cdef Translation translation = Translation.__new__(Translation)
    translation.outlet, translation.hand = outlet, hand
    memcpy(translation.keys, <const char*> key, 16)
    translation.handles, translation.free_handles, translation.gone = [None], [], []
    decode_options_of(settings, <const uint8_t*> <const char*> key, &translation.decode_options)
    translation.session_room = settings.budgets.sessions
    return translation


seal(Session)
seal(Translation)
