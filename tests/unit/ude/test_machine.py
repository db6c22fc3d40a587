"""The verifier refuses what the machine could not run without checks."""

import pytest

from aiomos.ude.assembler import Assembler, Label
from aiomos.ude.instructions import AddressField, BytesField, Field, Limit, Op, Relation
from aiomos.ude.listing import listing
from aiomos.ude.machine import Predicates, Program
from aiomos.ude.verifier import FORMS, Step

FLOW = {
    "client": 0xFFFF_0A00_0001,
    "server": 0xFFFF_0A00_0002,
    "client_port": 40000,
    "server_port": 80,
    "ip_version": 4,
    "proto": 6,
}
YES = Step(Op.RETURN, low=1)
NO = Step(Op.RETURN)
SET = Step(Op.CONSTANT, 0, low=6)
LITERAL = Step(Op.LITERAL, 1, low=b"x")

REFUSED = {
    "no instruction": [],
    "last is no return": [SET],
    "last is a jump": [YES, Step(Op.JUMP)],
    "unknown op": [Step(Limit.OPS, target=1), YES],
    "negative op": [Step(-1, target=1), YES],
    "jump to itself": [Step(Op.JUMP), YES],
    "jump backwards": [SET, Step(Op.JUMP_IN, target=0), YES],
    "jump to the end": [Step(Op.JUMP, target=2), YES],
    "jump far beyond": [Step(Op.JUMP, target=1 << 32), YES],
    "otherwise is not forward": [Step(Op.LOAD, 0, Field.TTL, target=1), YES],
    "otherwise is beyond the end": [Step(Op.LOAD, 0, Field.TTL, target=1, otherwise=2), YES],
    "unknown field": [Step(Op.LOAD, 0, Limit.FIELDS, target=1, otherwise=1), YES],
    "negative field": [Step(Op.LOAD, 0, -1, target=1, otherwise=1), YES],
    "unknown half": [Step(Op.LOAD, 0, Field.HALF_BYTES, Limit.HALVES + 5, target=1, otherwise=1), YES],
    "unknown address field": [Step(Op.JUMP_ADDRESS_IN, 0, 5, target=1, otherwise=1), YES],
    "unknown half of an address": [Step(Op.JUMP_ADDRESS_SAME, 4, 4, 0, 4, target=1, otherwise=1), YES],
    "unknown IP version": [Step(Op.JUMP_ADDRESS_IN, d=5, target=1, otherwise=1), YES],
    "unknown bytes field": [Step(Op.BYTES, 0, 2, target=1, otherwise=1), YES],
    "unknown relation": [LITERAL, Step(Op.JUMP_BYTES, 1, 0, 5, low=b"", target=2), YES],
    "unknown register": [Step(Op.CONSTANT, Limit.REGISTERS), YES],
    "unknown second register": [SET, Step(Op.JUMP_EQ, 0, Limit.REGISTERS, target=2), YES],
    "unknown event": [Step(Op.FIRE, 64, target=1), YES],
    "something in an unused part": [Step(Op.JUMP, 1, target=1), YES],
    "register never written": [Step(Op.JUMP_IN, target=1), YES],
    "second register never written": [SET, Step(Op.JUMP_LT, 0, 1, target=2), YES],
    "operand never written": [SET, Step(Op.ADD, 0, 0, 1, otherwise=2), YES],
    "number read as bytes": [SET, Step(Op.LENGTH, 1, 0), YES],
    "bytes read as a number": [LITERAL, Step(Op.JUMP_IN, 1, target=2), YES],
    "field that is None read": [
        Step(Op.LOAD, 0, Field.TTL, target=1, otherwise=2),
        Step(Op.JUMP_IN, target=2),
        YES,
    ],
    "register written on one way only": [
        SET,
        Step(Op.JUMP_IN, target=3, low=6, high=6),
        Step(Op.CONSTANT, 1),
        Step(Op.JUMP_IN, 1, target=4),
        YES,
    ],
    "kept before it is written": [Step(Op.KEEP), YES],
    "recalled, but never written": [Step(Op.RECALL, 0, target=1), YES],
    "recalled, but of two kinds": [
        Step(Op.RECALL, 1, target=4),
        Step(Op.CONSTANT, 1),
        Step(Op.KEEP, 1),
        LITERAL,
        YES,
    ],
    "recalled, and read where it was not": [
        Step(Op.RECALL, 1, target=3),
        Step(Op.JUMP, target=3),
        Step(Op.CONSTANT, 1),
        Step(Op.JUMP_IN, 1, target=4),
        YES,
    ],
    "constant of 65 bits": [Step(Op.CONSTANT, low=1 << 63), YES],
    "address of 129 bits": [Step(Op.JUMP_ADDRESS_IN, low=1 << 128, target=1, otherwise=1), YES],
    "negative address": [Step(Op.JUMP_ADDRESS_IN, low=-1, target=1, otherwise=1), YES],
    "negative bits": [Step(Op.RETURN, low=-1)],
    "bytes for a number": [Step(Op.CONSTANT, low=b"1"), YES],
    "number for bytes": [Step(Op.LITERAL, low=1), YES],
    "longer than the limit": [SET] * Limit.MAX_INSTRUCTIONS + [YES],
}


