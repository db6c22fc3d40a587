"""Records of the capture formats, found in a buffer that holds any part of a file."""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aiomos.wire.frame cimport Frame
from aiomos.wire.times cimport MAX_TIME_NS

cdef extern from *:
    ctypedef unsigned long long uint128_t "unsigned __int128"
    uint16_t bswap16 "__builtin_bswap16"(uint16_t) noexcept nogil
    uint32_t bswap32 "__builtin_bswap32"(uint32_t) noexcept nogil

cdef enum:
    NS_PER_SECOND = 1_000_000_000
    BYTE_ORDER_MAGIC = 0x1A2B3C4D
    MOST_CARRIED = 10          # seconds in a fraction of a second, left by a writer that did not carry
    # Lengths of blocks without their variable part, trailing length included.
    BLOCK_MIN = 12
    SECTION_MIN = 28
    INTERFACE_MIN = 20
    SIMPLE_PACKET_MIN = 16
    PACKET_MIN = 32


cdef inline uint16_t load16(const RecordParser* parser, size_t at) noexcept nogil:
    cdef uint16_t value
    memcpy(&value, parser.next + at, sizeof(value))
    return bswap16(value) if parser.swapped else value


cdef inline uint32_t load32(const RecordParser* parser, size_t at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, parser.next + at, sizeof(value))
    return bswap32(value) if parser.swapped else value


cdef inline Stop stop_at(RecordParser* parser, Stop reason, uint32_t culprit) noexcept nogil:
    parser.length = culprit
    return reason


cdef inline void emit(
    RecordParser* parser, const CaptureInterface* interface, size_t at, uint32_t caplen, uint32_t wirelen,
    int64_t time_ns,
) noexcept nogil:
    cdef Frame* frame = &parser.frames[parser.count]
    frame.data = parser.next + at
    frame.caplen = caplen
    # Some writers leave the length on the wire 0 or take it before a tag was put in.
    frame.wirelen = caplen if wirelen < caplen else wirelen
    frame.time_ns = time_ns
    frame.linktype = interface.linktype
    frame.interface = interface.index
    frame.offload = NULL
    parser.count += 1
    parser.unordered += time_ns < parser.last_ns
    parser.last_ns = time_ns


cdef inline void advance(RecordParser* parser, size_t n) noexcept nogil:
    parser.next += n
    parser.left -= n


# --- pcap -----------------------------------------------------------------------------------------
cdef Stop parse_pcap(RecordParser* state) noexcept nogil:
    """The parser's state is worked on in a copy, which nothing that is written to a frame can alter."""
    cdef RecordParser parser = state[0]
    cdef Stop stop = STOP_FULL
    while parser.count < parser.capacity and stop == STOP_FULL:
        stop = parse_record(&parser)
    state[0] = parser
    return stop


cdef inline Stop parse_record(RecordParser* parser) noexcept nogil:
    """Take in one record; STOP_FULL when that was done."""
    cdef uint32_t caplen, wirelen
    cdef int64_t time_ns, fraction_ns
    if parser.left < parser.header_len:
        return STOP_PARTIAL
    caplen = load32(parser, 8)
    wirelen = load32(parser, 12)
    if parser.lengths_either_way:
        caplen, wirelen = min(caplen, wirelen), max(caplen, wirelen)
    if caplen > parser.max_caplen:
        return stop_at(parser, STOP_BAD_CAPLEN, caplen)
    if caplen > parser.left - parser.header_len:
        return STOP_PARTIAL
    # Two 32-bit numbers: at most 2**32 seconds and as many microseconds, which 2**62 nanoseconds hold.
    time_ns = <int64_t> load32(parser, 0) * NS_PER_SECOND
    fraction_ns = <int64_t> load32(parser, 4) * parser.fraction_ns
    if fraction_ns < MOST_CARRIED * <int64_t> NS_PER_SECOND:
        time_ns += fraction_ns
    elif time_ns <= parser.last_ns < time_ns + NS_PER_SECOND:
        time_ns = parser.last_ns                   # that is no fraction: of the time its second is all that counts
    emit(parser, parser.interfaces, parser.header_len, caplen, wirelen, time_ns)
    advance(parser, parser.header_len + caplen)
    return STOP_FULL


# --- pcapng ---------------------------------------------------------------------------------------
cdef inline int64_t nanoseconds(const Clock* clock, uint64_t units) noexcept nogil:
    """Section 4.3: a time stamp counts units of if_tsresol; kept within the bounds of a time."""
    cdef uint128_t wide = <uint128_t> units * clock.multiplier
    cdef int64_t time_ns
    if clock.divisor != 1:
        wide = wide / clock.divisor
    wide = wide >> clock.shift
    time_ns = MAX_TIME_NS() if wide > <uint128_t> MAX_TIME_NS() else <int64_t> wide
    # Both are within 2**62, so the sum is within 2**63.
    time_ns += clock.offset_ns
    return max(-MAX_TIME_NS(), min(MAX_TIME_NS(), time_ns))


