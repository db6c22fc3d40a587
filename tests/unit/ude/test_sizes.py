"""Constants that a predicate would compute at each packet: the huge ones are refused, by whatever way they are huge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from aiomos import PKT_IN, App, RegistrationError
from aiomos.ude.sizes import MOST_BYTES
from aiomos.ude.user import ude

BILLION = 10**9
JUST = MOST_BYTES
LONG = b"l" * 300
times = 10**9
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
    "in a choice": lambda pkt: (b"x" * 10**10 if pkt.length % 2.0 else b"") == pkt.payload,
}
TAKEN: dict[str, Callable[..., object]] = {
    "just so many": lambda pkt: str(pkt.payload) == "x" * JUST,
    "none": lambda pkt: str(pkt.payload) == "x" * -1 + "y" * 0,
    "a power": lambda pkt: math.sqrt(pkt.length) == 2**64,
    "a fraction": lambda pkt: math.sqrt(pkt.length) == 2**-1 + 10**9,
    "numbers": lambda pkt: math.sqrt(pkt.length) == 10**18 - 5 | 3 & 7 ^ 8 % 5 // 2 >> 1,
    "what comes from the packet": lambda pkt: len("x" * pkt.length) == math.isqrt(4),
    "a name of its own": lambda pkt: any(str(pkt.src) == "a" * times for times in (1, 2)),
    "what cannot be computed": lambda pkt: math.sqrt(pkt.length) == 1 % 0 + 5 // 0,
    "a range": lambda pkt: str(pkt.length) in range(10**9),
    "large numbers": lambda pkt: math.sqrt(pkt.length) in (10**12, -(10**12), ~(10**12)),
    "a small format": lambda pkt: str(pkt.src) == f"{pkt.length:>10}" + "%5d" % 3 + f"{pkt.ttl}",  # noqa: UP031
    "numbers in a text": lambda pkt: str(pkt.src) == "1000000000 %5d" % 3 + "1000000000 {}".format(pkt.ttl),  # noqa: UP031, UP032
    "of a class": lambda pkt: str(pkt.src) == "a" * Sizes.most,
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
