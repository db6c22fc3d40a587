"""Equality, and ``in``: what a value is compared with, sorted by what the machine can look for."""

from collections.abc import Iterable, Sequence, Sized
from ipaddress import ip_address
from typing import Any

from aiomos.ude.expressions import address_number
from aiomos.ude.instructions import Relation
from aiomos.ude.networks import Network
from aiomos.ude.nodes import (
    Address,
    Compare,
    Const,
    InAddresses,
    InNumbers,
    IsNone,
    Kind,
    Node,
    Number,
    Or,
    Order,
    Refuse,
    Related,
    Select,
)
from aiomos.ude.values import LEAST, MOST, Static, Unsupported, Value, describe, of_kind

__all__ = ["contains", "equals", "is_few"]

MOST_ITEMS = 4096
_BYTE = ((0, 255),)


# --- equality -------------------------------------------------------------------------------------
def equals(left: Value, right: Value) -> Node:
    """Translate ``==`` of two values of which at least one is not constant."""
    if isinstance(left, Static):
        left, right = right, left
    assert isinstance(left, Node)
    if isinstance(right, Static):
        return _is_one_of(left, [right.value])
    for kind in (Kind.NUMBER, Kind.BYTES, Kind.ADDRESS, Kind.TEXT):
        if left.kinds & kind:
            return Compare(Order.EQ, of_kind(left, kind), _alike(left, of_kind(right, kind), kind))
    raise Unsupported(f"compares {describe(left)} with {describe(right)}")


def _alike(left: Node, right: Node, kind: Kind) -> Node:
    """Make sure that the machine can compare two values of a kind."""
    if kind is Kind.ADDRESS and not (isinstance(left, Address) and isinstance(right, Address)):
        raise Unsupported("compares an address that is not read directly")
    if kind is Kind.TEXT and not (
        isinstance(left, Number) and isinstance(right, Number) and left.names == right.names
    ):
        raise Unsupported("compares two texts")
    return right


# --- membership -----------------------------------------------------------------------------------
def contains(container: Value, item: Value) -> Value:
    """Translate ``item in container``."""
    if not isinstance(container, Static):
        return Related(Relation.HOLDS, of_kind(container, Kind.BYTES), (_needle(item),))
    if isinstance(item, Static):
        return Static(_constant_in(item.value, container.value))
    match container.value:
        case Network() as network:
            return _in_network(item, network)
        case bytes() as haystack:
            return _in_bytes(item, haystack)
        case range() as numbers if numbers.step == 1:
            ranges = ((numbers.start, numbers.stop - 1),) if numbers else ()
            return InNumbers(of_kind(item, Kind.NUMBER), _fitting(ranges))
        case tuple() | list() | set() | frozenset() | dict() | range() as items:
            if not is_few(items):
                raise Unsupported(f"looks among more than {MOST_ITEMS} items")
            return _is_one_of(item, list(items))
    raise Unsupported(f"looks for something in {describe(container)}")


def is_few(items: Sized) -> bool:
    """Tell whether there are few enough items to go through them when a predicate is defined."""
    try:
        return len(items) <= MOST_ITEMS
    except OverflowError:  # of a range
        return False


def _constant_in(item: Any, container: Any) -> bool:
    if isinstance(container, range) and type(item) is not int and not is_few(container):
        raise Unsupported("looks for other than a number in a long range")
    if not isinstance(container, Network | bytes | str | tuple | list | set | frozenset | dict | range):
        raise Unsupported(f"looks for something in {describe(Static(container))}")
    try:
        return item in container
    except Exception as error:
        raise Unsupported(f"looks for a constant where that raises {error!r}") from None


def _needle(item: Value) -> bytes:
    value = item.value if isinstance(item, Static) else None
    if type(value) is bytes:
        return value
    if isinstance(value, int) and 0 <= value <= 255:
        return bytes([value])
    raise Unsupported("looks in bytes for other than constant bytes")


def _in_bytes(item: Node, haystack: bytes) -> Node:
    if item.kinds & Kind.BYTES:
        return Related(Relation.WITHIN, of_kind(item, Kind.BYTES), (haystack,))
    number = of_kind(item, Kind.NUMBER)
    found = InNumbers(number, _ranges(haystack))
    return Select(InNumbers(number, _BYTE), found, Refuse())  # Python raises for what is no byte


def _in_network(item: Node, network: Network) -> Node:
    ranges = [
        (net.version, address_number(net.network_address), address_number(net.broadcast_address))
        for net in network.networks
    ]
    return InAddresses(_address(item), _merged_addresses(ranges))


def _address(item: Node) -> Address:
    if not isinstance(item, Address):
        raise Unsupported(f"takes {describe(item)} for an address that is read directly")
    return item


# --- one of several constants ---------------------------------------------------------------------
def _is_one_of(value: Node, items: Sequence[object]) -> Node:
    """Translate equality with any of *items*; those of another type are never equal."""
    for item in items:
        if not (item is None or isinstance(item, int | str) or type(item) is bytes):
            raise Unsupported(f"compares with {describe(Static(item))}")
    found = _is_constant(value, [item for item in items if item is not None])
    return Or(IsNone(value), found) if None in items and value.kinds & Kind.NONE else found


def _is_constant(value: Node, items: Sequence[object]) -> Node:
    if value.kinds & Kind.NUMBER:
        numbers = [int(item) for item in items if isinstance(item, int)]
        number = of_kind(value, Kind.NUMBER)
        if len(numbers) == 1 and LEAST <= numbers[0] <= MOST:
            return Compare(Order.EQ, number, Const(numbers[0]))
        return InNumbers(number, _fitting(_ranges(numbers)))
    if value.kinds & Kind.BYTES:
        literals = tuple(dict.fromkeys(item for item in items if isinstance(item, bytes)))
        return Related(Relation.IS, of_kind(value, Kind.BYTES), literals)
    texts = [item for item in items if isinstance(item, str)]
    if value.kinds & Kind.ADDRESS:
        return InAddresses(_address(value), _merged_addresses(filter(None, map(_address_range, texts))))
    if isinstance(value, Number):
        numbers = [number for number, name in value.names if name in texts]
        return InNumbers(value, _ranges(numbers))
    raise Unsupported(f"compares {describe(value)}")


def _address_range(text: str) -> tuple[int, int, int] | None:
    """Give the one address whose text this is: attributes have the canonical one, and no other is equal to it."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    number = address_number(address)
    return (address.version, number, number) if str(address) == str.__str__(text) else None


def _ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Join numbers that follow upon one another."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return tuple(ranges)


def _fitting(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Leave out what no number of 64 bits is in."""
    cut = ((max(low, LEAST), min(high, MOST)) for low, high in ranges)
    return tuple((low, high) for low, high in cut if low <= high)


def _merged_addresses(ranges: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    merged: list[tuple[int, int, int]] = []
    for version, low, high in sorted(ranges):
        if merged and merged[-1][0] == version and low <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(high, merged[-1][2]))
        else:
            merged.append((version, low, high))
    return tuple(merged)
