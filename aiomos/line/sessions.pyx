"""Sessions: which packets pass and are translated natively, by a five-tuple either way.

A table like that of flows (open addressing over eight-byte slots, SipHash under a secret key), but with an entry for
each direction, since the two look different on either side of a translator. The wheel is lazy, too: a packet moves
nothing, and a session whose slot comes due is asked how long it has been idle.

Behaviour towards peers follows RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP); RFC 6146 says the same of IPv6.
Which addresses and ports to choose is not decided here.
"""

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

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
from aiomos.wire.wire cimport ACK, FIN, RST, WIRE_ICMP, WIRE_TCP, WIRE_UDP

cdef enum:
    FIRST_SLOTS = 1024
    MOST_SESSIONS = 1 << 29    # an entry is an index and one bit, and at most half of the slots are taken
    SECOND = 1_000_000_000
    NOT_LINKED = 0xFFFF        # wheel_slot of a session in no slot
    PROTO_ICMP = 1
    PROTO_TCP = 6
    PROTO_UDP = 17
    PROTO_ICMPV6 = 58

assert sizeof(SessionSlot) == 8


cdef bint sessions_open(Sessions* sessions, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil:
    """Set up an empty table for at most *budget* sessions; false when memory cannot be had."""
    memset(sessions, 0, sizeof(Sessions))
    sessions.key0 = key0
    sessions.key1 = key1
    sessions.tick = INT64_MIN
    sessions.mask = FIRST_SLOTS - 1
    sessions.slots = <SessionSlot*> calloc(FIRST_SLOTS, sizeof(SessionSlot))
    return (sessions.slots != NULL and budget <= MOST_SESSIONS
            and pool_open(&sessions.pool, sizeof(Session), budget))


cdef void sessions_close(Sessions* sessions) noexcept nogil:
    free(sessions.slots)
    sessions.slots = NULL
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


cdef bint tuple_of(const Packet* packet, int kind, Tuple* out) noexcept nogil:
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

cdef inline uint32_t session_index(const Sessions* sessions, const Session* session) noexcept nogil:
    return <uint32_t> (<size_t> (<const uint8_t*> session - sessions.pool.base) // sizeof(Session))


cdef uint32_t find_entry(const Sessions* sessions, const Tuple* t, uint32_t hash) noexcept nogil:
    """The entry of packets that arrive as *t*, 0 when there is none. The load stays at or below one half."""
    cdef uint32_t at = hash & sessions.mask, entry = sessions.slots[at].entry
    while entry:
        if sessions.slots[at].hash == hash and same_tuple(&session_at(sessions, entry >> 1).arrives[entry & 1], t):
            return entry
        at = (at + 1) & sessions.mask
        entry = sessions.slots[at].entry
    return 0


cdef void place(SessionSlot* slots, uint32_t mask, uint32_t hash, uint32_t entry) noexcept nogil:
    cdef uint32_t at = hash & mask
    while slots[at].entry:
        at = (at + 1) & mask
    slots[at].hash = hash
    slots[at].entry = entry


cdef bint grow(Sessions* sessions) noexcept nogil:
    cdef size_t size = (<size_t> sessions.mask + 1) * 2
    cdef SessionSlot* slots = <SessionSlot*> calloc(size, sizeof(SessionSlot))
    cdef size_t at
    if slots == NULL:
        return False
    for at in range(<size_t> sessions.mask + 1):
        if sessions.slots[at].entry:
            place(slots, <uint32_t> (size - 1), sessions.slots[at].hash, sessions.slots[at].entry)
    free(sessions.slots)
    sessions.slots = slots
    sessions.mask = <uint32_t> (size - 1)
    return True


cdef void remove_entry(Sessions* sessions, uint32_t hash, uint32_t entry) noexcept nogil:
    cdef uint32_t mask = sessions.mask, hole = hash & mask, at, home
    while sessions.slots[hole].entry != entry:
        hole = (hole + 1) & mask
    # Close the hole: pull back every later slot of the run whose home is not beyond it (Knuth 6.4, algorithm R).
    at = (hole + 1) & mask
    while sessions.slots[at].entry:
        home = sessions.slots[at].hash & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            sessions.slots[hole] = sessions.slots[at]
            hole = at
        at = (at + 1) & mask
    sessions.slots[hole].entry = 0


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
    cdef Session* session
    cdef int result = sessions_check(sessions, arrives, leaves, 0)
    index[0] = 0
    if result != SESSION_MADE:
        return result
    if 2 * sessions.count + 2 > sessions.mask >> 1 and not grow(sessions):
        return SESSION_BUDGET
    index[0] = pool_take(&sessions.pool)
    if not index[0]:
        return SESSION_BUDGET
    session = session_at(sessions, index[0])
    memset(session, 0, sizeof(Session))
    session.arrives[FORTH] = arrives[0]
    session.arrives[BACK] = replies
    session.hashes[FORTH] = forth
    session.hashes[BACK] = back
    session.started_ns = session.last_ns = now_ns
    session.idle_ns = idle_ns
    session.transitory_ns = transitory_ns
    session.wheel_slot = NOT_LINKED
    place(sessions.slots, sessions.mask, forth, index[0] << 1 | FORTH)
    place(sessions.slots, sessions.mask, back, index[0] << 1 | BACK)
    sessions.count += 1
    session.share = share
    sessions.shares[share].count += 1
    link_half_open(sessions, session, index[0])
    if sessions.tick == INT64_MIN:
        sessions.tick = now_ns // SECOND
    wheel_link(sessions, session, sessions.tick)
    return SESSION_MADE


cdef bint sessions_find(const Sessions* sessions, const Packet* packet, int kind, SessionMatch* out) noexcept nogil:
    cdef Tuple t
    cdef uint32_t entry
    if sessions.count == 0:
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
    cdef Session* session = session_at(sessions, match.index)
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


cdef bint translate_error(const Session* session, const SessionMatch* match, const Tuple* leaves,
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


cdef void follow_tcp(Sessions* sessions, Session* session, uint8_t direction, uint16_t flags) noexcept nogil:
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


cdef bint sessions_transitory(const Session* session) noexcept nogil:
    """Is it a connection that opens or closes, or something else that was not answered?"""
    if session.arrives[FORTH].proto != PROTO_TCP:
        return session.packets[BACK] == 0
    if session.flags & SESSION_RST or (session.flags & SESSION_FIN_FORTH and session.flags & SESSION_FIN_BACK):
        return True
    return not (session.flags & SESSION_SEEN_FORTH and session.flags & SESSION_SEEN_BACK)


cdef int64_t deadline(const Session* session) noexcept nogil:
    if session.transitory_ns and session.arrives[FORTH].proto == PROTO_TCP and sessions_transitory(session):
        return session.last_ns + session.transitory_ns
    return session.last_ns + session.idle_ns


# --- the end --------------------------------------------------------------------------------------------

cdef void sessions_end(Sessions* sessions, uint32_t index) noexcept nogil:
    cdef Session* session = session_at(sessions, index)
    if session.flags & SESSION_ENDED:
        return
    wheel_unlink(sessions, session)
    remove_entry(sessions, session.hashes[FORTH], index << 1 | FORTH)
    remove_entry(sessions, session.hashes[BACK], index << 1 | BACK)
    sessions.count -= 1
    sessions.shares[session.share].count -= 1
    if session.flags & SESSION_HALF_OPEN:
        unlink_half_open(sessions, session)
    session.flags |= SESSION_ENDED
    session.wheel_next = 0
    if sessions.ended_tail:
        session_at(sessions, sessions.ended_tail).wheel_next = index
    else:
        sessions.ended_head = index
    sessions.ended_tail = index


cdef uint32_t sessions_take_ended(Sessions* sessions) noexcept nogil:
    cdef uint32_t index = sessions.ended_head
    if index:
        sessions.ended_head = session_at(sessions, index).wheel_next
        if not sessions.ended_head:
            sessions.ended_tail = 0
    return index


cdef void sessions_release(Sessions* sessions, uint32_t index) noexcept nogil:
    pool_give(&sessions.pool, index)


cdef void sessions_expire(Sessions* sessions, int64_t now_ns) noexcept nogil:
    cdef int64_t now = now_ns // SECOND
    cdef uint32_t index, slot
    if sessions.count == 0:
        sessions.tick = max(sessions.tick, now)
        return
    if now - sessions.tick > SESSION_WHEEL:    # every slot is due: once round is enough
        sessions.tick = now - SESSION_WHEEL
    while sessions.tick < now:
        sessions.tick += 1
        slot = <uint32_t> (sessions.tick & (SESSION_WHEEL - 1))
        index = sessions.wheel[slot]
        sessions.wheel[slot] = 0
        while index:
            index = expire(sessions, index, now_ns)


cdef uint32_t expire(Sessions* sessions, uint32_t index, int64_t now_ns) noexcept nogil:
    """End a session of a slot that has come due, or link it again; the next of the slot."""
    cdef Session* session = session_at(sessions, index)
    cdef uint32_t next = session.wheel_next
    session.wheel_slot = NOT_LINKED
    if deadline(session) <= now_ns:
        session.flags |= SESSION_TIMED_OUT
        sessions_end(sessions, index)
    else:
        wheel_link(sessions, session, now_ns // SECOND)
    return next


cdef void sessions_set_back(Sessions* sessions, int64_t now_ns) noexcept nogil:
    cdef uint32_t at, entry
    cdef Session* session
    sessions.tick = now_ns // SECOND
    if not sessions.count:
        return
    for at in range(sessions.mask + 1):
        entry = sessions.slots[at].entry
        if entry and not entry & 1:                # each has two entries
            session = session_at(sessions, entry >> 1)
            session.started_ns = session.last_ns = now_ns
            rearm(sessions, session)


# --- those half open ------------------------------------------------------------------------------------

cdef void link_half_open(Sessions* sessions, Session* session, uint32_t index) noexcept nogil:
    """Put a session that begins behind those of its share that have not been answered either."""
    cdef Share* share = &sessions.shares[session.share]
    session.flags |= SESSION_HALF_OPEN
    session.older = share.youngest
    if share.youngest:
        session_at(sessions, share.youngest).younger = index
    else:
        share.oldest = index
    share.youngest = index


cdef void unlink_half_open(Sessions* sessions, Session* session) noexcept nogil:
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

cdef void wheel_link(Sessions* sessions, Session* session, int64_t now) noexcept nogil:
    """Have a session looked at in the first second at or after its deadline, and after *now*."""
    cdef int64_t due = (deadline(session) + SECOND - 1) // SECOND
    cdef uint32_t slot, index = session_index(sessions, session)
    due = max(now + 1, min(due, sessions.tick + SESSION_WHEEL))
    slot = <uint32_t> (due & (SESSION_WHEEL - 1))
    session.wheel_slot = <uint16_t> slot
    session.wheel_prev = 0
    session.wheel_next = sessions.wheel[slot]
    if session.wheel_next:
        session_at(sessions, session.wheel_next).wheel_prev = index
    sessions.wheel[slot] = index


cdef void wheel_unlink(Sessions* sessions, Session* session) noexcept nogil:
    if session.wheel_slot == NOT_LINKED:
        return
    if session.wheel_prev:
        session_at(sessions, session.wheel_prev).wheel_next = session.wheel_next
    else:
        sessions.wheel[session.wheel_slot] = session.wheel_next
    if session.wheel_next:
        session_at(sessions, session.wheel_next).wheel_prev = session.wheel_prev
    session.wheel_slot = NOT_LINKED


cdef void rearm(Sessions* sessions, Session* session) noexcept nogil:
    wheel_unlink(sessions, session)
    wheel_link(sessions, session, sessions.tick)


cdef void sessions_rearm(Sessions* sessions, uint32_t index) noexcept nogil:
    cdef Session* session = session_at(sessions, index)
    if not session.flags & SESSION_ENDED:
        rearm(sessions, session)
