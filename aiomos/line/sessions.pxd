# Sessions (RFC 2663): five-tuples that are let pass, counted and translated natively, both ways.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.pool cimport Pool, pool_at
from aiomos.wire.rewriting cimport Quote, Rewrite
from aiomos.wire.table cimport Table
from aiomos.wire.wheel cimport Wheel, WheelLink
from aiomos.wire.wire cimport Address, PacketRecord

# From where to where; ICMP echo has its identifier as both ports.
ctypedef struct Tuple:
    Address src
    Address dst
    uint16_t sport
    uint16_t dport
    uint8_t ip_version
    uint8_t proto

cdef enum:                     # directions
    FORTH = 0
    BACK = 1

cdef enum SessionFlag:
    SESSION_ENDED = 1          # out of the table, waiting for sessions_release()
    SESSION_TIMED_OUT = 2      # and it was idle that ended it
    SESSION_FORTH_ONLY = 4     # only packets forth keep it alive (RFC 4787 section 4.3, REQ-6)
    SESSION_SEEN_FORTH = 8     # TCP: an ACK of either end has passed: established (RFC 5382 section 2.1)
    SESSION_SEEN_BACK = 16
    SESSION_FIN_FORTH = 32
    SESSION_FIN_BACK = 64
    SESSION_RST = 128
    SESSION_HALF_OPEN = 256    # in its share's list: TCP that was not established yet, or else not answered

# `arrives` is how packets of each direction come in. They leave as the reverse of what the other direction arrives as:
# forth as reverse(arrives[BACK]), back as reverse(arrives[FORTH]).
ctypedef struct SessionRecord:
    Tuple arrives[2]
    uint64_t packets[2]        # by direction
    uint64_t bytes[2]          # of IP packets
    int64_t started_ns
    int64_t last_ns            # of the last packet that keeps it alive
    int64_t idle_ns
    int64_t transitory_ns      # TCP: instead of idle_ns until established, and after RST or both FINs; 0: never
    uint32_t hashes[2]
    uint32_t hold              # index of the Python side's record; the caller's
    WheelLink wheel            # of the ended, `next` is the next one's
    uint16_t flags             # SessionFlag
    uint32_t younger           # list of those half open
    uint32_t older
    uint8_t share

cdef enum:
    MOST_SHARES = 16           # 0 is of all that have no other

# Sessions that are counted together, and make way for one another.
ctypedef struct Share:
    uint32_t count             # in the table
    uint32_t oldest            # of those half open, in the order in which they began
    uint32_t youngest

ctypedef struct Sessions:
    Pool pool                  # of SessionRecord
    Table table                # two entries a session: index << 1 | direction
    uint64_t key0
    uint64_t key1
    Wheel wheel
    uint32_t ended_head        # oldest first
    uint32_t ended_tail
    Share shares[MOST_SHARES]

cdef bint sessions_open(Sessions* sessions, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil
cdef void sessions_close(Sessions* sessions) noexcept nogil

cdef enum SessionResult:
    SESSION_MADE = 0
    SESSION_EXISTS = 1         # packets that arrive so belong to a session: no two
    SESSION_CONFLICT = 2       # replies would: choose another port
    SESSION_BUDGET = 3
    SESSION_BAD = 4            # not TCP, UDP or ICMP echo; IP versions differ; both directions would look the same

# Could a session be made, if another was not there any more?
cdef int sessions_check(const Sessions* sessions, const Tuple* arrives, const Tuple* leaves,
                        uint32_t besides) noexcept nogil
# Make the session of packets that arrive as *arrives* and leave as *leaves* (the same: they only pass and are counted).
# Index in *index*; its `hold` and SESSION_FORTH_ONLY are the caller's to set.
cdef int sessions_insert(Sessions* sessions, const Tuple* arrives, const Tuple* leaves, int64_t now_ns, int64_t idle_ns,
                         int64_t transitory_ns, uint8_t share, uint32_t* index) noexcept nogil
# The session that has been half open for longest; 0 when there is none.
cdef uint32_t sessions_oldest(const Sessions* sessions) noexcept nogil

# The five-tuple of a decoded TCP, UDP or ICMP echo packet; false for any other.
cdef bint tuple_of(const PacketRecord* packet, int kind, Tuple* out) noexcept nogil

ctypedef struct SessionMatch:
    uint32_t index
    uint8_t direction
    bint quoted                # an ICMP error about a packet of the other direction
    Quote quote

# Which session a packet belongs to, or which an ICMP error is about.
cdef bint sessions_find(const Sessions* sessions, const PacketRecord* packet, int kind,
                        SessionMatch* out) noexcept nogil
# Count a packet that was found and rewrite it to what it leaves as; false when it cannot be (not to be forwarded then).
# ICMP errors neither count nor keep the session alive (RFC 5508 section 3.2, REQ-2 b).
cdef bint sessions_apply(Sessions* sessions, const SessionMatch* match, Rewrite* r, int64_t now_ns) noexcept nogil

# End a session now; does nothing when it has ended. It joins the list of the ended either way.
cdef void sessions_end(Sessions* sessions, uint32_t index) noexcept nogil
# After idle_ns or transitory_ns was changed: have it looked at by the new deadline.
cdef void sessions_rearm(Sessions* sessions, uint32_t index) noexcept nogil
# End those that have been idle for too long; call once a batch, or when time passes. Cheap when nothing is due.
cdef void sessions_expire(Sessions* sessions, int64_t now_ns) noexcept nogil
# Begin all of them anew at another time: that of the only frame so far was wild.
cdef void sessions_set_back(Sessions* sessions, int64_t now_ns) noexcept nogil
cdef bint sessions_transitory(const SessionRecord* session) noexcept nogil
# Take the next ended session off its list, 0 when there is none; its record is valid until sessions_release().
cdef uint32_t sessions_take_ended(Sessions* sessions) noexcept nogil
cdef void sessions_release(Sessions* sessions, uint32_t index) noexcept nogil

cdef inline uint32_t sessions_count(const Sessions* sessions) noexcept nogil:
    return sessions.table.count >> 1

cdef inline SessionRecord* session_at(const Sessions* sessions, uint32_t index) noexcept nogil:
    return <SessionRecord*> pool_at(&sessions.pool, index)
