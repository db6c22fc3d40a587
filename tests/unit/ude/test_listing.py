"""The names of instructions in a listing."""

import pytest

from aiomos.ude.instructions import Op, Relation
from aiomos.ude.listing import listing
from aiomos.ude.verifier import Step


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (Step(Op.JUMP_BYTES, 0, 0, Relation(0), low=b"x", target=1), "jump bytes "),
        (Step(Op.JUMP_BYTES, 0, 1, Relation(0), low=b"x", target=1), "jump bytes not "),
        (Step(Op.JUMP_SAME, 0, 1, 0, target=1), "jump same "),
        (Step(Op.JUMP_SAME, 0, 1, 1, target=1), "jump same not "),
        (Step(Op.INTEGER, 0, 1, 0), "integer big "),
        (Step(Op.INTEGER, 0, 1, 1), "integer little "),
        (Step(Op.ADD, 0, 1, 1), "add "),
    ],
)
def test_names(step: Step, name: str) -> None:
    words = listing([step]).removeprefix("   0  ")
    assert words.startswith(name)
    assert words.removeprefix(name).split()[:1] not in (["not"], ["big"], ["little"])
