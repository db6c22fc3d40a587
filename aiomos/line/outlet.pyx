"""The way out: the frames that a transport is to send after a batch.

In line every frame goes on, in the order in which they came, by the interface that its transport names; unless an app
drops it. A frame that nobody changes is passed on by its pointer. What apps and the engine send themselves lies in an
arena that is emptied once the transport has sent it.

There are two kinds of frames here. What passes and finds no room on the wire is dropped, as a bridge does; what is of
our making is copied and waits, in order, for each interface by itself. Nothing that passes overtakes what waits
(docs/design/in-line.md).
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, uint16_t, uint32_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from aiomos.line.queue cimport MOST_QUEUED, MOST_QUEUED_BYTES, SendQueue, queue_drop, queue_put
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
        for i in range(self.interface_count):
            queue_drop(&self.queues[i], self.queues[i].frames)
        free(self.queues)
        free(self.frames)
        free(self.sorted)

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
        self.queues = <SendQueue*> calloc(len(self.interfaces) + 1, sizeof(SendQueue))
        if self.queues == NULL:
            raise MemoryError(f"no memory for what leaves by {len(self.interfaces)} interfaces")
        self.interface_count = len(self.interfaces)
        self.may_send, self.forwards = True, len(forwards) > 0
        self.decides = self.forwards

    cdef int tell_news(self) except -1:
        """Something is due, or to be sent, that no batch has brought about: whoever moves the engine is to look."""
        if self.on_news is not None:
            self.on_news()
        return 0

    cdef void pass_frame(self, const Frame* frame) noexcept nogil:
        """Have the frame in hand leave, or what it has become."""
        if self.append(frame):
            self.forwarded += 1
            self.forwarded_bytes += frame.caplen

    cdef bint emit(self, Frame* frame) noexcept nogil:
        """Have a frame of our making sent; false, and counted, without memory."""
        cdef SendQueue* queue = self.queue_of(frame)
        frame.time_ns = INT64_MIN
        if not self.append(frame):
            return False
        self.originated += 1
        if queue != NULL:
            queue.new_frames += 1
            queue.new_bytes += frame.caplen
        return True

    cdef bint append(self, const Frame* frame) noexcept nogil:
        """Have a frame sent after those before it; false, and counted, without memory."""
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
        self.emit(&frame)
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
        """The frames have been sent, or put off: forget them, and what they lay in, but for one block."""
        cdef size_t interface
        self.count = 0
        for interface in range(self.interface_count):
            self.queues[interface].new_frames = self.queues[interface].new_bytes = 0
        while self.arena.count > 1:
            self.arena.count -= 1
            free(self.arena.blocks[self.arena.count])
        self.arena.at = self.arena.used = 0
        if self.arena.count:
            poison(self.arena.blocks[0], self.arena.sizes[0])

    # --- what the wire has no room for ------------------------------------------------------------------

    cdef SendQueue* queue_of(self, const Frame* frame) noexcept nogil:
        """Where a frame waits; NULL if it is to leave by no interface that there is."""
        return &self.queues[frame.interface] if frame.interface < self.interface_count else NULL

    cdef const Frame* by_interface(self) noexcept nogil:
        """The frames to be sent, those of one interface after those of another, each in order."""
        cdef size_t i, place = 0
        cdef uint16_t interface = 0
        cdef Frame* room
        for i in range(self.count):
            if self.frames[i].interface != self.frames[0].interface:
                break
        else:
            return self.frames
        if self.sorted_capacity < self.count:
            room = <Frame*> realloc(self.sorted, self.capacity * sizeof(Frame))
            if room == NULL:
                return self.frames                 # slower
            self.sorted, self.sorted_capacity = room, self.capacity
        while place < self.count:
            for i in range(self.count):
                if self.frames[i].interface == interface:
                    self.sorted[place] = self.frames[i]
                    place += 1
            interface += 1
        return self.sorted

    cdef void found_full(self, SendQueue* queue) noexcept nogil:
        """The wire has no room."""
        self.full_count += not queue.full
        queue.full = True

    cdef void found_room(self, SendQueue* queue) noexcept nogil:
        """The wire may have room again."""
        self.full_count -= queue.full
        queue.full = queue.asked = False

    cdef bint put_off(self, SendQueue* queue, const Frame* frame) noexcept nogil:
        """The wire has no room for a frame: if ours, it waits, or is lost and counted. False: it was to pass."""
        if not is_own(frame):
            return False
        if queue_put(queue, frame):
            self.delayed += 1
        else:
            self.no_room += 1
        return True

    cdef void room_of(self, size_t interface, size_t* frames, size_t* bytes) noexcept nogil:
        """How much one may send by an interface before the next flush, and nothing of it is lost for want of room."""
        cdef SendQueue* queue
        frames[0] = bytes[0] = 0
        if interface >= self.interface_count:
            return
        queue = &self.queues[interface]
        queue.asked = True
        if not queue.full and queue.new_frames < MOST_QUEUED and queue.new_bytes < MOST_QUEUED_BYTES:
            frames[0], bytes[0] = MOST_QUEUED - queue.new_frames, MOST_QUEUED_BYTES - queue.new_bytes

    def room(self, size_t interface):
        """Return how many frames, and bytes, one may send by an interface now: no room on the wire, none here.

        What is sent within that is not lost, however little the wire takes.
        """
        cdef size_t frames, bytes
        self.room_of(interface, &frames, &bytes)
        return frames, bytes

    @property
    def short(self):
        """The interfaces whose wires had no room at the last flush for what waits, or is asked for."""
        cdef size_t i
        if not self.full_count:
            return ()
        return tuple([i for i in range(self.interface_count)
                      if self.queues[i].frames or (self.queues[i].full and self.queues[i].asked)])

    @property
    def queued(self):
        """How many frames wait for room on a wire, and their bytes."""
        cdef size_t i, frames = 0, bytes = 0
        for i in range(self.interface_count):
            frames += self.queues[i].frames
            bytes += self.queues[i].bytes
        return frames, bytes

    def send(self, const uint8_t[::1] data not None, interface, linktype):
        """Have a frame sent that an app has made.

        Raises:
            NotInLineError: there is no wire to send to.
        """
        cdef Frame frame
        cdef uint8_t* copy
        if not self.may_send:
            raise NotInLineError("there is no wire to send to: frames come from a capture")
        if data.shape[0] == 0:
            raise ValueError("an empty frame cannot be sent")
        copy = self.take(<size_t> data.shape[0])
        if copy != NULL:
            memcpy(copy, &data[0], <size_t> data.shape[0])
            memset(&frame, 0, sizeof(frame))
            frame.data, frame.interface, frame.linktype = copy, interface, linktype
            frame.caplen = frame.wirelen = <unsigned int> data.shape[0]
            self.emit(&frame)

    def statistics(self):
        """Return counters of frames by name."""
        queued_frames, queued_bytes = self.queued
        return {
            "forwarded": self.forwarded, "forwarded_bytes": self.forwarded_bytes, "dropped": self.drops,
            "originated": self.originated, "no_room": self.no_room, "delayed": self.delayed,
            "queued_frames": queued_frames, "queued_bytes": queued_bytes,
        }


cdef Outlet new_outlet():
    cdef Outlet outlet = Outlet.__new__(Outlet)
    memset(outlet.peers, 0xFF, sizeof(outlet.peers))
    return outlet


seal(Outlet)
