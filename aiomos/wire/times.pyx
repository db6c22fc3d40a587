"""Wild times: one frame whose time is years off moves no clock; what comes next tells whether time has passed.

Broken clocks, damaged records and merged captures have such frames. A frame far from the one before it is believed if
the next frame is nearer to it than to the one before; so a capture may pause, or go on with an earlier one. Nearer is
within 30 days, or, if the frame comes no more than that after the clock, anywhere later: a pause before a longer one.
"""

from libc.stdint cimport INT64_MIN

cdef uint64_t FAR_NS = FAR_SECONDS * <uint64_t> 1_000_000_000
cdef uint64_t MOST_PAUSE_NS = MOST_PAUSE_SECONDS * <uint64_t> 1_000_000_000


cdef uint64_t apart(int64_t a, int64_t b) noexcept nogil:
    return <uint64_t> a - <uint64_t> b if a > b else <uint64_t> b - <uint64_t> a


cdef bint is_pause(int64_t before_ns, int64_t after_ns) noexcept nogil:
    """May nothing have been captured for so long?"""
    return before_ns <= after_ns and apart(before_ns, after_ns) <= MOST_PAUSE_NS


cdef bint judge_time(const Frame* frame, size_t following, int64_t now_ns, int64_t* elsewhere_ns,
                     int64_t* time_ns) noexcept nogil:
    """Judge a frame whose time is far from *now_ns*; false if it takes the next frame to tell, and none follows it.

    *elsewhere_ns* is the time of the last frame that was believed although it was far from the clock, INT64_MIN before
    there is one. *time_ns* becomes what is to be taken for its time. If none follows, a pause is believed.
    """
    cdef int64_t own = frame.time_ns, after
    time_ns[0] = own
    if now_ns == INT64_MIN or (elsewhere_ns[0] != INT64_MIN and not is_far(own, elsewhere_ns[0])):
        elsewhere_ns[0] = own
        return True
    if following == 0:
        return apart(own, now_ns) <= MOST_PAUSE_NS
    after = frame[1].time_ns
    if apart(own, after) < apart(now_ns, after) and (
            apart(own, after) <= MOST_PAUSE_NS or is_pause(now_ns, own) and own <= after):
        elsewhere_ns[0] = own
    else:
        time_ns[0] = now_ns
    return True


cdef int64_t judge_first(const Frame* frame, size_t following) noexcept nogil:
    """What to take for the time of a source's first frame: that of the second, if the third agrees with that alone."""
    cdef int64_t own = frame.time_ns
    if following >= 2 and is_far(own, frame[1].time_ns) and not is_pause(own, frame[1].time_ns) and (
            apart(frame[1].time_ns, frame[2].time_ns) < apart(own, frame[2].time_ns)):
        return frame[1].time_ns
    return own
