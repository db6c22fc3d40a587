"""The names of instructions in a listing."""

import pytest

from aiomos.ude.instructions import AddressField, Op, Relation
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


HALF = AddressField.HALF_ADDRESS


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step(Op.PEEK, 0, 1, 0, 2, otherwise=5), "peek r0 r1 r2 client else 5"),
        (Step(Op.PEEK, 0, 1, 3, 2, otherwise=5), "peek r0 r1 r2 peer else 5"),
        (
            Step(Op.JUMP_ADDRESS_SAME, 0, HALF, 1, HALF, target=3, otherwise=5),
            "jump address same server.address client.address -> 3 else 5",
        ),
        (
            Step(Op.JUMP_ADDRESS_IN, 0, HALF, 1, 4, low=0xFFFF0A000000, high=0xFFFF0AFFFFFF, target=3),
            "jump address in server.address 10.0.0.0 10.255.255.255 -> 3 else 0",
        ),
    ],
)
def test_whose_fields_and_bytes(step: Step, line: str) -> None:
    assert " ".join(listing([step]).split()) == f"0 {line}"
