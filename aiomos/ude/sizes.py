"""Constants of a predicate that would take much memory or time: Python computes them anew at each packet.

Only operations on what is constant are looked at: literals, and what names stand for when the predicate is defined.
What they would come to is estimated first, and computed only where that is little.
"""

import ast
import builtins
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from aiomos.ude.source import SourceUnknown, source_of

__all__ = ["MOST_BYTES", "TooLarge", "check_sizes"]

MOST_BYTES = 65_536
"""Of a constant that a predicate computes: no packet has more."""

MOST_DEPTH = 200

UNKNOWN = object()

_MAKERS = (bytes, bytearray)
_COLLECTORS = (list, tuple, set, frozenset, sorted, sum)
_PADDING = frozenset(("ljust", "rjust", "center", "zfill", "expandtabs", "to_bytes"))
# What may hold widths and precisions: of %, of str.format, and of what stands behind a colon by itself.
_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*[\d.]*")
_BRACES = re.compile(r"\{[^{}]*:[^{}]*")
_ALL = re.compile(r".+")
_DIGITS = re.compile(r"\d+")


class TooLarge(Exception):  # noqa: N818  not an error by itself
    """A predicate computes a constant that is too large.

    Args:
        construct: Where.
    """

    def __init__(self, construct: ast.expr) -> None:
        self.construct = construct
        super().__init__(
            f"line {construct.lineno}: {ast.unparse(construct)} is computed at each packet, and takes more than "
            f"{MOST_BYTES:,} bytes"
        )


def check_sizes(function: Callable[..., object]) -> None:
    """Make sure that a predicate, run by Python, computes no large constants; one without a source passes.

    Raises:
        TooLarge: it does.
    """
    try:
        definition = source_of(function)
    except SourceUnknown:
        return
    assert isinstance(function, FunctionType)
    estimate = _Estimate(definition, _outer_names(function))
    for node in ast.walk(definition):
        if isinstance(node, ast.expr):
            estimate.value(node)


def _outer_names(function: FunctionType) -> Mapping[str, object]:
    """What names that are not the function's own stand for now."""
    closed: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            closed[name] = UNKNOWN
    return {**vars(builtins), **function.__globals__, **closed}


