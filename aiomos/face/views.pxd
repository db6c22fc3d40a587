# What Python sees of a flow record: read at the moment of asking, kept when the flow ends.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport FlowRecord, HalfRecord
from aiomos.tcp.tracks cimport Streams, Track

# The last values of a flow that is gone.
ctypedef struct Kept:
    FlowRecord record
    Track tracks[2]
    uint64_t lost[2]

cdef class Flow:
    cdef const FlowRecord* r           # in the engine's pool, or in `kept`
    cdef const Streams* streams        # NULL once the flow is gone
    cdef Kept* kept                    # NULL until then
    cdef object _key
    cdef object engine                 # has the record: stays as long as the flow is followed; None afterwards
    cdef object memory                 # what the record lies in: stays as long as it is read; None afterwards
    cdef object account                # the app it belongs to, as the engine knows it (aiomos.engine.registry.Account)
    cdef Flow sibling                  # the next app's view of the same flow
    cdef object _ctx
    cdef dict own                      # callbacks of this connection only, by the engine's Call; or None
    cdef list timers                   # set on it; or None
    cdef set silenced                  # callbacks and predicates that raised; or None
    # Of the first view of a flow only:
    cdef list connections              # the engine's: MonitorConnections, in order of registration; None once it ended
    cdef object past_client            # what the tracks' `past` points into (delivery's Past), or None
    cdef object past_server
    cdef uint32_t index                # of the record in the pool

    cdef void detach(self) noexcept

cdef class Half:
    cdef Flow flow
    cdef int side

    cdef const HalfRecord* record(self) noexcept
    cdef const Track* track(self) noexcept
    cdef void add_to(self, dict fields, tuple names)

cdef object state_named(uint8_t state)
cdef object reason_named(uint8_t reason)
cdef Flow make_flow(const FlowRecord* record, const Streams* streams, uint32_t index, object account, object engine)
