"""Watch interfaces: packet sockets (AF_PACKET) with TPACKET_V3 rings that the kernel fills and frames point into."""

import struct

cimport cython
from libc.errno cimport EAGAIN, errno as last_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.types cimport off_t

from aiomos.errors import TransportError
from aiomos.transport.interfaces import live_interface
from aiomos.transport.links import Link, LinkPoll
from aiomos.transport.packet_sockets import (
    DEFAULT_BLOCK_SIZE,
    DEFAULT_BLOCKS,
    DEFAULT_RETIRE_MS,
    PACKET_STATISTICS,
    SOL_PACKET,
    linktype_of,
    name_of,
    open_packet_socket,
    refuse_repeats,
    set_prefilter,
)

from aiomos.poison cimport poison, unpoison
from aiomos.transport.ports cimport has_no_room
from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame
from aiomos.wire.numbers cimport ETHERTYPE_VLAN, LINKTYPE_ETHERNET


cdef extern from "<linux/if_packet.h>" nogil:
    enum:
        TP_STATUS_KERNEL
        TP_STATUS_USER
        TP_STATUS_VLAN_VALID
        TP_STATUS_VLAN_TPID_VALID
    struct tpacket_hdr_v1:
        uint32_t block_status
        uint32_t num_pkts
        uint32_t offset_to_first_pkt
        uint64_t seq_num
    union tpacket_bd_header_u:
        tpacket_hdr_v1 bh1
    struct tpacket_block_desc:
        tpacket_bd_header_u hdr
    struct tpacket_hdr_variant1:
        uint32_t tp_vlan_tci
        uint16_t tp_vlan_tpid
    struct tpacket3_hdr:
        uint32_t tp_next_offset
        uint32_t tp_sec
        uint32_t tp_nsec
        uint32_t tp_snaplen
        uint32_t tp_len
        uint32_t tp_status
        uint16_t tp_mac
        tpacket_hdr_variant1 hv1

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_DONTWAIT
    ssize_t send(int fd, const void* data, size_t size, int flags)

cdef extern from *:
    """
    #define aiomos_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define aiomos_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define aiomos_prefetch(p) __builtin_prefetch((p), 0, 3)
    """
    uint32_t aiomos_load_acquire(const uint32_t* p) noexcept nogil
    void aiomos_store_release(uint32_t* p, uint32_t value) noexcept nogil
    void aiomos_prefetch(const void* p) noexcept nogil

cdef enum:
    # Frames of a batch: few enough that what is fetched ahead of them is still in the cache when the engine comes
    # to it.
    BATCH = 1024
    SECOND = 1_000_000_000
    MAC_ADDRESSES = 12         # bytes
    VLAN_TAG = 4
    CACHE_LINE = 64

COUNTERS = ("received", "dropped", "freezes", "bytes", "truncated", "damaged", "sent", "unsent", "outages")


# --- the ring ----------------------------------------------------------------------------------------------
cdef inline tpacket_hdr_v1* block_at(const Ring* ring, uint32_t number) noexcept nogil:
    return &(<tpacket_block_desc*> (ring.map + number * ring.block_size)).hdr.bh1


cdef inline bint is_ours(const Ring* ring, uint32_t number) noexcept nogil:
    return aiomos_load_acquire(&block_at(ring, number).block_status) & TP_STATUS_USER != 0


cdef inline uint32_t after(const Ring* ring, uint32_t number) noexcept nogil:
    return number + 1 if number + 1 < ring.blocks else 0


cdef inline uint32_t before(const Ring* ring, uint32_t number) noexcept nogil:
    return (number if number > 0 else ring.blocks) - 1


cdef uint32_t newest_block(const Ring* ring) noexcept nogil:
    """Find the block that the kernel has begun last: it fills it, or has none to go on with."""
    cdef uint32_t number, newest = 0
    for number in range(1, ring.blocks):
        if block_at(ring, number).seq_num > block_at(ring, newest).seq_num:
            newest = number
    return newest


cdef bint has_unread(const Ring* ring) noexcept nogil:
    """Tell whether there are frames to read, be it in the block that the kernel still fills and will hand over."""
    cdef uint32_t newest = newest_block(ring)
    if is_ours(ring, before(ring, newest)):
        return True
    # The newest may have been read and given back, while the kernel has no block to go on with.
    return newest != before(ring, ring.block) and block_at(ring, newest).num_pkts > 0


cdef uint32_t oldest_block(const Ring* ring) noexcept nogil:
    """Find where to start in a ring that has been in use: at the oldest block that is ours, else at the open one."""
    cdef uint32_t newest = newest_block(ring)
    # The kernel may fill more meanwhile: these follow the newest and do not change what lies before it.
    for _ in range(1, ring.blocks):
        if not is_ours(ring, before(ring, newest)):
            break
        newest = before(ring, newest)
    return newest


