"""Tests with two ways out, of which the one that comes next in the program needs no jump."""

from collections.abc import Sequence
from typing import Any

import attrs

from aiomos.ude.assembler import Assembler, Label
from aiomos.ude.instructions import Op, Relation
from aiomos.ude.nodes import Kind

__all__ = ["LINEAR", "MOST", "Brancher", "Ways"]

MOST = (1 << 63) - 1
LINEAR = 4  # ranges that are looked through one by one


@attrs.frozen
class Ways:
    """Where a condition leads.

    Attributes:
        yes: If it is true.
        no: If it is false.
        after: The one of these that comes next; None if neither does.
    """

    yes: Label
    no: Label
    after: Label | None

    @property
    def swapped(self) -> "Ways":
        """Those of the opposite condition."""
        return Ways(self.no, self.yes, self.after)


class Brancher:
    """Emits tests into a program."""

    def __init__(self) -> None:
        self.code = Assembler()

    def go(self, place: Label, ways: Ways) -> None:
        """Lead to one of the ways, by a jump unless it comes next."""
        if place is not ways.after:
            self.code.emit(Op.JUMP, target=place)

    def test(self, op: int, opposite: int, ways: Ways, **parts: Any) -> None:
        """Emit a test and its ways; *opposite* is the op that jumps where *op* does not."""
        if ways.after is ways.yes:
            self.code.emit(opposite, target=ways.no, **parts)
        else:
            self.code.emit(op, target=ways.yes, **parts)
            self.go(ways.no, ways)

    def test_bytes(self, relation: Relation, register: int, literal: bytes, ways: Ways) -> None:
        """Emit a test of bytes against a literal."""
        parts: dict[str, Any] = {"a": register, "c": relation, "low": literal}
        if ways.after is ways.yes:
            self.code.emit(Op.JUMP_BYTES, b=1, target=ways.no, **parts)
        else:
            self.code.emit(Op.JUMP_BYTES, target=ways.yes, **parts)
            self.go(ways.no, ways)

    def on_truth(self, kinds: Kind, register: int, ways: Ways) -> None:
        """Emit a test whether a number is not 0, or bytes are not empty."""
        if kinds & Kind.BYTES:
            self.test_bytes(Relation.IS, register, b"", ways.swapped)
        else:
            self.test(Op.JUMP_OUT, Op.JUMP_IN, ways, a=register)

    def same_bytes(self, x: int, y: int, ways: Ways) -> None:
        """Emit a test whether two registers hold the same bytes."""
        if ways.after is ways.yes:
            self.code.emit(Op.JUMP_SAME, x, y, 1, target=ways.no)
        else:
            self.code.emit(Op.JUMP_SAME, x, y, target=ways.yes)
            self.go(ways.no, ways)

    def among_numbers(self, register: int, ranges: Sequence[tuple[int, int]], ways: Ways) -> None:
        """Emit a search for a number in ascending, disjoint ranges."""
        if len(ranges) > LINEAR:
            middle, upper = len(ranges) // 2, Label()
            self.code.emit(Op.JUMP_IN, register, low=ranges[middle][0], high=MOST, target=upper)
            self.among_numbers(register, ranges[:middle], attrs.evolve(ways, after=None))
            self.code.bind(upper)
            self.among_numbers(register, ranges[middle:], ways)
            return
        for low, high in ranges[:-1]:
            self.code.emit(Op.JUMP_IN, register, low=low, high=high, target=ways.yes)
        for low, high in ranges[-1:]:
            self.test(Op.JUMP_IN, Op.JUMP_OUT, ways, a=register, low=low, high=high)
        if not ranges:
            self.go(ways.no, ways)
