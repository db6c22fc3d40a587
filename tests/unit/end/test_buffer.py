"""The send buffer: what it keeps, what it copies, and what it lets go of when."""

import array
import sys
from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_buffer", reason="needs the native test probes")

KEPT, FIRST, NEXT = probe.KEPT, probe.FIRST, probe.NEXT
BYTES = bytes(range(251)) * 400


def written(*writes: Any, limit: int = 1 << 30) -> Any:
    buffer = probe.Buffer(limit)
    for data in writes:
        assert buffer.write(data)
    return buffer


def whole(buffer: Any, offset: int = 0) -> bytes:
    return b"".join(buffer.find(offset, 1 << 30))


# --- what is kept and what is copied ----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "kept"), [(KEPT - 1, 0), (KEPT, 1), (KEPT + 1, 1), (100_000, 1)])
def test_bytes_are_kept_from_a_kilobyte_on(n: int, kept: int) -> None:
    data = BYTES[:n]
    before = sys.getrefcount(data)
    buffer = written(data)
    assert sys.getrefcount(data) == before + kept
    assert whole(buffer) == data
    buffer.sent(n)
    buffer.release(n - 1)
    buffer.collect()
    assert sys.getrefcount(data) == before + kept
    buffer.release(n)  # without the interpreter nothing can be let go of
    assert sys.getrefcount(data) == before + kept
    assert buffer.owes == bool(kept)
    buffer.collect()
    assert sys.getrefcount(data) == before
    assert not buffer.owes


@pytest.mark.parametrize("end", ["write", "close", "del"])
def test_what_is_acknowledged_is_let_go_of_at_the_latest_with(end: str) -> None:
    data = BYTES[:KEPT]
    before = sys.getrefcount(data)
    buffer = written(data, data)
    buffer.sent(KEPT)
    buffer.release(KEPT)
    if end == "write":
        buffer.write(b"")
        assert sys.getrefcount(data) == before + 1
    elif end == "close":
        buffer.close()
        buffer.close()
        assert sys.getrefcount(data) == before
    else:
        del buffer
        assert sys.getrefcount(data) == before


def test_a_view_of_bytes_keeps_them() -> None:
    data = BYTES[:5000]
    before = sys.getrefcount(data)
    buffer = written(memoryview(data)[100:4000], memoryview(data)[:KEPT][::1], memoryview(data)[: KEPT - 1])
    assert sys.getrefcount(data) == before + 2
    assert whole(buffer) == data[100:4000] + data[:KEPT] + data[: KEPT - 1]


class OwnBytes(bytes):
    """Its end could run code."""


@pytest.mark.parametrize("n", [1, KEPT, 5000])
@pytest.mark.parametrize(
    "kind",
    [
        bytearray,
        OwnBytes,
        lambda data: memoryview(bytearray(data)),
        lambda data: memoryview(OwnBytes(data)),
        lambda data: memoryview(bytearray(data)).toreadonly(),
        lambda data: array.array("B", data),
    ],
)
def test_what_may_change_is_copied(kind: Any, n: int) -> None:
    data = kind(BYTES[:n])
    before = sys.getrefcount(data)
    buffer = written(data)
    assert sys.getrefcount(data) == before
    assert whole(buffer) == BYTES[:n]
    assert [block[2] for block in buffer.blocks] == [max(FIRST, n)]
    if isinstance(data, bytearray):
        data[:] = bytes(n)
        data.clear()  # nothing looks into it
        assert whole(buffer) == BYTES[:n]


def test_wide_elements_are_bytes() -> None:
    assert whole(written(array.array("I", [1, 2]))) == array.array("I", [1, 2]).tobytes()


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_what_is_no_buffer_is_refused(data: Any) -> None:
    buffer = written(b"before")
    with pytest.raises(TypeError):
        buffer.write(data)
    assert whole(buffer) == b"before"


def test_a_view_with_holes_is_refused() -> None:
    buffer = written(b"before")
    with pytest.raises(BufferError):
        buffer.write(memoryview(BYTES)[::2])
    released = memoryview(BYTES)
    released.release()
    with pytest.raises(ValueError, match="released"):
        buffer.write(released)
    assert whole(buffer) == b"before"


# --- short writes -----------------------------------------------------------------------------------------


def test_short_writes_are_gathered() -> None:
    buffer = written(*[b"x" * 100] * 10)
    assert buffer.blocks == [(0, 1000, FIRST)]
    buffer.write(b"y" * 24)
    assert buffer.blocks == [(0, 1024, FIRST)]
    buffer.write(b"z")
    assert buffer.blocks == [(0, 1024, FIRST), (1024, 1, NEXT)]
    for _ in range(4):
        buffer.write(b"z" * 1023)
    assert buffer.blocks == [(0, 1024, FIRST), (1024, 4093, NEXT)]
    buffer.write(b"zzzz")
    assert buffer.blocks == [(0, 1024, FIRST), (1024, 4093, NEXT), (5117, 4, NEXT)]


def test_a_short_write_behind_a_long_one_begins_a_block() -> None:
    buffer = written(b"a", BYTES[:KEPT], b"b", b"c")
    assert buffer.blocks == [(0, 1, FIRST), (1, KEPT, 0), (1 + KEPT, 2, FIRST)]
    assert whole(buffer) == b"a" + BYTES[:KEPT] + b"bc"


def test_a_copy_of_just_its_length_takes_nothing_more() -> None:
    buffer = written(bytearray(BYTES[:KEPT]), b"b")
    assert buffer.blocks == [(0, KEPT, KEPT), (KEPT, 1, NEXT)]


