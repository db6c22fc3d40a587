"""What a connection filter means: a tree of conditions, its text, and the program it compiles to.

``str`` of an expression is a filter that `aiomos.ude.filters` reads back as the same expression.
"""

import enum
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

import attrs

from aiomos.ude.assembler import Assembler, Label
from aiomos.ude.instructions import AddressField, Field, Op
from aiomos.ude.machine import Program

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
    "is_about_vlans",
    "jump_unless",
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


def is_about_vlans(expression: Expression) -> bool:
    """Tell whether an expression asks for nothing but VLAN ids."""
    match expression:
        case Everything() | Vlan():
            return True
        case Not(operand):
            return is_about_vlans(operand)
        case And(operands) | Or(operands):
            return all(map(is_about_vlans, operands))
    return False


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
_ADDRESSES = (AddressField.CLIENT_ADDRESS, AddressField.SERVER_ADDRESS)
_PORTS = (Field.CLIENT_PORT, Field.SERVER_PORT)


@attrs.frozen
class _Test:
    """A field is from *low* to *high*, an address also of *version*, or is *outside*: the only leaf for the machine."""

    field: Field | AddressField
    low: int
    high: int
    outside: bool
    version: int = 0


@attrs.frozen
class _Junction:
    """*Any* or else all of the *parts*."""

    any: bool
    parts: tuple["_Test | _Junction", ...]


def _lower(expression: Expression, negated: bool) -> _Test | _Junction:
    """Rewrite in terms of `_Test`, moving each `not` down to the leaves (De Morgan)."""
    match expression:
        case Everything():
            return _Junction(negated, ())
        case Protocol(number):
            return _Test(Field.PROTOCOL, number, number, negated)
        case IpVersion(version):
            return _Test(Field.IP_VERSION, version, version, negated)
        case Vlan(vid):
            low, high = (0, MAX_VLAN) if vid is None else (vid, vid)
            return _Test(Field.VLAN_ID, low, high, negated)
        case Port(side, low, high):
            return _ends(side, negated, [_Test(field, low, high, negated) for field in _PORTS])
        case Host(side, first, last):
            # The version is looked at, too: an IPv6 packet can carry ::ffff:a.b.c.d in its header.
            low, high = address_number(first), address_number(last)
            tests = [_Test(field, low, high, negated, first.version) for field in _ADDRESSES]
            return _ends(side, negated, tests)
        case Not(operand):
            return _lower(operand, not negated)
        case And(operands) | Or(operands):
            parts = tuple(_lower(operand, negated) for operand in operands)
            return _Junction(isinstance(expression, Or) != negated, parts)
    assert_never(expression)


def _ends(side: Side, negated: bool, tests: Sequence[_Test]) -> _Test | _Junction:
    client, server = tests
    if side is Side.CLIENT:
        return client
    if side is Side.SERVER:
        return server
    return _Junction((side is Side.EITHER) != negated, (client, server))


def _jump_if(code: Assembler, part: _Test | _Junction, outcome: bool, target: Label) -> None:
    """Emit what jumps to *target* if *part* comes to *outcome*, and else falls through."""
    if isinstance(part, _Test):
        _emit_test(code, part, outcome, target)
    elif part.any is outcome:
        for inner in part.parts:
            _jump_if(code, inner, outcome, target)
    elif not part.parts:
        code.emit(Op.JUMP, target=target)
    else:
        past = Label()
        *others, last = part.parts
        for inner in others:
            _jump_if(code, inner, not outcome, past)
        _jump_if(code, last, outcome, target)
        code.bind(past)


def _emit_test(code: Assembler, test: _Test, outcome: bool, target: Label) -> None:
    inside = outcome is not test.outside
    # The two ends are always known, so that `otherwise` is never taken.
    if isinstance(test.field, AddressField):
        op = Op.JUMP_ADDRESS_IN if inside else Op.JUMP_ADDRESS_OUT
        code.emit(
            op, 0, test.field, d=test.version, low=test.low, high=test.high, target=target, otherwise=target
        )
    else:
        op = Op.JUMP_FIELD_IN if inside else Op.JUMP_FIELD_OUT
        code.emit(op, 0, test.field, low=test.low, high=test.high, target=target, otherwise=target)


def jump_unless(code: Assembler, expression: Expression, target: Label) -> None:
    """Emit what jumps to *target* where *expression* does not pick the flow, and else falls through."""
    _jump_if(code, _lower(expression, False), False, target)


def compile_expression(expression: Expression) -> Program:
    """Compile *expression* for the machine.

    Args:
        expression: As `parse` gives it.

    Returns:
        A program whose running time is bounded by the number of conditions, most often by the first few.
    """
    code = Assembler()
    refuse = Label()
    jump_unless(code, expression, refuse)
    code.emit(Op.RETURN, low=1)
    code.bind(refuse)
    code.emit(Op.RETURN)
    return code.program()
