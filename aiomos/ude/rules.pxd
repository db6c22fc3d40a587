# Registrations as the engine sees them: whose filter picks a flow, and what they need of it.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport ENDED, FlowKey, FlowRecord
from aiomos.ude.instructions cimport Instruction
from aiomos.ude.slots cimport SLOTS

cdef enum:
    MAX_RULES = 64             # bits of a watch set
    MAX_SETS = 4096
    ANY_SET = 0xFFFF           # watch set that did not fit the table: worked out anew each time

# What is to be done at each slot (ude/slots.pxd) for those who watch a flow.
ctypedef struct Interest:
    uint32_t events            # slots where there is anything to do
    uint32_t plain             # of these, those where callbacks wait for the built-in event itself
    uint64_t udes[SLOTS]       # user-defined events to be judged
    uint64_t called[SLOTS]     # of these, those that lead to a callback or to a predicate in Python
    bint edits                 # callbacks may replace payload

# The C side of a registration.
ctypedef struct Rule:
    const Instruction* code    # its filter, kept by the engine; NULL where it picks no flow by itself
    size_t code_len
    uint8_t level
    uint8_t overlap            # Policy of the reassembly
    bint urgent_out            # its streams leave urgent bytes out
    bint midstream
    bint connects              # makes a connection for each flow
    bint keeps                 # wants delivered bytes to be kept for looking at
    bint follows               # wants flows at all, not only packets without one
    bint active
    Interest interest

ctypedef struct Rules:
    Rule rules[64]             # in order of registration
    uint32_t count
    uint64_t midstream         # sets of rules, a bit each
    uint64_t connecting
    uint64_t reading           # of the connecting ones, those at level STREAM
    uint64_t urgent_out        # those that leave urgent bytes out
    uint64_t retired           # removed; to be forgotten by all sets at the end of the batch
    uint64_t forgotten         # in no set any more; flows are yet to be looked at for them
    uint64_t leaving           # of those, the ones for whom a round over all flows goes on
    uint64_t sets[4096]        # watch sets that flows name by their index; the first is empty
    uint32_t set_count
    uint16_t free[4096]        # sets that no flow watched when that was last looked at: the next to be used is the last
    uint32_t free_count
    bint sets_wanted           # that is to be looked at again when a batch is done
    uint64_t sets_full         # how often a set found no room
    uint32_t flows[4097]       # how many flows of the table each set watches; the last is ANY_SET's
    Interest interests[4097]   # of each set; the last is that of all rules together, for ANY_SET

# What the rules of a set need of a flow together.
ctypedef struct Need:
    uint8_t level              # the highest
    uint8_t overlap            # of the first of them that reads the bytes
    bint sink                  # somebody takes the bytes
    bint keep                  # somebody looks at delivered bytes

cdef void rules_open(Rules* rules) noexcept nogil
cdef uint32_t rules_take(Rules* rules) noexcept nogil
cdef bint rules_held_up(const Rules* rules) noexcept nogil
cdef void rules_forget(Rules* rules) noexcept nogil
cdef void rules_begin_round(Rules* rules) noexcept nogil
cdef void rules_end_round(Rules* rules) noexcept nogil
cdef void rules_changed(Rules* rules) noexcept nogil
cdef uint64_t rules_match(const Rules* rules, const FlowKey* key, bint client_is_low, bint midstream) noexcept nogil
cdef uint64_t rules_match_packet(const Rules* rules, const FlowKey* key, bint client_is_low,
                                 int slot) noexcept nogil
cdef uint64_t rules_watching(const Rules* rules, const FlowRecord* flow) noexcept nogil
cdef uint16_t rules_intern(Rules* rules, uint64_t mask) noexcept nogil
cdef void rules_reclaim(Rules* rules) noexcept nogil
cdef Need rules_need(const Rules* rules, uint64_t mask, uint64_t told) noexcept nogil

cdef inline uint64_t rules_blocked(const Rules* rules) noexcept nogil:
    """Rules that were removed, and whose numbers are not yet free."""
    return rules.retired | rules.forgotten | rules.leaving

cdef inline uint32_t rules_place(uint16_t watchers) noexcept nogil:
    return watchers if watchers != ANY_SET else MAX_SETS

cdef inline void rules_count(Rules* rules, const FlowRecord* flow, int by) noexcept nogil:
    """Note that a flow has come into the table, 1, or is about to leave it, -1."""
    rules.flows[rules_place(flow.watchers)] += <uint32_t> by

cdef inline void rules_assign(Rules* rules, FlowRecord* flow, uint16_t watchers) noexcept nogil:
    """Have another set watch a flow."""
    if not flow.flags & ENDED:
        rules.flows[rules_place(flow.watchers)] -= 1
        rules.flows[rules_place(watchers)] += 1
    flow.watchers = watchers

cdef inline const Interest* rules_interest(const Rules* rules, const FlowRecord* flow) noexcept nogil:
    return &rules.interests[rules_place(flow.watchers)]
