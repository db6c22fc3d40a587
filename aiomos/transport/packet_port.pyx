"""In line on an interface: a packet socket (AF_PACKET) whose TPACKET_V2 ring frames are read in, and sent from."""

import errno
import struct
from socket import SO_SNDBUF, SOL_SOCKET

cimport cython
from libc.errno cimport errno as last_errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.types cimport off_t
from posix.uio cimport iovec

from aiomos.errors import TransportError
from aiomos.transport.links import Link
from aiomos.transport.packet_sockets import (
    PACKET_RESERVE,
    PACKET_RX_RING,
    PACKET_STATISTICS,
    PACKET_VERSION,
    SOL_PACKET,
    linktype_of,
    open_bound_socket,
)

from aiomos.transport.linux_packet cimport (
    MSG_DONTWAIT,
    TP_STATUS_KERNEL,
    TP_STATUS_USER,
    TP_STATUS_VLAN_TPID_VALID,
    TP_STATUS_VLAN_VALID,
    aiomos_load_acquire,
    aiomos_prefetch,
    aiomos_store_release,
    mmsghdr,
    sendmmsg,
    tpacket2_hdr,
)
from aiomos.transport.ports cimport HEADROOM, TAILROOM, Port
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload
from aiomos.wire.numbers cimport ETHERTYPE_VLAN, LINKTYPE_ETHERNET

cdef enum:
    # The kernel takes a block's pages in one piece, by powers of two; slots do not cross blocks.
    BLOCK = 1 << 20
    # A super-segment of 64 KiB with its headers, and room around it: 15 to the block.
    SLOT = 69904
    SLOTS_OF_BLOCK = BLOCK // SLOT
    LENT_AT_MOST = 512         # frames read at once
    SECOND = 1_000_000_000
    MAC_ADDRESSES = 12         # bytes
    VLAN_TAG = 4

# linux/if_packet.h, asm-generic/socket.h
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
SO_SNDBUFFORCE = 32
TPACKET_V2 = 1
SEND_BUFFER = 16 << 20
DEFAULT_SLOTS = 2048

cdef Offload AS_IT_STANDS
memset(&AS_IT_STANDS, 0, sizeof(Offload))


