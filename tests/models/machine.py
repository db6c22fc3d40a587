"""What a machine program answers, in plain Python: numbers without bounds, and bytes that are copied."""

import operator
from collections.abc import Callable, Mapping, Sequence

import attrs

from aiomos.ude.instructions import Limit, Op, Relation
from aiomos.ude.verifier import Step

ARITHMETIC: dict[int, Callable[[int, int], int]] = {
    Op.ADD: operator.add,
    Op.SUBTRACT: operator.sub,
    Op.MULTIPLY: operator.mul,
    Op.DIVIDE: operator.floordiv,
    Op.MODULO: operator.mod,
    Op.AND: operator.and_,
    Op.OR: operator.or_,
    Op.XOR: operator.xor,
    Op.SHIFT_LEFT: operator.lshift,
    Op.SHIFT_RIGHT: operator.rshift,
}
TESTS: dict[int, Callable[[int, int], bool]] = {
    Op.JUMP_EQ: operator.eq,
    Op.JUMP_NE: operator.ne,
    Op.JUMP_LT: operator.lt,
    Op.JUMP_GE: operator.ge,
}
RELATIONS: dict[int, Callable[[bytes, bytes], bool]] = {
    Relation.IS: operator.eq,
    Relation.STARTS: bytes.startswith,
    Relation.ENDS: bytes.endswith,
    Relation.HOLDS: operator.contains,
    Relation.WITHIN: lambda x, y: x in y,
}


@attrs.define
class Machine:
    """A run of a valid program.

    Attributes:
        numbers: Values of number fields, by field; None where there is none.
        payload: Of the packet.
        wanted: Bits.
    """

    numbers: Mapping[int, int | None]
    payload: bytes
    wanted: int
    registers: dict[int, int | bytes] = attrs.field(factory=dict)
    kept: set[int] = attrs.field(factory=set)
    fired: int = 0
    unsure: int = 0

    def run(self, steps: Sequence[Step]) -> tuple[int, int]:
        """Give those that fire, and those that are unsure."""
        at = 0
        while steps[at].op != Op.RETURN:
            step = steps[at]
            try:
                taken = self._step(step)
            except (ArithmeticError, IndexError, ValueError, TypeError):
                at = step.otherwise
            else:
                at = step.target if taken else at + 1
        return self.fired | int(steps[at].low), self.unsure

    def _number(self, register: int) -> int:
        value = self.registers[register]
        assert isinstance(value, int)
        return value

    def _bytes(self, register: int) -> bytes:
        value = self.registers[register]
        assert isinstance(value, bytes)
        return value

    def _operand(self, step: Step) -> int:
        return int(step.low) if step.c == Limit.IMMEDIATE else self._number(step.c)

    def _step(self, step: Step) -> bool:
        """Do one step; tell whether it jumps."""
        a, b, op = step.a, step.b, step.op
        match op:
            case Op.FIRE:
                self.fired |= 1 << a
                return True
            case Op.UNSURE:
                self.unsure |= 1 << a
                return True
            case Op.JUMP:
                return True
            case Op.JUMP_UNWANTED:
                return not self.wanted & int(step.low)
            case Op.RECALL:
                return a in self.kept
            case Op.KEEP:
                self.kept.add(a)
            case Op.CONSTANT | Op.LITERAL:
                self.registers[a] = step.low
            case Op.LOAD:
                value = self.numbers[b]
                if value is None:
                    return True
                self.registers[a] = value
            case Op.BYTES:
                self.registers[a] = self.payload
            case Op.JUMP_NONE | Op.JUMP_SOME:
                return (self.numbers[b] is None) == (op == Op.JUMP_NONE)
            case Op.JUMP_FIELD_IN | Op.JUMP_FIELD_OUT:
                return self._in_range(self.numbers[b], step, bool(a)) == (op == Op.JUMP_FIELD_IN)
            case Op.JUMP_IN | Op.JUMP_OUT:
                return self._in_range(self._number(a), step, False) == (op == Op.JUMP_IN)
            case _:
                return self._compute(step)
        return False

    def _in_range(self, value: int | None, step: Step, strict: bool) -> bool:
        if value is None and strict:
            raise TypeError
        return value is not None and int(step.low) <= value <= int(step.high)

    def _compute(self, step: Step) -> bool:
        op, a = step.op, step.a
        if op in TESTS:
            return TESTS[op](self._number(a), self._number(step.b))
        if op == Op.JUMP_BYTES:
            assert isinstance(step.low, bytes)
            return RELATIONS[step.c](self._bytes(a), step.low) == (step.b == 0)
        if op == Op.JUMP_SAME:
            return (self._bytes(a) == self._bytes(step.b)) == (step.c == 0)
        value = self._arithmetic(step) if op in ARITHMETIC else self._of_bytes(step)
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise OverflowError
        self.registers[a] = value
        return False

    def _arithmetic(self, step: Step) -> int:
        x, y = self._number(step.b), self._operand(step)
        if step.op == Op.SHIFT_LEFT and y > 64:
            if x:
                raise OverflowError
            return 0
        return ARITHMETIC[step.op](x, y)

    def _of_bytes(self, step: Step) -> int | bytes:
        whole = self._bytes(step.b)
        match step.op:
            case Op.SLICE:
                return whole[int(step.low) : int(step.high)]
            case Op.SLICE_BY:
                return whole[self._number(step.c) : self._number(step.d)]
            case Op.INDEX:
                return whole[self._operand(step)]
            case Op.LENGTH:
                return len(whole)
            case Op.FIND:
                assert isinstance(step.low, bytes)
                return whole.find(step.low)
            case Op.INTEGER:
                return int.from_bytes(whole, "little" if step.c else "big")
        raise AssertionError(step)
