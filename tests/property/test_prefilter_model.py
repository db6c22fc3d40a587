"""What a filter picks passes the prefilter, whichever end is the client and however the frame is wrapped."""

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from aiomos.runtime.prefilter import prefilter
from aiomos.testing.packets import (
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ip,
    ipv6,
    ipv6_extension,
    tcp,
    udp,
    vlan,
)
from aiomos.transport.bpf import Program
from aiomos.ude.expressions import And, Expression, Not, Or, Vlan
from aiomos.ude.filters import Filter
from tests.models.bpf import received_by_socket, run
from tests.models.filters import Flow, picks
from tests.property.test_filters_model import EXPRESSIONS, flows

FILTERS = st.lists(EXPRESSIONS, min_size=1, max_size=3)


def program_for(expressions: list[Expression]) -> Program | None:
    return prefilter(Filter(str(expression)) for expression in expressions)


def turned(flow: Flow) -> Flow:
    return attrs.evolve(
        flow,
        client=flow.server,
        server=flow.client,
        client_port=flow.server_port,
        server_port=flow.client_port,
    )


def packet(flow: Flow) -> bytes:
    """Build a packet of the client."""
    addresses: dict[str, Any] = {"src": str(flow.client), "dst": str(flow.server)}
    build = tcp if flow.proto == 6 else udp
    data = build(b"some payload", sport=flow.client_port, dport=flow.server_port, **addresses)
    return ip(data, proto=flow.proto, **addresses)


def frames(flow: Flow) -> list[bytes]:
    """Build what may be on the wire of a flow, of both ends: whole, in fragments, with extension headers."""
    built = []
    for way in (flow, turned(flow)):
        whole = packet(way)
        cut = fragment_ipv4 if way.client.version == 4 else fragment_ipv6
        packets = [whole, *cut(whole, 8)]
        if way.client.version == 6:
            extended = ipv6_extension(whole[40:], proto=way.proto)
            packets.append(ipv6(extended, proto=0, src=str(way.client), dst=str(way.server)))
        built += [ethernet(data) for data in packets]
    if flow.vlan is None:
        return built
    return [frame for bare in built for frame in (vlan(bare, flow.vlan), vlan(vlan(bare, 7), flow.vlan))]


@given(FILTERS, flows())
def test_frames_of_a_flow_that_is_picked_are_kept(expressions: list[Expression], flow: Flow) -> None:
    program = program_for(expressions)
    if program is None:
        return
    if any(picks(expression, flow) or picks(expression, turned(flow)) for expression in expressions):
        for frame in frames(flow):
            assert run(program, received_by_socket(frame))


def speaks_of_vlans(expression: Expression) -> bool:
    match expression:
        case Vlan():
            return True
        case Not(operand):
            return speaks_of_vlans(operand)
        case And(operands) | Or(operands):
            return any(map(speaks_of_vlans, operands))
    return False


@given(st.lists(EXPRESSIONS.filter(lambda each: not speaks_of_vlans(each)), min_size=1, max_size=3), flows())
def test_frames_that_can_be_told_are_kept_for_a_filter_only(
    expressions: list[Expression], flow: Flow
) -> None:
    """Without VLANs the answer is exact."""
    wanted = any(picks(each, way) for each in expressions for way in (flow, turned(flow)))
    program = program_for(expressions)
    if program is not None:
        assert bool(run(program, received_by_socket(ethernet(packet(flow))))) is wanted
