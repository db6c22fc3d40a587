"""Chunks and gaps: what a stream is made of."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject
from libc.string cimport memcpy

from aiomos.tcp.tracks cimport GAP_REASONS
from aiomos.wire.clock cimport nanoseconds_of, seconds


cdef extern from *:
    """
    #define CHUNK_NOTE ((Py_ssize_t) (sizeof(uint64_t) + sizeof(int64_t)))

    /* A subclass of bytes that the cyclic collector does not visit: a class statement would make one that it
       does, and a chunk is made for every read. Its Python methods are added below. */
    /* As new objects of bytes are made, so that bytes.__new__(Chunk) has room behind its bytes, too. */
    static PyObject *aiomos_chunk_alloc(PyTypeObject *type, Py_ssize_t length) {
        size_t size = offsetof(PyBytesObject, ob_sval) + 1 + CHUNK_NOTE;
        PyVarObject *op;
        if (length < 0 || length > PY_SSIZE_T_MAX - 256) return PyErr_NoMemory();
        op = (PyVarObject *) PyObject_Calloc(1, size + (size_t) length);
        return op != NULL ? (PyObject *) PyObject_InitVar(op, type, length) : PyErr_NoMemory();
    }

    static PyObject *aiomos_chunk_type(void) {
        static PyType_Slot slots[] = {{Py_tp_alloc, aiomos_chunk_alloc}, {0, NULL}};
        static PyType_Spec spec = {"aiomos.face.chunks.Chunk", 0, 0, Py_TPFLAGS_DEFAULT, slots};
        PyObject *bases = PyTuple_Pack(1, (PyObject *) &PyBytes_Type), *type;
        if (bases == NULL) return NULL;
        type = PyType_FromSpecWithBases(&spec, bases);
        Py_DECREF(bases);
        return type;
    }

    /* Its contents unset, with CHUNK_NOTE spare bytes behind the final NUL. */
    static PyObject *aiomos_new_chunk(PyTypeObject *type, Py_ssize_t length) {
        PyVarObject *op;
        if (length < 0 || length > PY_SSIZE_T_MAX - 256) return PyErr_NoMemory();
        op = (PyVarObject *) PyObject_Malloc(
            (size_t) ((Py_ssize_t) offsetof(PyBytesObject, ob_sval) + length + 1 + CHUNK_NOTE));
        if (op == NULL) return PyErr_NoMemory();
        PyObject_InitVar(op, type, length);
        _Py_COMP_DIAG_PUSH
        _Py_COMP_DIAG_IGNORE_DEPR_DECLS
        ((PyBytesObject *) op)->ob_shash = -1;
        _Py_COMP_DIAG_POP
        ((PyBytesObject *) op)->ob_sval[length] = 0;
        return (PyObject *) op;
    }
    """
    object aiomos_chunk_type()
    object aiomos_new_chunk(PyTypeObject* type, Py_ssize_t length)

# What apps and counters call the reasons of gaps, in the order of tcp/reassembly.
GAP_NAMES = ("lost", "age", "budget", "snaplen", "end", "unread")
assert len(GAP_NAMES) == GAP_REASONS
URGENT_GAP = "urgent"          # an urgent byte in a stream that leaves them out: passed over whatever gaps do

# Offset and time of a chunk stand in the object's own memory behind the bytes, so that it is one allocation without
# a dict. That is why every chunk is made by new_chunk().
Chunk = aiomos_chunk_type()
cdef PyTypeObject* CHUNK = <PyTypeObject*> Chunk


def _chunk_new(cls, data=b"", offset=0, time=0.0):
    cdef uint8_t* target
    cdef bytes source = bytes(data)
    chunk = new_chunk(offset, nanoseconds_of(time), len(source), &target)
    memcpy(target, PyBytes_AS_STRING(source), len(source))
    return chunk


def _chunk_reduce(self):
    return Chunk, (bytes(self), self.offset, self.time)


def _chunk_offset(self):
    """Stream offset of the first byte."""
    return chunk_offset(self)


def _chunk_time(self):
    """When the first byte became readable, seconds on the engine's clock."""
    return seconds(chunk_time(self))


Chunk.__doc__ = """Bytes of a stream that are in order: a ``bytes`` that knows where and when.

Args:
    data: The bytes.
    offset: Stream offset of the first byte, 0 for the first the half ever sent.
    time: When the first byte became readable, seconds on the engine's clock.

Slicing gives plain ``bytes``. Two chunks are equal when their bytes are.
"""
Chunk.__new__ = staticmethod(_chunk_new)
Chunk.__reduce__ = _chunk_reduce
Chunk.offset = property(_chunk_offset)
Chunk.time = property(_chunk_time)


cdef object new_chunk(uint64_t offset, int64_t time_ns, Py_ssize_t length, uint8_t** data):
    """A chunk whose bytes the caller writes at *data* before anyone else sees it."""
    chunk = aiomos_new_chunk(CHUNK, length)
    cdef uint8_t* start = <uint8_t*> (<char*> PyBytes_AS_STRING(chunk))
    memcpy(start + length + 1, &offset, sizeof(offset))
    memcpy(start + length + 1 + sizeof(offset), &time_ns, sizeof(time_ns))
    data[0] = start
    return chunk


cdef uint64_t chunk_offset(object chunk):
    cdef uint64_t offset
    memcpy(&offset, PyBytes_AS_STRING(chunk) + PyBytes_GET_SIZE(chunk) + 1, sizeof(offset))
    return offset


cdef int64_t chunk_time(object chunk):
    cdef int64_t time_ns
    memcpy(&time_ns, PyBytes_AS_STRING(chunk) + PyBytes_GET_SIZE(chunk) + 1 + sizeof(uint64_t), sizeof(time_ns))
    return time_ns


cdef class Gap:
    """Bytes that will not come, in their place in the stream.

    Attributes:
        offset: Stream offset of the first missing byte.
        length: How many are missing, > 0.
        reason: ``lost`` (acknowledged, not captured), ``age`` (never acknowledged, too old), ``budget`` (too much held
            behind them), ``snaplen`` (cut from the capture), ``end`` (the flow ended first), ``unread`` (the
            app did not read them in time).
        time: When they were given up, seconds on the engine's clock.
    """

    def __init__(self, offset, length, reason, time=0.0):
        self.offset = offset
        self.length = length
        self.reason = reason
        self.time_ns = nanoseconds_of(time)

    @property
    def time(self):
        """When they were given up, seconds on the engine's clock."""
        return seconds(self.time_ns)

    def __eq__(self, other):
        return isinstance(other, Gap) and (self.offset, self.length, self.reason) == (
            other.offset, other.length, other.reason)

    def __hash__(self):
        return hash((self.offset, self.length, self.reason))

    def __repr__(self):
        return f"Gap(offset={self.offset}, length={self.length}, reason={self.reason!r})"


cdef Gap new_gap(uint64_t offset, uint64_t length, int64_t time_ns, object reason):
    cdef Gap gap = Gap.__new__(Gap)
    gap.offset = offset
    gap.length = length
    gap.time_ns = time_ns
    gap.reason = reason
    return gap


cdef object join_chunks(list chunks, uint64_t size):
    """One chunk of several that adjoin."""
    cdef uint8_t* target
    first = chunks[0]
    joined = new_chunk(chunk_offset(first), chunk_time(first), <Py_ssize_t> size, &target)
    for chunk in chunks:
        memcpy(target, PyBytes_AS_STRING(chunk), PyBytes_GET_SIZE(chunk))
        target += PyBytes_GET_SIZE(chunk)
    return joined
