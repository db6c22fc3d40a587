"""From instructions and labels to a program."""

import attrs

from aiomos.ude.machine import Program
from aiomos.ude.verifier import Step

__all__ = ["Assembler", "Label"]


@attrs.define(eq=False)
class Label:
    """A place in a program that jumps lead to; bound once, after the last jump to it."""

    at: int = 0


@attrs.frozen
class _Draft:
    """An instruction whose jumps lead to labels."""

    step: Step
    target: Label | None
    otherwise: Label | None

    def resolved(self) -> Step:
        return self.step._replace(
            target=0 if self.target is None else self.target.at,
            otherwise=0 if self.otherwise is None else self.otherwise.at,
        )


class Assembler:
    """Collects instructions into a `Program`, with labels for the targets of jumps."""

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []

    def __len__(self) -> int:
        return len(self._drafts)

    def emit(
        self,
        op: int,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        d: int = 0,
        *,
        low: int | bytes = 0,
        high: int | bytes = 0,
        target: Label | None = None,
        otherwise: Label | None = None,
    ) -> None:
        """Append one instruction; see `Step` for its parts."""
        self._drafts.append(_Draft(Step(op, a, b, c, d, low=low, high=high), target, otherwise))

    def bind(self, label: Label) -> None:
        """Make *label* the place of the next instruction."""
        label.at = len(self._drafts)

    def steps(self) -> list[Step]:
        """Resolve the labels."""
        return [draft.resolved() for draft in self._drafts]

    def program(self) -> Program:
        """Resolve the labels and verify.

        Returns:
            The program.

        Raises:
            ValueError: It is not a valid program; see `Program`.
        """
        return Program(self.steps())
