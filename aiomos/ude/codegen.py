"""From the tree of a predicate to instructions.

Conditions become jumps: `_branch` emits what leads to one label where a node is true and to another where it is false;
the one that comes next in the program is reached by falling through. Numbers and bytes are computed into registers,
from a given one up. Where Python would raise, or compute with numbers beyond 64 bits, the program leads to a label
where it gives the answer up.

What several predicates compute alike is computed once, when the first of them needs it: its register is kept, and
recalled by the others.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from aiomos.ude.assembler import Label
from aiomos.ude.branches import LINEAR, MOST, Brancher, Ways
from aiomos.ude.instructions import AddressField, Field, Limit, Op, Relation
from aiomos.ude.nodes import (
    Address,
    And,
    Arithmetic,
    Bytes,
    Compare,
    Const,
    Find,
    Flags,
    InAddresses,
    Index,
    InNumbers,
    Integer,
    IsNone,
    Kind,
    Length,
    Node,
    Not,
    Number,
    Or,
    Order,
    Peek,
    Refuse,
    Related,
    Select,
    Slice,
    Then,
    Thing,
)
from aiomos.ude.patterns import flag_mask, range_of, shared, whole_of_prefix

__all__ = ["CannotCompile", "Generator"]

MOST_ADDRESS = (1 << 128) - 1
MOST_STEPS = 1500  # of one predicate
FIRST_KEPT = Limit.REGISTERS // 2  # registers from here on are kept for recalling


class CannotCompile(Exception):  # noqa: N818  not an error by itself
    """A predicate that the machine has no room or no form for; the message is why."""


class Generator(Brancher):
    """Emits predicates into one program.

    Args:
        trees: All that will be emitted.
    """

    def __init__(self, trees: Iterable[Node]) -> None:
        super().__init__()
        self._unsure = Label()
        self._shared = shared(trees)
        self._kept: dict[Node, int] = {}

    def predicate(self, tree: Node, refused: Label, unsure: Label) -> None:
        """Emit what falls through where the predicate holds.

        Raises:
            CannotCompile: It is too large or nested too deep, or mixes kinds of values.
        """
        before = len(self.code)
        self._unsure = unsure
        holds = Label()
        self._branch(tree, Ways(holds, refused, holds), 0)
        self.code.bind(holds)
        if len(self.code) - before > MOST_STEPS:
            raise CannotCompile("it is too large")

    # --- conditions -------------------------------------------------------------------------------

    def _branch(self, node: Node, ways: Ways, at: int) -> None:
        """Emit what leads to where the truth of *node* belongs; registers from *at* on are free."""
        if node in self._shared:
            self.on_truth(node.kinds, self._value(node, at, self._unsure), ways)
        else:
            self._branch_anew(node, ways, at)

    def _branch_anew(self, node: Node, ways: Ways, at: int) -> None:
        match node:
            case Const(value):
                self.go(ways.yes if value else ways.no, ways)
            case Refuse():
                self.code.emit(Op.JUMP, target=self._unsure)
            case Not(value):
                self._branch(value, ways.swapped, at)
            case And() | Or():
                self._junction(node, ways, at)
            case Select(test, yes, no):
                chosen, other = Label(), Label()
                self._branch(test, Ways(chosen, other, chosen), at)
                self.code.bind(chosen)
                self._branch(yes, attrs.evolve(ways, after=None), at)
                self.code.bind(other)
                self._branch(no, ways, at)
            case Then(first, then):
                self._evaluate(first, at)
                self._branch(then, ways, at)
            case Flags(mask, value):
                parts = {"low": mask, "high": value, "otherwise": self._unsure}
                self.test(Op.JUMP_FLAGS, Op.JUMP_FLAGS_NOT, ways, **parts)
            case Thing() | Number() | Address():
                self._field_truth(node, ways)
            case IsNone(value):
                self._is_none(value, ways, at)
            case Compare():
                self._compare(node, ways, at)
            case InNumbers():
                self._in_numbers(node, ways, at)
            case InAddresses():
                self._in_addresses(node, ways)
            case Related():
                self._related(node, ways, at)
            case _:
                self.on_truth(node.kinds, self._value(node, at, ways.no), ways)

    def _evaluate(self, node: Node, at: int) -> None:
        """Emit what comes to a value only because it may raise."""
        done = Label()
        self._branch(node, Ways(done, done, done), at)
        self.code.bind(done)

    def _junction(self, node: And | Or, ways: Ways, at: int) -> None:
        further = Label()
        if isinstance(node, And):
            self._branch(node.left, Ways(further, ways.no, further), at)
        else:
            self._branch(node.left, Ways(ways.yes, further, further), at)
        self.code.bind(further)
        self._branch(node.right, ways, at)

    def _field_truth(self, node: Thing | Number | Address, ways: Ways) -> None:
        """No field is negative."""
        if isinstance(node, Number) and not node.names:
            self._field_range(node, (1, MOST), ways)
        else:
            self._presence(node, ways)

    def _field_range(
        self, node: Number, numbers: tuple[int, int], ways: Ways, *, strict: bool = False
    ) -> None:
        low, high = numbers
        parts: dict[str, Any] = {"a": int(strict), "b": node.field, "c": node.which, "low": low, "high": high}
        self.test(Op.JUMP_FIELD_IN, Op.JUMP_FIELD_OUT, ways, otherwise=self._unsure, **parts)

    def _presence(self, node: Thing | Number | Address, ways: Ways) -> None:
        """Lead to `yes` where a field is not None. An address is there where the IP version, or a port, is."""
        if isinstance(node, Address):
            of_half = node.field == AddressField.HALF_ADDRESS
            node = Number(Field.HALF_PORT if of_half else Field.PACKET_IP_VERSION, node.which)
        which = max(node.which, 0)
        self.test(Op.JUMP_SOME, Op.JUMP_NONE, ways, b=node.field, c=which, otherwise=self._unsure)

    def _is_none(self, node: Node, ways: Ways, at: int) -> None:
        if isinstance(node, Thing | Number | Address):
            self._presence(node, ways.swapped)
        else:
            self._value(node, at, ways.yes)
            self.go(ways.no, ways)

    # --- comparisons ------------------------------------------------------------------------------

    def _compare(self, node: Compare, ways: Ways, at: int) -> None:
        order, left, right = node.order, node.left, node.right
        if isinstance(left, Const) and not isinstance(right, Const):
            order, left, right = order.mirrored, right, left
        if order is Order.NE:
            order, ways = Order.EQ, ways.swapped
        if isinstance(left, Address) and isinstance(right, Address):
            parts = {"a": right.which, "b": left.field, "c": left.which, "d": right.field}
            ops = (Op.JUMP_ADDRESS_SAME, Op.JUMP_ADDRESS_DIFFERS)
            self.test(*ops, ways, otherwise=self._unsure, **parts)
        elif isinstance(right, Const) and isinstance(right.value, int):
            self._compare_constant(order, left, right.value, ways, at)
        elif order is Order.EQ:
            self._compare_equal(left, right, ways, at)
        else:
            x, y = self._both(left, right, at)
            if order in (Order.GT, Order.LE):
                x, y = y, x
            ops = (Op.JUMP_LT, Op.JUMP_GE)
            self.test(*(ops if order in (Order.LT, Order.GT) else ops[::-1]), ways, a=x, b=y)

    def _compare_constant(self, order: Order, left: Node, value: int, ways: Ways, at: int) -> None:
        numbers = range_of(order, value)
        mask = flag_mask(left)
        if mask is not None and order is Order.EQ:
            parts = {"a": 1, "low": mask, "high": value}
            self.test(Op.JUMP_FLAGS, Op.JUMP_FLAGS_NOT, ways, otherwise=self._unsure, **parts)
        elif isinstance(left, Number):
            self._field_range(left, numbers, ways, strict=order is not Order.EQ)
        else:
            register = self._value(left, at, ways.no if order is Order.EQ else self._unsure)
            self.test(Op.JUMP_IN, Op.JUMP_OUT, ways, a=register, low=numbers[0], high=numbers[1])

    def _compare_equal(self, left: Node, right: Node, ways: Ways, at: int) -> None:
        """None is equal to None."""
        nothing = Label()
        x = self._value(left, at, nothing)
        y = self._value(right, at + 1, ways.no)
        inner = attrs.evolve(ways, after=None) if left.kinds & Kind.NONE else ways
        if left.kinds & Kind.BYTES:
            self.same_bytes(x, y, inner)
        else:
            self.test(Op.JUMP_EQ, Op.JUMP_NE, inner, a=x, b=y)
        if left.kinds & Kind.NONE:
            self.code.bind(nothing)
            self._is_none(right, ways, at)

    # --- membership -------------------------------------------------------------------------------

    def _in_numbers(self, node: InNumbers, ways: Ways, at: int) -> None:
        ranges = node.ranges
        if isinstance(node.value, Number) and len(ranges) == 1:
            self._field_range(node.value, ranges[0], ways)
            return
        register = self._value(node.value, at, ways.no)
        self.among_numbers(register, ranges, ways)

    def _in_addresses(self, node: InAddresses, ways: Ways) -> None:
        """Ranges are sorted by version; one that nothing is in stands for none."""
        self._among_addresses(node.value, node.ranges or ((4, 1, 0),), ways)

    def _among_addresses(self, address: Address, ranges: Sequence[tuple[int, int, int]], ways: Ways) -> None:
        if len(ranges) > LINEAR:
            middle, upper, lower = len(ranges) // 2, Label(), Label()
            version, low, _ = ranges[middle]
            self._address_range(address, (version, low, MOST_ADDRESS), Ways(upper, lower, lower))
            if version == 4:
                self._address_range(address, (6, 0, MOST_ADDRESS), Ways(upper, lower, lower))
            self.code.bind(lower)
            self._among_addresses(address, ranges[:middle], attrs.evolve(ways, after=None))
            self.code.bind(upper)
            self._among_addresses(address, ranges[middle:], ways)
            return
        for numbers in ranges[:-1]:
            self._address_range(address, numbers, Ways(ways.yes, ways.no, ways.no))
        self._address_range(address, ranges[-1], ways)

    def _address_range(self, address: Address, numbers: tuple[int, int, int], ways: Ways) -> None:
        version, low, high = numbers
        parts: dict[str, Any] = {
            "b": address.field,
            "c": address.which,
            "d": version,
            "low": low,
            "high": high,
        }
        self.test(Op.JUMP_ADDRESS_IN, Op.JUMP_ADDRESS_OUT, ways, otherwise=self._unsure, **parts)

    def _related(self, node: Related, ways: Ways, at: int) -> None:
        relation, whole = node.relation, node.whole
        missing = ways.no if relation is Relation.IS else self._unsure
        prefix = whole_of_prefix(node)
        if prefix is not None:
            relation, whole, missing = Relation.STARTS, prefix, self._unsure
        register = self._value(whole, at, missing)
        for literal in node.literals[:-1]:
            self.test_bytes(relation, register, literal, Ways(ways.yes, ways.no, ways.no))
        for literal in node.literals[-1:]:
            self.test_bytes(relation, register, literal, ways)
        if not node.literals:
            self.go(ways.no, ways)

    # --- values -----------------------------------------------------------------------------------

    def _value(self, node: Node, at: int, missing: Label) -> int:
        """Emit what computes a number or bytes, or leads to *missing* where the value is None.

        Returns:
            The register that it is in: *at*, or one that is kept.
        """
        if at >= FIRST_KEPT:
            raise CannotCompile("it is nested too deep")
        if node not in self._shared:
            self._compute(node, at, at, missing)
            return at
        first = node not in self._kept
        if first and FIRST_KEPT + len(self._kept) >= Limit.REGISTERS:
            self._compute(node, at, at, missing)
            return at
        register = self._kept.setdefault(node, FIRST_KEPT + len(self._kept))
        done = Label()
        if not first:
            self.code.emit(Op.RECALL, register, target=done)
        self._compute(node, register, at, missing)
        self.code.emit(Op.KEEP, register)
        self.code.bind(done)
        return register

    def _into(self, node: Node, to: int, at: int, missing: Label) -> None:
        """Like `_value`, but into the register *to*."""
        if node not in self._shared:
            self._compute(node, to, at, missing)
            return
        register = self._value(node, at, missing)
        if node.kinds & Kind.BYTES:
            self.code.emit(Op.SLICE, to, register, low=0, high=MOST)
        else:
            self.code.emit(Op.ADD, to, register, Limit.IMMEDIATE, otherwise=self._unsure)

    def _both(self, left: Node, right: Node, at: int) -> tuple[int, int]:
        return self._value(left, at, self._unsure), self._value(right, at + 1, self._unsure)

    def _compute(self, node: Node, to: int, at: int, missing: Label) -> None:
        """Emit what computes a value into the register *to*; those from *at* on are free."""
        match node:
            case Const():
                self._constant(node, to, missing)
            case Number(field, which):
                self.code.emit(Op.LOAD, to, field, which, target=missing, otherwise=self._unsure)
            case Bytes(field):
                self.code.emit(Op.BYTES, to, field, target=missing, otherwise=self._unsure)
            case Arithmetic(op, left, right):
                self._arithmetic(op, left, right, to, at)
            case And() | Or() | Select() | Then() | Refuse():
                self._chosen(node, to, at, missing)
            case Slice() | Index() | Length() | Find() | Integer() | Peek():
                self._of_bytes(node, to, at)
            case Thing() | Address():
                raise CannotCompile("it computes with a packet, flow, half or address")
            case _:
                self._truth_value(node, to, at)

    def _constant(self, node: Const, to: int, missing: Label) -> None:
        if node.value is None:
            self.code.emit(Op.JUMP, target=missing)
        else:
            self.code.emit(Op.LITERAL if isinstance(node.value, bytes) else Op.CONSTANT, to, low=node.value)

    def _arithmetic(self, op: int, left: Node, right: Node, to: int, at: int) -> None:
        x = self._value(left, at, self._unsure)
        if isinstance(right, Const) and isinstance(right.value, int):
            self.code.emit(op, to, x, Limit.IMMEDIATE, low=right.value, otherwise=self._unsure)
        else:
            y = self._value(right, at + 1, self._unsure)
            self.code.emit(op, to, x, y, otherwise=self._unsure)

    def _truth_value(self, node: Node, to: int, at: int) -> None:
        """Make a condition a number, 1 or 0."""
        yes, no, done = Label(), Label(), Label()
        self._branch_anew(node, Ways(yes, no, yes), at)
        self.code.bind(yes)
        self.code.emit(Op.CONSTANT, to, low=1)
        self.code.emit(Op.JUMP, target=done)
        self.code.bind(no)
        self.code.emit(Op.CONSTANT, to)
        self.code.bind(done)

    def _chosen(self, node: And | Or | Select | Then | Refuse, to: int, at: int, missing: Label) -> None:
        """Compute one of two values."""
        done, other = Label(), Label()
        match node:
            case And(left, right):
                if left.kinds & (Kind.NUMBER | Kind.BYTES):
                    self._first(left, to, at, missing, Ways(other, done, other))
                else:  # never false, but it may be None
                    self._branch(left, Ways(other, missing, other), at)
                self.code.bind(other)
                self._into(right, to, at, missing)
            case Or(left, right):
                self._first(left, to, at, other, Ways(done, other, other))
                self.code.bind(other)
                self._into(right, to, at, missing)
            case Select(test, yes, no):
                chosen = Label()
                self._branch(test, Ways(chosen, other, chosen), at)
                self.code.bind(chosen)
                self._into(yes, to, at, missing)
                self.code.emit(Op.JUMP, target=done)
                self.code.bind(other)
                self._into(no, to, at, missing)
            case Then(first, then):
                self._evaluate(first, at)
                self._into(then, to, at, missing)
            case Refuse():
                self.code.emit(Op.JUMP, target=self._unsure)
        self.code.bind(done)

    def _first(self, node: Node, to: int, at: int, missing: Label, ways: Ways) -> None:
        """Compute the first value of a junction, and go where its truth leads."""
        if (node.kinds & ~Kind.NONE) not in (Kind.NUMBER, Kind.BYTES):
            raise CannotCompile("it mixes numbers, bytes and texts")
        self._into(node, to, at, missing)
        self.on_truth(node.kinds, to, ways)

    def _of_bytes(self, node: Node, to: int, at: int) -> None:
        match node:
            case Slice(whole, start, stop):
                self._slice(whole, start, stop, to, at)
            case Index(whole, Const(int() as place)):
                x = self._value(whole, at, self._unsure)
                self.code.emit(Op.INDEX, to, x, Limit.IMMEDIATE, low=place, otherwise=self._unsure)
            case Index(whole, place):
                x, y = self._both(whole, place, at)
                self.code.emit(Op.INDEX, to, x, y, otherwise=self._unsure)
            case Length(whole):
                self.code.emit(Op.LENGTH, to, self._value(whole, at, self._unsure))
            case Find(whole, part):
                self.code.emit(Op.FIND, to, self._value(whole, at, self._unsure), low=part)
            case Integer(whole, little):
                x = self._value(whole, at, self._unsure)
                self.code.emit(Op.INTEGER, to, x, int(little), otherwise=self._unsure)
            case Peek(which, offset, length):
                x, y = self._both(offset, length, at)
                self.code.emit(Op.PEEK, to, x, which, y, otherwise=self._unsure)

    def _slice(self, whole: Node, start: Node | None, stop: Node | None, to: int, at: int) -> None:
        x = self._value(whole, at, self._unsure)
        first, last = start or Const(0), stop or Const(MOST)
        if isinstance(first, Const) and isinstance(last, Const):
            low, high = first.value or 0, MOST if last.value is None else last.value
            self.code.emit(Op.SLICE, to, x, low=low, high=high)
            return
        self._bound(first, at + 1, 0)
        self._bound(last, at + 2, MOST)
        self.code.emit(Op.SLICE_BY, to, x, at + 1, at + 2)

    def _bound(self, node: Node, at: int, default: int) -> None:
        """Compute a bound of a slice; None is a missing one."""
        if at >= FIRST_KEPT:
            raise CannotCompile("it is nested too deep")
        missing, done = Label(), Label()
        self._into(node, at, at, missing)
        if node.kinds & Kind.NONE:
            self.code.emit(Op.JUMP, target=done)
            self.code.bind(missing)
            self.code.emit(Op.CONSTANT, at, low=default)
        self.code.bind(done)
