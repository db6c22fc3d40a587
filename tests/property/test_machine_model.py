"""The machine compared with a plain interpreter of its instructions, on programs that no compiler would make."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.face.packets import Packet
from aiomos.testing.packets import mss, tcp_frame
from aiomos.ude.instructions import BytesField, Field, Limit, Op
from aiomos.ude.machine import Predicates, Program
from aiomos.ude.verifier import FORMS, Constant, Role, Step
from tests.models.machine import ARITHMETIC, Machine

probe = pytest.importorskip("tests.native._probe_predicates", reason="needs the native test probes")
fire = probe.fire

ALL = (1 << 64) - 1
EXTREMES = [0, 1, -1, 2, 3, 7, 62, 63, 64, 255, 1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63)]
NUMBERS = st.sampled_from(EXTREMES)
LITERALS = st.sampled_from([b"", b"a", b"ab", b"\0", b"\xff" * 8, b"a" * 9])
FIELDS = [Field.TTL, Field.DPORT, Field.OPTION_MSS, Field.PACKET_VLAN, Field.PACKET_KNOWN, Field.SEQ]
NUMBER_REGISTERS, BYTES_REGISTERS = st.integers(0, 3), st.integers(4, 7)
KEPT = st.sampled_from([2, 3, 6, 7])
OPS = [
    op
    for op in Op
    if op not in (Op.RETURN, Op.PEEK, Op.JUMP_FLAGS, Op.JUMP_FLAGS_NOT)
    and not Op.JUMP_ADDRESS_IN <= op <= Op.JUMP_ADDRESS_DIFFERS
]
PARTS: dict[Role, st.SearchStrategy[int]] = {
    Role.NOTHING: st.just(0),
    Role.BIT: st.integers(0, 63),
    Role.NUMBER: NUMBER_REGISTERS,
    Role.SET_NUMBER: NUMBER_REGISTERS,
    Role.OPERAND: NUMBER_REGISTERS | st.just(int(Limit.IMMEDIATE)),
    Role.BYTES: BYTES_REGISTERS,
    Role.SET_BYTES: BYTES_REGISTERS,
    Role.ANY: KEPT,
    Role.RECALLED: KEPT,
    Role.FIELD: st.sampled_from(FIELDS).map(int),
    Role.FIELD_OF_BYTES: st.just(int(BytesField.PAYLOAD)),
    Role.WHICH_OR_BIT: st.just(0),
    Role.RELATION: st.integers(0, Limit.RELATIONS - 1),
    Role.SWITCH: st.integers(0, 1),
}
CONSTANTS: dict[Constant, st.SearchStrategy[Any]] = {
    Constant.NOTHING: st.just(0),
    Constant.NUMBER: NUMBERS,
    Constant.BITS: st.integers(0, ALL),
    Constant.LITERAL: LITERALS,
}
WRITTEN_FIRST = [
    *(Step(Op.CONSTANT, register, low=register) for register in range(4)),
    *(Step(Op.LITERAL, register, low=b"ab"[: register - 4]) for register in range(4, 8)),
]


@st.composite
def programs(draw: st.DrawFn) -> list[Step]:
    """Valid programs: eight registers are written first, then anything goes that jumps forward."""
    steps = list(WRITTEN_FIRST)
    length = len(steps) + draw(st.integers(1, 12))
    while len(steps) < length - 1:
        op = draw(st.sampled_from(OPS))
        form = FORMS[op]
        parts = [draw(PARTS[role]) for role in (form.a, form.b, form.c, form.d)]
        ways = [draw(st.integers(len(steps) + 1, length - 1)) for _ in range(2)]
        low, high = draw(CONSTANTS[form.low]), draw(CONSTANTS[form.high])
        steps.append(Step(op, *parts, *ways, low, high))
    return [*steps, Step(Op.RETURN, low=draw(st.integers(0, ALL)))]


PACKETS = st.builds(
    lambda **fields: Packet.decode(tcp_frame(**fields)),
    ttl=st.sampled_from([0, 64, 255]),
    dport=st.sampled_from([0, 80]),
    seq=st.sampled_from([0, (1 << 32) - 1]),
    options=st.sampled_from([b"", mss(1460)]),
    vlan=st.sampled_from([None, 5]),
    payload=LITERALS,
)


def run(steps: list[Step], pkt: Packet, wanted: int = ALL) -> tuple[int, int]:
    return fire(Predicates(Program(steps), [ALL] * 1024, ALL, False), pkt, wanted=wanted, guarded=False)


def model(steps: list[Step], pkt: Packet, wanted: int = ALL) -> tuple[int, int]:
    values = [pkt.ttl, pkt.dport, pkt.mss, pkt.vlan, pkt.known, pkt.seq]
    assert pkt.payload is not None
    return Machine(dict(zip(FIELDS, values, strict=True)), pkt.payload, wanted).run(steps)


@given(programs(), PACKETS, st.integers(0, ALL))
def test_the_machine_does_as_the_model(steps: list[Step], pkt: Packet, wanted: int) -> None:
    assert run(steps, pkt, wanted) == model(steps, pkt, wanted)


@given(
    st.sampled_from(sorted(ARITHMETIC)),
    NUMBERS | st.integers(-9, 9),
    NUMBERS | st.integers(-9, 9),
    st.booleans(),
)
def test_arithmetic_is_pythons_or_refused(op: int, x: int, y: int, immediate: bool) -> None:
    """Each bit of the result is told by an event of its own."""
    y_part = (Limit.IMMEDIATE, y) if immediate else (1, 0)
    code = [
        Step(Op.CONSTANT, 0, low=x),
        Step(Op.CONSTANT, 1, low=y),
        Step(op, 2, 0, y_part[0], otherwise=4 + 3 * 64, low=y_part[1]),
    ]
    for bit in range(64):
        at = len(code)
        code.append(Step(Op.SHIFT_RIGHT, 3, 2, Limit.IMMEDIATE, low=bit, otherwise=4 + 3 * 64))
        code.append(Step(Op.AND, 3, 3, Limit.IMMEDIATE, low=1, otherwise=4 + 3 * 64))
        code.append(Step(Op.JUMP_IN, 3, low=0, high=0, target=at + 4))
        code.append(Step(Op.FIRE, bit, target=at + 4))
    end = len(code)
    code = [step._replace(otherwise=end + 1) if step.otherwise else step for step in code]
    steps = [*code, Step(Op.RETURN), Step(Op.UNSURE, 0, target=end + 2), Step(Op.RETURN)]
    pkt = Packet.decode(tcp_frame())
    fired, unsure = run(steps, pkt)
    try:
        expected = ARITHMETIC[op](x, y if op != Op.SHIFT_LEFT else min(y, 200))
    except (ArithmeticError, ValueError):
        assert unsure
        return
    if -(1 << 63) <= expected < 1 << 63:
        assert (fired, unsure) == (expected & ALL, 0)
    else:
        assert unsure


def any_step(length: int) -> st.SearchStrategy[Step]:
    small, way = st.integers(-1, 70) | st.just(255), st.integers(-1, length)
    constant = NUMBERS | LITERALS | st.integers(0, (1 << 128) - 1)
    return st.builds(Step, st.integers(-1, 47), *[small] * 4, way, way, constant, constant)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 19), st.integers(0, 8), st.integers(-1, 70) | NUMBERS | LITERALS), max_size=3
)


@given(programs(), MUTATIONS, PACKETS | st.none())
def test_a_changed_program_is_refused_or_runs_to_an_answer(
    steps: list[Step], mutations: list[tuple[int, int, Any]], pkt: Packet | None
) -> None:
    for at, part, value in mutations:
        row = list(steps[at % len(steps)])
        row[part] = value
        steps[at % len(steps)] = Step(*row)
    _refused_or_run(steps, pkt)


@given(
    st.integers(1, 8).flatmap(lambda n: st.lists(any_step(n), min_size=n, max_size=n)), PACKETS | st.none()
)
def test_any_program_is_refused_or_runs_to_an_answer(steps: list[Step], pkt: Packet | None) -> None:
    _refused_or_run([*steps, Step(Op.RETURN)], pkt)


def _refused_or_run(steps: list[Step], pkt: Packet | None) -> None:
    try:
        program = Program(steps)
    except (ValueError, TypeError):
        return
    box = probe.Box((1, 2, 3, 4, 5, 4, 6), (1, 1), ((1,) * 13,) * 2, ((1,) * 12,) * 2)
    predicates = Predicates(program, [ALL] * 1024, ALL, False)
    for flow in (None, box.flow):
        fired, unsure = fire(predicates, pkt, flow)
        assert 0 <= fired <= ALL
        assert 0 <= unsure <= ALL
