"""Holdings: the bytes of a half that are at hand, wherever they are.

There are four places: blocks of kept bytes (tcp/retention), the parts of the running batch, the chunks handed over
before (tcp/past; who reads is given the last of them alone), and pieces beyond a hole (tcp/pieces). Each is a list
ordered by offset; a cursor walks them side by side. A byte that is in two places is the same in both.
"""

from libc.stdint cimport UINT64_MAX, int64_t, uint32_t
from libc.string cimport memcmp, memcpy

from aiomos.tcp.flows cimport KEEP
from aiomos.tcp.past cimport PastRun, past_find, past_start
from aiomos.tcp.pieces cimport Piece, bytes_held, first_overlap, piece_at
from aiomos.tcp.tracks cimport (
    BASED,
    PART_DATA,
    Missed,
    Part,
    PartLink,
    data_seq,
    link_at,
    missed_at,
    offset_of,
    part_at,
)
from aiomos.tcp.retention cimport KeptBlock, kept_at, kept_bytes

ctypedef struct Stretch:
    uint64_t start             # stream offsets
    uint64_t end
    const uint8_t* data

# How far each place has been walked.
ctypedef struct Cursor:
    uint32_t kept
    uint32_t part
    uint32_t piece
    PastRun* past


cdef void cursor_begin(const Streams* s, const Track* t, uint64_t offset, Cursor* cursor) noexcept nogil:
    """Stand at *offset*; beyond the edge there are only pieces."""
    cursor.piece = first_overlap(&s.store, &t.held, offset) if t.held.head[0] else 0
    cursor.kept = cursor.part = 0
    cursor.past = t.past.last
    if offset < t.edge:
        cursor.kept = t.kept_head
        if t.kept_tail and kept_at(s, t.kept_tail).start <= offset:
            cursor.kept = t.kept_tail
        cursor.part = find_part(<Streams*> s, <Track*> t, offset)


# --- parts by their offset ----------------------------------------------------------------------------
# A batch may bring a half 60,000 parts and as many looks at them, so going through the list is out of the question, and
# an index that each part pays for is a waste where nobody looks. So links are made when somebody does, for the parts
# that have come since: each once, and the way to a part is logarithmic.

cdef uint32_t find_part(Streams* s, Track* t, uint64_t offset) noexcept nogil:
    """The last part that begins at or before *offset*, else the first; 0 without parts."""
    cdef uint32_t at = t.out_tail
    cdef const PartLink* link
    if not at or part_at(s, at).offset <= offset:
        return at
    if part_at(s, t.out_head).offset + part_at(s, t.out_head).length > offset:
        return t.out_head
    link_parts(s, t)
    while part_at(s, at).offset > offset:          # before it is the first, which begins at or before it
        link = link_at(s, at)
        at = link.jump if link.jump and part_at(s, link.jump).offset > offset else link.before
    return at


cdef void link_parts(Streams* s, Track* t) noexcept nogil:
    """Make the links of the parts that have come since somebody looked."""
    cdef uint32_t before = t.out_linked, at = part_at(s, before).next if before else t.out_head
    while at:
        link_part(s, before, at)
        before = at
        at = part_at(s, at).next
    t.out_linked = before


cdef void link_part(Streams* s, uint32_t before, uint32_t at) noexcept nogil:
    cdef const Part* part = part_at(s, at)
    cdef const Part* last = part_at(s, before)
    cdef PartLink* link = link_at(s, at)
    link.before = link.jump = before
    link.ordinal = link_at(s, before).ordinal + 1 if before else 1
    while link.jump and link_at(s, link.jump).ordinal > (link.ordinal & (link.ordinal - 1)):
        link.jump = link_at(s, link.jump).jump
    link.run = 0
    if part.kind == PART_DATA:
        link.run = at
        if before and link_at(s, before).run and last.offset + last.length == part.offset:
            link.run = link_at(s, before).run
        link_at(s, link.run).run_last = at


