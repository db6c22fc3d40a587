# The packet in hand.
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t

from aiomos.line.outlet cimport Outlet
from aiomos.line.sessions cimport SessionMatch
from aiomos.tcp.flows cimport FlowRecord
from aiomos.wire.frame cimport Frame
from aiomos.wire.rewriting cimport Rewrite
from aiomos.wire.wire cimport PacketRecord

cdef class Hand:
    cdef Outlet outlet
    cdef PacketRecord* packet
    cdef Frame frame                   # as it will leave
    cdef bint dropped
    cdef int kind                      # wire.Kind of its packet
    cdef size_t link_len               # bytes before its IP header
    cdef Rewrite rewrite               # the packet, to be written,
    cdef bint writable                 # if that is set up
    cdef bint turned_back              # it leaves by the interface it came in by
    cdef bint matched                  # `match` is its session
    cdef SessionMatch match
    cdef FlowRecord* flow
    cdef int side
    cdef uint32_t flow_number
    cdef uint32_t before_nxt           # HalfRecord.nxt of its sender, without this segment
    cdef uint32_t most                 # if put together from fragments: what its fragments may have; else 0
    cdef uint32_t fragment_id
    cdef uint32_t arrived_ack          # its acknowledgement as it was on arrival
    cdef bint moved                    # its addresses or ports were changed: its flow may be another
    cdef bint waits                    # it has come beyond a hole, and is kept until that is filled
    cdef bint has_waited               # so it was, and has its turn now
    cdef bint doubted                  # its receiver will not take its payload, which therefore does not pass

    cdef int in_hand(self, const PacketRecord* packet) except -1
    cdef Rewrite* begin(self) noexcept nogil
    cdef uint16_t exit(self) noexcept nogil
    cdef bint is_in_tunnel(self) noexcept nogil
    cdef void let_go(self) noexcept nogil
    cdef void take_in(self, const Frame* frame, PacketRecord* packet, int kind) noexcept nogil

cdef Hand new_hand(Outlet outlet)
