"""How large what comes of an operation is, as far as its operands tell: computed where small, estimated where not.

A value is a constant itself, or `Sized`: so many bytes or items, whatever they are. Of all else nothing is known, nor
of what is computed from it.
"""

import ast
import itertools
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

__all__ = [
    "MOST_BYTES",
    "UNKNOWN",
    "Huge",
    "Sized",
    "binary",
    "bound_spec",
    "call",
    "compare",
    "count",
    "item",
    "kind",
    "method",
    "unary",
]

MOST_BYTES = 65_536
"""Of what a predicate computes of constants: no packet has more."""

UNKNOWN = object()

# Conversions of %: width and precision. The second % of %% begins none.
_PERCENT = re.compile(r"%(\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?(.)", re.DOTALL)
# What stands behind a colon: fill, sign, width, precision.
_SPEC = re.compile(r"(?:.?[<>=^])?[-+ ]?z?#?0?(\d*)[_,]?(?:\.(\d+))?([a-zA-Z%]?)", re.DOTALL)
_WITH_PLACES = "eEfF%"  # where a precision lengthens; it shortens a text
_MOST_DIGITS = 20  # of a width that is read: more are no width

_SEQUENCES = (str, bytes, bytearray, list, tuple)
_NUMBERS = (int, float)


class Huge(Exception):  # noqa: N818  not an error by itself
    """What an operation would give is larger than `MOST_BYTES`, or takes as many steps."""


@attrs.frozen
class Sized:
    """A value of which only the size is known.

    Attributes:
        kind: Its type; ``map`` stands for what gives its items one by one.
        items: How many bytes or items it has, at least.
    """

    kind: type
    items: int


