"""What one app does in its callbacks is nothing to another: in every event, at every hook, whoever comes first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiomos import (
    App,
    Budgets,
    CallbackRegistration,
    ConnectionTimedOut,
    Event,
    Flow,
    Hook,
    Level,
    MonitorConnection,
    Runtime,
    Settings,
)
from tests.events import PLACES, Storyteller, everything, sets_timers, source_of
from tests.traffic import drain, in_loop

Place = tuple[Event, Hook]
Notes = list[tuple[str, str]]

WITHOUT_FLOW = [(Event.PKT_IN, Hook.RAW), (Event.ORPHAN, Hook.RECEIVER), (Event.FRAME, Hook.RAW)]
EVERY = pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[0].name}-{place[1].name}")
FIRST = pytest.mark.parametrize("bad_first", [True, False], ids=["first", "last"])
LOGS = Settings(budgets=Budgets(stream_bytes=1024))


def run(*apps: App[Any], settings: Settings = LOGS) -> tuple[Counter[str], dict[str, dict[str, float]]]:
    """Run apps; returns the counters of failures, and what each app has come to."""
    told: dict[str, dict[str, float]] = {}

    async def main() -> Counter[str]:
        async with Runtime(source=source_of(everything(), batch=4), settings=settings) as runtime:
            for app in apps:
                await runtime.attach(app)
            report = await runtime.run()
            told.update((app.name, figures) for app, figures in runtime.app_statistics().items())
            return Counter(
                {
                    name: count
                    for name, count in report.counters.items()
                    if name in ("callback_errors", "handler_errors") and count
                }
            )

    with capture_logs():
        return in_loop(main(), "asyncio"), told


def noting(places: list[Place]) -> Storyteller:
    teller = Storyteller(places, level=Level.STREAM)
    sets_timers(teller.app)
    return teller


@cache
def alone() -> Notes:
    """What an app is told that has the run for itself."""
    teller = noting(PLACES)
    assert run(teller.app)[0] == {}
    return teller.notes


@cache
def count_at(place: Place) -> int:
    teller = noting([place])
    run(teller.app)
    return len(teller.notes)


def test_every_event_happens_at_every_hook() -> None:
    """Else the tests below would show nothing."""
    assert {place: count_at(place) for place in PLACES if count_at(place) < 2} == {}


class Bad:
    """An app that does something to itself at one place.

    Args:
        place: Where.
        act: What, each time.
    """

    def __init__(self, place: Place, act: Callable[[Bad, Flow | None], None]) -> None:
        self.app: App[None] = App("bad")
        self.calls = 0
        event, hook = place

        def callback(flow: Flow | None) -> None:
            self.calls += 1
            act(self, flow)

        self.registrations: list[CallbackRegistration] = []
        for each in PLACES:
            register = self.app.on(each[0], hook=each[1], level=Level.STREAM)
            here = register(callback if each == (event, hook) else lambda: None)
            self.registrations.append(here)
            if each == (event, hook):
                self.own = here
        sets_timers(self.app)


def fails(_bad: Bad, _flow: Flow | None) -> None:
    raise ZeroDivisionError("on purpose")


def cancels_itself(bad: Bad, _flow: Flow | None) -> None:
    bad.own.cancel()


def cancels_all(bad: Bad, _flow: Flow | None) -> None:
    for registration in bad.registrations:
        registration.cancel()


def stops_the_flow(_bad: Bad, flow: Flow | None) -> None:
    if flow is not None:
        flow.stop()


@EVERY
@FIRST
@pytest.mark.parametrize("act", [fails, cancels_itself, cancels_all, stops_the_flow])
def test_what_an_app_does_to_itself_is_nothing_to_another(
    place: Place, act: Callable[[Bad, Flow | None], None], bad_first: bool
) -> None:
    bad, good = Bad(place, act), noting(PLACES)
    failures, told = run(*((bad.app, good.app) if bad_first else (good.app, bad.app)))
    assert good.notes == alone()
    assert told["story"]["errors"] == 0
    if act is fails:
        # A failure ends the interest of its callback in that flow, not in another.
        assert bad.calls == (count_at(place) if place in WITHOUT_FLOW else 2)
        assert failures == {"callback_errors": bad.calls}
        assert told["bad"]["errors"] == bad.calls
    else:
        assert failures == {}
        assert told["bad"]["errors"] == 0
        assert 1 <= bad.calls <= count_at(place)
        if act is not stops_the_flow:
            assert bad.calls == 1


async def slow(conn: MonitorConnection) -> None:
    """Gives all others their turn again and again before each byte."""
    async for _, _ in conn:
        for _ in range(50):
            await asyncio.sleep(0)


async def failing(conn: MonitorConnection) -> None:
    await conn.client.read(1)
    raise ZeroDivisionError("on purpose")


async def leaving(conn: MonitorConnection) -> None:
    await conn.client.read(1)
    conn.leave()


async def cancelled(conn: MonitorConnection) -> None:
    await conn.client.read(1)
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await conn.closed()


async def closing(conn: MonitorConnection) -> None:
    await conn.client.read(1)
    raise GeneratorExit


async def cancelling(conn: MonitorConnection) -> None:
    """Nobody has cancelled it."""
    await conn.client.read(1)
    raise asyncio.CancelledError


async def waiting_in_vain(conn: MonitorConnection) -> None:
    await conn.client.read(1)
    given_up = asyncio.get_running_loop().create_future()
    given_up.cancel()
    await given_up


FAILING = (failing, closing, cancelling, waiting_in_vain)


@FIRST
@pytest.mark.parametrize(
    "handler", [slow, leaving, cancelled, *FAILING], ids=lambda handler: handler.__name__
)
def test_nor_is_what_its_handlers_do(handler: Callable[..., Any], bad_first: bool) -> None:
    """Neither to the callbacks of another app nor to its handlers."""
    bad: App[None] = App("bad")
    begun = 0

    @bad.monitor(gaps="mark")
    async def handle(conn: MonitorConnection) -> None:
        nonlocal begun
        begun += 1
        await handler(conn)

    def reader(good: App[None], read: dict[int, tuple[bytes, str]]) -> None:
        @good.monitor(gaps="skip")
        async def note(conn: MonitorConnection) -> None:
            data: list[tuple[str, Any]] = []
            with suppress(ConnectionTimedOut):
                await drain(conn, data)
            said = b"".join(data for side, data in data if side == "client")
            read[conn.flow.client.port] = said, await conn.closed()

    teller, read = noting(PLACES), dict[int, tuple[bytes, str]]()
    reader(teller.app, read)
    failures, told = run(*((bad, teller.app) if bad_first else (teller.app, bad)))
    assert teller.notes == alone()
    assert read == {40000: (b"hellocdab", "timeout"), 1234: (b"ghilate", "fin")}
    assert told["story"]["errors"] == 0
    assert begun == 2
    assert failures == ({"handler_errors": 2} if handler in FAILING else {})
    assert told["bad"]["errors"] == (2 if handler in FAILING else 0)
