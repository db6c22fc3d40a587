"""Instructions as Python writes them, and the verifier that lets the machine run them without checks."""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

import attrs

from aiomos.ude.instructions import Limit, Op

__all__ = ["FORMS", "Form", "Role", "Step", "verify"]


class Step(NamedTuple):
    """One instruction; what an op has no use for is 0. What its parts mean stands in instructions.pxd."""

    op: int
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    target: int = 0
    otherwise: int = 0
    low: int | bytes = 0
    high: int | bytes = 0


class Role(Enum):
    """What one of the small parts of an instruction names."""

    NOTHING = "nothing"
    BIT = "event"
    NUMBER = "register with a number"
    BYTES = "register with bytes"
    ANY = "register"
    OPERAND = "register with a number, or none"
    SET_NUMBER = "register for a number"
    SET_BYTES = "register for bytes"
    RECALLED = "register to recall"
    FIELD = "field"
    ADDRESS = "address field"
    FIELD_OF_BYTES = "bytes field"
    WHICH = "half"
    WHICH_OR_BIT = "half or flag"
    RELATION = "relation"
    VERSION = "IP version"
    SWITCH = "switch"


class Constant(Enum):
    """What `low` and `high` hold, and what fits."""

    NOTHING = (0, 0)
    NUMBER = (-(1 << 63), (1 << 63) - 1)
    BITS = (0, (1 << 64) - 1)
    ADDRESS = (0, (1 << 128) - 1)
    LITERAL = ()

    def holds(self, value: int | bytes) -> bool:
        """Tell whether *value* is such a constant."""
        if isinstance(value, bytes):
            return self is Constant.LITERAL
        return self is not Constant.LITERAL and self.value[0] <= value <= self.value[1]


_WITHIN: dict[Role, range | tuple[int, ...]] = {
    Role.NOTHING: range(1),
    Role.BIT: range(64),
    Role.FIELD: range(Limit.FIELDS),
    Role.ADDRESS: range(Limit.ADDRESS_FIELDS),
    Role.FIELD_OF_BYTES: range(Limit.BYTES_FIELDS),
    Role.WHICH: range(Limit.HALVES),
    Role.WHICH_OR_BIT: range(9),
    Role.RELATION: range(Limit.RELATIONS),
    Role.VERSION: (0, 4, 6),
    Role.SWITCH: range(2),
    Role.OPERAND: (*range(Limit.REGISTERS), Limit.IMMEDIATE),
}
_REGISTER = range(Limit.REGISTERS)


@attrs.frozen
class Form:
    """How the instructions of an op look.

    Attributes:
        a: Role of that part; so are b, c and d.
        low: What the constant holds; so does high.
        jumps: Whether it may lead to `target`.
        fails: Whether it may lead to `otherwise`.
        goes_on: Whether it may lead to the next instruction.
    """

    a: Role = Role.NOTHING
    b: Role = Role.NOTHING
    c: Role = Role.NOTHING
    d: Role = Role.NOTHING
    low: Constant = Constant.NOTHING
    high: Constant = Constant.NOTHING
    jumps: bool = False
    fails: bool = False
    goes_on: bool = True

    def roles(self, step: Step) -> Iterator[tuple[Role, int]]:
        """Pair the parts of *step* with their roles."""
        yield from zip((self.a, self.b, self.c, self.d), step[1:5], strict=True)


_R = Role
_FIELD_TEST = Form(
    _R.SWITCH,
    _R.FIELD,
    _R.WHICH_OR_BIT,
    low=Constant.NUMBER,
    high=Constant.NUMBER,
    jumps=True,
    fails=True,
)
_PRESENCE = Form(b=_R.FIELD, c=_R.WHICH_OR_BIT, jumps=True, fails=True)
_FLAGS = Form(_R.SWITCH, low=Constant.NUMBER, high=Constant.NUMBER, jumps=True, fails=True)
_ADDRESS_RANGE = Form(
    b=_R.ADDRESS,
    c=_R.WHICH,
    d=_R.VERSION,
    low=Constant.ADDRESS,
    high=Constant.ADDRESS,
    jumps=True,
    fails=True,
)
_ADDRESS_PAIR = Form(_R.WHICH, _R.ADDRESS, _R.WHICH, _R.ADDRESS, jumps=True, fails=True)
_RANGE = Form(_R.NUMBER, low=Constant.NUMBER, high=Constant.NUMBER, jumps=True)
_PAIR = Form(_R.NUMBER, _R.NUMBER, jumps=True)
_ARITHMETIC = Form(_R.SET_NUMBER, _R.NUMBER, _R.OPERAND, low=Constant.NUMBER, fails=True)
_MARK = Form(_R.BIT, jumps=True, goes_on=False)

