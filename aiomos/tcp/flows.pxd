# The flow record, the table that finds it by five-tuple, its timer wheel and its eviction queues.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.pool cimport Pool, pool_at
from aiomos.wire.siphash cimport siphash13_ending
from aiomos.wire.table cimport Table, TableSlot, table_first, table_next
from aiomos.wire.wheel cimport Wheel, WheelLink
from aiomos.wire.wire cimport Address, PacketRecord

cdef enum Side:
    CLIENT = 0
    SERVER = 1

# Both directions share one key: the end with the smaller (address, port) is `low`.
ctypedef struct FlowKey:
    Address low
    Address high
    uint16_t low_port
    uint16_t high_port
    uint16_t vlan              # of the first packet, or NO_VLAN; compared only where VLANs separate flows
    uint8_t ip_version
    uint8_t proto

# What is known of one end's part in the connection; its TCP state follows from these bits (monitor.pyx).
cpdef enum Fact:
    SYN_SENT = 1
    SYN_ACKED = 2
    SYN_RECEIVED = 4
    FIN_SENT = 8
    FIN_ACKED = 16
    FIN_RECEIVED = 32
    PASSIVE_CLOSE = 64         # its peer's FIN came before its own
    RESET = 128

cdef enum HalfFlag:
    SEQ_KNOWN = 1              # nxt and una mean something
    WINDOW_KNOWN = 2           # wnd has been advertised by this end
    SCALE_KNOWN = 4            # its SYN was seen with all options, so its window scale is certain
    TIMESTAMPS = 8             # this end sends timestamps
    SACK_PERMITTED = 16
    FIN_SEEN = 32              # `fin` is set
    ISS_KNOWN = 64             # its SYN was seen
    MD5_SIGNED = 128           # its SYN carried an MD5 or AO option
    ACK_SEEN = 256             # una was set by an acknowledgement of the peer
    OFFERS_SCALE = 512         # its SYN carried a window scale option
    SINK = 1024                # somebody takes this half's bytes
    KEEP = 2048                # delivered bytes are kept to be looked at
    REFUSED = 4096             # its peer in SYN-SENT has refused a segment of it, whose ACK is FlowRecord.resync
    DOUBTED = 8192             # its numbers may have jumped to where `fin` tells
    DOUBTED_ACK = 16384        # its peer said so, by an acknowledgement; else it did, by a segment
    DOUBTED_FIN = 32768        # with a FIN

# One direction: bytes from this end.
ctypedef struct HalfRecord:
    uint64_t packets
    uint32_t iss               # initial sequence number; while no SYN was seen, as it follows from the first segment
    uint32_t nxt               # SND.NXT as seen: one past the highest sequence number sent
    uint32_t una               # SND.UNA as seen: highest acknowledgement by the peer
    # Of an end not heard of yet, where its peer's SYN ended.
    uint32_t wnd               # receive window this end advertises, scaled, bytes
    uint32_t max_wnd           # largest of those
    # Of an end not heard of yet, TSval of its peer's first SYN.
    uint32_t ts_recent         # TS.Recent of the peer for this half (RFC 7323 section 4.3)
    # Before, with DOUBTED, where its numbers may have jumped to; else the end of something that was not captured.
    uint32_t fin               # sequence number of its FIN
    uint32_t track             # byte context in the reassembly's pool (levels BYTES and STREAM)
    uint16_t mss               # of its SYN; 0 when none was seen
    uint16_t flags             # HalfFlag
    uint8_t wscale
    uint8_t facts              # Fact
    uint8_t level
    uint8_t doubts             # of how many segments in a row that jump is, with nothing else in between

cdef enum FlowFlag:
    CLIENT_IS_LOW = 1
    MIDSTREAM = 2              # its SYN was not captured
    GUESSED_ROLES = 4          # client and server were judged, not seen
    ESTABLISHED = 8            # CONN_SETUP has happened
    CLOSED = 16                # FIN both ways and acknowledged, or RST
    HALF_OPEN = 32
    LINKED = 64                # in an eviction queue
    SIGNALLED = 128            # named by a signal of this batch: not to be freed before it is delivered
    ENDED = 256                # out of the table
    RESET_BY_SERVER = 512
    ANNOUNCED = 1024           # apps were told of it
    SILENCED = 8192            # a callback raised on this flow and is not called for it again
    OTHER_SYNACK = 4096        # a SYN-ACK with another ISN was refused; `resync` is what would acknowledge it
    DROPPED = 16384            # an app has cut it off: none of its segments passes
    RESETTING = 32768          # and whoever sends one is told so by RST
    TO_CONNECT = 2048          # some of its watchers are still to be given a connection

cpdef enum Reason:
    OPEN = 0
    REASON_FIN = 1
    REASON_RST = 2
    REASON_TIMEOUT = 3
    REASON_EVICTED = 4
    REASON_END_OF_CAPTURE = 5
    REASON_DROPPED = 6         # by an app

cdef enum:
    REASONS = REASON_DROPPED + 1

# 192 bytes: three cache lines.
ctypedef struct FlowRecord:
    FlowKey key
    HalfRecord halves[2]             # by Side
    int64_t started_ns
    int64_t last_ns
    uint32_t queue_next        # half-open or closed queue
    uint32_t queue_prev
    uint32_t hash
    uint32_t hold              # index of the Python side's record of this flow, 0 when it has none
    uint32_t pending           # a SYN that may replace this flow (PendingSyn pool)
    uint32_t resync            # with OTHER_SYNACK, what acknowledges it; with a half's REFUSED, what was refused
    WheelLink wheel            # 10 bytes
    uint16_t watchers          # interned set of the registrations that want this flow
    uint16_t flags             # FlowFlag
    uint8_t reason             # Reason
    uint8_t overlap            # overlap policy of its streams

