"""Pieces: what is held of one half beyond a hole, in a skip list ordered by offset.

Overlaps among pieces follow the policy of docs/reference/overlap.md. A piece and its bytes cost about what they are, in
blocks (wire/slabs) that all halves share within a budget. An eighth of it, and what a batch may bring at the least, is
left to pieces that wait for delivery.
"""

from libc.string cimport memcmp, memcpy, memset

from aiomos.wire.slabs cimport (
    UNIT,
    block_bytes,
    block_give,
    block_take,
    block_waits,
    size_for,
    slabs_close,
    slabs_open,
)

cdef enum:
    SKIP_LEVELS = 4
    MAX_PIECES = 4096          # held in one half
    BATCH_BYTES = 4 << 20      # blocks that a batch of a megabyte fills, if all of it is held, and more than that
    OWN_BYTES = UNIT - sizeof(Piece)               # that a piece has room for in itself


cdef bint store_open(Store* store, size_t held_bytes, size_t half_budget, uint32_t seed) noexcept nogil:
    """Set up *held_bytes* bytes behind holes; false without address space."""
    memset(store, 0, sizeof(Store))
    store.random = seed | 1
    store.budget = held_bytes - held_bytes // 8
    store.half_budget = <uint32_t> min(half_budget, <size_t> 1 << 31)
    store.waiting = held_bytes // 8 + BATCH_BYTES
    return slabs_open(&store.blocks, held_bytes + BATCH_BYTES)


cdef void store_close(Store* store) noexcept nogil:
    slabs_close(&store.blocks)


# --- the skip list --------------------------------------------------------------------------------

cdef int coin(Store* store) noexcept nogil:
    """Levels of a new piece: one more with probability 1/8 each (xorshift32 from a secret seed)."""
    cdef uint32_t x = store.random
    cdef int levels = 1
    x ^= x << 13
    x ^= x >> 17
    x ^= x << 5
    store.random = x
    while levels < SKIP_LEVELS and x & 7 == 0:
        levels += 1
        x >>= 3
    return levels


cdef void find_before(Store* store, Pieces* held, uint64_t offset, uint32_t** links) noexcept nogil:
    """The links, level by level, that lead to the first piece starting at or after *offset*."""
    cdef uint32_t* row = held.head
    cdef int level = SKIP_LEVELS - 1
    while level >= 0:
        while row[level] and piece_at(store, row[level]).start < offset:
            row = piece_at(store, row[level]).next
        links[level] = row + level
        level -= 1


cdef uint32_t first_overlap(const Store* store, const Pieces* held, uint64_t offset) noexcept nogil:
    """The first piece that ends after *offset*."""
    cdef const uint32_t* row = &held.head[0]
    cdef uint32_t before = 0
    cdef int level = SKIP_LEVELS - 1
    while level >= 0:
        while row[level] and piece_at(store, row[level]).start <= offset:
            before = row[level]
            row = piece_at(store, before).next
        level -= 1
    if before and piece_at(store, before).end > offset:
        return before
    return piece_at(store, before).next[0] if before else held.head[0]


cdef uint64_t bytes_held(const Store* store, const Pieces* held, uint64_t start, uint64_t end) noexcept nogil:
    """How many bytes of a range the pieces cover."""
    cdef uint32_t at = first_overlap(store, held, start)
    cdef uint64_t total = 0
    cdef const Piece* piece
    while at:
        piece = piece_at(store, at)
        if piece.start >= end:
            break
        total += min(piece.end, end) - max(piece.start, start)
        at = piece.next[0]
    return total


cdef void unlink_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil:
    cdef uint32_t* links[SKIP_LEVELS]
    cdef const Piece* piece = piece_at(store, index)
    cdef int level
    find_before(store, held, piece.start, links)
    for level in range(SKIP_LEVELS):
        if links[level][0] == index:
            links[level][0] = piece.next[level]
    if piece.older:
        piece_at(store, piece.older).newer = piece.newer
    else:
        store.oldest = piece.newer
    if piece.newer:
        piece_at(store, piece.newer).older = piece.older
    else:
        store.newest = piece.older
    held.count -= 1
    store.count -= 1
    charge(store, held, -UNIT)


cdef inline void charge(Store* store, Pieces* held, int64_t size) noexcept nogil:
    held.bytes += <uint32_t> size
    store.bytes += <uint64_t> size


cdef void drop_block(Store* store, Pieces* held, Piece* piece) noexcept nogil:
    if piece.block:
        charge(store, held, -<int64_t> block_bytes(&store.blocks, piece.block))
        block_give(&store.blocks, piece.block)
        piece.block = 0
    piece.data = NULL


