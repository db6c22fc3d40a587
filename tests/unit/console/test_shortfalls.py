"""What a run says of what it did not follow."""

import re

from aiomos.console.shortfalls import KINDS, shortfalls
from aiomos.engine.engine import Engine
from aiomos.settings import Settings
from aiomos.wire.protocols import Layer, unread_name


def test_a_run_that_followed_everything_has_none() -> None:
    counters = {"frames": 9, "flows": 2, "udp": 4, "non_ip": 1, "ended.rst": 1, "unwatched": 3, "orphans": 0}
    assert shortfalls(counters) == []


def test_each_is_told_once_with_its_parts_and_what_they_come_to() -> None:
    counters = {
        "gap.lost": 2,
        "gap.snaplen": 1,
        "gap_bytes.lost": 3000,
        "gap_bytes.snaplen": 60,
        "gap.age": 0,
    }
    (gaps,) = shortfalls(counters)
    assert (gaps.name, gaps.count) == ("gaps", 3)
    assert str(gaps) == "3 gaps in streams, 3,060 bytes (lost 2, snaplen 1)"


def test_counters_of_one_kind_are_added_up() -> None:
    (given_up,) = shortfalls({"evicted": 1200, "no_memory": 34})
    assert given_up.count == 1234
    assert given_up.text == "1,234 connections given up for want of room"
    assert given_up.hint


def test_of_several_interfaces_the_sum_is_told_once() -> None:
    (drops,) = shortfalls({"transport.dropped": 7, "transport.eth0.dropped": 5, "transport.eth1.dropped": 2})
    assert drops.text == "7 frames lost on their way from the kernel"


def test_what_is_not_read_is_told_by_its_name() -> None:
    counters = {
        "unread.linktype.user0": 2,
        "unread.udp.vxlan": 3,
        "unread.protocol.gre": 4,
        "unread.ethertype.arp": 9,
    }
    links, tunnels = shortfalls(counters)
    assert str(links) == "2 frames of link types that are not read (user0 2)"
    assert tunnels.text == "7 packets of tunnels that were not looked into (gre 4, vxlan 3)"
    assert "--decapsulate" in tunnels.hint


def test_what_the_engine_counts_is_known_here_by_the_same_names() -> None:
    """A counter that is renamed is not to fall silent."""
    names = set(Engine(Settings(), bytes(16), print).statistics())
    names |= {unread_name(layer, number) for layer in Layer for number in range(150)}
    elsewhere = {"kernel_drops", "cut_short", "failed"}  # counted by transports and the runtime
    for kind in KINDS:
        if kind.name not in elsewhere:
            assert any(re.fullmatch(kind.pattern, name) for name in names), kind.name
