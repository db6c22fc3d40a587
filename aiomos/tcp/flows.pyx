"""Flow table and eviction queues: who is tracked, for how long, and who goes first.

The hash of the table (wire/table.pxd) is SipHash-1-3 under a secret key, so nobody who does not know it can aim flows
at one slot.

The wheel (wire/wheel.pxd) has steps of a second: a packet does not move its flow.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memset

from aiomos.poison cimport unpoison
from aiomos.wire.pool cimport pool_at, pool_close, pool_give, pool_open, pool_take
from aiomos.wire.siphash cimport siphash13_ending
from aiomos.wire.table cimport table_close, table_insert, table_open, table_remove, table_reserve
from aiomos.wire.wheel cimport WHEEL_UNLINKED, wheel_close, wheel_link, wheel_open, wheel_unlink

cdef enum:
    FIRST_SLOTS = 4096
    SECOND = 1_000_000_000
    WHEEL_SLOTS = 8192         # seconds a deadline can lie ahead; farther ones are looked at again then

assert sizeof(FlowRecord) == 192

FACT_NAMES = tuple([name.lower() for name in Fact.__members__])
REASON_NAMES = tuple([name.removeprefix("REASON_").lower() for name in Reason.__members__])


cdef bint flows_open(Flows* flows, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil:
    """Set up an empty table for at most *budget* flows; false when memory cannot be had."""
    memset(flows, 0, sizeof(Flows))
    flows.key0 = key0
    flows.key1 = key1
    return (table_open(&flows.table, FIRST_SLOTS) and pool_open(&flows.pool, sizeof(FlowRecord), budget)
            and pool_open(&flows.pending, sizeof(PendingSyn), budget // 16 + 16)
            and wheel_open(&flows.wheel, SECOND, WHEEL_SLOTS, &flow_at(flows, 0).wheel, sizeof(FlowRecord)))


cdef void flows_close(Flows* flows) noexcept nogil:
    table_close(&flows.table)
    wheel_close(&flows.wheel)
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

cdef uint32_t flows_insert(Flows* flows, const FlowKey* key, uint32_t hash) noexcept nogil:
    """Index of a new, zeroed flow; 0 at the budget or without memory. The key must not be in the table."""
    if not table_reserve(&flows.table, 1):
        return 0
    cdef uint32_t index = pool_take(&flows.pool)
    if index == 0:
        return 0
    cdef FlowRecord* flow = flow_at(flows, index)
    memset(flow, 0, sizeof(FlowRecord))
    flow.key = key[0]
    flow.hash = hash
    flow.wheel.slot = WHEEL_UNLINKED
    table_insert(&flows.table, hash, index)
    return index


cdef void flows_remove(Flows* flows, FlowRecord* flow) noexcept nogil:
    """Take a flow out of table, wheel and queue; its record stays until flows_release()."""
    cdef uint32_t index = flow_index(flows, flow)
    table_remove(&flows.table, flow.hash, index)
    wheel_unlink(&flows.wheel, index)
    if flow.flags & LINKED:
        queue_drop(flows, &flows.half_open if flow.flags & HALF_OPEN else &flows.closed, flow)
    if flow.pending:
        pool_give(&flows.pending, flow.pending)
        flow.pending = 0
    flow.flags |= ENDED


cdef void flows_link(Flows* flows, const FlowRecord* flow, int64_t deadline_ns) noexcept nogil:
    """Have a flow looked at in the first second at or after its deadline."""
    wheel_link(&flows.wheel, flow_index(flows, flow), deadline_ns)


cdef PendingSyn* take_pending(Flows* flows, FlowRecord* flow) noexcept nogil:
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


cdef void flows_release(Flows* flows, FlowRecord* flow) noexcept nogil:
    pool_give(&flows.pool, flow_index(flows, flow))
    unpoison(<uint8_t*> (flow + 1) - 8, 8)         # who walks through all records sees by its flags that it is free


# --- eviction queues ------------------------------------------------------------------------------

cdef void queue_push(Flows* flows, Queue* queue, FlowRecord* flow) noexcept nogil:
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


cdef void queue_drop(Flows* flows, Queue* queue, FlowRecord* flow) noexcept nogil:
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
