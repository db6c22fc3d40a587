# A timer wheel, lazy and intrusive: docs/design/timers.md tells why.
#
# Time goes in steps, and each slot lists the records to be looked at in one step. A record is linked at the deadline it
# has then, and may move it on without a word; when its slot has come, wheel_due() names it, and its owner lets go of it
# or links it again at the deadline it has now. Nobody is named before the deadline of its link, and each in the first
# step at or after it, or earlier where that lies farther ahead than the wheel reaches.
#
# Records are named by 32-bit index, 0 for none, and lie at a fixed distance from one another; each holds a WheelLink.
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from * nogil:
    int count_trailing_zeros "__builtin_ctzll"(unsigned long long bits) noexcept

cdef enum:
    WHEEL_UNLINKED = 0xFFFF    # WheelLink.slot of a record in no slot
    FEWEST_WHEEL_SLOTS = 64
    MOST_WHEEL_SLOTS = 1 << 15

# Ten bytes, since a flow's record has no more. Of a record that is not linked, `next` and `prev` are its owner's.
ctypedef packed struct WheelLink:
    uint32_t next              # in the slot's list
    uint32_t prev
    uint16_t slot

ctypedef struct Wheel:
    uint8_t* links             # WheelLink of record 0
    size_t stride              # from that of one record to that of the next
    uint64_t* occupied         # a bit for each slot that holds records; `heads` are behind these
    uint32_t* heads            # first record of each slot
    uint32_t mask              # slots - 1
    uint32_t linked            # records in all slots
    int64_t step_ns
    int64_t tick               # the step looked at last, to its end if wheel_due() gave 0; INT64_MIN: none yet

