"""The queue of segments that wait for the bytes before them: its order, its bounds, and what it gives back."""

import ctypes
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

probe: Any = pytest.importorskip("tests.native._probe_waiting", reason="needs the native test probes")

START = 2**32 - 30
RECORD = probe.RECORD


def test_they_leave_in_order_of_their_numbers() -> None:
    queue = probe.Queue()
    for at in (20, 0, 40, 10, 30, 50):
        assert queue.put((START + at) % 2**32, (START + at + 10) % 2**32, b"%d" % at)
    assert queue.order == [((START + at) % 2**32, (START + at + 10) % 2**32) for at in range(0, 60, 10)]
    assert queue.held == (6, 6 * RECORD + 11)
    assert [queue.take(29)[2] for _ in range(6)] == [b"0", b"10", b"20", b"30", b"40", b"50"]
    assert queue.take(29) is None
    assert (queue.order, queue.held) == ([], (0, 0))
    assert queue.put(1, 2)  # as into a new one
    assert queue.order == [(1, 2)]


def test_one_has_its_turn_once_all_before_it_is_there() -> None:
    queue = probe.Queue()
    queue.put(0, 10, b"abc")
    assert queue.take(2**32 - 1) is None
    assert queue.held == (1, RECORD + 3)
    assert queue.take(0) == (0, 10, b"abc", None)
    queue.put(0, 10)
    assert queue.take(1) == (0, 10, b"", None)


def test_one_that_another_has_whole_is_given_up() -> None:
    queue = probe.Queue()
    assert queue.put(100, 200)
    assert queue.put(300, 310)
    assert not queue.put(100, 200)
    assert not queue.put(100, 199)
    assert not queue.put(101, 200)
    assert not queue.put(150, 160)
    assert queue.put(101, 201)
    assert queue.put(99, 200)
    assert queue.put(100, 300)
    assert not queue.put(250, 300)
    assert not queue.put(300, 310)
    assert queue.order == [(99, 200), (100, 200), (100, 300), (101, 201), (300, 310)]
    assert queue.held == (5, 5 * RECORD)


def test_what_begins_behind_the_last_is_compared_with_none() -> None:
    queue = probe.Queue()
    assert queue.put(0, 100)
    assert queue.put(10, 20)
    assert queue.put(30, 40)
    assert queue.order == [(0, 100), (10, 20), (30, 40)]


def test_an_offload_goes_with_its_frame() -> None:
    queue = probe.Queue()
    queue.put(0, 1, b"a", gso_size=1400)
    queue.put(1, 2, b"b")
    assert queue.take(0) == (0, 1, b"a", 1400)
    assert queue.take(1) == (1, 2, b"b", None)


def test_so_many_wait_and_no_more() -> None:
    queue = probe.Queue()
    assert probe.MOST == 1024
    assert all(queue.put(2 * number, 2 * number + 1) for number in range(1024))
    assert not queue.put(4000, 4001)
    assert queue.held == (1024, 1024 * RECORD)
    assert queue.take(0) is not None
    assert queue.put(4000, 4001)
    assert queue.clear() == 1024
    assert (queue.order, queue.held, queue.clear()) == ([], (0, 0), 0)


def in_use() -> int:
    """Return how many bytes malloc() has given out."""

    class Mallinfo2(ctypes.Structure):
        _fields_ = [(f"field_{place}", ctypes.c_size_t) for place in range(10)]

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = Mallinfo2
    used: int = libc.mallinfo2().field_7  # uordblks
    return used


@pytest.mark.parametrize(
    ("fill", "segment"),
    [(1, (0, 10)), (2, (5, 10)), (1024, (20_000, 20_010))],
    ids=["had", "had", "too many"],
)
def test_what_is_refused_is_given_back(fill: int, segment: tuple[int, int]) -> None:
    queue = probe.Queue()
    data = bytes(1000)
    for number in range(fill):
        assert queue.put(10 * number, 10 * number + 10)
    before = in_use()
    for _ in range(1000):
        assert not queue.put(*segment, data)
    assert in_use() - before < 500_000


def test_what_is_cleared_is_given_back() -> None:
    queue = probe.Queue()
    before = in_use()
    for _ in range(1000):
        assert queue.put(0, 10, bytes(1000))
        assert queue.put(100, 110, bytes(1000))
        assert queue.clear() == 2
    assert in_use() - before < 500_000


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=40))
def test_all_that_was_put_in_comes_out(segments: list[tuple[int, int]]) -> None:
    queue = probe.Queue()
    taken = set()
    for at, length in segments:
        seq, end = (START + at) % 2**32, (START + at + length) % 2**32
        if queue.put(seq, end):
            taken.update(range(at, at + length))
        starts = [(seq - START) % 2**32 for seq, _ in queue.order]
        assert starts == sorted(starts)
        assert queue.held == (len(starts), len(starts) * RECORD)
    assert taken == {byte for at, length in segments for byte in range(at, at + length)}
