"""The way out: the frames that a transport is to send after a batch.

In line every frame goes on, in the order in which they came, by the interface that its transport names; unless an app
drops it. A frame that nobody changes is passed on by its pointer. What apps and the engine send themselves lies in an
arena that is emptied once the transport has sent it.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from aiomos.poison cimport poison, unpoison
from aiomos.sealing cimport seal
from aiomos.wire.frame cimport Frame

from aiomos.errors import NotInLineError

cdef enum:
    FEW_FRAMES = 1024
    ALIGNMENT = 16


@cython.final
cdef class Outlet:
    """Frames to be sent after a batch."""

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.arena.count):
            free(self.arena.blocks[i])
        free(self.frames)

    def open(self, forwards, interfaces):
        """Have frames sent.

        Args:
            forwards: For each interface that by which its frames go on; empty for a transport that only watches.
            interfaces: Their names.
        """
        cdef size_t interface
        if len(forwards) > MOST_INTERFACES:
            raise ValueError(f"at most {MOST_INTERFACES} interfaces are in line, not {len(forwards)}")
        for interface, peer in enumerate(forwards):
            self.peers[interface] = NOWHERE if peer is None else peer
        self.interfaces = tuple(interfaces)
        self.in_line, self.is_open = len(forwards) > 0, True

    cdef int tell_news(self) except -1:
        """Something is due, or to be sent, that no batch has brought about: whoever moves the engine is to look."""
        if self.on_news is not None:
            self.on_news()
        return 0

    cdef void pass_frame(self, const Frame* frame) noexcept nogil:
        """Have the frame in hand leave, or what it has become."""
        if self.emit(frame):
            self.forwarded += 1
            self.forwarded_bytes += frame.caplen

    cdef bint emit(self, const Frame* frame) noexcept nogil:
        """Have a frame sent after those that are waiting; false, and counted, without memory."""
        cdef size_t capacity
        cdef Frame* frames
        if self.count == self.capacity:
            capacity = 2 * self.capacity + FEW_FRAMES
            frames = <Frame*> realloc(self.frames, capacity * sizeof(Frame))
            if frames == NULL:
                self.no_room += 1
                return False
            self.frames, self.capacity = frames, capacity
        self.frames[self.count] = frame[0]
        self.count += 1
        return True

    cdef bint originate(self, const uint8_t* data, size_t length, uint16_t interface, uint16_t linktype) noexcept nogil:
        """Have a frame sent that was built; false if there is none."""
        cdef Frame frame
        if not length:
            return False
        memset(&frame, 0, sizeof(frame))
        frame.data, frame.interface, frame.linktype = data, interface, linktype
        frame.caplen = frame.wirelen = <uint32_t> length
        self.originated += self.emit(&frame)
        return True

    cdef uint8_t* take(self, size_t size) noexcept nogil:
        """Memory until the frames have been sent; NULL, and counted, if a batch has brought about too much."""
        cdef Arena* arena = &self.arena
        cdef uint8_t* found
        size = (size + ALIGNMENT - 1) & ~<size_t> (ALIGNMENT - 1)
        while arena.at < arena.count and arena.sizes[arena.at] - arena.used < size:
            arena.at += 1
            arena.used = 0
        if arena.at == arena.count:
            found = <uint8_t*> malloc(max(size, <size_t> BLOCK_BYTES)) if arena.count < MOST_BLOCKS else NULL
            if found == NULL:
                self.no_room += 1
                return NULL
            arena.blocks[arena.at] = found
            arena.sizes[arena.at] = max(size, <size_t> BLOCK_BYTES)
            poison(arena.blocks[arena.at], arena.sizes[arena.at])
            arena.count += 1
        found = arena.blocks[arena.at] + arena.used
        arena.used += size
        unpoison(found, size)
        return found

    cdef void clear(self) noexcept nogil:
        """The frames have been sent: forget them, and what they lay in, but for one block."""
        self.count = 0
        while self.arena.count > 1:
            self.arena.count -= 1
            free(self.arena.blocks[self.arena.count])
        self.arena.at = self.arena.used = 0
        if self.arena.count:
            poison(self.arena.blocks[0], self.arena.sizes[0])

    def send(self, const uint8_t[::1] data not None, interface, linktype):
        """Have a frame sent that an app has made.

        Raises:
            NotInLineError: there is no wire to send to.
        """
        cdef Frame frame
        cdef uint8_t* copy
        if not self.is_open:
            raise NotInLineError("there is no wire to send to: frames come from a capture")
        if data.shape[0] == 0:
            raise ValueError("an empty frame cannot be sent")
        copy = self.take(<size_t> data.shape[0])
        if copy != NULL:
            memcpy(copy, &data[0], <size_t> data.shape[0])
            memset(&frame, 0, sizeof(frame))
            frame.data, frame.interface, frame.linktype = copy, interface, linktype
            frame.caplen = frame.wirelen = <unsigned int> data.shape[0]
            self.originated += self.emit(&frame)

    def statistics(self):
        """Return counters of frames by name."""
        return {
            "forwarded": self.forwarded, "forwarded_bytes": self.forwarded_bytes, "dropped": self.drops,
            "originated": self.originated, "no_room": self.no_room,
        }


cdef Outlet new_outlet():
    cdef Outlet outlet = Outlet.__new__(Outlet)
    memset(outlet.peers, 0xFF, sizeof(outlet.peers))
    return outlet


seal(Outlet)
