"""Which TCP stack sent a SYN or SYN-ACK: what its header shows, and the signatures that tell stacks by it.

A stack chooses its initial TTL, window, and the options of a SYN with their order; the path changes none of them but
the TTL, which falls by one a hop, and sometimes the MSS.
"""

import tomllib
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from importlib.resources import files
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import attrs

from aiomos.apps.assets.inventory import Confidence, Finding
from aiomos.errors import OptionError

if TYPE_CHECKING:
    from aiomos import Packet

INITIAL_TTLS = (32, 64, 128, 255)
OPTIONS = {
    0: "eol",
    1: "nop",
    2: "mss",
    3: "ws",
    4: "sok",
    5: "sack",
    8: "ts",
    19: "md5",
    29: "ao",
    30: "mptcp",
    34: "tfo",
    172: "accecn",
    174: "accecn",
}
USUAL = {"eol", "nop", "mss", "ws", "sok", "ts"}
"""What stacks put into every SYN; other options are added where a program or an administrator wants them."""
LESS: dict[Confidence, Confidence] = {"high": "medium", "medium": "low"}
TIMESTAMPS = 12
"""Bytes that the option takes from each segment; Linux counts its window in what is left."""
ETHERNET_MSS = {4: 1460, 6: 1440}
LARGEST_WINDOW = 65_535
ZMAP_ID = 54_321
REMEMBERED = 4_096


class Fingerprint(NamedTuple):
    """What a SYN or SYN-ACK shows of its sender, apart from how far away it is.

    Attributes:
        packet: Which of the two.
        ip_version: 4 or 6.
        ttl: The TTL or hop limit it probably began with.
        window: As sent; that of a SYN is never scaled.
        mss: Of the option; None without.
        scale: Of the window scale option; None without.
        options: Names in their order, separated by commas.
        dont_fragment: None for IPv6.
        quirks: What most stacks don't do; see `quirks_of`.
    """

    packet: Literal["syn", "syn_ack"]
    ip_version: int
    ttl: int
    window: int
    mss: int | None
    scale: int | None
    options: str
    dont_fragment: bool | None
    quirks: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.packet} ttl={self.ttl} window={self.window}"]
        parts += [
            f"{name}={value}"
            for name, value in (("mss", self.mss), ("scale", self.scale))
            if value is not None
        ]
        parts += [f"options={self.options or 'none'}"]
        parts += ["df"] if self.dont_fragment else []
        parts += [f"quirks={','.join(self.quirks)}"] if self.quirks else []
        return " ".join(parts)


def fingerprint(pkt: "Packet") -> tuple[Fingerprint, int]:
    """Read the fingerprint of a SYN or SYN-ACK, and how many hops it has come."""
    ttl = pkt.ttl
    initial = next(value for value in INITIAL_TTLS if ttl <= value)
    found = Fingerprint(
        "syn_ack" if pkt.ack_flag else "syn",
        pkt.ip_version,
        initial,
        pkt.window,
        pkt.mss,
        pkt.window_scale,
        ",".join([OPTIONS.get(kind) or f"?{kind}" for kind, _ in pkt.options]),
        pkt.dont_fragment,
        tuple(quirks_of(pkt)),
    )
    return found, initial - ttl


def quirks_of(pkt: "Packet") -> Iterable[str]:
    """Yield what is odd about a SYN or SYN-ACK: ``id=0``, ``ecn``, ``data`` and so on."""
    if pkt.ip_id == 0:
        yield "id=0"
    elif pkt.ip_id == ZMAP_ID:
        yield "id=zmap"
    if pkt.ece:
        yield "ecn"
    if pkt.urgent:
        yield "urgent"
    if pkt.payload_len:
        yield "data"
    if pkt.tsval == 0:
        yield "tsval=0"
    if pkt.ack_flag:
        return
    if pkt.ack:
        yield "ack"
    if pkt.tsecr:
        yield "tsecr"
    if pkt.seq == 0:
        yield "seq=0"
    if not pkt.options and pkt.ip_version == 4 and pkt.seq == int(IPv4Address(pkt.dst)):
        yield "seq=dst"


