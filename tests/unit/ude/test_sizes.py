"""Constants that a predicate would compute at each packet: the huge ones are refused, by whatever way they are huge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiomos import PKT_IN, App, RegistrationError
from aiomos.ude.sizes import MOST_BYTES
from aiomos.ude.user import ude

BILLION = 10**9
JUST = MOST_BYTES
LONG = b"l" * 300
times = 10**9
TABLE = {"huge": 10**9}
HUGE_TEXT = "{:>1000000000}"


class Sizes:
    """Attributes of a class are read when the predicate runs."""

    most = 10**9


def of_a_closure() -> Callable[..., object]:
    times = 10**10
    return lambda pkt: str(pkt.payload) == "a" * times


def assigned(pkt: Any) -> bool:
    times = 10**10
    found = b"x" * times
    return bytes(pkt.payload) == found


def in_a_loop(pkt: Any) -> bool:
    found = False
    for _ in range(3):
        found = found or pkt.length == 2**10**9
    return found


def in_a_function(pkt: Any) -> bool:
    def inner(times: int) -> bytes:
        return b"x" * 10**10 * times

    return bytes(pkt.payload) == inner(1)


def many_times_in_a_loop(pkt: Any) -> bool:
    found = str(pkt.src)
    filler = "a"
    for _ in range(3):
        filler *= 60000
    return found == filler


def many_times_while(pkt: Any) -> bool:
    filler = [pkt.length]
    while pkt.length % 2.0:
        filler = filler * 60000
    return bool(filler)


def a_number_that_grows(pkt: Any) -> bool:
    number = 2
    for _ in range(25):
        number *= number
    return math.sqrt(pkt.length) == number


def a_power_of_its_own(pkt: Any) -> bool:
    number = 60000
    number **= 60000
    return math.sqrt(pkt.length) == number


def a_shift_of_its_own(pkt: Any) -> bool:
    number = 1
    for _ in pkt.payload:
        number <<= 300_000
    return math.sqrt(pkt.length) == number


def one_after_the_other(pkt: Any) -> bool:
    filler = "a"
    filler *= 60000
    filler += filler
    return str(pkt.src) == filler


def counted_while(pkt: Any) -> bool:
    filler, count = b"a", 0
    while count < 20:
        filler, count = filler + filler, count + 1
    return bytes(pkt.payload) == filler


def rounds(pkt: Any) -> bool:
    total = 0.0
    for _ in range(10**9):
        total += pkt.length
    return total > 1


def extended(pkt: Any) -> bool:
    found = [pkt.length]
    found += range(10**9)
    return bool(found)


def where_it_is_caught(pkt: Any) -> bool:
    try:
        return float(pkt.length) == 1
    except ValueError:
        return bytes(pkt.payload) == b"x" * 10**10


def in_a_case(pkt: Any) -> bool:
    match float(pkt.length):
        case 1.0:
            return bytes(pkt.payload) == b"x" * 10**10
    return False


REFUSED: dict[str, Callable[..., object]] = {
    "bytes": lambda pkt: pkt.payload == b"x" * 10**10,
    "turned round": lambda pkt: pkt.payload == 10**10 * b"x",
    "text": lambda pkt: str(pkt.src) == "a" * BILLION,
    "closed over": of_a_closure(),
    "a power": lambda pkt: pkt.length == 2**10**9,
    "a negative one": lambda pkt: pkt.length == (-3) ** 10**9,
    "a power of a power": lambda pkt: pkt.length == 9**9**9,
    "pow": lambda pkt: pkt.length == pow(2, 10**9),
    "a shift": lambda pkt: pkt.length == 1 << 10**9,
    "a product": lambda pkt: pkt.length == (1 << JUST * 7) * (1 << JUST * 7),
    "a tuple": lambda pkt: pkt.length in (1, 2) * BILLION,
    "a long one, many times": lambda pkt: pkt.payload == LONG * 300,
    "a sum": lambda pkt: pkt.payload == b"x" * JUST + b"y",
    "bytes of zeros": lambda pkt: pkt.payload == bytes(10**10),
    "a bytearray": lambda pkt: pkt.payload == bytearray(BILLION),
    "padding": lambda pkt: pkt.payload == b"x".ljust(10**10),
    "padding of what is not constant": lambda pkt: str(pkt.src).zfill(10**10) == "",
    "bytes of a number": lambda pkt: pkt.length.to_bytes(10**9, "big") == b"",
    "a format": lambda pkt: pkt.payload == b"%1000000000d" % pkt.length,
    "a format of text": lambda pkt: str(pkt.src) == "%-1000000000s" % pkt.src,  # noqa: UP031
    "a format with a star": lambda pkt: str(pkt.src) == "%*d" % (10**9, pkt.length),  # noqa: UP031
    "a format string": lambda pkt: str(pkt.src) == f"{pkt.length:>1000000000}",
    "a format string of a name": lambda pkt: str(pkt.src) == f"{pkt.length:>{BILLION}}",
    "format": lambda pkt: str(pkt.src) == format(pkt.length, "1000000000"),
    "a method": lambda pkt: str(pkt.src) == HUGE_TEXT.format(pkt.length),
    "a list": lambda pkt: pkt.length in list(range(BILLION)),
    "assigned": assigned,
    "in a loop": in_a_loop,
    "in a function": in_a_function,
    "only to be counted": lambda pkt: len([0] * 300_000_000) == math.sqrt(pkt.length),
    "of what is not constant": lambda pkt: len([pkt.length] * 300_000_000) == pkt.ttl,
    "pairs": lambda pkt: (pkt.length, pkt.ttl) * BILLION == (),
    "an empty range, and a long one": lambda pkt: (
        pkt.length in list(range(5, 5)) + list(range(5, -BILLION, -1))
    ),
    "a sum of a range": lambda pkt: sum(range(70_000)) == math.sqrt(pkt.length),
    "a sum one by one": lambda pkt: sum(n * pkt.length for n in range(BILLION)) == 0,
    "a comprehension": lambda pkt: [pkt.length for _ in range(300) for _ in range(300)] == [],
    "a set of what is mapped": lambda pkt: str(pkt.src) in set(map(str, range(BILLION))),
    "repeated": lambda pkt: list(itertools.repeat(pkt.length, BILLION)) == [1],
    "joined": lambda pkt: (b"x" * 60_000).join([b"a", b"b", b"c"]) == pkt.payload,
    "replaced": lambda pkt: ("x" * 60_000).replace("x", "yy") == str(pkt.src),
    "a float of a number": lambda pkt: b"x" * int(1e9) == pkt.payload,
    "so many as something is long": lambda pkt: LONG * len(LONG) == pkt.payload,
    "an item": lambda pkt: b"x" * TABLE["huge"] == pkt.payload,
    "a named argument": lambda pkt: pkt.length.to_bytes(length=10**9, byteorder="big") == b"",
    "named here": lambda pkt: (times := 10**9) and b"x" * times == pkt.payload,
    "places": lambda pkt: f"{pkt.length:.70000f}" == str(pkt.src),
    "places of %": lambda pkt: "%.70000d" % pkt.length == str(pkt.src),  # noqa: UP031
    "tabs": lambda pkt: "\t".expandtabs(10**9) == str(pkt.src),
    "in a lambda": lambda pkt: (lambda: pkt.payload == b"x" * 10**10)(),
    "where a constant leads": lambda pkt: (b"x" * 10**10 if BILLION > 5 else b"") == pkt.payload,
    "many times in a loop": many_times_in_a_loop,
    "many times while": many_times_while,
    "a number that grows": a_number_that_grows,
    "a power of its own": a_power_of_its_own,
    "a shift of its own": a_shift_of_its_own,
    "one after the other": one_after_the_other,
    "counted while": counted_while,
    "rounds": rounds,
    "extended": extended,
    "where it is caught": where_it_is_caught,
    "in a case": in_a_case,
    "in a choice": lambda pkt: (b"x" * 10**10 if pkt.length % 2.0 else b"") == pkt.payload,
}


def of_a_loop_that_ends(pkt: Any) -> bool:
    filler = "a"
    while len(filler) < pkt.length:
        filler *= 2
    for _ in range(100):
        filler *= 2
        if len(filler) > pkt.length:
            break
    return str(pkt.src) == filler


def of_one_round(pkt: Any) -> bool:
    filler, done = "a", False
    while not done:
        filler *= 60000
        done = True
    return str(pkt.src) == filler


def hashed(pkt: Any) -> bool:
    number = 5381
    for byte in bytes(pkt.payload):
        number = (number * 33 + byte) & 0xFFFFFFFF
        number *= 60000
        number %= 1 << 64
    return number == math.sqrt(pkt.length)


def one_or_the_other(pkt: Any) -> bool:
    times = 5
    if BILLION < 10:
        times = 10**10
    elif pkt.length % 2.0:
        times = 10**9
    return times > 10 or bytes(pkt.payload) == b"x" * times


def a_range_that_is_left(pkt: Any) -> bool:
    for number in range(10**9):
        if math.isqrt(pkt.length) <= number:
            break
    return bool(number)


def changed_in_place(pkt: Any) -> bool:
    found = [pkt.length] * 60000
    found.clear()
    found *= 60000
    return bool(found)


def captured(pkt: Any) -> bool:
    times: float = 10**9
    match float(pkt.length):
        case times:
            return bytes(pkt.payload) == b"x" * int(times)


def changed_by_another(pkt: Any) -> bool:
    times = 10**9

    def few() -> None:
        nonlocal times
        times = 3

    few()
    return bytes(pkt.payload) == b"x" * times


def caught(pkt: Any) -> bool:
    total = 0
    try:
        for at in range(100_000):
            total += pkt.payload[at]
    except IndexError:
        pass
    return total == math.sqrt(pkt.length)


WORDS = [b"%d" % number for number in range(70_000)]


def asserted(pkt: Any) -> bool:
    for word in WORDS:
        assert word not in bytes(pkt.payload)
    return True


TAKEN: dict[str, Callable[..., object]] = {
    "just so many": lambda pkt: str(pkt.payload) == "x" * JUST,
    "none": lambda pkt: str(pkt.payload) == "x" * -1 + "y" * 0,
    "a power": lambda pkt: math.sqrt(pkt.length) == 2**64,
    "a fraction": lambda pkt: math.sqrt(pkt.length) == 2**-1 + 10**9,
    "numbers": lambda pkt: math.sqrt(pkt.length) == 10**18 - 5 | 3 & 7 ^ 8 % 5 // 2 >> 1,
    "what comes from the packet": lambda pkt: len("x" * pkt.length) == math.isqrt(4),
    "a name of its own": lambda pkt: any(str(pkt.src) == "a" * times for times in (1, 2)),
    "what cannot be computed": lambda pkt: math.sqrt(pkt.length) == 1 % 0 + 5 // 0,
    "a range": lambda pkt: math.sqrt(pkt.length) in range(10**9),
    "large numbers": lambda pkt: math.sqrt(pkt.length) in (10**12, -(10**12), ~(10**12)),
    "a small format": lambda pkt: str(pkt.src) == f"{pkt.length:>10}" + "%5d" % 3 + f"{pkt.ttl}",  # noqa: UP031
    "numbers in a text": lambda pkt: str(pkt.src) == "1000000000 %5d" % 3 + "1000000000 {}".format(pkt.ttl),  # noqa: UP031, UP032
    "a short range of large numbers": lambda pkt: math.sqrt(pkt.length) in list(range(100000, 100010)),
    "a sum of few large numbers": lambda pkt: sum(range(70000, 70002)) == math.sqrt(pkt.length),
    "a step": lambda pkt: tuple(range(0, 10**9, 10**8)) == (pkt.length,),
    "an empty range": lambda pkt: list(range(10**9, 5)) == [pkt.length],
    "a per cent sign": lambda pkt: "%d%% 70000" % pkt.length == str(pkt.src),  # noqa: UP031
    "a star's value": lambda pkt: "%*d of %d" % (9, 70000, pkt.length) == str(pkt.src),  # noqa: UP031
    "as much as there is": lambda pkt: f"{pkt.src!s:.70000}" + "%.70000s" % pkt.src == "",  # noqa: UP031
    "a fill of digits": lambda pkt: f"{pkt.length:9>5}" == "{0:7<5} {70000:}" + "70000",
    "a time": lambda pkt: f"{pkt.time:%Y 70000}" == str(pkt.src),
    "a power that just fits": lambda pkt: math.sqrt(pkt.length) in (2**300_000, 3**300_000),
    "no tabs": lambda pkt: "a".expandtabs(10**9) == str(pkt.src),
    "a remainder of a power": lambda pkt: pow(3, 10**12, 7) == math.sqrt(pkt.length),
    "not done at all": lambda pkt: ("x" * BILLION if BILLION < 5 else "") == str(pkt.payload),
    "not done either": lambda pkt: BILLION > 5 or str(pkt.payload) == "x" * BILLION,
    "until one is found": lambda pkt: any(math.isqrt(pkt.length) == n for n in range(10**9)),
    "some of many": lambda pkt: [n for n in (1, 2, 3) if n == pkt.length] * 60_000 == [pkt.ttl],
    "a text replaced": lambda pkt: ("x" * 60_000).replace("x", "yy", 3) == str(pkt.src),
    "of a loop that ends": of_a_loop_that_ends,
    "of one round": of_one_round,
    "hashed": hashed,
    "one or the other": one_or_the_other,
    "a range that is left": a_range_that_is_left,
    "changed in place": changed_in_place,
    "captured": captured,
    "changed by another": changed_by_another,
    "of a class": lambda pkt: str(pkt.src) == "a" * Sizes.most,
    "left by an error": caught,
    "left by an assertion": asserted,
    "a format of many digits": lambda pkt: f"{pkt.length:{1 << 20_000}}" == str(pkt.src),
    "the largest of many": lambda pkt: max(range(60_000)) == math.sqrt(pkt.length),
}


@pytest.mark.parametrize("predicate", REFUSED.values(), ids=REFUSED)
def test_huge_constants_are_refused(predicate: Callable[..., object]) -> None:
    app: App[None] = App("huge")
    with pytest.raises(RegistrationError, match=r"test_sizes.*: line \d+: .* at each packet") as caught:
        app.ude(PKT_IN)(predicate)
    assert "65,536 bytes" in str(caught.value)


@pytest.mark.parametrize("predicate", TAKEN.values(), ids=TAKEN)
def test_others_are_not(predicate: Callable[..., object]) -> None:
    assert not ude(PKT_IN)(predicate).native


def test_without_a_source_nothing_is_known() -> None:
    predicate = eval("lambda pkt: pkt.payload == b'x' * (10**10 * pkt.ttl)")
    assert not ude(PKT_IN)(predicate).native


NESTED = "".join(f"{' ' * depth}for _ in range(60):\n" for depth in range(1, 12)) + " " * 12 + "pass\n"
DIVIDED = " x = 2**500_000\n for _ in range(60):\n  for _ in range(60):\n   x % (2**250_000 + 1)\n"


@pytest.mark.parametrize(
    "body", [NESTED, DIVIDED, " max(range(10**12))\n" * 2], ids=["pass", "divided", "largest"]
)
def test_nothing_is_computed_for_long(body: str, tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text(f"def long(pkt):\n{body} return True\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    if "max" in body:
        with pytest.raises(RegistrationError, match="max"):
            ude(PKT_IN)(names["long"])
    else:
        assert not ude(PKT_IN)(names["long"]).native


@pytest.mark.parametrize("rounds", [1, 5, 200])
def test_however_deep_it_is(rounds: int, tmp_path: Path) -> None:
    """Loops in loops, and expressions in expressions, are looked at for a bounded time."""
    lines = [f"{' ' * depth}for _ in range(60):" for depth in range(1, min(rounds, 15))]
    lines += [f"{' ' * len(lines)} x = (x * 3 + {'-' * rounds}pkt.length) % 2**{rounds * 2000}"]
    (tmp_path / "deep.py").write_text("def deep(pkt):\n x = 0.5\n" + "\n".join(lines) + "\n return x == 1\n")
    names: dict[str, Any] = {}
    exec(compile((tmp_path / "deep.py").read_text(), str(tmp_path / "deep.py"), "exec"), names)
    assert not ude(PKT_IN)(names["deep"]).native
