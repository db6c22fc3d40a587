"""The predicate compiler's front: from a Python function to a tree of `aiomos.ude.nodes`.

What the source says is taken literally: the same operations in the same order, with constants as they are when the
predicate is defined. Whatever has no exact counterpart makes the predicate `NotNative`, and Python runs it.
"""

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import attrs

from aiomos.levels import Level
from aiomos.ude import operations
from aiomos.ude.attributes import SIDES, least_level
from aiomos.ude.codegen import CannotCompile
from aiomos.ude.combining import alone, combine
from aiomos.ude.conditions import as_condition
from aiomos.ude.instructions import Field, Which
from aiomos.ude.listing import listing
from aiomos.ude.machine import Program
from aiomos.ude.nodes import And, Const, Node, Not, Number, Or, Select, Then, Thing
from aiomos.ude.source import Definition, SourceUnknown, source_of
from aiomos.ude.values import Static, Unsupported, Value, as_node

__all__ = ["Compiled", "NotNative", "combine", "compile_predicate"]

MOST_NODES = 2000
FEW_NODES = 16
MOST_DEPTH = 150
"""Of a tree: what compiles it goes down it by recursion, in an app's callback as well as at the start."""


@attrs.frozen
class Compiled:
    """A predicate that the machine can run.

    Attributes:
        name: The function's.
        tree: What it means.
        level: The least level at which it can be judged.
    """

    name: str
    tree: Node = attrs.field(repr=False)
    level: Level

    def __str__(self) -> str:
        """List the program that it is by itself."""
        return listing(alone(self.tree))


@attrs.frozen
class NotNative:
    """Why Python has to run a predicate.

    Attributes:
        reason: The construct that keeps it there, and why.
        filename: Where the predicate stands.
        line: The construct's line in it.
        text: The construct as it is written; empty where it is not about one.
    """

    reason: str
    filename: str
    line: int
    text: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def compile_predicate(function: Callable[..., object], parameters: Sequence[str]) -> Compiled | NotNative:
    """Compile a predicate for the machine.

    Globals and variables from around the function are read now; what they are bound to later does not count.

    Args:
        function: The predicate.
        parameters: What it asks for, in its order: of ``pkt``, ``flow``, ``half``, ``side``, ``time``.

    Returns:
        The predicate, or why it cannot be compiled.
    """
    code = getattr(function, "__code__", None)
    filename, line = getattr(code, "co_filename", "?"), getattr(code, "co_firstlineno", 0)
    try:
        definition = source_of(function)
    except SourceUnknown as unknown:
        return NotNative(str(unknown), filename, line)
    assert isinstance(function, FunctionType)
    try:
        tree = as_condition(_Translator(function, parameters).predicate(definition))
        Program(alone(tree))
    except _Refused as refused:
        text = ast.unparse(refused.construct)
        return NotNative(refused.reason, filename, refused.construct.lineno, text)
    except CannotCompile as reason:
        return NotNative(str(reason), filename, line)
    except RecursionError:
        return NotNative("it is nested too deep", filename, line)
    return Compiled(function.__name__, tree, least_level(tree))


class _Refused(Exception):  # noqa: N818  not an error by itself
    def __init__(self, construct: ast.expr | ast.stmt, reason: str) -> None:
        self.construct = construct
        self.reason = reason


_Locals = Mapping[str, Value]