class _Estimate:
    """Computes constants of one function, as far as they are small.

    Args:
        definition: The function.
        outer: What names from around it stand for.
    """

    def __init__(self, definition: ast.AST, outer: Mapping[str, object]) -> None:
        self._outer = outer
        nodes = [*ast.walk(definition)]
        stored = Counter(
            node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
        self._own = {*stored, *arguments}
        self._assigned = {
            node.targets[0].id: node.value
            for node in nodes
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and stored[node.targets[0].id] == 1
            and node.targets[0].id not in arguments
        }
        self._known: dict[ast.expr, object] = {}
        self._depth = 0

    def value(self, node: ast.expr) -> Any:
        """Compute an expression; UNKNOWN where it is not constant.

        Raises:
            TooLarge: it is constant, and large.
        """
        if node not in self._known:
            self._known[node] = UNKNOWN  # what is defined by itself
            self._depth += 1
            try:
                self._known[node] = self._compute(node) if self._depth < MOST_DEPTH else UNKNOWN
            finally:
                self._depth -= 1
        return self._known[node]

    def _compute(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name, ast.Load()):
                if name in self._own:
                    return self.value(self._assigned[name]) if name in self._assigned else UNKNOWN
                return self._outer.get(name, UNKNOWN)
            case ast.Attribute(owner, name):
                module = self.value(owner)
                return vars(module).get(name, UNKNOWN) if isinstance(module, ModuleType) else UNKNOWN
            case ast.Tuple(items, ast.Load()):
                values = tuple(map(self.value, items))
                return UNKNOWN if UNKNOWN in values else values
            case ast.UnaryOp(ast.USub() | ast.UAdd() | ast.Invert() as op, operand):
                return _unary(op, self.value(operand))
            case ast.BinOp(left, op, right):
                return self._binary(node, self.value(left), op, self.value(right))
            case ast.Call(called, arguments):
                self._check_call(node, called, [self.value(argument) for argument in arguments])
            case ast.FormattedValue(format_spec=ast.JoinedStr(parts)):
                for part in parts:
                    if isinstance(part, ast.FormattedValue):
                        self._bound(node, self.value(part.value))
                    elif isinstance(part, ast.Constant):
                        self._bound_widths(node, _ALL, str(part.value))
        return UNKNOWN

    def _binary(self, node: ast.BinOp, left: Any, op: ast.operator, right: Any) -> object:
        size = _size(left, op, right)
        if size is None:
            if isinstance(op, ast.Mod) and isinstance(left, str | bytes):  # which formats, to any width
                text = left if isinstance(left, str) else left.decode("latin-1")
                self._bound_widths(node, _PERCENT, text)
                if "*" in text:
                    for part in node.right.elts if isinstance(node.right, ast.Tuple) else (node.right,):
                        self._bound(node, self.value(part))
            return UNKNOWN
        if size > MOST_BYTES:
            raise TooLarge(node)
        try:
            return _COMPUTE[type(op)](left, right)
        except (ArithmeticError, TypeError, ValueError):
            return UNKNOWN

    def _check_call(self, node: ast.Call, called: ast.expr, arguments: list[Any]) -> None:
        if isinstance(called, ast.Attribute):
            if called.attr in _PADDING and arguments:
                self._bound(node, arguments[0])
            if called.attr == "format" and isinstance(text := self.value(called.value), str):
                self._bound_widths(node, _BRACES, text)
            return
        function = self.value(called)
        if function is format and len(arguments) > 1:
            self._bound_widths(node, _ALL, str(arguments[1]))
        elif function is pow and len(arguments) == 2:
            if (_size(arguments[0], ast.Pow(), arguments[1]) or 0) > MOST_BYTES:
                raise TooLarge(node)
        elif arguments and any(function is maker for maker in _MAKERS):
            self._bound(node, arguments[0])
        elif arguments and any(function is collector for collector in _COLLECTORS):
            match node.args[0]:
                case ast.Call(ranged, bounds) if self.value(ranged) is range:
                    for bound in bounds:
                        self._bound(node, self.value(bound))

    @staticmethod
    def _bound(node: ast.expr, value: object) -> None:
        if isinstance(value, int) and value > MOST_BYTES:
            raise TooLarge(node)

    @staticmethod
    def _bound_widths(node: ast.expr, where: re.Pattern[str], text: str) -> None:
        for found in where.findall(text):
            if any(int(digits[:20]) > MOST_BYTES for digits in _DIGITS.findall(found)):
                raise TooLarge(node)


def _unary(op: ast.unaryop, value: object) -> object:
    if not isinstance(value, int):
        return UNKNOWN
    return -value if isinstance(op, ast.USub) else ~value if isinstance(op, ast.Invert) else value


_COMPUTE: dict[type[ast.operator], Callable[[Any, Any], object]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.FloorDiv: lambda x, y: x // y,
    ast.Mod: lambda x, y: x % y,
    ast.Pow: lambda x, y: x**y,
    ast.LShift: lambda x, y: x << y,
    ast.RShift: lambda x, y: x >> y,
    ast.BitAnd: lambda x, y: x & y,
    ast.BitOr: lambda x, y: x | y,
    ast.BitXor: lambda x, y: x ^ y,
}


def _size(left: object, op: ast.operator, right: object) -> int | None:
    """Estimate how many bytes come of an operation on constants, before it is computed; None if it is none of these."""
    if type(op) not in _COMPUTE:
        return None
    match left, right:
        case int(), int():
            return _bits(left, op, right) // 8
        case (bytes() | str() | tuple() | list() as some, int() as times) | (
            int() as times,
            bytes() | str() | tuple() | list() as some,
        ) if isinstance(op, ast.Mult):
            return len(some) * max(times, 0)
        case (bytes(), bytes()) | (str(), str()) | (tuple(), tuple()) if isinstance(op, ast.Add):
            return len(left) + len(right)  # type: ignore[arg-type]
    return None


def _bits(left: int, op: ast.operator, right: int) -> int:
    most = max(left.bit_length(), right.bit_length())
    match op:
        case ast.Pow():
            return left.bit_length() * max(right, 0) if abs(left) > 1 else 1
        case ast.LShift():
            return left.bit_length() + max(right, 0) if left else 1
        case ast.Mult():
            return left.bit_length() + right.bit_length()
    return most + 1
