"""The values that the translator of predicates works with, and what kind they must be of."""

import attrs

from aiomos.ude.nodes import Const, Kind, Node

__all__ = ["Static", "Unsupported", "Value", "as_node", "describe", "of_kind"]

LEAST, MOST = -(1 << 63), (1 << 63) - 1


class Unsupported(Exception):  # noqa: N818  not an error by itself
    """Something that the machine cannot do; the message says what the predicate does there."""


@attrs.frozen
class Static:
    """A value that is known when the predicate is defined: any object of Python."""

    value: object


Value = Node | Static


def as_node(value: Value) -> Node:
    """Make a constant a node.

    Raises:
        Unsupported: It is one that the machine knows nothing of.
    """
    if isinstance(value, Node):
        return value
    constant = value.value
    if isinstance(constant, int):
        if not LEAST <= constant <= MOST:
            raise Unsupported("takes a constant that does not fit in 64 bits")
        return Const(int(constant))
    if constant is None or type(constant) is bytes:
        return Const(constant)
    raise Unsupported(f"takes {describe(value)}")


def of_kind(value: Value, kind: Kind) -> Node:
    """Make sure that a value is of *kind* or None; where it is None, Python raises, and so it is left to Python.

    Raises:
        Unsupported: It is, or may be, of another kind.
    """
    node = as_node(value)
    if not node.kinds & kind or node.kinds & ~(kind | Kind.NONE):
        raise Unsupported(f"takes {describe(value)} for {_NAMES[kind]}")
    return node


_NAMES = {
    Kind.NUMBER: "a number",
    Kind.BYTES: "bytes",
    Kind.ADDRESS: "an address",
    Kind.TEXT: "a text",
    Kind.THING: "a packet, flow or half",
    Kind.NONE: "None",
}


def describe(value: Value) -> str:
    """Say what a value is, for messages."""
    if isinstance(value, Static):
        return f"a constant {type(value.value).__name__}"
    return (
        " or ".join(name for kind, name in _NAMES.items() if value.kinds & kind and kind is not Kind.NONE)
        or "None"
    )
