# What TCP processing works on.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memset

from aiomos.host.host cimport Host
from aiomos.line.line cimport Line
from aiomos.line.outlet cimport Outlet
from aiomos.tcp.flows cimport FlowKey, FlowRecord, Flows, REASONS
from aiomos.tcp.monitor cimport ANOMALIES
from aiomos.tcp.tracks cimport GAP_REASONS, Streams
from aiomos.ude.machine cimport PredicateSet
from aiomos.ude.rules cimport Rules
from aiomos.ude.scene cimport Scene
from aiomos.ude.slots cimport SLOTS
from aiomos.wire.wire cimport DecodeOptions, PacketRecord

cdef enum:
    # More frames than any batch of a transport; the pools of what a batch can bring about are sized by it.
    MOST_BATCH_FRAMES = 65536
    UNPICKED_BITS = 1 << 20            # 128 KiB

# A frame that has been read.
ctypedef struct Decoded:
    PacketRecord packet
    FlowKey key
    uint32_t hash
    int kind
    bint from_low

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

cdef inline void moment_begin(Moment* m, int slot, FlowRecord* flow, int side, const PacketRecord* packet,
                              int64_t now_ns) noexcept nogil:
    memset(m, 0, sizeof(Moment))
    m.slot = slot
    m.flow = flow
    m.scene.side = side
    m.scene.packet = packet
    m.scene.now_ns = now_ns

# Calls apps at a moment: the gate, which stands on a floor above TCP processing.
ctypedef int (*OpenGate)(void* gate, Moment* m) except -1 nogil

# What TCP processing works on; its functions are handed it, and what only one part of the engine uses is not in it.
cdef class Core:
    cdef Flows flows
    cdef Streams streams
    cdef Rules rules                   # the registry writes them
    cdef const PredicateSet* programs[SLOTS]  # user-defined events by slot; NULL where there are none
    cdef Line line                     # frames to be sent, and what becomes of the one in hand,
    cdef Outlet outlet                 # and its way out
    cdef Host host                     # who we are on our links; None before the line is open
    cdef OpenGate open_gate
    cdef void* gate                    # the engine's Gate, as long as that lives
    cdef void* engine                  # the Engine, as long as it lives, for those whom apps ask
    cdef DecodeOptions decode_options
    # Time.
    cdef int64_t now_ns                # of the latest frame
    cdef int64_t next_tick_ns          # when flows or timers are to be looked at again
    cdef int64_t timer_ns              # when the next timer of a flow is due
    cdef int64_t timeout_half_open
    cdef int64_t timeout_established
    cdef int64_t timeout_closing
    cdef int64_t timeout_time_wait
    cdef int64_t timeout_reset
    # Flows with news, in the order in which they got them.
    cdef uint32_t* signals
    cdef size_t signal_count
    cdef size_t signal_capacity
    # Admission.
    cdef size_t flow_budget
    cdef size_t half_open_budget
    cdef uint64_t[16384] unpicked      # a bit by hash: the SYN of such a flow was seen, and no filter picked it
    # Counters.
    cdef uint64_t opened               # flows,
    cdef uint64_t picked_up            # of these, in mid-stream
    cdef uint64_t orphans              # segments of no flow,
    cdef uint64_t without_syn          # of these, of flows whose SYN was not seen
    cdef uint64_t unwatched            # SYNs that no filter picked
    cdef uint64_t no_memory            # flows for which there was none
    cdef uint64_t evicted              # flows that made room,
    cdef uint64_t released_early       # and closed ones that did
    cdef uint64_t[REASONS] ended       # flows that apps were told of, by Reason
    cdef uint64_t anomalies[ANOMALIES]  # of tcp/monitor
    cdef uint64_t noted[ANOMALIES]      # those of the segment at hand

cdef Core new_core(settings, bytes key)
cdef int call_apps(Core core, Moment* m) except -1 nogil
cdef object engine_of(Core core)
cdef int signal_flow(Core core, FlowRecord* flow) except -1 nogil