@pytest.mark.parametrize("steps", REFUSED.values(), ids=REFUSED.keys())
def test_verifier_refuses(steps: list[Step]) -> None:
    with pytest.raises(ValueError, match="instruction"):
        Program(steps)


def test_verifier_error_names_the_instruction() -> None:
    with pytest.raises(ValueError, match=r"^instruction 1: "):
        Program([SET, Step(Op.JUMP), YES])


def test_every_op_has_a_form() -> None:
    assert set(FORMS) == set(Op)
    assert (len(Op), len(Field)) == (Limit.OPS, Limit.FIELDS)
    assert (len(AddressField), len(BytesField)) == (Limit.ADDRESS_FIELDS, Limit.BYTES_FIELDS)
    assert len(Relation) == Limit.RELATIONS


def test_register_written_on_every_way_can_be_read() -> None:
    program = Program(
        [
            Step(Op.LOAD, 0, Field.PROTOCOL, target=6, otherwise=6),
            Step(Op.JUMP_IN, 0, target=4, low=6, high=6),
            Step(Op.CONSTANT, 1, low=7),
            Step(Op.JUMP, target=5),
            Step(Op.CONSTANT, 1, low=8),
            Step(Op.JUMP_IN, 1, target=7, low=8, high=8),
            NO,
            YES,
        ]
    )
    assert program.matches(**FLOW)
    assert not program.matches(**{**FLOW, "proto": 17})


def test_what_is_kept_is_recalled() -> None:
    """Both times the program comes by, but only the first time it computes."""
    code, done = Assembler(), Label()
    code.emit(Op.CONSTANT, 40, low=1)
    code.emit(Op.KEEP, 40)
    code.emit(Op.RECALL, 40, target=done)
    code.emit(Op.CONSTANT, 40, low=2)
    code.bind(done)
    refuse = Label()
    code.emit(Op.JUMP_OUT, 40, low=1, high=1, target=refuse)
    code.emit(Op.RETURN, low=1)
    code.bind(refuse)
    code.emit(Op.RETURN)
    assert code.program().matches(**FLOW)


def test_assembler_resolves_labels_to_the_next_instruction() -> None:
    code, refuse = Assembler(), Label()
    code.emit(Op.LOAD, 3, Field.SERVER_PORT, target=refuse, otherwise=refuse)
    code.emit(Op.JUMP_OUT, 3, low=80, high=90, target=refuse)
    code.emit(Op.RETURN, low=1)
    code.bind(refuse)
    code.emit(Op.RETURN)
    program = code.program()
    assert len(program) == len(code) == 4
    assert program.matches(**FLOW)
    assert not program.matches(**{**FLOW, "server_port": 91})


def test_assembler_refuses_a_label_never_bound() -> None:
    code = Assembler()
    code.emit(Op.JUMP, target=Label())
    code.emit(Op.RETURN)
    with pytest.raises(ValueError, match="jump to 0"):
        code.program()


def test_listing_names_registers_fields_and_ways() -> None:
    steps = [Step(Op.LOAD, 3, Field.TTL, target=2, otherwise=1), NO, YES]
    assert listing(steps).splitlines()[0].split() == ["0", "load", "r3", "ttl", "->", "2", "else", "1"]


def test_program_gives_back_its_steps() -> None:
    steps = [
        Step(Op.JUMP_ADDRESS_IN, b=1, d=6, low=1 << 127, high=(1 << 128) - 1, target=1, otherwise=2),
        Step(Op.LITERAL, 0, low=b"\0x"),
        Step(Op.CONSTANT, 1, low=-5),
        Step(Op.RETURN, low=1 << 63),
    ]
    assert Program(steps).steps() == steps
    assert str(Program(steps)) == listing(steps)


@pytest.mark.parametrize("name", ["client", "server"])
def test_matches_refuses_an_address_beyond_128_bits(name: str) -> None:
    with pytest.raises(ValueError, match="128 bits"):
        Program([YES]).matches(**{**FLOW, name: 1 << 128})


@pytest.mark.parametrize("name", ["client_port", "server_port", "ip_version", "proto", "vlan"])
def test_matches_refuses_a_number_too_large_for_its_field(name: str) -> None:
    with pytest.raises(OverflowError):
        Program([YES]).matches(**{**FLOW, name: 1 << 16})


def test_guard_has_an_entry_for_each_case() -> None:
    with pytest.raises(ValueError, match="1024"):
        Predicates(Program([YES]), [0] * 1023, 1, False)
    assert Predicates(Program([YES]), range(1024), 1, False).guard == list(range(1024))
