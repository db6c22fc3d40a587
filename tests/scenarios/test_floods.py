"""Floods of SYNs, scans, and connections that are refused: no handler is started for what never came about."""

from __future__ import annotations

import tracemalloc

import pytest

import aiomos
from aiomos import (
    CONN_START,
    CONN_TEARDOWN,
    App,
    Budgets,
    Flow,
    Level,
    MonitorConnection,
    Settings,
)
from aiomos.testing.scenario import Conversation, Frame, merge
from tests.events import play
from tests.traffic import Traffic, watch

LEVELS = pytest.mark.parametrize("level", Level)


def refused(port: int = 40000) -> list[Frame]:
    return Conversation(f"10.0.0.1:{port}").client("S").server("RA").frames


def started_for(
    frames: list[Frame], level: Level, *, midstream: bool = False
) -> list[tuple[int, str | None]]:
    """Ports of the clients for which a handler was started, and how the flow ended."""
    app = App("test")
    started: list[tuple[int, str | None]] = []

    @app.monitor(level=level, midstream=midstream, gaps="skip")
    async def handle(conn: MonitorConnection) -> None:
        started.append((conn.flow.client.port, await conn.closed()))

    report = play(frames, app)
    assert not any(n for name, n in report.counters.items() if name.startswith("held.")), report.counters
    return started


@LEVELS
def test_a_flood_of_syns_starts_no_handlers(level: Level) -> None:
    frames = merge(*(Conversation(f"10.0.0.1:{port}").client("S") for port in range(1000, 1200)))
    assert started_for(frames, level) == []


@LEVELS
def test_a_refused_connection_starts_none(level: Level) -> None:
    assert started_for(refused(), level) == []


@LEVELS
def test_nor_does_a_syn_ack_that_nobody_answers(level: Level) -> None:
    frames = Conversation().client("S").server("SA").wait(1).server("SA", seq=0).frames
    assert started_for(frames, level) == []


@LEVELS
def test_nor_backscatter(level: Level) -> None:
    """SYN-ACKs and RSTs of a host that is flooded under our addresses."""
    frames = Conversation().server("SA").frames
    assert started_for(frames, level, midstream=True) == []


@LEVELS
def test_one_that_is_established_starts_one_though_it_carries_nothing(level: Level) -> None:
    frames = Conversation().handshake().wait(1).client("RA").frames
    assert started_for(frames, level) == [(40000, "rst")]


@LEVELS
def test_one_that_carries_a_byte_starts_one_though_it_is_never_established(level: Level) -> None:
    """As of Fast Open, where the server's side was not captured."""
    frames = Conversation().client("S", b"hello").frames
    assert started_for(frames, level) == [(40000, "end_of_capture")]


@LEVELS
def test_a_pick_up_starts_one(level: Level) -> None:
    frames = Conversation().handshake().client("PA", b"hello").server("A").frames[3:]
    assert started_for(frames, level, midstream=True) == [(40000, "end_of_capture")]


def test_below_the_stream_a_handler_starts_once_the_connection_is_established() -> None:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    seen: list[str] = []
    for side, flags in (("client", "S"), ("server", "SA"), ("client", "A")):
        conn.segment(side, at=None if flags == "A" else -1, flags=flags)  # type: ignore[arg-type]
        traffic.cut()

    async def handle(conn: MonitorConnection) -> None:
        seen.append(f"{conn.flow.client.state.name} {conn.flow.client.packets}")

    watch(handle, traffic, level=Level.STATE)
    assert seen == ["ESTABLISHED 2"]


def test_callbacks_still_see_what_is_refused() -> None:
    app = App("test")
    seen: list[str] = []
    app.on(CONN_START)(lambda: seen.append("start"))

    @app.on(CONN_TEARDOWN)
    def end(flow: Flow) -> None:
        seen.append(str(flow.reason))

    @app.monitor()
    async def handle(_conn: MonitorConnection) -> None:
        seen.append("handler")

    play(refused(), app)
    assert seen == ["start", "rst"]


def test_a_handler_that_an_event_starts_is_started_by_it() -> None:
    app = App("test")
    seen: list[str | None] = []

    @app.monitor(start=CONN_START)
    async def handle(conn: MonitorConnection) -> None:
        seen.append(await conn.closed())

    @app.monitor()
    async def never(_conn: MonitorConnection) -> None:
        seen.append("never")

    play(refused(), app)
    assert seen == ["rst"]


def test_a_syn_leaves_no_object_of_python_behind() -> None:
    count = 20_000
    traffic = Traffic()
    for port in range(count):
        conn = traffic.connection(1024 + port, opened=False)
        conn.segment("client", at=-1, flags="S")
    app = App("test")
    peak = 0

    @app.monitor(level=Level.STATE)
    async def handle(_conn: MonitorConnection) -> None:
        raise AssertionError

    def look(*_: object) -> None:
        nonlocal peak
        peak = max(peak, tracemalloc.get_traced_memory()[0])

    source = traffic.source()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        settings = Settings(budgets=Budgets(flows=1 << 16, half_open=1 << 16), on_error="raise")
        report = aiomos.run(app, source=source, settings=settings, progress=look)
    finally:
        tracemalloc.stop()
    assert report.counters["flows"] == count
    assert (
        peak - before < 200 * count
    )  # bytes, those of the reader among them; a handler takes more than a thousand
