"""Programs made shorter, without a change of what they do."""

from collections.abc import Sequence

from aiomos.ude.instructions import Op
from aiomos.ude.verifier import FORMS, Step

__all__ = ["shortened"]

_EVERYTHING = -1  # bits: of an instruction that no way leads to


def shortened(steps: Sequence[Step]) -> list[Step]:
    """Leave out recalls that are certain to succeed, tests that lead nowhere else, and what no way leads to.

    Args:
        steps: A valid program.
    """
    row = list(steps)
    while True:
        row = _without_certain_recalls(_with_direct_jumps(row))
        kept = _needed(row)
        if len(kept) == len(row):
            return row
        row = _renumbered(row, kept)


def _with_direct_jumps(steps: list[Step]) -> list[Step]:
    """Let jumps to a jump lead where that leads. As all lead forward, those behind are direct already."""
    end = list(range(len(steps)))
    for at in reversed(range(len(steps))):
        if steps[at].op == Op.JUMP:
            end[at] = end[steps[at].target]
    return [step._replace(target=end[step.target], otherwise=end[step.otherwise]) for step in steps]


def _ways(at: int, step: Step) -> list[int]:
    """Tell where an instruction may lead."""
    form = FORMS[step.op]
    return (
        ([at + 1] if form.goes_on else [])
        + ([step.target] if form.jumps else [])
        + ([step.otherwise] if form.fails else [])
    )


def _without_certain_recalls(steps: list[Step]) -> list[Step]:
    """Make jumps of recalls of what is kept on every way that leads there."""
    kept = [0] + [_EVERYTHING] * (len(steps) - 1)
    result = list(steps)
    for at, step in enumerate(steps):
        if step.op == Op.RECALL and kept[at] >> step.a & 1:
            result[at] = Step(Op.JUMP, target=step.target)
        after = kept[at] | (1 << step.a if step.op in (Op.KEEP, Op.RECALL) else 0)
        for way in _ways(at, step):
            certain = step.op == Op.KEEP or (step.op == Op.RECALL and way == step.target)
            kept[way] &= after if certain else kept[at]
    return result


def _needed(steps: list[Step]) -> list[int]:
    """List the instructions that some way leads to, and that do something or lead to somewhere else."""
    recalled = {step.a for step in steps if step.op == Op.RECALL}
    reached = {0}
    needed = []
    for at, step in enumerate(steps):
        if at not in reached:
            continue
        reached.update(_ways(at, step))
        idle = step.op == Op.KEEP and step.a not in recalled
        if not idle and not (_only_leads(step) and step.target == at + 1):
            needed.append(at)
    return needed


def _only_leads(step: Step) -> bool:
    """Tell whether an instruction only chooses between the next one and its target."""
    form = FORMS[step.op]
    return form.jumps and not form.fails and step.op not in (Op.FIRE, Op.UNSURE, Op.RECALL)


def _renumbered(steps: list[Step], kept: list[int]) -> list[Step]:
    """Take the instructions that are *kept*; jumps to others lead to the next one that is."""
    place = [0] * len(steps)
    following = len(kept)
    for at in reversed(range(len(steps))):
        if following and kept[following - 1] == at:
            following -= 1
        place[at] = following
    return [
        steps[at]._replace(target=place[steps[at].target], otherwise=place[steps[at].otherwise])
        for at in kept
    ]
