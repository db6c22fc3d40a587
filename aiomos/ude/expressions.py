"""What a connection filter means: a tree of conditions, its text, and the program it compiles to.

``str`` of an expression is a filter that `aiomos.ude.filters` reads back as the same expression.
"""

import enum
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

import attrs

from aiomos.ude.machine import Assembler, Field, Label, Op, Program

__all__ = [
    "And",
    "Everything",
    "Expression",
    "Host",
    "IpVersion",
    "Not",
    "Or",
    "Port",
    "Protocol",
    "Side",
    "Vlan",
    "address_number",
    "compile_expression",
]

MAX_VLAN = 4095
TCP = 6
UDP = 17
_IPV4_MAPPED = 0xFFFF << 32


# --- the tree -------------------------------------------------------------------------------------
class Side(enum.Enum):
    """Which end of a flow a condition looks at; the value is how a filter writes it."""

    EITHER = ""
    CLIENT = "client "
    SERVER = "server "
    BOTH = "client and server "


@attrs.frozen
class Everything:
    """True of every flow: the empty filter."""

    def __str__(self) -> str:
        return ""


@attrs.frozen
class Protocol:
    """The transport protocol: 6 for TCP, 17 for UDP."""

    number: int

    def __str__(self) -> str:
        return {TCP: "tcp", UDP: "udp"}[self.number]


@attrs.frozen
class IpVersion:
    """The IP version: 4 or 6."""

    version: int

    def __str__(self) -> str:
        return {4: "ip", 6: "ip6"}[self.version]


@attrs.frozen
class Vlan:
    """The outermost VLAN id; None stands for any."""

    vid: int | None

    def __str__(self) -> str:
        return "vlan" if self.vid is None else f"vlan {self.vid}"


@attrs.frozen
class Host:
    """An address from *first* to *last*, inclusive and of one family."""

    side: Side
    first: IPv4Address | IPv6Address
    last: IPv4Address | IPv6Address

    def __str__(self) -> str:
        if self.first == self.last:
            return f"{self.side.value}host {self.first}"
        first, last = address_number(self.first), address_number(self.last)
        size = last - first + 1
        if size.bit_count() == 1 and first % size == 0:
            return f"{self.side.value}net {self.first}/{self.first.max_prefixlen + 1 - size.bit_length()}"
        return f"{self.side.value}host {self.first}-{self.last}"


@attrs.frozen
class Port:
    """A port from *low* to *high*, inclusive."""

    side: Side
    low: int
    high: int

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.side.value}port {self.low}"
        return f"{self.side.value}port {self.low}-{self.high}"


@attrs.frozen
class Not:
    """The opposite of *operand*."""

    operand: "Expression"

    def __str__(self) -> str:
        return f"not {_in_parentheses(self.operand)}"


@attrs.frozen
class And:
    """All of two or more *operands*, none of which is an And."""

    operands: tuple["Expression", ...]

    def __str__(self) -> str:
        return _joined(" and ", self.operands)


@attrs.frozen
class Or:
    """Any of two or more *operands*, none of which is an Or."""

    operands: tuple["Expression", ...]

    def __str__(self) -> str:
        return _joined(" or ", self.operands)


Expression = Everything | Protocol | IpVersion | Vlan | Host | Port | Not | And | Or


def address_number(address: IPv4Address | IPv6Address) -> int:
    """Give the 128-bit number that the engine keeps for *address*; IPv4 as ``::ffff:a.b.c.d``."""
    return int(address) if address.version == 6 else _IPV4_MAPPED | int(address)


def _in_parentheses(operand: Expression) -> str:
    return f"({operand})" if isinstance(operand, And | Or) else str(operand)


def _joined(word: str, operands: tuple[Expression, ...]) -> str:
    # `and` and `or` bind alike and from the left, so only the first operand can do without parentheses.
    return word.join([str(operands[0]), *map(_in_parentheses, operands[1:])])


def join(kind: type[And] | type[Or], operands: Iterable[Expression]) -> Expression:
    """Join two or more *operands*, taking those of the same kind apart."""
    flat: list[Expression] = []
    for operand in operands:
        flat.extend(operand.operands if isinstance(operand, kind) else (operand,))
    return kind(tuple(flat))


