"""TUN and TAP devices: interfaces of the kernel whose wire ends in this process.

What the kernel sends on such an interface is received here, and what is sent here the kernel receives on it: a TAP
device carries Ethernet frames, a TUN device plain IP packets.
"""

import errno
import fcntl
import os
import socket
import struct

cimport cython
from libc.errno cimport EAGAIN, errno as last_errno
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from posix.uio cimport iovec, readv, writev

from aiomos.errors import TransportError
from aiomos.transport.links import log_change
from aiomos.transport.rights import how_to_get

from aiomos.transport.ports cimport HEADROOM, TAILROOM, UNSENT_REFUSED, UNSENT_TOO_LONG, Port, PortTransport
from aiomos.wire.frame cimport OFFLOAD_NEEDS_CSUM, Frame, Offload
from aiomos.wire.numbers cimport LINKTYPE_ETHERNET, LINKTYPE_RAW
from aiomos.wire.segmentation cimport (
    Segmentation,
    begin_segments,
    complete_checksum,
    longest_segment,
    next_segment,
)

cdef enum:
    BATCH = 256                # frames read at once, by a system call each
    LONGEST = 65535 + 18       # an IP packet behind an Ethernet header with a VLAN tag
    SLOT = HEADROOM + LONGEST + TAILROOM
    SECOND = 1_000_000_000

# linux/if_tun.h, linux/if.h, linux/sockios.h
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN = 0x0001
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUN_F_CSUM_TSO4_TSO6_ECN = 0x0F
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x0001
IFREQ = "16sH22x"

cdef Offload AS_IT_STANDS
memset(&AS_IT_STANDS, 0, sizeof(Offload))


# --- the device --------------------------------------------------------------------------------------------
def open_device(name, kind, offload):
    """Open a device, an existing one or a new one that lasts as long as the descriptor; and set it up.

    Returns:
        The descriptor, and the name: that of a new device where *name* is a pattern such as ``tap%d``.
    """
    if len(os.fsencode(name)) > 15 or not name:
        raise TransportError(f"{name}: names of interfaces have 1 to 15 bytes")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TransportError(
            f"{name}: /dev/net/tun cannot be opened: {error.strerror}; load the module tun (modprobe tun), and run "
            "with sudo or give yourself the right to read and write it"
        ) from error
    try:
        request = struct.pack(IFREQ, os.fsencode(name), kind | IFF_NO_PI | (IFF_VNET_HDR if offload else 0))
        answer = fcntl.ioctl(fd, TUNSETIFF, request)
        name = os.fsdecode(answer[:16].rstrip(b"\0"))
        if offload:
            fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM_TSO4_TSO6_ECN)
        set_up(name)
    except OSError as error:
        os.close(fd)
        raise TransportError(f"{name}: {REFUSALS.get(error.errno, error.strerror)}") from error
    return fd, name


REFUSALS = {
    errno.EPERM: "TUN and TAP devices need an existing device that is yours: sudo ip tuntap add NAME mode tap user "
                 "$USER && sudo ip link set NAME up; or the capability CAP_NET_ADMIN: " + how_to_get("CAP_NET_ADMIN"),
    errno.EBUSY: "the device is in use by another process",
    errno.EINVAL: "an interface of that name is no such device, or is one with several queues",
}
"""What it means when the kernel refuses a device."""


