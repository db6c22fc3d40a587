"""Connection filters: text -> tokens -> expression -> program.

The language is that of pcap-filter(7), cut down to what the two ends of a flow can tell, and widened by
client and server, ranges of addresses and ``port N-M``.

Grammar; a value is a word such as ``10.0.0.1``, ``80`` or ``http``::

    filter     = [ expression ]
    expression = operand { ("and" | "or") operand }           equal precedence, from the left
    operand    = "not" operand | "(" expression ")" | condition | value
    condition  = "tcp" | "udp" | "ip" | "ip6" | "vlan" [ number ] | qualifiers values
    qualifiers = [ "tcp" | "udp" | "ip" | "ip6" ] [ side ] [ "host" | "net" | "port" | "portrange" ]
    side       = end [ ("and" | "or") end ]                    end = "client" | "src" | "server" | "dst"
    values     = value [ "mask" value ] | "not" values | "(" values { ("and" | "or") values } ")"

A bare value as operand takes the qualifiers of the operand before it.
"""

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

import attrs

from aiomos.errors import FilterSyntaxError, did_you_mean
from aiomos.ude.expressions import (
    MAX_VLAN,
    TCP,
    UDP,
    And,
    Everything,
    Expression,
    Host,
    IpVersion,
    Not,
    Or,
    Protocol,
    Side,
    Vlan,
    address_number,
    compile_expression,
    join,
)
from aiomos.ude.filter_values import (
    MAX_PORT,
    BadValue,
    decimal,
    hosts,
    masked_net,
    net,
    ports,
)
from aiomos.ude.machine import Program

__all__ = ["Filter", "parse"]

MAX_TEXT = 64 * 1024
MAX_DEPTH = 64


# --- parser ---------------------------------------------------------------------------------------
_TOKEN = re.compile(r"&&|\|\||[!()]|[\w.:/-]+", re.ASCII)
_SPELLINGS = {"&&": "and", "||": "or", "!": "not"}
_JOINERS: dict[str, type[And] | type[Or]] = {"and": And, "or": Or}
_PROTOCOLS: dict[str, Protocol | IpVersion] = {
    str(condition): condition for condition in (Protocol(TCP), Protocol(UDP), IpVersion(4), IpVersion(6))
}
_SIDES = {"client": Side.CLIENT, "src": Side.CLIENT, "server": Side.SERVER, "dst": Side.SERVER}
_KINDS: dict[str, Callable[[Side, str], Expression]] = {
    "host": hosts,
    "net": net,
    "port": ports,
    "portrange": ports,
}
_QUALIFIERS = frozenset({*_PROTOCOLS, *_SIDES, *_KINDS})
_WORDS = _QUALIFIERS | {*_JOINERS, "not", "vlan", "mask"}
_SYMBOLS = frozenset({"(", ")"})
# Words of pcap-filter(7) that ask what only a packet could answer.
_PACKET_WORDS = frozenset(
    """
    action ah arp broadcast carp esp ether fddi gateway geneve greater icmp icmp6 ifname igmp igrp inbound len less link
    llc mpls multicast on outbound pim ppp pppoed pppoes proto protochain rarp reason rnr rset ruleset rulenum sctp
    subrulenum tr type vrrp wlan
    """.split()  # noqa: SIM905
)
_PACKETS = (
    "is about single packets; a filter picks flows by their ends. For packets define an event: "
    "@app.ude(aiomos.PKT_IN), a predicate over pkt and flow (docs/howto/udes.md)"
)


@attrs.frozen
class _Token:
    text: str
    column: int


_END = ""  # text of the token behind the last one


@attrs.frozen
class _Qualifiers:
    """What a bare value later on is read with."""

    condition: Protocol | IpVersion | None
    side: Side
    kind: str


_NOTHING = _Qualifiers(None, Side.EITHER, "")  # where a bare value has nothing to inherit


@attrs.frozen
class _Operand:
    """A part of the filter already read: how deep its tree is, and what a bare value after it inherits."""

    expression: Expression
    depth: int
    qualifiers: _Qualifiers


_Rule = Callable[[_Qualifiers, int], _Operand]


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unexpected(text, at, tokens)
        tokens.append(_Token(_SPELLINGS.get(match[0], match[0]), at + 1))
        at = match.end()
    return [*tokens, _Token(_END, len(text) + 1)]


def _unexpected(text: str, at: int, before: Sequence[_Token]) -> FilterSyntaxError:
    """Refuse a character: a stray one, or one of an expression over packets, as ``tcp[13] & 2 != 0``, ``len > 100``."""
    for token in before:
        if token.text in _PACKET_WORDS:
            return FilterSyntaxError(f"'{token.text}' {_PACKETS}", text=text, column=token.column)
    if text[at] == "[" and before:
        start = before[-1]
        return FilterSyntaxError(f"'{start.text}[...]' {_PACKETS}", text=text, column=start.column)
    return FilterSyntaxError(f"unexpected {text[at]!r}", text=text, column=at + 1)