cdef enum:
    MOST_SYN_HEADERS = 256     # bytes

ctypedef struct PendingSyn:
    int64_t time_ns
    int64_t before_ns          # FlowRecord.last_ns as it was
    uint32_t count             # how often it came,
    uint32_t copies            # of these, captured once more (tcp/copies)
    uint32_t flow              # index of the flow that it may replace
    uint32_t seq
    uint16_t length            # of its headers
    uint8_t side               # who sent it, by the old flow's roles
    uint8_t headers[256]       # from IP on

ctypedef struct Queue:
    uint32_t head
    uint32_t tail
    uint32_t count

ctypedef struct Flows:
    Pool pool                  # of FlowRecord
    Pool pending               # of PendingSyn
    Table table                # of indices of flows
    uint64_t key0
    uint64_t key1
    uint32_t next_pending      # of those: who gives way next
    uint16_t vlan_mask         # 0xFFFF where VLANs separate flows, else 0
    Wheel wheel
    Queue half_open            # oldest first
    Queue closed               # closed longest first

cdef bint flows_open(Flows* flows, size_t budget, uint64_t key0, uint64_t key1) noexcept nogil
cdef void flows_close(Flows* flows) noexcept nogil
cdef uint32_t flows_insert(Flows* flows, const FlowKey* key, uint32_t hash) noexcept nogil
cdef void flows_remove(Flows* flows, FlowRecord* flow) noexcept nogil
cdef PendingSyn* take_pending(Flows* flows, FlowRecord* flow) noexcept nogil
cdef void flows_release(Flows* flows, FlowRecord* flow) noexcept nogil
cdef void flows_link(Flows* flows, const FlowRecord* flow, int64_t deadline_ns) noexcept nogil
cdef void queue_push(Flows* flows, Queue* queue, FlowRecord* flow) noexcept nogil
cdef void queue_drop(Flows* flows, Queue* queue, FlowRecord* flow) noexcept nogil
cdef uint32_t long_key_hash(const Flows* flows, const FlowKey* key, uint64_t tunnel) noexcept nogil

cdef inline bint make_key(const PacketRecord* packet, FlowKey* key) noexcept nogil:
    """Fill in the key of a packet; true when its source is the `low` end."""
    cdef inline bint from_low
    if packet.src.hi != packet.dst.hi:
        from_low = packet.src.hi < packet.dst.hi
    elif packet.src.lo != packet.dst.lo:
        from_low = packet.src.lo < packet.dst.lo
    else:
        from_low = packet.sport <= packet.dport
    if from_low:
        key.low = packet.src
        key.high = packet.dst
        key.low_port = packet.sport
        key.high_port = packet.dport
    else:
        key.low = packet.dst
        key.high = packet.src
        key.low_port = packet.dport
        key.high_port = packet.sport
    key.vlan = packet.vlan
    key.ip_version = packet.ip_version
    key.proto = packet.proto
    return from_low

cdef inline uint64_t hashed_last(const Flows* flows, const FlowKey* key) noexcept nogil:
    """The last 7 bytes that are hashed of a key."""
    return (<uint64_t> key.low_port << 40 | <uint64_t> key.high_port << 24
            | (key.vlan & flows.vlan_mask) << 8 | key.ip_version)

cdef inline uint32_t key_hash(const Flows* flows, const FlowKey* key, uint64_t tunnel) noexcept nogil:
    """SipHash of a key and of the tunnel: flows in different tunnels have the same key, and are told apart by it."""
    cdef uint64_t addresses
    if key.ip_version != 4 or tunnel:
        return long_key_hash(flows, key, tunnel)
    addresses = key.low.lo << 32 | <uint32_t> key.high.lo
    return <uint32_t> siphash13_ending(flows.key0, flows.key1, &addresses, 1,
                                       <uint64_t> 15 << 56 | hashed_last(flows, key))

cdef inline FlowRecord* flow_at(const Flows* flows, uint32_t index) noexcept nogil:
    return <FlowRecord*> pool_at(&flows.pool, index)

cdef inline uint32_t flow_index(const Flows* flows, const FlowRecord* flow) noexcept nogil:
    return <uint32_t> ((<const uint8_t*> flow - flows.pool.base) // sizeof(FlowRecord))

cdef inline FlowRecord* flow_of(const Flows* flows, const HalfRecord* half) noexcept nogil:
    """The flow that a half belongs to."""
    return flow_at(flows, <uint32_t> ((<const uint8_t*> half - flows.pool.base) // sizeof(FlowRecord)))

cdef inline bint same_key(const FlowKey* a, const FlowKey* b, uint16_t vlan_mask) noexcept nogil:
    return (a.low.lo == b.low.lo and a.high.lo == b.high.lo and a.low_port == b.low_port
            and a.high_port == b.high_port and a.low.hi == b.low.hi and a.high.hi == b.high.hi
            and a.ip_version == b.ip_version and not (a.vlan ^ b.vlan) & vlan_mask)

cdef inline FlowRecord* flows_find(const Flows* flows, const FlowKey* key, uint32_t hash) noexcept nogil:
    """The flow of a key, or NULL."""
    cdef const TableSlot* slot = table_first(&flows.table, hash)
    cdef FlowRecord* flow
    while slot.entry:
        if slot.hash == hash:
            flow = flow_at(flows, slot.entry)
            if same_key(&flow.key, key, flows.vlan_mask):
                return flow
        slot = table_next(&flows.table, slot)
    return NULL

cdef inline int side_of(const FlowRecord* flow, bint from_low) noexcept nogil:
    return CLIENT if from_low == ((flow.flags & CLIENT_IS_LOW) != 0) else SERVER