def test_a_block_that_is_acknowledged_is_not_written_to() -> None:
    buffer = written(b"abc")
    buffer.sent(3)
    buffer.release(2)
    buffer.write(b"def")
    assert buffer.blocks == [(0, 6, FIRST)]
    buffer.sent(3)
    buffer.release(6)
    assert buffer.blocks == []
    buffer.write(b"ghi")
    assert buffer.blocks == [(6, 3, FIRST)]
    assert whole(buffer, 6) == b"ghi"


# --- bounds -----------------------------------------------------------------------------------------------


def test_a_write_is_taken_as_a_whole_or_not_at_all() -> None:
    buffer = written(b"x" * 60, limit=100)
    assert not buffer.write(b"y" * 41)
    assert buffer.unsent == 60
    assert buffer.write(b"y" * 40)
    assert not buffer.write(b"z")
    assert buffer.write(b"")
    buffer.sent(10)
    assert not buffer.write(b"z")  # what is sent counts until it is acknowledged
    buffer.release(10)
    assert not buffer.write(b"z" * 11)
    assert buffer.write(b"z" * 10)
    assert whole(buffer, 10) == b"x" * 50 + b"y" * 40 + b"z" * 10


def test_nothing_fits_into_nothing() -> None:
    buffer = probe.Buffer(0)
    assert buffer.write(b"")
    assert not buffer.write(b"x")
    assert buffer.blocks == []


def test_counts() -> None:
    buffer = written(b"x" * 100)
    assert (buffer.unsent, buffer.unacked) == (100, 0)
    buffer.sent(30)
    assert (buffer.unsent, buffer.unacked) == (70, 30)
    buffer.release(31)  # of what was never sent
    assert (buffer.unsent, buffer.unacked) == (70, 0)
    buffer.release(5)  # backwards
    assert (buffer.unsent, buffer.unacked) == (70, 0)
    buffer.sent(71)
    assert (buffer.unsent, buffer.unacked) == (0, 70)


# --- finding ----------------------------------------------------------------------------------------------


def test_stretches_cross_blocks() -> None:
    buffer = written(b"abc", BYTES[:2000], b"def")
    assert buffer.find(0, 3) == [b"abc"]
    assert buffer.find(0, 4) == [b"abc", BYTES[:1]]
    assert buffer.find(2, 2002) == [b"c", BYTES[:2000], b"d"]
    assert buffer.find(2002, 100) == [BYTES[1999:2000], b"def"]
    assert buffer.find(2, 2002, most=2) == [b"c", BYTES[:2000]]
    assert buffer.find(2, 2002, most=0) == []
    assert buffer.find(2, 0) == []
    assert buffer.find(2006, 1) == []
    assert buffer.find(2005, 1) == [b"f"]
    assert buffer.find(2**64 - 1, 1) == []
    buffer.sent(5)
    buffer.release(4)
    assert buffer.find(3, 1) == []
    assert buffer.find(4, 1) == [BYTES[1:2]]


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("count", [1, 2, 8, 9, 10, 100, 1000])
def test_any_offset_is_found_from_any_hint(count: int, again: bool) -> None:
    buffer = written(*[bytes([number % 256]) * KEPT for number in range(count)])
    numbers = sorted({0, 1, count // 2, count - 2, count - 1} & set(range(count)))
    for hint in numbers:
        for number in numbers:
            for at in (0, KEPT - 1):
                assert buffer.find(hint * KEPT, 1, again) == [bytes([hint % 256])]
                assert buffer.find(number * KEPT + at, 1, again) == [bytes([number % 256])]


def test_a_hint_that_is_released_is_none() -> None:
    buffer = written(*[bytes([number]) * KEPT for number in range(20)])
    buffer.find(5 * KEPT, 1)
    buffer.sent(15 * KEPT)
    buffer.release(10 * KEPT)
    assert buffer.find(10 * KEPT, 1) == [b"\x0a"]
    buffer.release(15 * KEPT)
    buffer.sent(5 * KEPT)
    buffer.release(20 * KEPT)
    buffer.write(b"new")
    assert buffer.find(20 * KEPT, 9) == [b"new"]


def test_stretches_stay_where_they_are_while_more_is_written() -> None:
    """The ring grows; blocks do not move."""
    buffer = written(b"abc")
    first = buffer.blocks[0]
    for number in range(100):
        buffer.write(BYTES[: KEPT + number])
    assert buffer.blocks[0] == first
    assert buffer.find(0, 3) == [b"abc"]


def test_the_ring_wraps_grows_and_goes() -> None:
    buffer = probe.Buffer()
    assert buffer.slots == 0
    at = 0
    for number in range(100):  # seven at a time in eight slots
        for _ in range(7):
            buffer.write(bytes([number]) * KEPT)
        assert buffer.slots == 8
        assert whole(buffer, at) == bytes([number]) * KEPT * 7
        buffer.sent(7 * KEPT)
        at += 7 * KEPT
        buffer.release(at)
    for _ in range(65):
        buffer.write(BYTES[:KEPT])
    assert buffer.slots == 128
    buffer.sent(65 * KEPT)
    buffer.release(at + 65 * KEPT)
    assert buffer.slots == 128
    buffer.collect()
    assert buffer.slots == 0
    buffer.write(b"x")
    assert buffer.slots == 8


def test_objects_not_let_go_of_keep_their_slots() -> None:
    buffer = probe.Buffer()
    for _ in range(8):
        buffer.write(BYTES[:KEPT])
    buffer.sent(8 * KEPT)
    buffer.release(8 * KEPT)
    assert buffer.owes
    buffer.write(BYTES[:KEPT])  # lets go first
    assert buffer.slots == 8
    assert not buffer.owes