class _Parser:
    """Recursive descent, one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0

    def filter(self) -> Expression:
        if self._next.text == _END:
            return Everything()
        expression = self._chain(self._operand, _NOTHING, 0).expression
        if self._next.text == ")":
            raise self._error("this ')' closes nothing")
        if self._next.text != _END:
            raise self._expected("'and' or 'or'")
        return expression

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _accept(self, *words: str) -> _Token | None:
        return self._take() if self._next.text in words else None

    def _error(self, message: str, at: _Token | None = None) -> FilterSyntaxError:
        return FilterSyntaxError(message, text=self._text, column=(at or self._next).column)

    def _deeper(self, depth: int, at: _Token) -> int:
        if depth >= MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep (a change of 'and' and 'or' counts)", at)
        return depth + 1

    def _chain(self, operand: _Rule, inherited: _Qualifiers, level: int) -> _Operand:
        """One or more operands; a change between `and` and `or` makes what came before the first operand."""
        left = operand(inherited, level)
        while (joiner := self._next).text in _JOINERS:
            run = [left]
            while self._accept(joiner.text):
                run.append(operand(run[-1].qualifiers, level))
            left = _Operand(
                join(_JOINERS[joiner.text], (part.expression for part in run)),
                self._deeper(max(part.depth for part in run), joiner),
                run[-1].qualifiers,
            )
        return left

    def _operand(self, inherited: _Qualifiers, level: int) -> _Operand:
        token = self._next
        if self._accept("not"):
            return self._negated(self._operand, inherited, self._deeper(level, token), token)
        if self._accept("("):
            return self._group(self._operand, inherited, self._deeper(level, token), token)
        if self._accept("vlan"):
            return _Operand(self._vlan(), 0, _NOTHING)
        if token.text in _QUALIFIERS:
            return self._condition()
        if inherited is not _NOTHING and self._at_value():
            return self._value(inherited)
        raise self._no_operand()

    def _condition(self) -> _Operand:
        condition = _PROTOCOLS.get(self._next.text)
        if condition is not None:
            self._take()
            if self._next.text not in _QUALIFIERS - _PROTOCOLS.keys():
                return _Operand(condition, 0, _NOTHING)
        side = self._side()
        kind = self._accept(*_KINDS)
        return self._values(_Qualifiers(condition, side, kind.text if kind else "host"), 0)

    def _side(self) -> Side:
        """``src``, or ``src or dst``, ``src and dst``; what follows ``and`` may also be the next operand."""
        first = self._accept(*_SIDES)
        if first is None:
            return Side.EITHER
        joiner = self._accept("and", "or")
        if joiner is None:
            return _SIDES[first.text]
        second = self._accept(*_SIDES)
        if second is None:
            raise self._error(f"expected a value for '{first.text}' before '{joiner.text}'", joiner)
        if _SIDES[first.text] is _SIDES[second.text]:
            raise self._error(f"'{first.text}' and '{second.text}' are the same end", second)
        return Side.BOTH if joiner.text == "and" else Side.EITHER

    def _values(self, qualifiers: _Qualifiers, level: int) -> _Operand:
        token = self._next
        if self._accept("not"):
            return self._negated(self._values, qualifiers, self._deeper(level, token), token)
        if self._accept("("):
            return self._group(self._values, qualifiers, self._deeper(level, token), token)
        if not self._at_value():
            raise self._error(f"expected a value for '{qualifiers.kind}'")
        return self._value(qualifiers)

    def _negated(self, operand: _Rule, inherited: _Qualifiers, level: int, token: _Token) -> _Operand:
        inner = operand(inherited, level)
        return _Operand(Not(inner.expression), self._deeper(inner.depth, token), inner.qualifiers)

    def _group(self, operand: _Rule, inherited: _Qualifiers, level: int, opening: _Token) -> _Operand:
        inner = self._chain(operand, inherited, level)
        if not self._accept(")"):
            if self._next.text == _END:
                raise self._error("this '(' is never closed", opening)
            raise self._expected("'and', 'or' or ')'")
        # As in pcap-filter(7), a group hands on what it was given, not what it held.
        return attrs.evolve(inner, qualifiers=inherited)

    def _value(self, qualifiers: _Qualifiers) -> _Operand:
        token = self._take()
        mask = self._mask() if qualifiers.kind == "net" else None
        try:
            if mask is None:
                expression = _KINDS[qualifiers.kind](qualifiers.side, token.text)
            else:
                expression = masked_net(qualifiers.side, token.text, mask)
            if qualifiers.condition is not None:
                expression = _qualified(qualifiers.condition, expression)
        except BadValue as error:
            raise self._error(str(error), token) from None
        return _Operand(expression, int(isinstance(expression, And)), qualifiers)

    def _mask(self) -> str | None:
        if not self._accept("mask"):
            return None
        if not self._at_value():
            raise self._error("expected a mask, such as 255.255.0.0")
        return self._take().text

    def _vlan(self) -> Vlan:
        if not self._next.text.isdigit():
            return Vlan(None)
        token = self._take()
        vid = decimal(token.text, MAX_VLAN)
        if vid is None:
            raise self._error(f"a VLAN id is a decimal number from 0 to {MAX_VLAN}, not {token.text}", token)
        return Vlan(vid)

    def _at_value(self) -> bool:
        return self._next.text not in _WORDS | _SYMBOLS | {_END}

    def _no_operand(self) -> FilterSyntaxError:
        word = self._next.text
        if word == _END:
            return self._error("expected a condition, such as 'port 80', but the filter ends")
        if word in _WORDS | _SYMBOLS:
            return self._error(f"expected a condition, such as 'port 80', not '{word}'")
        return self._expected("a condition, such as 'port 80'")

    def _expected(self, what: str) -> FilterSyntaxError:
        word = self._next.text
        return self._error(
            f"'{word}' {_PACKETS}" if word in _PACKET_WORDS else f"expected {what}{self._hint()}"
        )

    def _hint(self) -> str:
        """What the word at hand, which cannot stand here, may have been meant to be."""
        word = self._next.text
        if word in _WORDS | _SYMBOLS:
            return f" before '{word}'"
        if word.isdigit():
            return f"; did you mean 'port {word}'?"
        if word[0].isdigit() or ":" in word:
            return f"; did you mean 'host {word}'?"
        return f", not '{word}'{did_you_mean(word, sorted(_WORDS))}"


def _qualified(condition: Protocol | IpVersion, expression: Expression) -> Expression:
    """Add ``tcp`` or ``ip`` in front, unless that can never be true."""
    match condition, expression:
        case IpVersion(wanted), Host(_, first) if first.version != wanted:
            raise BadValue(f"'{condition}' never matches the IPv{first.version} address {first}")
        case Protocol(), And((only, _)):
            if only != condition:
                raise BadValue(f"'{condition}' never matches: this service runs over {only}")
            return expression
    return join(And, (condition, expression))


def parse(text: str) -> Expression:
    """Read the text of a filter.

    Args:
        text: At most 64 KiB and nested at most 64 deep; empty or blank for `Everything`.

    Returns:
        The tree it stands for.

    Raises:
        FilterSyntaxError: It is not a filter; the error points at the column.
        TypeError: *text* is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"a filter is a str, not {type(text).__name__}")
    if len(text) > MAX_TEXT:
        raise FilterSyntaxError(f"longer than {MAX_TEXT} characters", text=text, column=MAX_TEXT + 1)
    return _Parser(text).filter()


