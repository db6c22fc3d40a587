"""The register machine that runs connection filters, its verifier and its assembler.

An `Assembler` turns instructions and labels into a `Program`; a program is verified when it is made, so that
running it needs no checks: every jump leads forward to an instruction, every register is written before it is
read, and the last instruction returns.
"""

cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free

from aiomos.tcp.wire cimport NO_VLAN, Address


# --- kernel ---------------------------------------------------------------------------------------
cdef inline bint same(const Address* x, const Address* y) noexcept nogil:
    return x.hi == y.hi and x.lo == y.lo


cdef inline bint below(const Address* x, const Address* y) noexcept nogil:
    return x.hi < y.hi or (x.hi == y.hi and x.lo < y.lo)


cdef inline bint within(const Address* x, const Instruction* test) noexcept nogil:
    return not below(x, &test.low) and not below(&test.high, x)


cdef inline Address number(uint64_t value) noexcept nogil:
    cdef Address wide
    wide.hi = 0
    wide.lo = value
    return wide


cdef inline Address load_field(const FilterContext* ctx, uint8_t field) noexcept nogil:
    if field == CLIENT_ADDRESS:
        return ctx.client
    elif field == SERVER_ADDRESS:
        return ctx.server
    elif field == CLIENT_PORT:
        return number(ctx.client_port)
    elif field == SERVER_PORT:
        return number(ctx.server_port)
    elif field == VLAN_ID:
        return number(ctx.vlan)
    elif field == IP_VERSION:
        return number(ctx.ip_version)
    else:
        return number(ctx.proto)


cdef inline bint holds(const Instruction* test, const Address* registers) noexcept nogil:
    """Whether a jump is taken."""
    cdef const Address* a = &registers[test.a]
    if test.op == JUMP_EQ:
        return same(a, &test.low)
    elif test.op == JUMP_NE:
        return not same(a, &test.low)
    elif test.op == JUMP_IN:
        return within(a, test)
    elif test.op == JUMP_OUT:
        return not within(a, test)
    elif test.op == JUMP_EQ_REGISTER:
        return same(a, &registers[test.b])
    elif test.op == JUMP_NE_REGISTER:
        return not same(a, &registers[test.b])
    elif test.op == JUMP_LT_REGISTER:
        return below(a, &registers[test.b])
    elif test.op == JUMP_GE_REGISTER:
        return not below(a, &registers[test.b])
    else:
        return True        # JUMP


cdef bint run_filter(const Instruction* code, size_t n, const FilterContext* ctx) noexcept nogil:
    cdef Address registers[REGISTERS]
    cdef const Instruction* step
    cdef size_t at = 0
    while at < n:
        step = &code[at]
        at += 1
        if step.op == LOAD:
            registers[step.a] = load_field(ctx, step.b)
        elif step.op == CONSTANT:
            registers[step.a] = step.low
        elif step.op == RETURN:
            return step.low.lo != 0
        elif holds(step, registers):
            at = step.target
    return False


# --- shell ----------------------------------------------------------------------------------------
_READS_REGISTER_B = frozenset((JUMP_EQ_REGISTER, JUMP_NE_REGISTER, JUMP_LT_REGISTER, JUMP_GE_REGISTER))
_READS_REGISTER_A = _READS_REGISTER_B | {JUMP_EQ, JUMP_NE, JUMP_IN, JUMP_OUT}
_WRITES_REGISTER_A = frozenset((LOAD, CONSTANT))
_JUMPS = _READS_REGISTER_A | {JUMP}


cdef Address wide(object value) except *:
    cdef Address out
    if not 0 <= value < 1 << 128:
        raise ValueError(f"{value} does not fit in 128 bits, unsigned")
    out.hi = value >> 64
    out.lo = value & 0xFFFF_FFFF_FFFF_FFFF
    return out


