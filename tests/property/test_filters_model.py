"""Filters on generated input: their text, their answers and their errors."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.errors import FilterSyntaxError
from aiomos.ude.expressions import (
    And,
    Expression,
    Host,
    IpVersion,
    Not,
    Or,
    Port,
    Protocol,
    Side,
    Vlan,
    address_number,
    compile_expression,
)
from aiomos.ude.filters import Filter, parse
from tests.models.filters import Flow, picks

# Few values, close together and at the edges, so that conditions are met about as often as not.
IPV4: list[IPv4Address | IPv6Address] = [
    IPv4Address(text)
    for text in ("0.0.0.0", "10.0.0.0", "10.0.0.1", "10.0.0.2", "10.1.0.0", "255.255.255.255")
]
IPV6: list[IPv4Address | IPv6Address] = [
    *map(IPv6Address, ("::", "::1", "::a00:1", "::fffe:ffff:ffff", "::1:0:0:0", "2001:db8::", "2001:db8::1")),
    *map(IPv6Address, ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", f"ffff{':ffff' * 7}")),
    # These have the numbers of IPv4 addresses.
    *map(IPv6Address, ("::ffff:0:0", "::ffff:10.0.0.1", "::ffff:255.255.255.255")),
]
PORTS = [0, 1, 22, 79, 80, 81, 443, 65534, 65535]
VLANS = [0, 1, 12, 4095]

FAMILIES = st.sampled_from([IPV4, IPV6])
SIDES = st.sampled_from(Side)


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    family = draw(FAMILIES)
    first, last = sorted([draw(st.sampled_from(family)), draw(st.sampled_from(family))], key=int)
    return Host(draw(SIDES), first, last)


@st.composite
def ports(draw: st.DrawFn) -> Port:
    low, high = sorted([draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))])
    return Port(draw(SIDES), low, high)


def several(
    kind: type[And] | type[Or], operands: st.SearchStrategy[Expression]
) -> st.SearchStrategy[Expression]:
    others = operands.filter(lambda operand: not isinstance(operand, kind))
    return st.lists(others, min_size=2, max_size=4).map(lambda parts: kind(tuple(parts)))


EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    hosts()
    | ports()
    | st.builds(Protocol, st.sampled_from([6, 17]))
    | st.builds(IpVersion, st.sampled_from([4, 6]))
    | st.builds(Vlan, st.sampled_from([None, *VLANS])),
    lambda inner: st.builds(Not, inner) | several(And, inner) | several(Or, inner),
    max_leaves=12,
)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    family = draw(FAMILIES)
    return Flow(
        client=draw(st.sampled_from(family)),
        server=draw(st.sampled_from(family)),
        client_port=draw(st.sampled_from(PORTS)),
        server_port=draw(st.sampled_from(PORTS)),
        proto=draw(st.sampled_from([6, 17])),
        vlan=draw(st.sampled_from([None, *VLANS])),
    )


def fields_of(flow: Flow) -> dict[str, Any]:
    return {
        "client": address_number(flow.client),
        "server": address_number(flow.server),
        "client_port": flow.client_port,
        "server_port": flow.server_port,
        "ip_version": flow.client.version,
        "proto": flow.proto,
        "vlan": flow.vlan,
    }


@given(EXPRESSIONS)
def test_text_of_an_expression_reads_back_as_the_same_expression(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@given(EXPRESSIONS)
def test_symbols_and_packet_words_are_other_spellings_of_the_same(expression: Expression) -> None:
    text = str(expression)
    for word, other in {" and ": "&&", " or ": "||", "not ": "!", "client": "src", "server": "dst"}.items():
        text = text.replace(word, other)
    assert parse(text) == expression


@given(EXPRESSIONS, st.lists(flows(), min_size=1, max_size=8))
def test_machine_answers_as_the_model(expression: Expression, some: list[Flow]) -> None:
    program = compile_expression(expression)
    for flow in some:
        assert program.matches(**fields_of(flow)) is picks(expression, flow)


WORDS = [
    *(
        "and",
        "or",
        "not",
        "(",
        ")",
        "&&",
        "||",
        "!",
        "tcp",
        "udp",
        "ip",
        "ip6",
        "vlan",
        "host",
        "net",
        "port",
    ),
    *("portrange", "mask", "client", "server", "src", "dst", "10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9"),
    *("10.1", "10", "::1", "2001:db8::/32", "80", "80-90", "90-80", "http", "domain", "4096", "70000"),
    *("255.0.0.0", "wat", "=", "-", "/", "%"),
]


@given(st.text() | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_any_text_is_a_filter_or_an_error_that_points_into_it(text: str) -> None:
    try:
        made = Filter(text)
    except FilterSyntaxError as refused:
        error = refused
    else:
        assert parse(str(made.expression)) == made.expression
        return
    assert error.text == text
    assert 1 <= error.column <= len(text) + 1


def test_a_deep_filter_is_refused_not_a_stack_overflow() -> None:
    for text in (
        "(" * 5000 + "tcp",
        "not " * 5000 + "tcp",
        "port " + "(" * 5000 + "1",
        "tcp" + " and udp or ip" * 4000,
    ):
        with pytest.raises(FilterSyntaxError, match="deep"):
            parse(text)
