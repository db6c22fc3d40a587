"""Registrations install themselves where their app is attached, and undo just that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aiomos import CONN_SETUP, CONN_START, App, Level, MonitorConnection, RegistrationError, Runtime
from aiomos.registrations import Attachment, Registration
from tests.traffic import Traffic


class Place:
    """An attachment that notes what it is asked for."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.refuses = refuses

    def watch(self, chosen: object, level: Level, **options: Any) -> int:
        """Note a rule with connections."""
        self.asked.append(
            ("watch", str(chosen), level, options["opener"], options["start"], options["keeps"])
        )
        return 7

    def share(self, chosen: object, level: Level, **options: bool) -> int:
        """Note a shared rule."""
        self.asked.append(("share", str(chosen), level, options))
        return 8

    def stop_watching(self, rule: int) -> None:
        """Note that a rule goes."""
        self.asked.append(("stop", rule))

    def give_up(self, rule: int) -> None:
        """Note that a shared rule goes."""
        self.asked.append(("give up", rule))

    def starter(self, handler: object, gaps: str, level: Level) -> Any:
        """Return what stands for a starter of handlers."""
        return ("starter", handler, gaps, level)

    def call(self, rule: int, event: object, *_: object) -> Callable[[], None]:
        """Note a call."""
        if self.refuses:
            raise RegistrationError("full")
        self.asked.append(("call", rule, event))
        return lambda: self.asked.append(("forget", event))


@pytest.fixture
def app() -> App[None]:
    return App("test")


def installed(app: App[None], place: Place) -> Callable[[], object]:
    (registration,) = app.registrations
    undo = registration.install(place)
    assert place.asked
    return undo


def test_a_handler(app: App[None]) -> None:
    @app.monitor("port 80", gaps="mark", start=CONN_START)
    async def handle(conn: MonitorConnection) -> None: ...

    place = Place()
    undo = installed(app, place)
    starter = ("starter", handle, "mark", Level.STREAM)
    assert place.asked == [("watch", "port 80", Level.STREAM, starter, CONN_START, True)]
    undo()
    assert place.asked[1:] == [("stop", 7)]


def test_a_callback(app: App[None]) -> None:
    app.on(CONN_SETUP, filter="port 80")(lambda: None)
    place = Place()
    undo = installed(app, place)
    shared = {"midstream": False, "keeps": False, "unbound": False}
    assert place.asked == [("share", "port 80", Level.STATE, shared), ("call", 8, CONN_SETUP)]
    undo()
    assert place.asked[2:] == [("forget", CONN_SETUP), ("give up", 8)]


def test_a_callback_that_is_refused_leaves_no_rule(app: App[None]) -> None:
    registration = app.on(CONN_SETUP)(lambda: None)
    place = Place(refuses=True)
    with pytest.raises(RegistrationError, match="full"):
        registration.install(place)
    assert [asked[0] for asked in place.asked] == ["share", "give up"]


def test_flows_that_are_only_followed(app: App[None]) -> None:
    app.track("port 80", level=Level.BYTES, midstream=True)
    place = Place()
    undo = installed(app, place)
    assert place.asked == [("share", "port 80", Level.BYTES, {"midstream": True})]
    undo()
    assert place.asked[1:] == [("give up", 8)]


def test_what_is_registered_is_put_back_to_what_it_was(app: App[None]) -> None:
    async def handle(conn: MonitorConnection) -> None: ...

    app.monitor()(handle)
    app.on(CONN_SETUP)(lambda: None)
    before: list[Registration] = app.registrations
    put_back = app.checkpoint()
    app.monitors.clear()
    app.track()
    app.on(CONN_START)(lambda: None)
    assert len(app.registrations) == 3
    put_back()
    assert app.registrations == before
    assert len(before) == 2


class Noting:
    """A registration of a kind that nobody here knows."""

    def __init__(self, app: App[Any], log: list[str], name: str) -> None:
        self.app, self.log, self.name = app, log, name

    def install(self, _: Attachment) -> Callable[[], object]:
        """Note it, and that it is undone."""
        self.log.append(f"{self.name} comes")
        return lambda: self.log.append(f"{self.name} goes")


async def test_a_runtime_undoes_whatever_was_installed_the_last_first(app: App[Any]) -> None:
    log: list[str] = []
    lists: list[Any] = [app.monitors, app.callbacks, app.tracks]
    for name, registered in zip(("first", "second", "third"), lists, strict=True):
        registered.append(Noting(app, log, name))
    async with Runtime(source=Traffic().source()) as runtime:
        await runtime.attach(app)
        assert log == ["first comes", "second comes", "third comes"]
        runtime.withdraw(app.registrations[1])
        runtime.withdraw(app.registrations[1])  # once is enough
        late = Noting(app, log, "fourth")
        runtime.install(late)
        await runtime.detach(app)
    assert log[3:] == ["second goes", "fourth comes", "fourth goes", "third goes", "first goes"]
