"""What a predicate means, as a tree: the form between Python's source and the machine's program.

Nodes are equal if they mean the same, so that the predicates of an event can share what they have in common.
"""

import operator
from collections.abc import Callable
from enum import Enum, Flag, auto
from functools import cached_property
from typing import Any

import attrs

from aiomos.ude.instructions import AddressField, BytesField, Field, Op, Relation

__all__ = [
    "Address",
    "And",
    "Arithmetic",
    "Bytes",
    "Compare",
    "Const",
    "Find",
    "Flags",
    "InAddresses",
    "InNumbers",
    "Index",
    "Integer",
    "IsNone",
    "Kind",
    "Length",
    "Node",
    "Not",
    "Number",
    "Or",
    "Order",
    "Peek",
    "Refuse",
    "Related",
    "Select",
    "Slice",
    "Then",
    "Thing",
]


class Kind(Flag):
    """What kinds of value a node may come to."""

    NUMBER = auto()
    BYTES = auto()
    ADDRESS = auto()
    TEXT = auto()
    THING = auto()
    NONE = auto()


class Order(Enum):
    """A comparison."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def function(self) -> Callable[[Any, Any], bool]:
        """The operator."""
        compare: Callable[[Any, Any], bool] = getattr(operator, self.name.lower())
        return compare

    @property
    def mirrored(self) -> "Order":
        """The same comparison with its sides exchanged."""
        return {"<": Order.GT, "<=": Order.GE, ">": Order.LT, ">=": Order.LE}.get(self.value, self)


class Node:
    """A part of a predicate."""

    kinds: Kind = Kind.NUMBER

    @cached_property
    def parts(self) -> tuple["Node", ...]:
        """The nodes that it is made of."""
        return tuple(value for value in self.__dict__.values() if isinstance(value, Node))

    @cached_property
    def size(self) -> int:
        """How many nodes it is, itself included, as written out."""
        return 1 + sum(part.size for part in self.parts)

    @cached_property
    def depth(self) -> int:
        """How deep it is nested: 1 for a leaf."""
        return 1 + max((part.depth for part in self.parts), default=0)


@attrs.frozen(slots=False, cache_hash=True)
class Const(Node):
    """A number, bytes or None that does not change."""

    value: int | bytes | None

    @property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Its one kind."""
        if self.value is None:
            return Kind.NONE
        return Kind.BYTES if isinstance(self.value, bytes) else Kind.NUMBER


@attrs.frozen(slots=False, cache_hash=True)
class Number(Node):
    """A field: a number, or None; with *names*, a text that the machine knows by number.

    Attributes:
        field: Which.
        which: Of which half, or which flag.
        names: What its numbers stand for.
    """

    field: Field
    which: int = 0
    names: tuple[tuple[int, str], ...] = ()

    @property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Number or text, and None."""
        return (Kind.TEXT if self.names else Kind.NUMBER) | Kind.NONE


@attrs.frozen(slots=False, cache_hash=True)
class Address(Node):
    """An address among the fields; in Python, a text."""

    field: AddressField
    which: int = 0
    kinds = Kind.ADDRESS | Kind.NONE


@attrs.frozen(slots=False, cache_hash=True)
class Bytes(Node):
    """Bytes among the fields."""

    field: BytesField
    kinds = Kind.BYTES | Kind.NONE


@attrs.frozen(slots=False, cache_hash=True)
class Thing(Node):
    """A packet, flow or half as such: there, or None. *which* is that of a half, else -1."""

    field: Field
    which: int = -1
    kinds = Kind.THING | Kind.NONE


@attrs.frozen(slots=False, cache_hash=True)
class Arithmetic(Node):
    """A number made of two."""

    op: Op
    left: Node
    right: Node


@attrs.frozen(slots=False, cache_hash=True)
class Compare(Node):
    """Two values compared: numbers, or bytes or addresses for equality."""

    order: Order
    left: Node
    right: Node


@attrs.frozen(slots=False, cache_hash=True)
class Flags(Node):
    """Whether those TCP flags that *mask* selects are as in *value*; a packet that is no TCP has none set."""

    mask: int
    value: int


@attrs.frozen(slots=False, cache_hash=True)
class InNumbers(Node):
    """Whether a number is in one of the *ranges*, ``(low, high)``, ascending and disjoint."""

    value: Node
    ranges: tuple[tuple[int, int], ...]


@attrs.frozen(slots=False, cache_hash=True)
class InAddresses(Node):
    """Whether an address is in one of the *ranges*, ``(version, low, high)``, ascending and disjoint."""

    value: Address
    ranges: tuple[tuple[int, int, int], ...]


@attrs.frozen(slots=False, cache_hash=True)
class IsNone(Node):
    """Whether a value is None."""

    value: Node


@attrs.frozen(slots=False, cache_hash=True)
class Not(Node):
    """Python's ``not``."""

    value: Node


@attrs.frozen(slots=False, cache_hash=True)
class And(Node):
    """Python's ``and``: the first value that is false, or the last."""

    left: Node
    right: Node

    @cached_property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Those of both; a thing or an address is never false."""
        return (self.left.kinds & ~(Kind.THING | Kind.ADDRESS | Kind.TEXT)) | self.right.kinds


@attrs.frozen(slots=False, cache_hash=True)
class Or(Node):
    """Python's ``or``: the first value that is true, or the last."""

    left: Node
    right: Node

    @cached_property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Those of both; None is never true."""
        return (self.left.kinds & ~Kind.NONE) | self.right.kinds


@attrs.frozen(slots=False, cache_hash=True)
class Select(Node):
    """Python's ``yes if test else no``."""

    test: Node
    yes: Node
    no: Node

    @cached_property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Those of both."""
        return self.yes.kinds | self.no.kinds


@attrs.frozen(slots=False, cache_hash=True)
class Then(Node):
    """A value that is computed, as it may raise, and then another that counts."""

    first: Node
    then: Node

    @cached_property
    def kinds(self) -> Kind:  # type: ignore[override]
        """Those of the second."""
        return self.then.kinds


@attrs.frozen(slots=False, cache_hash=True)
class Refuse(Node):
    """Where Python raises."""


@attrs.frozen(slots=False, cache_hash=True)
class Slice(Node):
    """Part of bytes; a bound may be missing."""

    whole: Node
    start: Node | None
    stop: Node | None
    kinds = Kind.BYTES


@attrs.frozen(slots=False, cache_hash=True)
class Index(Node):
    """One of the bytes, as a number."""

    whole: Node
    at: Node


@attrs.frozen(slots=False, cache_hash=True)
class Length(Node):
    """How many bytes."""

    whole: Node


@attrs.frozen(slots=False, cache_hash=True)
class Find(Node):
    """Where *part* begins, or -1."""

    whole: Node
    part: bytes


@attrs.frozen(slots=False, cache_hash=True)
class Integer(Node):
    """The number that bytes stand for."""

    whole: Node
    little: bool


@attrs.frozen(slots=False, cache_hash=True)
class Related(Node):
    """Whether bytes have a relation to one of the *literals*."""

    relation: Relation
    whole: Node
    literals: tuple[bytes, ...]


@attrs.frozen(slots=False, cache_hash=True)
class Peek(Node):
    """Bytes that are held of a half."""

    which: int
    offset: Node
    length: Node
    kinds = Kind.BYTES