cdef uint32_t take_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil:
    """Hold a piece no more; returns the block that its bytes lie in, which the caller gives back."""
    cdef uint32_t block = piece_at(store, index).block
    unlink_piece(store, held, index)
    if not block:
        return index
    charge(store, held, -<int64_t> block_bytes(&store.blocks, block))
    block_give(&store.blocks, index)
    return block


cdef void drop_piece(Store* store, Pieces* held, uint32_t index) noexcept nogil:
    drop_block(store, held, piece_at(store, index))
    unlink_piece(store, held, index)
    block_give(&store.blocks, index)


cdef void drop_pieces(Store* store, Pieces* held) noexcept nogil:
    while held.head[0]:
        drop_piece(store, held, held.head[0])


cdef void drop_blocks(Store* store, Pieces* held) noexcept nogil:
    """Let the bytes go, and keep account of what is held."""
    cdef uint32_t at = held.head[0]
    while at:
        drop_block(store, held, piece_at(store, at))
        at = piece_at(store, at).next[0]


cdef void room_for(const Store* store, const Pieces* held, uint64_t start, uint64_t end, bint with_data,
                   Room* room) noexcept nogil:
    """How much a segment may take; pieces that it meets may cut it, and be cut.

    They are not counted where there is room even if it meets all of them.
    """
    cdef uint64_t length = end - start
    cdef uint32_t at
    room.pieces = 2                                # what is captured of it, and what was cut off
    room.bytes = UNIT
    room.block = 0
    if with_data and length > OWN_BYTES:
        room.block = length
        room.bytes += <uint64_t> UNIT << size_for(length)
    if (2 * held.count + room.pieces <= MAX_PIECES
            and held.bytes + room.bytes + 2 * UNIT * <uint64_t> held.count <= store.half_budget
            and store.bytes + room.bytes + 2 * UNIT * <uint64_t> held.count <= store.budget):
        return
    at = first_overlap(store, held, start)
    while at and piece_at(store, at).start < end:
        room.pieces += 1
        room.bytes += 2 * UNIT                     # a block is less than twice what it holds, or the smallest
        at = piece_at(store, at).next[0]


cdef bint half_has(const Store* store, const Pieces* held, const Room* room) noexcept nogil:
    return held.count + room.pieces <= MAX_PIECES and held.bytes + room.bytes <= store.half_budget


cdef bint store_has(const Store* store, const Room* room) noexcept nogil:
    return store.bytes + room.bytes <= store.budget and (
        store.blocks.memory.in_use + 2 <= store.blocks.memory.capacity
        or (block_waits(&store.blocks, UNIT) and block_waits(&store.blocks, room.block)))


cdef bint add_piece(Store* store, Pieces* held, uint64_t start, uint64_t end, const uint8_t* data,
                    const Piece* origin, uint32_t beside) noexcept nogil:
    """Hold the bytes from *start* to *end*; *origin* gives the segment's edges and time.

    It is as old as the piece *beside*, the youngest without one. False without a block.
    """
    cdef uint32_t* links[SKIP_LEVELS]
    cdef uint32_t index = block_take(&store.blocks, UNIT)
    cdef Piece* piece
    cdef int level, levels
    if index == 0:
        return False
    piece = piece_at(store, index)
    piece.start = start
    piece.end = end
    piece.seg_start = origin.seg_start
    piece.seg_end = origin.seg_end
    piece.time_ns = origin.time_ns
    piece.owner = origin.owner
    piece.data = NULL
    piece.block = 0
    piece.cut = data == NULL and origin.data != NULL
    if data != NULL and not copy_bytes(store, held, piece, data):
        block_give(&store.blocks, index)
        return False
    find_before(store, held, start, links)
    levels = coin(store)
    for level in range(SKIP_LEVELS):
        piece.next[level] = 0
        if level < levels:
            piece.next[level] = links[level][0]
            links[level][0] = index
    piece.older = beside if beside else store.newest
    piece.newer = piece_at(store, beside).newer if beside else 0
    if piece.older:
        piece_at(store, piece.older).newer = index
    else:
        store.oldest = index
    if piece.newer:
        piece_at(store, piece.newer).older = index
    else:
        store.newest = index
    held.count += 1
    store.count += 1
    charge(store, held, UNIT)
    return True