cdef void pass_run(const Streams* s, Cursor* cursor, Stretch* stretch) noexcept nogil:
    """Let a stretch that ends in a run of parts, or at it, reach to the run's end; they are linked."""
    cdef uint32_t last
    cdef const Part* part
    while cursor.part and part_at(s, cursor.part).offset + part_at(s, cursor.part).length <= stretch.start:
        cursor.part = part_at(s, cursor.part).next
    if not cursor.part or not link_at(s, cursor.part).run or part_at(s, cursor.part).offset > stretch.end:
        return
    last = link_at(s, link_at(s, cursor.part).run).run_last
    part = part_at(s, last)
    stretch.end = max(stretch.end, part.offset + part.length)
    cursor.part = last


cdef bint next_stretch(const Streams* s, const Track* t, Cursor* cursor, uint64_t offset, Stretch* out) noexcept nogil:
    """The bytes at *offset*, or the next there are; offsets of one cursor never go back."""
    cdef KeptBlock* block
    cdef const Part* part
    cdef const Piece* piece
    out.start = UINT64_MAX
    out.data = NULL
    while cursor.kept:
        block = kept_at(s, cursor.kept)
        if block.start + block.length > offset:
            consider(out, offset, block.start, block.start + block.length, kept_bytes(block))
            break
        cursor.kept = block.next
    while cursor.past != NULL:
        if cursor.past.end > offset:
            consider(out, offset, cursor.past.start, cursor.past.end, cursor.past.data)
            break
        cursor.past = cursor.past.after
    while cursor.part:
        part = part_at(s, cursor.part)
        if part.kind == PART_DATA and part.offset + part.length > offset:
            consider(out, offset, part.offset, part.offset + part.length, part.data)
            break
        cursor.part = part.next
    while cursor.piece:
        piece = piece_at(&s.store, cursor.piece)
        if piece.data != NULL and piece.end > offset:
            consider(out, offset, piece.start, piece.end, piece.data)
            break
        cursor.piece = piece.next[0]
    return out.data != NULL


cdef void consider(Stretch* best, uint64_t offset, uint64_t start, uint64_t end, const uint8_t* data) noexcept nogil:
    """Take a stretch, from *offset* on, if it begins before the best so far, or reaches farther."""
    if start < offset:
        data += offset - start
        start = offset
    if start < best.start or (start == best.start and end > best.end):
        best.start = start
        best.end = end
        best.data = data


# --- reading ----------------------------------------------------------------------------------------

cdef uint64_t track_read(const Streams* s, const Track* t, uint64_t offset, uint64_t n, uint8_t* out) noexcept nogil:
    """Copy the bytes that are at hand from *offset* on without a break, *n* at most; returns how many."""
    cdef Cursor cursor
    cursor_begin(s, t, offset, &cursor)
    return read_on(s, t, &cursor, offset, n, out)


cdef uint64_t track_evidence(const Streams* s, const Track* t, uint64_t offset, uint64_t n,
                             uint8_t* out) noexcept nogil:
    """As track_read(), of all that a segment sent again is compared with: also of what was handed over long before."""
    cdef Cursor cursor
    cursor_begin(s, t, offset, &cursor)
    cursor.past = past_find(&t.past, offset)
    return read_on(s, t, &cursor, offset, n, out)


cdef uint64_t read_on(const Streams* s, const Track* t, Cursor* cursor, uint64_t offset, uint64_t n,
                      uint8_t* out) noexcept nogil:
    cdef Stretch stretch
    cdef uint64_t done = 0, length
    while done < n and next_stretch(s, t, cursor, offset + done, &stretch) and stretch.start == offset + done:
        length = min(stretch.end - stretch.start, n - done)
        memcpy(out + done, stretch.data, length)
        done += length
    return done


cdef const uint8_t* track_view(const Streams* s, const Track* t, uint64_t offset, uint64_t n,
                               uint64_t* available) noexcept nogil:
    """The bytes that track_read() would copy, if they lie together, else NULL; *available* is how many they are.

    Valid until the batch is delivered or the track takes in another segment.
    """
    cdef Cursor cursor
    cdef Stretch stretch
    cdef const uint8_t* data = NULL
    cdef uint64_t done = 0
    cursor_begin(s, t, offset, &cursor)
    while done < n and next_stretch(s, t, &cursor, offset + done, &stretch) and stretch.start == offset + done:
        data = stretch.data if done == 0 else NULL
        done += min(stretch.end - stretch.start, n - done)
    available[0] = done
    return data