def count(value: object) -> int | None:
    """Tell how many items *value* has; None if that is not known."""
    match value:
        case Sized(items=items):
            return items
        case range(start=start, stop=stop, step=step):
            return max(0, -((start - stop) // step))  # len() knows no more than 63 bits
        case str() | bytes() | bytearray() | list() | tuple() | set() | frozenset() | dict():
            return len(value)
    return None


def unary(op: ast.unaryop, value: object) -> object:
    """Compute a negation and the like."""
    if isinstance(op, ast.Not):
        return UNKNOWN if value is UNKNOWN or isinstance(value, Sized) else _attempt(lambda: not value)
    if not isinstance(value, int) and not (isinstance(value, float) and not isinstance(op, ast.Invert)):
        return UNKNOWN
    return _UNARY[type(op)](value)


def compare(left: object, ops: Sequence[ast.cmpop], others: Sequence[object]) -> object:
    """Compare constant numbers, texts and bytes."""
    values = [left, *others]
    if not all(isinstance(value, int | float | str | bytes) for value in values):
        return UNKNOWN
    if not all(type(op) in _COMPARE for op in ops):
        return UNKNOWN
    steps = zip(ops, itertools.pairwise(values), strict=True)
    return _attempt(lambda: all(_COMPARE[type(op)](one, other) for op, (one, other) in steps))


def item(owner: object, index: object) -> object:
    """Read an item of a constant, or a stretch of it."""
    if index is UNKNOWN or type(owner) not in (str, bytes, tuple, list, dict, range):
        return UNKNOWN
    return _attempt(lambda: owner[index])  # type: ignore[index]


def binary(left: Any, op: ast.operator, right: Any) -> object:
    """Compute an operation, if it is certain what comes of it.

    Raises:
        Huge: It is certain that it is large.
    """
    match left, right:
        case (int() | float(), int() | float()):
            return _numbers(left, op, right)
        case (str() | bytes(), _) if isinstance(op, ast.Mod):
            return _percent(left, right)
        case (some, int() as times) | (int() as times, some) if isinstance(op, ast.Mult):
            return _repeated(some, times)
        case (first, second) if isinstance(op, ast.Add) and kind(first) is kind(second) in _SEQUENCES:
            return _joined(first, second)
    return UNKNOWN


def _numbers(left: int | float, op: ast.operator, right: int | float) -> object:
    if type(op) not in _COMPUTE:
        return UNKNOWN
    if isinstance(left, int) and isinstance(right, int) and _bits(left, op, right) > 8 * MOST_BYTES:
        raise Huge
    if (
        isinstance(op, ast.Mod | ast.FloorDiv)
        and isinstance(right, int)
        and right.bit_length() > MOST_DIVISOR_BITS
    ):
        return UNKNOWN
    return _attempt(lambda: _COMPUTE[type(op)](left, right))


def _bits(left: int, op: ast.operator, right: int) -> float:
    """Tell how many bits a result has, but for one."""
    match op:
        case ast.Pow() if abs(left) > 1 and right > 0:
            return float(right) * math.log2(abs(left)) if right.bit_length() < 1000 else math.inf
        case ast.LShift() if left and right > 0:
            return left.bit_length() + right
        case ast.Mult():
            return left.bit_length() + right.bit_length() - 1
    return 0  # no more than its operands


def _repeated(some: Any, times: int) -> object:
    items = count(some)
    if items is None or kind(some) not in _SEQUENCES:
        return UNKNOWN
    _bound(items * max(times, 0))
    return Sized(some.kind, items * max(times, 0)) if isinstance(some, Sized) else some * times


def _joined(first: Any, second: Any) -> object:
    items = (count(first) or 0) + (count(second) or 0)
    _bound(items)
    known = not isinstance(first, Sized) and not isinstance(second, Sized)
    return first + second if known else Sized(kind(first), items)


def kind(value: object) -> type:
    """Tell the type of a value, or of one that is not known."""
    return value.kind if isinstance(value, Sized) else type(value)


# --- texts ----------------------------------------------------------------------------------------
def _percent(left: str | bytes, right: object) -> object:
    text = left if isinstance(left, str) else left.decode("latin-1")
    values = iter(right if isinstance(right, tuple) else (right,))
    for key, width, precision, conversion in _PERCENT.findall(text):
        for number in (width, precision):
            value = next(values, UNKNOWN) if number == "*" else _digits(number)
            if isinstance(value, int) and (number is width or conversion not in "sra"):
                _bound(abs(value))
        if conversion != "%" and not key:
            next(values, None)
    return UNKNOWN


def bound_spec(spec: str) -> None:
    """Look at what stands behind the colon of a format.

    Raises:
        Huge: It asks for a large width, or very many places.
    """
    if found := _SPEC.fullmatch(spec):
        width, precision, conversion = found.groups(default="")
        _bound(_digits(width))
        if conversion and conversion in _WITH_PLACES:
            _bound(_digits(precision))


def _bound_format(text: str) -> None:
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError:
        return
    for _, _, spec, _ in fields:
        bound_spec(spec or "")


def _digits(digits: str) -> int:
    return int(digits[:_MOST_DIGITS]) if digits else 0


def _bound(items: int) -> None:
    if items > MOST_BYTES:
        raise Huge


# --- calls ----------------------------------------------------------------------------------------
def call(function: object, arguments: Sequence[Any], keywords: Mapping[str, object]) -> object:
    """Call a function that Python has, if it is certain what comes of it.

    Raises:
        Huge: It is certain that it is large.
    """
    if function is pow:
        arguments = [*arguments, *(keywords[name] for name in ("base", "exp", "mod") if name in keywords)]
        return binary(arguments[0], ast.Pow(), arguments[1]) if len(arguments) == 2 else UNKNOWN
    if not arguments or keywords.keys() - _SIZE_STAYS:
        return UNKNOWN
    first = arguments[0]
    items = count(first)
    if function is len:
        return UNKNOWN if items is None else items
    if function is format and isinstance(arguments[-1], str) and len(arguments) == 2:
        bound_spec(arguments[1])
    if function is itertools.repeat:
        return Sized(map, arguments[1]) if len(arguments) == 2 and isinstance(arguments[1], int) else UNKNOWN
    if _is_one_of(function, _ONE_BY_ONE):
        return _one_by_one(function, arguments)
    if _is_one_of(function, _COLLECTORS):
        return _collected(function, first if items is None and isinstance(first, int) else items)
    if _is_one_of(function, (min, max)) and len(arguments) == 1 and items is not None:
        _bound(items)
        if items > MOST_LOOKED_THROUGH:
            return UNKNOWN
    if _is_one_of(function, _PURE) and not any(
        value is UNKNOWN or isinstance(value, Sized) for value in arguments
    ):
        return _attempt(lambda: function(*arguments))  # type: ignore[operator]
    return UNKNOWN


def _is_one_of(function: object, functions: Sequence[object]) -> bool:
    return any(function is one for one in functions)  # whatever its == does


def _one_by_one(function: object, arguments: Sequence[object]) -> object:
    over = arguments[1:] if function is map else arguments if function is zip else arguments[:1]
    counts = [items for argument in over if (items := count(argument)) is not None]
    return Sized(map, min(counts)) if counts and len(counts) == len(over) else UNKNOWN


def _collected(function: Any, items: int | None) -> object:
    """Go through items: so many, or so many zeros."""
    if items is None:
        return UNKNOWN
    _bound(items)
    made = list if function is sorted else function
    return Sized(made, max(items, 0)) if made in _SEQUENCES else UNKNOWN


def method(owner: Any, name: str, arguments: Sequence[Any], keywords: Mapping[str, object]) -> object:
    """Call a method of a text, bytes, a number, or of what is not known.

    Raises:
        Huge: It is certain that what comes of it is large.
    """
    first = arguments[0] if arguments else keywords.get("length", UNKNOWN)
    match name:
        case "ljust" | "rjust" | "center" | "zfill" | "to_bytes" if isinstance(first, int):
            _bound(first)
        case "expandtabs" if isinstance(first, int):
            _bound(first * _tabs(owner))
        case "format" if isinstance(owner, str):
            _bound_format(owner)
        case "join" if (items := count(first)) is not None:
            _bound(max(items, (count(owner) or 0) * (items - 1)))
        case "extend" | "update" if (items := count(first)) is not None:
            _bound(items)
        case "replace" if (
            len(arguments) == 2 and isinstance(owner, str | bytes) and type(owner) is type(first)
        ):
            found: Any = owner
            _bound(found.count(first) * (count(arguments[1]) or 0))
    return UNKNOWN


def _tabs(owner: object) -> int:
    if isinstance(owner, str):
        return owner.count("\t")
    return owner.count(b"\t") if isinstance(owner, bytes) else 1  # why else is it called


def _attempt(compute: Callable[[], object]) -> object:
    try:
        return compute()
    except Exception:
        return UNKNOWN  # it says so when it runs


MOST_DIVISOR_BITS = 10_000
"""By larger numbers nothing is divided: it takes as long as its operands' sizes multiplied."""

MOST_LOOKED_THROUGH = 1000
"""Items that min() or max() of what is known is computed over."""

_PURE = (int, float, abs, min, max, ord, range, bool)
_ONE_BY_ONE = (map, enumerate, zip, reversed)
_COLLECTORS = (bytes, bytearray, list, tuple, set, frozenset, sorted, sum, dict)
_SIZE_STAYS = frozenset(("key", "reverse", "default", "start", "strict"))  # whatever these arguments are
_UNARY: dict[type[ast.unaryop], Callable[[Any], object]] = {
    ast.USub: lambda x: -x,
    ast.UAdd: lambda x: +x,
    ast.Invert: lambda x: ~x,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: lambda x, y: x == y,
    ast.NotEq: lambda x, y: x != y,
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
}
_COMPUTE: dict[type[ast.operator], Callable[[Any, Any], object]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.FloorDiv: lambda x, y: x // y,
    ast.Mod: lambda x, y: x % y,
    ast.Pow: lambda x, y: x**y,
    ast.LShift: lambda x, y: x << y,
    ast.RShift: lambda x, y: x >> y,
    ast.BitAnd: lambda x, y: x & y,
    ast.BitOr: lambda x, y: x | y,
    ast.BitXor: lambda x, y: x ^ y,
}
