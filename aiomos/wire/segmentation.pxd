# What a network card does for a frame that has an Offload, done here where nobody else will.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.wire.frame cimport Frame, Offload

cdef enum:                     # Offload.gso_type (linux/virtio_net.h)
    GSO_TCPV4 = 1
    GSO_TCPV6 = 4
    GSO_UDP_L4 = 5
    GSO_ECN = 0x80             # or'ed to it: the first of its segments has CWR

ctypedef struct Segmentation:
    const uint8_t* frame
    size_t network             # where its IP header begins
    size_t transport           # and that of TCP or UDP
    size_t header              # bytes of all headers
    size_t end                 # of the payload
    size_t next                # first byte of the next segment's payload
    size_t mss
    uint32_t seq
    uint16_t id
    bint ipv4
    bint tcp

# Begin to cut a super-segment; False when it makes no sense, or is of a kind that is not cut here.
cdef bint begin_segments(Segmentation* whole, const Frame* frame) noexcept nogil
# Bytes of the longest segment.
cdef size_t longest_segment(const Segmentation* whole) noexcept nogil
# Write the next segment, whole and with its sums; returns its length, 0 when there is none left.
cdef size_t next_segment(Segmentation* whole, uint8_t* out) noexcept nogil
# Take the sum that an Offload leaves to do; False when it would lie outside the frame.
cdef bint complete_checksum(uint8_t* frame, size_t size, const Offload* offload) noexcept nogil
