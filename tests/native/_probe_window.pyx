"""Shows the receive window to pytest."""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset

from aiomos.end.window cimport (
    MOST_BUFFER, ReceiveWindow, window_arrived, window_first, window_open, window_owes, window_read, window_resize,
    window_room, window_start, window_tell)

MOST = MOST_BUFFER
SIZE = sizeof(ReceiveWindow)


cdef class Window:
    """The receive window of one connection."""

    cdef ReceiveWindow window

    def __init__(self, uint32_t mss=1460, uint32_t buffer=65536, uint32_t most=1 << 25):
        memset(&self.window, 0xA5, sizeof(ReceiveWindow))
        window_open(&self.window, mss, buffer, most)

    def start(self, uint32_t nxt=0xFFFF_FFFB, bint scaled=True):
        window_start(&self.window, nxt, scaled)

    def arrived(self, uint32_t n):
        assert n <= window_room(&self.window)
        window_arrived(&self.window, n)

    def read(self, uint32_t n, *, int64_t rtt_ns=0, int64_t now_ns=0, bint pressed=False):
        window_read(&self.window, n, pressed, rtt_ns, now_ns)

    def resize(self, uint32_t buffer):
        window_resize(&self.window, buffer)

    def tell(self, bint pressed=False):
        return window_tell(&self.window, pressed)

    def owes(self, bint pressed=False):
        return bool(window_owes(&self.window, pressed))

    @property
    def first(self):
        return window_first(&self.window)

    @property
    def room(self):
        return window_room(&self.window)

    @property
    def shift(self):
        return self.window.shift

    @property
    def buffer(self):
        return self.window.buffer

    @property
    def held(self):
        return self.window.held
