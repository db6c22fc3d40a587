# The instruction set of the machine that runs filters and predicates.
#
# A program is a row of instructions over 64 registers, each of which holds a number of 64 bits, signed, or a stretch of
# bytes. Tests are jumps; jumps only lead forward, so a run ends after at most as many steps as the program is long.
# `and`, `or` and `not` are where they lead. What cannot be done the way Python would (a sum beyond 64 bits, an index
# beyond the bytes, an attribute of None) leads to `otherwise`, where the program gives that answer up.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from aiomos.wire.wire cimport Address, Span

cpdef enum Limit:
    OPS = 46
    FIELDS = 72
    ADDRESS_FIELDS = 5
    BYTES_FIELDS = 2
    RELATIONS = 5
    HALVES = 4
    REGISTERS = 64
    IMMEDIATE = 255                # in place of a register: the operand is `low`
    MAX_INSTRUCTIONS = 1 << 17     # the longest filter text allowed stays below it
    SCRATCH = 1024                 # bytes that the peeks of one run may copy

# Ops that work alike stand together: the machine tells them apart by their first number.
cpdef enum Op:
    # r is a register; `f` a field, of the half or the bit `c`; `x` register c, or `low` where c is IMMEDIATE
    RETURN = 0                     # end; the events of the bits of `low` fire, too
    FIRE = 1                       # the event of bit a fires; to target
    UNSURE = 2                     # whether the event of bit a fires is for Python to say; to target
    JUMP = 3                       # to target
    JUMP_UNWANTED = 4              # if none of the events of the bits of `low` is wanted
    RECALL = 5                     # if r[a] was kept in this run
    KEEP = 6                       # r[a] is to be recalled from now on
    # of numbers among the fields; None is in no range
    LOAD = 7                       # r[a] = f; where f is None, to target
    JUMP_FIELD_IN = 8              # if low <= f <= high; None is a case for `otherwise` if a is 1
    JUMP_FIELD_OUT = 9             # if not
    JUMP_NONE = 10                 # if f is None
    JUMP_SOME = 11                 # if it is not
    JUMP_FLAGS = 12                # if flags & low == high, TCP's; as JUMP_FIELD_IN where there is no TCP
    JUMP_FLAGS_NOT = 13            # if not
    # of addresses among the fields; None is in no range
    JUMP_ADDRESS_IN = 14           # if low <= f <= high and it is of IP version d (0: of any)
    JUMP_ADDRESS_OUT = 15          # if not
    JUMP_ADDRESS_SAME = 16         # if f and the field d, of the half a, are the same address
    JUMP_ADDRESS_DIFFERS = 17      # if not
    # tests of numbers
    JUMP_IN = 18                   # if low <= r[a] <= high
    JUMP_OUT = 19                  # if not
    JUMP_EQ = 20                   # if r[a] == r[b]
    JUMP_NE = 21                   # if r[a] != r[b]
    JUMP_LT = 22                   # if r[a] < r[b]
    JUMP_GE = 23                   # if r[a] >= r[b]
    # arithmetic
    CONSTANT = 24                  # r[a] = low
    ADD = 25                       # r[a] = r[b] + x, and so on
    SUBTRACT = 26
    MULTIPLY = 27
    DIVIDE = 28                    # rounds down, as Python does
    MODULO = 29
    AND = 30
    OR = 31
    XOR = 32
    SHIFT_LEFT = 33
    SHIFT_RIGHT = 34
    # bytes
    BYTES = 35                     # r[a] = the bytes field b; where it is None, to target
    LITERAL = 36                   # r[a] = low
    SLICE = 37                     # r[a] = r[b][low:high]
    SLICE_BY = 38                  # r[a] = r[b][r[c]:r[d]]
    INDEX = 39                     # r[a] = r[b][x]
    LENGTH = 40                    # r[a] = len(r[b])
    FIND = 41                      # r[a] = r[b].find(low)
    INTEGER = 42                   # r[a] = int.from_bytes(r[b]), big-endian; little-endian if c is 1
    JUMP_BYTES = 43                # if r[a] has the relation c to `low`; if b is 1, if not
    JUMP_SAME = 44                 # if r[a] == r[b]; if c is 1, if not
    PEEK = 45                      # r[a] = peek(r[b], r[d]) of the half c

cpdef enum Relation:
    IS = 0
    STARTS = 1
    ENDS = 2
    HOLDS = 3
    WITHIN = 4

