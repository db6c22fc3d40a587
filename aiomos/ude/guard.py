"""The guard of an event: which predicates may hold, by the flags of a packet and whether it has a payload.

Each condition is judged in all 1024 cases at once, a bit of a large number each: where it may be true, where it may be
false, and where it may have to be left to Python.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from aiomos.ude.instructions import AddressField, BytesField, Field, Op, Relation
from aiomos.ude.nodes import (
    Address,
    And,
    Arithmetic,
    Bytes,
    Compare,
    Const,
    Find,
    Flags,
    Index,
    InNumbers,
    Integer,
    IsNone,
    Length,
    Node,
    Not,
    Number,
    Or,
    Peek,
    Refuse,
    Related,
    Select,
    Slice,
    Then,
    Thing,
)
from aiomos.ude.raising import may_raise

__all__ = ["CASES", "may_fire", "reads_flow"]

FLAG_BITS = 9
CASES = 1 << (FLAG_BITS + 1)
EVERYWHERE = (1 << CASES) - 1
ALL_FLAGS = (1 << FLAG_BITS) - 1


def _where(bit: int) -> int:
    """Give the cases in which one bit of their number is set."""
    run = 1 << bit
    pattern = ((1 << run) - 1) << run
    return sum(pattern << at for at in range(0, CASES, 2 * run))


_FLAG = [_where(bit) for bit in range(FLAG_BITS)]
_PAYLOAD = _where(FLAG_BITS)


@attrs.frozen
class _Verdict:
    """In which cases a condition may be true, may be false, and may be unsure."""

    yes: int
    no: int
    unsure: int = 0

    @property
    def known(self) -> int:
        """Where it has an answer."""
        return self.yes | self.no


def may_fire(tree: Node) -> int:
    """Tell in which cases a predicate may hold, or have to be left to Python, on a TCP packet of a flow.

    Args:
        tree: A condition.

    Returns:
        A bit a case: flags, plus 512 with a payload.
    """
    verdict = _judge(tree)
    return verdict.yes | verdict.unsure


def reads_flow(node: Node) -> bool:
    """Tell whether a predicate reads the flow, so that it is unsure where there is none."""
    return _of_flow(node) or any(map(reads_flow, node.parts))


def _of_flow(node: Node) -> bool:
    match node:
        case Number(field) | Thing(field):
            return field >= Field.FLOW_VLAN
        case Address(field):
            return field == AddressField.HALF_ADDRESS
    return isinstance(node, Peek)


# --- judging --------------------------------------------------------------------------------------
def _judge(node: Node) -> _Verdict:
    match node:
        case Const(value):
            return _Verdict(EVERYWHERE, 0) if value else _Verdict(0, EVERYWHERE)
        case Refuse():
            return _Verdict(0, 0, EVERYWHERE)
        case Flags(mask, value):
            cases = _with_flags(mask, value)
            return _Verdict(cases, EVERYWHERE & ~cases)
        case Not(value):
            verdict = _judge(value)
            return _Verdict(verdict.no, verdict.yes, verdict.unsure)
        case And(left, right):
            return _select(_judge(left), _judge(right), _Verdict(0, EVERYWHERE))
        case Or(left, right):
            return _select(_judge(left), _Verdict(EVERYWHERE, 0), _judge(right))
        case Select(test, yes, no):
            return _select(_judge(test), _judge(yes), _judge(no))
        case Then(first, then):
            before, after = _judge(first), _judge(then)
            return _Verdict(
                before.known & after.yes, before.known & after.no, before.unsure | before.known & after.unsure
            )
    return _judge_cases(node)


def _select(test: _Verdict, yes: _Verdict, no: _Verdict) -> _Verdict:
    return _Verdict(
        test.yes & yes.yes | test.no & no.yes,
        test.yes & yes.no | test.no & no.no,
        test.unsure | test.yes & yes.unsure | test.no & no.unsure,
    )


def _judge_cases(node: Node) -> _Verdict:
    """Work a condition out in each case, as far as flags and the lack of a payload tell."""
    anything = _Verdict(EVERYWHERE, EVERYWHERE, EVERYWHERE if may_raise(node) else 0)
    leaves = set(_leaves(node))
    if not all(_is_known(leaf) for leaf in leaves):
        return anything
    about_payload = any(_is_payload(leaf) for leaf in leaves)
    undecided = _PAYLOAD if about_payload else 0
    verdict = _Verdict(undecided, undecided, anything.unsure & undecided)
    for flags in _flags_that_matter(leaves):
        cases = _with_flags(*flags) & ~undecided
        try:
            true = bool(_evaluate(node, flags[1]))
        except Exception:  # as the predicate would in Python
            verdict = attrs.evolve(verdict, unsure=verdict.unsure | cases)
        else:
            verdict = attrs.evolve(
                verdict, yes=verdict.yes | cases * true, no=verdict.no | cases * (not true)
            )
    return verdict


def _leaves(node: Node) -> Iterator[Node]:
    if isinstance(node, Peek) or not node.parts:
        yield node
    else:
        for part in node.parts:
            yield from _leaves(part)


def _is_payload(leaf: Node) -> bool:
    return leaf in (Bytes(BytesField.PAYLOAD), Number(Field.PAYLOAD_LEN))


def _is_known(leaf: Node) -> bool:
    of_flags = isinstance(leaf, Number) and leaf.field in (Field.FLAG, Field.FLAGS)
    return of_flags or _is_payload(leaf) or isinstance(leaf, Const | Flags | Refuse)


def _flags_that_matter(leaves: set[Node]) -> Iterator[tuple[int, int]]:
    """Yield each combination of the flags that are asked for, as mask and value."""
    mask = 0
    for leaf in leaves:
        match leaf:
            case Flags(several, _):
                mask |= several
            case Number(Field.FLAG, bit):
                mask |= 1 << bit
            case Number(Field.FLAGS):
                mask = ALL_FLAGS
    value = mask
    while value:
        yield mask, value
        value = (value - 1) & mask
    yield mask, 0


def _with_flags(mask: int, value: int) -> int:
    """Give the cases in which the flags of *mask* are as in *value*."""
    if value & ~mask:
        return 0
    cases = EVERYWHERE
    for bit, where in enumerate(_FLAG):
        if mask >> bit & 1:
            cases &= where if value >> bit & 1 else EVERYWHERE & ~where
    return cases


# --- working out ----------------------------------------------------------------------------------
_COMPUTE: dict[int, Callable[[Any, Any], Any]] = {
    Op.ADD: operator.add,
    Op.SUBTRACT: operator.sub,
    Op.MULTIPLY: operator.mul,
    Op.DIVIDE: operator.floordiv,
    Op.MODULO: operator.mod,
    Op.AND: operator.and_,
    Op.OR: operator.or_,
    Op.XOR: operator.xor,
    Op.SHIFT_LEFT: operator.lshift,
    Op.SHIFT_RIGHT: operator.rshift,
}
_RELATED: dict[int, Callable[[bytes, bytes], bool]] = {
    Relation.IS: operator.eq,
    Relation.STARTS: bytes.startswith,
    Relation.ENDS: bytes.endswith,
    Relation.HOLDS: operator.contains,
    Relation.WITHIN: lambda whole, literal: whole in literal,
}


def _evaluate(node: Node, flags: int) -> Any:
    """Compute a node of a packet without a payload; raises where Python does, or where a number is too large."""
    match node:
        case Const(value):
            return value
        case Flags(mask, value):
            return flags & mask == value
        case Number(Field.FLAG, bit):
            return flags >> bit & 1
        case Number(field):
            return flags if field == Field.FLAGS else 0
        case Bytes():
            return b""
        case Refuse():
            raise ValueError("left to Python")
        case And(left, right):
            return _evaluate(left, flags) and _evaluate(right, flags)
        case Or(left, right):
            return _evaluate(left, flags) or _evaluate(right, flags)
        case Select(test, yes, no):
            return _evaluate(yes if _evaluate(test, flags) else no, flags)
    return _evaluate_operation(node, [_evaluate(part, flags) for part in node.parts])


def _evaluate_operation(node: Node, values: list[Any]) -> Any:
    first = values[0]
    match node:
        case Not():
            return not first
        case IsNone():
            return first is None
        case Then():
            return values[1]
        case Compare(order):
            return order.function(*values)
        case InNumbers(_, ranges):
            return first is not None and any(low <= first <= high for low, high in ranges)
        case Arithmetic(op):
            return _compute(op, *values)
        case Slice(_, start, _):
            bounds = [None, *values[1:]] if start is None else values[1:]
            return first[bounds[0] : bounds[1] if len(bounds) == 2 else None]
        case Index():
            return first[values[1]]
        case Length():
            return len(first)
        case Find(_, part):
            return first.find(part)
        case Integer(_, little):
            return int.from_bytes(first, "little" if little else "big")
        case Related(relation, _, literals):
            return any(_RELATED[relation](first, literal) for literal in literals)
    raise ValueError(f"no way to work out {node}")


def _compute(op: int, x: int, y: int) -> int:
    if op == Op.SHIFT_LEFT and y > 64:
        raise OverflowError
    result: int = _COMPUTE[op](x, y)
    if not -(1 << 63) <= result < 1 << 63:
        raise OverflowError
    return result
