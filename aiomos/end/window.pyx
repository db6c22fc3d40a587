"""The receiver's window: how far its right edge goes, and how large the buffer behind it is.

The edge never moves left: what has been let in by it is accepted. It moves right by a segment or half the buffer at
least (RFC 9293 section 3.8.6.2.2), so that nobody sends small segments because the window is small.
"""

from libc.string cimport memset

cdef enum:
    MOST_FIELD = 0xFFFF
    UNSCALED_BITS = 15


cdef void window_open(ReceiveWindow* window, uint32_t mss, uint32_t buffer, uint32_t most) noexcept nogil:
    memset(window, 0, sizeof(ReceiveWindow))
    window.mss = max(mss, <uint32_t> 1)
    window.buffer = max(<uint32_t> LEAST_BUFFER, min(buffer, <uint32_t> MOST_BUFFER))
    window.most = max(window.buffer, min(most, <uint32_t> MOST_BUFFER))
    while window.most >> window.shift >> (UNSCALED_BITS + 1) and window.shift < MOST_SHIFT:
        window.shift += 1


cdef uint16_t window_first(const ReceiveWindow* window) noexcept nogil:
    cdef uint32_t most = min(window.buffer, <uint32_t> MOST_FIELD)
    return <uint16_t> (most - (most % window.mss if window.mss <= most else 0))


cdef void window_start(ReceiveWindow* window, uint32_t nxt, bint scaled) noexcept nogil:
    window.nxt = nxt
    window.edge = nxt + window_first(window)
    if not scaled:
        window.shift = 0
        window.most = max(window.buffer, <uint32_t> MOST_FIELD)


cdef void window_arrived(ReceiveWindow* window, uint32_t n) noexcept nogil:
    window.nxt += n
    window.held += n


cdef void window_resize(ReceiveWindow* window, uint32_t buffer) noexcept nogil:
    window.buffer = max(<uint32_t> LEAST_BUFFER, min(buffer, <uint32_t> MOST_BUFFER))
    window.most = window.buffer                # who chooses wants no other


cdef void window_read(ReceiveWindow* window, uint32_t n, bint pressed, int64_t rtt_ns, int64_t now_ns) noexcept nogil:
    window.held -= min(n, window.held)
    if rtt_ns <= 0:
        return
    if not window.measuring or now_ns < window.round_ns:
        window.measuring = True
        window.round_ns = now_ns
        window.read = 0
    window.read += n
    if now_ns - window.round_ns < rtt_ns:
        return
    # Twice what was read in a round trip (dynamic right-sizing): in the next a sender in slow start sends so much. An
    # application that leaves half of its buffer unread needs no larger one.
    if not pressed and window.held <= window.buffer // 2:
        window.buffer = max(window.buffer, <uint32_t> min(2 * window.read, <uint64_t> window.most))
    window.round_ns = now_ns
    window.read = 0


# --- the edge -------------------------------------------------------------------------------------------

cdef inline uint32_t free_bytes(const ReceiveWindow* window, bint pressed) noexcept nogil:
    """How far the edge could be from RCV.NXT; under pressure a few segments, if half of the buffer is used."""
    cdef uint32_t free = window.buffer - min(window.held, window.buffer)
    if pressed and free < window.buffer // 2:
        free = min(free, PRESSED_SEGMENTS * window.mss)
    return min(free, <uint32_t> MOST_FIELD << window.shift)


cdef inline bint opens_by(const ReceiveWindow* window, uint32_t free, uint32_t segments) noexcept nogil:
    """Would the edge move by so many segments, or by half the buffer?"""
    cdef uint64_t step = min(<uint64_t> segments * window.mss, <uint64_t> max(window.buffer // 2, <uint32_t> 1))
    return free >= window_room(window) + step


cdef uint16_t window_tell(ReceiveWindow* window, bint pressed) noexcept nogil:
    cdef uint32_t grain = <uint32_t> 1 << window.shift, room = window_room(window)
    cdef uint32_t free = free_bytes(window, pressed)
    if opens_by(window, free, 1):
        room = free
    elif overfull(window, (room + grain - 1) & ~(grain - 1)):
        return <uint16_t> (room >> window.shift)
    room = (room + grain - 1) & ~(grain - 1)       # up, for down would take back what was promised
    window.edge = window.nxt + room
    return <uint16_t> (room >> window.shift)


cdef inline bint overfull(const ReceiveWindow* window, uint32_t room) noexcept nogil:
    """Would rounding up, again and again, let in more and more?

    A peer that sends a byte at a time could go on for ever, since each ACK would move the edge by one. Then a part of a
    grain is not told, and is accepted nevertheless.
    """
    return window.held + <uint64_t> room > window.buffer + (<uint64_t> 2 << window.shift)


cdef bint window_owes(const ReceiveWindow* window, bint pressed) noexcept nogil:
    return opens_by(window, free_bytes(window, pressed), 2)
