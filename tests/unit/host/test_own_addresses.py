"""Addresses of ours on our links."""

import random

import pytest

probe = pytest.importorskip("tests.native._probe_host", reason="needs the native test probes")


def test_an_address_is_ours_on_its_link() -> None:
    links = probe.Links()
    number = links.add(1, "192.0.2.7", 24, b"\x02\0\0\0\0\x07")
    assert links.find(1, "192.0.2.7") == (number, b"\x02\0\0\0\0\x07")
    assert links.find(0, "192.0.2.7") is None
    assert links.find(1, "192.0.2.8") is None
    assert links.add(1, "192.0.2.7", 16, b"\x02\0\0\0\0\x08") == number  # given anew
    assert links.find(1, "192.0.2.7") == (number, b"\x02\0\0\0\0\x08")


def test_an_address_is_given_back() -> None:
    links = probe.Links(addresses=2)
    first, second = links.add(0, "192.0.2.1", 24), links.add(0, "192.0.2.2", 24)
    assert (first, second, links.add(0, "192.0.2.3", 24)) == (1, 2, 0)
    assert links.remove(0, "192.0.2.1")
    assert not links.remove(0, "192.0.2.1")
    assert links.find(0, "192.0.2.1") is None
    assert links.source(0, "192.0.2.9") == "192.0.2.2"
    assert links.add(0, "192.0.2.3", 24) == first
    assert links.find(0, "192.0.2.2") == (second, bytes(6))


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("192.0.2.9", "192.0.2.1"),
        ("198.51.100.65", "198.51.100.70"),
        ("198.51.100.63", "192.0.2.1"),  # on none of our networks: any
        ("2001:db8:0:1::5", "2001:db8:0:1::1"),
        ("2001:db8:0:2::5", "fe80::1"),
    ],
)
def test_the_source_is_on_the_network_of_the_target(target: str, source: str) -> None:
    links = probe.Links()
    for address, prefix in (
        ("192.0.2.1", 24),
        ("198.51.100.70", 26),
        ("fe80::1", 64),
        ("2001:db8:0:1::1", 64),
    ):
        links.add(0, address, prefix)
    assert links.source(0, target) == source
    assert links.source(1, target) is None


def test_the_table_finds_what_a_dictionary_finds() -> None:
    rng = random.Random(5)
    links, known = probe.Links(addresses=64), {}
    for _ in range(20_000):
        key = rng.randrange(2), f"10.0.0.{rng.randrange(60)}"
        if rng.random() < 0.5:
            number = links.add(*key, 8)
            assert number or len(known) == 64
            if number:
                assert known.setdefault(key, number) == number
        else:
            assert links.remove(*key) == (known.pop(key, None) is not None)
        found = links.find(*key)
        assert (found and found[0]) == known.get(key)
    assert len(set(known.values())) == len(known)
