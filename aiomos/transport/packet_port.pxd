# In line on an interface through a packet socket; see packet_mmap in the kernel's documentation.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from posix.uio cimport iovec

from aiomos.transport.linux_packet cimport mmsghdr
from aiomos.transport.ports cimport Port
from aiomos.wire.frame cimport Frame, Offload

# A ring of slots, one for a frame, each of which belongs to the kernel or to us. Ours are `lent` many before `next`,
# whose frames the engine has, and from `next` on those that are still to be read.
ctypedef struct SlotRing:
    uint8_t* map
    uint32_t slots
    uint32_t next
    uint32_t lent
    bint found             # `next` is where the kernel goes on; not known before the first frame

cdef enum:
    SENT_AT_ONCE = 128         # frames given to one system call

# Messages for one system call: each is an Offload and the bytes of a frame.
ctypedef struct Parcel:
    mmsghdr messages[<int> SENT_AT_ONCE]
    iovec parts[2 * <int> SENT_AT_ONCE]

cdef class PacketPort(Port):
    cdef SlotRing ring
    cdef Offload* offloads     # of the frames that the engine has
    cdef object sock
    cdef int fd
    cdef bint owned            # whether the socket is to be closed
    cdef object link           # Link of the interface

    cdef int _map(self, uint32_t blocks) except -1
    cdef void _unmap(self) noexcept
    cdef bint read_slot(self, Frame* frame, Offload* offload) noexcept nogil
    cdef size_t send_parcel(self, Parcel* parcel, size_t count) noexcept nogil