FORMS: dict[int, Form] = {
    Op.RETURN: Form(low=Constant.BITS, goes_on=False),
    Op.FIRE: _MARK,
    Op.UNSURE: _MARK,
    Op.JUMP: Form(jumps=True, goes_on=False),
    Op.JUMP_UNWANTED: Form(low=Constant.BITS, jumps=True),
    Op.RECALL: Form(_R.RECALLED, jumps=True),
    Op.KEEP: Form(_R.ANY),
    Op.LOAD: Form(_R.SET_NUMBER, _R.FIELD, _R.WHICH_OR_BIT, jumps=True, fails=True),
    Op.JUMP_FIELD_IN: _FIELD_TEST,
    Op.JUMP_FIELD_OUT: _FIELD_TEST,
    Op.JUMP_NONE: _PRESENCE,
    Op.JUMP_SOME: _PRESENCE,
    Op.JUMP_FLAGS: _FLAGS,
    Op.JUMP_FLAGS_NOT: _FLAGS,
    Op.JUMP_ADDRESS_IN: _ADDRESS_RANGE,
    Op.JUMP_ADDRESS_OUT: _ADDRESS_RANGE,
    Op.JUMP_ADDRESS_SAME: _ADDRESS_PAIR,
    Op.JUMP_ADDRESS_DIFFERS: _ADDRESS_PAIR,
    Op.JUMP_IN: _RANGE,
    Op.JUMP_OUT: _RANGE,
    Op.JUMP_EQ: _PAIR,
    Op.JUMP_NE: _PAIR,
    Op.JUMP_LT: _PAIR,
    Op.JUMP_GE: _PAIR,
    Op.CONSTANT: Form(_R.SET_NUMBER, low=Constant.NUMBER),
    **{op: _ARITHMETIC for op in Op if Op.ADD <= op <= Op.SHIFT_RIGHT},
    Op.BYTES: Form(_R.SET_BYTES, _R.FIELD_OF_BYTES, jumps=True, fails=True),
    Op.LITERAL: Form(_R.SET_BYTES, low=Constant.LITERAL),
    Op.SLICE: Form(_R.SET_BYTES, _R.BYTES, low=Constant.NUMBER, high=Constant.NUMBER),
    Op.SLICE_BY: Form(_R.SET_BYTES, _R.BYTES, _R.NUMBER, _R.NUMBER),
    Op.INDEX: Form(_R.SET_NUMBER, _R.BYTES, _R.OPERAND, low=Constant.NUMBER, fails=True),
    Op.LENGTH: Form(_R.SET_NUMBER, _R.BYTES),
    Op.FIND: Form(_R.SET_NUMBER, _R.BYTES, low=Constant.LITERAL),
    Op.INTEGER: Form(_R.SET_NUMBER, _R.BYTES, _R.SWITCH, fails=True),
    Op.JUMP_BYTES: Form(_R.BYTES, _R.SWITCH, _R.RELATION, low=Constant.LITERAL, jumps=True),
    Op.JUMP_SAME: Form(_R.BYTES, _R.BYTES, _R.SWITCH, jumps=True),
    Op.PEEK: Form(_R.SET_BYTES, _R.NUMBER, _R.WHICH, _R.NUMBER, fails=True),
}


