# Chunks of a half that were handed over, remembered to tell when a segment that comes again says something else.
#
# Which bytes are compared does not depend on how frames fall into batches: it goes by a clock of the bytes that were
# delivered, over all halves. Those of its running epoch and of the one before are; a chunk is let go once none of its
# bytes is.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    PAST_EPOCH = 8 << 20       # bytes
    PAST_OVERHEAD = 256        # what a part counts for beyond its bytes: it may become a chunk

cdef struct PastRun:
    const uint8_t* data
    uint64_t start             # stream offsets
    uint64_t end
    uint64_t ordinal           # in the list, from 1 on
    PastRun* before
    PastRun* after
    PastRun* jump              # the run whose ordinal has one bit less, if that is still there

# Of one half.
ctypedef struct Past:
    PastRun* last              # list by offset; NULL when there are none
    uint64_t first             # ordinal of the oldest that is there
    uint64_t former            # where the bytes of the epoch before `epoch` begin, or those of `epoch`
    uint64_t latter            # where those of `epoch` begin
    uint32_t epoch             # in which the half was given bytes last

# Of all halves.
ctypedef struct PastClock:
    int64_t spent              # since the epoch began
    uint32_t epoch


cdef inline void past_delivered(PastClock* clock, Past* past, uint64_t offset, uint64_t length) noexcept nogil:
    """Bytes are delivered."""
    clock.spent += <int64_t> length + PAST_OVERHEAD
    if clock.spent > PAST_EPOCH:
        clock.spent = 0
        clock.epoch += 1
    if past.epoch != clock.epoch:
        past.former = past.latter if past.epoch + 1 == clock.epoch else offset
        past.latter = offset
        past.epoch = clock.epoch


cdef inline uint64_t past_start(const PastClock* clock, const Past* past, uint64_t edge) noexcept nogil:
    """From which offset on delivered bytes are compared."""
    if past.epoch == clock.epoch:
        return past.former
    return past.latter if past.epoch + 1 == clock.epoch else edge


cdef inline void past_add(Past* past, PastRun* run, uint64_t ordinal) noexcept nogil:
    """Remember a run behind the others; *ordinal* is one more than that of any of the half before it."""
    cdef uint64_t target = ordinal & (ordinal - 1)
    run.ordinal = ordinal
    run.before = run.jump = past.last
    run.after = NULL
    if past.last == NULL:
        past.first = ordinal
    else:
        past.last.after = run
        while target >= past.first and run.jump.ordinal > target:
            run.jump = run.jump.jump
    past.last = run


cdef inline void past_drop(Past* past, PastRun* run) noexcept nogil:
    """Forget the oldest run of the half, whether or not it is in the list."""
    past.first = max(past.first, run.ordinal + 1)
    if past.last == run:
        past.last = NULL
    if run.after != NULL:
        run.after.before = NULL


cdef inline PastRun* past_find(const Past* past, uint64_t offset) noexcept nogil:
    """The last run that begins at or before *offset*, else the first; NULL without runs."""
    cdef PastRun* run = past.last
    while run != NULL and run.start > offset and run.before != NULL:
        if run.ordinal & (run.ordinal - 1) >= past.first and run.jump.start > offset:
            run = run.jump
        else:
            run = run.before
    return run
