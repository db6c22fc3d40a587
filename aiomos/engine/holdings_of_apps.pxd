# What apps hold of flows.
from aiomos.engine.core cimport Core, Moment
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow
from aiomos.tcp.flows cimport FlowRecord

cdef class Holdings:
    cdef Core core
    cdef list views                    # Python's Flow by FlowRecord.hold: that of one app, others behind it
    cdef list free_views
    cdef list passing                  # views made for the last callbacks of flows that nobody knew

    cdef Flow app_view(self, Account account, Moment* m)
    cdef Flow view_of(self, FlowRecord* flow, Account account)
    cdef FlowRecord* record_of(self, Flow view) except NULL
    cdef int silence(self, object key, Account account, Moment* m) except -1
    cdef bint is_silenced(self, FlowRecord* flow, object key) except -1
    cdef int expire_passing(self) except -1

cdef bint is_open(Flow view) noexcept
cdef Holdings new_holdings(Core core)
