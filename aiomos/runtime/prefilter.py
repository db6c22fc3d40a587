"""From connection filters to a program by which the kernel keeps the frames that any of them can need.

It is only an optimisation, so it keeps what it cannot tell: frames behind a second VLAN tag, in MPLS or PPPoE, of
other links than Ethernet and plain IP, fragments, ICMP, IPv6 with extension headers, and all that is neither TCP nor
UDP. What a filter says of VLANs counts as unknown. Which end is the client a single packet does not tell, so it is
looked at both ways.
"""

import enum
from collections.abc import Iterable, Sequence
from typing import assert_never

import attrs

from aiomos.transport.bpf import Alu, Ancillary, Assembler, Jump, Label, Program, ProgramTooLong, Size
from aiomos.ude.expressions import (
    And,
    Everything,
    Expression,
    Host,
    IpVersion,
    Not,
    Or,
    Port,
    Protocol,
    Side,
    Vlan,
)
from aiomos.ude.filters import Filter
from aiomos.wire.numbers import ETHERNET_HEADER

__all__ = ["prefilter"]

KEEP = 0xFFFFFFFF
"""So many bytes of a frame: all."""

ETHERNET_LINKS = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK
BARE_LINKS = (519, 0xFFFE)  # ARPHRD_RAWIP, ARPHRD_NONE: no link header
ETHERTYPES = {4: 0x0800, 6: 0x86DD}
TCP = 6
UDP = 17
MAX_PORT = 0xFFFF
MAX_WORD = 0xFFFFFFFF


# --- what a packet has to be --------------------------------------------------------------------------
class _Field(enum.Enum):
    """What is looked at; of numbers the value is their place in the program's memory."""

    PROTOCOL = 0
    SRC_PORT = 1
    DST_PORT = 2
    SRC_ADDRESS = 3
    DST_ADDRESS = 4


_BASE = 5
"""Place in memory of where the IP header is."""

ADDRESSES_AT = {
    (_Field.SRC_ADDRESS, 4): 12,
    (_Field.DST_ADDRESS, 4): 16,
    (_Field.SRC_ADDRESS, 6): 8,
    (_Field.DST_ADDRESS, 6): 24,
}


@attrs.frozen
class _Test:
    """A field is from *low* to *high*, or *outside*."""

    field: _Field
    low: int
    high: int
    outside: bool


@attrs.frozen
class _Junction:
    """*Any* or else all of two or more *parts*."""

    any: bool
    parts: tuple["_Test | _Junction", ...]


_Need = bool | _Test | _Junction


@attrs.frozen
class _View:
    """A packet of an IP version, with one of its ends taken for the client."""

    version: int
    client_is_src: bool

    def need(self, expression: Expression, negated: bool = False) -> _Need:
        """Tell what a packet must be for *expression* to be possibly true, with each `not` moved to the leaves."""
        match expression:
            case Everything():
                return not negated
            case Vlan():
                return True
            case IpVersion(version):
                return (version == self.version) != negated
            case Protocol(number):
                return _Test(_Field.PROTOCOL, number, number, negated)
            case Port(side, low, high):
                return self._ends(side, negated, (_Field.SRC_PORT, _Field.DST_PORT), low, high)
            case Host(side, first, last):
                if first.version != self.version:
                    return negated
                ends = (_Field.SRC_ADDRESS, _Field.DST_ADDRESS)
                return self._ends(side, negated, ends, int(first), int(last))
            case Not(operand):
                return self.need(operand, not negated)
            case And(operands) | Or(operands):
                parts = [self.need(operand, negated) for operand in operands]
                return _join(isinstance(expression, Or) != negated, parts)
        assert_never(expression)

    def _ends(self, side: Side, negated: bool, fields: tuple[_Field, _Field], low: int, high: int) -> _Need:
        src, dst = (_Test(field, low, high, negated) for field in fields)
        if side is Side.CLIENT or side is Side.SERVER:
            return src if (side is Side.CLIENT) == self.client_is_src else dst
        return _Junction((side is Side.EITHER) != negated, (src, dst))


def _join(any_: bool, parts: Iterable[_Need]) -> _Need:
    """Join parts; those that are always true or never are done with."""
    several = dict.fromkeys(parts)
    if any_ in several:
        return any_
    left = tuple(part for part in several if not isinstance(part, bool))
    if len(left) > 1:
        return _Junction(any_, left)
    return left[0] if left else not any_


def _need_of_any(filters: Sequence[Filter], version: int) -> _Need:
    views = (_View(version, True), _View(version, False))
    return _join(True, (view.need(each.expression) for each in filters for view in views))


# --- the program --------------------------------------------------------------------------------------
def prefilter(filters: Iterable[Filter]) -> Program | None:
    """Build a program that keeps at least the frames of the flows that any of *filters* picks.

    It is for filters on flows only, of frames that are not in tunnels: where packets without a flow are watched, or
    tunnels are looked into, it must not be used.

    Args:
        filters: Those of all registrations.

    Returns:
        A program for a packet socket of type SOCK_RAW on any interface; None where there is nothing that it could
        leave out, or it would be longer than the kernel takes.
    """
    all_filters = tuple(filters)
    needs = {version: _need_of_any(all_filters, version) for version in ETHERTYPES}
    if not all_filters or all(need is True for need in needs.values()):
        return None
    try:
        return _program(needs)
    except ProgramTooLong:
        return None


