"""All predicates of one event, in one program and with one guard."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from aiomos.ude.assembler import Assembler, Label
from aiomos.ude.codegen import Generator
from aiomos.ude.expressions import Expression, jump_unless
from aiomos.ude.guard import CASES, EVERYWHERE, may_fire, reads_flow
from aiomos.ude.instructions import Op
from aiomos.ude.machine import Predicates, Program
from aiomos.ude.nodes import Node
from aiomos.ude.shortening import shortened
from aiomos.ude.verifier import Step

__all__ = ["Judged", "alone", "combine"]

MOST_EVENTS = 64
GROUP = 8  # events that are skipped together


class _Compiled(Protocol):
    @property
    def tree(self) -> Node: ...


Judged = tuple[int, int | None, _Compiled | None, Expression | None]
"""An event to be judged: its bit; that of the event upon which it is built, None for the built-in one; its predicate,
None where only Python can tell; and what picks the flows on which it can happen, None for all."""


def alone(tree: Node) -> list[Step]:
    """Compile one predicate: the program of an event 0 with nothing around it.

    Raises:
        CannotCompile: It is too large or nested too deep, or mixes kinds of values.
    """
    generator = Generator([tree])
    refused, unsure, end = Label(), Label(), Label()
    generator.predicate(tree, refused, unsure)
    code = generator.code
    code.emit(Op.RETURN, low=1)
    code.bind(unsure)
    code.emit(Op.UNSURE, target=end)
    code.bind(refused)
    code.bind(end)
    code.emit(Op.RETURN)
    return shortened(code.steps())


def combine(events: Sequence[Judged]) -> Predicates:
    """Compile the predicates of one built-in event together.

    Args:
        events: At most 64, each after the one upon which it is built.

    Returns:
        What judges them all: those that fire, and those that Python has to decide. Those built upon one that Python
        has to decide are judged as if it fired.

    Raises:
        ValueError: There are too many, a bit is there twice, or one is built upon one that does not stand before it.
    """
    _check(events)
    builder = _Builder(events)
    trees = {bit: compiled.tree for bit, _, compiled, _ in events if compiled is not None}
    asks_flow = any(map(reads_flow, trees.values()))
    return Predicates(builder.program(), _guard(events), sum(1 << bit for bit in trees), asks_flow)


def _check(events: Sequence[Judged]) -> None:
    if len(events) > MOST_EVENTS:
        raise ValueError(
            f"at most {MOST_EVENTS} user-defined events can be built upon one event, not {len(events)}"
        )
    seen: set[int] = set()
    for bit, parent, _, _ in events:
        if bit in seen or bit not in range(MOST_EVENTS):
            raise ValueError(f"bit {bit} is there twice, or not one of 0 to {MOST_EVENTS - 1}")
        if parent is not None and parent not in seen:
            raise ValueError(f"event {bit} is built upon {parent}, which does not stand before it")
        seen.add(bit)


class _Builder:
    """Emits events depth first, so that all that are built upon one are skipped where it does not fire."""

    def __init__(self, events: Sequence[Judged]) -> None:
        self._children: dict[int | None, list[Judged]] = {None: []}
        for event in events:
            self._children.setdefault(event[1], []).append(event)
        self._generator = Generator(compiled.tree for _, _, compiled, _ in events if compiled is not None)

    def program(self) -> Program:
        self._level(None)
        self._code.emit(Op.RETURN)
        return Program(shortened(self._code.steps()))

    @property
    def _code(self) -> Assembler:
        return self._generator.code

    def _level(self, parent: int | None) -> None:
        """Emit all events built upon *parent*."""
        events = self._children.get(parent, [])
        groups = [events[at : at + GROUP] for at in range(0, len(events), GROUP)]
        for group in groups:
            past = Label()
            if len(groups) > 1:
                wanted = sum(1 << event[0] for event in group)
                self._code.emit(Op.JUMP_UNWANTED, low=wanted, target=past)
            for event in group:
                self._event(event)
            self._code.bind(past)

    def _event(self, event: Judged) -> None:
        bit, _, compiled, chosen = event
        further, unsure, end = Label(), Label(), Label()
        self._code.emit(Op.JUMP_UNWANTED, low=1 << bit, target=end)
        if chosen is not None:
            jump_unless(self._code, chosen, end)
        if compiled is not None:
            self._generator.predicate(compiled.tree, end, unsure)
            self._code.emit(Op.FIRE, bit, target=further)
        self._code.bind(unsure)
        self._code.emit(Op.UNSURE, bit, target=further)
        self._code.bind(further)
        self._level(bit)
        self._code.bind(end)


def _guard(events: Sequence[Judged]) -> list[int]:
    """Work out which events may fire in each case: those whose predicates, their own and below, all may hold."""
    cases: dict[int, int] = {}
    for bit, parent, compiled, _ in events:
        below = EVERYWHERE if parent is None else cases[parent]
        cases[bit] = below & (EVERYWHERE if compiled is None else may_fire(compiled.tree))
    return list(_transposed(cases))


def _transposed(cases: dict[int, int]) -> Iterator[int]:
    rows = [f"{where:0{CASES}b}"[::-1] for where in cases.values()]
    bits = [1 << bit for bit in cases]
    known: dict[tuple[str, ...], int] = {}  # most cases are alike
    for column in zip(*rows, strict=True) if rows else [()] * CASES:
        if column not in known:
            known[column] = sum(bit for bit, digit in zip(bits, column, strict=True) if digit == "1")
        yield known[column]
