"""Conditions made simpler: the same truth, asked and raised in the same order, in fewer steps."""

from aiomos.ude.instructions import Field
from aiomos.ude.nodes import And, Const, Flags, Node, Not, Number, Or, Select, Then

__all__ = ["as_condition"]


def as_condition(node: Node) -> Node:
    """Simplify a node of which only the truth counts."""
    match node:
        case Const(value):
            return Const(int(bool(value)))
        case Number(Field.FLAG, bit):
            return Flags(1 << bit, 1 << bit)
        case Not(value):
            return _opposite(as_condition(value))
        case And(left, right):
            return _conjunction(as_condition(left), as_condition(right))
        case Or(left, right):
            return _disjunction(as_condition(left), as_condition(right))
        case Select(test, yes, no):
            return _selection(as_condition(test), as_condition(yes), as_condition(no))
        case Then(first, then):
            return Then(first, as_condition(then))
    return node


def _opposite(node: Node) -> Node:
    match node:
        case Const(value):
            return Const(int(not value))
        case Not(value):
            return value
        case Flags(mask, value) if mask.bit_count() == 1:
            return Flags(mask, mask ^ value)
    return Not(node)


def _conjunction(left: Node, right: Node) -> Node:
    match left, right:
        case Const(value), _:
            return right if value else left
        case _, Const(1):
            return left
        case And(first, second), _:
            return _conjunction(first, _conjunction(second, right))
        case Flags(), Flags() if merged := _merged(left, right):
            return merged
        case Flags(), And(Flags() as second, rest) if merged := _merged(left, second):
            return And(merged, rest)
    return And(left, right)


def _disjunction(left: Node, right: Node) -> Node:
    match left, right:
        case Const(value), _:
            return left if value else right
        case _, Const(0):
            return left
        case Or(first, second), _:
            return _disjunction(first, _disjunction(second, right))
        case _, Or(second, rest) if merged := _merged(_opposite(left), _opposite(second)):
            return Or(Not(merged), rest)
    merged = _merged(_opposite(left), _opposite(right))
    return Or(left, right) if merged is None else Not(merged)


def _merged(left: Node, right: Node) -> Flags | None:
    """Make one test of two, both of which must hold; None if they are no tests of flags, or contradict each other."""
    if not (isinstance(left, Flags) and isinstance(right, Flags)) or left.mask & right.mask & (
        left.value ^ right.value
    ):
        return None
    return Flags(left.mask | right.mask, left.value | right.value)


def _selection(test: Node, yes: Node, no: Node) -> Node:
    """Make junctions of branches that are constant, as those of ``if test: return True`` are."""
    match yes, no:
        case Const(value), _:
            return _disjunction(test, no) if value else _conjunction(_opposite(test), no)
        case _, Const(value):
            return _disjunction(_opposite(test), yes) if value else _conjunction(test, yes)
    return Select(test, yes, no)
