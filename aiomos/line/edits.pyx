"""Payloads replaced in a stream, and the sequence numbers that differ on either side of us from then on.

An edit is noted when the bytes it replaces come for the first time; whatever the sender makes of them later, the same
bytes leave. So a retransmission cut differently, which touches an edit in part, is widened to carry all of its
replacement: half of one has no meaning in the sender's numbers. For the same reason an acknowledgement inside a
replacement is told to the sender as one before it, and only a SACK block that covers it whole covers what it stands
for.

Edits are forgotten once the receiver has acknowledged them. What remains is a shift between the numbers, and the
floor: what is sent again from below it has been acknowledged, and since its replacement is no longer known, no byte
of it leaves.

Bytes that are deleted are never acknowledged by the receiver as such: an acknowledgement of what stood before them
counts for them too, and where that has come already, the plan asks for an ACK of our own.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from aiomos.wire.pool cimport pool_at, pool_close, pool_give, pool_open, pool_take
from aiomos.wire.seq cimport seq_diff, seq_leq, seq_lt, seq_max
from aiomos.wire.wire cimport ACK, CWR, FIN, PSH, RST, SYN, URG, Span

cdef enum:
    MAX_SPAN = 1 << 30         # from the first edit to the last: no window is larger (RFC 7323 section 2.3)
    MAX_LAG = 1 << 29          # how far the floor may stay behind what is acknowledged, to be comparable

assert sizeof(EditBlock) == 256 and sizeof(Edit) == 24


# --- store ----------------------------------------------------------------------------------------------

cdef bint edits_store_open(EditStore* store, size_t halves, size_t half_budget, size_t budget) noexcept nogil:
    """Reserve room for so many halves and *budget* bytes of edits; false when it cannot be had."""
    cdef size_t records = budget // (sizeof(Edit) + sizeof(EditBlock))
    memset(store, 0, sizeof(EditStore))
    store.half_budget = <uint32_t> min(half_budget, <size_t> 1 << 28)
    return (pool_open(&store.halves, sizeof(Edits), halves) and pool_open(&store.edits, sizeof(Edit), records)
            and pool_open(&store.blocks, sizeof(EditBlock), records))


cdef void edits_store_close(EditStore* store) noexcept nogil:
    pool_close(&store.halves)
    pool_close(&store.edits)
    pool_close(&store.blocks)


cdef inline Edit* edit_at(const EditStore* store, uint32_t index) noexcept nogil:
    return <Edit*> pool_at(&store.edits, index)


cdef inline EditBlock* block_at(const EditStore* store, uint32_t index) noexcept nogil:
    return <EditBlock*> pool_at(&store.blocks, index)


cdef uint32_t edits_open(EditStore* store, uint32_t una, uint32_t nxt, uint16_t window, uint8_t wscale,
                         bint ordered) noexcept nogil:
    cdef uint32_t index = pool_take(&store.halves)
    cdef Edits* e
    if index:
        e = edits_at(store, index)
        memset(e, 0, sizeof(Edits))
        e.una = una
        e.nxt = e.start = nxt
        e.window = window
        e.wscale = wscale
        e.ordered = ordered
    return index


cdef void edits_close(EditStore* store, uint32_t index) noexcept nogil:
    cdef Edits* e = edits_at(store, index)
    while e.head:
        drop_first(store, e)
    pool_give(&store.halves, index)


cdef inline uint32_t blocks_for(uint32_t n) noexcept nogil:
    return n // EDIT_BLOCK + (n % EDIT_BLOCK != 0)


cdef inline uint32_t cost(uint32_t n) noexcept nogil:
    return <uint32_t> sizeof(Edit) + blocks_for(n) * <uint32_t> sizeof(EditBlock)


cdef void give_edit(EditStore* store, uint32_t index) noexcept nogil:
    cdef uint32_t block = edit_at(store, index).block, next
    while block:
        next = block_at(store, block).next
        pool_give(&store.blocks, block)
        block = next
    pool_give(&store.edits, index)


cdef void drop_first(EditStore* store, Edits* e) noexcept nogil:
    cdef uint32_t index = e.head
    cdef const Edit* edit = edit_at(store, index)
    e.head = edit.next
    if not e.head:
        e.tail = 0
    e.count -= 1
    e.held_bytes -= cost(edit.new_len)
    give_edit(store, index)


cdef bint keep_bytes(EditStore* store, Edit* edit, const uint8_t* data, uint32_t n) noexcept nogil:
    """Copy a replacement into blocks; false, some of them being linked, when the budget is used up."""
    cdef uint32_t* link = &edit.block
    cdef uint32_t size
    edit.block = 0
    edit.new_len = n
    while n:
        link[0] = pool_take(&store.blocks)
        if not link[0]:
            return False
        size = min(n, <uint32_t> EDIT_BLOCK)
        memcpy(block_at(store, link[0]).data, data, size)
        link = &block_at(store, link[0]).next
        link[0] = 0
        data += size
        n -= size
    return True


# --- from old numbers to new ----------------------------------------------------------------------------

cdef inline uint32_t old_end(const Edit* edit) noexcept nogil:
    return edit.old_start + edit.old_len


cdef inline uint32_t new_end(const Edit* edit) noexcept nogil:
    return edit.new_start + edit.new_len


cdef uint32_t first_beyond(const EditStore* store, const Edits* e, uint32_t old) noexcept nogil:
    """The first edit that ends beyond an old number; 0 when none does, as for all new data."""
    cdef uint32_t index = e.head
    if not index or seq_leq(old_end(edit_at(store, e.tail)), old):
        return 0
    while index and seq_leq(old_end(edit_at(store, index)), old):
        index = edit_at(store, index).next
    return index


cdef inline uint32_t shift_before(const EditStore* store, const Edits* e, uint32_t index) noexcept nogil:
    """What to add to old numbers before an edit, and behind the one before it."""
    return edit_at(store, index).new_start - edit_at(store, index).old_start if index else e.shift


cdef uint32_t new_of(const EditStore* store, const Edits* e, uint32_t old) noexcept nogil:
    """Where a segment without data stands. One inside an edit is a probe, which is to stay as far from its end."""
    cdef uint32_t index = first_beyond(store, e, old)
    cdef const Edit* edit
    if index:
        edit = edit_at(store, index)
        if seq_lt(edit.old_start, old):
            return new_end(edit) - (old_end(edit) - old)
    return old + shift_before(store, e, index)


# --- from new numbers to old ----------------------------------------------------------------------------

cdef uint32_t old_of(const EditStore* store, const Edits* e, uint32_t new) noexcept nogil:
    """The old bytes that are whole before a new number: what an acknowledgement, or a block's right edge, covers."""
    cdef uint32_t index = e.head
    cdef const Edit* edit
    while index:
        edit = edit_at(store, index)
        if seq_lt(new, edit.new_start):
            return new - edit.new_start + edit.old_start
        if seq_lt(new, new_end(edit)):
            return edit.old_start
        index = edit.next
    return new - e.shift


