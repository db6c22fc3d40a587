"""Several captures merged by time.

A frame is passed on by its pointer, so the source it came from must not read on while the merged batch is
looked at: a merged batch ends with the first source's batch that is used up.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint32_t
from libc.stdlib cimport free, malloc

from aiomos.errors import CaptureError

from aiomos.transport.source cimport FrameSource
from aiomos.wire.frame cimport Frame
from aiomos.wire.times cimport is_far, judge_first, judge_time

cdef enum:
    # Bounds how long the engine works between two looks at anything else.
    MAX_BATCH = 4096


cdef inline bint precedes(const Cursor* a, const Cursor* b) noexcept nogil:
    """By time; at the same time, as the sources were given."""
    if a.next_ns != b.next_ns:
        return a.next_ns < b.next_ns
    return a.order < b.order


cdef inline void read_time(Cursor* cursor) noexcept nogil:
    """Take the time of the next frame; one that is far from those around it does not hold its source back."""
    cdef int64_t time_ns = cursor.next.time_ns
    cdef size_t following = cursor.end - cursor.next - 1
    if cursor.next_ns == INT64_MIN:
        time_ns = judge_first(cursor.next, following)
    elif is_far(time_ns, cursor.next_ns) and not judge_time(
            cursor.next, following, cursor.next_ns, &cursor.elsewhere_ns, &time_ns):
        time_ns = cursor.next_ns
    cursor.next_ns = time_ns


cdef size_t first_child(const Merge* merge, size_t parent) noexcept nogil:
    """Return the child of parent that comes first; size when there is none."""
    cdef size_t child = 2 * parent + 1
    if child >= merge.size:
        return merge.size
    if child + 1 < merge.size and precedes(&merge.heap[child + 1], &merge.heap[child]):
        child += 1
    return child


cdef void sift_down(Merge* merge) noexcept nogil:
    cdef Cursor sinking = merge.heap[0]
    cdef size_t hole = 0
    cdef size_t child = first_child(merge, hole)
    while child < merge.size and precedes(&merge.heap[child], &sinking):
        merge.heap[hole] = merge.heap[child]
        hole = child
        child = first_child(merge, hole)
    merge.heap[hole] = sinking


cdef void push(Merge* merge, Cursor cursor) noexcept nogil:
    cdef size_t hole = merge.size
    cdef size_t parent
    merge.size += 1
    while hole > 0:
        parent = (hole - 1) // 2
        if not precedes(&cursor, &merge.heap[parent]):
            break
        merge.heap[hole] = merge.heap[parent]
        hole = parent
    merge.heap[hole] = cursor


cdef Cursor pop(Merge* merge) noexcept nogil:
    """Take the root out, whose batch is used up."""
    cdef Cursor root = merge.heap[0]
    merge.size -= 1
    if merge.size > 0:
        merge.heap[0] = merge.heap[merge.size]
        sift_down(merge)
    return root


cdef bint merge_frames(Merge* merge) noexcept nogil:
    """Fill the batch; true when it ended because the root's batch is used up."""
    cdef Cursor* root = merge.heap
    cdef const Cursor* runner_up
    while merge.count < merge.capacity:
        runner_up = &merge.heap[first_child(merge, 0)] if merge.size > 1 else NULL
        # Captures that follow each other in time make long runs from one source.
        while merge.count < merge.capacity:
            merge.frames[merge.count] = root.next[0]
            merge.count += 1
            root.next += 1
            if root.next == root.end:
                return True
            read_time(root)
            if runner_up != NULL and precedes(runner_up, root):
                sift_down(merge)
                break
    return False


cdef class MergedSource(FrameSource):
    """Merge sources by the time of their frames; frames of the same time come in the order of the sources.

    Within a source the order of frames is kept, also where their times go back.

    A source that cannot be read on is taken as ended, and its error raised when the others have ended, too.

    Args:
        sources: The sources, which share one list of interfaces; closed with this one.
    """

    def __cinit__(self, sources):
        if not sources:
            raise ValueError("nothing to merge: give at least one source")
        self.sources = list(sources)
        self.interfaces = (<FrameSource?> self.sources[0]).interfaces
        self.drained = list(range(len(self.sources)))
        self.errors = []
        self.merge.capacity = MAX_BATCH
        self.merge.heap = <Cursor*> malloc(len(self.sources) * sizeof(Cursor))
        self.merge.frames = <Frame*> malloc(MAX_BATCH * sizeof(Frame))
        self.clocks = <Cursor*> malloc(len(self.sources) * sizeof(Cursor))
        if self.merge.heap == NULL or self.merge.frames == NULL or self.clocks == NULL:
            raise MemoryError(f"no memory to merge {len(self.sources)} sources")
        for place in self.drained:
            self.clocks[place].order = place
            self.clocks[place].next_ns = self.clocks[place].elsewhere_ns = INT64_MIN

    def __dealloc__(self):
        free(self.merge.heap)
        free(self.clocks)
        free(self.merge.frames)

    cpdef bint read_batch(self) except -1:
        cdef bint used_up
        cdef Cursor root
        self.count = 0
        if not self._refill():
            return True
        if self.merge.size == 0:
            return self._end()
        self.merge.count = 0
        with nogil:
            used_up = merge_frames(&self.merge)
        if used_up:
            root = pop(&self.merge)
            self.clocks[root.order] = root
            self.drained.append(root.order)
        return self.deliver(self.merge.frames, self.merge.count)

    cdef bint _refill(self) except -1:
        """Read the next batch of each source whose last one was used up; False while one has none that may come.

        Of several that may be long in coming one is waited for at most: the others may come before it.
        """
        cdef FrameSource source
        cdef list due = self.drained
        self.drained = []
        for place in due:
            source = <FrameSource?> self.sources[place]
            if len(self.drained) + 1 < len(due) and source.starved is not None:
                self.drained.append(place)
                continue
            try:
                if not source.read_batch():
                    continue
            except CaptureError as error:
                self.errors.append(error)
                continue
            if source.count == 0:
                self.drained.append(place)
                continue
            self._take(place, source)
        return not self.drained

    cdef int _take(self, uint32_t place, FrameSource source) except -1:
        """Put the frames that a source has read among the others."""
        cdef Cursor cursor = self.clocks[place]
        cursor.next = source.frames
        cursor.end = source.frames + source.count
        read_time(&cursor)
        push(&self.merge, cursor)

    @property
    def starved(self):
        """Descriptor of a pipe without whose next frames it is not known which come first; else None."""
        for place in self.drained:
            descriptor = self.sources[place].starved
            if descriptor is not None:
                return descriptor
        return None

    def _end(self):
        """Raise the first error there was; the others are its notes."""
        if not self.errors:
            return False
        first, *others = self.errors
        self.errors = []
        for other in others:
            first.add_note(str(other))
        raise first

    @property
    def unordered(self):
        """Count of frames that are earlier than the frame before them in the same source."""
        return sum(source.unordered for source in self.sources)

    def position(self):
        """Tell how many bytes were read so far, as they lie on disk, over all sources."""
        return sum(source.position() for source in self.sources)

    def total(self):
        """Tell how many bytes all sources have, as they lie on disk; None if one of them does not know."""
        totals = [source.total() for source in self.sources]
        return None if None in totals else sum(totals)

    cpdef close(self):
        """Close all sources; the current batch is void. May be called again."""
        FrameSource.close(self)
        self.merge.size = 0
        self.drained = []
        self.errors = []
        for source in self.sources:
            source.close()
