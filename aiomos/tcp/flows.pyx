"""Flow table, timer wheel and eviction queues: who is tracked, for how long, and who goes first.

The table is open addressing with linear probing over eight-byte slots; the hash is SipHash-1-3 under a
secret key, so nobody who does not know it can aim flows at one slot. Growing and deleting move slots by
their stored hash and touch no flow record.

The wheel has one-second slots and is lazy: a packet does not move its flow. When a slot comes due, each flow
in it is asked for its real deadline and linked again where that lies ahead.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from aiomos.poison cimport unpoison
from aiomos.wire.pool cimport pool_at, pool_close, pool_give, pool_open, pool_take
from aiomos.wire.siphash cimport siphash13_ending

cdef enum:
    FIRST_SLOTS = 4096
    SECOND = 1_000_000_000
    NOT_LINKED = 0xFFFF        # wheel_slot of a flow in no slot

assert sizeof(Flow) == 192 and sizeof(Slot) == 8


cdef bint flows_open(Flows* flows, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil:
    """Set up an empty table for at most *budget* flows; false when memory cannot be had."""
    memset(flows, 0, sizeof(Flows))
    flows.key0 = key0
    flows.key1 = key1
    flows.tick = INT64_MIN
    flows.mask = FIRST_SLOTS - 1
    flows.slots = <Slot*> calloc(FIRST_SLOTS, sizeof(Slot))
    return (flows.slots != NULL and pool_open(&flows.pool, sizeof(Flow), budget)
            and pool_open(&flows.pending, sizeof(PendingSyn), budget // 16 + 16))


cdef void flows_close(Flows* flows) noexcept nogil:
    free(flows.slots)
    flows.slots = NULL
    pool_close(&flows.pool)
    pool_close(&flows.pending)


cdef uint32_t long_key_hash(const Flows* flows, const FlowKey* key, uint64_t tunnel) noexcept nogil:
    """key_hash() of IPv6, or within a tunnel."""
    cdef uint64_t words[5]
    cdef int n = 4
    if key.ip_version == 4:
        words[0] = key.low.lo << 32 | <uint32_t> key.high.lo
        n = 1
    else:
        words[0] = key.low.hi
        words[1] = key.low.lo
        words[2] = key.high.hi
        words[3] = key.high.lo
    if tunnel:
        words[n] = tunnel
        n += 1
    return <uint32_t> siphash13_ending(flows.key0, flows.key1, words, n,
                                       <uint64_t> (8 * n + 7) << 56 | hashed_last(flows, key))


# --- table ----------------------------------------------------------------------------------------

cdef void place(Slot* slots, uint32_t mask, uint32_t hash, uint32_t index) noexcept nogil:
    cdef uint32_t at = hash & mask
    while slots[at].index:
        at = (at + 1) & mask
    slots[at].hash = hash
    slots[at].index = index


cdef bint grow(Flows* flows) noexcept nogil:
    cdef size_t size = (<size_t> flows.mask + 1) * 2
    cdef Slot* slots = <Slot*> calloc(size, sizeof(Slot))
    cdef size_t at
    if slots == NULL:
        return False
    for at in range(<size_t> flows.mask + 1):
        if flows.slots[at].index:
            place(slots, <uint32_t> (size - 1), flows.slots[at].hash, flows.slots[at].index)
    free(flows.slots)
    flows.slots = slots
    flows.mask = <uint32_t> (size - 1)
    return True


cdef uint32_t flows_insert(Flows* flows, const FlowKey* key, uint32_t hash) noexcept nogil:
    """Index of a new, zeroed flow; 0 at the budget or without memory. The key must not be in the table."""
    if flows.count >= (flows.mask >> 1) and not grow(flows):
        return 0
    cdef uint32_t index = pool_take(&flows.pool)
    if index == 0:
        return 0
    cdef Flow* flow = flow_at(flows, index)
    memset(flow, 0, sizeof(Flow))
    flow.key = key[0]
    flow.hash = hash
    flow.wheel_slot = NOT_LINKED
    place(flows.slots, flows.mask, hash, index)
    flows.count += 1
    return index


cdef void flows_remove(Flows* flows, Flow* flow) noexcept nogil:
    """Take a flow out of table, wheel and queue; its record stays until flows_release()."""
    cdef uint32_t index = flow_index(flows, flow), mask = flows.mask
    cdef uint32_t hole = flow.hash & mask, at, home
    while flows.slots[hole].index != index:
        hole = (hole + 1) & mask
    # Close the hole: pull back every later slot of the run whose home is not beyond it (Knuth 6.4, algorithm R).
    at = hole
    while True:
        at = (at + 1) & mask
        if flows.slots[at].index == 0:
            break
        home = flows.slots[at].hash & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            flows.slots[hole] = flows.slots[at]
            hole = at
    flows.slots[hole].index = 0
    flows.count -= 1
    wheel_unlink(flows, flow)
    if flow.flags & LINKED:
        queue_drop(flows, &flows.half_open if flow.flags & HALF_OPEN else &flows.closed, flow)
    if flow.pending:
        pool_give(&flows.pending, flow.pending)
        flow.pending = 0
    flow.flags |= ENDED


cdef PendingSyn* take_pending(Flows* flows, Flow* flow) noexcept nogil:
    """Room to remember a SYN that may replace a flow; another, in turn, is forgotten for it if need be."""
    cdef PendingSyn* syn
    cdef uint32_t index = pool_take(&flows.pending)
    if not index:
        flows.next_pending = flows.next_pending % flows.pending.capacity + 1
        index = flows.next_pending                 # all are in use
        flow_at(flows, (<PendingSyn*> pool_at(&flows.pending, index)).flow).pending = 0
    syn = <PendingSyn*> pool_at(&flows.pending, index)
    syn.flow = flow_index(flows, flow)
    flow.pending = index
    return syn


cdef void flows_release(Flows* flows, Flow* flow) noexcept nogil:
    pool_give(&flows.pool, flow_index(flows, flow))
    unpoison(&flow.watchers, 8)                    # who walks through all records sees by its flags that it is free


# --- timer wheel ----------------------------------------------------------------------------------

cdef void wheel_link(Flows* flows, Flow* flow, int64_t deadline_ns) noexcept nogil:
    """Have the flow looked at in the first step at or after its deadline, moving it if it is linked."""
    cdef int64_t due = (deadline_ns + SECOND - 1) // SECOND
    if due <= flows.tick:
        due = flows.tick + 1
    elif due > flows.tick + WHEEL_SLOTS - 1:
        due = flows.tick + WHEEL_SLOTS - 1
    cdef uint32_t slot = <uint32_t> (due & (WHEEL_SLOTS - 1)), index = flow_index(flows, flow)
    if flow.wheel_slot == slot:
        return
    wheel_unlink(flows, flow)
    flow.wheel_slot = <uint16_t> slot
    flow.wheel_prev = 0
    flow.wheel_next = flows.wheel[slot]
    if flow.wheel_next:
        flow_at(flows, flow.wheel_next).wheel_prev = index
    flows.wheel[slot] = index
    flows.occupied[slot >> 6] |= <uint64_t> 1 << (slot & 63)


cdef void wheel_unlink(Flows* flows, Flow* flow) noexcept nogil:
    cdef uint32_t slot = flow.wheel_slot
    if slot == NOT_LINKED:
        return
    if flow.wheel_prev:
        flow_at(flows, flow.wheel_prev).wheel_next = flow.wheel_next
    else:
        flows.wheel[slot] = flow.wheel_next
        if not flow.wheel_next:
            flows.occupied[slot >> 6] &= ~(<uint64_t> 1 << (slot & 63))
    if flow.wheel_next:
        flow_at(flows, flow.wheel_next).wheel_prev = flow.wheel_prev
    flow.wheel_slot = NOT_LINKED


cdef int64_t next_occupied(const Flows* flows, int64_t tick, int64_t limit) noexcept nogil:
    """First second after *tick*, at most *limit*, whose slot holds flows; limit when there is none."""
    cdef uint64_t word
    cdef uint32_t slot
    while tick < limit:
        tick += 1
        slot = <uint32_t> (tick & (WHEEL_SLOTS - 1))
        word = flows.occupied[slot >> 6] >> (slot & 63)
        if word & 1:
            return tick
        if word == 0:
            tick += 63 - (slot & 63)       # nothing more in this word
    return limit


cdef uint32_t wheel_due(Flows* flows, int64_t now_ns) noexcept nogil:
    """Unlink and name a flow of a slot that has come due; 0 when there is none left up to *now_ns*.

    The caller ends the flow or links it again at a later deadline, and asks again.
    """
    cdef int64_t now = now_ns // SECOND
    cdef uint32_t index
    if flows.count == 0 or flows.tick == INT64_MIN:
        flows.tick = now if now > flows.tick else flows.tick
        return 0
    if now - flows.tick > WHEEL_SLOTS:     # every slot is due: once round is enough
        flows.tick = now - WHEEL_SLOTS
    while flows.tick < now:
        index = flows.wheel[(flows.tick + 1) & (WHEEL_SLOTS - 1)]
        if index:
            wheel_unlink(flows, flow_at(flows, index))
            return index
        flows.tick = next_occupied(flows, flows.tick + 1, now + 1) - 1
    return 0


cdef uint32_t wheel_first(const Flows* flows) noexcept nogil:
    """A flow of the slot that comes due next, still linked; 0 when no flow is linked."""
    cdef int64_t due = next_occupied(flows, flows.tick, flows.tick + WHEEL_SLOTS)
    return flows.wheel[due & (WHEEL_SLOTS - 1)]


cdef int64_t wheel_next(const Flows* flows) noexcept nogil:
    """When the next flow is to be looked at, nanoseconds since the epoch; INT64_MAX without flows."""
    if flows.count == 0:
        return INT64_MAX
    if flows.tick == INT64_MIN:
        return 0
    return next_occupied(flows, flows.tick, flows.tick + WHEEL_SLOTS) * SECOND


# --- eviction queues ------------------------------------------------------------------------------

cdef void queue_push(Flows* flows, Queue* queue, Flow* flow) noexcept nogil:
    cdef uint32_t index = flow_index(flows, flow)
    flow.queue_next = 0
    flow.queue_prev = queue.tail
    if queue.tail:
        flow_at(flows, queue.tail).queue_next = index
    else:
        queue.head = index
    queue.tail = index
    queue.count += 1
    flow.flags |= LINKED


cdef void queue_drop(Flows* flows, Queue* queue, Flow* flow) noexcept nogil:
    if flow.queue_prev:
        flow_at(flows, flow.queue_prev).queue_next = flow.queue_next
    else:
        queue.head = flow.queue_next
    if flow.queue_next:
        flow_at(flows, flow.queue_next).queue_prev = flow.queue_prev
    else:
        queue.tail = flow.queue_prev
    queue.count -= 1
    flow.flags &= ~<uint16_t> LINKED
