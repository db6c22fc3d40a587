"""Capture files, pcap and pcapng, read in large blocks into one buffer that the frames point into."""

import select
import struct
import sys

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove

from aiomos.errors import CaptureError
from aiomos.transport.interfaces import MAX_INTERFACES, Interface

from aiomos.poison cimport poison, unpoison
from aiomos.transport.records cimport (
    BLOCK_SECTION, MAX_CAPLEN, MAX_RECORD, STOP_BAD_BLOCK_LENGTH, STOP_BAD_BYTE_ORDER,
    STOP_BAD_CAPLEN, STOP_BAD_INTERFACE, STOP_BAD_TRAILER, STOP_BLOCK, STOP_PARTIAL, CaptureInterface, Clock, Stop,
    parse_records,
)
from aiomos.transport.source cimport FrameSource
from aiomos.wire.frame cimport Frame
from aiomos.wire.times cimport MAX_TIME_NS

from aiomos.logging import get_logger

DEFAULT_BLOCK_SIZE = 256 * 1024
MIN_BLOCK_SIZE = 4 * 1024
# Bytes of a block for one place in the array of frames: about the shortest record of an Ethernet frame.
cdef enum:
    BYTES_PER_FRAME = 64
    LONGEST_HEADER = 24        # of a pcap file

# Magic number of a pcap file: nanoseconds in a unit of its times' fractions, length of a record's header.
PCAP_FORMATS = {
    0xA1B2C3D4: (1000, 16),
    0xA1B23C4D: (1, 16),
    0xA1B2CD34: (1000, 24),  # A. Kuznetzov's patched tcpdump: interface, protocol and packet type follow
}
PCAP_HEADER = "IHHiIII"
PCAP_HEADER_LEN = 24
# LINKTYPE_ field of a pcap header: the upper 6 bits tell the length of the frame check sequence.
PCAP_LINKTYPE_BITS = 0x03FFFFFF
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
OPTION_END, OPTION_IF_NAME, OPTION_IF_TSRESOL, OPTION_IF_TSOFFSET = 0, 2, 9, 14
MICROSECONDS = 6
EARLY_NS = 10 * 365 * 86_400 * 1_000_000_000       # the year 1980: nothing was captured before

STOP_MESSAGES = {
    STOP_BAD_CAPLEN: "the file is damaged: a record claims {} captured bytes, more than it may have",
    STOP_BAD_BLOCK_LENGTH: "the file is damaged: a block claims to be {} bytes long, which it cannot be",
    STOP_BAD_TRAILER: "the file is damaged: a block has the length {} behind it, but another before it",
    STOP_BAD_BYTE_ORDER: "the file is damaged: a section header has {:#010x} for its byte-order magic",
    STOP_BAD_INTERFACE: "the file is damaged: a packet is of interface {}, which its section does not describe",
}


cdef Clock make_clock(object tsresol, object tsoffset):
    """Make the clock for if_tsresol (its byte) and if_tsoffset (seconds) of section 4.2."""
    cdef Clock clock
    cdef object exponent = tsresol & 0x7F
    clock.multiplier = 1_000_000_000
    clock.divisor = 1
    clock.shift = 0
    if tsresol & 0x80:
        clock.shift = exponent
    elif exponent <= 9:
        clock.multiplier = 10 ** (9 - exponent)
    else:
        # From 10**-29 seconds on not even 2**64 units are a nanosecond.
        clock.multiplier = 1 if exponent < 29 else 0
        clock.divisor = 10 ** min(exponent - 9, 19)
    clock.offset_ns = max(-MAX_TIME_NS(), min(MAX_TIME_NS(), tsoffset * 1_000_000_000))
    return clock


cdef bint reaches_present(Clock clock):
    """Has a clock time stamps, of 64 bits, of when there were captures?"""
    latest_ns = ((1 << 64) - 1) * <object> clock.multiplier // <object> clock.divisor >> <object> clock.shift
    return latest_ns + <object> clock.offset_ns >= EARLY_NS


def options(bytes block, size_t start, str order):
    """Walk the options of a block (section 3.5); ValueError when one runs past the block.

    Yields:
        ``(code, value)`` up to the end of options, or of the block.
    """
    cdef size_t at = start, end = len(block) - 4
    while end - at >= 4:
        code, length = struct.unpack_from(order + "HH", block, at)
        if code == OPTION_END:
            return
        at += 4
        if length > end - at:
            raise ValueError(f"option {code} of {length} bytes runs past its block")
        yield code, block[at:at + length]
        at += min(end - at, (length + 3) & ~3)


def has_come(descriptor):
    """Tell whether a read would not wait; it never does of None, a file."""
    if descriptor is None:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


