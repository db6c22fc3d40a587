# The register machine that runs connection filters and predicates: verified once when loaded, run without checks then.
cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from aiomos.ude.instructions cimport Instruction
from aiomos.ude.scene cimport Scene
from aiomos.wire.wire cimport PacketRecord, WIRE_TCP

cdef enum:
    GUARDS = 1024
    GUARD_FLAGS = 0x1FF        # all flags of TCP
    GUARD_PAYLOAD = 9          # bit that says whether the packet has a payload on the wire

# The predicates of one event, a bit for each of its user-defined events.
ctypedef struct PredicateSet:
    const Instruction* code
    size_t n
    uint64_t guard[1024]       # those that may fire, by flags and payload of a TCP packet
    uint64_t native            # those that have a program; of the others, only the filter has
    bint asks_flow             # one of them reads the flow: the guard takes for granted that there is one


@cython.final
cdef class Program:
    cdef Instruction* code     # owned, verified, never changed
    cdef size_t n              # >= 1
    cdef list literals         # bytes objects that instructions point into


@cython.final
cdef class Predicates:
    cdef PredicateSet c
    cdef readonly Program program


# Run a verified program, as a Program holds it; true when the filter picks the flow.
cdef bint run_filter(const Instruction* code, size_t n, const Scene* scene) noexcept nogil
# Run the predicates of an event. Returns those of *wanted* that fire, and in *unsure* those that Python has to decide:
# those without a program, and those whose program met what it cannot do. An event is looked at only if it and all it is
# built upon are wanted; if Python has to decide about one, those built upon it are judged as if it fired.
cdef uint64_t run_predicates(const Instruction* code, size_t n, const Scene* scene, uint64_t wanted,
                             uint64_t* unsure) noexcept nogil

cdef inline uint64_t predicates_guard(const PredicateSet* predicates, const PacketRecord* segment) noexcept nogil:
    """Those that may fire, or be unsure, for a segment of a flow, by a look at its flags."""
    return predicates.guard[(segment.flags & GUARD_FLAGS) | <size_t> (segment.payload_len != 0) << GUARD_PAYLOAD]

cdef inline uint64_t predicates_fire(const PredicateSet* predicates, const Scene* scene, uint64_t wanted,
                                     uint64_t* unsure) noexcept nogil:
    """As run_predicates, behind the guard."""
    if scene.packet != NULL and scene.kind == WIRE_TCP and (scene.flow != NULL or not predicates.asks_flow):
        wanted &= predicates_guard(predicates, scene.packet)
    if not wanted:
        unsure[0] = 0
        return 0
    return run_predicates(predicates.code, predicates.n, scene, wanted, unsure)