cdef inline bint wheel_open(Wheel* wheel, int64_t step_ns, uint32_t slots, WheelLink* first,
                            size_t stride) noexcept nogil:
    """Set up an empty wheel. *slots* is a power of two within bounds; *first* is the link of record 0, which is none.

    False when memory cannot be had, or a bound is not kept.
    """
    wheel.occupied = NULL
    if step_ns < 1 or slots & slots - 1 or not FEWEST_WHEEL_SLOTS <= slots <= MOST_WHEEL_SLOTS:
        return False
    wheel.links, wheel.stride = <uint8_t*> first, stride
    wheel.step_ns, wheel.mask, wheel.linked, wheel.tick = step_ns, slots - 1, 0, INT64_MIN
    wheel.occupied = <uint64_t*> calloc(slots // 64 + slots // 2, sizeof(uint64_t))
    if wheel.occupied == NULL:
        return False
    wheel.heads = <uint32_t*> (wheel.occupied + slots // 64)
    return True

cdef inline void wheel_close(Wheel* wheel) noexcept nogil:
    free(wheel.occupied)
    wheel.occupied = NULL

cdef inline int64_t wheel_step(const Wheel* wheel, int64_t time_ns) noexcept nogil:
    """The step that a time is in; division rounds towards zero, and times may be before 1970."""
    cdef int64_t step = time_ns // wheel.step_ns
    return step - (time_ns < step * wheel.step_ns)

cdef inline void wheel_start(Wheel* wheel, int64_t now_ns) noexcept nogil:
    """Set the clock of a wheel in which nothing is linked, forwards or back."""
    wheel.tick = wheel_step(wheel, now_ns)

cdef inline WheelLink* wheel_link_of(const Wheel* wheel, uint32_t index) noexcept nogil:
    return <WheelLink*> (wheel.links + index * wheel.stride)

cdef inline void wheel_unlink(Wheel* wheel, uint32_t index) noexcept nogil:
    """Take a record out of its slot; does nothing when it is in none."""
    cdef WheelLink* link = wheel_link_of(wheel, index)
    cdef uint32_t slot = link.slot
    if slot == WHEEL_UNLINKED:
        return
    if link.prev:
        wheel_link_of(wheel, link.prev).next = link.next
    else:
        wheel.heads[slot] = link.next
        if not link.next:
            wheel.occupied[slot >> 6] &= ~(<uint64_t> 1 << (slot & 63))
    if link.next:
        wheel_link_of(wheel, link.next).prev = link.prev
    link.slot = WHEEL_UNLINKED
    wheel.linked -= 1

cdef inline void wheel_link(Wheel* wheel, uint32_t index, int64_t deadline_ns) noexcept nogil:
    """Have a record looked at in the first step at or after its deadline, or soon if that is past; moves it if need be.

    Not in the step looked at last, so that whoever links a record again and again is still asked once a step only.
    """
    cdef WheelLink* link = wheel_link_of(wheel, index)
    cdef int64_t due = deadline_ns // wheel.step_ns        # rounds towards zero
    cdef uint32_t slot
    due += due * wheel.step_ns < deadline_ns
    due = max(wheel.tick + 1, min(due, wheel.tick + wheel.mask))
    slot = <uint32_t> due & wheel.mask
    if link.slot == slot:
        return
    wheel_unlink(wheel, index)
    link.slot = <uint16_t> slot
    link.prev = 0
    link.next = wheel.heads[slot]
    if link.next:
        wheel_link_of(wheel, link.next).prev = index
    wheel.heads[slot] = index
    wheel.occupied[slot >> 6] |= <uint64_t> 1 << (slot & 63)
    wheel.linked += 1

cdef inline int64_t wheel_occupied(const Wheel* wheel, int64_t step, int64_t limit) noexcept nogil:
    """The first step from this one on whose slot holds records; *limit* if none before it does."""
    cdef uint32_t slot
    cdef uint64_t bits
    while step < limit:
        slot = <uint32_t> step & wheel.mask
        bits = wheel.occupied[slot >> 6] >> (slot & 63)
        if bits:
            return min(step + count_trailing_zeros(bits), limit)
        step += 64 - (slot & 63)
    return limit

cdef inline uint32_t wheel_due(Wheel* wheel, int64_t now_ns) noexcept nogil:
    """Unlink and name a record whose step has come; 0 when there is none left up to *now_ns*.

    The caller links it again at its deadline, or lets go of it, and asks again. They come in the order of their steps,
    if they are asked for once a round.
    """
    cdef int64_t now = wheel_step(wheel, now_ns)
    cdef uint32_t index
    if not wheel.linked:
        wheel.tick = max(wheel.tick, now)
        return 0
    if wheel.tick < now - wheel.mask - 1:      # every slot is due: once round is enough
        wheel.tick = now - wheel.mask - 1
    while wheel.tick <= now:
        index = wheel.heads[<uint32_t> wheel.tick & wheel.mask]
        if index:
            wheel_unlink(wheel, index)
            return index
        if wheel.tick == now:
            break
        wheel.tick = wheel_occupied(wheel, wheel.tick + 1, now)
    return 0

cdef inline uint32_t wheel_first(const Wheel* wheel) noexcept nogil:
    """The first record of the slot that comes due next, still linked; 0 when none is linked."""
    if not wheel.linked:
        return 0
    return wheel.heads[<uint32_t> wheel_occupied(wheel, wheel.tick, wheel.tick + wheel.mask) & wheel.mask]

cdef inline int64_t wheel_next_ns(const Wheel* wheel) noexcept nogil:
    """When wheel_due() will name a record, if none is linked meanwhile; INT64_MAX when none is linked."""
    if not wheel.linked:
        return INT64_MAX
    if wheel.tick == INT64_MIN:
        return INT64_MIN
    return wheel_occupied(wheel, wheel.tick, wheel.tick + wheel.mask) * wheel.step_ns

cdef inline int64_t wheel_rests_until(const Wheel* wheel) noexcept nogil:
    """Until when wheel_due() names nobody, whatever is linked meanwhile, now that it gave 0."""
    return (wheel.tick + 1) * wheel.step_ns