@attrs.frozen
class _Written:
    """The registers that hold a number, and those that hold bytes, as bits."""

    numbers: int = 0
    bytes: int = 0

    def __and__(self, other: "_Written") -> "_Written":
        return _Written(self.numbers & other.numbers, self.bytes & other.bytes)

    def after(self, role: Role, register: int) -> "_Written":
        """Tell what they hold once *register* is written."""
        bit = 1 << register
        if role is Role.SET_NUMBER:
            return _Written(self.numbers | bit, self.bytes & ~bit)
        if role is Role.SET_BYTES:
            return _Written(self.numbers & ~bit, self.bytes | bit)
        return self

    def allows(self, role: Role, register: int) -> bool:
        """Tell whether an instruction may read *register* in this role."""
        bit = 1 << register
        if role is Role.OPERAND:
            return register == Limit.IMMEDIATE or bool(self.numbers & bit)
        readable = {Role.NUMBER: self.numbers, Role.BYTES: self.bytes, Role.ANY: self.numbers | self.bytes}
        return role not in readable or bool(readable[role] & bit)


_EVERYTHING = _Written(-1, -1)  # of an instruction that no way leads to


def verify(steps: Sequence[Step]) -> None:
    """Check a program.

    Raises:
        ValueError: It is not one that the machine can run without checks; the message names the instruction.
    """
    if not 1 <= len(steps) <= Limit.MAX_INSTRUCTIONS:
        raise ValueError(f"a program has 1 to {Limit.MAX_INSTRUCTIONS} instructions, not {len(steps)}")
    for at, step in enumerate(steps):
        _verify_parts(at, step, len(steps))
    kinds = _kinds_written(steps)
    # What holds on every way to instruction i. As jumps lead forward only, all ways to an instruction are known
    # when the walk comes to it.
    ways = [_Written()] + [_EVERYTHING] * (len(steps) - 1)
    for at, step in enumerate(steps):
        _follow(at, step, ways, kinds)


def _verify_parts(at: int, step: Step, count: int) -> None:
    form = FORMS.get(step.op)
    if form is None:
        raise ValueError(f"instruction {at}: there is no op {step.op}")
    for role, value in form.roles(step):
        if value not in _WITHIN.get(role, _REGISTER):
            raise ValueError(f"instruction {at}: there is no {role.value} {value}")
    for constant, held in ((form.low, step.low), (form.high, step.high)):
        if not constant.holds(held):
            raise ValueError(f"instruction {at}: {held!r} is no {constant.name.lower()} that fits")
    if not (0 <= step.target < count and 0 <= step.otherwise < count):
        raise ValueError(f"instruction {at}: no way leads to {step.target} or {step.otherwise} of {count}")
    exits = ([step.target] if form.jumps else []) + ([step.otherwise] if form.fails else [])
    for target in exits:
        if not at < target < count:
            raise ValueError(f"instruction {at}: jump to {target}, which is not forward to one of {count}")
    if at == count - 1 and step.op != Op.RETURN:
        raise ValueError(f"instruction {at}: the last instruction must return")


def _kinds_written(steps: Sequence[Step]) -> dict[int, set[Role]]:
    """Tell which kinds of value each register is ever given."""
    kinds: dict[int, set[Role]] = {}
    for step in steps:
        for role, register in FORMS[step.op].roles(step):
            if role in (Role.SET_NUMBER, Role.SET_BYTES):
                kinds.setdefault(register, set()).add(role)
    return kinds


def _follow(at: int, step: Step, ways: list[_Written], kinds: dict[int, set[Role]]) -> None:
    """Read the registers of one instruction, and hand on what is written where it leads."""
    form, before = FORMS[step.op], ways[at]
    after = before
    for role, register in form.roles(step):
        if not before.allows(role, register):
            raise ValueError(f"instruction {at}: reads register {register}, which may hold no such value")
        after = after.after(role, register)
    if form.fails:
        ways[step.otherwise] &= before
    if form.jumps:
        ways[step.target] &= _recalled(at, step, before, kinds)
    if form.goes_on:
        ways[at + 1] &= after


def _recalled(at: int, step: Step, before: _Written, kinds: dict[int, set[Role]]) -> _Written:
    """Tell what is written where a jump leads; a recalled register holds the one kind it is ever given."""
    if step.op != Op.RECALL:
        return before
    if len(kinds.get(step.a, ())) != 1:
        raise ValueError(
            f"instruction {at}: register {step.a} cannot be recalled, as its kind is not certain"
        )
    (kind,) = kinds[step.a]
    return before.after(kind, step.a)