# --- the ring ----------------------------------------------------------------------------------------------
cdef inline tpacket2_hdr* slot_at(const SlotRing* ring, uint32_t number) noexcept nogil:
    return <tpacket2_hdr*> (ring.map + <size_t> (number // SLOTS_OF_BLOCK) * BLOCK + (number % SLOTS_OF_BLOCK) * SLOT)


cdef inline bint is_ours(const SlotRing* ring, uint32_t number) noexcept nogil:
    return (aiomos_load_acquire(&slot_at(ring, number).tp_status) & TP_STATUS_USER) != 0


cdef inline uint32_t after(const SlotRing* ring, uint32_t number) noexcept nogil:
    return number + 1 if number + 1 < ring.slots else 0


cdef bint find_oldest(SlotRing* ring) noexcept nogil:
    """Find the slot to begin with in a ring that another process may have read before; False while all are empty."""
    cdef uint32_t number
    cdef int64_t time_ns, oldest_ns = 0
    for number in range(ring.slots):
        if is_ours(ring, number):
            time_ns = <int64_t> slot_at(ring, number).tp_sec * SECOND + slot_at(ring, number).tp_nsec
            if not ring.found or time_ns < oldest_ns:
                ring.found, ring.next, oldest_ns = True, number, time_ns
    return ring.found


cdef void give_back(SlotRing* ring) noexcept nogil:
    """Let the kernel fill the slots again whose frames are done with."""
    cdef uint32_t number = (ring.next + ring.slots - ring.lent) % ring.slots
    while ring.lent > 0:
        aiomos_store_release(&slot_at(ring, number).tp_status, TP_STATUS_KERNEL)
        number = after(ring, number)
        ring.lent -= 1


cdef inline void put_vlan_tag_back(tpacket2_hdr* header, Offload* offload) noexcept nogil:
    """Undo what the kernel or the network card did: move the addresses forward and put the tag behind them.

    The slot is made to look as if the tag had never been out: a worker that takes over may read it again.
    """
    cdef uint8_t* frame = <uint8_t*> header + header.tp_mac
    cdef uint16_t tpid = ETHERTYPE_VLAN
    if header.tp_status & TP_STATUS_VLAN_TPID_VALID:
        tpid = header.tp_vlan_tpid
    memmove(frame - VLAN_TAG, frame, MAC_ADDRESSES)
    frame += MAC_ADDRESSES - VLAN_TAG
    frame[0], frame[1] = tpid >> 8, tpid & 0xFF
    frame[2], frame[3] = header.tp_vlan_tci >> 8, header.tp_vlan_tci & 0xFF
    header.tp_mac -= VLAN_TAG
    header.tp_snaplen += VLAN_TAG
    header.tp_len += VLAN_TAG
    header.tp_status &= ~<uint32_t> TP_STATUS_VLAN_VALID
    if offload.gso_type:
        offload.hdr_len += VLAN_TAG
    if offload.flags & OFFLOAD_NEEDS_CSUM:
        offload.csum_start += VLAN_TAG
    memcpy(<uint8_t*> header + header.tp_mac - sizeof(Offload), offload, sizeof(Offload))


# --- sending -----------------------------------------------------------------------------------------------
cdef inline void put_in(Parcel* parcel, size_t place, const Frame* frame) noexcept nogil:
    cdef iovec* parts = &parcel.parts[2 * place]
    # The kernel only reads what it is to send.
    parts[0].iov_base = <void*> (frame.offload if frame.offload != NULL else &AS_IT_STANDS)
    parts[0].iov_len = sizeof(Offload)
    parts[1].iov_base = <void*> frame.data
    parts[1].iov_len = frame.caplen
    memset(&parcel.messages[place], 0, sizeof(mmsghdr))
    parcel.messages[place].msg_hdr.msg_iov = parts
    parcel.messages[place].msg_hdr.msg_iovlen = 2


@cython.final
cdef class PacketPort(Port):
    """One end of a wire: an interface, of which this sees only what comes in, to whomever it is addressed.

    Super-segments, and sums that a network card is to take, pass as they are (PACKET_VNET_HDR).

    Args:
        interface: Its name.
        socket: One that `open_port_socket` opened with as many *slots*, and that stays the caller's. Reading starts
            with the oldest frame that waits in it; those of a batch that nobody finished come again. None to open
            one, to which the other arguments apply.
        slots: Frames that may wait; each slot takes 70 kB of the kernel's memory, whatever the length of the frame.
        busy_poll: Microseconds to poll the network card for when nothing waits (SO_BUSY_POLL); 0 for none.
        fanout: The `Fanout` group to join.

    Raises:
        TransportError: the interface cannot be used.
    """

    def __cinit__(self, interface, *, socket=None, slots=DEFAULT_SLOTS, busy_poll=0, fanout=None):
        self.interface = interface
        self.owned = socket is None
        self.sock = socket
        if self.owned:
            self.sock = open_port_socket(interface, slots=slots, busy_poll=busy_poll, fanout=fanout)
        try:
            self.linktype = linktype_of(self.sock)
            self.link = Link(interface, self.sock)
            self.fd = self.sock.fileno()
            self._map(blocks_for(slots))
        except BaseException:
            self.close()
            raise

    def __dealloc__(self):
        self._unmap()
        free(self.offloads)

    cdef int _map(self, uint32_t blocks) except -1:
        cdef void* place
        self.offloads = <Offload*> calloc(LENT_AT_MOST, sizeof(Offload))
        if self.offloads == NULL:
            raise MemoryError(f"no memory for a batch of {LENT_AT_MOST} frames")
        place = mmap(NULL, <size_t> blocks * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, <off_t> 0)
        if place == MAP_FAILED:
            raise TransportError(
                f"{self.interface}: its ring cannot be mapped as {blocks} MiB; either the socket was opened with "
                "another number of slots, or the address space is used up"
            )
        self.ring.map = <uint8_t*> place
        self.ring.slots = blocks * SLOTS_OF_BLOCK
        return 0

    cdef void _unmap(self) noexcept:
        if self.ring.map != NULL:
            munmap(self.ring.map, <size_t> (self.ring.slots // SLOTS_OF_BLOCK) * BLOCK)
            self.ring.map = NULL

    def fileno(self):
        """Return the descriptor of the socket."""
        return self.fd

    # --- receiving --------------------------------------------------------------------------------------
    cdef size_t receive_frames(self, Frame* frames, size_t room) noexcept nogil:
        cdef SlotRing* ring = &self.ring
        cdef size_t count = 0
        cdef uint32_t at_most = min(<uint32_t> LENT_AT_MOST, ring.slots)
        give_back(ring)
        if not ring.found and not find_oldest(ring):
            return 0
        while count < room and ring.lent < at_most and is_ours(ring, ring.next):
            if self.read_slot(&frames[count], &self.offloads[count]):
                count += 1
            ring.next = after(ring, ring.next)
            ring.lent += 1
        return count

    cdef bint read_slot(self, Frame* frame, Offload* offload) noexcept nogil:
        """Read the frame in the next slot; False when it was longer than that."""
        cdef tpacket2_hdr* header = slot_at(&self.ring, self.ring.next)
        aiomos_prefetch(slot_at(&self.ring, after(&self.ring, self.ring.next)))
        if header.tp_snaplen < header.tp_len or header.tp_snaplen + header.tp_mac > <uint32_t> SLOT - TAILROOM:
            self.counters.truncated += 1
            return False
        memcpy(offload, <uint8_t*> header + header.tp_mac - sizeof(Offload), sizeof(Offload))
        if (header.tp_status & TP_STATUS_VLAN_VALID and self.linktype == LINKTYPE_ETHERNET
                and header.tp_snaplen >= MAC_ADDRESSES):
            put_vlan_tag_back(header, offload)
        frame.data = <uint8_t*> header + header.tp_mac
        frame.caplen = frame.wirelen = header.tp_snaplen
        frame.time_ns = <int64_t> header.tp_sec * SECOND + header.tp_nsec
        frame.linktype = self.linktype
        frame.offload = offload if offload.flags != 0 or offload.gso_type != 0 else NULL
        self.counters.bytes += header.tp_snaplen
        return True

    cdef bint still_there(self) except -1:
        self.link.look()
        self.counters.outages = self.link.outages
        return not self.link.removed

    # --- sending ----------------------------------------------------------------------------------------
    cdef size_t send_frames(self, const Frame* frames, size_t count) noexcept nogil:
        cdef Parcel parcel
        cdef size_t done = 0, i, size, taken
        while done < count:
            size = min(count - done, <size_t> SENT_AT_ONCE)
            for i in range(size):
                put_in(&parcel, i, &frames[done + i])
            taken = self.send_parcel(&parcel, size)
            done += taken
            if taken < size:
                break
        return done

    cdef size_t send_parcel(self, Parcel* parcel, size_t count) noexcept nogil:
        """Send messages, in order, until there is no room; one that the kernel will never take is left out."""
        cdef size_t first = 0, i
        cdef int taken
        while first < count:
            taken = sendmmsg(self.fd, &parcel.messages[first], <unsigned int> (count - first), MSG_DONTWAIT)
            if taken > 0:
                for i in range(first, first + taken):
                    self.counters.sent_bytes += parcel.parts[2 * i + 1].iov_len
                self.counters.sent += taken
                first += taken
            elif self.is_lost(last_errno):
                first += 1
            else:
                break
        return first

    # --- what Python asks -------------------------------------------------------------------------------
    cdef int update_counters(self) except -1:
        """Add what the kernel has counted since it was asked last; it counts those it dropped as received, too."""
        if self.sock is None:
            return 0
        packets, drops = struct.unpack("2I", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.counters.received += packets - drops
        self.counters.dropped += drops
        return 0

    def close(self):
        """Let go of the ring and, unless it was handed in, the socket; may be called again.

        What was counted can still be asked for.
        """
        if self.sock is None:
            return
        self.update_counters()
        if self.ring.map != NULL:
            give_back(&self.ring)
            self._unmap()
        if self.owned:
            self.sock.close()
        self.sock = None


# --- opening -----------------------------------------------------------------------------------------------
def open_port_socket(interface, *, slots=DEFAULT_SLOTS, busy_poll=0, fanout=None, prefilter=None):
    """Open the socket of a `PacketPort`; frames collect in its ring from now on, whoever holds it.

    Args:
        interface: Its name.
        slots: Frames that may wait.
        busy_poll: Microseconds to poll the network card for when nothing waits (SO_BUSY_POLL); 0 for none.
        fanout: The `Fanout` group to join.
        prefilter: Classic BPF that says which frames are for this socket; None for all.

    Raises:
        TransportError: no such interface, no permission, no memory for the ring.
        ValueError: *slots* is out of range.
    """
    blocks = blocks_for(slots)
    return open_bound_socket(
        interface, lambda sock: set_up_port(sock, interface, blocks), busy_poll=busy_poll, fanout=fanout,
        prefilter=prefilter,
    )


def blocks_for(slots):
    """Return how many blocks have room for that many slots."""
    if not 1 <= slots <= 1 << 20:
        raise ValueError(f"slots {slots}: must be 1 to {1 << 20}")
    return -(-slots // SLOTS_OF_BLOCK)


def set_up_port(sock, interface, blocks):
    """Make a ring whose frames come with their struct virtio_net_hdr, and leave out what is sent."""
    sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(SOL_PACKET, PACKET_RESERVE, HEADROOM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN as much as net.core.wmem_max allows
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER)
    request = struct.pack("4I", BLOCK, blocks, SLOT, blocks * SLOTS_OF_BLOCK)
    try:
        sock.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise TransportError(
            f"{interface}: the kernel has no memory for a ring of {blocks} MiB; use fewer slots"
        ) from error
