"""Frames in line as network cards hand them over, with what is left for them to do; and what leaves."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from aiomos.transport.transport cimport Transport
from aiomos.wire.frame cimport Frame, Offload

from aiomos.transport.interfaces import Interface

cdef enum:
    MOST = 64


cdef class OffloadWire(Transport):
    """Two ends; gives frames with an `Offload`, and keeps those that are sent with theirs."""

    forwards = (1, 0)

    cdef list waiting
    cdef list bytes_held
    cdef Offload offloads[64]
    cdef readonly list sent

    def __init__(self):
        self.interfaces.extend([Interface("", "first", 1, 0), Interface("", "second", 1, 0)])
        self.waiting, self.sent = [], []

    def give(self, int64_t time_ns, data, uint16_t interface, offload=None):
        """Have a frame come in, with ``(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)``."""
        self.waiting.append((time_ns, bytearray(data), interface, offload))

    cpdef bint read_batch(self) except -1:
        cdef size_t count = 0
        cdef bytearray data
        cdef Frame* frame
        cdef Offload* left
        self.bytes_held, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        self.reserve(MOST)
        for time_ns, data, interface, offload in self.bytes_held:
            frame, left = &self.room[count], &self.offloads[count]
            memset(frame, 0, sizeof(Frame))
            frame.data = <const uint8_t*> <char*> data
            frame.caplen = frame.wirelen = <uint32_t> len(data)
            frame.time_ns, frame.interface, frame.linktype = time_ns, interface, 1
            if offload is not None:
                left.flags, left.gso_type, left.hdr_len, left.gso_size, left.csum_start, left.csum_offset = offload
                frame.offload = left
            count += 1
        return self.deliver(self.room, count)

    cdef Py_ssize_t send_frames(self, const Frame* frames, size_t count) except -1:
        cdef size_t i
        cdef const Offload* left
        for i in range(count):
            left = frames[i].offload
            offload = None if left == NULL else (
                left.flags, left.gso_type, left.hdr_len, left.gso_size, left.csum_start, left.csum_offset)
            self.sent.append((<bytes> frames[i].data[:frames[i].caplen], frames[i].interface, offload))
        return <Py_ssize_t> count
