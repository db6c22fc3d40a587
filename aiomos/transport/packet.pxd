# Watching interfaces through packet sockets with memory-mapped rings; see packet_mmap in the kernel's documentation.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.transport.transport cimport Transport

# A ring of blocks, each of which belongs to the kernel or to us. Ours are, in the order of the ring, those that were
# read and are not given back yet, `finished` many, and from `block` on those still to be read.
ctypedef struct Ring:
    uint8_t* map
    size_t block_size
    uint32_t blocks
    uint32_t block         # being read, or to be read next
    uint32_t finished      # blocks before it whose frames are lent to the engine
    uint32_t left          # frames of the block not read yet; 0 before it is begun
    uint32_t offset        # of the next of them in the block
    int fd
    uint16_t linktype
    uint16_t interface
    int64_t latest_ns      # the latest time of its frames
    uint64_t bytes
    uint64_t truncated
    uint64_t damaged
    uint64_t sent
    uint64_t unsent
    uint64_t received      # as the kernel counts, which starts anew whenever it is asked
    uint64_t dropped
    uint64_t freezes

cdef class PacketWatch(Transport):
    cdef Ring* rings
    cdef size_t count_rings
    cdef size_t turn           # ring to start the next batch with
    cdef list sockets
    cdef list links            # Link of each interface
    cdef object poll           # LinkPoll over the sockets
    cdef bint owned            # whether the sockets are to be closed
    cdef readonly bint ended

    cdef bint tells_room       # a descriptor is writable once there is room for the frame there was none for

    cdef int _map(self, Ring* ring, object sock, object block_size, object blocks) except -1
    cdef int _look_around(self) except -1
    cdef bint _all_read(self) noexcept nogil
    cdef int _count(self, Ring* ring) except -1