cdef class CaptureReader(FrameSource):
    """Read one capture file.

    A block of a file is filled before it is parsed. Of a pipe what has come is parsed at once, since it may be live.

    Args:
        file: Where the bytes come from, as `open_input` gives it; closed at the end, on any error, or by `close`.
        interfaces: List that the file's interfaces are added to; frames hold their index in it. Several
            readers may share one.
        block_size: Bytes read at once, at least `MIN_BLOCK_SIZE`; grows when a record is longer.

    Attributes:
        path: The file; ``-`` for standard input.

    Raises:
        CaptureError: the file is no capture.
    """

    def __cinit__(self, file, list interfaces not None, Py_ssize_t block_size=DEFAULT_BLOCK_SIZE):
        if block_size < MIN_BLOCK_SIZE:
            file.close()
            raise ValueError(f"block_size {block_size}: must be at least {MIN_BLOCK_SIZE} bytes")
        self.file = file
        self.pipe = file.pipe
        self.path = file.path
        self.interfaces = interfaces
        self.capacity = block_size
        self.buffer = <uint8_t*> malloc(block_size)
        self.parser.next = self.buffer
        self.parser.capacity = block_size // BYTES_PER_FRAME
        self.parser.frames = <Frame*> malloc(self.parser.capacity * sizeof(Frame))
        if self.buffer == NULL or self.parser.frames == NULL:
            raise MemoryError(f"no memory for blocks of {block_size} bytes")
        self._fill()
        while self.parser.left < LONGEST_HEADER and not self.at_eof:
            self._fill()
        self._read_header()

    def __dealloc__(self):
        free(self.buffer)
        free(self.parser.frames)
        free(self.parser.interfaces)

    cpdef bint read_batch(self) except -1:
        cdef Stop stop
        cdef bint may_wait = self.partial          # `starved` has told so
        self.count = 0
        self.parser.count = 0
        poison(self.buffer, <size_t> (self.parser.next - self.buffer))     # the batch before is void
        while not self.ended:
            with nogil:
                stop = parse_records(&self.parser)
            # What stopped it before or behind these frames is met again at the next call.
            self.partial = stop == STOP_PARTIAL
            if self.parser.count > 0:
                return self.deliver(self.parser.frames, self.parser.count)
            if stop == STOP_BLOCK:
                self._take_block()
            elif stop != STOP_PARTIAL:
                raise self._error(STOP_MESSAGES[stop].format(self.parser.length))
            elif self.pipe is not None and not may_wait and not has_come(self.pipe):
                return True
            elif self._fill():
                may_wait = False
            elif self.at_eof:
                self._end()
            else:                                  # of a pipe that is compressed: what has come is part of a block
                return True
        return False

    @property
    def starved(self):
        """Descriptor of a pipe of which all that has come is read, as far as it makes frames; else None."""
        return self.pipe if self.partial and not self.at_eof and not has_come(self.pipe) else None

    cdef bint _fill(self) except -1:
        """Move the partial record to the front and fill the buffer behind it; False if there is nothing more."""
        cdef size_t kept = self.parser.left
        if self.at_eof:
            return False
        if kept == self.capacity:
            self._grow()
        unpoison(self.buffer, self.capacity)
        self.buffer_offset += self.parser.next - self.buffer
        memmove(self.buffer, self.parser.next, kept)
        self.parser.next = self.buffer
        while self.parser.left < self.capacity and not self.at_eof:
            self._read_some()
            if self.pipe is not None:              # what follows may be long in coming
                break
        return self.parser.left > kept

    cdef int _read_some(self) except -1:
        room = PyMemoryView_FromMemory(
            <char*> self.buffer + self.parser.left, self.capacity - self.parser.left, PyBUF_WRITE
        )
        try:
            n = self.file.readinto(room)
        except OSError as error:
            self.file_error = error
            n = 0
        finally:
            room.release()
        self.parser.left += n or 0
        self.at_eof = n == 0

    cdef int _grow(self) except -1:
        """Double the buffer for a record that fills it; the parser has checked that it is no longer than MAX_RECORD."""
        cdef size_t done = self.parser.next - self.buffer
        cdef uint8_t* larger = <uint8_t*> realloc(self.buffer, 2 * self.capacity)
        if larger == NULL:
            raise MemoryError(f"no memory for a record longer than {self.capacity} bytes")
        self.buffer = larger
        self.parser.next = larger + done
        self.capacity *= 2

    cdef int _end(self) except -1:
        """End where the file ended: well between two records, or with an error."""
        if self.file_error is not None:
            raise self._error(str(self.file_error)) from self.file_error
        if self.parser.left > 0:
            raise self._error(f"the file is cut short: its last {self.parser.left} bytes are part of a record")
        self.ended = True
        self.file.close()

    cdef object _error(self, str message):
        """Make the error for the record at hand; reading ends with it."""
        self.ended = True
        self.file.close()
        offset = self.buffer_offset + (self.parser.next - self.buffer)
        return CaptureError(message, path=self.path, offset=offset, frames=self.frames_read)

    # --- headers --------------------------------------------------------------------------------------
    cdef int _read_header(self) except -1:
        magic = bytes(self.parser.next[:min(self.parser.left, <size_t> len(PCAPNG_MAGIC))])
        if magic == PCAPNG_MAGIC:
            self.parser.blocks = True
            return 0
        for order in "<>":
            if len(magic) == 4:
                layout = PCAP_FORMATS.get(struct.unpack(order + "I", magic)[0])
                if layout is not None:
                    return self._read_pcap_header(order, layout[0], layout[1])
        if self.file_error is not None:
            raise self._error(str(self.file_error)) from self.file_error
        if not magic:
            raise self._error("the file is empty; a capture has at least a header")
        raise self._error(f"neither pcap nor pcapng: it starts with {magic.hex(' ')}")

    cdef int _read_pcap_header(self, str order, uint32_t fraction_ns, uint32_t header_len) except -1:
        if self.parser.left < PCAP_HEADER_LEN:
            raise self._error("the file is cut short within its header")
        header = bytes(self.parser.next[:PCAP_HEADER_LEN])
        _, major, minor, _, _, snaplen, network = struct.unpack(order + PCAP_HEADER, header)
        if major != 2:
            raise self._error(f"version {major}.{minor} of pcap is not known, only 2")
        self.parser.swapped = (order == "<") != (sys.byteorder == "little")
        self.parser.fraction_ns = fraction_ns
        self.parser.header_len = header_len
        self.parser.lengths_either_way = minor < 4
        self.parser.max_caplen = min(max(snaplen, <uint32_t> MAX_CAPLEN), <uint32_t> MAX_RECORD)
        self._add_interface("", network & PCAP_LINKTYPE_BITS, snaplen, MICROSECONDS, 0)
        self.parser.next += PCAP_HEADER_LEN
        self.parser.left -= PCAP_HEADER_LEN

    cdef int _take_block(self) except -1:
        """Read the section header or interface description that the parser stopped at."""
        block = bytes(self.parser.next[:self.parser.length])
        order = "<" if self.parser.swapped == (sys.byteorder == "big") else ">"
        if struct.unpack_from(order + "I", block)[0] == BLOCK_SECTION:
            self._start_section(block, order)
        else:
            self._describe_interface(block, order)
        self.parser.next += len(block)
        self.parser.left -= len(block)

    cdef int _start_section(self, bytes block, str order) except -1:
        major, minor = struct.unpack_from(order + "HH", block, 12)
        if major != 1:
            raise self._error(f"version {major}.{minor} of pcapng is not known, only 1")
        self.parser.interface_count = 0

    cdef int _describe_interface(self, bytes block, str order) except -1:
        linktype, snaplen = struct.unpack_from(order + "HxxI", block, 8)
        name, tsresol, tsoffset = "", MICROSECONDS, 0
        try:
            for code, value in options(block, 16, order):
                if code == OPTION_IF_NAME:
                    name = value.rstrip(b"\0").decode(errors="replace")
                elif code == OPTION_IF_TSRESOL:
                    tsresol, = struct.unpack("B", value)
                elif code == OPTION_IF_TSOFFSET:
                    tsoffset, = struct.unpack(order + "q", value)
        except (ValueError, struct.error) as error:
            raise self._error(f"an interface description is broken: {error}") from error
        self._add_interface(name, linktype, snaplen, tsresol, tsoffset)

    cdef int _add_interface(
        self, str name, uint32_t linktype, uint32_t snaplen, object tsresol, object tsoffset
    ) except -1:
        cdef CaptureInterface* larger
        cdef CaptureInterface* interface
        if linktype > 0xFFFF:
            raise self._error(f"link type {linktype} does not exist; the largest is 65535")
        if len(self.interfaces) == MAX_INTERFACES:
            raise self._error(f"more than {MAX_INTERFACES} interfaces")
        larger = <CaptureInterface*> realloc(
            self.parser.interfaces, (self.parser.interface_count + 1) * sizeof(CaptureInterface)
        )
        if larger == NULL:
            raise MemoryError("no memory for one more interface")
        self.parser.interfaces = larger
        interface = &larger[self.parser.interface_count]
        interface.clock = make_clock(tsresol, tsoffset)
        interface.linktype = <uint16_t> linktype
        interface.snaplen = snaplen
        interface.index = <uint16_t> len(self.interfaces)
        self.parser.interface_count += 1
        if not reaches_present(interface.clock):
            get_logger("aiomos.transport").warning(
                "times_unknown", path=self.path, interface=name, if_tsresol=tsresol,
                note="the interface counts in units so small that its time stamps cannot be of when it captured")
        self.interfaces.append(Interface(self.path, name, linktype, snaplen))

    # --- what Python asks -------------------------------------------------------------------------------
    @property
    def unordered(self):
        """Count of frames that are earlier than the frame before them."""
        return self.parser.unordered

    def position(self):
        """Tell how many bytes were read so far, as they lie on disk."""
        return self.file.position

    def total(self):
        """Tell how many bytes the file has, as it lies on disk; None for a pipe."""
        return self.file.size

    cpdef close(self):
        """Close the file; the current batch is void. May be called again."""
        FrameSource.close(self)
        self.ended = True
        if self.file is not None:
            self.file.close()
