"""How long flows are kept: a time-out for each state, fired within one second of being due."""

import pytest

from aiomos.settings import Settings, Timeouts
from aiomos.testing.scenario import START, Conversation, Frame, Watched, Watcher
from aiomos.testing.scenario import watch_in_batches as watch

TIMEOUTS = Timeouts(half_open=10, established=100, closing=50, time_wait=20, reset=5)
SETTINGS = Settings(timeouts=TIMEOUTS)


def tick(time: float) -> Frame:
    """A frame of another protocol, which only tells the time."""
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    return (round(time * 1e9), arp, 1, len(arp))


def ended_after(c: Conversation, settings: Settings = SETTINGS) -> float:
    """Seconds from the last segment until the flow is gone, to a quarter."""
    watcher = Watcher(settings=settings)
    watcher.feed(c.frames)
    last = c.frames[-1][0] / 1e9
    for quarters in range(1, 4 * 200):
        watcher.feed([tick(last + quarters / 4)])
        if watcher.records:
            watcher.finish()
            return quarters / 4
    raise AssertionError("the flow never ended")


@pytest.mark.parametrize(
    ("c", "seconds"),
    [
        (Conversation().client("S"), 10),
        (Conversation().client("S").server("SA"), 10),
        (Conversation().handshake(), 100),
        (Conversation().handshake().client("PA", b"x"), 100),
        (Conversation().handshake().client("FA"), 50),
        (Conversation().handshake().client("FA").server("A"), 50),
        (Conversation().handshake().client("FA").server("FA"), 50),
        (Conversation().handshake().close(), 20),
        (Conversation().handshake().client("R"), 5),
        (Conversation().client("S").server("RA", seq=0, ack=1), 5),
    ],
    ids=[
        "syn",
        "syn-ack",
        "established",
        "data",
        "fin",
        "half-closed",
        "last-ack",
        "time-wait",
        "rst",
        "refused",
    ],
)
def test_each_state_has_its_time_out(c: Conversation, seconds: float) -> None:
    """It counts from the last packet and fires at the first step of the wheel, 1 second, at or after it."""
    assert seconds <= ended_after(c) <= seconds + 1


@pytest.mark.parametrize("gap_age", [1, 30, 1000])
@pytest.mark.parametrize(
    ("c", "seconds"),
    [
        (Conversation().client("S", b"early"), 10),
        (Conversation().handshake().client("PA", b"beyond", seq=100), 100),
        (Conversation().handshake().client("PA", b"beyond", seq=100).client("FA"), 50),
        (Conversation().handshake().client("PA", b"beyond", seq=100).client("R"), 5),
        (Conversation().handshake().client("PA", b"lost", captured=False).server("A").client("R"), 5),
    ],
    ids=["data of a syn", "established", "fin", "rst", "rst after a loss"],
)
def test_bytes_behind_a_hole_do_not_keep_a_flow_longer(
    c: Conversation, seconds: float, gap_age: float
) -> None:
    """A hole has a deadline of its own; the earlier of the two is the one to wake at."""
    timeouts = Timeouts(half_open=10, established=100, closing=50, time_wait=20, reset=5, gap_age=gap_age)
    assert seconds <= ended_after(c, Settings(timeouts=timeouts)) <= seconds + 1


def test_expired_flows_say_so() -> None:
    """A closed flow keeps the reason of its close."""
    scripts = (
        Conversation().client("S"),
        Conversation().handshake(),
        Conversation().handshake().close(),
        Conversation().handshake().client("R"),
    )
    reasons = [watch([*c.frames, tick(START + 1000)], settings=SETTINGS).record["reason"] for c in scripts]
    assert reasons == ["timeout", "timeout", "fin", "rst"]


def test_every_segment_renews_the_time_out() -> None:
    """It is an idle time-out."""
    c = Conversation().handshake()
    for _ in range(20):
        c.wait(90).client("PA", b"x").server("A")
    assert watch(c.frames, settings=SETTINGS).record["client_bytes"] == 20
    assert 100 <= ended_after(c) <= 101


def test_late_segments_find_their_flow_in_time_wait() -> None:
    """They are stragglers, not orphans, until the time-out; then the flow is gone."""
    c = Conversation().handshake().close().wait(15).client("A", forged=True)
    late = Conversation(start=START + 200)
    seen = watch([*c.frames, *late.client("A", seq=2, ack=2).frames], settings=SETTINGS)
    assert (len(seen.records), seen.statistics["orphans"]) == (1, 1)


