"""Predicates that would take much memory or time whatever the packet is: Python computes it anew at each.

The function is gone through as Python would run it, with what is certain when it is defined: literals, what names from
around it stand for, and what comes of these. It is refused where some packet may lead to a value that certainly has
more than `MOST_BYTES` bytes or items, or to as many rounds of a loop. Not known, and let pass, is what depends on the
packet, on functions other than Python's own, on attributes of objects, and on what is changed in place; where a loop
ends by a condition, two rounds are looked at.
"""

import ast
import builtins
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from aiomos.ude import estimates
from aiomos.ude.estimates import MOST_BYTES, UNKNOWN, Huge, Sized
from aiomos.ude.source import SourceUnknown, source_of

__all__ = ["MOST_BYTES", "TooLarge", "check_sizes"]

MOST_DEPTH = 200  # of expressions in one another
MOST_STEPS = 50_000  # what one predicate is looked at for; a constant counts with its size
MOST_ROUNDS = 64  # of a loop whose end is known
ROUND_STEPS = 10  # what a round costs besides its statements
MOST_SPEC_BITS = 64  # of a number in a format; str() refuses those of many digits
OPEN_ROUNDS = 2  # of one whose end is not

_MUTABLE = (list, bytearray)

Names = dict[str, object]
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class TooLarge(Exception):  # noqa: N818  not an error by itself
    """A predicate computes a constant that is too large.

    Args:
        construct: Where.
    """

    def __init__(self, construct: ast.expr) -> None:
        self.construct = construct
        super().__init__(
            f"line {construct.lineno}: {ast.unparse(construct)} is computed at each packet, and takes more than "
            f"{MOST_BYTES:,} bytes, items or rounds"
        )


class _Enough(Exception):  # noqa: N818  not an error by itself
    """It has been looked at for so long as is worth it."""


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
    try:
        _Walk(_outer_names(function)).function(definition, {})
    except (_Enough, RecursionError):
        return


def _outer_names(function: FunctionType) -> Mapping[str, object]:
    """What names that are not the function's own stand for now."""
    closed: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # it has no value yet
            closed[name] = UNKNOWN
    return {**vars(builtins), **function.__globals__, **closed}


class _Loop:
    """What is known where a round of a loop ends early."""

    def __init__(self) -> None:
        self.left: list[Names] = []
        self.next: list[Names] = []


