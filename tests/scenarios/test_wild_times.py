"""Wild times: one frame whose time is years off ends nothing; the clock follows when what comes next agrees."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import App, Chunk, Event, Filter, Flow, Gap, Hook, MonitorConnection, Packet, Runtime
from aiomos.engine.engine import Engine
from aiomos.levels import Level
from aiomos.line.translation import Session
from aiomos.settings import Settings, Timeouts
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import tcp_frame, udp_frame
from aiomos.testing.scenario import START, Conversation, Frame, Watcher, watch, watch_in_batches
from aiomos.transport.captures import open_captures
from aiomos.transport.writer import CaptureWriter
from tests.events import play
from tests.fuzz.in_line import Wire

YEAR = 365 * 86_400
DAY = 86_400
SECOND = 1_000_000_000
OFF = [48 * YEAR, 14 * YEAR, YEAR, 40 * DAY, 2 * DAY, 2 * 3600, -2 * 3600, -DAY, -YEAR, -50 * YEAR]


def connections(count: int = 3, every: float = 60.0) -> list[Frame]:
    """Connections of eight frames, one after the other."""
    frames: list[Frame] = []
    for n in range(count):
        c = Conversation(f"10.0.0.1:{40_000 + n}", start=1_700_000_000.0 + n * every)
        c.handshake().client("PA", b"request").server("PA", b"answer").client("A").close()
        frames += c.frames
    return frames


def moved(frames: Sequence[Frame], which: Sequence[int], seconds: float) -> list[Frame]:
    """The same frames, the time of some off by *seconds*."""
    return [
        (frame[0] + round(seconds * SECOND), *frame[1:]) if n in which else frame
        for n, frame in enumerate(frames)
    ]


def outcome(records: Sequence[dict[str, object]]) -> set[tuple[object, ...]]:
    return {
        (r["client_port"], r["reason"], r["client_stream_bytes"], r["server_stream_bytes"]) for r in records
    }


WHOLE = {(40_000 + n, "fin", 7, 6) for n in range(3)}


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize("which", [*range(8), 11, 19, 28, 29])
def test_one_wild_frame_ends_nothing(which: int, off: float) -> None:
    """Wherever it stands: the first frame, a SYN-ACK, the last of a connection, the last of all."""
    frames = connections()
    assert len(frames) == 30
    wild = moved(frames, [which], off)
    # At the end of a batch nothing follows that could speak against a pause, if it is one that there may be.
    seen = watch_in_batches(wild) if abs(off) > 30 * DAY else watch(wild)
    assert seen.statistics["frames"] == 30
    if (abs(off) <= 30 * DAY and which == 29) or (-30 * DAY <= off < 0 and which == 0):
        return  # nothing tells it from a pause
    first, last = frames[0][0] / 1e9 - 1e-6, frames[-1][0] / 1e9 + 1e-6
    assert outcome(seen.records) == WHOLE
    assert seen.statistics["wild_times"] == 1
    for record in seen.records:
        assert first <= record["start"] <= record["end"] <= last


def test_several_wild_frames_that_do_not_agree() -> None:
    """A record now and then, each off by something else."""
    frames = connections()
    for n, which in enumerate((2, 5, 12, 21)):
        frames = moved(frames, [which], (n + 1) * 3 * YEAR * (-1) ** n)
    seen = watch_in_batches(frames)
    assert (outcome(seen.records), seen.statistics["wild_times"]) == (WHOLE, 4)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_what_a_held_frame_carried_is_delivered(batch: int) -> None:
    """It is read when all of the next batch is processed, whose last frame may have to be held in turn."""
    c = Conversation("10.0.0.1:40000", start=1_700_000_000.0).handshake()
    c.client("PA", b"request one").client("PA", b"request two").client("PA", b"request six").close()
    frames = c.frames
    for n, which in enumerate((3, 4, 5)):
        frames = moved(frames, [which], (n + 1) * 3 * YEAR * (-1) ** n)
    seen = watch(frames, level=Level.STREAM, batch=batch)
    ((client, _),) = seen.streams
    assert client.data == b"request onerequest tworequest six"


@pytest.mark.parametrize("pause", [3 * 3600, DAY, 20 * DAY, 3 * YEAR])
def test_a_pause_is_a_pause(pause: float) -> None:
    """The frames after it agree: time-outs happen, and the first of them has its own time."""
    open_ones = Conversation("10.0.0.1:50000").handshake()
    later = moved(connections(1), range(10), pause)
    seen = watch_in_batches([*open_ones.frames, *later])
    assert [record["reason"] for record in seen.records] == ["timeout", "fin"]
    assert seen.records[1]["start"] == pytest.approx(1_700_000_000.0 + pause)
    assert seen.statistics["wild_times"] == 0


def test_sparse_frames_are_believed_each() -> None:
    """Hours between any two frames: each is judged by the one after it."""
    frames = connections()
    sparse = [(frames[0][0] + n * 5 * 3600 * SECOND, *frame[1:]) for n, frame in enumerate(frames)]
    seen = watch_in_batches(sparse)
    assert seen.statistics["wild_times"] == 0
    assert max(record["end"] for record in seen.records) == pytest.approx(1_700_000_000.0 + 20 * 5 * 3600)


def test_last_frame_after_a_pause_has_its_own_time() -> None:
    """Nothing comes behind it that could speak against it."""
    later = Conversation("10.0.0.1:50000", start=1_700_000_000.0 + 3 * DAY).client("S")
    seen = watch_in_batches([*Conversation().handshake().frames, *later.frames])
    assert [record["reason"] for record in seen.records] == ["timeout", "end_of_capture"]
    assert seen.records[1]["start"] == pytest.approx(1_700_000_000.0 + 3 * DAY)


def test_pause_before_a_longer_one() -> None:
    """A frame after hours is believed, though what comes next is a year later."""
    hours = Conversation("10.0.0.1:50000", start=1_700_000_000.0 + 4 * 3600).client("S")
    later = moved(connections(1), range(10), YEAR)
    seen = watch_in_batches([*Conversation().handshake().frames, *hours.frames, *later])
    assert [record["reason"] for record in seen.records] == ["timeout", "timeout", "fin"]
    assert seen.records[1]["start"] == pytest.approx(1_700_000_000.0 + 4 * 3600)
    assert seen.statistics["wild_times"] == 0


def test_a_capture_may_go_on_with_an_earlier_one() -> None:
    """Files put behind each other: the frames of the earlier one agree, and keep their times."""
    later, earlier = connections(1), moved(connections(2), range(20), -3 * YEAR)[10:]
    seen = watch_in_batches([*later, *earlier])
    assert outcome(seen.records) == {(40_000, "fin", 7, 6), (40_001, "fin", 7, 6)}
    starts = sorted(record["start"] for record in seen.records)
    assert starts == pytest.approx([1_700_000_060.0 - 3 * YEAR, 1_700_000_000.0])
    assert seen.statistics["wild_times"] == 0


def test_single_frame_of_any_time_is_processed() -> None:
    """The very last frame is also the first."""
    for time_ns in (0, 1, 2**62):
        (frame,) = Conversation().client("S").frames
        assert watch([(time_ns, *frame[1:])]).record["client_packets"] == 1


# --- merged captures, and records -------------------------------------------------------------------


def write(path: Path, frames: Sequence[Frame]) -> Path:
    with CaptureWriter(path, linktype=1) as writer:
        for time_ns, data, _, wirelen in frames:
            writer.write(time_ns, data, wirelen)
    return path


def merged(*paths: Path) -> list[Frame]:
    with open_captures(list(paths)) as source:
        return list(source)


@pytest.mark.parametrize("which", range(10))
def test_merging_puts_nothing_behind_a_wild_frame(tmp_path: Path, which: int) -> None:
    """The frames of the same file that follow it are not held back, itself goes with the one before it."""
    client = [frame for n, frame in enumerate(connections()) if n % 2 == 0]
    server = [frame for n, frame in enumerate(connections()) if n % 2]
    one = write(tmp_path / "one.pcap", moved(client, [which], 14 * YEAR))
    other = write(tmp_path / "other.pcap", server)
    order = [frame[1] for frame in connections()]
    assert len(set(order)) == 30
    places = [order.index(frame[1]) for frame in merged(one, other)]
    assert sorted(places) == list(range(30))
    assert all(abs(place - n) <= 1 for n, place in enumerate(places))


@pytest.mark.parametrize(("apart", "place"), [(3600 * SECOND, 2), (3600 * SECOND + 1000, 1)])
def test_merging_holds_a_frame_back_for_an_hour(tmp_path: Path, apart: int, place: int) -> None:
    """One later than that is wild, since the next of its file is not."""
    first, second, third, other = connections()[:4]
    began = first[0]
    late = (began + apart, *second[1:])
    one = write(tmp_path / "one.pcap", [first, late, (began + SECOND, *third[1:])])
    two = write(tmp_path / "two.pcap", [(began + 1800 * SECOND, *other[1:])])
    assert [frame[1] for frame in merged(one, two)].index(second[1]) == place


@pytest.mark.parametrize(
    ("fraction", "expected"), [(999_999, 0.999999), (1_000_000, 1.0), (10_000_000, 0.5), (2**32 - 1, 0.5)]
)
def test_impossible_fraction_of_a_second(tmp_path: Path, fraction: int, expected: float) -> None:
    """Of such a record the second counts; it is no earlier than the one before it within that second."""
    (frame,) = Conversation().client("S").frames
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = [(1_700_000_000, 500_000), (1_700_000_000, fraction), (1_700_000_001, fraction)]
    body = b"".join(struct.pack("<IIII", *at, len(frame[1]), len(frame[1])) + frame[1] for at in records)
    path = tmp_path / "fraction.pcap"
    path.write_bytes(header + body)
    times = [(time_ns - 1_700_000_000 * SECOND) / SECOND for time_ns, *_ in merged(path)]
    assert times == pytest.approx([0.5, expected, 1 + (expected if fraction < 10_000_000 else 0)])


def test_merging_files_of_different_days(tmp_path: Path) -> None:
    """One follows the other, though it is given first."""
    early, late = connections(1), moved(connections(1), range(10), 3 * DAY)
    one, other = write(tmp_path / "one.pcap", late), write(tmp_path / "other.pcap", early)
    assert [frame[0] for frame in merged(one, other)] == [frame[0] for frame in [*early, *late]]


# --- the bounds of a time -------------------------------------------------------------------------------

EXTREMES = [2**63 - 1, 2**62, 2**62 - 1, -1, -(2**62), -(2**63), 2**64, -(10**40)]


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("which", [[0], [3], [29], range(30), range(10)])
def test_no_time_is_beyond_all_bounds(which: Sequence[int], extreme: int) -> None:
    """Time-outs and timers can be added to any: the first of a capture, one in it, the last, or all."""
    frames = [(extreme, *frame[1:]) if n in which else frame for n, frame in enumerate(connections())]
    watcher = Watcher(level=Level.STREAM, settings=Settings(timeouts=Timeouts(established=365 * DAY)))
    watcher.feed(frames, batch=7)
    assert abs(watcher.engine.clock_ns) < 2**62
    seen = watcher.finish()
    assert seen.statistics["frames"] == 30
    assert outcome(seen.records) == WHOLE


@pytest.mark.parametrize("extreme", EXTREMES)
def test_nor_is_a_time_that_passes(extreme: int) -> None:
    """Nor what a timer that is set then waits for."""
    watcher = Watcher()
    watcher.feed(Conversation().handshake().frames)
    assert watcher.flow is not None
    watcher.engine.pass_time(extreme)
    late = extreme > 0
    assert [record["reason"] for record in watcher.records] == (["timeout"] if late else [])
    assert watcher.engine.clock_ns == (2**62 - 1 if late else round(START * 1e9) + 2_000_000)
    watcher.feed(Conversation("10.0.0.1:50000").handshake().frames)
    assert watcher.flow is not None
    assert watcher.flow.timer(1e9).due > watcher.engine.now
    watcher.finish()


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("which", [[0], [2], range(5)])
def test_nor_one_that_a_transport_of_ones_own_tells(which: Sequence[int], extreme: int) -> None:
    """Be it the largest of 64 bits, which no clock can go beyond."""
    engine, wire = line_of()
    engine.add_rule(Filter("").program, Level.STATE)
    for n in range(5):
        time_ns = extreme if n in which else round(START + n) * SECOND
        wire.waiting = [(time_ns, tcp_frame(flags="S", sport=2000 + n), 0)]
        assert wire.read_batch()
        engine.feed(wire)
        engine.flush(wire)
    bounds = (1 << 62) - 1
    expected = round(START + 4) * SECOND if len(which) == 1 else max(-bounds, min(bounds, extreme))
    assert (engine.clock_ns, engine.statistics()["flows"]) == (expected, 5)


HOUR_NS, MONTH_NS = 3600 * SECOND, 30 * DAY * SECOND


@pytest.mark.parametrize(
    ("apart", "wild"),
    [(HOUR_NS, 0), (HOUR_NS + 1, 1), (-HOUR_NS, 0), (-HOUR_NS - 1, 1)],
    ids=["an hour on", "more", "an hour back", "more back"],
)
def test_an_hour_is_not_far(apart: int, wild: int) -> None:
    """On from the frame before; back from the first, with whose time a clock may have begun that was set back since."""
    frames = connections()
    before = frames[10 if apart > 0 else 0][0]
    frames[11] = (before + apart, *frames[11][1:])
    assert watch(frames).statistics["wild_times"] == wild


@pytest.mark.parametrize(
    ("apart", "believed"), [(MONTH_NS, True), (MONTH_NS + 1, False)], ids=["30 days", "more"]
)
def test_the_last_frame_may_come_after_a_pause_of_30_days(apart: int, believed: bool) -> None:
    """A flow that ends then ends at that time; else at the time of the frame before."""
    frames = connections(1)
    before = frames[-2][0]
    frames[-1] = (before + apart, *frames[-1][1:])
    seen = watch_in_batches(frames)
    assert seen.statistics["wild_times"] == (0 if believed else 1)


# --- in line --------------------------------------------------------------------------------------------


def line_of() -> tuple[Engine, Wire]:
    """An engine in line, and its wire."""

    def fail(_callback: object, _flow: object, error: Exception) -> None:
        raise error

    engine, wire = Engine(Settings(), bytes(16), fail), Wire([1])
    engine.open(wire.forwards, ["a", "b", "nowhere"])
    return engine, wire


def run_in_line(frames: Sequence[bytes], off: float, edit: Callable[[Packet], object], hook: Hook) -> Engine:
    """Have frames cross the line, the last two in another batch; a second apart, the third off by *off* seconds."""
    engine, wire = line_of()
    raw = hook is Hook.RAW
    rule = engine.add_rule(Filter("").program, Level.STATE, unbound=raw)
    engine.add_call(rule, Event.PKT_IN, hook, edit, ("pkt",), edits=not raw)
    times = [round((START + n) * SECOND) for n in range(len(frames))]
    times[2] += round(off * SECOND)
    for batch in (slice(0, -2), slice(-2, None)):
        wire.waiting = [(at, data, 0) for at, data in zip(times[batch], frames[batch], strict=True)]
        assert wire.read_batch()
        engine.feed(wire)
        engine.flush(wire)
    assert engine.statistics()["wild_times"] == 1
    return engine


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_what_is_built_anew_has_the_time_that_was_judged(off: float) -> None:
    sessions: list[Session] = []
    seen: list[float] = []

    def renew(pkt: Packet) -> None:
        sessions.append(pkt.session(idle=30))
        assert pkt.replace(b"other")
        seen.append(pkt.time)

    engine = run_in_line([udp_frame(payload=b"question")] * 6, off, renew, Hook.RAW)
    assert seen == [START, START + 1, START + 1, START + 3, START + 4, START + 5]
    assert {id(session) for session in sessions} == {id(sessions[0])}
    assert (sessions[0].packets, sessions[0].last, engine.now) == ((6, 0), START + 5, START + 5)


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_what_has_waited_has_a_time_that_was_judged(off: float) -> None:
    seen: list[tuple[bytes, float]] = []

    def edit(pkt: Packet) -> None:
        if pkt.payload:
            seen.append((pkt.payload, pkt.time))
            assert pkt.replace(pkt.payload.upper())

    parts = {
        at: tcp_frame(seq=101 + at, ack=501, flags="A", payload=b"abcdefgh"[at : at + 2])
        for at in (0, 2, 4, 6)
    }
    frames = [
        tcp_frame(seq=100),
        tcp_frame(seq=101, ack=501, flags="A"),
        parts[2],
        parts[4],
        parts[6],
        parts[0],
    ]
    engine = run_in_line(frames, off, edit, Hook.SENDER)
    times = [START + 5, *[START + 3] * 3]  # the clock's at the last batch
    assert seen == [*zip((b"ab", b"cd", b"ef"), times, strict=False), (b"gh", START + 4)]
    assert engine.now == START + 5


def test_what_was_held_is_sent_as_it_came_where_time_passes_before() -> None:
    """A frame whose time the next batch is to tell lies elsewhere until all that it brings about was sent."""
    engine, wire = line_of()
    frames = [udp_frame(payload=f"frame {number}".encode()) for number in range(6)]
    times = [START, START + 1, START + YEAR, START + 2, START + YEAR / 2, START + 3]
    for batch in (slice(0, 3), slice(3, 5), slice(5, 6)):
        wire.waiting = [
            (round(at * SECOND), data, 0) for at, data in zip(times[batch], frames[batch], strict=True)
        ]
        assert wire.read_batch()
        engine.feed(wire)
        if batch.start:
            engine.pass_time(round(engine.now * SECOND))
        engine.flush(wire)
    assert wire.all_sent == frames
    assert engine.statistics()["wild_times"] == 2


# --- times that come from outside ------------------------------------------------------------------


def make_engine() -> Engine:
    return Engine(Settings(), bytes(16), lambda *_: None)


@pytest.mark.parametrize("tell", ["pass_time", "feed_frames"])
def test_what_is_no_time_is_refused_and_ends_nothing(tell: str) -> None:
    engine = make_engine()
    engine.add_rule(Filter("").program, Level.STATE)
    nan: Any = float("nan")
    frames = connections(1)
    feed_frames(engine, frames[:5])
    with pytest.raises(ValueError, match="not nan"):
        if tell == "pass_time":
            engine.pass_time(nan)
        else:
            feed_frames(engine, [(nan, *frames[5][1:])])
    assert engine.clock_ns == frames[4][0]
    feed_frames(engine, frames[5:])
    assert engine.statistics()["flows"] == 1
    assert engine.statistics()["ended.timeout"] == 0


@pytest.mark.parametrize("time_ns", [float("inf"), 10**400, 1 << 63], ids=["inf", "huge", "64 bits"])
def test_a_time_beyond_all_is_the_last_there_is(time_ns: Any) -> None:
    engine = make_engine()
    engine.pass_time(time_ns)
    assert engine.clock_ns == (1 << 62) - 1
    engine.pass_time(-time_ns)
    assert engine.clock_ns == (1 << 62) - 1


MOST_SECONDS = ((1 << 62) - 1) / 1e9


@pytest.mark.parametrize(
    "made",
    [
        lambda time: Chunk(b"x", 0, time).time,
        lambda time: Gap(0, 1, "lost", time).time,
        lambda time: Packet.decode(tcp_frame(flags="S"), time=time).time,
    ],
    ids=["Chunk", "Gap", "Packet"],
)
def test_times_of_what_apps_make(made: Callable[[float], float]) -> None:
    assert made(float("inf")) == made(1e300) == pytest.approx(MOST_SECONDS)
    assert made(-float("inf")) == pytest.approx(-MOST_SECONDS)
    assert made(1_700_000_000.5) == 1_700_000_000.5
    with pytest.raises(ValueError, match="not nan"):
        made(float("nan"))


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_what_begins_with_a_wild_first_frame_ends_in_time(off: float) -> None:
    """Sessions, timers and fragments of it go by the clock that the next frames tell."""
    engine, wire = line_of()
    ended: list[Session] = []
    ran_out: list[float] = []

    def begin(pkt: Packet, flow: Flow) -> None:
        if not ended and not flow.ctx:
            flow.ctx["begun"] = pkt.session(idle=30.0, on_end=ended.append)
            flow.timer(30.0, lambda _: ran_out.append(engine.now))

    rule = engine.add_rule(Filter("").program, Level.STATE)
    engine.add_call(rule, Event.PKT_IN, Hook.SENDER, begin, ("pkt", "flow"), edits=True)
    syn = tcp_frame()
    later = [tcp_frame(flags="S", sport=2000 + n) for n in range(4)]
    frames = [(START + off, syn), *((START + 1 + n, frame) for n, frame in enumerate(later))]
    for at, frame in frames:
        wire.waiting = [(round(at * SECOND), frame, 0)]
        assert wire.read_batch()
        engine.feed(wire)
        engine.flush(wire)
    assert engine.statistics()["wild_times"] == 1
    engine.pass_time(round((START + 28) * SECOND))
    assert (ended, ran_out) == ([], [])
    engine.pass_time(round((START + 40) * SECOND))
    assert len(ended) == 5
    assert len(ran_out) == 5


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_who_sleeps_from_a_wild_first_frame_on_wakes_in_time(off: float) -> None:
    app: App[None] = App("app")
    engines: list[Runtime] = []
    times: list[float] = []

    @app.startup
    def begin(engine: Runtime) -> None:
        engines.append(engine)

    @app.monitor("client port 40000", midstream=True)
    async def doze(_conn: MonitorConnection) -> None:
        times.append(engines[0].now)
        await aiomos.sleep(30)
        times.append(engines[0].now)

    c = Conversation().client("PA", b"hello")
    other = Conversation("10.0.0.9:1", start=START + 1, step=1)
    for _ in range(60):
        other.client("S", seq=0)
    play(moved(c.frames, [0], off) + other.frames, app, batch=1)
    assert times == [START + off, START + 31]
