"""No extension class crashes the interpreter: made by hand, given None, asked again after its engine has gone.

Each test runs this file as a program of its own, so that a crash fails the test and not the run of all tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import importlib
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import aiomos
from aiomos import App, Flow, Hook, MonitorConnection, Packet, Settings

ROOT = Path(__file__).parents[2]
HEAP_TYPE = 1 << 9
MOST_ARGUMENTS = 7
MADE_BY_HAND = {  # what an app may make, or extend, without anything else
    "aiomos.face.chunks.Gap",
    "aiomos.transport.clock.LiveClock",
    "aiomos.transport.ports.Port",
    "aiomos.transport.source.FrameSource",
    "aiomos.transport.transport.Transport",
}
HARMLESS = {  # made without what they are made of, they say so
    "aiomos.face.packets.Packet",
    "aiomos.transport.bridge.Bridge",
    "aiomos.transport.impaired.Delayed",
    "aiomos.transport.ports.PortTransport",
    "aiomos.transport.tuntap.Tap",
    "aiomos.transport.tuntap.Tun",
}


def run(mode: str) -> Any:
    """Run this file as a program; what it prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.unit.test_extension_classes", mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_no_class_can_be_made_that_lacks_what_its_methods_need() -> None:
    found = run("classes")
    assert len(found["classes"]) >= 45
    assert set(found["made"]) <= MADE_BY_HAND | HARMLESS
    assert set(found["made"]) >= MADE_BY_HAND
    assert found["calls"] > 1000


@pytest.mark.parametrize("mode", ["in_callbacks", "afterwards", "in_any_order"])
def test_objects_of_a_run_survive_whatever_is_asked_of_them(mode: str) -> None:
    found = run(mode)
    assert set(found["classes"]) >= {
        *("Account", "Call", "Chunk", "Engine", "Flow", "Half", "MonitorConnection", "Packet", "Pressure"),
        *("Stream", "Timer", "Line", "Waiting"),
    }
    assert found["calls"] > 1000


# --- the program --------------------------------------------------------------------------------------------


class Pest:
    """Asks everything of objects, with None for every argument.

    Attributes:
        calls: How often something was called.
        classes: Names of the classes of the objects.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.classes: set[str] = set()

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call, whatever it raises; None if it does."""
        self.calls += 1
        try:
            result = function(*arguments)
        except BaseException:  # whatever: it has not crashed
            return None
        if inspect.iscoroutine(result) or inspect.isgenerator(result):
            result.close()
        return result

    def pester(self, thing: Any, *, spare: tuple[str, ...] = ()) -> None:
        """Ask everything of an object."""
        self.classes.add(type(thing).__name__)
        for ask in (
            repr,
            str,
            hash,
            bool,
            len,
            iter,
            next,
            list,
            vars,
            copy.copy,
            copy.deepcopy,
            pickle.dumps,
        ):
            self.attempt(ask, thing)
        for name in dir(type(thing)):
            if name in ("__class__", "__del__", "__init_subclass__", "__subclasshook__", *spare):
                continue
            member = self.attempt(getattr, thing, name)
            if name == "__init__" or (callable(member) and not isinstance(member, type)):
                for count in range(MOST_ARGUMENTS):
                    self.attempt(member, *[None] * count)
            elif not name.startswith("__"):
                self.attempt(setattr, thing, name, None)
        self.attempt(lambda: thing == copy)
        self.attempt(lambda: thing < None)


def extension_classes() -> Iterator[type]:
    """Every class of the compiled modules, those that are no part of the interface, too."""
    for module in pkgutil.walk_packages(aiomos.__path__, "aiomos."):
        if module.name in ("aiomos.__main__",):
            continue
        loaded = importlib.import_module(module.name)
        if (getattr(loaded, "__file__", None) or "").endswith(".so"):
            for thing in vars(loaded).values():
                if isinstance(thing, type) and thing.__module__ == module.name:
                    yield thing


