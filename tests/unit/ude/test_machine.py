"""The verifier refuses what the machine could not run without checks."""

import pytest

from aiomos.ude.machine import Assembler, Field, Label, Op, Program

FLOW = {
    "client": 0xFFFF_0A00_0001,
    "server": 0xFFFF_0A00_0002,
    "client_port": 40000,
    "server_port": 80,
    "ip_version": 4,
    "proto": 6,
}
YES = (Op.RETURN, 0, 0, 0, 1, 0)
NO = (Op.RETURN, 0, 0, 0, 0, 0)
LOAD = (Op.LOAD, 0, Field.PROTOCOL, 0, 0, 0)

REFUSED = {
    "no instruction": [],
    "last is a load": [LOAD],
    "last is a jump": [YES, (Op.JUMP, 0, 0, 0, 0, 0)],
    "unknown op": [(12, 0, 0, 1, 0, 0), YES],
    "negative op": [(-1, 0, 0, 1, 0, 0), YES],
    "jump to itself": [(Op.JUMP, 0, 0, 0, 0, 0), YES],
    "jump backwards": [LOAD, (Op.JUMP_EQ, 0, 0, 0, 6, 0), YES],
    "jump to the end": [(Op.JUMP, 0, 0, 2, 0, 0), YES],
    "jump far beyond": [(Op.JUMP, 0, 0, 1 << 32, 0, 0), YES],
    "unknown field": [(Op.LOAD, 0, 7, 0, 0, 0), YES],
    "negative field": [(Op.LOAD, 0, -1, 0, 0, 0), YES],
    "unknown register": [(Op.CONSTANT, 16, 0, 0, 0, 0), YES],
    "unknown second register": [LOAD, (Op.JUMP_EQ_REGISTER, 0, 16, 2, 0, 0), YES],
    "register never written": [(Op.JUMP_EQ, 0, 0, 1, 0, 0), YES],
    "second register never written": [LOAD, (Op.JUMP_LT_REGISTER, 0, 1, 2, 0, 0), YES],
    "register written on one way only": [
        LOAD,
        (Op.JUMP_EQ, 0, 0, 3, 6, 0),
        (Op.CONSTANT, 1, 0, 0, 0, 0),
        (Op.JUMP_EQ, 1, 0, 4, 0, 0),
        YES,
    ],
    "constant of 129 bits": [(Op.CONSTANT, 0, 0, 0, 1 << 128, 0), YES],
    "negative constant": [(Op.CONSTANT, 0, 0, 0, -1, 0), YES],
    "longer than the limit": [LOAD] * (1 << 17) + [YES],
}


@pytest.mark.parametrize("steps", REFUSED.values(), ids=REFUSED.keys())
def test_verifier_refuses(steps: list[tuple[int, int, int, int, int, int]]) -> None:
    with pytest.raises(ValueError, match=r"instruction|128 bits"):
        Program(steps)


def test_verifier_error_names_the_instruction() -> None:
    with pytest.raises(ValueError, match=r"^instruction 1: "):
        Program([LOAD, (Op.JUMP, 0, 0, 0, 0, 0), YES])


def test_register_written_on_every_way_can_be_read() -> None:
    program = Program(
        [
            LOAD,
            (Op.JUMP_EQ, 0, 0, 4, 6, 0),
            (Op.CONSTANT, 1, 0, 0, 7, 0),
            (Op.JUMP, 0, 0, 5, 0, 0),
            (Op.CONSTANT, 1, 0, 0, 8, 0),
            (Op.JUMP_EQ, 1, 0, 7, 8, 0),
            NO,
            YES,
        ]
    )
    assert program.matches(**FLOW)
    assert not program.matches(**{**FLOW, "proto": 17})


def test_assembler_resolves_labels_to_the_next_instruction() -> None:
    code, refuse = Assembler(), Label()
    code.emit(Op.LOAD, 3, Field.SERVER_PORT)
    code.emit(Op.JUMP_OUT, 3, low=80, high=90, target=refuse)
    code.emit(Op.RETURN, low=1)
    code.bind(refuse)
    code.emit(Op.RETURN)
    program = code.program()
    assert len(program) == 4
    assert program.matches(**FLOW)
    assert not program.matches(**{**FLOW, "server_port": 91})


def test_assembler_refuses_a_label_never_bound() -> None:
    code = Assembler()
    code.emit(Op.JUMP, target=Label())
    code.emit(Op.RETURN)
    with pytest.raises(ValueError, match="jump to 0"):
        code.program()


@pytest.mark.parametrize("name", ["client", "server"])
def test_matches_refuses_an_address_beyond_128_bits(name: str) -> None:
    with pytest.raises(ValueError, match="128 bits"):
        Program([YES]).matches(**{**FLOW, name: 1 << 128})


@pytest.mark.parametrize("name", ["client_port", "server_port", "ip_version", "proto", "vlan"])
def test_matches_refuses_a_number_too_large_for_its_field(name: str) -> None:
    with pytest.raises(OverflowError):
        Program([YES]).matches(**{**FLOW, name: 1 << 16})