def set_up(name):
    """Set an interface up, unless it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack(IFREQ, os.fsencode(name), 0)
        _, flags = struct.unpack(IFREQ, fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        if not flags & IFF_UP:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack(IFREQ, os.fsencode(name), flags | IFF_UP))


cdef int64_t time_now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <int64_t> now.tv_sec * SECOND + now.tv_nsec


cdef class DevicePort(Port):
    """One end of a wire: a TUN or TAP device; `TapPort` and `TunPort` are the two.

    Frames have the time at which they were read: the kernel gives none.

    Args:
        interface: Its name. One that does not exist is made, and goes when the port is closed.
        offload: Whether super-segments, and sums left to a network card, pass as they are. Else they are cut, and
            taken, on either side.

    Raises:
        TransportError: the device cannot be used.
    """

    kind = 0

    def __cinit__(self, interface, *, offload=True):
        self.fd = -1
        self.offload = offload
        self.linktype = LINKTYPE_ETHERNET if self.kind == IFF_TAP else LINKTYPE_RAW
        self.memory = <uint8_t*> malloc(<size_t> BATCH * SLOT)
        self.cut = <uint8_t*> malloc(LONGEST)
        self.offloads = <Offload*> calloc(BATCH, sizeof(Offload))
        if self.memory == NULL or self.cut == NULL or self.offloads == NULL:
            raise MemoryError(f"no memory for a batch of {BATCH} frames")
        self.fd, self.interface = open_device(interface, self.kind, offload)

    def __dealloc__(self):
        free(self.memory)
        free(self.cut)
        free(self.offloads)

    def fileno(self):
        """Return the descriptor of the device."""
        return self.fd

    # --- receiving --------------------------------------------------------------------------------------
    cdef size_t receive_frames(self, Frame* frames, size_t room) noexcept nogil:
        cdef size_t count = 0
        cdef ssize_t size
        cdef int64_t now = time_now()
        while count < room and count < BATCH:
            size = self.receive(count)
            if size <= 0:
                break
            frames[count].data = self.memory + count * SLOT + HEADROOM
            frames[count].caplen = frames[count].wirelen = <uint32_t> size
            frames[count].time_ns = now
            frames[count].linktype = self.linktype
            frames[count].offload = NULL
            if self.offloads[count].flags != 0 or self.offloads[count].gso_type != 0:
                frames[count].offload = &self.offloads[count]
            self.counters.bytes += size
            count += 1
        self.counters.received += count
        return count

    cdef ssize_t receive(self, size_t place) noexcept nogil:
        """Read one frame and its Offload; returns its length, 0 or less when none waits."""
        cdef iovec parts[2]
        cdef ssize_t size
        parts[0].iov_base = &self.offloads[place]
        parts[0].iov_len = sizeof(Offload)
        parts[1].iov_base = self.memory + place * SLOT + HEADROOM
        parts[1].iov_len = LONGEST
        if self.offload:
            size = readv(self.fd, parts, 2) - <ssize_t> sizeof(Offload)
        else:
            size = readv(self.fd, &parts[1], 1)
        if size < 0 and last_errno != EAGAIN:
            self.gone = True
        return size

    cdef bint still_there(self) except -1:
        # readv() of the device says so, and nothing else that is asked of it in passing.
        if self.gone and self.counters.outages == 0:
            self.counters.outages = 1
            log_change("interface_removed", self.interface)
        return not self.gone

    # --- sending ----------------------------------------------------------------------------------------
    cdef size_t send_frames(self, const Frame* frames, size_t count) noexcept nogil:
        cdef size_t i
        for i in range(count):
            self.is_full = False
            if self.send_one(&frames[i]):
                self.counters.sent += 1
                self.counters.sent_bytes += frames[i].caplen
            if self.is_full:
                return i
        return count

    cdef void count_full(self, size_t count) noexcept nogil:
        if count and self.segments_gone:                    # what has left of it has left
            self.segments_gone = 0
            self.counters.sent += 1
        Port.count_full(self, count)

    cdef bint send_one(self, const Frame* frame) noexcept nogil:
        if frame.offload == NULL or self.offload:
            return self.write(frame.data, frame.caplen, frame.offload)
        if frame.offload.gso_type != 0:
            return self.send_segments(frame)
        if frame.offload.flags & OFFLOAD_NEEDS_CSUM:
            return self.send_with_checksum(frame)
        return self.write(frame.data, frame.caplen, NULL)

    cdef bint send_segments(self, const Frame* frame) noexcept nogil:
        """Send a super-segment as segments, or those that did not fit before; whether at least one went."""
        cdef Segmentation whole
        cdef size_t size, number = 0
        cdef bint any_sent = False
        if not begin_segments(&whole, frame) or longest_segment(&whole) > LONGEST:
            self.counters.unsent[<int> UNSENT_REFUSED] += 1
            return False
        self.counters.segmented += self.segments_gone == 0
        size = next_segment(&whole, self.cut)
        while size > 0:
            number += 1
            if number > self.segments_gone:
                any_sent |= self.write(self.cut, size, NULL)
                if self.is_full:
                    self.segments_gone = number - 1
                    return False
            size = next_segment(&whole, self.cut)
        any_sent |= self.segments_gone > 0
        self.segments_gone = 0
        return any_sent

    cdef bint send_with_checksum(self, const Frame* frame) noexcept nogil:
        if frame.caplen > LONGEST:
            self.counters.unsent[<int> UNSENT_TOO_LONG] += 1
            return False
        memcpy(self.cut, frame.data, frame.caplen)
        if not complete_checksum(self.cut, frame.caplen, frame.offload):
            self.counters.unsent[<int> UNSENT_REFUSED] += 1
            return False
        return self.write(self.cut, frame.caplen, NULL)

    cdef bint write(self, const uint8_t* data, size_t size, const Offload* offload) noexcept nogil:
        cdef iovec parts[2]
        cdef iovec* first = &parts[0] if self.offload else &parts[1]
        cdef int count = 2 if self.offload else 1
        # The kernel only reads what it is to receive.
        parts[0].iov_base = <void*> (offload if offload != NULL else &AS_IT_STANDS)
        parts[0].iov_len = sizeof(Offload)
        parts[1].iov_base = <void*> data
        parts[1].iov_len = size
        if writev(self.fd, first, count) >= 0:
            return True
        self.is_full = not self.is_lost(last_errno)
        return False

    # --- what Python asks -------------------------------------------------------------------------------
    def close(self):
        """Let go of the device, and of a new one altogether; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@cython.final
cdef class TapPort(DevicePort):
    """One end of a wire: a TAP device, of Ethernet frames; see `DevicePort`."""

    kind = IFF_TAP


@cython.final
cdef class TunPort(DevicePort):
    """One end of a wire: a TUN device, of plain IP packets; see `DevicePort`."""

    kind = IFF_TUN


@cython.final
cdef class Tap(PortTransport):
    """A TAP device by itself: receive what the kernel sends on it, send what the kernel shall receive on it.

    Args:
        interface: Its name; one that does not exist is made, and goes when this is closed.

    Raises:
        TransportError: the device cannot be used.
    """

    def __init__(self, interface):
        PortTransport.__init__(self, (TapPort(interface),))


@cython.final
cdef class Tun(PortTransport):
    """A TUN device by itself, as `Tap` is, of plain IP packets."""

    def __init__(self, interface):
        PortTransport.__init__(self, (TunPort(interface),))