cdef uint32_t old_left(const EditStore* store, const Edits* e, uint32_t new) noexcept nogil:
    """The left edge of a block: behind an edit that it does not cover from its start."""
    cdef uint32_t index = e.head
    cdef const Edit* edit
    while index:
        edit = edit_at(store, index)
        if seq_leq(new, edit.new_start):
            return new - edit.new_start + edit.old_start
        if seq_lt(new, new_end(edit)):
            return old_end(edit)
        index = edit.next
    return new - e.shift


cdef uint16_t window_after(const EditStore* store, const Edits* e, uint32_t ack, uint16_t window) noexcept nogil:
    """The window that leaves room for what edits add behind *ack*; never more than was stated."""
    cdef uint32_t size = <uint32_t> window << e.wscale
    cdef int32_t room
    if not e.head:
        return window
    room = seq_diff(old_of(store, e, ack + size), old_of(store, e, ack))
    return <uint16_t> (min(<uint32_t> max(room, 0), size) >> e.wscale)


# --- pieces ---------------------------------------------------------------------------------------------

# A walk over what leaves for a range of old numbers, in pieces of the payload and of replacements.
ctypedef struct Walk:
    uint32_t at                # old
    uint32_t end
    uint32_t edit              # the next
    uint32_t block             # of the replacement the walk is in
    uint32_t left              # bytes left of it
    const uint8_t* payload     # of a segment that begins at `start`
    uint32_t start


cdef void walk_begin(const Plan* plan, const PacketRecord* packet, Walk* walk) noexcept nogil:
    walk.at = plan.start
    walk.end = plan.end
    walk.edit = plan.edit
    walk.left = 0
    walk.payload = packet.payload
    walk.start = packet.seq


cdef bint next_piece(const EditStore* store, Walk* walk, Span* out) noexcept nogil:
    cdef const Edit* edit
    while walk.edit and not walk.left:
        edit = edit_at(store, walk.edit)
        if seq_leq(walk.end, edit.old_start):
            walk.edit = 0
        elif seq_lt(walk.at, edit.old_start):
            return own_piece(walk, edit.old_start, out)
        else:
            walk.left = edit.new_len
            walk.block = edit.block
            walk.at = old_end(edit)
            walk.edit = edit.next
    if walk.left:
        out.p = block_at(store, walk.block).data
        out.n = min(walk.left, <uint32_t> EDIT_BLOCK)
        walk.left -= <uint32_t> out.n
        walk.block = block_at(store, walk.block).next
        return True
    return seq_lt(walk.at, walk.end) and own_piece(walk, walk.end, out)


