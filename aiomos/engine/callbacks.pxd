# The gate through which TCP processing calls apps.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from aiomos.engine.registry cimport Account, Call, Node, Registry
from aiomos.face.packets cimport Packet
from aiomos.face.views cimport Flow
from aiomos.line.verdicts cimport Verdicts
from aiomos.tcp.flows cimport Flow as FlowRecord
from aiomos.tcp.flows cimport Flows
from aiomos.tcp.monitor cimport ANOMALIES
from aiomos.tcp.reassembly cimport GAP_REASONS, Streams
from aiomos.ude.machine cimport Program, predicates_guard
from aiomos.ude.rules cimport Interest, rules_interest
from aiomos.ude.scene cimport Scene
from aiomos.wire.wire cimport Packet as WirePacket

cdef enum:                     # what an ERROR is about (Moment.what); before these, the anomalies of tcp/monitor
    WHAT_GAP = ANOMALIES       # and its reason
    WHAT_CONFLICT = WHAT_GAP + GAP_REASONS
    WHAT_EVICTED = WHAT_CONFLICT + 1
    WHAT_MALFORMED = WHAT_EVICTED + 1      # and the kind of wire/wire

# The moment of TCP processing at which an event is raised.
cdef struct Moment:
    Moment* outer              # the moment whose callbacks brought this one about
    Scene scene                # what predicates see: packet and ends, whose half it is about, and when
    FlowRecord* flow           # NULL where there is none
    uint64_t rules             # those that watch
    uint64_t only              # if there are any, only these are told
    uint64_t fired             # user-defined events to call for; those of `unsure` and in Python are asked first
    uint64_t unsure            # those that the machine could not judge
    int slot                   # ude/slots
    int what                   # of ERROR as above; of REXMIT a RexmitKind
    uint64_t offset            # stream bytes it is about
    uint64_t length
    uint64_t segment_offset    # of the packet's first byte
    uint8_t before             # of STATE_CHANGE
    uint8_t after
    bint by_hand               # emitted by an app

cdef inline void moment_begin(Moment* m, int slot, FlowRecord* flow, int side, const WirePacket* packet,
                              int64_t now_ns) noexcept nogil:
    memset(m, 0, sizeof(Moment))
    m.slot = slot
    m.flow = flow
    m.scene.side = side
    m.scene.packet = packet
    m.scene.now_ns = now_ns

cdef bint is_open(Flow view) noexcept

cdef class Timer:
    cdef Flow view
    cdef object function
    cdef readonly int64_t due_ns
    cdef readonly bint active

cdef class Callbacks(Registry):
    cdef Flows flows
    cdef Streams streams
    cdef int64_t now_ns                # time of the latest frame
    cdef int64_t next_tick_ns          # when flows or timers are to be looked at again
    cdef int64_t timer_ns              # when the next timer is due
    cdef uint32_t* signals             # flows with news, in the order in which they got them
    cdef size_t signal_count
    cdef size_t signal_capacity
    cdef list views                    # Python's Flow by Flow.hold of the record: that of one app, others behind it
    cdef list free_views
    cdef object on_callback_error
    cdef readonly Verdicts outlet      # frames to be sent, and what becomes of the one in hand
    cdef bint fail_closed              # what a callback has raised on does not pass
    cdef public object face            # what callbacks get that ask for ``engine``: the `Runtime`; None without one
    cdef public object read_clock      # nanoseconds since the epoch, of a live transport; or None
    cdef bint busy                     # a batch is being processed: what it brings about is looked at afterwards
    cdef Packet packet                 # lent to the callbacks of the moment
    cdef list passing                  # views made for the last callbacks of flows that nobody knew
    cdef Moment* current               # of the callbacks that run now
    cdef int depth
    cdef int emitted                   # events raised by hand since the outermost callbacks began
    cdef object fatal                  # what a callback has raised that is to end the run, once the batch is done
    cdef list timers                   # heap of (due_ns, ticket, Timer)
    cdef Py_ssize_t most_timers        # beyond which those are let go that will not run out
    cdef uint64_t tickets
    cdef int64_t pass_ns               # while timers run out: up to when, and
    cdef int ran_out                   # how many have

    cdef int begin(self) except -1
    cdef int tell_news(self) except -1
    cdef int cut(self, FlowRecord* flow, uint16_t flags) except -1 nogil
    cdef int64_t clock(self)
    cdef int signal(self, FlowRecord* flow) except -1 nogil
    cdef int raise_event(self, int slot, FlowRecord* flow, int side, const WirePacket* packet) except -1 nogil
    cdef int happen(self, Moment* m) except -1 nogil
    cdef tuple evidence(self, Moment* m)
    cdef void judge(self, Moment* m, uint64_t wanted) noexcept nogil
    cdef int call(self, Moment* m) except -1 with gil
    cdef int leave(self, Moment* outer) except -1
    cdef int end_run(self, object error) except -1
    cdef int walk(self, Node node, Moment* m) except -1
    cdef bint holds(self, Node node, Moment* m) except -1
    cdef int invoke(self, Call call, Moment* m) except -1
    cdef int invoke_own(self, Call call, Moment* m) except -1
    cdef int start(self, Call call, Moment* m) except -1
    cdef object apply(self, object function, const uint8_t* codes, int count, object event, Account account, Moment* m)
    cdef object argument(self, uint8_t code, object event, Account account, Moment* m)
    cdef object occurrence(self, object event, Account account, Moment* m, bint keep)
    cdef int failed(self, object key, object function, Account account, Moment* m, object error) except -1
    cdef int silence(self, object key, Account account, Moment* m) except -1
    cdef bint is_silenced(self, FlowRecord* flow, object key) except -1
    cdef Packet packet_view(self, Moment* m)
    cdef Flow app_view(self, Account account, Moment* m)
    cdef Flow view_of(self, FlowRecord* flow, Account account)
    cdef FlowRecord* record_of(self, Flow view) except NULL
    cdef bint is_watched(self, Flow view) except -1
    cdef int call_timer(self, Timer timer, Moment* m) except -1
    cdef int drop_timers(self) except -1
    cdef int cancel_timers(self, Account account) except -1
    cdef int raise_fatal(self) except -1
    cdef bint picks(self, Program program, Moment* m)
    cdef int move_timers(self, int64_t by_ns) except -1 with gil
    cdef int run_timers(self) except -1 with gil
    cdef int64_t due_of(self, int64_t delay_ns) except? -1

cdef inline bint is_awaited(Callbacks engine, int slot, const FlowRecord* flow,
                            const WirePacket* segment) noexcept nogil:
    """Does anybody wait for an event of a segment, as far as its flags tell?"""
    cdef const Interest* interest = rules_interest(&engine.rules, flow)
    return (interest.events >> slot & 1
            and (interest.plain >> slot & 1
                 or predicates_guard(engine.programs[slot], segment) & interest.udes[slot] != 0))
