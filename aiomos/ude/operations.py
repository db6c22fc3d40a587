"""Python's operations on the values of a predicate: which of them the machine can do, and as which nodes.

Each function takes values as the translator has them: a `Node`, or a `Static`, which is known when the predicate is
defined. What the machine cannot do raises `Unsupported`, whose message says what the predicate does there.
"""

import ast
import ipaddress
import operator
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import ModuleType
from typing import Any

from aiomos.ude import attributes
from aiomos.ude.instructions import Field, Op, Relation
from aiomos.ude.membership import contains, equals, is_few
from aiomos.ude.networks import Network
from aiomos.ude.nodes import (
    And,
    Arithmetic,
    Compare,
    Const,
    Find,
    Index,
    Integer,
    IsNone,
    Kind,
    Length,
    Node,
    Not,
    Order,
    Peek,
    Related,
    Select,
    Slice,
    Thing,
)
from aiomos.ude.values import Static, Unsupported, Value, as_node, describe, of_kind

__all__ = ["attribute", "binary", "both", "call", "compare", "index", "method", "part", "unary"]

_ARITHMETIC: dict[type[ast.operator], tuple[Op, Callable[[Any, Any], Any]]] = {
    ast.Add: (Op.ADD, operator.add),
    ast.Sub: (Op.SUBTRACT, operator.sub),
    ast.Mult: (Op.MULTIPLY, operator.mul),
    ast.FloorDiv: (Op.DIVIDE, operator.floordiv),
    ast.Mod: (Op.MODULO, operator.mod),
    ast.BitAnd: (Op.AND, operator.and_),
    ast.BitOr: (Op.OR, operator.or_),
    ast.BitXor: (Op.XOR, operator.xor),
    ast.LShift: (Op.SHIFT_LEFT, operator.lshift),
    ast.RShift: (Op.SHIFT_RIGHT, operator.rshift),
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_ORDERS: dict[type[ast.cmpop], Order] = {
    ast.Eq: Order.EQ,
    ast.NotEq: Order.NE,
    ast.Lt: Order.LT,
    ast.LtE: Order.LE,
    ast.Gt: Order.GT,
    ast.GtE: Order.GE,
}
_BITS = 64  # of constants: one with more does not fit anyway
_MOST_BYTES = 65536  # of constants that are computed: no packet has more


# --- attributes -----------------------------------------------------------------------------------
def attribute(owner: Value, name: str, text: str) -> Value:
    """Read an attribute; *text* is how the source writes it."""
    if isinstance(owner, Static):
        return _constant_attribute(owner.value, name, text)
    if not isinstance(owner, Thing):
        raise Unsupported(f"reads {text}")
    if owner.which >= 0:
        make = attributes.HALF.get(name)
        found = None if make is None else make(owner.which)
    elif owner.field == Field.HAS_PACKET:
        found = attributes.PACKET.get(name)
    elif name in attributes.HALVES:
        found = Thing(Field.HALF_NAME, attributes.HALVES[name])
    else:
        found = attributes.FLOW.get(name)
    if found is None:
        what = attributes.UNSUPPORTED.get(name)
        raise Unsupported(
            f"reads {text}, {what}" if what else f"reads {text}, which is no field that it knows"
        )
    return found


def _constant_attribute(owner: object, name: str, text: str) -> Value:
    of_enum = isinstance(owner, Enum) and name in ("value", "name")
    if not (of_enum or isinstance(owner, ModuleType | type)):
        raise Unsupported(f"reads {text}: of constants, only those of modules and classes can be read")
    try:
        return Static(getattr(owner, name))
    except AttributeError:
        raise Unsupported(f"reads {text}, which is not defined yet") from None


# --- numbers --------------------------------------------------------------------------------------
def unary(op: type[ast.unaryop], value: Value) -> Value:
    """Negate, invert or leave as it is."""
    if isinstance(value, Static):
        return _folded(_UNARY[op], value)
    number = of_kind(value, Kind.NUMBER)
    if op is ast.USub:
        return Arithmetic(Op.SUBTRACT, Const(0), number)
    return Arithmetic(Op.ADD, number, Const(0)) if op is ast.UAdd else Arithmetic(Op.XOR, number, Const(-1))


def binary(op: type[ast.operator], left: Value, right: Value) -> Value:
    """Compute a number from two."""
    if op not in _ARITHMETIC:
        raise Unsupported("divides with /, which gives a float" if op is ast.Div else "computes a power")
    code, compute = _ARITHMETIC[op]
    if isinstance(left, Static) and isinstance(right, Static):
        if not _is_modest(op, left.value, right.value):
            raise Unsupported("computes a constant that does not fit in 64 bits, or is long, or takes long")
        return _folded(compute, left, right)
    return Arithmetic(code, of_kind(left, Kind.NUMBER), of_kind(right, Kind.NUMBER))


def _is_modest(op: type[ast.operator], left: object, right: object) -> bool:
    """Tell whether a constant is computed without much memory or time."""
    match left, right:
        case int(), int():
            fits = _is_short(left) and _is_short(right)
            return fits and (op is not ast.LShift or right <= _BITS)
        case (bytes() as data, int() as times) | (int() as times, bytes() as data) if op is ast.Mult:
            return len(data) * times <= _MOST_BYTES
        case bytes(), bytes() if op is ast.Add:
            return len(left) + len(right) <= _MOST_BYTES
    return not (isinstance(left, bytes) and op is ast.Mod)  # which formats them, to any width


def _is_short(number: int) -> bool:
    return number.bit_length() <= 2 * _BITS


def _folded(function: Callable[..., object], *values: Static) -> Static:
    """Compute a constant, as Python would each time."""
    if not all(isinstance(value.value, int | bytes) for value in values):
        raise Unsupported(f"computes with {' and '.join(describe(value) for value in values)}")
    try:
        return Static(function(*(value.value for value in values)))
    except Exception as error:
        raise Unsupported(f"computes a constant that raises {error!r}") from None


# --- comparisons ----------------------------------------------------------------------------------
def both(left: Value, right: Value) -> Value:
    """Join the tests of a chained comparison."""
    if isinstance(left, Static):
        return right if left.value else left
    return And(left, as_node(right))


def compare(op: type[ast.cmpop], left: Value, right: Value) -> Value:
    """Compare two values, look one up in the other, or test for None."""
    if op in (ast.Is, ast.IsNot):
        return _negated(_is_none(left, right), op is ast.IsNot)
    if op in (ast.In, ast.NotIn):
        return _negated(contains(right, left), op is ast.NotIn)
    order = _ORDERS[op]
    if isinstance(left, Static) and isinstance(right, Static):
        return _folded(order.function, left, right)
    if order in (Order.EQ, Order.NE):
        return _negated(equals(left, right), order is Order.NE)
    return Compare(order, of_kind(left, Kind.NUMBER), of_kind(right, Kind.NUMBER))


def _negated(value: Value, negate: bool) -> Value:
    if not negate:
        return value
    if isinstance(value, Compare) and value.order is Order.EQ:
        return Compare(Order.NE, value.left, value.right)
    return Static(not value.value) if isinstance(value, Static) else Not(value)


def _is_none(left: Value, right: Value) -> Value:
    if not (isinstance(right, Static) and right.value is None):
        raise Unsupported("compares with 'is', other than with None")
    return Static(left.value is None) if isinstance(left, Static) else IsNone(left)


# --- bytes ----------------------------------------------------------------------------------------
def index(whole: Value, at: Value) -> Value:
    """Take one of some bytes."""
    return Index(of_kind(whole, Kind.BYTES), of_kind(at, Kind.NUMBER))


def part(whole: Value, start: Value | None, stop: Value | None) -> Value:
    """Take a slice of some bytes."""
    bounds = (
        None if bound is None or _is_missing(bound) else of_kind(bound, Kind.NUMBER)
        for bound in (start, stop)
    )
    return Slice(of_kind(whole, Kind.BYTES), *bounds)


def _is_missing(bound: Value) -> bool:
    return isinstance(bound, Static) and bound.value is None


def method(
    owner: Node, name: str, text: str, arguments: Sequence[Value], keywords: Mapping[str, Value]
) -> Value:
    """Call a method of a value that is not constant."""
    if keywords:
        raise Unsupported(f"calls {text}() with {', '.join(keywords)}=")
    if isinstance(owner, Thing) and name == "peek" and owner.which >= 0:
        if len(arguments) != 2:
            raise Unsupported(f"calls {text}() with other than an offset and a length")
        return Peek(owner.which, *(of_kind(argument, Kind.NUMBER) for argument in arguments))
    if not owner.kinds & Kind.BYTES or name not in ("startswith", "endswith", "find"):
        raise Unsupported(f"calls {text}(): {_CALLABLE}")
    literals = _literals(text, arguments)
    whole = of_kind(owner, Kind.BYTES)
    if name == "find":
        if len(literals) != 1 or (isinstance(arguments[0], Static) and isinstance(arguments[0].value, tuple)):
            raise Unsupported(f"calls {text}() with other than constant bytes")
        return Find(whole, literals[0])
    return Related(Relation.STARTS if name == "startswith" else Relation.ENDS, whole, literals)


def _literals(text: str, arguments: Sequence[Value]) -> tuple[bytes, ...]:
    if len(arguments) == 1 and isinstance(arguments[0], Static):
        given = arguments[0].value
        literals = given if isinstance(given, tuple) else (given,)
        if all(type(literal) is bytes for literal in literals):
            return literals
    raise Unsupported(f"calls {text}() with other than constant bytes")


# --- functions ------------------------------------------------------------------------------------
_CALLABLE = (
    "only len(), bool(), int(), abs(), min(), max(), int.from_bytes(), startswith(), endswith(), find() and peek() "
    "run without the interpreter"
)
_ONLY_CONSTANT: tuple[object, ...] = (range, frozenset, ord, Network)


def call(function: object, name: str, arguments: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """Call a function; *name* is how the source writes it."""
    if function == int.from_bytes:
        return _from_bytes(arguments, dict(keywords))
    make = next((make for known, make in _FUNCTIONS if function is known), None)
    constants = [argument.value for argument in arguments if isinstance(argument, Static)]
    if (make is not None or any(function is known for known in _ONLY_CONSTANT)) and len(constants) == len(
        arguments
    ):
        return _called(function, name, constants, keywords)
    if make is None or keywords:
        raise Unsupported(f"calls {name}(): {_CALLABLE}")
    return make([as_node(argument) for argument in arguments])


def _called(function: Any, name: str, constants: Sequence[object], keywords: Mapping[str, Value]) -> Static:
    if keywords:
        raise Unsupported(f"calls {name}() with {', '.join(keywords)}=")
    if not all(map(_is_quick, constants)):
        raise Unsupported(
            f"calls {name}() with constants that are long, or of a kind that it knows nothing of"
        )
    try:
        return Static(function(*constants))
    except Exception as error:
        raise Unsupported(f"calls {name}() with constants for which it raises {error!r}") from None


def _is_quick(constant: object) -> bool:
    """Tell whether a function can be called with a constant at once, whatever it does with it."""
    if isinstance(constant, int):
        return _is_short(constant)
    if isinstance(constant, range):
        return is_few(constant)
    if isinstance(constant, Network | Enum | float | ipaddress.IPv4Address | ipaddress.IPv6Address):
        return True
    if isinstance(constant, ipaddress.IPv4Network | ipaddress.IPv6Network) or constant is None:
        return True
    return isinstance(constant, bytes | str | tuple | list | set | frozenset | dict) and is_few(constant)


def _from_bytes(arguments: Sequence[Value], keywords: dict[str, Value]) -> Value:
    if not arguments:
        raise Unsupported("calls int.from_bytes() without bytes")
    whole, *rest = arguments
    order = rest[0] if rest else keywords.pop("byteorder", Static("big"))
    signed = keywords.pop("signed", Static(False))
    if len(rest) > 1 or keywords or signed != Static(False) or order not in (Static("big"), Static("little")):
        raise Unsupported('calls int.from_bytes() with other than some bytes and "big" or "little", unsigned')
    return Integer(of_kind(whole, Kind.BYTES), order == Static("little"))


def _length(arguments: Sequence[Node]) -> Node:
    return Length(of_kind(_only(arguments), Kind.BYTES))


def _boolean(arguments: Sequence[Node]) -> Node:
    return Not(Not(_only(arguments)))


def _integer(arguments: Sequence[Node]) -> Node:
    return Arithmetic(Op.ADD, of_kind(_only(arguments), Kind.NUMBER), Const(0))


def _absolute(arguments: Sequence[Node]) -> Node:
    number = of_kind(_only(arguments), Kind.NUMBER)
    return Select(Compare(Order.LT, number, Const(0)), Arithmetic(Op.SUBTRACT, Const(0), number), number)


def _least(arguments: Sequence[Node]) -> Node:
    return _extreme(Order.LT, arguments)


def _greatest(arguments: Sequence[Node]) -> Node:
    return _extreme(Order.GT, arguments)


def _extreme(order: Order, arguments: Sequence[Node]) -> Node:
    """Python keeps the first of equals."""
    if len(arguments) < 2:
        raise Unsupported("calls min() or max() with other than two or more numbers")
    best, *others = [of_kind(argument, Kind.NUMBER) for argument in arguments]
    for other in others:
        best = Select(Compare(order, other, best), other, best)
    return best


def _only(arguments: Sequence[Node]) -> Node:
    if len(arguments) != 1:
        raise Unsupported("calls a function with other than one argument")
    return arguments[0]


_FUNCTIONS: tuple[tuple[object, Callable[[Sequence[Node]], Node]], ...] = (
    (len, _length),
    (bool, _boolean),
    (int, _integer),
    (abs, _absolute),
    (min, _least),
    (max, _greatest),
)
