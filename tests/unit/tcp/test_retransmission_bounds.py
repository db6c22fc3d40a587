"""Where one kind of retransmission ends and the next begins: to the nanosecond, and to the byte."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_reassembly", reason="needs the native test probes")

MILLISECOND = 1_000_000
REORDER_NS = 3 * MILLISECOND
FAST_NS = 20 * MILLISECOND
SEGMENT = bytes(100)


@pytest.fixture
def half() -> Any:
    """Ten segments of 100 bytes sent at once, the first two acknowledged."""
    half = probe.Reassembly()
    for number in range(10):
        assert half.send(100 * number, SEGMENT)[0] is None
    half.acknowledge(200)
    return half


@pytest.mark.parametrize(
    ("late", "kind"), [(0, None), (REORDER_NS - 1, None), (REORDER_NS, "rto"), (REORDER_NS + 1, "rto")]
)
def test_overtaken_within_3_ms_where_no_round_trip_is_known(late: int, kind: str | None) -> None:
    half = probe.Reassembly()
    half.send(100, SEGMENT, time_ns=7)
    assert half.send(0, SEGMENT, time_ns=7 + late)[0] == kind


def test_what_is_new_in_part_only_was_not_overtaken() -> None:
    half = probe.Reassembly()
    half.send(100, SEGMENT)
    assert half.send(1, SEGMENT, time_ns=1) == ("rto", None, 99)
    half = probe.Reassembly()
    half.send(100, SEGMENT)
    assert half.send(0, SEGMENT, time_ns=1) == (None, None, 100)


@pytest.mark.parametrize(
    ("late", "kind"), [(0, "fast"), (FAST_NS - 1, "fast"), (FAST_NS, "rto"), (FAST_NS + 1, "rto")]
)
def test_fast_within_20_ms_of_the_last_duplicate(half: Any, late: int, kind: str) -> None:
    for time_ns in (0, 5 * MILLISECOND):
        half.acknowledge_again(200, time_ns=time_ns)
    assert half.send(200, SEGMENT, time_ns=5 * MILLISECOND + late)[0] == kind


@pytest.mark.parametrize(
    ("at", "kind"), [(199, "rto"), (200, "fast"), (201, "fast"), (799, "fast"), (800, "rto")]
)
def test_fast_between_the_first_byte_asked_for_and_the_last_reported(half: Any, at: int, kind: str) -> None:
    half.acknowledge_again(200, sack=[(300, 400), (500, 800)], time_ns=MILLISECOND)
    half.acknowledge_again(200, sack=[(500, 600)], time_ns=MILLISECOND)
    assert half.send(at, SEGMENT, time_ns=2 * MILLISECOND)[0] == kind


def test_what_was_reported_before_progress_counts_no_more(half: Any) -> None:
    for _ in range(2):
        half.acknowledge_again(200, sack=[(500, 900)], time_ns=MILLISECOND)
    half.acknowledge(300, time_ns=2 * MILLISECOND)
    for _ in range(2):
        half.acknowledge_again(300, sack=[(400, 500)], time_ns=3 * MILLISECOND)
    assert half.send(400, SEGMENT, time_ns=4 * MILLISECOND)[0] == "fast"
    assert half.send(600, SEGMENT, time_ns=4 * MILLISECOND)[0] == "rto"


@pytest.mark.parametrize(("at", "kind"), [(0, "spurious"), (99, "spurious"), (100, "spurious"), (101, "rto")])
def test_spurious_up_to_the_byte_that_was_acknowledged(half: Any, at: int, kind: str) -> None:
    assert half.send(at, SEGMENT, time_ns=400 * MILLISECOND)[0] == kind
