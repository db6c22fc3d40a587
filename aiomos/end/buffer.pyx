"""The send buffer of an end: a ring of blocks, each either an object of the application or memory of its own.

Only what is exactly `bytes` is kept without a copy: it can neither change nor run code of the application's when it is
let go of.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cdef enum:
    FEWEST_SLOTS = 8
    KEPT_SLOTS = 64                # that an empty buffer may keep
    MOST_SLOTS = 1 << 30
    STEPS = 8                      # from a hint on, before it is given up


cdef void buffer_open(SendBuffer* buffer, uint64_t limit) noexcept nogil:
    memset(buffer, 0, sizeof(SendBuffer))
    buffer.limit = limit


cdef void buffer_close(SendBuffer* buffer):
    buffer.sent = buffer.end
    buffer_release(buffer, buffer.end)
    buffer_collect(buffer)
    free(buffer.blocks)
    buffer.blocks = NULL


cdef inline BufferBlock* block_of(const SendBuffer* buffer, uint32_t number) noexcept nogil:
    return &buffer.blocks[number & buffer.mask]


# --- writing --------------------------------------------------------------------------------------------

cdef bint buffer_write(SendBuffer* buffer, object data) except -1:
    cdef Py_buffer view
    buffer_collect(buffer)
    if PyBytes_CheckExact(data):
        return take(buffer, <const uint8_t*> PyBytes_AS_STRING(data), <size_t> PyBytes_GET_SIZE(data), data)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return take(buffer, <const uint8_t*> view.buf, <size_t> view.len, immutable_base(data))
    finally:
        PyBuffer_Release(&view)


cdef object immutable_base(object data):
    """Return the `bytes` that a memoryview looks into, or None."""
    if isinstance(data, memoryview) and PyBytes_CheckExact(data.obj):
        return data.obj
    return None


cdef bint take(SendBuffer* buffer, const uint8_t* data, size_t n, object owner) except -1:
    """Take *n* bytes, which are those of *owner*; None: they may change."""
    if n > buffer.limit - (buffer.end - buffer.acked):
        return False
    if n == 0:
        return True
    if n < LEAST_KEPT:
        gather(buffer, data, n)
    elif owner is None:
        memcpy(add_room(buffer, n).data, data, n)
        block_of(buffer, buffer.next - 1).length = n
    else:
        keep(buffer, data, n, owner)
    buffer.end += n
    return True


cdef int keep(SendBuffer* buffer, const uint8_t* data, size_t n, object owner) except -1:
    cdef BufferBlock* block = add_block(buffer)
    Py_INCREF(owner)
    block.data, block.length, block.owner = <uint8_t*> data, n, <PyObject*> owner
    return 0


cdef int gather(SendBuffer* buffer, const uint8_t* data, size_t n) except -1:
    """Copy a short write behind the last."""
    cdef BufferBlock* last = NULL
    if buffer.next != buffer.first:
        last = block_of(buffer, buffer.next - 1)
    if last == NULL or not last.room:
        last = add_room(buffer, FIRST_ROOM)
    elif last.room - last.length < n:
        last = add_room(buffer, NEXT_ROOM)
    memcpy(last.data + last.length, data, n)
    last.length += n
    return 0


cdef BufferBlock* add_room(SendBuffer* buffer, size_t n) except NULL:
    """Add an empty block with memory of its own."""
    cdef uint8_t* memory = <uint8_t*> malloc(n)
    cdef BufferBlock* block
    if memory == NULL:
        raise MemoryError
    try:
        block = add_block(buffer)
    except MemoryError:
        free(memory)
        raise
    block.data, block.room = memory, n
    return block


cdef BufferBlock* add_block(SendBuffer* buffer) except NULL:
    cdef BufferBlock* block
    if buffer.blocks == NULL or buffer.next - buffer.spent > buffer.mask:
        enlarge(buffer)
    block = block_of(buffer, buffer.next)
    memset(block, 0, sizeof(BufferBlock))
    block.begin = buffer.end
    buffer.next += 1
    return block


cdef int enlarge(SendBuffer* buffer) except -1:
    """Twice the slots; a block's number stays."""
    cdef size_t slots = FEWEST_SLOTS if buffer.blocks == NULL else 2 * (<size_t> buffer.mask + 1)
    cdef BufferBlock* blocks = NULL
    cdef uint32_t number
    if slots <= MOST_SLOTS:
        blocks = <BufferBlock*> malloc(slots * sizeof(BufferBlock))
    if blocks == NULL:
        raise MemoryError
    number = buffer.spent
    while number != buffer.next:
        blocks[number & (slots - 1)] = block_of(buffer, number)[0]
        number += 1
    free(buffer.blocks)
    buffer.blocks, buffer.mask = blocks, <uint32_t> (slots - 1)
    return 0


# --- sending --------------------------------------------------------------------------------------------

cdef void buffer_sent(SendBuffer* buffer, size_t n) noexcept nogil:
    buffer.sent += min(n, buffer.end - buffer.sent)


cdef size_t buffer_find(SendBuffer* buffer, uint64_t offset, size_t n, int who, Stretch* out, size_t most,
                        size_t* count) noexcept nogil:
    cdef BufferBlock* block
    cdef uint32_t number
    cdef size_t skip, found = 0
    count[0] = 0
    if offset < buffer.acked or offset >= buffer.end or most == 0:
        return 0
    n = min(n, buffer.end - offset)
    number = number_at(buffer, offset, buffer.hints[who])
    while found < n and count[0] < most:
        block = block_of(buffer, number)
        skip = offset + found - block.begin
        out[count[0]].data = block.data + skip
        out[count[0]].length = min(n - found, block.length - skip)
        found += out[count[0]].length
        count[0] += 1
        buffer.hints[who] = number
        number += 1
    return found


cdef inline uint32_t number_at(const SendBuffer* buffer, uint64_t offset, uint32_t hint) noexcept nogil:
    """Which block holds an offset that is in the buffer: near the hint, or else by halving."""
    cdef uint32_t low = 0, high = buffer.next - buffer.first - 1, middle
    cdef int _
    hint -= buffer.first
    if hint <= high and block_of(buffer, buffer.first + hint).begin <= offset:
        low = hint
        for _ in range(STEPS):
            if low == high or block_of(buffer, buffer.first + low + 1).begin > offset:
                return buffer.first + low
            low += 1
    while low < high:
        middle = high - (high - low) // 2
        if block_of(buffer, buffer.first + middle).begin <= offset:
            low = middle
        else:
            high = middle - 1
    return buffer.first + low


# --- letting go -----------------------------------------------------------------------------------------

cdef void buffer_release(SendBuffer* buffer, uint64_t offset) noexcept nogil:
    cdef BufferBlock* block
    buffer.acked = max(buffer.acked, min(offset, buffer.sent))
    while buffer.first != buffer.next:
        block = block_of(buffer, buffer.first)
        if block.begin + block.length > buffer.acked:
            break
        if block.room:
            free(block.data)
        buffer.first += 1
    while buffer.spent != buffer.first and block_of(buffer, buffer.spent).owner == NULL:
        buffer.spent += 1


cdef void buffer_collect(SendBuffer* buffer):
    cdef BufferBlock* block
    while buffer.spent != buffer.first:
        block = block_of(buffer, buffer.spent)
        if block.owner != NULL:
            Py_DECREF(<object> block.owner)
        buffer.spent += 1
    if buffer.first == buffer.next and buffer.mask >= KEPT_SLOTS:
        free(buffer.blocks)
        buffer.blocks, buffer.mask = NULL, 0
