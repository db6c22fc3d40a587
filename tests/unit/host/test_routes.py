"""Ways to destinations, and what is learnt of how long packets to them may be."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

probe = pytest.importorskip("tests.native._probe_host", reason="needs the native test probes")

SECOND = 10**9
AGE = 600 * SECOND


@pytest.fixture
def links() -> "probe.Links":
    links = probe.Links()
    links.add(0, "192.0.2.7", 24)
    links.add(1, "10.1.0.1", 16)
    links.add(0, "2001:db8::7", 64)
    links.route("192.0.2.0", 24, 0)
    links.route("10.0.0.0", 8, 1)
    links.route("10.1.2.0", 24, 0, "192.0.2.2")
    links.route("0.0.0.0", 0, 0, "192.0.2.1")
    links.route("2001:db8::", 64, 0)
    links.route("::", 0, 0, "2001:db8::1")
    return links


@pytest.mark.parametrize(
    ("destination", "way"),
    [
        ("192.0.2.99", (0, "192.0.2.99", "192.0.2.7", 1500, False)),
        ("10.9.9.9", (1, "10.9.9.9", "10.1.0.1", 1500, False)),
        ("10.1.2.3", (0, "192.0.2.2", "192.0.2.7", 1500, False)),
        ("203.0.113.5", (0, "192.0.2.1", "192.0.2.7", 1500, False)),
        ("2001:db8::99", (0, "2001:db8::99", "2001:db8::7", 1500, False)),
        ("2001:db8:1::1", (0, "2001:db8::1", "2001:db8::7", 1500, False)),
    ],
)
def test_the_longest_prefix_wins(links: "probe.Links", destination: str, way: tuple[object, ...]) -> None:
    assert links.way(destination) == way


def test_versions_have_ways_of_their_own() -> None:
    links = probe.Links()
    links.route("::", 0, 0, "fe80::1")
    assert links.way("192.0.2.1") is None
    assert links.way("::ffff:0:1") == (0, "fe80::1", None, 1500, False)


def test_a_route_is_changed_and_taken_away(links: "probe.Links") -> None:
    links.route("10.1.2.0", 24, 1, source=2)
    assert links.way("10.1.2.3")[:3] == (1, "10.1.2.3", "10.1.0.1")
    assert links.unroute("10.1.2.0", 24)
    assert not links.unroute("10.1.2.0", 24)
    assert links.way("10.1.2.3")[:2] == (1, "10.1.2.3")
    assert links.unroute("0.0.0.0", 0)
    assert links.way("203.0.113.5") is None


def test_routes_are_bounded() -> None:
    links = probe.Links()
    added = [links.route(f"10.{n >> 8}.{n & 255}.0", 24, 0) for n in range(258)]
    assert added == [True] * 256 + [False] * 2
    assert links.route("10.0.3.0", 24, 1)  # changes one
    assert links.way("10.0.3.1")[0] == 1


NETWORKS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: ip_network((pair[0], pair[1]), strict=False)
)


@given(st.lists(NETWORKS, max_size=20), st.lists(st.integers(0, 2**32 - 1), max_size=8))
def test_ways_are_those_of_the_longest_network(networks: list[object], targets: list[int]) -> None:
    links = probe.Links()
    for place, network in enumerate(networks):
        assert links.route(str(network.network_address), network.prefixlen, place)
    latest = {network: place for place, network in enumerate(networks)}
    inside = [int(network.network_address) for network in networks]
    for target in map(ip_address, (*targets, *inside)):
        holding = [network for network in latest if target in network]
        best = max(holding, key=lambda network: network.prefixlen, default=None)
        way = links.way(str(target))
        assert (way and way[0]) == (None if best is None else latest[best])


FAR, FAR6 = "203.0.113.5", "2001:db8:5::5"


@pytest.mark.parametrize(
    ("destination", "mtu", "length", "way"),
    [
        (FAR, 1400, 1500, (1400, False)),
        (FAR, 552, 1500, (552, False)),
        (FAR, 551, 1500, (552, True)),  # Linux: min_pmtu
        (FAR, 68, 1500, (552, True)),
        (FAR, 67, 1500, None),  # RFC 791: less than any link takes
        (FAR, 1499, 1500, (1499, False)),
        (FAR, 1500, 1500, None),
        (FAR, 1400, 1400, None),  # the packet kept to it
        (FAR, 1400, 1401, (1400, False)),
        (FAR, 0, 1500, (1492, False)),  # RFC 1191 section 7
        (FAR, 0, 1492, (1006, False)),
        (FAR, 0, 576, (552, True)),
        (FAR, 0, 68, None),
        (FAR, 9000, 65_000, None),
        (FAR6, 1280, 1500, (1280, False)),
        (FAR6, 1279, 1500, None),  # RFC 8201 section 4
        (FAR6, 0, 1500, None),
        (FAR6, 1499, 1500, (1499, False)),
    ],
)
def test_a_path_is_as_narrow_as_is_told(
    links: "probe.Links", destination: str, mtu: int, length: int, way: tuple[int, bool] | None
) -> None:
    assert links.lower(destination, mtu, length) == (way is not None)
    assert links.way(destination)[3:] == (way or (1500, False))
    assert links.counts == ((1, 0) if way else (0, 1))


def test_what_is_told_is_for_one_destination(links: "probe.Links") -> None:
    links.lower(FAR, 1400)
    assert links.way("203.0.113.6")[3] == 1500


def test_a_path_only_gets_narrower_until_ten_minutes_have_passed(links: "probe.Links") -> None:
    assert links.lower(FAR, 1300, now_ns=5)
    assert not links.lower(FAR, 1400, now_ns=6)
    assert not links.lower(FAR, 1300, now_ns=6)
    assert links.way(FAR, 5 + AGE - 1)[3] == 1300
    assert links.way(FAR, 5 + AGE)[3] == 1500
    assert links.lower(FAR, 1400, now_ns=5 + AGE)
    assert links.way(FAR, 5 + AGE)[3] == 1400


def test_that_it_is_to_be_fragmented_is_learnt_later_too(links: "probe.Links") -> None:
    assert links.lower(FAR, 552)
    assert links.lower(FAR, 300)
    assert not links.lower(FAR, 300)
    assert links.way(FAR)[3:] == (552, True)


def test_without_a_way_nothing_is_learnt() -> None:
    links = probe.Links()
    assert not links.lower(FAR, 1400)
    assert links.counts == (0, 1)


def test_paths_are_bounded_and_the_oldest_makes_way() -> None:
    links = probe.Links(paths=4)
    links.route("0.0.0.0", 0, 0)
    for number in range(6):
        assert links.lower(f"203.0.113.{number}", 1400, now_ns=number)
    assert [links.way(f"203.0.113.{number}", 6)[3] for number in range(6)] == [1500] * 2 + [1400] * 4
