# Reader of one capture file, pcap or pcapng.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.transport.records cimport RecordParser
from aiomos.transport.source cimport FrameSource

cdef class CaptureReader(FrameSource):
    cdef RecordParser parser
    cdef uint8_t* buffer
    cdef size_t capacity
    cdef uint64_t buffer_offset     # place of the buffer's first byte in the file
    cdef bint at_eof                # the file has no more bytes for the buffer
    cdef bint ended                 # all was delivered, or an error raised
    cdef object file                # gives the decompressed bytes
    cdef object file_error          # what ended the file before its end, or None
    cdef object pipe                # descriptor, if it is a pipe
    cdef bint partial               # what the buffer holds ends within a record
    cdef readonly str path

    cdef int _read_header(self) except -1
    cdef int _read_pcap_header(self, str order, uint32_t fraction_ns, uint32_t header_len) except -1
    cdef bint _fill(self) except -1
    cdef int _read_some(self) except -1
    cdef int _grow(self) except -1
    cdef int _end(self) except -1
    cdef int _take_block(self) except -1
    cdef int _start_section(self, bytes block, str order) except -1
    cdef int _describe_interface(self, bytes block, str order) except -1
    cdef int _add_interface(
        self, str name, uint32_t linktype, uint32_t snaplen, object tsresol, object tsoffset
    ) except -1
    cdef object _error(self, str message)
