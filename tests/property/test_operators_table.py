"""Every operator of predicates over a table of small, negative, equal and extreme numbers, against Python.

Random predicates mix many operators, so that a wrong one is easily left to Python together with its neighbours. Here
each stands alone, its operands are computed, and the machine has to decide wherever Python's answer fits 64 bits.
"""

import itertools
import operator
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from aiomos.testing.packets import tcp_frame
from aiomos.ude.predicates import Compiled, compile_predicate
from tests.property.test_predicates_model import ORDER, Scene, answer, decoded, define, native, probe

MOST, LEAST = (1 << 63) - 1, -(1 << 63)
NUMBERS = [LEAST, LEAST + 1, -(1 << 62), -(1 << 32), -65536, -300, -64, -3, -2, -1]
NUMBERS += [0, 1, 2, 3, 62, 63, 64, 255, 65535, (1 << 31), (1 << 32) - 1, 1 << 32, 1 << 62, MOST - 1, MOST]

# Counters are at least 0 and no flow field has all of 64 bits; a number is made of a counter and a last bit.
LEFT = "((flow.client.packets - (1 << 62)) * 2 + flow.client.bytes)"
RIGHT = "((flow.server.packets - (1 << 62)) * 2 + flow.server.bytes)"
EXPECTED = "((flow.client.stream_bytes - (1 << 62)) * 2 + flow.server.stream_bytes)"

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "{} + {}": operator.add,
    "{} - {}": operator.sub,
    "{} * {}": operator.mul,
    "{} // {}": operator.floordiv,
    "{} % {}": operator.mod,
    "{} & {}": operator.and_,
    "{} | {}": operator.or_,
    "{} ^ {}": operator.xor,
    "{} >> {}": operator.rshift,
    "{} << {}": operator.lshift,
    "min({}, {})": min,
    "max({}, {})": max,
    "-{} + 0 * {}": lambda x, _: -x,
    "~{} + 0 * {}": lambda x, _: ~x,
    "abs({}) + 0 * {}": lambda x, _: abs(x),
    "({} or {})": lambda x, y: x or y,
    "({} and {})": lambda x, y: x and y,
}


@cache
def scene(left: int, right: int, expected: int = 0) -> Scene:
    """A flow whose counters make up these numbers."""

    def half(number: int) -> tuple[int, ...]:
        return ((number >> 1) + (1 << 62), *[0] * 12)

    def track(number: int, stream_bytes: int) -> tuple[int, ...]:
        return (number & 1, stream_bytes, *[0] * 10)

    key = (0xFFFF0A000001, 0xFFFFC0000207, 1, 2, 0xFFFF, 4, 6)
    tracks = (track(left, (expected >> 1) + (1 << 62)), track(right, expected & 1))
    return Scene(None, probe.Box(key, (0, 0), (half(left), half(right)), tracks), 0)


@pytest.fixture(autouse=True, scope="module")
def _forget_scenes() -> Iterator[None]:
    yield
    scene.cache_clear()


def compiled(condition: str) -> Compiled:
    found = compile_predicate(define(f"return {condition}"), ORDER)
    assert isinstance(found, Compiled), found
    return found


def is_short(number: int) -> bool:
    return LEAST <= number <= MOST


@pytest.mark.parametrize("number", NUMBERS)
def test_the_table_holds_the_numbers_that_it_is_said_to(number: int) -> None:
    assert eval(LEFT, {"flow": scene(number, 0).flow}) == number
    assert eval(RIGHT, {"flow": scene(0, number).flow}) == number
    assert eval(EXPECTED, {"flow": scene(0, 0, number).flow}) == number


@pytest.mark.parametrize("sign", COMPARISONS)
def test_comparisons_of_computed_numbers(sign: str) -> None:
    """All are decided: neither operand leaves 64 bits."""
    program = compiled(f"{LEFT} {sign} {RIGHT}")
    for left, right in itertools.product(NUMBERS, repeat=2):
        assert native(program, scene(left, right)) is COMPARISONS[sign](left, right), (left, right)


