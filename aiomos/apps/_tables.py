"""Tables of a TOML file as records: attrs classes whose fields tell how each key is read.

An error names the file, the table and the key, and says what would be right.
"""

import asyncio
import concurrent.futures.thread  # noqa: F401  asyncio.to_thread would only import it when packets go by
import difflib
import gc
import sys
import tomllib
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import attrs

from aiomos.errors import OptionError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Read = Callable[[Any], Any]

RecordT = TypeVar("RecordT")
ResultT = TypeVar("ResultT")
SetT = TypeVar("SetT", bound=frozenset[Any])

LARGEST_PORT = 0xFFFF
READ, WORDS = "read", "words"

SWITCH_SECONDS = 0.0001
"""How soon a thread that reads a file makes way for the event loop, each time that a callback of a batch needs the
interpreter; Python's own 5 ms are felt on the wire."""


def reads(read: Read, words: str) -> dict[str, Any]:
    """Make the metadata of a field: how its key is read.

    Args:
        read: Turns what the file says into the field's value; raises ValueError for what is not allowed.
        words: What is allowed, in words that can follow "must be".
    """
    return {READ: read, WORDS: words}


def load(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OptionError: it is not TOML; the message tells line and column.
        OSError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: {error}") from None


def build(cls: type[RecordT], table: object, where: str) -> RecordT:
    """Make a record of a table.

    Args:
        cls: An attrs class whose fields have metadata of `reads`, and a default unless the key must be there. The field
            of a key that is a word of Python has ``_`` behind.
        table: The table, as tomllib gives it.
        where: File and table, to open messages with.

    Raises:
        OptionError: a key is unknown or missing, or its value is not allowed.
    """
    if not isinstance(table, dict):
        raise OptionError(f"{where}: must be a table, not {table!r}")
    fields = {field.name.rstrip("_"): field for field in attrs.fields(cls) if field.init}  # type: ignore[arg-type]
    for name in table:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"its keys are {', '.join(fields)}"
            raise OptionError(f"{where}: there is no key {name!r}; {hint}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            values[field.name] = _read(field, table[name], f"{where}: {name}")
        elif field.default is attrs.NOTHING:
            raise OptionError(f"{where}: {name} is missing; it must be {field.metadata[WORDS]}")
    try:
        return cls(**values)
    except ValueError as error:  # of two keys that do not go together
        raise OptionError(f"{where}: {error}") from None


def _read(field: "attrs.Attribute[Any]", value: object, where: str) -> Any:
    try:
        return field.metadata[READ](value)
    except OptionError:
        raise
    except (ValueError, TypeError):
        raise OptionError(f"{where} = {value!r}: must be {field.metadata[WORDS]}") from None


async def aside(read: Callable[..., ResultT], *arguments: object) -> ResultT:
    """Read something in a thread, while the event loop goes on.

    Garbage is not collected meanwhile: all that was read so far would be looked at, which nothing interrupts. Nor is it
    looked at for being young when that is over.
    """
    before, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(min(before, SWITCH_SECONDS))
    gc.disable()
    try:
        return await asyncio.to_thread(read, *arguments)
    finally:
        sys.setswitchinterval(before)
        gc.freeze()  # there and back, all that there is goes to the oldest generation, without being looked at
        gc.unfreeze()
        if collects:
            gc.enable()


# --- values -------------------------------------------------------------------------------------------


def each(read: Read) -> Read:
    """Read a value, or a list of such values, as a tuple."""

    def read_each(value: object) -> tuple[Any, ...]:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError(value)
        return tuple(map(read, values))

    return read_each


_same = lru_cache(maxsize=4096)(lambda value: value)


def shared(value: SetT) -> SetT:
    """Return the same object for equal sets: of 20,000 rules, most say the same of most keys."""
    same: SetT = _same(value)
    return same


def choice(*choices: str) -> Read:
    """Read one of some words."""

    def read_choice(value: object) -> object:
        if value not in choices:
            raise ValueError(value)
        return value

    return read_choice


def text(value: object) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def number(value: object) -> int:
    """Read a whole number from 1."""
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value


def seconds(value: object) -> float:
    """Read a number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(value)
    return float(value)


def network(value: object) -> Network:
    """Read a network, or an address as a network of one."""
    return ip_network(text(value))


def address(value: object) -> Address:
    """Read an address."""
    return ip_address(text(value))


def ports(value: object) -> range:
    """Read a port, as a number, or a range of ports, as ``"8000-8100"``."""
    if type(value) is int:
        first = last = value
    else:
        low, dash, high = text(value).partition("-")
        first, last = int(low), int(high if dash else low)
    if not 0 <= first <= last <= LARGEST_PORT:
        raise ValueError(value)
    return range(first, last + 1)


# --- tests --------------------------------------------------------------------------------------------


class Networks:
    """A set of networks that tells quickly whether an address is in one of them.

    Args:
        networks: The networks.
    """

    __slots__ = ("_masked",)

    def __init__(self, networks: Iterable[Network]) -> None:
        self._masked = tuple(
            (network.version, int(network.netmask), int(network.network_address)) for network in networks
        )

    def __contains__(self, address: Address) -> bool:
        version, number = address.version, int(address)
        return any(version == of and number & mask == start for of, mask, start in self._masked)
