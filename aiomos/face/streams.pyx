"""Streams and connections: the async face of what the engine delivers.

The engine pushes chunks, gaps and the end into a `Stream` once a batch; readers take them. A connection stands beside
its streams, since all three share those who wait (`Wiring`), so that they form no cycle of references.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetNone
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from aiomos.face.chunks cimport Gap, chunk_offset, chunk_time, join_chunks, new_chunk, new_gap
from aiomos.face.pressure cimport ITEM_COST, Pressure, is_pending
from aiomos.sealing cimport seal

import asyncio
import sys
from collections import deque

from weakref import ref

from aiomos.errors import RegistrationError, StreamGap
from aiomos.face.chunks import URGENT_GAP, Chunk
from aiomos.face.occurrences import Occurrences
from aiomos.ude.events import Event, Hook
from aiomos.ude.parameters import callback_parameters
from aiomos.ude.user import UserEvent


cdef object wake(object future):
    """Wake whoever waits on a future; None, to be put in its place."""
    if is_pending(future):
        future.set_result(None)
    return None


cdef class Wiring:

    cdef bint needs_engine(self):
        """Does the handler wait for something that only the engine can bring?"""
        return (self.closers or is_pending(self.merged_waiter) or is_pending(self.client_waiter)
                or is_pending(self.server_waiter))

    cdef void changed(self):
        if self.released is not None:
            self.released(self.flow)


cdef object reader_future(Wiring wiring, object other, object whose):
    """A future that a coroutine gives its task to be woken by, as ``await future`` does."""
    if is_pending(other):
        raise RuntimeError(f"another coroutine is already waiting for data of {whose}")
    future = asyncio.get_running_loop().create_future()
    future._asyncio_future_blocking = True
    wiring.pressure.check()
    return future


cdef object ENDED = object()   # in place of an item: nothing more will come


@cython.freelist(64)
cdef class Waiting:
    """Awaitable of one read: gives an item at once, or waits on a future of the event loop first."""

    cdef Stream stream         # None for a merged read
    cdef MonitorConnection connection
    cdef object gaps
    cdef bint single           # one chunk, whatever adjoins it

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        """Replaced below by a step that hands its result over without an exception where the interpreter allows."""

    cdef object future(self):
        """What wakes the reader."""
        cdef Wiring wiring
        if self.stream is None:
            wiring = self.connection.wiring
            wiring.merged_waiter = reader_future(wiring, wiring.merged_waiter, "this connection")
            return wiring.merged_waiter
        wiring = self.stream.wiring
        if self.stream.side == "client":
            wiring.client_waiter = reader_future(wiring, wiring.client_waiter, "the client")
            return wiring.client_waiter
        wiring.server_waiter = reader_future(wiring, wiring.server_waiter, "the server")
        return wiring.server_waiter


cdef extern from *:
    """
    /* 1: *item is the result; 0: *item is a future to wait for; -1: an exception is set. */
    typedef int (*aiomos_step)(PyObject *waiting, PyObject **item);
    static aiomos_step aiomos_waiting_step;

    static PySendResult aiomos_waiting_send(PyObject *waiting, PyObject *value, PyObject **item) {
        int done = aiomos_waiting_step(waiting, item);
        (void) value;
        return done > 0 ? PYGEN_RETURN : done == 0 ? PYGEN_NEXT : PYGEN_ERROR;
    }

    static PyObject *aiomos_waiting_next(PyObject *waiting) {
        PyObject *item = NULL, *stop;
        int done = aiomos_waiting_step(waiting, &item);
        if (done <= 0) return item;
        stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, item, NULL);
        Py_DECREF(item);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    }

    /* A `raise` in compiled code builds a traceback; at a million reads a second that is most of their cost. */
    static void aiomos_finish_waiting(PyTypeObject *type, aiomos_step step) {
        aiomos_waiting_step = step;
        type->tp_as_async->am_send = aiomos_waiting_send;
        type->tp_iternext = aiomos_waiting_next;
        PyType_Modified(type);
    }
    """
    void aiomos_finish_waiting(PyTypeObject* type, int (*step)(PyObject*, PyObject**) except -1)


cdef int waiting_step(PyObject* waiting, PyObject** item) except -1:
    cdef Waiting self = <Waiting> waiting
    cdef object found
    if self.stream is None:
        found = self.connection.pop()
    elif self.single:
        found = self.stream.pop_item(self.gaps)
    else:
        found = self.stream.pop_joined(self.gaps)
    if found is ENDED:
        PyErr_SetNone(StopAsyncIteration)
        return -1
    if found is not None:
        Py_INCREF(found)
        item[0] = <PyObject*> found
        return 1
    found = self.future()
    Py_INCREF(found)
    item[0] = <PyObject*> found
    return 0


aiomos_finish_waiting(<PyTypeObject*> Waiting, waiting_step)


cdef Waiting next_item(Stream stream, object gaps, bint single=False):
    cdef Waiting waiting = Waiting.__new__(Waiting)
    waiting.stream = stream
    waiting.gaps = gaps
    waiting.single = single
    return waiting


class Chunks:
    """Async iterator over a stream with its own choice of what a gap does."""

    __slots__ = ("_gaps", "_stream")

    def __init__(self, stream, gaps):
        self._stream = stream
        self._gaps = gaps

    def __aiter__(self):
        return self

    def __anext__(self):
        return next_item(self._stream, self._gaps)


GAPS = ("raise", "mark", "skip", "zero")
READ_LIMIT = 1 << 26           # bytes that one read gathers, unless the app says otherwise
cdef enum:
    ZERO_CHUNK = 1 << 20       # a long gap is filled in pieces
    MOST_JOINED = 1 << 20      # chunks are joined for one read up to this size


cdef class Stream:
    """The bytes from one end of a connection, in order and once.

    Iterate over it for chunks as they come, or read as from an ``asyncio.StreamReader``. Missing bytes raise
    `StreamGap` at their place, once, unless the app chose otherwise; reading again goes on behind them. At a FIN
    the iteration ends and reads return ``b""``; a reset, a time-out or an eviction raises its own error
    after the last byte. Registered with ``gaps="mark"``, iteration yields a `Gap` in their place, although the type
    says `Chunk`; ``chunks(gaps="mark")`` has the type of both.

    Attributes:
        side: ``client`` or ``server``: whose bytes they are.
        offset: Stream offset of the next byte to read.
        unread: Bytes that are there and not read yet.
        wanted: False once the half was given up; from the beginning on where the level keeps no bytes.
        gaps: What missing bytes do here: ``raise``, ``mark``, ``skip`` or ``zero``.
    """

    # --- the queue of items ---

    cdef void append(self, object item, uint64_t order):
        if self.head is None:
            self.head = item
            self.head_order = order
            return
        if self.rest is None:
            self.rest = deque()
        self.rest.append((item, order))
        self.queued += 1
        self.wiring.pressure.queued += 1

    cdef void prepend(self, object item, Py_ssize_t at):
        """Put back what was taken, of which *at* bytes were read; it is as old as the oldest."""
        if self.head is not None:
            if self.rest is None:
                self.rest = deque()
            self.rest.appendleft((remainder(self.head, self.head_at), self.head_order))
            self.queued += 1
            self.wiring.pressure.queued += 1
        self.head = item
        self.head_at = at

    cdef object shift(self):
        """Take the oldest item; taken_at tells how many bytes of it were read before."""
        item = self.head
        self.taken_at = self.head_at
        self.head_at = 0
        if self.rest:
            self.head, self.head_order = self.rest.popleft()
            self.queued -= 1
            self.wiring.pressure.queued -= 1
        else:
            self.head = None
        return item

    cdef uint64_t weight(self):
        """Memory of what is unread: many small chunks weigh more than their bytes."""
        return self.unread + ITEM_COST * self.queued

    def needs_engine(self):
        """Whether its reader waits for something that only the engine can bring."""
        return self.wiring.needs_engine()

    # --- the engine's side ---

    cdef bint push(self, object item, uint64_t order):
        """Give the reader a chunk or gap; true if it was too slow, so that the chunk has become a gap."""
        cdef Pressure pressure = self.wiring.pressure
        cdef uint64_t size
        cdef bint missed = False
        if not self.wanted:
            return False
        if type(item) is not Gap:
            size = <uint64_t> PyBytes_GET_SIZE(item)
            if self.overflows():
                pressure.overflow_bytes += size
                missed = True
                if self.unread_gap is not None:    # one gap for all that adjoins
                    self.unread_gap.length += size
                    return True
                pressure.overflows += 1
                item = self.unread_gap = new_gap(item.offset, size, chunk_time(item), "unread")
            else:
                self.unread_gap = None
                self.unread += size
                pressure.total += size
                if self.weight() > pressure.half_limit or pressure.weight() > pressure.total_limit:
                    pressure.slow.add(self)
        elif self.unread_gap is not None and self.overflows():
            self.unread_gap.length += (<Gap> item).length      # among what is unread, it makes no difference
            return False
        else:
            self.unread_gap = None
        self.append(item, order)
        self.wake()
        return missed

    cdef bint overflows(self):
        """Is more kept already than a reader that cannot catch up may have?

        Judged by what was left over when readers last had their turn: a batch may well be larger than a limit.
        """
        cdef Pressure pressure = self.wiring.pressure
        if self.turn != pressure.turn:
            self.turn = pressure.turn
            self.left_over = self.weight()
            self.awaited = self.waiting()
        if pressure.left_over > 2 * pressure.total_limit and (self.left_over or not self.awaited):
            return True
        if not pressure.waits:
            return self.left_over > pressure.half_limit or (
                pressure.left_over > pressure.total_limit and self.left_over > 0)
        if self.left_over <= pressure.half_limit:
            return False
        if self.wiring.closers and not self.waiting():
            return True                            # the app only waits for the end
        return self.left_over > <uint64_t> Pressure.HARD * pressure.half_limit

    cdef void end(self, object error):
        if not self.ended:
            self.ended = True
            self.error = error
            self.wake()

    cdef void drop(self):
        """Forget what is unread, and whatever still comes."""
        cdef Pressure pressure = self.wiring.pressure
        self.wanted = False
        pressure.total -= self.unread
        pressure.queued -= self.queued
        self.unread = self.queued = 0
        self.head = None
        self.head_at = 0
        self.rest = None
        if pressure.slow:
            pressure.slow.discard(self)
            pressure.check()

    cdef void wake(self):
        cdef Wiring wiring = self.wiring
        if wiring.merged_waiter is not None:
            wiring.merged_waiter = wake(wiring.merged_waiter)
        if self.side == "client":
            if wiring.client_waiter is not None:
                wiring.client_waiter = wake(wiring.client_waiter)
        elif wiring.server_waiter is not None:
            wiring.server_waiter = wake(wiring.server_waiter)

    # --- the reader's side ---

    cdef bint waiting(self):
        cdef Wiring wiring = self.wiring
        return is_pending(wiring.merged_waiter) or is_pending(
            wiring.client_waiter if self.side == "client" else wiring.server_waiter)

    cdef void took(self, uint64_t n):
        """Note that *n* bytes went to the reader."""
        cdef Pressure pressure = self.wiring.pressure
        self.unread -= n
        self.offset += n
        pressure.total -= n
        if pressure.slow and self.weight() <= pressure.half_limit // 2 and self in pressure.slow:
            pressure.slow.discard(self)
            pressure.check()

    cdef object pop(self, object gaps):
        """The next chunk (or gap, if marked), None when there is none yet, ENDED or an error at the end."""
        item = self.pop_item(gaps)
        return remainder(item, self.taken_at) if self.taken_at else item

    cdef object pop_item(self, object gaps):
        """As pop(), but a chunk whole: taken_at tells how many bytes of it were read before."""
        self.opened = True
        while self.head is not None:
            item = self.shift()
            if type(item) is not Gap:
                self.took(<uint64_t> (PyBytes_GET_SIZE(item) - self.taken_at))
                return item
            if item is self.unread_gap:
                self.unread_gap = None
            self.offset = (<Gap> item).offset
            if (<Gap> item).reason is URGENT_GAP:
                self.offset += (<Gap> item).length
                continue
            if gaps == "zero":
                return self.fill(<Gap> item)
            self.offset += (<Gap> item).length
            if gaps == "mark":
                return item
            if gaps == "raise":
                raise StreamGap(offset=item.offset, length=item.length, reason=item.reason, side=self.side,
                                flow=self.wiring.flow)
        self.taken_at = 0
        if self.ended or not self.wanted:
            return self.past_end()
        return None

    cdef object past_end(self):
        if self.error is not None:
            raise self.error
        return ENDED

    cdef object pop_joined(self, object gaps):
        """As pop(), all bytes that are there and adjoin in one chunk."""
        item = self.pop(gaps)
        if self.head is None or item is None or item is ENDED or type(item) is Gap or type(self.head) is Gap:
            return item
        return self.join(item, MOST_JOINED)

    cdef object join(self, object first, Py_ssize_t most):
        """A chunk just taken and those that adjoin it, up to a size; what is more of the last stays."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(first), length
        cdef list parts = [first]
        while (size < most and self.head is not None and type(self.head) is not Gap
               and chunk_offset(self.head) == chunk_offset(first) + <uint64_t> size):
            part = self.shift()
            length = PyBytes_GET_SIZE(part)
            self.took(<uint64_t> length)
            if length > most - size:
                self.put_back(part, most - size)
                length = most - size
                part = part_of(part, 0, length)
            parts.append(part)
            size += length
        return join_chunks(parts, <uint64_t> size) if len(parts) > 1 else first

    cdef object fill(self, Gap gap):
        """Zeros in place of a gap, a piece at a time."""
        cdef uint64_t n = gap.length if gap.length < ZERO_CHUNK else ZERO_CHUNK
        cdef uint8_t* target
        chunk = new_chunk(gap.offset, gap.time_ns, <Py_ssize_t> n, &target)
        memset(target, 0, n)
        self.offset = gap.offset + n
        if n < gap.length:
            self.prepend(new_gap(gap.offset + n, gap.length - n, gap.time_ns, gap.reason), 0)
        return chunk

    def __aiter__(self):
        self.opened = True
        return self

    def __anext__(self):
        return next_item(self, self.gaps)

    def chunks(self, *, gaps="raise"):
        """Iterate with another choice of what missing bytes do.

        Args:
            gaps: ``raise`` raises `StreamGap`, ``mark`` yields a `Gap` in their place, ``skip`` goes on behind
                them, ``zero`` yields zeros in their place.

        Raises:
            ValueError: another word.
        """
        if gaps not in GAPS:
            raise ValueError(f"gaps is one of {', '.join(GAPS)}, not {gaps!r}")
        self.opened = True
        return Chunks(self, gaps)

    def at_eof(self):
        """Whether everything was read and nothing more will come."""
        return self.ended and self.head is None

    def give_up(self):
        """Stop following this half: its unread bytes are freed, later ones are not kept."""
        if self.wanted:
            self.drop()
            self.ended = True
            self.wake()
            self.wiring.changed()

    async def read(self, n=-1, *, limit=READ_LIMIT):
        """Read up to *n* bytes, as soon as there are any; without *n*, all to the end.

        Args:
            n: Most bytes to read.
            limit: Without *n*, the most bytes to gather: a peer may send for as long as it likes, and zeros that
                stand for missing bytes cost it nothing.

        Returns:
            The bytes; ``b""`` at the end.

        Raises:
            StreamGap: bytes are missing here and the app did not choose otherwise.
            asyncio.LimitOverrunError: more than *limit* bytes have come before the end; they can still be read.
            ConnectionReset, ConnectionTimedOut, ConnectionEvicted: the flow ended so, and all before it was read.
        """
        if n < 0:
            return await self._read_all(limit)
        if n == 0:
            return b""
        return self.cut(await self._next_bytes(), self.taken_at, min(n, sys.maxsize))

    async def _read_all(self, limit):
        parts = []
        size = 0
        try:
            while item := await self._next_bytes():
                size += len(item) - self.taken_at
                parts.append(remainder(item, self.taken_at))
                if size > limit:
                    raise asyncio.LimitOverrunError(f"the stream has not ended within {limit} bytes", size)
        except BaseException:                      # too many, cancelled, missing: what was taken can still be read
            if parts:
                self.put_back(join_chunks(parts, size), 0)
            raise
        return b"".join(parts)

    async def readexactly(self, n, *, limit=READ_LIMIT):
        """Read exactly *n* bytes.

        Args:
            n: How many; beware of numbers that come from the peer.
            limit: Most bytes to read.

        Raises:
            asyncio.IncompleteReadError: the stream ended first; ``partial`` has what there was.
            asyncio.LimitOverrunError: *n* is more than *limit*; nothing was read.
            ValueError: *n* is negative.
        """
        if n < 0:
            raise ValueError("readexactly() takes no negative size")
        if n > limit:
            raise asyncio.LimitOverrunError(f"{n} bytes are more than the limit of {limit}", 0)
        data = bytearray()
        start, time = self.offset, 0.0
        try:
            while len(data) < n:
                item = await self._next_bytes()
                at = self.taken_at
                if not item:
                    raise asyncio.IncompleteReadError(bytes(data), n)
                if not data:
                    start, time = item.offset + at, item.time
                end = min(len(item), at + n - len(data))
                self.put_back(item, end)
                data += memoryview(item)[at:end]
        except asyncio.IncompleteReadError:
            raise
        except BaseException:                      # cancelled, or missing bytes: what was taken can still be read
            self.put_back(Chunk(data, start, time), 0)
            raise
        return bytes(data)

    async def readuntil(self, separator=b"\n", *, limit=1 << 20):
        """Read up to and including *separator*.

        Args:
            separator: One or more bytes.
            limit: Most bytes to read in search of it.

        Raises:
            asyncio.IncompleteReadError: the stream ended first; ``partial`` has what there was.
            asyncio.LimitOverrunError: no separator within *limit* bytes; they can still be read.
            ValueError: *separator* is empty.
        """
        if not separator:
            raise ValueError("readuntil() takes a separator of at least one byte")
        data = bytearray()                         # what the chunks before the last one had
        start, time = self.offset, 0.0
        try:
            while len(data) <= limit:
                item = await self._next_bytes()
                at = self.taken_at
                if not item:
                    raise asyncio.IncompleteReadError(bytes(data), None)
                before = len(data)
                if not before:
                    start, time = item.offset + at, item.time
                    end = item.find(separator, at) + len(separator)
                    if end >= len(separator):
                        self.put_back(item, end)
                        return item[at:end]
                data += memoryview(item)[at:]
                end = data.find(separator, max(0, before - len(separator) + 1)) + len(separator) if before else 0
                if end >= len(separator):
                    self.put_back(item, at + end - before)
                    return bytes(data[:end])
            raise asyncio.LimitOverrunError(f"no separator within {limit} bytes", len(data))
        except asyncio.IncompleteReadError:
            raise
        except BaseException:                      # cancelled, or missing bytes: what was taken can still be read
            self.put_back(Chunk(data, start, time), 0)
            raise

    async def readline(self):
        """Read a line with its newline; what is left at the end of the stream may lack one."""
        try:
            return await self.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def _next_bytes(self):
        """The next non-empty chunk; ``b""`` at the end. A gap that is marked or skipped is passed over.

        The chunk is whole: the first taken_at bytes of it were read before.
        """
        try:
            return await next_item(self, "skip" if self.gaps == "mark" else self.gaps, True)
        except StopAsyncIteration:
            return b""

    cdef object cut(self, object item, Py_ssize_t at, Py_ssize_t n):
        """The first *n* bytes of a chunk just taken, behind *at*, and of what adjoins it; the rest goes back."""
        if PyBytes_GET_SIZE(item) - at > n:
            self.put_back(item, at + n)
            return part_of(item, at, n)
        return self.join(remainder(item, at), min(n, <Py_ssize_t> MOST_JOINED)) if item else item

    cdef void put_back(self, object item, Py_ssize_t at):
        """Have the bytes of a chunk behind *at* read again."""
        cdef Py_ssize_t left = PyBytes_GET_SIZE(item) - at
        if left:
            self.prepend(item, at)
            self.offset = chunk_offset(item) + <uint64_t> at
            self.unread += <uint64_t> left
            self.wiring.pressure.total += <uint64_t> left

    def __repr__(self):
        state = "ended" if self.at_eof() else "open"
        return f"<Stream {self.side} of {self.wiring.flow} {state}, offset {self.offset}, {self.unread} unread>"


