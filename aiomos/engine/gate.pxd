# The gate through which TCP processing calls apps.
from libc.stdint cimport uint8_t

from aiomos.engine.core cimport Core, Moment
from aiomos.engine.holdings_of_apps cimport Holdings
from aiomos.engine.registry cimport Account, Call, Node, Registry
from aiomos.face.packets cimport Packet
from aiomos.ude.machine cimport Program

cdef class Gate:
    cdef Core core
    cdef Registry registry
    cdef Holdings holdings
    cdef object on_callback_error
    cdef bint fail_closed              # what a callback has raised on does not pass
    cdef object face                   # what callbacks get that ask for ``engine``: the `Runtime`; None without one
    cdef Packet packet                 # lent to the callbacks of the moment
    cdef Moment* current               # of the callbacks that run now
    cdef int depth
    cdef int emitted                   # events raised by hand since the outermost callbacks began
    cdef object fatal                  # what a callback has raised that is to end the run, once the batch is done

    cdef int call(self, Moment* m) except -1
    cdef int leave(self, Moment* outer) except -1
    cdef int end_run(self, object error) except -1
    cdef int raise_fatal(self) except -1
    cdef int walk(self, Node node, Moment* m) except -1
    cdef bint holds(self, Node node, Moment* m) except -1
    cdef bint picks(self, Program program, Moment* m)
    cdef int invoke(self, Call call, Moment* m) except -1
    cdef int invoke_own(self, Call call, Moment* m) except -1
    cdef int start(self, Call call, Moment* m) except -1
    cdef object apply(self, object function, const uint8_t* codes, int count, object event, Account account, Moment* m)
    cdef object argument(self, uint8_t code, object event, Account account, Moment* m)
    cdef Packet packet_view(self, Moment* m)
    cdef object occurrence(self, object event, Account account, Moment* m, bint keep)
    cdef tuple evidence(self, Moment* m)
    cdef int failed(self, object key, object function, Account account, Moment* m, object error) except -1

cdef Gate new_gate(Core core, Registry registry, Holdings holdings, on_callback_error, bint fail_closed)