class _Translator:
    """Walks the source of one predicate."""

    def __init__(self, function: FunctionType, parameters: Sequence[str]) -> None:
        self._function = function
        self._parameters = parameters
        self._assigned = frozenset(function.__code__.co_varnames) | frozenset(function.__code__.co_cellvars)

    def predicate(self, definition: Definition) -> Node:
        given: _Locals = {name: _PARAMETERS[name] for name in self._parameters if name in _PARAMETERS}
        if isinstance(definition, ast.Lambda):
            return self._node(definition.body, given)
        return self._block(definition.body, given)

    # --- statements -------------------------------------------------------------------------------

    def _block(self, statements: Sequence[ast.stmt], known: _Locals) -> Node:
        """Translate what is left of the function; falling off its end gives None."""
        if not statements:
            return Const(None)
        first, *rest = statements
        match first:
            case ast.Return(value):
                return Const(None) if value is None else self._node(value, known)
            case ast.If(test, body, orelse):
                return self._branch(test, [*body, *rest], [*orelse, *rest], known)
            case ast.Pass() | ast.Expr(ast.Constant()):
                return self._block(rest, known)
            case ast.Assign([ast.Name(name)], value):
                return self._assign(name, self._value(value, known), rest, known)
            case ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                return self._assign(name, self._value(value, known), rest, known)
            case ast.AugAssign(ast.Name(name) as target, _, value):
                read = ast.copy_location(ast.Name(name, ast.Load()), target)
                added = ast.copy_location(ast.BinOp(read, first.op, value), first)
                return self._assign(name, self._value(added, known), rest, known)
        raise _Refused(
            first, f"{_describe(first)}: only if, return and assignment to a name run without the interpreter"
        )

    def _branch(
        self, test: ast.expr, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], known: _Locals
    ) -> Node:
        condition = self._value(test, known)
        if isinstance(condition, Static):
            return self._block(body if condition.value else orelse, known)
        return self._bounded(Select(condition, self._block(body, known), self._block(orelse, known)))

    def _assign(self, name: str, value: Value, rest: Sequence[ast.stmt], known: _Locals) -> Node:
        after = self._block(rest, {**known, name: value})
        return after if isinstance(value, Static) else self._bounded(Then(value, after))

    # --- expressions ------------------------------------------------------------------------------

    def _node(self, expression: ast.expr, known: _Locals) -> Node:
        value = self._value(expression, known)
        try:
            return as_node(value)
        except Unsupported as unsupported:
            raise _Refused(expression, str(unsupported)) from None

    def _value(self, expression: ast.expr, known: _Locals) -> Value:
        translate = _EXPRESSIONS.get(type(expression))
        if translate is None:
            raise _Refused(
                expression, f"{_describe(expression)}: no such expression runs without the interpreter"
            )
        try:
            value = translate(self, expression, known)
        except Unsupported as unsupported:
            raise _Refused(expression, str(unsupported)) from None
        return value if isinstance(value, Static) else self._bounded(value)

    def _bounded(self, node: Node) -> Node:
        if node.depth > MOST_DEPTH:
            raise CannotCompile("it is nested too deep")
        if node.size > MOST_NODES:
            raise CannotCompile("it is too large")
        return node

    def constant(self, expression: ast.Constant, _known: _Locals) -> Value:
        return Static(expression.value)

    def name(self, expression: ast.Name, known: _Locals) -> Value:
        if expression.id in known:
            return known[expression.id]
        if expression.id in self._parameters:
            raise Unsupported(f"reads {expression.id}, a float")
        if expression.id in self._assigned:
            raise Unsupported(f"reads {expression.id}, which may not have been assigned")
        return Static(self._outer(expression.id))

    def _outer(self, name: str) -> object:
        """Look up a name that is not the function's own, as Python would now."""
        function = self._function
        if name in function.__code__.co_freevars:
            cell = (function.__closure__ or ())[function.__code__.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:
                raise Unsupported(f"reads {name}, which has no value yet") from None
        for names in (function.__globals__, vars(builtins)):
            if name in names:
                return names[name]
        raise Unsupported(f"reads {name}, which is not defined yet")

    def attribute(self, expression: ast.Attribute, known: _Locals) -> Value:
        return operations.attribute(
            self._value(expression.value, known), expression.attr, ast.unparse(expression)
        )

    def boolean(self, expression: ast.BoolOp, known: _Locals) -> Value:
        junction = And if isinstance(expression.op, ast.And) else Or
        nodes: list[Node] = []
        *others, last = [self._value(value, known) for value in expression.values]
        for value in others:
            if not isinstance(value, Static):
                nodes.append(value)
            elif bool(value.value) is (junction is Or):
                last = value
                break
        return _joined(junction, [*nodes, as_node(last)]) if nodes else last

    def unary(self, expression: ast.UnaryOp, known: _Locals) -> Value:
        value = self._value(expression.operand, known)
        if isinstance(expression.op, ast.Not):
            return Static(not value.value) if isinstance(value, Static) else Not(value)
        return operations.unary(type(expression.op), value)

    def binary(self, expression: ast.BinOp, known: _Locals) -> Value:
        left = self._value(expression.left, known)
        return operations.binary(type(expression.op), left, self._value(expression.right, known))

    def compare(self, expression: ast.Compare, known: _Locals) -> Value:
        values = [self._value(part, known) for part in (expression.left, *expression.comparators)]
        tests = [
            operations.compare(type(op), left, right)
            for op, left, right in zip(expression.ops, values, values[1:], strict=False)
        ]
        result = tests.pop()
        for test in reversed(tests):
            result = operations.both(test, result)
        return result

    def choice(self, expression: ast.IfExp, known: _Locals) -> Value:
        test = self._value(expression.test, known)
        if isinstance(test, Static):
            return self._value(expression.body if test.value else expression.orelse, known)
        return Select(test, self._node(expression.body, known), self._node(expression.orelse, known))

    def subscript(self, expression: ast.Subscript, known: _Locals) -> Value:
        whole = self._value(expression.value, known)
        if not isinstance(expression.slice, ast.Slice):
            return operations.index(whole, self._value(expression.slice, known))
        if expression.slice.step is not None:
            raise Unsupported("takes a slice with a step")
        bounds = (expression.slice.lower, expression.slice.upper)
        return operations.part(
            whole, *(None if bound is None else self._value(bound, known) for bound in bounds)
        )

    def call(self, expression: ast.Call, known: _Locals) -> Value:
        if any(isinstance(argument, ast.Starred) for argument in expression.args):
            raise Unsupported("passes arguments with *")
        arguments = [self._value(argument, known) for argument in expression.args]
        keywords = {keyword.arg or "**": self._value(keyword.value, known) for keyword in expression.keywords}
        name = ast.unparse(expression.func)
        if isinstance(expression.func, ast.Attribute):
            owner = self._value(expression.func.value, known)
            if not isinstance(owner, Static):
                return operations.method(owner, expression.func.attr, name, arguments, keywords)
        function = self._value(expression.func, known)
        if not isinstance(function, Static):
            raise Unsupported(f"calls {name}")
        return operations.call(function.value, name, arguments, keywords)

    def collection(self, expression: ast.Tuple | ast.List | ast.Set | ast.Dict, known: _Locals) -> Value:
        """Of a dict, the keys are enough: all that can be done with it is to look for one."""
        parts = expression.keys if isinstance(expression, ast.Dict) else expression.elts
        items = [self._value(item, known) for item in parts if item is not None]
        constants = [item.value for item in items if isinstance(item, Static)]
        if len(constants) != len(items):
            raise Unsupported("makes a collection of values that are not constant")
        return Static(tuple(constants))


def _joined(junction: type[And] | type[Or], nodes: Sequence[Node]) -> Node:
    """Join nodes in their order; many of them by halves, which come to the same and nest less deep."""
    if len(nodes) == 1:
        return nodes[0]
    half = len(nodes) // 2 if len(nodes) > FEW_NODES else 1
    return junction(_joined(junction, nodes[:half]), _joined(junction, nodes[half:]))


_PARAMETERS: dict[str, Value] = {
    "pkt": Thing(Field.HAS_PACKET),
    "flow": Thing(Field.HAS_FLOW),
    "half": Thing(Field.HAS_FLOW, Which.OF_SENDER),
    "side": Number(Field.SIDE, 0, SIDES),
}

_Translate = Callable[[_Translator, Any, _Locals], Value]

_EXPRESSIONS: dict[type[ast.expr], _Translate] = {
    ast.Constant: _Translator.constant,
    ast.Name: _Translator.name,
    ast.Attribute: _Translator.attribute,
    ast.BoolOp: _Translator.boolean,
    ast.UnaryOp: _Translator.unary,
    ast.BinOp: _Translator.binary,
    ast.Compare: _Translator.compare,
    ast.IfExp: _Translator.choice,
    ast.Subscript: _Translator.subscript,
    ast.Call: _Translator.call,
    ast.Tuple: _Translator.collection,
    ast.List: _Translator.collection,
    ast.Set: _Translator.collection,
    ast.Dict: _Translator.collection,
}

_STATEMENTS = {
    ast.For: "has a loop",
    ast.While: "has a loop",
    ast.Try: "has a try",
    ast.With: "has a with",
    ast.Assert: "has an assert",
    ast.Raise: "raises an exception",
    ast.FunctionDef: "defines a function",
    ast.Import: "imports",
    ast.ImportFrom: "imports",
}
_KINDS_OF_EXPRESSION: dict[type[ast.expr], str] = {
    ast.JoinedStr: "formats a text",
    ast.ListComp: "has a comprehension",
    ast.SetComp: "has a comprehension",
    ast.DictComp: "has a comprehension",
    ast.GeneratorExp: "has a comprehension",
    ast.Lambda: "defines a function",
    ast.NamedExpr: "assigns within an expression",
}


def _describe(construct: ast.expr | ast.stmt) -> str:
    """Say what a construct does: the beginning of a reason."""
    kinds: Mapping[type[Any], str] = {**_STATEMENTS, **_KINDS_OF_EXPRESSION}
    first = ast.unparse(construct).partition("\n")[0]
    return kinds.get(type(construct), f"has `{first}`")