cdef class MonitorConnection:
    """An app's hold on a flow: both halves as streams, and its end.

    Attributes:
        flow: The flow's TCP context, readable at any time.
        client: Bytes from the client.
        server: Bytes from the server.
        reason: How the flow ended, as closed() returns it; None before.

    ``async for side, data in conn`` gives the bytes of both halves in the order in which they became readable;
    *side* is ``"client"`` or ``"server"``.

    Made by the runtime:

    Args:
        flow: The flow.
        pressure: What counts unread bytes.
        released: Called with the flow when less of it is wanted.
        gaps: What missing bytes do: raise, mark, skip or zero.
        wanted: Whether its level includes the bytes.
    """

    def __cinit__(self, flow, Pressure pressure not None, released, gaps="raise", wanted=True):
        cdef Wiring wiring = Wiring.__new__(Wiring)
        wiring.flow = flow
        wiring.pressure = pressure
        wiring.released = released
        self.wiring = wiring
        self.client = new_stream(wiring, "client", gaps, wanted)
        self.server = new_stream(wiring, "server", gaps, wanted)

    @property
    def flow(self):
        """The flow's TCP context."""
        return self.wiring.flow

    cdef void close(self, object reason):
        self.reason = reason
        self.end_occurrences()
        if self.wiring.closers is not None:
            for future in self.wiring.closers:
                wake(future)
            self.wiring.closers = None

    cdef object pop(self):
        """The next bytes of either half with their side, None when there are none yet."""
        cdef Stream first = self.earlier()
        self.client.opened = self.server.opened = True
        while first is not None:
            item = first.pop(first.gaps)
            if item is not None and item is not ENDED:
                return first.side, item
            first = self.earlier()
        if not (self.client.ended and self.server.ended):
            return None
        if self.client.error is not None:
            raise self.client.error
        return self.server.past_end()

    cdef Stream earlier(self):
        """The half whose next item became readable first."""
        if self.client.head is None:
            return self.server if self.server.head is not None else None
        if self.server.head is None:
            return self.client
        return self.client if self.client.head_order <= self.server.head_order else self.server

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Waiting waiting = Waiting.__new__(Waiting)
        waiting.connection = self
        return waiting

    def on(self, event, function, *, hook=Hook.RECEIVER):
        """Have a plain function called at an event of this connection only.

        Args:
            event: A built-in or user-defined event.
            function: Receives what it names, as with `App.on`.
            hook: Where in the processing of a packet, for events that have a choice.

        Returns:
            A registration with ``cancel()``.

        Raises:
            FlowClosed: the flow has ended.
            RegistrationError: the event is not raised at *hook*, or the function cannot be a callback.
        """
        return self.listen(event, function, callback_parameters(function), hook)

    def listen(self, event, function, parameters, hook=Hook.RECEIVER):
        """As on(), for a function whose parameters are known."""
        root = event.root if isinstance(event, UserEvent) else event
        if not isinstance(event, Event | UserEvent) or hook is Hook.RAW or root is Event.ORPHAN:
            raise RegistrationError(f"{event!r} at {hook} is no event of a connection")
        engine = self.flow._engine()
        return ConnectionCallback(engine, self.flow, engine.listen(self.flow, event, hook, function, parameters))

    def events(self, *events):
        """Give what happens on this connection from now on, as an async iterator of `Occurrence`.

        Occurrences of packet events carry a copy of the packet. The iteration ends with the flow.

        Args:
            events: Built-in or user-defined events.

        Raises:
            RegistrationError: one of them is no event.
        """
        occurrences = Occurrences(self, events)
        if self.occurrences is None:
            self.occurrences = []
        self.occurrences.append(occurrences)
        return occurrences

    cdef void end_occurrences(self):
        if self.occurrences is not None:
            for occurrences in self.occurrences:
                occurrences.end()
            self.occurrences = None                # they know the connection: no cycle is left behind

    @property
    def pressure(self):
        """What counts the unread bytes of the app."""
        return self.wiring.pressure

    def needs_engine(self):
        """Whether a coroutine waits for something of this connection."""
        return self.wiring.needs_engine()

    def other(self, side):
        """Return the half facing *side*."""
        return self.server if side == "client" else self.client

    async def closed(self):
        """Wait for the flow's end and return how it came.

        Halves that nobody has begun to read are given up: their bytes are not kept.

        Returns:
            ``fin``, ``rst``, ``timeout``, ``evicted`` or ``end_of_capture``. A closed flow is kept for a while to take
            in stragglers (`Timeouts.time_wait`, `Timeouts.reset`) and ends after that, its counters final.
        """
        for half in (self.client, self.server):
            if not (<Stream> half).opened:
                half.give_up()
        if self.reason is None:
            future = asyncio.get_running_loop().create_future()
            if self.wiring.closers is None:
                self.wiring.closers = []
            self.wiring.closers.append(future)
            self.wiring.pressure.check()
            try:
                await future
            finally:
                if self.wiring.closers is not None and future in self.wiring.closers:
                    self.wiring.closers.remove(future)
        return self.reason

    def leave(self):
        """Let the flow go: nothing more is delivered, and what is unread is freed at once."""
        if self.left:
            return
        self.left = True
        self.end_occurrences()
        for half in (self.client, self.server):
            (<Stream> half).drop()
            (<Stream> half).ended = True
            (<Stream> half).wake()
        self.wiring.changed()
        self.wiring.released = None

    def __repr__(self):
        return f"<MonitorConnection {self.flow}>"


