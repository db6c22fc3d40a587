# What Python sees of one packet: lent for the time of a callback, or a copy.
from aiomos.line.line cimport Line
from aiomos.wire.wire cimport PacketRecord

cdef class Packet:
    cdef const PacketRecord* p           # NULL once stale
    cdef int kind                      # wire.Kind: which fields of it mean something
    cdef PacketRecord* own               # of a copy: the struct, whose pointers lead into `own_bytes`; else NULL
    cdef bytes own_bytes               # of a copy: the frame, or of a packet without one the IP packet
    cdef tuple interfaces              # names of the engine's interfaces, by their number; or None
    cdef Line line                     # that it may leave by; None for one that is not in hand
    cdef object _dpkt                  # parsed when first asked for

    cdef void expire(self) noexcept    # what it was lent is about to go; a copy stays as it is

    cdef const PacketRecord* fresh(self) except NULL
    cdef bint has_ethernet(self) except -1
    cdef bint has_ip(self) except -1
    cdef bint has_ports(self) except -1
    cdef bint is_tcp(self) except -1
    cdef bint has_payload(self) except -1
    cdef bint is_fragment(self) except -1
    cdef object flag(self, int bit)
    cdef Line in_hand(self)

# A packet lent to a callback: expire() it before the struct, or the bytes that it points to, go.
cdef Packet make_packet(const PacketRecord* p, int kind=*)
