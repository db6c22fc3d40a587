"""Whether Python may raise, or need numbers beyond 64 bits, where it comes to a node.

It is asked for a TCP packet of a flow, and answered on the safe side: yes where that is not certain.
"""

import operator
from collections.abc import Callable

from aiomos.ude.instructions import Field, Op
from aiomos.ude.nodes import (
    And,
    Arithmetic,
    Compare,
    Const,
    Find,
    Index,
    Integer,
    Length,
    Node,
    Number,
    Or,
    Order,
    Peek,
    Refuse,
    Select,
    Slice,
    Then,
)

__all__ = ["may_raise"]

Bounds = tuple[int, int]

LEAST, MOST = -(1 << 63), (1 << 63) - 1
_LARGEST_FIELD = (1 << 32) - 1
_MOST_BYTES = (1 << 32) - 1  # of a packet
_COUNTERS = range(Field.HALF_BYTES, Field.HALF_ACKED + 1)
_OPTIONAL = {
    Field.PACKET_VLAN,
    Field.IP_ID,
    Field.DONT_FRAGMENT,
    Field.FRAGMENT_OFFSET,
    Field.MORE_FRAGMENTS,
    Field.OPTION_MSS,
    Field.OPTION_WINDOW_SCALE,
    Field.TSVAL,
    Field.TSECR,
    Field.FLOW_VLAN,
    Field.FLOW_REASON,
    Field.HALF_MSS,
    Field.HALF_WINDOW_SCALE,
    Field.HALF_WINDOW,
    Field.HALF_LEVEL,
    Field.HALF_ISS,
    Field.HALF_SND_NXT,
    Field.HALF_SND_UNA,
    Field.HALF_IN_FLIGHT,
    Field.HALF_MAX_WINDOW,
    Field.HALF_TS_RECENT,
}
_MONOTONIC: dict[int, Callable[[int, int], int]] = {
    Op.ADD: operator.add,
    Op.SUBTRACT: operator.sub,
    Op.MULTIPLY: operator.mul,
    Op.DIVIDE: operator.floordiv,
    Op.SHIFT_LEFT: operator.lshift,
    Op.SHIFT_RIGHT: operator.rshift,
}
"""The extremes of what these compute are at the extremes of their operands."""


def may_raise(node: Node) -> bool:
    """Tell whether a node, or a part of it, may raise."""
    return _raises_itself(node) or any(map(may_raise, node.parts))


def _raises_itself(node: Node) -> bool:
    match node:
        case Refuse() | Peek() | Index():
            return True
        case Arithmetic(_, left, right):
            return _may_be_none(left) or _may_be_none(right) or _bounds(node) is None
        case Compare(order, left, right):
            return order not in (Order.EQ, Order.NE) and (_may_be_none(left) or _may_be_none(right))
        case Integer():
            return _bounds(node) is None
    return False


def _may_be_none(node: Node) -> bool:
    match node:
        case Const(value):
            return value is None
        case Number(field):
            return field in _OPTIONAL
        case And(left, right) | Select(_, left, right):
            return _may_be_none(left) or _may_be_none(right)
        case Or(_, last) | Then(_, last):
            return _may_be_none(last)
    return False


def _bounds(node: Node) -> Bounds | None:
    """Give the least and the largest number that a node comes to; None if it may not fit in 64 bits."""
    match node:
        case Const(int() as value):
            return value, value
        case Number(field):
            return 0, MOST if field in _COUNTERS or field == Field.HALF_PACKETS else _LARGEST_FIELD
        case Length():
            return 0, _MOST_BYTES
        case Find():
            return -1, _MOST_BYTES
        case Index():
            return 0, 255
        case Integer(Slice(_, None | Const(int()) as start, Const(int(stop)))):
            width = stop - (start.value if isinstance(start, Const) and isinstance(start.value, int) else 0)
            return (0, (1 << 8 * width) - 1) if stop >= 0 and 0 <= width <= 7 and width <= stop else None
        case Integer():
            return None
        case Arithmetic(op, left, right):
            x, y = _bounds(left), _bounds(right)
            return None if x is None or y is None else _of_operation(op, x, y)
        case And() | Or() | Select() | Then():
            return LEAST, MOST
    return 0, 1


def _of_operation(op: int, x: Bounds, y: Bounds) -> Bounds | None:
    divides, shifts = op in (Op.DIVIDE, Op.MODULO), op in (Op.SHIFT_LEFT, Op.SHIFT_RIGHT)
    if (divides and y[0] <= 0) or (shifts and not 0 <= y[0] <= y[1] <= 63):
        return None
    if op == Op.MODULO:
        return 0, y[1] - 1
    if op == Op.AND and max(x[0], y[0]) >= 0:
        return 0, min(bounds[1] for bounds in (x, y) if bounds[0] >= 0)
    if op in (Op.AND, Op.OR, Op.XOR):
        return (0, MOST) if min(x[0], y[0]) >= 0 else (LEAST, MOST)
    corners = [_MONOTONIC[op](first, second) for first in x for second in y]
    low, high = min(corners), max(corners)
    return (low, high) if low >= LEAST and high <= MOST else None
