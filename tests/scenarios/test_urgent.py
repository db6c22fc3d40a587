"""Urgent bytes in the stream, or left out of it as by Linux without SO_OOBINLINE (tcp_check_urg(), tcp_recvmsg())."""

import random

import pytest

from aiomos.face.pressure import Pressure
from aiomos.face.streams import MonitorConnection
from aiomos.levels import Level
from aiomos.settings import Settings
from aiomos.testing.scenario import Conversation, Watcher, _read, watch_in_batches
from aiomos.ude.filters import Filter


def both(c: Conversation) -> tuple[bytes, bytes]:
    """What the client sent, with the urgent bytes and without."""
    inline, without = (
        watch_in_batches(c.frames, level=Level.STREAM, urgent=urgent).streams[0][0]
        for urgent in ("inline", "out_of_band")  # type: ignore[arg-type]
    )
    assert (inline.gaps, without.gaps, inline.error, without.error) == ((), (), None, None)
    return inline.data, without.data


def opened() -> Conversation:
    return Conversation().handshake()


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        (0, b"XYabcd"),  # as 1: tcp_check_urg() takes one off only if there is one
        (1, b"XYabcd"),
        (3, b"UXabcd"),
        (2, b"UYabcd"),
        (4, b"UXYbcd"),  # in the segment behind
        (7, b"UXYabc"),
        (8, b"UXYabcd"),  # it never came
        (60_000, b"UXYabcd"),
    ],
)
def test_pointer_points_behind_the_urgent_byte(pointer: int, expected: bytes) -> None:
    """The first, last or only byte of a segment, or one of a segment that is yet to come."""
    c = opened().client("PAU", b"UXY", urgent=pointer).client("PA", b"abcd").server("A").close()
    assert both(c) == (b"UXYabcd", expected)


def test_the_case_of_a_hidden_byte() -> None:
    """What a host reads of ``GET /mali?cious`` with an urgent byte in the middle."""
    c = (
        opened()
        .client("PA", b"GET /")
        .client("PAU", b"mali?", urgent=5)
        .client("PA", b"cious")
        .server("A")
        .close()
    )
    assert both(c) == (b"GET /mali?cious", b"GET /malicious")


def test_segment_of_nothing_but_the_urgent_byte() -> None:
    """Each of several urgent bytes was read before the next came."""
    c = opened()
    for byte in b"abc":
        c.client("PA", bytes([byte])).client("PAU", b"!", urgent=1).server("A")
    assert both(c.close()) == (b"a!b!c!", b"abc")


def test_pointer_without_data() -> None:
    """The pointer may come before any byte of what it is about."""
    c = opened().client("AU", urgent=2).client("PA", b"a!b").server("A").close()
    assert both(c) == (b"a!b", b"ab")


def test_second_pointer_before_the_first_byte_came() -> None:
    """Only the last is urgent; the byte of the first is in the stream."""
    c = opened().client("AU", urgent=2).client("AU", urgent=4).client("PA", b"a!b?c").server("A").close()
    assert both(c) == (b"a!b?c", b"a!bc")


def test_pointer_that_goes_back_is_ignored() -> None:
    """tcp_check_urg(): one that is not after what is urgent already, and of bytes that were received."""
    c = opened().client("AU", urgent=4).client("AU", urgent=2).client("PA", b"a!b?c").server("A")
    c.client("PAU", b"a!b?c", seq=1, urgent=3).client("PA", b"d").server("A").close()
    assert both(c) == (b"a!b?cd", b"a!bcd")


def test_segments_out_of_order() -> None:
    """Of those beyond a hole, the last pointer counts, as their bytes cannot have been read."""
    c = opened().client("PAU", b"c!", seq=3, urgent=2).client("PAU", b"d?", seq=5, urgent=2)
    c.client("PA", b"ab", seq=1).server("A").close()
    assert both(c) == (b"abc!d?", b"abc!d")


def test_every_registration_has_what_it_chose() -> None:
    """Two readers of one flow, and bytes in order once for both."""
    frames = opened().client("PAU", b"ab!cd", urgent=3).server("A").close().frames
    watcher = Watcher(level=Level.STREAM, urgent="out_of_band")
    others: list[MonitorConnection] = []

    def opener(flow: object) -> MonitorConnection:
        others.append(
            MonitorConnection(flow, Pressure(1 << 30, 1 << 30), watcher.engine.released, "raise", True)
        )  # type: ignore[arg-type]
        return others[-1]

    watcher.engine.add_rule(Filter("").program, Level.STREAM, opener=opener)
    watcher.feed(frames)
    seen = watcher.finish()
    assert (seen.streams[0][0].data, _read(others[0].client).data) == (b"abcd", b"ab!cd")


@pytest.mark.parametrize("seed", range(40))
def test_against_a_model_of_linux(seed: int) -> None:
    """Segments in order with pointers of any kind, read by a reader that keeps up."""
    draw = random.Random(seed)
    c, sent, model = opened(), b"", bytearray()
    urgent: int | None = None
    for n in range(60):
        data = bytes([n]) * draw.choice([0, 1, 1, 2, 7, 300])
        pointer = draw.choice([None, None, 0, 1, 2, 3, len(data), 400])
        if pointer is not None:
            at = len(sent) + max(pointer - 1, 0)
            urgent = at if urgent is None or at > urgent else urgent
            c.client("PAU", data, urgent=pointer)
        elif data:
            c.client("PA", data)
        model += bytes(b for i, b in enumerate(data, len(sent)) if i != urgent)
        sent += data
        c.server("A")
    assert both(c.close()) == (sent, bytes(model))


def test_without_a_filter_that_asks_nothing_changes() -> None:
    """Inline is the default, and counted as before."""
    c = opened().client("PAU", b"ab!", urgent=3).server("A").close()
    seen = watch_in_batches(c.frames, level=Level.STREAM, settings=Settings())
    assert (seen.streams[0][0].data, seen.anomalies) == (b"ab!", {"urgent": 1})
