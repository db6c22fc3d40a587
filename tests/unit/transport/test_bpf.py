"""The assembler of socket filters: labels near and far, and what it refuses."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.transport.bpf import MAX_INSTRUCTIONS, Alu, Assembler, Jump, Label, Size, packed
from tests.models.bpf import Buffer, run


def test_a_program_is_what_tcpdump_makes_of_the_same() -> None:
    """``tcpdump -dd 'ip'`` of an Ethernet capture."""
    code = Assembler()
    refuse = Label()
    code.load(Size.HALF, 12)
    code.jump_if(Jump.EQUAL, 0x800, no=refuse)
    code.result(262144)
    code.bind(refuse)
    code.result(0)
    program = code.program()
    assert program == ((0x28, 0, 0, 12), (0x15, 0, 1, 0x800), (0x6, 0, 0, 262144), (0x6, 0, 0, 0))
    assert packed(program)[:16] == struct.pack("=HBBIHBBI", 0x28, 0, 0, 12, 0x15, 0, 1, 0x800)


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 700)), min_size=1, max_size=4), st.booleans())
def test_jumps_reach_as_far_as_they_have_to(ways: list[tuple[int, int]], holds: bool) -> None:
    """Each jump leads so many of 700 additions on, so what is added up tells where it went."""
    code = Assembler()
    code.load_constant(0)
    for yes, no in ways:
        ends = {Label(): yes, Label(): no}
        code.jump_if(Jump.AT_LEAST, 0 if holds else 0xFFFFFFFF, *ends)
        for step in range(701):
            for end, way in ends.items():
                if step == way:
                    code.bind(end)
            code.compute(Alu.ADD, 1)
    code.result_is_accumulator()
    assert run(code.program(), Buffer(b"", 0)) == sum(701 - (yes if holds else no) for yes, no in ways)


def test_a_program_longer_than_the_kernel_takes_is_refused() -> None:
    code = Assembler()
    for _ in range(MAX_INSTRUCTIONS):
        code.result(0)
    code.program()
    code.result(0)
    with pytest.raises(ValueError, match="4097 instructions"):
        code.program()


def test_a_jump_back_or_to_nowhere_is_refused() -> None:
    back, nowhere = Label(), Label()
    code = Assembler()
    code.bind(back)
    code.jump(back)
    with pytest.raises(ValueError, match="instruction 0"):
        code.program()
    code = Assembler()
    code.load_constant(0)
    code.jump_if(Jump.GREATER, 0, nowhere)
    with pytest.raises(ValueError, match="instruction 1"):
        code.program()
