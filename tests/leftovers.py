"""What a test leaves behind: nothing, neither in engines nor in the process.

Every engine is known from its making. When its test is over, or when it goes before that, flows that are open are ended
for want of frames, and what only time ends has its time; then it may hold nothing, whether the test had finished it or
not: each way out gives back what was taken. So it is with what apps keep by flow and session. Of the process,
descriptors, threads, children and tasks are as they were before.

What may be there besides: what the first user of something makes once for the whole process (`before_any_test`), and
what the cyclic collector would free, which closes descriptors, too. A thread that was told to end has a second for it.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing.resource_tracker
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

import aiomos.engine.engine
import aiomos.testing.batches  # compiled: it takes the engine's own class, while that is in its place
from aiomos import Flow, Session
from aiomos.apps import firewall, nat

try:
    from tests.native import _probe_engine as probe
    from tests.native import _probe_rules  # noqa: F401  # it takes engines: before another class has their name
except ImportError:
    probe = None

AGES_NS = 10 * 365 * 86_400 * 1_000_000_000
"""Beyond every time-out that a test sets."""

ENOUGH = 10
"""What raises so often at the end of its flows is not ended."""

Unwatched = aiomos.engine.engine.Engine


class Engine(Unwatched):
    """An engine that is looked at when its test is over, or when it goes."""

    was_looked_at = True  # of one that could not be made

    def __init__(self, *_args: object, **_named: object) -> None:
        self.test = test_now.name
        self.was_looked_at = False
        test_now.engines.append(weakref.ref(self))

    def __del__(self) -> None:
        if not self.was_looked_at:
            look_into(self)


class Test:
    """The test that runs.

    Attributes:
        name: Its node id.
        engines: Those that it made.
        keepers: What of apps it made.
        left: What was found in engines, of this test or of one before that shared it.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self.begin("no test")

    def begin(self, name: str) -> None:
        self.name = name
        self.engines: list[weakref.ref[Engine]] = []
        self.keepers: list[tuple[weakref.ref[Any], Callable[[Any], int]]] = []


test_now = Test()


def look_into(engine: Engine) -> None:
    """End all that an engine is about, and note what it holds then."""
    engine.was_looked_at = True
    for _ in range(ENOUGH):
        try:
            while engine.finish():
                pass
            if probe.left(engine):  # sessions and fragments, which live on
                engine.pass_time(engine.clock_ns + AGES_NS)
            break
        except Exception:  # of a callback, whose test is over
            continue
    if left := probe.left(engine):
        what = ", ".join(f"{name}: {count}" for name, count in left.items())
        test_now.left.append(f"an engine of {engine.test} still holds {what}")


def keep_track(thing: type[Any], name: str, count: Callable[[Any], int], module: Any) -> None:
    """Have the things of a class known from their making, too, and count what they keep at the end."""

    def begin(self: Any, *args: Any, **named: Any) -> None:
        thing.__init__(self, *args, **named)
        test_now.keepers.append((weakref.ref(self), count))

    setattr(module, name, type(name, (thing,), {"__init__": begin}))


def watch_engines() -> None:
    """Put the watched engine in the other's place, wherever that has been imported."""
    if probe is None:
        return
    for module in list(sys.modules.values()):
        if vars(module).get("Engine") is Unwatched:
            vars(module)["Engine"] = Engine
    keep_track(
        nat.Nat, "Nat", lambda kept: sum(not m.permanent for m in kept.mappings._by_external.values()), nat
    )
    keep_track(
        firewall.Firewall,
        "Firewall",
        lambda kept: sum(
            isinstance(accepted, (Flow, Session)) for accepted in kept._accepted
        ),  # no stand-ins
        firewall,
    )


def before_any_test() -> None:
    """Have made what is made once for a process: libuv's pipe for signals."""
    uvloop.new_event_loop().close()


# --- the process ----------------------------------------------------------------------------------


def descriptors() -> set[str]:
    """Those that are open, but the one by which they are listed: the lowest that is free."""
    free = os.dup(0)
    os.close(free)
    return {*os.listdir("/proc/self/fd")} - {str(free)}


def children() -> set[str]:
    """Processes begun by this one, but that by which Python's multiprocessing tidies up."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    found: set[str] = set()
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/children") as file:
            found.update(file.read().split())
    return found - {str(multiprocessing.resource_tracker._resource_tracker._pid)}


def tasks() -> list[asyncio.Task[Any]]:
    """Tasks of any loop that are not done."""
    known = getattr(asyncio.tasks, "_scheduled_tasks", None) or getattr(asyncio.tasks, "_all_tasks", ())
    return [task for task in known if not task.done()]


class Process:
    """What the process has at a moment."""

    def __init__(self) -> None:
        self.descriptors = descriptors()
        self.threads = set(threading.enumerate())
        self.children = children()

    def since(self, before: Process) -> dict[str, list[str]]:
        """Name what was not there before."""
        tracker = str(multiprocessing.resource_tracker._resource_tracker._fd)
        return {
            "descriptors": [name_of(fd) for fd in sorted(self.descriptors - before.descriptors - {tracker})],
            "threads": [str(thread) for thread in self.threads - before.threads],
            "children": [name_of_process(pid) for pid in sorted(self.children - before.children)],
            "tasks": [str(task) for task in tasks()],
        }


def name_of(descriptor: str) -> str:
    return f"{descriptor} to {os.readlink(f'/proc/self/fd/{descriptor}')}"


def name_of_process(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return f"{pid}: {file.read().replace(chr(0), ' ')}"
    except OSError:
        return pid


def left_in_process(before: Process) -> list[str]:
    """Say what was not there before, but what the cyclic collector frees, and threads that end within a second."""
    found = Process().since(before)
    if any(map(any, found.values())):
        gc.collect()
        found = Process().since(before)
    for _ in range(20):
        if not found["threads"]:
            break
        time.sleep(0.05)
        found = Process().since(before)
    return [f"{what}: {', '.join(names)}" for what, names in found.items() if names]


def left_by_test(name: str) -> Iterator[None]:
    """Begin a test; after it, fail for what it leaves."""
    test_now.begin(name)
    before = Process()
    yield
    for each in test_now.engines:
        engine = each()
        if engine is not None and not engine.was_looked_at:
            look_into(engine)
        del engine
    for keeper, count in test_now.keepers:
        kept = keeper()
        if kept is not None and (many := count(kept)):
            test_now.left.append(f"{type(kept).__name__} still keeps {many}")
        del kept
    left, test_now.left = test_now.left, []
    left += left_in_process(before)
    test_now.begin("no test")
    assert not left, "left behind: " + "; ".join(left)