cdef inline bint own_piece(Walk* walk, uint32_t end, Span* out) noexcept nogil:
    """A piece of the payload itself."""
    out.p = walk.payload + (walk.at - walk.start)
    out.n = end - walk.at
    walk.at = end
    return True


cdef void edits_copy(const EditStore* store, const Plan* plan, const PacketRecord* packet, uint8_t* out) noexcept nogil:
    cdef uint32_t skip = plan.skip
    cdef Walk walk
    cdef Span piece
    walk_begin(plan, packet, &walk)
    while next_piece(store, &walk, &piece):
        if skip >= piece.n:
            skip -= <uint32_t> piece.n
            continue
        memcpy(out, piece.p + skip, piece.n - skip)
        out += piece.n - skip
        skip = 0


# --- edits noted ----------------------------------------------------------------------------------------

cdef int edits_replace(EditStore* store, uint32_t index, const PacketRecord* packet, const uint8_t* data,
                       size_t n) noexcept nogil:
    cdef Edits* e = edits_at(store, index)
    cdef uint32_t length = packet.payload_len, end = packet.seq + length
    cdef int32_t ahead = seq_diff(packet.seq, e.nxt)
    cdef uint32_t seen = 0
    cdef size_t said = 0
    if length == 0 or packet.payload_cap < length or packet.flags & (SYN | RST):
        return EDITS_NO_PAYLOAD
    if seq_leq(end, e.nxt):
        return EDITS_SEEN
    if ahead > (0 if e.ordered else <int32_t> MAX_AHEAD):
        return EDITS_BEYOND_HOLE
    if ahead < 0:
        seen = <uint32_t> -ahead
        if not says_the_same(store, e, packet, data, n, &said):
            e.withhold = e.ordered
            return EDITS_PARTLY_SEEN
    data += said
    n -= said
    if n == length - seen and memcmp(data, packet.payload + seen, n) == 0:
        e.nxt = end
        return EDITS_NOTED
    return note_edit(store, e, packet.seq + seen, end, data, n)


cdef bint says_the_same(const EditStore* store, const Edits* e, const PacketRecord* packet, const uint8_t* data,
                        size_t n,
                        size_t* said) noexcept nogil:
    """Does a replacement begin with what became of the bytes seen before? Then *said* of its bytes are that."""
    cdef Plan plan
    cdef Walk walk
    cdef Span piece
    plan.start = packet.seq
    plan.end = e.nxt
    plan.edit = first_beyond(store, e, packet.seq)
    if e.folded and seq_lt(packet.seq, e.floor):
        return False                           # no longer known
    if plan.edit and seq_lt(edit_at(store, plan.edit).old_start, packet.seq):
        return False                           # it begins within a replacement
    walk_begin(&plan, packet, &walk)
    while next_piece(store, &walk, &piece):
        if piece.n > n - said[0] or memcmp(data + said[0], piece.p, piece.n) != 0:
            return False
        said[0] += piece.n
    return True


cdef int note_edit(EditStore* store, Edits* e, uint32_t start, uint32_t end, const uint8_t* data,
                   size_t n) noexcept nogil:
    cdef uint32_t index
    cdef Edit* edit
    if n > store.half_budget or cost(<uint32_t> n) > store.half_budget - e.held_bytes or e.count == MAX_EDITS:
        return EDITS_BUDGET
    # Edits stay comparable modulo 2**32, whatever a sender does that no window holds back.
    if e.head and (end - edit_at(store, e.head).old_start > MAX_SPAN or seq_lt(start, old_end(edit_at(store, e.tail)))):
        return EDITS_BUDGET
    index = pool_take(&store.edits)
    if not index:
        return EDITS_BUDGET
    edit = edit_at(store, index)
    if not keep_bytes(store, edit, data, <uint32_t> n):
        give_edit(store, index)
        return EDITS_BUDGET
    edit.old_start = start
    edit.old_len = end - start
    edit.new_start = start + e.shift
    edit.next = 0
    if e.tail:
        edit_at(store, e.tail).next = index
    else:
        e.head = index
    e.tail = index
    e.count += 1
    e.held_bytes += cost(edit.new_len)
    e.shift += edit.new_len - edit.old_len
    e.nxt = end
    e.guessed = False
    return EDITS_NOTED