cdef inline void finish_block(Ring* ring) noexcept nogil:
    ring.left = 0
    ring.block = after(ring, ring.block)
    ring.finished += 1


cdef bint open_block(Ring* ring) noexcept nogil:
    """Begin the next block that the kernel has handed over; False when there is none."""
    cdef tpacket_hdr_v1* block
    while ring.finished < ring.blocks:
        if not is_ours(ring, ring.block):
            # Only at the start: when all blocks had been given back to a kernel that had none left to fill, the
            # newest is not open, and it goes on behind it.
            if ring.finished == 0 and is_ours(ring, after(ring, ring.block)) and not is_ours(ring, ring.block):
                ring.block = after(ring, ring.block)
                continue
            return False
        block = block_at(ring, ring.block)
        unpoison(block, ring.block_size - (<uint8_t*> block - (ring.map + ring.block * ring.block_size)))
        ring.left = block.num_pkts
        ring.offset = block.offset_to_first_pkt
        if ring.left > 0:
            return True
        finish_block(ring)
    return False


cdef inline void put_vlan_tag_back(uint8_t* frame, tpacket3_hdr* header) noexcept nogil:
    """Undo what the kernel or the network card did: move the addresses forward and put the tag behind them."""
    cdef uint16_t tpid = ETHERTYPE_VLAN
    if header.tp_status & TP_STATUS_VLAN_TPID_VALID:
        tpid = header.hv1.tp_vlan_tpid
    memmove(frame - VLAN_TAG, frame, MAC_ADDRESSES)
    frame += MAC_ADDRESSES - VLAN_TAG
    frame[0], frame[1] = tpid >> 8, tpid & 0xFF
    frame[2], frame[3] = header.hv1.tp_vlan_tci >> 8 & 0xFF, header.hv1.tp_vlan_tci & 0xFF
    # A worker that takes over may read the block again.
    header.tp_mac -= VLAN_TAG
    header.tp_snaplen += VLAN_TAG
    header.tp_len += VLAN_TAG
    header.tp_status &= ~<uint32_t> TP_STATUS_VLAN_VALID


cdef inline bint read_frame(Ring* ring, Frame* frame) noexcept nogil:
    """Read the frame at the offset; False when its header does not fit the block, which ends the block."""
    cdef uint8_t* block = ring.map + ring.block * ring.block_size
    cdef tpacket3_hdr* header
    cdef size_t room
    if ring.offset > ring.block_size - sizeof(tpacket3_hdr):
        return False
    room = ring.block_size - ring.offset
    header = <tpacket3_hdr*> (block + ring.offset)
    if header.tp_mac < sizeof(tpacket3_hdr) or header.tp_mac > room or header.tp_snaplen > room - header.tp_mac:
        return False
    if (header.tp_status & TP_STATUS_VLAN_VALID and ring.linktype == LINKTYPE_ETHERNET
            and header.tp_snaplen >= MAC_ADDRESSES):
        put_vlan_tag_back(block + ring.offset + header.tp_mac, header)
    frame.data = block + ring.offset + header.tp_mac
    frame.caplen = header.tp_snaplen
    frame.wirelen = header.tp_len
    frame.time_ns = <int64_t> header.tp_sec * SECOND + header.tp_nsec
    frame.linktype = ring.linktype
    frame.interface = ring.interface
    # The headers, which the engine reads next, are in another core's cache still.
    aiomos_prefetch(frame.data)
    aiomos_prefetch(frame.data + CACHE_LINE)
    frame.offload = NULL       # a sum yet to be taken is harmless to a watcher: it is not looked at
    ring.bytes += header.tp_len
    ring.truncated += header.tp_snaplen < header.tp_len
    ring.offset += header.tp_next_offset
    return True


cdef size_t take_frames(Ring* ring, Frame* frames, size_t room) noexcept nogil:
    """Read frames that wait, as many as there is room for; their blocks stay ours until give_back()."""
    cdef size_t count = 0
    while count < room and (ring.left > 0 or open_block(ring)):
        if read_frame(ring, &frames[count]):
            count += 1
            ring.left -= 1
        else:
            ring.damaged += 1
            ring.left = 0
        if ring.left == 0:
            finish_block(ring)
    return count


cdef void give_back(Ring* ring) noexcept nogil:
    """Let the kernel fill the blocks again that were read to their end."""
    cdef uint32_t number = (ring.block + ring.blocks - ring.finished) % ring.blocks
    while ring.finished > 0:
        poison(ring.map + number * ring.block_size + sizeof(tpacket_block_desc),
               ring.block_size - sizeof(tpacket_block_desc))
        aiomos_store_release(&block_at(ring, number).block_status, TP_STATUS_KERNEL)
        number = after(ring, number)
        ring.finished -= 1