def _program(needs: dict[int, _Need]) -> Program:
    code = Assembler()
    keep, leave = Label(), Label()
    starts = {version: Label() for version in needs}
    _find_ip(code, starts, keep)
    for version, need in needs.items():
        code.bind(starts[version])
        _read_header(code, version, keep)
        if isinstance(need, bool):
            code.jump(keep if need else leave)
        else:
            _branch(code, need, version, keep, leave)
    code.bind(keep)
    code.result(KEEP)
    code.bind(leave)
    code.result(0)
    return code.program()


def _find_ip(code: Assembler, starts: dict[int, Label], keep: Label) -> None:
    """Jump to one of *starts* with X at the IP header, or to *keep*."""
    ethernet, bare = Label(), Label()
    code.load_ancillary(Ancillary.HARDWARE_TYPE)
    for kind in ETHERNET_LINKS:
        code.jump_if(Jump.EQUAL, kind, yes=ethernet)
    code.load_index(0)
    *others, last = BARE_LINKS
    for kind in others:
        code.jump_if(Jump.EQUAL, kind, yes=bare)
    code.jump_if(Jump.EQUAL, last, yes=bare, no=keep)
    code.bind(ethernet)
    code.load_index(ETHERNET_HEADER)
    code.bind(bare)
    code.load_ancillary(Ancillary.PROTOCOL)
    for version, ethertype in ETHERTYPES.items():
        code.jump_if(Jump.EQUAL, ethertype, yes=starts[version])
    code.jump(keep)


def _read_header(code: Assembler, version: int, keep: Label) -> None:
    """Load the protocol and the ports into memory, X staying at the IP header; keep what has no ports."""
    if version == 4:
        code.load(Size.HALF, 6, indexed=True)
        code.jump_if(Jump.ANY_BIT, 0x3FFF, yes=keep)  # a fragment: more of them, or an offset
    has_ports = Label()
    code.load(Size.BYTE, 9 if version == 4 else 6, indexed=True)
    code.store(_Field.PROTOCOL.value)
    code.jump_if(Jump.EQUAL, TCP, yes=has_ports)
    code.jump_if(Jump.EQUAL, UDP, no=keep)
    code.bind(has_ports)
    code.store_index(_BASE)
    if version == 4:
        code.load(Size.BYTE, 0, indexed=True)
        code.compute(Alu.AND, 0x0F)
        code.compute(Alu.SHIFT_LEFT, 2)
    else:
        code.load_constant(40)
    code.compute(Alu.ADD)
    code.set_index()
    for field, at in ((_Field.SRC_PORT, 0), (_Field.DST_PORT, 2)):
        code.load(Size.HALF, at, indexed=True)
        code.store(field.value)
    code.load_index_memory(_BASE)


def _branch(code: Assembler, need: _Test | _Junction, version: int, yes: Label, no: Label) -> None:
    """Jump to *yes* or *no*."""
    if isinstance(need, _Junction):
        *others, last = need.parts
        for part in others:
            following = Label()
            _branch(code, part, version, yes if need.any else following, following if need.any else no)
            code.bind(following)
        _branch(code, last, version, yes, no)
        return
    inside, outside = (no, yes) if need.outside else (yes, no)
    if place := ADDRESSES_AT.get((need.field, version)):
        words = range(place, place + (4 if version == 4 else 16), 4)
        _branch_address(code, words, need.low, need.high, inside, outside)
    else:
        code.load_memory(need.field.value)
        _branch_number(code, need.low, need.high, MAX_PORT, inside, outside)


def _branch_number(code: Assembler, low: int, high: int, most: int, inside: Label, outside: Label) -> None:
    """Jump by the accumulator being from *low* to *high*, where it is *most* at most."""
    if low == high:
        code.jump_if(Jump.EQUAL, low, inside, outside)
    elif high == most:
        code.jump_if(Jump.AT_LEAST, low, inside, outside)
    else:
        if low:
            code.jump_if(Jump.AT_LEAST, low, no=outside)
        code.jump_if(Jump.GREATER, high, outside, inside)


def _branch_address(
    code: Assembler, words: Sequence[int], low: int, high: int, inside: Label, outside: Label
) -> None:
    """Jump by the number in *words*, places of the IP header, being from *low* to *high*."""
    first, *rest = words
    bits = 32 * len(rest)
    lowest, highest = low >> bits, high >> bits
    low_rest, high_rest = low & (1 << bits) - 1, high & (1 << bits) - 1
    code.load(Size.WORD, first, indexed=True)
    if low_rest == 0 and high_rest == (1 << bits) - 1:
        _branch_number(code, lowest, highest, MAX_WORD, inside, outside)
    elif lowest == highest:
        code.jump_if(Jump.EQUAL, lowest, no=outside)
        _branch_address(code, rest, low_rest, high_rest, inside, outside)
    else:
        at_low, at_high = Label(), Label()
        code.jump_if(Jump.EQUAL, lowest, yes=at_low)
        code.jump_if(Jump.EQUAL, highest, yes=at_high)
        _branch_number(code, lowest, highest, MAX_WORD, inside, outside)
        code.bind(at_low)
        _branch_address(code, rest, low_rest, (1 << bits) - 1, inside, outside)
        code.bind(at_high)
        _branch_address(code, rest, 0, high_rest, inside, outside)
