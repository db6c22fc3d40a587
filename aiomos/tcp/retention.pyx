"""Retention: the delivered bytes of a half that are kept, the newest within a budget.

At the end of a batch its parts are copied into blocks, in order. A half begins with small blocks, so that the many
halves that carry little cost little, and goes on with large ones. At the half's budget its oldest block goes; when all
halves together have used theirs up, all that is kept of the half goes that has kept bytes for longest.
"""

from libc.string cimport memcpy

from aiomos.tcp.tracks cimport GAP_UNREAD, PART_DATA, PART_GAP, Part, part_at, track_at, track_index
from aiomos.wire.slabs cimport block_give, block_take

cdef enum:
    KEPT_SMALL = 512           # sizes of blocks, header included
    KEPT_LARGE = 4096
    MOST_TRIES = 16            # halves that give something up for a block of a size that none of them may have had
    SMALL_AT_FIRST = 2048      # memory of a half in small blocks before it gets large ones


cdef void track_keep(Streams* s, Track* t) noexcept nogil:
    """Keep the bytes of this batch; to be called before its parts are taken or dropped."""
    cdef uint64_t after = 0    # bytes of the batch behind the part at hand
    cdef uint32_t index = t.out_head
    cdef const Part* part
    while index:
        part = part_at(s, index)
        if part.kind == PART_DATA:
            after += part.length
        index = part.next
    index = t.out_head
    while index:
        part = part_at(s, index)
        if part.kind == PART_DATA:
            after -= part.length
            keep_part(s, t, part, after)
        elif part.kind == PART_GAP:
            pass_gap(s, t, part)
        index = part.next


cdef void track_forget(Streams* s, Track* t) noexcept nogil:
    """Drop all that is kept of a half."""
    start_over(s, t, t.kept_to)


cdef void keep_part(Streams* s, Track* t, const Part* part, uint64_t after) noexcept nogil:
    cdef uint64_t taken, done = 0, end = part.offset + part.length
    if end <= t.kept_to:                           # kept already
        return
    if part.offset != t.kept_to or after >= s.kept_half_budget:
        # What came between was not kept, or nothing of this will be left when the batch is done.
        start_over(s, t, part.offset if after < s.kept_half_budget else end)
    done = t.kept_to - part.offset
    while t.kept_to < end:
        taken = append(s, t, part.data + done, end - t.kept_to)
        if taken == 0:
            start_over(s, t, end)
        done += taken


cdef void pass_gap(Streams* s, Track* t, const Part* part) noexcept nogil:
    cdef uint64_t end = part.offset + part.length
    if end <= t.kept_to:
        return
    if part.reason == GAP_UNREAD or part.offset != t.kept_to:
        start_over(s, t, end)
    t.kept_to = end


cdef void start_over(Streams* s, Track* t, uint64_t offset) noexcept nogil:
    """Keep nothing before *offset*."""
    while t.kept_head:
        drop_oldest(s, t)
    t.kept_from = t.kept_to = offset


cdef uint64_t append(Streams* s, Track* t, const uint8_t* data, uint64_t length) noexcept nogil:
    """Copy as many bytes as one block takes behind those kept; returns how many, 0 when there is no room."""
    cdef uint32_t name = t.kept_tail
    cdef KeptBlock* block
    cdef uint64_t room
    if name:
        block = kept_at(s, name)
        room = kept_size(s, name) - sizeof(KeptBlock) - block.length
    if not name or room == 0 or block.start + block.length != t.kept_to:
        name = add_block(s, t, length)
        if name == 0:
            return 0
        block = kept_at(s, name)
        room = kept_size(s, name) - sizeof(KeptBlock)
    length = min(length, room)
    memcpy(kept_bytes(block) + block.length, data, length)
    block.length += <uint32_t> length
    t.kept_to += length
    return length


cdef uint32_t add_block(Streams* s, Track* t, uint64_t length) noexcept nogil:
    """A block at the end of the list, the oldest having made room; 0 when there is none."""
    cdef bint large = ((length > SMALL_AT_FIRST or t.kept_memory >= SMALL_AT_FIRST)
                       and s.kept_half_budget >= KEPT_LARGE)
    cdef uint32_t size = KEPT_LARGE if large else KEPT_SMALL
    cdef uint32_t name
    cdef KeptBlock* block
    cdef int _try
    while t.kept_head and t.kept_memory + size > s.kept_half_budget:
        drop_oldest(s, t)
        t.kept_from = kept_at(s, t.kept_head).start if t.kept_head else t.kept_to
    if size > s.kept_half_budget or size > s.kept_budget:
        return 0
    while s.kept_memory + size > s.kept_budget:
        make_room(s, t)
    name = block_take(&s.kept, size)
    for _try in range(MOST_TRIES):
        if name or not s.keepers_head:
            break
        make_room(s, t)
        name = block_take(&s.kept, size)
    if name == 0:
        return 0
    t.kept_memory += size
    s.kept_memory += size
    block = kept_at(s, name)
    block.next = 0
    block.length = 0
    block.start = t.kept_to
    if t.kept_tail:
        kept_at(s, t.kept_tail).next = name
    else:
        t.kept_head = name
        enter_keepers(s, t)
    t.kept_tail = name
    return name


cdef void make_room(Streams* s, Track* t) noexcept nogil:
    """Have the half that has kept bytes for longest give something up: the one at hand a block, another all."""
    cdef Track* oldest = track_at(s, s.keepers_head)
    if oldest == t:
        drop_oldest(s, t)
        t.kept_from = kept_at(s, t.kept_head).start if t.kept_head else t.kept_to
    else:
        start_over(s, oldest, oldest.kept_to)
    s.kept_dropped += 1


cdef void enter_keepers(Streams* s, Track* t) noexcept nogil:
    cdef uint32_t index = track_index(s, t)
    t.keeper_before = s.keepers_tail
    t.keeper_after = 0
    if s.keepers_tail:
        track_at(s, s.keepers_tail).keeper_after = index
    else:
        s.keepers_head = index
    s.keepers_tail = index


cdef void leave_keepers(Streams* s, Track* t) noexcept nogil:
    if t.keeper_before:
        track_at(s, t.keeper_before).keeper_after = t.keeper_after
    else:
        s.keepers_head = t.keeper_after
    if t.keeper_after:
        track_at(s, t.keeper_after).keeper_before = t.keeper_before
    else:
        s.keepers_tail = t.keeper_before


cdef void drop_oldest(Streams* s, Track* t) noexcept nogil:
    cdef uint32_t name = t.kept_head
    t.kept_head = kept_at(s, name).next
    if not t.kept_head:
        t.kept_tail = 0
        leave_keepers(s, t)
    t.kept_memory -= kept_size(s, name)
    s.kept_memory -= kept_size(s, name)
    block_give(&s.kept, name)