@pytest.mark.parametrize(
    ("timeouts", "c"),
    [
        (Timeouts(time_wait=0), Conversation().handshake().close()),
        (Timeouts(reset=0), Conversation().handshake().client("R")),
    ],
)
def test_a_time_out_of_zero_ends_the_flow_with_its_last_segment(timeouts: Timeouts, c: Conversation) -> None:
    """FIELD 2.1 (8): with no TIME_WAIT interval the flow goes as its last packet passes."""
    watcher = Watcher(settings=Settings(timeouts=timeouts))
    watcher.feed(c.frames)
    assert len(watcher.records) == 1
    watcher.finish()


def test_closing_is_shorter_than_established_although_linked_before() -> None:
    """A deadline that comes nearer must move the flow in the wheel."""
    assert 50 <= ended_after(Conversation().handshake().wait(10).client("FA")) <= 51


def test_jump_of_days_ends_everything_once() -> None:
    """A capture may have been stopped for a week; the wheel goes round at most once for it."""
    c = Conversation().handshake()
    other = Conversation("10.0.0.9:1", start=START + 7 * 86_400).handshake()
    seen = watch(c.frames + other.frames, settings=SETTINGS)
    assert [record["reason"] for record in seen.records] == ["timeout", "end_of_capture"]


def test_time_outs_longer_than_the_wheel() -> None:
    """8,192 seconds is once round; a deadline beyond it is looked at again."""
    c = Conversation().handshake()
    watcher = Watcher(settings=Settings(timeouts=Timeouts(established=3 * 86_400)))
    watcher.feed(c.frames)
    last = c.frames[-1][0] / 1e9
    for hours in range(1, 72):
        watcher.feed([tick(last + 3600 * hours)])
        assert not watcher.records
    watcher.feed([tick(last + 3 * 86_400 - 1)])
    assert not watcher.records
    watcher.feed([tick(last + 3 * 86_400 + 1)])
    assert len(watcher.records) == 1
    watcher.finish()


def test_time_going_backwards_ends_nothing() -> None:
    """Frames from several interfaces are not in perfect order."""
    c = Conversation().handshake()
    frames = [*c.frames, tick(START + 60), tick(START - 1000), tick(START + 61), tick(0)]
    assert watch(frames, settings=SETTINGS).record["reason"] == "end_of_capture"


def test_flow_that_begins_before_the_engines_time() -> None:
    """A late frame's own time is older than the clock; its flow still gets its whole time-out from there."""
    c = Conversation(start=START - 5).handshake()
    seen = watch([tick(START), *c.frames, tick(START + 90)], settings=SETTINGS)
    assert seen.record["reason"] == "end_of_capture"


def at(start: float) -> Watched:
    c = Conversation(start=start).client("S")
    return watch([*c.frames, tick(start + 8), tick(start + 12)], settings=SETTINGS)


@pytest.mark.parametrize("start", [0.0, 0.25, 1.0, 8191.5, 8192.0, 4e9])
def test_clock_may_start_anywhere(start: float) -> None:
    """Captures of simulations begin at 0; some sit where the wheel wraps, or beyond 2**32 seconds."""
    assert at(start).record["reason"] == "timeout"


def test_engine_without_flows_keeps_up_with_time() -> None:
    """An idle engine's first flow after a long while has its whole time-out."""
    c = Conversation(start=START + 1_000_000).handshake()
    seen = watch([tick(START), *c.frames, tick(START + 1_000_090)], settings=SETTINGS)
    assert seen.record["reason"] == "end_of_capture"


@pytest.mark.parametrize(("short_ns", "lost"), [(0, 1), (1, 0)])
def test_a_hole_is_held_for_exactly_so_long_after_its_acknowledgement(short_ns: int, lost: int) -> None:
    """If a segment of the flow comes at that very time."""
    c = Conversation().handshake().client("PA", b"beyond", seq=11).server("A", ack=17)
    acked_ns = c.frames[-1][0]
    c.client("PA", b"more")
    frames = [*c.frames[:-1], (acked_ns + 500_000_000 - short_ns, *c.frames[-1][1:])]
    watcher = Watcher(settings=Settings(timeouts=Timeouts(gap_hold=0.5)))
    watcher.feed(frames)
    assert watcher.engine.statistics()["gap.lost"] == lost
    watcher.finish()


def test_acknowledged_hole_is_told_after_its_hold_though_the_flow_falls_silent() -> None:
    """The hold is shorter than the age at which the same hole was to be looked at before its acknowledgement."""
    watcher = Watcher()
    c = Conversation().handshake().client("PA", b"beyond", seq=11).server("A", ack=17)
    watcher.feed(c.frames)
    watcher.feed([tick(START + 3)])
    assert watcher.engine.statistics()["gap.lost"] == 1
    watcher.finish()