def pester_classes() -> dict[str, Any]:
    pest = Pest()
    classes = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in extension_classes()}
    made = set()
    for name, cls in classes.items():
        if cls.__flags__ & HEAP_TYPE:  # a class statement in a compiled module, or Chunk
            continue
        things = [pest.attempt(base.__new__, cls) for base in cls.__mro__]
        things += [pest.attempt(cls, *[None] * count) for count in range(MOST_ARGUMENTS)]
        extended = pest.attempt(type, "Extended", (cls,), {})
        if extended is not None:
            things += [pest.attempt(extended), pest.attempt(cls.__new__, extended)]
        for thing in things:
            if isinstance(thing, cls):
                made.add(name)
                pest.pester(thing)
    chunk = bytes.__new__(aiomos.Chunk, b"without a note")
    assert (chunk, chunk.offset, chunk.time) == (b"without a note", 0, 0.0)
    return {"classes": sorted(classes), "made": sorted(made), "calls": pest.calls}


def collect_from_run(told: Callable[[list[Any]], None]) -> list[Any]:
    """Run an app over connections; *told* is called with the objects there are, in each callback."""
    from tests.traffic import Traffic

    app = App("pestered")
    found: list[Any] = []

    @app.ude(aiomos.PKT_IN)
    def in_python(pkt: Packet) -> bool:
        return pkt.payload is not None and len(str(pkt)) > 0

    @app.on(in_python)
    @app.on(aiomos.PKT_IN, hook=Hook.RAW)
    @app.on(aiomos.CONN_NEW_DATA)
    @app.on(aiomos.CONN_TEARDOWN)
    def look(pkt: Packet, flow: Flow, event: aiomos.Occurrence, engine: aiomos.Runtime) -> None:
        things: list[Any] = [pkt, flow, event, engine.engine, engine.engine.line]
        if flow is not None:
            things += [flow.client, flow.server]
            with contextlib.suppress(aiomos.FlowClosed):
                things += [flow.timer(1.0), flow.timer(0.0, lambda _flow: None)]
        found.extend(things)
        told(things)

    @app.monitor(gaps="mark")
    async def read(conn: MonitorConnection) -> None:
        waiting = conn.__anext__()
        found.extend([conn, conn.client, conn.server, conn.pressure, waiting, conn.events(aiomos.PKT_IN)])
        found.append(conn.on(aiomos.PKT_IN, lambda: None))
        with contextlib.suppress(BaseException):
            found.extend([chunk async for chunk in conn.client])
            await conn.closed()

    async def main() -> None:
        async with aiomos.Runtime(source=traffic.source(), settings=Settings()) as runtime:
            await runtime.attach(app)
            for attachment in runtime.attachments:
                found.extend([attachment.account, *attachment.account.calls])
            with contextlib.suppress(BaseException):
                await runtime.run()

    traffic = Traffic()
    for port in (1000, 1001, 1002):
        conn = traffic.connection(port)
        conn.client(b"hello" * 10)
        conn.client(b"behind a hole", at=100)
        traffic.cut()
        conn.server(b"you")
        if port == 1001:
            conn.close()
    asyncio.run(main())
    return found


def pester_run(mode: str) -> dict[str, Any]:
    pest = Pest()
    seen = 0

    def told(things: list[Any]) -> None:
        nonlocal seen
        seen += 1
        if mode == "in_callbacks" and seen % 5 == 0:
            for thing in things:
                # The engine is not to be told that nobody listens any more: there would be nothing left to try.
                pest.pester(thing, spare=("on_callback_error", "face", "read_clock"))

    found = collect_from_run(told)
    assert seen > 10
    if mode == "in_any_order":
        # Each object outlives all others once, the engine among them.
        while found:
            last = found.pop(len(found) // 2)
            gc.collect()
            pest.pester(last)
            if len(found) % 7 == 0:
                del last
    else:
        for thing in found:
            pest.pester(thing)
    gc.collect()
    return {"classes": sorted(pest.classes), "calls": pest.calls}


def main() -> None:
    warnings.simplefilter("ignore")
    gc.freeze()  # Nothing is sought among what is here already, and collecting is done very often.
    mode = sys.argv[1]
    found = pester_classes() if mode == "classes" else pester_run(mode)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
