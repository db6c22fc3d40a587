# What a stream is made of: bytes that know their place, and gaps.
from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef object new_chunk(uint64_t offset, int64_t time_ns, Py_ssize_t length, uint8_t** data)
cdef object join_chunks(list chunks, uint64_t size)
cdef int64_t chunk_time(object chunk)
cdef uint64_t chunk_offset(object chunk)
cdef Gap new_gap(uint64_t offset, uint64_t length, int64_t time_ns, object reason)

cdef class Gap:
    cdef readonly uint64_t offset
    cdef readonly uint64_t length
    cdef readonly object reason
    cdef int64_t time_ns
