# Records of the capture formats, found in a buffer that holds any part of a file.
#
# pcap: draft-ietf-opsawg-pcap. pcapng: draft-ietf-opsawg-pcapng; section numbers below are of the latter.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.wire.frame cimport Frame

cdef enum:
    # No length of a file is believed beyond these. libpcap, too, takes 256 KiB for the longest frame.
    MAX_CAPLEN = 256 * 1024              # of a pcap record, unless the file's snap length is larger
    MAX_RECORD = 64 * 1024 * 1024        # of a pcap record whatever its snap length, and of a pcapng block

cdef enum BlockType:
    BLOCK_INTERFACE = 1                  # section 4.2
    BLOCK_PACKET = 2                     # appendix A, obsolete
    BLOCK_SIMPLE_PACKET = 3              # section 4.4
    BLOCK_ENHANCED_PACKET = 6            # section 4.3
    BLOCK_SECTION = 0x0A0D0D0A           # section 4.1, the same in both byte orders

# Why parse_records() stopped.
cdef enum Stop:
    GO_ON = 0                            # it did not: only inside the parser
    STOP_FULL = 1                        # the array of frames is full
    STOP_PARTIAL = 2                     # the record at hand goes on behind the bytes that are left
    STOP_BLOCK = 3                       # at a whole block that changes the section or its interfaces
    STOP_BAD_CAPLEN = 4                  # more captured bytes than allowed, or than the block holds
    STOP_BAD_BLOCK_LENGTH = 5            # below the block's fixed part, no multiple of 4, or over MAX_RECORD
    STOP_BAD_TRAILER = 6                 # the length behind the block is not the length before it
    STOP_BAD_BYTE_ORDER = 7              # section header without byte-order magic
    STOP_BAD_INTERFACE = 8               # packet of an interface that was not described

# nanoseconds = (units * multiplier / divisor >> shift) + offset_ns
ctypedef struct Clock:
    uint64_t multiplier
    uint64_t divisor
    uint32_t shift
    int64_t offset_ns                    # within [MIN_TIME_NS, MAX_TIME_NS]

ctypedef struct CaptureInterface:
    Clock clock
    uint32_t snaplen                     # 0 for no limit
    uint16_t linktype
    uint16_t index                       # Frame.interface

# Where the parsing of one file stands. Invariant: next[:left] is the part of the buffer not parsed yet.
ctypedef struct RecordParser:
    const uint8_t* next
    size_t left
    bint blocks                          # pcapng, not pcap
    bint swapped                         # the file's byte order is not this machine's
    uint32_t header_len                  # pcap: of a record's header
    uint32_t fraction_ns                 # pcap: nanoseconds in one unit of a time stamp's fraction
    bint lengths_either_way              # pcap: before version 2.4 the shorter of the two lengths is the captured one
    uint32_t max_caplen                  # pcap
    uint32_t length                      # STOP_BLOCK: of the block; STOP_BAD_*: the value found wrong
    CaptureInterface* interfaces         # pcap: one; pcapng: those of the section
    uint32_t interface_count
    Frame* frames
    size_t capacity
    size_t count
    int64_t last_ns                      # time of the last frame
    uint64_t unordered                   # frames earlier than the frame before them

# Fill the array of frames from the bytes left; next and left then are those of the record it stopped at.
cdef Stop parse_records(RecordParser* parser) noexcept nogil
