"""Numbers that jump: a capture lacks more than a window, or somebody else's segments have strayed into it."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Budgets, Settings
from aiomos.testing.scenario import Conversation
from aiomos.testing.scenario import watch_in_batches as watch

MISSING = 1_000_000
WINDOW = 1 << 30


def begun() -> Conversation:
    """A connection whose client has sent one byte."""
    return Conversation().handshake().client("PA", b"a").server("A")


def skip(c: Conversation, bytes_: int = MISSING) -> Conversation:
    """Have the client send bytes that the capture lacks."""
    while bytes_:
        part = min(bytes_, 60_000)
        c.client("A", b"m" * part, captured=False)
        bytes_ -= part
    return c


# --- jumps that turn out true -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", ["segment first", "its beginning acknowledged first", "beginning acknowledged after"]
)
def test_first_segments_after_a_jump_are_delivered(order: str) -> None:
    """Whichever of segment and acknowledgement is captured first, the two confirm each other."""
    c = skip(begun())
    beginning = MISSING + 2
    if order == "its beginning acknowledged first":
        c.server("A", ack=beginning)
    c.client("A", b"first").client("A", b"second")
    if order == "beginning acknowledged after":
        c.server("A", ack=beginning)
    seen = watch(c.server("A").close().frames, level=Level.STREAM)
    client = seen.streams[0][0]
    assert (client.data, client.gaps) == (b"afirstsecond", ((1, MISSING, "lost"),))
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"]) == (12, MISSING)
    assert seen.record["client_retransmits"] == 0


def test_each_segment_acknowledged_before_it_comes() -> None:
    """Six stretches missing, and the acknowledgement of each is all that the capture holds of it."""
    c = begun()
    for n in range(6):
        skip(c).server("A").client("PA", b"%d" % n)
    seen = watch(c.server("A").close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"a012345"
    assert seen.record["client_lost"] == 6 * MISSING


def test_bytes_are_counted_where_none_are_kept() -> None:
    """At Level.BYTES the same holds of the counters."""
    c = skip(begun()).client("A", b"d" * 1000).client("A", b"e" * 1000).server("A").close()
    record = watch(c.frames, level=Level.BYTES).record
    assert (record["client_stream_bytes"], record["client_lost"]) == (2001, MISSING)


def test_jump_of_both_ends_at_once() -> None:
    """Each segment is beyond the window and acknowledges what is, too: they agree until they are believed."""
    c = skip(begun())
    for _ in range(20):
        c.server("A", b"m" * 60_000, captured=False)
    for _ in range(10):
        c.client("PA", b"q").server("PA", b"r")
    seen = watch(c.client("A").close().frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data) == (b"a" + b"q" * 10, b"r" * 10)
    assert (seen.record["client_lost"], seen.record["server_lost"]) == (MISSING, 1_200_000)


def test_what_comes_with_a_doubted_acknowledgement_is_delivered() -> None:
    """The peer's data rides on an acknowledgement of what the capture lacks."""
    c = skip(begun()).server("PA", b"answer").client("A", b"next").server("PA", b"more").client("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, server.data, server.gaps) == (b"anext", b"answermore", ())


def test_fin_with_the_only_segment_behind_a_jump() -> None:
    """The end is told, and no byte is lost for it."""
    c = skip(begun()).client("FA", b"last").server("A").server("FA").client("A")
    seen = watch(c.frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.streams[0][0].error) == (b"alast", None)
    assert (seen.record["client_lost"], seen.record["reason"]) == (MISSING, "fin")


def test_one_sided_jump_is_delivered_from_its_first_segment() -> None:
    """Nobody acknowledges: eight segments that go on from each other, with losses among them, are believed."""
    c = skip(begun(), 8_000_000)
    for n in range(16):
        c.client("A", b"%02d" % n, captured=n % 5 != 3)
    frames = [frame for frame in c.frames if frame[1][26:30] == bytes([10, 0, 0, 1])]
    seen = watch(frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"a" + b"".join(b"%02d" % n for n in range(16) if n % 5 != 3)
    assert seen.record["client_stream_bytes"] == 27


def test_acknowledgements_alone_go_over_a_jump() -> None:
    """One half was not captured but for its SYN; the other's acknowledgements go on from somewhere else."""
    c = Conversation().client("S").server("SA")
    skip(c)
    for _ in range(10):
        c.client("A", b"d" * 1000, captured=False).server("A")
    record = watch(c.server("PA", b"x").frames).record
    assert (record["server_stream_bytes"], record["client_lost"]) == (1, MISSING + 10_000)


# --- and such that do not ---------------------------------------------------------------------------


def test_segments_of_unrelated_numbers_lose_nothing() -> None:
    """Backscatter from all over the space of numbers, in either direction, with any acknowledgement."""
    c = Conversation().handshake()
    expected = b""
    for n in range(50):
        stray = 70_000_000 * (n + 1)
        c.client("PA", b"stray" * 20, seq=stray, ack=stray // 3, forged=True)
        c.server("PA", b"stray" * 20, seq=stray // 7 + 500_000, ack=stray * 5, forged=True)
        c.client("PA", b"%03d" % n).server("A")
        expected += b"%03d" % n
    seen = watch(c.close().frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, client.gaps, server.data, server.gaps) == (expected, (), b"", ())
    assert (seen.record["client_lost"], seen.record["server_lost"], seen.record["reason"]) == (0, 0, "fin")


def test_forged_segments_in_a_one_sided_capture_lose_nothing() -> None:
    """Without acknowledgements there is no window; a stray far ahead is still doubted."""
    c = Conversation().client("S")
    for n in range(20):
        c.client("PA", b"stray", seq=300_000_000 + n * 90_000_000, forged=True).client("PA", b"%02d" % n)
        c.wait(40)  # longer than a hole is held open
    seen = watch(c.frames, level=Level.STREAM, settings=Settings())
    client = seen.streams[0][0]
    assert (client.data, client.gaps) == (b"".join(b"%02d" % n for n in range(20)), ())


@pytest.mark.parametrize("ahead", [WINDOW + 1_000, 2 * WINDOW - 5_000, 2 * WINDOW + 70_000, 3 * WINDOW])
def test_nothing_wider_than_a_window_is_lost(ahead: int) -> None:
    """RFC 7323 section 2.3: no window is wider than 2**30, so beyond it there is no order any more."""
    c = begun()
    for n in range(12):
        c.client("PA", b"far", seq=ahead + 3 * n, forged=True).server("A", ack=ahead + 3 * n, forged=True)
    seen = watch(c.client("PA", b"b").server("A").close().frames, level=Level.STREAM)
    client = seen.streams[0][0]
    assert (client.data, client.gaps) == (b"ab", ())
    assert seen.record["client_lost"] == 0


def test_syn_and_a_bare_acknowledgement_far_ahead() -> None:
    """Two packets make no gap of two GiB."""
    c = Conversation().client("S").server("A", ack=2 * WINDOW - 1)
    record = watch(c.frames).record
    assert (record["client_lost"], record["server_lost"]) == (0, 0)


def test_doubted_segments_are_held_within_a_bound() -> None:
    """A flood of them, from anywhere, takes neither room from others nor time from the stream."""
    settings = Settings(budgets=Budgets(held_bytes=1 << 20))
    c = begun()
    for n in range(500):
        c.client("PA", b"x" * 1400, seq=400_000_000 + n * 30_000_000 % 500_000_000, forged=True)
    c.client("A", b"d" * 1000, captured=False)
    c.client("A", b"behind a hole").client("PA", b"d" * 1000, seq=2).server("A")
    seen = watch(c.close().frames, level=Level.STREAM, settings=settings)
    assert seen.streams[0][0].data == b"a" + b"d" * 1000 + b"behind a hole"


def test_old_doubts_are_not_delivered_by_a_later_jump() -> None:
    """What was doubted half a minute ago is not part of a jump that is seen now."""
    c = begun().client("PA", b"forged", seq=MISSING + 10_002, forged=True).wait(31)
    skip(c).client("A", b"d" * 100).server("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"a" + b"d" * 100