cdef bint copy_bytes(Store* store, Pieces* held, Piece* piece, const uint8_t* data) noexcept nogil:
    cdef uint64_t length = piece.end - piece.start
    cdef uint8_t* target = <uint8_t*> (piece + 1)
    if length > OWN_BYTES:
        piece.block = block_take(&store.blocks, length)
        if piece.block == 0:
            return False
        target = block_at(&store.blocks, piece.block)
        charge(store, held, block_bytes(&store.blocks, piece.block))
    memcpy(target, data, length)
    piece.data = target
    return True


# --- overlaps --------------------------------------------------------------------------------------

cdef bint new_wins(int policy, const Piece* old, const Piece* new, bint old_leads, uint64_t new_end) noexcept nogil:
    """The table of docs/reference/overlap.md; *new_end* is its new.end'."""
    if policy == OVERLAP_FIRST:
        return False
    if policy == OVERLAP_LAST:
        return True
    if policy == OVERLAP_LINUX:
        return new.start < old.seg_start or (new.start == old.seg_start and new.end > old.seg_end)
    if policy == OVERLAP_SOLARIS:
        return new_end > old.end if old_leads else new.end >= old.end
    return new.start < old.start


cdef bint leads(const Pieces* held, uint32_t index, const Piece* old, const Piece* new) noexcept nogil:
    return old.start < new.start or (old.start == new.start and held.head[0] == index)


cdef uint64_t solaris_end(Store* store, Pieces* held, uint32_t at, const Piece* new) noexcept nogil:
    """new.end': where a later piece that reaches beyond the new segment begins, else its end."""
    cdef Piece* old
    while at:
        old = piece_at(store, at)
        if old.start >= new.end:
            break
        if old.end > new.end and not leads(held, at, old, new):
            return old.start
        at = old.next[0]
    return new.end


cdef uint64_t hold_segment(Store* store, Pieces* held, const Piece* new, int policy, bint* differs) noexcept nogil:
    """Hold a segment beyond the edge, settling overlaps; returns how many of its bytes are new, and held.

    *new* describes it: start, end, seg_start, seg_end, time, owner and data (NULL at level BYTES). *differs* becomes
    true when its bytes differ from those held.
    """
    cdef uint32_t at = first_overlap(store, held, new.start), after
    cdef uint64_t cursor = new.start, kept = new.start, fresh = 0, new_end = new.end, start, end
    cdef Piece* old
    if policy == OVERLAP_SOLARIS:
        new_end = solaris_end(store, held, at, new)
    # `kept` to `cursor` is the stretch of the new segment that has won so far and is not stored yet.
    while at:
        old = piece_at(store, at)
        if old.start >= new.end:
            break
        after = old.next[0]
        start = old.start if old.start > cursor else cursor
        end = old.end if old.end < new.end else new.end
        fresh += start - cursor
        if new.data != NULL and old.data != NULL and start < new.captured_end and memcmp(
                new.data + (start - new.start), old.data + (start - old.start),
                min(end, new.captured_end) - start) != 0:
            differs[0] = True
        if not new_wins(policy, old, new, leads(held, at, old, new), new_end):
            fresh -= store_bytes(store, held, new, kept, start)
            kept = end
        else:
            yield_range(store, held, at, start, end)
        cursor = end
        at = after
    fresh += new.end - cursor
    return fresh - store_bytes(store, held, new, kept, new.end)


cdef uint64_t store_bytes(Store* store, Pieces* held, const Piece* new, uint64_t start,
                          uint64_t end) noexcept nogil:
    """Hold a stretch of a segment; what the snap length cut off becomes a piece without data.

    Returns how many of the bytes found no room, as if they had not come.
    """
    cdef uint64_t captured = end, refused = 0
    if start >= end:
        return 0
    if new.data != NULL and new.captured_end < end:
        captured = new.captured_end if new.captured_end > start else start
    if start < captured and not add_piece(
            store, held, start, captured, new.data + (start - new.start) if new.data != NULL else NULL, new, 0):
        refused = captured - start
    if captured < end and not add_piece(store, held, captured, end, NULL, new, 0):
        refused += end - captured
    return refused


cdef void yield_range(Store* store, Pieces* held, uint32_t index, uint64_t start, uint64_t end) noexcept nogil:
    """An old piece gives the bytes from *start* to *end* up."""
    cdef Piece* old = piece_at(store, index)
    cdef uint64_t old_end = old.end
    if start == old.start and end == old.end:
        drop_piece(store, held, index)
    elif start == old.start:
        if old.data != NULL:
            old.data += end - old.start
        old.start = end
    else:
        old.end = start
        if end < old_end:
            add_piece(store, held, end, old_end, old.data + (end - old.start) if old.data != NULL else NULL, old,
                      index)
