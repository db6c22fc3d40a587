# What addresses of ours are asked, and what is answered: where they are, echoes, and what could not be done.
from libc.stdint cimport int64_t, uint16_t, uint64_t

from aiomos.host.interfaces cimport Interfaces
from aiomos.host.neighbours cimport Neighbours
from aiomos.line.outlet cimport Outlet
from aiomos.wire.frame cimport Frame
from aiomos.wire.icmp cimport IcmpNotice
from aiomos.wire.rewriting cimport Rewrite
from aiomos.wire.wire cimport PacketRecord

# So many a second, and at once as many as *burst*: the time at which it would be full again says how full it is.
ctypedef struct Bucket:
    int64_t step_ns
    int64_t burst_ns
    int64_t full_ns

cdef void bucket_open(Bucket* b, int64_t each_second, int64_t burst) noexcept nogil
cdef bint bucket_take(Bucket* b, int64_t now_ns) noexcept nogil

ctypedef struct ReplyCounters:
    uint64_t answers           # to who asks where we are
    uint64_t echoes
    uint64_t errors            # ICMP errors made
    uint64_t notices           # ICMP errors received
    uint64_t limited           # that were due, and too many
    uint64_t too_long          # echoes longer than the MTU
    uint64_t conflicts         # frames of somebody else with an address of ours (RFC 5227 section 2.4)

ctypedef struct Replies:
    Interfaces* interfaces
    Neighbours* neighbours
    bint hears_all             # who asks others where they are is remembered, too
    Bucket answering
    Bucket echoing
    Bucket failing
    ReplyCounters counters

cdef enum Reply:
    REPLY_NONE                 # it is not for us
    REPLY_DONE                 # it was, and goes no further
    REPLY_NOTICE               # it is an ICMP error about what an address of ours has sent, or seems to be

cdef void replies_open(Replies* r, Interfaces* interfaces, Neighbours* neighbours) noexcept nogil
# Take in a frame that is WIRE_NON_IP or WIRE_ICMP; what is answered leaves by the line.
cdef int replies_take(Replies* r, Outlet line, const Frame* frame, PacketRecord* packet, int kind, int64_t now_ns,
                      IcmpNotice* notice) noexcept nogil
# Tell the sender of a packet to an address of ours what is wrong (wire/icmp's IcmpError); false where it is not told.
cdef bint reply_error(Replies* r, Outlet line, const Rewrite* offender, int what, uint16_t interface,
                      int64_t now_ns) noexcept nogil
