# A transport in line between two ports.
from aiomos.transport.ports cimport PortTransport

cdef class Bridge(PortTransport):
    pass
