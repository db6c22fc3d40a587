# The window that an end of ours tells its peer: docs/design/receive-window.md.
#
# window_open() before the SYN or SYN-ACK leaves, with window_first() in it; window_start() when the peer's first number
# and options are known. Then window_arrived() for data in order, window_read() when the application takes some, and
# window_tell() for each segment that leaves, which then has to be sent; window_owes(): one should be.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LEAST_BUFFER = 1
    MOST_BUFFER = 1 << 30          # RFC 7323 section 2.3
    MOST_SHIFT = 14
    PRESSED_SEGMENTS = 4           # of a window under memory pressure

ctypedef struct ReceiveWindow:
    uint32_t nxt                   # RCV.NXT
    uint32_t edge                  # the right edge: all before it is accepted
    uint32_t held                  # bytes that the application has not read, and what else they cost
    uint32_t buffer                # bytes, now
    uint32_t most                  # that autotuning may make of it
    uint32_t mss
    uint8_t shift                  # of the window scale
    bint measuring                 # `round_ns` is set
    uint64_t read                  # by the application in this round trip
    int64_t round_ns               # when it began

cdef inline uint32_t window_room(const ReceiveWindow* window) noexcept nogil:
    """Bytes from RCV.NXT to the right edge."""
    return window.edge - window.nxt

# *buffer* bytes to begin with, *most* later. *mss* is that of data that comes.
cdef void window_open(ReceiveWindow* window, uint32_t mss, uint32_t buffer, uint32_t most) noexcept nogil
# The window field of a SYN or SYN-ACK, which is never scaled: whole segments, as Linux has it.
cdef uint16_t window_first(const ReceiveWindow* window) noexcept nogil
# *nxt* is behind the peer's SYN; *scaled*: both offered window scaling.
cdef void window_start(ReceiveWindow* window, uint32_t nxt, bint scaled) noexcept nogil
# So many bytes have arrived in order, window_room() at most (a FIN counts in *nxt* only, and is the caller's).
cdef void window_arrived(ReceiveWindow* window, uint32_t n) noexcept nogil
# The application has read so many; *rtt_ns* 0: not known. *pressed*: memory is short, for all.
cdef void window_read(ReceiveWindow* window, uint32_t n, bint pressed, int64_t rtt_ns, int64_t now_ns) noexcept nogil
# The application wants another buffer: what was promised stays.
cdef void window_resize(ReceiveWindow* window, uint32_t buffer) noexcept nogil
# The window field of a segment that acknowledges *nxt*.
cdef uint16_t window_tell(ReceiveWindow* window, bint pressed) noexcept nogil
# Has reading opened the window so far that the peer has to be told?
cdef bint window_owes(const ReceiveWindow* window, bint pressed) noexcept nogil
