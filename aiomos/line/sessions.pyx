"""Sessions: which packets pass and are translated natively, by a five-tuple either way.

A table like that of flows (SipHash under a secret key), but with an entry for each direction, since the two look
different on either side of a translator. The wheel (wire/wheel.pxd) is as lazy:
a packet moves nothing, and a session whose second has come is asked how long it has been idle.

Behaviour towards peers follows RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP); RFC 6146 says the same of IPv6.
Which addresses and ports to choose is not decided here.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from aiomos.wire.numbers cimport PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP
from aiomos.wire.pool cimport pool_close, pool_give, pool_open, pool_take
from aiomos.wire.rewriting cimport (
    echo_id,
    is_echo_reply,
    quote_read,
    quote_rewrite,
    rewrite_dport,
    rewrite_dst,
    rewrite_echo_id,
    rewrite_sport,
    rewrite_src,
)
from aiomos.wire.siphash cimport siphash13
from aiomos.wire.table cimport (
    TableSlot,
    table_close,
    table_first,
    table_insert,
    table_next,
    table_open,
    table_remove,
    table_reserve,
)
from aiomos.wire.wheel cimport (
    WHEEL_UNLINKED,
    wheel_close,
    wheel_due,
    wheel_first,
    wheel_link,
    wheel_open,
    wheel_start,
    wheel_unlink,
)
from aiomos.wire.wire cimport ACK, FIN, RST, WIRE_ICMP, WIRE_TCP, WIRE_UDP

cdef enum:
    FIRST_SLOTS = 1024
    MOST_SESSIONS = 1 << 29    # an entry is an index and one bit, and at most half of the slots are taken
    SECOND = 1_000_000_000
    WHEEL_SLOTS = 1024         # seconds a deadline can lie ahead; farther ones are looked at again then


cdef bint sessions_open(Sessions* sessions, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil:
    """Set up an empty table for at most *budget* sessions; false when memory cannot be had."""
    memset(sessions, 0, sizeof(Sessions))
    sessions.key0 = key0
    sessions.key1 = key1
    return (table_open(&sessions.table, FIRST_SLOTS) and budget <= MOST_SESSIONS
            and pool_open(&sessions.pool, sizeof(SessionRecord), budget)
            and wheel_open(&sessions.wheel, SECOND, WHEEL_SLOTS, &session_at(sessions, 0).wheel, sizeof(SessionRecord)))


cdef void sessions_close(Sessions* sessions) noexcept nogil:
    table_close(&sessions.table)
    wheel_close(&sessions.wheel)
    pool_close(&sessions.pool)


# --- tuples ---------------------------------------------------------------------------------------------

cdef inline bint same_address(const Address* a, const Address* b) noexcept nogil:
    return a.lo == b.lo and a.hi == b.hi


cdef bint same_tuple(const Tuple* a, const Tuple* b) noexcept nogil:
    return (same_address(&a.src, &b.src) and same_address(&a.dst, &b.dst) and a.sport == b.sport
            and a.dport == b.dport and a.ip_version == b.ip_version and a.proto == b.proto)


cdef Tuple reverse(const Tuple* t) noexcept nogil:
    cdef Tuple out
    out.src, out.dst = t.dst, t.src
    out.sport, out.dport = t.dport, t.sport
    out.ip_version, out.proto = t.ip_version, t.proto
    return out


cdef uint32_t tuple_hash(const Sessions* sessions, const Tuple* t) noexcept nogil:
    cdef uint64_t words[5]
    words[0] = t.src.hi
    words[1] = t.src.lo
    words[2] = t.dst.hi
    words[3] = t.dst.lo
    words[4] = (<uint64_t> t.sport << 48) | (<uint64_t> t.dport << 32) | (<uint64_t> t.proto << 8) | t.ip_version
    return <uint32_t> siphash13(sessions.key0, sessions.key1, words, 5)


cdef bint tuple_of(const PacketRecord* packet, int kind, Tuple* out) noexcept nogil:
    if kind == WIRE_TCP or kind == WIRE_UDP:
        out.sport = packet.sport
        out.dport = packet.dport
    elif echo_id(packet, kind, &out.sport):
        out.dport = out.sport
    else:
        return False
    out.src = packet.src
    out.dst = packet.dst
    out.ip_version = packet.ip_version
    out.proto = packet.proto
    return True


cdef bint is_usable(const Tuple* arrives, const Tuple* leaves) noexcept nogil:
    if arrives.ip_version != leaves.ip_version or arrives.proto != leaves.proto:
        return False
    if arrives.proto == PROTO_TCP or arrives.proto == PROTO_UDP:
        return True
    return (arrives.proto == (PROTO_ICMP if arrives.ip_version == 4 else PROTO_ICMPV6)
            and arrives.sport == arrives.dport and leaves.sport == leaves.dport)


# --- table ----------------------------------------------------------------------------------------------

cdef inline uint32_t session_index(const Sessions* sessions, const SessionRecord* session) noexcept nogil:
    return <uint32_t> (<size_t> (<const uint8_t*> session - sessions.pool.base) // sizeof(SessionRecord))


cdef uint32_t find_entry(const Sessions* sessions, const Tuple* t, uint32_t hash) noexcept nogil:
    """The entry of packets that arrive as *t*, 0 when there is none."""
    cdef const TableSlot* slot = table_first(&sessions.table, hash)
    while slot.entry and not (slot.hash == hash and same_tuple(
            &session_at(sessions, slot.entry >> 1).arrives[slot.entry & 1], t)):
        slot = table_next(&sessions.table, slot)
    return slot.entry


cdef int sessions_check(const Sessions* sessions, const Tuple* arrives, const Tuple* leaves,
                        uint32_t besides) noexcept nogil:
    cdef Tuple replies = reverse(leaves)
    cdef uint32_t entry
    if not is_usable(arrives, leaves) or same_tuple(arrives, &replies):
        return SESSION_BAD
    entry = find_entry(sessions, arrives, tuple_hash(sessions, arrives))
    if entry and entry >> 1 != besides:
        return SESSION_EXISTS
    entry = find_entry(sessions, &replies, tuple_hash(sessions, &replies))
    if entry and entry >> 1 != besides:
        return SESSION_CONFLICT
    return SESSION_MADE if sessions.pool.in_use < sessions.pool.capacity else SESSION_BUDGET


cdef int sessions_insert(Sessions* sessions, const Tuple* arrives, const Tuple* leaves, int64_t now_ns, int64_t idle_ns,
                         int64_t transitory_ns, uint8_t share, uint32_t* index) noexcept nogil:
    cdef Tuple replies = reverse(leaves)
    cdef uint32_t forth = tuple_hash(sessions, arrives), back = tuple_hash(sessions, &replies)
    cdef SessionRecord* session
    cdef int result = sessions_check(sessions, arrives, leaves, 0)
    index[0] = 0
    if result != SESSION_MADE:
        return result
    if not table_reserve(&sessions.table, 2):
        return SESSION_BUDGET
    index[0] = pool_take(&sessions.pool)
    if not index[0]:
        return SESSION_BUDGET
    session = session_at(sessions, index[0])
    memset(session, 0, sizeof(SessionRecord))
    session.arrives[FORTH] = arrives[0]
    session.arrives[BACK] = replies
    session.hashes[FORTH] = forth
    session.hashes[BACK] = back
    session.started_ns = session.last_ns = now_ns
    session.idle_ns = idle_ns
    session.transitory_ns = transitory_ns
    session.wheel.slot = WHEEL_UNLINKED
    table_insert(&sessions.table, forth, index[0] << 1 | FORTH)
    table_insert(&sessions.table, back, index[0] << 1 | BACK)
    session.share = share
    sessions.shares[share].count += 1
    link_half_open(sessions, session, index[0])
    if not sessions.wheel.linked:
        wheel_start(&sessions.wheel, now_ns)
    rearm(sessions, session)
    return SESSION_MADE


cdef bint sessions_find(const Sessions* sessions, const PacketRecord* packet, int kind,
                        SessionMatch* out) noexcept nogil:
    cdef Tuple t
    cdef uint32_t entry
    if sessions.table.count == 0:
        return False
    out.quoted = False
    if not tuple_of(packet, kind, &t):
        out.quoted = quote_read(packet, kind, &out.quote)
        # An error goes to the source of what it quotes, and passes as a reply to that does.
        if not out.quoted or not same_address(&out.quote.src, &packet.dst):
            return False
        t.src, t.dst = out.quote.dst, out.quote.src
        t.sport, t.dport = out.quote.dport, out.quote.sport
        t.ip_version, t.proto = out.quote.ip_version, out.quote.proto
    entry = find_entry(sessions, &t, tuple_hash(sessions, &t))
    out.index = entry >> 1
    out.direction = entry & 1
    if kind == WIRE_ICMP and entry and not out.quoted:         # a request from the other end is no reply
        return is_echo_reply(packet) == (out.direction == BACK)
    return entry != 0


# --- packets --------------------------------------------------------------------------------------------

cdef bint sessions_apply(Sessions* sessions, const SessionMatch* match, Rewrite* r, int64_t now_ns) noexcept nogil:
    cdef SessionRecord* session = session_at(sessions, match.index)
    cdef Tuple leaves = reverse(&session.arrives[1 - match.direction])
    if match.quoted:
        return translate_error(session, match, &leaves, r)
    session.packets[match.direction] += 1
    session.bytes[match.direction] += packet_bytes(r)
    if match.direction == FORTH or not session.flags & SESSION_FORTH_ONLY:
        session.last_ns = max(session.last_ns, now_ns)
    if r.kind == WIRE_TCP:
        follow_tcp(sessions, session, match.direction, r.packet.flags)
    elif match.direction == BACK and session.flags & SESSION_HALF_OPEN:
        unlink_half_open(sessions, session)
    return translate(&session.arrives[match.direction], &leaves, r)


cdef inline size_t packet_bytes(const Rewrite* r) noexcept nogil:
    """Length of the IP packet; the payload counts as long as it was on the wire."""
    return <size_t> (r.packet.payload - r.network) + r.packet.payload_len


cdef bint translate(const Tuple* arrives, const Tuple* leaves, Rewrite* r) noexcept nogil:
    if not same_address(&arrives.src, &leaves.src) and not rewrite_src(r, &leaves.src):
        return False
    if not same_address(&arrives.dst, &leaves.dst) and not rewrite_dst(r, &leaves.dst):
        return False
    if arrives.proto != PROTO_TCP and arrives.proto != PROTO_UDP:
        return arrives.sport == leaves.sport or rewrite_echo_id(r, leaves.sport)
    return ((arrives.sport == leaves.sport or rewrite_sport(r, leaves.sport))
            and (arrives.dport == leaves.dport or rewrite_dport(r, leaves.dport)))


cdef bint translate_error(const SessionRecord* session, const SessionMatch* match, const Tuple* leaves,
                          Rewrite* r) noexcept nogil:
    """Turn an error, and what it quotes, back into what its receiver knows (RFC 5508 section 4).

    It quotes a packet of the other direction as that left here, and is to quote it as it came. Its own source is a
    router on the way, or the end itself: where that end's address is hidden, a router beside it is, too.
    """
    cdef const Tuple* arrives = &session.arrives[match.direction]
    cdef Quote quote = match.quote
    if not same_address(&arrives.src, &leaves.src) and not rewrite_src(r, &leaves.src):
        return False
    if not same_address(&arrives.dst, &leaves.dst) and not rewrite_dst(r, &leaves.dst):
        return False
    quote_rewrite(r, &quote, &leaves.dst, &leaves.src, leaves.dport, leaves.sport)
    return True


cdef void follow_tcp(Sessions* sessions, SessionRecord* session, uint8_t direction, uint16_t flags) noexcept nogil:
    """Note what decides whether a connection is transitory (RFC 5382 section 5)."""
    cdef uint16_t seen = 0
    if flags & RST:
        seen = SESSION_RST
    elif flags & ACK:
        seen = SESSION_SEEN_BACK if direction == BACK else SESSION_SEEN_FORTH
    if flags & FIN:
        seen |= SESSION_FIN_BACK if direction == BACK else SESSION_FIN_FORTH
    if seen & ~session.flags:
        session.flags |= seen
        if session.flags & SESSION_HALF_OPEN and not sessions_transitory(session):
            unlink_half_open(sessions, session)
        rearm(sessions, session)


cdef bint sessions_transitory(const SessionRecord* session) noexcept nogil:
    """Is it a connection that opens or closes, or something else that was not answered?"""
    if session.arrives[FORTH].proto != PROTO_TCP:
        return session.packets[BACK] == 0
    if session.flags & SESSION_RST or (session.flags & SESSION_FIN_FORTH and session.flags & SESSION_FIN_BACK):
        return True
    return not (session.flags & SESSION_SEEN_FORTH and session.flags & SESSION_SEEN_BACK)


cdef int64_t deadline(const SessionRecord* session) noexcept nogil:
    if session.transitory_ns and session.arrives[FORTH].proto == PROTO_TCP and sessions_transitory(session):
        return session.last_ns + session.transitory_ns
    return session.last_ns + session.idle_ns


# --- the end --------------------------------------------------------------------------------------------

cdef void sessions_end(Sessions* sessions, uint32_t index) noexcept nogil:
    cdef SessionRecord* session = session_at(sessions, index)
    if session.flags & SESSION_ENDED:
        return
    wheel_unlink(&sessions.wheel, index)
    table_remove(&sessions.table, session.hashes[FORTH], index << 1 | FORTH)
    table_remove(&sessions.table, session.hashes[BACK], index << 1 | BACK)
    sessions.shares[session.share].count -= 1
    if session.flags & SESSION_HALF_OPEN:
        unlink_half_open(sessions, session)
    session.flags |= SESSION_ENDED
    session.wheel.next = 0
    if sessions.ended_tail:
        session_at(sessions, sessions.ended_tail).wheel.next = index
    else:
        sessions.ended_head = index
    sessions.ended_tail = index


cdef uint32_t sessions_take_ended(Sessions* sessions) noexcept nogil:
    cdef uint32_t index = sessions.ended_head
    if index:
        sessions.ended_head = session_at(sessions, index).wheel.next
        if not sessions.ended_head:
            sessions.ended_tail = 0
    return index


cdef void sessions_release(Sessions* sessions, uint32_t index) noexcept nogil:
    pool_give(&sessions.pool, index)


cdef void sessions_expire(Sessions* sessions, int64_t now_ns) noexcept nogil:
    cdef uint32_t index = wheel_due(&sessions.wheel, now_ns)
    cdef SessionRecord* session
    while index:
        session = session_at(sessions, index)
        if deadline(session) <= now_ns:
            session.flags |= SESSION_TIMED_OUT
            sessions_end(sessions, index)
        else:
            rearm(sessions, session)
        index = wheel_due(&sessions.wheel, now_ns)


cdef void sessions_set_back(Sessions* sessions, int64_t now_ns) noexcept nogil:
    cdef uint32_t at, entry
    cdef SessionRecord* session
    if not sessions.table.count:
        return
    while wheel_first(&sessions.wheel):
        wheel_unlink(&sessions.wheel, wheel_first(&sessions.wheel))
    wheel_start(&sessions.wheel, now_ns)
    for at in range(sessions.table.mask + 1):
        entry = sessions.table.slots[at].entry
        if entry and not entry & 1:                # each has two entries
            session = session_at(sessions, entry >> 1)
            session.started_ns = session.last_ns = now_ns
            rearm(sessions, session)


# --- those half open ------------------------------------------------------------------------------------

cdef void link_half_open(Sessions* sessions, SessionRecord* session, uint32_t index) noexcept nogil:
    """Put a session that begins behind those of its share that have not been answered either."""
    cdef Share* share = &sessions.shares[session.share]
    session.flags |= SESSION_HALF_OPEN
    session.older = share.youngest
    if share.youngest:
        session_at(sessions, share.youngest).younger = index
    else:
        share.oldest = index
    share.youngest = index


cdef void unlink_half_open(Sessions* sessions, SessionRecord* session) noexcept nogil:
    cdef Share* share = &sessions.shares[session.share]
    session.flags &= ~<uint16_t> SESSION_HALF_OPEN
    if session.older:
        session_at(sessions, session.older).younger = session.younger
    else:
        share.oldest = session.younger
    if session.younger:
        session_at(sessions, session.younger).older = session.older
    else:
        share.youngest = session.older


cdef uint32_t sessions_oldest(const Sessions* sessions) noexcept nogil:
    cdef uint32_t oldest = 0, index
    cdef int share
    for share in range(MOST_SHARES):
        index = sessions.shares[share].oldest
        if index and (not oldest or session_at(sessions, index).started_ns < session_at(sessions, oldest).started_ns):
            oldest = index
    return oldest


# --- timer wheel ----------------------------------------------------------------------------------------

cdef void rearm(Sessions* sessions, const SessionRecord* session) noexcept nogil:
    wheel_link(&sessions.wheel, session_index(sessions, session), deadline(session))


cdef void sessions_rearm(Sessions* sessions, uint32_t index) noexcept nogil:
    cdef const SessionRecord* session = session_at(sessions, index)
    if not session.flags & SESSION_ENDED:
        rearm(sessions, session)