cdef size_t track_ranges(const Streams* s, const Track* t, uint64_t start, uint64_t end, uint64_t* starts,
                         uint64_t* ends, size_t most) noexcept nogil:
    """The ranges between two offsets that track_read() can read, in order, apart, *most* at most; returns how many."""
    cdef Cursor cursor
    cdef Stretch stretch
    cdef uint64_t offset = start
    cdef size_t count = 0
    cursor_begin(s, t, start, &cursor)
    link_parts(<Streams*> s, <Track*> t)
    while next_stretch(s, t, &cursor, offset, &stretch) and stretch.start < end:
        pass_run(s, &cursor, &stretch)
        stretch.end = min(stretch.end, end)
        if count and ends[count - 1] == stretch.start:
            ends[count - 1] = stretch.end
        elif count < most:
            starts[count] = stretch.start
            ends[count] = stretch.end
            count += 1
        else:
            break
        offset = stretch.end
    return count


# --- judging a segment before it is taken in ----------------------------------------------------------

cdef uint64_t track_unseen(const Streams* s, const Track* t, uint64_t start, uint64_t end) noexcept nogil:
    """How many bytes of a range were not seen before: not delivered, not held, or given up."""
    cdef uint64_t beyond = max(start, t.edge), unseen = 0
    cdef uint32_t at = t.missed
    cdef const Missed* gap
    if beyond < end:
        unseen = end - beyond - bytes_held(&s.store, &t.held, beyond, end)
    while at:
        gap = missed_at(s, at)
        if gap.start < end and start < gap.end:
            unseen += min(gap.end, end) - max(gap.start, start)
        at = gap.next
    return unseen


cdef bint track_conflict(const Streams* s, const Track* t, const PacketRecord* packet, uint64_t* offset,
                         uint64_t* length) noexcept nogil:
    """Does a segment say something else than the bytes at hand? To be asked before it is taken in.

    *offset* and *length* are set to the stretch from the first byte that differs to the last.
    """
    cdef Stretch where
    if not t.flags & BASED or not differing(s, t, packet, UINT64_MAX, &where):
        return False
    offset[0] = where.start
    length[0] = where.end - where.start
    return True


cdef bint differs_from_delivered(const Streams* s, const Track* t, const PacketRecord* packet) noexcept nogil:
    """Does a segment say something else than what was delivered, as far as that is at hand?"""
    cdef Stretch where
    return differing(s, t, packet, t.edge, &where)


cdef bint differing(const Streams* s, const Track* t, const PacketRecord* packet, uint64_t limit,
                    Stretch* where) noexcept nogil:
    """Compare a payload with what is at hand before *limit*; of what was delivered, with what is kept or remembered."""
    cdef int64_t start = offset_of(t, data_seq(packet)), end = start + packet.payload_cap
    cdef uint64_t at = <uint64_t> max(start, 0), stop
    cdef Cursor cursor
    cdef Stretch stretch
    cdef bint found = False
    if end <= 0:
        return False
    limit = min(limit, <uint64_t> end)
    if not t.half.flags & KEEP:
        at = max(at, past_start(&s.past, &t.past, t.edge))
    cursor_begin(s, t, at, &cursor)
    cursor.past = past_find(&t.past, at)
    while at < limit and next_stretch(s, t, &cursor, at, &stretch) and stretch.start < limit:
        stop = min(stretch.end, limit)
        if note_difference(packet.payload + (<int64_t> stretch.start - start), &stretch, stop, where, found):
            found = True
        at = stop
    return found


cdef bint note_difference(const uint8_t* data, const Stretch* stretch, uint64_t stop, Stretch* where,
                          bint extend) noexcept nogil:
    """Note from which byte to which *data* differs from a stretch, or extend what was noted; false if it does not."""
    cdef uint64_t first = 0, after = stop - stretch.start
    if memcmp(data, stretch.data, after) == 0:
        return False
    while data[first] == stretch.data[first]:
        first += 1
    while data[after - 1] == stretch.data[after - 1]:
        after -= 1
    if not extend:
        where.start = stretch.start + first
    where.end = stretch.start + after
    return True
