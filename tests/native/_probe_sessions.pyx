"""Shows the session table to pytest: frames in, what they leave as out."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from aiomos.line.sessions cimport (
    MOST_SHARES,
    SESSION_FORTH_ONLY,
    SESSION_TIMED_OUT,
    SessionMatch,
    SessionRecord,
    Sessions,
    Tuple,
    session_at,
    sessions_apply,
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
    sessions_take_ended,
)
from aiomos.wire.frame cimport Frame
from aiomos.wire.rewriting cimport Rewrite, rewrite_begin
from aiomos.wire.wire cimport Address, DecodeOptions, PacketRecord, decode_frame

from ipaddress import ip_address

RESULTS = ("made", "exists", "conflict", "budget", "bad")


cdef Address address_of(text):
    cdef Address address
    number = int(ip_address(text))
    if ip_address(text).version == 4:
        number |= 0xFFFF << 32
    address.hi = number >> 64
    address.lo = number & 0xFFFF_FFFF_FFFF_FFFF
    return address


cdef Tuple tuple_from(fields):
    cdef Tuple t
    src, sport, dst, dport, proto = fields
    t.src, t.dst = address_of(src), address_of(dst)
    t.sport, t.dport, t.proto = sport, dport, proto
    t.ip_version = ip_address(src).version
    return t


cdef class Table:
    """A session table. Tuples are ``(src, sport, dst, dport, proto)``."""

    cdef Sessions sessions

    def __cinit__(self, budget=1000):
        assert sessions_open(&self.sessions, budget, 1, 2)

    def __dealloc__(self):
        sessions_close(&self.sessions)

    @property
    def in_use(self):
        """Sessions in the table, and records in use."""
        return sessions_count(&self.sessions), self.sessions.pool.in_use

    def insert(self, arrives, leaves=None, double now=0, double idle=60, double transitory=0, bint forth_only=False,
               int share=0):
        """Make a session: ``(result, index)``."""
        cdef Tuple come = tuple_from(arrives), go = tuple_from(leaves or arrives)
        cdef uint32_t index
        result = sessions_insert(&self.sessions, &come, &go, <int64_t> (now * 1e9), <int64_t> (idle * 1e9),
                                 <int64_t> (transitory * 1e9), share, &index)
        if index and forth_only:
            session_at(&self.sessions, index).flags |= SESSION_FORTH_ONLY
        return RESULTS[result], index

    def packet(self, bytes frame not None, double now=0):
        """Look up a frame and rewrite it: None, or ``(index, direction, quoted, frame)``, frame None if impossible."""
        cdef bytearray data = bytearray(frame)
        cdef DecodeOptions options
        cdef PacketRecord packet
        cdef Frame native
        cdef Rewrite rewrite
        cdef SessionMatch match
        memset(&native, 0, sizeof(Frame))
        native.data = <const uint8_t*> <char*> data
        native.caplen = native.wirelen = <uint32_t> len(data)
        native.linktype = 1
        options.verify_checksums = options.decapsulate = False
        kind = decode_frame(&native, &options, &packet)
        if not sessions_find(&self.sessions, &packet, kind, &match):
            return None
        rewrite_begin(&rewrite, &packet, kind, &native, packet.network - native.data)
        done = sessions_apply(&self.sessions, &match, &rewrite, <int64_t> (now * 1e9))
        return match.index, match.direction, bool(match.quoted), bytes(data) if done else None

    @property
    def oldest(self):
        """That half open for longest, and by share how many sessions there are, and which of them has been so."""
        return sessions_oldest(&self.sessions), {
            share: (self.sessions.shares[share].count, self.sessions.shares[share].oldest)
            for share in range(MOST_SHARES) if self.sessions.shares[share].count}

    def end(self, uint32_t index):
        sessions_end(&self.sessions, index)

    def set_idle(self, uint32_t index, double idle):
        session_at(&self.sessions, index).idle_ns = <int64_t> (idle * 1e9)
        sessions_rearm(&self.sessions, index)

    def expire(self, double now):
        """End what is idle; the ended, each ``(index, packets, bytes, last, timed out)``, are given back."""
        cdef uint32_t index
        cdef const SessionRecord* session
        sessions_expire(&self.sessions, <int64_t> (now * 1e9))
        ended = []
        while index := sessions_take_ended(&self.sessions):
            session = session_at(&self.sessions, index)
            ended.append((
                index, (session.packets[0], session.packets[1]), (session.bytes[0], session.bytes[1]),
                session.last_ns / 1e9, bool(session.flags & SESSION_TIMED_OUT)))
            sessions_release(&self.sessions, index)
        return ended
