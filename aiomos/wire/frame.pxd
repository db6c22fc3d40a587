# One captured frame, as transports hand it to the engine.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

# What the network card has yet to do for a frame: struct virtio_net_hdr of linux/virtio_net.h, in host byte order.
ctypedef struct Offload:
    uint8_t flags          # OFFLOAD_NEEDS_CSUM
    uint8_t gso_type       # 0: one segment; else a super-segment to be cut into some of gso_size payload bytes
    uint16_t hdr_len       # bytes of headers, from the link layer on
    uint16_t gso_size
    uint16_t csum_start    # with OFFLOAD_NEEDS_CSUM: from here on the sum is to be taken,
    uint16_t csum_offset   # and put here, counted from csum_start; the field holds the sum of the pseudo-header

cdef enum:
    OFFLOAD_NEEDS_CSUM = 1

ctypedef struct Frame:
    # Bytes of the link layer, borrowed: valid until the engine has finished the batch.
    const uint8_t* data
    uint32_t caplen        # bytes present at `data`
    uint32_t wirelen       # bytes on the wire; more than caplen when cut by a snap length
    int64_t time_ns        # since the epoch
    uint16_t linktype      # LINKTYPE_ number of the capture format
    uint16_t interface     # index of the interface it was captured on, or is to leave by
    const Offload* offload  # NULL: the frame is as it stands
