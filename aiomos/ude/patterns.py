"""What the code generator recognises in trees: what is worth sharing, and what one instruction can do."""

from collections import Counter
from collections.abc import Iterable

from aiomos.ude.instructions import Field, Op, Relation
from aiomos.ude.nodes import (
    Arithmetic,
    Compare,
    Const,
    Find,
    InAddresses,
    Index,
    InNumbers,
    Integer,
    Length,
    Node,
    Number,
    Order,
    Peek,
    Related,
    Slice,
)

__all__ = ["flag_mask", "range_of", "shared", "whole_of_prefix"]

LEAST, MOST = -(1 << 63), (1 << 63) - 1
WORTH_KEEPING = 3  # steps that a recall saves
SEARCH = 10  # steps that looking through many bytes stands for

_SHAREABLE = (
    Arithmetic,
    Compare,
    InNumbers,
    InAddresses,
    Index,
    Length,
    Find,
    Integer,
    Related,
    Slice,
    Peek,
)  # never None


def shared(trees: Iterable[Node]) -> frozenset[Node]:
    """Find what is worth keeping: met more than once, other than within what is met more than once itself."""
    met: Counter[Node] = Counter()

    def meet(node: Node) -> None:
        met[node] += 1
        if met[node] == 1:
            for part in node.parts:
                meet(part)

    for tree in trees:
        meet(tree)
    return frozenset(
        node
        for node, times in met.items()
        if times > 1 and isinstance(node, _SHAREABLE) and _cost(node) >= WORTH_KEEPING
    )


def _cost(node: Node) -> int:
    """Estimate how many steps a node takes."""
    if flag_mask(node) is not None:
        return 1
    own = (
        SEARCH
        if isinstance(node, Peek | Find) or (isinstance(node, Related) and node.relation >= Relation.HOLDS)
        else 1
    )
    parts = [part for part in node.parts if not isinstance(part, Const)]
    if isinstance(node, Compare | InNumbers) and all(isinstance(part, Number) for part in parts):
        return own
    return own + sum(map(_cost, parts))


def range_of(order: Order, value: int) -> tuple[int, int]:
    """Give the numbers for which a comparison with *value* holds; (1, 0) for none."""
    low, high = {
        Order.EQ: (value, value),
        Order.LT: (LEAST, value - 1),
        Order.LE: (LEAST, value),
        Order.GT: (value + 1, MOST),
        Order.GE: (value, MOST),
    }[order]
    return (low, high) if LEAST <= low <= high <= MOST else (1, 0)


def flag_mask(node: Node) -> int | None:
    """Tell which flags ``pkt.flags & 0x12`` looks at; None if it is not that."""
    match node:
        case Arithmetic(Op.AND, Number(Field.FLAGS), Const(int() as mask)):
            return mask
    return None


def whole_of_prefix(node: Related) -> Node | None:
    """Give x where ``x[:4]`` is compared with literals of 4 bytes, as then x starts with them."""
    match node:
        case Related(Relation.IS, Slice(whole, None | Const(0), Const(int() as stop)), literals) if literals:
            return whole if all(len(literal) == stop for literal in literals) else None
    return None
