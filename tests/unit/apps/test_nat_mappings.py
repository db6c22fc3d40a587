"""Ports and mappings of the NAT, by the demands of RFC 4787, RFC 5382 and RFC 5508."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiomos.apps.nat.mappings import Endpoint, Exhausted, HostLimit, Mappings, PortPool

EXTERNAL = "192.0.2.10"
PORTS = range(1024, 65536)
A, B, PEER = "10.0.0.1", "10.0.0.2", "198.51.100.1"
PROTOCOLS = ("tcp", "udp", "icmp")


def mappings(external: tuple[str, ...] = (EXTERNAL,), ports: range = PORTS, **options: object) -> Mappings:
    return Mappings(external, ports, Random(0), **options)  # type: ignore[arg-type]


# --- RFC 4787 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("proto", PROTOCOLS)
def test_rfc_4787_req_1_mapping_is_endpoint_independent(proto: str) -> None:
    """And so RFC 5382 REQ-1 and RFC 5508 REQ-1: whomever it talks to, an endpoint inside has one outside."""
    made = mappings()
    inside = Endpoint(proto, A, 5000)
    first = made.of(inside)
    for number in range(10):
        made.use(first, f"198.51.100.{number}")
    assert made.of(inside) is first
    assert made.at(first.external) is first


def test_rfc_4787_req_2_addresses_are_paired() -> None:
    """All endpoints of a host have the same address, as long as it has any."""
    made = mappings(("192.0.2.10", "192.0.2.11"))
    of_a = [made.of(Endpoint(proto, A, port)) for proto in PROTOCOLS for port in range(5000, 5010)]
    of_b = [made.of(Endpoint(proto, B, port)) for proto in PROTOCOLS for port in range(5000, 5010)]
    assert len({mapped.external.address for mapped in of_a}) == 1
    assert len({mapped.external.address for mapped in of_b}) == 1
    assert of_a[0].external.address != of_b[0].external.address


def test_rfc_4787_req_3_ports_are_not_overloaded() -> None:
    made = mappings(ports=range(2000, 2100))
    externals = [made.of(Endpoint("udp", A, port)).external for port in range(5000, 5100)]
    assert len(set(externals)) == 100
    with pytest.raises(Exhausted):
        made.of(Endpoint("udp", A, 5100))


def test_rfc_6888_req_4_ports_of_a_host_are_limited() -> None:
    """By protocol; what it has stays, what it gives back it may have again, and others are not concerned."""
    made = mappings(ports=range(2000, 2100), host_ports=10)
    held = [made.of(Endpoint("udp", A, port)) for port in range(5000, 5010)]
    for mapped in held:
        made.use(mapped, PEER, begun=True)
    told = []
    for port in (5010, 5011):
        with pytest.raises(HostLimit) as caught:
            made.of(Endpoint("udp", A, port))
        told.append((caught.value.what, caught.value.limit, caught.value.is_first))
    assert told == [("ports", 10, True), ("ports", 10, False)]
    assert made.of(held[3].inside) is held[3]
    assert made.of(Endpoint("tcp", A, 5010))
    assert made.of(Endpoint("udp", B, 5010))
    made.release(held[3], PEER, begun=True)
    assert made.of(Endpoint("udp", A, 5011))
    assert len(made) == 12


def test_rfc_6888_req_5_sessions_of_a_host_are_limited() -> None:
    """One port leads to any number of peers, and each is a session; those that others begin are not the host's."""
    made = mappings(host_sessions=5)
    mapped = made.of(Endpoint("udp", A, 5000))
    for number in range(5):
        made.use(mapped, f"198.51.100.{number}", begun=True)
    made.use(mapped, "203.0.113.9")
    for port in (5000, 5001):
        with pytest.raises(HostLimit) as caught:
            made.of(Endpoint("udp", A, port))
        assert caught.value.what == "sessions"
    made.release(mapped, "198.51.100.0", begun=True)
    assert made.of(Endpoint("udp", A, 5000)) is mapped
    for number in range(1, 5):
        made.release(mapped, f"198.51.100.{number}", begun=True)
    made.release(mapped, "203.0.113.9")
    assert len(made) == 0
    assert not made._hosts


