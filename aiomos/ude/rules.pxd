# Registrations as the engine sees them: whose filter picks a flow, and what they need of it.
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from aiomos.tcp.flows cimport Flow, FlowKey
from aiomos.ude.machine cimport Instruction

cdef enum:
    MAX_RULES = 64             # bits of a watch set
    MAX_SETS = 4096
    ANY_SET = 0xFFFF           # watch set that did not fit the table: worked out anew each time

cdef enum:                     # what a rule wants to be called for
    CALL_SETUP = 1
    CALL_TEARDOWN = 2

# The C side of a registration.
ctypedef struct Rule:
    const Instruction* code    # its filter; the Python object is kept by the engine
    size_t code_len
    uint8_t level
    uint8_t overlap            # Policy of the reassembly
    uint8_t calls              # CALL_*
    bint midstream
    bint connects              # makes a connection for each flow
    bint active

ctypedef struct Rules:
    Rule rules[64]             # in order of registration
    uint32_t count
    uint64_t midstream         # sets of rules, a bit each
    uint64_t connecting
    uint64_t reading           # of the connecting ones, those at level STREAM
    uint64_t sets[4096]        # watch sets that flows name by their index; the first is empty
    uint32_t set_count

# What the rules of a set need of a flow together.
ctypedef struct Need:
    uint8_t level              # the highest
    uint8_t overlap            # of the first of them that reads the bytes
    bint sink                  # somebody takes the bytes

cdef void rules_open(Rules* rules) noexcept nogil
cdef uint64_t rules_match(const Rules* rules, const FlowKey* key, bint client_is_low, bint midstream) noexcept nogil
cdef uint64_t rules_watching(const Rules* rules, const Flow* flow) noexcept nogil
cdef uint16_t rules_intern(Rules* rules, uint64_t mask) noexcept nogil
cdef Need rules_need(const Rules* rules, uint64_t mask, uint64_t told) noexcept nogil