class _Walk:
    """Goes through functions.

    Args:
        outer: What names from around the predicate stand for.
    """

    def __init__(self, outer: Mapping[str, object]) -> None:
        self._outer = outer
        self._names: Names = {}
        self._once: set[str] = set()  # names that are given a value in one place
        self._in_place: set[str] = set()  # names whose values may be changed in place
        self._loops: list[_Loop] = []
        self._depth = 0
        self._steps = 0
        self._caught = 0  # how deep it is in try statements, by which loops may be left

    def function(self, definition: Function, around: Names) -> None:
        """Go through a function, of whose arguments nothing is known."""
        stored = Counter(name for node in ast.walk(definition) for name in _names_stored(node))
        before = self._names, self._once, self._in_place, self._loops
        kept = {name: value if name in self._once else UNKNOWN for name, value in around.items()}
        self._names = {**kept, **dict.fromkeys(stored, UNKNOWN)}
        self._once = {name for name, times in stored.items() if times == 1}
        self._in_place = self._in_place | set(_changed_in_place(definition))
        self._loops = []
        if isinstance(definition, ast.Lambda):
            self.value(definition.body)
        else:
            self._block(definition.body)
        self._names, self._once, self._in_place, self._loops = before

    # --- statements: each tells whether Python goes on behind it -----------------------------------
    def _block(self, statements: Sequence[ast.stmt]) -> bool:
        return all(self._statement(statement) for statement in statements)

    def _statement(self, node: ast.stmt) -> bool:
        self._step()
        match node:
            case ast.Assign(targets, value):
                found = self.value(value)
                for target in targets:
                    self._bind(target, found)
            case ast.AnnAssign(target, _, ast.expr() as value):
                self._bind(target, self.value(value))
            case ast.AugAssign():
                self._bind(node.target, self._augmented(node))
            case ast.If(test, body, otherwise):
                return self._if(self.value(test), body, otherwise)
            case ast.For() | ast.AsyncFor():
                return self._for(node)
            case ast.While():
                return self._while(node)
            case ast.Try() | ast.TryStar():
                return self._try(node)
            case ast.Match(subject, cases):
                self.value(subject)
                return self._branches(
                    [[], *(case.body for case in cases)], forget=[case.pattern for case in cases]
                )
            case ast.With(items, body) | ast.AsyncWith(items, body):
                for item in items:
                    self._children(item)
                return self._branches([[], body], forget=items)  # some swallow what is raised
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.function(node, self._names)
                self._forget([node, *(inner for inner in ast.walk(node) if isinstance(inner, ast.Nonlocal))])
            case ast.Break() | ast.Continue():
                loop = self._loops[-1]
                (loop.left if isinstance(node, ast.Break) else loop.next).append(dict(self._names))
                return False
            case _:
                self._children(node)
                self._forget([node])
                return not isinstance(node, ast.Return | ast.Raise)
        return True

    def _if(self, test: object, body: Sequence[ast.stmt], otherwise: Sequence[ast.stmt]) -> bool:
        """Go the way that a constant condition leads, or else both."""
        if _is_plain(test):
            return self._block(body if test else otherwise)
        return self._branches([body, otherwise])

    def _branches(self, branches: Sequence[Sequence[ast.stmt]], forget: Sequence[ast.AST] = ()) -> bool:
        self._forget(forget)
        before = self._names
        after = []
        for branch in branches:
            self._names = dict(before)
            if self._block(branch):
                after.append(self._names)
        self._names = _common(after or [before])
        return bool(after)

    def _try(self, node: ast.Try | ast.TryStar) -> bool:
        before = dict(self._names)
        self._caught += 1
        after = [self._names] if self._block([*node.body, *node.orelse]) else []
        self._caught -= 1
        self._names = _common([before, self._names])
        self._forget([inner for part in node.body for inner in ast.walk(part)])
        raised = self._names
        for handler in node.handlers:
            self._names = dict(raised)
            self._forget([handler])
            if self._block(handler.body):
                after.append(self._names)
        self._names = _common(after or [raised])
        return self._block(node.finalbody) and bool(after)

    def _for(self, node: ast.For | ast.AsyncFor) -> bool:
        over = self.value(node.iter)
        rounds = estimates.count(over)
        leaves = _leaves(node)
        if rounds is not None and rounds > MOST_BYTES and not leaves and not self._caught:
            raise TooLarge(node.iter)
        certain = rounds is not None and rounds <= MOST_ROUNDS
        items = (
            iter(over)
            if certain and isinstance(over, range | tuple | str | bytes)
            else itertools.repeat(UNKNOWN)
        )
        left = itertools.count(0 if rounds is None else rounds, -1)

        def another() -> bool | None:
            if rounds is not None and next(left) == 0:
                return False
            self._bind(node.target, next(items))
            return True if certain and not leaves else None

        return self._rounds(another, node)

    def _while(self, node: ast.While) -> bool:
        leaves = _leaves(node)

        def another() -> bool | None:
            test = self.value(node.test)
            if not _is_plain(test):
                return None
            return None if test and leaves else bool(test)

        return self._rounds(another, node)

    def _rounds(self, another: Callable[[], bool | None], node: ast.For | ast.AsyncFor | ast.While) -> bool:
        """Go through a loop, round by round; None of *another* is that it is not certain whether there is one."""
        ends: list[Names] = []
        unsure = 0
        for _ in range(MOST_ROUNDS + 1):
            self._step(ROUND_STEPS)
            before = dict(self._names)
            answer = another()
            unsure += answer is None
            if answer is not True:
                ends.append(before)
            if answer is False or unsure > OPEN_ROUNDS:
                break
            self._loops.append(_Loop())
            nexts = [self._names] if self._block(node.body) else []
            loop = self._loops.pop()
            nexts += loop.next
            ends += loop.left
            if not nexts:
                break
            self._names = _common(nexts)
        else:
            ends.append(self._names)
        self._names = _common(ends or [self._names])
        if unsure > OPEN_ROUNDS or not ends:
            self._forget(list(ast.walk(node)))  # what more rounds would make of it
        return self._block(node.orelse)

    def _bind(self, target: ast.expr, value: object) -> None:
        match target:
            case ast.Name(name):
                unsure = name in self._in_place and estimates.kind(value) in _MUTABLE
                self._names[name] = UNKNOWN if unsure else value
            case ast.Tuple(targets) | ast.List(targets):
                known = isinstance(value, tuple) and len(value) == len(targets)
                values = value if known and isinstance(value, tuple) else itertools.repeat(UNKNOWN)
                for part, item in zip(targets, values):  # noqa: B905  repeat() has no end
                    self._bind(part, item)
            case ast.Starred(part):
                self._bind(part, UNKNOWN)
            case _:
                self._children(target)

    def _forget(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            for name in _names_stored(node):
                self._names[name] = UNKNOWN

    def _augmented(self, node: ast.AugAssign) -> object:
        before = self._names.get(node.target.id, UNKNOWN) if isinstance(node.target, ast.Name) else UNKNOWN
        value = self.value(node.value)
        try:
            if estimates.kind(before) is list and isinstance(node.op, ast.Add):
                estimates.method(before, "extend", [value], {})
            return estimates.binary(before, node.op, value)
        except Huge:
            read = ast.parse(ast.unparse(node.target), mode="eval").body
            raise TooLarge(ast.copy_location(ast.BinOp(read, node.op, node.value), node)) from None

    def _step(self, weight: int = 1) -> None:
        self._steps += weight
        if self._steps > MOST_STEPS:
            raise _Enough

    # --- expressions -------------------------------------------------------------------------------
    def value(self, node: ast.expr) -> Any:
        """Compute an expression; UNKNOWN where it is not certain.

        Raises:
            TooLarge: it is certain that it is large.
        """
        self._step()
        if self._depth >= MOST_DEPTH:
            return UNKNOWN
        self._depth += 1
        try:
            found = self._compute(node)
        except Huge:
            raise TooLarge(node) from None
        finally:
            self._depth -= 1
        if isinstance(node, ast.BinOp | ast.Call | ast.Compare):
            self._steps += _weight(found)
        return found

    def _compute(self, node: ast.expr) -> object:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self._names[name] if name in self._names else self._outer.get(name, UNKNOWN)
            case ast.NamedExpr(target, value):
                found = self.value(value)
                self._bind(target, found)
                return found
            case ast.Attribute(owner, name):
                module = self.value(owner)
                return vars(module).get(name, UNKNOWN) if isinstance(module, ModuleType) else UNKNOWN
            case ast.Tuple(items) | ast.List(items):
                return self._display(items, tuple if isinstance(node, ast.Tuple) else list)
            case ast.UnaryOp(op, operand):
                return estimates.unary(op, self.value(operand))
            case ast.BinOp(left, op, right):
                return estimates.binary(self.value(left), op, self.value(right))
            case ast.Compare(left, ops, others):
                return estimates.compare(self.value(left), ops, [self.value(other) for other in others])
            case ast.Subscript(owner, index):
                return estimates.item(self.value(owner), self.value(index))
            case ast.BoolOp(op, values):
                return self._bool_op(op, values)
            case ast.IfExp(test, body, otherwise):
                return self._if_expression(self.value(test), body, otherwise)
            case ast.Call():
                return self._call(node)
            case ast.FormattedValue(_, _, ast.JoinedStr(parts)):
                self.value(node.value)
                self._format_spec(parts)
                return UNKNOWN
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node)
            case ast.Lambda():
                self.function(node, self._names)
                return UNKNOWN
        self._children(node)
        return UNKNOWN

    def _display(self, items: Sequence[ast.expr], kind: type) -> object:
        values = [self.value(item) for item in items]
        if any(isinstance(item, ast.Starred) for item in items):
            return UNKNOWN
        return tuple(values) if kind is tuple else Sized(kind, len(values))

    def _bool_op(self, op: ast.boolop, values: Sequence[ast.expr]) -> object:
        certain, found = True, UNKNOWN
        for value in values:
            found = self.value(value)
            certain = certain and _is_plain(found)
            if _is_plain(found) and bool(found) is isinstance(op, ast.Or):
                break  # what stands behind it is not computed
        return found if certain else UNKNOWN

    def _if_expression(self, test: object, body: ast.expr, otherwise: ast.expr) -> object:
        if _is_plain(test):
            return self.value(body if test else otherwise)
        self.value(body)
        self.value(otherwise)
        return UNKNOWN

    def _call(self, node: ast.Call) -> object:
        method = node.func if isinstance(node.func, ast.Attribute) else None
        owner = self.value(method.value) if method else UNKNOWN
        arguments = [self.value(argument) for argument in node.args]
        keywords = {keyword.arg or "**": self.value(keyword.value) for keyword in node.keywords}
        if "**" in keywords or any(isinstance(argument, ast.Starred) for argument in node.args):
            return UNKNOWN
        if method and not isinstance(owner, ModuleType):
            return estimates.method(owner, method.attr, arguments, keywords)
        return estimates.call(self.value(node.func), arguments, keywords)

    def _format_spec(self, parts: Sequence[ast.expr]) -> None:
        texts = []
        for part in parts:
            known = self.value(part.value if isinstance(part, ast.FormattedValue) else part)
            if not isinstance(known, int | str) or (
                isinstance(known, int) and known.bit_length() > MOST_SPEC_BITS
            ):
                return
            texts.append(str(known))
        estimates.bound_spec("".join(texts))

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> object:
        before, self._names = self._names, dict(self._names)
        items: int | None = 1
        for generator in node.generators:
            over = estimates.count(self.value(generator.iter))
            items = None if items is None or over is None or generator.ifs else items * over
            self._bind(generator.target, UNKNOWN)
            for test in generator.ifs:
                self.value(test)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.value(part)
        self._names = before
        if items is None:
            return UNKNOWN
        if isinstance(node, ast.GeneratorExp):
            return Sized(map, items)
        if items > MOST_BYTES:
            raise Huge
        return Sized(list, items) if isinstance(node, ast.ListComp) else UNKNOWN

    def _children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
            elif not isinstance(child, ast.stmt):
                self._children(child)