# --- segments of the sender -----------------------------------------------------------------------------

cdef void edits_outgoing(EditStore* store, uint32_t index, const PacketRecord* packet, Plan* plan) noexcept nogil:
    cdef Edits* e = edits_at(store, index)
    cdef uint32_t end = packet.seq + packet.payload_len + (packet.flags & FIN != 0)
    cdef int32_t ahead = seq_diff(end, e.nxt)
    memset(plan, 0, sizeof(Plan))
    plan.as_is = True
    plan.seq = packet.seq
    plan.length = packet.payload_len
    plan.flags = packet.flags
    plan.urgent = packet.urgent
    if packet.flags & SYN:
        return
    if packet.flags & RST:
        plan_reset(store, e, packet, plan)
        return
    if ahead > MAX_AHEAD:
        plan.seq += e.shift
        return
    if e.withhold:
        plan_seen(store, index, packet, plan)
        return
    if e.ordered and end != packet.seq and seq_lt(e.nxt, packet.seq):
        plan.drop = True
        ask_ack(store, e, plan)
        return
    if packet.payload_len == 0:
        plan.seq = new_of(store, e, packet.seq)
    elif e.folded and seq_leq(packet.seq + packet.payload_len, e.floor):
        plan_old(store, e, packet, plan)
    else:
        plan_data(store, e, packet, plan)
    plan_urgent(store, e, packet, plan)
    # In order, a bare segment from beyond a hole says nothing about the bytes of the hole: they are still to come.
    if ahead > 0 and not plan.drop and (end != packet.seq or not e.ordered):
        e.nxt = end
        e.guessed = False


cdef void plan_seen(EditStore* store, uint32_t index, const PacketRecord* packet, Plan* plan) noexcept nogil:
    """Send again what was sent before, and no more of a segment: its new bytes come again, and can be edited then."""
    cdef Edits* e = edits_at(store, index)
    cdef PacketRecord seen = packet[0]
    e.withhold = False
    seen.payload_len = min(e.nxt - packet.seq, packet.payload_len)
    seen.payload_cap = min(packet.payload_cap, seen.payload_len)
    seen.flags &= ~<uint16_t> (FIN | PSH)
    edits_outgoing(store, index, &seen, plan)
    if plan.as_is and not plan.drop:
        plan_pieces(store, e, &seen, plan)


cdef void ask_ack(const EditStore* store, const Edits* e, Plan* plan) noexcept nogil:
    plan.own_ack = True
    plan.ack = old_of(store, e, e.una)
    plan.window = window_after(store, e, e.una, e.window)


cdef void plan_reset(const EditStore* store, const Edits* e, const PacketRecord* packet, Plan* plan) noexcept nogil:
    """A RST counts if it names exactly what the receiver expects (RFC 5961 section 3.2)."""
    if packet.seq == old_of(store, e, e.una):
        plan.seq = e.una                       # the sender could not know better inside a replacement
    else:
        plan.seq = new_of(store, e, packet.seq)


cdef void plan_old(const EditStore* store, const Edits* e, const PacketRecord* packet, Plan* plan) noexcept nogil:
    """Data that was acknowledged long ago: a keep-alive, or the sender has not been told."""
    cdef uint32_t end = packet.seq + packet.payload_len
    plan.as_is = False
    plan.start = plan.end = end
    plan.length = 0
    if packet.flags & FIN:
        plan.seq = new_of(store, e, end)
    elif packet.payload_len == 1:              # RFC 9293 section 3.8.4: with or without a byte of garbage
        plan.seq = new_of(store, e, end) - 1
    else:
        plan.seq = e.nxt + e.shift             # its own acknowledgement still counts
        ask_ack(store, e, plan)


cdef void plan_data(const EditStore* store, const Edits* e, const PacketRecord* packet, Plan* plan) noexcept nogil:
    cdef const Edit* edit
    plan.start = seq_max(packet.seq, e.floor) if e.folded else packet.seq
    plan.end = packet.seq + packet.payload_len
    plan.edit = first_beyond(store, e, plan.start)
    plan.seq = plan.start + shift_before(store, e, plan.edit)
    if plan.edit:
        edit = edit_at(store, plan.edit)
        if seq_lt(edit.old_start, plan.end):
            if seq_lt(edit.old_start, plan.start):
                plan.seq = edit.new_start
            plan_pieces(store, e, packet, plan)
            return
        plan.edit = 0
    if plan.start != packet.seq:
        plan_pieces(store, e, packet, plan)


