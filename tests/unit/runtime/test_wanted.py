"""What the kernel may leave out follows what is watched, and it is told once of each change."""

from __future__ import annotations

from typing import Any

from aiomos import CONN_SETUP, App, Runtime
from aiomos.runtime.wanted import Wanted
from aiomos.transport.bpf import Program
from aiomos.ude.filters import Filter
from tests.unit.runtime.test_live_pump import Sockets, between, open_connection


class Told(Sockets):
    """Notes what the kernel is told to keep; nothing is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.programs: list[Program | None] = []

    def set_prefilter(self, prefilter: Program | None) -> None:
        """Note it."""
        self.programs.append(prefilter)


def test_filters_come_and_go_with_their_rules() -> None:
    wire = Told()
    wanted = Wanted(bounded=True)
    wanted.add("one", 1, Filter("port 80"))
    assert not wire.programs  # nothing is read yet
    wanted.apply_to(wire)
    wanted.add("one", 2, Filter("port 81"))
    wanted.add("two", 3, None)
    wanted.remove("two", 3)
    wanted.remove("one", 1)
    wanted.forget("one")
    wanted.forget("one")
    only_80, both, all_of_it, both_again, only_81, nothing, still_nothing = wire.programs
    assert all_of_it is nothing is still_nothing is None
    assert both == both_again
    assert None not in (only_80, both, only_81)
    assert len({str(program) for program in (only_80, both, only_81)}) == 3
    wire.close()


def test_several_changes_are_told_at_once() -> None:
    wire = Told()
    wanted = Wanted(bounded=True)
    wanted.apply_to(wire)
    with wanted.changing():
        wanted.add("one", 1, Filter("port 80"))
        with wanted.changing():
            wanted.forget("two")
        wanted.add("one", 2, Filter("port 81"))
    assert len(wire.programs) == 2
    wire.close()


def test_filters_tell_nothing_where_tunnels_are_looked_into() -> None:
    wire = Told()
    wanted = Wanted(bounded=False)
    wanted.apply_to(wire)
    wanted.add("one", 1, Filter("port 80"))
    assert wire.programs == [None, None]
    wire.close()


def test_an_app_that_is_attached_or_a_callback_that_is_cancelled_is_told_once() -> None:
    app: App[Any] = App("late")
    first = app.on(CONN_SETUP, filter="port 80")(lambda: None)
    app.on(CONN_SETUP, filter="port 81")(lambda: None)
    told: list[list[Program | None]] = []

    async def act(wire: Sockets, runtime: Runtime) -> None:
        assert isinstance(wire, Told)
        await open_connection(wire)
        for step in (runtime.attach(app), None, runtime.detach(app)):
            wire.programs.clear()
            if step is None:
                first.cancel()
            else:
                await step
            told.append(list(wire.programs))

    between(App("nothing"), act, Told())
    (both,), (one,), (none,) = told
    assert both is not None
    assert one is not None
    assert both != one
    assert none is None