cpdef enum Which:                  # of a flow's halves
    OF_CLIENT = 0
    OF_SERVER = 1
    OF_SENDER = 2                  # that of `Scene.side`
    OF_PEER = 3                    # the other

cpdef enum Field:
    # of the two ends, as filters see them
    CLIENT_PORT = 0
    SERVER_PORT = 1
    VLAN_ID = 2
    IP_VERSION = 3
    PROTOCOL = 4
    # what the event comes with: 1 or None
    HAS_PACKET = 5
    HAS_FLOW = 6
    SIDE = 7                   # 0 client, 1 server
    # of the packet
    PACKET_VLAN = 8
    PACKET_KNOWN = 9
    PACKET_IP_VERSION = 10
    PACKET_PROTO = 11
    TTL = 12
    TOS = 13
    DSCP = 14
    ECN = 15
    IP_ID = 16
    DONT_FRAGMENT = 17
    PACKET_LENGTH = 18
    FRAGMENT_OFFSET = 19
    MORE_FRAGMENTS = 20
    PAYLOAD_LEN = 21
    SPORT = 22
    DPORT = 23
    # of a segment
    SEQ = 24
    ACK_NUMBER = 25
    FLAGS = 26
    FLAG = 27                  # one of them, by its bit
    SEGMENT_WINDOW = 28
    URGENT = 29
    HEADER_LEN = 30
    OPTION_MSS = 31
    OPTION_WINDOW_SCALE = 32
    OPTION_SACK_PERMITTED = 33
    TSVAL = 34
    TSECR = 35
    # of the flow
    FLOW_VLAN = 36
    FLOW_IP_VERSION = 37
    FLOW_IS_ESTABLISHED = 38
    FLOW_IS_CLOSED = 39
    FLOW_IS_MIDSTREAM = 40
    FLOW_HAS_GUESSED_ROLES = 41
    FLOW_REASON = 42
    # of one of its halves
    HALF_NAME = 43             # as SIDE
    HALF_PORT = 44
    HALF_STATE = 45
    HALF_PACKETS = 46
    HALF_MSS = 47
    HALF_WINDOW_SCALE = 48
    HALF_WINDOW = 49
    HALF_SACK_PERMITTED = 50
    HALF_TIMESTAMPS = 51
    HALF_LEVEL = 52
    HALF_FIN_SEEN = 53
    HALF_ISS = 54
    HALF_SND_NXT = 55
    HALF_SND_UNA = 56
    HALF_IN_FLIGHT = 57
    HALF_MAX_WINDOW = 58
    HALF_TS_RECENT = 59
    # of that half's bytes
    HALF_BYTES = 60
    HALF_STREAM_BYTES = 61
    HALF_RETRANSMITS = 62
    HALF_OUT_OF_ORDER = 63
    HALF_LOST = 64
    HALF_CONFLICTS = 65
    HALF_GAPS = 66
    HALF_GAP_BYTES = 67
    HALF_LATE_BYTES = 68
    HALF_STREAM_OFFSET = 69
    HALF_DUP_ACKS = 70
    HALF_ACKED = 71

cpdef enum AddressField:
    CLIENT_ADDRESS = 0         # of the two ends, as filters see them
    SERVER_ADDRESS = 1
    SOURCE_ADDRESS = 2         # of the packet
    DESTINATION_ADDRESS = 3
    HALF_ADDRESS = 4

cpdef enum BytesField:
    PAYLOAD = 0
    RAW = 1

cdef enum:
    FIRST_OF_PACKET = 8            # Field.PACKET_VLAN
    FIRST_OF_SEGMENT = 24          # Field.SEQ
    FIRST_OF_FLOW = 36             # Field.FLOW_VLAN
    FIRST_OF_HALF = 43             # Field.HALF_NAME
    FIRST_OF_BYTES = 60            # Field.HALF_BYTES

ctypedef union Operand:
    int64_t number
    Address address
    Span literal                   # bytes that the program owns

ctypedef union Register:
    int64_t number
    Span bytes                     # of the packet, of the program, or of the run's scratch

ctypedef struct Instruction:
    uint8_t op                     # Op
    uint8_t a
    uint8_t b
    uint8_t c
    uint8_t d
    uint32_t target                # index of the instruction a jump leads to
    uint32_t otherwise             # likewise
    Operand low
    Operand high
