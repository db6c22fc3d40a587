# The register machine that runs connection filters: verified once when loaded, run without checks after that.
#
# A program is a row of instructions over 16 registers. Jumps only go forward, so a run ends after at most as many
# steps as the program is long. A register is 128 bits wide: an address is one value, and the same tests serve
# addresses, ports and numbers. Tests are jumps; `and`, `or` and `not` are where they lead. What a field is, only
# load_field knows.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from aiomos.tcp.wire cimport Address

cdef enum:
    OPS = 12
    FIELDS = 7
    REGISTERS = 16
    MAX_INSTRUCTIONS = 1 << 17     # the longest filter text allowed stays below it

cpdef enum Op:
    RETURN = 0                     # end; the answer is low != 0
    LOAD = 1                       # a = field b
    CONSTANT = 2                   # a = low
    JUMP = 3                       # to target
    JUMP_EQ = 4                    # to target if a == low
    JUMP_NE = 5                    # if a != low
    JUMP_IN = 6                    # if low <= a <= high
    JUMP_OUT = 7                   # if a < low or a > high
    JUMP_EQ_REGISTER = 8           # if a == register b
    JUMP_NE_REGISTER = 9           # if a != register b
    JUMP_LT_REGISTER = 10          # if a < register b, both unsigned
    JUMP_GE_REGISTER = 11          # if a >= register b, both unsigned

cpdef enum Field:
    CLIENT_ADDRESS = 0
    SERVER_ADDRESS = 1
    CLIENT_PORT = 2
    SERVER_PORT = 3
    VLAN_ID = 4                    # NO_VLAN where there is no tag
    IP_VERSION = 5
    PROTOCOL = 6

ctypedef struct Instruction:
    uint8_t op                     # Op
    uint8_t a                      # register written or tested
    uint8_t b                      # field to load, or second register
    uint32_t target                # index of the instruction a jump leads to
    Address low                    # constants, unsigned
    Address high

# What a filter can see of a flow.
ctypedef struct FilterContext:
    Address client
    Address server
    uint16_t client_port
    uint16_t server_port
    uint16_t vlan                  # outermost VLAN id, or NO_VLAN
    uint8_t ip_version             # 4 or 6
    uint8_t proto                  # 6 TCP, 17 UDP

cdef class Program:
    cdef Instruction* code         # owned, verified, never changed
    cdef size_t n                  # >= 1

# Run a verified program, as a Program holds it; true when the filter picks the flow.
cdef bint run_filter(const Instruction* code, size_t n, const FilterContext* ctx) noexcept nogil