@pytest.mark.parametrize("kind", ["permanent", "static"])
def test_limits_of_sessions_are_those_of_hosts_with_ports_of_their_own_as_well(kind: str) -> None:
    inside = Endpoint("udp", A, 5000)
    options: dict[str, object] = (
        {"permanent": [(inside, Endpoint("udp", EXTERNAL, 53))]}
        if kind == "permanent"
        else {"statics": {A: PEER}}
    )
    made = mappings(host_sessions=1, **options)
    mapped = made.of(inside)
    made.use(mapped, PEER, begun=True)
    with pytest.raises(HostLimit):
        made.of(inside)
    made.release(mapped, PEER, begun=True)
    assert made.of(inside).external == mapped.external
    assert not made._hosts


def test_rfc_4787_req_3_a_well_known_ports_stay_well_known() -> None:
    made = mappings(ports=range(1, 65536))
    taken = made.of(Endpoint("udp", A, 500)).external
    assert taken.port == 500
    assert made.of(Endpoint("udp", B, 500)).external.port < 1024
    assert made.of(Endpoint("udp", B, 5000)).external.port == 5000


@pytest.mark.parametrize("port", [5004, 5005])
def test_rfc_4787_req_4_parity_is_preserved(port: int) -> None:
    made = mappings()
    for host in range(1, 100):
        assert made.of(Endpoint("udp", f"10.0.1.{host}", port)).external.port % 2 == port % 2


def test_parity_gives_way_before_a_host_goes_without() -> None:
    made = mappings(ports=range(2000, 2004))
    assert {made.of(Endpoint("udp", f"10.0.1.{host}", 5004)).external.port for host in range(4)} == {
        2000,
        2001,
        2002,
        2003,
    }


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (1000, [1000, 1002, 1001, 1003, 1024, 1026, 1025, 1027]),
        (1001, [1001, 1003, 1000, 1002, 1025, 1027, 1024, 1026]),
        (1026, [1026, 1024, 1025, 1027, 1000, 1002, 1001, 1003]),
        (1027, [1027, 1025, 1024, 1026, 1001, 1003, 1000, 1002]),
    ],
)
def test_a_port_is_on_the_same_side_of_1024_before_it_is_as_even(wanted: int, taken: list[int]) -> None:
    """RFC 4787 REQ-3 a before REQ-4; of each kind all are given out before another kind is. Twice, with all back."""
    pool = PortPool([*range(1000, 1004), *range(1024, 1028)], (), Random(0))
    for _ in range(2):
        got = [pool.take(wanted) for _ in taken]
        assert got[0] == wanted
        assert [{*got[at : at + 2]} for at in range(0, 8, 2)] == [
            {*taken[at : at + 2]} for at in range(0, 8, 2)
        ]
        for port in got:
            pool.give_back(port)
        assert len(pool) == 8


def test_rfc_4787_req_8_filtering() -> None:
    made = mappings()
    mapped = made.of(Endpoint("udp", A, 5000))
    made.use(mapped, PEER)
    stranger = "203.0.113.9"
    assert [mapped.lets_in(PEER, how) for how in ("endpoint-independent", "address-dependent")] == [
        True,
        True,
    ]
    assert mapped.lets_in(stranger, "endpoint-independent")
    assert not mapped.lets_in(stranger, "address-dependent")
    assert not mapped.lets_in(PEER, "address-and-port-dependent")


def test_protocols_have_ports_of_their_own() -> None:
    made = mappings(ports=range(2000, 2001))
    assert [made.of(Endpoint(proto, A, 5000)).external.port for proto in PROTOCOLS] == [2000] * 3


# --- life of a mapping --------------------------------------------------------------------------------


