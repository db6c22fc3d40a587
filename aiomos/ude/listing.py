"""From a program to text."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address

from aiomos.ude.instructions import AddressField, BytesField, Field, Limit, Op, Relation
from aiomos.ude.verifier import FORMS, Constant, Role, Step

__all__ = ["listing"]

_HALVES = ("client", "server", "half", "peer")
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ae")
_EXTREMES: dict[int | bytes, str] = {-(1 << 63): "least", (1 << 63) - 1: "most"}
_REGISTERS = {
    Role.NUMBER,
    Role.BYTES,
    Role.ANY,
    Role.SET_NUMBER,
    Role.SET_BYTES,
    Role.RECALLED,
    Role.OPERAND,
}


def listing(steps: Sequence[Step]) -> str:
    """Write a program for people to read, one instruction a line: what it does, then where it may lead."""
    return "\n".join(f"{at:4}  {_line(step)}" for at, step in enumerate(steps))


def _line(step: Step) -> str:
    form = FORMS[step.op]
    words = [*(_word(role, value) for role, value in form.roles(step)), *_fields(step)]
    words += [_constant(kind, value) for kind, value in ((form.low, step.low), (form.high, step.high))]
    exits = f" -> {step.target}" if form.jumps else ""
    exits += f" else {step.otherwise}" if form.fails else ""
    return f"{_name(step):<24}{' '.join(filter(None, words))}{exits}"


def _name(step: Step) -> str:
    name = Op(step.op).name.lower().replace("_", " ")
    if step.op == Op.INTEGER:
        return f"{name} {('big', 'little')[step.c]}"
    negated = (step.op == Op.JUMP_BYTES and step.b) or (step.op == Op.JUMP_SAME and step.c)
    return f"{name} not" if negated else name


def _fields(step: Step) -> Iterator[str]:
    """Name the fields that a step reads, as a predicate would."""
    form = FORMS[step.op]
    if form.b is Role.FIELD:
        name = Field(step.b).name.lower()
        whose = _HALVES[step.c] + "." if step.b >= Field.HALF_NAME else ""
        yield _FLAGS[step.c] if step.b == Field.FLAG else whose + name.removeprefix("half_")
    if form.c is Role.WHICH and form.b is Role.NUMBER:
        yield _HALVES[step.c]
    if form.b is Role.ADDRESS:
        yield _address_field(step.b, step.c)
    if form.d is Role.ADDRESS:
        yield _address_field(step.d, step.a)


def _address_field(field: int, which: int) -> str:
    if field == AddressField.HALF_ADDRESS:
        return f"{_HALVES[which]}.address"
    return str(AddressField(field).name.lower().removesuffix("_address"))


def _word(role: Role, value: int) -> str:
    if role in _REGISTERS:
        return "" if value == Limit.IMMEDIATE else f"r{value}"
    names = {Role.FIELD_OF_BYTES: BytesField, Role.RELATION: Relation}
    if role in names:
        return str(names[role](value).name.lower())
    return f"event {value}" if role is Role.BIT else ""


def _constant(kind: Constant, value: int | bytes) -> str:
    if kind is Constant.NOTHING:
        return ""
    if kind is Constant.ADDRESS:
        address = IPv6Address(value)
        return str(address.ipv4_mapped or address)
    if value in _EXTREMES:
        return _EXTREMES[value]
    return hex(value) if kind is Constant.BITS and isinstance(value, int) else repr(value)
