"""Floods of segments that have to be held: what they cost, and that other flows don't pay for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aiomos import Budgets, Chunk, Event, Flow, Gap, Level, MonitorConnection, Report, Settings
from aiomos.app import App
from tests.events import play
from tests.traffic import Connection, Traffic, drain, watch

HELD = 256 << 10
BUDGETS = Budgets(flows=4096, held_bytes=HELD, held_bytes_half=HELD)
Items = dict[int, list[Chunk | Gap]]
VICTIM = 9


def one_segment_each(traffic: Traffic, turn: int) -> None:
    """Many flows, each with a byte that has to be held."""
    for port in range(1000 + 300 * turn, 1300 + 300 * turn):
        traffic.connection(port).client(b"!", at=100)


def all_of_one_flow(traffic: Traffic, turn: int) -> None:
    """As many small segments as a half may hold."""
    conn = traffic.connection(1000 + turn)
    for at in range(300):
        conn.client(b"!", at=2 + 2 * at)


def large_ones(traffic: Traffic, turn: int) -> None:
    for port in range(1000 + 3 * turn, 1003 + 3 * turn):
        conn = traffic.connection(port)
        for at in range(40):
            conn.client(bytes(1000), at=1 + 1001 * at)


FLOODS = [one_segment_each, all_of_one_flow, large_ones]


def read_all(traffic: Traffic, budgets: Budgets = BUDGETS) -> tuple[Items, Report]:
    """What the client of each port sent, as a handler is given it."""
    items: Items = {}

    async def handler(conn: MonitorConnection) -> None:
        await drain(conn.client.chunks(gaps="mark"), items.setdefault(conn.flow.key[1], []))

    settings = Settings(on_error="raise", budgets=budgets)
    ends = min(len(traffic.connections), budgets.flows)  # those that are evicted end the reading of them
    return items, watch(handler, traffic, ends=ends, settings=settings)


def exchange(conn: Connection) -> Iterator[None]:
    """Segments out of order, each a step."""
    for at in range(0, 100, 20):
        conn.client(b"behind", at=at + 10, ack=0)
        yield
        conn.client(b"the first ", at=at, ack=0)
        conn.client(b"last", at=at + 16, ack=0)
        yield


@pytest.mark.parametrize("batches", [1, 10])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_held_segments_does_not_blind_other_flows(
    flood: Callable[[Traffic, int], None], batches: int
) -> None:
    traffic = Traffic()
    for turn in range(10):  # the budget is used up before the others come
        flood(traffic, turn)
    steps = exchange(traffic.connection(VICTIM, client="10.0.0.9"))
    for turn in range(10, 20):
        if batches > 1:
            traffic.cut()
        next(steps)
        flood(traffic, turn)
    assert next(steps, "all sent") == "all sent"
    items, report = read_all(traffic)
    assert b"".join(items.pop(VICTIM)) == b"the first behindlast" * 5  # type: ignore[arg-type]
    # Those who made it are told, each at its own hole, and what they held is delivered.
    given_up = [item for half in items.values() for item in half if isinstance(item, Gap)]
    assert {gap.reason for gap in given_up} == {"budget", "end"}
    assert report.counters["gap.budget"] == sum(gap.reason == "budget" for gap in given_up) > 100
    assert 0 < report.counters["held_dropped"] <= report.counters["gap.budget"]
    assert all(isinstance(half[-1], Chunk) for half in items.values())


@pytest.mark.parametrize("flood", FLOODS)
def test_those_who_are_watched_without_bytes_are_not_blinded_either(
    flood: Callable[[Traffic, int], None],
) -> None:
    traffic = Traffic()
    for turn in range(20):
        flood(traffic, turn)
    conn = traffic.connection(VICTIM, client="10.0.0.9")
    conn.client(b"second", at=5, ack=0)
    flood(traffic, 20)
    conn.client(b"first", at=0, ack=0)
    lost: dict[int, tuple[int, int]] = {}

    async def handler(conn: MonitorConnection) -> None:
        await conn.closed()
        lost[conn.flow.key[1]] = conn.flow.client.stream_bytes, conn.flow.client.gaps

    report = watch(handler, traffic, settings=Settings(on_error="raise", budgets=BUDGETS), level=Level.BYTES)
    assert lost.pop(VICTIM) == (11, 0)
    assert report.counters["held_dropped"] > 0
    assert all(gaps for _, gaps in lost.values())


def test_whoever_has_waited_longest_goes_on_first() -> None:
    traffic = Traffic()
    for port in range(1000, 3000):
        traffic.connection(port).client(b"!", at=1)
    items, _ = read_all(traffic)
    reasons = [half[0].reason for _, half in sorted(items.items()) if isinstance(half[0], Gap)]
    dropped = reasons.count("budget")
    assert reasons == ["budget"] * dropped + ["end"] * (2000 - dropped)
    assert 2000 - dropped == (HELD - HELD // 8) // 128  # a byte costs a piece, and no more


def test_a_callback_is_told_of_the_hole_on_the_flow_that_gave_it_up() -> None:
    traffic = Traffic()
    for port in range(1000, 4000):
        traffic.connection(port).client(b"!", at=1)
    app: App[None] = App("told")
    told: list[tuple[int, str, int, int]] = []

    @app.monitor("")
    async def handle(conn: MonitorConnection) -> None:
        await conn.closed()

    @app.on(Event.ERROR)
    def note(flow: Flow, side: str) -> None:
        told.append((flow.key[1], side, flow.client.gaps, flow.client.stream_offset))

    play(traffic.frames, app, settings=Settings(on_error="raise", budgets=BUDGETS))
    ports = [port for port, *_ in told]
    assert len(ports) == len(set(ports)) == 3000
    assert ports == sorted(ports)
    assert {tuple(rest) for _, *rest in told} == {("client", 1, 2)}


def test_data_of_syns_make_room_and_do_not_begin_streams() -> None:
    """Those who hold data of a SYN for longest lose it as if it had not come; nobody has acknowledged it."""
    traffic = Traffic()
    for port in range(1000, 3000):
        traffic.connection(port, opened=False).segment("client", b"?" * 20, at=-1, flags="S")
    conn = traffic.connection(VICTIM, client="10.0.0.9")
    conn.client(b"second", at=5, ack=0)
    conn.client(b"first", at=0, ack=0)
    items, report = read_all(traffic)
    assert b"".join(items[VICTIM]) == b"firstsecond"  # type: ignore[arg-type]
    assert report.counters["held_dropped"] > 0
    assert report.counters["gap.budget"] == 0


def test_memory_that_small_segments_had_can_be_had_by_large_ones() -> None:
    traffic = Traffic()
    for port in range(1000, 3000):  # fill it with small ones, and leave one in each of its parts
        traffic.connection(port).client(b"!", at=1, ack=0)
    for port in range(1000, 3000):
        if port % 400:
            traffic.connection(port, opened=False).client(b"?", at=0, ack=0)
    traffic.cut()
    conn = traffic.connection(VICTIM, client="10.0.0.9")
    for at in range(40):
        conn.client(bytes([at]) * 1000, at=1000 * (40 - at), ack=0)
    conn.client(bytes([40]) * 1000, at=0, ack=0)
    items, _ = read_all(traffic)
    assert b"".join(items[VICTIM]) == b"".join(bytes([at]) * 1000 for at in range(40, -1, -1))  # type: ignore[arg-type]


@pytest.mark.parametrize("flooded", [False, True])
def test_a_half_that_goes_on_for_others_is_told_of_its_end(flooded: bool) -> None:
    """Its FIN was behind the hole that is given up: the stream ends there, while the flow is open."""
    traffic = Traffic()
    conn = traffic.connection(VICTIM, client="10.0.0.9")
    conn.segment("client", b"last", at=10, flags="FA")
    for turn in range(10 if flooded else 1):
        all_of_one_flow(traffic, turn)
    traffic.cut()
    conn.server(b"I am here", ack=0)
    ended: list[tuple[list[Chunk | Gap], str | None]] = []

    async def handler(conn: MonitorConnection) -> None:
        items: list[Chunk | Gap] = []
        await drain(conn.client.chunks(gaps="mark"), items)
        if conn.flow.key[1] == VICTIM:
            ended.append((items, conn.flow.reason))

    watch(handler, traffic, settings=Settings(on_error="raise", budgets=BUDGETS))
    (((gap, last), reason),) = ended
    assert isinstance(gap, Gap)
    assert (gap.offset, gap.length, gap.reason) == (0, 10, "budget" if flooded else "end")
    assert (last, reason) == (b"last", None if flooded else "end_of_capture")


@pytest.mark.parametrize("flooded", [False, True])
def test_doubted_segments_make_room_first(flooded: bool) -> None:
    """What was far beyond the window is forgotten for others, and displaces none: a jump begins without it."""
    far = 3_000_000
    traffic = Traffic()
    conn = traffic.connection(VICTIM, client="10.0.0.9")
    conn.client(b"begun", at=0)
    conn.client(b"stray", at=far, ack=0)
    for turn in range(10 if flooded else 0):
        all_of_one_flow(traffic, turn)
    conn.client(b"next", at=far + 5, ack=0)
    conn.server(ack=far + 5)
    conn.client(b"more", at=far + 9, ack=0)
    items, report = read_all(traffic)
    first, gap, *rest = items[VICTIM]
    assert first == b"begun"
    assert isinstance(gap, Gap)
    assert (gap.offset, gap.length) == (5, far + (4 if flooded else -5))
    assert b"".join(rest) == (b"more" if flooded else b"straynextmore")  # type: ignore[arg-type]
    assert (report.counters["held_dropped"] > 0) == flooded


def test_a_segment_that_held_ones_overlap_once_they_have_made_room() -> None:
    """Whatever fits beside it: its own half goes on up to a piece that reaches into it; no byte is another's."""
    stream = bytes(range(100, 140)) + bytes(60) + b"!." * 80
    outcomes = set()
    for fillers in range(24, 72):
        traffic = Traffic()
        conn = traffic.connection()
        conn.client(stream[10:20], at=10)
        for number in range(fillers):
            conn.client(b"!", at=100 + 2 * number)
        conn.client(stream[15:40], at=15)
        items, _ = read_all(traffic, Budgets(flows=16, held_bytes=1 << 20, held_bytes_half=8192))
        gap, *chunks = items[1000]
        assert isinstance(gap, Gap)
        assert (gap.offset, gap.length) == (0, 10)
        for chunk in chunks:
            assert isinstance(chunk, Gap) or chunk == stream[chunk.offset :][: len(chunk)]
        got = [chunk for chunk in chunks if isinstance(chunk, Chunk) and chunk.offset < 40]
        outcomes.add((gap.reason, b"".join(got)))
    assert outcomes == {("end", stream[10:40]), ("budget", stream[10:40]), ("budget", stream[10:20])}