def test_mapping_ends_with_its_last_session() -> None:
    made = mappings(ports=range(2000, 2001))
    mapped = made.of(Endpoint("udp", A, 5000))
    for peer in (PEER, PEER, "203.0.113.9"):
        made.use(mapped, peer)
    for peer in (PEER, "203.0.113.9"):
        made.release(mapped, peer)
        with pytest.raises(Exhausted):
            made.of(Endpoint("udp", B, 5000))
    made.release(mapped, PEER)
    assert made.at(mapped.external) is None
    assert made.of(Endpoint("udp", B, 5000)).external == mapped.external


def test_configured_ports_are_not_given_out_and_stay() -> None:
    inside, external = Endpoint("tcp", A, 8080), Endpoint("tcp", EXTERNAL, 2000)
    made = mappings(ports=range(2000, 2002), permanent=[(inside, external)])
    assert made.of(Endpoint("tcp", B, 2000)).external.port == 2001
    mapped = made.at(external)
    assert mapped is not None
    assert mapped.inside == inside
    assert made.of(inside) is mapped
    made.use(mapped, PEER)
    made.release(mapped, PEER)
    assert made.at(external) is mapped


def test_host_with_an_address_to_itself() -> None:
    made = mappings(statics={A: "192.0.2.20"})
    assert made.of(Endpoint("udp", A, 53)).external == Endpoint("udp", "192.0.2.20", 53)
    found = made.at(Endpoint("tcp", "192.0.2.20", 22))
    assert found is not None
    assert found.inside == Endpoint("tcp", A, 22)
    assert found.lets_in(PEER, "address-and-port-dependent")
    made.use(found, PEER)
    made.release(found, PEER)
    assert len(made) == 0


def test_host_may_come_to_another_address_once_it_has_no_mapping() -> None:
    made = mappings(("192.0.2.10", "192.0.2.11"))
    first = made.of(Endpoint("udp", A, 5000))
    made.tidy(first)
    others = {made.of(Endpoint("udp", f"10.0.1.{host}", 5000)).external.address for host in (1, 2)}
    assert others == {"192.0.2.10", "192.0.2.11"}


@given(st.integers(0, 65535), st.integers(1, 65535), st.integers(1, 200), st.randoms(use_true_random=False))
def test_pool_gives_each_port_once(wanted: int, first: int, count: int, random: Random) -> None:
    ports = range(first, min(first + count, 65536))
    pool = PortPool(ports, (), random)
    taken = [pool.take(wanted) for _ in ports]
    assert sorted(taken) == list(ports)
    if wanted in ports:
        assert taken[0] == wanted
    with pytest.raises(Exhausted):
        pool.take(wanted)


class Life(RuleBasedStateMachine):
    """Sessions come and go: endpoints are never shared, and nothing is left of what has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.made = mappings(("192.0.2.10", "192.0.2.11"), range(2000, 2008))
        self.sessions: list[tuple[Endpoint, str]] = []

    @rule(
        host=st.integers(1, 4),
        port=st.integers(5000, 5004),
        proto=st.sampled_from(PROTOCOLS),
        peer=st.integers(1, 3),
    )
    def open(self, host: int, port: int, proto: str, peer: int) -> None:
        inside = Endpoint(proto, f"10.0.0.{host}", port)
        try:
            mapped = self.made.of(inside)
        except Exhausted:
            return
        self.made.use(mapped, f"198.51.100.{peer}")
        self.sessions.append((inside, f"198.51.100.{peer}"))

    @precondition(lambda self: self.sessions)
    @rule(which=st.integers(0))
    def close(self, which: int) -> None:
        inside, peer = self.sessions.pop(which % len(self.sessions))
        self.made.release(self.made.of(inside), peer)

    @invariant()
    def endpoints_are_not_shared(self) -> None:
        insides = {inside for inside, _ in self.sessions}
        externals = {inside: self.made.of(inside).external for inside in insides}
        assert len(set(externals.values())) == len(insides) == len(self.made)
        for inside, external in externals.items():
            found = self.made.at(external)
            assert found is not None
            assert found.inside == inside
        for host in {inside.address for inside in insides}:
            assert len({externals[i].address for i in insides if i.address == host}) == 1


TestLife = Life.TestCase
