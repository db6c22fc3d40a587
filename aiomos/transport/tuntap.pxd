# In line, or by itself, on a virtual interface of the kernel whose other end is this process.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from aiomos.transport.ports cimport Port, PortTransport
from aiomos.wire.frame cimport Frame, Offload

cdef class DevicePort(Port):
    cdef uint8_t* memory       # a slot for each frame of a batch
    cdef Offload* offloads
    cdef uint8_t* cut          # room for one segment
    cdef int fd
    cdef bint offload          # whether each frame has a struct virtio_net_hdr before it
    cdef bint gone
    cdef size_t segments_gone  # of the super-segment for the rest of which there was no room
    cdef bint is_full          # there was no room for what was written last

    cdef ssize_t receive(self, size_t place) noexcept nogil
    cdef bint send_one(self, const Frame* frame) noexcept nogil
    cdef bint send_segments(self, const Frame* frame) noexcept nogil
    cdef bint send_with_checksum(self, const Frame* frame) noexcept nogil
    cdef bint write(self, const uint8_t* data, size_t size, const Offload* offload) noexcept nogil

cdef class TapPort(DevicePort):
    pass

cdef class TunPort(DevicePort):
    pass

cdef class Tap(PortTransport):
    pass

cdef class Tun(PortTransport):
    pass
