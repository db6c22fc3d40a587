"""Signs and complements of what is only known of a packet, and of constants."""

from typing import Any

import pytest

from tests.unit.ude.test_predicates import REQUEST, native


def plus(pkt: Any) -> object:
    return +pkt.ttl == 64 and +(pkt.ttl + 1) == 65 and +5 == 5


def minus(pkt: Any) -> object:
    return -pkt.ttl == -64 and -(pkt.ttl - 65) == 1 and 1 - -pkt.ttl == 65


def complement(pkt: Any) -> object:
    return ~pkt.ttl == -65 and ~(pkt.ttl - 65) == 0 and ~~pkt.ttl == 64


@pytest.mark.parametrize("function", [plus, minus, complement])
def test_of_numbers(function: Any) -> None:
    assert function(REQUEST)
    assert native(function, REQUEST) is True