cdef Stop packet_block(RecordParser* parser, uint32_t length, uint32_t interface_id) noexcept nogil:
    """Enhanced Packet Block, and the obsolete Packet Block, which differs in the size of the interface's id."""
    cdef const CaptureInterface* interface
    cdef uint64_t units
    cdef uint32_t caplen
    if interface_id >= parser.interface_count:
        return stop_at(parser, STOP_BAD_INTERFACE, interface_id)
    caplen = load32(parser, 20)
    if caplen > length - PACKET_MIN:
        return stop_at(parser, STOP_BAD_CAPLEN, caplen)
    interface = &parser.interfaces[interface_id]
    units = <uint64_t> load32(parser, 12) << 32 | load32(parser, 16)
    emit(parser, interface, 28, caplen, load32(parser, 24), nanoseconds(&interface.clock, units))
    return GO_ON


cdef Stop simple_packet_block(RecordParser* parser, uint32_t length) noexcept nogil:
    """Section 4.4: of the first interface, cut at its snap length, without a time: given that of the frame before."""
    cdef uint32_t wirelen = load32(parser, 8)
    cdef uint32_t caplen = min(wirelen, length - SIMPLE_PACKET_MIN)
    if parser.interface_count == 0:
        return stop_at(parser, STOP_BAD_INTERFACE, 0)
    if parser.interfaces.snaplen != 0:
        caplen = min(caplen, parser.interfaces.snaplen)
    emit(parser, parser.interfaces, 12, caplen, wirelen, parser.last_ns)
    return GO_ON


cdef inline uint32_t fixed_part(uint32_t block_type) noexcept nogil:
    if block_type == BLOCK_ENHANCED_PACKET or block_type == BLOCK_PACKET:
        return PACKET_MIN
    if block_type == BLOCK_SECTION:
        return SECTION_MIN
    if block_type == BLOCK_INTERFACE:
        return INTERFACE_MIN
    if block_type == BLOCK_SIMPLE_PACKET:
        return SIMPLE_PACKET_MIN
    return BLOCK_MIN


cdef inline bint take_byte_order(RecordParser* parser) noexcept nogil:
    """Section 4.1: each section has a byte order of its own."""
    cdef uint32_t magic
    parser.swapped = False
    magic = load32(parser, 8)
    parser.swapped = magic == bswap32(BYTE_ORDER_MAGIC)
    return parser.swapped or magic == BYTE_ORDER_MAGIC


cdef Stop whole_block(RecordParser* parser, uint32_t block_type) noexcept nogil:
    """Check that the block at hand is whole and its lengths are sound; GO_ON when they are."""
    cdef uint32_t length
    if block_type == BLOCK_SECTION and not take_byte_order(parser):
        return stop_at(parser, STOP_BAD_BYTE_ORDER, load32(parser, 8))
    length = load32(parser, 4)
    if length < fixed_part(block_type) or length % 4 != 0 or length > MAX_RECORD:
        return stop_at(parser, STOP_BAD_BLOCK_LENGTH, length)
    if length > parser.left:
        return STOP_PARTIAL
    if load32(parser, length - 4) != length:
        return stop_at(parser, STOP_BAD_TRAILER, load32(parser, length - 4))
    parser.length = length
    return GO_ON


cdef Stop parse_pcapng(RecordParser* parser) noexcept nogil:
    cdef uint32_t block_type, length
    cdef Stop stop
    while parser.count < parser.capacity:
        if parser.left < BLOCK_MIN:
            return STOP_PARTIAL
        block_type = load32(parser, 0)
        stop = whole_block(parser, block_type)
        if stop != GO_ON:
            return stop
        length = parser.length
        if block_type == BLOCK_ENHANCED_PACKET:
            stop = packet_block(parser, length, load32(parser, 8))
        elif block_type == BLOCK_PACKET:
            stop = packet_block(parser, length, load16(parser, 8))
        elif block_type == BLOCK_SIMPLE_PACKET:
            stop = simple_packet_block(parser, length)
        elif block_type == BLOCK_INTERFACE or block_type == BLOCK_SECTION:
            stop = STOP_BLOCK
        # Any other block (names, statistics, secrets, private ones) tells nothing about frames.
        if stop != GO_ON:
            return stop
        advance(parser, length)
    return STOP_FULL


cdef Stop parse_records(RecordParser* parser) noexcept nogil:
    return parse_pcapng(parser) if parser.blocks else parse_pcap(parser)
