"""What a connection filter picks, in plain Python."""

from ipaddress import IPv4Address, IPv6Address

import attrs

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


@attrs.frozen
class Flow:
    """The two ends of a flow, as a filter sees them."""

    client: IPv4Address | IPv6Address
    server: IPv4Address | IPv6Address
    client_port: int
    server_port: int
    proto: int = 6
    vlan: int | None = None


def picks(expression: Expression, flow: Flow) -> bool:
    """Say whether *expression* is true of *flow*."""
    match expression:
        case Everything():
            return True
        case Protocol(number):
            return flow.proto == number
        case IpVersion(version):
            return flow.client.version == version
        case Vlan(None):
            return flow.vlan is not None
        case Vlan(vid):
            return flow.vlan == vid
        case Port(side, low, high):
            return _sides(side, low <= flow.client_port <= high, low <= flow.server_port <= high)
        case Host(side, first, last):
            client, server = (
                end.version == first.version and int(first) <= int(end) <= int(last)
                for end in (flow.client, flow.server)
            )
            return _sides(side, client, server)
        case Not(operand):
            return not picks(operand, flow)
        case And(operands):
            return all(picks(operand, flow) for operand in operands)
        case Or(operands):
            return any(picks(operand, flow) for operand in operands)


def _sides(side: Side, client: bool, server: bool) -> bool:
    return {
        Side.CLIENT: client,
        Side.SERVER: server,
        Side.EITHER: client or server,
        Side.BOTH: client and server,
    }[side]