cdef void plan_pieces(const EditStore* store, const Edits* e, const PacketRecord* packet, Plan* plan) noexcept nogil:
    """Measure what is put together, less what the receiver has of it."""
    cdef int32_t acknowledged = seq_diff(e.una, plan.seq)
    cdef Walk walk
    cdef Span piece
    plan.as_is = False
    plan.drop = packet.payload_cap < packet.payload_len            # cannot be told without all of it
    plan.length = 0
    walk_begin(plan, packet, &walk)
    while next_piece(store, &walk, &piece):
        plan.length += <uint32_t> piece.n
    if acknowledged > 0:
        plan.skip = min(<uint32_t> acknowledged, plan.length)
        plan.length -= plan.skip
        plan.seq += plan.skip
    if plan.length == 0 and acknowledged >= 0:
        ask_ack(store, e, plan)


cdef void plan_urgent(const EditStore* store, const Edits* e, const PacketRecord* packet, Plan* plan) noexcept nogil:
    """Let the urgent pointer name the same place, if it still lies in or behind the segment."""
    cdef int32_t distance
    if not packet.flags & URG:
        return
    distance = seq_diff(new_of(store, e, packet.seq + packet.urgent), plan.seq)
    plan.urgent = <uint16_t> min(max(distance, 0), 0xFFFF)
    if distance < 0:
        plan.flags &= ~<uint16_t> URG


cdef bint edits_cut(const Plan* plan, uint32_t most, Cut* cut) noexcept nogil:
    cdef uint32_t at = cut.at + cut.length
    if cut.begun:
        if at == plan.length:
            return False
        cut.number += 1
    cut.begun = True
    cut.at = at
    cut.length = min(plan.length - at, max(most, <uint32_t> 1))
    cut.seq = plan.seq + at
    cut.flags = plan.flags
    cut.urgent = plan.urgent
    if at + cut.length < plan.length:
        cut.flags &= ~<uint16_t> (FIN | PSH)
    if at:
        cut.flags &= ~<uint16_t> CWR           # RFC 3168 section 6.1.2: once
    if plan.flags & URG and at:
        cut.urgent = <uint16_t> (plan.urgent - at) if plan.urgent >= at else 0
        if plan.urgent < at:
            cut.flags &= ~<uint16_t> URG
    return True


# --- acknowledgements of the receiver -------------------------------------------------------------------

cdef void edits_incoming_ack(EditStore* store, uint32_t index, const PacketRecord* packet,
                             Acknowledgement* out) noexcept nogil:
    cdef Edits* e = edits_at(store, index)
    out.ack = packet.ack
    out.window = packet.window
    out.sack_count = packet.sack_count
    memcpy(out.sack, packet.sack, 8 * <size_t> packet.sack_count)
    if not packet.flags & ACK or packet.flags & SYN:
        return
    if e.guessed and 0 < seq_diff(packet.ack, e.nxt) <= MAX_AHEAD:
        e.nxt = packet.ack
    if seq_lt(e.una, packet.ack) and seq_leq(packet.ack, e.nxt + e.shift):
        e.una = packet.ack
        fold(store, e)
    if seq_leq(e.una, packet.ack):
        e.window = packet.window
    out.ack = old_of(store, e, packet.ack)
    out.window = window_after(store, e, packet.ack, packet.window)
    translate_blocks(store, e, packet, out)


cdef void fold(EditStore* store, Edits* e) noexcept nogil:
    """Let go of the edits that are acknowledged in full, and keep the floor within reach."""
    cdef uint32_t acknowledged
    while e.head and seq_leq(new_end(edit_at(store, e.head)), e.una):
        e.floor = old_end(edit_at(store, e.head))
        e.folded = True
        drop_first(store, e)
    if e.folded:
        acknowledged = old_of(store, e, e.una)
        if seq_diff(acknowledged, e.floor) > MAX_LAG:
            e.floor = acknowledged - MAX_LAG // 2


cdef void translate_blocks(const EditStore* store, const Edits* e, const PacketRecord* packet,
                           Acknowledgement* out) noexcept nogil:
    """SACK blocks, and those of D-SACK; one that covers nothing whole in the sender's numbers is left out."""
    cdef uint32_t floor = e.floor + shift_before(store, e, e.head)
    cdef uint32_t left, right
    cdef uint8_t i
    out.sack_count = 0
    for i in range(packet.sack_count):
        if e.folded and seq_lt(packet.sack[2 * i], floor):
            continue                           # a duplicate of what is no longer known
        left = old_left(store, e, packet.sack[2 * i])
        right = old_of(store, e, packet.sack[2 * i + 1])
        if seq_lt(left, right):
            out.sack[2 * out.sack_count] = left
            out.sack[2 * out.sack_count + 1] = right
            out.sack_count += 1