cdef void unmap(Ring* ring) noexcept nogil:
    if ring.map != NULL:
        unpoison(ring.map, ring.block_size * ring.blocks)
        munmap(ring.map, ring.block_size * ring.blocks)
        ring.map = NULL


@cython.final
cdef class PacketWatch(Transport):
    """Watch the traffic of interfaces, both directions of each.

    The frames of a batch lie in the rings; what was read to its end goes back to the kernel with the next
    `read_batch`. While the rings are full frames are lost, and counted.

    Args:
        interfaces: Their names; a frame's interface is its place among them.
        sockets: For each interface a socket that `open_packet_socket` opened with the same *block_size* and
            *blocks*, and that stays the caller's. Reading starts with the oldest frames that wait in it; those of a
            batch that nobody finished come again. None to open sockets, to which the other arguments apply.
        block_size: Bytes of a block of the ring, a multiple of the page size; no frame can be longer.
        blocks: Blocks of each ring, at least 2.
        retire_ms: Milliseconds after which the kernel hands over a block that is not full: the most that a frame is
            late.
        busy_poll: Microseconds to poll the network card for when nothing waits (SO_BUSY_POLL); 0 for none.
        prefilter: Classic BPF that the kernel runs on each frame; see `set_prefilter`.
        promiscuous: Whether frames to other stations are taken, too; it ends with the socket.
        fanout: The `Fanout` group to join.

    Raises:
        TransportError: an interface cannot be watched, or is named twice.
    """

    def __cinit__(
        self, interfaces, *, sockets=None, block_size=DEFAULT_BLOCK_SIZE, blocks=DEFAULT_BLOCKS,
        retire_ms=DEFAULT_RETIRE_MS, busy_poll=0, prefilter=None, promiscuous=True, fanout=None,
    ):
        names = list(interfaces)
        if not names or isinstance(interfaces, str):
            raise ValueError(f"interfaces {interfaces!r}: must be a sequence of at least one name")
        if sockets is not None and len(sockets) != len(names):
            raise ValueError(f"{len(sockets)} sockets for {len(names)} interfaces")
        refuse_repeats(names)
        self.rings = <Ring*> calloc(len(names), sizeof(Ring))
        if self.rings == NULL:
            raise MemoryError(f"no memory for {len(names)} rings")
        self.reserve(BATCH)
        self.owned = sockets is None
        self.sockets = []
        self.links = []
        self.poll = LinkPoll()
        try:
            for place, name in enumerate(names):
                sock = sockets[place] if sockets is not None else open_packet_socket(
                    name, block_size=block_size, blocks=blocks, retire_ms=retire_ms, promiscuous=promiscuous,
                    busy_poll=busy_poll, prefilter=prefilter, fanout=fanout and fanout.for_interface(place),
                )
                self.sockets.append(sock)
                self.links.append(Link(name, sock))
                self._map(&self.rings[place], sock, block_size, blocks)
                self.interfaces.append(live_interface(name, self.rings[place].linktype))
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.count_rings):
            unmap(&self.rings[i])
        free(self.rings)

    cdef int _map(self, Ring* ring, object sock, object block_size, object blocks) except -1:
        cdef size_t size = block_size * blocks
        cdef void* place
        ring.linktype = linktype_of(sock)
        ring.fd = sock.fileno()
        ring.block_size = block_size
        ring.blocks = blocks
        ring.interface = <uint16_t> self.count_rings
        place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, <off_t> 0)
        if place == MAP_FAILED:
            raise TransportError(
                f"{name_of(sock)}: its ring cannot be mapped as {blocks} blocks of {block_size} bytes; either the "
                "socket was opened with other sizes, or the address space is used up"
            )
        ring.map = <uint8_t*> place
        self.count_rings += 1
        ring.block = oldest_block(ring)
        self.poll.register(ring.fd)

    # --- receiving --------------------------------------------------------------------------------------
    def fileno(self):
        """Return the descriptor that is readable when frames wait: that of an epoll."""
        return self.poll.fileno()

    cpdef bint read_batch(self) except -1:
        """Make the frames that wait the current batch, some of each interface; the one before is void.

        Returns:
            False when none waits.

        Raises:
            TransportError: all interfaces were removed, and what came before is read.
        """
        cdef size_t count = 0, i, share, more
        cdef Ring* ring
        self.count = 0
        if self.poll is None:
            return False
        for i in range(self.count_rings):
            give_back(&self.rings[i])
        for i in range(self.count_rings):
            # The last ones may use what the first left.
            share = (BATCH - count) // (self.count_rings - i)
            ring = &self.rings[(self.turn + i) % self.count_rings]
            with nogil:
                more = take_frames(ring, &self.room[count], share)
            if more > 0 and self.clock is not None:
                self.clock.look()
                self.clock.bring(&self.room[count], more, &ring.latest_ns)
            count += more
        if count > 0:
            self.turn += 1
            return self.deliver(self.room, count)
        self._look_around()
        return False

    cdef int _look_around(self) except -1:
        """See what makes the epoll readable without frames: an interface went down or away."""
        cdef size_t i
        suspects = self.poll.suspects()
        for i in range(self.count_rings):
            if self.rings[i].fd in suspects:
                self.links[i].look()
        # What is in a block that the kernel has not handed over yet makes the epoll readable again, soon.
        if not self.ended and all(link.removed for link in self.links) and self._all_read():
            self.ended = True
            names = ", ".join(link.name for link in self.links)
            raise TransportError(f"{names}: removed while being watched; start again once it is back")

    cdef bint _all_read(self) noexcept nogil:
        cdef size_t i
        for i in range(self.count_rings):
            if has_unread(&self.rings[i]):
                return False
        return True

    # --- sending ----------------------------------------------------------------------------------------
    def send(self, frame, interface=0):
        """Send a frame now; it is not seen here. One that the wire does not take is counted as ``unsent``.

        Args:
            frame: Its bytes, from the link layer on.
            interface: Index of the interface by which it is to leave.
        """
        self.send_one(bytes(frame), interface)

    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1:
        cdef size_t i
        cdef Ring* ring
        for i in range(count):
            if frames[i].interface >= self.count_rings:
                continue
            ring = &self.rings[frames[i].interface]
            if frames[i].offload != NULL or self.poll is None:
                ring.unsent += 1
            elif send(ring.fd, frames[i].data, frames[i].caplen, MSG_DONTWAIT) >= 0:
                ring.sent += 1
            elif has_no_room(last_errno):
                self.tells_room = last_errno == EAGAIN
                return <Py_ssize_t> i
            else:
                ring.unsent += 1
        return <Py_ssize_t> count

    cdef void count_unsent(self, size_t interface, size_t count) noexcept:
        if interface < self.count_rings:
            self.rings[interface].unsent += count

    def write_fileno(self, interface):
        """Return the descriptor that is writable once an interface has room again; None if nothing tells."""
        return self.sockets[interface].fileno() if self.tells_room and self.sockets is not None else None

    # --- what Python asks -------------------------------------------------------------------------------
    def set_prefilter(self, prefilter):
        """Have the kernel drop frames unseen: it runs another program on those that come from now on.

        Args:
            prefilter: Classic BPF as ``(code, jt, jf, k)`` instructions, that returns the number of bytes to keep, 0
                for none; None to keep all frames.

        Raises:
            TransportError: the kernel refuses the program.
        """
        for sock in self.sockets:
            set_prefilter(sock, prefilter)

    def statistics(self):
        """Return counters by name; where there are several interfaces, also those of each as ``NAME.counter``.

        ``received`` frames were put in the ring, ``dropped`` found no room in it, which became full ``freezes``
        times: these three as the kernel counts, the others as frames are read. ``bytes`` is as long as frames were
        on the wire; ``truncated`` ones were longer than the prefilter keeps or a block takes. ``damaged`` blocks
        made no sense. ``outages`` says how often an interface went down.
        """
        cdef size_t i
        cdef Ring* ring
        totals = dict.fromkeys(COUNTERS, 0)
        each = {}
        for i in range(self.count_rings):
            ring = &self.rings[i]
            self._count(ring)
            counts = (ring.received, ring.dropped, ring.freezes, ring.bytes, ring.truncated, ring.damaged, ring.sent,
                      ring.unsent, self.links[i].outages)
            for counter, count in zip(COUNTERS, counts, strict=True):
                totals[counter] += count
                each[f"{self.interfaces[i].name}.{counter}"] = count
        return totals | each if self.count_rings > 1 else totals

    cdef int _count(self, Ring* ring) except -1:
        """Add what the kernel has counted since it was asked last; it counts those it dropped as received, too."""
        if self.sockets is None:
            return 0
        counted = self.sockets[ring.interface].getsockopt(SOL_PACKET, PACKET_STATISTICS, 12)
        packets, drops, freezes = struct.unpack("3I", counted)
        ring.received += packets - drops
        ring.dropped += drops
        ring.freezes += freezes

    cpdef close(self):
        """Let go of the rings and, unless they were handed in, the sockets; may be called again.

        What the kernel counted can still be asked for.
        """
        cdef size_t i
        Transport.close(self)
        self.ended = True
        if self.poll is None:
            return
        for i in range(self.count_rings):
            self._count(&self.rings[i])
            give_back(&self.rings[i])
            unmap(&self.rings[i])
        self.poll.close()
        if self.owned:
            for sock in self.sockets:
                sock.close()
        self.poll = self.sockets = None
