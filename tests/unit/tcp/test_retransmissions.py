"""Kinds of retransmissions, as Wireshark tells them where it can."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

MILLISECOND = 1_000_000
SEGMENT = bytes(100)


@pytest.fixture
def half() -> Any:
    """Ten segments sent, a millisecond apart; the first two are acknowledged."""
    half = probe.Reassembly()
    for number in range(10):
        assert half.send(100 * number, SEGMENT, time_ns=number * MILLISECOND)[0] is None
    half.acknowledge(200, time_ns=11 * MILLISECOND)
    return half


def again(half: Any, at: int, time_ms: int, data: bytes = SEGMENT, **fields: Any) -> str | None:
    before = half.retransmits
    kind: str | None = half.send(at, data, time_ns=time_ms * MILLISECOND, **fields)[0]
    assert half.retransmits - before == (kind is not None)
    return kind


def test_without_a_request_it_is_a_time_out(half: Any) -> None:
    assert again(half, 200, 300) == "rto"


@pytest.mark.parametrize(("count", "kind"), [(1, "rto"), (2, "fast"), (3, "fast")])
def test_duplicate_acknowledgements_ask_for_it(half: Any, count: int, kind: str) -> None:
    for number in range(count):
        half.acknowledge_again(200, time_ns=(12 + number) * MILLISECOND)
    assert again(half, 200, 20) == kind


def test_it_answers_the_last_of_them_within_20_ms(half: Any) -> None:
    for number in range(3):
        half.acknowledge_again(200, time_ns=(12 + number) * MILLISECOND)
    assert again(half, 200, 33) == "fast"
    assert again(half, 200, 34) == "rto"


def test_it_is_the_segment_they_ask_for(half: Any) -> None:
    for _ in range(3):
        half.acknowledge_again(200, time_ns=12 * MILLISECOND)
    assert again(half, 300, 20) == "rto"


def test_a_hole_that_sack_reports_is_asked_for_as_well(half: Any) -> None:
    for edge in (600, 700, 800):
        half.acknowledge_again(200, sack=[(500, edge), (300, 400)], time_ns=12 * MILLISECOND)
    assert again(half, 400, 20) == "fast"
    assert again(half, 800, 20) == "rto"  # beyond all that was reported


def test_an_older_acknowledgement_asks_for_nothing(half: Any) -> None:
    for _ in range(3):
        half.acknowledge_again(100, time_ns=12 * MILLISECOND)
    assert again(half, 200, 20) == "rto"


def test_progress_ends_what_was_asked_for(half: Any) -> None:
    for _ in range(3):
        half.acknowledge_again(200, time_ns=12 * MILLISECOND)
    half.acknowledge(300, time_ns=13 * MILLISECOND)
    assert again(half, 300, 14) == "rto"


def test_what_was_acknowledged_is_spurious(half: Any) -> None:
    for _ in range(3):
        half.acknowledge_again(200, time_ns=12 * MILLISECOND)
    assert again(half, 0, 20) == "spurious"
    assert again(half, 100, 20) == "spurious"
    assert again(half, 150, 20) == "rto"  # not all of it


def test_syn_and_fin() -> None:
    half = probe.Reassembly()
    half.send(0, SEGMENT)
    assert again(half, 0, 1000, b"", flags="S") == "syn"
    assert again(half, 100, 2000, b"", flags="F") is None
    assert again(half, 100, 3000, b"", flags="F") == "fin"
    assert again(half, 0, 4000, flags="F") == "rto"  # with data it goes by its data


def test_an_overtaken_segment_is_none() -> None:
    half = probe.Reassembly()
    half.send(100, SEGMENT, time_ns=MILLISECOND)
    assert again(half, 0, 2) is None
    assert half.out_of_order == 1
    half.send(300, SEGMENT, time_ns=3 * MILLISECOND)
    assert again(half, 200, 50) == "rto"  # too late to have been overtaken


def test_the_least_round_trip_is_kept() -> None:
    half = probe.Reassembly()
    now = 0
    for number, round_trip in enumerate([30, 10, 20]):
        half.send(number, b"a", time_ns=now)
        half.acknowledge(number + 1, time_ns=now + round_trip * MILLISECOND)
        now += 100 * MILLISECOND
    assert half.min_rtt == 10 * MILLISECOND
