# The way out of the engine: what a transport takes, and what becomes of the rest.
from aiomos.line.outlet cimport Outlet
from aiomos.transport.transport cimport Transport

# Offer a transport all that is to be sent; what it has no room for waits there or, if it was to pass, is dropped.
cdef int send_all(Outlet outlet, Transport transport) except -1