@pytest.mark.parametrize("constant", NUMBERS)
@pytest.mark.parametrize("sign", COMPARISONS)
def test_comparisons_with_a_constant_from_either_side(sign: str, constant: int) -> None:
    behind, before = compiled(f"{LEFT} {sign} {constant}"), compiled(f"{constant} {sign} {LEFT}")
    for number in NUMBERS:
        assert native(behind, scene(number, 0)) is COMPARISONS[sign](number, constant), number
        assert native(before, scene(number, 0)) is COMPARISONS[sign](constant, number), number


@pytest.mark.parametrize("sign", COMPARISONS)
@pytest.mark.parametrize("constant", [-1, 0, 1, 1000, (1 << 32) - 1, 1 << 32, MOST - 1, MOST])
def test_comparisons_of_a_field_with_a_constant(sign: str, constant: int) -> None:
    """Compiled to one instruction, of a range; counters are never negative."""
    program = compiled(f"flow.client.packets {sign} {constant}")
    for number in [n for n in NUMBERS if n >= 0]:
        shown = Scene(
            None, probe.Box((1, 2, 1, 2, 5, 6, 6), (0, 0), ((number, *[0] * 12), (0,) * 13), (None, None)), 0
        )
        assert native(program, shown) is COMPARISONS[sign](number, constant), number


@pytest.mark.parametrize("text", ARITHMETIC)
def test_arithmetic_is_exact_or_left_to_python(text: str) -> None:
    """What fits 64 bits is decided, and no other number is taken for it."""
    compute = ARITHMETIC[text]
    program = compiled(f"({text.format(LEFT, RIGHT)}) == {EXPECTED}")
    decided = 0
    for left, right in itertools.product(NUMBERS, repeat=2):
        try:
            exact = compute(left, min(right, 64) if "<<" in text else right)  # beyond, memory would not do
        except (ZeroDivisionError, ValueError):
            assert native(program, scene(left, right)) is None, (left, right)
            continue
        shown = scene(left, right, exact if is_short(exact) else 0)
        given = native(program, shown)
        if is_short(exact) and "0 *" not in text:
            assert given is True or ("<<" in text and right > 62 and given is None), (left, right)
        if given is not None:
            assert given is is_short(exact), (left, right)
            decided += 1
            if decided % 5 == 0:  # each costs a scene of its own
                other = exact - 1 if exact > LEAST else exact + 1
                assert native(program, scene(left, right, other)) is False, (left, right)
    share = 8 if "<<" in text else 4  # most shifts leave 64 bits
    assert decided >= len(NUMBERS) ** 2 // share, "too many are left to Python for this to be a test"


@pytest.mark.parametrize("text", ["{0} < {1} <= {2}", "{2} > {0} >= {1}"])
def test_chains_of_computed_numbers(text: str) -> None:
    condition = text.format(LEFT, "(flow.server.bytes - 1)", RIGHT)
    predicate = define(f"return {condition}")
    program = compiled(condition)
    for left, right in itertools.product(NUMBERS, repeat=2):
        shown = scene(left, right)
        assert native(program, shown) is answer(predicate, shown), (left, right)


SAME_NUMBER, OTHER_NUMBER = 0xFFFF_0A00_0001, 0xFFFF_0A00_0002
"""10.0.0.1 as the engine keeps it, which is ::ffff:10.0.0.1 as well; and the next address."""


@pytest.mark.parametrize("sign", ["==", "!="])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("flow_version", [4, 6])
@pytest.mark.parametrize("source", ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "::ffff:10.0.0.2"])
def test_addresses_of_different_versions_differ(
    source: str, flow_version: int, swapped: bool, sign: str
) -> None:
    """Their texts do, whatever number they have in common."""
    packet = decoded(tcp_frame(source, "fe80::1" if ":" in source else "192.0.2.7"), True, True)
    key = (SAME_NUMBER, OTHER_NUMBER, 1, 2, 0xFFFF, flow_version, 6)
    shown = Scene(packet, probe.Box(key, (0, 0), ((0,) * 13, (0,) * 13), (None, None)), 0)
    assert shown.flow is not None
    found = [shown.flow.client.address, shown.flow.server.address].count(packet.src)
    assert found == (flow_version == packet.ip_version)
    for half in ("client", "server"):
        operands = ("pkt.src", f"flow.{half}.address")
        text = f" {sign} ".join(reversed(operands) if swapped else operands)
        is_same = packet.src == getattr(shown.flow, half).address
        assert native(compiled(text), shown) is (is_same == (sign == "==")), text