# --- the filter -----------------------------------------------------------------------------------
AddressLike = str | IPv4Address | IPv6Address


@attrs.frozen
class Filter:
    """Pick flows by their two ends.

    Args:
        text: The filter; see the reference page on filters. Empty picks every flow.

    Raises:
        FilterSyntaxError: The text is not a filter; the error points at the column.
    """

    text: str = ""
    expression: Expression = attrs.field(init=False, eq=False, repr=False)
    program: Program = attrs.field(init=False, eq=False, repr=False)

    @expression.default
    def _parse(self) -> Expression:
        return parse(self.text)

    @program.default
    def _compile(self) -> Program:
        return compile_expression(self.expression)

    def __str__(self) -> str:
        return self.text

    def matches(
        self,
        client: tuple[AddressLike, int],
        server: tuple[AddressLike, int],
        *,
        proto: Literal["tcp", "udp"] = "tcp",
        vlan: int | None = None,
    ) -> bool:
        """Tell whether the filter picks a flow, by running the same program as the engine.

        Args:
            client: Address and port of the end that sent the first SYN, or the first datagram.
            server: Address and port of the other end, of the same family.
            proto: Transport protocol.
            vlan: Outermost VLAN id, 0 to 4095; None for none.

        Returns:
            Whether it picks the flow.

        Raises:
            ValueError: An address or the protocol is none, the families differ, or a number is out of range.
        """
        source, destination = ip_address(client[0]), ip_address(server[0])
        if source.version != destination.version:
            raise ValueError(f"{source} and {destination} are not of one family")
        for port in (client[1], server[1]):
            if not 0 <= port <= MAX_PORT:
                raise ValueError(f"port {port} is out of range: 0 to {MAX_PORT}")
        if proto not in ("tcp", "udp"):
            raise ValueError(f"protocol {proto!r} is neither 'tcp' nor 'udp'")
        if vlan is not None and not 0 <= vlan <= MAX_VLAN:
            raise ValueError(f"VLAN id {vlan} is out of range: 0 to {MAX_VLAN}")
        return self.program.matches(
            address_number(source),
            address_number(destination),
            client_port=client[1],
            server_port=server[1],
            ip_version=source.version,
            proto=TCP if proto == "tcp" else UDP,
            vlan=vlan,
        )
