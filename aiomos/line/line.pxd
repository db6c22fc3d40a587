# The line: what leaves, and as what.
from aiomos.line.changes cimport Changes
from aiomos.line.hand cimport Hand
from aiomos.line.ordering cimport Ordering
from aiomos.line.outlet cimport Outlet
from aiomos.line.passing cimport Passing
from aiomos.line.paths cimport Paths
from aiomos.line.translation cimport Translation

cdef class Line:
    cdef Outlet outlet
    cdef Hand hand
    cdef Translation translation
    cdef Paths paths
    cdef Passing passing
    cdef Ordering ordering
    cdef Changes changes

cdef Line new_line(settings, bytes key)
