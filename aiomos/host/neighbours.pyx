"""Neighbours: one table for ARP and neighbour discovery, with the states of RFC 4861 section 7.3 for both.

A neighbour that is not known is asked for, once a second and three times; the last three frames to it wait meanwhile.
One that was heard of is believed for about 30 seconds, and then as long as nobody uses it; used again, it is asked
whether it is still there, unless an upper layer hears of it within 5 seconds. What nobody has asked for changes an
entry at most, and never makes one.

Records lie in a pool, each in a chain of its bucket, in the list of its state (the oldest first), and, but for those
that are stale, in a heap by when they are due. At the bound the oldest that failed makes way, else the oldest that is
stale; of those that are asked for there is at most half, so that a scan does not push out whom others use.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from aiomos.wire.frame cimport Frame
from aiomos.wire.numbers cimport ETHERNET_HEADER
from aiomos.wire.pool cimport pool_close, pool_give, pool_open, pool_take
from aiomos.wire.siphash cimport siphash13
from aiomos.wire.slabs cimport block_at, block_give, block_take, slabs_close, slabs_open

cdef enum:
    MAC_BYTES = 6

cdef int64_t SECOND = 1_000_000_000
cdef int64_t RETRANSMIT = SECOND       # RFC 4861 section 10: RETRANS_TIMER; RFC 1122 section 2.3.2.1 of ARP
cdef int64_t REACHABLE = 30 * SECOND   # REACHABLE_TIME, times 0.5 to 1.5
cdef int64_t DELAY = 5 * SECOND        # DELAY_FIRST_PROBE_TIME
cdef int64_t FAILED = SECOND


# --- the table ---------------------------------------------------------------------------------------

cdef bint neighbours_open(Neighbours* n, uint32_t capacity, size_t frame_bytes, const uint8_t* key,
                          const NeighbourCalls* calls) noexcept nogil:
    cdef size_t buckets = 16
    memset(n, 0, sizeof(Neighbours))
    while buckets < capacity:
        buckets *= 2
    memcpy(n.keys, key, 16)
    n.mask = <uint32_t> (buckets - 1)
    n.most_unresolved = max(capacity // 2, <uint32_t> 1)
    n.random = n.keys[0] ^ n.keys[1] | 1
    n.calls = calls[0]
    n.buckets = <uint32_t*> calloc(buckets, sizeof(uint32_t))
    n.heap = <uint32_t*> calloc(<size_t> capacity + 1, sizeof(uint32_t))
    return (n.buckets != NULL and n.heap != NULL and pool_open(&n.pool, sizeof(Neighbour), capacity)
            and slabs_open(&n.slabs, frame_bytes))


cdef void neighbours_close(Neighbours* n) noexcept nogil:
    pool_close(&n.pool)
    slabs_close(&n.slabs)
    free(n.buckets)
    free(n.heap)
    memset(n, 0, sizeof(Neighbours))


cdef uint32_t* bucket_of(const Neighbours* n, const NeighbourKey* key) noexcept nogil:
    cdef uint64_t words[3]
    words[0], words[1], words[2] = key.address.hi, key.address.lo, key.interface
    return &n.buckets[siphash13(n.keys[0], n.keys[1], words, 3) & n.mask]


cdef inline bint same(const NeighbourKey* a, const NeighbourKey* b) noexcept nogil:
    return a.address.lo == b.address.lo and a.address.hi == b.address.hi and a.interface == b.interface


cdef Neighbour* neighbours_lookup(const Neighbours* n, const NeighbourKey* key) noexcept nogil:
    cdef uint32_t index = bucket_of(n, key)[0]
    cdef Neighbour* found
    while index:                               # half as many as buckets, by a keyed hash: one step mostly
        found = neighbour_at(n, index)
        if same(&found.key, key):
            return found
        index = found.chain
    return NULL


cdef inline uint32_t index_of(const Neighbours* n, const Neighbour* it) noexcept nogil:
    return <uint32_t> (<size_t> (<const uint8_t*> it - n.pool.base) // sizeof(Neighbour))


# --- lists of states ---------------------------------------------------------------------------------

cdef void enter_list(Neighbours* n, Neighbour* it, uint8_t state) noexcept nogil:
    cdef uint32_t index = index_of(n, it)
    it.state = state
    it.before, it.after = n.last[state], 0
    if it.before:
        neighbour_at(n, it.before).after = index
    else:
        n.first[state] = index
    n.last[state] = index
    n.counts[state] += 1


cdef void leave_list(Neighbours* n, Neighbour* it) noexcept nogil:
    if it.before:
        neighbour_at(n, it.before).after = it.after
    else:
        n.first[it.state] = it.after
    if it.after:
        neighbour_at(n, it.after).before = it.before
    else:
        n.last[it.state] = it.before
    n.counts[it.state] -= 1


# --- timers ------------------------------------------------------------------------------------------

cdef inline int64_t due_at(const Neighbours* n, uint32_t place) noexcept nogil:
    return neighbour_at(n, n.heap[place]).due_ns


cdef inline void put_at(Neighbours* n, uint32_t place, uint32_t index) noexcept nogil:
    n.heap[place] = index
    neighbour_at(n, index).place = place


cdef void move_in_heap(Neighbours* n, uint32_t place) noexcept nogil:
    """Bring what is at a place to where it belongs, up or down."""
    cdef uint32_t index = n.heap[place], child
    cdef int64_t due_ns = neighbour_at(n, index).due_ns
    while place > 1 and due_ns < due_at(n, place // 2):
        put_at(n, place, n.heap[place // 2])
        place //= 2
    while 2 * place <= n.heap_count:
        child = 2 * place
        if child < n.heap_count and due_at(n, child + 1) < due_at(n, child):
            child += 1
        if due_ns <= due_at(n, child):
            break
        put_at(n, place, n.heap[child])
        place = child
    put_at(n, place, index)


cdef void set_timer(Neighbours* n, Neighbour* it, int64_t due_ns) noexcept nogil:
    it.due_ns = due_ns
    if not it.place:
        n.heap_count += 1
        put_at(n, n.heap_count, index_of(n, it))
    move_in_heap(n, it.place)


cdef void stop_timer(Neighbours* n, Neighbour* it) noexcept nogil:
    cdef uint32_t place = it.place, last
    if not place:
        return
    it.place = 0
    last = n.heap[n.heap_count]
    n.heap_count -= 1
    if place <= n.heap_count:
        put_at(n, place, last)
        move_in_heap(n, place)


cdef int64_t neighbours_next_due(const Neighbours* n) noexcept nogil:
    return due_at(n, 1) if n.heap_count else INT64_MAX


# --- frames that wait --------------------------------------------------------------------------------

cdef inline WaitingFrame* frame_at(const Neighbours* n, uint32_t block) noexcept nogil:
    return <WaitingFrame*> block_at(&n.slabs, block)


cdef void drop_oldest(Neighbours* n, Neighbour* it) noexcept nogil:
    cdef uint32_t block = it.waiting
    it.waiting = frame_at(n, block).next
    it.waiting_count -= 1
    block_give(&n.slabs, block)


cdef bint keep(Neighbours* n, Neighbour* it, const Frame* frame) noexcept nogil:
    """Let a frame wait; false, and counted, where there is no room for it."""
    cdef uint32_t block = 0, last
    cdef WaitingFrame* kept
    if frame.caplen <= MOST_FRAME_BYTES - sizeof(WaitingFrame):
        block = block_take(&n.slabs, sizeof(WaitingFrame) + frame.caplen)
    if not block:
        n.counters.overflowed += 1
        return False
    kept = frame_at(n, block)
    kept.frame, kept.next = frame[0], 0
    kept.offloaded = frame.offload != NULL
    if kept.offloaded:
        kept.offload = frame.offload[0]
    memcpy(<uint8_t*> (kept + 1), frame.data, frame.caplen)
    if it.waiting_count == MOST_WAITING_FRAMES:
        n.counters.overflowed += 1
        drop_oldest(n, it)
    if not it.waiting:
        it.waiting = block
    else:
        last = it.waiting
        while frame_at(n, last).next:
            last = frame_at(n, last).next
        frame_at(n, last).next = block
    it.waiting_count += 1
    return True


cdef bint release_frames(Neighbours* n, Neighbour* it) noexcept nogil:
    """Give the frames that wait back, to leave or not; whether there were any."""
    cdef bint any_waited = it.waiting != 0
    cdef WaitingFrame* kept
    while it.waiting:
        kept = frame_at(n, it.waiting)
        kept.frame.data = <uint8_t*> (kept + 1)
        kept.frame.offload = &kept.offload if kept.offloaded else NULL
        if it.has_mac and kept.frame.caplen >= ETHERNET_HEADER:
            memcpy(<uint8_t*> (kept + 1), it.mac, MAC_BYTES)
        n.calls.release(n.calls.context, it, &kept.frame)
        drop_oldest(n, it)
    return any_waited


# --- states ------------------------------------------------------------------------------------------

cdef int64_t reachable_for(Neighbours* n) noexcept nogil:
    """REACHABLE_TIME, times a random number from 0.5 to 1.5, so that neighbours do not keep step (RFC 4861 6.3.2)."""
    n.random ^= n.random << 13
    n.random ^= n.random >> 7
    n.random ^= n.random << 17
    return REACHABLE // 2 + <int64_t> (n.random % <uint64_t> REACHABLE)


cdef void enter(Neighbours* n, Neighbour* it, uint8_t state, int64_t now_ns) noexcept nogil:
    """Change the state, or begin it anew."""
    leave_list(n, it)
    enter_list(n, it, state)
    if state == NEIGHBOUR_REACHABLE:
        it.questions = 0
        set_timer(n, it, now_ns + reachable_for(n))
    elif state == NEIGHBOUR_STALE:
        it.questions = 0
        stop_timer(n, it)
    elif state == NEIGHBOUR_DELAY:
        set_timer(n, it, now_ns + DELAY)
    elif state == NEIGHBOUR_FAILED:
        set_timer(n, it, now_ns + FAILED)
    else:                                      # INCOMPLETE, PROBE
        it.questions = 0
        ask(n, it, now_ns)


cdef void ask(Neighbours* n, Neighbour* it, int64_t now_ns) noexcept nogil:
    it.questions += 1
    set_timer(n, it, now_ns + RETRANSMIT)
    n.counters.asked += 1
    n.calls.ask(n.calls.context, it)


cdef void remove(Neighbours* n, Neighbour* it) noexcept nogil:
    cdef uint32_t* link = bucket_of(n, &it.key)
    cdef uint32_t index = index_of(n, it)
    while link[0] != index:
        link = &neighbour_at(n, link[0]).chain
    link[0] = it.chain
    stop_timer(n, it)
    leave_list(n, it)
    pool_give(&n.pool, index)


cdef void evict(Neighbours* n, uint32_t index) noexcept nogil:
    n.counters.evicted += 1
    remove(n, neighbour_at(n, index))          # nothing waits for one that is stale or has failed


cdef void make_room(Neighbours* n) noexcept nogil:
    if n.pool.in_use < n.pool.capacity:
        return
    if n.first[<int> NEIGHBOUR_FAILED]:
        evict(n, n.first[<int> NEIGHBOUR_FAILED])
    elif n.first[<int> NEIGHBOUR_STALE]:
        evict(n, n.first[<int> NEIGHBOUR_STALE])


cdef Neighbour* insert(Neighbours* n, const NeighbourKey* key, uint8_t state) noexcept nogil:
    """A new entry, of which only key and list are set up; NULL, and counted, without room."""
    cdef uint32_t index
    cdef uint32_t* bucket
    cdef Neighbour* it
    make_room(n)
    index = pool_take(&n.pool)
    if not index:
        n.counters.full += 1
        return NULL
    it = neighbour_at(n, index)
    memset(it, 0, sizeof(Neighbour))
    it.key = key[0]
    bucket = bucket_of(n, key)
    it.chain, bucket[0] = bucket[0], index
    enter_list(n, it, state)
    return it


cdef Neighbour* begin(Neighbours* n, const NeighbourKey* key, uint16_t source, int64_t now_ns) noexcept nogil:
    """Ask for a neighbour that is not known; NULL, and counted, without room."""
    cdef Neighbour* it
    if n.counts[<int> NEIGHBOUR_INCOMPLETE] >= n.most_unresolved:
        n.counters.full += 1
        return NULL
    it = insert(n, key, NEIGHBOUR_INCOMPLETE)
    if it != NULL:
        it.source = source
        ask(n, it, now_ns)
    return it


cdef int neighbours_find(Neighbours* n, const NeighbourKey* key, uint16_t source, const Frame* frame, int64_t now_ns,
                         uint8_t* mac) noexcept nogil:
    cdef Neighbour* it = neighbours_lookup(n, key)
    if it == NULL:
        it = begin(n, key, source, now_ns)
        if it == NULL:
            return NEIGHBOUR_GONE
    if it.has_mac:
        if it.state == NEIGHBOUR_STALE:
            it.source = source
            enter(n, it, NEIGHBOUR_DELAY, now_ns)
        memcpy(mac, it.mac, MAC_BYTES)
        return NEIGHBOUR_KNOWN
    if it.state == NEIGHBOUR_FAILED:
        return NEIGHBOUR_GONE
    return NEIGHBOUR_WAITS if frame == NULL or keep(n, it, frame) else NEIGHBOUR_GONE


# --- what neighbours say -----------------------------------------------------------------------------

cdef inline bint is_of_a_host(const uint8_t* mac) noexcept nogil:
    """Neither a group nor nobody (RFC 1812 section 3.3.2)."""
    return not mac[0] & 1 and (mac[0] or mac[1] or mac[2] or mac[3] or mac[4] or mac[5])


cdef inline bint has(const Neighbour* it, const uint8_t* mac) noexcept nogil:
    return it.has_mac and memcmp(it.mac, mac, MAC_BYTES) == 0


cdef void set_mac(Neighbours* n, Neighbour* it, const uint8_t* mac) noexcept nogil:
    if not it.has_mac and it.state == NEIGHBOUR_INCOMPLETE:
        n.counters.resolved += 1
    memcpy(it.mac, mac, MAC_BYTES)
    it.has_mac = True


cdef void settle(Neighbours* n, Neighbour* it, uint8_t state, int64_t now_ns) noexcept nogil:
    """Its MAC address is known now: the frames that wait leave, which is a use of it."""
    enter(n, it, state, now_ns)
    if release_frames(n, it) and state == NEIGHBOUR_STALE:
        enter(n, it, NEIGHBOUR_DELAY, now_ns)


cdef void neighbours_told(Neighbours* n, const NeighbourKey* key, const uint8_t* mac, bint solicited, bint override,
                          bint is_router, int64_t now_ns) noexcept nogil:
    cdef Neighbour* it = neighbours_lookup(n, key)
    cdef bint differs
    if it == NULL or (mac != NULL and not is_of_a_host(mac)):
        return
    if not it.has_mac:
        if mac != NULL:
            it.is_router = is_router
            set_mac(n, it, mac)
            settle(n, it, NEIGHBOUR_REACHABLE if solicited else NEIGHBOUR_STALE, now_ns)
        return
    differs = mac != NULL and not has(it, mac)
    if differs and not override:
        if it.state == NEIGHBOUR_REACHABLE:
            enter(n, it, NEIGHBOUR_STALE, now_ns)
        return
    if differs:
        set_mac(n, it, mac)
    it.is_router = is_router
    if solicited:
        enter(n, it, NEIGHBOUR_REACHABLE, now_ns)
    elif differs:
        enter(n, it, NEIGHBOUR_STALE, now_ns)


cdef void neighbours_heard(Neighbours* n, const NeighbourKey* key, const uint8_t* mac, bint make,
                           int64_t now_ns) noexcept nogil:
    cdef Neighbour* it
    if not is_of_a_host(mac):
        return
    it = neighbours_lookup(n, key)
    if it == NULL and make:
        it = insert(n, key, NEIGHBOUR_STALE)
    if it != NULL and not has(it, mac):
        set_mac(n, it, mac)
        settle(n, it, NEIGHBOUR_STALE, now_ns)


cdef void neighbours_confirm(Neighbours* n, const NeighbourKey* key, int64_t now_ns) noexcept nogil:
    cdef Neighbour* it = neighbours_lookup(n, key)
    if it != NULL and it.has_mac:
        enter(n, it, NEIGHBOUR_REACHABLE, now_ns)


# --- time --------------------------------------------------------------------------------------------

cdef void fail(Neighbours* n, Neighbour* it, int64_t now_ns) noexcept nogil:
    """It has not answered: the frames that wait are given back, and so is whoever comes within a second refused."""
    n.counters.failed += 1
    it.has_mac = False
    enter(n, it, NEIGHBOUR_FAILED, now_ns)
    release_frames(n, it)


cdef void neighbours_pass_time(Neighbours* n, int64_t now_ns) noexcept nogil:
    cdef Neighbour* it
    while n.heap_count and due_at(n, 1) <= now_ns:     # each is set to a later time, or none: it ends
        it = neighbour_at(n, n.heap[1])
        if it.state == NEIGHBOUR_REACHABLE:
            enter(n, it, NEIGHBOUR_STALE, now_ns)
        elif it.state == NEIGHBOUR_DELAY:
            enter(n, it, NEIGHBOUR_PROBE, now_ns)
        elif it.state == NEIGHBOUR_FAILED:
            remove(n, it)
        elif it.questions < MOST_QUESTIONS:
            ask(n, it, now_ns)
        else:
            fail(n, it, now_ns)


cdef void neighbours_clear(Neighbours* n) noexcept nogil:
    cdef int state
    for state in range(<int> NEIGHBOUR_STATES):
        while n.first[state]:
            release_frames(n, neighbour_at(n, n.first[state]))
            remove(n, neighbour_at(n, n.first[state]))
