# One captured frame, as transports hand it to the engine.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

ctypedef struct Frame:
    # Bytes of the link layer, borrowed: valid until the engine has finished the batch.
    const uint8_t* data
    uint32_t caplen        # bytes present at `data`
    uint32_t wirelen       # bytes on the wire; more than caplen when cut by a snap length
    int64_t time_ns        # since the epoch
    uint16_t linktype      # LINKTYPE_ number of the capture format
    uint16_t interface     # index of the interface it was captured on