def _is_plain(value: object) -> bool:
    """Tell whether it is certain what a condition comes to: of other objects it is their own affair."""
    return value is None or isinstance(value, int | float | str | bytes)


def _leaves(node: ast.AST) -> bool:
    """May Python leave a loop before its end?"""
    return any(isinstance(inner, ast.Break | ast.Return | ast.Raise | ast.Assert) for inner in ast.walk(node))


def _common(ways: Sequence[Names]) -> Names:
    """What is the same, whichever way Python came."""
    first, *others = ways
    return {
        name: value if all(_is_same(value, way.get(name)) for way in others) else UNKNOWN
        for name, value in first.items()
    }


def _is_same(one: object, other: object) -> bool:
    return one is other or (
        type(one) is type(other) and isinstance(one, int | str | bytes | Sized) and one == other
    )


def _weight(value: object) -> int:
    """What a constant costs to compute with."""
    if isinstance(value, int):
        return value.bit_length() // 512
    return len(value) // 64 if isinstance(value, str | bytes | tuple) else 0


def _names_stored(node: ast.AST) -> Iterator[str]:
    """Names that get a value, or may, at one node of a syntax tree."""
    match node:
        case ast.arg(name) | ast.Name(name, ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
            yield name
        case ast.MatchStar(name=str() as name) | ast.MatchMapping(rest=str() as name):
            yield name
        case ast.Global(names) | ast.Nonlocal(names):
            yield from names * 2  # others change them too
        case ast.Import(names) | ast.ImportFrom(_, names):
            yield from ((name.asname or name.name).partition(".")[0] for name in names)


def _changed_in_place(definition: ast.AST) -> Iterator[str]:
    """Names of which attributes are used, or items set."""
    for node in ast.walk(definition):
        match node:
            case ast.Attribute(ast.Name(name)) | ast.Subscript(ast.Name(name), _, ast.Store() | ast.Del()):
                yield name