class ConnectionCallback:
    """A callback of one connection, made by `MonitorConnection.on`."""

    __slots__ = ("_call", "_engine", "_flow")

    def __init__(self, engine, flow, call):
        self._engine, self._flow, self._call = ref(engine), flow, call

    @property
    def active(self):
        """False once it is cancelled."""
        return self._call.active

    def cancel(self):
        """Stop the function from being called; a second call does nothing."""
        engine = self._engine()
        if engine is not None:
            engine.ignore(self._flow, self._call)


cdef object remainder(object chunk, Py_ssize_t at):
    """A chunk without its first *at* bytes."""
    return part_of(chunk, at, PyBytes_GET_SIZE(chunk) - at) if at else chunk


cdef object part_of(object chunk, Py_ssize_t at, Py_ssize_t n):
    """A chunk of *n* bytes of another."""
    cdef uint8_t* target
    part = new_chunk(chunk_offset(chunk) + <uint64_t> at, chunk_time(chunk), n, &target)
    memcpy(target, PyBytes_AS_STRING(chunk) + at, n)
    return part


cdef Stream new_stream(Wiring wiring, object side, object gaps, bint wanted):
    cdef Stream stream = Stream.__new__(Stream)
    stream.wiring = wiring
    stream.side = side
    stream.gaps = gaps
    stream.wanted = wanted
    stream.ended = not wanted
    return stream


seal(Wiring)
seal(Waiting)
seal(Stream)