# --- compiler -------------------------------------------------------------------------------------
_ADDRESSES = (Field.CLIENT_ADDRESS, Field.SERVER_ADDRESS)
_PORTS = (Field.CLIENT_PORT, Field.SERVER_PORT)


@attrs.frozen
class _Test:
    """A field is from *low* to *high*, or is *outside*: the only leaf left for the machine."""

    field: Field
    low: int
    high: int
    outside: bool


@attrs.frozen
class _Junction:
    """*Any* or else all of the *parts*."""

    any: bool
    parts: tuple["_Test | _Junction", ...]


def _lower(expression: Expression, negated: bool) -> _Test | _Junction:
    """Rewrite in terms of `_Test`, moving each `not` down to the leaves (De Morgan)."""
    match expression:
        case Everything():
            return _Junction(False, ())  # only ever the whole of a filter
        case Protocol(number):
            return _Test(Field.PROTOCOL, number, number, negated)
        case IpVersion(number):
            return _Test(Field.IP_VERSION, number, number, negated)
        case Vlan(vid):
            low, high = (0, MAX_VLAN) if vid is None else (vid, vid)
            return _Test(Field.VLAN_ID, low, high, negated)
        case Port(side, low, high):
            return _ends(side, _PORTS, low, high, negated)
        case Host(side, first, last):
            # The version is looked at last and always: an IPv6 packet can carry ::ffff:a.b.c.d in its header.
            version = _Test(Field.IP_VERSION, first.version, first.version, negated)
            ends = _ends(side, _ADDRESSES, address_number(first), address_number(last), negated)
            return _Junction(negated, (ends, version))
        case Not(operand):
            return _lower(operand, not negated)
        case And(operands) | Or(operands):
            parts = tuple(_lower(operand, negated) for operand in operands)
            return _Junction(isinstance(expression, Or) != negated, parts)
    assert_never(expression)


def _ends(side: Side, fields: tuple[Field, Field], low: int, high: int, negated: bool) -> _Test | _Junction:
    client, server = (_Test(field, low, high, negated) for field in fields)
    if side is Side.CLIENT:
        return client
    if side is Side.SERVER:
        return server
    return _Junction((side is Side.EITHER) != negated, (client, server))


def _fields(part: _Test | _Junction) -> set[Field]:
    if isinstance(part, _Test):
        return {part.field}
    return set().union(*map(_fields, part.parts))


def _jump_if(code: Assembler, part: _Test | _Junction, outcome: bool, target: Label) -> None:
    """Emit what jumps to *target* if *part* comes to *outcome*, and else falls through."""
    if isinstance(part, _Test):
        _emit_test(code, part, outcome, target)
    elif part.any is outcome:
        for inner in part.parts:
            _jump_if(code, inner, outcome, target)
    else:
        past = Label()
        *others, last = part.parts
        for inner in others:
            _jump_if(code, inner, not outcome, past)
        _jump_if(code, last, outcome, target)
        code.bind(past)


def _emit_test(code: Assembler, test: _Test, outcome: bool, target: Label) -> None:
    inside = outcome is not test.outside
    if test.low == test.high:
        code.emit(Op.JUMP_EQ if inside else Op.JUMP_NE, test.field, low=test.low, target=target)
    else:
        op = Op.JUMP_IN if inside else Op.JUMP_OUT
        code.emit(op, test.field, low=test.low, high=test.high, target=target)


def compile_expression(expression: Expression) -> Program:
    """Compile *expression* for the machine.

    Args:
        expression: As `parse` gives it.

    Returns:
        A program whose running time is bounded by the number of conditions, most often by the first few.
    """
    lowered = _lower(expression, False)
    code = Assembler()
    # Each field that is needed is loaded once, up front, into the register of its own number.
    for field in sorted(_fields(lowered)):
        code.emit(Op.LOAD, field, field)
    refuse = Label()
    _jump_if(code, lowered, False, refuse)
    code.emit(Op.RETURN, low=1)
    code.bind(refuse)
    code.emit(Op.RETURN, low=0)
    return code.program()
