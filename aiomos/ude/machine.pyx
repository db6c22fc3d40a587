"""The register machine that runs connection filters and predicates, and the objects that hold its programs.

A program is verified when it is made (`aiomos.ude.verifier`), so running it needs no checks: every jump leads forward
to an instruction, every register is written, with the kind of value that is expected, before it is read, and the last
instruction returns. What depends on the packet (is it there, is the index within the bytes) is checked as it is met.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from aiomos.tcp.flows cimport FlowKey, HalfRecord
from aiomos.tcp.holdings cimport track_read, track_view
from aiomos.tcp.tracks cimport Streams, Track, track_at
from aiomos.ude.instructions cimport (
    ADD,
    AND,
    BYTES,
    CONSTANT,
    DIVIDE,
    ENDS,
    FIND,
    FIRE,
    HOLDS,
    IMMEDIATE,
    INDEX,
    IS,
    JUMP,
    JUMP_ADDRESS_DIFFERS,
    JUMP_ADDRESS_IN,
    JUMP_ADDRESS_OUT,
    JUMP_ADDRESS_SAME,
    JUMP_BYTES,
    JUMP_EQ,
    JUMP_FIELD_IN,
    JUMP_FIELD_OUT,
    JUMP_FLAGS,
    JUMP_FLAGS_NOT,
    JUMP_GE,
    JUMP_IN,
    JUMP_LT,
    JUMP_NE,
    JUMP_NONE,
    JUMP_OUT,
    JUMP_SAME,
    JUMP_SOME,
    JUMP_UNWANTED,
    KEEP,
    LENGTH,
    LITERAL,
    LOAD,
    MODULO,
    MULTIPLY,
    OR,
    PEEK,
    RECALL,
    REGISTERS,
    RETURN,
    SCRATCH,
    SHIFT_LEFT,
    SLICE,
    SLICE_BY,
    STARTS,
    SUBTRACT,
    XOR,
    Operand,
    Register,
)
from aiomos.ude.scene cimport (
    GOT,
    NONE,
    REFUSED,
    Host,
    load_address,
    load_bytes,
    load_number,
    side_of_scene,
)
from aiomos.wire.wire cimport NO_VLAN, Address, Span, packet_has_segment

from aiomos.ude.listing import listing
from aiomos.ude.verifier import FORMS, Constant, Step, verify

cdef extern from *:
    bint __builtin_add_overflow(int64_t, int64_t, int64_t*) nogil
    bint __builtin_sub_overflow(int64_t, int64_t, int64_t*) nogil
    bint __builtin_mul_overflow(int64_t, int64_t, int64_t*) nogil

cdef extern from "<string.h>" nogil:
    const void* memmem(const void*, size_t, const void*, size_t)

# What a run keeps beside its registers.
ctypedef struct Run:
    Register r[REGISTERS]
    uint64_t kept                      # registers that can be recalled
    size_t copied                      # bytes of `scratch` in use
    uint8_t scratch[SCRATCH]


# --- kernel: each step gives the index of the next one --------------------------------------------

cdef inline size_t branch(bint taken, const Instruction* step, size_t at) noexcept nogil:
    return step.target if taken else at


cdef inline bint is_within(int64_t value, const Instruction* step) noexcept nogil:
    return step.low.number <= value <= step.high.number


cdef inline size_t field_step(const Instruction* step, const Scene* scene, Run* run, size_t at) noexcept nogil:
    cdef int64_t value
    cdef int reading = load_number(scene, step.b, step.c, &value)
    if reading == REFUSED:
        return step.otherwise
    if step.op == JUMP_NONE:
        return branch(reading == NONE, step, at)
    elif step.op == JUMP_SOME:
        return branch(reading == GOT, step, at)
    elif step.op == LOAD:
        if reading == NONE:
            return step.target
        run.r[step.a].number = value
        return at
    if reading == NONE:
        return step.otherwise if step.a else branch(step.op == JUMP_FIELD_OUT, step, at)
    return branch(is_within(value, step) == (step.op == JUMP_FIELD_IN), step, at)


cdef inline size_t flags_step(const Instruction* step, const Scene* scene, size_t at) noexcept nogil:
    cdef bint same
    if scene.packet == NULL:
        return step.otherwise
    if packet_has_segment(scene.packet, scene.kind):
        same = (scene.packet.flags & step.low.number) == step.high.number
    elif step.a:
        return step.otherwise
    else:
        same = step.high.number == 0           # None is as false as a flag that is not set
    return branch(same == (step.op == JUMP_FLAGS), step, at)


cdef inline bint below(const Address* x, const Address* y) noexcept nogil:
    return x.hi < y.hi or (x.hi == y.hi and x.lo < y.lo)


cdef inline bint is_among(const Host* host, const Instruction* step) noexcept nogil:
    return (not (step.d and step.d != host.version) and not below(host.number, &step.low.address)
            and not below(&step.high.address, host.number))


cdef inline size_t address_step(const Instruction* step, const Scene* scene, size_t at) noexcept nogil:
    cdef Host host
    cdef int reading = load_address(scene, step.b, step.c, &host)
    if reading == REFUSED:
        return step.otherwise
    return branch((reading == GOT and is_among(&host, step)) == (step.op == JUMP_ADDRESS_IN), step, at)


cdef inline size_t same_address_step(const Instruction* step, const Scene* scene, size_t at) noexcept nogil:
    cdef Host x, y
    cdef int first = load_address(scene, step.b, step.c, &x)
    cdef int second = load_address(scene, step.d, step.a, &y)
    cdef bint same
    if first == REFUSED or second == REFUSED:
        return step.otherwise
    if first == GOT and second == GOT:
        same = x.number.hi == y.number.hi and x.number.lo == y.number.lo and x.version == y.version
    else:
        same = first == second                 # None == None
    return branch(same == (step.op == JUMP_ADDRESS_SAME), step, at)


cdef inline size_t test_step(const Instruction* step, Run* run, size_t at) noexcept nogil:
    cdef int64_t value = run.r[step.a].number
    if step.op == JUMP_IN:
        return branch(is_within(value, step), step, at)
    elif step.op == JUMP_OUT:
        return branch(not is_within(value, step), step, at)
    elif step.op == JUMP_EQ:
        return branch(value == run.r[step.b].number, step, at)
    elif step.op == JUMP_NE:
        return branch(value != run.r[step.b].number, step, at)
    elif step.op == JUMP_LT:
        return branch(value < run.r[step.b].number, step, at)
    else:
        return branch(value >= run.r[step.b].number, step, at)


cdef inline bint divide(int64_t x, int64_t y, int64_t* quotient, int64_t* rest) noexcept nogil:
    """Divide as Python does, rounding down; false where it raises or the quotient is too large."""
    if y == 0:
        return False
    if y == -1:                                # the most negative number has no opposite
        rest[0] = 0
        return not __builtin_sub_overflow(0, x, quotient)
    quotient[0] = x // y
    rest[0] = x % y
    if rest[0] and (rest[0] < 0) != (y < 0):
        quotient[0] -= 1
        rest[0] += y
    return True


cdef inline bint shift_left(int64_t x, int64_t y, int64_t* out) noexcept nogil:
    if y < 0 or (y > 62 and x):
        return False
    out[0] = <int64_t> (<uint64_t> x << y) if x else 0
    return not x or out[0] >> y == x


cdef inline bint shift_right(int64_t x, int64_t y, int64_t* out) noexcept nogil:
    if y < 0:
        return False
    out[0] = x >> min(y, 63)
    return True


cdef inline bint compute(uint8_t op, int64_t x, int64_t y, int64_t* out) noexcept nogil:
    cdef int64_t other
    if op == ADD:
        return not __builtin_add_overflow(x, y, out)
    elif op == SUBTRACT:
        return not __builtin_sub_overflow(x, y, out)
    elif op == MULTIPLY:
        return not __builtin_mul_overflow(x, y, out)
    elif op == DIVIDE:
        return divide(x, y, out, &other)
    elif op == MODULO:
        return divide(x, y, &other, out) or y == -1
    elif op == AND:
        out[0] = x & y
    elif op == OR:
        out[0] = x | y
    elif op == XOR:
        out[0] = x ^ y
    elif op == SHIFT_LEFT:
        return shift_left(x, y, out)
    else:
        return shift_right(x, y, out)
    return True


cdef inline int64_t operand(const Instruction* step, const Run* run) noexcept nogil:
    return step.low.number if step.c == IMMEDIATE else run.r[step.c].number


cdef inline size_t number_step(const Instruction* step, Run* run, size_t at) noexcept nogil:
    if step.op == CONSTANT:
        run.r[step.a].number = step.low.number
        return at
    if compute(step.op, run.r[step.b].number, operand(step, run), &run.r[step.a].number):
        return at
    return step.otherwise


cdef inline size_t bound(int64_t at, size_t n) noexcept nogil:
    """Where a bound of a slice lies: from the end if negative, and never beyond the bytes."""
    if at < 0:
        at += <int64_t> n
    return 0 if at < 0 else min(<size_t> at, n)


cdef inline Span sliced(const Span* whole, int64_t start, int64_t stop) noexcept nogil:
    cdef Span part
    cdef size_t first = bound(start, whole.n)
    cdef size_t last = bound(stop, whole.n)
    part.p = whole.p + first
    part.n = last - first if last > first else 0
    return part


cdef inline bint byte_at(const Span* bytes, int64_t at, int64_t* out) noexcept nogil:
    if at < 0:
        at += <int64_t> bytes.n
    if at < 0 or <size_t> at >= bytes.n:
        return False
    out[0] = bytes.p[at]
    return True


cdef inline bint as_integer(const Span* bytes, bint little, int64_t* out) noexcept nogil:
    """The number that bytes stand for, unsigned; false when it takes more than 63 bits."""
    cdef uint64_t value = 0
    cdef size_t i
    for i in range(bytes.n):
        if value >> 55:
            return False
        value = value << 8 | bytes.p[bytes.n - 1 - i if little else i]
    out[0] = <int64_t> value
    return True


cdef inline int64_t found(const Span* bytes, const Span* part) noexcept nogil:
    """Where a part begins, -1 if it is not there; in linear time."""
    cdef const void* place
    if part.n > bytes.n:
        return -1
    if part.n == 0:
        return 0
    place = memmem(bytes.p, bytes.n, part.p, part.n)
    return -1 if place == NULL else <const uint8_t*> place - bytes.p


cdef inline bint equal(const uint8_t* x, const uint8_t* y, size_t n) noexcept nogil:
    return n == 0 or memcmp(x, y, n) == 0


cdef inline bint related(uint8_t relation, const Span* bytes, const Span* literal) noexcept nogil:
    if relation == IS:
        return bytes.n == literal.n and equal(bytes.p, literal.p, literal.n)
    elif relation == STARTS:
        return bytes.n >= literal.n and equal(bytes.p, literal.p, literal.n)
    elif relation == ENDS:
        return bytes.n >= literal.n and equal(bytes.p + (bytes.n - literal.n), literal.p, literal.n)
    elif relation == HOLDS:
        return found(bytes, literal) >= 0
    else:
        return found(literal, bytes) >= 0


cdef inline size_t bytes_step(const Instruction* step, const Scene* scene, Run* run, size_t at) noexcept nogil:
    cdef Register* a = &run.r[step.a]
    cdef const Register* b = &run.r[step.b]
    cdef int reading
    if step.op == JUMP_BYTES:
        return branch(related(step.c, &a.bytes, &step.low.literal) == (step.b == 0), step, at)
    elif step.op == JUMP_SAME:
        return branch((a.bytes.n == b.bytes.n and equal(a.bytes.p, b.bytes.p, a.bytes.n)) == (step.c == 0), step, at)
    elif step.op == BYTES:
        reading = load_bytes(scene, step.b, &a.bytes)
        return step.otherwise if reading == REFUSED else branch(reading == NONE, step, at)
    elif step.op == LITERAL:
        a.bytes = step.low.literal
    elif step.op == SLICE:
        a.bytes = sliced(&b.bytes, step.low.number, step.high.number)
    elif step.op == SLICE_BY:
        a.bytes = sliced(&b.bytes, run.r[step.c].number, run.r[step.d].number)
    elif step.op == INDEX:
        return at if byte_at(&b.bytes, operand(step, run), &a.number) else step.otherwise
    elif step.op == LENGTH:
        a.number = <int64_t> b.bytes.n
    elif step.op == FIND:
        a.number = found(&b.bytes, &step.low.literal)
    else:
        return at if as_integer(&b.bytes, step.c == 1, &a.number) else step.otherwise
    return at


cdef bint peek(const Streams* streams, const Track* track, uint64_t offset, uint64_t n, Run* run,
               Span* out) noexcept nogil:
    """Bytes at hand of a stream, copied if they do not lie together; false where the scratch has no room for that."""
    cdef uint64_t available = 0
    out.p = track_view(streams, track, offset, n, &available)
    out.n = available
    if out.p != NULL or available == 0:
        return True
    if available > SCRATCH - run.copied:
        return False
    out.p = &run.scratch[run.copied]
    out.n = track_read(streams, track, offset, available, &run.scratch[run.copied])
    run.copied += out.n
    return True


cdef size_t peek_step(const Instruction* step, const Scene* scene, Run* run, size_t at) noexcept nogil:
    cdef int64_t offset = run.r[step.b].number
    cdef int64_t n = run.r[step.d].number
    cdef const HalfRecord* half
    cdef const Track* track
    if scene.flow == NULL or offset < 0 or n < 0:
        return step.otherwise
    half = &scene.flow.halves[side_of_scene(scene, step.c)]
    run.r[step.a].bytes = Span(p=&run.scratch[0], n=0)
    if scene.streams == NULL or half.track == 0:
        return at
    track = track_at(scene.streams, half.track)
    if not peek(scene.streams, track, <uint64_t> offset, <uint64_t> n, run, &run.r[step.a].bytes):
        return step.otherwise
    return at


cdef uint64_t execute(const Instruction* code, const Scene* scene, uint64_t wanted, uint64_t* unsure) noexcept nogil:
    cdef Run run
    cdef uint64_t fired = 0
    cdef const Instruction* step
    cdef size_t at = 0
    run.kept = 0
    run.copied = 0
    unsure[0] = 0
    while True:
        step = &code[at]
        at += 1
        if LOAD <= step.op <= JUMP_SOME:
            at = field_step(step, scene, &run, at)
        elif JUMP_IN <= step.op <= JUMP_GE:
            at = test_step(step, &run, at)
        elif step.op == JUMP_FLAGS or step.op == JUMP_FLAGS_NOT:
            at = flags_step(step, scene, at)
        elif step.op == JUMP_ADDRESS_IN or step.op == JUMP_ADDRESS_OUT:
            at = address_step(step, scene, at)
        elif step.op == JUMP_ADDRESS_SAME or step.op == JUMP_ADDRESS_DIFFERS:
            at = same_address_step(step, scene, at)
        elif step.op == PEEK:
            at = peek_step(step, scene, &run, at)
        elif step.op >= BYTES:
            at = bytes_step(step, scene, &run, at)
        elif step.op >= CONSTANT:
            at = number_step(step, &run, at)
        elif step.op == JUMP_UNWANTED:
            at = branch(not wanted & <uint64_t> step.low.number, step, at)
        elif step.op == RECALL:
            at = branch(run.kept >> step.a & 1, step, at)
        elif step.op == KEEP:
            run.kept |= <uint64_t> 1 << step.a
        elif step.op == RETURN:
            return fired | <uint64_t> step.low.number
        else:
            at = step.target
            if step.op == FIRE:
                fired |= <uint64_t> 1 << step.a
            elif step.op != JUMP:
                unsure[0] |= <uint64_t> 1 << step.a


cdef bint run_filter(const Instruction* code, size_t n, const Scene* scene) noexcept nogil:
    cdef uint64_t unsure
    return execute(code, scene, 1, &unsure) != 0


cdef uint64_t run_predicates(const Instruction* code, size_t n, const Scene* scene, uint64_t wanted,
                             uint64_t* unsure) noexcept nogil:
    return execute(code, scene, wanted, unsure)


# --- shell ----------------------------------------------------------------------------------------

cdef Address wide(object value) except *:
    cdef Address out
    if not 0 <= value < 1 << 128:
        raise ValueError(f"{value} does not fit in 128 bits, unsigned")
    out.hi = value >> 64
    out.lo = value & 0xFFFF_FFFF_FFFF_FFFF
    return out


cdef int assemble(object step, Instruction* out, list literals) except -1:
    """Fill in an instruction; the bytes it points into are kept by *literals*."""
    out.op, out.a, out.b, out.c, out.d = step.op, step.a, step.b, step.c, step.d
    out.target, out.otherwise = step.target, step.otherwise
    assemble_constant(step, step.low, &out.low, literals)
    assemble_constant(step, step.high, &out.high, literals)
    return 0


cdef int assemble_constant(object step, object value, Operand* out, list literals) except -1:
    if isinstance(value, bytes):
        literals.append(value)
        out.literal = Span(p=<const uint8_t*> <const char*> value, n=<size_t> len(value))
    elif step.op == JUMP_ADDRESS_IN or step.op == JUMP_ADDRESS_OUT:
        out.address = wide(value)
    elif step.op == JUMP_UNWANTED or step.op == RETURN:
        out.number = <int64_t> <uint64_t> value
    else:
        out.number = value
    return 0


cdef object disassemble(const Instruction* step):
    form = FORMS[step.op]
    return Step(step.op, step.a, step.b, step.c, step.d, step.target, step.otherwise,
                disassemble_constant(form.low, &step.low), disassemble_constant(form.high, &step.high))


cdef object disassemble_constant(object kind, const Operand* constant):
    if kind is Constant.LITERAL:
        return (<const char*> constant.literal.p)[:constant.literal.n]
    if kind is Constant.ADDRESS:
        return <object> constant.address.hi << 64 | constant.address.lo
    return <uint64_t> constant.number if kind is Constant.BITS else constant.number


@cython.final
cdef class Program:
    """A verified program for the machine; it never changes.

    Args:
        steps: One to 131072 `Step`.

    Raises:
        ValueError: An instruction is unknown, jumps backwards or too far, names a register or field that does
            not exist, or reads a register that may not have been written; or the last one does not return.
    """

    def __cinit__(self, steps):
        cdef size_t at
        rows = [Step(*step) for step in steps]
        verify(rows)
        self.literals = []
        self.code = <Instruction*> calloc(len(rows), sizeof(Instruction))
        if self.code == NULL:
            raise MemoryError
        self.n = len(rows)
        for at in range(self.n):
            assemble(rows[at], &self.code[at], self.literals)

    def __dealloc__(self):
        free(self.code)

    def __len__(self):
        return self.n

    def __str__(self):
        return listing(self.steps())

    def steps(self):
        """Give the instructions that it was made of."""
        return [disassemble(&self.code[at]) for at in range(self.n)]

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
        cdef FlowKey key
        cdef Scene scene
        memset(&scene, 0, sizeof(Scene))
        key.low = wide(client)
        key.high = wide(server)
        key.low_port = client_port
        key.high_port = server_port
        key.vlan = NO_VLAN if vlan is None else vlan
        key.ip_version = ip_version
        key.proto = proto
        scene.key = &key
        scene.client_is_low = True
        return bool(run_filter(self.code, self.n, &scene))


@cython.final
cdef class Predicates:
    """The predicates of one event, compiled together; made by `aiomos.ude.codegen.combine`.

    Args:
        program: It fires, or is unsure of, a bit for each.
        guard: For each of 1024 cases, those that may fire: flags of TCP, plus 512 if there is a payload.
        native: Those that have a program of their own, so that Python has to decide only when it is unsure.
        asks_flow: Whether the guard takes for granted that there is a flow.
    """

    def __cinit__(self, Program program not None, guard, native, asks_flow):
        cdef int at
        if len(guard) != GUARDS:
            raise ValueError(f"a guard has {GUARDS} entries, not {len(guard)}")
        self.program = program
        self.c.code = program.code
        self.c.n = program.n
        self.c.native = native
        self.c.asks_flow = asks_flow
        for at in range(GUARDS):
            self.c.guard[at] = guard[at]

    def __str__(self):
        return str(self.program)

    @property
    def native(self):
        """Those that have a program, as bits."""
        return self.c.native

    @property
    def guard(self):
        """Those that may fire, as bits, by flags and payload."""
        return [self.c.guard[at] for at in range(GUARDS)]
