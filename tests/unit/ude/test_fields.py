"""Every attribute that is a number, read natively as from Python: of packets with and without it, and of flows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from aiomos import CONN_SETUP, PKT_OUT, App, Flow, Level, Packet
from aiomos.testing.packets import (
    ethernet,
    fragment_ipv4,
    fragment_ipv6,
    ipv4,
    ipv6,
    mss,
    sack_ok,
    tcp,
    tcp_frame,
    timestamps,
    udp_frame,
    vlan,
    wscale,
)
from aiomos.testing.scenario import Conversation
from aiomos.ude import attributes
from aiomos.ude.machine import Predicates
from aiomos.ude.nodes import Number
from aiomos.ude.predicates import Compiled, combine, compile_predicate
from tests.events import play

probe = pytest.importorskip("tests.native._probe_predicates", reason="needs the native test probes")
fire = probe.fire
OPTIONS = mss(1234) + wscale(5) + sack_ok() + timestamps(0xF0000001, 77)
SEGMENT = tcp(
    b"data", seq=3_000_000_000, ack=4_000_000_000, flags="PAUEC", window=4321, urgent=3, options=OPTIONS
)
PACKETS: dict[str, bytes] = {
    "all": ethernet(ipv4(SEGMENT, ttl=63, tos=0xB9, ip_id=0xABCD), vlan=5),
    "bare": tcp_frame(flags="S", seq=1, window=0),
    "bare with options": tcp_frame(options=OPTIONS),
    "IPv6": ethernet(ipv6(SEGMENT, hop_limit=7)),
    "fragment": ethernet(fragment_ipv4(ipv4(SEGMENT, ip_id=9), 16)[1]),
    "last fragment": ethernet(fragment_ipv6(ipv6(SEGMENT), 16, ip_id=70_000)[-1]),
    "UDP": udp_frame(sport=53, dport=5353, payload=b"question"),
    "ICMP": ethernet(ipv4(b"\x08\0\0\0", proto=1)),
}
NUMBERS = sorted(name for name, node in attributes.PACKET.items() if isinstance(node, Number))
OF_FLOWS = sorted(name for name, node in attributes.FLOW.items() if isinstance(node, Number))
OF_HALVES = sorted(name for name, node in attributes.HALF.items() if isinstance(node(0), Number))

Compare = Callable[[object], Callable[[Any], object]]


@pytest.fixture(scope="module")
def comparisons(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Compare]:
    """By thing and attribute, what makes predicates that compare that; they are compiled from their source."""
    lines = ["COMPARISONS = {}"]
    for thing, names in (("pkt", NUMBERS), ("flow", OF_FLOWS), ("half", OF_HALVES)):
        for name in names:
            lines += [
                f"def {thing}_{name}(value):",
                f"    return lambda {thing}: {thing}.{name} == value",
                f"COMPARISONS['{thing}', '{name}'] = {thing}_{name}",
            ]
    path = tmp_path_factory.mktemp("fields") / "compare_fields.py"
    path.write_text("\n".join(lines) + "\n")
    spec = importlib.util.spec_from_file_location("compare_fields", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[tuple[str, str], Compare] = module.COMPARISONS
    return found


@cache
def made(compare: Compare, thing: str, value: object, _kind: str) -> Predicates:
    """The predicate; equal values of different types are compared each."""
    compiled = compile_predicate(compare(value), (thing,))
    assert isinstance(compiled, Compiled), compiled
    return combine([(0, None, compiled, None)])


def holds(
    compare: Compare, thing: str, value: object, pkt: Packet | None, flow: Flow | None = None, side: int = 0
) -> bool:
    """Whether the machine finds an attribute to be that value."""
    fired, unsure = fire(made(compare, thing, value, type(value).__name__), pkt, flow, side)
    assert not unsure
    return bool(fired)


def others(value: object) -> list[object]:
    """Values that it must not be found to be."""
    if value is None:
        return [0, 1]
    if isinstance(value, bool):
        return [not value, None]
    return [value + 1, value - 1, None] if isinstance(value, int) else [None]


@pytest.mark.parametrize("kind", [*PACKETS, "bare with options, cut"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_packets(kind: str, name: str, comparisons: dict[tuple[str, str], Compare]) -> None:
    whole = PACKETS[kind.removesuffix(", cut")]
    pkt = Packet.decode(whole[:58] if "cut" in kind else whole, wirelen=len(whole))
    value, compare = getattr(pkt, name), comparisons["pkt", name]
    assert holds(compare, "pkt", value, pkt)
    for other in others(value):
        assert not holds(compare, "pkt", other, pkt), other


def test_each_number_of_a_packet_is_there_somewhere() -> None:
    """Else nothing would have been compared."""
    packets = [Packet.decode(data) for data in PACKETS.values()]
    for name in NUMBERS:
        values = {getattr(pkt, name) for pkt in packets}
        assert len(values) > 1 or name in ("fin", "rst", "ae", "known"), name


@pytest.mark.parametrize("moment", [CONN_SETUP, PKT_OUT], ids=["at first", "all along"])
def test_numbers_of_flows_and_halves(moment: Any, comparisons: dict[tuple[str, str], Compare]) -> None:
    app: App[None] = App("looks")
    met: dict[str, set[object]] = {}

    @app.on(moment, level=Level.STREAM, midstream=True)
    def look(flow: Flow) -> None:
        for name in OF_FLOWS:
            check("flow", name, flow, flow, 0)
        for side, half in enumerate((flow.client, flow.server)):
            for name in OF_HALVES:
                check("half", name, half, flow, side)

    def check(thing: str, name: str, of: Any, flow: Flow, side: int) -> None:
        value, compare = getattr(of, name), comparisons[thing, name]
        met.setdefault(f"{thing}.{name}", set()).add(value)
        assert holds(compare, thing, value, None, flow, side), (name, value)
        for other in others(value):
            assert not holds(compare, thing, other, None, flow, side), (name, value, other)

    c = Conversation().handshake(client_options=OPTIONS, server_options=mss(536) + timestamps(9, 0xF0000001))
    c.client("PA", b"question", options=timestamps(0xF0000002, 9)).server("A").server("A").server("A")
    c.client("PA", b"lost", captured=False).client("PA", b"behind").server("A", ack=9).server("A", ack=9)
    c.server("A", ack=13).client("PA", b"yz", seq=20).client("PA", b"x", seq=19).wait(1)
    c.client("PA", b"QUESTION", seq=1).server("PA", b"an answer").client("A").server("PA", b"!", window=77)
    picked_up = Conversation("10.0.0.1:50000", "10.0.0.2:50001").handshake().client("PA", b"a").server("A")
    tagged = [(at, vlan(data, 5), linktype, size + 4) for at, data, linktype, size in picked_up.frames[3:]]
    play(c.close().frames + tagged, app)
    assert met
    if moment is PKT_OUT:
        without = {name for name, values in met.items() if not values - {None, 0}}
        assert without == {"half.late_bytes"}


def test_no_attribute_is_left_out() -> None:
    assert len(NUMBERS) > 30
    assert len(OF_FLOWS) > 5
    assert len(OF_HALVES) > 25