def _one_or_more(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _is_window(_signature: "Signature", _field: object, values: tuple[int | str, ...]) -> None:
    for value in values:
        if isinstance(value, str) and not (
            value.startswith("mss*") and (value[4:] == "max" or value[4:].isdigit())
        ):
            raise ValueError(f"window {value!r} is neither a number nor mss*N nor mss*max")


@attrs.frozen(kw_only=True)
class Signature:
    """What is known of one stack; a fingerprint has it if it agrees with all that is said.

    Attributes:
        name: The operating system, or the program that makes its own segments.
        packet: Whether it is about ``syn`` or ``syn_ack``.
        confidence: How sure the conclusion is.
        version: Which versions.
        ttl: Initial TTL.
        window: Values it may have: numbers, ``mss*N``, or ``mss*max``, the largest multiple within 16 bits.
        mss: Values it may have.
        scale: Values it may have.
        options: Orders it may have.
        dont_fragment: As it must be, where the packet is IPv4.
        quirks: Those that must be there.
    """

    name: str
    packet: Literal["syn", "syn_ack"] = attrs.field(validator=attrs.validators.in_(("syn", "syn_ack")))
    confidence: Confidence = attrs.field(validator=attrs.validators.in_(("high", "medium", "low")))
    version: str | None = None
    ttl: int | None = None
    window: tuple[int | str, ...] = attrs.field(default=(), converter=_one_or_more, validator=_is_window)
    mss: tuple[int, ...] = attrs.field(default=(), converter=_one_or_more)
    scale: tuple[int, ...] = attrs.field(default=(), converter=_one_or_more)
    options: tuple[str, ...] = attrs.field(default=(), converter=_one_or_more)
    dont_fragment: bool | None = None
    quirks: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)

    def fits(self, seen: Fingerprint, orders: Collection[str] = ()) -> bool:
        """Whether a fingerprint has all that the signature says; its options may be one of *orders* instead."""
        return (
            seen.packet == self.packet
            and (
                not self.options
                or seen.options in self.options
                or any(_without_padding(order) in orders for order in self.options)
            )
            and self.ttl in (None, seen.ttl)
            and (self.dont_fragment is None or seen.dont_fragment in (None, self.dont_fragment))
            and (not self.mss or seen.mss in self.mss)
            and (not self.scale or seen.scale in self.scale)
            and self.quirks.issubset(seen.quirks)
            and (not self.window or any(_window_is(wanted, seen) for wanted in self.window))
        )


def usual_orders(options: str) -> set[str]:
    """What the order of options may have been before some were added to it: Fast Open, MPTCP, MD5 and so on.

    An added option may have brought padding before or behind it; none is left at the end.
    """
    names = options.split(",")
    added = [at for at, name in enumerate(names) if name not in USUAL]
    orders: set[str] = set()
    for before, behind in ((False, True), (True, False), (True, True)) if added and options else ():
        left = list(names)
        for at in reversed(added):
            start, end = at, at + 1
            while before and start > 0 and left[start - 1] == "nop":
                start -= 1
            while behind and end < len(left) and left[end] == "nop":
                end += 1
            left[start:end] = []
        orders.add(_without_padding(",".join(left)))
    return orders - {""}


def _without_padding(options: str) -> str:
    names = options.split(",")
    while names and names[-1] in ("nop", "eol"):
        names.pop()
    return ",".join(names)


def _window_is(wanted: int | str, seen: Fingerprint) -> bool:
    if isinstance(wanted, int):
        return seen.window == wanted
    times = wanted.removeprefix("mss*")
    return any(
        seen.window == unit * (LARGEST_WINDOW // unit if times == "max" else int(times))
        for unit in _units(seen)
    )


def _units(seen: Fingerprint) -> Iterable[int]:
    """What a stack may have counted its window in; a path that lowers the MSS does not touch the window."""
    spared = TIMESTAMPS if "ts" in seen.options else 0
    for mss in (seen.mss, ETHERNET_MSS[seen.ip_version]):
        if mss is not None and mss > TIMESTAMPS:
            yield mss
            yield mss - spared


def read_signatures(text: str, place: str) -> list[Signature]:
    """Read the ``[[os]]`` tables of a TOML text.

    Raises:
        OptionError: it is no TOML, or a table is no signature; *place* opens the message.
    """
    number = 0
    signatures: list[Signature] = []
    try:
        for number, table in enumerate(tomllib.loads(text).get("os", []), 1):  # noqa: B007  for the message
            signatures.append(Signature(**table))
    except (ValueError, TypeError) as error:  # of tomllib and attrs
        raise OptionError(f"{place}{f', [[os]] number {number}' if number else ''}: {error}") from error
    return signatures


def guesser(own: Path | None = None) -> Callable[[Fingerprint], Finding]:
    """Return a function that says which system a fingerprint is of, by the first signature that it has.

    If none fits, and options were added to a known order, the first that fits without them counts for less.

    Args:
        own: A file of signatures to be looked at before those of the package.

    Raises:
        OptionError: the file cannot be understood.
    """
    signatures = read_signatures(own.read_text(), str(own)) if own else []
    shipped = files(__package__) / "signatures.toml"
    signatures += read_signatures(shipped.read_text(), shipped.name)

    @lru_cache(REMEMBERED)
    def guess(seen: Fingerprint) -> Finding:
        for known in signatures:
            if known.fits(seen):
                return Finding(
                    known.name, version=known.version, confidence=known.confidence, evidence=str(seen)
                )
        orders = usual_orders(seen.options)
        for known in signatures if orders else ():
            if known.options and known.fits(seen, orders):
                confidence = LESS.get(known.confidence, known.confidence)
                return Finding(known.name, version=known.version, confidence=confidence, evidence=str(seen))
        return Finding("unknown", detail=str(seen), confidence="none")

    return guess
