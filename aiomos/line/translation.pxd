# Sessions: what passes natively, and is translated where an app wants it so.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from aiomos.line.hand cimport Hand
from aiomos.line.outlet cimport Outlet
from aiomos.line.sessions cimport SessionRecord, Sessions, Tuple
from aiomos.wire.pool cimport Pool
from aiomos.wire.wire cimport DecodeOptions, PacketRecord

# Link-layer addresses that a session's packets leave with, by direction.
ctypedef struct SessionLink:
    uint8_t source[2][6]
    uint8_t target[2][6]
    bint set_source[2]
    bint set_target[2]
    bint turn_back             # they leave by the interface they came in by

cdef class SessionShare:
    cdef readonly Py_ssize_t limit
    cdef Translation translation       # None before its first session
    cdef uint8_t number

    cdef int enter(self, Translation translation, uint32_t besides) except -1

cdef class Session:
    cdef Translation translation       # None once it has ended
    cdef uint32_t index
    cdef list listeners                # called when it ends
    cdef tuple kept                    # the last values of one that has ended
    cdef SessionShare share

    cdef SessionRecord* record(self) except NULL
    cdef tuple values(self)

cdef class Translation:
    cdef Outlet outlet
    cdef Hand hand
    cdef DecodeOptions decode_options
    cdef Pool links                    # SessionLink by session
    cdef Sessions sessions
    cdef list handles                  # Session by SessionRecord.hold
    cdef list free_handles
    cdef list gone                     # Session that made way, and whose end is to be told
    cdef uint64_t evicted              # how many did
    cdef uint16_t shares_used          # bits by number
    cdef uint64_t keys[2]
    cdef size_t session_room
    cdef int64_t now_ns
    cdef uint64_t refused              # packets that could not be passed on as they were to be

    cdef bint open_sessions(self) noexcept
    cdef int tell_changed(self) except -1
    cdef bint enter_session(self) noexcept nogil
    cdef void match_anew(self) noexcept nogil
    cdef void pass_session(self) noexcept nogil
    cdef void forget_match(self, uint32_t index) noexcept
    cdef bint answer(self, const uint8_t* data, size_t length) noexcept nogil
    cdef void translate_forth(self, const uint8_t* data, size_t length, uint16_t linktype) noexcept nogil
    cdef Session make_session(self, const PacketRecord* packet, dict addresses, idle, transitory, on_end,
                              bint turn_back,
                              SessionShare share)
    cdef int lay_over(self, Session session, dict addresses, int64_t idle_ns, int64_t transitory_ns, bint turn_back,
                      SessionShare share) except -1
    cdef int lay_under(self, Session session, dict addresses, int64_t idle_ns, int64_t transitory_ns,
                       bint turn_back) except -1
    cdef bint make_way(self, uint32_t index, uint32_t besides) except -1
    cdef int read_tuples(self, dict addresses, Tuple* arrives, Tuple* leaves) except -1
    cdef int read_link(self, dict addresses, bint turn_back, SessionLink* link) except -1
    cdef int64_t due_ns(self) noexcept
    cdef void pass_time(self, int64_t now_ns) noexcept nogil
    cdef void set_back(self, int64_t now_ns) noexcept nogil
    cdef list take_ended(self)

cdef Translation new_translation(Outlet outlet, Hand hand, settings, bytes key)