@cython.final
cdef class Program:
    """A verified program for the machine; it never changes.

    Args:
        instructions: One to 131072 tuples ``(op, a, b, target, low, high)``, their meaning as at `Op`;
            what an op has no use for is 0.

    Raises:
        ValueError: An instruction is unknown, jumps backwards or too far, names a register or field that does
            not exist, or reads a register that may not have been written; or the last one does not return.
    """

    def __cinit__(self, instructions):
        steps = list(instructions)
        _verify(steps)
        self.code = <Instruction*> calloc(len(steps), sizeof(Instruction))
        if self.code == NULL:
            raise MemoryError
        for op, a, b, target, low, high in steps:
            self.code[self.n] = Instruction(op, a, b, target, wide(low), wide(high))
            self.n += 1

    def __dealloc__(self):
        free(self.code)

    def __len__(self):
        return self.n

    def matches(self, object client, object server, *, uint16_t client_port, uint16_t server_port,
                uint8_t ip_version, uint8_t proto, object vlan=None):
        """Run the program on one flow, given as the numbers that the engine works with.

        Args:
            client: Address of the client as a 128-bit number; IPv4 as ``::ffff:a.b.c.d``.
            server: Address of the server, likewise.
            client_port: Port of the client.
            server_port: Port of the server.
            ip_version: 4 or 6.
            proto: 6 for TCP, 17 for UDP.
            vlan: Outermost VLAN id; None for none.

        Returns:
            Whether it picks the flow.
        """
        cdef FilterContext ctx
        ctx.client = wide(client)
        ctx.server = wide(server)
        ctx.client_port = client_port
        ctx.server_port = server_port
        ctx.vlan = NO_VLAN if vlan is None else vlan
        ctx.ip_version = ip_version
        ctx.proto = proto
        return bool(run_filter(self.code, self.n, &ctx))


def _verify(steps):
    if not 1 <= len(steps) <= MAX_INSTRUCTIONS:
        raise ValueError(f"a program has 1 to {MAX_INSTRUCTIONS} instructions, not {len(steps)}")
    # Bit r of written[i]: register r was written on every way to instruction i. As jumps lead forward only, all
    # ways to an instruction are known when the walk comes to it.
    everything = (1 << REGISTERS) - 1
    written = [0] + [everything] * (len(steps) - 1)
    for at, (op, a, _, target, _, _) in enumerate(steps):
        _verify_operands(steps, at, written[at])
        known = written[at] | (1 << a if op in _WRITES_REGISTER_A else 0)
        if op in _JUMPS:
            written[target] &= known
        if op not in (RETURN, JUMP):
            written[at + 1] &= known


def _verify_operands(steps, at, written):
    op, a, b, target, _, _ = steps[at]
    if not 0 <= op < OPS:
        raise ValueError(f"instruction {at}: there is no op {op}")
    for register in (a, b) if op in _READS_REGISTER_B else (a,):
        if not 0 <= register < REGISTERS:
            raise ValueError(f"instruction {at}: there is no register {register}, only 0 to {REGISTERS - 1}")
    if op == LOAD and not 0 <= b < FIELDS:
        raise ValueError(f"instruction {at}: there is no field {b}")
    if op in _JUMPS and not at < target < len(steps):
        raise ValueError(f"instruction {at}: jump to {target}, which is not forward to one of {len(steps)}")
    reads = (1 << a if op in _READS_REGISTER_A else 0) | (1 << b if op in _READS_REGISTER_B else 0)
    if reads & ~written:
        raise ValueError(f"instruction {at}: reads a register that may not have been written")
    if at == len(steps) - 1 and op != RETURN:
        raise ValueError(f"instruction {at}: the last instruction must return")


class Label:
    """A place in a program that jumps lead to; bound once, after the last jump to it."""

    __slots__ = ("at",)

    def __init__(self):
        self.at = 0


class Assembler:
    """Collects instructions into a `Program`, with labels for the targets of jumps."""

    def __init__(self):
        self._steps = []

    def emit(self, op, a=0, b=0, *, low=0, high=0, target=None):
        """Append one instruction.

        Args:
            op: What to do, an `Op`.
            a: Register it writes or tests.
            b: Field it loads, or second register.
            low: Constant, 128 bits unsigned.
            high: Upper bound of a range, inclusive.
            target: Where a jump leads.
        """
        self._steps.append((op, a, b, target, low, high))

    def bind(self, label):
        """Make *label* the place of the next instruction."""
        label.at = len(self._steps)

    def program(self):
        """Resolve the labels and verify.

        Returns:
            The program.

        Raises:
            ValueError: It is not a valid program; see `Program`.
        """
        return Program(
            (op, a, b, 0 if target is None else target.at, low, high)
            for op, a, b, target, low, high in self._steps
        )
